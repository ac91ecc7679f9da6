//! Claims: who gets which job, in what order, and what else the answer says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use punctual::domain::access::Lists;
use punctual::domain::id::JobId;
use punctual::domain::job::{Job, Policy, Requester, Status, Tally};
use punctual::domain::state::Change;
use punctual::domain::time::Timestamp;
use punctual::store::{Beat, ClaimRequest, Outcome};

use crate::stores::{
    START, World, at, counts, for_each_store, ids, json, name, report, secs, worker,
};

async fn submit(w: &World, queue: &str, kind: &str, priority: i32, bytes: usize) -> JobId {
    let new = w.job_with(START, |n| {
        n.spec.queue = name(queue);
        n.spec.kind = name(kind);
        n.spec.priority = priority;
        n.spec.payload = Some(json(format!("\"{}\"", "x".repeat(bytes.saturating_sub(2)))));
    });
    w.submit(new, START).await
}

#[tokio::test]
async fn by_queue_then_priority_then_sequence() {
    for_each_store(|w| async move {
        let low = submit(&w, "b", "k", -5, 10).await;
        let b1 = submit(&w, "b", "k", 0, 10).await;
        let a1 = submit(&w, "a", "k", -100, 10).await;
        let urgent = submit(&w, "b", "k", 100, 10).await;
        let b2 = submit(&w, "b", "k", 0, 10).await;
        let other = submit(&w, "c", "k", 100, 10).await;
        let first = w.claim(w.ask(&["a", "nowhere", "b"], 3, at(1)), at(1)).await;
        assert_eq!(ids(&first.jobs), [a1, urgent, b1]);
        assert_eq!(first.paused, [false, false, false]);
        let rest = w.claim(w.ask(&["b", "a", "b"], 9, at(1)), at(1)).await;
        assert_eq!(ids(&rest.jobs), [b2, low]);
        let last = w.claim(w.ask(&["a", "b", "c"], 9, at(1)), at(1)).await;
        assert_eq!(ids(&last.jobs), [other]);
        let none = w.claim(w.ask(&["a", "b", "c"], 9, at(1)), at(1)).await;
        assert!(none.jobs.is_empty());
    })
    .await;
}

#[tokio::test]
async fn kinds_are_merged_in_the_queues_order() {
    for_each_store(|w| async move {
        let mut wanted = Vec::new();
        for n in 0..12 {
            let kind = ["x", "y", "z"][n % 3];
            let priority = i32::try_from(n % 4).unwrap();
            let id = submit(&w, "q", kind, priority, 10).await;
            if kind != "z" {
                wanted.push((-priority, n, id));
            }
        }
        wanted.sort_unstable();
        let wanted: Vec<JobId> = wanted.into_iter().map(|(_, _, id)| id).collect();
        let ask = |count| ClaimRequest {
            // Naming a kind twice, or one that nobody knows, changes nothing.
            kinds: vec![name("y"), name("x"), name("unheard-of"), name("y")],
            ..w.ask(&["q"], count, at(1))
        };
        let mut got = ids(&w.claim(ask(3), at(1)).await.jobs);
        got.extend(ids(&w.claim(ask(20), at(1)).await.jobs));
        assert_eq!(got, wanted);
        assert_eq!(w.take(20, at(2)).await.len(), 4, "the rest is of kind z");
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_byte_limit_gives_at_least_one_and_keeps_the_order() {
    for_each_store(|w| async move {
        let big = submit(&w, "q", "k", 0, 5_000).await;
        let b = submit(&w, "q", "k", 0, 400).await;
        let c = submit(&w, "q", "k", 0, 500).await;
        let d = submit(&w, "q", "k", 0, 5_000).await;
        let e = submit(&w, "q", "k", 0, 10).await;
        let ask = |max_bytes| ClaimRequest { max_bytes, ..w.ask(&["q"], 10, at(1)) };
        let mut rounds = Vec::new();
        for _ in 0..4 {
            rounds.push(ids(&w.claim(ask(1_000), at(1)).await.jobs));
        }
        // A small job does not jump a large one ahead of it.
        assert_eq!(rounds, [vec![big], vec![b, c], vec![d], vec![e]]);
    })
    .await;
}

#[tokio::test]
async fn a_byte_limit_holds_across_queues_and_kinds() {
    for_each_store(|w| async move {
        let a = submit(&w, "a", "k", 0, 600).await;
        let b = submit(&w, "b", "k", 0, 600).await;
        let ask = |max_bytes| ClaimRequest { max_bytes, ..w.ask(&["a", "b"], 10, at(1)) };
        assert_eq!(ids(&w.claim(ask(1_000), at(1)).await.jobs), [a]);
        assert_eq!(ids(&w.claim(ask(0), at(1)).await.jobs), [b]);

        let mut wanted = Vec::new();
        for n in 0..10 {
            wanted.push(submit(&w, "q", ["x", "y"][n % 2], 0, 300).await);
        }
        let mut got = Vec::new();
        for _ in 0..4 {
            let request = ClaimRequest {
                kinds: vec![name("x"), name("y")],
                max_bytes: 1_000,
                ..w.ask(&["q"], 10, at(1))
            };
            let round = ids(&w.claim(request, at(1)).await.jobs);
            assert!(round.len() <= 3, "{round:?}");
            got.extend(round);
        }
        assert_eq!(got, wanted);
    })
    .await;
}

#[tokio::test]
async fn a_missed_start_neither_blocks_nor_reorders() {
    for_each_store(|w| async move {
        let late = |kind: &str, bytes: usize| {
            w.job_with(START, |n| {
                n.job = Job::accepted(START, None, Some(at(5)), 3, Policy::default());
                n.spec.kind = name(kind);
                n.spec.payload = Some(json(format!("\"{}\"", "x".repeat(bytes))));
            })
        };
        let missed = w.submit(late("x", 900), START).await;
        let missed_too = w.submit(late("y", 10), START).await;
        let x2 = submit(&w, "q", "x", 0, 100).await;
        let y2 = submit(&w, "q", "y", 0, 100).await;
        let x3 = submit(&w, "q", "x", 0, 100).await;
        let request = ClaimRequest {
            kinds: vec![name("x"), name("y")],
            max_bytes: 500,
            ..w.ask(&["q"], 3, at(6))
        };
        let claimed = w.claim(request, at(6)).await;
        assert_eq!(ids(&claimed.jobs), [x2, y2, x3]);
        let gone: Vec<_> = claimed.missed.iter().map(|t| (t.id, t.change)).collect();
        assert_eq!(gone, [(missed, Change::Failed), (missed_too, Change::Failed)]);
        let record = w.record(missed).await;
        assert_eq!(record.job.status(), Status::Failed);
        assert_eq!(record.job.error.unwrap().kind, "start-deadline-exceeded");
        assert_eq!(w.tallies("q", at(6)).await, counts(&[(Tally::Running, 3), (Tally::Failed, 2)]));
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn many_missed_starts_are_passed_in_one_claim() {
    for_each_store(|w| async move {
        let mut jobs: Vec<_> = (0..50)
            .map(|_| {
                w.job_with(START, |n| {
                    n.job = Job::accepted(START, None, Some(at(5)), 3, Policy::default());
                })
            })
            .collect();
        jobs.push(w.job(START));
        let good = jobs[50].spec.id;
        w.store().submit(jobs, START).await.unwrap();
        let claimed = w.claim(w.ask(&["q"], 1, at(5)), at(5)).await;
        assert_eq!(ids(&claimed.jobs), [good]);
        assert_eq!(claimed.missed.len(), 50);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn what_a_lease_says() {
    for_each_store(|w| async move {
        let id = w.submit(w.job(START), START).await;
        let request = ClaimRequest {
            lease: None,
            default_leases: vec![secs(11), secs(22)],
            ..w.ask(&["other", "q"], 1, at(3))
        };
        let token = request.tokens[0].clone();
        let leased = w.claim(request, at(3)).await.jobs.remove(0);
        assert_eq!((leased.spec.id, &leased.token), (id, &token));
        let lease = leased.job.lease().unwrap();
        assert_eq!(lease.length, secs(22), "the queue's own length");
        assert_eq!(lease.expires_at, at(25));
        assert_eq!(lease.worker, worker("w1"));
        assert_eq!(leased.eligible_since, START);
        assert_eq!(leased.checkpoint, None);
        assert_eq!((leased.job.attempt, leased.job.fence), (1, 1));

        // A worker's wish goes before the queue's length; the checkpoint is handed on.
        let beat = Beat {
            id,
            token: token.hash(),
            extend: None,
            progress: None,
            checkpoint: Some(json(r#"{"row": 17}"#)),
        };
        w.store().heartbeat(vec![beat], at(4)).await.unwrap()[0].as_ref().unwrap();
        w.settle(&leased, Outcome::Released { delay: None }, at(5)).await;
        let again = w.take_one(at(6)).await;
        assert_eq!(again.job.lease().unwrap().length, secs(30));
        assert_eq!(again.checkpoint, Some(json(r#"{"row": 17}"#)));
        assert_eq!(again.eligible_since, at(5));
        assert_eq!((again.job.attempt, again.job.fence), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn a_stale_beat_leaves_no_checkpoint() {
    for_each_store(|w| async move {
        let id = w.submit(w.job(START), START).await;
        let old = w.take_one(at(1)).await;
        w.store().withdraw(vec![(id, 1)], at(2)).await.unwrap();
        let new = w.take_one(at(3)).await;
        let beat = |token: &punctual::domain::lease::LeaseToken, text: &str| Beat {
            id,
            token: token.hash(),
            extend: None,
            progress: None,
            checkpoint: Some(json(text)),
        };
        let beats = vec![beat(&new.token, "1"), beat(&old.token, "2")];
        let rulings = w.store().heartbeat(beats, at(4)).await.unwrap();
        assert!(rulings[0].is_ok() && rulings[1].is_err(), "{rulings:?}");
        w.settle(&new, Outcome::Released { delay: None }, at(5)).await;
        assert_eq!(w.take_one(at(6)).await.checkpoint, Some(json("1")));
    })
    .await;
}

#[tokio::test]
async fn a_paused_queue_gives_nothing_and_says_so() {
    for_each_store(|w| async move {
        let a = submit(&w, "a", "k", 0, 10).await;
        let b = submit(&w, "b", "k", 0, 10).await;
        w.store().pause(name("a"), None, None, at(1)).await.unwrap();
        let claimed = w.claim(w.ask(&["a", "b"], 5, at(2)), at(2)).await;
        assert_eq!(ids(&claimed.jobs), [b]);
        assert_eq!(claimed.paused, [true, false]);
        assert!(w.record(a).await.standing.queue_paused);
        w.store().resume(name("a"), at(10)).await.unwrap();
        let claimed = w.claim(w.ask(&["a", "b"], 5, at(12)), at(12)).await;
        assert_eq!(ids(&claimed.jobs), [a]);
        assert_eq!(claimed.paused, [false, false]);
        assert_eq!(claimed.jobs[0].eligible_since, at(10), "waiting in a pause does not count");
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_is_repaired() {
    for_each_store(|w| async move {
        let jobs = w.submit_many(4, START).await;
        let lost = w.take(2, at(1)).await;
        let kept = w.take_one(at(2)).await;
        // Another worker's lease is none of our business.
        let request = ClaimRequest { worker: worker("w2"), ..w.ask(&["q"], 1, at(2)) };
        let others = w.claim(request, at(2)).await.jobs.remove(0);
        let request = ClaimRequest { held: Some(vec![kept.spec.id]), ..w.ask(&["q"], 5, at(3)) };
        let claimed = w.claim(request, at(3)).await;
        let mut withdrawn: Vec<_> = claimed.withdrawn.iter().map(|t| t.id).collect();
        withdrawn.sort_unstable();
        assert_eq!(withdrawn, [jobs[0], jobs[1]]);
        assert!(claimed.withdrawn.iter().all(|t| t.change == Change::Released && t.attempt_ended));
        // They are given again at once, uncounted, in their old place, with new fences.
        assert_eq!(ids(&claimed.jobs), [jobs[0], jobs[1]]);
        assert!(claimed.jobs.iter().all(|l| l.job.attempt == 1 && l.job.fence == 2));
        let (rulings, _) = w
            .store()
            .settle(
                vec![
                    report(&lost[0], Outcome::Completed { result: None }),
                    report(&kept, Outcome::Completed { result: None }),
                    report(&others, Outcome::Completed { result: None }),
                ],
                None,
                at(4),
            )
            .await
            .unwrap();
        assert!(rulings[0].is_err() && rulings[1].is_ok() && rulings[2].is_ok());
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_lease_granted_since_the_request_came_in_is_not_lost() {
    for_each_store(|w| async move {
        w.submit_many(2, START).await;
        let before = w.take_one(at(1)).await;
        let _since = w.take_one(at(5)).await;
        let request =
            ClaimRequest { held: Some(Vec::new()), received_at: at(5), ..w.ask(&["q"], 0, at(6)) };
        let claimed = w.claim(request, at(6)).await;
        let withdrawn: Vec<_> = claimed.withdrawn.iter().map(|t| t.id).collect();
        assert_eq!(withdrawn, [before.spec.id]);
        // Without `held` nothing is withdrawn.
        let claimed = w.claim(w.ask(&["q"], 0, at(7)), at(7)).await;
        assert!(claimed.withdrawn.is_empty());
    })
    .await;
}

#[tokio::test]
async fn cancels_wished_for_are_told() {
    for_each_store(|w| async move {
        let jobs = w.submit_many(3, START).await;
        w.take(2, at(1)).await;
        let request = ClaimRequest { worker: worker("w2"), ..w.ask(&["q"], 1, at(1)) };
        w.claim(request, at(1)).await;
        for id in &jobs[1..] {
            let done = w.store().cancel(*id, Requester::Client, None, false, at(2)).await.unwrap();
            assert_eq!(done.unwrap().change, Change::CancelRequested);
        }
        let claimed = w.claim(w.ask(&["q"], 1, at(3)), at(3)).await;
        assert_eq!(claimed.cancel, [jobs[1]]);
        // Told until the lease ends.
        let claimed = w.claim(w.ask(&["q"], 1, at(4)), at(4)).await;
        assert_eq!(claimed.cancel, [jobs[1]]);
        w.store().withdraw(vec![(jobs[1], 1)], at(5)).await.unwrap();
        let claimed = w.claim(w.ask(&["q"], 1, at(6)), at(6)).await;
        assert!(claimed.cancel.is_empty() && claimed.jobs.is_empty());
    })
    .await;
}

#[tokio::test]
async fn fences_only_rise() {
    for_each_store(|w| async move {
        let id = w.submit(w.job_with(START, |n| n.job.max_attempts = 100), START).await;
        let mut last = 0;
        for round in 0..12u64 {
            let now = at(1 + round * 100);
            let leased = w.take_one(now).await;
            assert!(leased.job.fence > last);
            last = leased.job.fence;
            match round % 4 {
                0 => w.settle(&leased, Outcome::Released { delay: None }, now).await,
                1 => drop(w.store().withdraw(vec![(id, last)], now).await.unwrap()),
                2 => drop(w.store().take_back(10, vec![], now.plus(secs(31))).await.unwrap()),
                _ => drop(w.store().goodbye(worker("w1"), None, Lists::ALL, now).await.unwrap()),
            }
        }
        assert_eq!(w.record(id).await.job.attempt, 3, "only the lost leases count");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_workers_never_get_the_same_job() {
    const JOBS: usize = 500;
    for_each_store(|w| async move {
        let w = std::sync::Arc::new(w);
        let jobs = w.submit_many(JOBS, START).await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..8u64 {
            let w = std::sync::Arc::clone(&w);
            tasks.spawn(async move {
                let mut mine = Vec::new();
                let mut round = 0;
                loop {
                    let now: Timestamp = START.plus(Duration::from_millis(1 + round));
                    round += 1;
                    let count = 1 + usize::try_from((n + round) % 7).unwrap();
                    let request = ClaimRequest {
                        worker: worker(&format!("worker-{n}")),
                        ..w.ask(&["q"], count, now)
                    };
                    let leased = w.claim(request, now).await.jobs;
                    if leased.is_empty() {
                        return mine;
                    }
                    let reports: Vec<_> = leased
                        .iter()
                        .map(|l| report(l, Outcome::Completed { result: None }))
                        .collect();
                    let (rulings, _) = w.store().settle(reports, None, now).await.unwrap();
                    assert!(rulings.iter().all(Result::is_ok));
                    mine.extend(ids(&leased));
                }
            });
        }
        let mut seen: BTreeMap<JobId, u32> = BTreeMap::new();
        for id in tasks.join_all().await.into_iter().flatten() {
            *seen.entry(id).or_default() += 1;
        }
        assert!(seen.values().all(|n| *n == 1), "a job was given twice");
        assert_eq!(seen.into_keys().collect::<BTreeSet<_>>(), jobs.into_iter().collect());
        let done = u64::try_from(JOBS).unwrap();
        assert_eq!(w.tallies("q", at(9)).await, counts(&[(Tally::Completed, done)]));
        w.counters_are_exact().await;
    })
    .await;
}
