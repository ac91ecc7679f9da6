//! A finished job's work again, as a new job.

use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::in_millis;
use crate::kit::{Client, Reply, Server};
use crate::server::until;

/// A job that has failed for good.
async fn failed(server: &Client, body: &Value) -> String {
    let id = server.submit(body).await;
    let queue = body["queue"].as_str().unwrap_or("default");
    let lease = server.lease("w", queue).await;
    assert_eq!(lease.id, id);
    server.fail(&lease, json!({"retryable": false})).await;
    id
}

async fn retry(server: &Client, id: &str) -> Reply {
    server.post_nothing(&format!("/v1/jobs/{id}/retry")).await
}

async fn timeline(server: &Client, id: &str) -> Vec<Value> {
    let reply = server.get(&format!("/v1/jobs/{id}/timeline")).await.is(200);
    reply.json["events"].as_array().expect("events").clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_job_with_all_that_the_old_one_was_given() {
    let server = Server::start();
    let body = json!({
        "kind": "report.render", "queue": "reports", "payload": {"n": 1.0}, "priority": 7,
        "max_attempts": 1, "timeout_seconds": 90, "retention_seconds": 3_600,
        "start_by": in_millis(3_600_000), "expected_duration_seconds": 2,
        "metadata": {"tenant": "acme"}, "tags": ["red", "blue"],
    });
    let source = failed(&server, &body).await;
    let path = format!("/v1/jobs/{source}");
    let before = server.get(&path).await.is(200);

    let made = retry(&server, &source).await.is(201);
    let job = &made.json;
    let id = made.id();
    assert_ne!(id, source);
    assert_eq!(made.header("location"), job["status_url"].as_str());
    assert_eq!(made.header("content-location"), job["status_url"].as_str());
    assert!(made.header("idempotent-replayed").is_none());
    for (name, value) in [
        ("status", json!("pending")),
        ("retry_of", json!(source)),
        ("root_job_id", json!(source)),
        ("attempt", json!(0)),
        ("version", json!(1)),
    ] {
        assert_eq!(job[name], value, "{job}");
    }
    for same in ["kind", "queue", "priority", "max_attempts", "metadata", "tags"] {
        assert_eq!(job[same], before.json[same], "{same}");
    }
    assert!(job.get("start_by").is_none(), "that was about the first one's start: {job}");
    let with_payload = server.get(&format!("/v1/jobs/{id}?include=payload")).await.is(200);
    assert_eq!(with_payload.json["payload"].to_string(), r#"{"n":1.0}"#);

    // The old one stays as it ended, version and tag included; only the pointer is new.
    let after = server.get(&path).await.is(200);
    let mut expected = before.json.clone();
    expected["retried_as"] = json!(id);
    assert_eq!(after.json, expected);
    assert_eq!(after.header("etag"), before.header("etag"));
    let tag = after.header("etag").expect("a tag").to_owned();
    server.get_with(&path, &[("If-None-Match", &tag)]).await.is(304);

    // Both tell it.
    let told = timeline(&server, &source).await;
    let last = told.last().expect("events");
    assert_eq!((&last["type"], &last["retried_as"]), (&json!("retried"), &json!(id)), "{last}");
    let told = timeline(&server, &id).await;
    assert_eq!(
        (&told[0]["type"], &told[0]["retry_of"]),
        (&json!("submitted"), &json!(source)),
        "{told:?}"
    );

    // It works: from its first attempt, under its own id and the first one's root.
    let lease = server.lease("w", "reports").await;
    assert_eq!((&lease.id, lease.fence), (&id, 1));
    assert_eq!(lease.json["root_job_id"], source);
    server.complete(&lease, json!("at last")).await;
    assert_eq!(server.job(&source).await["status"], "failed");

    // A retry of the retry goes on from the root.
    let third = retry(&server, &id).await.is(201).json;
    assert_eq!((&third["retry_of"], &third["root_job_id"]), (&json!(id), &json!(source)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_again_makes_no_third_job() {
    let server = Server::start();
    let source = failed(&server, &json!({"kind": "a"})).await;
    let made = retry(&server, &source).await.is(201);
    let again = retry(&server, &source).await.is(200);
    assert_eq!(again.id(), made.id());
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("location"), made.header("location"));
    // Whatever else it says; but it must be said rightly.
    let path = format!("/v1/jobs/{source}/retry");
    let other = server.post(&path, &json!({"queue": "other", "priority": 9})).await.is(200);
    assert_eq!((other.id(), &other.json["queue"]), (made.id(), &json!("default")));
    server.post(&path, &json!({"kind": "b"})).await.wrong(&["/kind unknown"]);
    // As it is by now.
    let lease = server.lease("w", "default").await;
    server.complete(&lease, json!(1)).await;
    let done = retry(&server, &source).await.is(200);
    assert_eq!((done.id(), &done.json["result"]), (made.id(), &json!(1)));
    assert!(done.header("sunset").is_some() && done.header("retry-after").is_none());

    // By force another one each time, and the source names the latest.
    let forced = server.post_nothing(&format!("{path}?force=true")).await.is(201);
    let twice = server.post_nothing(&format!("{path}?force=true")).await.is(201);
    assert!(forced.id() != made.id() && twice.id() != forced.id());
    assert_eq!(server.job(&source).await["retried_as"], twice.id());
    assert_eq!(retry(&server, &source).await.is(200).id(), twice.id());

    // What came of it may be gone; then nothing is done blindly.
    let lease = server.lease("w", "default").await;
    server.complete(&lease, json!(1)).await;
    let lease = server.lease("w", "default").await;
    assert_eq!(lease.id, twice.id());
    server.complete(&lease, json!(1)).await;
    server.delete(&format!("/v1/jobs/{}", twice.id())).await.is(204);
    let gone = retry(&server, &source).await.problem(410, "job-deleted");
    assert_eq!(gone.json["job_id"], twice.id());
    assert!(
        gone.json["detail"].as_str().is_some_and(|d| d.contains("force=true")),
        "{}",
        gone.json
    );
    server.post_nothing(&format!("{path}?force=true")).await.is(201);

    let m = server.metrics().await;
    let outcome = |o: &str| {
        let label = format!("outcome=\"{o}\"");
        m.sum("punctual_job_submissions_total", &["queue=\"default\"", &label]) as u64
    };
    assert_eq!((outcome("accepted"), outcome("replayed"), outcome("invalid")), (5, 3, 1));
    assert_eq!(m.sum("punctual_job_submissions_total", &["queue=\"other\"", "replayed"]) as u64, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_ask_at_once_get_one_job_also_across_a_crash() {
    let server = Server::start();
    let source = failed(&server, &json!({"kind": "a"})).await;
    let path = format!("/v1/jobs/{source}/retry");
    let asking: Vec<_> = (0..20).map(|_| server.posting(&path, json!({}), &[])).collect();
    let (mut created, mut ids) = (0, std::collections::BTreeSet::new());
    for asked in asking {
        let reply = asked.await.expect("an answer");
        assert!(matches!(reply.status, 200 | 201), "{}", reply.json);
        created += usize::from(reply.status == 201);
        ids.insert(reply.id());
    }
    assert_eq!((created, ids.len()), (1, 1));
    let server = server.restart_after_kill();
    let again = retry(&server, &source).await.is(200);
    assert_eq!(ids.into_iter().collect::<Vec<_>>(), [again.id()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_differ_and_what_may_not() {
    let server = Server::start();
    let source = failed(&server, &json!({"kind": "a"})).await;
    let path = format!("/v1/jobs/{source}/retry");
    for (bad, error) in [
        (json!({"priority": 101}), "/priority range"),
        (json!({"queue": "_ours"}), "/queue pattern"),
        (json!({"run_at": "tomorrow"}), "/run_at format"),
        (json!({"payload": 1}), "/payload unknown"),
    ] {
        server.post(&path, &bad).await.wrong(&[error]);
    }
    server.post_nothing(&format!("{path}?force=yes")).await.problem(400, "invalid-query");
    server.post_nothing(&format!("{path}?again=true")).await.problem(400, "invalid-query");
    let none = server.send(server.request(Method::GET, &path)).await;
    assert_eq!(none.problem(405, "method-not-allowed").header("allow"), Some("POST"));
    assert!(server.job(&source).await.get("retried_as").is_none());

    let later = in_millis(3_600_000);
    let wish = json!({"queue": "slow", "priority": -5, "run_at": later});
    let made = server.post(&path, &wish).await.is(201).json;
    assert_eq!((&made["queue"], &made["priority"]), (&json!("slow"), &json!(-5)));
    assert_eq!((&made["pending_reason"], &made["run_at"]), (&json!("scheduled"), &json!(later)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_has_ended_and_is_there() {
    let server = Server::with(&[("QUEUES__FULL__MAX_DEPTH", "1")]);
    let id = server.submit(&json!({"kind": "a"})).await;
    let refused = retry(&server, &id).await.problem(409, "job-not-finished");
    assert_eq!(refused.json["job_id"], id);
    let lease = server.lease("w", "default").await;
    retry(&server, &id).await.problem(409, "job-not-finished");
    server.complete(&lease, json!(1)).await;
    retry(&server, &id).await.is(201);
    server.delete(&format!("/v1/jobs/{id}")).await.is(204);
    retry(&server, &id).await.problem(410, "job-deleted");
    let stranger = "0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7";
    retry(&server, stranger).await.problem(404, "no-such-job");
    retry(&server, "x").await.problem(404, "no-such-job");
    // A cancelled one can be done after all.
    let id = server.submit(&json!({"kind": "a", "queue": "c"})).await;
    server.post_nothing(&format!("/v1/jobs/{id}/cancel")).await.is(200);
    retry(&server, &id).await.is(201);

    let source = failed(&server, &json!({"kind": "a", "queue": "full"})).await;
    let waits = server.submit(&json!({"kind": "a", "queue": "full"})).await;
    let full = retry(&server, &source).await.problem(503, "queue-full");
    assert!(full.retry_after() >= 1);
    assert!(server.job(&source).await.get("retried_as").is_none());
    server.post_nothing(&format!("/v1/jobs/{waits}/cancel")).await.is(200);
    let made = retry(&server, &source).await.is(201);
    assert_eq!(retry(&server, &source).await.is(200).id(), made.id(), "repetitions need no room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_retry_begins_while_the_server_ends() {
    let server = Server::with(&[("SERVER__SHUTDOWN_GRACE", "1h"), ("SERVER__BODY_TIMEOUT", "1h")]);
    let source = failed(&server, &json!({"kind": "a"})).await;
    let mut slow = crate::wire::Wire::connect(server.port());
    slow.send(crate::lifecycle::HALF);
    server.in_flight("POST", 1).await;
    server.process.signal("TERM");
    until("the drain", || async { (server.get("/readyz").await.status == 503).then_some(()) })
        .await;
    let refused = retry(&server, &source).await.problem(503, "server-draining");
    assert!(refused.retry_after() >= 1);
    assert!(server.job(&source).await.get("retried_as").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_waits_gets_it_at_once() {
    let server = Server::start();
    let source = failed(&server, &json!({"kind": "a"})).await;
    let claim = json!({"worker_id": "parked", "queues": ["default"], "wait_seconds": 50});
    let parked = server.parked(claim).await;
    let made = retry(&server, &source).await.is(201);
    let claimed = parked.await.expect("an answer").is(200).json;
    assert_eq!(claimed["jobs"][0]["job_id"], made.id());
}
