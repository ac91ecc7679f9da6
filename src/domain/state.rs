//! The state machine: [`apply`] answers every (job, event) pair, and nothing else changes a job.
//!
//! ```text
//!             cancel                                start_by passed
//!    +------------------------> CANCELLED    +--------------------> FAILED
//!    |                              ^        |
//! PENDING -- claim (attempt+1) -> RUNNING ---+-- complete(token) --> COMPLETED
//!    ^                              |  |        fail(token), final -> FAILED
//!    |                              |  +-- agreed, forced, grace over, or taken back
//!    +-- fail (retryable), release, |      while a cancel is wished  -> CANCELLED
//!        taken back ----------------+
//! ```

use std::time::Duration;

use super::job::{
    Attempt, AttemptOutcome, Cancel, HISTORY_LIMIT, Job, JobError, Phase, Progress, Report,
    Requester, Settled, Wait,
};
use super::lease::{Lease, TakeBackCause, TokenHash};
use super::names::WorkerId;
use super::time::Timestamp;
use super::trace::AttemptTrace;

/// Something that happens to a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A worker is given a lease.
    Claim {
        worker: WorkerId,
        token: TokenHash,
        lease: Duration,
        trace: Option<Box<AttemptTrace>>,
    },
    /// The holder is alive; the lease is extended to `now + extend` (its own length by default).
    Heartbeat {
        token: TokenHash,
        extend: Option<Duration>,
        progress: Option<Progress>,
    },
    Complete {
        token: TokenHash,
    },
    /// `unit` is uniform in [0, 1), for the jitter of the back-off.
    Fail {
        token: TokenHash,
        error: JobError,
        retry_after: Option<Duration>,
        unit: f64,
    },
    /// The holder gives the job back; the attempt does not count.
    Release {
        token: TokenHash,
        delay: Option<Duration>,
    },
    /// The holder has stopped because a cancel was wished.
    AgreeToCancel {
        token: TokenHash,
    },
    /// The server gives back a lease that nobody uses: a lost answer, a goodbye. Uncounted.
    Withdraw {
        fence: u64,
    },
    /// The reaper's look: takes the lease back if it is due. `spread` delays eligibility when
    /// many are taken back in one pass.
    TakeBack {
        spread: Duration,
    },
    /// After an outage of ours: the lease and the hard limit last at least its length from now.
    Extend,
    Cancel {
        by: Requester,
        reason: Option<String>,
        force: bool,
    },
    /// A scheduled or backing-off job has become eligible.
    Promote,
    /// `start_by` has passed before the first attempt.
    MissStart,
    /// A finished job is forgotten, on request or because its retention has passed.
    Delete,
    Expire,
}

/// Why an event does not apply. The name is also the HTTP `code` and the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejected {
    /// Another lease holds the job now.
    LeaseLost,
    /// Nobody holds the job now.
    LeaseExpired,
    /// This token has already settled the job, differently.
    AlreadyReported,
    JobAlreadyFinished,
    JobNotFinished,
    CancelNotRequested,
    /// A claim of a job that waits, runs or has ended; or a look that came too early.
    NotEligible,
}

impl Rejected {
    pub const ALL: [Self; 7] = [
        Self::LeaseLost,
        Self::LeaseExpired,
        Self::AlreadyReported,
        Self::JobAlreadyFinished,
        Self::JobNotFinished,
        Self::CancelNotRequested,
        Self::NotEligible,
    ];

    /// The problem code: kebab case.
    pub const fn code(self) -> &'static str {
        match self {
            Self::LeaseLost => "lease-lost",
            Self::LeaseExpired => "lease-expired",
            Self::AlreadyReported => "already-reported",
            Self::JobAlreadyFinished => "job-already-finished",
            Self::JobNotFinished => "job-not-finished",
            Self::CancelNotRequested => "cancel-not-requested",
            Self::NotEligible => "not-eligible",
        }
    }
}

/// What an applied event did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing: a repetition, answered like the first time.
    Unchanged,
    Claimed,
    Extended,
    Completed,
    Failed,
    /// Back to pending, to be tried again after the delay.
    Retrying(Duration),
    Released,
    TakenBack(TakeBackCause),
    CancelRequested,
    Cancelled,
    Promoted,
    Deleted,
}

/// Where the job stands in its queue after the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Keep,
    /// Behind everyone of its priority.
    Renew,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    pub job: Job,
    pub change: Change,
    pub order: Order,
}

/// The one transition function: pure and total.
pub fn apply(job: &Job, event: &Event, now: Timestamp) -> Result<Applied, Rejected> {
    match event {
        Event::Claim { worker, token, lease, trace } => {
            claim(job, worker, *token, *lease, trace.as_deref(), now)
        }
        Event::Heartbeat { token, extend, progress } => {
            heartbeat(job, *token, *extend, progress.as_ref(), now)
        }
        Event::Complete { token } => {
            let Some(lease) = held(job, *token, Report::Completed)? else { return unchanged(job) };
            let next = end_attempt(job, lease, AttemptOutcome::Completed, None, now);
            let next = Job { error: None, ..reported(next, *token, Report::Completed) };
            finished(next, Phase::Completed, Change::Completed, now)
        }
        Event::Fail { token, error, retry_after, unit } => {
            let Some(lease) = held(job, *token, Report::Failed)? else { return unchanged(job) };
            let error = JobError { attempt: job.attempt, at: now, ..error.clone() };
            let kind = Some(error.kind.clone());
            let mut next = end_attempt(job, lease, AttemptOutcome::Failed, kind, now);
            next = reported(next, *token, Report::Failed);
            let last = !error.retryable || job.attempt >= job.max_attempts;
            next.error = Some(error);
            if last {
                finished(next, Phase::Failed, Change::Failed, now)
            } else if job.cancel.is_some() {
                // Nobody wants another attempt.
                finished(next, Phase::Cancelled, Change::Cancelled, now)
            } else {
                let delay =
                    retry_after.unwrap_or_else(|| job.policy.backoff.delay(job.attempt, *unit));
                let wait = if delay.is_zero() { Wait::Queued } else { Wait::Backoff };
                waiting(next, wait, delay, Change::Retrying(delay), Order::Renew, now)
            }
        }
        Event::Release { token, delay } => {
            let Some(lease) = held(job, *token, Report::Released)? else { return unchanged(job) };
            let next = end_attempt(job, lease, AttemptOutcome::Released, None, now);
            given_back(reported(next, *token, Report::Released), *delay, now)
        }
        Event::AgreeToCancel { token } => {
            let Some(lease) = held(job, *token, Report::Cancelled)? else { return unchanged(job) };
            if job.cancel.is_none() {
                return Err(Rejected::CancelNotRequested);
            }
            let next = end_attempt(job, lease, AttemptOutcome::Cancelled, None, now);
            let next = reported(next, *token, Report::Cancelled);
            finished(next, Phase::Cancelled, Change::Cancelled, now)
        }
        Event::Withdraw { fence } => match &job.phase {
            Phase::Running(lease) if job.fence == *fence => {
                given_back(end_attempt(job, lease, AttemptOutcome::Released, None, now), None, now)
            }
            Phase::Running(_) => Err(Rejected::LeaseLost),
            Phase::Pending(_) => Err(Rejected::LeaseExpired),
            Phase::Completed | Phase::Failed | Phase::Cancelled => {
                Err(Rejected::JobAlreadyFinished)
            }
        },
        Event::TakeBack { spread } => take_back(job, *spread, now),
        Event::Extend => extend(job, now),
        Event::Cancel { by, reason, force } => cancel(job, *by, reason.as_ref(), *force, now),
        Event::Promote => match job.phase {
            Phase::Pending(Wait::Scheduled | Wait::Backoff) if job.eligible_at <= now => {
                let next = Job { phase: Phase::Pending(Wait::Queued), ..job.clone() };
                Ok(changed(next, Change::Promoted, Order::Renew, now))
            }
            Phase::Pending(_)
            | Phase::Running(_)
            | Phase::Completed
            | Phase::Failed
            | Phase::Cancelled => Err(Rejected::NotEligible),
        },
        Event::MissStart => miss_start(job, now),
        Event::Delete => match job.phase {
            Phase::Pending(_) | Phase::Running(_) => Err(Rejected::JobNotFinished),
            Phase::Completed | Phase::Failed | Phase::Cancelled => deleted(job),
        },
        Event::Expire => match job.expires_at {
            None => Err(Rejected::JobNotFinished),
            Some(at) if at <= now => deleted(job),
            Some(_) => Err(Rejected::NotEligible),
        },
    }
}

/// The lease, if `token` holds it; `None` if this token has already reported the same.
fn held(job: &Job, token: TokenHash, report: Report) -> Result<Option<&Lease>, Rejected> {
    match owner(job, token) {
        Ok(lease) => Ok(Some(lease)),
        Err(Rejected::AlreadyReported) if job.settled.is_some_and(|s| s.report == report) => {
            Ok(None)
        }
        Err(rejected) => Err(rejected),
    }
}

/// The lease, if `token` holds it; else why not, first match.
fn owner(job: &Job, token: TokenHash) -> Result<&Lease, Rejected> {
    match &job.phase {
        Phase::Running(lease) if lease.token == token => Ok(lease),
        _ if job.settled.is_some_and(|s| s.token == token) => Err(Rejected::AlreadyReported),
        Phase::Completed | Phase::Failed | Phase::Cancelled => Err(Rejected::JobAlreadyFinished),
        Phase::Running(_) => Err(Rejected::LeaseLost),
        Phase::Pending(_) => Err(Rejected::LeaseExpired),
    }
}

fn claim(
    job: &Job,
    worker: &WorkerId,
    token: TokenHash,
    length: Duration,
    trace: Option<&AttemptTrace>,
    now: Timestamp,
) -> Result<Applied, Rejected> {
    let eligible = job.phase == Phase::Pending(Wait::Queued) && job.eligible_at <= now;
    if !eligible || start_missed(job, now) {
        return Err(Rejected::NotEligible);
    }
    let lease = Lease {
        worker: worker.clone(),
        token,
        length,
        claimed_at: now,
        expires_at: now.plus(length),
        timeout_at: now.plus(job.policy.timeout),
        trace: trace.cloned().map(Box::new),
    };
    let next = Job {
        phase: Phase::Running(lease),
        attempt: job.attempt + 1,
        fence: job.fence + 1,
        started_at: Some(now),
        progress: None,
        ..job.clone()
    };
    Ok(changed(next, Change::Claimed, Order::Keep, now))
}

fn heartbeat(
    job: &Job,
    token: TokenHash,
    length: Option<Duration>,
    progress: Option<&Progress>,
    now: Timestamp,
) -> Result<Applied, Rejected> {
    let lease = owner(job, token)?;
    let expires_at = lease.expires_at.max(now.plus(length.unwrap_or(lease.length)));
    let lease = Lease { expires_at, ..lease.clone() };
    let mut next = Job { phase: Phase::Running(lease), ..job.clone() };
    // A bare heartbeat shows nowhere in the job, so it keeps the version: ETags stay valid.
    let Some(progress) = progress else {
        return Ok(Applied { job: next, change: Change::Extended, order: Order::Keep });
    };
    next.progress = Some(Progress { updated_at: now, ..progress.clone() });
    Ok(changed(next, Change::Extended, Order::Keep, now))
}

fn take_back(job: &Job, spread: Duration, now: Timestamp) -> Result<Applied, Rejected> {
    let Phase::Running(lease) = &job.phase else { return Err(Rejected::NotEligible) };
    let grace_over = job.cancel.as_ref().is_some_and(|c| c.at.plus(job.policy.cancel_grace) <= now);
    let cause = match lease.due(now) {
        Some(cause) => cause,
        None if grace_over => {
            let next = end_attempt(job, lease, AttemptOutcome::Cancelled, None, now);
            return finished(next, Phase::Cancelled, Change::Cancelled, now);
        }
        None => return Err(Rejected::NotEligible),
    };
    let error = JobError {
        kind: cause.error_type().to_owned(),
        message: match cause {
            TakeBackCause::WorkerSilent => "the worker stopped sending heartbeats".to_owned(),
            TakeBackCause::HardTimeout => "the attempt ran longer than timeout_seconds".to_owned(),
        },
        details: None,
        stack: None,
        attempt: job.attempt,
        at: now,
        retryable: true,
    };
    let mut next = end_attempt(job, lease, cause.into(), Some(error.kind.clone()), now);
    next.error = Some(error);
    if job.cancel.is_some() {
        finished(next, Phase::Cancelled, Change::TakenBack(cause), now)
    } else if job.attempt >= job.max_attempts {
        finished(next, Phase::Failed, Change::TakenBack(cause), now)
    } else {
        let wait = if spread.is_zero() { Wait::Queued } else { Wait::Backoff };
        waiting(next, wait, spread, Change::TakenBack(cause), Order::Renew, now)
    }
}

fn extend(job: &Job, now: Timestamp) -> Result<Applied, Rejected> {
    let Phase::Running(lease) = &job.phase else { return Err(Rejected::NotEligible) };
    let floor = now.plus(lease.length);
    let lease = Lease {
        expires_at: lease.expires_at.max(floor),
        timeout_at: lease.timeout_at.max(floor),
        ..lease.clone()
    };
    let next = Job { phase: Phase::Running(lease), ..job.clone() };
    let change = if next == *job { Change::Unchanged } else { Change::Extended };
    Ok(Applied { job: next, change, order: Order::Keep })
}

fn cancel(
    job: &Job,
    by: Requester,
    reason: Option<&String>,
    force: bool,
    now: Timestamp,
) -> Result<Applied, Rejected> {
    let wish = Cancel { at: now, by, reason: reason.cloned() };
    match &job.phase {
        Phase::Pending(_) => {
            let next = Job { cancel: Some(wish), ..job.clone() };
            finished(next, Phase::Cancelled, Change::Cancelled, now)
        }
        Phase::Running(lease) if force => {
            let mut next = end_attempt(job, lease, AttemptOutcome::Cancelled, None, now);
            next.cancel = Some(wish);
            finished(next, Phase::Cancelled, Change::Cancelled, now)
        }
        Phase::Running(_) if job.cancel.is_some() => unchanged(job),
        Phase::Running(_) => {
            let next = Job { cancel: Some(wish), ..job.clone() };
            Ok(changed(next, Change::CancelRequested, Order::Keep, now))
        }
        Phase::Cancelled => unchanged(job),
        Phase::Completed | Phase::Failed => Err(Rejected::JobAlreadyFinished),
    }
}

fn start_missed(job: &Job, now: Timestamp) -> bool {
    job.attempt == 0 && job.start_by.is_some_and(|t| t <= now)
}

fn miss_start(job: &Job, now: Timestamp) -> Result<Applied, Rejected> {
    match job.phase {
        Phase::Pending(_) if start_missed(job, now) => {
            let mut next = job.clone();
            next.error = Some(JobError {
                kind: "start-deadline-exceeded".to_owned(),
                message: "no worker started the job before start_by".to_owned(),
                details: None,
                stack: None,
                attempt: 0,
                at: now,
                retryable: false,
            });
            finished(next, Phase::Failed, Change::Failed, now)
        }
        Phase::Pending(_) | Phase::Running(_) => Err(Rejected::NotEligible),
        Phase::Completed | Phase::Failed | Phase::Cancelled => Err(Rejected::JobAlreadyFinished),
    }
}

fn end_attempt(
    job: &Job,
    lease: &Lease,
    outcome: AttemptOutcome,
    error_type: Option<String>,
    now: Timestamp,
) -> Job {
    let mut next = job.clone();
    if next.history.len() >= HISTORY_LIMIT {
        next.history.remove(0);
    }
    next.history.push(Attempt {
        attempt: job.attempt,
        fence: job.fence,
        worker: lease.worker.as_str().to_owned(),
        started_at: lease.claimed_at,
        ended_at: now,
        outcome,
        error_type,
        trace_id: lease.trace.as_ref().map(|t| t.trace.to_string()),
        span_id: lease.trace.as_ref().map(|t| t.attempt.to_string()),
    });
    next
}

fn reported(job: Job, token: TokenHash, report: Report) -> Job {
    Job { settled: Some(Settled { token, report }), ..job }
}

/// Back to pending without counting the attempt, in the job's old place.
fn given_back(mut job: Job, delay: Option<Duration>, now: Timestamp) -> Result<Applied, Rejected> {
    job.attempt = job.attempt.saturating_sub(1);
    if job.cancel.is_some() {
        return finished(job, Phase::Cancelled, Change::Cancelled, now);
    }
    let delay = delay.unwrap_or_default();
    let wait = if delay.is_zero() { Wait::Queued } else { Wait::Scheduled };
    waiting(job, wait, delay, Change::Released, Order::Keep, now)
}

#[expect(clippy::unnecessary_wraps, reason = "an arm of apply")]
fn waiting(
    job: Job,
    wait: Wait,
    delay: Duration,
    change: Change,
    order: Order,
    now: Timestamp,
) -> Result<Applied, Rejected> {
    let next =
        Job { phase: Phase::Pending(wait), eligible_at: now.plus(delay), progress: None, ..job };
    Ok(changed(next, change, order, now))
}

#[expect(clippy::unnecessary_wraps, reason = "an arm of apply")]
fn finished(job: Job, phase: Phase, change: Change, now: Timestamp) -> Result<Applied, Rejected> {
    let keep = &job.policy.retention;
    let keep = match phase {
        Phase::Completed => keep.completed,
        Phase::Failed => keep.failed,
        Phase::Cancelled | Phase::Pending(_) | Phase::Running(_) => keep.cancelled,
    };
    let next = Job { phase, finished_at: Some(now), expires_at: Some(now.plus(keep)), ..job };
    Ok(changed(next, change, Order::Keep, now))
}

fn changed(job: Job, change: Change, order: Order, now: Timestamp) -> Applied {
    let job = Job { version: job.version + 1, updated_at: now.max(job.updated_at), ..job };
    Applied { job, change, order }
}

#[expect(clippy::unnecessary_wraps, reason = "an arm of apply")]
fn unchanged(job: &Job) -> Result<Applied, Rejected> {
    Ok(Applied { job: job.clone(), change: Change::Unchanged, order: Order::Keep })
}

#[expect(clippy::unnecessary_wraps, reason = "an arm of apply")]
fn deleted(job: &Job) -> Result<Applied, Rejected> {
    Ok(Applied { job: job.clone(), change: Change::Deleted, order: Order::Keep })
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
