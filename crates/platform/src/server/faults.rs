//! Faults on purpose, for development: a service that is as good as down, or slow.
//!
//! [`Faults`] is a handle that the composition root gives to [`Routes`](super::Routes), and to the
//! [`Context`](crate::context::Context) behind them, and keeps a clone of. A server whose routes have
//! none has no way to misbehave.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tonic::Code;

use crate::auth::is_open;
use crate::status;

/// What is to go wrong with a service. Clones are the same handle.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Mishap>>);

#[derive(Clone, Copy, Debug, Default)]
struct Mishap {
    down: bool,
    latency: Duration,
}

impl Faults {
    /// Answers as if nobody were there, or no longer.
    pub fn set_down(&self, down: bool) {
        self.lock().down = down;
    }

    /// Waits this long before each answer.
    pub fn set_latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// Whether it is down on purpose.
    pub(crate) fn is_down(&self) -> bool {
        self.lock().down
    }

    /// Lets happen what is to happen; answers whether anybody is there.
    async fn happen(&self) -> bool {
        let mishap = *self.lock();
        if !mishap.down && !mishap.latency.is_zero() {
            tokio::time::sleep(mishap.latency).await;
        }
        !mishap.down
    }

    fn lock(&self) -> MutexGuard<'_, Mishap> {
        // No code panics while it holds this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handles of a server, by what they are about: a service's full name, or a path of plain HTTP.
#[derive(Clone, Default)]
pub(super) struct Handles(Arc<HashMap<&'static str, Faults>>);

impl FromIterator<(&'static str, Faults)> for Handles {
    fn from_iter<T: IntoIterator<Item = (&'static str, Faults)>>(handles: T) -> Handles {
        Handles(Arc::new(handles.into_iter().collect()))
    }
}

impl Handles {
    /// Lets happen what is to happen here; answers whether anybody is there.
    pub(super) async fn happen(&self, to: &str) -> bool {
        match self.0.get(to) {
            Some(faults) => faults.happen().await,
            None => true,
        }
    }
}

/// Stands in the way of calls. Health and reflection speak for the process, which is well.
pub(super) async fn misbehave(
    State(handles): State<Handles>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if is_open(path) || handles.happen(service).await {
        return next.run(request).await;
    }
    // What a client makes of a connection that is refused; no word of when to come back.
    let message = "this service is down, on purpose";
    status::other(Code::Unavailable, "SERVICE_UNAVAILABLE", message).into_http()
}
