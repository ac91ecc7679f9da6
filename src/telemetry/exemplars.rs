//! Exemplars: for a bucket or a counter, the trace of one event that counted there.
//!
//! The instruments have no place for them, so they are kept beside: one slot a bucket, the latest
//! wins. Only traces that are recorded get here, or a link would lead nowhere. Nobody waits for a
//! slot: an event that finds one taken leaves it as it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use prometheus::{Histogram, IntCounter};

use super::catalogue::{Kind, Metric};
use crate::domain::trace::{SpanId, TraceId};

/// The span of an event, in a trace that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example {
    pub trace: TraceId,
    pub span: SpanId,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Exemplar {
    pub(super) of: Example,
    pub(super) value: f64,
    /// Unix time in seconds.
    pub(super) at: f64,
}

/// Those of one series.
#[derive(Debug)]
pub(super) struct Slots {
    /// Of a histogram; a counter has none.
    bounds: &'static [f64],
    /// One for each bound, and one for what is beyond.
    slots: Box<[Mutex<Option<Exemplar>>]>,
}

impl Slots {
    fn new(metric: &Metric) -> Self {
        let bounds = match metric.kind {
            Kind::Histogram(bounds) => bounds,
            Kind::Counter | Kind::Gauge => &[],
        };
        Self { bounds, slots: (0..=bounds.len()).map(|_| Mutex::new(None)).collect() }
    }

    fn keep(&self, of: Example, value: f64) {
        let slot = &self.slots[self.bounds.partition_point(|bound| *bound < value)];
        if let Ok(mut slot) = slot.try_lock() {
            *slot = Some(Exemplar { of, value, at: super::events::unix_now() });
        }
    }

    /// By the place of the bucket; 0 for a counter.
    pub(super) fn get(&self, bucket: usize) -> Option<Exemplar> {
        let slot = self.slots.get(bucket)?;
        slot.try_lock().ok().and_then(|kept| *kept)
    }
}

/// The slots of every series that has them, by family and labels.
#[derive(Debug, Default)]
pub(super) struct Exemplars(RwLock<HashMap<&'static str, HashMap<String, Arc<Slots>>>>);

impl Exemplars {
    /// Those of the series with these label values, made on first sight.
    pub(super) fn of(&self, metric: &'static Metric, values: &[&str]) -> Arc<Slots> {
        let mut families = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(metric.name).or_default();
        let slots =
            family.entry(key(metric, values)).or_insert_with(|| Arc::new(Slots::new(metric)));
        Arc::clone(slots)
    }

    pub(super) fn forget(&self, metric: &'static Metric, values: &[&str]) {
        let mut families = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(family) = families.get_mut(metric.name) {
            family.remove(&key(metric, values));
        }
    }

    /// By the labels as they are rendered.
    pub(super) fn find(&self, family: &str, labels: &str) -> Option<Arc<Slots>> {
        let families = self.0.read().unwrap_or_else(PoisonError::into_inner);
        families.get(family)?.get(labels).map(Arc::clone)
    }
}

fn key(metric: &Metric, values: &[&str]) -> String {
    let mut pairs: Vec<_> = metric.label_names().into_iter().zip(values.iter().copied()).collect();
    pairs.sort_unstable();
    super::exposition::labels(pairs.into_iter())
}

/// A histogram whose buckets have exemplars.
#[derive(Debug)]
pub(super) struct TracedHistogram {
    pub(super) histogram: Histogram,
    pub(super) exemplars: Arc<Slots>,
}

impl TracedHistogram {
    pub(super) fn observe(&self, value: f64, example: Option<Example>) {
        self.histogram.observe(value);
        if let Some(example) = example {
            self.exemplars.keep(example, value);
        }
    }
}

/// A counter that has an exemplar.
#[derive(Debug)]
pub(super) struct TracedCounter {
    pub(super) counter: IntCounter,
    pub(super) exemplars: Arc<Slots>,
}

impl TracedCounter {
    pub(super) fn inc(&self, example: Option<Example>) {
        self.counter.inc();
        if let Some(example) = example {
            self.exemplars.keep(example, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::catalogue::{ATTEMPTS, WAIT};

    fn example(n: u8) -> Example {
        Example { trace: TraceId::new([n; 16]).unwrap(), span: SpanId::new([n; 8]).unwrap() }
    }

    #[test]
    fn each_bucket_keeps_its_latest() {
        let exemplars = Exemplars::default();
        let slots = exemplars.of(&WAIT, &["q"]);
        for (n, value) in [(1, 0.001), (2, 0.005), (3, 0.006), (4, 1e9)] {
            slots.keep(example(n), value);
        }
        let kept = |bucket| exemplars.of(&WAIT, &["q"]).get(bucket).map(|e| (e.of, e.value));
        // A bound belongs to the bucket that it closes.
        assert_eq!(kept(0), Some((example(2), 0.005)));
        assert_eq!(kept(1), Some((example(3), 0.006)));
        assert_eq!(kept(2), None);
        let Kind::Histogram(bounds) = WAIT.kind else { panic!("a histogram") };
        assert_eq!(kept(bounds.len()), Some((example(4), 1e9)));
        assert_eq!(kept(bounds.len() + 1), None);
    }

    #[test]
    fn series_are_found_by_their_labels_and_forgotten() {
        let exemplars = Exemplars::default();
        exemplars.of(&ATTEMPTS, &["a\"b", "failed"]).keep(example(1), 1.0);
        let found = || exemplars.find(ATTEMPTS.name, "outcome=\"failed\",queue=\"a\\\"b\"");
        assert_eq!(found().and_then(|s| s.get(0)).map(|e| e.of), Some(example(1)));
        assert!(exemplars.find(ATTEMPTS.name, "outcome=\"failed\",queue=\"x\"").is_none());
        assert!(exemplars.find(WAIT.name, "").is_none());
        exemplars.forget(&ATTEMPTS, &["a\"b", "failed"]);
        assert!(found().is_none());
    }

    #[test]
    fn nobody_waits_for_a_slot() {
        let slots = Exemplars::default().of(&WAIT, &["q"]);
        slots.keep(example(1), 1e9);
        let last = slots.slots.last().unwrap();
        let held = last.lock().unwrap();
        slots.keep(example(2), 1e9);
        assert_eq!(slots.get(slots.bounds.len()), None);
        drop(held);
        assert_eq!(slots.get(slots.bounds.len()).map(|e| e.of), Some(example(1)));
    }
}
