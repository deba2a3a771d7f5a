//! The REST door as a whole, without a network: requests in, messages out, and back.

mod facts;
mod generated;
mod properties;
mod protos;
mod requests;
mod responses;
mod rules;
