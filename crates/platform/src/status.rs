//! The one error table: from kinds of rejection to gRPC and HTTP.
//!
//! Every error that leaves a process passes through [`status`], so every error carries a
//! `google.rpc.ErrorInfo` with a stable reason, and an internal error is logged exactly once, here,
//! with its chain of sources; the caller reads "internal error" and nothing else.
//!
//! | details | when |
//! |---|---|
//! | `ErrorInfo` | always |
//! | `BadRequest` | a field of the request is at fault |
//! | `PreconditionFailure` | the present state does not allow it |
//! | `RetryInfo` | it makes sense to ask again, and when |

use std::error::Error;
use std::fmt;
use std::time::Duration;

use kernel::{Failure, Kind, Rejection};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `domain` of every `ErrorInfo`: whose reasons these are. Reasons are unique within it.
pub const DOMAIN: &str = "taxi";

/// One row of the table: a kind of rejection, its gRPC code and its HTTP status.
pub type Row = (Kind, Code, u16);

/// The table, one row for each kind; HTTP as `google/rpc/code.proto` has it.
pub const TABLE: [Row; 10] = [
    row(Kind::Invalid),
    row(Kind::NotFound),
    row(Kind::AlreadyExists),
    row(Kind::Precondition),
    row(Kind::Aborted),
    row(Kind::Denied),
    row(Kind::Unauthenticated),
    row(Kind::Exhausted),
    row(Kind::Unavailable),
    row(Kind::Deadline),
];

/// A `match`, so that the compiler asks for the row of a new kind.
const fn row(kind: Kind) -> Row {
    let (code, http) = match kind {
        Kind::Invalid => (Code::InvalidArgument, 400),
        Kind::NotFound => (Code::NotFound, 404),
        Kind::AlreadyExists => (Code::AlreadyExists, 409),
        Kind::Precondition => (Code::FailedPrecondition, 400),
        Kind::Aborted => (Code::Aborted, 409),
        Kind::Denied => (Code::PermissionDenied, 403),
        Kind::Unauthenticated => (Code::Unauthenticated, 401),
        Kind::Exhausted => (Code::ResourceExhausted, 429),
        Kind::Unavailable => (Code::Unavailable, 503),
        Kind::Deadline => (Code::DeadlineExceeded, 504),
    };
    (kind, code, http)
}

/// The gRPC code of a kind.
pub const fn grpc_code(kind: Kind) -> Code {
    row(kind).1
}

/// The HTTP status of a kind.
pub const fn http_status(kind: Kind) -> u16 {
    row(kind).2
}

/// The HTTP status of any gRPC code: the table's, and those codes no rejection has.
pub fn http_status_of(code: Code) -> u16 {
    match code {
        Code::Ok => 200,
        Code::OutOfRange => 400,
        Code::Cancelled => 499,
        Code::Unimplemented => 501,
        code => TABLE.iter().find(|row| row.1 == code).map_or(500, |row| row.2),
    }
}

/// The name of a code as gRPC writes it, such as `NOT_FOUND`.
pub fn upper_snake(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// What a caller sees of a failure: `.map_err(status)` at the edge of every handler.
pub fn status(failure: impl Into<Failure>) -> Status {
    match failure.into() {
        Failure::Rejected(rejection) => rejected(&rejection),
        Failure::Unavailable(source) => {
            tracing::warn!(error = %Chain(&*source), "a store or a neighbour is away");
            rejected(&Rejection::unavailable("STORE_UNAVAILABLE", "try again in a moment"))
        }
        Failure::Internal(source) => {
            tracing::error!(error = %Chain(&*source), "internal error");
            internal()
        }
    }
}

/// What a caller sees of a defect that is already in the log.
pub(crate) fn internal() -> Status {
    detailed(Code::Internal, "INTERNAL", "internal error", ErrorDetails::new())
}

/// A status outside the table, still with its reason.
pub(crate) fn other(code: Code, reason: &str, message: &str) -> Status {
    detailed(code, reason, message, ErrorDetails::new())
}

/// The stable reason of an error from any of our services: what programs read.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// When the service says that it makes sense to ask again.
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|retry| retry.retry_delay)
}

fn rejected(rejection: &Rejection) -> Status {
    let Rejection { kind, reason, message, field, retry_after } = rejection;
    let mut details = ErrorDetails::new();
    if let Some(field) = field {
        details.add_bad_request_violation(field, message);
    }
    if *kind == Kind::Precondition {
        details.add_precondition_failure_violation(*reason, "", message);
    }
    if retry_after.is_some() {
        details.set_retry_info(*retry_after);
    }
    detailed(grpc_code(*kind), reason, message, details)
}

fn detailed(code: Code, reason: &str, message: &str, mut details: ErrorDetails) -> Status {
    details.set_error_info(reason, DOMAIN, []);
    Status::with_error_details(code, message, details)
}

/// An error, what caused it, what caused that.
pub(crate) fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// An error and the sources behind it, on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        sources(self.0).skip(1).try_for_each(|source| write!(f, ": {source}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_each_kind_once() {
        for (at, (kind, code, http)) in TABLE.into_iter().enumerate() {
            assert_eq!(TABLE.iter().position(|row| row.0 == kind), Some(at));
            assert_eq!((grpc_code(kind), http_status(kind)), (code, http));
            assert_eq!(http_status_of(code), http);
        }
    }

    #[test]
    fn a_field_at_fault_is_named() {
        let status = status(Rejection::invalid("page_size", "INVALID_PAGE_SIZE", "too small"));
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "too small"));
        let details = status.get_error_details();
        let info = details.error_info().expect("always there");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_PAGE_SIZE", DOMAIN));
        let violations = &details.bad_request().expect("a field is at fault").field_violations;
        assert_eq!(violations[0].field, "page_size");
        assert!(details.precondition_failure().is_none() && details.retry_info().is_none());
    }

    #[test]
    fn a_state_conflict_is_a_precondition_failure() {
        let details = status(Rejection::precondition("ALREADY_DONE", "done")).get_error_details();
        let violations = &details.precondition_failure().expect("a conflict").violations;
        assert_eq!(
            (violations[0].r#type.as_str(), violations[0].subject.as_str()),
            ("ALREADY_DONE", "")
        );
    }

    #[test]
    fn overload_says_when_to_come_back() {
        let status = status(Rejection::exhausted("OVERLOADED", "busy"));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(retry_after(&status), Some(Duration::from_secs(1)));
    }

    #[test]
    fn a_defect_tells_the_caller_nothing() {
        let secret = std::io::Error::other("password=hunter2");
        let internal = status(Failure::Internal(Box::new(secret)));
        assert_eq!((internal.code(), internal.message()), (Code::Internal, "internal error"));
        assert_eq!(reason(&internal).as_deref(), Some("INTERNAL"));
        assert!(!format!("{internal:?}").contains("hunter2"));

        let away = status(Failure::Unavailable(Box::new(std::io::Error::other("refused"))));
        assert_eq!(away.code(), Code::Unavailable);
        assert_eq!(reason(&away).as_deref(), Some("STORE_UNAVAILABLE"));
        assert_eq!(retry_after(&away), Some(Duration::from_secs(1)));
    }

    #[test]
    fn the_log_has_the_whole_chain() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(Chain(&Outer(std::io::Error::other("inner"))).to_string(), "outer: inner");
    }
}
