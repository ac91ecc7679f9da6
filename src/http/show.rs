//! From the engine's terms to the API's bodies.

use std::time::Duration;

use super::links::Base;
use super::settings;
use crate::domain::job::{Job, JobError, PendingReason, Phase, RawJson, Record, Status, Wait};
use crate::domain::time::Timestamp;
use crate::domain::trace::TraceContext;
use crate::domain::watch::Rate;
use crate::engine::{
    Beaten, Grant, Leased, Presence, QueueView, TimelineEvent, View, WorkerView, tasks,
};
use crate::wire;

/// What of a job is shown beside its course.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum With {
    /// In lists.
    Neither,
    Result,
    ResultAndPayload,
}

pub(super) fn job(view: &View, base: &Base, with: With) -> wire::Job {
    let Record { spec, job, result, retried_as, standing } = &view.record;
    let status = job.status();
    let url = base.job(spec.id);
    let done = status.is_done();
    let completed = status == Status::Completed;
    let info = result.as_ref().filter(|_| completed);
    let elsewhere = info.is_some_and(|i| i.location.is_some());
    let cancel = job.cancel.as_ref();
    wire::Job {
        job_id: spec.id.to_string(),
        status: status.as_str().to_owned(),
        done,
        kind: spec.kind.as_str().to_owned(),
        queue: spec.queue.as_str().to_owned(),
        priority: spec.priority,
        pending_reason: PendingReason::of(job, *standing).map(|r| r.as_str().to_owned()),
        attempt: job.attempt,
        max_attempts: job.max_attempts,
        version: job.version,
        created_at: job.created_at.to_rfc3339(),
        run_at: match job.phase {
            Phase::Pending(Wait::Scheduled | Wait::Backoff) => Some(job.eligible_at.to_rfc3339()),
            Phase::Pending(Wait::Queued)
            | Phase::Running(_)
            | Phase::Completed
            | Phase::Failed
            | Phase::Cancelled => None,
        },
        start_by: job.start_by.map(Timestamp::to_rfc3339),
        started_at: job.started_at.map(Timestamp::to_rfc3339),
        updated_at: job.updated_at.to_rfc3339(),
        finished_at: job.finished_at.map(Timestamp::to_rfc3339),
        expires_at: job.expires_at.map(Timestamp::to_rfc3339),
        progress: job.progress.as_ref().map(|p| wire::JobProgress {
            percent: p.percent,
            message: p.message.clone(),
            updated_at: p.updated_at.to_rfc3339(),
        }),
        cancel_requested_at: cancel.map(|c| c.at.to_rfc3339()),
        cancel_reason: cancel.and_then(|c| c.reason.clone()),
        cancelled_by: cancel
            .filter(|_| status == Status::Cancelled)
            .map(|c| c.by.as_str().to_owned()),
        last_error: job.error.as_ref().filter(|_| !done).map(error),
        error: job.error.as_ref().filter(|_| status == Status::Failed).map(error),
        result: match (with, info) {
            (With::Result | With::ResultAndPayload, Some(info)) => info.inline.clone(),
            (With::Result | With::ResultAndPayload, None) => completed.then(null),
            (With::Neither, _) => None,
        },
        result_url: completed.then(|| format!("{url}/result")),
        result_content_type: info.and_then(|i| i.content_type.clone()),
        result_size: info.filter(|_| !elsewhere).map(|i| i.size),
        root_job_id: spec.root.to_string(),
        retry_of: spec.retry_of.map(|id| id.to_string()),
        retried_as: retried_as.map(|id| id.to_string()),
        metadata: spec.metadata.clone(),
        tags: spec.tags.clone(),
        payload: (with == With::ResultAndPayload)
            .then(|| spec.payload.clone().unwrap_or_else(null)),
        trace: spec
            .traceparent
            .as_deref()
            .and_then(TraceContext::parse)
            .map(|submit| wire::JobTrace { submit: submit.trace.to_string() }),
        attempts: attempts(job),
        links: Some(wire::JobLinks {
            cancel: (!done).then(|| format!("{url}/cancel")),
            timeline: format!("{url}/timeline"),
            this: url.clone(),
        }),
        status_url: url,
    }
}

fn null() -> RawJson {
    RawJson::trusted("null")
}

/// Those that ended, and the one that runs.
fn attempts(job: &Job) -> Vec<wire::JobAttempt> {
    let ended = job.history.iter().map(|a| wire::JobAttempt {
        attempt: a.attempt,
        fence: a.fence,
        worker_id: a.worker.clone(),
        started_at: a.started_at.to_rfc3339(),
        ended_at: Some(a.ended_at.to_rfc3339()),
        outcome: Some(a.outcome.as_str().to_owned()),
        trace_id: a.trace_id.clone(),
    });
    let running = job.lease().map(|lease| wire::JobAttempt {
        attempt: job.attempt,
        fence: job.fence,
        worker_id: lease.worker.as_str().to_owned(),
        started_at: lease.claimed_at.to_rfc3339(),
        trace_id: lease.trace.as_ref().map(|t| t.trace.to_string()),
        ..wire::JobAttempt::default()
    });
    ended.chain(running).collect()
}

pub(super) fn error(error: &JobError) -> wire::JobError {
    wire::JobError {
        kind: error.kind.clone(),
        message: error.message.clone(),
        details: error.details.clone(),
        attempt: error.attempt,
        at: error.at.to_rfc3339(),
        retryable: error.retryable,
    }
}

pub(super) fn timeline(event: TimelineEvent) -> wire::TimelineEvent {
    wire::TimelineEvent {
        seq: event.seq,
        at: event.at.to_rfc3339(),
        kind: event.kind.to_owned(),
        attempt: event.attempt,
        fence: event.fence,
        worker_id: event.worker,
        reason: event.reason,
        trace_id: event.trace_id,
        retry_of: event.job.filter(|_| event.kind == "submitted").map(|id| id.to_string()),
        retried_as: event.job.filter(|_| event.kind == "retried").map(|id| id.to_string()),
        wait_ms: event.wait.map(millis),
        run_ms: event.run.map(millis),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn leased(leased: &Leased) -> wire::LeasedJob {
    let Leased { spec, job, token, checkpoint, .. } = leased;
    // A job that was just leased has a lease; without one nothing of it can be promised.
    let lease = job.lease();
    let trace = lease.and_then(|l| l.trace.as_deref());
    wire::LeasedJob {
        job_id: spec.id.to_string(),
        lease_token: token.reveal(),
        fence: job.fence,
        lease_expires_at: lease.map(|l| l.expires_at.to_rfc3339()).unwrap_or_default(),
        lease_seconds: lease.map(|l| l.length.as_secs_f64()).unwrap_or_default(),
        kind: spec.kind.as_str().to_owned(),
        queue: spec.queue.as_str().to_owned(),
        payload: spec.payload.clone(),
        attempt: job.attempt,
        max_attempts: job.max_attempts,
        timeout_at: lease.map(|l| l.timeout_at.to_rfc3339()).unwrap_or_default(),
        root_job_id: spec.root.to_string(),
        checkpoint: checkpoint.clone(),
        traceparent: match trace {
            Some(trace) => Some(trace.worker_context().to_string()),
            None => spec.traceparent.clone(),
        },
        // It belongs to the trace of the submission.
        tracestate: spec.tracestate.clone().filter(|_| trace.is_none_or(|t| t.child)),
        metadata: spec.metadata.clone(),
    }
}

pub(super) fn claimed(grant: &Grant) -> wire::Claimed {
    wire::Claimed {
        jobs: grant.jobs.iter().map(leased).collect(),
        cancel: grant.cancel.iter().map(ToString::to_string).collect(),
        directive: grant.directive.as_str().to_owned(),
        server_time: grant.now.to_rfc3339(),
    }
}

/// Roughly the bytes that a claim's answer takes.
pub(super) fn size_of(grant: &Grant) -> usize {
    let payloads = grant.jobs.iter().map(|l| l.spec.payload.as_ref().map_or(4, RawJson::len));
    256 + payloads.map(|n| n + 768).sum::<usize>()
}

pub(super) fn beaten(beaten: Beaten) -> wire::HeartbeatAnswer {
    wire::HeartbeatAnswer {
        lease_expires_at: beaten.expires_at.to_rfc3339(),
        cancel_requested: beaten.cancel_requested,
        cancel_reason: beaten.cancel_reason,
        directive: beaten.directive.as_str().to_owned(),
        timeout_at: beaten.timeout_at.to_rfc3339(),
    }
}

pub(super) fn queue(view: QueueView) -> wire::Queue {
    let QueueView { state, eligible, scheduled, retry_backoff, running, .. } = view;
    wire::Queue {
        name: state.name.as_str().to_owned(),
        paused: state.paused_at.is_some(),
        paused_reason: state.paused_reason,
        paused_until: state.paused_until.map(Timestamp::to_rfc3339),
        paused_at: state.paused_at.map(Timestamp::to_rfc3339),
        jobs: wire::QueueJobs { eligible, scheduled, retry_backoff, running },
        oldest_pending_age_seconds: view.oldest_pending_age.as_secs_f64(),
        stuck: view.stuck,
        workers: view.workers,
        slots: view.slots,
        start_rate_per_second: Rate::per_second(view.start_rate).as_per_second(),
        finish_rate_per_second: Rate::per_second(view.finish_rate).as_per_second(),
        failure_ratio_5m: view.failure_ratio,
        estimated_wait_seconds: view.drain_estimate.as_secs_f64(),
        max_depth: state.max_depth,
        limits: wire::QueueLimits {
            max_running: state.max_running,
            max_depth: state.max_depth,
            start_rate_per_second: view.start_rate_limit,
            stuck_after_seconds: view.stuck_after.map(|d| d.as_secs_f64()),
        },
        settings: settings::shown(&view.jobs, view.require_key),
        overrides: settings::overrides(&state.overrides),
        revision: state.revision,
    }
}

pub(super) fn worker(view: WorkerView) -> wire::Worker {
    let Presence {
        worker, queues, kinds, capacity, hostname, version, last_seen, directive, ..
    } = view.presence;
    wire::Worker {
        worker_id: worker.as_str().to_owned(),
        hostname,
        version,
        queues: queues.iter().map(|n| n.as_str().to_owned()).collect(),
        kinds: kinds.iter().map(|n| n.as_str().to_owned()).collect(),
        capacity,
        last_seen: last_seen.to_rfc3339(),
        leases: view.leases,
        directive: directive.as_str().to_owned(),
    }
}

pub(super) fn task(status: tasks::TaskStatus) -> wire::Task {
    wire::Task {
        hung: status.hangs(),
        running_for_seconds: status.running_for.map(|d| d.as_secs_f64()),
        task: status.name.to_owned(),
        interval_seconds: status.interval.as_secs_f64(),
        last_run_at: status.last_run.map(Timestamp::to_rfc3339),
        last_success_at: status.last_success.map(Timestamp::to_rfc3339),
        outcome: status.outcome.map(|o| o.as_str().to_owned()),
        detail: status.detail,
        duration_seconds: status.took.map(|d| d.as_secs_f64()),
        restarts: status.restarts,
    }
}
