//! When will it be done? One honest number, told to clients as `Retry-After`.
//!
//! Two sources, added up: moments that are *known* (a `run_at`, a back-off, the end of a pause)
//! and a quantile of what jobs like this one took so far ([`Experience`]). The median is the choice
//! that costs few polls on every law of durations: half of the jobs are done at the first poll. The
//! other half is judged anew, by the median of those that lasted as long as it has.
//!
//! The advertised number is only ever later than the estimate, by up to a tenth, spread by the
//! job's id: a herd of jobs is polled apart, and one job's answer does not flap between polls.
//!
//! Nothing here locks or reads a clock; the caller does.

use std::time::Duration;

use super::job::{Job, Phase};
use super::time::Timestamp;

pub use experience::{Experience, Key, Missed};
pub use full::room_after_seconds;
pub use kinds::{KindRecord, Spread};
pub use law::{Basis, Law};
pub use saved::{Mark, REMEMBERED, Saved};
pub use sketch::Sketch;

mod experience;
mod full;
mod kinds;
mod law;
mod saved;
mod sketch;
mod window;

/// Said of durations of which nothing is known.
pub const GUESS: Duration = Duration::from_secs(2);

/// A (queue, kind) pair with fewer observed durations than this is new.
pub const ENOUGH_SAMPLES: u64 = 20;

/// The quantile of the wait that is told, and of what decides whether an answer is held back.
pub const MEDIAN: f64 = 0.5;

/// The least that is said of a queue that stands still with no end known.
const STANDSTILL_FLOOR: Duration = Duration::from_secs(5);

/// Progress below this share says too little to extrapolate from.
const MIN_PROGRESS: f64 = 0.05;

/// How much later than the estimate the advertised number may be.
const JITTER: f64 = 0.10;

/// Caps of the advertised number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For what statistics say. Default: 300 s.
    pub statistical: Duration,
    /// When a known moment makes up at least half of the estimate. Default: 3 600 s.
    pub known: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { statistical: Duration::from_secs(300), known: Duration::from_secs(3_600) }
    }
}

/// Why a queue hands out nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standstill {
    /// Paused until a known moment.
    Until(Timestamp),
    /// Paused, or without workers, since then; nobody knows for how long.
    Since(Timestamp),
}

/// What is known of the job's queue at this moment. The default is "nothing".
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Outlook {
    pub standstill: Option<Standstill>,
    /// Jobs that will be claimed before this one.
    pub jobs_ahead: Option<u64>,
    /// Jobs claimed a second while there is a backlog.
    pub start_rate: Option<f64>,
    /// Whether a worker waits who would get this job, whoever stands ahead of it: those are not
    /// for him.
    pub idle_worker: bool,
}

/// What is left of an unfinished job, in parts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Seconds until the last known moment that the job must wait for.
    gate: f64,
    /// Seconds from there to the claim.
    wait: f64,
    /// Seconds from the claim, or from now if it is running, to the end.
    run: f64,
    /// Whether data or a hint, rather than the guess, stands behind every part.
    grounded: bool,
    /// While a cancel is wished: how often the worker asks, so how soon it hears of it.
    cancel_heard: Option<f64>,
}

impl Estimate {
    /// `None` when the job is done. `run` and `wait` are the [`Experience`]'s laws for its queue
    /// and kind, and `q` the quantile of the run that is told.
    pub fn of(
        job: &Job,
        outlook: &Outlook,
        run: &Law<'_>,
        wait: &Law<'_>,
        q: f64,
        now: Timestamp,
    ) -> Option<Self> {
        match &job.phase {
            Phase::Pending(_) => Some(Self::pending(job.eligible_at, outlook, run, wait, q, now)),
            Phase::Running(lease) => {
                let elapsed = now.since(lease.claimed_at);
                let usual = run.left(elapsed, q).as_secs_f64();
                let percent = job.progress.as_ref().and_then(|p| p.percent);
                Some(Self {
                    gate: 0.0,
                    wait: 0.0,
                    run: with_progress(elapsed.as_secs_f64(), percent, usual),
                    grounded: run.basis() != Basis::Guess,
                    // A worker's heartbeat comes every third of its lease.
                    cancel_heard: job.cancel.as_ref().map(|_| lease.length.as_secs_f64() / 3.0),
                })
            }
            Phase::Completed | Phase::Failed | Phase::Cancelled => None,
        }
    }

    fn pending(
        eligible_at: Timestamp,
        outlook: &Outlook,
        run: &Law<'_>,
        wait: &Law<'_>,
        q: f64,
        now: Timestamp,
    ) -> Self {
        let mut gate = eligible_at.since(now).as_secs_f64();
        let (mut seconds, mut known) = match (outlook.jobs_ahead, outlook.start_rate) {
            _ if outlook.idle_worker => (0.0, true),
            // The first in line waits for the next start, too.
            (Some(ahead), Some(rate)) if rate > 0.0 => (ahead.max(1) as f64 / rate, true),
            (None | Some(_), None | Some(_)) => {
                (wait.quantile(MEDIAN).as_secs_f64(), wait.basis() != Basis::Guess)
            }
        };
        match outlook.standstill {
            None => {}
            Some(Standstill::Until(end)) => gate = gate.max(end.since(now).as_secs_f64()),
            Some(Standstill::Since(start)) => {
                // It will last about as long again as it has lasted, at least its floor.
                let half = now.since(start).as_secs_f64() / 2.0;
                (seconds, known) = (half.max(STANDSTILL_FLOOR.as_secs_f64()), false);
            }
        }
        Self {
            gate,
            wait: seconds,
            run: run.quantile(q).as_secs_f64(),
            grounded: known && run.basis() != Basis::Guess,
            cancel_heard: None,
        }
    }

    /// The estimate itself: uncapped, without jitter.
    pub fn remaining(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds()).unwrap_or(Duration::MAX)
    }

    fn seconds(&self) -> f64 {
        self.gate + self.wait + self.run
    }

    /// Whole seconds for `Retry-After`: at least 1 and at most the limit that applies.
    ///
    /// `unit` is the job's own number in [0, 1), [`JobId::unit`](super::id::JobId::unit).
    pub fn retry_after_seconds(&self, unit: f64, limits: &Limits) -> u64 {
        let limit = if self.gate > 0.0 && self.gate >= self.wait + self.run {
            limits.known.max(limits.statistical)
        } else {
            limits.statistical
        };
        let later = self.seconds() * (1.0 + JITTER * unit.clamp(0.0, 1.0));
        let told = later.min(limit.as_secs_f64());
        let told = self.cancel_heard.map_or(told, |interval| told.min(interval));
        // The cast saturates.
        told.max(1.0).ceil() as u64
    }

    /// Whether there is reason to believe that the job will be done within `window`. A mere guess
    /// is none.
    pub fn predicts_within(&self, window: Duration) -> bool {
        self.grounded && self.remaining() <= window
    }

    /// Whether a fresh submission's answer should be held back for `window`, in the hope of the
    /// result: when that is predicted, or when the kind is too new for predictions (`samples`
    /// under [`ENOUGH_SAMPLES`], from [`Experience::run_samples`]) and a worker waits for it.
    pub fn worth_holding(&self, window: Duration, samples: u64, idle_worker: bool) -> bool {
        let new = samples < ENOUGH_SAMPLES && idle_worker;
        self.gate <= 0.0 && !window.is_zero() && (new || self.predicts_within(window))
    }
}

/// Seconds left of an attempt that has run for `elapsed`, and would have `usual` left by what is
/// known of others.
fn with_progress(elapsed: f64, percent: Option<f64>, usual: f64) -> f64 {
    // Not a number is no progress either.
    match percent.map(|p| p / 100.0).filter(|share| *share >= MIN_PROGRESS) {
        Some(share) => {
            let share = share.min(1.0);
            f64::midpoint(elapsed * (1.0 - share) / share, usual)
        }
        None => usual,
    }
}

#[cfg(test)]
mod tests;
