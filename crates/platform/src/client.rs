//! Calling a neighbour: the client stack for unary calls between services.
//!
//! The stack is the list in [`unary`], outermost first. What it promises: the call ends within its
//! deadline, which is never later than the caller's own; whatever goes wrong is a status with a
//! reason, and a neighbour that cannot be reached is `UNAVAILABLE`, however the transport puts it.
//!
//! ```text
//! let neighbour = KitchenServiceClient::new(unary(channel("kitchen:8090"), tokens, policy));
//! ```

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kernel::{Failure, Rejection};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, TimeoutExpired};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt as _};

use crate::auth::ServiceTokens;
use crate::call::{Deadline, GRPC_TIMEOUT, read_timeout, write_timeout};
use crate::status::{Chain, sources, status};
use crate::telemetry::current_traceparent;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After this much silence we ask whether the other end is still there,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// and connect anew when it does not answer within this time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// With less than this left, a call is not worth starting.
const LEAST: Duration = Duration::from_millis(1);
/// The largest answer we take.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// An address that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address such as host:8080 or http://host:8080")]
pub struct InvalidEndpoint(String);

/// Parses an address, `host:port` or `http://host:port`; for checking a configuration.
pub fn endpoint(address: &str) -> Result<Endpoint, InvalidEndpoint> {
    let invalid = || InvalidEndpoint(address.to_owned());
    let authority = address.strip_prefix("http://").unwrap_or(address);
    let authority: http::uri::Authority = authority.parse().map_err(|_| invalid())?;
    authority.port_u16().filter(|_| !authority.host().is_empty()).ok_or_else(invalid)?;
    let endpoint = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| invalid())?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// A channel that connects when it is first used, and again when it has to: nobody has to be up
/// before anybody else. To an address that is none, every call is `UNAVAILABLE`; check it with
/// [`endpoint`] when the process starts.
pub fn channel(endpoints: &str) -> Channel {
    let endpoint = endpoint(endpoints).unwrap_or_else(|error| {
        tracing::error!(%error, "calls to this neighbour cannot succeed");
        Endpoint::from_static("http://invalid.invalid")
    });
    endpoint.connect_lazy()
}

/// How a method is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallPolicy {
    /// The longest it may take, all in all.
    pub deadline: Duration,
}

/// A stack for unary calls, ready for a generated client.
pub type Unary = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The stack for unary calls to a neighbour, in our own name.
///
/// Every layer of ours is always ready and refuses in `call`: an error from `poll_ready` would reach
/// the caller as `UNKNOWN`, whatever it was.
pub fn unary(channel: Channel, tokens: ServiceTokens, policy: CallPolicy) -> Unary {
    ServiceBuilder::new()
        .layer(BoxCloneSyncService::layer())
        // Covers everything below, waiting for a connection and the answer's trailers included.
        .layer(TotalDeadline { policy })
        // Here go the retry budget (each try from here on) and, inside it, the circuit breaker
        // (each try is evidence, and is gated).
        //
        // Per try, since it may have to wait for the identity provider, or hold a newer token.
        .filter_async(move |request| authorize(tokens.clone(), request))
        // Last, so that it tells the time that is really left.
        .map_request(propagate)
        .service(channel)
}

/// Adds our own token.
async fn authorize(
    tokens: ServiceTokens,
    mut request: Request<Body>,
) -> Result<Request<Body>, Rejection> {
    let token = tokens.token().await?;
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
        Rejection::unavailable("ISSUER_UNAVAILABLE", "the identity provider's token is none")
    })?;
    value.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, value);
    Ok(request)
}

/// Tells the neighbour under which trace, and until when.
fn propagate(mut request: Request<Body>) -> Request<Body> {
    let deadline = request.extensions().get::<Deadline>().copied();
    let mut put = |name, value: Option<String>| {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            request.headers_mut().insert(name, value);
        }
    };
    put(TRACEPARENT, current_traceparent());
    put(GRPC_TIMEOUT, deadline.map(|deadline| write_timeout(deadline.remaining())));
    request
}

/// Ends a call at the earliest of its policy's deadline and its caller's, and turns everything that
/// can go wrong into a status.
#[derive(Clone, Copy)]
struct TotalDeadline {
    policy: CallPolicy,
}

impl<S> Layer<S> for TotalDeadline {
    type Service = WithinDeadline<S>;

    fn layer(&self, inner: S) -> WithinDeadline<S> {
        WithinDeadline { policy: self.policy, inner }
    }
}

/// A service under a [`TotalDeadline`].
#[derive(Clone)]
struct WithinDeadline<S> {
    policy: CallPolicy,
    inner: S,
}

impl<S> Service<Request<Body>> for WithinDeadline<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // Becoming ready is part of the call, so a clone that is not ready yet will do.
        let inner = self.inner.clone();
        // What the generated client was told, if anything; ours is well-formed.
        let own = read_timeout(request.headers()).ok().flatten();
        let most = self.policy.deadline;
        let mine = Deadline(Instant::now() + own.unwrap_or(most).min(most));
        let deadline = Deadline::current().map_or(mine, |callers| callers.min(mine));
        request.extensions_mut().insert(deadline);
        Box::pin(async move {
            if deadline.remaining() < LEAST {
                return Ok(status(late()).into_http());
            }
            let answer = match tokio::time::timeout_at(deadline.0, exchange(inner, request)).await {
                Ok(answer) => answer,
                Err(_) => Err(status(late())),
            };
            Ok(answer.unwrap_or_else(Status::into_http))
        })
    }
}

fn late() -> Rejection {
    Rejection::deadline("DEADLINE_EXCEEDED", "the neighbour did not answer in time")
}

/// One call with its whole answer.
async fn exchange<S>(inner: S, request: Request<Body>) -> Result<Response<Body>, Status>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>,
{
    let response = inner.oneshot(request).await.map_err(failed)?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(failed)?;
    Ok(Response::from_parts(parts, Body::new(body)))
}

/// What it means that there is no answer.
fn failed(error: BoxError) -> Status {
    if let Some(rejection) = error.downcast_ref::<Rejection>() {
        return status(rejection.clone());
    }
    if error.is::<LengthLimitError>() {
        return status(Failure::Internal(error));
    }
    // tonic's channel keeps the deadline too, and may be the first to notice.
    if sources(&*error).any(|it| it.is::<TimeoutExpired>()) {
        return status(late());
    }
    // A connection that is closed under a call surfaces as anything, CANCELLED included.
    tracing::debug!(error = %Chain(&*error), "a neighbour cannot be reached");
    let message = "a service behind this one cannot be reached: try again in a moment";
    status(Rejection::unavailable("SERVICE_UNAVAILABLE", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (address, uri) in [
            ("kitchen:8090", "http://kitchen:8090/"),
            ("http://127.0.0.1:8090", "http://127.0.0.1:8090/"),
            ("[::1]:8090", "http://[::1]:8090/"),
        ] {
            assert_eq!(endpoint(address).expect(address).uri(), uri);
        }
        for address in ["", "kitchen", ":8090", "https://kitchen:8090", "kitchen:port", "a b:1"] {
            assert!(endpoint(address).is_err(), "{address}");
        }
    }
}
