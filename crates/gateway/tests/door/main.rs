//! The door over real connections: services behind it, clients before it, all on loopback.

mod backpressure;
mod client;
mod grpc;
mod house;
mod identity;
mod kitchen;
mod limits;
mod measure;
mod rest;
mod slow;
mod taxi;
mod tls;
mod upstreams;
mod web;
