//! Limits of a queue: what is refused when it is full, and what waits for its rate.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::Server;
use crate::server::until;

const WATCHED: &[(&str, &str)] =
    &[("WATCHDOG__INTERVAL", "200ms"), ("WATCHDOG__STUCK_AFTER", "1s")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_503_and_says_when_to_return() {
    let server = Server::configured(&[], "[queues.tight]\nmax_depth = 3\n");
    let job = json!({"kind": "a", "queue": "tight", "delay_seconds": 3600});
    let keyed = [("Idempotency-Key", "k")];
    let first = server.post_with("/v1/jobs", &job, &keyed).await.is(202).id();
    for _ in 0..2 {
        server.submit(&json!({"kind": "a", "queue": "tight"})).await;
    }
    let refused = server.post("/v1/jobs", &job).await.problem(503, "queue-full");
    assert!((273..=300).contains(&refused.retry_after()), "nothing starts there");
    let detail = refused.json["detail"].as_str().expect("one");
    assert!(detail.contains("queue tight takes 3 pending jobs"), "{detail}");
    assert!(refused.json.get("job_id").is_none(), "{}", refused.json);

    // Repetitions are answered, also a batch of them; another body under the key is still wrong.
    let again = server.post_with("/v1/jobs", &job, &keyed).await.is(202);
    assert_eq!((again.id(), again.header("idempotent-replayed")), (first.clone(), Some("true")));
    let mut item = job.clone();
    item["idempotency_key"] = json!("k");
    server.post("/v1/jobs/batch", &json!({"jobs": [item]})).await.is(202);
    let other = json!({"kind": "b", "queue": "tight"});
    server.post_with("/v1/jobs", &other, &keyed).await.problem(422, "idempotency-key-reused");

    // A batch fits whole or not at all, and the detail names the first that does not.
    server.post_nothing(&format!("/v1/jobs/{first}/cancel")).await.is(200);
    let fits = json!({"kind": "a", "queue": "elsewhere"});
    let batch = json!({"jobs": [job, fits, job]});
    let refused = server.post("/v1/jobs/batch", &batch).await.problem(503, "queue-full");
    let detail = refused.json["detail"].as_str().expect("one");
    assert!(detail.starts_with("/jobs/2: "), "{detail}");
    refused.retry_after();
    server.get("/v1/queues/elsewhere").await.problem(404, "no-such-queue");
    let unused = [("Idempotency-Key", "later")];
    server.post_with("/v1/jobs", &job, &unused).await.is(202);
    server
        .post_with("/v1/jobs", &job, &[("Idempotency-Key", "x")])
        .await
        .problem(503, "queue-full");

    // A job that comes back for another attempt is never refused.
    let lease = server.lease("w", "tight").await;
    server.post_with("/v1/jobs", &job, &[("Idempotency-Key", "x")]).await.is(202);
    let error = json!({"error": {"type": "boom", "message": "it broke"}});
    let failed = server.fail(&lease, error).await;
    assert_eq!(failed["status"], "pending", "{failed}");
    server.post("/v1/jobs", &job).await.problem(503, "queue-full");

    let shown = server.get("/v1/queues/tight").await.is(200).json;
    assert_eq!(shown["limits"]["max_depth"], 3, "{shown}");
    let metrics = until("the sample", || async {
        let metrics = server.metrics().await;
        let max = metrics.sum("punctual_queue_max_depth", &["queue=\"tight\""]);
        (max > 0.0).then_some(metrics)
    })
    .await;
    assert_eq!(metrics.sum("punctual_queue_max_depth", &[]) as u64, 3, "of no other queue");
    let outcome = |outcome: &str| {
        let outcome = format!("outcome=\"{outcome}\"");
        metrics.sum("punctual_job_submissions_total", &["queue=\"tight\"", &outcome]) as u64
    };
    assert_eq!((outcome("queue_full"), outcome("accepted")), (1 + 2 + 1 + 1, 3 + 1 + 1));
    assert_eq!((outcome("replayed"), outcome("unavailable")), (2, 0));
    let store = metrics.sum("punctual_store_operation_errors_total", &[]);
    assert!(store.abs() < f64::EPSILON, "a full queue is no fault of the store: {store}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_on_starts_is_told_and_kept() {
    let server = Server::configured(WATCHED, "[queues.slow]\nstart_rate_per_second = 0.001\n");
    let first = server.submit(&json!({"kind": "a", "queue": "slow"})).await;
    let second = server.submit(&json!({"kind": "a", "queue": "slow"})).await;
    let claim = json!({"worker_id": "w", "queues": ["slow", "fast"], "max_jobs": 5});
    let lease = server.lease_by(&claim).await;
    assert_eq!(lease.id, first, "and not both");
    server.complete(&lease, json!(1)).await;
    assert_eq!(server.claims(&claim).await["jobs"], json!([]));
    let metrics = server.metrics().await;
    let outcome = |queue: &str| {
        let queue = format!("queue=\"{queue}\"");
        metrics.sum("punctual_claim_requests_total", &[&queue, "outcome=\"limited\""]) as u64
    };
    assert_eq!((outcome("slow"), outcome("fast")), (1, 0));
    // The other queue of the claim is served all the same.
    let fast = server.submit(&json!({"kind": "a", "queue": "fast"})).await;
    assert_eq!(server.lease_by(&claim).await.id, fast);

    let shown = server.get("/v1/queues/slow").await.is(200).json;
    assert_eq!(shown["limits"]["start_rate_per_second"], 0.001, "{shown}");
    assert_eq!(server.job(&second).await["pending_reason"], "rate_limited");
    let list = server.get("/v1/jobs?pending_reason=rate_limited").await.is(200).json;
    assert_eq!(list["jobs"][0]["job_id"], second, "{list}");
    assert_eq!(list["jobs"][0]["pending_reason"], "rate_limited", "{list}");
    let queued = server.get("/v1/jobs?pending_reason=queued").await.is(200).json;
    assert_eq!(queued["jobs"], json!([]));

    // Somebody who waits for it makes it the reason.
    let parked = json!({"worker_id": "p", "queues": ["slow"], "wait_seconds": 50});
    let parked = server.parked(parked).await;
    let explain = async |path: String| server.get(&path).await.is(200).json;
    let queue: Value = until("slow to be rate_limited", || async {
        let json = explain("/v1/queues/slow/explain".to_owned()).await;
        let told = json["kinds"][0].get("since").is_some();
        (json["verdict"] == "rate_limited" && told).then_some(json)
    })
    .await;
    let kind = &queue["kinds"][0];
    assert_eq!(kind["evidence"]["start_rate_limit_per_second"], 0.001, "{kind}");
    assert!(kind["evidence"]["last_rate_limited"].is_string(), "{kind}");
    let step = kind["next_step"].as_str().expect("one");
    assert!(step.contains("`start_rate_per_second` in [queues.slow]"), "{step}");
    let job = explain(format!("/v1/jobs/{second}/explain")).await;
    assert_eq!((&job["verdict"], &job["stuck"]), (&json!("rate_limited"), &json!(true)));
    until("the metric", || async {
        let labels = ["queue=\"slow\"", "verdict=\"rate_limited\""];
        let stuck = server.metrics().await.sum("punctual_queue_stuck_jobs", &labels);
        (stuck > 0.0).then_some(())
    })
    .await;
    parked.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_workers_are_woken_at_the_rate() {
    let server = Server::configured(&[], "[queues.paced]\nstart_rate_per_second = 10.0\n");
    for _ in 0..25 {
        server.submit(&json!({"kind": "a", "queue": "paced"})).await;
    }
    let began = tokio::time::Instant::now();
    let mut parked = Vec::new();
    for n in 0..5 {
        let claim = json!({"worker_id": format!("w{n}"), "queues": ["paced"], "max_jobs": 2,
                           "wait_seconds": 50});
        parked.push((claim.clone(), server.posting("/v1/claims", claim, &[])));
    }
    let mut started = 0;
    while started < 25 {
        let (claim, reply) = parked.remove(0);
        started +=
            reply.await.expect("an answer").is(200).json["jobs"].as_array().expect("jobs").len();
        parked.push((claim.clone(), server.posting("/v1/claims", claim, &[])));
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_400), "{started} starts in {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}: somebody was not woken");
    for (_, reply) in parked {
        reply.abort();
    }
}
