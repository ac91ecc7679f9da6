//! The leases that a worker holds, and what each of them is at.

use std::collections::BTreeMap;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::handler::{Progress, Stop};
use super::lease::LeaseClock;
use crate::wire::{LeasedJob, Settlement};

/// Names one lease for the life of the process. A job id does not: the same job may come back
/// while the work on its lost lease is still being stopped.
pub(super) type Key = u64;

#[derive(Debug)]
pub(super) struct Held {
    pub(super) job_id: String,
    pub(super) token: String,
    pub(super) clock: LeaseClock,
    pub(super) stage: Stage,
    pub(super) stop: watch::Sender<Option<Stop>>,
    pub(super) progress: Progress,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Too little of the lease may be left to start before a heartbeat has extended it.
    Unconfirmed(Box<LeasedJob>),
    Running(Work),
    /// The work is over and the server has not taken its outcome yet.
    Finished(Box<Finished>),
    /// The lease is gone, and the work has been told to stop.
    Lost(Work),
}

#[derive(Debug)]
pub(super) struct Work {
    pub(super) task: AbortHandle,
    /// The work is dropped here if it has not stopped by itself.
    pub(super) drop_at: Option<Instant>,
    /// Whether it was dropped; its end is reported soon.
    pub(super) dropped: bool,
}

impl Work {
    pub(super) fn new(task: AbortHandle) -> Self {
        Self { task, drop_at: None, dropped: false }
    }

    /// Drops the work when its time has come.
    pub(super) fn drop_when_due(&mut self, now: Instant) {
        if !self.dropped && self.drop_at.is_some_and(|at| now >= at) {
            self.task.abort();
            self.dropped = true;
        }
    }
}

#[derive(Debug)]
pub(super) struct Finished {
    pub(super) settlement: Settlement,
    pub(super) on_the_way: bool,
    pub(super) tries: u32,
    /// Whether it was refused along with others, or with a claim, and must now go alone.
    pub(super) alone: bool,
    /// Whether this is already what replaced an outcome that the server did not take.
    pub(super) replaced: bool,
}

impl Held {
    /// Whether the server may still think that this lease is ours, as far as we know.
    pub(super) fn is_ours(&self) -> bool {
        match self.stage {
            Stage::Unconfirmed(_) | Stage::Running(_) | Stage::Finished(_) => true,
            Stage::Lost(_) => false,
        }
    }

    /// Whether it takes one of the worker's places. An outcome that the server has not taken at
    /// the first try does, so that outcomes cannot pile up without bound.
    pub(super) fn takes_a_place(&self) -> bool {
        match &self.stage {
            Stage::Unconfirmed(_) | Stage::Running(_) | Stage::Lost(_) => true,
            Stage::Finished(f) => f.tries > 1 || (f.tries == 1 && !f.on_the_way),
        }
    }

    /// Tells the work to stop. A reason that leaves less time replaces an earlier one.
    pub(super) fn tell(&self, why: Stop) {
        self.stop.send_if_modified(|told| {
            let more = told.is_none_or(|old| urgency(why) > urgency(old));
            if more {
                *told = Some(why);
            }
            more
        });
    }

    pub(super) fn told(&self) -> Option<Stop> {
        *self.stop.borrow()
    }

    pub(super) fn told_of_its_end(&self) -> bool {
        matches!(self.told(), Some(Stop::LeaseEnding(_) | Stop::TimedOut(_)))
    }

    /// The next moment at which time alone changes something.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Unconfirmed(_) => Some(self.clock.confirm_by()),
            Stage::Running(work) | Stage::Lost(work) if work.dropped => None,
            Stage::Running(work) if !self.told_of_its_end() => {
                let stop_at = self.clock.stop_at();
                Some(work.drop_at.map_or(stop_at, |at| at.min(stop_at)))
            }
            Stage::Running(work) | Stage::Lost(work) => work.drop_at,
            Stage::Finished(_) => None,
        }
    }
}

fn urgency(stop: Stop) -> u8 {
    match stop {
        Stop::Cancelled => 0,
        Stop::Draining => 1,
        Stop::TimedOut(_) => 2,
        Stop::LeaseEnding(_) => 3,
        Stop::LeaseLost => 4,
    }
}

/// All leases, oldest first.
#[derive(Debug, Default)]
pub(super) struct Leases {
    map: BTreeMap<Key, Held>,
    last: Key,
}

impl Leases {
    pub(super) fn add(&mut self, held: Held) -> Key {
        self.last += 1;
        self.map.insert(self.last, held);
        self.last
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut Held> {
        self.map.get_mut(&key)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Held> {
        self.map.remove(&key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Held)> {
        self.map.iter().map(|(key, held)| (*key, held))
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.map.keys().copied().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The lease of this job that is ours; there is at most one.
    pub(super) fn key_of_job(&self, job_id: &str) -> Option<Key> {
        let of_job = |(_, held): &(Key, &Held)| held.job_id == job_id && held.is_ours();
        self.iter().find(of_job).map(|(key, _)| key)
    }

    /// For `held`: every job whose lease is ours, also while its outcome is on the way, because
    /// that may never arrive.
    pub(super) fn job_ids(&self) -> Vec<String> {
        self.map.values().filter(|h| h.is_ours()).map(|h| h.job_id.clone()).collect()
    }

    pub(super) fn places_taken(&self) -> usize {
        self.map.values().filter(|h| h.takes_a_place()).count()
    }
}
