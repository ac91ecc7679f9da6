//! A job's story, told from what it remembers and from the episodes of its queue and kind: nothing
//! is stored for it alone.

use std::time::Duration;

use crate::domain::id::JobId;
use crate::domain::job::{Attempt, AttemptOutcome, Job, Phase, Record, Status};
use crate::domain::time::Timestamp;
use crate::domain::trace::TraceContext;
use crate::store::{Episode, EpisodeFilter};

use super::Engine;

/// The most events that a timeline shows.
pub const TIMELINE_EVENTS: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineEvent {
    /// From 1, in order, in this telling: what is not remembered has no number.
    pub seq: u32,
    pub at: Timestamp,
    pub kind: &'static str,
    pub attempt: Option<u32>,
    pub fence: Option<u64>,
    pub worker: Option<String>,
    pub reason: Option<String>,
    pub trace_id: Option<String>,
    /// Of the latest claim: since the job could be claimed.
    pub wait: Option<Duration>,
    /// Of the attempt that ended.
    pub run: Option<Duration>,
    /// The other job of a retry: of `submitted` its source, of `retried` what came of it.
    pub job: Option<JobId>,
}

impl Engine {
    /// The episodes during which the job may have been stuck. A story without them is a story too.
    pub(super) async fn episodes_of(&self, record: &Record) -> Vec<Episode> {
        let filter = EpisodeFilter {
            queue: Some(record.spec.queue.clone()),
            kind: Some(record.spec.kind.clone()),
            ended_after: Some(record.job.eligible_at),
        };
        self.0.store.episodes(filter, TIMELINE_EVENTS as u32).await.unwrap_or_else(|error| {
            let job_id = record.spec.id;
            tracing::warn!(%error, %job_id, "a timeline was told without when its job was stuck");
            Vec::new()
        })
    }
}

pub(super) fn of(record: &Record, episodes: &[Episode], now: Timestamp) -> Vec<TimelineEvent> {
    let job = &record.job;
    let submit = record.spec.traceparent.as_deref().and_then(TraceContext::parse);
    let mut story = vec![TimelineEvent {
        trace_id: submit.map(|context| context.trace.to_string()),
        job: record.spec.retry_of,
        ..event("submitted", job.created_at)
    }];
    let latest = Wait::latest(job);
    for (at, attempt) in job.history.iter().enumerate() {
        let last = at + 1 == job.history.len() && job.status().is_done();
        story.push(TimelineEvent {
            trace_id: attempt.trace_id.clone(),
            wait: latest.before(attempt.started_at).filter(|_| last),
            ..claimed(attempt.attempt, attempt.fence, &attempt.worker, attempt.started_at)
        });
        ended(&mut story, attempt, last);
    }
    if let Some(lease) = job.lease() {
        story.push(TimelineEvent {
            trace_id: lease.trace.as_ref().map(|t| t.trace.to_string()),
            wait: latest.before(lease.claimed_at),
            ..claimed(job.attempt, job.fence, lease.worker.as_str(), lease.claimed_at)
        });
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
        // The attempt that ended with the job; a job may also end while none runs.
        let attempt = job.history.last().filter(|attempt| attempt.ended_at == at);
        story.push(TimelineEvent {
            reason: reason.map(|e| e.kind.clone()),
            ..of_attempt(attempt, event(job.status().as_str(), at))
        });
    }
    if let Some(retry) = record.retried_as {
        // The job that came of it began then; its id knows. Nothing is told before the end.
        let at = job.finished_at.map_or(retry.created_at(), |end| end.max(retry.created_at()));
        story.push(TimelineEvent { job: Some(retry), ..event("retried", at) });
    }
    stuck(&mut story, &latest, episodes, now);
    // Stable: what happened in one millisecond keeps the order in which it was told.
    story.sort_by_key(|e| e.at);
    if story.len() > TIMELINE_EVENTS {
        story.drain(1..=story.len() - TIMELINE_EVENTS);
    }
    for (at, event) in story.iter_mut().enumerate() {
        event.seq = at as u32 + 1;
    }
    story
}

/// A time during which a job could have been claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    from: Timestamp,
    /// `None`: it goes on.
    until: Option<Timestamp>,
}

impl Wait {
    /// Of earlier waits it is not remembered when they began.
    fn latest(job: &Job) -> Self {
        let from = job.eligible_at;
        let until = match &job.phase {
            Phase::Pending(_) => None,
            Phase::Running(lease) => Some(lease.claimed_at),
            Phase::Completed | Phase::Failed | Phase::Cancelled => {
                job.started_at.filter(|started| *started >= from).or(job.finished_at)
            }
        };
        Self { from, until }
    }

    /// How long it was when a claim ended it, if that one did.
    fn before(&self, claim: Timestamp) -> Option<Duration> {
        (self.until == Some(claim)).then(|| claim.since(self.from))
    }
}

/// When the job became stuck in each episode, and when it was so no more: with the end of its wait
/// or of the episode.
fn stuck(story: &mut Vec<TimelineEvent>, wait: &Wait, episodes: &[Episode], now: Timestamp) {
    for episode in episodes {
        let Some(threshold) = episode.evidence.stuck_after_ms else { continue };
        let from = episode.since.max(wait.from.plus(Duration::from_millis(threshold)));
        let until = match (wait.until, episode.ended_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if from >= until.unwrap_or(now.plus(Duration::from_millis(1))) {
            continue;
        }
        let told = |kind, at| TimelineEvent {
            reason: Some(episode.verdict.as_str().to_owned()),
            ..event(kind, at)
        };
        story.push(told("stuck", from));
        story.extend(until.map(|until| told("unstuck", until)));
    }
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
        trace_id: None,
        wait: None,
        run: None,
        job: None,
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

/// The event with the attempt that ended then.
fn of_attempt(attempt: Option<&Attempt>, event: TimelineEvent) -> TimelineEvent {
    let Some(attempt) = attempt else { return event };
    TimelineEvent {
        attempt: Some(attempt.attempt),
        fence: Some(attempt.fence),
        worker: Some(attempt.worker.clone()),
        trace_id: attempt.trace_id.clone(),
        run: Some(attempt.ended_at.since(attempt.started_at)),
        ..event
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
        reason: attempt.error_type.clone(),
        ..of_attempt(Some(attempt), event(kind, attempt.ended_at))
    });
    if kind == "failed_attempt" && !final_one {
        story.push(TimelineEvent {
            attempt: Some(attempt.attempt),
            ..event("retry_scheduled", attempt.ended_at)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::names::Name;
    use crate::domain::watch::{Evidence, Verdict};

    const NOW: Timestamp = at(1_000);

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn episode(since: i64, ended: Option<i64>) -> Episode {
        Episode {
            queue: Name::trusted("q"),
            kind: Name::trusted("k"),
            verdict: Verdict::NoWorkers,
            since: at(since),
            jobs: 1,
            peak_jobs: 1,
            oldest_jobs: Vec::new(),
            evidence: Evidence { stuck_after_ms: Some(10_000), ..Evidence::default() },
            ended_at: ended.map(at),
        }
    }

    /// Kinds and seconds of what is told of a wait.
    fn told(from: i64, until: Option<i64>, episodes: &[Episode]) -> Vec<(&'static str, i64)> {
        let mut story = Vec::new();
        let wait = Wait { from: at(from), until: until.map(at) };
        stuck(&mut story, &wait, episodes, NOW);
        assert!(story.iter().all(|e| e.reason.as_deref() == Some("no_workers")));
        story.iter().map(|e| (e.kind, e.at.as_millis() / 1_000)).collect()
    }

    #[test]
    fn stuck_from_the_later_of_episode_and_threshold() {
        assert_eq!(told(100, None, &[episode(115, None)]), [("stuck", 115)]);
        assert_eq!(told(200, None, &[episode(115, None)]), [("stuck", 210)], "a later job");
        assert_eq!(told(990, None, &[episode(115, None)]), [("stuck", 1_000)], "just now");
        assert_eq!(told(991, None, &[episode(115, None)]), [], "not yet");
    }

    #[test]
    fn unstuck_with_the_end_of_the_wait_or_of_the_episode() {
        let both = |until, ended| told(100, until, &[episode(115, ended)]);
        assert_eq!(both(Some(130), Some(140)), [("stuck", 115), ("unstuck", 130)]);
        assert_eq!(both(Some(150), Some(140)), [("stuck", 115), ("unstuck", 140)]);
        assert_eq!(both(None, Some(140)), [("stuck", 115), ("unstuck", 140)]);
        assert_eq!(both(Some(130), None), [("stuck", 115), ("unstuck", 130)]);
        assert_eq!(both(Some(115), Some(140)), [], "it was claimed before anybody knew");
        assert_eq!(both(Some(105), None), [], "it never waited so long");
        let two = [episode(300, None), episode(115, Some(140))];
        assert_eq!(told(100, None, &two), [("stuck", 300), ("stuck", 115), ("unstuck", 140)]);
    }

    #[test]
    fn without_a_threshold_nothing_is_stuck() {
        let mut off = episode(115, None);
        off.evidence.stuck_after_ms = None;
        assert_eq!(told(100, None, &[off]), []);
    }
}
