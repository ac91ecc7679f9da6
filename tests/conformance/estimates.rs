//! What the estimator leaves with the store, and what the store tells of the line.

use punctual::domain::estimate::Saved;
use punctual::store::{ClaimRequest, Outcome};

use crate::stores::{DAY, START, World, at, for_each_store, name, secs};

fn saved(queue: Option<&str>, kind: Option<&str>, seconds: u64, body: &[u8]) -> Saved {
    Saved { queue: queue.map(name), kind: kind.map(name), at: at(seconds), body: body.to_vec() }
}

async fn save(w: &World, estimates: Vec<Saved>) {
    w.store().save_estimates(estimates, START.minus(DAY)).await.unwrap();
}

#[tokio::test]
async fn estimates_are_kept_by_queue_and_kind_and_the_latest_come_first() {
    for_each_store(|mut w| async move {
        assert_eq!(w.store().estimates().await.unwrap(), []);
        let pair = saved(Some("q"), Some("k"), 1, b"pair");
        let kind = saved(None, Some("k"), 2, b"\0any\xff");
        let queue = saved(Some("q"), None, 3, b"");
        save(&w, vec![pair.clone(), kind.clone(), queue.clone()]).await;
        w.crash(at(4));
        assert_eq!(w.store().estimates().await.unwrap(), [queue.clone(), kind, pair.clone()]);
        let newer = saved(None, Some("k"), 9, b"newer");
        save(&w, vec![newer.clone()]).await;
        assert_eq!(w.store().estimates().await.unwrap(), [newer.clone(), queue.clone(), pair]);
        w.store().save_estimates(vec![newer.clone()], at(3)).await.unwrap();
        assert_eq!(
            w.store().estimates().await.unwrap(),
            [newer, queue],
            "older ones are forgotten"
        );
    })
    .await;
}

#[tokio::test]
async fn no_more_than_ten_thousand_estimates_are_kept() {
    for_each_store(|w| async move {
        for batch in 0..21u64 {
            let one = |n: u64| saved(None, Some(&format!("k{n}")), n, b"x");
            save(&w, (batch * 500..(batch + 1) * 500).map(one).collect()).await;
        }
        let kept = w.store().estimates().await.unwrap();
        assert_eq!((kept.len(), kept[0].at), (10_000, at(10_499)));
        assert_eq!(kept[9_999].at, at(500), "the oldest have gone");
    })
    .await;
}

async fn ahead(w: &World, id: punctual::domain::id::JobId) -> Option<u64> {
    w.record(id).await.standing.jobs_ahead
}

#[tokio::test]
async fn a_job_knows_its_place_in_line() {
    for_each_store(|mut w| async move {
        let jobs = w.submit_many(10, START).await;
        let urgent = w.job_with(START, |job| job.spec.priority = 5);
        let urgent = w.submit(urgent, START).await;
        let later = w.job_with(START, |job| {
            job.job = punctual::domain::job::Job::accepted(
                START,
                Some(at(60)),
                None,
                5,
                punctual::domain::job::Policy::default(),
            );
        });
        let later = w.submit(later, START).await;
        assert_eq!(ahead(&w, urgent).await, Some(0));
        assert_eq!(ahead(&w, jobs[0]).await, Some(1));
        assert_eq!(ahead(&w, jobs[9]).await, Some(10));
        assert_eq!(ahead(&w, later).await, None, "not in line yet");
        let waiting = |w: &World, priority| w.store().jobs_ahead(&name("q"), priority);
        assert_eq!([waiting(&w, 6), waiting(&w, 5), waiting(&w, 0)], [0, 1, 11]);
        assert_eq!(w.store().jobs_ahead(&name("other"), 0), 0);

        let taken = w.take(4, at(1)).await;
        assert_eq!(ahead(&w, jobs[3]).await, Some(0));
        assert_eq!(ahead(&w, jobs[9]).await, Some(6));
        assert_eq!(ahead(&w, taken[0].spec.id).await, None, "it runs");
        w.settle(&taken[3], Outcome::Released { delay: None }, at(2)).await;
        assert_eq!(ahead(&w, jobs[2]).await, Some(0), "given back to its place");
        assert_eq!(ahead(&w, jobs[9]).await, Some(7));
        w.crash(at(3));
        assert_eq!((ahead(&w, jobs[9]).await, waiting(&w, 0)), (Some(7), 8));
        w.store().promote(10, at(60)).await.unwrap();
        assert_eq!(ahead(&w, later).await, Some(8), "its time has come");
        let rest = w.take(100, at(61)).await;
        assert_eq!((rest.len(), waiting(&w, 0)), (9, 0));
        w.complete(&rest[0], at(61).plus(secs(1))).await;
        assert_eq!(waiting(&w, -100), 0);
    })
    .await;
}

#[tokio::test]
async fn whoever_is_claimed_out_of_turn_takes_nobody_along() {
    for_each_store(|mut w| async move {
        let jobs = w.submit_many(6, START).await;
        let other = w.job_with(START, |job| job.spec.kind = name("other"));
        let other = w.submit(other, START).await;
        let behind = w.submit_many(2, START).await;
        assert_eq!([ahead(&w, other).await, ahead(&w, behind[0]).await], [Some(6), Some(7)]);
        let request = ClaimRequest { kinds: vec![name("other")], ..w.ask(&["q"], 1, at(1)) };
        let taken = w.claim(request, at(1)).await;
        assert_eq!(taken.jobs[0].spec.id, other);
        assert_eq!([ahead(&w, jobs[0]).await, ahead(&w, jobs[5]).await], [Some(0), Some(5)]);
        assert_eq!([ahead(&w, behind[0]).await, ahead(&w, behind[1]).await], [Some(6), Some(7)]);
        w.crash(at(2));
        assert_eq!(ahead(&w, behind[1]).await, Some(7));
    })
    .await;
}
