//! The REST door: HTTP and JSON for every rpc that has a `google.api.http` rule.
//!
//! It works from descriptors and knows no service: a new rpc in the protos needs no line here.
//! Transcoding is pure, bytes in, bytes out:
//!
//! ```text
//! method, path ── routes ── route ──┐
//! body ── json ─────────────────────┤
//! path ── template, scalar ─────────┼── transcode ── request message ── the rpc
//! query ── scalar, json ────────────┤                                      │
//! headers ── headers ───────────────┘            response, stream, errors ─┘
//! ```
//!
//! | module | is |
//! |---|---|
//! | [`template`] | path templates of `google/api/http.proto` |
//! | [`routes`] | the table of all rules: checked when built, searched by method and path |
//! | [`transcode`] | a request into a message, an answer into JSON |
//! | [`headers`] | headers into metadata and back |
//! | [`stream`] | the frames of a server stream: NDJSON and SSE |
//! | [`errors`] | errors as HTTP |
//!
//! Around it is the door itself, [`Gateway`]: one port for REST, gRPC and gRPC-Web of all
//! [`Upstreams`], with identity and limits.
//!
//! Where a rule leaves a choice, this door refuses rather than guesses: an unknown field or query
//! key, a value given twice, a body nobody reads are errors of the caller, with a reason and the
//! field.

mod body;
mod door;
pub mod errors;
mod fields;
pub mod headers;
mod json;
mod mask;
pub mod openapi;
mod percent;
mod query;
pub mod routes;
mod scalar;
pub mod stream;
pub mod template;
pub mod transcode;
mod upstream;
mod wkt;

pub use door::{Gateway, GatewayConfig, GatewayError, Rate};
pub use upstream::Upstreams;
