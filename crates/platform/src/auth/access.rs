//! May they: which roles may call which method, and the layer that keeps to it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response, header};
use kernel::{Actor, Rejection, Role};
use tonic::Code;

use super::Verifier;
use crate::status::{self, status};

/// Which roles may call which method of one service. A role that stands first goes first: a token
/// with several of them acts in that one.
#[derive(Clone, Copy, Debug)]
pub struct Access(pub &'static [(&'static str, &'static [Role])]);

/// Lets in those who may, and tells the handler who they are.
///
/// Closed by default: what is not in a table is not there, whatever the service behind offers.
#[derive(Clone)]
pub struct AuthLayer {
    verifier: Verifier,
    /// By path: `/package.Service/Method`.
    methods: Arc<HashMap<String, &'static [Role]>>,
}

impl AuthLayer {
    /// A layer for these services, by their full names.
    pub fn new(
        verifier: Verifier,
        services: impl IntoIterator<Item = (&'static str, Access)>,
    ) -> AuthLayer {
        let path = |service: &str, method: &str| format!("/{service}/{method}");
        let methods = services.into_iter().flat_map(|(service, Access(methods))| {
            methods.iter().map(move |(method, roles)| (path(service, method), *roles))
        });
        AuthLayer { verifier, methods: Arc::new(methods.collect()) }
    }

    async fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Actor, tonic::Status> {
        let principal = self.verifier.verify(bearer(headers)).await.map_err(status)?;
        let Some(roles) = self.methods.get(path) else {
            let message = format!("there is no method {path}");
            return Err(status::other(Code::Unimplemented, "UNKNOWN_METHOD", &message));
        };
        match roles.iter().find(|role| principal.roles.contains(role)) {
            Some(role) => Ok(Actor { role: *role, subject: principal.subject }),
            None => {
                let allowed: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
                let message = format!("only for {}", allowed.join(", "));
                Err(status(Rejection::denied("ROLE_NOT_ALLOWED", message)))
            }
        }
    }
}

/// Whether anybody may call this path without a token: health and reflection.
pub(crate) fn is_open(path: &str) -> bool {
    path.starts_with("/grpc.health.v1.Health/") || path.starts_with("/grpc.reflection.")
}

fn bearer(headers: &HeaderMap) -> &str {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    token.unwrap_or_default()
}

impl<S> tower::Layer<S> for AuthLayer {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Authenticated<S> {
        Authenticated { auth: self.clone(), inner }
    }
}

/// A service behind an [`AuthLayer`].
#[derive(Clone)]
pub struct Authenticated<S> {
    auth: AuthLayer,
    inner: S,
}

impl<S, B, R> tower::Service<Request<B>> for Authenticated<S>
where
    S: tower::Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The clone stays for the next request; this one takes the service that is ready.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let auth = self.auth.clone();
        Box::pin(async move {
            if !is_open(request.uri().path()) {
                match auth.admit(request.uri().path(), request.headers()).await {
                    Ok(actor) => request.extensions_mut().insert(actor),
                    Err(status) => return Ok(status.into_http()),
                };
            }
            inner.call(request).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bearer_token_is_found_in_its_header() {
        for (value, token) in
            [("Bearer abc", "abc"), ("bearer  abc ", "abc"), ("Basic abc", ""), ("abc", "")]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().expect("a header value"));
            assert_eq!(bearer(&headers), token, "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()), "");
    }
}
