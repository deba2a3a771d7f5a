//! `POST /webhooks/provider`: the provider says that it has news of a charge.
//!
//! A hint, never the truth: whoever has the secret could still be wrong, late or repeat himself. So a
//! webhook only makes us ask the provider now instead of later. A forged one is refused before
//! anything is read, one that comes twice finds nothing left to do, and one that never comes is
//! missed by nobody: the reconciler asks anyway.
//!
//! | answer | when |
//! |---|---|
//! | 204 | heard |
//! | 400 | signed, and yet about no driving |
//! | 401 | not signed, not by the provider, or too long ago |
//! | 404 | no secret is configured, so nobody can be believed |
//! | 503 | heard, and not kept: to be sent again |

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{MethodRouter, post};
use kernel::{Clock, DrivingId};
use platform::webhooks::Secret;
use serde::Deserialize;

use crate::app::Payments;

/// Where they are sent to.
pub(crate) const PATH: &str = "/webhooks/provider";

#[derive(Clone)]
struct Door {
    payments: Arc<Payments>,
    secret: Option<Secret>,
    clock: Arc<dyn Clock>,
}

/// What the provider sends, as far as we care.
#[derive(Deserialize)]
struct Webhook {
    data: Subject,
}

/// The charge or the refund there is news of.
#[derive(Deserialize)]
struct Subject {
    driving: String,
}

/// What answers at [`PATH`].
pub(crate) fn route(
    payments: Arc<Payments>,
    secret: Option<Secret>,
    clock: Arc<dyn Clock>,
) -> MethodRouter {
    post(receive).with_state(Door { payments, secret, clock })
}

async fn receive(State(door): State<Door>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let Some(secret) = &door.secret else { return StatusCode::NOT_FOUND };
    if let Err(forged) = secret.verify(&headers, &body, door.clock.now()) {
        tracing::debug!(%forged, "a webhook is not believed");
        return StatusCode::UNAUTHORIZED;
    }
    let Some(driving) = driving(&body) else { return StatusCode::BAD_REQUEST };
    match door.payments.heard_of(driving).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(failure) => {
            tracing::warn!(%driving, %failure, "a webhook was heard in vain");
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// The driving there is news of.
fn driving(body: &[u8]) -> Option<DrivingId> {
    let webhook: Webhook = serde_json::from_slice(body).ok()?;
    webhook.data.driving.parse().ok()
}
