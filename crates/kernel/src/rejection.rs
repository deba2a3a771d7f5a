//! How the domain says no.

use std::error::Error;
use std::time::Duration;

/// What kind of no it is; `platform::status` maps each kind to a gRPC and an HTTP status, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The request is malformed, whatever the state.
    Invalid,
    /// No such thing, or not yours to see.
    NotFound,
    /// It exists already, made by another request.
    AlreadyExists,
    /// The present state does not allow it.
    Precondition,
    /// Decided on an outdated state; read again and decide again.
    Aborted,
    /// You may not do that.
    Denied,
    /// Nobody knows who you are.
    Unauthenticated,
    /// Too much at the moment; come back later.
    Exhausted,
    /// A neighbour is away; come back later.
    Unavailable,
    /// Not done within the time the caller gave.
    Deadline,
}

/// A refusal in the domain's own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Rejection {
    /// What kind of no it is.
    pub kind: Kind,
    /// Stable, UPPER_SNAKE, listed in `docs/errors.md`: what programs read.
    pub reason: &'static str,
    /// What people read.
    pub message: String,
    /// The request's field that is at fault.
    pub field: Option<String>,
    /// When it makes sense to ask again.
    pub retry_after: Option<Duration>,
}

impl Rejection {
    fn new(kind: Kind, reason: &'static str, message: impl Into<String>) -> Rejection {
        Rejection { kind, reason, message: message.into(), field: None, retry_after: None }
    }

    /// A field of the request is malformed.
    pub fn invalid(field: &str, reason: &'static str, message: impl Into<String>) -> Rejection {
        Rejection { field: Some(field.to_owned()), ..Self::new(Kind::Invalid, reason, message) }
    }

    /// No such thing, or not the caller's to see.
    pub fn not_found(reason: &'static str, name: impl std::fmt::Display) -> Rejection {
        Self::new(Kind::NotFound, reason, format!("there is no {name} that you may see"))
    }

    /// It exists already.
    pub fn already_exists(reason: &'static str, message: impl Into<String>) -> Rejection {
        Self::new(Kind::AlreadyExists, reason, message)
    }

    /// The present state does not allow it.
    pub fn precondition(reason: &'static str, message: impl Into<String>) -> Rejection {
        Self::new(Kind::Precondition, reason, message)
    }

    /// The caller decided on an outdated state.
    pub fn aborted(reason: &'static str, message: impl Into<String>) -> Rejection {
        Self::new(Kind::Aborted, reason, message)
    }

    /// The caller may not do that.
    pub fn denied(reason: &'static str, message: impl Into<String>) -> Rejection {
        Self::new(Kind::Denied, reason, message)
    }

    /// Nobody knows who the caller is.
    pub fn unauthenticated(reason: &'static str, message: impl Into<String>) -> Rejection {
        Self::new(Kind::Unauthenticated, reason, message)
    }

    /// Too much at the moment.
    pub fn exhausted(reason: &'static str, message: impl Into<String>) -> Rejection {
        Self::new(Kind::Exhausted, reason, message).retry_after(Duration::from_secs(1))
    }

    /// A neighbour is away.
    pub fn unavailable(reason: &'static str, message: impl Into<String>) -> Rejection {
        Self::new(Kind::Unavailable, reason, message).retry_after(Duration::from_secs(1))
    }

    /// Not done within the time the caller gave.
    pub fn deadline(reason: &'static str, message: impl Into<String>) -> Rejection {
        Self::new(Kind::Deadline, reason, message)
    }

    /// When it makes sense to ask again.
    pub fn retry_after(self, retry_after: Duration) -> Rejection {
        Rejection { retry_after: Some(retry_after), ..self }
    }
}

/// Why something did not happen: the domain said no, or the house itself failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The domain said no.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A store or a neighbour is away; nothing is known to have happened.
    #[error("unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// A defect or corrupt data.
    #[error("internal error")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}
