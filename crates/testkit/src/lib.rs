//! What the tests of all crates share: the real things as child processes, and ways to break them.
//!
//! * [`Mesh`]: the real binary with a real nats-server and SQLite or Postgres, used through its
//!   front door; dropping it checks the promises that every test relies on;
//! * [`Postgres`]: a real server, and a fresh database for each test;
//! * [`Process`]: any program, with its output kept;
//! * [`Provider`]: the simulated payment provider, its log and its faults;
//! * [`Proxy`]: a TCP connection that can be slowed, silenced, reset and refused;
//! * [`Balancer`]: one address in front of several replicas;
//! * [`Authority`]: certificates for TLS;
//! * [`Served`]: one context's services behind a real server;
//! * [`contract`]: what two contexts have agreed on;
//! * [`TestClock`]: time by hand;
//! * [`tool`], [`chromium`]: programs of others, which `tools/setup.sh` gets;
//! * [`eventually`]: the only way to wait. There is no other sleep in a test.
//!
//! No child process outlives the test process, however that one ends: see
//! [`platform::nats_server::Leash`].

mod absent;
mod authority;
mod backlog;
mod balancer;
mod client;
mod clock;
pub mod contract;
mod eventually;
mod mesh;
mod postgres;
mod process;
mod provider;
mod proxy;
mod served;
mod tools;

pub use absent::absent_broker;
pub use authority::{Authority, Certified};
pub use balancer::Balancer;
pub use client::{
    AllocationClient, Bearer, DashboardClient, DrivingClient, Known, MessageClient, PaymentClient,
};
pub use clock::TestClock;
pub use eventually::eventually;
pub use kernel::Role;
pub use mesh::{
    Backing, CONTEXTS, Mesh, RELATIONAL, Ready, access_token, nats_server_binary, program,
    read_json,
};
pub use postgres::{Durability, Postgres, PostgresError};
pub use process::{Process, free_port};
pub use provider::{Provider, ProviderCharge, ProviderRefund, ProviderRequest};
pub use proxy::{Fault, Proxy};
pub use served::Served;
pub use tools::{chromium, tool};
