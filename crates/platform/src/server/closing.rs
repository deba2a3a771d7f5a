//! Closing a port without cutting anybody: whoever has connected already, and only waits to be
//! accepted, would find the connection reset, and could not know whether the request was seen.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures::stream::{self, Stream};
use tokio_util::sync::CancellationToken;

/// How long those who came last have before the server says goodbye to them.
pub const LAST_GUESTS: Duration = Duration::from_millis(100);

/// Connections until the port closes, the last of those that wait then included. Then there are no
/// more: the stream does not end, for that would be a goodbye.
pub(super) fn until<I: Stream + Send + 'static>(
    closing: CancellationToken,
    incoming: I,
) -> impl Stream<Item = I::Item> {
    let mut incoming: Option<Pin<Box<I>>> = Some(Box::pin(incoming));
    let mut closed = Box::pin(closing.cancelled_owned());
    stream::poll_fn(move |context| {
        let Some(open) = &mut incoming else { return Poll::Pending };
        let next = open.as_mut().poll_next(context);
        if next.is_pending() && closed.as_mut().poll(context).is_ready() {
            incoming = None;
        }
        next
    })
}
