//! R153–R157: changing queues and workers while they work.

use serde_json::{Value, json};

use crate::book::Book;
use crate::kit::{At, Reply, Stand, soon};

fn patch(stand: &Stand, queue: &str, body: &Value, headers: &[(&str, &str)]) -> Reply {
    let all = [&[("Content-Type", "application/merge-patch+json")], headers].concat();
    stand.ask("PATCH", &format!("/v1/queues/{queue}"), &all, body.to_string().as_bytes())
}

fn queue(at: &At) -> Reply {
    at.get(&format!("/v1/queues/{}", at.queue), &[]).is(200)
}

pub fn checks(book: &mut Book) {
    book.rule("R153", |_| {
        let stand = Stand::configured(&[], "[queues.q]\nmax_depth = 5\n");
        let set = patch(&stand, "q", &json!({"max_depth": 1}), &[]).is(200);
        assert_eq!(set.json["limits"]["max_depth"], 1);
        let job = json!({"kind": "a", "queue": "q"});
        stand.submit(job.clone());
        stand.post("/v1/jobs", job.clone(), &[]).problem(503, "queue-full");
        let stand = stand.killed();
        stand.post("/v1/jobs", job.clone(), &[]).problem(503, "queue-full");
        let set = patch(&stand, "q", &json!({"max_depth": null}), &[]).is(200);
        assert_eq!(set.json["limits"]["max_depth"], 5);
        stand.submit(job);
    });
    book.rule("R154", |at| {
        let set = |n: u32, tag: &str| {
            patch(at.stand, &at.queue, &json!({"max_running": n}), &[("If-Match", tag)])
        };
        patch(at.stand, &at.queue, &json!({"max_running": 7}), &[]).is(200);
        let tag = queue(at).tag();
        assert!(tag.starts_with('"'), "strong: {tag}");
        set(8, &tag).is(200);
        set(9, &tag).problem(412, "precondition-failed");
        assert_eq!(queue(at).json["limits"]["max_running"], 8);
    });
    book.rule("R155", |at| {
        patch(at.stand, &at.queue, &json!({"max_running": 7}), &[]).is(200);
        let before = queue(at).tag();
        for (wrong, error) in [
            (json!({"max_running": 8, "max_attempts": 0}), "/max_attempts range"),
            (json!({"max_running": 8, "max_runing": 9}), "/max_runing unknown"),
        ] {
            let reply = patch(at.stand, &at.queue, &wrong, &[]).problem(422, "validation-failed");
            assert_eq!(reply.errors(), [error]);
        }
        assert_eq!(
            (queue(at).tag(), &queue(at).json["limits"]["max_running"]),
            (before, &json!(7))
        );
    });
    book.rule("R156", |at| {
        patch(at.stand, &at.queue, &json!({"require_idempotency_key": true}), &[]).is(200);
        let refused = at.post("/v1/jobs", at.body(json!({})), &[]);
        let refused = refused.problem(400, "idempotency-key-required");
        assert!(refused.header("link").expect("Link").contains("rel=\"describedby\""));
        at.post("/v1/jobs", at.body(json!({})), &[("Idempotency-Key", "r156")]).is(202);
    });
    book.rule("R157", |at| {
        let lease = at.taken(json!({}));
        let parked = at.parked_too();
        assert!(!parked.is_finished());
        at.nothing(&format!("/v1/workers/{}/drain", at.queue)).is(200);
        assert_eq!(soon(parked).is(200).json["directive"], "drain");
        at.put(json!({}));
        let claimed = at.claim(at.asks(json!({})));
        assert_eq!((&claimed["directive"], &claimed["jobs"]), (&json!("drain"), &json!([])));
        assert_eq!(at.with("heartbeat", &lease, json!({})).is(200).json["directive"], "drain");
        assert_eq!(at.complete(&lease, json!(1))["status"], "completed");
    });
}
