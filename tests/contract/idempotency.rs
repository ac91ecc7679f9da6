//! R20–R30 and R174: one key, one job.

use std::collections::BTreeSet;

use serde_json::json;

use crate::book::Book;
use crate::kit::{At, Reply, Stand, in_millis, soon, until};

fn keyed(at: &At, key: &str, body: serde_json::Value) -> Reply {
    at.post("/v1/jobs", at.body(body), &[("Idempotency-Key", key)])
}

fn replayed(reply: &Reply) -> bool {
    reply.header("idempotent-replayed") == Some("true")
}

pub fn checks(book: &mut Book) {
    book.rule("R20", |at| {
        let first = keyed(at, "r20", json!({})).is(202);
        assert!(!replayed(&first));
        let lease = at.take();
        let again = keyed(at, "r20", json!({})).is(202);
        assert_eq!(
            (again.id(), replayed(&again), &again.json["status"]),
            (first.id(), true, &json!("running"))
        );
        at.complete(&lease, json!([20]));
        let done = keyed(at, "r20", json!({})).is(200);
        assert_eq!((done.id(), &done.json["result"]), (first.id(), &json!([20])));
    });
    book.rule("R21", |at| {
        let first = keyed(at, "r21", json!({})).is(202);
        let again = keyed(at, "\"r21\"", json!({})).is(202);
        assert_eq!((again.id(), replayed(&again)), (first.id(), true));
    });
    book.rule("R22", |at| {
        let send = |body: &str| {
            let body = body.replace('Q', &at.queue);
            at.text("/v1/jobs", &body, &[("Idempotency-Key", "r22")])
        };
        let id = send(r#"{"kind":"a","queue":"Q","payload":{"x":1,"y":["é"]}}"#).is(202).id();
        let same =
            "{ \"payload\":{\"y\":[\"\\u00e9\"],\n\"x\":1}, \"queue\":\"Q\",\"\\u006bind\":\"a\"}";
        assert_eq!(send(same).is(202).id(), id);
        for other in [r#"{"x":1.0,"y":["é"]}"#, r#"{"x":2,"y":["é"]}"#, r#"{"x":1}"#] {
            let reply = send(&format!(r#"{{"kind":"a","queue":"Q","payload":{other}}}"#));
            assert_eq!(reply.problem(422, "idempotency-key-reused").json["job_id"], id);
        }
    });
    book.rule("R23", |at| {
        keyed(at, "r23", json!({"kind": "A"})).is(422);
        keyed(at, "r23", json!({"unknown": 1})).is(422);
        at.text("/v1/jobs", "{", &[("Idempotency-Key", "r23")]).is(400);
        assert!(!replayed(&keyed(at, "r23", json!({})).is(202)));
    });
    book.rule("R24", |at| {
        let long = "k".repeat(256);
        for bad in ["", "\"\"", "\"open", "open\"", "a\"b", &long, "tab\tbed", "café"] {
            keyed(at, bad, json!({})).problem(400, "invalid-idempotency-key");
        }
        keyed(at, &long[1..], json!({})).is(202);
        let twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")];
        at.post("/v1/jobs", at.body(json!({})), &twice).problem(400, "invalid-idempotency-key");
    });
    book.rule("R25", |at| {
        let crowd: Vec<_> = (0..20)
            .map(|_| {
                let body = at.body(json!({}));
                at.later(move |c| c.post("/v1/jobs", body, &[("Idempotency-Key", "r25")]))
            })
            .collect();
        let replies: Vec<Reply> = crowd.into_iter().map(|one| soon(one).is(202)).collect();
        let ids: BTreeSet<String> = replies.iter().map(Reply::id).collect();
        assert_eq!((ids.len(), replies.iter().filter(|r| !replayed(r)).count()), (1, 1));
    });
    book.rule("R26", |at| {
        let held = || {
            let body = at.body(json!({}));
            at.later(move |c| {
                c.post("/v1/jobs", body, &[("Idempotency-Key", "r26"), ("Prefer", "wait=50")])
            })
        };
        let (first, second) = (held(), held());
        let lease = at.take();
        at.complete(&lease, json!("once"));
        for reply in [soon(first).is(200), soon(second).is(200)] {
            assert_eq!((reply.id(), &reply.json["result"]), (lease.id.clone(), &json!("once")));
        }
    });
    book.rule("R27", |at| {
        let id = keyed(at, "r27", json!({})).is(202).id();
        at.cancel(&id, json!({})).is(200);
        at.delete(&id).is(204);
        let gone = keyed(at, "r27", json!({})).problem(410, "job-deleted");
        assert_eq!(gone.json["job_id"], id);
        // So it is when the job went by itself: its key outlives it.
        let short = json!({"retention_seconds": 1});
        let id = keyed(at, "r27.short", short.clone()).is(202).id();
        at.cancel(&id, json!({})).is(200);
        let path = format!("/v1/jobs/{id}");
        until("the end of its retention", || (at.get(&path, &[]).status == 410).then_some(()));
        let gone = keyed(at, "r27.short", short).problem(410, "job-expired");
        assert_eq!(gone.json["job_id"], id);
    });
    book.rule("R28", |_| {
        let stand = Stand::start();
        let key = [("Idempotency-Key", "r28")];
        let id = stand.post("/v1/jobs", json!({"kind": "a"}), &key).is(202).id();
        let stand = stand.killed();
        let again = stand.post("/v1/jobs", json!({"kind": "a"}), &key).is(202);
        assert_eq!((again.id(), replayed(&again)), (id, true));
    });
    book.rule("R29", |at| {
        let id = keyed(at, "r29", json!({"payload": 1})).is(202).id();
        let mut item = at.body(json!({"payload": 1}));
        item["idempotency_key"] = json!("r29");
        let reply = at.post("/v1/jobs/batch", json!({"jobs": [item, item]}), &[]).is(202);
        for n in 0..2 {
            assert_eq!(
                (&reply.json["jobs"][n]["job_id"], &reply.json["jobs"][n]["replayed"]),
                (&json!(id), &json!(true))
            );
        }
    });
    book.rule("R30", |at| {
        keyed(at, "r30", json!({})).is(202);
        let lease = at.take();
        at.complete(&lease, json!(30));
        let headers = [("Idempotency-Key", "r30"), ("Prefer", "respond-async")];
        assert_eq!(at.post("/v1/jobs", at.body(json!({})), &headers).is(200).json["result"], 30);
    });
    book.rule("R174", |at| {
        let body = json!({"start_by": in_millis(700)});
        let id = keyed(at, "r162", body.clone()).is(202).id();
        assert_eq!(at.done(&id)["error"]["type"], "start-deadline-exceeded");
        let again = keyed(at, "r162", body.clone()).is(202);
        assert_eq!((again.id(), replayed(&again)), (id, true));
        let fresh = keyed(at, "r162-fresh", body.clone()).problem(422, "validation-failed");
        assert_eq!(fresh.json["errors"][0]["pointer"], "/start_by");
        at.post("/v1/jobs", at.body(body), &[]).problem(422, "validation-failed");
    });
}
