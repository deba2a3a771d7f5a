//! One address behind a name, and whether it can be called now. One that cannot is passed over while
//! another can, is looked at again a moment later, and refuses at once when it is the only one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint, Error};
use tower::load::{CompleteOnResponse, Load, PendingRequests};
use tower::{BoxError, Service};

use super::resent::is_unseen;

/// How long an address that could not be connected to is passed over.
const PAUSE: Duration = Duration::from_millis(250);

/// One address.
pub(super) struct Member {
    endpoint: Endpoint,
    state: State,
}

enum State {
    Connecting(BoxFuture<'static, Result<Channel, Error>>),
    Up(Connection),
    Down { error: Arc<Error>, until: Instant },
}

struct Connection {
    channel: PendingRequests<Channel>,
    /// Whether it has turned a request away.
    over: Arc<AtomicBool>,
}

impl Member {
    /// Connects when it is first looked at.
    pub(super) fn new(endpoint: Endpoint) -> Member {
        let state = connecting(&endpoint);
        Member { endpoint, state }
    }
}

fn connecting(endpoint: &Endpoint) -> State {
    let endpoint = endpoint.clone();
    State::Connecting(Box::pin(async move { endpoint.connect().await }))
}

impl Connection {
    fn new(channel: Channel) -> Connection {
        let channel = PendingRequests::new(channel, CompleteOnResponse::default());
        Connection { channel, over: Arc::default() }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

impl Service<Request<Body>> for Member {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        loop {
            self.state = match &mut self.state {
                State::Up(connection) if connection.is_over() => connecting(&self.endpoint),
                State::Up(connection) => {
                    return connection.channel.poll_ready(context).map_err(Into::into);
                }
                State::Connecting(connected) => match ready!(connected.as_mut().poll(context)) {
                    Ok(channel) => State::Up(Connection::new(channel)),
                    Err(error) => {
                        State::Down { error: Arc::new(error), until: Instant::now() + PAUSE }
                    }
                },
                State::Down { until, .. } if *until <= Instant::now() => connecting(&self.endpoint),
                State::Down { .. } => return Poll::Ready(Ok(())),
            }
        }
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match &mut self.state {
            State::Up(connection) => {
                let over = connection.over.clone();
                let answer = connection.channel.call(request);
                Box::pin(async move {
                    let answer = answer.await.map_err(BoxError::from);
                    if answer.as_ref().is_err_and(is_unseen) {
                        over.store(true, Ordering::Relaxed);
                    }
                    answer
                })
            }
            State::Down { error, .. } => {
                let error = Unreachable(error.clone());
                Box::pin(async move { Err(error.into()) })
            }
            State::Connecting(_) => Box::pin(async { Err("called before it was ready".into()) }),
        }
    }
}

/// Whether it is better passed over, and then how many wait for its answer.
impl Load for Member {
    type Metric = (bool, Option<<PendingRequests<Channel> as Load>::Metric>);

    fn load(&self) -> Self::Metric {
        match &self.state {
            State::Up(connection) => (false, Some(connection.channel.load())),
            State::Connecting(_) => (false, None),
            // Then it is looked at again, and nobody has to wait for that.
            State::Down { until, .. } => (*until > Instant::now(), None),
        }
    }
}

/// No connection can be made.
#[derive(Debug)]
struct Unreachable(Arc<Error>);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the address cannot be reached")
    }
}

impl std::error::Error for Unreachable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}
