//! The metrics after a story whose every number is known.

use std::cell::Cell;
use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::json;

use crate::kit::{Lease, Metrics, Server};
use crate::server::until;
use crate::wire::{Wire, post};

#[track_caller]
fn is(metrics: &Metrics, metric: &str, labels: &[&str], expected: u64) {
    let found = metrics.sum(metric, labels);
    assert!((found - expected as f64).abs() < 0.5, "{metric} {labels:?}: {found}, not {expected}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_submission_has_exactly_one_outcome() {
    let server = Server::with(&[("JOBS__SYNC_WINDOW", "20s"), ("JOBS__MAX_PAYLOAD_BYTES", "2000")]);
    let mut expected = BTreeMap::<&str, u64>::new();
    let requests = Cell::new(0);
    let mut count = |outcome: &'static str, jobs: u64| {
        *expected.entry(outcome).or_default() += jobs;
        requests.set(requests.get() + 1);
    };
    let a = json!({"kind": "a"});
    for _ in 0..3 {
        server.post("/v1/jobs", &a).await.is(202);
        count("accepted", 1);
    }
    let key = [("Idempotency-Key", "k")];
    server.post_with("/v1/jobs", &a, &key).await.is(202);
    count("accepted", 1);
    for _ in 0..2 {
        server.post_with("/v1/jobs", &a, &key).await.is(202);
        count("replayed", 1);
    }
    server.post_with("/v1/jobs", &json!({"kind": "b"}), &key).await.is(422);
    count("invalid", 1);
    for body in ["", "{", "[]", "{}", r#"{"kind":"A"}"#, r#"{"kind":"a","x":1,"queue":"q"}"#] {
        let reply = server.post_text("/v1/jobs", body).await;
        assert!(matches!(reply.status, 400 | 422), "{}", reply.status);
        count("invalid", 1);
    }
    let plain = server.request(Method::POST, "/v1/jobs").body("{}");
    server.send(plain).await.is(415);
    count("invalid", 1);
    server.post_with("/v1/jobs", &a, &[("Idempotency-Key", "\"open")]).await.is(400);
    count("invalid", 1);
    server.post("/v1/jobs", &json!({"kind": "a", "payload": "x".repeat(2_000)})).await.is(413);
    count("too_large", 1);
    server.post_text("/v1/jobs", vec![b' '; (16 << 20) + 1]).await.is(413);
    count("too_large", 1);

    // Done while it is held.
    let claim = json!({"worker_id": "s", "queues": ["sync"], "wait_seconds": 50});
    let worker = server.parked(claim).await;
    let held = server.posting("/v1/jobs", json!({"kind": "s", "queue": "sync"}), &[]);
    let lease = Lease::of(&worker.await.expect("one").is(200).json["jobs"][0]);
    server.complete(&lease, json!(1)).await;
    held.await.expect("one").is(200);
    count("completed_sync", 1);
    // Gone by the time of its replay.
    let gone = [("Idempotency-Key", "gone")];
    let id = server.post_with("/v1/jobs", &json!({"kind": "g"}), &gone).await.is(202).id();
    count("accepted", 1);
    server.post_nothing(&format!("/v1/jobs/{id}/cancel")).await.is(200);
    server.delete(&format!("/v1/jobs/{id}")).await.is(204);
    server.post_with("/v1/jobs", &json!({"kind": "g"}), &gone).await.is(410);
    count("invalid", 1);
    let answered = requests.get();

    // Whoever hangs up while held was accepted all the same.
    let mut leaves = Wire::connect(server.port());
    leaves.send(post("/v1/jobs", "Prefer: wait=50\r\n", r#"{"kind":"l","queue":"left"}"#));
    let left = server.lease("w", "left").await;
    drop(leaves);
    server.in_flight("POST", 0).await;
    count("accepted", 1);
    server.complete(&left, json!(1)).await;

    // Batches count by jobs.
    let batch =
        json!({"jobs": [{"kind": "a"}, {"kind": "a", "idempotency_key": "k"}, {"kind": "c"}]});
    server.post("/v1/jobs/batch", &batch).await.is(202);
    count("accepted", 2);
    count("replayed", 1);
    let batch = json!({"jobs": [{"kind": "a"}, {"kind": "b", "idempotency_key": "k"}]});
    server.post("/v1/jobs/batch", &batch).await.is(422);
    count("invalid", 2);
    let batch = json!({"jobs": [{"kind": "a"}, {"kind": "B"}, {"kind": "c"}]});
    server.post("/v1/jobs/batch", &batch).await.is(422);
    count("invalid", 3);
    server.post_text("/v1/jobs/batch", "[").await.is(400);
    count("invalid", 1);

    let metrics = until("the one who left to be counted", || async {
        let metrics = server.metrics().await;
        let left = metrics.sum("punctual_job_submissions_total", &["queue=\"left\""]);
        (left > 0.5).then_some(metrics)
    })
    .await;
    for (outcome, jobs) in &expected {
        let label = format!("outcome=\"{outcome}\"");
        is(&metrics, "punctual_job_submissions_total", &[&label], *jobs);
    }
    let all: u64 = expected.values().sum();
    is(&metrics, "punctual_job_submissions_total", &[], all);
    // As many as there were answers.
    let posts = ["http_route=\"/v1/jobs\"", "http_request_method=\"POST\""];
    is(&metrics, "http_server_request_duration_seconds_count", &posts, answered);
    // Only what made a job has a payload that was accepted.
    let accepted = expected["accepted"] + expected["completed_sync"];
    is(&metrics, "punctual_job_payload_bytes_count", &[], accepted);
    // Refusals whose queue is known count there.
    is(&metrics, "punctual_job_submissions_total", &["queue=\"q\"", "outcome=\"invalid\""], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_story_of_ten_jobs_in_numbers() {
    let server = Server::with(&[("TASKS__SAMPLER", "100ms"), ("TASKS__REAPER", "100ms")]);
    let (q, other) = ("queue=\"q\"", "queue=\"other\"");
    for n in 0..10 {
        server.submit(&json!({"kind": "a", "queue": "q", "payload": n, "max_attempts": 2})).await;
    }
    server.submit(&json!({"kind": "a", "queue": "q", "delay_seconds": 600})).await;
    server.submit(&json!({"kind": "a", "queue": "other"})).await;
    let claim = |members: serde_json::Value| {
        let mut body = json!({"worker_id": "w", "queues": ["q"]});
        body.as_object_mut().expect("one").extend(members.as_object().expect("one").clone());
        body
    };
    let batch = server.claims(&claim(json!({"max_jobs": 7}))).await;
    let leases: Vec<Lease> =
        batch["jobs"].as_array().expect("jobs").iter().map(Lease::of).collect();
    // Two complete, one fails for good, one is retried, one is released, one is cancelled by
    // force, one runs on; one more dies twice.
    server.complete(&leases[0], json!(0)).await;
    server.complete(&leases[1], json!(1)).await;
    server.fail(&leases[2], json!({"retryable": false})).await;
    server.fail(&leases[3], json!({"retry_after_seconds": 600})).await;
    server.with_lease("release", &leases[4], &json!({"delay_seconds": 600})).await.is(200);
    let force = json!({"force": true});
    server.post(&format!("/v1/jobs/{}/cancel", leases[5].id), &force).await.is(200);
    server.with_lease("heartbeat", &leases[6], &json!({})).await.is(200);
    server.with_lease("heartbeat", &leases[6], &json!({"extend_seconds": 3_600})).await.is(200);
    let pending = batch.clone();
    drop(pending);
    let dying = server.lease_by(&claim(json!({"lease_seconds": 1}))).await;
    server.job_when(&dying.id, |job| job["status"] == "pending").await;
    // Back in the queue it stands behind the two that are left.
    let three = server.claims(&claim(json!({"max_jobs": 3, "lease_seconds": 1}))).await;
    let three: Vec<Lease> = three["jobs"].as_array().expect("jobs").iter().map(Lease::of).collect();
    assert_eq!(three[2].id, dying.id);
    server.complete(&three[0], json!(0)).await;
    server.with_lease("release", &three[1], &json!({})).await.is(200);
    let dead = server.job_done(&dying.id).await;
    assert_eq!(dead["status"], "failed");
    // A heartbeat that its own report has overtaken is nobody's loss.
    server
        .with_lease("heartbeat", &leases[1], &json!({}))
        .await
        .problem(409, "job-already-finished");
    // Late reports, and claims that find nothing.
    server.with_lease("heartbeat", &dying, &json!({})).await.problem(409, "job-already-finished");
    server.with_lease("complete", &leases[0], &json!({"result": 0})).await.is(200);
    server
        .with_lease("fail", &leases[0], &json!({"error": {"type": "t", "message": "m"}}))
        .await
        .is(409);
    server.claims(&claim(json!({"queues": ["none", "q"], "kinds": ["b"]}))).await;
    server.post_nothing("/v1/queues/other/pause").await.is(200);
    server.claims(&claim(json!({"queues": ["other"]}))).await;

    let metrics = until("a sample, and the late reports", || async {
        let metrics = server.metrics().await;
        let sampled = metrics.sum("punctual_jobs", &[q, "state=\"failed\""]) > 1.5
            && metrics.sum("punctual_queue_paused", &[other]) > 0.5
            && metrics.sum("punctual_late_reports_rejected_total", &[q]) > 1.5;
        sampled.then_some(metrics)
    })
    .await;
    for (metric, labels, expected) in [
        ("punctual_job_submissions_total", &[q, "outcome=\"accepted\""][..], 11),
        ("punctual_attempts_started_total", &[q], 7 + 1 + 3),
        ("punctual_job_wait_seconds_count", &[q], 11),
        ("punctual_attempts_finished_total", &[q, "outcome=\"completed\""], 3),
        ("punctual_attempts_finished_total", &[q, "outcome=\"failed\""], 2),
        ("punctual_attempts_finished_total", &[q, "outcome=\"released\""], 2),
        ("punctual_attempts_finished_total", &[q, "outcome=\"cancelled\""], 1),
        ("punctual_attempts_finished_total", &[q, "outcome=\"lease_expired\""], 2),
        ("punctual_attempts_finished_total", &[q], 10),
        ("punctual_job_run_seconds_count", &[q, "outcome=\"completed\""], 3),
        ("punctual_job_run_seconds_count", &[q, "outcome=\"failed\""], 2),
        ("punctual_jobs_finished_total", &[q, "status=\"completed\""], 3),
        ("punctual_jobs_finished_total", &[q, "status=\"failed\""], 2),
        ("punctual_jobs_finished_total", &[q, "status=\"cancelled\""], 1),
        ("punctual_job_end_to_end_seconds_count", &[q], 6),
        ("punctual_retries_scheduled_total", &[q], 2),
        ("punctual_leases_taken_back_total", &[q, "cause=\"worker_silent\""], 2),
        ("punctual_heartbeats_total", &[q, "outcome=\"extended\""], 2),
        ("punctual_heartbeats_total", &[q, "outcome=\"lost\""], 1),
        ("punctual_late_reports_rejected_total", &[q, "reason=\"job_already_finished\""], 1),
        ("punctual_late_reports_rejected_total", &[q, "reason=\"already_reported\""], 1),
        ("punctual_claim_requests_total", &[q, "outcome=\"leased\""], 3),
        ("punctual_claim_requests_total", &[q, "outcome=\"empty\""], 1),
        ("punctual_claim_requests_total", &["queue=\"none\"", "outcome=\"empty\""], 1),
        ("punctual_claim_requests_total", &[other, "outcome=\"paused\""], 1),
        ("punctual_jobs", &[q, "state=\"pending\""], 4),
        ("punctual_jobs", &[q, "state=\"running\""], 1),
        ("punctual_jobs", &[q, "state=\"completed\""], 3),
        ("punctual_jobs", &[q, "state=\"failed\""], 2),
        ("punctual_jobs", &[q, "state=\"cancelled\""], 1),
        ("punctual_queue_depth", &[q], 1),
        ("punctual_queue_depth", &[other], 1),
        ("punctual_queue_pending_jobs", &[q, "reason=\"queued\""], 1),
        ("punctual_queue_pending_jobs", &[q, "reason=\"scheduled\""], 2),
        ("punctual_queue_pending_jobs", &[q, "reason=\"retry_backoff\""], 1),
        ("punctual_queue_pending_jobs", &[other, "reason=\"queue_paused\""], 1),
        ("punctual_queue_paused", &[q], 0),
        ("punctual_queue_paused", &[other], 1),
        ("punctual_queue_oldest_pending_age_seconds", &[other], 0),
        ("punctual_jobs_lost_total", &[], 0),
        ("punctual_count_drift_jobs", &[], 0),
        ("punctual_jobs_expired_total", &[], 0),
    ] {
        is(&metrics, metric, labels, expected);
    }
    let age = metrics.sum("punctual_queue_oldest_pending_age_seconds", &[q]);
    assert!(age > 0.0, "somebody waits: {age}");
    let queue = server.get("/v1/queues/q").await.is(200).json;
    let jobs = json!({"eligible": 1, "scheduled": 2, "retry_backoff": 1, "running": 1});
    assert_eq!(queue["jobs"], jobs, "the API says the same");
    assert!(
        metrics.sum("punctual_store_operation_duration_seconds_count", &["operation=\"submit\""])
            >= 12.0
    );
    for task in ["sampler", "reaper", "scheduler", "retention", "reconcile", "presence", "watchdog"]
    {
        let label = format!("task=\"{task}\"");
        let ok = metrics.sum("punctual_task_runs_total", &[&label, "outcome=\"ok\""]);
        assert!(ok > 0.5, "{task} never ran well");
        assert!(metrics.sum("punctual_task_last_success_timestamp_seconds", &[&label]) > 1e9);
    }
}
