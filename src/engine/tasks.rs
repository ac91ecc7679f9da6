//! The driver of maintenance: idempotent steps, run periodically and on signal, each with its
//! last result kept, restarted when they panic, and known to hang when they hang.
//!
//! A task is a name, a period and a function without input. One board lists them all; metrics,
//! `/v1/tasks` and readiness read it, so a new task gets all three by being registered.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::domain::time::Timestamp;
use crate::telemetry::labels::TaskOutcome;

use super::{Engine, WallClock};

/// A run that takes longer than this many periods, and at least [`HUNG_FLOOR`], hangs. Whoever is
/// told by the alerts, which wait for three periods and somewhat more, shall see it here.
const HUNG_PERIODS: u32 = 4;
const HUNG_FLOOR: Duration = Duration::from_secs(30);

/// Without a success for so long a task is late; as the alerts have it.
const LATE_PERIODS: u32 = 3;
const LATE_MARGIN: Duration = Duration::from_secs(10);

/// The task that every process that maintains its store runs.
pub(super) const REAPER: &str = "reaper";

/// What a step says of itself: one line for people, or why it failed.
pub type StepResult = Result<String, String>;
type Step = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = StepResult> + Send>> + Send + Sync>;

#[derive(Debug, Clone, PartialEq)]
pub struct TaskStatus {
    pub name: &'static str,
    pub interval: Duration,
    pub last_run: Option<Timestamp>,
    pub last_success: Option<Timestamp>,
    pub outcome: Option<TaskOutcome>,
    /// What the last run said.
    pub detail: Option<String>,
    pub took: Option<Duration>,
    pub restarts: u64,
    /// Since when the run under way has been going.
    pub running_for: Option<Duration>,
    /// Since the last success; before the first, since it was registered.
    pub without_success_for: Duration,
}

impl TaskStatus {
    pub fn hangs(&self) -> bool {
        self.running_for.is_some_and(|d| d > hung_after(self.interval))
    }

    pub fn is_late(&self) -> bool {
        self.without_success_for > self.interval * LATE_PERIODS + LATE_MARGIN
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a task goes without success")]
fn now() -> Instant {
    Instant::now()
}

fn hung_after(interval: Duration) -> Duration {
    (interval * HUNG_PERIODS).max(HUNG_FLOOR)
}

#[derive(Debug)]
struct Entry {
    status: TaskStatus,
    run_began: Option<Instant>,
    /// Or when it was registered.
    succeeded: Instant,
}

/// The tasks and how they fare.
#[derive(Debug, Default)]
pub struct Board {
    entries: Mutex<BTreeMap<&'static str, Entry>>,
    drivers: Mutex<Vec<JoinHandle<()>>>,
}

impl Board {
    pub fn statuses(&self) -> Vec<TaskStatus> {
        self.lock()
            .values()
            .map(|e| TaskStatus {
                running_for: e.run_began.map(|began| began.elapsed()),
                without_success_for: e.succeeded.elapsed(),
                ..e.status.clone()
            })
            .collect()
    }

    /// Names of tasks whose run has been going for far too long.
    pub fn hung(&self) -> Vec<&'static str> {
        self.statuses().into_iter().filter(TaskStatus::hangs).map(|s| s.name).collect()
    }

    /// Ends every driver, at the latest after the step that it is in.
    pub async fn stop(&self) {
        let drivers =
            std::mem::take(&mut *self.drivers.lock().unwrap_or_else(PoisonError::into_inner));
        for driver in &drivers {
            driver.abort();
        }
        for driver in drivers {
            drop(driver.await);
        }
    }

    /// Whether the task was started here.
    pub(super) fn runs(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }

    /// Keeps what is to end with the tasks.
    pub(super) fn drive(&self, driver: JoinHandle<()>) {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner).push(driver);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, name: &'static str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().get_mut(name) {
            change(entry);
        }
    }
}

impl Engine {
    /// Registers `step` and runs it now and then every `interval`.
    pub fn start_task<F, Fut>(&self, name: &'static str, interval: Duration, step: F)
    where
        F: Fn(Engine) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = StepResult> + Send + 'static,
    {
        self.start_bare_task(name, interval, move |engine| {
            let run = step(engine.clone());
            async move {
                engine.drill(name).await?;
                run.await
            }
        });
    }

    /// Lets happen to the task what a drill says.
    pub(super) async fn drill(&self, task: &str) -> Result<(), String> {
        match &self.0.settings.drill {
            None => Ok(()),
            Some(drill) => drill.befall(task).await,
        }
    }

    /// The same for a step that asks for its drills itself.
    pub(super) fn start_bare_task<F, Fut>(&self, name: &'static str, interval: Duration, step: F)
    where
        F: Fn(Engine) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = StepResult> + Send + 'static,
    {
        let status = TaskStatus {
            name,
            interval,
            last_run: None,
            last_success: None,
            outcome: None,
            detail: None,
            took: None,
            restarts: 0,
            running_for: None,
            without_success_for: Duration::ZERO,
        };
        self.0.tasks.lock().insert(name, Entry { status, run_began: None, succeeded: now() });
        self.0.events.task_registered(name, interval);
        let weak = Arc::downgrade(&self.0);
        let step: Step = {
            let weak = weak.clone();
            Arc::new(move || {
                let Some(inner) = weak.upgrade() else {
                    return Box::pin(async { Err("the engine is gone".to_owned()) });
                };
                Box::pin(step(Engine(inner)))
            })
        };
        let driver = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let Some(inner) = weak.upgrade() else { return };
                Engine(inner).run_step(name, interval, &step).await;
            }
        });
        self.0.tasks.drive(driver);
    }

    /// One run, in a task of its own so that a panic ends the run and not the driver.
    #[expect(clippy::disallowed_methods, reason = "times the run")]
    async fn run_step(&self, name: &'static str, interval: Duration, step: &Step) {
        let began = Instant::now();
        self.0.tasks.update(name, |e| e.run_began = Some(began));
        let mut run = tokio::spawn(step());
        let limit = hung_after(interval);
        let outcome = if let Ok(outcome) = tokio::time::timeout(limit, &mut run).await {
            outcome
        } else {
            let seconds = limit.as_secs();
            tracing::error!(
                task = name,
                seconds,
                "maintenance hangs; if it stays so, restart the server"
            );
            run.await
        };
        let took = began.elapsed();
        let now = self.now();
        let (label, detail) = match outcome {
            Ok(Ok(detail)) => (TaskOutcome::Ok, detail),
            Ok(Err(error)) => {
                tracing::warn!(task = name, error, "maintenance failed; it is tried again");
                (TaskOutcome::Error, error)
            }
            Err(join) => {
                tracing::error!(task = name, error = %join, "maintenance panicked; it is restarted");
                self.0.events.task_restarted(name);
                (TaskOutcome::Panic, "panicked; see the log".to_owned())
            }
        };
        // By the wall clock, which is what whoever scrapes compares it with.
        self.0.events.task_run(name, label, took, WallClock::wall());
        self.0.tasks.update(name, |e| {
            e.run_began = None;
            e.status.last_run = Some(now);
            e.status.took = Some(took);
            e.status.detail = Some(detail);
            e.status.outcome = Some(label);
            match label {
                TaskOutcome::Ok => {
                    e.status.last_success = Some(now);
                    e.succeeded = began + took;
                }
                TaskOutcome::Panic => e.status.restarts += 1,
                TaskOutcome::Error => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(interval_seconds: u64) -> TaskStatus {
        TaskStatus {
            name: "watchdog",
            interval: Duration::from_secs(interval_seconds),
            last_run: None,
            last_success: None,
            outcome: None,
            detail: None,
            took: None,
            restarts: 0,
            running_for: None,
            without_success_for: Duration::ZERO,
        }
    }

    #[test]
    fn a_run_hangs_by_its_period_and_not_within_half_a_minute() {
        let running = |interval, seconds| {
            let running_for = Some(Duration::from_secs(seconds));
            TaskStatus { running_for, ..task(interval) }.hangs()
        };
        assert_eq!([running(1, 30), running(1, 31)], [false, true]);
        assert_eq!([running(15, 60), running(15, 61)], [false, true]);
        assert!(!task(1).hangs());
    }

    #[test]
    fn a_task_is_late_when_its_alert_would_say_so() {
        let late = |seconds| {
            let without_success_for = Duration::from_secs(seconds);
            TaskStatus { without_success_for, ..task(15) }.is_late()
        };
        assert_eq!([late(0), late(55), late(56)], [false, false, true]);
    }
}
