//! The way to the collector: a bounded queue, a thread of its own, and a count of what is lost.
//!
//! OpenTelemetry's batch processor does the work, but says nothing of what it drops. So its queue
//! is kept from ever being full: places are counted here, given back when the exporter has taken a
//! batch, and a span that finds none is dropped and counted before it gets there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::{Key, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::{EnvResourceDetector, ResourceDetector};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor,
};
use prost::Message;

use crate::telemetry::events::Events;
use crate::telemetry::labels::{SpanExport, SpanLoss};

/// Where spans go. Headers, time-out and batches are OpenTelemetry's own variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// In full, with its path.
    pub endpoint: String,
    /// For one batch, retries included.
    pub timeout: Duration,
    /// Spans that may wait.
    pub queue: usize,
    /// `OTEL_SERVICE_NAME`, if it is set.
    pub service_name: Option<String>,
    pub version: &'static str,
    /// `service.instance.id`.
    pub instance: String,
    pub tls: Tls,
}

/// PEM files for an `https` endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Whom to trust, instead of the system's certificates.
    pub authorities: Option<PathBuf>,
    /// Who we are: certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ExportError(String);

impl ExportError {
    pub const fn new(why: String) -> Self {
        Self(why)
    }
}

#[derive(Debug)]
pub(super) struct Pipeline {
    processor: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    sending: Arc<AtomicUsize>,
    queue: usize,
    closed: AtomicBool,
    events: Events,
}

impl Pipeline {
    pub(super) fn start(target: &Target, events: Events) -> Result<Self, ExportError> {
        let rejected = Arc::new(AtomicU64::new(0));
        let collector = Collector { client: client(target)?, rejected: Arc::clone(&rejected) };
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_http_client(collector)
            .with_endpoint(target.endpoint.as_str())
            .with_timeout(target.timeout)
            .build()
            .map_err(|error| ExportError(error.to_string()))?;
        exporter.set_resource(&resource(target));
        let (waiting, sending) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counting = Counting {
            exporter,
            waiting: Arc::clone(&waiting),
            sending: Arc::clone(&sending),
            rejected,
            events: events.clone(),
            failing: AtomicBool::new(false),
        };
        let batches = BatchConfigBuilder::default().with_max_queue_size(target.queue).build();
        let processor = BatchSpanProcessor::new(counting, batches);
        let closed = AtomicBool::new(false);
        Ok(Self { processor, waiting, sending, queue: target.queue, closed, events })
    }

    pub(super) fn emit(&self, span: SpanData) {
        self.events.span_ended();
        if self.closed.load(Ordering::SeqCst) {
            return self.events.spans_dropped(SpanLoss::Shutdown, 1);
        }
        let place = |n: usize| (n < self.queue).then_some(n + 1);
        if self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, place).is_err() {
            return self.events.spans_dropped(SpanLoss::QueueFull, 1);
        }
        self.processor.on_end(span);
    }

    pub(super) fn shut_down(&self, patience: Duration) {
        if self.closed.swap(true, Ordering::SeqCst) {
            return;
        }
        // Whether it went well shows in what is left.
        let _ = self.processor.shutdown_with_timeout(patience);
        let left = self.waiting.swap(0, Ordering::AcqRel) + self.sending.swap(0, Ordering::AcqRel);
        if left > 0 {
            self.events.spans_dropped(SpanLoss::Shutdown, left as u64);
            tracing::warn!(spans = left, "the collector did not take the last spans in time");
        }
    }
}

fn client(target: &Target) -> Result<reqwest::blocking::Client, ExportError> {
    let builder = reqwest::blocking::Client::builder()
        .timeout(target.timeout)
        .redirect(reqwest::redirect::Policy::none());
    // A proxy is for reaching elsewhere; this machine is never behind it.
    let near = ["://127.0.0.1", "://localhost", "://[::1]"];
    let near = near.iter().any(|host| target.endpoint.contains(host));
    let builder = if near { builder.no_proxy() } else { builder };
    // Only TLS needs the system's certificates, and a machine without any can do without TLS.
    let plain = target.endpoint.starts_with("http://");
    let builder = if plain { builder.tls_certs_only([]) } else { secured(builder, &target.tls)? };
    builder.build().map_err(|error| ExportError(format!("the client cannot be made: {error}")))
}

fn secured(
    mut builder: reqwest::blocking::ClientBuilder,
    tls: &Tls,
) -> Result<reqwest::blocking::ClientBuilder, ExportError> {
    let cannot = |path: &Path, why: &dyn std::fmt::Display| {
        ExportError(format!("{} cannot be used for TLS: {why}", path.display()))
    };
    let read = |path: &Path| std::fs::read(path).map_err(|e| cannot(path, &e));
    if let Some(path) = &tls.authorities {
        let trusted =
            reqwest::Certificate::from_pem_bundle(&read(path)?).map_err(|e| cannot(path, &e))?;
        if trusted.is_empty() {
            return Err(cannot(path, &"it holds no certificate in PEM"));
        }
        builder = builder.tls_certs_only(trusted);
    }
    if let Some((certificate, key)) = &tls.identity {
        let both = [read(key)?, read(certificate)?].join(&b'\n');
        let identity = reqwest::Identity::from_pem(&both).map_err(|e| cannot(certificate, &e))?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

/// Who tells: our own words, over them `OTEL_RESOURCE_ATTRIBUTES`, over those `OTEL_SERVICE_NAME`.
fn resource(target: &Target) -> Resource {
    let ours = [
        KeyValue::new("service.name", "punctual"),
        KeyValue::new("service.version", target.version),
        KeyValue::new("service.instance.id", target.instance.clone()),
    ];
    let theirs = EnvResourceDetector::new().detect();
    let theirs: Vec<KeyValue> =
        theirs.iter().map(|(k, v)| KeyValue::new(k.clone(), v.clone())).collect();
    let name = target.service_name.clone();
    let name = name.map(|name| KeyValue::new(Key::from_static_str("service.name"), name));
    Resource::builder_empty()
        .with_attributes(ours)
        .with_attributes(theirs)
        .with_attributes(name)
        .build()
}

/// Gives places back, counts what becomes of each batch, and tells an outage once.
#[derive(Debug)]
struct Counting<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
    /// The batch that is on its way.
    sending: Arc<AtomicUsize>,
    rejected: Arc<AtomicU64>,
    events: Events,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Counting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.sending.store(spans, Ordering::Release);
        // Saturating: a shutdown that lost patience has counted them already.
        let give_back = |n: usize| Some(n.saturating_sub(spans));
        let _ = self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, give_back);
        self.rejected.store(0, Ordering::Relaxed);
        let outcome = self.exporter.export(batch).await;
        // 0 after a shutdown that lost patience.
        let spans = self.sending.swap(0, Ordering::AcqRel) as u64;
        match &outcome {
            Ok(()) => {
                let rejected = self.rejected.load(Ordering::Relaxed).min(spans);
                self.events.spans_exported(SpanExport::Ok, spans - rejected);
                self.events.spans_exported(SpanExport::Rejected, rejected);
                self.events.spans_dropped(SpanLoss::Rejected, rejected);
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("spans are exported again");
                }
            }
            Err(error) => {
                self.events.spans_exported(SpanExport::Failed, spans);
                self.events.spans_dropped(SpanLoss::ExportFailed, spans);
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, spans, "spans are lost: the collector does not take them");
                }
            }
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Reads from the collector's answer how many spans of the batch it refused.
#[derive(Debug)]
struct Collector {
    client: reqwest::blocking::Client,
    rejected: Arc<AtomicU64>,
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(
        &self,
        request: opentelemetry_http::Request<Bytes>,
    ) -> Result<opentelemetry_http::Response<Bytes>, HttpError> {
        let response = self.client.send_bytes(request).await?;
        if response.status().is_success()
            && let Ok(answer) = ExportTraceServiceResponse::decode(response.body().clone())
            && let Some(partial) = answer.partial_success
        {
            let rejected = u64::try_from(partial.rejected_spans).unwrap_or(0);
            self.rejected.store(rejected, Ordering::Relaxed);
        }
        Ok(response)
    }
}
