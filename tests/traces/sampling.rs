//! What is recorded: by the share, by the caller's wish, and by how it went.

use serde_json::json;

use crate::collector::Collector;
use crate::scene::{CALLER, accounted, ended, parts, server_of, submit, submit_from, told};
use crate::server::until;

const UNRECORDED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const NONE: (&str, &str) = ("TELEMETRY__SAMPLE_RATIO", "0");
const STRICT: (&str, &str) = ("TELEMETRY__MAX_FORCED_SAMPLES_PER_SECOND", "0");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_share_of_nothing() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[NONE]);
    let id = submit(&server).await;
    let lease = server.lease("w", "q").await;
    let (trace, _, flags) = parts(&told(&lease));
    assert_eq!(flags, "00", "the worker needs not record it either");
    let job = server.complete(&lease, json!(1)).await;
    // The ids are there all the same: whoever looks in the log finds the same trace.
    assert_eq!(job["attempts"][0]["trace_id"], trace);
    assert_eq!(job["job_id"], id);
    assert!(ended(&accounted(&server).await).abs() < 0.5 && collector.spans().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_records_is_heard() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[NONE]);
    submit_from(&server, CALLER, &json!({"kind": "k", "queue": "q"})).await;
    let lease = server.lease("w", "q").await;
    assert_eq!(parts(&told(&lease)).2, "01");
    server.complete(&lease, json!(1)).await;
    collector.one("process q").await;
    collector.one("POST /v1/jobs").await;
    accounted(&server).await;
    assert_eq!(collector.spans().len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_cannot_have_more_than_is_allowed() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[NONE, STRICT]);
    for n in 1..=20 {
        let caller = format!("00-{n:032x}-00f067aa0ba902b7-01");
        submit_from(&server, &caller, &json!({"kind": "k", "queue": "q"})).await;
    }
    assert!(ended(&accounted(&server).await).abs() < 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_does_not_record_is_heard_too() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[]);
    submit_from(&server, UNRECORDED, &json!({"kind": "k", "queue": "q"})).await;
    let lease = server.lease("w", "q").await;
    server.complete(&lease, json!(1)).await;
    assert!(ended(&accounted(&server).await).abs() < 0.5);
}

/// The first fails and is kept; the second does not and is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_kept() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[NONE]);
    submit(&server).await;
    let first = server.lease("w", "q").await;
    server.fail(&first, json!({"retry_after_seconds": 0})).await;
    let second = server.lease("w", "q").await;
    server.complete(&second, json!(1)).await;
    let attempt = collector.one("attempt q").await;
    assert_eq!(attempt.says("punctual.outcome"), "failed");
    assert_eq!(attempt.trace, parts(&told(&first)).0);
    assert!(attempt.link("creation").is_some(), "the way to what submitted it remains");
    accounted(&server).await;
    let mut names: Vec<String> = collector.spans().into_iter().map(|s| s.name).collect();
    names.sort();
    assert_eq!(names, ["attempt q", "process q", "wait q"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_attempts_are_kept_and_failures_not_when_so_wished() {
    let collector = Collector::start().await;
    let keep = [NONE, ("TELEMETRY__KEEP_FAILED", "off"), ("TELEMETRY__KEEP_SLOW", "1ms")];
    let server = server_of(&collector, &keep);
    let id = submit(&server).await;
    let lease = server.lease("w", "q").await;
    let started = server.job(&id).await["started_at"].as_str().expect("a moment").to_owned();
    until("some milliseconds of the server's time", || async {
        let answer = server.claims(&json!({"worker_id": "clock", "queues": ["none"]})).await;
        let now = answer["server_time"].as_str().expect("a moment");
        let at = |text: &str| text.parse::<jiff::Timestamp>().expect("a moment");
        (at(now).duration_since(at(&started)).as_millis() > 2).then_some(())
    })
    .await;
    server.complete(&lease, json!(1)).await;
    assert_eq!(collector.one("attempt q").await.trace, parts(&told(&lease)).0);

    let quiet = [NONE, ("TELEMETRY__KEEP_FAILED", "off"), ("TELEMETRY__KEEP_SLOW", "off")];
    let server = server_of(&collector, &quiet);
    submit(&server).await;
    let lease = server.lease("w", "q").await;
    server.fail(&lease, json!({})).await;
    assert!(ended(&accounted(&server).await).abs() < 0.5);
}
