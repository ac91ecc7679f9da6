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
use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};

use super::catalogue::{self as c, Kind, Metric, Scope};
use super::labels;
use crate::domain::job::{PendingReason, Status, Tally};
use crate::domain::names::Name;

/// The state of the store at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub queues: Vec<QueueSnapshot>,
    pub size_bytes: u64,
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
}

/// A monotonic reading.
pub(super) type Monotonic = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Samples that may be missed before the latest is withheld.
const MISSED: u32 = 3;

/// One label's worth of a snapshot.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) label: String,
    tallies: [u64; Tally::ALL.len()],
    depth: u64,
    /// By [`PendingReason`].
    pending: [u64; PendingReason::ALL.len()],
    paused: bool,
    oldest: Option<Duration>,
}

impl Row {
    /// A queue without jobs.
    pub(super) fn empty(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            tallies: [0; Tally::ALL.len()],
            depth: 0,
            pending: [0; PendingReason::ALL.len()],
            paused: false,
            oldest: None,
        }
    }

    /// Counts `queue` in: numbers add up, of ages the oldest counts.
    pub(super) fn add(&mut self, queue: &QueueSnapshot) {
        let of = |tally: Tally| queue.tallies[tally.code() as usize];
        let (queued, scheduled, backoff) =
            (of(Tally::Queued), of(Tally::Scheduled), of(Tally::Backoff));
        for (sum, n) in self.tallies.iter_mut().zip(queue.tallies) {
            *sum = sum.saturating_add(n);
        }
        let due = queue.due.min(scheduled.saturating_add(backoff));
        self.depth = self.depth.saturating_add(queued).saturating_add(due);
        let waiting = if queue.paused { PendingReason::QueuePaused } else { PendingReason::Queued };
        for (reason, n) in [
            (PendingReason::Scheduled, scheduled),
            (PendingReason::RetryBackoff, backoff),
            (waiting, queued),
        ] {
            let sum = &mut self.pending[reason as usize];
            *sum = sum.saturating_add(n);
        }
        self.paused |= queue.paused;
        if !queue.paused {
            self.oldest = self.oldest.max(queue.oldest_pending_age);
        }
    }

    fn state(&self, status: Status) -> u64 {
        Tally::ALL
            .into_iter()
            .filter(|tally| tally.status() == status)
            .map(|tally| self.tallies[tally.code() as usize])
            .fold(0, u64::saturating_add)
    }
}

#[derive(Debug)]
struct Sampled {
    rows: Vec<Row>,
    size_bytes: u64,
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
    monotonic: Monotonic,
    descs: Vec<Desc>,
}

impl Latest {
    pub(super) fn new(period: Duration, monotonic: Monotonic) -> Self {
        let descs = c::ALL.iter().filter(|m| m.scope == Scope::Store).map(|m| desc(m)).collect();
        Self(Arc::new(Inner {
            sampled: Mutex::new(None),
            drift: Default::default(),
            stale_after: period.saturating_mul(MISSED),
            monotonic,
            descs,
        }))
    }

    pub(super) fn set(&self, rows: Vec<Row>, size_bytes: u64) {
        let sampled = Sampled { rows, size_bytes, at: (self.0.monotonic)() };
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
        let age = |oldest: Option<Duration>| oldest.map_or(0.0, |d| (d + since).as_secs_f64());
        let by_state = rows.iter().flat_map(|r| {
            Status::ALL.map(|s| (vec![r.label.as_str(), s.as_str()], r.state(s) as f64))
        });
        let by_reason = rows.iter().flat_map(|r| {
            PendingReason::ALL
                .map(|p| (vec![r.label.as_str(), p.as_str()], r.pending[p as usize] as f64))
        });
        let drift = labels::STATES
            .iter()
            .zip(&self.0.drift)
            .map(|(state, jobs)| (vec![*state], jobs.load(Ordering::Relaxed) as f64));
        vec![
            family(&c::JOBS, by_state),
            family(&c::DEPTH, each(rows, |r| r.depth as f64)),
            family(&c::PENDING, by_reason),
            family(&c::OLDEST_PENDING, each(rows, |r| age(r.oldest))),
            family(&c::PAUSED, each(rows, |r| f64::from(u8::from(r.paused)))),
            family(&c::DRIFT, drift),
            family(&c::STORE_SIZE, std::iter::once((vec![], sampled.size_bytes as f64))),
        ]
    }
}

fn desc(metric: &Metric) -> Desc {
    let labels = metric.label_names().into_iter().map(str::to_owned).collect();
    Desc::new(metric.name.to_owned(), metric.help.to_owned(), labels, [].into())
        .expect("the catalogue's declarations are valid")
}

type Series<'a> = (Vec<&'a str>, f64);

fn each(rows: &[Row], value: impl Fn(&Row) -> f64) -> impl Iterator<Item = Series<'_>> {
    rows.iter().map(move |row| (vec![row.label.as_str()], value(row)))
}

fn family<'a>(metric: &'static Metric, series: impl Iterator<Item = Series<'a>>) -> MetricFamily {
    debug_assert!(metric.kind == Kind::Gauge && metric.scope == Scope::Store, "{}", metric.name);
    let series = series.map(|(values, value)| {
        let labels = metric.labels.iter().zip(values).map(|(label, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(label.name.to_owned());
            pair.set_value(value.to_owned());
            pair
        });
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        let mut one = proto::Metric::from_gauge(gauge);
        one.set_label(labels.collect());
        one
    });
    let mut family = MetricFamily::default();
    family.set_name(metric.name.to_owned());
    family.set_help(metric.help.to_owned());
    family.set_field_type(MetricType::GAUGE);
    family.set_metric(series.collect());
    family
}
