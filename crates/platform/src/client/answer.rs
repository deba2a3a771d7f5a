//! One attempt's exchange: a request, and the whole answer or the status that tells why not.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kernel::{Failure, Rejection};
use tonic::body::Body;
use tonic::{Code, Status, TimeoutExpired};
use tower::{BoxError, Service, ServiceExt as _};

use super::around::Middleware;
use super::deadline::late;
use crate::status::{Chain, sources, status};

/// The largest answer we take.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// Keeps the request's body, so that it can be sent again.
#[derive(Clone, Copy)]
pub(super) struct Buffered;

impl<S> Middleware<Request<Body>, S> for Buffered
where
    S: Service<Request<Bytes>, Response = Response<Body>, Error = Status> + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Status;

    async fn handle(self, request: Request<Body>, inner: S) -> Result<Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let broken = |error: Status| status(Failure::Internal(error.into()));
        let body = body.collect().await.map_err(broken)?.to_bytes();
        inner.oneshot(Request::from_parts(parts, body)).await
    }
}

/// One exchange with its whole answer. Whatever is not OK is an error.
pub(super) async fn exchange<S>(inner: S, request: Request<Bytes>) -> Result<Response<Body>, Status>
where
    S: Service<Request<Bytes>, Response = Response<Body>, Error = BoxError>,
{
    let response = inner.oneshot(request).await.map_err(failed)?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(failed)?;
    // In the trailers; or in the headers, when there is nothing else.
    let told = body.trailers().and_then(Status::from_header_map);
    match told.or_else(|| Status::from_header_map(&parts.headers)) {
        Some(status) if status.code() == Code::Ok => {
            Ok(Response::from_parts(parts, Body::new(body)))
        }
        Some(status) => Err(status),
        None => Err(failed(format!("an answer without a status: HTTP {}", parts.status).into())),
    }
}

/// What it means that there is no answer.
fn failed(error: BoxError) -> Status {
    match error.downcast::<Rejection>() {
        Ok(rejection) => status(*rejection),
        Err(error) if error.is::<LengthLimitError>() => status(Failure::Internal(error)),
        Err(error) => unreachable(error),
    }
}

/// A status of our own. That it has a source tells it from a neighbour's.
fn unreachable(error: BoxError) -> Status {
    // tonic's channel keeps the deadline too, and may be the first to notice.
    let mut status = if caused_by::<TimeoutExpired>(&error) {
        status(late())
    } else {
        // A connection that is closed under a call surfaces as anything, CANCELLED included.
        tracing::debug!(error = %Chain(&*error), "a neighbour cannot be reached");
        let message = "a service behind this one cannot be reached: try again in a moment";
        status(Rejection::unavailable("SERVICE_UNAVAILABLE", message))
    };
    status.set_source(Arc::from(error));
    status
}

fn caused_by<E: std::error::Error + 'static>(error: &BoxError) -> bool {
    sources(&**error).any(|it| it.is::<E>())
}
