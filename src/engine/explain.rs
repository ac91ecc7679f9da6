//! Why is it not moving? The same evidence and the same judgement as the watchdog's, for whoever
//! asks, at the moment that they ask.
//!
//! A queue is explained by its kinds, a job by its queue and kind. While the store does not answer,
//! what the watchdog and the sampler remember is told instead, with its age.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::id::JobId;
use crate::domain::job::{PendingReason, Record, Status};
use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::domain::watch::{Evidence, Verdict, next_step, outlook};
use crate::store::{Episode, EpisodeFilter, KindState};

use super::watchdog::{NEVER, keep_oldest};
use super::{Caller, Engine, Failure};

/// How long the store may take over one explanation.
const PATIENCE: Duration = Duration::from_secs(2);

/// Kinds in one answer from memory; the store shows as many.
const KINDS_SHOWN: usize = 200;

/// Episodes in one answer.
pub const EPISODES_SHOWN: u32 = 1_000;

#[derive(Debug, Clone, PartialEq)]
pub struct QueueExplanation {
    pub queue: Name,
    /// The first of its kinds' in the order of judgement; `None` while nothing is stuck.
    pub verdict: Option<Verdict>,
    /// When what follows was true.
    pub sampled_at: Timestamp,
    pub age: Duration,
    /// Those with a verdict first.
    pub kinds: Vec<KindExplanation>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct KindExplanation {
    pub kind: Name,
    /// `None` while nothing is stuck.
    pub verdict: Option<Verdict>,
    /// Since when the watchdog knows.
    pub since: Option<Timestamp>,
    pub stuck: u64,
    pub oldest_jobs: Vec<JobId>,
    pub evidence: Evidence,
    pub next_step: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct JobExplanation {
    pub id: JobId,
    pub queue: Name,
    pub kind: Name,
    pub status: Status,
    /// Whether it has been eligible for longer than its queue's threshold.
    pub stuck: bool,
    /// The watchdog's when the job is stuck, else why it is pending, else its status.
    pub verdict: &'static str,
    pub since: Option<Timestamp>,
    /// Of its queue and kind, while it waits for a worker.
    pub evidence: Option<Evidence>,
    pub next_step: String,
}

/// Counts and the beginning of trouble are the watchdog's, and it does not look.
const BLIND: &str = "the watchdog does not look (see `/v1/tasks`), so this is judged from the oldest \
                     job, and not all that are stuck are counted";

impl Engine {
    pub async fn explain_queue(&self, queue: &Name) -> Result<QueueExplanation, Failure> {
        let now = self.now();
        let Ok(states) = self.inspect(queue, None, now).await else {
            return self.explain_from_memory(queue, now);
        };
        if states.is_empty() {
            // Also a queue without jobs is a queue.
            self.queue(queue).await?;
        }
        let open = self.0.watchdog.open_in(queue);
        let mut kinds: Vec<KindExplanation> =
            states.iter().map(|state| self.explain_kind(state, &open, now)).collect();
        kinds.sort_by(|a, b| {
            let order = |k: &KindExplanation| (k.verdict.is_none(), k.verdict);
            order(a).cmp(&order(b)).then_with(|| a.kind.cmp(&b.kind))
        });
        Ok(QueueExplanation {
            queue: queue.clone(),
            verdict: kinds.iter().filter_map(|k| k.verdict).min(),
            sampled_at: now,
            age: Duration::ZERO,
            kinds,
        })
    }

    /// Whoever asks is not kept waiting: memory tells what was so a moment ago. That the store
    /// takes long over one question is no fault of the store's.
    async fn inspect(
        &self,
        queue: &Name,
        kind: Option<&Name>,
        now: Timestamp,
    ) -> Result<Vec<KindState>, Failure> {
        let asked = self.0.store.inspect(queue.clone(), kind.cloned(), now);
        let answered = tokio::time::timeout(PATIENCE, asked).await;
        Ok(answered.map_err(|_| super::outlive::out_of_patience())??)
    }

    fn explain_kind(
        &self,
        state: &KindState,
        open: &HashMap<Name, Episode>,
        now: Timestamp,
    ) -> KindExplanation {
        let queue = &state.queue.name;
        let open = open.get(&state.kind);
        let queue_limit = self.queue_run_limit(state);
        let previous = self.0.watchdog.last_scan();
        let mut evidence = self.evidence(state, queue_limit, &self.leases(), previous, now);
        if let Some(episode) = open {
            keep_oldest(episode, state, &mut evidence);
        }
        let paused = state.queue.paused_at.is_some();
        let blind = self.watchdog_is_late();
        let stuck = match (paused, blind) {
            (true, _) => 0,
            // Nobody counts them: one is certain.
            (false, true) if evidence.is_overdue() => state.stuck.max(1),
            (false, _) => state.stuck,
        };
        let verdict = (stuck > 0).then(|| match open {
            // While the store cannot be written, the episode is not what the watchdog would say.
            Some(episode) if !evidence.store_degraded => episode.verdict,
            Some(_) | None => evidence.judge(),
        });
        let names = (queue.as_str(), state.kind.as_str());
        KindExplanation {
            kind: state.kind.clone(),
            verdict,
            since: open.filter(|_| stuck > 0).map(|e| e.since),
            stuck,
            oldest_jobs: state.oldest_jobs.clone(),
            next_step: {
                let step = match verdict {
                    Some(verdict) => next_step(verdict, names.0, names.1, &evidence),
                    None => outlook(names.0, names.1, &evidence),
                };
                if blind { format!("{BLIND}; {step}") } else { step }
            },
            evidence,
        }
    }

    /// Whether the watchdog has not done its work for as long as its own alert waits for it.
    fn watchdog_is_late(&self) -> bool {
        let tasks = self.0.tasks.statuses();
        tasks.iter().any(|task| task.name == "watchdog" && task.is_late())
    }

    /// The store does not answer: what was known last is told, and if the store is not well, that
    /// is the verdict.
    fn explain_from_memory(
        &self,
        queue: &Name,
        now: Timestamp,
    ) -> Result<QueueExplanation, Failure> {
        let degraded = self.0.health.is_degraded();
        let latest = self.latest();
        let known =
            latest.as_ref().is_some_and(|l| l.sample.queues.iter().any(|q| q.state.name == *queue));
        if latest.is_some() && !known {
            return Err(Failure::NoSuchQueue);
        }
        let explain = |(kind, episode): (Name, Episode)| {
            let verdict = if degraded { Verdict::StoreDegraded } else { episode.verdict };
            let evidence = Evidence { store_degraded: degraded, ..episode.evidence };
            KindExplanation {
                verdict: Some(verdict),
                since: Some(episode.since),
                stuck: episode.jobs,
                oldest_jobs: episode.oldest_jobs,
                next_step: next_step(verdict, queue.as_str(), kind.as_str(), &evidence),
                evidence,
                kind,
            }
        };
        let open = self.0.watchdog.open_in(queue).into_iter();
        let kinds: Vec<KindExplanation> = open.map(explain).take(KINDS_SHOWN).collect();
        let worst = kinds.iter().filter_map(|k| k.verdict).min();
        let sampled_at = latest.map_or(now, |l| l.at);
        Ok(QueueExplanation {
            queue: queue.clone(),
            verdict: if degraded { Some(Verdict::StoreDegraded) } else { worst },
            sampled_at,
            age: now.since(sampled_at),
            kinds,
        })
    }

    /// One kind alone, however many there are.
    async fn explain_one(&self, queue: &Name, kind: &Name) -> Option<KindExplanation> {
        let now = self.now();
        if let Ok(states) = self.inspect(queue, Some(kind), now).await {
            let open = self.0.watchdog.open_in(queue);
            return states.first().map(|state| self.explain_kind(state, &open, now));
        }
        let remembered = self.explain_from_memory(queue, now).ok()?;
        remembered.kinds.into_iter().find(|k| k.kind == *kind)
    }

    pub async fn explain_job(&self, caller: &Caller, id: JobId) -> Result<JobExplanation, Failure> {
        let view = self.job(caller, id, false).await?;
        let record = view.record;
        let (queue, kind) = (record.spec.queue.clone(), record.spec.kind.clone());
        let told = |verdict: &'static str, next_step: String| JobExplanation {
            id,
            queue: queue.clone(),
            kind: kind.clone(),
            status: record.job.status(),
            stuck: false,
            verdict,
            since: None,
            evidence: None,
            next_step,
        };
        let reason = PendingReason::of(&record.job, record.standing);
        match reason {
            None => Ok(told(record.job.status().as_str(), self.not_pending(&record))),
            Some(reason @ (PendingReason::Scheduled | PendingReason::RetryBackoff)) => {
                Ok(told(reason.as_str(), not_eligible(&record, self.now())))
            }
            Some(PendingReason::QueuePaused) => Ok(told(
                PendingReason::QueuePaused.as_str(),
                format!(
                    "the queue is paused; `punctual queues show {queue}` tells why, `punctual \
                     queues resume {queue}` goes on"
                ),
            )),
            Some(
                reason @ (PendingReason::NoWorkers
                | PendingReason::ConcurrencyLimited
                | PendingReason::RateLimited
                | PendingReason::Queued),
            ) => {
                let Some(of_kind) = self.explain_one(&queue, &kind).await else {
                    return Ok(told(reason.as_str(), "ask again: it is moving".to_owned()));
                };
                let stuck = self.is_stuck(&record, &of_kind.evidence);
                let verdict = of_kind.verdict.filter(|_| stuck);
                let (told_as, since, next_step) = match verdict {
                    Some(verdict) => (verdict.as_str(), of_kind.since, of_kind.next_step),
                    None => (reason.as_str(), None, of_kind.next_step),
                };
                Ok(JobExplanation {
                    stuck: verdict.is_some(),
                    since,
                    evidence: Some(Evidence {
                        last_error: record.job.error.as_ref().map(|e| e.kind.clone()),
                        trace_id: told_of(&record).1,
                        ..of_kind.evidence
                    }),
                    ..told(told_as, next_step)
                })
            }
        }
    }

    fn is_stuck(&self, record: &Record, evidence: &Evidence) -> bool {
        let threshold = self.stuck_after(&record.spec.queue);
        // The oldest job's moment is the resume's, if that was later than its own.
        let since = evidence
            .oldest_since
            .map_or(record.job.eligible_at, |oldest| record.job.eligible_at.max(oldest));
        threshold.is_some_and(|after| evidence.at.since(since) >= after)
    }

    fn not_pending(&self, record: &Record) -> String {
        let (id, job) = (record.spec.id, &record.job);
        match job.status() {
            Status::Running => {
                let Some(lease) = job.lease() else { return String::new() };
                let now = self.now();
                let ran = now.since(lease.claimed_at).as_secs();
                let (queue, kind) = (&record.spec.queue, &record.spec.kind);
                let usual = self.experience().p99_run(queue, kind, now);
                let usual = usual.map_or(String::new(), |d| {
                    format!(" (nearly all of its kind are done within {:.1} s)", d.as_secs_f64())
                });
                format!(
                    "worker {} has held it for {ran} s{usual}; its lease ends at {} unless it \
                     sends a heartbeat; `punctual jobs cancel {id}` asks it to stop",
                    lease.worker.as_str(),
                    lease.expires_at
                )
            }
            Status::Failed => {
                let error = job.error.as_ref().map_or("", |e| e.kind.as_str());
                format!(
                    "it failed with `{error}`; `punctual jobs show {id}` has the message, `punctual \
                     jobs retry {id}` does it again"
                )
            }
            Status::Completed => format!("it is done; `punctual jobs show {id}` has the result"),
            Status::Cancelled => {
                format!("it was cancelled; `punctual jobs retry {id}` does it after all")
            }
            Status::Pending => String::new(),
        }
    }

    /// Episodes that go on, then those that ended, latest first; `open`: only the former, or only
    /// the latter.
    pub async fn episodes(
        &self,
        filter: EpisodeFilter,
        open: Option<bool>,
        limit: u32,
    ) -> Result<Vec<Episode>, Failure> {
        let limit = limit.min(EPISODES_SHOWN);
        let mut episodes = match open {
            None => self.0.store.episodes(filter, limit).await?,
            Some(true) => {
                let filter = EpisodeFilter { ended_after: Some(NEVER), ..filter };
                self.0.store.episodes(filter, limit).await?
            }
            Some(false) => self.ended_episodes(filter, limit).await?,
        };
        // What goes on is written now and then only; memory has the latest count.
        self.0.watchdog.refresh(&mut episodes);
        Ok(episodes)
    }

    /// The store tells those that go on first, so there must be room for them too.
    async fn ended_episodes(
        &self,
        filter: EpisodeFilter,
        limit: u32,
    ) -> Result<Vec<Episode>, Failure> {
        let mut room: u32 = 0;
        loop {
            let asked = limit.saturating_add(room);
            let mut episodes = self.0.store.episodes(filter.clone(), asked).await?;
            let open = episodes.iter().filter(|e| e.ended_at.is_none()).count();
            let open = u32::try_from(open).unwrap_or(u32::MAX);
            if open <= room || asked == u32::MAX {
                episodes.retain(|e| e.ended_at.is_some());
                episodes.truncate(limit as usize);
                return Ok(episodes);
            }
            room = open;
        }
    }
}

fn not_eligible(record: &Record, now: Timestamp) -> String {
    let job = &record.job;
    let left = job.eligible_at.since(now).as_secs();
    match &job.error {
        Some(error) => format!(
            "attempt {} of {} failed with `{}`; the next one may start at {} (in {left} s); \
             `punctual jobs timeline {}` has the story",
            job.attempt, job.max_attempts, error.kind, job.eligible_at, record.spec.id
        ),
        None => format!("it may start at {} (in {left} s)", job.eligible_at),
    }
}

/// The error type of the latest failed attempt, and the trace id of the submission.
pub(super) fn told_of(record: &Record) -> (Option<String>, Option<String>) {
    let trace = record.spec.traceparent.as_deref().and_then(|t| t.split('-').nth(1));
    (record.job.error.as_ref().map(|e| e.kind.clone()), trace.map(str::to_owned))
}
