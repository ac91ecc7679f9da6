//! The sampler: one look at the store's counts every few seconds, from which the metrics, the
//! pauses and the start rates are brought up to date.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::domain::job::Tally;
use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::domain::watch::Verdict;
use crate::store::{OpenEpisode, QueueSample, Sample};
use crate::telemetry::events::{QueueSnapshot, Snapshot};
use crate::telemetry::labels::WorkerState;

use super::flow::drain;
use super::operate::oldest_age;
use super::presence::{Crew, Leases};
use super::tasks::StepResult;
use super::{Engine, WallClock, lock};

/// The latest sample, for whoever needs to know roughly how things are.
#[derive(Debug)]
pub(super) struct Latest {
    pub(super) at: Timestamp,
    pub(super) sample: Sample,
    pub(super) leases: Arc<Leases>,
    /// By queue: jobs that its workers run at once, as far as its limit lets them.
    slots: HashMap<Name, u64>,
}

impl Latest {
    /// Jobs of the queue that run at once when there are enough.
    pub(super) fn slots(&self, queue: &Name) -> u64 {
        self.slots.get(queue).copied().unwrap_or(0)
    }

    /// Whether as many jobs of the queue ran as its limit allows.
    pub(super) fn is_at_limit(&self, queue: &Name) -> bool {
        self.sample.queues.iter().find(|q| q.state.name == *queue).is_some_and(at_limit)
    }
}

fn running(q: &QueueSample) -> u64 {
    q.tallies[Tally::Running.code() as usize]
}

fn at_limit(q: &QueueSample) -> bool {
    q.state.max_running.is_some_and(|max| running(q) >= u64::from(max))
}

fn slots(q: &QueueSnapshot) -> u64 {
    let told = q.slots[WorkerState::Idle as usize] + q.slots[WorkerState::Busy as usize];
    // Whoever says nothing of it and claims one by one runs more than that.
    let present = told.max(q.tallies[Tally::Running.code() as usize]);
    q.max_running.map_or(present, |max| present.min(u64::from(max)))
}

/// Jobs that wait for a worker and not for a time.
pub(super) fn depth(q: &QueueSample) -> u64 {
    let of = |tally: Tally| q.tallies[tally.code() as usize];
    of(Tally::Queued) + q.due.min(of(Tally::Scheduled) + of(Tally::Backoff))
}

impl Engine {
    pub(super) fn latest(&self) -> Option<Arc<Latest>> {
        lock(&self.0.latest).clone()
    }

    #[expect(clippy::disallowed_methods, reason = "times the sample")]
    pub async fn sample(&self) -> StepResult {
        let began = Instant::now();
        let now = self.now();
        let turn = self.0.pauses.turn();
        let rules = self.0.rules.now();
        let sample = self.0.store.sample(now).await.map_err(|e| {
            self.0.events.sample_failed();
            e.to_string()
        })?;
        self.0.pauses.sampled(turn, sample.queues.iter().map(|q| &q.state));
        self.settings_sampled(&rules, sample.queues.iter().map(|q| &q.state));
        let lined = sample.queues.iter().filter(|q| depth(q) > 0 && q.state.paused_at.is_none());
        let lined = lined.map(|q| (&q.state.name, running(q) > 0)).collect();
        self.0.flow.tick(&lined, now);
        let leases: Arc<Leases> = Arc::new(sample.leases.iter().cloned().collect());
        let snapshot = self.snapshot(&sample, &leases, now);
        let text = format!("{} queues sampled", snapshot.queues.len());
        let slots = snapshot.queues.iter().map(|q| (q.queue.clone(), slots(q))).collect();
        *lock(&self.0.latest) = Some(Arc::new(Latest { at: now, sample, leases, slots }));
        // By the wall clock, which is what whoever scrapes compares it with.
        self.0.events.sampled(snapshot, began.elapsed(), WallClock::wall());
        Ok(text)
    }

    fn snapshot(&self, sample: &Sample, leases: &Leases, now: Timestamp) -> Snapshot {
        let crews = self.roll().crews(leases, now);
        let mut episodes: HashMap<&Name, Vec<&OpenEpisode>> = HashMap::new();
        for episode in &sample.episodes {
            episodes.entry(&episode.queue).or_default().push(episode);
        }
        let queues = sample.queues.iter().map(|q| {
            let name = &q.state.name;
            let mut stuck = [0; Verdict::ALL.len()];
            let mut no_workers = 0;
            for episode in episodes.get(name).into_iter().flatten() {
                stuck[episode.verdict as usize] += episode.jobs;
                if episode.verdict.means_no_workers() {
                    no_workers += episode.queued;
                }
            }
            let crew = crews.get(name).copied().unwrap_or_default();
            let Crew { workers, slots } = crew;
            QueueSnapshot {
                queue: name.clone(),
                tallies: q.tallies,
                due: q.due,
                paused: q.state.paused_at.is_some(),
                oldest_pending_age: oldest_age(q, now),
                oldest_running_age: q.oldest_lease.map(|at| now.since(at)),
                stuck,
                no_workers,
                at_limit: at_limit(q),
                rate_limited: self.0.rates.is_spent(name),
                stuck_after: self.stuck_after(name),
                run_threshold: self.run_threshold(q),
                drain_estimate: drain(depth(q), self.line_rate(name)),
                max_running: q.state.max_running,
                max_depth: q.state.max_depth,
                workers,
                slots,
            }
        });
        Snapshot {
            queues: queues.collect(),
            names: sample.names,
            size_bytes: sample.size_bytes,
            free_bytes: sample.free_bytes,
        }
    }

    /// An age of the oldest running job beyond this is suspicious, if nothing ends.
    fn run_threshold(&self, q: &QueueSample) -> Duration {
        let name = &q.state.name;
        let of_running = q.running_kinds.iter().map(|kind| self.run_limit(name, kind)).max();
        of_running.unwrap_or_else(|| {
            let stuck_after = self.stuck_after(name);
            self.defaults(name.as_str()).timeout.max(stuck_after.unwrap_or_default())
        })
    }
}
