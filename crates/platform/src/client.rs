//! Calling a neighbour: the client stack for unary calls between services.
//!
//! The stack is the list in [`unary`], outermost first. What it promises: the call ends within its
//! deadline, which is never later than the caller's own; whatever goes wrong is a status with a
//! reason, and a neighbour that cannot be reached is `UNAVAILABLE`, however the transport puts it; a
//! neighbour in trouble is not asked more for it, but less.
//!
//! ```text
//! let neighbour = unary("place_order", balanced("kitchen:8090")?, tokens, policy);
//! let kitchen = KitchenServiceClient::new(neighbour);
//! ```

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use kernel::Rejection;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::retry::RetryLayer;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Service, ServiceBuilder};

use self::answer::Buffered;
use self::around::Around;
use self::deadline::{AttemptTimeout, TotalDeadline, until};
use self::evidence::Gate;
use self::observe::{Attempt, Observed};
pub use self::policy::{Backoff, CallPolicy, RetryBudget};
pub use self::resolve::{Balanced, balanced, balanced_over};
use self::retry::Retries;
use crate::auth::ServiceTokens;
use crate::breaker::Breaker;
use crate::call::{GRPC_TIMEOUT, write_timeout};
use crate::telemetry::{TRACEPARENT, current_traceparent};
use crate::tls::ClientTls;

mod answer;
mod around;
mod deadline;
mod evidence;
mod members;
mod observe;
mod policy;
mod resent;
mod resolve;
mod retry;
#[cfg(test)]
mod tests;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After this much silence we ask whether the other end is still there,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// and connect anew when it does not answer within this time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// An address that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address such as host:8080 or https://host:8080")]
pub struct InvalidEndpoint(String);

/// Parses an address, `host:port`, `http://host:port` or `https://host:port`, whose certificate has to
/// be one that web browsers trust.
pub fn endpoint(address: &str) -> Result<Endpoint, InvalidEndpoint> {
    endpoint_over(&ClientTls::default(), address)
}

/// The same, with this TLS for `https://host:port`.
pub fn endpoint_over(tls: &ClientTls, address: &str) -> Result<Endpoint, InvalidEndpoint> {
    let invalid = || InvalidEndpoint(address.to_owned());
    let (scheme, authority) = address.split_once("://").unwrap_or(("http", address));
    let authority: http::uri::Authority = authority.parse().map_err(|_| invalid())?;
    authority.port_u16().filter(|_| !authority.host().is_empty()).ok_or_else(invalid)?;
    let endpoint = Endpoint::from_shared(format!("{scheme}://{authority}")).map(tuned);
    match (scheme, endpoint) {
        ("http", Ok(endpoint)) => Ok(endpoint),
        ("https", Ok(endpoint)) => tls.apply(endpoint, authority.host()).map_err(|_| invalid()),
        _ => Err(invalid()),
    }
}

/// Parses the addresses of one neighbour, separated by commas, either all of them with TLS or none;
/// for checking a configuration.
pub fn endpoints(addresses: &str) -> Result<Vec<Endpoint>, InvalidEndpoint> {
    let parsed = addresses.split(',').map(|address| endpoint(address.trim()));
    let endpoints: Vec<Endpoint> = parsed.collect::<Result<_, _>>()?;
    let same = |pair: &[Endpoint]| pair[0].uri().scheme() == pair[1].uri().scheme();
    match endpoints.windows(2).all(same) {
        true => Ok(endpoints),
        false => Err(InvalidEndpoint(addresses.to_owned())),
    }
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}

/// A plain channel, for those who need no more: it connects when it is first used, and again when it
/// has to, so nobody has to be up before anybody else. To an address that is none, every call is
/// `UNAVAILABLE`; check it with [`endpoint`] when the process starts.
pub fn channel(endpoints: &str) -> Channel {
    let endpoint = endpoint(endpoints).unwrap_or_else(|error| {
        tracing::error!(%error, "calls to this neighbour cannot succeed");
        Endpoint::from_static("http://invalid.invalid")
    });
    endpoint.connect_lazy()
}

/// A stack for unary calls, ready for a generated client.
pub type Unary = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The stack for unary calls of one method of a neighbour, in our own name. `name` is what its
/// policy is called in the configuration, and its breaker and its retries in metrics.
pub fn unary<C>(name: &'static str, channel: C, tokens: ServiceTokens, policy: CallPolicy) -> Unary
where
    C: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send,
{
    let breaker = Breaker::new(name, policy.breaker);
    ServiceBuilder::new()
        .layer(BoxCloneSyncService::layer())
        // The call as its caller sees it.
        .layer(Around(Observed))
        // Covers everything below, the pauses between attempts included.
        .layer(Around(TotalDeadline(policy.deadline)))
        // Once, so that each attempt has it.
        .layer(Around(Buffered))
        // From here on inwards everything happens once for each attempt.
        .layer(RetryLayer::new(Retries::new(name, policy)))
        // Inside retry: each attempt is evidence, and is gated. Outside the attempt's timeout, or a
        // neighbour that hangs would be none.
        .layer(Around(Gate { breaker, attempt_timeout: policy.attempt_timeout }))
        .layer(Around(Attempt))
        // Covers the answer's trailers, and whoever we have to wait for before we can ask.
        .layer(Around(AttemptTimeout(policy.attempt_timeout)))
        // Per attempt, for the next one may need a newer token.
        .filter_async(move |request| authorize(tokens.clone(), request))
        // As late as can be, so that it tells the time that is really left.
        .map_request(propagate)
        .map_request(|request: Request<Bytes>| request.map(|body| Body::new(Full::new(body))))
        .map_err(Into::into)
        .service(channel)
}

/// Adds our own token.
async fn authorize<B>(
    tokens: ServiceTokens,
    mut request: Request<B>,
) -> Result<Request<B>, Rejection> {
    let token = tokens.token().await?;
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
        Rejection::unavailable("ISSUER_UNAVAILABLE", "the identity provider's token is none")
    })?;
    value.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, value);
    Ok(request)
}

/// Tells the neighbour under which trace, and until when.
fn propagate<B>(mut request: Request<B>) -> Request<B> {
    let deadline = until(&request);
    let mut put = |name, value: Option<String>| {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            request.headers_mut().insert(name, value);
        }
    };
    put(TRACEPARENT, current_traceparent());
    put(GRPC_TIMEOUT, deadline.map(|deadline| write_timeout(deadline.remaining())));
    request
}
