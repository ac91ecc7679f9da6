//! Closing, crashing and opening again: nothing that was answered is lost.

use punctual::domain::directive::Directive;
use punctual::domain::job::Status;
use punctual::store::{Absence, ListFilter, Outcome, Presence, StoreError, Submitted};

use crate::stores::{
    DAY, START, Settings, World, at, completed, for_each_store, for_each_store_with, ids, json,
    key, name, report, secs, worker,
};

/// A little of everything; its whole visible state as text.
async fn furnish(w: &World) {
    w.submit(w.job_with(START, |n| n.key = key("key", 1)), START).await;
    w.submit_many(6, START).await;
    let leased = w.take(5, at(1)).await;
    w.settle(&leased[0], completed(format!("\"{}\"", "r".repeat(5_000))), at(2)).await;
    w.settle(&leased[1], Outcome::Released { delay: Some(secs(60)) }, at(2)).await;
    w.settle(&leased[2], completed("1"), at(2)).await;
    w.store().delete(leased[2].spec.id, DAY, at(3)).await.unwrap().unwrap();
    w.store().pause(name("p"), Some("why".to_owned()), Some(at(500)), at(3)).await.unwrap();
    let presence = Presence {
        worker: worker("w1"),
        namespace: Some(name("shop")),
        queues: vec![name("q")],
        kinds: Vec::new(),
        capacity: 1,
        hostname: None,
        version: None,
        directive: Directive::Drain,
        last_seen: at(4),
        last_claim: Some(at(1)),
        last_heartbeat: None,
        last_settlement: Some(at(1)),
    };
    w.store().record_presence(vec![presence], at(4)).await.unwrap();
}

async fn snapshot(w: &World) -> Vec<String> {
    let page = w.store().list(ListFilter::default(), None, 100).await.unwrap();
    let mut lines = Vec::new();
    for listed in page.jobs {
        let id = listed.spec.id;
        lines.push(format!("{listed:?}"));
        lines.push(format!("{:?}", w.record(id).await));
        lines.push(format!("{:?}", w.store().result(id).await.unwrap()));
    }
    lines.push(format!("{:?}", w.store().sample(at(9)).await.unwrap().queues));
    lines.push(format!("{:?}", w.store().workers().await.unwrap()));
    lines
}

#[tokio::test]
async fn everything_is_there_after_a_restart_and_after_a_crash() {
    let settings = Settings { synced: true, ..Settings::default() };
    for_each_store_with(settings, |mut w| async move {
        furnish(&w).await;
        let before = snapshot(&w).await;
        w.restart(at(10)).await;
        assert_eq!(snapshot(&w).await, before);
        w.counters_are_exact().await;
        w.crash(at(11));
        assert_eq!(snapshot(&w).await, before);
        w.counters_are_exact().await;
        // The key too.
        let again = w.job_with(at(12), |n| n.key = key("key", 1));
        let answers = w.store().submit(vec![again], at(12)).await.unwrap();
        assert!(matches!(answers[0], Submitted::Replayed(_)), "{answers:?}");
    })
    .await;
}

#[tokio::test]
async fn identity_stays_and_time_does_not_go_back() {
    for_each_store(|mut w| async move {
        let first = w.store().identity().clone();
        assert_eq!((first.created_at, first.last_seen), (START, START));
        assert_eq!(w.namespaces(), [name("default")]);
        let probe =
            punctual::domain::id::IdMint::new(first.id_secret.clone()).mint(START, "default", 7);
        w.submit(w.job_with(at(50), |n| n.spec.namespace = name("shop")), at(50)).await;
        w.store().sample(at(99)).await.unwrap();
        // An earlier moment than the latest does not turn it back.
        w.submit_many(1, at(40)).await;
        for round in 0..2 {
            if round == 0 {
                w.restart(at(5)).await;
            } else {
                w.crash(at(6));
            }
            let identity = w.store().identity();
            assert!(identity.id_secret.verify(&probe, "default"), "the secret is kept");
            assert_eq!(identity.created_at, START);
            assert_eq!(identity.last_seen, at(50));
            assert_eq!(w.namespaces(), [name("default"), name("shop")]);
            assert_eq!(identity.backend, first.backend);
        }
    })
    .await;
}

#[tokio::test]
async fn the_line_goes_on() {
    for_each_store(|mut w| async move {
        let mut line = w.submit_many(3, START).await;
        let given = w.take(1, at(1)).await;
        w.crash(at(2));
        line.extend(w.submit_many(3, at(2)).await);
        w.store().withdraw(vec![(line[0], given[0].job.fence)], at(3)).await.unwrap();
        w.restart(at(4)).await;
        line.extend(w.submit_many(2, at(4)).await);
        let leased = w.take(20, at(5)).await;
        assert_eq!(ids(&leased), line);
        assert_eq!(leased[0].job.fence, 2);
    })
    .await;
}

#[tokio::test]
async fn a_lease_outlives_the_server() {
    for_each_store(|mut w| async move {
        let id = w.submit(w.job(START), START).await;
        let leased = w.take_one(at(1)).await;
        w.crash(at(2));
        assert!(w.take(1, at(2)).await.is_empty());
        assert_eq!(w.store().extend_leases(at(100)).await.unwrap(), 1);
        let (rulings, _) =
            w.store().settle(vec![report(&leased, completed("2"))], None, at(101)).await.unwrap();
        assert!(rulings[0].is_ok());
        assert_eq!(w.record(id).await.job.status(), Status::Completed);
        assert_eq!(w.record(id).await.result.unwrap().inline, Some(json("2")));
    })
    .await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    for_each_store(|w| async move {
        let id = w.submit(w.job(START), START).await;
        w.store().close().await;
        w.store().close().await;
        let closed = Err(StoreError::Closed);
        assert_eq!(w.store().submit(vec![w.job(at(1))], at(1)).await, closed);
        assert_eq!(w.store().get(id, true).await, Err(StoreError::Closed));
        assert_eq!(w.store().recount().await, Err(StoreError::Closed));
        let claim = w.store().claim(w.ask(&["q"], 1, at(1)), at(1)).await;
        assert_eq!(claim.err(), Some(StoreError::Closed));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_answered_before_closing_is_kept_and_nothing_is_half_done() {
    for_each_store(|mut w| async move {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let new = w.job(START);
            let store = w.share();
            tasks.spawn(async move {
                let id = new.spec.id;
                (id, store.submit(vec![new], START).await)
            });
        }
        w.store().close().await;
        let answers = tasks.join_all().await;
        w.crash(at(1));
        for (id, answer) in &answers {
            match answer {
                Ok(_) => assert_eq!(w.record(*id).await.spec.id, *id),
                Err(error) => {
                    assert_eq!(*error, StoreError::Closed);
                    assert_eq!(w.absence(*id).await, Absence::Unknown);
                }
            }
        }
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_nobody_waits_for_is_over_before_the_store_opens_again() {
    for_each_store(|mut w| async move {
        for round in 0..10u64 {
            let now = at(round);
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..30 {
                let (new, store) = (w.job(now), w.share());
                tasks.spawn(async move { drop(store.submit(vec![new], now).await) });
            }
            tokio::task::yield_now().await;
            // Their callers are gone; some of their work is under way, some has not begun.
            tasks.shutdown().await;
            w.crash(now);
            let before = w.total(now).await;
            w.counters_are_exact().await;
            w.submit_many(1, now).await;
            assert_eq!(w.total(now).await, before + 1, "nothing came after the opening");
        }
        let line = ids(&w.take(1_000, at(99)).await);
        let listed = w.store().list(ListFilter::default(), None, 1_000).await.unwrap();
        let mut submitted: Vec<_> = listed.jobs.iter().map(|r| r.spec.id).collect();
        submitted.reverse();
        assert_eq!(line, submitted, "no two jobs have the same place in line");
    })
    .await;
}
