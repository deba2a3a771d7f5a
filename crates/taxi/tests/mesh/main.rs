//! The mesh through its front door: the real binary, a real broker, SQLite and Postgres. When a mesh
//! is dropped it must have drained: nothing in an outbox, nothing parked, every process ended well.

mod bad_input;
mod cancel;
mod demo;
mod disk;
mod dues;
mod expiry;
mod faults;
mod gateway;
mod identity;
mod metrics;
mod operator;
mod outage;
mod outbox;
mod parked;
mod payment_demo;
mod people;
mod power;
mod race;
mod rebuild;
mod repeat;
mod ride;
mod survival;
