//! Forgetting: in bounded steps, with tombstones for a while, and with exact counters.

use std::time::Duration;

use punctual::domain::job::{Job, Policy, Requester, Retention, Tally};
use punctual::domain::state::{Change, Rejected};
use punctual::store::{Absence, Beat, Found, Outcome, Refusal, ResultBody, Ruling};

use crate::stores::{
    DAY, START, Settings, at, completed, counts, for_each_store, for_each_store_with, name, report,
    secs,
};

const TOMBSTONE: Duration = DAY.saturating_mul(30);

#[tokio::test]
async fn finished_jobs_go_in_bounded_steps() {
    for_each_store(|w| async move {
        w.submit_many(25, START).await;
        for leased in w.take(23, at(1)).await {
            w.settle(&leased, completed("1"), at(2)).await;
        }
        let day = at(2).plus(DAY);
        let early = w.store().expire(10, TOMBSTONE, day.minus(secs(1))).await.unwrap();
        assert_eq!((early.jobs, early.more), (0, false));
        let mut steps = Vec::new();
        for _ in 0..4 {
            let step = w.store().expire(10, TOMBSTONE, day).await.unwrap();
            steps.push((step.jobs, step.more));
            w.counters_are_exact().await;
        }
        assert_eq!(steps, [(10, true), (10, true), (3, false), (0, false)]);
        assert_eq!(w.tallies("q", day).await, counts(&[(Tally::Queued, 2)]));
    })
    .await;
}

#[tokio::test]
async fn each_outcome_has_its_own_retention() {
    for_each_store(|w| async move {
        let retention = Retention { completed: secs(10), failed: secs(20), cancelled: secs(30) };
        let policy = Policy { retention, ..Policy::default() };
        let jobs: Vec<_> = (0..3)
            .map(|_| w.job_with(START, |n| n.job = Job::accepted(START, None, None, 1, policy)))
            .collect();
        w.store().submit(jobs, START).await.unwrap();
        let leased = w.take(3, START).await;
        w.complete(&leased[0], START).await;
        w.store().take_back(0, vec![], START).await.unwrap();
        w.store()
            .cancel(leased[2].spec.id, Requester::Client, None, true, START)
            .await
            .unwrap()
            .unwrap();
        let error = punctual::domain::job::JobError {
            kind: "x".to_owned(),
            message: String::new(),
            details: None,
            stack: None,
            attempt: 0,
            at: START,
            retryable: false,
        };
        w.settle(&leased[1], Outcome::Failed { error, retry_after: None, unit: 0.0 }, START).await;
        for (now, left) in [(9, 3), (10, 2), (19, 2), (20, 1), (29, 1), (30, 0)] {
            w.store().expire(10, TOMBSTONE, at(now)).await.unwrap();
            assert_eq!(w.total(at(now)).await, left, "after {now} s");
        }
    })
    .await;
}

#[tokio::test]
async fn why_a_job_is_gone_is_known_for_a_while() {
    for_each_store(|w| async move {
        let jobs = w.submit_many(3, START).await;
        for leased in w.take(3, at(1)).await {
            w.settle(&leased, completed(format!("\"{}\"", "r".repeat(5_000))), at(2)).await;
        }
        let day = at(2).plus(DAY);
        let deleted = w.store().delete(jobs[0], TOMBSTONE, at(3)).await.unwrap().unwrap();
        assert_eq!(
            (deleted.id, deleted.change, deleted.attempt_ended),
            (jobs[0], Change::Deleted, false)
        );
        w.store().expire(1, TOMBSTONE, day).await.unwrap();
        assert_eq!(w.absence(jobs[0]).await, Absence::Deleted);
        assert_eq!(w.absence(jobs[1]).await, Absence::Expired);
        // The results went with them.
        let gone = w.store().result(jobs[0]).await.unwrap();
        assert_eq!(gone, Found::Absent(Absence::Deleted));
        let gone = w.store().result(jobs[1]).await.unwrap();
        assert_eq!(gone, Found::Absent(Absence::Expired));
        // A delete of what is gone.
        assert_eq!(
            w.store().delete(jobs[0], TOMBSTONE, day).await.unwrap(),
            absent(Absence::Deleted)
        );
        assert_eq!(
            w.store().delete(jobs[1], TOMBSTONE, day).await.unwrap(),
            absent(Absence::Expired)
        );

        // An id older than the tombstones' age leaves none.
        let old = START.plus(TOMBSTONE);
        w.store().expire(10, TOMBSTONE, old).await.unwrap();
        assert_eq!(w.absence(jobs[2]).await, Absence::Unknown);
        // And by now the others' tombstones are gone too.
        assert_eq!(w.absence(jobs[0]).await, Absence::Unknown);
        assert_eq!(w.absence(jobs[1]).await, Absence::Unknown);
        assert_eq!(w.total(old).await, 0);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn only_finished_jobs_can_be_deleted() {
    for_each_store(|w| async move {
        let jobs = w.submit_many(2, START).await;
        w.take(1, at(1)).await;
        for id in jobs {
            let refused = w.store().delete(id, TOMBSTONE, at(2)).await.unwrap();
            assert_eq!(refused, Err(Rejected::JobNotFinished.into()));
        }
        assert_eq!(w.total(at(2)).await, 2);
        let unknown = w.store().delete(w.id(START), TOMBSTONE, at(2)).await.unwrap();
        assert_eq!(unknown, absent(Absence::Unknown));
        let unknown =
            w.store().cancel(w.id(START), Requester::Client, None, true, at(2)).await.unwrap();
        assert_eq!(unknown, absent(Absence::Unknown));
    })
    .await;
}

#[tokio::test]
async fn keys_and_tombstones_go_in_bounded_steps_too() {
    let settings = Settings { key_ttl: secs(60), ..Settings::default() };
    for_each_store_with(settings, |w| async move {
        for n in 0..7 {
            let new = w.job_with(START, |new| new.key = crate::stores::key(&format!("k{n}"), 1));
            w.submit(new, START).await;
        }
        for leased in w.take(7, at(1)).await {
            w.complete(&leased, at(1)).await;
            w.store().delete(leased.spec.id, secs(90), at(2)).await.unwrap().unwrap();
        }
        let expire = |now| w.store().expire(5, secs(90), now);
        let step = expire(at(59)).await.unwrap();
        assert_eq!((step.other, step.more), (0, false));
        let mut steps = Vec::new();
        for _ in 0..3 {
            let step = expire(at(60)).await.unwrap();
            steps.push((step.jobs, step.other, step.more));
        }
        assert_eq!(steps, [(0, 5, true), (0, 2, false), (0, 0, false)]);
        let mut steps = Vec::new();
        for _ in 0..3 {
            let step = expire(at(90)).await.unwrap();
            steps.push((step.jobs, step.other, step.more));
        }
        assert_eq!(steps, [(0, 5, true), (0, 2, false), (0, 0, false)]);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_jobs_place_is_not_mistaken_for_a_new_one() {
    for_each_store(|w| async move {
        let old = w.submit(w.job(START), START).await;
        let leased = w.take_one(at(1)).await;
        w.settle(&leased, completed(format!("\"{}\"", "r".repeat(5_000))), at(2)).await;
        w.store().delete(old, TOMBSTONE, at(3)).await.unwrap().unwrap();
        let new = w.job_with(at(4), |n| n.spec.kind = name("other"));
        let new = w.submit(new, at(4)).await;
        assert_eq!(w.absence(old).await, Absence::Deleted);
        let leased = w.take_one(at(5)).await;
        assert_eq!(leased.spec.id, new);
        assert_eq!(leased.checkpoint, None);
        let result = format!("\"{}\"", "n".repeat(6_000));
        w.settle(&leased, completed(result.clone()), at(6)).await;
        let Found::Here(ResultBody::Bytes { body, .. }) = w.store().result(new).await.unwrap()
        else {
            panic!("a result");
        };
        assert_eq!(body, result.into_bytes());
        w.counters_are_exact().await;
    })
    .await;
}

fn absent(why: Absence) -> Ruling {
    Err(Refusal::Absent(why))
}

#[tokio::test]
async fn whoever_reports_on_a_job_that_is_gone_hears_why() {
    for_each_store(|w| async move {
        let jobs = w.submit_many(2, START).await;
        let leased = w.take(2, at(1)).await;
        for one in &leased {
            w.complete(one, at(2)).await;
        }
        let day = at(2).plus(DAY);
        w.store().delete(jobs[0], TOMBSTONE, day).await.unwrap().unwrap();
        w.store().expire(1, TOMBSTONE, day).await.unwrap();
        let why = [absent(Absence::Deleted), absent(Absence::Expired)];
        let reports = leased.iter().map(|l| report(l, completed("1"))).collect();
        assert_eq!(w.store().settle(reports, None, day).await.unwrap().0, why);
        let beats = leased.iter().map(|l| Beat {
            id: l.spec.id,
            token: l.token.hash(),
            extend: None,
            progress: None,
            checkpoint: None,
        });
        assert_eq!(w.store().heartbeat(beats.collect(), day).await.unwrap(), why);
        for (id, why) in jobs.into_iter().zip(why) {
            let by = Requester::Client;
            assert_eq!(w.store().cancel(id, by, None, true, day).await.unwrap(), why);
        }
    })
    .await;
}
