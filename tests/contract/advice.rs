//! R191–R194: what `Retry-After` says.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::book::Book;
use crate::kit::{At, in_millis, moment};

/// What a poll is told.
fn told(at: &At, id: &str) -> u64 {
    at.get(&format!("/v1/jobs/{id}"), &[]).is(200).retry_after()
}

/// A body of a kind of its own, of which nothing is known but the client's word.
fn hinted(at: &At, seconds: u32, mut members: Value) -> Value {
    members["kind"] = json!(at.queue);
    members["expected_duration_seconds"] = json!(seconds);
    members
}

pub fn checks(book: &mut Book) {
    book.rule("R191", |at| {
        at.put(hinted(at, 200, json!({})));
        let lease = at.lease_by(at.asks(json!({"lease_seconds": 30})));
        assert!(told(at, &lease.id) > 100);
        let asked = at.cancel(&lease.id, json!({})).is(202);
        assert!(asked.retry_after() <= 10, "a third of the lease: {}", asked.retry_after());
        assert!(told(at, &lease.id) <= 10);
    });
    book.rule("R192", |at| {
        let headers = [("Content-Type", "application/merge-patch+json")];
        let queue = format!("/v1/queues/{}", at.queue);
        at.ask("PATCH", &queue, &headers, br#"{"max_depth":1}"#).is(200);
        at.put(json!({}));
        let refused = (0..20).map(|_| {
            let refused = at.post("/v1/jobs", at.body(json!({})), &[]).problem(503, "queue-full");
            refused.retry_after()
        });
        let refused: BTreeSet<u64> = refused.collect();
        assert!(refused.iter().all(|told| (1..=300).contains(told)), "{refused:?}");
        assert!(refused.len() > 1, "they all come back together: {refused:?}");
    });
    book.rule("R193", |at| {
        let later = at.put(hinted(at, 5, json!({"delay_seconds": 1_000})));
        let failed = at.taken(hinted(at, 5, json!({})));
        at.fail(&failed, json!({"retry_after_seconds": 1_000}));
        for id in [&later, &failed.id] {
            let run_at = moment(&at.job(id)["run_at"]);
            let left = || run_at.duration_since(moment(&json!(in_millis(0)))).as_secs() as u64;
            let (before, told, after) = (left(), told(at, id), left());
            assert!((after..before + before / 10 + 20).contains(&told), "{told} s of {before} s");
        }
        let pause = format!("/v1/queues/{}/pause", at.queue);
        at.post(&pause, json!({"until": in_millis(1_000_000)}), &[]).is(200);
        let paused = at.put(json!({}));
        assert!(told(at, &paused) > 600, "until the end of the pause");
        // In a day: an hour is the most that is told; of mere guesses, five minutes.
        let tomorrow = at.put(json!({"delay_seconds": 86_400}));
        assert_eq!(told(at, &tomorrow), 3_600);
        let slow = at.lease_by({
            let queue = format!("{}.slow", at.queue);
            at.submit(
                json!({"kind": at.queue, "queue": queue, "expected_duration_seconds": 9_000}),
            );
            json!({"worker_id": at.queue, "queues": [queue]})
        });
        assert_eq!(told(at, &slow.id), 300);
    });
    book.rule("R194", |at| {
        let ids: Vec<String> = (0..20).map(|_| at.put(hinted(at, 200, json!({})))).collect();
        let first: Vec<u64> = ids.iter().map(|id| told(at, id)).collect();
        // Later than the estimate by up to a tenth, by the job's id: apart, and each by itself steady.
        assert!(first.iter().all(|told| (200..=230).contains(told)), "{first:?}");
        assert!(first.iter().collect::<BTreeSet<_>>().len() > 3, "{first:?}");
        for _ in 0..3 {
            let again: Vec<u64> = ids.iter().map(|id| told(at, id)).collect();
            assert_eq!(again, first);
        }
    });
}
