//! R158–R159: how long it will take.

use serde_json::json;

use crate::book::Book;
use crate::kit::Stand;

pub fn checks(book: &mut Book) {
    book.rule("R158", |at| {
        // The first guess is the client's word, and then it is what was seen: milliseconds.
        let kind = at.queue.clone();
        let body = json!({"kind": kind, "expected_duration_seconds": 200});
        let first = at.post("/v1/jobs", at.body(body.clone()), &[("Prefer", "respond-async")]);
        assert!(first.is(202).retry_after() >= 100, "as long as the client expects");
        let lease = at.take();
        at.complete(&lease, json!(1));
        for _ in 0..25 {
            at.put(json!({"kind": kind}));
            let lease = at.take();
            at.complete(&lease, json!(1));
        }
        at.put(body);
        let lease = at.take();
        let seen = at.get(&format!("/v1/jobs/{}", lease.id), &[]).is(200).retry_after();
        assert!(seen <= 30, "{seen} s for what takes no time");
    });
    book.rule("R159", |_| {
        let stand = Stand::start();
        for _ in 0..3 {
            stand.submit(json!({"kind": "told"}));
            let lease = stand.lease("w", "default");
            stand.complete(&lease, json!(1));
        }
        let kinds = stand.get("/v1/kinds", &[]).is(200).json;
        let kinds = kinds["kinds"].as_array().expect("kinds").clone();
        let told = kinds.iter().find(|k| k["kind"] == "told").expect("its kind");
        assert_eq!((&told["samples"], &told["completed"]), (&json!(3), &json!(3)), "{told}");
        for what in ["run_seconds", "wait_seconds"] {
            for share in ["p50", "p90", "p99"] {
                assert!(told[what][share].as_f64() >= Some(0.0), "{told}");
            }
        }
    });
}
