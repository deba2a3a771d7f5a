//! The mesh through its front door: the real binary, a real broker, SQLite and Postgres. When a mesh
//! is dropped it must have drained: nothing in an outbox, nothing parked, every process ended well.

mod bad_input;
mod browser;
mod cancel;
mod credentials;
mod disk;
mod dues;
mod examples;
mod expiry;
mod faults;
mod gateway;
mod identity;
mod metrics;
mod operator;
mod outage;
mod outbox;
mod parked;
mod people;
mod power;
mod race;
mod rebuild;
mod repeat;
mod ride;
mod schemathesis;
mod survival;
mod tls;
mod trace;
mod upstream;
