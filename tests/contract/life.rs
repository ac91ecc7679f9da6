//! R44–R57: what becomes of a job. The invariants hold for every job in every answer of the suite
//! as well: see `tests/api/jobs.rs`.

use serde_json::{Value, json};

use crate::book::Book;
use crate::kit::At;

/// A job in each of its states.
fn one_of_each(at: &At) -> Vec<Value> {
    let ids = [
        {
            let l = at.taken(json!({}));
            at.complete(&l, json!(1));
            l.id
        },
        {
            let l = at.taken(json!({}));
            at.fail(&l, json!({"retryable": false}));
            l.id
        },
        {
            let id = at.put(json!({}));
            at.cancel(&id, json!({})).is(200);
            id
        },
        at.taken(json!({})).id,
        {
            let l = at.taken(json!({}));
            at.fail(&l, json!({"retry_after_seconds": 900}));
            l.id
        },
        at.put(json!({})),
    ];
    ids.iter().map(|id| at.job(id)).collect()
}

pub fn checks(book: &mut Book) {
    book.rule("R44", |at| {
        let told: Vec<Value> =
            one_of_each(at).iter().map(|j| json!([j["status"], j["done"]])).collect();
        let expected = json!([
            ["completed", true],
            ["failed", true],
            ["cancelled", true],
            ["running", false],
            ["pending", false],
            ["pending", false]
        ]);
        assert_eq!(json!(told), expected);
    });
    book.rule("R45", |at| {
        let lease = at.taken(json!({}));
        let end = at.complete(&lease, json!(45));
        at.with("fail", &lease, json!({"error": {"type": "t", "message": "m"}})).is(409);
        at.with("release", &lease, json!({})).is(409);
        at.with("heartbeat", &lease, json!({})).is(409);
        at.cancel(&lease.id, json!({"force": true})).is(409);
        assert_eq!(at.job(&lease.id), end);
    });
    book.rule("R46", |at| {
        for job in one_of_each(at) {
            let has = |name: &str| job.get(name).is_some();
            assert_eq!(has("result_url"), job["status"] == "completed", "{job}");
            assert_eq!(has("error"), job["status"] == "failed", "{job}");
            assert_eq!(has("pending_reason"), job["status"] == "pending", "{job}");
            assert_eq!(
                (has("finished_at"), has("expires_at")),
                (job["done"] == true, job["done"] == true)
            );
        }
    });
    book.rule("R47", |at| {
        let lease = at.taken(json!({"backoff": {"initial_seconds": 600, "jitter": 0}}));
        let job = at.fail(&lease, json!({}));
        assert_eq!(
            (&job["status"], &job["pending_reason"]),
            (&json!("pending"), &json!("retry_backoff"))
        );
        assert_eq!((&job["last_error"]["type"], job.get("error")), (&json!("boom"), None));
        assert!(job["run_at"].as_str() > job["updated_at"].as_str());
    });
    book.rule("R48", |at| {
        let lease = at.taken(json!({}));
        let job = at.fail(&lease, json!({"retry_after_seconds": 0}));
        assert!(job.get("last_error").is_some());
        let lease = at.take();
        assert!(at.job(&lease.id).get("last_error").is_some());
        assert!(at.complete(&lease, json!(1)).get("last_error").is_none());
    });
    book.rule("R49", |at| {
        let id = at.put(json!({}));
        let mut last = at.job(&id)["version"].as_u64().expect("one");
        let mut newer = |job: &Value| {
            let version = job["version"].as_u64().expect("one");
            assert!(version > last, "{job}");
            last = version;
        };
        let lease = at.take();
        newer(&at.job(&id));
        at.with("heartbeat", &lease, json!({"progress": {"percent": 5}})).is(200);
        newer(&at.job(&id));
        newer(&at.fail(&lease, json!({"retry_after_seconds": 0})));
        let lease = at.take();
        newer(&at.job(&id));
        newer(&at.complete(&lease, json!(1)));
    });
    book.rule("R50", |at| {
        at.put(json!({"max_attempts": 2}));
        let first = at.take();
        assert_eq!(at.fail(&first, json!({"retry_after_seconds": 0}))["status"], "pending");
        let second = at.take();
        let job = at.fail(&second, json!({}));
        assert_eq!(
            (&job["status"], &job["attempt"], &job["error"]["attempt"]),
            (&json!("failed"), &json!(2), &json!(2))
        );
    });
    book.rule("R51", |at| {
        let lease = at.taken(json!({"max_attempts": 9}));
        let job = at.fail(&lease, json!({"retryable": false}));
        assert_eq!(
            (&job["status"], &job["attempt"], &job["error"]["type"]),
            (&json!("failed"), &json!(1), &json!("boom"))
        );
    });
    book.rule("R52", |at| {
        at.put(json!({}));
        let silent = at.lease_by(at.asks(json!({"lease_seconds": 1})));
        let next = at.take();
        assert_eq!((&next.id, &next.json["attempt"]), (&silent.id, &json!(2)));
        let job = at.job(&next.id);
        assert_eq!(
            (&job["last_error"]["type"], &job["attempts"][0]["outcome"]),
            (&json!("lease-expired"), &json!("lease_expired"))
        );
    });
    book.rule("R53", |at| {
        at.put(json!({"timeout_seconds": 1, "max_attempts": 1}));
        let lease = at.lease_by(at.asks(json!({"lease_seconds": 60})));
        at.with("heartbeat", &lease, json!({"extend_seconds": 3600})).is(200);
        let job = at.done(&lease.id);
        assert_eq!(
            (&job["status"], &job["error"]["type"]),
            (&json!("failed"), &json!("attempt-timeout"))
        );
        assert_eq!(job["attempts"][0]["outcome"], "timed_out");
    });
    book.rule("R54", |at| {
        let id = at.put(json!({"max_attempts": 2}));
        for _ in 0..2 {
            at.lease_by(at.asks(json!({"lease_seconds": 1, "wait_seconds": 20})));
        }
        let job = at.done(&id);
        assert_eq!(
            (&job["status"], &job["attempt"], &job["error"]["type"]),
            (&json!("failed"), &json!(2), &json!("lease-expired"))
        );
    });
    book.rule("R55", |at| {
        let lease = at.taken(json!({"max_attempts": 1}));
        let job = at.with("release", &lease, json!({})).is(200).json;
        assert_eq!((&job["status"], &job["attempt"]), (&json!("pending"), &json!(0)));
        assert_eq!(at.take().json["attempt"], 1);
    });
    book.rule("R56", |at| {
        let (now, later) = (at.put(json!({})), at.put(json!({"delay_seconds": 900})));
        let reason = |id: &str| at.job(id)["pending_reason"].clone();
        assert_eq!((reason(&now), reason(&later)), (json!("queued"), json!("scheduled")));
        at.nothing(&format!("/v1/queues/{}/pause", at.queue)).is(200);
        assert_eq!((reason(&now), reason(&later)), (json!("queue_paused"), json!("scheduled")));
        at.nothing(&format!("/v1/queues/{}/resume", at.queue)).is(200);
        let lease = at.take();
        at.fail(&lease, json!({"retry_after_seconds": 900}));
        at.nothing(&format!("/v1/queues/{}/pause", at.queue)).is(200);
        assert_eq!(reason(&now), "retry_backoff");
    });
    book.rule("R57", |at| {
        let lease = at.taken(json!({}));
        let first = at.job(&lease.id)["started_at"].clone();
        at.fail(&lease, json!({"retry_after_seconds": 0}));
        let lease = at.take();
        let job = at.complete(&lease, json!(1));
        assert!(job["started_at"].as_str() >= first.as_str());
        let told: Vec<Value> = job["attempts"]
            .as_array()
            .expect("attempts")
            .iter()
            .map(|a| json!([a["attempt"], a["fence"], a["outcome"]]))
            .collect();
        assert_eq!(json!(told), json!([[1, 1, "failed"], [2, 2, "completed"]]));
        assert_eq!(job["attempts"][1]["started_at"], job["started_at"]);
    });
}
