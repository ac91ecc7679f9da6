//! The reaper takes back leases whose holders are silent or out of time.
//!
//! It is the only one who ends a lease against its holder's will, and it must never mistake an
//! outage of ours for one of theirs. While we were down, stopped, cut off from the store or given
//! a new clock, no worker *could* have kept its lease. So the first pass after a start, after a
//! store failure, after a gap in its own passes or after a step of the clock extends every lease
//! and hard limit to at least its length from now, and only then looks for the dead.

use std::sync::{Mutex, PoisonError};

use crate::domain::time::{STEP_TOLERANCE, Timestamp};

use super::Engine;
use super::tasks::StepResult;

/// The most jobs taken back in one commit; a pass goes on until none is due.
const STEP: u32 = 500;

/// Steps in one pass, so that a pass ends.
const STEPS: usize = 40;

/// What the reaper remembers between passes.
#[derive(Debug, Default)]
pub struct Reaper {
    /// The start of the last pass that went well and in time; `None` before the first.
    last_pass: Mutex<Option<Timestamp>>,
}

impl Reaper {
    fn last_pass(&self) -> Option<Timestamp> {
        *self.last_pass.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn passed(&self, at: Option<Timestamp>) {
        *self.last_pass.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

impl Engine {
    /// One pass, over everything that is due.
    pub async fn reap(&self, reaper: &Reaper, period: std::time::Duration) -> StepResult {
        // Both are asked, always: each forgets when it has told.
        let step = self.0.clock.take_step();
        let stepped = step > STEP_TOLERANCE;
        if stepped {
            self.0.flow.clock_stepped();
        }
        let outage = self.0.health.take_outage();
        let now = self.now();
        let gap = reaper.last_pass().is_none_or(|last| now.since(last) > period + STEP_TOLERANCE);
        if stepped || outage || gap {
            // Until this has succeeded, nothing is taken back: the next pass starts here again.
            reaper.passed(None);
            let extended = self.0.store.extend_leases(now).await.map_err(|e| e.to_string())?;
            // A clock that was set is news by itself: every age and moment has moved with it.
            if extended > 0 || stepped {
                tracing::info!(
                    leases = extended,
                    stepped,
                    step_seconds = step.as_secs(),
                    outage,
                    "leases extended after an interruption of ours"
                );
            }
        }
        let mut taken = 0;
        for _ in 0..STEPS {
            let spread = self.0.entropy.units(STEP as usize);
            // All by the moment at which the pass was found to be in time.
            let changed =
                self.0.store.take_back(STEP, spread, now).await.map_err(|e| e.to_string())?;
            for t in &changed {
                self.after(t);
            }
            taken += changed.len();
            if changed.len() < STEP as usize {
                break;
            }
        }
        // A pass that was stuck is an interruption too: heartbeats were stuck beside it.
        let in_time = self.now().since(now) <= period + STEP_TOLERANCE;
        reaper.passed(in_time.then_some(now));
        Ok(format!("{taken} jobs taken back or ended"))
    }
}
