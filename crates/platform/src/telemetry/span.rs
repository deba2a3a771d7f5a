//! Spans: what was done, for how long and how it ended, for whoever collects traces.
//!
//! They are made by hand, where one process hands work to another, and say only what is written here:
//! names of methods, routes, tables and events, ids, codes. No log line becomes part of a span, and
//! no message, path or query of a request does, so nothing about a person leaves by accident.
//!
//! | span | kind | below |
//! |---|---|---|
//! | `POST /v1/allocations` | server | the `traceparent` of the client |
//! | `taxi.driving.v1.DrivingService/FinishDriving` | server | the `traceparent` of the caller |
//! | the same, asked | client | what asks: the call; below it, one for each attempt |
//! | `COMMIT driving` | client | the command that waits for it |
//! | `publish taxi.events.{shard}.driving.DrivingFinished.{aggregate}` | producer | what the event is stored under: the command |
//! | `process ..` of the same | consumer | the publication, whose `traceparent` is in the message |
//! | `POST /v1/charges` | client | what asks the payment provider |
//!
//! A message that is processed alone, for the first time, is one step further in the trace it came
//! from, so it is a child. A batch belongs to many traces, and a replay to an old one that is told to
//! its end: these are traces of their own, linked to the publications.
//!
//! Names and attributes are those of the semantic conventions of OpenTelemetry. Without an exporter
//! a span is a place in a trace and nothing else.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::future::Future;

use http::{Method, StatusCode};
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _,
    TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace as sdk;
use sea_orm::DbBackend;
use tonic::Code;

use super::{Trace, export};
use crate::broker::{Broker, Delivery};
use crate::metrics::calls::Watcher;
use crate::status::upper_snake;

/// A unit of work. It ends when it is dropped.
#[derive(Debug)]
pub struct Span {
    trace: Trace,
    exported: Option<sdk::Span>,
}

impl Span {
    fn start(
        kind: SpanKind,
        parent: Option<Trace>,
        links: &BTreeSet<Trace>,
        name: impl FnOnce() -> Cow<'static, str>,
    ) -> Span {
        let Some(tracer) = export::tracer() else {
            return Span { trace: Trace::below(parent), exported: None };
        };
        let context = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent.context()),
            None => Context::new(),
        };
        let span = SpanBuilder::from_name(name())
            .with_kind(kind)
            .with_links(links.iter().map(|link| Link::with_context(link.context())).collect())
            .start_with_context(tracer, &context);
        // It is none after the end of the exporter.
        let trace = Trace::of(span.span_context()).unwrap_or_else(|| Trace::below(parent));
        // One that is not sampled says nothing.
        Span { trace, exported: span.is_recording().then_some(span) }
    }

    /// The change of an aggregate, until it is committed together with those that wait beside it.
    pub(crate) fn commit(backend: DbBackend, table: &'static str) -> Option<Span> {
        export::tracer()?;
        let system = match backend {
            DbBackend::Sqlite => "sqlite",
            _ => "postgresql",
        };
        let name = || format!("COMMIT {table}").into();
        let mut span = Span::start(SpanKind::Client, Trace::current(), &BTreeSet::new(), name);
        span.set("db.system.name", system);
        span.set("db.operation.name", "COMMIT");
        span.set("db.collection.name", table);
        Some(span)
    }

    /// Brings an event into the stream.
    pub(crate) fn publish(broker: &Broker, event: &Delivery) -> Option<Span> {
        export::tracer()?;
        let parent = event.trace.as_deref().and_then(Trace::parse);
        let mut span = Span::messages(SpanKind::Producer, broker, event, parent, &BTreeSet::new());
        span.set("messaging.operation.name", "publish");
        span.set("messaging.operation.type", "send");
        Some(span)
    }

    /// Applies an event in the name of a consumer, further in the trace it came from.
    pub(crate) fn process(broker: &Broker, consumer: &'static str, event: &Delivery) -> Span {
        let parent = event.trace.as_deref().and_then(Trace::parse);
        Span::applies(broker, consumer, event, parent, &BTreeSet::new())
    }

    /// Applies an event once more, long after, in a trace of its own that is linked to it.
    pub(crate) fn replay(broker: &Broker, consumer: &'static str, event: &Delivery) -> Span {
        let link = event.trace.as_deref().and_then(Trace::parse);
        Span::applies(broker, consumer, event, None, &link.into_iter().collect())
    }

    fn applies(
        broker: &Broker,
        consumer: &'static str,
        event: &Delivery,
        parent: Option<Trace>,
        links: &BTreeSet<Trace>,
    ) -> Span {
        let mut span = Span::messages(SpanKind::Consumer, broker, event, parent, links);
        span.set("messaging.operation.name", "process");
        span.set("messaging.operation.type", "process");
        span.set("messaging.consumer.group.name", consumer);
        span
    }

    /// Folds a batch of events into a view.
    pub(crate) fn fold(broker: &Broker, view: &'static str, events: &[Delivery]) -> Option<Span> {
        export::tracer()?;
        let traces = events.iter().filter_map(|event| Trace::parse(event.trace.as_deref()?));
        let subjects = broker.all_subjects();
        let name = || format!("process {subjects}").into();
        let mut span = Span::start(SpanKind::Consumer, None, &traces.collect(), name);
        span.set("messaging.system", "nats");
        span.set("messaging.destination.template", subjects.clone());
        span.set("messaging.operation.name", "process");
        span.set("messaging.operation.type", "process");
        span.set("messaging.consumer.group.name", view);
        span.set("messaging.batch.message_count", events.len() as i64);
        Some(span)
    }

    fn messages(
        kind: SpanKind,
        broker: &Broker,
        event: &Delivery,
        parent: Option<Trace>,
        links: &BTreeSet<Trace>,
    ) -> Span {
        let operation = if kind == SpanKind::Producer { "publish" } else { "process" };
        let template = || broker.subject_template(&event.context, event.event());
        let mut span =
            Span::start(kind, parent, links, || format!("{operation} {}", template()).into());
        if span.exported.is_some() {
            let subject =
                broker.subject(&event.context, event.event(), event.correlation, event.aggregate);
            span.set("messaging.system", "nats");
            span.set("messaging.destination.name", subject);
            span.set("messaging.destination.template", template());
            span.set("messaging.message.id", event.id.to_string());
            span.set("messaging.message.conversation_id", event.correlation.to_string());
        }
        span
    }

    /// Its place in the trace.
    pub fn trace(&self) -> Trace {
        self.trace
    }

    /// Runs something as part of it.
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        self.trace.scope(future)
    }

    /// It has failed, in a way that has a name.
    pub fn fail(&mut self, error_type: impl Into<Cow<'static, str>>) {
        if let Some(span) = &mut self.exported {
            span.set_attribute(KeyValue::new("error.type", Value::from(error_type.into())));
            span.set_status(Status::error(""));
        }
    }

    fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.exported {
            span.set_attribute(KeyValue::new(key, value));
        }
    }
}

impl Trace {
    /// As the exporter has it: from another process, which is nearly always so.
    fn context(self) -> SpanContext {
        SpanContext::new(
            TraceId::from_bytes(self.trace_id.to_be_bytes()),
            SpanId::from_bytes(self.span_id.to_be_bytes()),
            TraceFlags::new(self.flags),
            true,
            TraceState::NONE,
        )
    }

    fn of(context: &SpanContext) -> Option<Trace> {
        context.is_valid().then(|| Trace {
            trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(context.span_id().to_bytes()),
            flags: context.trace_flags().to_u8(),
        })
    }
}

/// The span of an rpc. Without another word it was cancelled.
#[derive(Debug)]
pub struct Rpc {
    span: Span,
    kind: SpanKind,
    code: Code,
}

impl Rpc {
    /// We answer, under the caller's `traceparent`.
    pub fn served(method: &'static str, traceparent: Option<&str>) -> Rpc {
        let parent = traceparent.and_then(Trace::parse);
        Rpc::start(SpanKind::Server, parent, || method.into())
    }

    /// We ask, at this path.
    pub fn asked(path: &str) -> Rpc {
        let method = || path.trim_start_matches('/').to_owned().into();
        Rpc::start(SpanKind::Client, Trace::current(), method)
    }

    fn start(kind: SpanKind, parent: Option<Trace>, method: impl Fn() -> Cow<'static, str>) -> Rpc {
        let mut span = Span::start(kind.clone(), parent, &BTreeSet::new(), &method);
        if span.exported.is_some() {
            span.set("rpc.system.name", "grpc");
            span.set("rpc.method", method());
        }
        Rpc { span, kind, code: Code::Cancelled }
    }

    /// Its place in the trace.
    pub fn trace(&self) -> Trace {
        self.span.trace
    }

    /// How many attempts were made before it, in gRPC's own words.
    pub(crate) fn again(&mut self, before: i64) {
        self.span.set("previous-rpc-attempts", before);
    }

    /// Whether the collector is to hear that this is an error: of a server only what is its fault.
    fn is_error(&self) -> bool {
        match self.kind {
            SpanKind::Server => matches!(
                self.code,
                Code::Unknown
                    | Code::DeadlineExceeded
                    | Code::Unimplemented
                    | Code::Internal
                    | Code::Unavailable
                    | Code::DataLoss
            ),
            _ => self.code != Code::Ok,
        }
    }
}

impl Watcher for Rpc {
    fn ended(mut self, code: Code) {
        self.code = code;
    }
}

impl Drop for Rpc {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.code = Code::Internal;
        }
        let code = upper_snake(self.code);
        self.span.set("rpc.response.status_code", code);
        if self.is_error() {
            self.span.fail(code);
        }
    }
}

/// The span of an exchange over HTTP.
#[derive(Debug)]
pub struct Exchange {
    span: Span,
    kind: SpanKind,
}

impl Exchange {
    /// We answer, under the client's `traceparent`.
    pub fn served(method: &Method, traceparent: Option<&str>) -> Exchange {
        let parent = traceparent.and_then(Trace::parse);
        Exchange::start(SpanKind::Server, parent, method, || named(method).to_owned())
    }

    /// We ask at an address that looks like this.
    pub fn asked(method: &Method, template: &'static str) -> Exchange {
        let name = || format!("{} {template}", named(method));
        let mut exchange = Exchange::start(SpanKind::Client, Trace::current(), method, name);
        exchange.span.set("url.template", template);
        exchange
    }

    fn start(
        kind: SpanKind,
        parent: Option<Trace>,
        method: &Method,
        name: impl FnOnce() -> String,
    ) -> Exchange {
        let mut span = Span::start(kind.clone(), parent, &BTreeSet::new(), || name().into());
        if span.exported.is_some() {
            span.set("http.request.method", standard(method).unwrap_or("_OTHER").to_owned());
        }
        Exchange { span, kind }
    }

    /// Its place in the trace.
    pub fn trace(&self) -> Trace {
        self.span.trace
    }

    /// What the address of the request looks like, without what it is about.
    pub fn route(&mut self, method: &Method, route: &str) {
        if let Some(span) = &mut self.span.exported {
            span.update_name(format!("{} {route}", named(method)));
        }
        self.span.set("http.route", route.to_owned());
    }

    /// There is an answer.
    pub fn answered(&mut self, status: StatusCode) {
        self.span.set("http.response.status_code", i64::from(status.as_u16()));
        let ours = self.kind == SpanKind::Server;
        if status.is_server_error() || (status.is_client_error() && !ours) {
            self.span.fail(status.as_str().to_owned());
        }
    }

    /// There is none.
    pub fn broke(&mut self, error_type: &'static str) {
        self.span.fail(error_type);
    }
}

/// For an answer that is followed to its end.
impl Watcher for Exchange {
    fn ended(self, _: Code) {}
}

/// A method that everybody knows. What strangers make up is not told.
fn standard(method: &Method) -> Option<&str> {
    let standard = matches!(
        *method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::PATCH
            | Method::DELETE
            | Method::OPTIONS
            | Method::TRACE
            | Method::CONNECT
    );
    standard.then(|| method.as_str())
}

/// What a span is called by a method.
fn named(method: &Method) -> &str {
    standard(method).unwrap_or("HTTP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_a_stranger_made_up_is_not_told() {
        let made_up = Method::from_bytes(b"C1-0123").expect("a token");
        assert_eq!((standard(&made_up), named(&made_up)), (None, "HTTP"));
        assert_eq!((standard(&Method::PATCH), named(&Method::PATCH)), (Some("PATCH"), "PATCH"));
        let lower = Method::from_bytes(b"get").expect("a token");
        assert_eq!(standard(&lower), None, "methods have a case");
    }
}
