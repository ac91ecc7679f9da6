//! How much is logged, by level: counted where events are written, whichever app instance in this
//! process they come from.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::telemetry::catalogue as c;
use crate::telemetry::families::{desc, family};
use crate::telemetry::labels::LogLevel;

/// Events by level.
#[derive(Debug, Default)]
pub(super) struct Counts([AtomicU64; LogLevel::ALL.len()]);

/// Those of this process.
pub(super) static EMITTED: Counts = Counts([const { AtomicU64::new(0) }; LogLevel::ALL.len()]);

/// Counts the events that get past the filter.
#[derive(Debug)]
pub(super) struct CountEvents(pub(super) &'static Counts);

impl<S: Subscriber> Layer<S> for CountEvents {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = LogLevel::of(*event.metadata().level());
        self.0.0[level as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Renders them.
#[derive(Debug)]
pub(in crate::telemetry) struct LogEvents {
    counts: &'static Counts,
    desc: Desc,
}

impl LogEvents {
    pub(super) fn new(counts: &'static Counts) -> Self {
        Self { counts, desc: desc(&c::LOG_EVENTS) }
    }
}

impl Collector for LogEvents {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counts = &self.counts.0;
        let series = LogLevel::ALL.into_iter().map(|level| {
            (vec![level.as_str()], counts[level as usize].load(Ordering::Relaxed) as f64)
        });
        vec![family(&c::LOG_EVENTS, series)]
    }
}
