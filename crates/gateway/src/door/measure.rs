//! What passes through the door, as it looks from outside: how many requests, how they end, how long
//! they take, by method and protocol; who was refused by which limit.
//!
//! A request is measured when its answer has come to its end, so that a stream counts when it ends.
//! Who answers tells which method it was, as soon as it is known, and how a stream ended.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;
use platform::metrics::calls::{Followed, OTHER, Watcher};
use platform::metrics::{Counter, Histogram, One, UpDown};
use platform::status::upper_snake;
use platform::telemetry::is_exported;
use tokio::time::Instant;
use tonic::Code;

use super::answer::Kind;

static REQUESTS: Histogram = Histogram::new(
    "taxi.gateway.request.duration",
    "Duration of requests from outside, until the end of the answer",
);
static ACTIVE: UpDown =
    UpDown::new("taxi.gateway.requests", "{request}", "Requests that are being answered");
static STREAMS: UpDown = UpDown::new("taxi.gateway.streams", "{stream}", "Streams that are open");
static CONNECTIONS: UpDown =
    UpDown::new("taxi.gateway.connections", "{connection}", "Connections of clients");
static REFUSED: Counter =
    Counter::new("taxi.gateway.refused", "{request}", "Requests refused because of a limit");

/// What a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Rest,
    Grpc,
    GrpcWeb,
}

impl Protocol {
    const ALL: [Protocol; 3] = [Protocol::Rest, Protocol::Grpc, Protocol::GrpcWeb];

    fn as_str(self) -> &'static str {
        match self {
            Protocol::Rest => "rest",
            Protocol::Grpc => "grpc",
            Protocol::GrpcWeb => "grpc-web",
        }
    }
}

/// Which limit it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Everything together.
    Concurrency,
    /// The rate of an address,
    Address,
    /// and of a principal.
    Principal,
    /// The streams of a principal,
    Streams,
    /// and the connections from an address.
    Connections,
}

impl Limit {
    const ALL: [Limit; 5] =
        [Limit::Concurrency, Limit::Address, Limit::Principal, Limit::Streams, Limit::Connections];

    fn as_str(self) -> &'static str {
        match self {
            Limit::Concurrency => "concurrency",
            Limit::Address => "address",
            Limit::Principal => "principal",
            Limit::Streams => "streams",
            Limit::Connections => "connections",
        }
    }
}

/// A door opens: its series start at zero.
pub(super) fn door_opens() {
    Limit::ALL.iter().for_each(|limit| REFUSED.add(0, [("limit", limit.as_str())]));
    Protocol::ALL.iter().for_each(|it| ACTIVE.add(0, [("protocol", it.as_str())]));
    STREAMS.add(0, []);
    CONNECTIONS.add(0, []);
}

/// Somebody was refused.
pub(super) fn refused(limit: Limit) {
    REFUSED.add(1, [("limit", limit.as_str())]);
}

/// One more stream, until what is returned is dropped.
pub(super) fn stream() -> One<0> {
    STREAMS.one([])
}

/// One more connection, until what is returned is dropped.
pub(super) fn connection() -> One<0> {
    CONNECTIONS.one([])
}

/// Measures a request, until its answer has come to its end.
pub(super) async fn measure(mut request: Request, next: Next) -> Response {
    let protocol = request.extensions().get().copied();
    let protocol = protocol.unwrap_or_else(|| match Kind::of(request.headers()) {
        Kind::Rest => Protocol::Rest,
        Kind::Grpc => Protocol::Grpc,
    });
    let seen = Seen::default();
    request.extensions_mut().insert(seen.clone());
    let active = ACTIVE.one([("protocol", protocol.as_str())]);
    let start = Instant::now();
    let ending = Ending { protocol, seen, start, code: Code::Cancelled, _active: active };
    let response = next.run(request).await;
    match protocol {
        Protocol::Rest => {
            let code = rest_code(&response);
            Followed::plain(response, ending, code).map(Body::new)
        }
        Protocol::Grpc | Protocol::GrpcWeb => Followed::grpc(response, ending).map(Body::new),
    }
}

/// What is found out about a request on its way. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Facts>);

#[derive(Debug, Default)]
struct Facts {
    method: OnceLock<&'static str>,
    /// What the path looks like.
    route: OnceLock<String>,
    /// How a stream has failed; 0 is no failure.
    failure: AtomicI32,
}

impl Seen {
    /// What is known of this request.
    pub(super) fn of(request: &Request) -> Seen {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// It is a call of this method, `package.Service/Method`.
    pub(super) fn method(&self, name: &'static str) {
        self.0.method.get_or_init(|| name);
    }

    /// Its path is one of these.
    pub(super) fn routed(&self, route: &impl ToString) {
        if is_exported() {
            self.0.route.get_or_init(|| route.to_string());
        }
    }

    /// What its path looks like, for a trace.
    pub(super) fn route(&self) -> Option<&str> {
        self.0.route.get().map(String::as_str)
    }

    /// Its answer, which has begun well, has come to a bad end.
    pub(super) fn failed(&self, code: Code) {
        self.0.failure.store(code.into(), Ordering::Relaxed);
    }
}

/// The code of an answer over HTTP. What has none, a page say, is as good as its status.
fn rest_code(response: &Response) -> Code {
    let told = response.extensions().get::<Code>().copied();
    told.unwrap_or_else(|| match response.status() {
        status if status.is_success() || status.is_redirection() => Code::Ok,
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        status if status.is_client_error() => Code::InvalidArgument,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        _ => Code::Internal,
    })
}

/// A request that is measured when this is dropped.
struct Ending {
    protocol: Protocol,
    seen: Seen,
    start: Instant,
    code: Code,
    _active: One<1>,
}

impl Watcher for Ending {
    fn ended(mut self, code: Code) {
        self.code = match self.seen.0.failure.load(Ordering::Relaxed) {
            0 => code,
            failure => Code::from_i32(failure),
        };
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let labels = [
            ("rpc.method", self.seen.0.method.get().copied().unwrap_or(OTHER)),
            ("protocol", self.protocol.as_str()),
            ("rpc.response.status_code", upper_snake(self.code)),
        ];
        REQUESTS.record(self.start.elapsed(), labels);
    }
}
