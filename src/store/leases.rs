//! The terms in which leases are asked for, kept and settled.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Absence, Pace};
use crate::domain::access::Lists;
use crate::domain::id::JobId;
use crate::domain::job::{Job, JobError, Progress, RawJson, Spec};
use crate::domain::lease::{LeaseToken, TokenHash};
use crate::domain::names::{Name, WorkerId};
use crate::domain::state::{Change, Rejected};
use crate::domain::time::Timestamp;
use crate::domain::trace::AttemptTrace;

#[derive(Debug, Clone)]
pub struct ClaimRequest {
    pub worker: WorkerId,
    /// Whose jobs may be leased, and whose leases `held` and the answer's `cancel` speak of; `None`:
    /// every namespace's. Another namespace's worker may well have the same id.
    pub namespace: Option<Name>,
    /// Of which queues and kinds `held` speaks.
    pub lists: Lists,
    /// Strict order of preference.
    pub queues: Vec<Name>,
    /// Empty: every kind.
    pub kinds: Vec<Name>,
    /// One token for each job that may be leased.
    pub tokens: Vec<LeaseToken>,
    pub lease: Option<Duration>,
    /// The queue's own lease length, by position in `queues`.
    pub default_leases: Vec<Duration>,
    /// Payload bytes after which no further job is added (at least one is given).
    pub max_bytes: usize,
    /// Jobs that the worker says it holds; its other leases, granted before this request, are
    /// withdrawn.
    pub held: Option<Vec<JobId>>,
    /// When the request came in: leases granted since are not "other" (see `held`).
    pub received_at: Timestamp,
    /// Gives each attempt its place in a trace, committed with the lease; `None`: nobody traces.
    pub stamp: Option<Stamp>,
    /// Limits how many attempts start, by queue; `None`: nothing does.
    pub pace: Option<Pace>,
}

/// Makes the trace of an attempt from the job, as it is before the lease, and the moment since
/// when it could have been claimed. Called within the commit: it must be quick and ask no store.
#[derive(Clone)]
pub struct Stamp(Arc<Stamping>);

type Stamping = dyn Fn(&Spec, &Job, Timestamp) -> Option<AttemptTrace> + Send + Sync;

impl Stamp {
    pub fn new(
        make: impl Fn(&Spec, &Job, Timestamp) -> Option<AttemptTrace> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(make))
    }

    pub fn of(&self, spec: &Spec, job: &Job, eligible_since: Timestamp) -> Option<AttemptTrace> {
        (self.0)(spec, job, eligible_since)
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stamp(…)")
    }
}

#[derive(Debug, Clone)]
pub struct Leased {
    pub spec: Spec,
    pub job: Job,
    pub token: LeaseToken,
    pub checkpoint: Option<RawJson>,
    /// Since when the job could have been claimed: eligibility, or the queue's last resume.
    pub eligible_since: Timestamp,
}

#[derive(Debug, Clone, Default)]
pub struct Claimed {
    pub jobs: Vec<Leased>,
    /// Leases of this worker whose cancel is wished.
    pub cancel: Vec<JobId>,
    /// Leases withdrawn because `held` did not name them.
    pub withdrawn: Vec<Transition>,
    /// First attempts that came too late and were failed instead.
    pub missed: Vec<Transition>,
    /// For each queue asked, whether it is paused.
    pub paused: Vec<bool>,
    /// For each queue asked, whether its `max_running` or the pace stood in the way.
    pub limited: Vec<bool>,
}

/// A job after a transition, with what the engine must tell metrics and waiters.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    pub id: JobId,
    pub namespace: Name,
    pub queue: Name,
    pub kind: Name,
    pub change: Change,
    pub job: Job,
    /// Whether it ended an attempt: the last one of `job.history`.
    pub attempt_ended: bool,
    /// That attempt's trace.
    pub trace: Option<Box<AttemptTrace>>,
}

#[derive(Debug, Clone)]
pub struct Beat {
    pub id: JobId,
    pub token: TokenHash,
    pub extend: Option<Duration>,
    pub progress: Option<Progress>,
    pub checkpoint: Option<RawJson>,
}

#[derive(Debug, Clone)]
pub enum Outcome {
    Completed { result: Option<ResultValue> },
    Failed { error: JobError, retry_after: Option<Duration>, unit: f64 },
    Released { delay: Option<Duration> },
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultValue {
    Json(RawJson),
    Elsewhere { location: String, content_type: Option<String> },
}

#[derive(Debug, Clone)]
pub struct Settle {
    pub id: JobId,
    pub token: TokenHash,
    pub outcome: Outcome,
}

/// Why nothing became of a request about one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The job is in another state than was hoped.
    Rejected(Rejected),
    /// There is no such job, as far as this is known of it.
    Absent(Absence),
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

pub type Ruling = Result<Transition, Refusal>;
