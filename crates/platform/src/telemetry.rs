//! Logs on stderr, spans for a collector, and the W3C trace context that ties them together across
//! processes.
//!
//! A trace is followed by a task-local, so that whatever happens on behalf of a request (a call to
//! a neighbour, an event in the outbox) can ask for [`current_traceparent`] without passing it
//! along. Logs carry its `trace_id`: the request's log span has it as a field, and `JsonLines` lifts
//! the fields of all open log spans to the top level of each line.
//!
//! [`Span`]s are exported when a collector is configured ([`Export`]); the trace goes through all
//! processes just as well when none is.

mod export;
mod json;
mod span;

use std::fmt;
use std::future::Future;
use std::io::IsTerminal as _;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use tracing::{Instrument as _, Level};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use self::export::Export;
use self::json::JsonLines;
pub use self::span::{Exchange, Rpc, Span};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For a person at a terminal.
    #[default]
    Pretty,
    /// For a log collector: one JSON object a line.
    Json,
}

/// Why logging, or the export of spans, could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A filter in the environment is malformed.
    #[error("the log filter in {variable} is malformed: {source}")]
    Filter {
        /// The environment variable.
        variable: &'static str,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// There is a subscriber already.
    #[error("logging was started twice")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
    /// There is an exporter already.
    #[error("the export of traces was started twice")]
    TracedTwice,
    /// A collector is to be spoken to in a way that we do not know.
    #[error("{variable} is {protocol}: traces are exported over grpc only")]
    Protocol {
        /// The environment variable.
        variable: &'static str,
        /// What it says.
        protocol: String,
    },
    /// The environment describes no exporter.
    #[error("traces cannot be exported: {0}")]
    Export(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Libraries that say more than anybody wants to read, even at `debug`.
const QUIET: &str = "async_nats=warn,h2=warn,hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn,\
                     sea_orm=warn,sea_orm_migration=warn,sqlx=warn,tonic=warn,tower=warn";

/// Starts logging. `level` holds unless `RUST_LOG` or `TAXI_LOG` says otherwise.
pub fn init(format: Format, level: Level) -> Result<(), TelemetryError> {
    let from_env = ["RUST_LOG", "TAXI_LOG"]
        .into_iter()
        .find_map(|variable| Some((variable, std::env::var(variable).ok()?)))
        .filter(|(_, directives)| !directives.is_empty());
    let filter = match from_env {
        Some((variable, directives)) => EnvFilter::builder()
            .parse(directives)
            .map_err(|source| TelemetryError::Filter { variable, source })?,
        None => EnvFilter::new(format!("{level},{QUIET}")),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Pretty => {
            let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines.with_ansi(color).finish().try_init()?;
        }
        Format::Json => {
            lines.fmt_fields(JsonFields::new()).event_format(JsonLines).finish().try_init()?;
        }
    }
    // Within the span in which it happened, so that a panic has its trace id.
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("a panic without words");
        tracing::error!(at, "panic: {message}");
    }));
    Ok(())
}

/// The header in which a trace goes from process to process.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// One position in a W3C trace: the trace, and our span in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trace {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

tokio::task_local! {
    static TRACE: Trace;
}

impl Trace {
    /// A trace of its own.
    #[expect(
        clippy::disallowed_methods,
        reason = "an id for people who read logs; nothing is decided on it"
    )]
    fn start() -> Trace {
        // Zero is no id; it comes up once in 2^64.
        let (trace_id, span_id) = (rand::random::<u128>().max(1), rand::random::<u64>().max(1));
        Trace { trace_id, span_id, flags: 1 }
    }

    /// A new span in this trace, or in one of its own.
    fn below(parent: Option<Trace>) -> Trace {
        match parent {
            Some(parent) => Trace { span_id: Trace::start().span_id, ..parent },
            None => Trace::start(),
        }
    }

    /// Where this task is.
    fn current() -> Option<Trace> {
        TRACE.try_with(|trace| *trace).ok()
    }

    fn parse(traceparent: &str) -> Option<Trace> {
        let mut parts = traceparent.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace = Trace {
            trace_id: hex(parts.next()?, 32)?,
            span_id: hex(parts.next()?, 16)?.try_into().ok()?,
            flags: hex(parts.next()?, 2)?.try_into().ok()?,
        };
        // A later version may say more; version 0 may not, and there is no version 255.
        let complete = version != 0xff && (version != 0 || parts.next().is_none());
        (complete && trace.trace_id != 0 && trace.span_id != 0).then_some(trace)
    }

    /// The trace's id, as logs show it.
    pub fn id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// As the value of a [`TRACEPARENT`] header.
    pub fn header(&self) -> HeaderValue {
        // Hexadecimal digits, which are always good header values.
        HeaderValue::try_from(self.to_string()).unwrap_or(HeaderValue::from_static(""))
    }

    /// Runs something as part of this trace.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        TRACE.scope(self, future)
    }
}

/// As a `traceparent` header.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

fn hex(digits: &str, length: usize) -> Option<u128> {
    let lower = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (lower && digits.len() == length).then(|| u128::from_str_radix(digits, 16).ok()).flatten()
}

/// Whether spans go anywhere: what only they need is not worth making otherwise.
pub fn is_exported() -> bool {
    export::tracer().is_some()
}

/// The W3C `traceparent` under which this task runs, if it does.
pub fn current_traceparent() -> Option<String> {
    Trace::current().map(|trace| trace.to_string())
}

/// Keeps something that will run in a task of its own where this task is, in the trace and in the
/// log.
pub fn kept<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let trace = Trace::current();
    let future = future.in_current_span();
    async move {
        match trace {
            Some(trace) => trace.scope(future).await,
            None => future.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_caller_s_trace_is_followed_in_a_new_span() {
        let trace = Trace::below(Trace::parse(PARENT));
        assert_eq!(trace.id(), "0af7651916cd43dd8448eb211c80319c");
        assert_ne!(trace.to_string(), PARENT);
        assert_eq!(Trace::parse(&trace.to_string()), Some(trace));
        assert_eq!(Trace::parse(PARENT).expect("well-formed").to_string(), PARENT);
    }

    #[test]
    fn what_is_no_trace_starts_one() {
        for malformed in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            assert_eq!(Trace::parse(malformed), None, "{malformed}");
        }
    }

    #[tokio::test]
    async fn the_task_knows_its_trace_and_so_do_those_it_starts() {
        assert_eq!(current_traceparent(), None);
        let trace = Trace::parse(PARENT).expect("well-formed");
        let seen = trace.scope(async {
            tokio::spawn(kept(async { current_traceparent() })).await.expect("no panic")
        });
        assert_eq!(seen.await.as_deref(), Some(PARENT));
    }
}
