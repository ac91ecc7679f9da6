//! Doing a finished job's work again: the new job and the mark on its source are one, and however
//! often and by however many it is asked for, one job comes of it.

use std::collections::BTreeSet;

use punctual::domain::id::JobId;
use punctual::domain::job::{JobError, Record, Requester, Status, Tally};
use punctual::domain::rerun::{Changes, rerun};
use punctual::domain::state::Rejected;
use punctual::domain::time::Timestamp;
use punctual::store::{Absence, Depth, NewJob, Outcome, QueueLimits, Retried, Submitted};

use crate::stores::{
    DAY, START, Settings, World, at, completed, counts, for_each_store, for_each_store_with, json,
    name, secs,
};

/// The job that a retry of `source` would make.
async fn again(w: &World, source: JobId, now: Timestamp) -> NewJob {
    let record = w.record(source).await;
    let (spec, job) = rerun(&record, w.id(now), &Changes::default(), now).expect("it has ended");
    NewJob { spec, job, key: None }
}

async fn retry(w: &World, source: JobId, force: bool, now: Timestamp) -> (JobId, Retried) {
    let new = again(w, source, now).await;
    (new.spec.id, w.store().retry(source, new, force, now).await.unwrap())
}

/// The same where one must come of it.
async fn retried(w: &World, source: JobId, force: bool, now: Timestamp) -> JobId {
    let (id, answer) = retry(w, source, force, now).await;
    assert_eq!(answer, Retried::Created);
    id
}

fn failure() -> Outcome {
    let error = JobError {
        kind: "boom".to_owned(),
        message: "it broke".to_owned(),
        details: None,
        stack: None,
        attempt: 1,
        at: START,
        retryable: false,
    };
    Outcome::Failed { error, retry_after: None, unit: 0.5 }
}

/// A job that has failed.
async fn failed(w: &World, now: Timestamp) -> JobId {
    let id = w.submit(w.job(now), now).await;
    let leased = w.take_one(now).await;
    w.settle(&leased, failure(), now).await;
    id
}

#[tokio::test]
async fn a_new_job_beside_the_old_one_which_stays_as_it_ended() {
    for_each_store(|w| async move {
        let payload = json(format!("\"{}\"", "p".repeat(5_000)));
        let sources = [Status::Completed, Status::Failed, Status::Cancelled];
        for (n, status) in sources.into_iter().enumerate() {
            let now = at(10 * n as u64);
            let new = w.job_with(now, |new| {
                new.spec.payload = Some(payload.clone());
                new.spec.tags = vec!["red".to_owned()];
                new.spec.priority = 7;
                new.spec.namespace = name("shop");
            });
            let source = w.submit(new, now).await;
            let leased = w.take_one(now).await;
            match status {
                Status::Failed => w.settle(&leased, failure(), now).await,
                Status::Cancelled => {
                    let by = Requester::Operator;
                    w.store().cancel(source, by, None, true, now).await.unwrap().unwrap();
                }
                Status::Pending | Status::Running | Status::Completed => {
                    w.settle(&leased, completed("1"), now).await;
                }
            }
            let before = w.record(source).await;
            assert_eq!((before.job.status(), before.retried_as), (status, None));

            let later = now.plus(secs(5));
            let new = again(&w, source, later).await;
            let answer = w.store().retry(source, new.clone(), false, later).await.unwrap();
            assert_eq!(answer, Retried::Created);
            let id = new.spec.id;
            let after = w.record(source).await;
            assert_eq!(after, Record { retried_as: Some(id), ..before }, "no new version");
            let made = w.record(id).await;
            assert_eq!((&made.spec, &made.job), (&new.spec, &new.job));
            assert_eq!((made.spec.retry_of, made.spec.root), (Some(source), source));
            assert_eq!(made.spec.payload.as_ref(), Some(&payload));
            w.counters_are_exact().await;

            // It works like any other, and has its own end.
            let leased = w.take_one(later).await;
            assert_eq!((leased.spec.id, leased.job.attempt, leased.job.fence), (id, 1, 1));
            assert_eq!(leased.spec.payload.as_ref(), Some(&payload));
            w.settle(&leased, completed("2"), later).await;
            assert_eq!(w.record(source).await.job.status(), status);
        }
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn asked_again_it_is_the_same_job_as_it_is_by_then() {
    for_each_store(|w| async move {
        let source = failed(&w, START).await;
        let id = retried(&w, source, false, at(1)).await;
        let Retried::Replayed(record) = retry(&w, source, false, at(2)).await.1 else {
            panic!("a repetition");
        };
        assert_eq!((record.spec.id, record.job.status()), (id, Status::Pending));
        let leased = w.take_one(at(3)).await;
        w.settle(&leased, failure(), at(3)).await;
        let Retried::Replayed(record) = retry(&w, source, false, at(4)).await.1 else {
            panic!("a repetition");
        };
        assert_eq!((record.spec.id, record.job.status()), (id, Status::Failed));
        assert_eq!(w.tallies("q", at(4)).await, counts(&[(Tally::Failed, 2)]));

        // By force another each time; the source names the latest.
        let second = retried(&w, source, true, at(5)).await;
        let third = retried(&w, source, true, at(6)).await;
        assert_eq!(w.record(source).await.retried_as, Some(third));
        assert_eq!(w.record(second).await.spec.retry_of, Some(source));
        let Retried::Replayed(record) = retry(&w, source, false, at(7)).await.1 else {
            panic!("a repetition");
        };
        assert_eq!(record.spec.id, third);

        // What came of it can be retried too, and is a source of its own.
        let fourth = retried(&w, id, false, at(8)).await;
        let chain = w.record(fourth).await.spec;
        assert_eq!((chain.retry_of, chain.root), (Some(id), source));
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn what_has_not_ended_or_is_not_there_is_not_retried() {
    for_each_store(|w| async move {
        let ended = failed(&w, START).await;
        let waits = w.submit(w.job(at(1)), at(1)).await;
        let runs = w.take_one(at(1)).await.spec.id;
        assert_eq!(waits, runs);
        let new = again(&w, ended, at(2)).await;
        let refused = w.store().retry(runs, new.clone(), true, at(2)).await.unwrap();
        assert_eq!(refused, Retried::Refused(Rejected::JobNotFinished));
        let scheduled = w.job_with(at(2), |n| {
            let policy = n.job.policy;
            n.job = punctual::domain::job::Job::accepted(at(2), Some(at(99)), None, 3, policy);
        });
        let scheduled = w.submit(scheduled, at(2)).await;
        let refused = w.store().retry(scheduled, new.clone(), false, at(2)).await.unwrap();
        assert_eq!(refused, Retried::Refused(Rejected::JobNotFinished));
        let unknown = w.store().retry(w.id(at(2)), new.clone(), false, at(2)).await.unwrap();
        assert_eq!(unknown, Retried::Gone(Absence::Unknown));
        w.store().delete(ended, DAY, at(3)).await.unwrap().unwrap();
        let gone = w.store().retry(ended, new.clone(), true, at(3)).await.unwrap();
        assert_eq!(gone, Retried::Gone(Absence::Deleted));
        assert_eq!(w.absence(new.spec.id).await, Absence::Unknown, "nothing was created");
        assert_eq!(w.total(at(3)).await, 2);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn what_came_of_it_may_be_gone_and_is_not_done_a_third_time_unasked() {
    for_each_store(|w| async move {
        let source = failed(&w, START).await;
        let id = retried(&w, source, false, at(1)).await;
        let leased = w.take_one(at(2)).await;
        w.complete(&leased, at(2)).await;
        w.store().delete(id, DAY, at(3)).await.unwrap().unwrap();
        let answer = retry(&w, source, false, at(4)).await.1;
        assert_eq!(answer, Retried::ReplayedGone(id, Absence::Deleted));
        let second = retried(&w, source, true, at(5)).await;
        let leased = w.take_one(at(6)).await;
        assert_eq!(leased.spec.id, second);
        w.complete(&leased, at(6)).await;
        w.store().expire(10, 30 * DAY, at(7).plus(DAY)).await.unwrap();
        let answer = retry(&w, source, false, at(8).plus(DAY)).await.1;
        assert_eq!(answer, Retried::ReplayedGone(second, Absence::Expired));

        // The source may go first, and what came of it does not miss it.
        let now = at(9).plus(DAY);
        let third = retried(&w, source, true, now).await;
        w.store().delete(source, DAY, now).await.unwrap().unwrap();
        let leased = w.take_one(now).await;
        assert_eq!((leased.spec.id, leased.spec.retry_of), (third, Some(source)));
        assert_eq!(leased.spec.payload, Some(json(r#"{"n":1}"#)));
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn however_many_ask_at_once_one_job_comes_of_it() {
    for_each_store(|w| async move {
        for round in 0..10u64 {
            let now = at(round);
            let source = failed(&w, now).await;
            let mut tasks = tokio::task::JoinSet::new();
            for _ in 0..16 {
                let (new, store) = (again(&w, source, now).await, w.share());
                tasks.spawn(async move {
                    let id = new.spec.id;
                    let answer = store.retry(source, new, false, now).await.unwrap();
                    if let Retried::Replayed(record) = answer {
                        return (false, record.spec.id);
                    }
                    assert_eq!(answer, Retried::Created);
                    (true, id)
                });
            }
            let answers = tasks.join_all().await;
            let made: BTreeSet<JobId> = answers.iter().map(|(_, id)| *id).collect();
            assert_eq!(made.len(), 1, "{answers:?}");
            assert_eq!(answers.iter().filter(|(created, _)| *created).count(), 1);
            assert_eq!(w.record(source).await.retried_as, made.first().copied());
            let leased = w.take(20, now).await;
            assert_eq!(leased.len(), 1);
            w.complete(&leased[0], now).await;
        }
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_retry_outlives_the_server_whole() {
    let settings = Settings { synced: true, ..Settings::default() };
    for_each_store_with(settings, |mut w| async move {
        let source = failed(&w, START).await;
        let id = retried(&w, source, false, at(1)).await;
        for round in 0..2 {
            if round == 0 {
                w.crash(at(2));
            } else {
                w.restart(at(3)).await;
            }
            assert_eq!(w.record(source).await.retried_as, Some(id));
            let Retried::Replayed(record) = retry(&w, source, false, at(4)).await.1 else {
                panic!("a repetition");
            };
            assert_eq!((record.spec.id, record.spec.retry_of), (id, Some(source)));
            w.counters_are_exact().await;
        }
        assert_eq!(w.take_one(at(5)).await.spec.id, id);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_that_nobody_waits_for_is_there_with_its_mark_or_not_at_all() {
    for_each_store(|mut w| async move {
        for round in 0..10u64 {
            let now = at(round);
            let source = failed(&w, now).await;
            let (new, store) = (again(&w, source, now).await, w.share());
            let id = new.spec.id;
            let asking =
                tokio::spawn(async move { drop(store.retry(source, new, false, now).await) });
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            asking.abort();
            drop(asking.await);
            w.crash(now);
            match w.record(source).await.retried_as {
                Some(made) => {
                    assert_eq!(made, id);
                    let leased = w.take_one(now).await;
                    assert_eq!(leased.spec.id, id);
                    w.complete(&leased, now).await;
                }
                None => assert_eq!(w.absence(id).await, Absence::Unknown),
            }
            w.counters_are_exact().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_takes_no_retry_and_marks_nothing() {
    for_each_store(|w| async move {
        let source = failed(&w, START).await;
        let limits = vec![QueueLimits { max_depth: Some(1), ..QueueLimits::none(name("q")) }];
        w.store().set_limits(limits, at(1)).await.unwrap();
        let waits = w.submit(w.job(at(1)), at(1)).await;
        let answer = retry(&w, source, false, at(2)).await.1;
        assert_eq!(answer, Retried::QueueFull(Depth { jobs: 1, max: 1 }));
        assert_eq!(w.record(source).await.retried_as, None);
        // It is the new job's queue that counts.
        let mut elsewhere = again(&w, source, at(2)).await;
        elsewhere.spec.queue = name("other");
        let id = elsewhere.spec.id;
        let answer = w.store().retry(source, elsewhere, false, at(2)).await.unwrap();
        assert_eq!(answer, Retried::Created);
        // And repetitions need no room.
        let answer = retry(&w, source, false, at(3)).await.1;
        assert!(matches!(&answer, Retried::Replayed(r) if r.spec.id == id), "{answer:?}");
        let answer = retry(&w, source, true, at(3)).await.1;
        assert!(matches!(answer, Retried::QueueFull(_)), "{answer:?}");
        w.store().cancel(waits, Requester::Client, None, false, at(4)).await.unwrap().unwrap();
        retried(&w, source, true, at(5)).await;
        // A retry takes room as a submission does.
        let answer = w.store().submit(vec![w.job(at(6))], at(6)).await.unwrap();
        assert!(matches!(answer[..], [Submitted::QueueFull(_)]), "{answer:?}");
        w.counters_are_exact().await;
    })
    .await;
}
