//! What is known of each kind, for people.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::names::Name;
use super::super::time::Timestamp;
use super::experience::{Experience, Key, Known};
use super::sketch::Sketch;
use super::window::Window;

/// A distribution, shown by three of its quantiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spread {
    pub samples: u64,
    /// Of 50, 90 and 99 in a hundred; `None` without samples.
    pub quantiles: Option<[Duration; 3]>,
}

impl Spread {
    fn of(sketch: &Sketch) -> Self {
        let at = |q| sketch.quantile(q);
        let quantiles = at(0.5).zip(at(0.9)).zip(at(0.99)).map(|((a, b), c)| [a, b, c]);
        Self { samples: sketch.count(), quantiles }
    }
}

/// What the last hour, or the last day where that is too little, tells of a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct KindRecord {
    pub kind: Name,
    /// Of completed attempts.
    pub run: Spread,
    /// From eligible to claimed.
    pub wait: Spread,
    /// Jobs that ended so, over the day.
    pub completed: u64,
    pub failed: u64,
    /// How long before the moment that their clients were told jobs ended, and how long after it.
    pub early: Spread,
    pub late: Spread,
}

impl KindRecord {
    /// Failed of those that completed or failed; `None` when none did.
    pub fn failure_ratio(&self) -> Option<f64> {
        let all = self.completed + self.failed;
        (all > 0).then(|| self.failed as f64 / all as f64)
    }

    fn of(kind: &Name, known: &Known) -> Self {
        let record = known.record.as_deref();
        let count = |window: Option<&Window>| window.map_or(0, |w| w.day().count());
        let spread =
            |window: Option<&Window>| window.map_or(Spread::default(), |w| Spread::of(w.sketch()));
        Self {
            kind: kind.clone(),
            run: spread(Some(&known.run)),
            wait: spread(Some(&known.wait)),
            completed: count(record.map(|r| &r.completed)),
            failed: count(record.map(|r| &r.failed)),
            early: spread(record.map(|r| &r.early)),
            late: spread(record.map(|r| &r.late)),
        }
    }

    fn says_something(&self) -> bool {
        let spreads = [self.run, self.wait, self.early, self.late];
        self.completed + self.failed > 0 || spreads.iter().any(|s| s.samples > 0)
    }
}

impl Experience {
    /// Kinds of which jobs of these queues have taught something.
    pub fn kinds_in(&self, queues: &[Name]) -> BTreeSet<Name> {
        let pairs = self.all().filter_map(|(key, _)| match key {
            Key::Pair(queue, kind) => queues.contains(queue).then(|| kind.clone()),
            Key::Kind(_) | Key::Queue(_) => None,
        });
        pairs.collect()
    }

    /// The kinds of which anything is known, by name.
    pub fn kinds(&mut self, now: Timestamp) -> Vec<KindRecord> {
        self.turn_all(now);
        let mut kinds: Vec<KindRecord> = self
            .all()
            .filter_map(|(key, known)| match key {
                Key::Kind(kind) => Some(KindRecord::of(kind, known)),
                Key::Pair(..) | Key::Queue(_) => None,
            })
            .filter(KindRecord::says_something)
            .collect();
        kinds.sort_by(|a, b| a.kind.cmp(&b.kind));
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::super::experience::Missed;
    use super::*;

    #[test]
    fn a_kind_shows_what_became_of_its_jobs() {
        let (queue, kind) = (Name::trusted("q"), Name::trusted("b"));
        let now = Timestamp::from_millis(5);
        let mut known = Experience::default();
        for n in 1..=100 {
            known.observe_run(&queue, &kind, Duration::from_secs(n), now);
            known.observe_end(&kind, n % 4 > 0, now);
        }
        known.observe_wait(&queue, &Name::trusted("a"), Duration::from_secs(3), now);
        known.observe_offset(&kind, Missed::Late, Duration::from_secs(2), now);
        let kinds = known.kinds(now);
        assert_eq!(kinds.iter().map(|k| k.kind.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((kinds[0].wait.samples, kinds[0].failure_ratio()), (1, None));
        let b = &kinds[1];
        assert_eq!((b.run.samples, b.failure_ratio()), (100, Some(0.25)));
        for (found, exact) in b.run.quantiles.unwrap().into_iter().zip([50.0, 90.0, 99.0]) {
            assert!((found.as_secs_f64() / exact - 1.0).abs() < 0.0101, "{found:?} for {exact}");
        }
        assert_eq!((b.late.samples, b.early), (1, Spread::default()));
        let much_later = now.plus(Duration::from_secs(3 * 86_400));
        assert!(known.kinds(much_later).is_empty());
    }
}
