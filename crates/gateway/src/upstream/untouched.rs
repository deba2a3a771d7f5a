//! A body that can be taken back for as long as nobody has read from it: no request has to be
//! buffered to be sent again.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// A body, as long as it is whole.
pub(super) struct Untouched(Arc<Mutex<Option<Body>>>);

impl Untouched {
    pub(super) fn new(body: Body) -> Untouched {
        Untouched(Arc::new(Mutex::new(Some(body))))
    }

    /// The body for one attempt. The first read takes it for good.
    pub(super) fn handle(&self) -> Body {
        Body::new(Handle { whole: self.0.clone(), taken: None })
    }

    /// Whether nobody has read from it.
    pub(super) fn is_untouched(&self) -> bool {
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
