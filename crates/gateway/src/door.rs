//! The door itself: one port for REST, gRPC and gRPC-Web of all services.
//!
//! ```text
//! let upstreams = Upstreams::new().with("kitchen", balanced("kitchen:8090")?, ["cook.v1.Kitchen"]);
//! let gateway = Gateway::new(table, upstreams, verifier, config, server)?;
//! gateway.beside(issuer.router()).serve(listener, shutdown).await;
//! ```
//!
//! What it promises: every answer of a service reaches the client unchanged, and whatever goes wrong
//! on the way is an error with a reason, in the client's own protocol; nothing is buffered but a
//! single message; who may not call is refused before anybody behind the door hears of it; a method
//! that is not public is not there.
//!
//! | | by |
//! |---|---|
//! | which methods there are | `methods`: those with a `google.api.http` rule |
//! | who calls | `identity`: a bearer token, verified here and again by the service |
//! | how much | `limits`: by address and by principal, streams, everything together |
//! | what it looks like from outside | `measure` |
//! | REST | `rest` |
//! | gRPC and gRPC-Web | `grpc` |
//! | reflection and health | `own`: answered here, without a token |

mod answer;
mod client;
mod config;
mod grpc;
mod health;
mod identity;
mod layers;
mod limits;
mod measure;
mod methods;
mod own;
mod patient;
mod rest;
mod serve;
mod time;
mod unread;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::Response;
use platform::auth::Verifier;
use platform::server::{MAX_MESSAGE_BYTES, ServerConfig};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tower::ServiceBuilder;
use tower_http::cors::AllowOrigin;

use self::answer::Kind;
use self::client::Proxies;
pub use self::config::{GatewayConfig, Rate};
use self::limits::Limits;
pub(crate) use self::limits::Slot;
use self::methods::Methods;
use crate::routes::RouteTable;
use crate::upstream::Upstreams;

/// Why there is no gateway.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Methods are public whose service nobody answers for.
    #[error("no upstream answers for {0}")]
    NoUpstream(String),
    /// A method is opened that there is none of.
    #[error("`open_methods` names {0}, which is no method: write package.Service/Method")]
    NoMethod(String),
    /// A web page may call that has no address.
    #[error("`cors_origins` names {0:?}, which is no origin such as https://app.example.com")]
    NoOrigin(String),
    /// The descriptors contradict each other.
    #[error("reflection cannot be offered")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// The gateway, ready to serve.
pub struct Gateway {
    door: Arc<Door>,
    beside: Router,
    server: ServerConfig,
}

/// What every request needs.
struct Door {
    routes: Arc<RouteTable>,
    methods: Methods,
    /// Reflection and health.
    own: Router,
    verifier: Verifier,
    proxies: Proxies,
    limits: Limits,
    /// The web pages that may call.
    origins: AllowOrigin,
    /// For requests at the same time.
    room: Arc<Semaphore>,
    config: GatewayConfig,
    /// The longest an answer may take.
    most: Duration,
    /// Ends the streams when the process drains.
    draining: CancellationToken,
    /// Whether requests are welcome.
    serving: watch::Sender<bool>,
}

impl Gateway {
    /// A gateway to these services. `server` bounds it as it bounds a service.
    pub fn new(
        routes: Arc<RouteTable>,
        upstreams: Upstreams,
        verifier: Verifier,
        config: GatewayConfig,
        server: ServerConfig,
    ) -> Result<Gateway, GatewayError> {
        measure::door_opens();
        let origins = layers::origins(&config.cors_origins)?;
        let methods = Methods::new(&routes, &upstreams, &config.open_methods)?;
        let serving = watch::Sender::new(true);
        let own = own::router(routes.pool(), upstreams, serving.subscribe())?;
        let door = Door {
            methods,
            own,
            verifier,
            proxies: Proxies::new(config.trusted_proxies.clone()),
            limits: Limits::new(&config),
            origins,
            room: Arc::new(Semaphore::new(server.concurrency)),
            most: server.request_timeout,
            draining: CancellationToken::new(),
            serving,
            routes,
            config,
        };
        Ok(Gateway { door: Arc::new(door), beside: Router::new(), server })
    }

    /// Adds plain HTTP that needs no token: a token endpoint, documentation, probes.
    pub fn beside(self, router: Router) -> Gateway {
        Gateway { beside: self.beside.merge(router), ..self }
    }

    /// The whole, for who has a server already. The server has to tell the peer's address, as
    /// `ConnectInfo<SocketAddr>`; slow clients, the drain and the bounds of connections are
    /// [`serve`](Gateway::serve)'s.
    pub fn router(&self) -> Router {
        let door = &self.door;
        let stack = ServiceBuilder::new()
            // Outermost, so that also a refusal can be read by a web page.
            .layer(layers::cors(door.origins.clone()))
            // From here on inwards gRPC-Web is gRPC.
            .layer(from_fn(layers::web))
            // Before everything that answers.
            .layer(from_fn(measure::measure))
            // Before everything that logs or refuses.
            .layer(from_fn_with_state(door.clone(), layers::trace))
            // A defect costs one request, and tells its caller nothing.
            .layer(from_fn_with_state(door.clone(), layers::no_panic))
            // Nobody is believed to be a proxy who is none.
            .layer(from_fn_with_state(door.clone(), client::known))
            // Before anything that costs: a refusal must be cheap, or overload feeds itself.
            .layer(from_fn_with_state(door.clone(), layers::shed))
            // Before the token is looked at, which strangers can make us do.
            .layer(from_fn_with_state(door.clone(), layers::per_address));
        let call = {
            let door = door.clone();
            move |request| call(door, request)
        };
        let beside = ServiceBuilder::new()
            .layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES))
            .layer(from_fn_with_state(door.clone(), layers::in_time));
        self.beside.clone().layer(beside).fallback(call).layer(stack)
    }
}

/// A call of an rpc.
async fn call(door: Arc<Door>, request: Request) -> Response {
    match Kind::of(request.headers()) {
        Kind::Grpc => grpc::call(&door, request).await,
        Kind::Rest => rest::call(&door, request).await,
    }
}
