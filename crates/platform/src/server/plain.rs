//! Plain HTTP beside gRPC, on the same port: for callers who have no token, such as webhooks.
//!
//! It shares the server's room and its end, and nothing else: who may call is the handler's to
//! decide, and a refusal is a status that any HTTP client understands.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodRouter;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;

use super::MAX_MESSAGE_BYTES;
use super::faults::Handles;

/// What is served beside gRPC, and how much of it.
#[derive(Clone)]
pub(super) struct Plain {
    paths: Arc<HashSet<&'static str>>,
    router: Router,
    room: Arc<Semaphore>,
    most: Duration,
    faults: Handles,
}

impl Plain {
    /// These paths, in this room, each answered within this time.
    pub(super) fn new(
        routes: Vec<(&'static str, MethodRouter)>,
        room: Arc<Semaphore>,
        most: Duration,
        faults: Handles,
    ) -> Plain {
        let paths = routes.iter().map(|(path, _)| *path).collect();
        let router = routes
            .into_iter()
            .fold(Router::new(), |router, (path, answers)| router.route(path, answers))
            .layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES))
            .layer(CatchPanicLayer::new());
        Plain { paths: Arc::new(paths), router, room, most, faults }
    }

    /// Whether there is anything.
    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    async fn answer(self, request: Request) -> Response {
        let Ok(_room) = self.room.try_acquire() else {
            return later("too many requests at once\n");
        };
        let answer = async {
            if !self.faults.happen(request.uri().path()).await {
                return later("this service is down, on purpose\n");
            }
            match self.router.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        };
        let answer = tokio::time::timeout(self.most, answer).await;
        answer.unwrap_or_else(|_| later("not done in time\n"))
    }
}

/// Answers what is plain HTTP, and lets pass what is gRPC.
pub(super) async fn beside(State(plain): State<Plain>, request: Request, next: Next) -> Response {
    match plain.paths.contains(request.uri().path()) {
        true => plain.answer(request).await,
        false => next.run(request).await,
    }
}

fn later(why: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], why).into_response()
}
