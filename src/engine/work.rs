//! What workers do: claim, heartbeat, settle, say goodbye.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::domain::id::JobId;
use crate::domain::job::{JobError, Status};
use crate::domain::lease::LeaseToken;
use crate::domain::names::{Name, WorkerId};
use crate::domain::time::Timestamp;
use crate::store::{
    Absence, Beat, ClaimRequest, Claimed, Found, Leased, Outcome, Refusal, Result as StoreResult,
    Ruling, Settle, StoreError, Transition,
};
use crate::telemetry::labels::{ClaimOutcome, HeartbeatOutcome};

use super::outlive::{PATIENCE, out_of_patience};
use super::parked::Ticket;
use super::presence::Sign;
use super::{
    BeatOrder, Beaten, Caller, ClaimOrder, Engine, Failure, Grant, MAX_CLAIM, MAX_WAIT,
    ReportOrder, SettleOrder, Settled,
};

/// How long a claim is kept at most of a worker that was told to leave before.
const KEPT_WHO_STAYS: Duration = Duration::from_secs(1);

impl Engine {
    /// Leases what there is, or stays parked until there is something, a lease of this worker is
    /// to be cancelled, it is asked to leave, `wait` has passed, or the server drains.
    pub async fn claim(&self, caller: &Caller, order: ClaimOrder) -> Result<Grant, Failure> {
        let order = ClaimOrder { namespace: caller.scope(), lists: caller.lists.clone(), ..order };
        if self.is_draining() {
            return Err(Failure::Draining);
        }
        self.saw_claim(&order);
        let received_at = self.now();
        let ticket = self.park(&order, received_at);
        let claimed = self.lease(self.request(&order, order.held.clone(), received_at)).await?;
        let told = self.has_untold(&order, &claimed.cancel);
        if claimed.jobs.is_empty() {
            self.found_nothing(&order, &claimed);
        }
        match ticket {
            Some(ticket) if claimed.jobs.is_empty() && !told && !self.leaves(&order.worker) => {
                self.wait_for_work(&order, ticket, received_at).await
            }
            Some(_) | None => {
                self.keep_who_stays(&order, claimed.jobs.is_empty() && !told).await;
                Ok(self.grant(&order, claimed))
            }
        }
    }

    /// Whoever was told to leave and claims all the same is answered a moment later: a worker that
    /// does not understand must not ask as fast as it can. `idle`: there is no news for it.
    async fn keep_who_stays(&self, order: &ClaimOrder, idle: bool) {
        if !self.stays_on(&order.worker) || !idle {
            return;
        }
        let mut draining = self.0.draining.subscribe();
        tokio::select! {
            () = tokio::time::sleep(order.wait.min(KEPT_WHO_STAYS)) => {}
            _ = draining.wait_for(|draining| *draining) => {}
        }
    }

    fn park(&self, order: &ClaimOrder, received_at: Timestamp) -> Option<Ticket<'_>> {
        let engine = self.clone();
        (!order.wait.is_zero()).then(|| {
            let give_back = move |claimed: Claimed| engine.withdraw_unreceived(&claimed.jobs);
            self.0.claims.park(order, received_at, give_back)
        })
    }

    async fn wait_for_work(
        &self,
        order: &ClaimOrder,
        ticket: Ticket<'_>,
        received_at: Timestamp,
    ) -> Result<Grant, Failure> {
        let mut draining = self.0.draining.subscribe();
        let end = tokio::time::sleep(order.wait.min(MAX_WAIT));
        tokio::pin!(end);
        loop {
            if *draining.borrow_and_update() {
                return Ok(self.grant(order, Claimed::default()));
            }
            let (mut last, mut stop) = (false, false);
            ticket.waits();
            tokio::select! {
                () = ticket.woken() => {}
                () = tokio::time::sleep(self.0.settings.poll_fallback) => {}
                () = &mut end => last = true,
                _ = draining.changed() => stop = true,
            }
            if let Some(claimed) = ticket.delivery().await {
                self.has_untold(order, &claimed.cancel);
                return Ok(self.grant(order, claimed));
            }
            if stop || self.leaves(&order.worker) {
                return Ok(self.grant(order, Claimed::default()));
            }
            ticket.about_to_look();
            // A parked worker is there, for all that it says nothing.
            self.saw_worker(&order.worker, Sign::Claim);
            let claimed = self.lease(self.request(order, None, received_at)).await?;
            let told = self.has_untold(order, &claimed.cancel);
            if claimed.jobs.is_empty() {
                self.found_nothing(order, &claimed);
            }
            if last || told || !claimed.jobs.is_empty() || self.leaves(&order.worker) {
                return Ok(self.grant(order, claimed));
            }
        }
    }

    pub(super) fn request(
        &self,
        order: &ClaimOrder,
        held: Option<Vec<JobId>>,
        received_at: Timestamp,
    ) -> ClaimRequest {
        // Who leaves gets no jobs, and hears of cancels all the same.
        let most = if self.leaves(&order.worker) { 0 } else { order.max_jobs.clamp(1, MAX_CLAIM) };
        ClaimRequest {
            worker: order.worker.clone(),
            namespace: order.namespace.clone(),
            lists: order.lists.clone(),
            queues: order.queues.clone(),
            kinds: order.kinds.clone(),
            tokens: self.0.entropy.tokens(most),
            lease: order.lease,
            default_leases: order.queues.iter().map(|q| self.defaults(q.as_str()).lease).collect(),
            max_bytes: self.0.settings.claim_bytes,
            held,
            received_at,
            stamp: self.stamp(order.trace),
            pace: self.0.rates.pace(),
        }
    }

    /// Counts a claim's answer, once for each queue that it named.
    fn grant(&self, order: &ClaimOrder, claimed: Claimed) -> Grant {
        for (at, queue) in order.queues.iter().enumerate() {
            let outcome = if claimed.jobs.iter().any(|l| l.spec.queue == *queue) {
                ClaimOutcome::Leased
            } else if claimed.paused.get(at) == Some(&true) {
                ClaimOutcome::Paused
            } else if claimed.limited.get(at) == Some(&true) {
                ClaimOutcome::Limited
            } else {
                ClaimOutcome::Empty
            };
            self.0.events.claim_request(queue, outcome);
        }
        let directive = self.directive(&order.worker);
        Grant { jobs: claimed.jobs, cancel: claimed.cancel, directive, now: self.now() }
    }

    /// Claims in a task of its own, so that a caller who leaves in the middle cannot leave leases
    /// behind that nobody received.
    async fn lease(&self, request: ClaimRequest) -> Result<Claimed, Failure> {
        let queues = request.queues.clone();
        let engine = self.clone();
        let now = self.now();
        let claimed = self
            .hand_over(async move { engine.0.store.claim(request, now).await }, |c| Some(c))
            .await;
        claimed.map_err(|error| {
            for queue in &queues {
                self.0.events.claim_request(queue, ClaimOutcome::Error);
            }
            Failure::from(error)
        })
    }

    async fn hand_over<T: Send + 'static>(
        &self,
        verb: impl Future<Output = StoreResult<T>> + Send + 'static,
        leases: impl Fn(&T) -> Option<&Claimed> + Copy + Send + 'static,
    ) -> StoreResult<T> {
        let (give, take) = oneshot::channel();
        let engine = self.clone();
        tokio::spawn(async move {
            let outcome = verb.await;
            if let Some(claimed) = outcome.as_ref().ok().and_then(leases) {
                engine.after_claim(claimed);
            }
            let parcel = Parcel { outcome: Some(outcome), engine: engine.clone(), leases };
            // If nobody is there to take it, dropping it gives the leases back.
            drop(give.send(parcel));
        });
        let parcel = tokio::time::timeout(PATIENCE, take).await.map_err(|_| out_of_patience())?;
        let mut parcel = parcel.map_err(|_| StoreError::Closed)?;
        parcel.outcome.take().unwrap_or(Err(StoreError::Closed))
    }

    /// Extends leases. The outer failure means that nothing was extended and the worker must try
    /// again: an outage of ours is never told as a lost lease.
    pub async fn heartbeat(
        &self,
        caller: &Caller,
        worker: Option<WorkerId>,
        beats: Vec<BeatOrder>,
    ) -> Result<Vec<Result<Beaten, Failure>>, Failure> {
        if let Some(worker) = &worker {
            self.saw_worker(worker, Sign::Heartbeat);
        }
        let ids: Vec<JobId> = beats.iter().map(|b| b.id).collect();
        let known: Vec<bool> = ids.iter().map(|id| self.may_hold(caller, *id)).collect();
        let beats = beats
            .into_iter()
            .zip(&known)
            .filter_map(|(beat, known)| known.then_some(beat))
            .map(|b| Beat {
                id: b.id,
                token: b.token.hash(),
                extend: b.extend,
                progress: b.progress,
                checkpoint: b.checkpoint,
            })
            .collect();
        let engine = self.clone();
        let caller = caller.clone();
        self.outlive(async move {
            let rulings = engine.0.store.heartbeat(beats, engine.now()).await?;
            let mut answers = Vec::with_capacity(ids.len());
            for (id, ruling) in ids.into_iter().zip(in_place(&known, rulings)) {
                answers.push(match engine.overtaken(id, &ruling).await {
                    Some(failure) => Err(failure),
                    None => engine.beaten(&caller, id, ruling),
                });
            }
            Ok(answers)
        })
        .await
    }

    fn beaten(&self, caller: &Caller, id: JobId, ruling: Ruling) -> Result<Beaten, Failure> {
        let t = ruling.map_err(|refusal| self.refused(caller, id, refusal, true))?;
        self.0.events.heartbeat(&t.queue, HeartbeatOutcome::Extended);
        self.after(&t);
        let Some(lease) = t.job.lease() else { return Err(Failure::NoSuchJob) };
        self.saw_holder(&lease.worker, caller.scope().as_ref(), Sign::Heartbeat, &t);
        Ok(Beaten {
            expires_at: lease.expires_at,
            timeout_at: lease.timeout_at,
            cancel_requested: t.job.cancel.is_some(),
            directive: self.directive(&lease.worker),
            cancel_reason: t.job.cancel.and_then(|c| c.reason),
        })
    }

    fn refused(&self, caller: &Caller, id: JobId, refusal: Refusal, beat: bool) -> Failure {
        let rejected = match refusal {
            Refusal::Rejected(rejected) => rejected,
            // As for whoever asks for the job: it is gone, unless the id is none of ours.
            Refusal::Absent(why) => {
                return self.verify(caller, id).err().unwrap_or_else(|| self.absent(id, why));
            }
        };
        tracing::info!(job_id = %id, reason = rejected.code(), "late report rejected");
        let engine = self.clone();
        // A refusal does not name the queue that it counts for. It is looked up aside: whoever
        // has leases in hand must not wait here, lest he leave and they be lost with him.
        tokio::spawn(async move {
            let queue = match engine.0.store.get(id, false).await {
                Ok(Found::Here(record)) => Some(record.spec.queue),
                Ok(Found::Absent(_)) | Err(_) => None,
            };
            engine.0.events.late_report(queue.as_ref(), rejected);
            if let (Some(queue), true) = (&queue, beat) {
                engine.0.events.heartbeat(queue, HeartbeatOutcome::Lost);
            }
        });
        Failure::Rejected { id, rejected, status: None }
    }

    /// Settles leases and claims the next jobs in one commit. The claim waits, if it may, only
    /// after the settlements are committed.
    pub async fn settle(
        &self,
        caller: &Caller,
        settlements: Vec<SettleOrder>,
        claim: Option<ClaimOrder>,
    ) -> Result<(Vec<Settled>, Option<Grant>), Failure> {
        let scope = caller.scope();
        let received_at = self.now();
        // While draining, work that is done is taken and no more is handed out.
        let claim = claim.filter(|_| !self.is_draining());
        let lists = || caller.lists.clone();
        let claim =
            claim.map(|order| ClaimOrder { namespace: scope.clone(), lists: lists(), ..order });
        if let Some(order) = &claim {
            self.saw_claim(order);
        }
        let ids: Vec<JobId> = settlements.iter().map(|s| s.id).collect();
        let known: Vec<bool> = ids.iter().map(|id| self.may_hold(caller, *id)).collect();
        let settlements: Vec<Settle> = settlements
            .into_iter()
            .zip(&known)
            .filter(|(_, known)| **known)
            .map(|(s, _)| self.settlement(s))
            .collect();
        let ticket = claim.as_ref().and_then(|order| self.park(order, received_at));
        let request =
            claim.as_ref().map(|order| self.request(order, order.held.clone(), received_at));
        let engine = self.clone();
        let now = received_at;
        let (rulings, claimed) = self
            .hand_over(
                async move {
                    let outcome = engine.0.store.settle(settlements, request, now).await?;
                    for transition in outcome.0.iter().flatten() {
                        engine.after(transition);
                    }
                    Ok(outcome)
                },
                |outcome: &(Vec<Ruling>, Option<Claimed>)| outcome.1.as_ref(),
            )
            .await?;
        let rulings: Vec<Ruling> = in_place(&known, rulings).collect();
        let any_refused = rulings.iter().any(Result::is_err);
        let settled_none = rulings.is_empty();
        let settled = ids
            .into_iter()
            .zip(rulings)
            .map(|(id, ruling)| match ruling {
                Ok(t) => Ok(self.settled_status(scope.as_ref(), &t)),
                Err(refusal) => Err(self.refused(caller, id, refusal, false)),
            })
            .collect();
        let grant = match (claim, claimed) {
            (Some(order), Some(claimed)) => {
                let leaves = self.leaves(&order.worker);
                let told = self.has_untold(&order, &claimed.cancel);
                if claimed.jobs.is_empty() {
                    self.found_nothing(&order, &claimed);
                }
                match ticket {
                    // A refused settlement is news that the worker must not wait for.
                    Some(ticket) if claimed.jobs.is_empty() && !told && !any_refused && !leaves => {
                        let waited = self.wait_for_work(&order, ticket, received_at).await;
                        Some(waited.unwrap_or_else(|_| Grant {
                            jobs: Vec::new(),
                            cancel: Vec::new(),
                            directive: self.directive(&order.worker),
                            now: self.now(),
                        }))
                    }
                    Some(_) | None => {
                        let idle = claimed.jobs.is_empty() && !told && !any_refused;
                        self.keep_who_stays(&order, idle && settled_none).await;
                        Some(self.grant(&order, claimed))
                    }
                }
            }
            (Some(_) | None, _) => None,
        };
        Ok((settled, grant))
    }

    fn settled_status(&self, scope: Option<&Name>, t: &Transition) -> Status {
        if let Some(attempt) = t.job.history.last()
            && let Some(worker) = WorkerId::parse(&attempt.worker)
        {
            self.saw_holder(&worker, scope, Sign::Settlement, t);
        }
        t.job.status()
    }

    fn settlement(&self, order: SettleOrder) -> Settle {
        let outcome = match order.report {
            ReportOrder::Completed { result } => Outcome::Completed { result },
            ReportOrder::Failed { error, retry_after } => Outcome::Failed {
                error: JobError { at: self.now(), ..error },
                retry_after,
                unit: self.0.entropy.unit(),
            },
            ReportOrder::Released { delay } => Outcome::Released { delay },
            ReportOrder::Cancelled => Outcome::Cancelled,
        };
        Settle { id: order.id, token: LeaseToken::hash(&order.token), outcome }
    }

    /// The worker leaves: its leases go back at once, uncounted.
    pub async fn goodbye(&self, caller: &Caller, worker: WorkerId) -> Result<(), Failure> {
        let (engine, scope, lists) = (self.clone(), caller.scope(), caller.lists.clone());
        self.outlive(async move {
            let now = engine.now();
            let store = &engine.0.store;
            let withdrawn =
                store.goodbye(worker.clone(), scope.clone(), lists.clone(), now).await?;
            engine.forget_worker(&worker, scope.as_ref(), &lists);
            tracing::info!(%worker, released = withdrawn.len(), "worker said goodbye");
            for t in &withdrawn {
                engine.after(t);
            }
            Ok(())
        })
        .await
    }

    pub(super) fn withdraw_unreceived(&self, jobs: &[Leased]) {
        let leases: Vec<(JobId, u64)> = jobs.iter().map(|l| (l.spec.id, l.job.fence)).collect();
        if leases.is_empty() {
            return;
        }
        let engine = self.clone();
        tokio::spawn(async move {
            tracing::info!(jobs = leases.len(), "a claim's caller left: its leases are given back");
            // Should this fail too, the leases run out and the reaper takes them back.
            for attempt in 0..3 {
                match engine.0.store.withdraw(leases.clone(), engine.now()).await {
                    Ok(withdrawn) => {
                        for t in &withdrawn {
                            engine.after(t);
                        }
                        return;
                    }
                    Err(error) => tracing::warn!(%error, "leases could not be given back yet"),
                }
                tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
            }
        });
    }
}

/// The rulings on those that were put to the store, each at its place; the others are no jobs
/// of the caller's.
fn in_place(known: &[bool], rulings: Vec<Ruling>) -> impl Iterator<Item = Ruling> {
    let mut rulings = rulings.into_iter();
    let none = || Err(Refusal::Absent(Absence::Unknown));
    known.iter().map(move |known| known.then(|| rulings.next()).flatten().unwrap_or_else(none))
}

/// A claim's answer on its way to the caller; leases that are not taken out are given back.
struct Parcel<T, F: Fn(&T) -> Option<&Claimed>> {
    outcome: Option<StoreResult<T>>,
    engine: Engine,
    leases: F,
}

impl<T, F: Fn(&T) -> Option<&Claimed>> Drop for Parcel<T, F> {
    fn drop(&mut self) {
        if let Some(Ok(value)) = &self.outcome
            && let Some(claimed) = (self.leases)(value)
        {
            self.engine.withdraw_unreceived(&claimed.jobs);
        }
    }
}
