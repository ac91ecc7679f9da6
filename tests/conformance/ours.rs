//! Queues of the server's own: they work like all others, and nobody is shown them.

use std::time::Duration;

use punctual::domain::job::{Job, Policy, Retention, Status};
use punctual::domain::names::Name;
use punctual::store::{Absence, EpisodeFilter, ListFilter, NewJob, Retired, StuckAfter};

use crate::stores::{DAY, START, World, at, for_each_store, ids, secs};

fn ours(w: &World) -> NewJob {
    w.job_with(START, |new| {
        new.spec.queue = Name::trusted("_ours");
        new.spec.kind = Name::trusted("system.ours");
        let keep = Retention { completed: secs(10), failed: secs(10), cancelled: secs(10) };
        let policy = Policy { retention: keep, ..Policy::default() };
        new.job = Job::accepted(START, None, None, 1, policy);
    })
}

/// Nothing of them is told, whatever is asked.
async fn unseen(w: &World, others: u64) {
    let now = at(5);
    let sample = w.store().sample(now).await.unwrap();
    let shown = sample.queues.iter().map(|q| q.state.name.as_str()).collect::<Vec<_>>();
    assert!(shown.iter().all(|queue| *queue == "q"), "{shown:?}");
    assert_eq!(w.total(now).await, others);
    assert!(sample.leases.is_empty(), "{:?}", sample.leases);
    let stati = [None, Some(Status::Pending), Some(Status::Running), Some(Status::Completed)];
    for status in stati {
        let filter = ListFilter { status, ..ListFilter::default() };
        let page = w.store().list(filter, None, 10).await.unwrap();
        assert!(page.jobs.iter().all(|job| job.spec.queue.as_str() == "q"), "{status:?}");
    }
    // In a store of any age they are not stuck either.
    let rules = StuckAfter { default: Some(secs(1)), ..StuckAfter::default() };
    let stuck = w.store().scan(rules, at(3_600)).await.unwrap();
    assert!(stuck.iter().all(|kind| kind.queue.name.as_str() == "q"), "{stuck:?}");
    assert!(w.store().episodes(EpisodeFilter::default(), 10).await.unwrap().is_empty());
    w.counters_are_exact().await;
}

#[tokio::test]
async fn they_work_and_are_not_seen() {
    for_each_store(|w| async move {
        let (first, second, other) = (ours(&w), ours(&w), w.job(START));
        let (erased, expired) = (first.spec.id, second.spec.id);
        w.store().submit(vec![first, second, other], START).await.unwrap();
        unseen(&w, 1).await;
        // Whoever asks for another queue gets none of theirs.
        let mut request = w.ask(&["q"], 5, at(1));
        assert_eq!(w.claim(request.clone(), at(1)).await.jobs.len(), 1);
        request.queues = vec![Name::trusted("_ours")];
        let leased = w.claim(request, at(1)).await.jobs;
        assert_eq!(ids(&leased), [erased, expired]);
        for leased in &leased {
            w.complete(leased, at(2)).await;
        }
        // Gone at once, without a tombstone, and without being counted as anybody's.
        w.store().delete(erased, Duration::ZERO, at(3)).await.unwrap().unwrap();
        assert_eq!(w.absence(erased).await, Absence::Unknown);
        let step = w.store().expire(10, DAY, at(20)).await.unwrap();
        assert_eq!(step, Retired { jobs: 0, other: 0, more: false });
        assert_eq!(w.absence(expired).await, Absence::Unknown);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn those_that_run_are_not_seen_either() {
    for_each_store(|mut w| async move {
        w.submit(ours(&w), START).await;
        let mut request = w.ask(&["q"], 5, at(1));
        request.queues = vec![Name::trusted("_ours")];
        assert_eq!(w.claim(request, at(1)).await.jobs.len(), 1);
        unseen(&w, 0).await;
        w.restart(at(2)).await;
        unseen(&w, 0).await;
    })
    .await;
}
