//! The spans of a job's life, and how they hang together.

use serde_json::json;

use crate::collector::{Collector, Link};
use crate::scene::{CALLER, CALLER_SPAN, TRACE, parts, server_of, submit_from, told};

const CLAIMER: &str = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01";

fn to(trace: &str, span: &str, what: &str) -> Link {
    Link { trace: trace.to_owned(), span: span.to_owned(), what: what.to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_and_is_tried_again() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[]);
    let body = json!({"kind": "report", "queue": "q", "payload": {"n": 1}, "max_attempts": 2});
    let id = submit_from(&server, CALLER, &body).await;
    let first = {
        let claim = json!({"worker_id": "w1", "queues": ["q"]});
        let answer = server.post_with("/v1/claims", &claim, &[("traceparent", CLAIMER)]).await;
        crate::kit::Lease::of(&answer.is(200).json["jobs"][0])
    };
    server.fail(&first, json!({"retry_after_seconds": 0})).await;
    let second = server.lease("w2", "q").await;
    server.complete(&second, json!(1)).await;

    let post = collector.one("POST /v1/jobs").await;
    assert_eq!(
        (post.kind, post.trace.as_str(), post.parent.as_str()),
        ("server", TRACE, CALLER_SPAN)
    );
    assert_eq!(post.says("http.request.method"), "POST");
    assert_eq!(post.says("http.route"), "/v1/jobs");
    assert_eq!(post.says("http.response.status_code"), 202);
    assert_eq!(post.error, None);

    let publish = collector.one("publish q").await;
    assert_eq!((publish.kind, publish.trace.as_str()), ("producer", TRACE));
    assert_eq!(publish.parent, post.id);
    assert!(post.start <= publish.start && publish.end <= post.end, "{post:?} {publish:?}");
    for (key, value) in [
        ("messaging.system", json!("punctual")),
        ("messaging.operation.name", json!("publish")),
        ("messaging.operation.type", json!("send")),
        ("messaging.destination.name", json!("q")),
        ("messaging.message.id", json!(id)),
        ("messaging.message.body.size", json!(7)),
        ("punctual.job.id", json!(id)),
        ("punctual.job.kind", json!("report")),
    ] {
        assert_eq!(publish.says(key), &value, "{key}");
    }

    let attempts = collector.named("attempt q", 2).await;
    let waits = collector.named("wait q", 2).await;
    let processes = collector.named("process q", 2).await;
    let creation = to(TRACE, &publish.id, "creation");
    for (n, lease) in [&first, &second].into_iter().enumerate() {
        let (attempt, wait, process) = (&attempts[n], &waits[n], &processes[n]);
        assert_ne!(attempt.trace, TRACE, "a trace of its own");
        assert_eq!((attempt.kind, attempt.parent.as_str()), ("internal", ""));
        assert_eq!(
            (wait.kind, &wait.parent, &wait.trace),
            ("internal", &attempt.id, &attempt.trace)
        );
        assert_eq!(
            (process.kind, &process.parent, &process.trace),
            ("consumer", &attempt.id, &attempt.trace)
        );
        assert_eq!(told(lease), process.context(), "what the worker was told");
        assert_eq!((attempt.start, attempt.end), (wait.start, process.end));
        assert_eq!(wait.end, process.start);
        assert!(attempt.links.contains(&creation) && process.links.contains(&creation));
        for span in [attempt, process] {
            assert_eq!(span.says("punctual.job.id"), &id);
            assert_eq!(span.says("punctual.attempt"), n as i64 + 1);
            assert_eq!(span.says("punctual.fence"), n as i64 + 1);
            assert_eq!(span.says("punctual.worker.id"), &format!("w{}", n + 1));
        }
        assert_eq!(process.says("messaging.operation.type"), "process");
        assert_eq!(process.says("messaging.client.id"), &format!("w{}", n + 1));
    }
    let (failed, completed) = (&attempts[0], &attempts[1]);
    assert_eq!(failed.says("punctual.outcome"), "failed");
    assert_eq!(failed.says("error.type"), "boom");
    assert_eq!(failed.says("punctual.job.status"), "pending");
    assert_eq!(
        (failed.error.as_deref(), processes[0].error.as_deref()),
        (Some("boom"), Some("boom"))
    );
    let claim = to(&"a".repeat(32), &"b".repeat(16), "claim");
    assert_eq!(failed.links, [creation.clone(), claim]);
    assert_eq!(completed.says("punctual.outcome"), "completed");
    assert_eq!(completed.says("punctual.job.status"), "completed");
    assert!(completed.error.is_none() && !completed.attributes.contains_key("error.type"));
    assert_eq!(completed.links, [creation, to(&failed.trace, &failed.id, "previous_attempt")]);

    for span in collector.spans() {
        assert_eq!(span.scope, "punctual");
        assert_eq!(span.resource["service.name"], "punctual");
        assert_eq!(span.resource["service.version"], env!("CARGO_PKG_VERSION"));
        let instance = span.resource["service.instance.id"].as_str().expect("text");
        assert!(instance.parse::<uuid::Uuid>().is_ok_and(|id| !id.is_nil()), "{instance}");
        assert!(span.start <= span.end, "{span:?}");
    }
    assert_eq!(collector.spans().len(), 8, "nothing for claims, polls and settlements");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_job_in_one_trace() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[("TELEMETRY__JOB_RELATION", "child")]);
    let body = json!({"kind": "k", "queue": "q"});
    let headers =
        [("Prefer", "respond-async"), ("traceparent", CALLER), ("tracestate", "vendor=1")];
    server.post_with("/v1/jobs", &body, &headers).await.is(202);
    let lease = server.lease("w", "q").await;
    assert_eq!(lease.json["tracestate"], "vendor=1", "it is the caller's trace still");
    server.complete(&lease, json!(1)).await;
    let (publish, attempt) = (collector.one("publish q").await, collector.one("attempt q").await);
    assert_eq!((attempt.trace.as_str(), &attempt.parent), (TRACE, &publish.id));
    assert_eq!(attempt.link("creation"), None, "it is the parent");
    assert_eq!(collector.one("process q").await.trace, TRACE);
    assert_eq!(parts(&told(&lease)).0, TRACE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_one_request_and_a_span_for_each_job() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[]);
    let jobs = json!({"jobs": [{"kind": "a", "queue": "x"}, {"kind": "b", "queue": "y"}]});
    server.post_with("/v1/jobs/batch", &jobs, &[("traceparent", CALLER)]).await.is(202);
    let post = collector.one("POST /v1/jobs/batch").await;
    for name in ["publish x", "publish y"] {
        let publish = collector.one(name).await;
        assert_eq!((publish.trace.as_str(), &publish.parent), (TRACE, &post.id));
    }
}

/// A worker that was parked when the job came gets it in the submission's own commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_handed_out_at_once() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[]);
    let claim = json!({"worker_id": "w", "queues": ["q"], "wait_seconds": 20});
    let parked = server.parked(claim).await;
    let id = submit_from(&server, CALLER, &json!({"kind": "k", "queue": "q"})).await;
    let answer = parked.await.expect("an answer").is(200);
    let lease = crate::kit::Lease::of(&answer.json["jobs"][0]);
    assert_eq!(lease.id, id);
    server.complete(&lease, json!(1)).await;
    let (publish, attempt) = (collector.one("publish q").await, collector.one("attempt q").await);
    let creation = attempt.link("creation").expect("a link");
    assert_eq!((creation.trace.as_str(), &creation.span), (TRACE, &publish.id));
    assert_eq!(told(&lease), collector.one("process q").await.context());
}

/// A refused request has a span, and no job has one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submission_that_is_refused() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[]);
    let reply = server.post_with("/v1/jobs", &json!({}), &[("traceparent", CALLER)]).await;
    let reply = reply.problem(422, "validation-failed");
    assert_eq!(reply.json["trace_id"], TRACE);
    let post = collector.one("POST /v1/jobs").await;
    assert_eq!(post.says("http.response.status_code"), 422);
    assert_eq!(post.says("error.type"), "validation-failed");
    assert_eq!(post.error, None, "it is the client's mistake");
    assert_eq!(post.says("punctual.request.id"), reply.header("x-request-id").expect("an id"));
    assert_eq!(collector.spans().len(), 1);
}

/// A repetition makes no job, so it publishes nothing; its request is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repetition_publishes_nothing() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[]);
    let body = json!({"kind": "k", "queue": "q"});
    for _ in 0..2 {
        let headers = [("Prefer", "respond-async"), ("Idempotency-Key", "one")];
        server.post_with("/v1/jobs", &body, &headers).await.is(202);
    }
    collector.named("POST /v1/jobs", 2).await;
    crate::scene::accounted(&server).await;
    let first = collector.one("publish q").await;
    let id = first.says("punctual.job.id").as_str().expect("an id").to_owned();
    let job = server.job(&id).await;
    assert_eq!(job["trace"]["submit"], first.trace.as_str(), "of the submission that made it");
}
