//! What is known of each kind, for people.

use std::borrow::Cow;
use std::time::Duration;

use super::super::names::Name;
use super::super::time::Timestamp;
use super::ENOUGH_SAMPLES;
use super::experience::{Experience, Key, Known, Record};
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

    /// Of all of these together.
    fn of(kind: &Name, known: &[&Known]) -> Self {
        let records = || known.iter().filter_map(|known| known.record.as_deref());
        let count = |of: fn(&Record) -> &Window| records().map(|r| of(r).day().count()).sum();
        let spread = |of: fn(&Record) -> &Window| Spread::of(&together(records().map(of)));
        Self {
            kind: kind.clone(),
            run: Spread::of(&together(known.iter().map(|known| &known.run))),
            wait: Spread::of(&together(known.iter().map(|known| &known.wait))),
            completed: count(|record| &record.completed),
            failed: count(|record| &record.failed),
            early: spread(|record| &record.early),
            late: spread(|record| &record.late),
        }
    }

    fn says_something(&self) -> bool {
        let spreads = [self.run, self.wait, self.early, self.late];
        self.completed + self.failed > 0 || spreads.iter().any(|s| s.samples > 0)
    }
}

/// What all of them tell: the last hour if there are enough samples in it, else the last day.
fn together<'a>(windows: impl Iterator<Item = &'a Window>) -> Cow<'a, Sketch> {
    let windows: Vec<&Window> = windows.collect();
    if let [one] = windows[..] {
        return Cow::Borrowed(one.sketch());
    }
    let enough = windows.iter().map(|w| w.hour().count()).sum::<u64>() >= ENOUGH_SAMPLES;
    let mut sum = Sketch::default();
    for window in windows {
        sum.merge(if enough { window.hour() } else { window.day() });
    }
    Cow::Owned(sum)
}

impl Experience {
    /// The kinds of which anything is known, by name.
    pub fn kinds(&mut self, now: Timestamp) -> Vec<KindRecord> {
        let mut kinds = self.known_kinds(None);
        kinds.sort();
        kinds.iter().filter_map(|kind| self.kind(kind, None, now)).collect()
    }

    /// The kinds that were ever seen, in these queues (`None`: in any), in no order.
    pub fn known_kinds(&self, queues: Option<&[Name]>) -> Vec<Name> {
        let mut kinds: Vec<Name> = self
            .all()
            .filter_map(|(key, _)| match (key, queues) {
                (Key::Kind(kind), None) => Some(kind.clone()),
                (Key::Pair(queue, kind), Some(queues)) => {
                    queues.contains(queue).then(|| kind.clone())
                }
                (Key::Pair(..) | Key::Kind(_) | Key::Queue(_), _) => None,
            })
            .collect();
        if queues.is_some() {
            kinds.sort();
            kinds.dedup();
        }
        kinds
    }

    /// What the jobs of this kind tell, those of these queues only (`None`: of any).
    pub fn kind(
        &mut self,
        kind: &Name,
        queues: Option<&[Name]>,
        now: Timestamp,
    ) -> Option<KindRecord> {
        let keys: Vec<Key> = match queues {
            None => vec![Key::Kind(kind.clone())],
            Some(queues) => {
                queues.iter().map(|queue| Key::Pair(queue.clone(), kind.clone())).collect()
            }
        };
        let known = self.looked_up_all(&keys, now);
        let record = KindRecord::of(kind, &known);
        record.says_something().then_some(record)
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
            known.observe_end(&queue, &kind, n % 4 > 0, now);
        }
        known.observe_wait(&queue, &Name::trusted("a"), Duration::from_secs(3), now);
        known.observe_offset(&queue, &kind, Missed::Late, Duration::from_secs(2), now);
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

    #[test]
    fn who_sees_some_queues_sees_what_their_jobs_tell() {
        let [a, b, c] = ["a", "b", "c"].map(Name::trusted);
        let (kind, other) = (Name::trusted("k"), Name::trusted("other"));
        let now = Timestamp::from_millis(5);
        let mut known = Experience::default();
        for (queue, seconds) in [(&a, 1), (&b, 2), (&c, 3)] {
            for n in 0..15 {
                known.observe_run(queue, &kind, Duration::from_secs(seconds), now);
                known.observe_end(queue, &kind, n > 0, now);
            }
            known.observe_offset(queue, &kind, Missed::Early, Duration::from_secs(seconds), now);
        }
        known.observe_run(&c, &other, Duration::from_secs(9), now);
        let of = |known: &mut Experience, queues: &[Name]| known.kind(&kind, Some(queues), now);
        let seen = of(&mut known, &[a.clone(), b.clone()]).unwrap();
        assert_eq!((seen.run.samples, seen.completed, seen.failed), (30, 28, 2));
        assert_eq!(seen.early.samples, 2);
        let [p50, _, p99] = seen.run.quantiles.unwrap().map(|d| d.as_secs_f64().round());
        assert_eq!((p50, p99), (1.0, 2.0));
        assert_eq!(of(&mut known, &[Name::trusted("d")]), None);
        let queues = [a, b, c.clone()];
        assert_eq!(of(&mut known, &queues), known.kind(&kind, None, now), "all of them");
        assert_eq!(known.known_kinds(Some(&queues[..2])), std::slice::from_ref(&kind));
        assert_eq!(known.known_kinds(Some(&[c])), [kind, other]);
        assert_eq!(known.known_kinds(Some(&[])), []);
    }
}
