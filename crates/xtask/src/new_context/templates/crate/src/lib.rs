//! __Names__: say here, on one page, what this context decides.
//!
//! | command | rule | event |
//! |---|---|---|
//! | [`create`](app::__Names__::create) | a note of at most 500 characters | __Name__Created |
//!
//! | policy | when driving says | then |
//! |---|---|---|
//! | `when_driving_finished` | DrivingFinished | its customer gets a __name__ of the ride |
//!
//! When a neighbour is down: creating needs nothing but this context's own database. Without driving
//! no ride gets its __name__ until it is back; without the broker events wait in the outbox.

use std::sync::Arc;

use platform::context::Context;
use platform::server::Routes;

pub mod app;
pub mod domain;
mod entity;
mod events;
mod grpc;
pub mod migration;
mod policies;

/// The context's name: in subjects, configuration and commands.
pub const NAME: &str = "__name__";

/// Starts the context's relay and policies; answers what it serves.
pub fn start(cx: &Context) -> Routes {
    let __names__ = Arc::new(app::__Names__::new(cx.store(), cx.clock.clone()));
    cx.consume(&["driving"], policies::Policies::new(__names__.clone()));
    grpc::routes(__names__, cx.clock.clone())
}

#[cfg(test)]
mod tests;
