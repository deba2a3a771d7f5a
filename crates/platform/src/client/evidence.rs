//! What the end of an attempt tells about the neighbour, and the breaker that learns from it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use kernel::Rejection;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Service, ServiceExt as _};

use super::around::Middleware;
use super::deadline::until;
use crate::breaker::{Breaker, Open};
use crate::status::status;

/// Whether a neighbour that answers like this does not work. A refusal is an answer like any other.
pub(super) fn is_failure(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::Unknown
            | Code::ResourceExhausted
            | Code::DataLoss
    )
}

/// Lets an attempt through while the breaker does, and tells it what came of it.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) breaker: Breaker,
    pub(super) attempt_timeout: Duration,
}

impl<S> Middleware<Request<Bytes>, S> for Gate
where
    S: Service<Request<Bytes>, Response = Response<Body>, Error = Status> + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Status;

    async fn handle(self, request: Request<Bytes>, inner: S) -> Result<Response<Body>, Status> {
        let permit = self.breaker.admit().map_err(refused)?;
        let in_a_hurry = self.is_in_a_hurry(&request);
        let outcome = inner.oneshot(request).await;
        match outcome.as_ref().err().map(Status::code) {
            // Or impatient callers could open the breaker for everybody.
            Some(Code::DeadlineExceeded) if in_a_hurry => drop(permit),
            Some(code) if is_failure(code) => permit.failed(),
            _ => permit.succeeded(),
        }
        outcome
    }
}

impl Gate {
    /// Whether the caller leaves a neighbour much less time than an attempt may take.
    fn is_in_a_hurry(&self, request: &Request<Bytes>) -> bool {
        until(request).is_some_and(|total| total.remaining() < self.attempt_timeout.mul_f32(0.9))
    }
}

/// The status has a source, by which it is known for ours.
fn refused(open: Open) -> Status {
    let message =
        "a service behind this one keeps failing and is left alone: try again in a moment";
    let refusal = Rejection::unavailable("CIRCUIT_OPEN", message).retry_after(open.retry_after);
    let mut status = status(refusal);
    status.set_source(Arc::new(open));
    status
}
