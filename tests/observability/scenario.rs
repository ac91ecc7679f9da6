//! A working day in a few seconds: everything that is counted happens at least once.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::exposed::Names;
use crate::kit::{Lease, Server};
use crate::live;
use crate::server::{binary, until};

/// Everybody who appears in it.
pub const NAMES: Names<'static> = Names {
    queues: &["default", "held", "hung", "late", "mail", "narrow", "stuck", "sync", "work"],
    kinds: &["beat", "fail", "hang", "report", "run", "send", "sync"],
    error_classes: &["attempt-timeout", "boom", "exit-65", "lease-expired"],
};

/// A metric, and labels of its series.
type Moved = (&'static str, &'static [(&'static str, &'static str)]);

/// What is above 0 afterwards, or the scenario does not do what it says.
pub const MOVED: &[Moved] = &[
    ("punctual_job_submissions_total", &[("queue", "mail"), ("outcome", "accepted")]),
    ("punctual_job_submissions_total", &[("queue", "mail"), ("outcome", "replayed")]),
    ("punctual_job_submissions_total", &[("queue", "mail"), ("outcome", "too_large")]),
    ("punctual_job_submissions_total", &[("queue", "_none"), ("outcome", "invalid")]),
    ("punctual_job_submissions_total", &[("queue", "sync"), ("outcome", "completed_sync")]),
    ("punctual_job_payload_bytes_count", &[]),
    ("punctual_claim_requests_total", &[("queue", "mail"), ("outcome", "leased")]),
    ("punctual_claim_requests_total", &[("queue", "mail"), ("outcome", "empty")]),
    ("punctual_claim_requests_total", &[("queue", "held"), ("outcome", "paused")]),
    ("punctual_claim_requests_total", &[("queue", "narrow"), ("outcome", "limited")]),
    ("punctual_attempts_started_total", &[("queue", "mail")]),
    ("punctual_heartbeats_total", &[("queue", "mail"), ("outcome", "extended")]),
    ("punctual_heartbeats_total", &[("queue", "late"), ("outcome", "lost")]),
    ("punctual_leases_taken_back_total", &[("queue", "late"), ("cause", "worker_silent")]),
    ("punctual_leases_taken_back_total", &[("queue", "hung"), ("cause", "hard_timeout")]),
    ("punctual_late_reports_rejected_total", &[("reason", "already_reported")]),
    ("punctual_late_reports_rejected_total", &[("reason", "job_already_finished")]),
    ("punctual_late_reports_rejected_total", &[("reason", "lease_expired")]),
    ("punctual_attempts_finished_total", &[("queue", "mail"), ("outcome", "completed")]),
    ("punctual_attempts_finished_total", &[("queue", "mail"), ("outcome", "failed")]),
    ("punctual_attempts_finished_total", &[("queue", "mail"), ("outcome", "released")]),
    ("punctual_attempts_finished_total", &[("queue", "mail"), ("outcome", "cancelled")]),
    ("punctual_attempts_finished_total", &[("queue", "late"), ("outcome", "lease_expired")]),
    ("punctual_attempts_finished_total", &[("queue", "hung"), ("outcome", "timed_out")]),
    ("punctual_attempts_finished_by_kind_total", &[("kind", "run"), ("outcome", "failed")]),
    ("punctual_attempt_errors_total", &[("error_class", "boom")]),
    ("punctual_attempt_errors_total", &[("error_class", "exit-65")]),
    ("punctual_attempt_errors_total", &[("error_class", "lease-expired")]),
    ("punctual_attempt_errors_total", &[("error_class", "attempt-timeout")]),
    ("punctual_retries_scheduled_total", &[("queue", "mail")]),
    ("punctual_job_wait_seconds_count", &[("queue", "mail")]),
    ("punctual_job_run_seconds_count", &[("queue", "mail"), ("outcome", "completed")]),
    ("punctual_job_run_seconds_count", &[("queue", "mail"), ("outcome", "failed")]),
    ("punctual_job_end_to_end_seconds_count", &[("status", "completed")]),
    ("punctual_job_end_to_end_seconds_count", &[("status", "failed")]),
    ("punctual_job_end_to_end_seconds_count", &[("status", "cancelled")]),
    ("punctual_jobs_finished_total", &[("queue", "mail"), ("status", "completed")]),
    ("punctual_jobs_finished_total", &[("queue", "mail"), ("status", "failed")]),
    ("punctual_jobs_finished_total", &[("queue", "mail"), ("status", "cancelled")]),
    ("punctual_jobs_expired_total", &[]),
    ("punctual_retry_after_offset_seconds_count", &[("direction", "early")]),
    ("punctual_retry_after_offset_seconds_count", &[("direction", "late")]),
    ("punctual_status_polls_total", &[("timing", "early")]),
    ("punctual_status_polls_total", &[("timing", "due")]),
    ("punctual_status_polls_total", &[("timing", "finished")]),
    ("punctual_jobs", &[("queue", "narrow"), ("state", "running")]),
    ("punctual_jobs", &[("queue", "work"), ("state", "completed")]),
    ("punctual_queue_depth", &[("queue", "narrow")]),
    ("punctual_queue_pending_jobs", &[("queue", "default"), ("reason", "scheduled")]),
    ("punctual_queue_pending_jobs", &[("queue", "mail"), ("reason", "retry_backoff")]),
    ("punctual_queue_pending_jobs", &[("queue", "held"), ("reason", "queue_paused")]),
    ("punctual_queue_pending_jobs", &[("queue", "stuck"), ("reason", "no_workers")]),
    ("punctual_queue_pending_jobs", &[("queue", "narrow"), ("reason", "concurrency_limited")]),
    ("punctual_queue_oldest_pending_age_seconds", &[("queue", "stuck")]),
    ("punctual_queue_oldest_running_age_seconds", &[("queue", "narrow")]),
    ("punctual_queue_stuck_jobs", &[("queue", "stuck"), ("verdict", "no_workers")]),
    ("punctual_queue_stuck_jobs", &[("queue", "narrow"), ("verdict", "concurrency_limited")]),
    ("punctual_queue_drain_estimate_seconds", &[("queue", "stuck")]),
    ("punctual_queue_max_running", &[("queue", "narrow")]),
    ("punctual_queue_paused", &[("queue", "held")]),
    ("punctual_workers", &[("queue", "work"), ("state", "idle")]),
    ("punctual_workers", &[("queue", "narrow"), ("state", "busy")]),
    ("punctual_worker_slots", &[("queue", "work"), ("state", "idle")]),
    ("punctual_worker_slots", &[("queue", "narrow"), ("state", "busy")]),
    ("punctual_watchdog_stuck_jobs_detected_total", &[("verdict", "no_workers")]),
    ("punctual_task_runs_total", &[("task", "watchdog"), ("outcome", "ok")]),
    ("punctual_task_runs_total", &[("task", "canary"), ("outcome", "ok")]),
    ("punctual_canary_last_success_timestamp_seconds", &[]),
    ("punctual_canary_duration_seconds_count", &[]),
    ("punctual_leader", &[]),
    ("punctual_runtime_scheduling_delay_seconds_count", &[]),
    ("process_cpu_seconds_total", &[]),
    ("punctual_store_operation_duration_seconds_count", &[("operation", "settle")]),
    ("punctual_store_commit_batch_jobs_count", &[]),
    ("punctual_log_events_total", &[("level", "info")]),
    ("punctual_log_events_total", &[("level", "warn")]),
    ("http_server_request_duration_seconds_count", &[("http_route", "/v1/settlements")]),
    ("http_server_request_duration_seconds_count", &[("http_route", "_unmatched")]),
];

pub fn server() -> Server {
    server_with(&[])
}

/// With more settings.
pub fn server_with(more: &[(&str, &str)]) -> Server {
    // Declared ones show before their first job, others with it.
    let file = "[queues.narrow]\nmax_running = 1\n[queues.mail]\nretention.cancelled = \"1s\"\n";
    let settings = [
        ("JOBS__SYNC_WINDOW", "20s"),
        ("JOBS__MAX_PAYLOAD_BYTES", "2000"),
        ("TASKS__REAPER", "50ms"),
        ("TASKS__RETENTION", "50ms"),
    ];
    live::start(file, &[&settings, more].concat())
}

/// The real worker, killed at the end.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub async fn play(server: &Server) {
    let worker = working(server).await;
    submissions(server).await;
    attempts(server).await;
    late_reports(server).await;
    hard_timeout(server).await;
    queues(server).await;
    advice(server).await;
    // Presence outlives it, so that its series are still there.
    drop(worker);
}

async fn working(server: &Server) -> Worker {
    let script = server.dir.path().join("work.sh");
    std::fs::write(&script, "test \"$(cat)\" != '\"bad\"' || exit 65\n").expect("a script");
    let mut command = Command::new(binary());
    command.args(["work", "--queue", "work", "--exec", "sh"]).arg(script);
    command.env("PUNCTUAL_URL", &server.base).current_dir(server.dir.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let worker = Worker(command.spawn().expect("the worker"));
    let good = server.submit(&json!({"kind": "run", "queue": "work", "payload": "good"})).await;
    let bad = server.submit(&json!({"kind": "run", "queue": "work", "payload": "bad"})).await;
    assert_eq!(server.job_done(&good).await["status"], "completed");
    assert_eq!(server.job_done(&bad).await["error"]["type"], "exit-65");
    worker
}

async fn submissions(server: &Server) {
    let key = [("Idempotency-Key", "k"), ("Prefer", "respond-async")];
    let later = json!({"kind": "later", "delay_seconds": 600});
    for _ in 0..2 {
        server.post_with("/v1/jobs", &later, &key).await.is(202);
    }
    let mail = |payload: Value| json!({"kind": "send", "queue": "mail", "payload": payload});
    let key = [("Idempotency-Key", "m"), ("Prefer", "respond-async")];
    let once = server.post_with("/v1/jobs", &mail(json!(1)), &key).await.is(202).id();
    server.post_with("/v1/jobs", &mail(json!(1)), &key).await.is(202);
    server.post("/v1/jobs", &mail(json!("x".repeat(2_000)))).await.is(413);
    server.post_text("/v1/jobs", "{").await.is(400);
    let claim = json!({"worker_id": "s", "queues": ["sync"], "wait_seconds": 50});
    let worker = server.parked(claim).await;
    let held = server.posting("/v1/jobs", json!({"kind": "sync", "queue": "sync"}), &[]);
    let lease = Lease::of(&worker.await.expect("one").is(200).json["jobs"][0]);
    server.complete(&lease, json!(1)).await;
    held.await.expect("one").is(200);
    server.get("/no/such/page").await.is(404);
    // Out of the way again, and gone at the end of its retention.
    server.post_nothing(&format!("/v1/jobs/{once}/cancel")).await.is(200);
}

/// Every way in which an attempt that is under control ends.
async fn attempts(server: &Server) {
    let kinds = ["beat", "beat", "fail", "fail", "send", "send"];
    for kind in kinds {
        server.submit(&json!({"kind": kind, "queue": "mail"})).await;
    }
    let body = json!({"worker_id": "m", "queues": ["mail"], "max_jobs": kinds.len()});
    let claimed = server.claims(&body).await;
    let leases: Vec<Lease> =
        claimed["jobs"].as_array().expect("jobs").iter().map(Lease::of).collect();
    assert_eq!(leases.len(), kinds.len());
    server.claims(&json!({"worker_id": "m", "queues": ["mail"]})).await;
    server.with_lease("heartbeat", &leases[0], &json!({})).await.is(200);
    server.complete(&leases[0], json!("sent")).await;
    let settled = json!({"worker_id": "m", "settlements": [
        {"job_id": leases[1].id, "lease_token": leases[1].token, "outcome": "completed"},
    ]});
    server.post("/v1/settlements", &settled).await.is(200);
    server.fail(&leases[2], json!({"retryable": false})).await;
    server.fail(&leases[3], json!({"retry_after_seconds": 600})).await;
    server.with_lease("release", &leases[4], &json!({"delay_seconds": 600})).await.is(200);
    let force = json!({"force": true});
    server.post(&format!("/v1/jobs/{}/cancel", leases[5].id), &force).await.is(200);
    // Too late, and no repetition.
    let error = json!({"error": {"type": "t", "message": "m"}});
    server.with_lease("fail", &leases[0], &error).await.is(409);
}

/// A worker that falls silent, loses its lease, and comes back.
async fn late_reports(server: &Server) {
    let last = server.submit(&json!({"kind": "report", "queue": "late", "max_attempts": 1})).await;
    let silent = json!({"worker_id": "l", "queues": ["late"], "lease_seconds": 1});
    let lease = server.lease_by(&silent).await;
    assert_eq!(server.job_done(&last).await["status"], "failed");
    server.with_lease("heartbeat", &lease, &json!({})).await.problem(409, "job-already-finished");
    let again = server.submit(&json!({"kind": "report", "queue": "late"})).await;
    let lease = server.lease_by(&silent).await;
    server.job_when(&again, |job| job["status"] == "pending").await;
    server.with_lease("heartbeat", &lease, &json!({})).await.problem(409, "lease-expired");
}

/// Heartbeats do not help for ever.
async fn hard_timeout(server: &Server) {
    let job = json!({"kind": "hang", "queue": "hung", "timeout_seconds": 1, "max_attempts": 1});
    let id = server.submit(&job).await;
    let lease = server.lease("h", "hung").await;
    until("the hard timeout", || async {
        let beat = server.with_lease("heartbeat", &lease, &json!({})).await;
        (beat.status == 409).then_some(())
    })
    .await;
    assert_eq!(server.job(&id).await["error"]["type"], "attempt-timeout");
}

/// Queues in which jobs wait, each for a reason of its own.
async fn queues(server: &Server) {
    server.submit(&json!({"kind": "held", "queue": "held"})).await;
    let pause = |verb: &str| format!("/v1/queues/held/{verb}");
    for verb in ["pause", "resume", "pause"] {
        server.post_nothing(&pause(verb)).await.is(200);
    }
    server.claims(&json!({"worker_id": "p", "queues": ["held"]})).await;
    server.submit(&json!({"kind": "nobody", "queue": "stuck"})).await;
    for _ in 0..2 {
        server.submit(&json!({"kind": "run", "queue": "narrow"})).await;
    }
    // Held for longer than anybody looks.
    let claim = json!({"worker_id": "n", "queues": ["narrow"], "lease_seconds": 3_600});
    server.lease_by(&claim).await;
    server.claims(&json!({"worker_id": "n2", "queues": ["narrow"]})).await;
}

/// Clients who come too soon, in time, and when all is over; a job that takes longer than was said.
async fn advice(server: &Server) {
    let job = json!({"kind": "send", "queue": "mail"});
    let accepted = server.post_with("/v1/jobs", &job, &[("Prefer", "respond-async")]).await.is(202);
    let path = format!("/v1/jobs/{}", accepted.id());
    let soon = server.get(&path).await.is(200).retry_after();
    let held = format!("wait={soon}");
    let told = server.get_with(&path, &[("Prefer", &held)]).await.is(200).retry_after();
    // As good as a clock: a job that nothing happens to is asked for until that moment is over.
    let idle = server.submit(&json!({"kind": "idle", "queue": "held"})).await;
    let held = format!("wait={}", told + 1);
    server.get_with(&format!("/v1/jobs/{idle}"), &[("Prefer", &held)]).await.is(200);
    let lease = server.lease("m", "mail").await;
    server.complete(&lease, json!("sent")).await;
    server.get(&path).await.is(200);
}
