//! The watchdog over a real store: what is stuck, why, and what never is.

use std::collections::HashMap;
use std::time::Duration;

use punctual::domain::id::JobId;
use punctual::domain::job::{JobError, PendingReason};
use punctual::domain::names::{Name, WorkerId};
use punctual::domain::watch::Verdict;
use punctual::engine::reaper::Reaper;
use punctual::engine::{
    BackoffOverrides, ClaimOrder, Episode, EpisodeFilter, Grant, Hold, ReportOrder, SettleOrder,
    Submission, WatchSettings,
};
use punctual::store::{QueueLimits, StuckAfter};

use super::{SECOND, World, world_with};

pub(crate) const SCAN: Duration = Duration::from_secs(15);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

fn watched() -> World {
    limited(None)
}

/// Jobs are stuck after five minutes.
fn limited(max_running: Option<u32>) -> World {
    world_with(WatchSettings {
        stuck_after: StuckAfter { default: Some(5 * MINUTE), queues: HashMap::new() },
        limits: vec![QueueLimits { max_running, ..QueueLimits::none(Name::trusted("default")) }],
        ..WatchSettings::default()
    })
}

impl World {
    /// Lets `time` pass, with a sample and a scan every 15 s.
    pub(crate) async fn pass(&self, time: Duration) {
        let scans = time.as_secs().div_ceil(SCAN.as_secs());
        for _ in 0..scans {
            self.clock.advance(SCAN);
            self.scan().await;
        }
    }

    pub(crate) async fn scan(&self) {
        self.engine.sample().await.expect("a sample");
        self.engine.watch(SCAN).await.expect("a scan");
    }

    async fn episodes(&self) -> Vec<Episode> {
        self.engine.episodes(EpisodeFilter::default(), None, 100).await.expect("episodes")
    }

    /// The verdict of the one episode that goes on.
    pub(crate) async fn verdict(&self) -> Option<Verdict> {
        let open: Vec<Episode> =
            self.episodes().await.into_iter().filter(|e| e.ended_at.is_none()).collect();
        assert!(open.len() <= 1, "{open:?}");
        open.first().map(|e| e.verdict)
    }

    pub(crate) async fn take(&self, worker: &str, jobs: usize) -> Grant {
        let order = ClaimOrder {
            worker: WorkerId::trusted(worker),
            max_jobs: jobs,
            concurrency: Some(u32::try_from(jobs).expect("few")),
            lease: Some(60 * MINUTE),
            ..Self::order(Duration::ZERO)
        };
        self.engine.claim(&self.everyone, order).await.expect("a claim")
    }

    pub(crate) async fn report(&self, grant: &Grant, report: ReportOrder) {
        let orders = grant
            .jobs
            .iter()
            .map(|leased| SettleOrder {
                id: leased.spec.id,
                token: leased.token.clone(),
                report: report.clone(),
            })
            .collect();
        let (settled, _) =
            self.engine.settle(&self.everyone, orders, None).await.expect("the store");
        assert!(settled.iter().all(Result::is_ok), "{settled:?}");
    }

    pub(crate) async fn done(&self, grant: &Grant) {
        self.report(grant, ReportOrder::Completed { result: None }).await;
    }

    pub(crate) async fn send(&self, submission: Submission) -> JobId {
        let accepted = self.engine.submit(&self.everyone, submission, Hold::Never).await;
        accepted.expect("accepted").view.record.spec.id
    }

    pub(crate) async fn reason(&self, id: JobId) -> Option<PendingReason> {
        let record = self.engine.job(&self.everyone, id, false).await.expect("the job").record;
        PendingReason::of(&record.job, record.standing)
    }

    /// A pool that has shown, with 30 jobs, how long a job takes.
    pub(crate) async fn practised(&self, worker: &str) {
        for _ in 0..30 {
            self.submit().await;
        }
        let grant = self.take(worker, 30).await;
        self.clock.advance(SECOND);
        self.done(&grant).await;
    }
}

#[tokio::test]
async fn nobody_works_there_and_then_somebody_does() {
    let w = watched();
    let id = w.submit().await;
    w.pass(5 * MINUTE).await;
    assert_eq!(w.verdict().await, None, "one scan is not enough");
    assert_eq!(w.reason(id).await, Some(PendingReason::Queued));
    w.pass(SCAN).await;
    assert_eq!(w.verdict().await, Some(Verdict::NoWorkers));
    assert_eq!(w.reason(id).await, Some(PendingReason::NoWorkers));
    let fresh = w
        .engine
        .submit(&w.everyone, World::submission(), Hold::Never)
        .await
        .expect("accepted")
        .view
        .record;
    assert_eq!(PendingReason::of(&fresh.job, fresh.standing), Some(PendingReason::NoWorkers));

    let explained = w.engine.explain_queue(&Name::trusted("default")).await.expect("explained");
    assert_eq!(explained.verdict, Some(Verdict::NoWorkers));
    let kind = &explained.kinds[0];
    assert_eq!((kind.stuck, kind.oldest_jobs[0], kind.evidence.workers), (1, id, 0));
    assert!(kind.next_step.contains("punctual work --queue default --kind k"), "{kind:?}");
    let job = w.engine.explain_job(&w.everyone, id).await.expect("explained");
    assert_eq!((job.verdict, job.since), ("no_workers", kind.since));
    let fresh = w.engine.explain_job(&w.everyone, fresh.spec.id).await.expect("explained");
    assert_eq!((fresh.verdict, fresh.since), ("no_workers", None), "it is not stuck itself");

    let grant = w.take("w", 9).await;
    w.pass(SCAN).await;
    assert_eq!(w.verdict().await, None);
    let episode = &w.episodes().await[0];
    assert_eq!((episode.verdict, episode.peak_jobs, episode.jobs), (Verdict::NoWorkers, 1, 0));
    assert!(episode.ended_at > Some(episode.since));
    w.done(&grant).await;
    let explained = w.engine.explain_queue(&Name::trusted("default")).await.expect("explained");
    assert_eq!(explained.verdict, None);
}

#[tokio::test]
async fn workers_that_died_are_silent() {
    let w = watched();
    w.practised("w").await;
    w.submit().await;
    w.pass(5 * MINUTE + SCAN).await;
    assert_eq!(w.verdict().await, Some(Verdict::WorkersSilent));
    assert_eq!(w.episodes().await[0].evidence.workers, 1);
}

#[tokio::test]
async fn workers_that_settle_are_too_few_and_those_that_do_not_hang() {
    let w = watched();
    w.practised("w").await;
    for _ in 0..100 {
        w.submit().await;
    }
    let mut grant = w.take("w", 1).await;
    // One job a scan is too slow for a hundred, but it is work.
    for _ in 0..25 {
        w.pass(SCAN).await;
        w.done(&grant).await;
        grant = w.take("w", 1).await;
    }
    assert_eq!(w.verdict().await, Some(Verdict::WorkersSaturated));
    // From now on it only says that it is alive.
    for _ in 0..25 {
        w.pass(SCAN).await;
        let beat = punctual::engine::BeatOrder {
            id: grant.jobs[0].spec.id,
            token: grant.jobs[0].token.clone(),
            extend: None,
            progress: None,
            checkpoint: None,
        };
        w.engine.heartbeat(&w.everyone, None, vec![beat]).await.expect("the store");
    }
    assert_eq!(w.verdict().await, Some(Verdict::WorkersStalled));
    assert_eq!(w.episodes().await.len(), 1, "the verdict changed, it is one episode");
}

#[tokio::test]
async fn a_limit_at_its_cap_is_the_reason() {
    let w = limited(Some(1));
    w.engine.set_limits().await.expect("limits");
    w.practised_one_by_one().await;
    let first = w.submit().await;
    let second = w.submit().await;
    let grant = w.take("w", 5).await;
    assert_eq!(grant.jobs.len(), 1);
    assert_eq!(w.reason(second).await, Some(PendingReason::ConcurrencyLimited));
    w.pass(5 * MINUTE + SCAN).await;
    assert_eq!(w.verdict().await, Some(Verdict::ConcurrencyLimited));
    assert_eq!(w.status(first).await.0, punctual::domain::job::Status::Running);
    w.done(&grant).await;
    assert_eq!(w.take("w", 5).await.jobs[0].spec.id, second);
    w.pass(SCAN).await;
    assert_eq!(w.verdict().await, None);
}

impl World {
    async fn practised_one_by_one(&self) {
        self.submit().await;
        let grant = self.take("w", 1).await;
        self.done(&grant).await;
    }
}

#[tokio::test]
async fn a_parked_claim_gets_the_place_that_a_settlement_leaves() {
    let w = limited(Some(1));
    w.engine.set_limits().await.expect("limits");
    w.submit().await;
    let second = w.submit().await;
    let running = w.take("w", 1).await;
    let (engine, everyone) = (w.engine.clone(), w.everyone.clone());
    let parked = tokio::spawn(async move {
        let order =
            ClaimOrder { worker: WorkerId::trusted("v"), ..World::order(Duration::from_secs(50)) };
        engine.claim(&everyone, order).await.expect("a claim")
    });
    w.until_counted("punctual_store_operation_duration_seconds_count{operation=\"claim\"} 2").await;
    w.done(&running).await;
    assert_eq!(parked.await.expect("the claim").jobs[0].spec.id, second);
}

#[tokio::test]
async fn work_that_is_due_and_not_handed_out_is_our_own_fault() {
    let w = watched();
    // Nobody promotes it: the scheduler does not run here.
    let delay = Some(MINUTE);
    w.send(Submission { delay, ..World::submission() }).await;
    for _ in 0..30 {
        w.pass(SCAN).await;
        w.clock.advance(SECOND);
        assert!(w.take("w", 1).await.jobs.is_empty());
    }
    assert_eq!(w.verdict().await, Some(Verdict::DispatchStalled));
}

#[tokio::test]
async fn a_long_job_is_never_stuck() {
    let w = watched();
    w.submit().await;
    let grant = w.take("w", 1).await;
    w.pass(50 * MINUTE).await;
    assert!(w.episodes().await.is_empty());
    w.done(&grant).await;
}

#[tokio::test]
async fn a_scheduled_job_is_never_stuck() {
    let w = watched();
    let id = w.send(Submission { delay: Some(60 * MINUTE), ..World::submission() }).await;
    w.pass(59 * MINUTE).await;
    assert!(w.episodes().await.is_empty());
    let explained = w.engine.explain_job(&w.everyone, id).await.expect("explained");
    assert_eq!(explained.verdict, "scheduled");
}

#[tokio::test]
async fn a_waiting_retry_is_never_stuck() {
    let w = watched();
    let hour = Some(60 * MINUTE);
    let backoff = BackoffOverrides { initial: hour, max: hour, ..BackoffOverrides::default() };
    let id = w.send(Submission { backoff, ..World::submission() }).await;
    let grant = w.take("w", 1).await;
    let error = JobError {
        kind: "boom".to_owned(),
        message: "it broke".to_owned(),
        details: None,
        stack: None,
        attempt: 1,
        at: punctual::domain::time::Timestamp::EPOCH,
        retryable: true,
    };
    w.report(&grant, ReportOrder::Failed { error, retry_after: None }).await;
    w.pass(50 * MINUTE).await;
    assert!(w.episodes().await.is_empty());
    let explained = w.engine.explain_job(&w.everyone, id).await.expect("explained");
    assert_eq!(explained.verdict, "retry_backoff");
    assert!(explained.next_step.contains("boom"), "{}", explained.next_step);
}

#[tokio::test]
async fn a_paused_queue_is_never_stuck_and_a_resumed_one_begins_anew() {
    let w = watched();
    let id = w.submit().await;
    let queue = Name::trusted("default");
    w.pass(4 * MINUTE).await;
    w.engine.pause(&queue, None, None).await.expect("paused");
    w.pass(60 * MINUTE).await;
    assert!(w.episodes().await.is_empty());
    let explained = w.engine.explain_job(&w.everyone, id).await.expect("explained");
    assert_eq!(explained.verdict, "queue_paused");
    w.engine.resume(&queue).await.expect("resumed");
    w.pass(4 * MINUTE).await;
    assert!(w.episodes().await.is_empty());
    w.pass(2 * MINUTE).await;
    assert_eq!(w.verdict().await, Some(Verdict::NoWorkers));
    w.engine.pause(&queue, None, None).await.expect("paused");
    w.pass(SCAN).await;
    assert_eq!(w.verdict().await, None, "a pause ends it");
}

#[tokio::test]
async fn a_released_job_waits_anew() {
    let w = watched();
    w.submit().await;
    w.pass(4 * MINUTE).await;
    let grant = w.take("w", 1).await;
    w.report(&grant, ReportOrder::Released { delay: None }).await;
    w.pass(4 * MINUTE).await;
    assert!(w.episodes().await.is_empty());
}

#[tokio::test]
async fn jobs_are_counted_once_however_long_they_are_stuck() {
    let w = watched();
    for _ in 0..7 {
        w.submit().await;
    }
    w.pass(20 * MINUTE).await;
    w.submit().await;
    w.pass(20 * MINUTE).await;
    let counted =
        "punctual_watchdog_stuck_jobs_detected_total{queue=\"default\",verdict=\"no_workers\"} 8";
    w.until_counted(counted).await;
    assert_eq!(w.episodes().await[0].jobs, 8);
}

#[tokio::test]
async fn what_goes_on_is_told_as_the_last_scan_saw_it() {
    let w = watched();
    w.submit().await;
    w.pass(10 * MINUTE).await;
    w.submit().await;
    // Each becomes stuck between two moments at which the episode is written.
    for stuck in 2..5 {
        w.clock.advance(5 * MINUTE + SECOND);
        w.scan().await;
        assert_eq!(w.episodes().await[0].jobs, stuck);
        w.submit().await;
    }
}

#[tokio::test]
async fn a_worker_that_asks_for_several_queues_in_turn_is_there_for_each() {
    let w = watched();
    w.submit().await;
    let ask = |queue: &'static str, kinds: Vec<Name>| {
        let order = ClaimOrder {
            queues: vec![Name::trusted(queue)],
            kinds,
            ..World::order(Duration::ZERO)
        };
        w.engine.claim(&w.everyone, order)
    };
    for _ in 0..25 {
        // Of `default` it wants another kind: nobody takes the job that is there.
        ask("default", vec![Name::trusted("other")]).await.expect("a claim");
        ask("elsewhere", Vec::new()).await.expect("a claim");
        w.pass(SCAN).await;
    }
    assert_eq!(w.verdict().await, Some(Verdict::NoWorkers));
    let queues = w.engine.queues().await.expect("queues");
    assert!(queues.iter().all(|q| q.workers == 1), "{queues:?}");
}

#[tokio::test]
async fn who_let_a_lease_run_out_is_silent_at_once() {
    let half_minute = Duration::from_secs(30);
    let w = world_with(WatchSettings {
        stuck_after: StuckAfter { default: Some(half_minute), queues: HashMap::new() },
        limits: Vec::new(),
        ..WatchSettings::default()
    });
    let reaper = Reaper::default();
    w.practised("w").await;
    w.submit().await;
    w.submit().await;
    let order = ClaimOrder {
        worker: WorkerId::trusted("w"),
        lease: Some(half_minute),
        ..World::order(Duration::ZERO)
    };
    w.engine.claim(&w.everyone, order.clone()).await.expect("a claim");
    let mut verdicts = Vec::new();
    // Long before a minute and a half is over: the lease tells.
    for _ in 0..5 {
        w.engine.reap(&reaper, SCAN).await.expect("the store");
        w.scan().await;
        verdicts.extend(w.verdict().await);
        w.clock.advance(SCAN);
    }
    assert_eq!(verdicts.first(), Some(&Verdict::WorkersSilent), "{verdicts:?}");
    let queue = w.engine.explain_queue(&Name::trusted("default")).await.expect("explained");
    assert_eq!(queue.kinds[0].evidence.workers_present, 0);

    // A sign of life, and it is back.
    w.engine.claim(&w.everyone, order).await.expect("a claim");
    let queue = w.engine.explain_queue(&Name::trusted("default")).await.expect("explained");
    assert_eq!(queue.kinds[0].evidence.workers_present, 1);
}

#[tokio::test]
async fn our_own_interruption_is_no_wait_of_the_jobs() {
    let w = watched();
    w.practised("w").await;
    w.pass(MINUTE).await;
    w.submit().await;
    w.pass(MINUTE).await;
    // The machine is suspended, with everybody on it.
    w.clock.advance(20 * MINUTE);
    w.scan().await;
    w.pass(2 * SCAN).await;
    assert!(w.episodes().await.is_empty(), "the workers had no time to come back");
    let grant = w.take("w", 1).await;
    w.pass(SCAN).await;
    w.done(&grant).await;
    assert!(w.episodes().await.is_empty());
}

#[tokio::test]
async fn whoever_holds_a_long_lease_need_not_show_itself_often() {
    let w = watched();
    w.submit().await;
    w.submit().await;
    // An hour's lease, and not one heartbeat.
    let grant = w.take("w", 1).await;
    w.pass(10 * MINUTE).await;
    assert_eq!(w.verdict().await, Some(Verdict::WorkersSaturated));
    let queues = w.engine.queues().await.expect("queues");
    assert_eq!(queues[0].workers, 1);
    w.done(&grant).await;
    w.pass(5 * MINUTE).await;
    assert_eq!(w.verdict().await, Some(Verdict::WorkersSilent), "now it is gone");
}

#[tokio::test]
async fn a_worker_that_asks_elsewhere_from_now_on_is_missed_where_it_was() {
    let w = watched();
    let ask = |queue: &'static str| {
        let queues = vec![Name::trusted(queue)];
        w.engine.claim(&w.everyone, ClaimOrder { queues, ..World::order(Duration::ZERO) })
    };
    ask("default").await.expect("a claim");
    w.submit().await;
    // Restarted under the same name, for another queue.
    for _ in 0..60 {
        ask("elsewhere").await.expect("a claim");
        w.pass(SCAN).await;
    }
    assert_eq!(w.verdict().await, Some(Verdict::NoWorkers));
}
