//! The server's own job: it comes back, it tells when it does not, and nobody sees it.

use std::path::Path;

use serde_json::{Value, json};

use crate::kit::Server;
use crate::lifecycle::HALF;
use crate::server::until;
use crate::wire::Wire;

/// Everything that could hide a canary runs as often as it can.
const BUSY: &[(&str, &str)] = &[
    ("TASKS__CANARY", "100ms"),
    ("TASKS__SAMPLER", "50ms"),
    ("TASKS__RECONCILE", "50ms"),
    ("TASKS__RETENTION", "50ms"),
    ("WATCHDOG__INTERVAL", "100ms"),
    ("WATCHDOG__STUCK_AFTER", "1s"),
];

const CAME_BACK: &str = "punctual_canary_duration_seconds_count";
const FAILED: &str = "punctual_canary_failures_total";
const LAST: &str = "punctual_canary_last_success_timestamp_seconds";

/// Waits until a metric has grown by so much.
async fn more(server: &Server, metric: &str, by: f64) {
    let before = server.metrics().await.sum(metric, &[]);
    until(metric, || async {
        (server.metrics().await.sum(metric, &[]) >= before + by).then_some(())
    })
    .await;
}

async fn canary_task(server: &Server) -> Option<Value> {
    let tasks = server.get("/v1/tasks").await.is(200).json;
    tasks["tasks"].as_array().expect("tasks").iter().find(|t| t["task"] == "canary").cloned()
}

fn order(file: &Path, what: &str) {
    // Moved into its place, so that no half of it is ever read.
    let draft = file.with_extension("draft");
    std::fs::write(&draft, format!("{what}\n")).expect("the drill");
    std::fs::rename(draft, file).expect("the drill");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_comes_back_and_leaves_no_trace() {
    let server = Server::with(BUSY);
    more(&server, CAME_BACK, 3.0).await;
    // A pause and a limit of others are none of its business, and it is none of theirs.
    let id = server.submit(&json!({"kind": "k", "queue": "held"})).await;
    server.post_nothing("/v1/queues/held/pause").await.is(200);
    let parked = server.parked(json!({"worker_id": "w", "queues": ["idle"], "wait_seconds": 50}));
    let parked = parked.await;
    more(&server, CAME_BACK, 5.0).await;
    assert!(!parked.is_finished(), "a canary woke somebody");

    let listed = server.get("/v1/jobs").await.is(200).json;
    let ids: Vec<&Value> =
        listed["jobs"].as_array().expect("jobs").iter().map(|job| &job["job_id"]).collect();
    assert_eq!(ids, [&json!(id)]);
    let all: Value = server.get("/v1/queues").await.is(200).json;
    let queues: Vec<&Value> =
        all["queues"].as_array().expect("queues").iter().map(|queue| &queue["name"]).collect();
    assert_eq!(queues, [&json!("held")]);
    let workers = server.get("/v1/workers").await.is(200).json;
    let workers = workers["workers"].as_array().expect("workers").iter();
    assert_eq!(workers.map(|w| &w["worker_id"]).collect::<Vec<_>>(), [&json!("w")]);
    for open in ["true", "false"] {
        let episodes = server.get(&format!("/v1/episodes?open={open}")).await.is(200).json;
        assert_eq!(episodes["episodes"], json!([]));
    }
    for hidden in ["_canary", "_"] {
        server.get(&format!("/v1/queues/{hidden}")).await.problem(404, "no-such-queue");
        server.get(&format!("/v1/queues/{hidden}/explain")).await.problem(404, "no-such-queue");
    }

    let text = String::from_utf8(server.get("/metrics").await.is(200).bytes).expect("text");
    assert!(!text.contains("_canary\"") && !text.contains("system."), "{text}");
    let metrics = server.metrics().await;
    for (metric, value) in [
        ("punctual_job_submissions_total", 1),
        ("punctual_job_payload_bytes_count", 1),
        ("punctual_attempts_started_total", 0),
        ("punctual_attempts_finished_total", 0),
        ("punctual_attempts_finished_by_kind_total", 0),
        ("punctual_claim_requests_total", 0),
        ("punctual_job_wait_seconds_count", 0),
        ("punctual_job_end_to_end_seconds_count", 0),
        ("punctual_jobs_finished_total", 0),
        ("punctual_jobs_expired_total", 0),
        ("punctual_jobs_lost_total", 0),
        ("punctual_label_overflow_total", 0),
        ("punctual_retry_after_offset_seconds_count", 0),
        ("punctual_status_polls_total", 0),
        ("punctual_jobs", 1),
        ("punctual_count_drift_jobs", 0),
        (FAILED, 0),
    ] {
        assert_eq!(metrics.sum(metric, &[]) as i64, value, "{metric}");
    }
    // Between two of them nothing of it is in the file, except its names and counters at 0.
    let store = rusqlite::Connection::open(server.store()).expect("the file");
    until("the file without a canary", || async {
        let rows = "SELECT (SELECT count(*) FROM job_specs) + (SELECT count(*) FROM tombstones) \
                    + (SELECT count(*) FROM finished_jobs) + (SELECT sum(jobs) FROM job_counts)";
        // What is there is the one job, and its count.
        (store.query_row(rows, [], |r| r.get::<_, i64>(0)) == Ok(2)).then_some(())
    })
    .await;
    // Nor does the file grow by them.
    let pages = || store.query_row("PRAGMA page_count", [], |r| r.get::<_, i64>(0)).expect("one");
    let before = pages();
    more(&server, CAME_BACK, 20.0).await;
    assert_eq!(pages(), before);
    assert!(!server.process.log().contains("counters differ"), "{}", server.process.log());
    parked.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_that_does_not_come_back_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("drill");
    let settings = [BUSY, &[("DRILL_FILE", file.to_str().expect("a path"))]].concat();
    let server = Server::with(&settings);
    more(&server, CAME_BACK, 1.0).await;
    for (mishap, outcome) in [("error", "error"), ("panic", "panic"), ("hang", "error")] {
        let outcome = format!("outcome=\"{outcome}\"");
        let labels = ["task=\"canary\"", outcome.as_str()];
        let runs = server.metrics().await.sum("punctual_task_runs_total", &labels);
        order(&file, &format!("canary {mishap}"));
        more(&server, FAILED, 1.0).await;
        until("the run to be counted", || async {
            let metrics = server.metrics().await;
            (metrics.sum("punctual_task_runs_total", &labels) > runs).then_some(())
        })
        .await;
        let last = server.metrics().await.sum(LAST, &[]);
        assert!(last > 0.0, "{mishap}");
        std::fs::remove_file(&file).expect("the drill");
        more(&server, CAME_BACK, 1.0).await;
        assert!(server.metrics().await.sum(LAST, &[]) > last, "{mishap}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_takes_no_more_jobs_takes_no_canary() {
    let server =
        Server::with(&[("TASKS__CANARY", "100ms"), ("STORE__MIN_FREE", "1000000000000000")]);
    let began = server.metrics().await.sum("process_start_time_seconds", &[]);
    more(&server, FAILED, 2.0).await;
    let metrics = server.metrics().await;
    assert_eq!(metrics.sum(CAME_BACK, &[]) as i64, 0);
    // From the start of the process on it counts as missing.
    assert!((metrics.sum(LAST, &[]) - began).abs() < 60.0, "{began}");
    assert_eq!(metrics.sum("punctual_store_degraded", &[]) as i64, 0);
    let task = canary_task(&server).await.expect("the task");
    assert!(task["detail"].as_str().expect("why").contains("takes no more jobs"), "{task}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_canary_where_none_is_wanted() {
    let server = Server::with(&[("TASKS__CANARY", "off"), ("TASKS__SAMPLER", "50ms")]);
    more(&server, "punctual_state_sample_duration_seconds_count", 3.0).await;
    let text = String::from_utf8(server.get("/metrics").await.is(200).bytes).expect("text");
    assert!(!text.contains(&format!("\n{LAST}")), "{text}");
    assert_eq!(server.metrics().await.sum(FAILED, &[]) as i64, 0);
    assert_eq!(canary_task(&server).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_drains_leads_no_more_and_sends_no_canary() {
    let server = Server::with(&[("TASKS__CANARY", "100ms"), ("SERVER__SHUTDOWN_GRACE", "1h")]);
    more(&server, CAME_BACK, 1.0).await;
    assert_eq!(server.metrics().await.sum("punctual_leader", &[]) as i64, 1);
    // A request whose body is on its way holds the drain up.
    let mut slow = Wire::connect(server.port());
    slow.send(HALF);
    server.in_flight("POST", 1).await;
    server.process.signal("TERM");
    until("the canary to stop", || async {
        let detail = canary_task(&server).await?["detail"].clone();
        (detail == "none is sent while draining").then_some(())
    })
    .await;
    let metrics = server.metrics().await;
    assert_eq!((metrics.sum("punctual_leader", &[]), metrics.sum(FAILED, &[])), (0.0, 0.0));
    drop(slow);
    server.process.signal("INT");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_the_servers_own_cannot_be_named() {
    let server = Server::start();
    let batch = json!({"jobs": [{"kind": "a"}, {"kind": "system.canary", "queue": "_canary"}]});
    let wrong = ["/jobs/1/kind pattern", "/jobs/1/queue pattern"];
    server.post("/v1/jobs/batch", &batch).await.wrong(&wrong);
    let job = json!({"kind": "system", "queue": "_canary"});
    server.post("/v1/jobs", &job).await.wrong(&["/kind pattern", "/queue pattern"]);
    let claim = json!({"worker_id": "w", "queues": ["q", "_canary"], "kinds": ["system.canary"]});
    let wrong = ["/queues/1 pattern", "/kinds/0 pattern"];
    server.post("/v1/claims", &claim).await.wrong(&wrong);
    let wrong = ["/claim/queues/1 pattern", "/claim/kinds/0 pattern"];
    let settle = json!({"worker_id": "w", "settlements": [],
                        "claim": claim});
    server.post("/v1/settlements", &settle).await.wrong(&wrong);
    for what in ["jobs", "episodes"] {
        for filter in ["queue=_canary", "kind=system.canary", "kind=system"] {
            server.get(&format!("/v1/{what}?{filter}")).await.problem(400, "invalid-query");
        }
        server.get(&format!("/v1/{what}?kind=systemic")).await.is(200);
    }
    server.post_nothing("/v1/queues/_canary/pause").await.problem(404, "no-such-queue");
    server.is_alive().await;
}
