//! What follows a committed transition: the metrics count it, the log tells it, whoever waits is
//! woken. Each transition comes through here exactly once.

use std::time::Duration;

use crate::domain::job::{AttemptOutcome, Phase, Status, Wait};
use crate::domain::lease::TakeBackCause;
use crate::domain::names::WorkerId;
use crate::domain::state::Change;
use crate::store::{Claimed, Transition};
use crate::telemetry::exemplars::Example;

use super::Engine;
use super::traces::example;

impl Engine {
    pub(super) fn after(&self, t: &Transition) {
        if t.change == Change::Unchanged {
            return;
        }
        if t.queue.is_reserved() {
            return self.after_ours(t);
        }
        let recorded = if t.attempt_ended { self.attempt_ended(t) } else { None };
        let events = &self.0.events;
        match t.change {
            Change::Retrying(_) => events.retry_scheduled(&t.queue),
            Change::TakenBack(cause) => {
                events.lease_taken_back(&t.queue, cause);
                self.missed_holder(t, cause);
                if t.job.status() == Status::Pending {
                    events.retry_scheduled(&t.queue);
                }
                tracing::warn!(
                    job_id = %t.id, queue = %t.queue, kind = %t.kind, attempt = t.job.attempt,
                    cause = cause.as_str(), status = t.job.status().as_str(),
                    trace_id = t.trace.as_ref().map(|trace| tracing::field::display(trace.trace)),
                    "lease taken back"
                );
            }
            Change::CancelRequested => {
                if let Some(lease) = t.job.lease() {
                    self.0.claims.wake_worker(&lease.worker, &t.namespace);
                }
            }
            Change::Unchanged
            | Change::Claimed
            | Change::Extended
            | Change::Completed
            | Change::Failed
            | Change::Released
            | Change::Cancelled
            | Change::Promoted
            | Change::Deleted => {}
        }
        if let (Some(finished), false) = (t.job.finished_at, t.change == Change::Deleted) {
            let took = finished.since(t.job.created_at);
            events.job_finished(&t.queue, t.job.status(), took, recorded);
            self.0.finishes.ended(&t.queue, t.job.status(), finished);
            match t.job.status() {
                ended @ (Status::Completed | Status::Failed) => {
                    let completed = ended == Status::Completed;
                    self.experience().observe_end(&t.queue, &t.kind, completed, finished);
                }
                Status::Cancelled | Status::Pending | Status::Running => {}
            }
            tell_end(t);
        }
        if matches!(t.job.phase, Phase::Pending(Wait::Queued)) {
            if self.may_start(&t.queue) {
                self.0.claims.wake(&t.queue, Some(t.into()), 1);
            }
        } else if t.attempt_ended && self.limited(&t.queue) {
            // There is room for one more.
            self.0.claims.wake(&t.queue, None, 1);
        }
        match t.job.finished_at {
            Some(finished) if t.change != Change::Deleted => {
                self.0.jobs.ended(t.id, finished);
                self.advice_ends(t.id, (&t.queue, &t.kind), finished);
            }
            Some(_) | None => self.0.jobs.changed(t.id),
        }
    }

    /// Jobs of the server's own are told to nobody but who waits for them.
    fn after_ours(&self, t: &Transition) {
        if matches!(t.job.phase, Phase::Pending(Wait::Queued)) {
            self.0.claims.wake(&t.queue, Some(t.into()), 1);
        }
        self.0.jobs.changed(t.id);
    }

    /// Whoever let the lease run out is silent, until they show themselves again.
    fn missed_holder(&self, t: &Transition, cause: TakeBackCause) {
        let holder = t.job.history.last().and_then(|a| WorkerId::parse(&a.worker));
        match (cause, holder) {
            (TakeBackCause::WorkerSilent, Some(worker)) => self.missed_worker(&worker),
            (TakeBackCause::WorkerSilent, None) | (TakeBackCause::HardTimeout, _) => {}
        }
    }

    /// The span of the attempt, if it is recorded.
    fn attempt_ended(&self, t: &Transition) -> Option<Example> {
        let attempt = t.job.history.last()?;
        let recorded = self.trace_attempt(t);
        let run = attempt.ended_at.since(attempt.started_at);
        self.0.events.attempt_finished(&t.queue, &t.kind, attempt.outcome, run, recorded);
        if let Some(error_type) = &attempt.error_type {
            self.0.events.attempt_error(error_type);
        }
        if attempt.outcome == AttemptOutcome::Completed {
            self.experience().observe_run(&t.queue, &t.kind, run, attempt.ended_at);
        }
        recorded
    }

    /// A claim's answer: one attempt begins for each job in it.
    pub(super) fn after_claim(&self, claimed: &Claimed) {
        for t in claimed.withdrawn.iter().chain(&claimed.missed) {
            self.after(t);
        }
        let now = self.now();
        self.saw_starts(&claimed.jobs, now);
        for leased in &claimed.jobs {
            let spec = &leased.spec;
            if spec.queue.is_reserved() {
                self.0.jobs.changed(spec.id);
                continue;
            }
            let wait = leased
                .job
                .started_at
                .map_or(Duration::ZERO, |started| started.since(leased.eligible_since));
            let trace = leased.job.lease().and_then(|lease| lease.trace.as_ref());
            let recorded = trace.filter(|trace| trace.sampled).map(|trace| example(trace));
            self.0.events.attempt_started(&spec.queue, &spec.kind, wait, recorded);
            let timeout = leased.job.policy.timeout;
            self.0.flow.started(&spec.queue, &spec.kind, timeout, now);
            self.experience().observe_wait(&spec.queue, &spec.kind, wait, now);
            self.0.jobs.changed(spec.id);
            tracing::debug!(
                job_id = %spec.id, queue = %spec.queue, kind = %spec.kind,
                attempt = leased.job.attempt, fence = leased.job.fence,
                worker = leased.job.lease().map(|l| l.worker.as_str()),
                "lease granted"
            );
            // Should that have been the last for now, the next has its time.
            self.may_start(&spec.queue);
        }
    }
}

/// Good news is for those who ask (`RUST_LOG=punctual=debug`): a line for each completed job
/// would cost as much as the job.
fn tell_end(t: &Transition) {
    let (status, attempt) = (t.job.status().as_str(), t.job.attempt);
    if t.job.status() == Status::Completed {
        tracing::debug!(job_id = %t.id, queue = %t.queue, kind = %t.kind, attempt, status, "job finished");
        return;
    }
    tracing::info!(
        job_id = %t.id, queue = %t.queue, kind = %t.kind, attempt, status,
        error_type = t.job.error.as_ref().map(|e| e.kind.as_str()),
        trace_id = t.trace.as_ref().map(|trace| tracing::field::display(trace.trace)),
        "job finished"
    );
}
