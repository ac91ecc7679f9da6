//! Names: a stranger can make up any number, a store keeps so many, and of those that nothing uses
//! it forgets all but a few.

use punctual::domain::job::Requester;
use punctual::domain::names::Name;
use punctual::domain::overrides::{IfMatch, QueueKey, Setting};
use punctual::domain::rerun::{Changes, rerun};
use punctual::domain::time::Timestamp;
use punctual::domain::watch::{Evidence, Verdict};
use punctual::store::{
    Changed, Episode, ListFilter, MAX_NAMES, NamesFull, NewJob, Overriding, QueueLimits, Retried,
    Submitted,
};

use super::stores::{DAY, START, World, at, for_each_store, key, name, secs};

const BATCH: usize = 1_000;

fn named(w: &World, queue: &str, kind: &str, now: Timestamp) -> NewJob {
    w.job_with(now, |new| {
        // The server's own begin as no client's may.
        (new.spec.queue, new.spec.kind) = (Name::trusted(queue), Name::trusted(kind));
    })
}

/// As many new names of queues, and of kinds; from the one with this number on.
async fn make_up(w: &World, from: usize, names: usize, now: Timestamp) {
    for batch in (from..from + names).collect::<Vec<_>>().chunks(BATCH) {
        let jobs = batch.iter().map(|n| named(w, &format!("q{n}"), &format!("k{n}"), now));
        let answers = w.store().submit(jobs.collect(), now).await.unwrap();
        assert!(answers.iter().all(|a| *a == Submitted::Created));
    }
}

async fn known(w: &World, now: Timestamp) -> [u64; 2] {
    w.store().sample(now).await.unwrap().names
}

async fn send(w: &World, new: NewJob, now: Timestamp) -> Submitted {
    w.store().submit(vec![new], now).await.unwrap().remove(0)
}

async fn cancel_all(w: &World, now: Timestamp) {
    let mut before = None;
    loop {
        let page = w.store().list(ListFilter::default(), before, 1_000).await.unwrap();
        for record in page.jobs.iter().filter(|r| !r.job.status().is_done()) {
            let id = record.spec.id;
            w.store().cancel(id, Requester::Client, None, true, now).await.unwrap().unwrap();
        }
        match page.next {
            Some(next) => before = Some(next),
            None => return,
        }
    }
}

/// Retention, until it finds nothing more to do.
async fn forget(w: &World, now: Timestamp) {
    for _ in 0..100 {
        if !w.store().expire(1_000, secs(0), now).await.unwrap().more {
            return;
        }
    }
    panic!("retention has no end");
}

#[tokio::test]
async fn one_name_too_many_is_refused_and_what_is_known_goes_on() {
    for_each_store(|mut w| async move {
        make_up(&w, 0, MAX_NAMES - 1, at(1)).await;
        let first = w.job_with(at(1), |new| new.key = key("first", 1));
        assert_eq!(send(&w, first.clone(), at(1)).await, Submitted::Created, "the last that fits");
        assert_eq!(known(&w, at(1)).await, [MAX_NAMES as u64; 2]);
        for again in 0..2 {
            let new = |queue, kind| named(&w, queue, kind, at(2));
            assert_eq!(
                send(&w, new("new", "k"), at(2)).await,
                Submitted::TooManyNames(NamesFull::Store)
            );
            assert_eq!(
                send(&w, new("q", "new"), at(2)).await,
                Submitted::TooManyNames(NamesFull::Store)
            );
            assert_eq!(send(&w, new("q7", "k9"), at(2)).await, Submitted::Created);
            // All or nothing, and the first that is one too many is named.
            let batch = vec![new("q1", "k1"), new("q2", "new"), new("q3", "k3")];
            let answers = w.store().submit(batch, at(2)).await.unwrap();
            assert_eq!(answers[1], Submitted::TooManyNames(NamesFull::Store));
            assert_eq!(w.total(at(2)).await, (MAX_NAMES + 1 + again) as u64);
            // What repeats makes no name, and the server's own fit always.
            let repeated = send(&w, NewJob { key: key("first", 1), ..w.job(at(3)) }, at(3)).await;
            assert!(matches!(repeated, Submitted::Replayed(_)), "{repeated:?}");
            w.crash(at(4));
        }
        assert_eq!(
            send(&w, named(&w, "_ours", "system.x", at(5)), at(5)).await,
            Submitted::Created
        );
        // What the configuration names is there all the same.
        w.store().set_limits(vec![QueueLimits::none(name("declared"))], at(5)).await.unwrap();
        assert_eq!(send(&w, named(&w, "declared", "k", at(5)), at(5)).await, Submitted::Created);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn names_that_nothing_uses_make_room_but_for_a_few() {
    for_each_store(|mut w| async move {
        w.store().set_limits(vec![QueueLimits::none(name("declared"))], START).await.unwrap();
        make_up(&w, 0, 3_000, at(1)).await;
        w.store().pause(name("q5"), None, None, at(1)).await.unwrap();
        cancel_all(&w, at(2)).await;
        forget(&w, at(3)).await;
        assert_eq!(known(&w, at(3)).await, [3_001, 3_000], "their jobs are kept for a while");
        // These are used again.
        let day = at(3).plus(DAY);
        for n in [7, 2_000] {
            w.submit(named(&w, &format!("q{n}"), &format!("k{n}"), day), day).await;
        }
        forget(&w, day).await;
        assert_eq!(known(&w, day).await, [(MAX_NAMES / 10) as u64; 2]);
        let is_known = async |w: &World, queue: &str| {
            let sample = w.store().sample(day).await.unwrap();
            sample.queues.iter().any(|q| q.state.name == name(queue))
        };
        for (queue, there) in [
            ("q0", false),
            ("q5", true),
            ("q7", true),
            ("q2000", true),
            ("declared", true),
            ("q2999", true),
        ] {
            assert_eq!(is_known(&w, queue).await, there, "{queue}");
        }
        w.counters_are_exact().await;
        w.restart(day).await;
        assert!(is_known(&w, "declared").await && !is_known(&w, "q0").await);
        // A name that was forgotten is as good as any.
        let id = w.submit(named(&w, "q0", "k0", day), day).await;
        let leased = w.claim(w.ask(&["q0"], 1, day), day).await.jobs;
        assert_eq!(leased[0].spec.id, id);
        assert_eq!(leased[0].spec.kind, name("k0"));
        w.complete(&leased[0], day).await;
        let record = w.record(id).await;
        assert_eq!((record.spec.queue, record.spec.kind), (name("q0"), name("k0")));
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_queue_that_is_declared_no_more_is_like_any_other() {
    for_each_store(|w| async move {
        let declared = vec![QueueLimits::none(name("a")), QueueLimits::none(name("b"))];
        w.store().set_limits(declared, START).await.unwrap();
        w.store().set_limits(vec![QueueLimits::none(name("b"))], START).await.unwrap();
        make_up(&w, 0, MAX_NAMES / 10 + 5, at(1)).await;
        forget(&w, at(2)).await;
        let sample = w.store().sample(at(2)).await.unwrap();
        let there = |queue: &str| sample.queues.iter().any(|q| q.state.name == name(queue));
        assert!(!there("a") && there("b") && there("q0"));
    })
    .await;
}

#[tokio::test]
async fn what_operators_and_retries_name_is_held_to_the_same() {
    for_each_store(|w| async move {
        let done = w.submit(w.job(at(1)), at(1)).await;
        let leased = w.take_one(at(1)).await;
        w.complete(&leased, at(1)).await;
        make_up(&w, 0, MAX_NAMES - 1, at(1)).await;
        assert_eq!(known(&w, at(1)).await, [MAX_NAMES as u64; 2]);
        let set = |queue: &str| Overriding {
            changes: [(QueueKey::MaxDepth, Some(Setting::Count(9)))].into_iter().collect(),
            by: "ann".to_owned(),
            if_match: IfMatch::Any,
            configured: QueueLimits::none(name(queue)),
        };
        let store = w.store();
        for (queue, there) in [("new", false), ("q3", true)] {
            let answers = [
                store.pause(name(queue), None, None, at(2)).await.unwrap(),
                store.resume(name(queue), at(2)).await.unwrap(),
                store.override_settings(set(queue), at(2)).await.unwrap(),
            ];
            for answer in answers {
                assert_eq!(matches!(answer, Changed::Done(_)), there, "{answer:?}");
                assert!(there || answer == Changed::TooManyNames, "{answer:?}");
            }
            let changes = Changes { queue: Some(name(queue)), ..Changes::default() };
            let (spec, job) = rerun(&w.record(done).await, w.id(at(2)), &changes, at(2)).unwrap();
            let retried = store.retry(done, NewJob { spec, job, key: None }, false, at(2)).await;
            let expected =
                if there { Retried::Created } else { Retried::TooManyNames(NamesFull::Store) };
            assert_eq!(retried.unwrap(), expected);
        }
        assert_eq!(known(&w, at(2)).await, [MAX_NAMES as u64; 2]);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn no_namespace_brings_in_more_than_its_share() {
    for_each_store(|mut w| async move {
        let of = |w: &World, namespace: &str, queue: &str, kind: &str| {
            let mut new = named(w, queue, kind, at(1));
            new.spec.namespace = name(namespace);
            new
        };
        let full = Submitted::TooManyNames(NamesFull::Namespace { max: 3 });
        w.store().limit_names(Some(3));
        for n in 0..3 {
            let (queue, kind) = (format!("a{n}"), format!("ak{n}"));
            assert_eq!(send(&w, of(&w, "a", &queue, &kind), at(1)).await, Submitted::Created);
        }
        for again in 0..2 {
            for (queue, kind) in [("more", "ak0"), ("a0", "more"), ("more", "more")] {
                assert_eq!(send(&w, of(&w, "a", queue, kind), at(1)).await, full, "{queue} {kind}");
            }
            // What is known is everybody's, and the others have shares of their own.
            let (queue, kind) = (format!("b{again}"), format!("bk{again}"));
            assert_eq!(send(&w, of(&w, "b", &queue, &kind), at(1)).await, Submitted::Created);
            assert_eq!(send(&w, of(&w, "a", &queue, &kind), at(1)).await, Submitted::Created);
            w.crash(at(2));
            w.store().limit_names(Some(3));
        }
        let batch = ["b2", "a1", "b3"].map(|queue| of(&w, "b", queue, "bk0"));
        let answers = w.store().submit(batch.to_vec(), at(3)).await.unwrap();
        assert_eq!(answers[2], full, "the fourth of its own");
        // Operators bring in names for nobody.
        w.pause("paused", None, None, at(3)).await;
        assert_eq!(send(&w, of(&w, "b", "b2", "bk0"), at(3)).await, Submitted::Created);
        w.store().limit_names(None);
        assert_eq!(send(&w, of(&w, "a", "more", "more"), at(3)).await, Submitted::Created);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn what_was_forgotten_counts_for_nobody() {
    for_each_store(|w| async move {
        const KEPT: usize = MAX_NAMES / 10;
        make_up(&w, 0, KEPT + 10, at(1)).await;
        w.store().limit_names(Some(KEPT + 10));
        let new = || named(&w, "new", "new", at(1));
        assert!(matches!(send(&w, new(), at(1)).await, Submitted::TooManyNames(_)));
        cancel_all(&w, at(2)).await;
        let day = at(2).plus(DAY);
        forget(&w, day).await;
        assert_eq!(send(&w, new(), day).await, Submitted::Created);
    })
    .await;
}

/// The watchdog's memory of a queue and kind keeps their names.
#[tokio::test]
async fn what_an_episode_names_is_kept() {
    for_each_store(|w| async move {
        make_up(&w, 0, MAX_NAMES / 10 + 50, at(1)).await;
        let episode = Episode {
            queue: name("q3"),
            kind: name("k3"),
            verdict: Verdict::NoWorkers,
            since: at(99),
            jobs: 1,
            peak_jobs: 1,
            oldest_jobs: Vec::new(),
            evidence: Evidence { at: at(99), ..Evidence::default() },
            ended_at: None,
        };
        w.store().record_episodes(vec![episode]).await.unwrap();
        cancel_all(&w, at(101)).await;
        let day = at(101).plus(DAY);
        forget(&w, day).await;
        let sample = w.store().sample(day).await.unwrap();
        let there = |queue: &str| sample.queues.iter().any(|q| q.state.name == name(queue));
        assert!(there("q3") && !there("q2") && !there("q4"));
    })
    .await;
}
