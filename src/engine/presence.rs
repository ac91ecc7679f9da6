//! Who is there: workers seen by their claims, heartbeats and settlements.
//!
//! The roll is this process's memory; what is new in it is written to the store at most once per
//! worker in [`WRITE_EVERY`], so that presence survives restarts at little cost.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::domain::id::JobId;
use crate::domain::names::{Name, WorkerId};
use crate::domain::time::Timestamp;
use crate::store::Presence;

use super::{ClaimOrder, Engine};

/// The least time between two writes of one worker.
const WRITE_EVERY: Duration = Duration::from_secs(15);

/// A worker that was not seen for this long counts as silent.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(90);

/// Workers remembered; a stranger can invent ids, so there is an end to it.
const LIMIT: usize = 10_000;

#[derive(Debug)]
struct Entry {
    presence: Presence,
    written_at: Option<Timestamp>,
    /// Cancels that a claim of this worker has already carried.
    told: HashSet<JobId>,
}

#[derive(Debug, Default)]
pub(super) struct Roll(HashMap<WorkerId, Entry>);

impl Roll {
    fn saw_claim(&mut self, order: &ClaimOrder, now: Timestamp) {
        let asked = u32::try_from(order.max_jobs).unwrap_or(u32::MAX);
        if !self.0.contains_key(&order.worker) {
            self.make_room();
        }
        let entry = self.0.entry(order.worker.clone()).or_insert_with(|| Entry {
            presence: Presence {
                worker: order.worker.clone(),
                queues: Vec::new(),
                kinds: Vec::new(),
                capacity: 0,
                hostname: None,
                version: None,
                last_seen: now,
            },
            written_at: None,
            told: HashSet::new(),
        });
        let p = &mut entry.presence;
        p.last_seen = now;
        p.capacity = order.concurrency.unwrap_or(p.capacity.max(asked));
        if p.queues != order.queues || p.kinds != order.kinds {
            p.queues.clone_from(&order.queues);
            p.kinds.clone_from(&order.kinds);
            entry.written_at = None;
        }
        if order.hostname.is_some() {
            p.hostname.clone_from(&order.hostname);
        }
        if order.version.is_some() {
            p.version.clone_from(&order.version);
        }
    }

    /// Heartbeats and settlements show that a known worker is alive.
    fn saw(&mut self, worker: &WorkerId, now: Timestamp) {
        if let Some(entry) = self.0.get_mut(worker) {
            entry.presence.last_seen = now;
        }
    }

    fn forget(&mut self, worker: &WorkerId) {
        self.0.remove(worker);
    }

    /// Those of `cancels` that no claim of this worker has carried yet.
    fn untold(&mut self, worker: &WorkerId, cancels: &[JobId]) -> bool {
        let Some(entry) = self.0.get_mut(worker) else { return !cancels.is_empty() };
        let news = cancels.iter().any(|id| !entry.told.contains(id));
        entry.told = cancels.iter().copied().collect();
        news
    }

    fn due(&mut self, now: Timestamp, all: bool) -> Vec<Presence> {
        self.0
            .values_mut()
            .filter(|e| {
                let written = e.written_at.unwrap_or(Timestamp::EPOCH);
                e.presence.last_seen > written && (all || now.since(written) >= WRITE_EVERY)
            })
            .map(|e| {
                e.written_at = Some(now);
                e.presence.clone()
            })
            .collect()
    }

    /// Workers that are not silent, by the queues that they accept.
    pub(super) fn present(&self, now: Timestamp) -> HashMap<Name, u64> {
        let mut present = HashMap::new();
        for entry in self.0.values() {
            if now.since(entry.presence.last_seen) <= SILENT_AFTER {
                for queue in &entry.presence.queues {
                    *present.entry(queue.clone()).or_default() += 1;
                }
            }
        }
        present
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Presence> {
        self.0.values().map(|e| &e.presence)
    }

    /// When the roll is full, the longest unseen make room.
    fn make_room(&mut self) {
        if self.0.len() < LIMIT {
            return;
        }
        let mut seen: Vec<Timestamp> = self.0.values().map(|e| e.presence.last_seen).collect();
        let (_, median, _) = seen.select_nth_unstable(LIMIT / 10);
        let limit = *median;
        self.0.retain(|_, e| e.presence.last_seen > limit);
    }
}

impl Engine {
    pub(super) fn saw_claim(&self, order: &ClaimOrder) {
        let now = self.now();
        self.roll().saw_claim(order, now);
    }

    pub(super) fn saw_worker(&self, worker: &WorkerId) {
        let now = self.now();
        self.roll().saw(worker, now);
    }

    pub(super) fn forget_worker(&self, worker: &WorkerId) {
        self.roll().forget(worker);
    }

    pub(super) fn has_untold(&self, worker: &WorkerId, cancels: &[JobId]) -> bool {
        self.roll().untold(worker, cancels)
    }

    /// Writes whoever was seen since their last write. Losing it costs nothing but memory.
    pub(super) async fn write_presence(&self, all: bool) -> Result<String, String> {
        let now = self.now();
        let due = self.roll().due(now, all);
        let workers = due.len();
        if workers > 0 {
            self.0.store.record_presence(due, now).await.map_err(|e| e.to_string())?;
        }
        Ok(format!("{workers} workers written"))
    }

    pub(super) async fn flush_presence(&self) {
        if let Err(error) = self.write_presence(true).await {
            tracing::warn!(%error, "presence was not written; workers show again with their next claim");
        }
    }
}
