//! Facts about the store, as the sampler last saw them.
//!
//! A scrape renders the latest snapshot and nothing else. Ages go on growing between samples; a
//! snapshot that is three samples old is withheld, because a stale number that looks fresh is
//! worse than none.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

use super::catalogue::{self as c, Scope};
use super::families::{Series, desc, family};
use super::labels::{self, WorkerState};
use crate::domain::job::{PendingReason, Status, Tally};
use crate::domain::names::Name;
use crate::domain::watch::Verdict;

/// The state of the store at one moment.
///
/// It must have a row for every queue that the store knows, and for every declared queue, so that
/// the thresholds and limits of these show before their first job. A queue without a row is shown
/// as empty, without limit and watchdog.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub queues: Vec<QueueSnapshot>,
    /// Names known, of queues and of kinds.
    pub names: [u64; 2],
    pub size_bytes: u64,
    /// Free disk space where the store lies.
    /// `None` when the disk does not tell: then there is no such series.
    pub free_bytes: Option<u64>,
}

#[derive(Debug, Clone)]
pub struct QueueSnapshot {
    pub queue: Name,
    /// Jobs by [`Tally::code`].
    pub tallies: [u64; Tally::ALL.len()],
    /// Scheduled and backing-off jobs whose moment has come: they are eligible, whether or not
    /// the scheduler has touched them.
    pub due: u64,
    pub paused: bool,
    /// Since when the oldest eligible job waits; `None` when there is none or the queue is
    /// paused.
    pub oldest_pending_age: Option<Duration>,
    /// Since when the oldest lease is held; `None` when there is none.
    pub oldest_running_age: Option<Duration>,
    /// Jobs eligible for longer than `stuck_after`, by [`Verdict`].
    pub stuck: [u64; Verdict::ALL.len()],
    /// Eligible jobs that nobody works on.
    pub no_workers: u64,
    /// As many jobs run as `max_running` allows.
    pub at_limit: bool,
    /// As many attempts have just started as `start_rate_per_second` allows.
    pub rate_limited: bool,
    /// `None` when the watchdog is off for the queue.
    pub stuck_after: Option<Duration>,
    /// A running age beyond it is suspicious.
    pub run_threshold: Duration,
    /// How long the eligible jobs will take to start. Shown as a day at most.
    pub drain_estimate: Duration,
    pub max_running: Option<u32>,
    pub max_depth: Option<u64>,
    /// Workers that serve the queue, by [`WorkerState`].
    pub workers: [u64; WorkerState::ALL.len()],
    /// What they can run at once, likewise.
    pub slots: [u64; WorkerState::ALL.len()],
}

impl QueueSnapshot {
    /// Whether there is anything to it. A queue that merely exists does not hold a label.
    pub(super) fn in_use(&self) -> bool {
        self.paused || self.tallies.iter().chain(&self.workers).any(|n| *n > 0)
    }
}

/// A monotonic reading.
pub(super) type Monotonic = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Samples that may be missed before the latest is withheld.
const MISSED: u32 = 3;

/// A longer estimate says no more than that it is hopeless.
const LONGEST_DRAIN: Duration = Duration::from_secs(86_400);

/// One label's worth of a snapshot.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) label: String,
    tallies: [u64; Tally::ALL.len()],
    depth: u64,
    /// By [`PendingReason`].
    pending: [u64; PendingReason::ALL.len()],
    paused: bool,
    oldest_pending: Option<Duration>,
    oldest_running: Option<Duration>,
    stuck: [u64; Verdict::ALL.len()],
    stuck_after: Duration,
    run_threshold: Duration,
    drain_estimate: Duration,
    max_running: u64,
    /// Some queue has no limit, so all of them together have none.
    unlimited: bool,
    max_depth: u64,
    /// The same of that limit.
    bottomless: bool,
    workers: [u64; WorkerState::ALL.len()],
    slots: [u64; WorkerState::ALL.len()],
}

impl Row {
    /// A queue without jobs.
    pub(super) fn empty(label: &str) -> Self {
        Self { label: label.to_owned(), ..Self::default() }
    }

    /// Counts `queue` in. Numbers add up; of ages, thresholds and estimates the largest counts:
    ///
    /// - the oldest job of several queues is as old as the oldest of any;
    /// - a threshold is there to tell whether something is late: with the most patient one, no
    ///   job is called late that would not be so in its own queue. A queue without a watchdog has
    ///   no say in it, or it would blind the others;
    /// - several queues are drained when the slowest is.
    pub(super) fn add(&mut self, queue: &QueueSnapshot) {
        let of = |tally: Tally| queue.tallies[tally.code() as usize];
        let (queued, scheduled, backoff) =
            (of(Tally::Queued), of(Tally::Scheduled), of(Tally::Backoff));
        let due = queue.due.min(scheduled.saturating_add(backoff));
        let depth = queued.saturating_add(due);
        add(&mut self.tallies, &queue.tallies);
        add(&mut self.pending, &reasons(queue));
        self.depth = self.depth.saturating_add(depth);
        self.paused |= queue.paused;
        // Whatever a paused queue waits for, it is nobody's fault.
        if !queue.paused {
            self.oldest_pending = self.oldest_pending.max(queue.oldest_pending_age);
            add(&mut self.stuck, &queue.stuck);
            if depth > 0 {
                let estimate = queue.drain_estimate.min(LONGEST_DRAIN);
                self.drain_estimate = self.drain_estimate.max(estimate);
            }
        }
        self.oldest_running = self.oldest_running.max(queue.oldest_running_age);
        self.stuck_after = self.stuck_after.max(queue.stuck_after.unwrap_or_default());
        self.run_threshold = self.run_threshold.max(queue.run_threshold);
        match queue.max_running {
            Some(limit) => self.max_running = self.max_running.saturating_add(limit.into()),
            None => self.unlimited = true,
        }
        match queue.max_depth {
            Some(limit) => self.max_depth = self.max_depth.saturating_add(limit),
            None => self.bottomless = true,
        }
        add(&mut self.workers, &queue.workers);
        add(&mut self.slots, &queue.slots);
    }

    /// 0 for no limit.
    fn max_running(&self) -> u64 {
        if self.unlimited { 0 } else { self.max_running }
    }

    /// 0 for no limit.
    fn max_depth(&self) -> u64 {
        if self.bottomless { 0 } else { self.max_depth }
    }

    fn state(&self, status: Status) -> u64 {
        Tally::ALL
            .into_iter()
            .filter(|tally| tally.status() == status)
            .map(|tally| self.tallies[tally.code() as usize])
            .fold(0, u64::saturating_add)
    }
}

fn add<const N: usize>(sums: &mut [u64; N], more: &[u64; N]) {
    for (sum, n) in sums.iter_mut().zip(more) {
        *sum = sum.saturating_add(*n);
    }
}

/// Why its pending jobs are not running, by [`PendingReason`] and in its order of precedence.
fn reasons(queue: &QueueSnapshot) -> [u64; PendingReason::ALL.len()] {
    let of = |tally: Tally| queue.tallies[tally.code() as usize];
    let mut queued = of(Tally::Queued);
    PendingReason::ALL.map(|reason| match reason {
        PendingReason::Scheduled => of(Tally::Scheduled),
        PendingReason::RetryBackoff => of(Tally::Backoff),
        PendingReason::QueuePaused if queue.paused => std::mem::take(&mut queued),
        PendingReason::NoWorkers => {
            // Among those that nobody works on may be due ones, which are shown as they wait.
            let n = queue.no_workers.min(queued);
            queued -= n;
            n
        }
        PendingReason::ConcurrencyLimited if queue.at_limit => std::mem::take(&mut queued),
        PendingReason::RateLimited if queue.rate_limited => std::mem::take(&mut queued),
        PendingReason::QueuePaused
        | PendingReason::ConcurrencyLimited
        | PendingReason::RateLimited => 0,
        PendingReason::Queued => queued,
    })
}

#[derive(Debug)]
struct Sampled {
    rows: Vec<Row>,
    names: [u64; 2],
    size_bytes: u64,
    free_bytes: Option<u64>,
    /// The monotonic reading when it came in.
    at: Duration,
}

/// The latest snapshot, and the collector that renders it.
#[derive(Clone)]
pub(super) struct Latest(Arc<Inner>);

struct Inner {
    sampled: Mutex<Option<Arc<Sampled>>>,
    drift: [AtomicI64; Status::ALL.len()],
    stale_after: Duration,
    min_free_bytes: u64,
    monotonic: Monotonic,
    descs: Vec<Desc>,
}

impl Latest {
    pub(super) fn new(period: Duration, min_free_bytes: u64, monotonic: Monotonic) -> Self {
        let descs = c::ALL.iter().filter(|m| m.scope == Scope::Store).map(|m| desc(m)).collect();
        Self(Arc::new(Inner {
            sampled: Mutex::new(None),
            drift: Default::default(),
            stale_after: period.saturating_mul(MISSED),
            min_free_bytes,
            monotonic,
            descs,
        }))
    }

    pub(super) fn set(
        &self,
        rows: Vec<Row>,
        names: [u64; 2],
        size_bytes: u64,
        free_bytes: Option<u64>,
    ) {
        let at = (self.0.monotonic)();
        let sampled = Sampled { rows, names, size_bytes, free_bytes, at };
        *self.lock() = Some(Arc::new(sampled));
    }

    pub(super) fn set_drift(&self, status: Status, jobs: i64) {
        self.0.drift[status as usize].store(jobs, Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Sampled>>> {
        self.0.sampled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Latest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latest").field("sampled", &*self.lock()).finish_non_exhaustive()
    }
}

impl Collector for Latest {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(sampled) = self.lock().clone() else {
            return Vec::new();
        };
        let since = (self.0.monotonic)().saturating_sub(sampled.at);
        if since > self.0.stale_after {
            return Vec::new();
        }
        let rows = &sampled.rows;
        let age = |oldest: Option<Duration>| {
            oldest.map_or(0.0, |d| d.saturating_add(since).as_secs_f64())
        };
        let drift = labels::STATES
            .iter()
            .zip(&self.0.drift)
            .map(|(state, jobs)| (vec![*state], jobs.load(Ordering::Relaxed) as f64));
        let one = |value: u64| std::iter::once((vec![], value as f64));
        let mut families = vec![
            family(&c::JOBS, by(rows, labels::STATES, |r| Status::ALL.map(|s| r.state(s)))),
            family(&c::DEPTH, each(rows, |r| r.depth as f64)),
            family(&c::PENDING, by(rows, labels::PENDING_REASONS, |r| r.pending)),
            family(&c::OLDEST_PENDING, each(rows, |r| age(r.oldest_pending))),
            family(&c::OLDEST_RUNNING, each(rows, |r| age(r.oldest_running))),
            family(&c::RUN_THRESHOLD, each(rows, |r| r.run_threshold.as_secs_f64())),
            family(&c::DRAIN_ESTIMATE, each(rows, |r| r.drain_estimate.as_secs_f64())),
            family(&c::MAX_RUNNING, each(rows, |r| r.max_running() as f64)),
            family(&c::MAX_DEPTH, each(rows, |r| r.max_depth() as f64)),
            family(&c::PAUSED, each(rows, |r| f64::from(u8::from(r.paused)))),
            family(&c::WORKERS, by(rows, WorkerState::VALUES, |r| r.workers)),
            family(&c::SLOTS, by(rows, WorkerState::VALUES, |r| r.slots)),
            family(&c::DRIFT, drift),
            family(&c::STUCK, by(rows, labels::VERDICTS, |r| r.stuck)),
            family(&c::STUCK_THRESHOLD, each(rows, |r| r.stuck_after.as_secs_f64())),
            family(
                &c::STORE_NAMES,
                labels::DICTIONARIES
                    .iter()
                    .zip(sampled.names)
                    .map(|(of, names)| (vec![*of], names as f64)),
            ),
            family(&c::STORE_SIZE, one(sampled.size_bytes)),
            family(&c::STORE_MIN_FREE, one(self.0.min_free_bytes)),
        ];
        families.extend(sampled.free_bytes.map(|free| family(&c::STORE_FREE, one(free))));
        families
    }
}

fn each(rows: &[Row], value: impl Fn(&Row) -> f64) -> impl Iterator<Item = Series<'_>> {
    rows.iter().map(move |row| (vec![row.label.as_str()], value(row)))
}

/// One series for each row and each value of the label behind `queue`.
fn by<'a, const N: usize>(
    rows: &'a [Row],
    values: [&'static str; N],
    numbers: impl Fn(&Row) -> [u64; N],
) -> impl Iterator<Item = Series<'a>> {
    rows.iter().flat_map(move |row| {
        let numbers = numbers(row);
        std::array::from_fn::<_, N, _>(|i| (vec![row.label.as_str(), values[i]], numbers[i] as f64))
    })
}
