//! What operators see and do: queues and workers.

use std::time::Duration;

use crate::domain::job::Tally;
use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::store::QueueSample;

use super::{Engine, Failure, QueueView, WorkerView};

impl Engine {
    /// Every queue that was ever used, by name.
    pub async fn queues(&self) -> Result<Vec<QueueView>, Failure> {
        let now = self.now();
        let sample = self.0.store.sample(now).await?;
        let mut queues: Vec<QueueView> =
            sample.queues.into_iter().map(|q| self.queue_view(q, now)).collect();
        queues.sort_by(|a, b| a.state.name.cmp(&b.state.name));
        Ok(queues)
    }

    pub async fn queue(&self, name: &Name) -> Result<QueueView, Failure> {
        let queues = self.queues().await?;
        queues.into_iter().find(|q| q.state.name == *name).ok_or(Failure::NoSuchQueue)
    }

    fn queue_view(&self, q: QueueSample, now: Timestamp) -> QueueView {
        let count = |tally: Tally| q.tallies[tally.code() as usize];
        let waiting = count(Tally::Scheduled) + count(Tally::Backoff);
        // Due jobs count as eligible; which of the two they came from is not worth a seek.
        let due = q.due.min(waiting);
        let from_backoff = due.min(count(Tally::Backoff));
        QueueView {
            eligible: count(Tally::Queued) + due,
            scheduled: count(Tally::Scheduled) - (due - from_backoff),
            retry_backoff: count(Tally::Backoff) - from_backoff,
            running: count(Tally::Running),
            oldest_pending_age: oldest_age(&q, now).unwrap_or_default(),
            workers: self.roll().present(&q.state.name, now),
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
        let state = self.0.store.pause(name.clone(), reason, until, self.now()).await?;
        self.0.pauses.changed(&state);
        tracing::info!(queue = %name, reason = state.paused_reason, "queue paused");
        self.queue(name).await
    }

    pub async fn resume(&self, name: &Name) -> Result<QueueView, Failure> {
        let state = self.0.store.resume(name.clone(), self.now()).await?;
        self.0.pauses.changed(&state);
        tracing::info!(queue = %name, "queue resumed");
        self.0.claims.wake(name, None, u64::MAX);
        self.queue(name).await
    }

    /// Workers seen within a day, by id.
    pub async fn workers(&self) -> Result<Vec<WorkerView>, Failure> {
        let mut workers: Vec<WorkerView> = Vec::new();
        for (stored, leases) in self.0.store.workers().await? {
            // This process's memory is newer than what it has written.
            let presence = self.roll().get(&stored.worker).cloned().unwrap_or(stored);
            workers.push(WorkerView { presence, leases });
        }
        for presence in self.roll().all() {
            if !workers.iter().any(|w| w.presence.worker == presence.worker) {
                workers.push(WorkerView { presence: presence.clone(), leases: 0 });
            }
        }
        workers.sort_by(|a, b| a.presence.worker.cmp(&b.presence.worker));
        Ok(workers)
    }
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
