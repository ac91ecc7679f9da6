//! A store that is watched: every verb is timed, every failure counted and remembered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::domain::access::Lists;
use crate::domain::estimate::Saved;
use crate::domain::id::JobId;
use crate::domain::job::{Record, Requester};
use crate::domain::names::{Name, WorkerId};
use crate::domain::time::Timestamp;
use crate::store::{
    Beat, Changed, ClaimRequest, Claimed, Episode, EpisodeFilter, Found, Identity, KindState,
    ListFilter, NewJob, Overriding, Page, Presence, QueueLimits, Recount, Result, ResultBody,
    Retired, Retried, Ruling, Sample, Settle, Store, StoreError, StuckAfter, Submitted, Transition,
};
use crate::telemetry::events::Events;
use crate::telemetry::labels::Operation;

use super::health::{Health, Nature};

#[derive(Debug)]
pub struct Observed<S> {
    inner: S,
    events: Events,
    health: Arc<Health>,
}

impl<S: Store> Observed<S> {
    pub const fn new(inner: S, events: Events, health: Arc<Health>) -> Self {
        Self { inner, events, health }
    }

    #[expect(clippy::disallowed_methods, reason = "times the store at its edge")]
    async fn watch<T>(
        &self,
        operation: Operation,
        verb: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let nature = nature(operation);
        let under_way = UnderWay::new(&self.health, nature);
        let started = Instant::now();
        let outcome = match patience(operation) {
            None => verb.await,
            Some(patience) => tokio::time::timeout(patience, verb).await.unwrap_or_else(|_| {
                Err(StoreError::Busy(format!("no answer within {} s", patience.as_secs())))
            }),
        };
        drop(under_way);
        let error = outcome.as_ref().err().map(StoreError::class);
        self.events.store_operation(operation, started.elapsed(), error);
        self.health.learned(nature, &outcome);
        outcome
    }
}

/// A verb that is waited for; also one whose caller leaves in the middle.
struct UnderWay<'a> {
    health: &'a Health,
    nature: Nature,
}

impl<'a> UnderWay<'a> {
    fn new(health: &'a Health, nature: Nature) -> Self {
        health.began(nature);
        Self { health, nature }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.health.ended(self.nature);
    }
}

const fn nature(operation: Operation) -> Nature {
    match operation {
        Operation::Get
        | Operation::Result
        | Operation::List
        | Operation::Sample
        | Operation::Recount
        | Operation::Workers
        | Operation::Inspect
        | Operation::Estimates
        | Operation::Episodes => Nature::Read,
        Operation::Submit
        | Operation::Cancel
        | Operation::Delete
        | Operation::Heartbeat
        | Operation::Settle
        | Operation::ExtendLeases
        | Operation::Pause
        | Operation::Resume => Nature::Commits,
        Operation::Retry
        | Operation::Claim
        | Operation::Withdraw
        | Operation::Goodbye
        | Operation::TakeBack
        | Operation::Promote
        | Operation::Expire
        | Operation::Override
        | Operation::SetLimits
        | Operation::Scan
        | Operation::RecordEpisodes
        | Operation::SaveEstimates
        | Operation::Presence => Nature::Maybe,
    }
}

/// How long the verb may take before its caller is told that nothing is known. A worker must hear
/// within its lease. Verbs that grant leases have none here: whoever asks them waits with patience
/// of his own, and what they grant too late is given back.
const fn patience(operation: Operation) -> Option<Duration> {
    match operation {
        Operation::Heartbeat => Some(Duration::from_secs(5)),
        Operation::Get
        | Operation::Result
        | Operation::List
        | Operation::Cancel
        | Operation::Delete
        | Operation::Pause
        | Operation::Resume
        | Operation::Override
        | Operation::Workers
        | Operation::Episodes => Some(Duration::from_secs(10)),
        Operation::Submit
        | Operation::Retry
        | Operation::Claim
        | Operation::Settle
        | Operation::Withdraw
        | Operation::Goodbye
        | Operation::TakeBack
        | Operation::Promote
        | Operation::ExtendLeases
        | Operation::Expire
        | Operation::Sample
        | Operation::Recount
        | Operation::SetLimits
        | Operation::Scan
        | Operation::Inspect
        | Operation::RecordEpisodes
        | Operation::Estimates
        | Operation::SaveEstimates
        | Operation::Presence => None,
    }
}

#[async_trait]
impl<S: Store> Store for Observed<S> {
    fn identity(&self) -> &Identity {
        self.inner.identity()
    }

    fn namespaces(&self) -> Arc<[Name]> {
        self.inner.namespaces()
    }

    fn jobs_ahead(&self, queue: &Name, priority: i32) -> u64 {
        self.inner.jobs_ahead(queue, priority)
    }

    async fn submit_and_claim(
        &self,
        jobs: Vec<NewJob>,
        claims: Vec<ClaimRequest>,
        now: Timestamp,
    ) -> Result<(Vec<Submitted>, Vec<Claimed>)> {
        self.watch(Operation::Submit, self.inner.submit_and_claim(jobs, claims, now)).await
    }

    async fn knows_key(&self, namespace: Name, key: String) -> Result<bool> {
        self.watch(Operation::Get, self.inner.knows_key(namespace, key)).await
    }

    async fn get(&self, id: JobId, payload: bool) -> Result<Found<Record>> {
        self.watch(Operation::Get, self.inner.get(id, payload)).await
    }

    async fn result(&self, id: JobId) -> Result<Found<ResultBody>> {
        self.watch(Operation::Result, self.inner.result(id)).await
    }

    async fn list(&self, filter: ListFilter, before: Option<i64>, limit: u32) -> Result<Page> {
        self.watch(Operation::List, self.inner.list(filter, before, limit)).await
    }

    async fn cancel(
        &self,
        id: JobId,
        by: Requester,
        reason: Option<String>,
        force: bool,
        now: Timestamp,
    ) -> Result<Ruling> {
        self.watch(Operation::Cancel, self.inner.cancel(id, by, reason, force, now)).await
    }

    async fn retry(
        &self,
        source: JobId,
        new: NewJob,
        again: bool,
        now: Timestamp,
    ) -> Result<Retried> {
        self.watch(Operation::Retry, self.inner.retry(source, new, again, now)).await
    }

    async fn delete(&self, id: JobId, tombstone: Duration, now: Timestamp) -> Result<Ruling> {
        self.watch(Operation::Delete, self.inner.delete(id, tombstone, now)).await
    }

    async fn claim(&self, request: ClaimRequest, now: Timestamp) -> Result<Claimed> {
        self.watch(Operation::Claim, self.inner.claim(request, now)).await
    }

    async fn heartbeat(&self, beats: Vec<Beat>, now: Timestamp) -> Result<Vec<Ruling>> {
        self.watch(Operation::Heartbeat, self.inner.heartbeat(beats, now)).await
    }

    async fn settle(
        &self,
        settlements: Vec<Settle>,
        claim: Option<ClaimRequest>,
        now: Timestamp,
    ) -> Result<(Vec<Ruling>, Option<Claimed>)> {
        self.watch(Operation::Settle, self.inner.settle(settlements, claim, now)).await
    }

    async fn withdraw(&self, leases: Vec<(JobId, u64)>, now: Timestamp) -> Result<Vec<Transition>> {
        self.watch(Operation::Withdraw, self.inner.withdraw(leases, now)).await
    }

    async fn goodbye(
        &self,
        worker: WorkerId,
        namespace: Option<Name>,
        lists: Lists,
        now: Timestamp,
    ) -> Result<Vec<Transition>> {
        self.watch(Operation::Goodbye, self.inner.goodbye(worker, namespace, lists, now)).await
    }

    async fn take_back(
        &self,
        limit: u32,
        spread: Vec<f64>,
        now: Timestamp,
    ) -> Result<Vec<Transition>> {
        self.watch(Operation::TakeBack, self.inner.take_back(limit, spread, now)).await
    }

    async fn promote(&self, limit: u32, now: Timestamp) -> Result<Vec<(Name, u64)>> {
        self.watch(Operation::Promote, self.inner.promote(limit, now)).await
    }

    async fn extend_leases(&self, now: Timestamp) -> Result<u64> {
        self.watch(Operation::ExtendLeases, self.inner.extend_leases(now)).await
    }

    async fn expire(&self, limit: u32, tombstone: Duration, now: Timestamp) -> Result<Retired> {
        self.watch(Operation::Expire, self.inner.expire(limit, tombstone, now)).await
    }

    async fn sample(&self, now: Timestamp) -> Result<Sample> {
        self.watch(Operation::Sample, self.inner.sample(now)).await
    }

    async fn recount(&self) -> Result<Recount> {
        self.watch(Operation::Recount, self.inner.recount()).await
    }

    async fn pause(
        &self,
        queue: Name,
        reason: Option<String>,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Changed> {
        self.watch(Operation::Pause, self.inner.pause(queue, reason, until, now)).await
    }

    async fn resume(&self, queue: Name, now: Timestamp) -> Result<Changed> {
        self.watch(Operation::Resume, self.inner.resume(queue, now)).await
    }

    fn limit_names(&self, per_namespace: Option<usize>) {
        self.inner.limit_names(per_namespace);
    }

    async fn override_settings(&self, change: Overriding, now: Timestamp) -> Result<Changed> {
        self.watch(Operation::Override, self.inner.override_settings(change, now)).await
    }

    async fn set_limits(&self, limits: Vec<QueueLimits>, now: Timestamp) -> Result<()> {
        self.watch(Operation::SetLimits, self.inner.set_limits(limits, now)).await
    }

    async fn scan(&self, stuck_after: StuckAfter, now: Timestamp) -> Result<Vec<KindState>> {
        self.watch(Operation::Scan, self.inner.scan(stuck_after, now)).await
    }

    async fn inspect(
        &self,
        queue: Name,
        kind: Option<Name>,
        now: Timestamp,
    ) -> Result<Vec<KindState>> {
        self.watch(Operation::Inspect, self.inner.inspect(queue, kind, now)).await
    }

    async fn record_episodes(&self, episodes: Vec<Episode>) -> Result<()> {
        self.watch(Operation::RecordEpisodes, self.inner.record_episodes(episodes)).await
    }

    async fn episodes(&self, filter: EpisodeFilter, limit: u32) -> Result<Vec<Episode>> {
        self.watch(Operation::Episodes, self.inner.episodes(filter, limit)).await
    }

    async fn record_presence(&self, seen: Vec<Presence>, now: Timestamp) -> Result<()> {
        self.watch(Operation::Presence, self.inner.record_presence(seen, now)).await
    }

    async fn workers(&self) -> Result<Vec<(Presence, u64)>> {
        self.watch(Operation::Workers, self.inner.workers()).await
    }

    async fn save_estimates(&self, estimates: Vec<Saved>, oldest: Timestamp) -> Result<()> {
        self.watch(Operation::SaveEstimates, self.inner.save_estimates(estimates, oldest)).await
    }

    async fn estimates(&self) -> Result<Vec<Saved>> {
        self.watch(Operation::Estimates, self.inner.estimates()).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
