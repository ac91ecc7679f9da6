//! What operators see and do: queues and workers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::domain::job::Tally;
use crate::domain::names::{Name, WorkerId};
use crate::domain::time::Timestamp;
use crate::store::{Presence, QueueSample, Sample};

use super::flow::drain;
use super::presence::Crew;
use super::rules::after;
use super::sampler::depth;
use super::{Engine, Failure, QueueView, WorkerView};

/// Workers in one answer; of more, those seen last.
pub const WORKERS_SHOWN: usize = 10_000;

impl Engine {
    /// Every queue that was ever used, by name.
    pub async fn queues(&self) -> Result<Vec<QueueView>, Failure> {
        let now = self.now();
        let sample = self.0.store.sample(now).await?;
        let mut queues = self.views(sample, now);
        queues.sort_by(|a, b| a.state.name.cmp(&b.state.name));
        Ok(queues)
    }

    pub async fn queue(&self, name: &Name) -> Result<QueueView, Failure> {
        let now = self.now();
        let sample = self.0.store.sample(now).await?;
        self.views(sample, now)
            .into_iter()
            .find(|q| q.state.name == *name)
            .ok_or(Failure::NoSuchQueue)
    }

    fn views(&self, sample: Sample, now: Timestamp) -> Vec<QueueView> {
        let leases = sample.leases.into_iter().collect();
        let crews = self.roll().crews(&leases, now);
        let mut stuck: HashMap<Name, u64> = HashMap::new();
        for episode in sample.episodes {
            *stuck.entry(episode.queue).or_default() += episode.jobs;
        }
        let view = |q: QueueSample| {
            let crew = crews.get(&q.state.name).copied().unwrap_or_default();
            let paused = q.state.paused_at.is_some();
            let stuck = stuck.get(&q.state.name).copied().filter(|_| !paused);
            self.queue_view(q, crew, stuck.unwrap_or(0), now)
        };
        sample.queues.into_iter().map(view).collect()
    }

    fn queue_view(&self, q: QueueSample, crew: Crew, stuck: u64, now: Timestamp) -> QueueView {
        let count = |tally: Tally| q.tallies[tally.code() as usize];
        let waiting = count(Tally::Scheduled) + count(Tally::Backoff);
        // Due jobs count as eligible; which of the two they came from is not worth a seek.
        let due = q.due.min(waiting);
        let from_backoff = due.min(count(Tally::Backoff));
        let name = &q.state.name;
        let ended = self.0.finishes.told(name, now);
        QueueView {
            eligible: depth(&q),
            scheduled: count(Tally::Scheduled) - (due - from_backoff),
            retry_backoff: count(Tally::Backoff) - from_backoff,
            running: count(Tally::Running),
            oldest_pending_age: oldest_age(&q, now).unwrap_or_default(),
            workers: crew.present(),
            slots: crew.slots_present(),
            stuck,
            start_rate: self.0.flow.rate(name),
            finish_rate: ended.rate,
            failure_ratio: ended.failure_ratio,
            drain_estimate: drain(depth(&q), self.line_rate(name)),
            stuck_after: self.stuck_after(name),
            start_rate_limit: self.0.rates.limit(name),
            jobs: self.defaults(name.as_str()),
            require_key: self.requires_key(name),
            state: q.state,
        }
    }

    /// Claims of the queue find nothing until it is resumed; submissions go on, and so does what
    /// already runs. Idempotent; a queue that was never used can be paused too.
    pub async fn pause(
        &self,
        name: &Name,
        reason: Option<String>,
        until: Option<Timestamp>,
    ) -> Result<QueueView, Failure> {
        let (engine, queue) = (self.clone(), name.clone());
        self.outlive(async move {
            let paused = engine.0.store.pause(queue.clone(), reason, until, engine.now()).await?;
            let state = after(&queue, paused)?;
            engine.0.pauses.changed(&state);
            tracing::info!(%queue, reason = state.paused_reason, "queue paused");
            Ok(())
        })
        .await?;
        self.queue(name).await
    }

    pub async fn resume(&self, name: &Name) -> Result<QueueView, Failure> {
        let (engine, queue) = (self.clone(), name.clone());
        self.outlive(async move {
            let resumed = engine.0.store.resume(queue.clone(), engine.now()).await?;
            let state = after(&queue, resumed)?;
            engine.0.pauses.changed(&state);
            tracing::info!(%queue, "queue resumed");
            engine.0.claims.wake(&queue, None, u64::MAX);
            Ok(())
        })
        .await?;
        self.queue(name).await
    }

    /// Workers seen within a day, by id: at most 10 000, those seen last.
    pub async fn workers(&self) -> Result<Vec<WorkerView>, Failure> {
        let mut workers: BTreeMap<WorkerId, WorkerView> = self
            .0
            .store
            .workers()
            .await?
            .into_iter()
            .map(|(presence, leases)| (presence.worker.clone(), WorkerView { presence, leases }))
            .collect();
        // This process's memory is newer than what it has written.
        let remembered: Vec<Presence> = self.roll().all().cloned().collect();
        for presence in remembered {
            let leases = workers.get(&presence.worker).map_or(0, |w| w.leases);
            workers.insert(presence.worker.clone(), WorkerView { presence, leases });
        }
        Ok(seen_last(workers.into_values().collect(), WORKERS_SHOWN))
    }

    pub async fn worker(&self, worker: &WorkerId) -> Result<WorkerView, Failure> {
        let workers = self.workers().await?;
        let view = workers.into_iter().find(|view| view.presence.worker == *worker);
        view.ok_or(Failure::NoSuchWorker)
    }
}

/// The `limit` workers seen last, in the order that they came in: by id.
fn seen_last(mut workers: Vec<WorkerView>, limit: usize) -> Vec<WorkerView> {
    if workers.len() > limit {
        workers.sort_by_key(|w| Reverse(w.presence.last_seen));
        workers.truncate(limit);
        workers.sort_by(|a, b| a.presence.worker.cmp(&b.presence.worker));
    }
    workers
}

/// Time since eligibility, or since the queue's last resume; `None` when nothing waits or the
/// queue is paused.
pub(super) fn oldest_age(q: &QueueSample, now: Timestamp) -> Option<Duration> {
    if q.state.paused_at.is_some() {
        return None;
    }
    let since = q.oldest_eligible?;
    Some(now.since(q.state.resumed_at.map_or(since, |r| r.max(since))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::directive::Directive;

    #[test]
    fn of_too_many_workers_those_seen_last_are_shown() {
        let seen = |worker: &str, at: i64| WorkerView {
            presence: Presence {
                worker: WorkerId::trusted(worker),
                namespace: None,
                queues: Vec::new(),
                kinds: Vec::new(),
                capacity: 1,
                hostname: None,
                version: None,
                directive: Directive::Continue,
                last_seen: Timestamp::from_millis(at),
                last_claim: None,
                last_heartbeat: None,
                last_settlement: None,
            },
            leases: 0,
        };
        let shown = |limit| {
            let workers = vec![seen("a", 9), seen("b", 2), seen("c", 5), seen("d", 4)];
            let ids = seen_last(workers, limit).into_iter();
            ids.map(|w| w.presence.worker.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(shown(4), ["a", "b", "c", "d"]);
        assert_eq!(shown(3), ["a", "c", "d"]);
        assert_eq!(shown(2), ["a", "c"]);
    }
}
