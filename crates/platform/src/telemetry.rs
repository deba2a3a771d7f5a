//! Logs on stderr, and the W3C trace context that ties them together across processes.
//!
//! A trace is followed by a task-local, so that whatever happens on behalf of a request (a call to
//! a neighbour, an event in the outbox) can ask for [`current_traceparent`] without passing it
//! along. Logs carry its `trace_id`: the request's span has it as a field, and [`JsonLines`] lifts
//! the fields of all open spans to the top level of each line.
//!
//! Nothing is exported yet. An OTLP exporter goes into [`init`], as one more layer of the
//! subscriber, and takes its parents from [`Trace`].

use std::fmt;
use std::future::Future;
use std::io::IsTerminal as _;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Instrument as _, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

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

/// Why logging could not be started.
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

/// One position in a W3C trace: the trace, and our span in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    pub fn start() -> Trace {
        // Zero is no id; it comes up once in 2^64.
        let (trace_id, span_id) = (rand::random::<u128>().max(1), rand::random::<u64>().max(1));
        Trace { trace_id, span_id, flags: 1 }
    }

    /// A new span in the caller's trace; a trace of its own when the caller has none, or one that
    /// nobody can read.
    pub fn follow(traceparent: Option<&str>) -> Trace {
        match traceparent.and_then(Trace::parse) {
            Some(parent) => Trace { span_id: Trace::start().span_id, ..parent },
            None => Trace::start(),
        }
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

/// The W3C `traceparent` under which this task runs, if it does.
pub fn current_traceparent() -> Option<String> {
    TRACE.try_with(Trace::to_string).ok()
}

/// Runs something that a message caused as part of the message's trace, in a log span of its own.
pub async fn in_trace<F: Future>(traceparent: Option<&str>, future: F) -> F::Output {
    let trace = Trace::follow(traceparent);
    let span = tracing::info_span!("message", trace_id = trace.id());
    trace.scope(future.instrument(span)).await
}

/// One JSON object a line: the event's fields and those of all open spans, side by side.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut line = Map::new();
        line.insert("time".to_owned(), time.into());
        line.insert("level".to_owned(), event.metadata().level().as_str().into());
        line.insert("target".to_owned(), event.metadata().target().into());
        // From the outermost span inwards: the closest word on a matter is the last.
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map_or("{}", |it| it.as_str());
            if let Ok(Value::Object(fields)) = serde_json::from_str(fields) {
                line.extend(fields);
            }
        }
        event.record(&mut Fields(&mut line));
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// Collects an event's fields.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_caller_s_trace_is_followed_in_a_new_span() {
        let trace = Trace::follow(Some(PARENT));
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
            assert_ne!(Trace::follow(Some(malformed)), Trace::follow(Some(malformed)));
        }
    }

    #[tokio::test]
    async fn the_task_knows_its_trace() {
        assert_eq!(current_traceparent(), None);
        let seen = in_trace(Some(PARENT), async { current_traceparent() }).await;
        assert!(seen.expect("within a trace").starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_has_the_trace_id_of_its_request() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .fmt_fields(JsonFields::new())
            .event_format(JsonLines)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let _request = tracing::info_span!("rpc", trace_id = "abc", attempt = 1).entered();
            let _work = tracing::info_span!("work", attempt = 2).entered();
            tracing::warn!(orders = 3, "busy");
        });
        let line: Value = serde_json::from_slice(&lines.0.lock().expect("no panic")).expect("JSON");
        for (key, value) in [
            ("level", Value::from("WARN")),
            ("message", "busy".into()),
            ("trace_id", "abc".into()),
            ("attempt", 2.into()),
            ("orders", 3.into()),
        ] {
            assert_eq!(line[key], value, "{key}");
        }
    }
}
