//! One key, one job: however often it is said, in whatever spelling, and when.

use std::collections::HashSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{Client, Reply, Server};

async fn keyed(client: &Client, key: &str, body: &Value) -> Reply {
    client.post_with("/v1/jobs", body, &[("Idempotency-Key", key)]).await
}

async fn text(client: &Client, key: &str, body: &str) -> Reply {
    let request = client.request(Method::POST, "/v1/jobs").header("Idempotency-Key", key);
    let request = request.header("Content-Type", "application/json").body(body.to_owned());
    client.send(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_answered_with_the_job_as_it_is_now() {
    let server = Server::start();
    let body = json!({"kind": "a", "payload": {"n": 1}});
    let first = keyed(&server, "order-7", &body).await.is(202);
    assert!(first.header("idempotent-replayed").is_none());
    let id = first.id();
    let replay = || async {
        let reply = keyed(&server, "order-7", &body).await;
        assert_eq!((reply.id(), reply.header("idempotent-replayed")), (id.clone(), Some("true")));
        assert!(reply.header("location").expect("Location").ends_with(&id));
        reply
    };
    assert_eq!(replay().await.is(202).json, first.json);
    let lease = server.lease("w", "default").await;
    assert_eq!(replay().await.is(202).json["status"], "running");
    server.complete(&lease, json!({"pages": 3})).await;
    let done = replay().await.is(200);
    assert_eq!(done.json["result"], json!({"pages": 3}));

    // Both spellings name the same key; `Prefer`, traces and ids are no part of the body.
    let headers =
        [("Idempotency-Key", "\"order-7\""), ("Prefer", "respond-async"), ("X-Request-Id", "x")];
    let reply = server.post_with("/v1/jobs", &body, &headers).await.is(200);
    assert_eq!((reply.id(), reply.header("idempotent-replayed")), (id.clone(), Some("true")));

    // Another body under the key is refused, and names the job.
    let other = keyed(&server, "order-7", &json!({"kind": "a", "payload": {"n": 2}})).await;
    let other = other.problem(422, "idempotency-key-reused");
    assert_eq!(other.json["job_id"], id);

    // A failed and a cancelled job are replayed too: their keys make no second attempt.
    keyed(&server, "fails", &json!({"kind": "f", "queue": "f"})).await.is(202);
    let lease = server.lease("w", "f").await;
    server.fail(&lease, json!({"retryable": false})).await;
    let reply = keyed(&server, "fails", &json!({"kind": "f", "queue": "f"})).await.is(202);
    assert_eq!((&reply.json["status"], reply.id()), (&json!("failed"), lease.id));

    // Keys and their jobs outlive the process.
    let server = server.restart_after_kill();
    let reply = keyed(&server, "order-7", &body).await.is(200);
    assert_eq!((reply.id(), reply.header("idempotent-replayed")), (id.clone(), Some("true")));

    // And the job itself: within the key's life its replay says that it is gone.
    server.delete(&format!("/v1/jobs/{id}")).await.is(204);
    let gone = keyed(&server, "order-7", &body).await.problem(410, "job-deleted");
    assert_eq!(gone.json["job_id"], id);
    assert!(crate::jobs::is_moment(gone.json["created_at"].as_str().expect("one")));
    keyed(&server, "order-7", &json!({"kind": "z"})).await.is(422);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_body_is_the_same_however_it_is_written() {
    let server = Server::start();
    let plain = r#"{"kind":"a","payload":{"x":1,"y":["é",true]},"tags":["t"]}"#;
    let id = text(&server, "k", plain).await.is(202).id();
    for same in [
        "{\n  \"tags\" : [ \"t\" ] ,\t\"payload\": {\"y\":[\"é\",true],\"x\":1},\r\n \"kind\":\"a\" } ",
        r#"{"\u006bind":"\u0061","payload":{"x":1,"\u0079":["\u00e9",true]},"tags":["t"]}"#,
    ] {
        let reply = text(&server, "k", same).await.is(202);
        assert_eq!((reply.id(), reply.header("idempotent-replayed")), (id.clone(), Some("true")));
    }
    for other in [
        r#"{"kind":"a","payload":{"x":1.0,"y":["é",true]},"tags":["t"]}"#,
        r#"{"kind":"a","payload":{"x":1e0,"y":["é",true]},"tags":["t"]}"#,
        r#"{"kind":"a","payload":{"x":1,"y":[true,"é"]},"tags":["t"]}"#,
        r#"{"kind":"a","payload":{"x":1,"y":["é",true]},"tags":["t"],"priority":0}"#,
        r#"{"kind":"a","payload":{"x":"1","y":["é",true]},"tags":["t"]}"#,
    ] {
        text(&server, "k", other).await.problem(422, "idempotency-key-reused");
    }
    // A refused submission leaves its key unused.
    text(&server, "fresh", r#"{"kind":"A"}"#).await.is(422);
    text(&server, "fresh", r#"{"kind":"#).await.is(400);
    text(&server, "fresh", r#"{"kind":"a","x":1}"#).await.is(422);
    let reply = text(&server, "fresh", r#"{"kind":"b"}"#).await.is(202);
    assert!(reply.header("idempotent-replayed").is_none());

    let long = "k".repeat(256);
    for bad in ["", "\"\"", "\"open", "open\"", "a\"b", "\"a\\x\"", &long, "tab\tbed", "caf\u{e9}"]
    {
        let value = reqwest::header::HeaderValue::from_bytes(bad.as_bytes()).expect("a value");
        let request = server.request(Method::POST, "/v1/jobs").json(&json!({"kind": "a"}));
        let reply = server.send(request.header("Idempotency-Key", value)).await;
        reply.problem(400, "invalid-idempotency-key");
    }
    keyed(&server, &long[1..], &json!({"kind": "a"})).await.is(202);
    let request = server.request(Method::POST, "/v1/jobs").json(&json!({"kind": "a"}));
    let twice = request.header("Idempotency-Key", "a").header("Idempotency-Key", "a");
    server.send(twice).await.problem(400, "invalid-idempotency-key");
    // The namespace of keys is the route, not the queue: whatever else differs is another body.
    let odd = json!({"kind": "a", "queue": "odd"});
    let first = keyed(&server, "a b/c;d=\u{7e}", &odd).await.is(202).id();
    assert_eq!(keyed(&server, "\"a b/c;d=\u{7e}\"", &odd).await.id(), first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_that_arrive_together_are_one_job() {
    let server = Server::start();
    // The first is held; a second that waits too joins it, one that does not is answered at once.
    let body = json!({"kind": "a"});
    let held = |wait: &'static str| {
        server.posting("/v1/jobs", body.clone(), &[("Idempotency-Key", "one"), ("Prefer", wait)])
    };
    let (first, second) = (held("wait=50"), held("wait=49"));
    server.in_flight("POST", 2).await;
    let third = keyed(&server, "one", &body).await.is(202);
    let lease = server.lease("w", "default").await;
    assert_eq!(lease.id, third.id());
    server.complete(&lease, json!("once")).await;
    let (first, second) = (first.await.expect("one").is(200), second.await.expect("one").is(200));
    assert_eq!((first.id(), second.id()), (lease.id.clone(), lease.id));
    assert_eq!((&first.json["result"], &second.json["result"]), (&json!("once"), &json!("once")));
    let replayed = |r: &Reply| r.header("idempotent-replayed").is_some();
    assert!(replayed(&first) != replayed(&second), "one of them made the job");

    // Forty at the same moment.
    let crowd: Vec<_> = (0..40)
        .map(|_| server.posting("/v1/jobs", json!({"kind": "c"}), &[("Idempotency-Key", "crowd")]))
        .collect();
    let (mut ids, mut made) = (HashSet::new(), 0);
    for one in crowd {
        let reply = one.await.expect("one").is(202);
        made += usize::from(!replayed(&reply));
        ids.insert(reply.id());
    }
    assert_eq!((ids.len(), made), (1, 1));
    let listed = server.get("/v1/jobs?kind=c").await.is(200);
    assert_eq!(listed.json["jobs"].as_array().expect("jobs").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_contradicts_itself_names_no_job() {
    let server = Server::start();
    let job = |n: u32| json!({"kind": "a", "payload": n, "idempotency_key": "one"});
    let batch = json!({"jobs": [{"kind": "b"}, job(1), job(2)]});
    let reply = server.post("/v1/jobs/batch", &batch).await;
    let reply = reply.problem(422, "idempotency-key-reused");
    assert!(reply.json.get("job_id").is_none(), "none was made: {}", reply.json);
    let detail = reply.json["detail"].as_str().expect("words");
    assert!(detail.starts_with("/jobs/2: /jobs/1 of this batch"), "{detail}");
    let lost = server.metrics().await.sum("punctual_jobs_lost_total", &[]);
    assert!(lost.abs() < 0.5, "{lost}");
    keyed(&server, "one", &json!({"kind": "c"})).await.is(202);
}
