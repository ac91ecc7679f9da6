//! Exemplars: from a bucket to the trace of a job that counted there, by hand and through a real
//! Prometheus.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use crate::collector::Collector;
use crate::daemon::{Daemon, free_port};
use crate::kit::{Reply, Server};
use crate::scene::{server_of, submit};
use crate::server::until;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

/// One job that fails and is tried again.
async fn work(server: &Server) {
    submit(server).await;
    let first = server.lease("w", "q").await;
    server.fail(&first, json!({"retry_after_seconds": 0})).await;
    let second = server.lease("w", "q").await;
    server.complete(&second, json!(1)).await;
}

fn text(reply: &Reply) -> &str {
    std::str::from_utf8(&reply.bytes).expect("UTF-8")
}

/// The series that have one, and where it leads.
fn exemplars(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .filter_map(|line| {
            let (sample, exemplar) = line.split_once(" # {trace_id=\"")?;
            let (trace, rest) = exemplar.split_once('"')?;
            assert!(rest.starts_with(",span_id=\""), "{line}");
            Some((sample.rsplit_once(' ')?.0, trace))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_exemplar_leads_to_a_trace_that_was_sent() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[]);
    work(&server).await;
    let attempts: BTreeSet<_> =
        collector.named("attempt q", 2).await.into_iter().map(|s| s.trace).collect();

    let answer = server.get_with("/metrics", &[("Accept", OPEN_METRICS)]).await.is(200);
    assert_eq!(answer.header("content-type"), Some(&*format!("{OPEN_METRICS}; charset=utf-8")));
    assert_eq!(answer.header("vary"), Some("accept"));
    assert!(text(&answer).ends_with("\n# EOF\n"));
    let found = exemplars(text(&answer));
    let families: BTreeSet<_> =
        found.iter().filter_map(|(series, _)| series.split('{').next()).collect();
    let expected = [
        "punctual_attempts_finished_total",
        "punctual_job_end_to_end_seconds_bucket",
        "punctual_job_run_seconds_bucket",
        "punctual_job_wait_seconds_bucket",
    ];
    assert_eq!(families, BTreeSet::from(expected));
    for (series, trace) in found {
        assert!(attempts.contains(trace), "{series} leads to {trace}, not one of {attempts:?}");
    }

    let answer = server.get("/metrics").await.is(200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(exemplars(text(&answer)), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_recorded_is_no_example_but_what_failed_is() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[("TELEMETRY__SAMPLE_RATIO", "0")]);
    work(&server).await;
    let answer = server.get_with("/metrics", &[("Accept", OPEN_METRICS)]).await.is(200);
    let series: Vec<_> = exemplars(text(&answer))
        .into_iter()
        .map(|(series, _)| series.split(",le=").next().unwrap_or_default())
        .collect();
    // Failed attempts are recorded all the same.
    assert_eq!(
        series,
        [
            "punctual_attempts_finished_total{outcome=\"failed\",queue=\"q\"}",
            "punctual_job_run_seconds_bucket{outcome=\"failed\",queue=\"q\"",
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_keeps_them() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[]);
    work(&server).await;
    let attempts: BTreeSet<_> =
        collector.named("attempt q", 2).await.into_iter().map(|s| s.trace).collect();

    let dir = tempfile::tempdir().expect("a directory");
    let config = json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{
            "job_name": "punctual",
            "static_configs": [{"targets": [format!("127.0.0.1:{}", server.port())]}],
        }],
    });
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, config.to_string()).expect("the configuration");
    let port = free_port();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--enable-feature=exemplar-storage");
    let _prometheus = Daemon::start(command, "prometheus");
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");

    for family in ["punctual_job_wait_seconds_bucket", "punctual_attempts_finished_total"] {
        let traces = until(&format!("exemplars of {family}"), || async {
            let range = [("query", family), ("start", "0"), ("end", "9999999999")];
            let base = format!("http://127.0.0.1:{port}/api/v1/query_exemplars");
            let url = reqwest::Url::parse_with_params(&base, range).expect("an address");
            let answer = http.get(url).send().await.ok()?.text().await.ok()?;
            let answer: Value = serde_json::from_str(&answer).ok()?;
            let series = answer["data"].as_array()?;
            let traces: BTreeSet<_> = series
                .iter()
                .flat_map(|s| s["exemplars"].as_array().into_iter().flatten())
                .filter_map(|e| Some(e["labels"]["trace_id"].as_str()?.to_owned()))
                .collect();
            (!traces.is_empty()).then_some(traces)
        })
        .await;
        assert!(traces.is_subset(&attempts), "{family}: {traces:?}, of {attempts:?}");
    }
}
