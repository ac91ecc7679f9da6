//! Accepting work: commit first, wake a worker, and perhaps wait a moment for the result.

use std::time::Duration;

use crate::domain::job::{Job, Phase, Policy, Record, Retention, Spec, Wait};
use crate::domain::retry::Backoff;
use crate::domain::time::Timestamp;
use crate::store::{Absence, Found, NewJob, Submitted};
use crate::telemetry::labels::Submission as Outcome;

use super::{Accepted, Caller, Engine, Failure, Gone, Hold, MAX_WAIT, Submission};

impl Engine {
    /// Commits the job, then holds the answer back as `hold` says. A caller that goes away in the
    /// meantime changes nothing.
    pub async fn submit(
        &self,
        caller: &Caller,
        submission: Submission,
        hold: Hold,
    ) -> Result<Accepted, Failure> {
        let queue = submission.queue.clone();
        let outcome = self.submit_and_hold(caller, submission, hold).await;
        let label = match &outcome {
            Ok(Accepted { replayed: true, .. }) => Some(Outcome::Replayed),
            Ok(accepted) if accepted.view.retry_after.is_none() => Some(Outcome::CompletedSync),
            Ok(_) => Some(Outcome::Accepted),
            // The answer to a refused body is counted where it is made, with the other refusals.
            Err(Failure::KeyReused { .. } | Failure::Gone { .. }) => Some(Outcome::Invalid),
            Err(_) => Some(Outcome::Unavailable),
        };
        if let Some(label) = label {
            self.0.events.submission(Some(&queue), label);
        }
        outcome
    }

    async fn submit_and_hold(
        &self,
        caller: &Caller,
        submission: Submission,
        hold: Hold,
    ) -> Result<Accepted, Failure> {
        let now = self.now();
        let new = self.new_job(caller, submission, now);
        // Registered before the commit, so that a worker's quickest answer is not missed.
        let early = self.0.jobs.register(new.spec.id);
        let change = early.change();
        let fresh = record_of(&new);
        let submitted = self.commit(vec![new], now).await?.pop();
        let (record, replayed) = match submitted {
            Some(Submitted::Created) => {
                let window = self.window(&fresh, hold);
                self.announce(&fresh);
                if window.is_zero() {
                    return Ok(Accepted { view: self.view(fresh), replayed: false });
                }
                // The first look needs no store: nothing has changed until somebody says so.
                let waited = tokio::time::timeout(window, change).await;
                if waited.is_err() {
                    return Ok(Accepted { view: self.view(fresh), replayed: false });
                }
                (fresh, false)
            }
            Some(Submitted::Replayed(record)) => (*record, true),
            Some(Submitted::ReplayedGone(id)) => return Err(self.gone(id).await),
            Some(Submitted::KeyReused(id)) => return Err(Failure::KeyReused { id }),
            None => return Err(Failure::NoSuchJob),
        };
        let window = match hold {
            Hold::Never => Duration::ZERO,
            Hold::UpTo(wait) => wait.min(MAX_WAIT),
            Hold::Adaptive => self.defaults(record.spec.queue.as_str()).sync_window,
        };
        let rest = window.saturating_sub(self.now().since(now));
        let id = record.spec.id;
        let done = record.job.status().is_done();
        let view = if done || (replayed && (rest.is_zero() || hold == Hold::Adaptive)) {
            self.view(record)
        } else {
            self.wait_until(id, rest, false, |job| job.status().is_done()).await?
        };
        Ok(Accepted { view, replayed })
    }

    /// All or nothing. The index is the first item that stands in the way.
    pub async fn submit_batch(
        &self,
        caller: &Caller,
        submissions: Vec<Submission>,
    ) -> Result<Vec<Accepted>, (usize, Failure)> {
        let queues: Vec<_> = submissions.iter().map(|s| s.queue.clone()).collect();
        let outcome = self.submit_all(caller, submissions).await;
        for (at, queue) in queues.iter().enumerate() {
            let label = match &outcome {
                Ok(accepted) if accepted[at].replayed => Outcome::Replayed,
                Ok(_) => Outcome::Accepted,
                Err((_, Failure::KeyReused { .. } | Failure::Gone { .. })) => Outcome::Invalid,
                Err(_) => Outcome::Unavailable,
            };
            self.0.events.submission(Some(queue), label);
        }
        outcome
    }

    async fn submit_all(
        &self,
        caller: &Caller,
        submissions: Vec<Submission>,
    ) -> Result<Vec<Accepted>, (usize, Failure)> {
        let now = self.now();
        let new: Vec<NewJob> =
            submissions.into_iter().map(|s| self.new_job(caller, s, now)).collect();
        let fresh: Vec<Record> = new.iter().map(record_of).collect();
        let answers = self.commit(new, now).await.map_err(|e| (0, e))?;
        for (at, answer) in answers.iter().enumerate() {
            match answer {
                Submitted::KeyReused(id) => return Err((at, Failure::KeyReused { id: *id })),
                Submitted::ReplayedGone(id) => return Err((at, self.gone(*id).await)),
                Submitted::Created | Submitted::Replayed(_) => {}
            }
        }
        let accepted = answers.into_iter().zip(fresh).map(|(answer, fresh)| match answer {
            Submitted::Replayed(record) => Accepted { view: self.view(*record), replayed: true },
            Submitted::Created | Submitted::ReplayedGone(_) | Submitted::KeyReused(_) => {
                self.announce(&fresh);
                Accepted { view: self.view(fresh), replayed: false }
            }
        });
        Ok(accepted.collect())
    }

    async fn commit(&self, new: Vec<NewJob>, now: Timestamp) -> Result<Vec<Submitted>, Failure> {
        if self.is_draining() {
            return Err(Failure::Draining);
        }
        Ok(self.0.store.submit(new, now).await?)
    }

    fn window(&self, fresh: &Record, hold: Hold) -> Duration {
        if fresh.job.phase == Phase::Pending(Wait::Scheduled) {
            return Duration::ZERO;
        }
        match hold {
            Hold::Never => Duration::ZERO,
            Hold::UpTo(wait) => wait.min(MAX_WAIT),
            Hold::Adaptive if self.worth_holding(fresh) => {
                self.defaults(fresh.spec.queue.as_str()).sync_window
            }
            Hold::Adaptive => Duration::ZERO,
        }
    }

    fn announce(&self, record: &Record) {
        let spec = &record.spec;
        if record.job.phase == Phase::Pending(Wait::Queued) {
            self.0.claims.wake(&spec.queue, Some(&spec.kind), 1);
        }
        tracing::debug!(job_id = %spec.id, queue = %spec.queue, kind = %spec.kind, "job accepted");
    }

    fn new_job(&self, caller: &Caller, s: Submission, now: Timestamp) -> NewJob {
        let id = self.0.mint.mint(now, caller.namespace.as_str(), self.0.entropy.bits());
        let defaults = self.defaults(s.queue.as_str());
        let b = &defaults.backoff;
        let policy = Policy {
            timeout: s.timeout.unwrap_or(defaults.timeout),
            cancel_grace: defaults.cancel_grace,
            backoff: Backoff {
                initial: s.backoff.initial.unwrap_or(b.initial),
                max: s.backoff.max.unwrap_or(b.max).max(s.backoff.initial.unwrap_or_default()),
                multiplier: s.backoff.multiplier.unwrap_or(b.multiplier),
                jitter: s.backoff.jitter.unwrap_or(b.jitter),
            },
            retention: s.retention.map_or(defaults.retention, |keep| Retention {
                completed: keep,
                failed: keep,
                cancelled: keep,
            }),
        };
        let run_at = s.run_at.or_else(|| s.delay.map(|d| now.plus(d)));
        let attempts = s.max_attempts.unwrap_or(defaults.max_attempts);
        let job = Job::accepted(now, run_at, s.start_by, attempts, policy);
        let spec = Spec {
            id,
            namespace: caller.namespace.clone(),
            queue: s.queue,
            kind: s.kind,
            priority: s.priority,
            payload: s.payload,
            metadata: s.metadata,
            tags: s.tags,
            root: id,
            retry_of: None,
            expected_duration: s.expected_duration,
            traceparent: s.traceparent,
            tracestate: s.tracestate,
        };
        NewJob { spec, job, key: s.key }
    }

    /// What to say of a job whose key is still known.
    async fn gone(&self, id: crate::domain::id::JobId) -> Failure {
        match self.0.store.get(id, false).await {
            Ok(Found::Absent(Absence::Deleted)) => Failure::Gone { id, why: Gone::Deleted },
            Ok(_) => Failure::Gone { id, why: Gone::Expired },
            Err(error) => error.into(),
        }
    }
}

/// The job as it will be once it is committed.
fn record_of(new: &NewJob) -> Record {
    Record {
        spec: Spec { payload: None, ..new.spec.clone() },
        job: new.job.clone(),
        result: None,
        retried_as: None,
        queue_paused: false,
    }
}
