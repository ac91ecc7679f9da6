//! The reaper's, the scheduler's and the outage's steps: bounded, and never unfair to a worker.

use std::collections::BTreeSet;
use std::time::Duration;

use punctual::domain::access::Lists;
use punctual::domain::job::{Job, Phase, Policy, Requester, Status, Tally, Wait};
use punctual::domain::lease::TakeBackCause;
use punctual::domain::state::Change;
use punctual::store::{Beat, Outcome};

use crate::stores::{START, at, counts, for_each_store, ids, name, secs, worker};

#[tokio::test]
async fn the_reaper_takes_at_most_its_limit() {
    for_each_store(|w| async move {
        w.submit_many(25, START).await;
        w.take(25, at(1)).await;
        assert!(w.store().take_back(10, vec![], at(30)).await.unwrap().is_empty());
        let mut seen = BTreeSet::new();
        for step in [10, 10, 5, 0] {
            let taken = w.store().take_back(10, vec![0.9], at(31)).await.unwrap();
            assert_eq!(taken.len(), step);
            for t in taken {
                assert_eq!(t.change, Change::TakenBack(TakeBackCause::WorkerSilent));
                assert_eq!(t.job.phase, Phase::Pending(Wait::Queued), "few are not spread");
                assert!(t.attempt_ended && seen.insert(t.id));
            }
        }
        assert_eq!(w.tallies("q", at(31)).await, counts(&[(Tally::Queued, 25)]));
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn one_limit_covers_lost_leases_and_missed_starts() {
    for_each_store(|w| async move {
        w.submit_many(3, START).await;
        w.take(3, at(1)).await;
        let late: Vec<_> = (0..3)
            .map(|_| {
                w.job_with(START, |n| {
                    n.job = Job::accepted(START, None, Some(at(5)), 3, Policy::default());
                })
            })
            .collect();
        w.store().submit(late, START).await.unwrap();
        let mut sizes = Vec::new();
        loop {
            let step = w.store().take_back(4, vec![], at(31)).await.unwrap();
            if step.is_empty() {
                break;
            }
            sizes.push(step.len());
        }
        assert_eq!(sizes, [4, 2]);
        assert_eq!(w.tallies("q", at(31)).await, counts(&[(Tally::Queued, 3), (Tally::Failed, 3)]));
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_crowd_comes_back_spread_out() {
    for_each_store(|w| async move {
        w.submit_many(150, START).await;
        w.take(150, at(1)).await;
        let spread: Vec<f64> = (0..7).map(|n| f64::from(n) / 7.0).collect();
        let taken = w.store().take_back(1_000, spread, at(40)).await.unwrap();
        assert_eq!(taken.len(), 150);
        let mut moments = BTreeSet::new();
        for t in &taken {
            assert!(t.job.eligible_at >= at(40) && t.job.eligible_at < at(45), "{t:?}");
            moments.insert(t.job.eligible_at);
            let queued = t.job.phase == Phase::Pending(Wait::Queued);
            assert_eq!(queued, t.job.eligible_at == at(40));
        }
        assert_eq!(moments.len(), 7, "each of the numbers given is used");
        let now = w.tallies("q", at(40)).await;
        assert_eq!(now[0] + now[2], 150);
        // By five seconds later all can be claimed.
        let promoted = w.store().promote(1_000, at(45)).await.unwrap();
        assert_eq!(promoted, [(name("q"), now[2])]);
        assert_eq!(w.take(200, at(45)).await.len(), 150);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_dead_worker_on_every_attempt_ends_in_failure() {
    for_each_store(|w| async move {
        let id = w.submit(w.job(START), START).await;
        let mut now = at(1);
        for attempt in 1..=3 {
            let leased = w.take_one(now).await;
            assert_eq!(leased.job.attempt, attempt);
            now = now.plus(secs(31));
            assert_eq!(w.store().take_back(10, vec![], now).await.unwrap().len(), 1);
        }
        let record = w.record(id).await;
        assert_eq!(record.job.status(), Status::Failed);
        assert_eq!(record.job.error.unwrap().kind, "lease-expired");
        assert_eq!(record.job.history.len(), 3);
        assert!(w.take(1, now).await.is_empty());
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_late_heartbeat_before_the_reaper_saves_the_lease() {
    for_each_store(|w| async move {
        let id = w.submit(w.job(START), START).await;
        let leased = w.take_one(at(1)).await;
        let beat =
            Beat { id, token: leased.token.hash(), extend: None, progress: None, checkpoint: None };
        assert!(w.store().heartbeat(vec![beat], at(40)).await.unwrap()[0].is_ok());
        assert!(w.store().take_back(10, vec![], at(41)).await.unwrap().is_empty());
        assert_eq!(w.store().take_back(10, vec![], at(70)).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_cancels_grace_ends_the_lease() {
    for_each_store(|w| async move {
        let policy = Policy { cancel_grace: secs(10), ..Policy::default() };
        let id = w
            .submit(
                w.job_with(START, |n| n.job = Job::accepted(START, None, None, 3, policy)),
                START,
            )
            .await;
        let leased = w.take_one(at(1)).await;
        w.store().cancel(id, Requester::Client, None, false, at(2)).await.unwrap().unwrap();
        // Heartbeats do not buy more than the grace.
        let beat = Beat {
            id,
            token: leased.token.hash(),
            extend: Some(secs(500)),
            progress: None,
            checkpoint: None,
        };
        w.store().heartbeat(vec![beat], at(11)).await.unwrap()[0].as_ref().unwrap();
        assert!(w.store().take_back(10, vec![], at(11)).await.unwrap().is_empty());
        let taken = w.store().take_back(10, vec![], at(12)).await.unwrap();
        assert_eq!(taken[0].change, Change::Cancelled);
        assert_eq!(w.record(id).await.job.status(), Status::Cancelled);
    })
    .await;
}

#[tokio::test]
async fn after_an_outage_no_lease_ends_early_and_none_is_shortened() {
    for_each_store(|w| async move {
        let policy = Policy { timeout: secs(100), ..Policy::default() };
        let jobs: Vec<_> = (0..3)
            .map(|_| w.job_with(START, |n| n.job = Job::accepted(START, None, None, 3, policy)))
            .collect();
        w.store().submit(jobs, START).await.unwrap();
        // 30 s, 30 s with a long extension, and 600 s: longer than the hard limit.
        let short = w.take_one(at(1)).await;
        let extended = w.take_one(at(1)).await;
        let mut request = w.ask(&["q"], 1, at(1));
        request.lease = Some(secs(600));
        let long = w.claim(request, at(1)).await.jobs.remove(0);
        let beat = Beat {
            id: extended.spec.id,
            token: extended.token.hash(),
            extend: Some(secs(5_000)),
            progress: None,
            checkpoint: None,
        };
        w.store().heartbeat(vec![beat], at(2)).await.unwrap()[0].as_ref().unwrap();

        assert_eq!(w.store().extend_leases(at(95)).await.unwrap(), 3);
        let lease = |record: punctual::domain::job::Record| record.job.lease().unwrap().clone();
        let is = lease(w.record(short.spec.id).await);
        assert_eq!((is.expires_at, is.timeout_at), (at(125), at(125)));
        let is = lease(w.record(extended.spec.id).await);
        assert_eq!((is.expires_at, is.timeout_at), (at(5_002), at(125)));
        let is = lease(w.record(long.spec.id).await);
        assert_eq!((is.expires_at, is.timeout_at), (at(695), at(695)));
        assert!(w.store().take_back(10, vec![], at(124)).await.unwrap().is_empty());
        // A second time at the same moment nothing needs extending.
        assert_eq!(w.store().extend_leases(at(95)).await.unwrap(), 0);
        let taken = w.store().take_back(10, vec![], at(125)).await.unwrap();
        assert_eq!(taken.len(), 2);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn due_jobs_are_promoted_within_the_limit_and_go_behind() {
    for_each_store(|w| async move {
        let later = |s| {
            w.job_with(START, |n| {
                n.job = Job::accepted(START, Some(at(s)), None, 3, Policy::default());
            })
        };
        // Submitted in the opposite order of their moments.
        let scheduled = [later(14), later(13), later(12), later(11), later(99)];
        let line: Vec<_> = scheduled.iter().map(|n| n.spec.id).collect();
        w.store().submit(scheduled.to_vec(), START).await.unwrap();
        let other = w.job_with(START, |n| {
            n.spec.queue = name("other");
            n.job = Job::accepted(START, Some(at(10)), None, 3, Policy::default());
        });
        w.submit(other, START).await;
        let first = w.submit(w.job(at(1)), at(1)).await;
        assert!(w.store().promote(100, at(9)).await.unwrap().is_empty());
        assert_eq!(
            w.tallies("q", at(9)).await,
            counts(&[(Tally::Queued, 1), (Tally::Scheduled, 5)])
        );

        let mut promoted = Vec::new();
        for _ in 0..4 {
            let step = w.store().promote(2, at(20)).await.unwrap();
            promoted.push(step.iter().map(|(_, n)| n).sum::<u64>());
        }
        assert_eq!(promoted, [2, 2, 1, 0]);
        assert_eq!(ids(&w.take(10, at(20)).await), [first, line[3], line[2], line[1], line[0]]);
        assert_eq!(w.take(10, at(20)).await.len(), 0);
        assert_eq!(
            w.tallies("q", at(20)).await,
            counts(&[(Tally::Running, 5), (Tally::Scheduled, 1)])
        );
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_scheduled_job_is_not_claimed_before_it_is_promoted() {
    for_each_store(|w| async move {
        w.submit_many(1, START).await;
        let leased = w.take_one(at(1)).await;
        w.settle(&leased, Outcome::Released { delay: Some(secs(10)) }, at(2)).await;
        assert!(w.take(1, at(11)).await.is_empty());
        assert_eq!(w.tallies("q", at(11)).await, counts(&[(Tally::Scheduled, 1)]));
        w.store().promote(10, at(12)).await.unwrap();
        assert_eq!(w.take_one(at(12)).await.eligible_since, at(12));
    })
    .await;
}

#[tokio::test]
async fn a_pause_with_an_end_ends() {
    for_each_store(|w| async move {
        w.submit_many(1, START).await;
        w.store().pause(name("q"), Some("deploy".to_owned()), Some(at(60)), at(1)).await.unwrap();
        assert!(w.store().promote(10, at(59)).await.unwrap().is_empty());
        assert!(w.take(1, at(59)).await.is_empty());
        // The queue is named, so that those who wait for it can be woken.
        let ready = w.store().promote(10, at(61)).await.unwrap();
        assert!(ready.iter().any(|(queue, _)| *queue == name("q")), "{ready:?}");
        assert!(w.store().promote(10, at(62)).await.unwrap().is_empty());
        assert_eq!(w.take_one(at(62)).await.eligible_since, at(61));
        let sample = w.store().sample(at(62)).await.unwrap();
        assert_eq!(sample.queues[0].state.paused_at, None);
        assert_eq!(sample.queues[0].state.resumed_at, Some(at(61)));
    })
    .await;
}

#[tokio::test]
async fn a_goodbye_gives_everything_back_and_forgets() {
    for_each_store(|w| async move {
        let jobs = w.submit_many(3, START).await;
        w.take(2, at(1)).await;
        let mut request = w.ask(&["q"], 1, at(1));
        request.worker = worker("w2");
        w.claim(request, at(1)).await;
        let gone = w.store().goodbye(worker("w1"), None, Lists::ALL, at(2)).await.unwrap();
        let mut named: Vec<_> = gone.iter().map(|t| t.id).collect();
        named.sort_unstable();
        assert_eq!(named, jobs[..2]);
        assert!(gone.iter().all(|t| t.change == Change::Released && t.job.attempt == 0));
        assert!(w.store().goodbye(worker("w1"), None, Lists::ALL, at(3)).await.unwrap().is_empty());
        assert!(
            w.store().goodbye(worker("nobody"), None, Lists::ALL, at(3)).await.unwrap().is_empty()
        );
        assert_eq!(ids(&w.take(9, at(4)).await), jobs[..2]);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn withdrawing_passes_over_leases_that_moved_on() {
    for_each_store(|w| async move {
        let jobs = w.submit_many(4, START).await;
        let leased = w.take(4, at(1)).await;
        w.complete(&leased[0], at(2)).await;
        w.settle(&leased[1], Outcome::Released { delay: None }, at(2)).await;
        let again = w.take_one(at(2)).await;
        assert_eq!((again.spec.id, again.job.fence), (jobs[1], 2));
        let unknown = w.id(START);
        let wanted = vec![(unknown, 1), (jobs[0], 1), (jobs[1], 1), (jobs[2], 1), (jobs[2], 1)];
        let gone = w.store().withdraw(wanted, at(3)).await.unwrap();
        assert_eq!(gone.iter().map(|t| t.id).collect::<Vec<_>>(), [jobs[2]]);
        assert_eq!(
            w.tallies("q", at(3)).await,
            counts(&[(Tally::Queued, 1), (Tally::Running, 2), (Tally::Completed, 1)])
        );
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_zero_limit_does_nothing() {
    for_each_store(|w| async move {
        w.submit_many(1, START).await;
        w.take(1, at(1)).await;
        let later = at(100_000_000);
        assert!(w.store().take_back(0, vec![], later).await.unwrap().is_empty());
        assert!(w.store().promote(0, later).await.unwrap().is_empty());
        let retired = w.store().expire(0, Duration::ZERO, later).await.unwrap();
        assert_eq!((retired.jobs, retired.other), (0, 0));
    })
    .await;
}
