//! A job's story, told from what it remembers: nothing is stored for it alone.

use std::time::Duration;

use crate::domain::job::{Attempt, AttemptOutcome, Record, Status};
use crate::domain::time::Timestamp;

/// The most events that a timeline shows.
const LIMIT: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineEvent {
    /// From 1, in order.
    pub seq: u32,
    pub at: Timestamp,
    pub kind: &'static str,
    pub attempt: Option<u32>,
    pub fence: Option<u64>,
    pub worker: Option<String>,
    pub reason: Option<String>,
    pub run: Option<Duration>,
}

pub(super) fn of(record: &Record) -> Vec<TimelineEvent> {
    let job = &record.job;
    let mut story = vec![event("submitted", job.created_at)];
    for (at, attempt) in job.history.iter().enumerate() {
        story.push(claimed(attempt.attempt, attempt.fence, &attempt.worker, attempt.started_at));
        let last = at + 1 == job.history.len();
        ended(&mut story, attempt, last && job.status().is_done());
    }
    if let Some(lease) = job.lease() {
        story.push(claimed(job.attempt, job.fence, lease.worker.as_str(), lease.claimed_at));
    }
    if let Some(progress) = &job.progress {
        story.push(TimelineEvent {
            reason: progress.message.clone(),
            ..event("progress", progress.updated_at)
        });
    }
    if let Some(cancel) = &job.cancel {
        story.push(TimelineEvent {
            reason: cancel.reason.clone(),
            ..event("cancel_requested", cancel.at)
        });
    }
    if let Some(at) = job.finished_at {
        let reason = job.error.as_ref().filter(|_| job.status() == Status::Failed);
        story.push(TimelineEvent {
            reason: reason.map(|e| e.kind.clone()),
            ..event(job.status().as_str(), at)
        });
    }
    // Stable: what happened in one millisecond keeps the order in which it was told.
    story.sort_by_key(|e| e.at);
    if story.len() > LIMIT {
        story.drain(1..=story.len() - LIMIT);
    }
    for (at, event) in story.iter_mut().enumerate() {
        event.seq = at as u32 + 1;
    }
    story
}

fn event(kind: &'static str, at: Timestamp) -> TimelineEvent {
    TimelineEvent {
        seq: 0,
        at,
        kind,
        attempt: None,
        fence: None,
        worker: None,
        reason: None,
        run: None,
    }
}

fn claimed(attempt: u32, fence: u64, worker: &str, at: Timestamp) -> TimelineEvent {
    TimelineEvent {
        attempt: Some(attempt),
        fence: Some(fence),
        worker: Some(worker.to_owned()),
        ..event("claimed", at)
    }
}

fn ended(story: &mut Vec<TimelineEvent>, attempt: &Attempt, final_one: bool) {
    let kind = match attempt.outcome {
        // The job's own end tells these.
        AttemptOutcome::Completed | AttemptOutcome::Cancelled => return,
        AttemptOutcome::Failed => "failed_attempt",
        AttemptOutcome::TimedOut | AttemptOutcome::LeaseExpired => "taken_back",
        AttemptOutcome::Released => "released",
    };
    story.push(TimelineEvent {
        attempt: Some(attempt.attempt),
        fence: Some(attempt.fence),
        worker: Some(attempt.worker.clone()),
        reason: attempt.error_type.clone(),
        run: Some(attempt.ended_at.since(attempt.started_at)),
        ..event(kind, attempt.ended_at)
    });
    if kind == "failed_attempt" && !final_one {
        story.push(TimelineEvent {
            attempt: Some(attempt.attempt),
            ..event("retry_scheduled", attempt.ended_at)
        });
    }
}
