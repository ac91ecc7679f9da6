//! What may wait and what may start: refusals, tokens that come back, and the verdicts.

use std::collections::HashMap;
use std::time::Duration;

use punctual::domain::job::PendingReason;
use punctual::domain::names::{Name, WorkerId};
use punctual::domain::watch::Verdict;
use punctual::engine::{
    ClaimOrder, Failure, Grant, Hold, IdempotencyKey, Submission, WatchSettings,
};
use punctual::store::{QueueLimits, StuckAfter};
use punctual::telemetry::exposition::Format;

use super::watch::{MINUTE, SCAN};
use super::{SECOND, World, world_with};

fn queue() -> Name {
    Name::trusted("default")
}

/// Jobs are stuck after five minutes.
async fn limited(max_depth: Option<u64>, start_rate: Option<f64>) -> World {
    let w = world_with(WatchSettings {
        stuck_after: StuckAfter { default: Some(5 * MINUTE), queues: HashMap::new() },
        limits: vec![QueueLimits { max_depth, ..QueueLimits::none(queue()) }],
        start_rates: start_rate.map(|rate| (queue(), rate)).into_iter().collect(),
        ..WatchSettings::default()
    });
    w.engine.set_limits().await.expect("limits");
    w
}

impl World {
    async fn try_send(&self, submission: Submission) -> Result<(), Failure> {
        self.engine.submit(&self.everyone, submission, Hold::Never).await.map(|_| ())
    }

    fn parked(&self, worker: &str) -> tokio::task::JoinHandle<Grant> {
        let (engine, everyone) = (self.engine.clone(), self.everyone.clone());
        let order = ClaimOrder {
            worker: WorkerId::trusted(worker),
            ..Self::order(Duration::from_secs(50))
        };
        tokio::spawn(async move { engine.claim(&everyone, order).await.expect("a claim") })
    }

    fn counted(&self, series: &str) -> f64 {
        let metrics = self.engine.events().render(Format::Text);
        let found = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {series}")).parse().expect("a number")
    }
}

fn keyed(key: &str) -> Submission {
    let key = IdempotencyKey { key: key.to_owned(), fingerprint: [1; 32] };
    Submission { key: Some(key), ..World::submission() }
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_when_to_return() {
    let w = limited(Some(20), None).await;
    let submissions = |outcome: &str| {
        let labels = format!("outcome=\"{outcome}\",queue=\"default\"");
        w.counted(&format!("punctual_job_submissions_total{{{labels}}}")) as u64
    };
    w.try_send(keyed("first")).await.expect("room");
    let batch = (0..20).map(|_| World::submission()).collect();
    let refused = w.engine.submit_batch(&w.everyone, batch).await.expect_err("no room for all");
    let (at, Failure::QueueFull { queue, max_depth, retry_after }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((at, queue.as_str(), max_depth), (19, "default", 20), "the first without room");
    assert!((273..=300).contains(&retry_after), "nothing starts: {retry_after}");
    assert_eq!((submissions("queue_full"), submissions("accepted")), (20, 1));
    let batch = (0..19).map(|_| World::submission()).collect();
    w.engine.submit_batch(&w.everyone, batch).await.expect("room for so many");
    let refused = w.try_send(World::submission()).await;
    assert!(matches!(refused, Err(Failure::QueueFull { .. })), "{refused:?}");
    w.try_send(keyed("first")).await.expect("a repetition");
    assert_eq!((submissions("queue_full"), submissions("replayed")), (21, 1));

    // The answer follows the rate of starts: four a minute need half a minute for two places.
    w.engine.sample().await.expect("a sample");
    assert_eq!(w.counted("punctual_queue_max_depth{queue=\"default\"}") as u64, 20);
    for _ in 0..40 {
        w.clock.advance(SCAN);
        let grant = w.claim().await;
        w.complete(&grant).await.expect("settled");
        w.try_send(World::submission()).await.expect("a place is free");
        w.engine.sample().await.expect("a sample");
    }
    let refused = w.try_send(World::submission()).await;
    let Err(Failure::QueueFull { retry_after, .. }) = refused else { panic!("{refused:?}") };
    assert!((25..=40).contains(&retry_after), "{retry_after}");
}

#[tokio::test]
async fn parked_claims_get_their_tokens_one_after_the_other() {
    const RATE: f64 = 20.0;
    const JOBS: usize = 30;
    let w = limited(None, Some(RATE)).await;
    for _ in 0..JOBS {
        w.submit().await;
    }
    let began = tokio::time::Instant::now();
    // All of them ask at once, and nobody asks again: the poll of last resort is 5 s away.
    let claims: Vec<_> = (0..JOBS).map(|n| w.parked(&format!("w{n}"))).collect();
    for claim in claims {
        assert_eq!(claim.await.expect("the claim").jobs.len(), 1);
    }
    let took = began.elapsed().as_secs_f64();
    let least = (JOBS as f64 - RATE) / RATE;
    assert!(took >= least, "{JOBS} starts in {took} s");
    assert!(took < 4.0, "{took} s: somebody was not woken");
    let looks = w.counted("punctual_store_operation_duration_seconds_count{operation=\"claim\"}");
    assert!(looks < 3.0 * JOBS as f64, "{looks} looks: that is polling");
}

#[tokio::test]
async fn a_submission_waits_for_the_token_that_a_parked_claim_waits_for() {
    let w = limited(None, Some(2.0)).await;
    for _ in 0..2 {
        w.submit().await;
        w.claim().await;
    }
    let parked = w.parked("v");
    w.until_counted("punctual_store_operation_duration_seconds_count{operation=\"claim\"} 3").await;
    let id = w.submit().await;
    assert_eq!(w.reason(id).await, Some(PendingReason::RateLimited));
    assert_eq!(parked.await.expect("the claim").jobs[0].spec.id, id, "when its token is there");
}

#[tokio::test]
async fn a_rate_at_its_limit_is_the_reason() {
    let w = limited(None, Some(0.001)).await;
    w.submit().await;
    let waits = w.submit().await;
    assert_eq!(w.reason(waits).await, Some(PendingReason::Queued), "there is a token");
    let first = w.take("w", 5).await;
    assert_eq!(first.jobs.len(), 1, "and one it is");
    assert_eq!(w.reason(waits).await, Some(PendingReason::RateLimited));
    let fresh = w
        .engine
        .submit(&w.everyone, World::submission(), Hold::Never)
        .await
        .expect("accepted")
        .view
        .record;
    assert_eq!(PendingReason::of(&fresh.job, fresh.standing), Some(PendingReason::RateLimited));
    w.done(&first).await;
    // It goes on asking, and is told that it is limited.
    for _ in 0..22 {
        w.clock.advance(SECOND);
        assert!(w.take("w", 5).await.jobs.is_empty());
        w.pass(SCAN).await;
    }
    let limited = "punctual_claim_requests_total{outcome=\"limited\",queue=\"default\"}";
    assert_eq!(w.counted(limited) as u64, 22);
    assert_eq!(w.verdict().await, Some(Verdict::RateLimited));
    let series = "punctual_queue_pending_jobs{queue=\"default\",reason=\"rate_limited\"}";
    assert_eq!(w.counted(series) as u64, 2);
    let explained = w.engine.explain_queue(&queue()).await.expect("explained");
    let kind = &explained.kinds[0];
    assert_eq!(kind.evidence.start_rate_limit.map(|r| r.per_1000_seconds), Some(1));
    assert!(kind.next_step.contains("start_rate_per_second"), "{}", kind.next_step);
    let job = w.engine.explain_job(&w.everyone, waits).await.expect("explained");
    assert_eq!((job.verdict, job.stuck), ("rate_limited", true));
    let view = w.engine.queue(&queue()).await.expect("the queue");
    assert_eq!(view.start_rate_limit, Some(0.001));
}

#[tokio::test]
async fn whom_nobody_takes_is_not_held_back_by_the_rate() {
    let w = limited(None, Some(0.001)).await;
    w.submit().await;
    w.take("w", 1).await;
    // The token is spent, but the one worker is busy; and then it is silent.
    w.submit().await;
    w.pass(5 * MINUTE + SCAN).await;
    assert_ne!(w.verdict().await, Some(Verdict::RateLimited));
}

impl World {
    async fn send_with(&self, priority: i32) {
        self.send(Submission { priority, ..Self::submission() }).await;
    }
}

#[tokio::test]
async fn whom_others_overtake_for_long_is_starved() {
    let w = limited(None, None).await;
    w.practised("w").await;
    w.send_with(0).await;
    w.send_with(5).await;
    let mut grant = w.take("w", 1).await;
    for _ in 0..24 {
        w.send_with(5).await;
        w.pass(SCAN).await;
        w.clock.advance(SECOND);
        w.done(&grant).await;
        grant = w.take("w", 1).await;
        assert_eq!(grant.jobs[0].spec.priority, 5);
    }
    assert_eq!(w.verdict().await, Some(Verdict::Starved));
    let explained = w.engine.explain_queue(&queue()).await.expect("explained");
    let kind = &explained.kinds[0];
    assert_eq!(kind.evidence.oldest_priority, Some(0));
    assert!(kind.next_step.contains("none of priority 0"), "{}", kind.next_step);
    // Its turn comes.
    w.done(&grant).await;
    assert_eq!(w.take("w", 1).await.jobs[0].spec.priority, 0);
    w.pass(SCAN).await;
    assert_eq!(w.verdict().await, None);
}

#[tokio::test]
async fn too_few_workers_for_equals_starve_nobody() {
    let w = limited(None, None).await;
    w.practised("w").await;
    for _ in 0..100 {
        w.send_with(0).await;
    }
    // Now and then something more important comes along.
    let mut grant = w.take("w", 1).await;
    for turn in 0..25 {
        if turn % 3 == 0 {
            w.send_with(5).await;
        }
        w.pass(SCAN).await;
        w.clock.advance(SECOND);
        w.done(&grant).await;
        grant = w.take("w", 1).await;
    }
    assert_eq!(w.verdict().await, Some(Verdict::WorkersSaturated));
}

#[tokio::test]
async fn other_workers_preferences_starve_nobody() {
    let w = limited(None, None).await;
    w.practised("w").await;
    let other = Name::trusted("other");
    w.send_with(0).await;
    // Its own worker is busy with it, and another one waits.
    let own = w.take("w", 1).await;
    w.send_with(0).await;
    // Of another kind, with a worker that takes nothing else.
    let send = || Submission { kind: other.clone(), priority: 5, ..World::submission() };
    for _ in 0..24 {
        w.clock.advance(SECOND);
        w.send(send()).await;
        let order = ClaimOrder {
            worker: WorkerId::trusted("x"),
            kinds: vec![other.clone()],
            ..World::order(Duration::ZERO)
        };
        let grant = w.engine.claim(&w.everyone, order).await.expect("a claim");
        w.pass(SCAN).await;
        w.done(&grant).await;
    }
    assert_eq!(own.jobs.len(), 1);
    assert_eq!(w.verdict().await, Some(Verdict::WorkersStalled));
}
