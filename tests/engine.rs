//! The engine over a real store with a clock that the test drives: our outages, the reaper, the
//! task driver, and claims whose callers leave.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use punctual::domain::access::Lists;
use punctual::domain::defaults::JobDefaults;
use punctual::domain::id::{IdMint, IdSecret};
use punctual::domain::job::{Policy, Status};
use punctual::domain::lease::LeaseToken;
use punctual::domain::names::{Name, WorkerId};
use punctual::domain::time::{Clock, Timestamp};
use punctual::engine::reaper::Reaper;
use punctual::engine::{
    BackoffOverrides, BeatOrder, Caller, ClaimOrder, Engine, Entropy, Failure, Grant, Health, Hold,
    Observed, QueueDefaults, ReportOrder, ResultView, Settings, SettleOrder, Submission,
    WatchSettings,
};
use punctual::store::Store;
use punctual::store::sqlite::{Durability, Options, SqliteStore};
use punctual::telemetry::events::{Events, Settings as TelemetrySettings};
use punctual::telemetry::exposition::Format;
use punctual::telemetry::labels::TaskOutcome;
use punctual::telemetry::spans::Spans;

#[path = "engine/limits.rs"]
mod limits;
#[path = "engine/lines.rs"]
mod lines;
#[path = "engine/namespaces.rs"]
mod namespaces;
#[path = "engine/ours.rs"]
mod ours;
#[path = "engine/polls.rs"]
mod polls;
#[path = "engine/retry.rs"]
mod retry;
#[path = "engine/settings.rs"]
mod settings;
#[path = "engine/timely.rs"]
mod timely;
#[path = "engine/watch.rs"]
mod watch;

const START: i64 = 1_800_000_000_000;
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct ManualClock {
    now: AtomicI64,
    step: Mutex<Duration>,
}

impl ManualClock {
    fn advance(&self, by: Duration) {
        self.now.fetch_add(i64::try_from(by.as_millis()).expect("a short while"), Ordering::SeqCst);
    }

    /// The wall clock jumps, as if somebody had set it.
    fn jump(&self, by: Duration) {
        self.advance(by);
        *self.step.lock().expect("the step") += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::SeqCst))
    }

    fn take_step(&self) -> Duration {
        std::mem::take(&mut *self.step.lock().expect("the step"))
    }
}

struct World {
    _dir: tempfile::TempDir,
    engine: Engine,
    clock: Arc<ManualClock>,
    reaper: Reaper,
    everyone: Caller,
}

fn world() -> World {
    world_with(WatchSettings::default())
}

fn world_with(watch: WatchSettings) -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let clock =
        Arc::new(ManualClock { now: AtomicI64::new(START), step: Mutex::new(Duration::ZERO) });
    let store = SqliteStore::open(Options {
        path: dir.path().join("jobs.db"),
        durability: Durability::Normal,
        inline_result_bytes: 65_536,
        key_ttl: Duration::from_secs(86_400),
        fresh_secret: [7; 32],
        now: clock.now(),
        observer: Arc::new(|_| {}),
        min_free: 0,
        free_bytes: None,
    })
    .expect("a store");
    let events = Events::new(TelemetrySettings {
        queues: 100,
        kinds: 100,
        declared_queues: Vec::new(),
        version: "test",
        revision: "test",
        store: store.identity().backend,
        config_hash: String::new(),
        sampler_period: Duration::from_secs(5),
        min_free_bytes: 0,
        muted: false,
    });
    let health = Arc::new(Health::default());
    let observed = Observed::new(store, events.clone(), Arc::clone(&health));
    let engine = Engine::new(
        Arc::new(observed),
        health,
        Arc::clone(&clock) as Arc<dyn Clock>,
        Entropy::seeded(7),
        events,
        Spans::off(),
        Settings {
            queues: queue_defaults(watch),
            retry_after_max: Duration::from_secs(300),
            claim_bytes: 16 << 20,
            drill: None,
            poll_fallback: Duration::from_secs(5),
        },
    );
    World { _dir: dir, engine, clock, reaper: Reaper::default(), everyone: Caller::everyone() }
}

fn queue_defaults(watch: WatchSettings) -> QueueDefaults {
    let policy = Policy::default();
    QueueDefaults {
        default_jobs: Arc::new(JobDefaults {
            retry_after_quantile: 0.5,
            sync_window: Duration::from_millis(100),
            lease: Duration::from_secs(30),
            max_attempts: 2,
            timeout: policy.timeout,
            cancel_grace: policy.cancel_grace,
            backoff: policy.backoff,
            retention: policy.retention,
        }),
        queue_jobs: HashMap::new(),
        watch,
    }
}

impl World {
    fn submission() -> Submission {
        Submission {
            queue: Name::trusted("default"),
            kind: Name::trusted("k"),
            priority: 0,
            payload: None,
            run_at: None,
            delay: None,
            start_by: None,
            timeout: None,
            max_attempts: None,
            backoff: BackoffOverrides::default(),
            retention: None,
            expected_duration: None,
            metadata: None,
            tags: Vec::new(),
            trace: None,
            tracestate: None,
            key: None,
        }
    }

    async fn submit(&self) -> punctual::domain::id::JobId {
        let submission = Self::submission();
        let accepted =
            self.engine.submit(&self.everyone, submission, Hold::Never).await.expect("accepted");
        accepted.view.record.spec.id
    }

    /// Waits until the metrics hold this line.
    async fn until_counted(&self, line: &str) {
        let patience = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let metrics = self.engine.events().render(Format::Text);
            if metrics.lines().any(|l| l == line) {
                return;
            }
            assert!(tokio::time::Instant::now() < patience, "no {line} in:\n{metrics}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn order(wait: Duration) -> ClaimOrder {
        ClaimOrder {
            worker: WorkerId::trusted("w"),
            namespace: None,
            lists: Lists::ALL,
            queues: vec![Name::trusted("default")],
            kinds: Vec::new(),
            max_jobs: 1,
            lease: None,
            wait,
            hostname: None,
            version: None,
            concurrency: None,
            held: None,
            trace: None,
        }
    }

    async fn claim(&self) -> Grant {
        self.engine.claim(&self.everyone, Self::order(Duration::ZERO)).await.expect("a claim")
    }

    async fn complete(&self, grant: &Grant) -> Result<Status, Failure> {
        let leased = &grant.jobs[0];
        let order = SettleOrder {
            id: leased.spec.id,
            token: LeaseToken::clone(&leased.token),
            report: ReportOrder::Completed { result: None },
        };
        let (mut settled, _) =
            self.engine.settle(&self.everyone, vec![order], None).await.expect("the store");
        settled.remove(0)
    }

    async fn reap(&self) {
        self.engine.reap(&self.reaper, SECOND).await.expect("a pass");
    }

    async fn status(&self, id: punctual::domain::id::JobId) -> (Status, u32) {
        let view = self.engine.job(&self.everyone, id, false).await.expect("the job");
        (view.status(), view.record.job.attempt)
    }
}

#[tokio::test]
async fn a_silent_worker_loses_its_lease_once_it_is_our_business() {
    let w = world();
    let id = w.submit().await;
    let grant = w.claim().await;
    w.reap().await;
    for _ in 0..31 {
        w.clock.advance(SECOND);
        w.reap().await;
    }
    assert_eq!(w.status(id).await, (Status::Pending, 1));
    let refused = w.complete(&grant).await.expect_err("taken back");
    assert!(matches!(refused, Failure::Rejected { .. }), "{refused:?}");
    // Dead on every attempt: failed, not forever.
    w.claim().await;
    for _ in 0..31 {
        w.clock.advance(SECOND);
        w.reap().await;
    }
    assert_eq!(w.status(id).await, (Status::Failed, 2));
}

#[tokio::test]
async fn time_that_we_were_away_is_nobodys_fault() {
    let w = world();
    let id = w.submit().await;
    let grant = w.claim().await;
    // Never a pass before: a start. The lease is long over, and is extended first.
    w.clock.advance(Duration::from_secs(3_600));
    w.reap().await;
    assert_eq!(w.status(id).await, (Status::Running, 1));
    // A gap between passes: the machine slept.
    w.clock.advance(Duration::from_secs(120));
    w.reap().await;
    assert_eq!(w.status(id).await, (Status::Running, 1));
    // The clock was set.
    for _ in 0..29 {
        w.clock.advance(SECOND);
        w.reap().await;
    }
    w.clock.jump(Duration::from_secs(5_000));
    w.reap().await;
    assert_eq!(w.status(id).await, (Status::Running, 1));
    assert_eq!(w.complete(&grant).await, Ok(Status::Completed));
}

#[tokio::test]
async fn a_late_completion_counts_until_the_lease_is_taken_back() {
    let w = world();
    let id = w.submit().await;
    let grant = w.claim().await;
    w.clock.advance(Duration::from_secs(4_000));
    assert_eq!(w.complete(&grant).await, Ok(Status::Completed));
    w.reap().await;
    assert_eq!(w.status(id).await, (Status::Completed, 1));
}

#[tokio::test]
async fn a_claim_whose_caller_leaves_gives_its_lease_back() {
    let w = world();
    let id = w.submit().await;
    for _ in 0..20 {
        let engine = w.engine.clone();
        let everyone = w.everyone.clone();
        let claim =
            tokio::spawn(
                async move { engine.claim(&everyone, World::order(Duration::ZERO)).await },
            );
        tokio::task::yield_now().await;
        claim.abort();
        if claim.await.is_ok() {
            // It was quicker than the hang-up; the worker has it, so it says that it does not.
            let order = ClaimOrder { held: Some(Vec::new()), ..World::order(Duration::ZERO) };
            w.clock.advance(SECOND);
            let grant = w.engine.claim(&w.everyone, order).await.expect("a claim");
            assert_eq!(grant.jobs[0].job.attempt, 1);
            w.engine.goodbye(&w.everyone, WorkerId::trusted("w")).await.expect("goodbye");
        }
        pending(&w, id).await;
    }
}

/// Bounded: the lease comes back in a moment, uncounted.
async fn pending(w: &World, id: punctual::domain::id::JobId) {
    for _ in 0..10_000 {
        if w.status(id).await == (Status::Pending, 0) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the lease was not given back: {:?}", w.status(id).await);
}

#[tokio::test]
async fn a_parked_claim_gets_the_job_with_the_submission() {
    let w = world();
    let engine = w.engine.clone();
    let everyone = w.everyone.clone();
    let parked = tokio::spawn(async move {
        engine.claim(&everyone, World::order(Duration::from_secs(50))).await
    });
    let id = w.submit().await;
    let grant = parked.await.expect("the claim").expect("granted");
    assert_eq!(grant.jobs[0].spec.id, id);
    assert_eq!(w.complete(&grant).await, Ok(Status::Completed));
}

#[tokio::test]
async fn a_task_that_panics_is_restarted_and_told() {
    let w = world();
    let runs = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&runs);
    w.engine.start_task("reconcile", Duration::from_millis(50), move |_| {
        let counter = Arc::clone(&counter);
        async move {
            match counter.fetch_add(1, Ordering::SeqCst) {
                0 => panic!("the first run"),
                1 => Err("the second".to_owned()),
                _ => Ok("fine".to_owned()),
            }
        }
    });
    let status = || w.engine.tasks().statuses().remove(0);
    let mut seen = Vec::new();
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    while status().outcome != Some(TaskOutcome::Ok) {
        if let Some(outcome) = status().outcome
            && seen.last() != Some(&outcome)
        {
            seen.push(outcome);
        }
        assert!(tokio::time::Instant::now() < patience, "{:?}", status());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(seen, [TaskOutcome::Panic, TaskOutcome::Error]);
    assert_eq!(status().restarts, 1);
    assert_eq!(status().detail.as_deref(), Some("fine"));
    assert!(status().last_success.is_some());
    let metrics = w.engine.events().render(Format::Text);
    assert!(metrics.contains("punctual_task_restarts_total{task=\"reconcile\"} 1"), "{metrics}");
    w.engine.tasks().stop().await;
}

/// `now_or_never` asks once and drops the request: a client who leaves in mid-commit.
#[tokio::test]
async fn what_was_begun_is_told_also_when_the_client_has_left() {
    let w = world();
    let (engine, everyone) = (&w.engine, &w.everyone);
    let left = engine.submit(everyone, World::submission(), Hold::Never).now_or_never();
    assert!(left.is_none());
    w.until_counted("punctual_job_submissions_total{outcome=\"accepted\",queue=\"default\"} 1")
        .await;

    let grant = w.claim().await;
    let (id, token) = (grant.jobs[0].spec.id, LeaseToken::clone(&grant.jobs[0].token));
    let beat = BeatOrder { id, token, extend: None, progress: None, checkpoint: None };
    assert!(engine.heartbeat(everyone, None, vec![beat]).now_or_never().is_none());
    w.until_counted("punctual_heartbeats_total{outcome=\"extended\",queue=\"default\"} 1").await;

    assert!(engine.goodbye(everyone, WorkerId::trusted("w")).now_or_never().is_none());
    w.until_counted("punctual_attempts_finished_total{outcome=\"released\",queue=\"default\"} 1")
        .await;

    let waiting = {
        let (engine, everyone) = (engine.clone(), everyone.clone());
        let wait = Duration::from_secs(50);
        tokio::spawn(async move { engine.wait_for_job(&everyone, id, None, wait, false).await })
    };
    assert!(engine.cancel(everyone, id, None, false).now_or_never().is_none());
    w.until_counted("punctual_jobs_finished_total{queue=\"default\",status=\"cancelled\"} 1").await;
    let view = waiting.await.expect("the waiter").expect("the job");
    assert_eq!(view.status(), Status::Cancelled);
}

#[tokio::test]
async fn a_submission_that_was_not_committed_is_not_counted_as_accepted() {
    let w = world();
    w.engine.close().await;
    let left = w.engine.submit(&w.everyone, World::submission(), Hold::Never).now_or_never();
    assert!(left.is_none());
    w.until_counted("punctual_job_submissions_total{outcome=\"unavailable\",queue=\"default\"} 1")
        .await;
    let metrics = w.engine.events().render(Format::Text);
    let accepted = "punctual_job_submissions_total{outcome=\"accepted\",queue=\"default\"} 0";
    assert!(metrics.lines().any(|l| l == accepted), "{metrics}");
}

#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_result_that_comes_between_two_looks_is_given() {
    let w = world();
    let id = w.submit().await;
    let grant = w.claim().await;
    let mut asking = pin!(w.engine.result(&w.everyone, id, Duration::ZERO));
    let flag = Arc::new(Flag::default());
    let waker = Waker::from(Arc::clone(&flag));
    assert!(asking.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    // The store has answered its first question: not done.
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    while !flag.0.load(Ordering::SeqCst) {
        assert!(tokio::time::Instant::now() < patience, "no answer");
        tokio::task::yield_now().await;
    }
    assert_eq!(w.complete(&grant).await, Ok(Status::Completed));
    let result = asking.await.expect("a result");
    assert!(matches!(result, ResultView::Bytes { .. }), "{result:?}");
}

#[tokio::test]
async fn a_lost_job_is_counted_once_however_often_it_is_asked_for() {
    let w = world();
    let mint = IdMint::new(IdSecret::new([7; 32]));
    w.clock.advance(SECOND);
    for (bits, lost) in [(1, 1), (2, 2)] {
        let id = mint.mint(w.clock.now(), w.everyone.namespace.as_str(), bits);
        for _ in 0..3 {
            let answer = w.engine.job(&w.everyone, id, false).await;
            assert_eq!(answer.expect_err("lost"), Failure::Lost);
        }
        w.until_counted(&format!("punctual_jobs_lost_total {lost}")).await;
    }
}
