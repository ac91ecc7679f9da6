//! The list of maintenance tasks, and the steps too small for a file of their own: promotion of due
//! jobs, retention, the recount.

use std::time::Duration;

use super::reaper::Reaper;
use super::tasks::{REAPER, StepResult};
use super::{Engine, TOMBSTONE_AGE};

/// Jobs in one commit, so that clients' commits are not held up.
const STEP: u32 = 500;

/// Steps in one run, so that a run ends.
const STEPS: usize = 200;

/// How often each step runs.
#[derive(Debug, Clone, Copy)]
pub struct Periods {
    pub reaper: Duration,
    pub scheduler: Duration,
    pub sampler: Duration,
    pub retention: Duration,
    pub reconcile: Duration,
    pub watchdog: Duration,
    pub estimates: Duration,
    /// `None`: no canaries.
    pub canary: Option<Duration>,
}

impl Engine {
    /// Starts all maintenance. Every task is one line here.
    pub fn start_tasks(&self, every: Periods) {
        let reaper = std::sync::Arc::new(Reaper::default());
        self.start_task(REAPER, every.reaper, move |engine| {
            let reaper = std::sync::Arc::clone(&reaper);
            async move { engine.reap(&reaper, every.reaper).await }
        });
        self.start_task("scheduler", every.scheduler, |e| async move { e.promote_due().await });
        self.start_task("sampler", every.sampler, |e| async move { e.sample().await });
        self.start_task("watchdog", every.watchdog, move |e| async move {
            e.watch(every.watchdog).await
        });
        self.start_task("retention", every.retention, |e| async move { e.expire_old().await });
        self.start_task("reconcile", every.reconcile, |e| async move { e.reconcile().await });
        self.start_task("presence", Duration::from_secs(5), |e| async move {
            e.write_presence(false).await
        });
        self.start_task("estimates", every.estimates, |e| async move { e.keep_learnt().await });
        if let Some(every) = every.canary {
            self.start_canary(every);
        }
        self.start_pulse();
    }

    /// Makes due jobs claimable and wakes whoever waits for them.
    async fn promote_due(&self) -> StepResult {
        let mut promoted = 0u64;
        for _ in 0..STEPS {
            let ready = self.0.store.promote(STEP, self.now()).await.map_err(|e| e.to_string())?;
            let step: u64 = ready.iter().map(|(_, n)| *n).sum();
            for (queue, jobs) in &ready {
                self.0.claims.wake(queue, None, *jobs);
            }
            promoted += step;
            if step < u64::from(STEP) {
                break;
            }
        }
        Ok(format!("{promoted} jobs became eligible"))
    }

    /// Removes what has outlived its retention, a step at a time, letting others commit between.
    async fn expire_old(&self) -> StepResult {
        let mut removed = 0;
        for _ in 0..STEPS {
            let step = self
                .0
                .store
                .expire(STEP, TOMBSTONE_AGE, self.now())
                .await
                .map_err(|e| e.to_string())?;
            self.0.events.jobs_expired(step.jobs);
            removed += step.jobs;
            if !step.more {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(format!("{removed} jobs expired"))
    }

    /// Compares the maintained counters with an exact recount.
    async fn reconcile(&self) -> StepResult {
        let recount = self.0.store.recount().await.map_err(|e| e.to_string())?;
        for (status, drift) in recount.drift() {
            self.0.events.drift(status, drift);
        }
        if recount.differing > 0 {
            tracing::error!(
                differing = recount.differing,
                "job counters differ from an exact recount: please report this as a bug"
            );
        }
        Ok(format!("{} counters differ", recount.differing))
    }
}
