//! What the watchdog asks of a store: exact stuck counts, limits on what runs, episodes.

use std::collections::HashMap;

use punctual::domain::job::{Job, JobError, PendingReason, Policy, Requester, Tally};
use punctual::domain::time::Timestamp;
use punctual::domain::watch::{Evidence, Verdict};
use punctual::store::{
    Episode, EpisodeFilter, KindState, ListFilter, Outcome, QueueLimits, StuckAfter,
};

use crate::stores::{DAY, START, World, at, for_each_store, name, report, secs};

/// Jobs are stuck after 300 s in every queue.
fn rules() -> StuckAfter {
    StuckAfter { default: Some(secs(300)), queues: HashMap::new() }
}

async fn scan(w: &World, now: Timestamp) -> Vec<KindState> {
    w.store().scan(rules(), now).await.unwrap()
}

/// Stuck and newly stuck jobs of queue `q` and kind `k`.
async fn stuck(w: &World, now: Timestamp) -> (u64, u64) {
    let found = scan(w, now).await;
    assert!(found.len() <= 1, "{found:?}");
    found.first().map_or((0, 0), |k| (k.stuck, k.newly))
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
    Outcome::Failed { error, retry_after: Some(secs(1_000)), unit: 0.5 }
}

#[tokio::test]
async fn who_has_been_eligible_for_longer_than_the_threshold_is_stuck() {
    for_each_store(|w| async move {
        let first = w.submit(w.job(START), START).await;
        let second = w.submit(w.job(at(10)), at(10)).await;
        assert_eq!(stuck(&w, at(299)).await, (0, 0));
        assert_eq!(stuck(&w, at(300)).await, (1, 1));
        assert_eq!(stuck(&w, at(305)).await, (1, 0), "newly stuck once");
        let found = scan(&w, at(310)).await;
        assert_eq!((found[0].stuck, found[0].newly), (2, 1));
        assert_eq!(found[0].oldest_jobs, [first, second]);
        assert_eq!(found[0].oldest_since, Some(START));
        assert_eq!(found[0].kind, name("k"));
        assert_eq!(found[0].queue.name, name("q"));
        assert_eq!(found[0].tallies, [2, 0, 0, 0]);
        let leased = w.take_one(at(311)).await;
        let found = scan(&w, at(312)).await;
        assert_eq!((found[0].stuck, found[0].queue_running.clone()), (1, vec![(name("k"), 1)]));
        w.store().cancel(second, Requester::Client, None, false, at(313)).await.unwrap().unwrap();
        assert_eq!(stuck(&w, at(314)).await, (0, 0));
        w.complete(&leased, at(315)).await;
        assert_eq!(stuck(&w, at(2_000)).await, (0, 0));
    })
    .await;
}

#[tokio::test]
async fn waiting_for_a_time_is_not_being_stuck() {
    for_each_store(|w| async move {
        let scheduled = |now: Timestamp| {
            w.job_with(now, |new| {
                new.job = Job::accepted(now, Some(at(5_000)), None, 3, Policy::default());
            })
        };
        w.submit(scheduled(START), START).await;
        w.submit(w.job(START), START).await;
        let leased = w.take_one(at(1)).await;
        w.settle(&leased, failure(), at(2)).await;
        assert_eq!(w.tallies("q", at(3)).await[Tally::Backoff.code() as usize], 1);
        assert_eq!(stuck(&w, at(1_000)).await, (0, 0), "one backs off, one is scheduled");
        // Due at 1 002 s, whether or not somebody promotes it.
        assert_eq!(stuck(&w, at(1_301)).await, (0, 0));
        assert_eq!(stuck(&w, at(1_302)).await, (1, 1));
        w.store().promote(10, at(1_303)).await.unwrap();
        assert_eq!(stuck(&w, at(1_304)).await, (1, 0), "promotion changes nothing");
        assert_eq!(stuck(&w, at(5_300)).await, (2, 1));
    })
    .await;
}

#[tokio::test]
async fn running_and_released_jobs_are_not_stuck() {
    for_each_store(|w| async move {
        w.submit(w.job(START), START).await;
        let leased = w.take_one(at(1)).await;
        assert_eq!(stuck(&w, at(1_000)).await, (0, 0), "a long job is at work");
        w.settle(&leased, Outcome::Released { delay: None }, at(2_000)).await;
        assert_eq!(stuck(&w, at(2_299)).await, (0, 0), "a released one waits anew");
        assert_eq!(stuck(&w, at(2_300)).await, (1, 1));
    })
    .await;
}

#[tokio::test]
async fn a_pause_stops_the_clock_and_a_resume_starts_it_anew() {
    for_each_store(|w| async move {
        w.submit_many(3, START).await;
        assert_eq!(stuck(&w, at(400)).await, (3, 3));
        w.store().pause(name("q"), None, None, at(401)).await.unwrap();
        assert_eq!(stuck(&w, at(402)).await, (0, 0));
        assert_eq!(stuck(&w, at(9_000)).await, (0, 0));
        w.store().resume(name("q"), at(10_000)).await.unwrap();
        assert_eq!(stuck(&w, at(10_299)).await, (0, 0));
        let found = scan(&w, at(10_300)).await;
        assert_eq!((found[0].stuck, found[0].newly), (3, 3));
        assert_eq!(found[0].oldest_since, Some(at(10_000)));
        // Paused and resumed between two scans.
        w.store().pause(name("q"), None, None, at(10_301)).await.unwrap();
        w.store().resume(name("q"), at(10_302)).await.unwrap();
        assert_eq!(stuck(&w, at(10_303)).await, (0, 0));
        assert_eq!(stuck(&w, at(10_602)).await, (3, 3));
    })
    .await;
}

#[tokio::test]
async fn thresholds_are_the_queues_own_and_may_change_or_be_off() {
    for_each_store(|w| async move {
        for queue in ["q", "slow", "never"] {
            let new = w.job_with(START, |n| n.spec.queue = name(queue));
            w.submit(new, START).await;
        }
        let mut rules = rules();
        rules.queues.insert(name("slow"), Some(secs(1_000)));
        rules.queues.insert(name("never"), None);
        let queues = async |rules: &StuckAfter, now| -> Vec<String> {
            let found = w.store().scan(rules.clone(), now).await.unwrap();
            let mut queues: Vec<String> = found.iter().map(|k| k.queue.name.to_string()).collect();
            queues.sort();
            queues
        };
        assert_eq!(queues(&rules, at(999)).await, ["q"]);
        assert_eq!(queues(&rules, at(1_000)).await, ["q", "slow"]);
        rules.default = Some(DAY);
        assert_eq!(queues(&rules, at(1_001)).await, ["slow"], "raised");
        rules.queues.insert(name("slow"), None);
        rules.queues.insert(name("never"), Some(secs(1)));
        assert_eq!(queues(&rules, at(1_002)).await, ["never"]);
        rules.default = Some(secs(1_003));
        assert_eq!(queues(&rules, at(1_003)).await, ["never", "q"], "lowered");
    })
    .await;
}

#[tokio::test]
async fn counts_survive_a_crash_and_stay_exact() {
    for_each_store(|mut w| async move {
        w.submit_many(5, START).await;
        assert_eq!(stuck(&w, at(300)).await, (5, 5));
        w.crash(at(301));
        w.take(2, at(302)).await;
        assert_eq!(stuck(&w, at(303)).await, (3, 0));
        w.restart(at(304)).await;
        assert_eq!(stuck(&w, at(305)).await, (3, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn scans_beside_claims_lose_and_invent_nobody() {
    for_each_store(|w| async move {
        const JOBS: usize = 3_000;
        w.submit_many(JOBS, START).await;
        let store = w.share();
        let requests: Vec<_> = (0..JOBS / 10).map(|_| w.ask(&["q"], 7, at(300))).collect();
        let claims = tokio::spawn(async move {
            let mut claimed = 0;
            for request in requests {
                claimed += store.claim(request, at(300)).await.unwrap().jobs.len();
            }
            claimed
        });
        let mut newly = 0;
        while !claims.is_finished() {
            for state in scan(&w, at(300)).await {
                newly += state.newly;
            }
            tokio::task::yield_now().await;
        }
        let claimed = claims.await.unwrap();
        let found = scan(&w, at(300)).await;
        newly += found[0].newly;
        assert_eq!(found[0].stuck, (JOBS - claimed) as u64);
        assert!(newly >= found[0].stuck && newly <= JOBS as u64, "{newly}");
    })
    .await;
}

#[tokio::test]
async fn a_scan_changes_no_job() {
    for_each_store(|w| async move {
        let waiting = w.submit(w.job(START), START).await;
        let running = w.submit(w.job(at(1)), at(1)).await;
        w.take_one(at(2)).await;
        let before = (w.record(waiting).await, w.record(running).await);
        for second in [300, 400, 500] {
            scan(&w, at(second)).await;
        }
        assert_eq!((w.record(waiting).await, w.record(running).await), before);
        w.counters_are_exact().await;
    })
    .await;
}

fn limit(max_running: Option<u32>) -> Vec<QueueLimits> {
    vec![QueueLimits { max_running, ..QueueLimits::none(name("q")) }]
}

#[tokio::test]
async fn no_more_jobs_run_than_the_limit_allows() {
    for_each_store(|mut w| async move {
        w.store().set_limits(limit(Some(2)), START).await.unwrap();
        let state = w.store().sample(START).await.unwrap().queues[0].state.clone();
        assert_eq!((state.name, state.max_running), (name("q"), Some(2)), "declared, so there");
        let all = w.submit_many(4, at(1)).await;
        let other = w.job_with(at(1), |n| n.spec.queue = name("other"));
        w.submit(other, at(1)).await;
        let claimed = w.claim(w.ask(&["q", "other"], 9, at(2)), at(2)).await;
        assert_eq!(claimed.jobs.len(), 3, "two of q, and the other queue is not limited");
        assert_eq!(claimed.limited, [false, false]);
        let again = w.claim(w.ask(&["q", "other"], 9, at(3)), at(3)).await;
        assert_eq!((again.jobs.len(), again.limited), (0, vec![true, false]));

        let waits = w.record(all[3]).await;
        assert_eq!(
            PendingReason::of(&waits.job, waits.standing),
            Some(PendingReason::ConcurrencyLimited)
        );
        let filter = |reason| ListFilter { pending_reason: Some(reason), ..ListFilter::default() };
        let listed = async |w: &World, reason| {
            w.store().list(filter(reason), None, 10).await.unwrap().jobs.len()
        };
        assert_eq!(listed(&w, PendingReason::ConcurrencyLimited).await, 2);
        assert_eq!(listed(&w, PendingReason::Queued).await, 0);

        w.crash(at(4));
        assert!(w.take(9, at(5)).await.is_empty(), "the limit is remembered, and what runs");
        w.complete(&claimed.jobs[0], at(6)).await;
        assert_eq!(w.take(9, at(7)).await.len(), 1);
        w.store().set_limits(limit(None), at(8)).await.unwrap();
        assert_eq!(listed(&w, PendingReason::Queued).await, 1);
        assert_eq!(w.take(9, at(9)).await.len(), 1);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_limit_holds_in_the_commit_of_a_submission_and_of_a_settlement_too() {
    for_each_store(|w| async move {
        w.store().set_limits(limit(Some(1)), START).await.unwrap();
        let claims = vec![w.ask(&["q"], 5, at(1)), w.ask(&["q"], 5, at(1))];
        let jobs = (0..3).map(|_| w.job(at(1))).collect();
        let (_, claimed) = w.store().submit_and_claim(jobs, claims, at(1)).await.unwrap();
        assert_eq!((claimed[0].jobs.len(), claimed[1].jobs.len()), (1, 0));
        let settlements = vec![report(&claimed[0].jobs[0], Outcome::Completed { result: None })];
        let next = Some(w.ask(&["q"], 5, at(2)));
        let (_, next) = w.store().settle(settlements, next, at(2)).await.unwrap();
        assert_eq!(next.unwrap().jobs.len(), 1);
    })
    .await;
}

fn episode(verdict: Verdict, since: Timestamp) -> Episode {
    Episode {
        queue: name("q"),
        kind: name("k"),
        verdict,
        since,
        jobs: 3,
        peak_jobs: 4,
        oldest_jobs: Vec::new(),
        evidence: Evidence { at: since, eligible: 3, ..Evidence::default() },
        ended_at: None,
    }
}

async fn episodes(w: &World, filter: EpisodeFilter) -> Vec<Episode> {
    w.store().episodes(filter, 100).await.unwrap()
}

#[tokio::test]
async fn one_episode_goes_on_at_most_and_ended_ones_are_remembered() {
    for_each_store(|mut w| async move {
        let id = w.submit(w.job(START), START).await;
        let first = Episode { oldest_jobs: vec![id], ..episode(Verdict::NoWorkers, at(300)) };
        w.store().record_episodes(vec![first.clone()]).await.unwrap();
        assert_eq!(episodes(&w, EpisodeFilter::default()).await, std::slice::from_ref(&first));
        let changed = Episode { verdict: Verdict::WorkersSilent, jobs: 9, ..first.clone() };
        w.store().record_episodes(vec![changed.clone()]).await.unwrap();
        w.crash(at(301));
        assert_eq!(
            episodes(&w, EpisodeFilter::default()).await,
            std::slice::from_ref(&changed),
            "rewritten"
        );
        let ended = Episode { ended_at: Some(at(400)), jobs: 0, ..changed };
        w.store().record_episodes(vec![ended.clone()]).await.unwrap();
        let second = episode(Verdict::WorkersSaturated, at(900));
        w.store().record_episodes(vec![second.clone()]).await.unwrap();
        assert_eq!(episodes(&w, EpisodeFilter::default()).await, [second.clone(), ended.clone()]);

        let only = |filter| episodes(&w, filter);
        let after = |t| EpisodeFilter { ended_after: Some(t), ..EpisodeFilter::default() };
        assert_eq!(only(after(at(400))).await, std::slice::from_ref(&second));
        assert_eq!(only(after(at(399))).await, [second.clone(), ended.clone()]);
        let named = |queue: &str, kind: &str| EpisodeFilter {
            queue: Some(name(queue)),
            kind: Some(name(kind)),
            ended_after: None,
        };
        assert_eq!(only(named("q", "k")).await.len(), 2);
        assert!(only(named("q", "other")).await.is_empty());
        assert!(only(named("other", "k")).await.is_empty());
        let limited = w.store().episodes(EpisodeFilter::default(), 1).await.unwrap();
        assert_eq!(limited, [second]);

        w.store().expire(10, DAY, at(400).plus(7 * DAY)).await.unwrap();
        assert_eq!(only(EpisodeFilter::default()).await.len(), 1, "the ended one is a week old");
    })
    .await;
}

#[tokio::test]
async fn what_waits_for_workers_says_so_while_the_episode_lasts() {
    for_each_store(|w| async move {
        let id = w.submit(w.job(START), START).await;
        let other = w.job_with(START, |n| n.spec.kind = name("other"));
        let other = w.submit(other, START).await;
        assert_eq!(stuck_jobs_in_sample(&w, at(1)).await, []);
        w.store().scan(rules(), at(300)).await.unwrap();
        for (verdict, told) in
            [(Verdict::NoWorkers, true), (Verdict::WorkersSilent, true), (Verdict::Unknown, false)]
        {
            w.store().record_episodes(vec![episode(verdict, at(300))]).await.unwrap();
            let reason = async |id| {
                let record = w.record(id).await;
                PendingReason::of(&record.job, record.standing).unwrap()
            };
            let wanted = if told { PendingReason::NoWorkers } else { PendingReason::Queued };
            assert_eq!((reason(id).await, reason(other).await), (wanted, PendingReason::Queued));
            let filter =
                ListFilter { pending_reason: Some(PendingReason::NoWorkers), ..Default::default() };
            let listed = w.store().list(filter, None, 10).await.unwrap().jobs;
            assert_eq!(listed.len(), usize::from(told), "{verdict:?}");
            assert_eq!(stuck_jobs_in_sample(&w, at(301)).await, [(verdict, 1, 1)]);
        }
        w.take(1, at(302)).await;
        assert_eq!(stuck_jobs_in_sample(&w, at(303)).await, [(Verdict::Unknown, 0, 0)]);
    })
    .await;
}

async fn stuck_jobs_in_sample(w: &World, now: Timestamp) -> Vec<(Verdict, u64, u64)> {
    let sample = w.store().sample(now).await.unwrap();
    sample.episodes.iter().map(|e| (e.verdict, e.jobs, e.queued)).collect()
}

#[tokio::test]
async fn a_queue_is_inspected_by_its_kinds() {
    for_each_store(|w| async move {
        assert!(w.store().inspect(name("q"), None, START).await.unwrap().is_empty());
        let ids = w.submit_many(12, START).await;
        let later = w.job_with(START, |n| {
            n.spec.kind = name("later");
            n.job = Job::accepted(START, Some(at(50)), None, 3, Policy::default());
        });
        w.submit(later, START).await;
        let leased = w.take_one(at(1)).await;
        let mut states = w.store().inspect(name("q"), None, at(2)).await.unwrap();
        states.sort_by(|a, b| a.kind.cmp(&b.kind));
        let [k, later] = &states[..] else { panic!("{states:?}") };
        assert_eq!((k.tallies, k.stuck, k.newly), ([11, 0, 0, 1], 0, 0));
        assert_eq!(k.oldest_jobs, ids[1..11]);
        assert_eq!((later.tallies, later.oldest_since), ([0, 1, 0, 0], None));
        assert_eq!(k.queue_running, [(name("k"), 1)]);
        assert_eq!(k.queue_running, later.queue_running);
        let one = w.store().inspect(name("q"), Some(name("later")), at(2)).await.unwrap();
        assert_eq!(one, std::slice::from_ref(later));
        w.complete(&leased, at(3)).await;
    })
    .await;
}

#[tokio::test]
async fn of_many_kinds_the_most_stuck_are_shown_then_the_most_jobs() {
    for_each_store(|w| async move {
        let mut jobs: Vec<_> = (0..250)
            .map(|n| w.job_with(at(400), |new| new.spec.kind = name(&format!("k{n}"))))
            .collect();
        jobs.push(w.job_with(at(400), |new| new.spec.kind = name("k7")));
        jobs.push(w.job_with(START, |new| new.spec.kind = name("stuck")));
        w.store().submit(jobs, at(400)).await.unwrap();
        scan(&w, at(400)).await;
        let states = w.store().inspect(name("q"), None, at(401)).await.unwrap();
        assert_eq!(states.len(), 200);
        assert_eq!((&states[0].kind, states[0].stuck), (&name("stuck"), 1));
        assert_eq!((&states[1].kind, states[1].tallies[0]), (&name("k7"), 2));
    })
    .await;
}

#[tokio::test]
async fn the_sample_knows_the_oldest_lease_and_who_holds_how_many() {
    for_each_store(|w| async move {
        w.submit_many(5, START).await;
        let first = w.take_one(at(1)).await;
        w.take(2, at(2)).await;
        let other = punctual::store::ClaimRequest {
            worker: crate::stores::worker("w2"),
            ..w.ask(&["q"], 1, at(3))
        };
        w.claim(other, at(3)).await;
        let sample = w.store().sample(at(4)).await.unwrap();
        let mut leases: Vec<(String, u64)> =
            sample.leases.iter().map(|(w, n)| (w.as_str().to_owned(), *n)).collect();
        leases.sort();
        assert_eq!(leases, [("w1".to_owned(), 3), ("w2".to_owned(), 1)]);
        assert_eq!(sample.queues[0].oldest_lease, Some(at(1)));
        assert_eq!(sample.queues[0].running_kinds, [name("k")]);
        w.complete(&first, at(5)).await;
        let sample = w.store().sample(at(6)).await.unwrap();
        assert_eq!(sample.queues[0].oldest_lease, Some(at(2)));
    })
    .await;
}
