//! The body of an answer, which ends for a reason: complete, broken, out of time, or because the
//! process is about to stop. Whatever is not complete ends with a [`Status`].

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use kernel::Rejection;
use platform::status::status;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Terms, late};

/// An answer on its terms.
pub(crate) struct Bounded<B> {
    /// Until it is ended.
    body: Option<B>,
    terms: Terms,
    /// Made when the body first keeps us waiting: an answer that is complete needs no timer.
    end: Option<BoxFuture<'static, Status>>,
}

impl<B> Bounded<B> {
    pub(crate) fn new(body: B, terms: Terms) -> Bounded<B> {
        Bounded { body: Some(body), terms, end: None }
    }
}

async fn end(terms: Terms) -> Status {
    let time_is_up = async {
        match terms.end_by {
            Some(by) => tokio::time::sleep_until(by).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = time_is_up => late(),
        () = drained(terms.draining.as_ref()) => {
            let message = "this process is about to stop: call again, another one answers";
            status(Rejection::unavailable("SHUTTING_DOWN", message))
        }
    }
}

async fn drained(draining: Option<&CancellationToken>) {
    match draining {
        Some(draining) => draining.cancelled().await,
        None => std::future::pending().await,
    }
}

impl<B> http_body::Body for Bounded<B>
where
    B: http_body::Body<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Bounded { body, terms, end: ending } = &mut *self;
        let Some(answer) = body else { return Poll::Ready(None) };
        // First what is there already: the end must not cut a complete answer.
        if let Poll::Ready(frame) = Pin::new(answer).poll_frame(context) {
            return Poll::Ready(frame);
        }
        let ending = ending.get_or_insert_with(|| Box::pin(end(terms.clone())));
        let status = ready!(ending.as_mut().poll(context));
        // Lets go of the call, too.
        *body = None;
        Poll::Ready(Some(Err(status)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

/// An answer for a gRPC client: where it breaks, the trailers say why.
pub(crate) struct InTrailers<B>(Option<B>);

impl<B> InTrailers<B> {
    pub(crate) fn new(body: B) -> InTrailers<B> {
        InTrailers(Some(body))
    }
}

impl<B> http_body::Body for InTrailers<B>
where
    B: http_body::Body<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        match ready!(Pin::new(body).poll_frame(context)) {
            Some(Err(status)) => {
                // Lets go of the call, too.
                self.0 = None;
                let mut trailers = HeaderMap::new();
                let written = status.add_header(&mut trailers);
                Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}
