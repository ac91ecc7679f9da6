//! What operators see and do: queues and workers.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::domain::job::Tally;
use crate::domain::names::{Name, WorkerId};
use crate::domain::time::Timestamp;
use crate::store::QueueSample;

use super::{Engine, Failure, QueueView, WorkerView};

impl Engine {
    /// Every queue that was ever used, by name.
    pub async fn queues(&self) -> Result<Vec<QueueView>, Failure> {
        let now = self.now();
        let sample = self.0.store.sample(now).await?;
        let present = self.roll().present(now);
        let mut queues: Vec<QueueView> =
            sample.queues.into_iter().map(|q| view(q, &present, now)).collect();
        queues.sort_by(|a, b| a.state.name.cmp(&b.state.name));
        Ok(queues)
    }

    pub async fn queue(&self, name: &Name) -> Result<QueueView, Failure> {
        let now = self.now();
        let sample = self.0.store.sample(now).await?;
        let queue = sample.queues.into_iter().find(|q| q.state.name == *name);
        let queue = queue.ok_or(Failure::NoSuchQueue)?;
        let present = self.roll().present(now);
        Ok(view(queue, &present, now))
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
        let mut workers: BTreeMap<WorkerId, WorkerView> = self
            .0
            .store
            .workers()
            .await?
            .into_iter()
            .map(|(presence, leases)| (presence.worker.clone(), WorkerView { presence, leases }))
            .collect();
        // This process's memory is newer than what it has written.
        for presence in self.roll().all() {
            let leases = workers.get(&presence.worker).map_or(0, |w| w.leases);
            let view = WorkerView { presence: presence.clone(), leases };
            workers.insert(presence.worker.clone(), view);
        }
        Ok(workers.into_values().collect())
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

fn view(q: QueueSample, present: &HashMap<Name, u64>, now: Timestamp) -> QueueView {
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
        workers: present.get(&q.state.name).copied().unwrap_or(0),
        state: q.state,
    }
}
