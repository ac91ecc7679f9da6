//! Who is there: workers seen by their claims, heartbeats and settlements.
//!
//! The roll is this process's memory. It begins with what the store remembers, and what is new in
//! it is written to the store, seldom enough that presence survives restarts at little cost.
//!
//! A worker is its id. Should workers of two namespaces share one, they are one entry here: what each
//! asks for and is told stays apart, when they were last seen does not.

mod roll;

use crate::domain::access::Lists;
use crate::domain::directive::Directive;
use crate::domain::id::JobId;
use crate::domain::names::{Name, WorkerId};
use crate::domain::time::Timestamp;
use crate::store::{Claimed, Leased, Transition};

pub(super) use roll::{Crew, Leases, Roll, Sign};

use super::{ClaimOrder, Engine, Failure, WorkerView};

/// Workers written in one commit.
const STEP: usize = 500;

impl Engine {
    pub(super) fn saw_claim(&self, order: &ClaimOrder) {
        // Whoever works for the server itself is no worker.
        if order.queues.iter().all(Name::is_reserved) {
            return;
        }
        let now = self.now();
        self.roll().saw_claim(order, now);
    }

    pub(super) fn saw_worker(&self, worker: &WorkerId, sign: Sign) {
        let now = self.now();
        self.roll().saw(worker, sign, now);
    }

    /// `scope` is that of whoever spoke for the holder.
    pub(super) fn saw_holder(
        &self,
        worker: &WorkerId,
        scope: Option<&Name>,
        sign: Sign,
        t: &Transition,
    ) {
        if t.queue.is_reserved() {
            return;
        }
        let now = self.now();
        self.roll().saw_holder(worker, scope, sign, t, now);
    }

    pub(super) fn missed_worker(&self, worker: &WorkerId) {
        self.roll().missed(worker);
    }

    pub(super) fn found_nothing(&self, order: &ClaimOrder, claimed: &Claimed) {
        let now = self.now();
        self.roll().found_nothing(order, claimed, now);
        for queue in &order.queues {
            // If it is the pace that stands in the way: whoever stays parked is woken in time.
            self.may_start(queue);
        }
    }

    /// These jobs were handed out.
    pub(super) fn saw_starts(&self, jobs: &[Leased], now: Timestamp) {
        let mut roll = self.roll();
        for leased in jobs {
            if let Some(lease) = leased.job.lease() {
                roll.started(&lease.worker, &leased.spec, &leased.job, now);
            }
        }
    }

    /// Reads what the store remembers, once.
    pub async fn remember_workers(&self) -> Result<(), String> {
        if !self.roll().seeded {
            let workers = self.0.store.workers().await.map_err(|e| e.to_string())?;
            self.roll().seed(workers.into_iter().map(|(presence, _)| presence).collect());
        }
        Ok(())
    }

    /// What the worker is told on each of its answers.
    pub fn directive(&self, worker: &WorkerId) -> Directive {
        self.roll().directive(worker)
    }

    pub(super) fn stays_on(&self, worker: &WorkerId) -> bool {
        self.roll().stays_on(worker)
    }

    pub(super) fn leaves(&self, worker: &WorkerId) -> bool {
        self.directive(worker) == Directive::Drain
    }

    /// Asks the worker to leave: it gets no more jobs, its parked claims answer at once, and every
    /// answer tells it so until it says goodbye or is forgotten. Idempotent.
    pub async fn drain_worker(&self, worker: &WorkerId) -> Result<WorkerView, Failure> {
        let (engine, id) = (self.clone(), worker.clone());
        self.outlive(async move {
            if !engine.roll().seeded {
                let known = engine.0.store.workers().await?;
                engine.roll().seed(known.into_iter().map(|(presence, _)| presence).collect());
            }
            let known = engine.directive(&id);
            let presence = engine.roll().drain(&id).ok_or(Failure::NoSuchWorker)?;
            // Whoever parks from here on sees it; whoever is parked looks again.
            engine.0.claims.wake_all_of(&id);
            engine.0.store.record_presence(vec![presence], engine.now()).await?;
            if known == Directive::Continue {
                tracing::info!(worker = %id, "worker is asked to leave");
            }
            Ok(())
        })
        .await?;
        self.worker(worker).await
    }

    pub(super) fn forget_worker(&self, worker: &WorkerId, scope: Option<&Name>, lists: &Lists) {
        self.roll().forget(worker, scope, lists);
    }

    pub(super) fn has_untold(&self, order: &ClaimOrder, cancels: &[JobId]) -> bool {
        self.roll().untold(order, cancels)
    }

    /// Writes whoever was seen since their last write. Losing it costs nothing but memory.
    pub(super) async fn write_presence(&self, all: bool) -> Result<String, String> {
        self.remember_workers().await?;
        let now = self.now();
        self.roll().forget_unseen(now);
        let due = self.roll().due(now, all);
        let workers = due.len();
        for step in due.chunks(STEP) {
            let written = self.0.store.record_presence(step.to_vec(), now).await;
            written.map_err(|e| e.to_string())?;
        }
        Ok(format!("{workers} workers written"))
    }

    pub(super) async fn flush_presence(&self) {
        if let Err(error) = self.write_presence(true).await {
            tracing::warn!(%error, "presence was not written; workers show again with their next claim");
        }
    }
}
