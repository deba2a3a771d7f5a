//! What the tests of all crates share: the real things as child processes, and ways to break them.
//!
//! * [`Mesh`]: the real binary with a real nats-server and SQLite or Postgres, used through its
//!   front door; dropping it checks the promises that every test relies on;
//! * [`Postgres`]: a real server, and a fresh database for each test;
//! * [`Proxy`]: a TCP connection that can be slowed, silenced, reset and refused;
//! * [`TestClock`]: time by hand;
//! * [`eventually`]: the only way to wait. There is no other sleep in a test.
//!
//! No child process outlives the test process, however that one ends: see
//! [`platform::nats_server::Leash`].

mod absent;
mod backlog;
mod client;
mod clock;
mod eventually;
mod mesh;
mod postgres;
mod process;
mod proxy;

pub use absent::absent_broker;
pub use client::{
    AllocationClient, Bearer, DashboardClient, DrivingClient, Known, MessageClient, PaymentClient,
};
pub use clock::TestClock;
pub use eventually::eventually;
pub use kernel::Role;
pub use mesh::{Backing, CONTEXTS, Mesh, RELATIONAL, Ready, nats_server_binary};
pub use postgres::{Durability, Postgres, PostgresError};
pub use proxy::{Fault, Proxy};
