//! Handing work in: shapes, headers, preferences, and how long an answer is held.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{Lease, Reply, Server, with};
use crate::wire::{ask, get, post};

/// Less than any hold in these tests, more than anything takes that is not held.
const NOT_HELD: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepted_work_points_to_its_monitor() {
    let server = Server::start();
    let reply = server.post("/v1/jobs", &json!({"kind": "a"})).await.is(202);
    let job = &reply.json;
    let url = format!("{}/v1/jobs/{}", server.base, reply.id());
    assert_eq!(reply.header("location"), Some(url.as_str()));
    assert_eq!(reply.header("content-location"), Some(url.as_str()));
    assert_eq!(reply.header("etag"), Some("W/\"1\""));
    let link = reply.header("link").expect("Link");
    assert!(link.contains(&format!("<{url}/cancel>; rel=\"/rels/cancel\"")), "{link}");
    assert!(reply.header("preference-applied").is_none());
    assert!(reply.header("idempotent-replayed").is_none());
    for (name, value) in [
        ("status", json!("pending")),
        ("pending_reason", json!("queued")),
        ("kind", json!("a")),
        ("queue", json!("default")),
        ("priority", json!(0)),
        ("attempt", json!(0)),
        ("max_attempts", json!(5)),
        ("version", json!(1)),
        ("root_job_id", job["job_id"].clone()),
    ] {
        assert_eq!(job[name], value, "{name}: {job}");
    }
    // Read again it is the very same job.
    let again = server.get(&format!("/v1/jobs/{}", reply.id())).await.is(200);
    assert_eq!(again.json, reply.json);

    // Another name of this machine leads to addresses under that name.
    let wire = ask(server.port(), post("/v1/jobs", "", r#"{"kind":"a"}"#));
    assert_eq!(wire.status, 202, "{wire:?}");
    let location = wire.header("location").expect("Location");
    assert!(location.starts_with("http://localhost/v1/jobs/"), "{location}");

    // The id of the request is the client's, if it may be repeated.
    let reply = server.get_with("/v1/meta", &[("X-Request-Id", "order-7/retry.2")]).await;
    assert_eq!(reply.header("x-request-id"), Some("order-7/retry.2"));
    let long = "x".repeat(129);
    let reply = server.get_with("/v1/meta", &[("X-Request-Id", &long)]).await;
    assert_ne!(reply.header("x-request-id"), Some(long.as_str()));
    let twice = ask(server.port(), get("/v1/meta", "X-Request-Id: a\r\nX-Request-Id: b\r\n"));
    assert!(!matches!(twice.header("x-request-id"), Some("a" | "b")), "{twice:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_is_kept_and_reaches_the_worker() {
    let server = Server::start();
    let payload = r#"{"z":1.0,"a":[1e2, "é😀", null], "big":123456789012345678901234567890}"#;
    let body = format!(
        r#"{{"kind":"report.render","queue":"q:1","payload":{payload},"priority":-100,
            "start_by":"2099-01-01T00:00:00+02:00","timeout_seconds":90,"max_attempts":7,
            "backoff":{{"initial_seconds":0.5,"max_seconds":60,"multiplier":3,"jitter":0}},
            "retention_seconds":3600,"expected_duration_seconds":1.5,
            "metadata":{{"tenant":"acme"}},"tags":["b","a","b"]}}"#
    );
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = server
        .request(Method::POST, "/v1/jobs")
        .header("Content-Type", "application/json; charset=utf-8")
        .header("traceparent", trace)
        .header("tracestate", "vendor=1")
        .body(body);
    let reply = server.send(request).await.is(202);
    let id = reply.id();
    assert!(reply.json.get("payload").is_none(), "{}", reply.json);
    for (name, value) in [
        ("priority", json!(-100)),
        ("max_attempts", json!(7)),
        ("start_by", json!("2098-12-31T22:00:00.000Z")),
        ("metadata", json!({"tenant": "acme"})),
        ("tags", json!(["b", "a"])),
    ] {
        assert_eq!(reply.json[name], value, "{name}");
    }
    let shown = server.get(&format!("/v1/jobs/{id}?include=payload")).await.is(200);
    let text = String::from_utf8(shown.bytes.clone()).expect("text");
    assert!(text.contains(payload), "byte for byte: {text}");

    let claim = json!({"worker_id": "w", "queues": ["q:1"], "lease_seconds": 10});
    let raw = server.post("/v1/claims", &claim).await.is(200);
    let text = String::from_utf8(raw.bytes.clone()).expect("text");
    assert!(text.contains(payload), "byte for byte: {text}");
    let leased = &raw.json["jobs"][0];
    assert_eq!(leased["job_id"], id);
    for (name, value) in [
        ("traceparent", json!(trace)),
        ("tracestate", json!("vendor=1")),
        ("metadata", json!({"tenant": "acme"})),
        ("attempt", json!(1)),
        ("max_attempts", json!(7)),
        ("fence", json!(1)),
        ("lease_seconds", json!(10.0)),
        ("kind", json!("report.render")),
        ("queue", json!("q:1")),
        ("root_job_id", json!(id)),
    ] {
        assert_eq!(leased[name], value, "{name}: {leased}");
    }
    // The hard limit is the job's own: 90 s after the claim.
    let (claimed, limit) = (&server.job(&id).await["started_at"], &leased["timeout_at"]);
    let at = |v: &Value| v.as_str().expect("a moment").parse::<jiff::Timestamp>().expect("one");
    assert_eq!(at(limit).duration_since(at(claimed)).as_secs(), 90);
    let job = server.complete(&Lease::of(leased), json!(null)).await;
    let kept = at(&job["expires_at"]).duration_since(at(&job["finished_at"]));
    assert_eq!(kept.as_secs(), 3_600);

    // A trace that is none is nobody's.
    let request =
        server.request(Method::POST, "/v1/jobs").json(&json!({"kind": "t", "queue": "t"}));
    server.send(with(request, &[("traceparent", "00-0-0-01")])).await.is(202);
    let lease = server.lease("w", "t").await;
    assert!(lease.json.get("traceparent").is_none() && lease.json["payload"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_held_only_where_a_worker_waits() {
    // So long that whoever is held in vain fails the test.
    let server = Server::with(&[("JOBS__SYNC_WINDOW", "50s")]);
    let client = server.client.clone();
    let new = json!({"kind": "new"});
    let nobody = client.post("/v1/jobs", &new);
    let reply = tokio::time::timeout(NOT_HELD, nobody).await.expect("not held");
    let first = reply.is(202).id();
    assert_eq!(server.lease("w", "default").await.id, first);

    let claim = |worker: &str| json!({"worker_id": worker, "queues": ["default"], "kinds": ["new"], "wait_seconds": 50});
    let lease_of = |reply: Reply| Lease::of(&reply.is(200).json["jobs"][0]);

    // Held, done by the worker, answered with the result.
    let worker = client.parked(claim("w1")).await;
    let submit = client.posting("/v1/jobs", json!({"kind": "new", "payload": {"n": 1}}), &[]);
    let lease = lease_of(worker.await.expect("a worker"));
    server.complete(&lease, json!({"pages": 10})).await;
    let reply = submit.await.expect("a client").is(200);
    assert_eq!((&reply.json["status"], reply.id()), (&json!("completed"), lease.id.clone()));
    assert_eq!(reply.json["result"], json!({"pages": 10}));
    let link = reply.header("link").expect("Link").to_owned();
    assert!(link.contains("/result>; rel=\"/rels/result\"") && !link.contains("cancel"), "{link}");
    assert!(reply.header("location").is_some() && reply.header("preference-applied").is_none());

    // A job that fails while it is held is accepted work all the same: 202.
    let worker = client.parked(claim("w2")).await;
    let submit = client.posting("/v1/jobs", json!({"kind": "new"}), &[]);
    let lease = lease_of(worker.await.expect("a worker"));
    server.fail(&lease, json!({"retryable": false})).await;
    let reply = submit.await.expect("a client").is(202);
    assert_eq!(reply.json["status"], "failed");

    // Not held: who asks for no wait, whose kind nobody waits for, and what is scheduled.
    let worker = client.parked(claim("w3")).await;
    for (body, headers) in [
        (json!({"kind": "other"}), &[][..]),
        (json!({"kind": "new", "delay_seconds": 3600}), &[][..]),
        (json!({"kind": "new", "delay_seconds": 3600}), &[("Prefer", "wait=50")][..]),
        (json!({"kind": "new"}), &[("Prefer", "respond-async")][..]),
    ] {
        let submit = client.post_with("/v1/jobs", &body, headers);
        let reply = tokio::time::timeout(NOT_HELD, submit).await.expect("not held");
        assert_ne!(reply.is(202).json["done"], true);
    }
    worker.await.expect("a worker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_held_where_the_past_promises_the_result() {
    let server = Server::with(&[("JOBS__SYNC_WINDOW", "50s")]);
    // Jobs of this kind are claimed and done in no time.
    for _ in 0..25 {
        server.submit(&json!({"kind": "quick"})).await;
        let lease = server.lease("w", "default").await;
        server.complete(&lease, json!(1)).await;
    }
    let held = server.posting("/v1/jobs", json!({"kind": "quick"}), &[]);
    server.in_flight("POST", 1).await;
    let lease = server.lease("w", "default").await;
    server.complete(&lease, json!("in time")).await;
    assert_eq!(held.await.expect("one").is(200).json["result"], "in time");
    // Of others nothing is known, and nothing is promised.
    let other = json!({"kind": "slow", "queue": "new"});
    let reply = tokio::time::timeout(NOT_HELD, server.post("/v1/jobs", &other)).await;
    reply.expect("not held").is(202);
    // Not while the queue is paused.
    server.post_nothing("/v1/queues/default/pause").await.is(200);
    let quick = json!({"kind": "quick"});
    let reply = tokio::time::timeout(NOT_HELD, server.post("/v1/jobs", &quick)).await;
    assert_eq!(reply.expect("not held").is(202).json["pending_reason"], "queue_paused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preferences_are_honoured_and_said() {
    let server = Server::start();
    let client = server.client.clone();
    let body = json!({"kind": "a"});
    for (prefer, applied) in [
        ("respond-async", Some("respond-async")),
        ("respond-async, wait=0", Some("respond-async, wait=0")),
        ("wait=0", Some("wait=0")),
        ("handling=strict", None),
        ("wait=soon", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("=;,\"", None),
    ] {
        let reply = client.post_with("/v1/jobs", &body, &[("Prefer", prefer)]).await.is(202);
        assert_eq!(reply.header("preference-applied"), applied, "{prefer}");
    }
    // Nothing is held where nobody could come.
    let later = json!({"kind": "a", "delay_seconds": 3600});
    for (prefer, applied) in [("wait=50", None), ("respond-async, wait=50", Some("respond-async"))]
    {
        let headers = [("Prefer", prefer), ("Idempotency-Key", "later")];
        let reply = client.post_with("/v1/jobs", &later, &headers).await.is(202);
        assert_eq!(reply.header("preference-applied"), applied, "{prefer}");
    }
    // Nobody comes: the answer is 202 when the wait is over.
    let waits = [("Prefer", "respond-async, wait=1")];
    let reply = client.post_with("/v1/jobs", &body, &waits).await.is(202);
    assert_eq!(reply.header("preference-applied"), Some("respond-async, wait=1"));

    // Somebody comes: it is over at once, however long it could be; 50 s is the most.
    let job = json!({"kind": "held", "queue": "held"});
    for (prefer, applied, retryable, status) in [
        ("wait=600", "wait=50", None, 200),
        ("respond-async, wait=50", "respond-async, wait=50", None, 200),
        ("wait=50", "wait=50", Some(false), 202),
    ] {
        let held = client.posting("/v1/jobs", job.clone(), &[("Prefer", prefer)]);
        let lease = server.lease("w", "held").await;
        match retryable {
            None => drop(server.complete(&lease, json!([1])).await),
            Some(retryable) => drop(server.fail(&lease, json!({"retryable": retryable})).await),
        }
        let reply = tokio::time::timeout(NOT_HELD, held).await.expect("in time").expect("one");
        let reply = reply.is(status);
        assert_eq!(reply.header("preference-applied"), Some(applied));
        assert_eq!(reply.json["done"], true);
    }
    // A retry is not the end: the answer is held on.
    let held = client.posting("/v1/jobs", job, &[("Prefer", "wait=50")]);
    let lease = server.lease("w", "held").await;
    let again = server.fail(&lease, json!({"retry_after_seconds": 0})).await;
    assert_eq!((&again["status"], &again["pending_reason"]), (&json!("pending"), &json!("queued")));
    let lease = server.lease("w", "held").await;
    server.complete(&lease, json!("second")).await;
    let reply = held.await.expect("a client").is(200);
    assert_eq!((&reply.json["result"], &reply.json["attempt"]), (&json!("second"), &json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_all_or_nothing() {
    let server = Server::start();
    let three = json!({"jobs": [
        {"kind": "a", "payload": 1, "idempotency_key": "k1"},
        {"kind": "b", "queue": "other", "delay_seconds": 60},
        {"kind": "a", "idempotency_key": "k1", "payload": 1},
    ]});
    let reply = server.post("/v1/jobs/batch", &three).await.is(202);
    let jobs = reply.json["jobs"].as_array().expect("jobs").clone();
    assert_eq!(jobs.len(), 3);
    for job in &jobs {
        let id = job["job_id"].as_str().expect("an id");
        assert_eq!(job["status_url"], format!("{}/v1/jobs/{id}", server.base));
        assert_eq!(job["status"], "pending");
    }
    assert_eq!(jobs[0]["job_id"], jobs[2]["job_id"], "one key, one job");
    assert!(jobs[0].get("replayed").is_none() && jobs[2]["replayed"] == true, "{}", reply.json);

    // The key is the one of single submissions.
    let single = server
        .post_with("/v1/jobs", &json!({"kind": "a", "payload": 1}), &[("Idempotency-Key", "k1")])
        .await
        .is(202);
    assert_eq!(single.header("idempotent-replayed"), Some("true"));
    assert_eq!(single.json["job_id"], jobs[0]["job_id"]);

    let count = || async {
        let listed = server.get("/v1/jobs?limit=1000").await.is(200);
        listed.json["jobs"].as_array().expect("jobs").len()
    };
    let before = count().await;
    let wrong = json!({"jobs": [{"kind": "a"}, {"kind": "B!"}, {"priority": 1000}, 7]});
    server.post("/v1/jobs/batch", &wrong).await.wrong(&[
        "/jobs/1/kind pattern",
        "/jobs/2/kind required",
        "/jobs/2/priority range",
        "/jobs/3 type",
    ]);
    let reused = json!({"jobs": [{"kind": "a"}, {"kind": "other", "idempotency_key": "k1"}]});
    let problem = server.post("/v1/jobs/batch", &reused).await;
    let problem = problem.problem(422, "idempotency-key-reused");
    assert!(problem.json["detail"].as_str().expect("one").contains("/jobs/1"), "{}", problem.json);
    server.post("/v1/jobs/batch", &json!({"jobs": []})).await.wrong(&["/jobs length"]);
    server.post("/v1/jobs/batch", &json!({})).await.wrong(&["/jobs required"]);
    let many = json!({"jobs": vec![json!({"kind": "a"}); 1_001]});
    server.post("/v1/jobs/batch", &many).await.wrong(&["/jobs length"]);
    let keyed = [("Idempotency-Key", "k9")];
    let reply = server.post_with("/v1/jobs/batch", &json!({"jobs": [{"kind": "a"}]}), &keyed).await;
    reply.problem(400, "invalid-idempotency-key");
    assert_eq!(count().await, before, "nothing of a refused batch was accepted");

    let full = json!({"jobs": vec![json!({"kind": "bulk", "queue": "bulk"}); 1_000]});
    let reply = server.post("/v1/jobs/batch", &full).await.is(202);
    assert_eq!(reply.json["jobs"].as_array().expect("jobs").len(), 1_000);
    let queue = server.get("/v1/queues/bulk").await.is(200);
    assert_eq!(queue.json["jobs"]["eligible"], 1_000);
}
