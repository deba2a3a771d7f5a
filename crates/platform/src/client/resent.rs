//! A request that nobody has seen is sent again, whatever it is: behind a name there may be another
//! address that answers. What has been read of its body until then is kept for that, up to a bound.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{ConnectError, Status};
use tower::{BoxError, Service, ServiceExt as _};

use super::around::Middleware;
use crate::server::MAX_MESSAGE_BYTES;
use crate::status::sources;

/// How often a request that nobody has seen looks for another connection.
const MORE_CONNECTIONS: u32 = 4;
/// How much of a body is kept: a whole message, and some.
const KEPT: usize = MAX_MESSAGE_BYTES + 1024;

/// Sends a request again when nobody has seen it.
#[derive(Clone, Copy)]
pub(super) struct Resent;

impl<S> Middleware<Request<Body>, S> for Resent
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = BoxError;

    async fn handle(self, request: Request<Body>, inner: S) -> Result<Response<Body>, BoxError> {
        let (parts, body) = request.into_parts();
        let body = Repeatable::new(body);
        let mut left = MORE_CONNECTIONS;
        loop {
            let request = Request::from_parts(parts.clone(), body.read_anew());
            match inner.clone().oneshot(request).await.map_err(Into::into) {
                Err(error) if left > 0 && body.is_kept() && is_unseen(&error) => left -= 1,
                outcome => return outcome,
            }
        }
    }
}

/// Whether no connection could be made, or the connection said goodbye before the request's turn came,
/// as a neighbour does that is about to stop: it tells which requests it will not look at.
pub(super) fn is_unseen(error: &BoxError) -> bool {
    sources(&**error).any(|it: &(dyn Error + 'static)| {
        it.is::<ConnectError>()
            || it.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
            || it.downcast_ref::<h2::Error>().is_some_and(is_goodbye)
    })
}

fn is_goodbye(error: &h2::Error) -> bool {
    let reason = error.reason();
    error.is_remote()
        && (error.is_go_away() && reason == Some(Reason::NO_ERROR)
            || error.is_reset() && reason == Some(Reason::REFUSED_STREAM))
}

/// A body that can be read once more from its start, for as long as all that was read of it is kept.
struct Repeatable(Arc<Mutex<Source>>);

struct Source {
    body: Body,
    /// What has been read of it; nothing when it was too much.
    read: Option<Vec<Bytes>>,
    size: usize,
}

impl Repeatable {
    fn new(body: Body) -> Repeatable {
        Repeatable(Arc::new(Mutex::new(Source { body, read: Some(Vec::new()), size: 0 })))
    }

    fn read_anew(&self) -> Body {
        Body::new(Reading { source: self.0.clone(), next: 0 })
    }

    fn is_kept(&self) -> bool {
        lock(&self.0).read.is_some()
    }
}

fn lock(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source {
    /// Keeps what is read, if there is room.
    fn keep(&mut self, frame: &Frame<Bytes>) {
        self.size += frame.data_ref().map_or(KEPT, Bytes::len);
        match (frame.data_ref(), &mut self.read) {
            (Some(data), Some(read)) if self.size <= KEPT => read.push(data.clone()),
            _ => self.read = None,
        }
    }
}

/// One attempt's reading of a body.
struct Reading {
    source: Arc<Mutex<Source>>,
    /// Which part comes next.
    next: usize,
}

impl http_body::Body for Reading {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let at = self.next;
        let source = self.source.clone();
        let mut source = lock(&source);
        let known = source.read.as_ref().and_then(|read| read.get(at).cloned());
        let frame = match known {
            Some(data) => Some(Ok(Frame::data(data))),
            None => {
                let frame = ready!(Pin::new(&mut source.body).poll_frame(context));
                if let Some(Ok(frame)) = &frame {
                    source.keep(frame);
                }
                frame
            }
        };
        self.next += 1;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let source = lock(&self.source);
        let read = source.read.as_ref().map_or(0, Vec::len);
        self.next >= read && source.body.is_end_stream()
    }

    /// Unknown: whoever has changed the body's encoding on the way may not have said so.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
