//! How many jobs of a queue may be pending: exact, whoever submits how many at once, and never in
//! the way of what was accepted.

use punctual::domain::job::{JobError, Requester, Tally};
use punctual::domain::time::Timestamp;
use punctual::store::{Depth, ListFilter, NewJob, Outcome, QueueLimits, Submitted};

use super::stores::{START, World, at, counts, for_each_store, key, name, secs};

fn limit(max_depth: Option<u64>) -> Vec<QueueLimits> {
    vec![QueueLimits { max_depth, ..QueueLimits::none(name("q")) }]
}

async fn limited(w: &World, max_depth: u64) {
    w.store().set_limits(limit(Some(max_depth)), START).await.unwrap();
}

const fn full(jobs: u64, max: u64) -> Submitted {
    Submitted::QueueFull(Depth { jobs, max })
}

async fn send(w: &World, jobs: Vec<NewJob>, now: Timestamp) -> Vec<Submitted> {
    w.store().submit(jobs, now).await.unwrap()
}

async fn send_one(w: &World, now: Timestamp) -> Submitted {
    send(w, vec![w.job(now)], now).await.remove(0)
}

fn failure() -> Outcome {
    let error = JobError {
        kind: "boom".to_owned(),
        message: "it broke".to_owned(),
        details: None,
        stack: None,
        attempt: 1,
        at: START,
        retryable: true,
    };
    Outcome::Failed { error, retry_after: Some(secs(3_600)), unit: 0.5 }
}

#[tokio::test]
async fn all_that_is_pending_counts_and_nothing_else() {
    for_each_store(|mut w| async move {
        limited(&w, 3).await;
        let state = w.store().sample(START).await.unwrap().queues[0].state.clone();
        assert_eq!((state.name, state.max_depth), (name("q"), Some(3)), "declared, so there");
        w.submit_many(3, at(1)).await;
        assert_eq!(send_one(&w, at(1)).await, full(3, 3));
        let other = w.job_with(at(1), |n| n.spec.queue = name("other"));
        w.submit(other, at(1)).await;

        // A lease makes room; a job between two attempts takes it again, and is not refused.
        let leased = w.take_one(at(2)).await;
        assert_eq!(send_one(&w, at(2)).await, Submitted::Created);
        w.settle(&leased, failure(), at(3)).await;
        assert_eq!(send_one(&w, at(3)).await, full(4, 3));
        // The same for one that is released, and for one whose lease runs out.
        let two = w.take(2, at(4)).await;
        w.settle(&two[0], Outcome::Released { delay: None }, at(5)).await;
        assert_eq!(send_one(&w, at(5)).await, full(3, 3));
        assert_eq!(w.store().take_back(9, Vec::new(), at(60)).await.unwrap().len(), 1);
        assert_eq!(send_one(&w, at(60)).await, full(4, 3));

        w.crash(at(61));
        assert_eq!(send_one(&w, at(61)).await, full(4, 3), "remembered, and counted anew");
        w.restart(at(62)).await;
        // Cancelling makes room: one below the limit, one job.
        let ids = w.store().list(ListFilter::default(), None, 10).await.unwrap().jobs;
        let pending = ids.iter().filter(|r| r.spec.queue == name("q")).map(|r| r.spec.id);
        for id in pending.take(2).collect::<Vec<_>>() {
            let ruling = w.store().cancel(id, Requester::Client, None, false, at(63)).await;
            assert!(ruling.unwrap().is_ok());
        }
        assert_eq!(send_one(&w, at(64)).await, Submitted::Created);
        assert_eq!(send_one(&w, at(64)).await, full(3, 3));
        w.counters_are_exact().await;

        w.store().set_limits(limit(None), at(65)).await.unwrap();
        assert_eq!(send_one(&w, at(65)).await, Submitted::Created);
        w.store().set_limits(limit(Some(1)), at(66)).await.unwrap();
        assert_eq!(send_one(&w, at(66)).await, full(4, 1), "what is there stays");
    })
    .await;
}

#[tokio::test]
async fn scheduled_jobs_wait_too_and_a_pause_keeps_the_limit() {
    for_each_store(|w| async move {
        limited(&w, 2).await;
        let later = |now: Timestamp| {
            let policy = w.job(now).job.policy;
            w.job_with(now, |n| {
                n.job = punctual::domain::job::Job::accepted(now, Some(at(500)), None, 3, policy);
            })
        };
        w.submit(later(START), START).await;
        w.submit(w.job(START), START).await;
        assert_eq!(send(&w, vec![later(at(1))], at(1)).await, [full(2, 2)]);
        w.store().pause(name("q"), None, None, at(2)).await.unwrap();
        assert_eq!(send_one(&w, at(2)).await, full(2, 2));
        w.store().resume(name("q"), at(3)).await.unwrap();
        assert_eq!(send_one(&w, at(3)).await, full(2, 2));
        w.store().promote(9, at(501)).await.unwrap();
        assert_eq!(send_one(&w, at(501)).await, full(2, 2), "a promotion changes nothing");
        w.take(2, at(502)).await;
        assert_eq!(send_one(&w, at(502)).await, Submitted::Created);
    })
    .await;
}

#[tokio::test]
async fn a_batch_fits_whole_or_not_at_all() {
    for_each_store(|w| async move {
        limited(&w, 3).await;
        w.submit(w.job(START), START).await;
        let batch: Vec<NewJob> = (0..3).map(|_| w.job(at(1))).collect();
        let answers = send(&w, batch, at(1)).await;
        assert_eq!(answers, [Submitted::Created, Submitted::Created, full(1, 3)]);
        assert_eq!(w.tallies("q", at(1)).await, counts(&[(Tally::Queued, 1)]));
        // Nothing is claimed of what was refused, nor of what was there.
        let batch: Vec<NewJob> = (0..3).map(|_| w.job(at(1))).collect();
        let claims = vec![w.ask(&["q"], 5, at(1))];
        let (_, claimed) = w.store().submit_and_claim(batch, claims, at(1)).await.unwrap();
        assert!(claimed.is_empty());

        // Other queues of the batch have limits of their own, and repetitions take no room.
        let queues = ["q", "other", "q", "other", "other"];
        let mut batch: Vec<NewJob> =
            queues.iter().map(|queue| w.job_with(at(2), |n| n.spec.queue = name(queue))).collect();
        batch[0].key = key("a", 1);
        batch.push(w.job_with(at(2), |n| n.key = key("a", 1)));
        let answers = send(&w, batch, at(2)).await;
        assert!(answers[..5].iter().all(|a| *a == Submitted::Created), "{answers:?}");
        assert!(matches!(answers[5], Submitted::Replayed(_)), "{answers:?}");
        assert_eq!(send_one(&w, at(3)).await, full(3, 3));
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_full_queue_still_answers_what_it_knows() {
    for_each_store(|w| async move {
        limited(&w, 1).await;
        let id = w.submit(w.job_with(START, |n| n.key = key("k", 1)), START).await;
        let again = |k: &str| w.job_with(at(1), |n| n.key = key(k, 1));
        let answers = send(&w, vec![again("k")], at(1)).await;
        assert!(matches!(&answers[..], [Submitted::Replayed(r)] if r.spec.id == id), "{answers:?}");
        let other = w.job_with(at(1), |n| n.key = key("k", 2));
        assert_eq!(send(&w, vec![other], at(1)).await, [Submitted::KeyReused(id)]);
        let answers = send(&w, vec![again("k"), again("new")], at(1)).await;
        assert!(matches!(answers[0], Submitted::Replayed(_)), "{answers:?}");
        assert_eq!(answers[1], full(1, 1));
        // The key of the one that was refused is unused.
        let leased = w.take_one(at(2)).await;
        w.complete(&leased, at(3)).await;
        assert_eq!(send(&w, vec![again("new")], at(3)).await, [Submitted::Created]);
    })
    .await;
}

#[tokio::test]
async fn no_job_too_many_is_taken_however_many_come_at_once() {
    for_each_store(|w| async move {
        const MAX: u64 = 40;
        limited(&w, MAX).await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..60usize {
            let jobs: Vec<NewJob> = (0..=n % 3).map(|_| w.job(START)).collect();
            let store = w.share();
            tasks.spawn(async move { store.submit(jobs, START).await.unwrap() });
        }
        let answers = tasks.join_all().await;
        let taken = |answers: &&Vec<Submitted>| punctual::store::accepts(answers);
        let accepted: usize = answers.iter().filter(taken).map(Vec::len).sum();
        let tallies = w.tallies("q", START).await;
        assert_eq!(tallies, counts(&[(Tally::Queued, accepted as u64)]));
        // Whatever was refused did not fit: there is less room than a batch is long.
        assert!(accepted as u64 <= MAX && accepted as u64 > MAX - 3, "{accepted}");
        let refused = answers.iter().flatten().filter_map(|answer| match answer {
            Submitted::QueueFull(depth) => Some(depth),
            Submitted::Created
            | Submitted::Replayed(_)
            | Submitted::ReplayedGone(_)
            | Submitted::KeyReused(_)
            | Submitted::KeyTwice(_)
            | Submitted::TooManyNames(_) => None,
        });
        assert!(refused.clone().all(|d| d.max == MAX && d.jobs <= MAX && d.jobs > MAX - 3));
        assert!(refused.count() > 0);
        w.counters_are_exact().await;
    })
    .await;
}
