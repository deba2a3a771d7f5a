//! A request that nobody has seen is sent again, whatever it is: behind a name there may be another
//! address that answers. It is not buffered for that: its body can be taken back for as long as nobody
//! has read from it.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{ConnectError, Status};
use tower::{BoxError, Service, ServiceExt as _};

use super::around::Middleware;
use crate::status::sources;

/// How often a request that nobody has seen looks for another connection.
const MORE_CONNECTIONS: u32 = 4;

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
        let body = Untouched::new(body);
        let mut left = MORE_CONNECTIONS;
        loop {
            let request = Request::from_parts(parts.clone(), body.handle());
            match inner.clone().oneshot(request).await.map_err(Into::into) {
                Err(error) if left > 0 && body.is_untouched() && is_unsent(&error) => left -= 1,
                outcome => return outcome,
            }
        }
    }
}

/// Whether no connection could be made, or the connection had said goodbye before the request's turn
/// came: as a neighbour does that is about to stop.
fn is_unsent(error: &BoxError) -> bool {
    let is_canceled = |it: &(dyn Error + 'static)| {
        it.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
    };
    sources(&**error).any(|it| it.is::<ConnectError>() || is_canceled(it))
}

/// A body, as long as it is whole.
struct Untouched(Arc<Mutex<Option<Body>>>);

impl Untouched {
    fn new(body: Body) -> Untouched {
        Untouched(Arc::new(Mutex::new(Some(body))))
    }

    /// The body for one attempt. The first read takes it for good.
    fn handle(&self) -> Body {
        Body::new(Handle { whole: self.0.clone(), taken: None })
    }

    /// Whether nobody has read from it.
    fn is_untouched(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

struct Handle {
    whole: Arc<Mutex<Option<Body>>>,
    taken: Option<Body>,
}

impl http_body::Body for Handle {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.taken.is_none() {
            let taken = self.whole.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.taken = taken;
        }
        match &mut self.taken {
            Some(body) => Pin::new(body).poll_frame(context),
            // Another attempt has read it.
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.taken.as_ref().is_some_and(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.taken.as_ref().map_or_else(SizeHint::default, http_body::Body::size_hint)
    }
}
