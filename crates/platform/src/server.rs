//! Serving gRPC: one stack for every service, health, reflection, and a clean end.
//!
//! The stack is the list in [`serve`], outermost first. What it promises to callers: every error has
//! a reason; nobody waits longer than they asked to; too much is refused at once; a method is called
//! only in a role its table allows; a deployment cuts nothing that could still be answered. Plain
//! HTTP ([`Routes::http`]) is answered on the same port, beside the stack.
//!
//! The end, in order: readiness says no, load balancers get a moment to notice
//! ([`drain_delay`](ServerConfig::drain_delay)), no new connections, streams end with `UNAVAILABLE`
//! so that their clients carry on elsewhere, requests in flight get
//! [`drain`](ServerConfig::drain) to finish.

mod closing;
mod faults;
mod layers;
mod plain;
mod readiness;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use futures::future::Either;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::service::RoutesBuilder;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::{Service, ServiceBuilder};
use tower_http::catch_panic::CatchPanicLayer;

pub use self::closing::LAST_GUESTS;
pub use self::faults::Faults;
use self::plain::Plain;
pub use self::readiness::{Readiness, Serving};
use crate::auth::{Access, AuthLayer, Verifier};
use crate::backlog::Backlogs;
use crate::config::duration;
use crate::metrics::calls::{self, Methods};
use crate::shutdown::Shutdown;
use crate::tls::Listener;
use crate::{metrics, status};

/// The largest message we take. tonic keeps this limit in each generated server, so whoever makes
/// one sets it: `.max_decoding_message_size(MAX_MESSAGE_BYTES)`.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// The largest header list we take.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// Streams at once on one connection.
const MAX_STREAMS: u32 = 1000;
/// After this much silence we ask whether the other end is still there,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// and close when it does not answer within this time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take for its part of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

const HEALTH: &str = "grpc.health.v1.Health";
/// The health of the process alone: it serves for as long as there is anybody to say so.
const LIVENESS: &str = "liveness";
const REFLECTION: [&str; 2] =
    ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// What they say of themselves, and what the details of errors are.
const OWN_DESCRIPTORS: [&[u8]; 4] = [
    tonic_types::pb::FILE_DESCRIPTOR_SET,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

/// How much we take on, and how long things may take.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Requests worked on at the same time; more are refused.
    pub concurrency: usize,
    /// The longest an answer, or the beginning of a stream, may take, whatever the caller says.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// How long clients stay on one connection, at most: then they come round to new replicas.
    #[serde(with = "duration")]
    pub connection_age: Duration,
    /// How long load balancers get to notice that we are about to stop.
    #[serde(with = "duration")]
    pub drain_delay: Duration,
    /// How long requests in flight get to finish after that.
    #[serde(with = "duration")]
    pub drain: Duration,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            concurrency: 1000,
            request_timeout: Duration::from_secs(30),
            connection_age: Duration::from_secs(10 * 60),
            drain_delay: Duration::ZERO,
            drain: Duration::from_secs(20),
        }
    }
}

/// Why serving ended otherwise than cleanly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptor set is not one.
    #[error("reflection cannot be offered")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The network said no.
    #[error("cannot serve")]
    Transport(#[from] tonic::transport::Error),
}

/// What one context offers: its services, and who may call them.
pub struct Routes {
    name: &'static str,
    services: Vec<(&'static str, Access)>,
    add: Vec<Add>,
    http: Vec<(&'static str, MethodRouter)>,
    faults: Option<Faults>,
}

/// Puts one service among the others.
type Add = Box<dyn FnOnce(&mut RoutesBuilder) + Send>;

impl Routes {
    /// Nothing yet.
    pub fn new(name: &'static str) -> Routes {
        Routes { name, services: Vec::new(), add: Vec::new(), http: Vec::new(), faults: None }
    }

    /// Whose routes these are.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Adds a generated server and the table of who may call it.
    pub fn service<S>(mut self, service: S, access: Access) -> Routes
    where
        S: Service<http::Request<tonic::body::Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.services.push((S::NAME, access));
        self.add.push(Box::new(move |routes| {
            routes.add_service(service);
        }));
        self
    }

    /// Adds plain HTTP at this path. Nobody has looked at who calls.
    pub fn http(mut self, path: &'static str, answers: MethodRouter) -> Routes {
        self.http.push((path, answers));
        self
    }

    /// Lets it misbehave at the word of whoever keeps a clone of this handle: for development.
    pub fn with_faults(self, faults: Faults) -> Routes {
        Routes { faults: Some(faults), ..self }
    }

    /// The handle, under each name by which this is called.
    fn handles(&self) -> Vec<(&'static str, Faults)> {
        let Some(faults) = &self.faults else { return Vec::new() };
        let services = self.services.iter().map(|(name, _)| *name);
        let paths = self.http.iter().map(|(path, _)| *path);
        services.chain(paths).map(|name| (name, faults.clone())).collect()
    }
}

/// Serves until the process is asked to stop, then drains.
pub async fn serve(
    listener: impl Into<Listener>,
    routes: Vec<Routes>,
    verifier: Verifier,
    readiness: Readiness,
    descriptor: &'static [u8],
    config: ServerConfig,
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    let _serving = readiness.serving();
    let services: Vec<_> = routes.iter().flat_map(|it| it.services.clone()).collect();
    let names: Vec<&'static str> = services.iter().map(|(name, _)| *name).collect();
    let faults: faults::Handles = routes.iter().flat_map(Routes::handles).collect();
    let (reporter, health) = tonic_health::server::health_reporter();

    let mut builder = RoutesBuilder::default();
    builder.add_service(health);
    builder.add_service(reflection(&names, descriptor).build_v1()?);
    builder.add_service(reflection(&names, descriptor).build_v1alpha()?);
    let mut http = Vec::new();
    for routes in routes {
        http.extend(routes.http);
        routes.add.into_iter().for_each(|add| add(&mut builder));
    }

    let known: Vec<_> = names.iter().copied().chain([HEALTH]).chain(REFLECTION).collect();
    let methods = Arc::new(Methods::of(&known, [descriptor].into_iter().chain(OWN_DESCRIPTORS)));
    calls::server_starts();
    let room = Arc::new(Semaphore::new(config.concurrency));
    let plain = Plain::new(http, room.clone(), config.request_timeout, faults.clone());
    let accept_http1 = !plain.is_empty();
    let draining = CancellationToken::new();
    let bounds = layers::Bounds { most: config.request_timeout, draining: draining.clone() };
    let stack = ServiceBuilder::new()
        // A defect costs one request, not the connection it shares with others.
        .layer(CatchPanicLayer::custom(|_| status::internal().into_http::<tonic::body::Body>()))
        .map_request(|request: http::Request<tonic::body::Body>| request.map(Body::new))
        // What is not gRPC is not refused as gRPC either.
        .layer(from_fn_with_state(plain, plain::beside))
        // Before everything that answers.
        .layer(from_fn_with_state(methods.clone(), layers::measure))
        // Before everything that logs or refuses.
        .layer(from_fn_with_state(methods, layers::trace))
        .layer(from_fn(layers::explain))
        // Before anything that costs: a refusal must be cheap, or overload feeds itself.
        .layer(from_fn_with_state(room, layers::shed))
        // Before the first await: asking the identity provider for keys is on the caller's time.
        .layer(from_fn_with_state(bounds, layers::deadline))
        // On the caller's time, in the server's room: as if it were the service itself.
        .layer(from_fn_with_state(faults, faults::misbehave))
        // Last, so that nobody unknown reaches a handler, however it is routed.
        .layer(AuthLayer::new(verifier, services))
        .into_inner();

    let closing = CancellationToken::new();
    let guests = closing.clone();
    let drain = async {
        shutdown.cancelled().await;
        readiness.drain();
        tokio::time::sleep(config.drain_delay).await;
        closing.cancel();
        tokio::time::sleep(LAST_GUESTS).await;
        draining.cancel();
    };
    let Listener { tcp, tls } = listener.into();
    let incoming =
        TcpIncoming::from(tcp).with_nodelay(Some(true)).with_keepalive(Some(KEEPALIVE_INTERVAL));
    let incoming = closing::until(guests, incoming);
    let router = Server::builder()
        .accept_http1(accept_http1)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .max_connection_age(config.connection_age)
        .layer(stack)
        .add_routes(builder.routes());
    let server = match tls {
        None => Either::Left(router.serve_with_incoming_shutdown(incoming, drain)),
        Some(tls) => {
            let incoming = tls.secured(incoming, HANDSHAKE_TIMEOUT);
            Either::Right(router.serve_with_incoming_shutdown(incoming, drain))
        }
    };
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(config.drain_delay + config.drain).await;
    };
    tokio::select! {
        // In this order: the health service has its say before the first request.
        biased;
        () = report(&readiness, &reporter, &names) => Ok(()),
        outcome = server => Ok(outcome?),
        () = overdue => {
            tracing::warn!(after = ?config.drain, "cut requests that were still in flight");
            Ok(())
        }
    }
}

/// Lets the health service say what readiness says, of the process and of each service.
async fn report(readiness: &Readiness, reporter: &HealthReporter, names: &[&'static str]) {
    reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;
    let mut changes = readiness.subscribe();
    loop {
        let ready = changes.borrow_and_update().is_ready();
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in [""].iter().chain(names) {
            reporter.set_service_status(name, status).await;
        }
        // An error would mean that readiness is gone, but we hold it.
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Reflection of the services that are here, health and reflection themselves among them. The
/// descriptor set may know more: messages of neighbours' events, say.
fn reflection(
    names: &[&'static str],
    descriptor: &'static [u8],
) -> tonic_reflection::server::Builder<'static> {
    let builder = [descriptor].into_iter().chain(OWN_DESCRIPTORS).fold(
        tonic_reflection::server::Builder::configure(),
        tonic_reflection::server::Builder::register_encoded_file_descriptor_set,
    );
    names
        .iter()
        .copied()
        .chain([HEALTH])
        .chain(REFLECTION)
        .fold(builder, |builder, name| builder.with_service_name(name))
}

/// Serves `/livez` (the process is alive, whatever else is), `/readyz` and `/metrics` over HTTP,
/// until every server of this readiness has drained.
pub async fn admin(
    listener: TcpListener,
    readiness: Readiness,
    backlogs: Backlogs,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let router =
        probes(readiness.clone()).route("/metrics", get(async move || scrape(&backlogs).await));
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            shutdown.cancelled().await;
            readiness.drained().await;
        })
        .await
}

/// `/livez` and `/readyz`, to be served beside something else.
pub fn probes(readiness: Readiness) -> Router {
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .with_state(readiness)
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, String) {
    if readiness.is_ready() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let missing = match readiness.not_ready().join(", ") {
        nothing if nothing.is_empty() => "nothing has been checked yet".to_owned(),
        missing => missing,
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {missing}\n"))
}

/// What `/metrics` answers: the text format of Prometheus.
pub async fn scrape(backlogs: &Backlogs) -> Response {
    backlogs.measure().await;
    match metrics::text() {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written down");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests;
