//! The canary: a job of the server's own that shows that work gets through.
//!
//! Every part of a server can look well while the whole does not work. So each process submits a
//! job as a client does, claims it as a worker does, completes it, and hears of that as a client
//! that waits; then it erases it. The queue and the kind are reserved, which keeps the canary out
//! of lists, counts, metrics, presence and traces, and out of reach of clients; no pause or limit
//! can touch it.
//!
//! A canary that is interrupted needs no cleaning up after: whoever claims in its queue completes
//! what it finds there, and failing that its `start_by`, its lease and its retention end it, all
//! without a trace.

use std::time::{Duration, Instant};

use crate::domain::access::Lists;
use crate::domain::id::JobId;
use crate::domain::job::Status;
use crate::domain::names::{Name, WorkerId};
use crate::telemetry::events::Events;

use super::tasks::StepResult;
use super::{
    BackoffOverrides, Caller, ClaimOrder, Engine, Failure, Hold, ReportOrder, SettleOrder,
    Submission, WallClock,
};

/// The name of the task.
const CANARY: &str = "canary";

const QUEUE: &str = "_canary";
const KIND: &str = "system.canary";

/// A canary that is not back by then has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it could still be asked for, were it not erased: longer than anybody waits for it.
const KEPT: Duration = Duration::from_secs(60);

/// More than one only to complete what interrupted ones left behind.
const JOBS: usize = 10;

/// Counts a failure unless the canary came back; also when it panics on its way.
struct Flight<'a> {
    events: &'a Events,
    over: bool,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.events.canary_failed();
        }
    }
}

impl Engine {
    /// Sends a canary now and then every `interval`.
    pub fn start_canary(&self, interval: Duration) {
        self.0.events.canary_registered();
        // Nobody else's: a worker that says goodbye gives back all that is leased under its name.
        let worker = WorkerId::trusted(&format!("{KIND}/{}", self.0.entropy.uuid()));
        self.start_bare_task(CANARY, interval, move |engine| {
            let worker = worker.clone();
            async move { engine.send_canary(worker).await }
        });
    }

    #[expect(clippy::disallowed_methods, reason = "times the canary")]
    async fn send_canary(&self, worker: WorkerId) -> StepResult {
        if self.is_draining() {
            return Ok("none is sent while draining".to_owned());
        }
        let mut flight = Flight { events: &self.0.events, over: false };
        let mut claimed = Vec::new();
        let began = Instant::now();
        let back = tokio::time::timeout(PATIENCE, async {
            // Inside: a drill is to make the canary fail, and not merely its task.
            self.drill(CANARY).await?;
            tokio::select! {
                back = self.canary_comes_back() => back,
                failure = self.work_canaries(worker, &mut claimed) => Err(failure),
            }
        });
        let back = back.await.unwrap_or_else(|_| Err(format!("not back within {PATIENCE:?}")));
        let took = began.elapsed();
        let outcome = match back {
            Ok(id) => {
                flight.over = true;
                self.0.events.canary_succeeded(took, WallClock::wall());
                claimed.retain(|other| *other != id);
                claimed.push(id);
                Ok(format!("back after {} ms", took.as_millis()))
            }
            Err(_) if self.is_draining() => {
                flight.over = true;
                Ok("called back to drain".to_owned())
            }
            Err(why) => Err(why),
        };
        self.erase(claimed).await;
        outcome
    }

    /// As a client sees it.
    async fn canary_comes_back(&self) -> Result<JobId, String> {
        let submission = Submission {
            queue: Name::ours(QUEUE),
            kind: Name::ours(KIND),
            priority: 0,
            payload: None,
            run_at: None,
            delay: None,
            start_by: Some(self.now().plus(PATIENCE)),
            timeout: Some(PATIENCE),
            max_attempts: Some(1),
            backoff: BackoffOverrides::default(),
            retention: Some(KEPT),
            expected_duration: None,
            metadata: None,
            tags: Vec::new(),
            trace: None,
            tracestate: None,
            key: None,
        };
        let submitted = self.submit(&Caller::everyone(), submission, Hold::UpTo(PATIENCE)).await;
        let view = submitted.map_err(|e| format!("not accepted: {e}"))?.view;
        match view.status() {
            Status::Completed => Ok(view.record.spec.id),
            status @ (Status::Pending | Status::Running | Status::Failed | Status::Cancelled) => {
                Err(format!("still {} when it was to be completed", status.as_str()))
            }
        }
    }

    /// As a worker does it: completes what comes, until something goes wrong.
    async fn work_canaries(&self, worker: WorkerId, claimed: &mut Vec<JobId>) -> String {
        loop {
            let order = ClaimOrder {
                worker: worker.clone(),
                namespace: None,
                lists: Lists::ALL,
                queues: vec![Name::ours(QUEUE)],
                kinds: Vec::new(),
                max_jobs: JOBS,
                lease: Some(PATIENCE),
                wait: PATIENCE,
                hostname: None,
                version: None,
                concurrency: None,
                held: None,
                trace: None,
            };
            let settled = match self.claim(&Caller::everyone(), order).await {
                Ok(grant) => {
                    claimed.extend(grant.jobs.iter().map(|leased| leased.spec.id));
                    let settlements = grant.jobs.into_iter().map(|leased| SettleOrder {
                        id: leased.spec.id,
                        token: leased.token,
                        report: ReportOrder::Completed { result: None },
                    });
                    self.complete_canaries(settlements.collect()).await
                }
                Err(failure) => Err(format!("not handed out: {failure}")),
            };
            if let Err(why) = settled {
                return why;
            }
        }
    }

    async fn complete_canaries(&self, settlements: Vec<SettleOrder>) -> Result<(), String> {
        if settlements.is_empty() {
            return Err("not handed out".to_owned());
        }
        let why = |failure: Failure| format!("its completion was not taken: {failure}");
        let (settled, _) =
            self.settle(&Caller::everyone(), settlements, None).await.map_err(why)?;
        settled.into_iter().try_for_each(|one| one.map(drop)).map_err(why)
    }

    /// What cannot be erased now, retention erases.
    async fn erase(&self, canaries: Vec<JobId>) {
        for id in canaries {
            // Without a tombstone: nobody knows of it who could ask.
            if let Err(error) = self.0.store.delete(id, Duration::ZERO, self.now()).await {
                tracing::debug!(%error, "the canary is left to retention");
            }
        }
    }
}
