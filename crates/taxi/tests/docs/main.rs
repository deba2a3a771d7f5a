//! What the documentation promises: its links lead somewhere, its commands can be pasted and do what
//! it says, every page is in the book, and the two READMEs are one.
//!
//! A fenced block of `sh` or `console` is run as it stands, against a mesh of its own page
//! ([`run`]), unless a comment right above it says who else runs it or why nobody does:
//!
//! ```text
//! <!-- run by: make test -->
//! <!-- not run: needs a cluster -->
//! ```
//!
//! A block of `text`, `json` or `ndjson` right behind one that was run is what it prints
//! ([`shape`]).

mod book;
mod links;
mod marker;
mod pages;
mod paste;
mod rest;
mod run;
mod shape;
mod shell;
mod twins;
