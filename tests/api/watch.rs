//! Why is it not moving: explain, episodes, and what a job's own state and story say of it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::in_millis;
use crate::jobs::is_moment;
use crate::kit::{Client, Server};
use crate::server::until;

/// Stuck after a second, and known within half of one.
const WATCHED: &[(&str, &str)] =
    &[("WATCHDOG__INTERVAL", "200ms"), ("WATCHDOG__STUCK_AFTER", "1s")];

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn explain(server: &Client, queue: &str) -> Value {
    let reply = server.get(&format!("/v1/queues/{queue}/explain")).await.is(200);
    check_explanation(&reply.json);
    reply.json
}

async fn explain_job(server: &Client, id: &str) -> Value {
    let reply = server.get(&format!("/v1/jobs/{id}/explain")).await.is(200);
    let json = reply.json;
    assert_eq!(json["job_id"], id, "{json}");
    assert!(json["next_step"].as_str().is_some_and(|s| !s.is_empty()), "{json}");
    assert!(json["stuck"].is_boolean() && json["status"].is_string(), "{json}");
    if let Some(evidence) = json.get("evidence") {
        check_evidence(evidence);
    }
    json
}

/// Polls until the queue has this verdict and, if it is one, the watchdog has told it.
async fn explained(server: &Client, queue: &str, verdict: &str) -> Value {
    until(&format!("{queue} to be {verdict}"), || async {
        let json = explain(server, queue).await;
        let told = verdict == "flowing" || json["kinds"][0].get("since").is_some();
        (json["verdict"] == verdict && told).then_some(json)
    })
    .await
}

async fn episodes(server: &Client, query: &str) -> Vec<Value> {
    let reply = server.get(&format!("/v1/episodes?{query}")).await.is(200);
    let episodes = reply.json["episodes"].as_array().expect("episodes").clone();
    for episode in &episodes {
        check_evidence(&episode["evidence"]);
        let open = episode.get("ended_at").is_none();
        assert_eq!(episode.get("next_step").is_some(), open, "{episode}");
        let since = episode["since"].as_str().expect("a moment");
        assert!(is_moment(since), "{episode}");
        assert!(open || episode["ended_at"].as_str() >= Some(since), "{episode}");
        assert!(episode["peak_stuck"].as_u64() >= episode["stuck"].as_u64(), "{episode}");
        assert_eq!(open, episode["stuck"].as_u64() > Some(0), "{episode}");
    }
    episodes
}

async fn timeline(server: &Client, id: &str) -> Vec<Value> {
    let reply = server.get(&format!("/v1/jobs/{id}/timeline")).await.is(200);
    reply.json["events"].as_array().expect("events").clone()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["type"].as_str().expect("a type")).collect()
}

#[track_caller]
fn check_explanation(json: &Value) {
    assert!(is_moment(json["sampled_at"].as_str().expect("a moment")), "{json}");
    assert!(json["age_seconds"].as_f64() >= Some(0.0), "{json}");
    let kinds = json["kinds"].as_array().expect("kinds");
    let stuck = kinds.iter().filter(|k| k["verdict"] != "flowing").count();
    assert_eq!(json["verdict"] == "flowing", stuck == 0, "{json}");
    assert!(kinds[..stuck].iter().all(|k| k["verdict"] != "flowing"), "stuck ones first: {json}");
    for kind in kinds {
        let is_stuck = kind["stuck"].as_u64() > Some(0);
        assert_eq!(is_stuck, kind["verdict"] != "flowing", "{kind}");
        assert!(is_stuck || kind.get("since").is_none(), "{kind}");
        assert!(kind["next_step"].as_str().is_some_and(|s| !s.is_empty()), "{kind}");
        check_evidence(&kind["evidence"]);
    }
}

#[track_caller]
fn check_evidence(evidence: &Value) {
    for (name, value) in evidence.as_object().expect("evidence") {
        let fits = match name.as_str() {
            "at" | "paused_at" | "last_seen" | "last_empty_claim" | "last_start"
            | "last_settlement" | "last_rate_limited" | "last_higher_start"
            | "last_level_start" => is_moment(value.as_str().expect("a moment")),
            "eligible" | "running" | "queue_running" | "max_running" | "workers"
            | "workers_present" | "slots" | "leases" | "parked_claims" => value.is_u64(),
            "oldest_age_seconds"
            | "stuck_after_seconds"
            | "start_rate_per_second"
            | "start_rate_limit_per_second"
            | "run_limit_seconds" => value.as_f64() >= Some(0.0),
            "oldest_priority" => value.is_i64(),
            "store_degraded" => value.is_boolean(),
            "last_error" | "trace_id" => value.is_string(),
            _ => false,
        };
        assert!(fits, "{name}: {evidence}");
    }
}

/// Lines of the server's log with this message.
fn lines(server: &Server, message: &str) -> Vec<String> {
    let log = server.process.log();
    log.lines().filter(|line| line.contains(message)).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stuck_ones_can_be_listed() {
    let never = ("QUEUES__SLOW__STUCK_AFTER", "1h");
    let server = Server::with(&[WATCHED[0], WATCHED[1], never]);
    let id = server.submit(&json!({"kind": "a", "queue": "q"})).await;
    server.submit(&json!({"kind": "a", "queue": "slow"})).await;
    server.submit(&json!({"kind": "a", "queue": "q", "delay_seconds": 600})).await;
    let listed = until("a stuck job", || async {
        let list = server.get("/v1/jobs?stuck=true").await.is(200).json;
        list["jobs"].as_array().is_some_and(|jobs| !jobs.is_empty()).then_some(list)
    })
    .await;
    let ids: Vec<&Value> =
        listed["jobs"].as_array().expect("jobs").iter().map(|job| &job["job_id"]).collect();
    assert_eq!(ids, [&json!(id)]);
    let of_other = server.get("/v1/jobs?stuck=true&queue=slow").await.is(200).json;
    assert_eq!(of_other["jobs"], json!([]));
    server.get("/v1/jobs?stuck=yes").await.problem(400, "invalid-query");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_anything_is_stuck_the_missing_worker_is_named() {
    let server = Server::start();
    let id = server.submit(&json!({"kind": "render", "queue": "reports"})).await;
    let queue = explain(&server, "reports").await;
    assert_eq!((&queue["queue"], &queue["verdict"]), (&json!("reports"), &json!("flowing")));
    assert_eq!(queue["age_seconds"], 0.0);
    let kind = &queue["kinds"][0];
    assert_eq!((&kind["kind"], &kind["stuck"]), (&json!("render"), &json!(0)));
    assert_eq!(kind["oldest_jobs"], json!([id]));
    let (evidence, step) = (&kind["evidence"], kind["next_step"].as_str().expect("one"));
    assert_eq!((&evidence["eligible"], &evidence["workers"]), (&json!(1), &json!(0)));
    assert_eq!(evidence["stuck_after_seconds"], 300.0);
    for part in ["stuck after 300 s", "punctual work --queue reports --kind render --exec"] {
        assert!(step.contains(part), "{part} is not in {step}");
    }
    let job = explain_job(&server, &id).await;
    assert_eq!((&job["verdict"], &job["stuck"]), (&json!("queued"), &json!(false)));
    assert_eq!((&job["queue"], &job["kind"]), (&json!("reports"), &json!("render")));
    assert_eq!(job["evidence"]["eligible"], 1);
    assert!(job["next_step"].as_str().is_some_and(|s| s.contains("--queue reports")), "{job}");
    assert!(episodes(&server, "").await.is_empty());

    let shown = server.get("/v1/queues/reports").await.is(200).json;
    assert_eq!((&shown["stuck"], &shown["slots"]), (&json!(0), &json!(0)));
    assert_eq!(shown["start_rate_per_second"], 0.0);
    assert_eq!(shown["estimated_wait_seconds"], 86_400.0, "a day or more");
    assert_eq!(shown["limits"], json!({"stuck_after_seconds": 300.0}));
    let claim = json!({"worker_id": "w", "queues": ["reports"], "concurrency": 4});
    server.lease_by(&claim).await;
    let shown = server.get("/v1/queues/reports").await.is(200).json;
    assert_eq!((&shown["workers"], &shown["slots"]), (&json!(1), &json!(4)));
    assert_eq!(shown["estimated_wait_seconds"], 0.0);

    let off = Server::with(&[("WATCHDOG__STUCK_AFTER", "off")]);
    off.submit(&json!({"kind": "a"})).await;
    assert_eq!(off.get("/v1/queues/default").await.json["limits"], json!({}));
    let kind = &explain(&off, "default").await["kinds"][0];
    assert!(kind["evidence"].get("stuck_after_seconds").is_none(), "{kind}");
    assert!(kind["next_step"].as_str().is_some_and(|s| s.contains("is off")), "{kind}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_without_workers_is_stuck_until_one_comes() {
    let server = Server::with(WATCHED);
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = [("Prefer", "respond-async"), ("traceparent", traceparent.as_str())];
    let body = json!({"kind": "render", "queue": "reports"});
    let id = server.post_with("/v1/jobs", &body, &headers).await.is(202).id();

    let queue = explained(&server, "reports", "no_workers").await;
    let kind = &queue["kinds"][0];
    assert_eq!((&kind["kind"], &kind["stuck"]), (&json!("render"), &json!(1)));
    assert_eq!(kind["oldest_jobs"], json!([id]));
    let evidence = &kind["evidence"];
    assert_eq!((&evidence["workers"], &evidence["eligible"]), (&json!(0), &json!(1)));
    assert_eq!(evidence["stuck_after_seconds"], 1.0);
    assert!(evidence["oldest_age_seconds"].as_f64() >= Some(1.0), "{evidence}");
    assert_eq!((&evidence["trace_id"], evidence.get("last_error")), (&json!(TRACE), None));
    assert!(kind["next_step"].as_str().is_some_and(|s| s.contains("--queue reports")), "{kind}");

    let open = episodes(&server, "open=true").await;
    assert_eq!(open.len(), 1);
    assert_eq!((&open[0]["queue"], &open[0]["kind"]), (&json!("reports"), &json!("render")));
    assert_eq!((&open[0]["verdict"], &open[0]["stuck"]), (&json!("no_workers"), &json!(1)));
    assert_eq!((&open[0]["since"], &open[0]["oldest_jobs"]), (&kind["since"], &json!([id])));
    assert_eq!(open[0]["evidence"]["trace_id"], TRACE);
    assert_eq!(open[0]["next_step"], kind["next_step"]);
    for (query, found) in [
        ("", 1),
        ("queue=reports", 1),
        ("queue=other", 0),
        ("kind=render&queue=reports", 1),
        ("kind=other", 0),
        ("open=false", 0),
        ("limit=1", 1),
    ] {
        assert_eq!(episodes(&server, query).await.len(), found, "{query}");
    }

    let job = server.job(&id).await;
    assert_eq!(job["pending_reason"], "no_workers");
    let list = |reason: &str| {
        let path = format!("/v1/jobs?pending_reason={reason}");
        let client = server.client.clone();
        async move { client.get(&path).await.is(200).json["jobs"].as_array().map(Vec::len) }
    };
    assert_eq!((list("no_workers").await, list("queued").await), (Some(1), Some(0)));
    let told = explain_job(&server, &id).await;
    assert_eq!((&told["verdict"], &told["stuck"]), (&json!("no_workers"), &json!(true)));
    assert_eq!((&told["since"], &told["evidence"]["trace_id"]), (&kind["since"], &json!(TRACE)));
    assert_eq!(server.get("/v1/queues/reports").await.json["stuck"], 1);
    // A job that has only just come is not stuck, and has nobody either.
    let late = server.submit(&json!({"kind": "render", "queue": "reports"})).await;
    assert_eq!(server.job(&late).await["pending_reason"], "no_workers");

    let events = timeline(&server, &id).await;
    assert_eq!(types(&events), ["submitted", "stuck"]);
    assert_eq!((&events[1]["reason"], &events[1]["at"]), (&json!("no_workers"), &kind["since"]));
    let opened = lines(&server, "jobs are stuck in pending");
    assert_eq!(opened.len(), 1, "{opened:#?}");
    for part in ["verdict=\"no_workers\"", "queue=reports", "next_step=\"nobody takes"] {
        assert!(opened[0].contains(part), "{part} is not in {}", opened[0]);
    }
    assert!(lines(&server, "jobs are stuck no more").is_empty());

    // What is known survives the process; it is the same episode, and not told again.
    let server = server.restart_after_kill();
    let again = explained(&server, "reports", "no_workers").await;
    assert_eq!(again["kinds"][0]["since"], kind["since"]);
    assert_eq!(again["kinds"][0]["evidence"]["trace_id"], TRACE);

    let claim = json!({"worker_id": "w", "queues": ["reports"], "max_jobs": 2});
    assert_eq!(server.claims(&claim).await["jobs"].as_array().map(Vec::len), Some(2));
    let ended =
        until("the end of the episode", || async { episodes(&server, "open=false").await.pop() })
            .await;
    assert_eq!((&ended["since"], &ended["verdict"]), (&kind["since"], &json!("no_workers")));
    assert!(ended["peak_stuck"].as_u64() >= Some(1), "{ended}");
    assert!(episodes(&server, "open=true").await.is_empty());
    let (past, future) = (in_millis(-3_600_000), in_millis(3_600_000));
    assert_eq!(episodes(&server, &format!("since={past}")).await.len(), 1);
    assert!(episodes(&server, &format!("since={future}")).await.is_empty());
    let queue = explained(&server, "reports", "flowing").await;
    assert_eq!(queue["kinds"][0]["evidence"]["running"], 2);
    let events = timeline(&server, &id).await;
    assert_eq!(types(&events), ["submitted", "stuck", "claimed", "unstuck"]);
    assert_eq!(events[3]["at"], events[2]["at"], "with its claim");
    until("the line about the end", || async {
        (lines(&server, "jobs are stuck no more").len() == 1).then_some(())
    })
    .await;
    let line = &lines(&server, "jobs are stuck no more")[0];
    assert!(line.contains("verdict=\"no_workers\"") && line.contains("queue=reports"), "{line}");
    assert!(lines(&server, "jobs are stuck in pending").is_empty(), "{}", server.process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_on_purpose_is_explained_and_never_stuck() {
    let server = Server::with(WATCHED);
    server.post("/v1/queues/paused/pause", &json!({"reason": "moving"})).await.is(200);
    let paused = server.submit(&json!({"kind": "a", "queue": "paused"})).await;
    let scheduled = json!({"kind": "a", "queue": "later", "delay_seconds": 600});
    let scheduled = server.submit(&scheduled).await;
    let failed = server.submit(&json!({"kind": "a", "queue": "retried"})).await;
    let lease = server.lease("w", "retried").await;
    server.fail(&lease, json!({"retry_after_seconds": 600})).await;
    let running = server.submit(&json!({"kind": "a", "queue": "busy"})).await;
    let claim = json!({"worker_id": "w", "queues": ["busy"], "lease_seconds": 600});
    server.lease_by(&claim).await;
    // Once this one is stuck, everything above has waited for longer. Its worker fails and goes.
    let control = server.submit(&json!({"kind": "a", "queue": "control"})).await;
    let lease = server.lease("x", "control").await;
    server.fail(&lease, json!({"retry_after_seconds": 0})).await;
    server.post_nothing("/v1/workers/x/goodbye").await.is(204);
    let stuck = explained(&server, "control", "no_workers").await;
    assert_eq!(stuck["kinds"][0]["evidence"]["last_error"], "boom", "{stuck}");
    assert_eq!(explain_job(&server, &control).await["evidence"]["last_error"], "boom");

    for (id, queue, verdict, parts) in [
        (&paused, "paused", "queue_paused", &["punctual queues resume paused"][..]),
        (&scheduled, "later", "scheduled", &["it may start at"]),
        (&failed, "retried", "retry_backoff", &["attempt 1 of 5 failed with `boom`"]),
        (&running, "busy", "running", &["worker w has held it", "punctual jobs cancel"]),
    ] {
        let job = explain_job(&server, id).await;
        assert_eq!((&job["verdict"], &job["stuck"]), (&json!(verdict), &json!(false)), "{job}");
        assert!(job.get("since").is_none(), "{job}");
        let step = job["next_step"].as_str().expect("one");
        assert!(parts.iter().all(|part| step.contains(part)), "{step}");
        assert_eq!(explain(&server, queue).await["verdict"], "flowing");
        assert_eq!(server.get(&format!("/v1/queues/{queue}")).await.json["stuck"], 0);
        assert!(!types(&timeline(&server, id).await).contains(&"stuck"));
    }
    let kind = explain(&server, "paused").await["kinds"][0].clone();
    assert!(is_moment(kind["evidence"]["paused_at"].as_str().expect("a moment")), "{kind}");
    let all = episodes(&server, "").await;
    assert_eq!((all.len(), &all[0]["queue"]), (1, &json!("control")), "{all:?}");

    // Time in the pause does not count; time after it does.
    let resumed = server.post_nothing("/v1/queues/paused/resume").await.is(200);
    assert_eq!(resumed.json["stuck"], 0);
    let kind = explained(&server, "paused", "no_workers").await["kinds"][0].clone();
    assert!(kind["evidence"].get("paused_at").is_none(), "{kind}");
    let events = timeline(&server, &paused).await;
    assert_eq!(types(&events), ["submitted", "stuck"]);
    server.post_nothing("/v1/queues/paused/pause").await.is(200);
    assert_eq!(explain(&server, "paused").await["verdict"], "flowing");
    until("the end of its episode", || async {
        (types(&timeline(&server, &paused).await) == ["submitted", "stuck", "unstuck"])
            .then_some(())
    })
    .await;
    // Also one that goes on leaves room for those that have ended.
    let of = |episodes: Vec<Value>| episodes.iter().map(|e| e["queue"].clone()).collect::<Vec<_>>();
    assert_eq!(of(episodes(&server, "").await), ["control", "paused"]);
    assert_eq!(of(episodes(&server, "limit=1").await), ["control"]);
    assert_eq!(of(episodes(&server, "open=true").await), ["control"]);
    assert_eq!(of(episodes(&server, "open=false&limit=1").await), ["paused"]);

    // A job that is gone or was never there is not explained.
    server.post_nothing(&format!("/v1/jobs/{scheduled}/cancel")).await.is(200);
    assert_eq!(explain_job(&server, &scheduled).await["verdict"], "cancelled");
    server.delete(&format!("/v1/jobs/{scheduled}")).await.is(204);
    let gone = server.get(&format!("/v1/jobs/{scheduled}/explain")).await;
    gone.problem(410, "job-deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_on_what_runs_is_told_and_kept() {
    let server = Server::configured(WATCHED, "[queues.one]\nmax_running = 1\n");
    let first = server.submit(&json!({"kind": "a", "queue": "one"})).await;
    let second = server.submit(&json!({"kind": "a", "queue": "one"})).await;
    let claim = |worker: &str, wait: u32| {
        json!({"worker_id": worker, "queues": ["one"], "lease_seconds": 600, "max_jobs": 5,
               "wait_seconds": wait})
    };
    let lease = server.lease_by(&claim("w", 0)).await;
    assert_eq!(lease.id, first, "and not both");
    assert_eq!(server.claims(&claim("v", 0)).await["jobs"], json!([]));
    let labels = ["queue=\"one\"", "outcome=\"limited\""];
    assert!(server.metrics().await.sum("punctual_claim_requests_total", &labels) >= 1.0);
    let shown = server.get("/v1/queues/one").await.is(200).json;
    assert_eq!(shown["limits"], json!({"max_running": 1, "stuck_after_seconds": 1.0}));
    assert_eq!(server.job(&second).await["pending_reason"], "concurrency_limited");
    let list = server.get("/v1/jobs?pending_reason=concurrency_limited").await.is(200).json;
    assert_eq!(list["jobs"][0]["job_id"], second, "{list}");

    let queue = explained(&server, "one", "concurrency_limited").await;
    let evidence = &queue["kinds"][0]["evidence"];
    assert_eq!((&evidence["queue_running"], &evidence["max_running"]), (&json!(1), &json!(1)));
    let step = queue["kinds"][0]["next_step"].as_str().expect("one");
    assert!(step.contains("1 of at most 1 jobs") && step.contains("[queues.one]"), "{step}");
    let job = explain_job(&server, &second).await;
    assert_eq!((&job["verdict"], &job["stuck"]), (&json!("concurrency_limited"), &json!(true)));
    assert_eq!(types(&timeline(&server, &second).await), ["submitted", "stuck"]);

    let parked = server.parked(claim("p", 50)).await;
    server.complete(&lease, json!(1)).await;
    let next = parked.await.expect("one").is(200);
    assert_eq!(next.json["jobs"][0]["job_id"], second, "{}", next.json);
    explained(&server, "one", "flowing").await;
    let ended = until("the end of the episode", || async {
        episodes(&server, "queue=one&open=false").await.pop()
    })
    .await;
    assert_eq!(ended["verdict"], "concurrency_limited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_written_is_the_verdict() {
    let server = Server::with(WATCHED);
    let id = server.submit(&json!({"kind": "a", "queue": "q"})).await;
    explained(&server, "q", "no_workers").await;
    let db = rusqlite::Connection::open(server.store()).expect("the file");
    db.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let queue = until("the store's trouble to show", || async {
        let queue = explain(&server, "q").await;
        (queue["verdict"] == "store_degraded").then_some(queue)
    })
    .await;
    let kind = &queue["kinds"][0];
    assert_eq!(kind["evidence"]["store_degraded"], true);
    assert!(kind["next_step"].as_str().is_some_and(|s| s.contains("/readyz")), "{kind}");
    assert_eq!(explain_job(&server, &id).await["verdict"], "store_degraded");
    db.execute_batch("ROLLBACK").expect("the end");
    explained(&server, "q", "no_workers").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_that_cannot_be_answered() {
    let server = Server::start();
    let id = server.submit(&json!({"kind": "a"})).await;
    for name in ["nowhere", "Q", "_internal", "a%20b"] {
        let reply = server.get(&format!("/v1/queues/{name}/explain")).await;
        reply.problem(404, "no-such-queue");
    }
    let stranger = "0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7";
    for name in [stranger, "7", &id.to_uppercase()] {
        server.get(&format!("/v1/jobs/{name}/explain")).await.problem(404, "no-such-job");
    }
    for path in [
        "/v1/episodes?open=yes",
        "/v1/episodes?limit=0",
        "/v1/episodes?limit=1001",
        "/v1/episodes?since=yesterday",
        "/v1/episodes?queue=Q",
        "/v1/episodes?kind=",
        "/v1/episodes?verdict=unknown",
        "/v1/episodes?open=true&open=false",
        "/v1/queues/default/explain?verbose=1",
        &format!("/v1/jobs/{id}/explain?verbose=1"),
    ] {
        server.get(path).await.problem(400, "invalid-query");
    }
    for path in ["/v1/episodes", "/v1/queues/default/explain"] {
        let reply = server.post(path, &json!({})).await.problem(405, "method-not-allowed");
        assert!(reply.header("allow").is_some_and(|allow| allow.contains("GET")), "{path}");
        let head = server.send(server.request(Method::HEAD, path)).await.is(200);
        assert!(head.bytes.is_empty());
    }
    // A queue that was only ever paused is one, and nothing waits in it.
    server.post_nothing("/v1/queues/empty/pause").await.is(200);
    let empty = explain(&server, "empty").await;
    assert_eq!((&empty["verdict"], &empty["kinds"]), (&json!("flowing"), &json!([])));
    // All three are counted as themselves.
    let metrics = server.metrics().await;
    for route in ["/v1/episodes", "/v1/queues/{q}/explain", "/v1/jobs/{id}/explain"] {
        let label = format!("http_route=\"{route}\"");
        let requests = metrics.sum("http_server_request_duration_seconds_count", &[&label]);
        assert!(requests >= 1.0, "{route}");
    }
}
