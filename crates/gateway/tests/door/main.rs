//! The door over real connections: services behind it, clients before it, all on loopback.

mod backpressure;
mod client;
mod grpc;
mod house;
mod identity;
mod kitchen;
mod limits;
mod rest;
mod slow;
mod taxi;
mod upstreams;
mod web;
