//! The three kinds of request that a worker makes, as data: who is on the way, when the next may
//! go, and what came back.

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::held::Key;
use super::{WorkerConfig, lease};
use crate::client::{Backoff, ClientError};
use crate::wire::{Claim, Claimed, HeartbeatsAnswer, ProgressReport, SettlementsAnswer};

/// The most outcomes in one settlement, and roughly the most bytes; a single larger one goes
/// alone.
pub(super) const BATCH_ITEMS: usize = 1000;
pub(super) const BATCH_BYTES: usize = 4 * 1024 * 1024;
const CLAIM_JOBS: usize = 100;

/// What a finished request reports.
#[derive(Debug)]
pub(super) enum Reply {
    Claim {
        sent: Instant,
        answer: Result<Claimed, ClientError>,
    },
    Settle {
        sent: Instant,
        keys: Vec<Key>,
        with_claim: bool,
        answer: Result<SettlementsAnswer, ClientError>,
    },
    Beat {
        sent: Instant,
        sent_progress: Vec<(Key, Option<ProgressReport>)>,
        answer: Result<HeartbeatsAnswer, ClientError>,
    },
}

/// One kind of request: at most one on the way, and not before `not_before`.
#[derive(Debug)]
pub(super) struct Lane {
    what: &'static str,
    on_the_way: Option<AbortHandle>,
    not_before: Instant,
    backoff: Backoff,
    failures: u32,
}

impl Lane {
    pub(super) fn new(what: &'static str, longest_delay: std::time::Duration) -> Self {
        Self {
            what,
            on_the_way: None,
            not_before: Instant::now(),
            backoff: Backoff::new(longest_delay),
            failures: 0,
        }
    }

    pub(super) fn is_free(&self, now: Instant) -> bool {
        self.on_the_way.is_none() && now >= self.not_before
    }

    pub(super) fn is_busy(&self) -> bool {
        self.on_the_way.is_some()
    }

    /// Whether one request travels in both lanes.
    pub(super) fn shares_with(&self, other: &Self) -> bool {
        let id = |lane: &Self| lane.on_the_way.as_ref().map(AbortHandle::id);
        id(self).is_some() && id(self) == id(other)
    }

    /// When the lane opens; `None` while a request is on the way, which wakes by itself.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        self.on_the_way.is_none().then_some(self.not_before)
    }

    pub(super) fn occupy(&mut self, task: AbortHandle) {
        self.on_the_way = Some(task);
    }

    pub(super) fn clear(&mut self) {
        self.on_the_way = None;
    }

    pub(super) fn abort(&mut self) {
        if let Some(task) = self.on_the_way.take() {
            task.abort();
        }
    }

    pub(super) fn went_well(&mut self) {
        if self.failures > 0 {
            tracing::info!("{} work again after {} failed tries", self.what, self.failures);
        }
        self.failures = 0;
        self.backoff.reset();
        self.not_before = Instant::now();
    }

    pub(super) fn pause(&mut self, span: std::time::Duration) {
        self.not_before = Instant::now() + span;
    }

    /// Told once for a row of failures: an outage is one event.
    pub(super) fn failed(&mut self, why: &str, retry_after: Option<std::time::Duration>) {
        let delay = self.backoff.delay(retry_after);
        self.not_before = Instant::now() + delay;
        self.failures += 1;
        if self.failures == 1 {
            tracing::warn!("{} fail, and will be tried until they work: {why}", self.what);
        } else {
            tracing::debug!("{} failed {} times: {why}", self.what, self.failures);
        }
    }
}

/// The claim for `free` places. It is parked unless it travels with outcomes, whose answer must
/// not wait.
pub(super) fn claim(
    config: &WorkerConfig,
    free: usize,
    shortest_lease: Option<std::time::Duration>,
    parked: bool,
    held: Vec<String>,
) -> Claim {
    let park = if parked { lease::park(shortest_lease).as_secs_f64() } else { 0.0 };
    Claim {
        worker_id: config.worker_id.clone(),
        queues: config.queues.clone(),
        kinds: config.kinds.clone(),
        max_jobs: Some(free.min(CLAIM_JOBS) as u32),
        lease_seconds: config.lease.map(|l| l.as_secs_f64()),
        wait_seconds: Some(park),
        hostname: config.hostname.clone(),
        version: config.version.clone(),
        concurrency: Some(config.concurrency),
        held: Some(held),
    }
}
