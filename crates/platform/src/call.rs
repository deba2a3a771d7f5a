//! What a handler needs to know of a request besides its message: who asks, until when, why.
//!
//! ```text
//! let call = Call::of(&request)?;                                   // from extensions and metadata
//! let cause = call.cause("PlaceOrder", &request_id, &body, &clock)?; // idempotency
//! let order = self.orders.place(&cause, ..).await.map_err(status)?;
//! Ok(reply(order.into(), &consistency_token(Order::KIND, order.id(), order.version)))
//! ```

use std::future::Future;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use kernel::{Actor, Cause, Clock, Failure, Rejection};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tonic::{Response, Status};
use uuid::Uuid;

use crate::page::{decode_token, encode_token};
use crate::status::status;
use crate::telemetry::current_traceparent;

/// The response header that names what a command wrote, for a read that must not be older.
pub const CONSISTENCY_TOKEN_HEADER: &str = "x-taxi-consistency-token";
/// The header that stands in for an empty `request_id`.
pub const IDEMPOTENCY_KEY_HEADER: &str = "idempotency-key";

/// The header in which gRPC tells how long the caller waits.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

const CONSISTENCY: &str = "consistency";

/// Until when the caller waits.
///
/// The server puts it into the request's extensions for handlers, and into a task-local for calls
/// to neighbours, which never wait longer than the caller does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub Instant);

tokio::task_local! {
    static DEADLINE: Deadline;
}

impl Deadline {
    /// The deadline under which this task runs, if it has one.
    pub fn current() -> Option<Deadline> {
        DEADLINE.try_with(|deadline| *deadline).ok()
    }

    /// Runs something under this deadline. It is not cut short: it merely knows.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        DEADLINE.scope(self, future)
    }

    /// The time that is left; zero when it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Reads the `grpc-timeout` header: at most eight digits and a unit.
pub fn read_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Rejection> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    let parse = || {
        let value = value.to_str().ok()?;
        let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
        if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let count: u64 = digits.parse().ok()?;
        Some(match unit {
            "H" => Duration::from_secs(count * 3600),
            "M" => Duration::from_secs(count * 60),
            "S" => Duration::from_secs(count),
            "m" => Duration::from_millis(count),
            "u" => Duration::from_micros(count),
            "n" => Duration::from_nanos(count),
            _ => return None,
        })
    };
    let message = "must be 1..8 digits and one of H M S m u n";
    parse().map(Some).ok_or_else(|| Rejection::invalid("grpc-timeout", "INVALID_TIMEOUT", message))
}

/// Writes a `grpc-timeout`, as precisely as eight digits allow.
pub fn write_timeout(timeout: Duration) -> String {
    const MOST: u128 = 99_999_999;
    match (timeout.as_micros(), timeout.as_millis()) {
        (micros @ ..=MOST, _) => format!("{micros}u"),
        (_, millis @ ..=MOST) => format!("{millis}m"),
        _ => format!("{}S", u128::from(timeout.as_secs()).min(MOST)),
    }
}

/// The circumstances of one request.
#[derive(Clone, Debug)]
pub struct Call {
    /// Who asks.
    pub actor: Actor,
    /// Until when the caller waits.
    pub deadline: Option<Instant>,
    /// The languages that the caller accepts, the dearest first: primary subtags such as `ko`.
    pub languages: Vec<String>,
    /// The W3C `traceparent` under which we answer.
    pub trace: Option<String>,
    /// The `idempotency-key`, for a request whose `request_id` is empty.
    pub idempotency_key: Option<String>,
}

impl Call {
    /// Reads the circumstances of a request that came through [`server`](crate::server).
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Call, Status> {
        let metadata = |name: &str| request.metadata().get(name)?.to_str().ok();
        let actor = request.extensions().get::<Actor>().cloned().ok_or_else(|| {
            let defect = "a request without an actor reached a handler: is the auth layer missing?";
            status(Failure::Internal(defect.into()))
        })?;
        Ok(Call {
            actor,
            deadline: request.extensions().get::<Deadline>().map(|deadline| deadline.0),
            languages: metadata("accept-language").map(accepted_languages).unwrap_or_default(),
            trace: current_traceparent().or_else(|| metadata("traceparent").map(str::to_owned)),
            // A structured header's string comes in quotes, a bare UUID without.
            idempotency_key: metadata(IDEMPOTENCY_KEY_HEADER)
                .map(|key| key.trim_matches('"').to_owned())
                .filter(|key| !key.is_empty()),
        })
    }

    /// The cause of the change that this request asks for. `method` and `body`, the request with its
    /// `request_id` cleared, tell a repeated request from a reused id.
    pub fn cause(
        &self,
        method: &'static str,
        request_id: &str,
        body: &impl prost::Message,
        clock: &dyn Clock,
    ) -> Result<Cause, Rejection> {
        let given = Some(request_id).filter(|id| !id.is_empty());
        let id = match given.or(self.idempotency_key.as_deref()) {
            None => clock.new_id(),
            Some(id) => parse_request_id(id)?,
        };
        Ok(Cause {
            id,
            actor: self.actor.clone(),
            fingerprint: fingerprint(method, body),
            trace: self.trace.clone(),
            origin: None,
        })
    }

    /// The time that is left; `None` when the caller waits for as long as it takes.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| Deadline(deadline).remaining())
    }
}

fn parse_request_id(id: &str) -> Result<Uuid, Rejection> {
    let id = Uuid::try_parse(id).ok().filter(|uuid| id.len() == 36 && !uuid.is_nil());
    id.ok_or_else(|| {
        let message = "must be a UUID such as 0192f0c1-7b6a-7c3e-9d2f-3a5b8c7d6e5f, not all zeros";
        Rejection::invalid("request_id", "INVALID_REQUEST_ID", message)
    })
}

fn fingerprint(method: &str, body: &impl prost::Message) -> String {
    let digest = Sha256::new()
        .chain_update(method)
        .chain_update([0])
        .chain_update(body.encode_to_vec())
        .finalize();
    format!("{digest:x}")
}

fn accepted_languages(accept_language: &str) -> Vec<String> {
    let mut accepted: Vec<(f32, String)> = accept_language
        .split(',')
        .filter_map(|range| {
            let (tag, weight) = range.split_once(';').unwrap_or((range, "q=1"));
            let weight = weight.trim().strip_prefix("q=")?.parse::<f32>().ok()?;
            let language = tag.trim().split(['-', '_']).next()?;
            let named = (2..=8).contains(&language.len())
                && language.bytes().all(|byte| byte.is_ascii_alphabetic());
            (named && weight > 0.0).then(|| (weight, language.to_ascii_lowercase()))
        })
        .collect();
    accepted.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    accepted.into_iter().map(|(_, language)| language).collect()
}

/// An opaque token that names a version of an aggregate: what a command wrote.
pub fn consistency_token(kind: &str, id: Uuid, version: i64) -> String {
    encode_token(CONSISTENCY, &format!("{kind} {id} {version}"))
}

/// The kind, id and version that a consistency token names.
pub fn parse_consistency_token(token: &str) -> Result<(String, Uuid, i64), Rejection> {
    let parse = || {
        let payload = decode_token(CONSISTENCY, token)?;
        let mut parts = payload.rsplitn(3, ' ');
        let version = parts.next()?.parse().ok()?;
        let id = Uuid::try_parse(parts.next()?).ok()?;
        Some((parts.next()?.to_owned(), id, version))
    };
    parse().ok_or_else(|| {
        let message = format!("must be the {CONSISTENCY_TOKEN_HEADER} of an answer, unchanged");
        Rejection::invalid("consistency_token", "INVALID_CONSISTENCY_TOKEN", message)
    })
}

/// An answer that says what it wrote.
pub fn reply<T>(message: T, token: &str) -> Response<T> {
    let mut response = Response::new(message);
    // Our tokens are base64url, so they are always good header values.
    if let Ok(token) = token.parse() {
        response.metadata_mut().insert(CONSISTENCY_TOKEN_HEADER, token);
    }
    response
}

#[cfg(test)]
mod tests {
    use kernel::Role;
    use tonic::Request;

    use super::*;
    use crate::clock::SystemClock;

    const ID: &str = "0192f0c1-7b6a-7c3e-9d2f-3a5b8c7d6e5f";

    fn request(metadata: &[(&'static str, &'static str)]) -> Request<()> {
        let mut request = Request::new(());
        let actor = Actor { role: Role::Service, subject: "kitchen".to_owned() };
        request.extensions_mut().insert(actor);
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().expect("a header value"));
        }
        request
    }

    fn call(metadata: &[(&'static str, &'static str)]) -> Call {
        Call::of(&request(metadata)).expect("a call")
    }

    #[test]
    fn a_request_without_an_actor_is_a_defect() {
        let refused = Call::of(&Request::new(())).expect_err("nobody asks");
        assert_eq!(refused.code(), tonic::Code::Internal);
    }

    #[test]
    fn the_dearest_language_comes_first() {
        for (accept, languages) in [
            ("ko-KR,ko;q=0.9,en;q=0.8", vec!["ko", "ko", "en"]),
            ("en;q=0.1, ko", vec!["ko", "en"]),
            ("fr, EN", vec!["fr", "en"]),
            ("en;q=0, *, x", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(accepted_languages(accept), languages, "{accept}");
        }
        assert_eq!(call(&[("accept-language", "en-GB")]).languages, ["en"]);
    }

    #[test]
    fn the_request_id_goes_before_the_idempotency_key() {
        let key = "0192f0c1-0000-7000-8000-000000000001";
        let keyed = call(&[(IDEMPOTENCY_KEY_HEADER, key)]);
        let cause = |call: &Call, id| call.cause("PlaceOrder", id, &(), &SystemClock);
        assert_eq!(cause(&keyed, ID).expect("a cause").id.to_string(), ID);
        assert_eq!(cause(&keyed, "").expect("a cause").id.to_string(), key);
        let bare = call(&[]);
        assert_ne!(cause(&bare, "").expect("new").id, cause(&bare, "").expect("another").id);
        for id in ["1", "00000000-0000-0000-0000-000000000000", "0192f0c17b6a7c3e9d2f3a5b8c7d6e5f"]
        {
            let refused = cause(&bare, id).expect_err(id);
            assert_eq!(
                (refused.reason, refused.field.as_deref()),
                ("INVALID_REQUEST_ID", Some("request_id"))
            );
        }
    }

    #[test]
    fn the_fingerprint_is_of_method_and_body() {
        let of = |method, body: &str| fingerprint(method, &body.to_owned());
        assert_eq!(of("PlaceOrder", "tea"), of("PlaceOrder", "tea"));
        assert_ne!(of("PlaceOrder", "tea"), of("PlaceOrder", "coffee"));
        assert_ne!(of("PlaceOrder", "tea"), of("CancelOrder", "tea"));
        assert_eq!(of("PlaceOrder", "tea").len(), 64);
    }

    #[test]
    fn a_consistency_token_comes_back() {
        let id = Uuid::try_parse(ID).expect("a UUID");
        let token = consistency_token("order", id, 3);
        assert_eq!(parse_consistency_token(&token), Ok(("order".to_owned(), id, 3)));
        let response = reply((), &token);
        assert_eq!(response.metadata().get(CONSISTENCY_TOKEN_HEADER).expect("set"), token.as_str());
        for token in ["", "b3JkZXI", &token[1..]] {
            let refused = parse_consistency_token(token).expect_err("no token");
            assert_eq!(refused.reason, "INVALID_CONSISTENCY_TOKEN");
        }
    }

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        let read = |value: &str| {
            read_timeout(&HeaderMap::from_iter([(GRPC_TIMEOUT, value.parse().expect("a value"))]))
        };
        for (value, timeout) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("250m", Duration::from_millis(250)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(read(value), Ok(Some(timeout)), "{value}");
        }
        for value in ["", "S", "5", "+5S", "5s", "123456789S", "5 S", "1.5S"] {
            assert_eq!(read(value).expect_err(value).reason, "INVALID_TIMEOUT");
        }
        assert_eq!(read_timeout(&HeaderMap::new()), Ok(None));
        for (timeout, value) in [
            (Duration::ZERO, "0u"),
            (Duration::from_millis(800), "800000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
        ] {
            assert_eq!(write_timeout(timeout), value);
            assert_eq!(read(value), Ok(Some(timeout)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_remaining_time_shrinks() {
        let deadline = Deadline(Instant::now() + Duration::from_secs(5));
        let mut request = request(&[]);
        request.extensions_mut().insert(deadline);
        let call = Call::of(&request).expect("a call");
        assert_eq!(call.remaining(), Some(Duration::from_secs(5)));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(call.remaining(), Some(Duration::ZERO));
        assert_eq!(Deadline::current(), None);
        assert_eq!(deadline.scope(async { Deadline::current() }).await, Some(deadline));
    }
}
