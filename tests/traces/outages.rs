//! Whatever the collector does, work goes on, every span is accounted for, and tracing recovers.

use std::time::Duration;

use serde_json::json;

use crate::collector::{Collector, Mood};
use crate::kit::Client;
use crate::scene::{accounted, dropped, ended, exported, server, server_of, submit};
use crate::server::until;

/// A job through its life: five spans.
async fn work(server: &Client) {
    submit(server).await;
    let lease = server.lease("w", "q").await;
    server.complete(&lease, json!(1)).await;
}

/// A port where nobody listens, for the moment.
async fn nobody() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    listener.local_addr().expect("an address").port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_listens_and_then_somebody_does() {
    let port = nobody().await;
    let quick = [("OTEL_EXPORTER_OTLP_TIMEOUT", "300")];
    let server = server(&format!("http://127.0.0.1:{port}"), &quick);
    for _ in 0..5 {
        work(&server).await;
    }
    let m = accounted(&server).await;
    assert_eq!((ended(&m) as u64, dropped(&m, "export_failed") as u64), (25, 25));
    assert_eq!(exported(&m, "failed") as u64, 25);
    assert!(server.process.log().contains("spans are lost"), "{}", server.process.log());

    let collector = Collector::on(port).await;
    work(&server).await;
    collector.one("attempt q").await;
    let m = accounted(&server).await;
    assert_eq!(exported(&m, "ok") as u64, 5);
    until("a line", || async {
        server.process.log().contains("spans are exported again").then_some(())
    })
    .await;
    assert_eq!(server.process.log().matches("spans are lost").count(), 1, "once for an outage");
}

/// It takes the connection and never answers: the queue fills, the rest is dropped at once, and
/// whoever submits is served as ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_hangs_and_comes_to() {
    let collector = Collector::start().await;
    collector.is(Mood::Hangs);
    let patient = [("OTEL_EXPORTER_OTLP_TIMEOUT", "60000"), ("OTEL_BSP_MAX_QUEUE_SIZE", "10")];
    let server = server_of(&collector, &patient);
    for _ in 0..20 {
        work(&server).await;
    }
    let m = server.metrics().await;
    assert_eq!(ended(&m) as u64, 100);
    assert_eq!(exported(&m, "ok") as u64, 0, "it hangs");
    let full = dropped(&m, "queue_full") as u64;
    // The queue, and at most one batch of it on its way.
    assert!((80..=90).contains(&full), "{full} of 100");

    collector.is(Mood::Takes);
    let m = accounted(&server).await;
    assert_eq!(dropped(&m, "queue_full") as u64, full);
    assert_eq!(collector.spans().len() as u64, 100 - full);
    work(&server).await;
    accounted(&server).await;
    assert_eq!(collector.spans().len() as u64, 105 - full);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_refuses_some_or_all() {
    let collector = Collector::start().await;
    // One batch for all five.
    let server = server_of(&collector, &[("OTEL_BSP_SCHEDULE_DELAY", "500")]);
    collector.is(Mood::Refuses(1));
    work(&server).await;
    let m = accounted(&server).await;
    let rejected = dropped(&m, "rejected") as u64;
    assert!(rejected >= 1 && rejected == exported(&m, "rejected") as u64, "{rejected}");
    assert_eq!(exported(&m, "ok") as u64 + rejected, 5);
    collector.is(Mood::Fails);
    work(&server).await;
    let m = accounted(&server).await;
    assert_eq!(dropped(&m, "export_failed") as u64, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_spans_are_sent_on_the_way_out() {
    let collector = Collector::start().await;
    let slow = [("OTEL_BSP_SCHEDULE_DELAY", "600000")];
    let server = server_of(&collector, &slow);
    work(&server).await;
    assert_eq!(ended(&server.metrics().await) as u64, 5);
    assert!(collector.spans().is_empty(), "they wait");
    let status = server.process.terminate();
    assert!(status.success());
    assert_eq!(collector.spans().len(), 5);
}

/// A collector that hangs holds up the way out for no longer than the grace, and what is lost is
/// told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_on_the_way_out() {
    let collector = Collector::start().await;
    collector.is(Mood::Hangs);
    let settings = [
        ("OTEL_BSP_SCHEDULE_DELAY", "600000"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"),
        ("SERVER__SHUTDOWN_GRACE", "1s"),
    ];
    let server = server_of(&collector, &settings);
    work(&server).await;
    server.process.signal("TERM");
    let mut process = server.process;
    let status = tokio::task::spawn_blocking(move || (process.wait(), process.log()));
    let (status, log) = tokio::time::timeout(Duration::from_secs(50), status)
        .await
        .expect("it does not wait for the collector")
        .expect("it ends");
    assert!(status.success(), "{log}");
    let lost = "the collector did not take the last spans in time";
    let line = log.lines().find(|line| line.contains(lost)).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("spans=5") && log.contains("stopped"), "{log}");
}
