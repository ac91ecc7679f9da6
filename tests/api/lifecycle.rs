//! Ending, ending in a hurry, dying, coming back, and being stopped in mid-air.

use std::time::Duration;

use serde_json::json;

use crate::answer::in_millis;
use crate::kit::Server;
use crate::server::until;
use crate::wire::Wire;

pub const HALF: &str = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                    Content-Length: 12\r\n\r\n{\"kind\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_asked_to_leave_does_so_politely() {
    let server = Server::with(&[("SERVER__SHUTDOWN_GRACE", "1h"), ("SERVER__BODY_TIMEOUT", "1h")]);
    let waiting = server.submit(&json!({"kind": "a", "queue": "other"})).await;
    let job = server.submit(&json!({"kind": "a"})).await;
    let lease = server.lease("w", "default").await;
    assert_eq!(lease.id, job);
    // Parked: a claim, a long-poll, a held submission, a settlement with its claim. In flight: one
    // whose body is still on its way.
    let claim = json!({"worker_id": "p", "queues": ["none"], "wait_seconds": 50});
    let claim = server.parked(claim).await;
    let poll = server.getting(&format!("/v1/jobs/{waiting}"), &[("Prefer", "wait=50")]);
    let held =
        server.posting("/v1/jobs", json!({"kind": "a", "queue": "held"}), &[("Prefer", "wait=50")]);
    let settling = json!({"worker_id": "s", "settlements": [],
                          "claim": {"worker_id": "s", "queues": ["none"], "wait_seconds": 50}});
    let settling = server.posting("/v1/settlements", settling, &[]);
    let mut slow = Wire::connect(server.port());
    slow.send(HALF);
    server.in_flight("POST", 4).await;
    server.in_flight("GET", 1).await;

    server.process.signal("TERM");
    let within = Duration::from_secs(30);
    let claim = tokio::time::timeout(within, claim).await.expect("at once").expect("one").is(200);
    assert_eq!(claim.json["jobs"], json!([]));
    let poll = tokio::time::timeout(within, poll).await.expect("at once").expect("one").is(200);
    assert_eq!(poll.json["status"], "pending");
    let held = tokio::time::timeout(within, held).await.expect("at once").expect("one").is(202);
    assert_eq!(held.json["status"], "pending");
    let settling = tokio::time::timeout(within, settling).await.expect("at once").expect("one");
    assert_eq!(settling.is(200).json["jobs"], json!([]));

    // While the slow one is there: no new work in or out, and everything else.
    let ready = server.get("/readyz?verbose").await.problem(503, "server-draining");
    assert!(ready.retry_after() >= 1 && ready.json["checks"].is_array(), "{}", ready.json);
    server.get("/livez").await.is(200);
    let refused = server.post("/v1/jobs", &json!({"kind": "a"})).await;
    let refused = refused.problem(503, "server-draining");
    assert!(refused.retry_after() >= 1);
    assert_eq!(refused.header("connection"), Some("close"));
    let batch = json!({"jobs": [{"kind": "a"}]});
    server.post("/v1/jobs/batch", &batch).await.problem(503, "server-draining");
    let claim = json!({"worker_id": "n", "queues": ["other"]});
    server.post("/v1/claims", &claim).await.problem(503, "server-draining");
    assert_eq!(server.job(&waiting).await["status"], "pending");
    let beat = server.with_lease("heartbeat", &lease, &json!({})).await;
    beat.is(200);
    let body = json!({"worker_id": "w", "claim": {"worker_id": "w", "queues": ["other"]}, "settlements": [
        {"job_id": lease.id, "lease_token": lease.token, "outcome": "completed", "result": 7}]});
    let settled = server.post("/v1/settlements", &body).await.is(200).json;
    assert_eq!(
        (&settled["results"][0]["status"], &settled["jobs"]),
        (&json!("completed"), &json!([]))
    );
    server.post_nothing(&format!("/v1/jobs/{}/cancel", held.id())).await.is(200);

    // The slow one comes to its end, and with it the server.
    slow.send(":\"a\"}");
    slow.answer().problem(503, "server-draining");
    let Server { mut process, launch, client, dir } = server;
    assert!(process.wait().success(), "{}", process.log());
    assert!(process.log().contains("stopped"), "{}", process.log());

    let process = launch.start();
    let server = Server { client, process, launch, dir };
    assert_eq!(server.job(&job).await["result"], 7);
    assert_eq!(server.job(&held.id()).await["status"], "cancelled");
    assert_eq!(server.lease("w", "other").await.id, waiting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_and_the_end_of_the_grace_are_final() {
    for (grace, signals) in [("1h", &["TERM", "INT"][..]), ("300ms", &["INT"][..])] {
        let server =
            Server::with(&[("SERVER__SHUTDOWN_GRACE", grace), ("SERVER__BODY_TIMEOUT", "1h")]);
        let id = server.submit(&json!({"kind": "a"})).await;
        let mut slow = Wire::connect(server.port());
        slow.send(HALF);
        server.in_flight("POST", 1).await;
        server.process.signal(signals[0]);
        if let Some(second) = signals.get(1) {
            until("the drain", || async {
                (server.get("/readyz").await.status == 503).then_some(())
            })
            .await;
            server.process.signal(second);
        }
        slow.closed();
        let Server { mut process, launch, client, dir } = server;
        assert!(process.wait().success(), "{}", process.log());
        assert!(process.log().contains("requests in flight"), "{}", process.log());
        let process = launch.start();
        let server = Server { client, process, launch, dir };
        assert_eq!(server.job(&id).await["status"], "pending");
    }
    // Idle connections hold nothing up.
    let server = Server::start();
    let mut idle = Wire::connect(server.port());
    idle.send(crate::wire::get("/v1/meta", ""));
    idle.answer();
    let silent = Wire::connect(server.port());
    let Server { process, .. } = server;
    assert!(process.terminate().success());
    idle.closed();
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_survive_us() {
    let server = Server::with(&[("TASKS__REAPER", "50ms")]);
    for _ in 0..3 {
        let body = json!({"kind": "a", "max_attempts": 1, "timeout_seconds": 1});
        server.submit(&body).await;
    }
    let claim =
        |seconds: u32| json!({"worker_id": "w", "queues": ["default"], "lease_seconds": seconds});
    let long = server.lease_by(&claim(60)).await;
    let short = server.lease_by(&claim(1)).await;
    let silent = server.lease_by(&claim(1)).await;
    let Server { client, process, launch, dir } = server;
    process.kill();
    // While nobody is there to hear heartbeats, the leases and the hard limits pass.
    let ends = silent.json["timeout_at"].as_str().expect("a moment").to_owned();
    assert!(short.json["lease_expires_at"].as_str() <= Some(ends.as_str()));
    until("the end of the leases", || async { (in_millis(0) > ends).then_some(()) }).await;

    let process = launch.start();
    let server = Server { client, process, launch, dir };
    until("the reaper to have looked", || async {
        let tasks = server.get("/v1/tasks").await.is(200).json;
        let reaper = tasks["tasks"]
            .as_array()
            .expect("tasks")
            .iter()
            .find(|t| t["task"] == "reaper")
            .cloned();
        reaper.expect("one")["last_success_at"].is_string().then_some(())
    })
    .await;
    // Their holders are told that all is well, with at least a lease's length from now.
    let beat = server.with_lease("heartbeat", &short, &json!({})).await.is(200).json;
    assert!(beat["lease_expires_at"].as_str() > Some(ends.as_str()), "{beat}");
    assert!(beat["timeout_at"].as_str() > Some(ends.as_str()), "{beat}");
    for lease in [&short, &long] {
        let job = server.complete(lease, json!("after the crash")).await;
        assert_eq!((&job["status"], &job["attempt"]), (&json!("completed"), &json!(1)));
    }
    // The one who really is dead is found out, a lease's length later.
    let job = server.job_done(&silent.id).await;
    assert_eq!(job["status"], "failed");
    assert!(job["finished_at"].as_str() > Some(ends.as_str()));
    assert!(
        matches!(job["error"]["type"].as_str(), Some("lease-expired" | "attempt-timeout")),
        "{job}"
    );
    // Fences go on where they were.
    let id = server.submit(&json!({"kind": "a", "queue": "f"})).await;
    let first = server.lease("w", "f").await;
    let server = server.restart_after_kill();
    server.with_lease("release", &first, &json!({})).await.is(200);
    let second = server.lease("v", "f").await;
    assert_eq!((&second.id, first.fence, second.fence), (&id, 1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_our_own_time_is_not_the_worker_s() {
    let server = Server::with(&[("TASKS__REAPER", "100ms")]);
    server.submit(&json!({"kind": "a", "max_attempts": 1})).await;
    let claim = json!({"worker_id": "w", "queues": ["default"], "lease_seconds": 3});
    let lease = server.lease_by(&claim).await;
    let parked = json!({"worker_id": "p", "queues": ["default"], "wait_seconds": 50});
    let parked = server.parked(parked).await;
    server.process.signal("STOP");
    // Longer than a clock may step unnoticed, and than the lease.
    tokio::time::sleep(Duration::from_millis(6_500)).await;
    server.process.signal("CONT");
    let resumed = in_millis(0);
    until("the reaper to have looked", || async {
        let tasks = server.get("/v1/tasks").await.is(200).json;
        let reaper = tasks["tasks"]
            .as_array()
            .expect("tasks")
            .iter()
            .find(|t| t["task"] == "reaper")
            .cloned();
        (reaper.expect("one")["last_success_at"].as_str() > Some(resumed.as_str())).then_some(())
    })
    .await;
    let beat = server.with_lease("heartbeat", &lease, &json!({})).await.is(200).json;
    assert!(beat["lease_expires_at"].as_str() > Some(resumed.as_str()), "{beat}");
    let job = server.complete(&lease, json!("after the gap")).await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("completed"), &json!(1)));
    let metrics = server.metrics().await;
    assert!(metrics.sum("punctual_leases_taken_back_total", &[]).abs() < 0.5);
    // Whoever was parked still is.
    assert!(!parked.is_finished());
    let id = server.submit(&json!({"kind": "a"})).await;
    assert_eq!(parked.await.expect("one").is(200).json["jobs"][0]["job_id"], id);
}
