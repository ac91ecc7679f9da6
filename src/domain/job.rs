//! What is known of a job: the submission, which never changes, and its course, which does.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::JobId;
use super::lease::{Lease, TakeBackCause, TokenHash};
use super::names::Name;
use super::retry::Backoff;
use super::time::Timestamp;

/// Valid JSON, byte for byte as it came in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RawJson(Arc<str>);

impl RawJson {
    /// The caller has checked that `text` is JSON.
    pub fn trusted(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Writes a value as JSON.
    pub fn write(value: &impl Serialize) -> serde_json::Result<Self> {
        Ok(Self(serde_json::to_string(value)?.into()))
    }

    /// Reads a value from it.
    pub fn read<'de, T: Deserialize<'de>>(&'de self) -> serde_json::Result<T> {
        serde_json::from_str(&self.0)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for RawJson {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &serde_json::value::RawValue =
            serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
        Ok(Self(Arc::from(raw.get())))
    }
}

/// The five states that a client sees. The last three are terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Pending,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl Status {
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Running, Self::Completed, Self::Failed, Self::Cancelled];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }

    pub const fn is_done(self) -> bool {
        match self {
            Self::Pending | Self::Running => false,
            Self::Completed | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// How a pending job waits. Only a queued one can be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wait {
    Queued,
    /// Until `eligible_at`, by the client's `run_at` or a release's delay.
    Scheduled,
    /// Until `eligible_at`, between attempts.
    Backoff,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    Pending(Wait),
    Running(Lease),
    Completed,
    Failed,
    Cancelled,
}

impl Phase {
    pub const fn status(&self) -> Status {
        match self {
            Self::Pending(_) => Status::Pending,
            Self::Running(_) => Status::Running,
            Self::Completed => Status::Completed,
            Self::Failed => Status::Failed,
            Self::Cancelled => Status::Cancelled,
        }
    }
}

/// Where a job is counted: the client's states with `pending` split by how it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tally {
    Queued,
    Scheduled,
    Backoff,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl Tally {
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Scheduled,
        Self::Backoff,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    pub const fn of(phase: &Phase) -> Self {
        match phase {
            Phase::Pending(Wait::Queued) => Self::Queued,
            Phase::Pending(Wait::Scheduled) => Self::Scheduled,
            Phase::Pending(Wait::Backoff) => Self::Backoff,
            Phase::Running(_) => Self::Running,
            Phase::Completed => Self::Completed,
            Phase::Failed => Self::Failed,
            Phase::Cancelled => Self::Cancelled,
        }
    }

    pub const fn status(self) -> Status {
        match self {
            Self::Queued | Self::Scheduled | Self::Backoff => Status::Pending,
            Self::Running => Status::Running,
            Self::Completed => Status::Completed,
            Self::Failed => Status::Failed,
            Self::Cancelled => Status::Cancelled,
        }
    }

    /// The number that stores keep; part of the schema.
    pub const fn code(self) -> i64 {
        match self {
            Self::Queued => 0,
            Self::Scheduled => 1,
            Self::Backoff => 2,
            Self::Running => 3,
            Self::Completed => 4,
            Self::Failed => 5,
            Self::Cancelled => 6,
        }
    }

    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.code() == code)
    }
}

/// What went wrong with an attempt, in the worker's words (or ours, for leases taken back).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    #[serde(rename = "type")]
    pub kind: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub details: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stack: Option<String>,
    pub attempt: u32,
    /// Milliseconds since the epoch.
    #[serde(with = "as_millis")]
    pub at: Timestamp,
    pub retryable: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    #[serde(with = "as_millis")]
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Requester {
    Client,
    Operator,
}

impl Requester {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Operator => "operator",
        }
    }
}

/// A wish to cancel; on a running job it stays a wish until the worker agrees or the grace ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    #[serde(with = "as_millis")]
    pub at: Timestamp,
    pub by: Requester,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    Completed,
    Failed,
    TimedOut,
    LeaseExpired,
    Released,
    Cancelled,
}

impl AttemptOutcome {
    pub const ALL: [Self; 6] = [
        Self::Completed,
        Self::Failed,
        Self::TimedOut,
        Self::LeaseExpired,
        Self::Released,
        Self::Cancelled,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::LeaseExpired => "lease_expired",
            Self::Released => "released",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<TakeBackCause> for AttemptOutcome {
    fn from(cause: TakeBackCause) -> Self {
        match cause {
            TakeBackCause::WorkerSilent => Self::LeaseExpired,
            TakeBackCause::HardTimeout => Self::TimedOut,
        }
    }
}

/// An attempt that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub attempt: u32,
    pub fence: u64,
    pub worker: String,
    #[serde(with = "as_millis")]
    pub started_at: Timestamp,
    #[serde(with = "as_millis")]
    pub ended_at: Timestamp,
    pub outcome: AttemptOutcome,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trace_id: Option<String>,
    /// Its span, for the next attempt to refer to.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub span_id: Option<String>,
}

/// Ended attempts that a job remembers, newest last; older ones are dropped.
pub const HISTORY_LIMIT: usize = 66;

/// What a worker may report of a lease. The last report is remembered with its token, so that a
/// repeated one is answered as the first was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Report {
    Completed,
    Failed,
    Released,
    Cancelled,
}

impl Report {
    pub const ALL: [Self; 4] = [Self::Completed, Self::Failed, Self::Released, Self::Cancelled];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Released => "released",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == text)
    }

    pub const fn code(self) -> i64 {
        match self {
            Self::Completed => 0,
            Self::Failed => 1,
            Self::Released => 2,
            Self::Cancelled => 3,
        }
    }

    pub fn from_code(code: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.code() == code)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    pub token: TokenHash,
    pub report: Report,
}

/// How long a finished job is kept, by how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    pub completed: Duration,
    pub failed: Duration,
    pub cancelled: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        let day = Duration::from_secs(86_400);
        Self { completed: day, failed: 7 * day, cancelled: day }
    }
}

/// The rules that a job runs under, resolved when it is accepted: later changes of the
/// configuration do not reach back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    pub timeout: Duration,
    pub cancel_grace: Duration,
    pub backoff: Backoff,
    pub retention: Retention,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(3_600),
            cancel_grace: Duration::from_secs(300),
            backoff: Backoff::default(),
            retention: Retention::default(),
        }
    }
}

/// A job's course: everything that transitions read and write.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub phase: Phase,
    pub version: u64,
    /// Attempts begun and counted; a release gives one back.
    pub attempt: u32,
    pub max_attempts: u32,
    /// Leases ever given.
    pub fence: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Since when (or from when) it may be claimed.
    pub eligible_at: Timestamp,
    /// The latest attempt's start.
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    /// The first attempt must start before this.
    pub start_by: Option<Timestamp>,
    pub cancel: Option<Cancel>,
    /// The latest attempt's failure; the job's own when it failed.
    pub error: Option<JobError>,
    pub progress: Option<Progress>,
    pub settled: Option<Settled>,
    pub history: Vec<Attempt>,
    pub policy: Policy,
}

impl Job {
    /// A job as it is accepted at `now`.
    pub fn accepted(
        now: Timestamp,
        run_at: Option<Timestamp>,
        start_by: Option<Timestamp>,
        max_attempts: u32,
        policy: Policy,
    ) -> Self {
        let scheduled = run_at.filter(|t| *t > now);
        Self {
            phase: Phase::Pending(if scheduled.is_some() { Wait::Scheduled } else { Wait::Queued }),
            version: 1,
            attempt: 0,
            max_attempts,
            fence: 0,
            created_at: now,
            updated_at: now,
            eligible_at: scheduled.unwrap_or(now),
            started_at: None,
            finished_at: None,
            expires_at: None,
            start_by,
            cancel: None,
            error: None,
            progress: None,
            settled: None,
            history: Vec::new(),
            policy,
        }
    }

    pub const fn status(&self) -> Status {
        self.phase.status()
    }

    pub const fn lease(&self) -> Option<&Lease> {
        match &self.phase {
            Phase::Running(lease) => Some(lease),
            Phase::Pending(_) | Phase::Completed | Phase::Failed | Phase::Cancelled => None,
        }
    }

    /// When the reaper must look at this job next: the lease's end, the hard limit or the end of
    /// the cancel's grace. `None` unless it is running.
    pub fn reap_at(&self) -> Option<Timestamp> {
        let lease = self.lease()?;
        let grace = self.cancel.as_ref().map(|c| c.at.plus(self.policy.cancel_grace));
        Some(lease.expires_at.min(lease.timeout_at).min(grace.unwrap_or(lease.timeout_at)))
    }
}

/// The submission: everything about a job that never changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub id: JobId,
    pub namespace: Name,
    pub queue: Name,
    pub kind: Name,
    /// −100 to 100; higher first.
    pub priority: i32,
    pub payload: Option<RawJson>,
    pub metadata: Option<RawJson>,
    pub tags: Vec<String>,
    /// The submission that this job descends from; itself when it is the first.
    pub root: JobId,
    pub retry_of: Option<JobId>,
    pub expected_duration: Option<Duration>,
    /// W3C trace context of the submitting request.
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
}

/// What is kept of a result, beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultInfo {
    /// `None`: it lies elsewhere, and its worker did not say.
    pub content_type: Option<String>,
    pub size: u64,
    /// An address elsewhere where the result lies, instead of bytes here.
    pub location: Option<String>,
    /// The JSON itself, when it is small enough to be shown in the job.
    pub inline: Option<RawJson>,
}

/// A stored job, as reads return it. The payload is absent unless it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub spec: Spec,
    pub job: Job,
    pub result: Option<ResultInfo>,
    pub retried_as: Option<JobId>,
    pub standing: Standing,
}

/// What stands between a queued job and a worker, beside the jobs ahead of it: read together with
/// the job and no part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    pub queue_paused: bool,
    /// The watchdog has found that nobody works on this queue and kind: its verdict is
    /// `no_workers` or `workers_silent`.
    pub no_workers: bool,
    /// As many jobs of the queue run as its `max_running` allows.
    pub at_limit: bool,
    /// As many attempts have just started as its `start_rate_per_second` allows.
    pub rate_limited: bool,
    /// Jobs of its queue that will be claimed before it, more or less; `None`: not known, or it
    /// cannot be claimed yet.
    pub jobs_ahead: Option<u64>,
}

/// Why a pending job is not running: the member `pending_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PendingReason {
    Scheduled,
    RetryBackoff,
    QueuePaused,
    NoWorkers,
    ConcurrencyLimited,
    RateLimited,
    Queued,
}

impl PendingReason {
    /// In the order of precedence.
    pub const ALL: [Self; 7] = [
        Self::Scheduled,
        Self::RetryBackoff,
        Self::QueuePaused,
        Self::NoWorkers,
        Self::ConcurrencyLimited,
        Self::RateLimited,
        Self::Queued,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::RetryBackoff => "retry_backoff",
            Self::QueuePaused => "queue_paused",
            Self::NoWorkers => "no_workers",
            Self::ConcurrencyLimited => "concurrency_limited",
            Self::RateLimited => "rate_limited",
            Self::Queued => "queued",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == text)
    }

    /// Derived at read time; `None` unless the job is pending.
    pub fn of(job: &Job, standing: Standing) -> Option<Self> {
        match job.phase {
            Phase::Pending(Wait::Scheduled) => Some(Self::Scheduled),
            Phase::Pending(Wait::Backoff) => Some(Self::RetryBackoff),
            Phase::Pending(Wait::Queued) if standing.queue_paused => Some(Self::QueuePaused),
            Phase::Pending(Wait::Queued) if standing.no_workers => Some(Self::NoWorkers),
            Phase::Pending(Wait::Queued) if standing.at_limit => Some(Self::ConcurrencyLimited),
            Phase::Pending(Wait::Queued) if standing.rate_limited => Some(Self::RateLimited),
            Phase::Pending(Wait::Queued) => Some(Self::Queued),
            Phase::Running(_) | Phase::Completed | Phase::Failed | Phase::Cancelled => None,
        }
    }
}

mod as_millis {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Timestamp;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(t: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_i64(t.as_millis())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(d).map(Timestamp::from_millis)
    }
}
