//! A collector of traces, and what it has heard.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{self as otlp, ResourceSpans};
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// It listens until it is dropped.
pub(super) struct Collector {
    pub(super) endpoint: String,
    heard: Arc<Mutex<Vec<ResourceSpans>>>,
    serving: JoinHandle<()>,
}

struct Receiver(Arc<Mutex<Vec<ResourceSpans>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().expect("no panic").extend(request.into_inner().resource_spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub(super) async fn start() -> Collector {
        let heard = Arc::new(Mutex::default());
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let endpoint = format!("http://{}", incoming.local_addr().expect("bound"));
        let service = TraceServiceServer::new(Receiver(Arc::clone(&heard)));
        let server = Server::builder().add_service(service).serve_with_incoming(incoming);
        let serving = tokio::spawn(async { server.await.expect("it serves") });
        Collector { endpoint, heard, serving }
    }

    /// Everything, as it was sent.
    pub(super) fn raw(&self) -> String {
        format!("{:?}", self.heard.lock().expect("no panic"))
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        let heard = self.heard.lock().expect("no panic");
        let of_service = |resource: &ResourceSpans| {
            let attributes = resource.resource.as_ref().map(|it| texts(&it.attributes));
            let service = attributes.expect("a resource").remove("service.name").expect("a name");
            let spans = resource.scope_spans.iter().flat_map(|scope| scope.spans.clone());
            spans.map(|span| Span::new(&service, span)).collect::<Vec<_>>()
        };
        heard.iter().flat_map(of_service).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What a test wants to know of a span.
#[derive(Clone)]
pub(super) struct Span {
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    /// The trace and the span of each.
    pub(super) links: Vec<(String, String)>,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) failed: bool,
    service: String,
    kind: SpanKind,
    name: String,
}

impl Span {
    fn new(service: &str, span: otlp::Span) -> Span {
        let failed = span.status.as_ref().is_some_and(|it| it.code() == StatusCode::Error);
        Span {
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            links: span.links.iter().map(|it| (hex(&it.trace_id), hex(&it.span_id))).collect(),
            attributes: texts(&span.attributes),
            failed,
            service: service.to_owned(),
            kind: span.kind(),
            name: span.name,
        }
    }

    /// Who, as what, does what: `taxi-driving server taxi.driving.v1.DrivingService/FinishDriving`.
    pub(super) fn title(&self) -> String {
        let kind = self.kind.as_str_name().trim_start_matches("SPAN_KIND_").to_lowercase();
        format!("{} {kind} {}", self.service, self.name)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} < {})", self.title(), self.id, self.parent)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|it| it.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|it| (it.key.clone(), text(&it.value))).collect()
}
