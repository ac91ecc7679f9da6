//! R77–R83: what is refused and what waits.

use serde_json::json;

use crate::book::Book;
use crate::kit::soon;

pub fn checks(book: &mut Book) {
    book.rule("R77", |at| {
        let job = json!({"kind": "a", "queue": "tight"});
        for _ in 0..2 {
            at.submit(job.clone());
        }
        let key = [("Idempotency-Key", "r77")];
        at.post("/v1/jobs", job.clone(), &key).problem(503, "queue-full").retry_after();
        at.lease(&at.queue, "tight");
        let made = at.post("/v1/jobs", job, &key).is(202);
        assert!(made.header("idempotent-replayed").is_none(), "the key was unused");
    });
    book.rule("R166", |at| {
        let job = json!({"kind": "a", "queue": "tight5"});
        at.submit(job.clone());
        let full = at.post("/v1/jobs", job, &[]).problem(503, "queue-full");
        let registered =
            "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
        assert_eq!(full.json["type"], registered);
        assert!(at.ask_freely("GET", "/problems/queue-full", &[], b"").is(200).status == 200);
    });
    book.rule("R78", |at| {
        let job = json!({"kind": "a", "queue": "tight2"});
        let key = [("Idempotency-Key", "r78")];
        let id = at.post("/v1/jobs", job.clone(), &key).is(202).id();
        at.submit(job.clone());
        at.post("/v1/jobs", job.clone(), &[]).problem(503, "queue-full");
        assert_eq!(at.post("/v1/jobs", job, &key).is(202).id(), id);
    });
    book.rule("R79", |at| {
        let job = json!({"kind": "a", "queue": "tight3"});
        let elsewhere = at.body(json!({}));
        at.submit(job.clone());
        let batch = json!({"jobs": [elsewhere, job, job]});
        let refused = at.post("/v1/jobs/batch", batch, &[]).problem(503, "queue-full");
        refused.retry_after();
        assert!(refused.json["detail"].as_str().expect("one").starts_with("/jobs/2"));
        assert_eq!(at.claim(at.asks(json!({})))["jobs"], json!([]), "nothing was accepted");
        at.submit(job);
    });
    book.rule("R80", |at| {
        let job = json!({"kind": "a", "queue": "tight4"});
        at.submit(job.clone());
        let lease = at.lease(&at.queue, "tight4");
        at.submit(job.clone());
        assert_eq!(at.fail(&lease, json!({}))["status"], "pending");
        at.post("/v1/jobs", job, &[]).problem(503, "queue-full");
    });
    book.rule("R81", |at| {
        let job = json!({"kind": "a", "queue": "narrow"});
        let (first, second) = (at.submit(job.clone()), at.submit(job));
        let claim = json!({"worker_id": at.queue, "queues": ["narrow"], "max_jobs": 5});
        let lease = at.lease_by(claim.clone());
        assert_eq!(lease.id, first);
        assert_eq!(at.claim(claim)["jobs"], json!([]));
        assert_eq!(at.job(&second)["pending_reason"], "concurrency_limited");
        let parked = json!({"worker_id": "r81.waits", "queues": ["narrow"], "wait_seconds": 50});
        let parked = at.parked(parked);
        at.complete(&lease, json!(1));
        assert_eq!(soon(parked).is(200).json["jobs"][0]["job_id"], second);
    });
    book.rule("R82", |at| {
        let job = json!({"kind": "a", "queue": "paced"});
        let (first, second) = (at.submit(job.clone()), at.submit(job));
        let claim = json!({"worker_id": at.queue, "queues": ["paced"], "max_jobs": 5});
        assert_eq!(at.lease_by(claim.clone()).id, first);
        assert_eq!(at.claim(claim)["jobs"], json!([]));
        assert_eq!(at.job(&second)["pending_reason"], "rate_limited");
    });
    book.rule("R83", |at| {
        let running = at.taken(json!({}));
        at.nothing(&format!("/v1/queues/{}/pause", at.queue)).is(200);
        let id = at.put(json!({}));
        assert_eq!(at.claim(at.asks(json!({})))["jobs"], json!([]));
        assert_eq!(at.complete(&running, json!(1))["status"], "completed");
        let worker = format!("{}.waits", at.queue);
        let parked = at.asks(json!({"worker_id": worker, "wait_seconds": 50}));
        let parked = at.parked(parked);
        at.nothing(&format!("/v1/queues/{}/resume", at.queue)).is(200);
        assert_eq!(soon(parked).is(200).json["jobs"][0]["job_id"], id);
    });
}
