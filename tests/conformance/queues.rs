//! Pausing and resuming, who is there, and the numbers that metrics are made of.

use punctual::domain::access::Lists;
use punctual::domain::directive::Directive;
use punctual::domain::job::{Job, Policy, Tally};
use punctual::store::{ClaimRequest, Presence, QueueState};

use crate::stores::{DAY, START, at, counts, for_each_store, name, secs, worker};

#[tokio::test]
async fn pausing_is_idempotent_and_remembers_since_when() {
    for_each_store(|w| async move {
        // A queue that no job has been in can be paused ahead.
        let state = w.pause("q", Some("one"), None, at(1)).await;
        let mut expected = QueueState {
            paused_at: Some(at(1)),
            paused_reason: Some("one".to_owned()),
            revision: 1,
            ..QueueState::new(name("q"))
        };
        assert_eq!(state, expected);
        let state = w.pause("q", Some("two"), Some(at(99)), at(2)).await;
        expected.paused_reason = Some("two".to_owned());
        expected.paused_until = Some(at(99));
        expected.revision = 2;
        assert_eq!(state, expected);
        assert_eq!(w.store().sample(at(3)).await.unwrap().queues[0].state, expected);

        let state = w.resume("q", at(4)).await;
        let expected =
            QueueState { resumed_at: Some(at(4)), revision: 3, ..QueueState::new(name("q")) };
        assert_eq!(state, expected);
        assert_eq!(w.resume("q", at(5)).await, expected, "already running");
        assert_eq!(w.store().sample(at(6)).await.unwrap().queues[0].state, expected);
        // The end of an earlier pause is no end of this one.
        w.store().pause(name("q"), None, None, at(7)).await.unwrap();
        assert!(w.store().promote(10, at(1_000)).await.unwrap().is_empty());
        let never = w.resume("other", at(8)).await;
        assert_eq!((never.paused_at, never.resumed_at), (None, None));
    })
    .await;
}

#[tokio::test]
async fn a_pause_stops_claims_only() {
    for_each_store(|w| async move {
        w.submit_many(2, START).await;
        let leased = w.take_one(at(1)).await;
        w.store().pause(name("q"), None, None, at(2)).await.unwrap();
        let id = w.submit(w.job(at(3)), at(3)).await;
        assert!(w.record(id).await.standing.queue_paused);
        w.complete(&leased, at(4)).await;
        assert!(!w.record(leased.spec.id).await.standing.queue_paused, "it waits for nothing");
        assert!(w.take(9, at(5)).await.is_empty());
        w.store().resume(name("q"), at(6)).await.unwrap();
        assert_eq!(w.take(9, at(7)).await.len(), 2);
    })
    .await;
}

fn presence(id: &str, seen: u64) -> Presence {
    Presence {
        worker: worker(id),
        namespace: None,
        queues: vec![name("b"), name("a")],
        kinds: Vec::new(),
        capacity: 4,
        hostname: Some("höst".to_owned()),
        version: None,
        directive: Directive::Continue,
        last_claim: None,
        last_heartbeat: None,
        last_settlement: None,
        last_seen: at(seen),
    }
}

#[tokio::test]
async fn workers_are_one_row_each_with_their_leases() {
    for_each_store(|w| async move {
        w.submit_many(3, START).await;
        w.take(2, at(1)).await;
        let seen = vec![presence("w1", 1), presence("idle 💤", 2)];
        w.store().record_presence(seen, at(2)).await.unwrap();
        let mut workers = w.store().workers().await.unwrap();
        workers.sort_by(|a, b| a.0.worker.cmp(&b.0.worker));
        assert_eq!(workers, [(presence("idle 💤", 2), 0), (presence("w1", 1), 2)]);
        // Seen again, with news; an older sight does not take the last one back.
        let mut news = presence("w1", 9);
        news.kinds = vec![name("k")];
        news.capacity = 1;
        news.hostname = None;
        news.version = Some("1.2".to_owned());
        w.store().record_presence(vec![news.clone()], at(9)).await.unwrap();
        w.store()
            .record_presence(
                vec![Presence {
                    last_claim: None,
                    last_heartbeat: None,
                    last_settlement: None,
                    last_seen: at(5),
                    ..news.clone()
                }],
                at(9),
            )
            .await
            .unwrap();
        let workers = w.store().workers().await.unwrap();
        assert!(workers.contains(&(news.clone(), 2)), "{workers:?}");

        // Asked to leave, it stays so, whatever is written of it by who did not know.
        let leaves = Presence { directive: Directive::Drain, ..news.clone() };
        w.store().record_presence(vec![leaves.clone()], at(9)).await.unwrap();
        w.store().record_presence(vec![news], at(9)).await.unwrap();
        let workers = w.store().workers().await.unwrap();
        assert!(workers.contains(&(leaves, 2)), "{workers:?}");

        w.store().goodbye(worker("w1"), None, Lists::ALL, at(10)).await.unwrap();
        w.store().record_presence(vec![presence("w1", 11)], at(11)).await.unwrap();
        let again = w.store().workers().await.unwrap();
        assert!(again.contains(&(presence("w1", 11), 0)), "a goodbye ends it: {again:?}");
        w.store().goodbye(worker("w1"), None, Lists::ALL, at(12)).await.unwrap();
        let left = w.store().workers().await.unwrap();
        assert_eq!(left, [(presence("idle 💤", 2), 0)]);
    })
    .await;
}

#[tokio::test]
async fn who_is_not_seen_for_a_day_is_forgotten() {
    for_each_store(|w| async move {
        let seen = vec![presence("w1", 0), presence("w2", 60)];
        w.store().record_presence(seen, at(60)).await.unwrap();
        let day = START.plus(DAY);
        w.store().expire(10, DAY, day.minus(secs(1))).await.unwrap();
        assert_eq!(w.store().workers().await.unwrap().len(), 2);
        let step = w.store().expire(10, DAY, day.plus(secs(1))).await.unwrap();
        assert_eq!(step.other, 1);
        assert_eq!(w.store().workers().await.unwrap(), [(presence("w2", 60), 0)]);
    })
    .await;
}

#[tokio::test]
async fn a_sample_counts_by_queue() {
    for_each_store(|w| async move {
        assert!(w.store().sample(START).await.unwrap().queues.is_empty());
        for (queue, kind) in [("a", "x"), ("a", "y"), ("b", "x"), ("a", "x")] {
            let new = w.job_with(START, |n| {
                n.spec.queue = name(queue);
                n.spec.kind = name(kind);
            });
            w.submit(new, START).await;
        }
        let request = ClaimRequest { kinds: vec![name("y")], ..w.ask(&["a"], 5, at(1)) };
        w.claim(request, at(1)).await;
        assert_eq!(w.tallies("a", at(1)).await, counts(&[(Tally::Queued, 2), (Tally::Running, 1)]));
        assert_eq!(w.tallies("b", at(1)).await, counts(&[(Tally::Queued, 1)]));
        let sample = w.store().sample(at(1)).await.unwrap();
        assert!(sample.size_bytes > 0);
        assert_eq!(sample.queues.len(), 2);
        let recount = w.store().recount().await.unwrap();
        assert_eq!(recount.counted, counts(&[(Tally::Queued, 3), (Tally::Running, 1)]));
        assert_eq!((recount.maintained, recount.differing), (recount.counted, 0));
        assert!(recount.drift().iter().all(|(_, n)| *n == 0));
    })
    .await;
}

#[tokio::test]
async fn ages_and_due_jobs() {
    for_each_store(|w| async move {
        let ages = async |now| {
            let sample = w.store().sample(at(now)).await.unwrap();
            let queue = sample.queues.iter().find(|q| q.state.name == name("q")).unwrap();
            (queue.oldest_eligible, queue.due)
        };
        let later = |s| {
            w.job_with(START, |n| {
                n.spec.kind = name("later");
                n.job = Job::accepted(START, Some(at(s)), None, 3, Policy::default());
            })
        };
        w.submit(later(10), START).await;
        w.submit(later(12), START).await;
        assert_eq!(ages(9).await, (None, 0), "what is not due has no age");
        // Due but not yet promoted: eligible all the same.
        assert_eq!(ages(10).await, (Some(at(10)), 1));
        assert_eq!(ages(15).await, (Some(at(10)), 2));
        w.submit(w.job(at(11)), at(11)).await;
        assert_eq!(ages(15).await, (Some(at(10)), 2));
        w.store().promote(1, at(15)).await.unwrap();
        assert_eq!(ages(15).await, (Some(at(10)), 1));
        w.store().promote(9, at(15)).await.unwrap();
        assert_eq!(ages(15).await, (Some(at(10)), 0));
        let request = ClaimRequest { kinds: vec![name("later")], ..w.ask(&["q"], 5, at(16)) };
        w.claim(request, at(16)).await;
        assert_eq!(ages(16).await, (Some(at(11)), 0));
        w.take_one(at(17)).await;
        assert_eq!(ages(17).await, (None, 0), "nobody waits");
    })
    .await;
}
