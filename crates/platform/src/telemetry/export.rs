//! Spans on their way to a collector, over OTLP (gRPC).
//!
//! Set up by the environment variables of OpenTelemetry, as every other service of an installation:
//!
//! | variable | |
//! |---|---|
//! | `OTEL_EXPORTER_OTLP_ENDPOINT`, or `.._TRACES_ENDPOINT` | where to: `http://collector:4317`; without it nothing is exported |
//! | `OTEL_EXPORTER_OTLP_HEADERS`, `_TIMEOUT`, `_COMPRESSION` (`gzip`) | how |
//! | `OTEL_TRACES_SAMPLER`, `_ARG` | which; all, unless the caller has decided |
//! | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | who we are |
//! | `OTEL_BSP_*` | how many at a time |
//! | `OTEL_SDK_DISABLED=true`, `OTEL_TRACES_EXPORTER=none` | not at all |
//!
//! Spans are sent by a thread of their own. A collector that is away costs nobody time: what does not
//! fit into the queue is dropped, and one line in the log says so, and one that it is back.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData, SpanExporter};
use tracing::Instrument as _;

use super::TelemetryError;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// How long the last spans may take.
const FLUSH: Duration = Duration::from_secs(3);
/// Who all our services belong to.
const NAMESPACE: &str = "taxi";

/// Makes spans that are exported, if any are.
pub(super) fn tracer() -> Option<&'static SdkTracer> {
    TRACER.get()
}

/// The export of spans, for as long as the process runs.
#[derive(Debug, Default)]
#[must_use = "what is not flushed is lost"]
pub struct Export(Option<SdkTracerProvider>);

impl Export {
    /// Starts it, if a collector is configured. `service` is what we are called unless the
    /// environment says otherwise. Needs a tokio runtime.
    pub fn start(service: &str, version: &'static str) -> Result<Export, TelemetryError> {
        if !is_wanted() {
            return Ok(Export(None));
        }
        if let Some((variable, protocol)) = set("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            .or_else(|| set("OTEL_EXPORTER_OTLP_PROTOCOL"))
            .filter(|(_, protocol)| protocol != "grpc")
        {
            return Err(TelemetryError::Protocol { variable, protocol });
        }
        let exporter = OtlpExporter::builder()
            .with_tonic()
            .with_protocol(opentelemetry_otlp::Protocol::Grpc)
            .build()?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Discreet { exporter, well: AtomicBool::new(true) })
            .with_resource(resource(service, version))
            .build();
        TRACER.set(provider.tracer(NAMESPACE)).map_err(|_| TelemetryError::TracedTwice)?;
        Ok(Export(Some(provider)))
    }

    /// Sends what is left, if that does not take long.
    pub async fn flush(self) {
        let Some(provider) = self.0 else { return };
        // It blocks.
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH));
        if let Ok(Err(error)) = flushed.in_current_span().await {
            tracing::debug!(%error, "the last spans were not taken");
        }
    }
}

/// A variable that is set, and to what.
fn set(variable: &'static str) -> Option<(&'static str, String)> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty())?;
    Some((variable, value))
}

fn is_wanted() -> bool {
    let is = |variable, value: &str| set(variable).is_some_and(|(_, it)| it == value);
    let endpoint =
        set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| set("OTEL_EXPORTER_OTLP_ENDPOINT"));
    endpoint.is_some() && !is("OTEL_SDK_DISABLED", "true") && !is("OTEL_TRACES_EXPORTER", "none")
}

/// Who we are; the environment has the last word.
fn resource(service: &str, version: &'static str) -> Resource {
    let resource = Resource::builder_empty()
        .with_service_name(service.to_owned())
        .with_attributes([
            KeyValue::new("service.namespace", NAMESPACE),
            KeyValue::new("service.version", version),
        ])
        .with_detectors(&[
            Box::new(TelemetryResourceDetector),
            Box::new(EnvResourceDetector::new()),
        ]);
    match set("OTEL_SERVICE_NAME") {
        Some((_, name)) => resource.with_service_name(name).build(),
        None => resource.build(),
    }
}

/// An exporter that says once that it cannot, and once that it can again.
#[derive(Debug)]
struct Discreet<E> {
    exporter: E,
    well: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Discreet<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.exporter.export(batch).await;
        match (&outcome, self.well.swap(outcome.is_ok(), Ordering::Relaxed)) {
            (Err(error), true) => {
                tracing::warn!(%error, "traces are not exported: the collector is away");
            }
            (Ok(()), false) => tracing::info!("traces are exported again"),
            _ => {}
        }
        // The processor would say it each time.
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
