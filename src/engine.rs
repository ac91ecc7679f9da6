//! The use cases: what clients, workers and operators can do, and the maintenance that keeps it
//! true.
//!
//! The engine owns time (one clock that never runs backwards), randomness, the people who wait
//! (parked claims and long-polls are woken by commits, with a slow poll as a fallback), presence,
//! and the periodic tasks. It asks the [`Store`] for transitions, tells [`Events`] and [`Spans`] what happened,
//! and answers in the domain's terms.
//!
//! Invariants:
//! - nothing is answered as accepted before the store has committed it;
//! - a leased job is handed to somebody who is still there, or given back;
//! - an outage of ours lets no lease run out (see [`reaper`]);
//! - register first, then check: no wake-up is lost between the two.
//!
//! It must not know: HTTP, status codes, SQL, configuration files.

mod advice;
mod aftermath;
mod canary;
mod clock;
mod drill;
mod entropy;
mod explain;
mod finishes;
mod flow;
mod health;
mod jobs;
mod learnt;
mod observed;
mod operate;
mod outlive;
mod outlook;
mod overtaken;
mod parked;
mod pauses;
mod presence;
mod pulse;
mod rates;
pub mod reaper;
mod retry;
mod rules;
mod sampler;
mod submit;
pub mod tasks;
mod timeline;
mod timely;
mod traces;
mod upkeep;
mod waiters;
mod watchdog;
mod work;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::access::Lists;
use crate::domain::defaults::JobDefaults;
use crate::domain::directive::Directive;
use crate::domain::estimate::{Experience, Limits};
use crate::domain::id::{IdMint, JobId};
use crate::domain::job::{JobError, Progress, RawJson, Record, Status};
use crate::domain::lease::LeaseToken;
use crate::domain::names::{Name, WorkerId};
use crate::domain::state::Rejected;
use crate::domain::time::{Clock, Timestamp};
use crate::domain::trace::TraceContext;
use crate::store::Store;
use crate::telemetry::events::Events;
use crate::telemetry::exposition::Format;
use crate::telemetry::spans::Spans;

pub use crate::domain::rerun::Changes;
pub use crate::store::{
    Episode, EpisodeFilter, IdempotencyKey, Leased, ListFilter, MAX_NAMES, NamesFull, Presence,
    QueueState, ResultValue, StoreError,
};
pub use clock::WallClock;
pub use drill::Drill;
pub use entropy::Entropy;
pub use explain::{EPISODES_SHOWN, JobExplanation, KindExplanation, QueueExplanation};
pub use health::Health;
pub use observed::Observed;
pub use operate::WORKERS_SHOWN;
pub use retry::Retry;
pub use rules::QueueDefaults;
pub use timeline::{TIMELINE_EVENTS, TimelineEvent};
pub use timely::{RUN_AT_AHEAD, Untimely};
pub use upkeep::Periods;
pub use watchdog::WatchSettings;

use parked::CarPark;
use pauses::Pauses;
use presence::Roll;
use waiters::JobWaiters;

/// An id younger than this must be somewhere: as a job, or as a tombstone (see `docs/API.md`,
/// "410 and lost jobs").
pub const TOMBSTONE_AGE: Duration = Duration::from_secs(86_400);

/// The longest that a request may stay parked: proxies cut at 60 s.
pub const MAX_WAIT: Duration = Duration::from_secs(50);

/// The most jobs in one claim.
pub const MAX_CLAIM: usize = 100;

/// The engine's own settings, resolved from configuration.
pub struct Settings {
    /// Where it begins; see [`Engine::reconfigure`].
    pub queues: QueueDefaults,
    /// The largest statistical `Retry-After`.
    pub retry_after_max: Duration,
    /// Payload bytes in one claim's answer.
    pub claim_bytes: usize,
    /// Makes maintenance fail on purpose.
    pub drill: Option<Drill>,
    /// How often a parked request looks for itself, should a wake-up be lost.
    pub poll_fallback: Duration,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").finish_non_exhaustive()
    }
}

/// A panic elsewhere does not make what is behind the lock any less true.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What of the settings never changes.
struct Running {
    claim_bytes: usize,
    drill: Option<Drill>,
    poll_fallback: Duration,
}

/// Cheap to clone; clones are the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    health: Arc<Health>,
    clock: Arc<dyn Clock>,
    entropy: Entropy,
    events: Events,
    spans: Spans,
    settings: Running,
    mint: IdMint,
    experience: Mutex<Experience>,
    limits: Limits,
    advice: advice::Advice,
    jobs: JobWaiters,
    claims: CarPark,
    roll: Mutex<Roll>,
    pauses: Pauses,
    flow: flow::Flow,
    finishes: finishes::Finishes,
    rates: rates::Rates,
    latest: Mutex<Option<Arc<sampler::Latest>>>,
    watchdog: watchdog::Watchdog,
    rules: rules::Rules,
    /// Lost jobs that were told.
    lost: Mutex<std::collections::HashSet<JobId>>,
    draining: watch::Sender<bool>,
    tasks: tasks::Board,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("store", &self.0.store).finish_non_exhaustive()
    }
}

/// On whose behalf. Without tokens everybody is `Caller::everyone()`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Where new jobs go.
    pub namespace: Name,
    /// Whether other namespaces' jobs are visible too.
    pub all_namespaces: bool,
    /// Whether force-cancel and the like are allowed; shows in `cancelled_by`.
    pub operator: bool,
    /// The queues and kinds that it is confined to.
    pub lists: Lists,
}

impl Caller {
    /// The caller of a server without tokens: namespace `default`, and sees all.
    pub fn everyone() -> Self {
        Self {
            namespace: Name::trusted("default"),
            all_namespaces: true,
            operator: true,
            lists: Lists::ALL,
        }
    }

    /// The one namespace whose jobs exist for this caller; `None`: all.
    pub fn scope(&self) -> Option<Name> {
        (!self.all_namespaces).then(|| self.namespace.clone())
    }
}

/// A validated submission.
#[derive(Debug, Clone)]
pub struct Submission {
    pub queue: Name,
    pub kind: Name,
    pub priority: i32,
    pub payload: Option<RawJson>,
    pub run_at: Option<Timestamp>,
    /// Exclusive with `run_at`.
    pub delay: Option<Duration>,
    pub start_by: Option<Timestamp>,
    pub timeout: Option<Duration>,
    pub max_attempts: Option<u32>,
    pub backoff: BackoffOverrides,
    pub retention: Option<Duration>,
    pub expected_duration: Option<Duration>,
    pub metadata: Option<RawJson>,
    pub tags: Vec<String>,
    /// Of the request.
    pub trace: Option<TraceContext>,
    pub tracestate: Option<String>,
    pub key: Option<IdempotencyKey>,
}

/// What a submission says of the back-off; the rest is the queue's.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BackoffOverrides {
    pub initial: Option<Duration>,
    pub max: Option<Duration>,
    pub multiplier: Option<f64>,
    pub jitter: Option<f64>,
}

/// How long the answer to a submission may be held back in the hope of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Only when the job is expected to be done within the queue's synchronous window.
    Adaptive,
    /// `Prefer: respond-async` alone.
    Never,
    /// `Prefer: wait=N`, up to [`MAX_WAIT`].
    UpTo(Duration),
}

/// A job as it is now, with the honest moment to ask again.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub record: Record,
    /// Whole seconds, at least 1; `None` if and only if the job is done.
    pub retry_after: Option<u64>,
}

impl View {
    pub fn status(&self) -> Status {
        self.record.job.status()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    pub view: View,
    /// An earlier submission with the same key made this job.
    pub replayed: bool,
    /// Whether the answer could be held back; a job that is put off is never waited for.
    pub could_wait: bool,
}

/// Why a job that was surely ours is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    Expired,
    Deleted,
}

/// Why the engine did not do it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    #[error("there is no such job")]
    NoSuchJob,
    #[error("the job was accepted and is not in the store")]
    Lost,
    #[error("the job is gone")]
    Gone { id: JobId, why: Gone },
    /// The job `source` was retried before, and the job that came of it is gone.
    #[error("the job that came of the retry is gone")]
    RetryGone { source_id: JobId, id: JobId, why: Gone },
    #[error("there is no such queue")]
    NoSuchQueue,
    #[error("there is no such worker")]
    NoSuchWorker,
    /// The queue's settings are not of a revision that the change was meant for.
    #[error("the queue was changed meanwhile")]
    OtherRevision,
    #[error("the first delay between attempts would be longer than the longest")]
    BackoffFalls,
    /// The job is in another state; `status` is the one it is in, where that is known.
    #[error("not possible in the job's state")]
    Rejected { id: JobId, rejected: Rejected, status: Option<Status> },
    #[error("the idempotency key was used with another body")]
    KeyReused { id: JobId },
    /// Another job of the batch, at `first`, has the key too, with another body.
    #[error("two jobs of the batch have one idempotency key and different bodies")]
    KeyTwice { first: usize },
    /// The job cannot be made now, and its submission is no repetition.
    #[error("a moment of the job has passed, or is too far off")]
    Untimely(Vec<Untimely>),
    /// As many jobs of the queue wait as may; there may be room after so many seconds.
    #[error("the queue is full")]
    QueueFull { queue: Name, max_depth: u64, retry_after: u64 },
    #[error("the batch is larger than its queue may be deep")]
    NeverFits { queue: Name, max_depth: u64, jobs: u64 },
    /// The job would bring a queue or kind that is one name too many.
    #[error("too many names of queues or kinds")]
    TooManyNames { namespace: Name, queue: Name, kind: Name, full: NamesFull },
    #[error("too many names of queues")]
    NoRoomForQueue { queue: Name },
    #[error("the server is shutting down")]
    Draining,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// `GET /v1/jobs/{id}/result`.
#[derive(Debug, Clone, PartialEq)]
pub enum ResultView {
    Bytes { content_type: String, body: Vec<u8>, version: u64, expires_at: Option<Timestamp> },
    Elsewhere { location: String, expires_at: Option<Timestamp> },
    NotReady(Box<View>),
    Failed(JobError),
    Cancelled,
}

#[derive(Debug, Clone)]
pub struct ClaimOrder {
    pub worker: WorkerId,
    /// Filled in by the engine, from the caller: whose jobs are wanted; `None`: every namespace's.
    pub namespace: Option<Name>,
    /// Likewise: what `held` speaks of.
    pub lists: Lists,
    /// Strict order of preference; at least one.
    pub queues: Vec<Name>,
    /// Empty: every kind.
    pub kinds: Vec<Name>,
    /// 1 to [`MAX_CLAIM`].
    pub max_jobs: usize,
    pub lease: Option<Duration>,
    pub wait: Duration,
    pub hostname: Option<String>,
    pub version: Option<String>,
    /// How many jobs the worker says that it runs at once.
    pub concurrency: Option<u32>,
    pub held: Option<Vec<JobId>>,
    /// Of the request.
    pub trace: Option<TraceContext>,
}

#[derive(Debug, Clone)]
pub struct Grant {
    pub jobs: Vec<Leased>,
    /// Jobs of this worker whose cancel is wished.
    pub cancel: Vec<JobId>,
    pub directive: Directive,
    pub now: Timestamp,
}

#[derive(Debug, Clone)]
pub struct BeatOrder {
    pub id: JobId,
    pub token: LeaseToken,
    pub extend: Option<Duration>,
    pub progress: Option<Progress>,
    pub checkpoint: Option<RawJson>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Beaten {
    pub expires_at: Timestamp,
    pub timeout_at: Timestamp,
    pub cancel_requested: bool,
    pub cancel_reason: Option<String>,
    pub directive: Directive,
}

#[derive(Debug, Clone)]
pub struct SettleOrder {
    pub id: JobId,
    pub token: LeaseToken,
    pub report: ReportOrder,
}

/// What a worker says became of its attempt.
#[derive(Debug, Clone)]
pub enum ReportOrder {
    Completed {
        result: Option<ResultValue>,
    },
    /// `attempt` and `at` of the error are filled in by the engine.
    Failed {
        error: JobError,
        retry_after: Option<Duration>,
    },
    Released {
        delay: Option<Duration>,
    },
    Cancelled,
}

/// The status after the settlement, or why it did not count.
pub type Settled = Result<Status, Failure>;

#[derive(Debug, Clone, PartialEq)]
pub struct QueueView {
    pub state: QueueState,
    pub eligible: u64,
    pub scheduled: u64,
    pub retry_backoff: u64,
    pub running: u64,
    pub oldest_pending_age: Duration,
    /// Workers that are not silent, and the jobs that they run at once by their own word.
    pub workers: u64,
    pub slots: u64,
    /// Jobs that the watchdog has found stuck.
    pub stuck: u64,
    /// Jobs started a second, over about a minute.
    pub start_rate: f64,
    /// Jobs completed or failed a second, over the last minute, as this process saw them.
    pub finish_rate: f64,
    /// The share that failed of those that ended so in the last five minutes.
    pub failure_ratio: Option<f64>,
    /// Until what is eligible now has started, at that rate.
    pub drain_estimate: Duration,
    pub stuck_after: Option<Duration>,
    /// Attempts that may start a second.
    pub start_rate_limit: Option<f64>,
    /// What its jobs get, and whether they need a key.
    pub jobs: Arc<JobDefaults>,
    pub require_key: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WorkerView {
    pub presence: Presence,
    pub leases: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct JobsPage {
    pub jobs: Vec<View>,
    pub next: Option<i64>,
}

impl Engine {
    /// `store` should be wrapped in [`Observed`] with the same `health`.
    pub fn new(
        store: Arc<dyn Store>,
        health: Arc<Health>,
        clock: Arc<dyn Clock>,
        entropy: Entropy,
        events: Events,
        spans: Spans,
        settings: Settings,
    ) -> Self {
        let mint = IdMint::new(store.identity().id_secret.clone());
        let Settings { queues, retry_after_max, claim_bytes, drill, poll_fallback } = settings;
        let rules = rules::Rules::new(queues);
        let rates = rates::Rates::new(&rules.start_rates(), Arc::clone(&clock));
        let limits = Limits { statistical: retry_after_max, ..Limits::default() };
        Self(Arc::new(Inner {
            store,
            health,
            clock,
            entropy,
            events,
            spans,
            settings: Running { claim_bytes, drill, poll_fallback },
            mint,
            experience: Mutex::new(Experience::default()),
            limits,
            advice: advice::Advice::default(),
            jobs: JobWaiters::default(),
            claims: CarPark::default(),
            roll: Mutex::new(Roll::default()),
            pauses: Pauses::default(),
            flow: flow::Flow::default(),
            finishes: finishes::Finishes::default(),
            rates,
            latest: Mutex::default(),
            watchdog: watchdog::Watchdog::default(),
            rules,
            lost: Mutex::default(),
            draining: watch::Sender::new(false),
            tasks: tasks::Board::default(),
        }))
    }

    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Everything there is to scrape. Never touches the store.
    pub fn metrics(&self, format: Format) -> String {
        self.0.events.store_degraded(self.0.health.is_degraded());
        // One process has the embedded store to itself, so whoever maintains it leads.
        self.0.events.leads(self.0.tasks.runs(tasks::REAPER) && !self.is_draining());
        self.0.events.clock_skew(self.0.clock.ahead());
        self.0.events.render(format)
    }

    pub fn events(&self) -> &Events {
        &self.0.events
    }

    pub fn spans(&self) -> &Spans {
        &self.0.spans
    }

    pub fn tasks(&self) -> &tasks::Board {
        &self.0.tasks
    }

    pub fn store_backend(&self) -> &'static str {
        self.0.store.identity().backend
    }

    /// From now on submissions and claims are refused, and whoever is parked is answered.
    pub fn drain(&self) {
        self.0.draining.send_replace(true);
    }

    pub fn is_draining(&self) -> bool {
        *self.0.draining.borrow()
    }

    /// Whether the store answers: the body of `/readyz`.
    pub fn store_is_degraded(&self) -> bool {
        self.0.health.is_degraded()
    }

    /// Commits what is under way and closes the store.
    pub async fn close(&self) {
        self.flush_presence().await;
        self.flush_learnt().await;
        self.0.store.close().await;
    }

    /// The namespace filter of lists.
    fn scoped(caller: &Caller, filter: ListFilter) -> ListFilter {
        ListFilter { namespace: caller.scope(), ..filter }
    }

    /// An id that this store did not issue, or not in a namespace that the caller sees, is no job.
    fn verify(&self, caller: &Caller, id: JobId) -> Result<(), Failure> {
        let secret = self.0.mint.secret();
        let in_another = || {
            let known = self.0.store.namespaces();
            known.iter().any(|n| *n != caller.namespace && secret.verify(&id, n.as_str()))
        };
        let ours = secret.verify(&id, caller.namespace.as_str())
            || (caller.all_namespaces && in_another());
        if ours { Ok(()) } else { Err(Failure::NoSuchJob) }
    }

    /// The namespace of a job, also of one that is gone; `None`: this store did not issue the id.
    pub fn namespace_of(&self, id: JobId) -> Option<Name> {
        let secret = self.0.mint.secret();
        let known = self.0.store.namespaces();
        known.iter().find(|n| secret.verify(&id, n.as_str())).cloned()
    }

    /// Whether a worker may speak of this job; for many ids at once. Whoever sees all namespaces
    /// may ask the store, which knows no other ids than its own.
    pub fn may_hold(&self, caller: &Caller, id: JobId) -> bool {
        caller.all_namespaces || self.verify(caller, id).is_ok()
    }

    fn experience(&self) -> MutexGuard<'_, Experience> {
        lock(&self.0.experience)
    }

    fn roll(&self) -> MutexGuard<'_, Roll> {
        lock(&self.0.roll)
    }
}
