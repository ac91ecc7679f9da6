//! The seam between the engine and whatever keeps the jobs.
//!
//! [`Store`] is a set of *intent verbs*: each is one atomic step, durable when it returns (as far
//! as the store was told to be), and each transition inside it is [`domain::state::apply`]'s
//! answer, never the store's own opinion. No transaction crosses the seam and no SQL leaks out.
//!
//! Two kinds of "no": a [`Rejected`] is an answer (the job is in another state than you hoped);
//! a [`StoreError`] means "could not find out", after which the caller knows nothing and must
//! say so.
//!
//! What every implementation keeps, and the conformance suite checks:
//! - a write on leased work matches the token and checks that it hit a row;
//! - counters by (queue, kind, [`Tally`]) change in the same commit as the job;
//! - a job, its idempotency key and its counter appear together or not at all;
//! - whether a queue has room is judged by those counters, in the commit that creates the job;
//! - finished jobs lie apart from live ones, and retention works in bounded steps;
//! - claims go by queue preference, then priority, then sequence;
//! - of two namespaces neither sees the other's keys, and a claim or a goodbye for one touches no
//!   lease on the other's jobs, whatever its worker is called;
//! - reserved queues ([`Name::is_reserved`]) work like all others, but samples, lists and scans do
//!   not show them, and what retention removes of them leaves no tombstone and is not counted.
//!
//! [`domain::state::apply`]: crate::domain::state::apply

mod leases;
mod overrides;
mod pace;
pub mod sqlite;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::access::Lists;
use crate::domain::directive::Directive;
use crate::domain::estimate::Saved;
use crate::domain::id::{IdSecret, JobId};
use crate::domain::job::{Job, JobError, PendingReason, Record, Requester, Spec, Status, Tally};
use crate::domain::names::{Name, WorkerId};
use crate::domain::state::Rejected;
use crate::domain::time::Timestamp;

pub use leases::{
    Beat, ClaimRequest, Claimed, Leased, Outcome, Refusal, ResultValue, Ruling, Settle, Stamp,
    Transition,
};
pub use overrides::{Changed, Overriding, QueueState};
pub use pace::{Pace, Pacing, Starts};
pub use watch::{Episode, EpisodeFilter, KindState, OpenEpisode, QueueLimits, StuckAfter};

/// "Could not find out." Nothing may be concluded about whether a write happened; only
/// [`StoreError::LowSpace`] says that it did not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("the store is busy: {0}")]
    Busy(String),
    /// No space left, or the size limit is reached.
    #[error("the store is full: {0}")]
    Full(String),
    /// The store is well, and keeps the space that is left for what it has accepted: nothing was
    /// created. Only submissions hear it.
    #[error("the store takes no more jobs: {0}")]
    LowSpace(String),
    #[error("the store could not be read or written: {0}")]
    Io(String),
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    #[error("the store is closed")]
    Closed,
    #[error("the store failed: {0}")]
    Other(String),
}

impl StoreError {
    /// The closed set of metric labels.
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Busy(_) => "busy",
            Self::Full(_) | Self::LowSpace(_) => "full",
            Self::Io(_) => "io",
            Self::Corrupt(_) => "corrupt",
            Self::Closed => "closed",
            Self::Other(_) => "other",
        }
    }
}

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// What a store knows about itself once it is open.
#[derive(Debug, Clone)]
pub struct Identity {
    pub backend: &'static str,
    pub id_secret: IdSecret,
    /// When this store was first opened: no id from before is ours.
    pub created_at: Timestamp,
    /// The latest moment that the store has seen; engine time starts no earlier.
    pub last_seen: Timestamp,
}

#[derive(Debug, Clone)]
pub struct IdempotencyKey {
    pub key: String,
    /// SHA-256 over the canonical body.
    pub fingerprint: [u8; 32],
}

#[derive(Debug, Clone)]
pub struct NewJob {
    pub spec: Spec,
    pub job: Job,
    pub key: Option<IdempotencyKey>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Submitted {
    Created,
    /// The key was used before with the same body: this is the job it made.
    Replayed(Box<Record>),
    /// The key was used before and its job is gone.
    ReplayedGone(JobId),
    /// The key was used before with another body.
    KeyReused(JobId),
    /// The job at this place in the batch has the key too, with another body. Neither is there.
    KeyTwice(usize),
    /// As many jobs of its queue are pending as may be.
    QueueFull(Depth),
    /// Its queue or kind is a new name, and there are enough.
    TooManyNames(NamesFull),
}

/// Why there is no room for a new name of a queue or kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamesFull {
    /// The store knows [`MAX_NAMES`].
    Store,
    /// The namespace has brought in as many as one may; see [`Store::limit_names`].
    Namespace { max: usize },
}

/// The most names of queues, and as many of kinds, that a store knows at once. A name that nothing
/// uses any more makes room. The server's own and those of the configuration always fit.
pub const MAX_NAMES: usize = 10_000;

/// How full a queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Pending jobs, whatever they wait for.
    pub jobs: u64,
    pub max: u64,
}

/// Whether a batch with these answers was taken: no key and no full queue stood in its way.
pub fn accepts(answers: &[Submitted]) -> bool {
    answers.iter().all(|answer| match answer {
        Submitted::Created | Submitted::Replayed(_) => true,
        Submitted::ReplayedGone(_)
        | Submitted::KeyReused(_)
        | Submitted::KeyTwice(_)
        | Submitted::QueueFull(_)
        | Submitted::TooManyNames(_) => false,
    })
}

/// What became of a retry.
#[derive(Debug, Clone, PartialEq)]
pub enum Retried {
    Created,
    /// The source was retried before: this is the job that came of it.
    Replayed(Box<Record>),
    /// The same, and that job is gone by now.
    ReplayedGone(JobId, Absence),
    /// The source is in a state in which it cannot be retried.
    Refused(Rejected),
    /// There is no source.
    Gone(Absence),
    /// As many jobs of the new job's queue are pending as may be.
    QueueFull(Depth),
    /// The new job's queue is a new name, and there are enough.
    TooManyNames(NamesFull),
}

/// Why a job with a valid id is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// A tombstone says that it was deleted.
    Deleted,
    /// A tombstone says that its retention ended.
    Expired,
    /// Nothing is known of it.
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Found<T> {
    Here(T),
    Absent(Absence),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultBody {
    /// The bytes as the worker gave them, and their media type.
    Bytes {
        content_type: String,
        body: Vec<u8>,
        /// When the job goes, and the result with it.
        expires_at: Option<Timestamp>,
    },
    Elsewhere {
        location: String,
        /// When the job goes, and what leads there.
        expires_at: Option<Timestamp>,
    },
    NotCompleted(Box<(Status, Option<JobError>)>),
}

#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    pub namespace: Option<Name>,
    pub status: Option<Status>,
    pub queue: Option<Name>,
    pub kind: Option<Name>,
    pub tag: Option<String>,
    pub pending_reason: Option<PendingReason>,
    /// Queues whose jobs wait because of a limit on starts, which the store does not know: their
    /// records and `pending_reason` say so.
    pub rate_limited: Vec<Name>,
    pub error_type: Option<String>,
    pub created_after: Option<Timestamp>,
    pub created_before: Option<Timestamp>,
    pub finished_after: Option<Timestamp>,
    pub stuck: Option<Stuck>,
}

/// Only jobs that could have been claimed at `now` for longer than their queue allows.
#[derive(Debug, Clone)]
pub struct Stuck {
    pub after: StuckAfter,
    pub now: Timestamp,
}

/// Newest first. A page may be shorter than `limit`, even empty, and still have a successor:
/// the work for one page is bounded, not its yield.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub jobs: Vec<Record>,
    pub next: Option<i64>,
}

/// Exact counts and ages at one moment, from counters and index seeks only.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    pub queues: Vec<QueueSample>,
    /// Workers that hold leases, and how many.
    pub leases: Vec<(WorkerId, u64)>,
    pub episodes: Vec<OpenEpisode>,
    /// Names of queues and of kinds that are known, the server's own too.
    pub names: [u64; 2],
    pub size_bytes: u64,
    /// What is left on the disk for the store to grow; `None` when the disk does not tell.
    pub free_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct QueueSample {
    pub state: QueueState,
    /// By [`Tally::code`].
    pub tallies: [u64; 7],
    /// Scheduled or backing-off jobs whose moment has come: they count as eligible.
    pub due: u64,
    /// The oldest eligible job's `eligible_at`.
    pub oldest_eligible: Option<Timestamp>,
    /// When the oldest lease was granted.
    pub oldest_lease: Option<Timestamp>,
    /// Kinds of which jobs run.
    pub running_kinds: Vec<Name>,
}

/// Maintained counters beside an exact recount, over all queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recount {
    /// By [`Tally::code`].
    pub counted: [u64; 7],
    pub maintained: [u64; 7],
    /// (queue, kind, tally) triples whose counter differs, and (queue, kind) pairs whose stuck
    /// count does.
    pub differing: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    pub worker: WorkerId,
    /// The one namespace whose jobs it takes, if that is known; `None`: perhaps every one's.
    pub namespace: Option<Name>,
    pub queues: Vec<Name>,
    pub kinds: Vec<Name>,
    pub capacity: u32,
    pub hostname: Option<String>,
    pub version: Option<String>,
    pub directive: Directive,
    /// The latest of the three below.
    pub last_seen: Timestamp,
    pub last_claim: Option<Timestamp>,
    pub last_heartbeat: Option<Timestamp>,
    pub last_settlement: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retired {
    /// Finished jobs removed.
    pub jobs: u64,
    /// Idempotency keys, tombstones and presence rows removed.
    pub other: u64,
    /// Whether the step's limit was reached, so that more may be waiting.
    pub more: bool,
}

/// Intent verbs. All are safe to call concurrently; all take the engine's `now`.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    fn identity(&self) -> &Identity;

    /// Every namespace that ever had a job, in the order of their first. One that a submission
    /// makes known is among them before that submission is answered. Asks no disk.
    fn namespaces(&self) -> Arc<[Name]>;

    /// All or nothing. Each job is created with its key and counters in one commit; if any key
    /// was reused with another body, or names a job that is gone, nothing is created at all (look
    /// for those answers first: the others then say `Created` of what would have been). The same
    /// when a queue is full: a job that would be pending beyond its `max_depth` is answered so.
    /// A name beyond [`MAX_NAMES`], or beyond the share of its namespace, is refused likewise.
    /// While space is low a batch that would create anything is refused; repetitions are answered.
    async fn submit(&self, jobs: Vec<NewJob>, now: Timestamp) -> Result<Vec<Submitted>> {
        self.submit_and_claim(jobs, Vec::new(), now).await.map(|(submitted, _)| submitted)
    }

    /// The same, and then claims in the same commit: work that is waited for is handed out at the
    /// price of one. Nothing is claimed when nothing was created.
    async fn submit_and_claim(
        &self,
        jobs: Vec<NewJob>,
        claims: Vec<ClaimRequest>,
        now: Timestamp,
    ) -> Result<(Vec<Submitted>, Vec<Claimed>)>;

    /// Whether a submission made the key known, with whatever body, and it is not forgotten yet.
    async fn knows_key(&self, namespace: Name, key: String) -> Result<bool>;

    /// One job, wherever it lies, and how many will be claimed before it, more or less. `payload`
    /// asks for the payload too.
    async fn get(&self, id: JobId, payload: bool) -> Result<Found<Record>>;

    /// Jobs of the queue that would be claimed before one of this priority that came now: from
    /// memory, as of the last commit.
    fn jobs_ahead(&self, queue: &Name, priority: i32) -> u64;

    /// The result's bytes.
    async fn result(&self, id: JobId) -> Result<Found<ResultBody>>;

    /// At most `limit` jobs created before the one at `before` (a page's `next`).
    async fn list(&self, filter: ListFilter, before: Option<i64>, limit: u32) -> Result<Page>;

    async fn cancel(
        &self,
        id: JobId,
        by: Requester,
        reason: Option<String>,
        force: bool,
        now: Timestamp,
    ) -> Result<Ruling>;

    /// Creates `new`, which does the work of the finished job `source` again, and notes it there
    /// (`retried_as`, which is no new version), in one commit. A source that was retried before
    /// answers with the job that came of it, and nothing is created, unless `again` asks for
    /// another; then the source names the latest. As with submissions, a full queue refuses and so
    /// does low space, and repetitions need neither.
    async fn retry(
        &self,
        source: JobId,
        new: NewJob,
        again: bool,
        now: Timestamp,
    ) -> Result<Retried>;

    /// Forgets a finished job; leaves a tombstone while the id is younger than `tombstone`.
    async fn delete(&self, id: JobId, tombstone: Duration, now: Timestamp) -> Result<Ruling>;

    /// Leases up to one job for each token, and repairs lost answers by `held`.
    async fn claim(&self, request: ClaimRequest, now: Timestamp) -> Result<Claimed>;

    /// Extends leases; answers in the order of `beats`.
    async fn heartbeat(&self, beats: Vec<Beat>, now: Timestamp) -> Result<Vec<Ruling>>;

    /// Settles leases, then claims, in one commit; answers in the order of `settlements`.
    async fn settle(
        &self,
        settlements: Vec<Settle>,
        claim: Option<ClaimRequest>,
        now: Timestamp,
    ) -> Result<(Vec<Ruling>, Option<Claimed>)>;

    /// Gives back leases that nobody received, uncounted. Leases that have moved on are skipped.
    async fn withdraw(&self, leases: Vec<(JobId, u64)>, now: Timestamp) -> Result<Vec<Transition>>;

    /// Withdraws every lease of the worker on jobs of the namespace (`None`: of all) and these lists,
    /// and forgets its presence, unless that is another namespace's.
    async fn goodbye(
        &self,
        worker: WorkerId,
        namespace: Option<Name>,
        lists: Lists,
        now: Timestamp,
    ) -> Result<Vec<Transition>>;

    /// Takes back due leases, ends cancels past their grace and fails missed starts: at most
    /// `limit` jobs. `spread` (uniform in [0, 1) each, cycled) times 5 s delays the eligibility
    /// of jobs taken back in a pass of more than 100, so that a fleet's outage is no stampede.
    async fn take_back(
        &self,
        limit: u32,
        spread: Vec<f64>,
        now: Timestamp,
    ) -> Result<Vec<Transition>>;

    /// Makes due scheduled and backing-off jobs claimable, and resumes queues whose pause has
    /// ended: at most `limit` jobs, and every such queue. Answers, by queue, how many jobs can be
    /// claimed because of it.
    async fn promote(&self, limit: u32, now: Timestamp) -> Result<Vec<(Name, u64)>>;

    /// After an outage of ours: no lease and no hard limit ends before its length has passed
    /// again. In bounded commits, at least one; answers how many were extended.
    async fn extend_leases(&self, now: Timestamp) -> Result<u64>;

    /// One bounded step of retention (and of names, of which a thousand are kept though unused): finished jobs past `expires_at` (with a tombstone while the
    /// id is younger than `tombstone`), idempotency keys past their life whose job is gone,
    /// old tombstones, presence not seen for a day, and episodes that ended a week ago.
    async fn expire(&self, limit: u32, tombstone: Duration, now: Timestamp) -> Result<Retired>;

    /// Counts and ages; cost is independent of the number of jobs.
    async fn sample(&self, now: Timestamp) -> Result<Sample>;

    /// Counts every row. Slow by design; runs beside the writer.
    async fn recount(&self) -> Result<Recount>;

    /// A queue that was never used is there then, if there is room for its name.
    async fn pause(
        &self,
        queue: Name,
        reason: Option<String>,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Changed>;

    /// The same.
    async fn resume(&self, queue: Name, now: Timestamp) -> Result<Changed>;

    /// Changes a queue's overrides, and with them the limits in force, if the queue is of a revision
    /// that the change is meant for. A queue that was never used is there then, if there is room for
    /// its name.
    async fn override_settings(&self, change: Overriding, now: Timestamp) -> Result<Changed>;

    /// From now on a namespace may bring in so many names of queues, and as many of kinds; those of
    /// which nothing is left, and that are forgotten, do not count. `None`: as many as there is
    /// room for. What operators and the configuration name counts for no namespace.
    fn limit_names(&self, per_namespace: Option<usize>);

    /// From now on these limits are configured, for these queues and no others; overrides lie over
    /// them. Declared queues exist from then on.
    async fn set_limits(&self, limits: Vec<QueueLimits>, now: Timestamp) -> Result<()>;

    /// Finds what is stuck, by queue and kind. Its work grows with what is newly stuck, not with
    /// what waits; no commit waits for the counting. Never touches a job. One scan at a time.
    async fn scan(&self, stuck_after: StuckAfter, now: Timestamp) -> Result<Vec<KindState>>;

    /// The queue's jobs that are not finished, by kind, or those of one kind; empty when there are
    /// none. Of many kinds, the 200 with the most stuck jobs, then the most jobs.
    async fn inspect(
        &self,
        queue: Name,
        kind: Option<Name>,
        now: Timestamp,
    ) -> Result<Vec<KindState>>;

    /// Writes episodes: of each queue and kind one goes on at most, and that one is rewritten.
    async fn record_episodes(&self, episodes: Vec<Episode>) -> Result<()>;

    /// Those that go on, then the ended ones, latest first; at most `limit`.
    async fn episodes(&self, filter: EpisodeFilter, limit: u32) -> Result<Vec<Episode>>;

    /// Records who was seen; one row a worker. A directive to leave stays until its goodbye.
    async fn record_presence(&self, seen: Vec<Presence>, now: Timestamp) -> Result<()>;

    /// Workers seen within a day, with the number of leases each holds; of many, the 10 000 seen
    /// last.
    async fn workers(&self) -> Result<Vec<(Presence, u64)>>;

    /// Keeps what the estimator has learnt, one row a key, and forgets what was kept before
    /// `oldest`. It may refuse for want of space.
    async fn save_estimates(&self, estimates: Vec<Saved>, oldest: Timestamp) -> Result<()>;

    /// What was kept, those written last first; of many, 10 000.
    async fn estimates(&self) -> Result<Vec<Saved>>;

    /// Commits what is under way and closes; later verbs answer [`StoreError::Closed`].
    async fn close(&self);
}

impl Recount {
    /// Maintained minus counted, for each client-visible status.
    pub fn drift(&self) -> Vec<(Status, i64)> {
        Status::ALL
            .into_iter()
            .map(|status| {
                let of = |counts: &[u64; 7]| -> i64 {
                    Tally::ALL
                        .into_iter()
                        .filter(|t| t.status() == status)
                        .map(|t| counts[t.code() as usize] as i64)
                        .sum()
                };
                (status, of(&self.maintained) - of(&self.counted))
            })
            .collect()
    }
}
