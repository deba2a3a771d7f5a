//! Layers as async functions.

use std::future::Future;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tower::{Layer, Service};

/// What a layer does with a request: refuse it, or ask the service below, once or several times.
pub(super) trait Middleware<Request, S>: Clone + Send + 'static {
    type Response;
    type Error;

    fn handle(
        self,
        request: Request,
        inner: S,
    ) -> impl Future<Output = Result<Self::Response, Self::Error>> + Send;
}

/// A middleware as a layer.
#[derive(Clone, Copy)]
pub(super) struct Around<M>(pub(super) M);

impl<M: Clone, S> Layer<S> for Around<M> {
    type Service = Wrapped<M, S>;

    fn layer(&self, inner: S) -> Wrapped<M, S> {
        Wrapped { middleware: self.0.clone(), inner }
    }
}

/// A service under a middleware. It is always ready, and refuses in `call`: an error from
/// `poll_ready` would reach the caller as `UNKNOWN`, whatever it was. Becoming ready is part of the
/// call.
#[derive(Clone)]
pub(super) struct Wrapped<M, S> {
    middleware: M,
    inner: S,
}

impl<M, S, Request> Service<Request> for Wrapped<M, S>
where
    M: Middleware<Request, S>,
    S: Clone + Send + 'static,
    Request: Send + 'static,
{
    type Response = M::Response;
    type Error = M::Error;
    type Future = BoxFuture<'static, Result<M::Response, M::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Box::pin(self.middleware.clone().handle(request, self.inner.clone()))
    }
}
