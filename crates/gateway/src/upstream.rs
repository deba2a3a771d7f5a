//! Who is behind the door: services by name, and the calls to them.
//!
//! A call goes to any replica that can be connected to. What breaks on the way is `UNAVAILABLE` and
//! names the service; a status of ours has a source, a service's own has none.

mod bounded;
mod raw;

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use kernel::Rejection;
use platform::client::Balanced;
use platform::metrics::calls::{Call, Followed, Watcher as _};
use platform::status::status;
use platform::telemetry::{Rpc, TRACEPARENT};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::MetadataMap;
use tonic::{Code, Extensions, Status, Streaming, TimeoutExpired};
use tower::{BoxError, ServiceExt as _, service_fn};

pub(crate) use self::bounded::{Bounded, InTrailers};
use self::raw::Raw;
use crate::door::Slot;

/// How much a service says is its own business.
const ANY_SIZE: usize = usize::MAX;

/// The services behind the door.
#[derive(Clone, Default)]
pub struct Upstreams(HashMap<String, Upstream>);

impl Upstreams {
    /// Nobody yet.
    pub fn new() -> Upstreams {
        Upstreams::default()
    }

    /// Adds services that are all behind one channel, by their full names. `name` is what callers
    /// read when they cannot be reached.
    pub fn with<S: Into<String>>(
        mut self,
        name: &str,
        channel: Balanced,
        services: impl IntoIterator<Item = S>,
    ) -> Upstreams {
        let upstream = Upstream { name: name.into(), channel };
        self.0.extend(services.into_iter().map(|service| (service.into(), upstream.clone())));
        self
    }

    /// Who answers for a service.
    pub(crate) fn of(&self, service: &str) -> Option<&Upstream> {
        self.0.get(service)
    }

    /// The full names of all services.
    pub(crate) fn services(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// One channel, and what it is called.
#[derive(Clone)]
pub(crate) struct Upstream {
    name: Arc<str>,
    channel: Balanced,
}

/// How long a call may last, and what ends it.
#[derive(Clone)]
pub(crate) struct Terms {
    /// When there has to be an answer, or the beginning of one.
    pub(crate) answer_by: Instant,
    /// When it has to be complete.
    pub(crate) end_by: Option<Instant>,
    /// Ends a stream when the process drains.
    pub(crate) draining: Option<CancellationToken>,
    /// Kept for as long as the answer goes on.
    #[expect(dead_code, reason = "what counts is when it is dropped")]
    pub(crate) slot: Option<Arc<Slot>>,
}

impl Upstream {
    /// Calls an rpc that answers with one message.
    pub(crate) async fn unary(
        &self,
        path: &str,
        message: Bytes,
        metadata: HeaderMap,
        terms: Terms,
    ) -> Result<tonic::Response<Bytes>, Status> {
        let by = terms.answer_by;
        let mut grpc = Grpc::new(service_fn(|request| self.clone().send(request, terms.clone())))
            .max_decoding_message_size(ANY_SIZE);
        let call = grpc.unary(call(message, metadata), path_of(path)?, Raw);
        timeout_at(by, call).await.unwrap_or_else(|_| Err(late()))
    }

    /// Calls an rpc that answers with a stream.
    pub(crate) async fn stream(
        &self,
        path: &str,
        message: Bytes,
        metadata: HeaderMap,
        terms: Terms,
    ) -> Result<tonic::Response<Streaming<Bytes>>, Status> {
        let mut grpc = Grpc::new(service_fn(|request| self.clone().send(request, terms.clone())))
            .max_decoding_message_size(ANY_SIZE);
        grpc.server_streaming(call(message, metadata), path_of(path)?, Raw).await
    }

    /// Sends a call as it is. Its answer breaks only with a [`Status`].
    pub(crate) async fn send(
        self,
        mut request: Request<Body>,
        terms: Terms,
    ) -> Result<Response<Body>, Status> {
        let call = Call::asked(request.uri().path());
        let rpc = Rpc::asked(request.uri().path());
        request.headers_mut().insert(TRACEPARENT, rpc.trace().header());
        let status = match timeout_at(terms.answer_by, self.channel.clone().oneshot(request)).await
        {
            Err(_) => late(),
            Ok(Err(error)) => self.unreachable(error),
            Ok(Ok(response)) => {
                let broken = move |error: Status| self.unreachable(error.into());
                let response = response.map(|body| Bounded::new(body.map_err(broken), terms));
                return Ok(Followed::grpc(call.follow(response), rpc).map(Body::new));
            }
        };
        call.ended(status.code());
        rpc.ended(status.code());
        Err(status)
    }

    /// What it means that a call, or its answer, broke. The status has a source.
    fn unreachable(&self, error: BoxError) -> Status {
        // tonic's channel keeps the deadline too, and may be the first to notice.
        if caused_by::<TimeoutExpired>(&*error) {
            return late();
        }
        tracing::debug!(upstream = %self.name, ?error, "a service cannot be reached");
        let message = format!("{} cannot be reached: try again in a moment", self.name);
        let mut status = status(Rejection::unavailable("SERVICE_UNAVAILABLE", message));
        status.set_source(Arc::from(error));
        status
    }
}

/// Whether a call broke on the way, so that nobody's answer is lost by asking again.
pub(crate) fn broke(status: &Status) -> bool {
    status.code() == Code::Unavailable && status.source().is_some()
}

pub(crate) fn late() -> Status {
    status(Rejection::deadline("DEADLINE_EXCEEDED", "not done within the time the caller gave"))
}

fn call(message: Bytes, metadata: HeaderMap) -> tonic::Request<Bytes> {
    let metadata = MetadataMap::from_headers(metadata);
    tonic::Request::from_parts(metadata, Extensions::new(), message)
}

fn path_of(path: &str) -> Result<http::uri::PathAndQuery, Status> {
    path.parse()
        .map_err(|error: http::uri::InvalidUri| status(kernel::Failure::Internal(Box::new(error))))
}

fn caused_by<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |&error| error.source()).any(|error| error.is::<E>())
}
