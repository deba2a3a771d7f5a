//! Answers that nobody reads. By HTTP/2 a client may take no more of one while its connection is
//! alive, and then the answer's body is not even asked: no timer of its own could help. What its
//! service goes on to send lies in windows that others share, so such a connection is cut.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, sleep};

/// How often it is looked, in parts of what a client may take.
const LOOKS: u32 = 4;

/// The answers of one connection that have been given a part of, and not been asked for more.
#[derive(Clone, Debug, Default)]
pub(super) struct Unread(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    since: Mutex<HashMap<u64, Instant>>,
    next: AtomicU64,
}

impl Shared {
    fn since(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        // No code panics while it holds this.
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unread {
    /// The same answer, watched.
    pub(super) fn watch(&self, answer: Response) -> Response {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let all = self.0.clone();
        answer.map(|body| Body::new(Watched { body, id, given: false, all }))
    }

    /// Waits until one of them has not been read for so long.
    pub(super) async fn for_longer_than(&self, patience: Duration) {
        loop {
            sleep(patience / LOOKS).await;
            if self.0.since().values().any(|since| since.elapsed() > patience) {
                return;
            }
        }
    }
}

struct Watched {
    body: Body,
    id: u64,
    /// A part of it is under way.
    given: bool,
    all: Arc<Shared>,
}

impl Watched {
    fn taken(&mut self) {
        if std::mem::take(&mut self.given) {
            self.all.since().remove(&self.id);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.taken();
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.taken();
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_some() && !self.body.is_end_stream() {
            self.given = true;
            self.all.since().insert(self.id, Instant::now());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
