//! However an attempt ends, and whoever ends it, its trace is whole.

use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::collector::{Collector, Span};
use crate::scene::{CALLER, TRACE, parts, server_of, submit, submit_from, told};
use crate::server::{binary, until};

struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn attempt(collector: &Collector, outcome: &str) -> Span {
    until(&format!("an attempt that was {outcome}"), || async {
        let mut spans = collector.spans();
        spans.retain(|s| s.name == "attempt q" && s.attributes["punctual.outcome"] == outcome);
        assert!(spans.len() < 2, "twice: {spans:#?}");
        spans.pop()
    })
    .await
}

/// The process that did the work is gone without a word; the job is done by another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed() {
    let collector = Collector::start().await;
    let settings = [("JOBS__LEASE", "1s"), ("TASKS__REAPER", "50ms")];
    let server = server_of(&collector, &settings);
    let body = json!({"kind": "k", "queue": "q", "max_attempts": 3});
    let id = submit_from(&server, CALLER, &body).await;
    let mut command = Command::new(binary());
    command.args(["work", "--queue", "q", "--server", &server.base, "--exec"]);
    command.args(["sh", "-c", "exec sleep 3"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut worker = Worker(command.spawn().expect("a worker"));
    let running = server.job_when(&id, |job| job["status"] == "running").await;
    worker.0.kill().expect("SIGKILL");
    let trace = running["attempts"][0]["trace_id"].as_str().expect("a trace").to_owned();

    let lease = server.lease("w2", "q").await;
    assert_eq!((&lease.id, &lease.json["attempt"]), (&id, &json!(2)));
    server.complete(&lease, json!("done")).await;

    let lost = attempt(&collector, "lease_expired").await;
    assert_eq!(
        (lost.trace.as_str(), lost.error.as_deref()),
        (trace.as_str(), Some("lease-expired"))
    );
    assert_eq!(lost.says("error.type"), "lease-expired");
    let done = attempt(&collector, "completed").await;
    let previous = done.link("previous_attempt").expect("a link");
    assert_eq!((&previous.trace, &previous.span), (&lost.trace, &lost.id));
    let publish = collector.one("publish q").await;
    for attempt in [&lost, &done] {
        let creation = attempt.link("creation").expect("a link");
        assert_eq!((creation.trace.as_str(), &creation.span), (TRACE, &publish.id));
    }
    let all = collector.spans();
    let of = |trace: &str| all.iter().filter(|s| s.trace == trace).count();
    assert_eq!((of(&lost.trace), of(&done.trace)), (3, 3), "attempt, wait, process");

    let job = server.job(&id).await;
    let traces: Vec<&str> = job["attempts"]
        .as_array()
        .expect("two")
        .iter()
        .map(|a| a["trace_id"].as_str().expect("one"))
        .collect();
    assert_eq!(traces, [&lost.trace, &done.trace]);
}

/// The server that gave the lease is killed; another process on the same store settles it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_between_claim_and_settlement() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[]);
    let id = submit_from(&server, CALLER, &json!({"kind": "k", "queue": "q"})).await;
    let publish = collector.one("publish q").await;
    let lease = server.lease("w", "q").await;
    let server = server.restart_after_kill();
    server.complete(&lease, json!(1)).await;
    let process = collector.one("process q").await;
    assert_eq!(told(&lease), process.context());
    let attempt = collector.one("attempt q").await;
    let creation = attempt.link("creation").expect("a link");
    assert_eq!((creation.trace.as_str(), &creation.span), (TRACE, &publish.id));
    assert_ne!(
        publish.resource["service.instance.id"], process.resource["service.instance.id"],
        "by another process"
    );
    assert_eq!(server.job(&id).await["attempts"][0]["trace_id"], process.trace.as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_given_back() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[]);
    submit(&server).await;
    let lease = server.lease("w", "q").await;
    server.with_lease("release", &lease, &json!({})).await.is(200);
    let released = attempt(&collector, "released").await;
    assert_eq!(
        (released.error, &released.attributes["punctual.job.status"]),
        (None, &json!("pending"))
    );

    let again = server.lease("leaver", "q").await;
    server.post_nothing("/v1/workers/leaver/goodbye").await.is(204);
    let processes = collector.named("process q", 2).await;
    assert_eq!(told(&again), processes[1].context());
    assert_eq!(processes[1].says("punctual.worker.id"), "leaver");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_cancelled_by_force() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[]);
    let id = submit(&server).await;
    let lease = server.lease("w", "q").await;
    server.post(&format!("/v1/jobs/{id}/cancel"), &json!({"force": true})).await.is(200);
    let cancelled = attempt(&collector, "cancelled").await;
    assert_eq!((cancelled.error, cancelled.trace), (None, parts(&told(&lease)).0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_takes_too_long() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[("TASKS__REAPER", "50ms")]);
    let body = json!({"kind": "k", "queue": "q", "timeout_seconds": 1, "max_attempts": 1});
    server.submit(&body).await;
    server.lease("w", "q").await;
    let late = attempt(&collector, "timed_out").await;
    assert_eq!(late.error.as_deref(), Some("attempt-timeout"));
    assert_eq!(late.says("punctual.job.status"), "failed");
}

/// What the watchdog finds is a span, and the wait that it found knows why it was so long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_was_stuck() {
    let collector = Collector::start().await;
    let settings = [
        ("WATCHDOG__STUCK_AFTER", "1s"),
        ("WATCHDOG__INTERVAL", "100ms"),
        ("TASKS__SAMPLER", "100ms"),
    ];
    let server = server_of(&collector, &settings);
    submit(&server).await;
    let publish = collector.one("publish q").await;
    let scan = collector.one("watchdog scan").await;
    assert_eq!((scan.kind, scan.parent.as_str(), &scan.error), ("internal", "", &None));
    assert_eq!(scan.says("punctual.episodes.opened"), 1);
    assert_eq!(scan.says("punctual.verdicts"), &json!(["no_workers"]));
    assert_eq!(scan.says("punctual.stuck_jobs"), 1);
    let link = scan.link("creation").expect("a link to the job");
    assert_eq!((&link.trace, &link.span), (&publish.trace, &publish.id));

    let lease = server.lease("w", "q").await;
    server.complete(&lease, json!(1)).await;
    let wait = collector.one("wait q").await;
    assert_eq!(wait.says("punctual.verdict"), "no_workers");
    assert!(wait.end - wait.start >= 1_000_000_000, "{wait:?}");
    let scans = collector.named("watchdog scan", 2).await;
    assert_eq!(scans[1].says("punctual.episodes.ended"), 1);
    assert_eq!(scans.len(), 2, "nothing for a look that finds nothing new");
}
