//! R187–R190: the order of those who come back, and bounds of claims, stories and pauses.

use serde_json::{Value, json};

use crate::book::Book;
use crate::kit::{Lease, Stand, in_millis, moment};

pub fn checks(book: &mut Book) {
    book.rule("R187", |at| {
        let back = at.taken(json!({}));
        let waits = at.put(json!({}));
        at.fail(&back, json!({"retry_after_seconds": 0}));
        assert_eq!([at.take().id, at.take().id], [waits, back.id]);
        // A busy machine may need longer than the first of these.
        let put = [0.5, 4.0, 20.0].into_iter().find_map(|delay| {
            let due = at.put(json!({"delay_seconds": delay}));
            let waits = at.put(json!({}));
            let in_time = at.job(&due)["pending_reason"] == "scheduled";
            if !in_time {
                for lease in [at.take(), at.take()] {
                    at.complete(&lease, json!(1));
                }
            }
            in_time.then_some((due, waits))
        });
        let (due, waits) = put.expect("in time");
        at.when(&due, |job| job["pending_reason"] == "queued");
        assert_eq!([at.take().id, at.take().id], [waits, due]);
    });
    book.rule("R188", |_| {
        let stand = Stand::configured(&[("JOBS__MAX_PAYLOAD_BYTES", "12MiB")], "");
        let put = |mebibytes: usize| {
            stand.submit(json!({"kind": "a", "payload": "x".repeat(mebibytes << 20)}))
        };
        let (one, two, three) = (put(9), put(9), put(6));
        let claim = json!({"worker_id": "w", "queues": ["default"], "max_jobs": 9});
        let given = || -> Vec<Value> {
            let jobs = stand.claim(claim.clone())["jobs"].clone();
            jobs.as_array().expect("jobs").iter().map(|job| job["job_id"].clone()).collect()
        };
        assert_eq!(given(), [json!(one)]);
        assert_eq!(given(), [json!(two), json!(three)]);
        let meta = stand.get("/v1/meta", &[]).is(200).json;
        assert_eq!(meta["limits"]["claim_bytes"], 16 << 20);
    });
    book.rule("R189", |at| {
        at.put(json!({"max_attempts": 100}));
        let mut lease = at.take();
        for _ in 1..100 {
            let failed = json!({"job_id": lease.id, "lease_token": lease.token, "outcome": "failed",
                                "error": {"type": "t", "message": "m"}, "retry_after_seconds": 0});
            let body =
                json!({"worker_id": at.queue, "claim": at.asks(json!({})), "settlements": [failed]});
            let next = at.post("/v1/settlements", body, &[]).is(200).json;
            lease = next["jobs"].get(0).map_or_else(|| at.take(), Lease::of);
        }
        at.complete(&lease, json!(1));
        let told = at.get(&format!("/v1/jobs/{}/timeline", lease.id), &[]).is(200).json;
        let events = told["events"].as_array().expect("events");
        assert!((100..=200).contains(&events.len()), "{}", events.len());
        assert!(events.is_sorted_by(|a, b| a["seq"].as_u64() < b["seq"].as_u64()));
        let (first, last) = (&events[0], &events[events.len() - 1]);
        assert_eq!((&first["type"], &last["type"]), (&json!("submitted"), &json!("completed")));
        let claimed = events.iter().rfind(|e| e["type"] == "claimed").expect("one");
        assert_eq!(claimed["attempt"], 100);
    });
    book.rule("R190", |at| {
        let id = at.put(json!({}));
        let until = in_millis(4_000);
        let pause = format!("/v1/queues/{}/pause", at.queue);
        let paused = at.post(&pause, json!({"until": until}), &[]).is(200).json;
        assert_eq!((&paused["paused"], &paused["paused_until"]), (&json!(true), &json!(until)));
        // Who waits is woken at the end, without anybody's doing.
        let lease = at.take();
        let job = at.job(&lease.id);
        assert_eq!(lease.id, id);
        assert!(moment(&job["started_at"]) >= moment(&json!(until)), "{job}");
        let queue = at.get(&format!("/v1/queues/{}", at.queue), &[]).is(200).json;
        assert!(queue["paused"] == false && queue.get("paused_until").is_none(), "{queue}");
    });
}
