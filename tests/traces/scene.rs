//! A server that exports to a collector.

use serde_json::{Value, json};

use crate::collector::Collector;
use crate::kit::{Client, Lease, Metrics, Server};
use crate::server::{Launch, until};

/// What a client sends, and its parts.
pub const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
pub const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
pub const CALLER_SPAN: &str = "00f067aa0ba902b7";

/// A batch at once, so that tests need not wait for more.
pub const QUICK: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "20");

/// Starts with configuration (`TELEMETRY__SAMPLE_RATIO`) and with variables of OpenTelemetry's
/// (`OTEL_…`), which are told by their names.
pub fn server(endpoint: &str, settings: &[(&str, &str)]) -> Server {
    let dir = tempfile::tempdir().expect("a directory");
    let mut launch = Launch::new(dir.path().join("jobs.db"));
    launch.env.push(("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint.to_owned()));
    launch.env.push((QUICK.0.to_owned(), QUICK.1.to_owned()));
    for (key, value) in settings {
        if key.starts_with("OTEL_") {
            launch.env.retain(|(known, _)| known != key);
            launch.env.push(((*key).to_owned(), (*value).to_owned()));
        } else {
            launch = launch.set(key, value);
        }
    }
    let process = launch.start();
    let launch = launch.port(process.port);
    Server { client: Client::new(process.port), process, launch, dir }
}

pub fn server_of(collector: &Collector, settings: &[(&str, &str)]) -> Server {
    server(&collector.url(), settings)
}

/// A job by a caller with this context; its id.
pub async fn submit_from(server: &Client, caller: &str, body: &Value) -> String {
    let headers = [("Prefer", "respond-async"), ("traceparent", caller)];
    server.post_with("/v1/jobs", body, &headers).await.is(202).id()
}

pub async fn submit(server: &Client) -> String {
    server.submit(&json!({"kind": "k", "queue": "q", "max_attempts": 2})).await
}

/// The context that the worker is told.
pub fn told(lease: &Lease) -> String {
    lease.json["traceparent"].as_str().expect("a context").to_owned()
}

/// A context's trace, span and flags.
pub fn parts(context: &str) -> (String, String, String) {
    let parts: Vec<&str> = context.split('-').collect();
    (parts[1].to_owned(), parts[2].to_owned(), parts[3].to_owned())
}

pub fn ended(m: &Metrics) -> f64 {
    m.sum("punctual_spans_ended_total", &[])
}

pub fn exported(m: &Metrics, outcome: &str) -> f64 {
    m.sum("punctual_spans_exported_total", &[&format!("outcome=\"{outcome}\"")])
}

pub fn dropped(m: &Metrics, reason: &str) -> f64 {
    m.sum("punctual_spans_dropped_total", &[&format!("reason=\"{reason}\"")])
}

/// Waits until no span waits, and every one is accounted for: taken, or lost for a reason.
pub async fn accounted(server: &Client) -> Metrics {
    until("an account of every span", || async {
        let m = server.metrics().await;
        let lost = m.sum("punctual_spans_dropped_total", &[]);
        let all = exported(&m, "ok") + lost;
        assert!(all <= ended(&m), "more than there were");
        (all.to_bits() == ended(&m).to_bits()).then_some(m)
    })
    .await
}
