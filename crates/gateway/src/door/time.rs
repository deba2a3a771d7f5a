//! How long a call may take: what the caller says, else the door's default, and never longer than
//! the server allows. A stream has to begin within that time, and lasts for as long as the caller
//! says, if they do.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use kernel::Rejection;
use platform::call::{GRPC_TIMEOUT, read_timeout, write_timeout};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::upstream::Terms;

/// The time of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    pub(super) answer_by: Instant,
    /// As the caller has it.
    asked: Option<Instant>,
}

impl Time {
    /// The time that a request has, from now on.
    pub(super) fn of(
        headers: &HeaderMap,
        default: Duration,
        most: Duration,
    ) -> Result<Time, Rejection> {
        let now = Instant::now();
        let asked = read_timeout(headers)?;
        let answer_by = now + asked.unwrap_or(default).min(most);
        Ok(Time { answer_by, asked: asked.map(|asked| now + asked) })
    }

    /// What holds for one message.
    pub(super) fn of_message(self) -> Terms {
        let Time { answer_by, .. } = self;
        Terms { answer_by, end_by: Some(answer_by), draining: None, slot: None }
    }

    /// What holds for a stream.
    pub(super) fn of_stream(self, draining: CancellationToken, slot: super::Slot) -> Terms {
        let Time { answer_by, asked } = self;
        Terms { answer_by, end_by: asked, draining: Some(draining), slot: Some(Arc::new(slot)) }
    }
}

impl Terms {
    /// Tells the service how long it has.
    pub(super) fn tell(&self, metadata: &mut HeaderMap) {
        let left = self.end_by.map(|by| by.saturating_duration_since(Instant::now()));
        match left.and_then(|left| HeaderValue::try_from(write_timeout(left)).ok()) {
            Some(left) => metadata.insert(GRPC_TIMEOUT, left),
            None => metadata.remove(GRPC_TIMEOUT),
        };
    }
}
