//! A distribution of durations in little memory, true to one part in a hundred.
//!
//! A `DDSketch`: buckets whose bounds grow by a constant factor, so that every quantile is within
//! 1 % of a true one. Two sketches add up, and what was added can be taken out again, which is how
//! a window slides. Ours and not a crate's because of that, because of the share that lies below a
//! value, which the crates do not tell, and because theirs keep a dense array of 8-byte counters
//! where most of ours have a handful of buckets.

use std::time::Duration;

/// The relative error.
const ERROR: f64 = 0.01;

/// The logarithm of (1 + error) / (1 - error): the factor between the bounds of a bucket.
const LN_GAMMA: f64 = 0.020_000_666_706_669_525;

/// Durations are whole milliseconds, and longer ones than this (49 days) count as this.
const LONGEST_MILLIS: u64 = u32::MAX as u64;

/// The bucket of the longest duration; so no sketch has more than 1 111 buckets, of 8 bytes each.
const LAST: u16 = 1_110;

/// A job that has outlived more than this share of its peers has outlived what is known of them.
const TAIL: f64 = 0.01;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    /// 0: less than a millisecond. From 1 on, see [`value`].
    at: u16,
    count: u32,
}

/// Counts of durations by size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    /// By size; none is empty.
    buckets: Vec<Bucket>,
    count: u64,
}

fn bucket(span: Duration) -> u16 {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).min(LONGEST_MILLIS);
    if millis == 0 {
        return 0;
    }
    // The cast saturates.
    let at = 1.0 + ((millis as f64).ln() / LN_GAMMA).ceil();
    (at as u16).min(LAST)
}

/// Seconds: what is nearest to everything in the bucket, by ratio.
fn value(at: u16) -> f64 {
    if at == 0 {
        return 0.0;
    }
    (f64::from(at - 1) * LN_GAMMA).exp() * (1.0 - ERROR) / 1_000.0
}

/// Where a duration belongs, in every sketch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(u16);

impl From<Duration> for Place {
    fn from(span: Duration) -> Self {
        Self(bucket(span))
    }
}

impl Sketch {
    pub fn add(&mut self, span: Duration) {
        self.put(bucket(span), 1);
    }

    /// The same for whoever adds it to several.
    pub(super) fn add_at(&mut self, place: Place) {
        self.put(place.0, 1);
    }

    fn put(&mut self, at: u16, count: u32) {
        match self.buckets.binary_search_by_key(&at, |b| b.at) {
            Ok(found) => {
                let bucket = &mut self.buckets[found];
                let room = u32::MAX - bucket.count;
                bucket.count += count.min(room);
                self.count += u64::from(count.min(room));
            }
            Err(place) if count > 0 => {
                self.buckets.insert(place, Bucket { at, count });
                self.count += u64::from(count);
            }
            Err(_) => {}
        }
    }

    /// As if everything in `other` had been added here.
    pub fn merge(&mut self, other: &Self) {
        for bucket in &other.buckets {
            self.put(bucket.at, bucket.count);
        }
    }

    /// As if nothing in `other` had been added here.
    pub fn remove(&mut self, other: &Self) {
        let mut theirs = other.buckets.iter().peekable();
        let mut removed = 0;
        self.buckets.retain_mut(|bucket| {
            while theirs.next_if(|b| b.at < bucket.at).is_some() {}
            if let Some(gone) = theirs.next_if(|b| b.at == bucket.at) {
                let gone = gone.count.min(bucket.count);
                bucket.count -= gone;
                removed += u64::from(gone);
            }
            bucket.count > 0
        });
        self.count -= removed;
        if self.buckets.is_empty() {
            self.buckets = Vec::new();
        }
    }

    /// Durations in it.
    pub const fn count(&self) -> u64 {
        self.count
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What it costs: buckets, of 8 bytes each.
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// The least of the durations that at least the share `q` does not exceed.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        self.ranked(0, q)
    }

    /// How long whoever has lasted for `elapsed` lasts in all: the quantile `q` of those that
    /// lasted longer. `None` when no more than one in a hundred did.
    pub fn quantile_beyond(&self, elapsed: Duration, q: f64) -> Option<Duration> {
        let passed = self.up_to(elapsed);
        let left = self.count.checked_sub(passed).filter(|left| *left > 0)?;
        if (left as f64) < TAIL * self.count as f64 {
            return None;
        }
        self.ranked(passed, q)
    }

    /// The quantile `q` of what is left beyond the first `passed`.
    fn ranked(&self, passed: u64, q: f64) -> Option<Duration> {
        let left = self.count.checked_sub(passed).filter(|left| *left > 0)?;
        // The cast saturates.
        let place = (left as f64 * q).ceil() as u64;
        let mut rank = passed + place.clamp(1, left);
        let found = self.buckets.iter().find(|bucket| {
            let here = rank <= u64::from(bucket.count);
            rank = rank.saturating_sub(u64::from(bucket.count));
            here
        })?;
        Duration::try_from_secs_f64(value(found.at)).ok()
    }

    /// How many lasted no longer than `span`, as far as its bucket tells.
    fn up_to(&self, span: Duration) -> u64 {
        let at = bucket(span);
        let end = self.buckets.partition_point(|b| b.at <= at);
        self.buckets[..end].iter().map(|b| u64::from(b.count)).sum()
    }

    pub fn mean(&self) -> Option<Duration> {
        let sum: f64 = self.buckets.iter().map(|b| value(b.at) * f64::from(b.count)).sum();
        (self.count > 0).then(|| Duration::try_from_secs_f64(sum / self.count as f64).ok())?
    }

    /// Pairs of the step from the bucket before and the count, for whoever writes it down.
    pub(super) fn steps(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut before = 0;
        self.buckets.iter().map(move |b| {
            let step = b.at - std::mem::replace(&mut before, b.at);
            (u64::from(step), u64::from(b.count))
        })
    }

    /// From such pairs; `None` when they are not of a sketch.
    pub(super) fn from_steps(steps: impl Iterator<Item = (u64, u64)>) -> Option<Self> {
        let mut sketch = Self::default();
        let mut last: Option<u16> = None;
        for (step, count) in steps {
            let step = u16::try_from(step).ok()?;
            let at = match last {
                None => step,
                Some(before) if step > 0 => before.checked_add(step)?,
                Some(_) => return None,
            };
            let count = u32::try_from(count).ok().filter(|count| *count > 0)?;
            if at > LAST {
                return None;
            }
            sketch.buckets.push(Bucket { at, count });
            sketch.count += u64::from(count);
            last = Some(at);
        }
        Some(sketch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(millis: &[u64]) -> Sketch {
        let mut sketch = Sketch::default();
        for ms in millis {
            sketch.add(Duration::from_millis(*ms));
        }
        sketch
    }

    /// The same by sorting.
    fn exact(sorted: &[u64], q: f64) -> u64 {
        let place = (sorted.len() as f64 * q).ceil() as usize;
        sorted[place.clamp(1, sorted.len()) - 1]
    }

    fn span() -> impl Strategy<Value = u64> {
        prop_oneof![0..5u64, 0..2_000u64, 0..100_000_000u64, Just(LONGEST_MILLIS)]
    }

    fn near(found: Duration, exact: u64) -> bool {
        let (found, exact) = (found.as_secs_f64() * 1_000.0, exact as f64);
        (found - exact).abs() <= exact * ERROR * 1.000_001 + 1e-6
    }

    #[test]
    fn nothing_is_known_of_nothing() {
        let none = Sketch::default();
        assert_eq!((none.quantile(0.5), none.mean()), (None, None));
        assert_eq!(none.quantile_beyond(Duration::ZERO, 0.5), None);
        assert!(none.is_empty());
    }

    #[test]
    fn the_longest_has_the_last_bucket() {
        assert_eq!(bucket(Duration::MAX), LAST);
        assert!(of(&[u64::MAX]).quantile(1.0).unwrap() >= Duration::from_secs(86_400 * 49));
    }

    #[test]
    fn what_remains_is_judged_by_those_who_lasted_as_long() {
        let sketch = of(&[1_000, 1_000, 2_000, 60_000]);
        let beyond = |ms, q| sketch.quantile_beyond(Duration::from_millis(ms), q);
        assert!(near(beyond(0, 0.5).unwrap(), 1_000));
        assert!(near(beyond(1_500, 0.5).unwrap(), 2_000));
        assert!(near(beyond(1_500, 0.9).unwrap(), 60_000));
        assert!(near(beyond(2_500, 0.01).unwrap(), 60_000));
        assert_eq!(beyond(61_000, 0.5), None);
        let mut many = of(&[1_000; 200]);
        many.add(Duration::from_secs(9));
        assert_eq!(many.quantile_beyond(Duration::from_secs(5), 0.5), None, "one in 200");
    }

    proptest! {
        #[test]
        fn every_quantile_is_near_a_true_one(
            mut millis in prop::collection::vec(span(), 1..300), q in 0.0..=1.0f64,
        ) {
            let sketch = of(&millis);
            millis.sort_unstable();
            prop_assert!(near(sketch.quantile(q).unwrap(), exact(&millis, q)));
            prop_assert_eq!(sketch.count(), millis.len() as u64);
            prop_assert!(sketch.buckets() <= usize::from(LAST) + 1);
            let mean = millis.iter().map(|ms| *ms as f64).sum::<f64>() / millis.len() as f64;
            let found = sketch.mean().unwrap().as_secs_f64() * 1_000.0;
            prop_assert!((found - mean).abs() <= mean * ERROR * 1.001 + 1e-6);
        }

        #[test]
        fn a_merge_is_the_union_and_can_be_undone(
            ours in prop::collection::vec(span(), 0..100),
            theirs in prop::collection::vec(span(), 0..100),
        ) {
            let (before, other) = (of(&ours), of(&theirs));
            let mut both = before.clone();
            both.merge(&other);
            prop_assert_eq!(&both, &of(&[ours, theirs].concat()));
            both.remove(&other);
            prop_assert_eq!(both, before);
        }

        #[test]
        fn what_remains_lies_ahead(
            millis in prop::collection::vec(span(), 1..100), elapsed in span(), q in 0.0..=1.0f64,
        ) {
            let elapsed = Duration::from_millis(elapsed);
            if let Some(whole) = of(&millis).quantile_beyond(elapsed, q) {
                prop_assert!(whole.as_secs_f64() >= elapsed.as_secs_f64() * (1.0 - ERROR));
            }
        }

        #[test]
        fn it_can_be_written_down(millis in prop::collection::vec(span(), 0..100)) {
            let sketch = of(&millis);
            let steps: Vec<_> = sketch.steps().collect();
            prop_assert_eq!(Sketch::from_steps(steps.into_iter()), Some(sketch));
        }

        #[test]
        fn anything_can_be_read(steps in prop::collection::vec((0..2_000u64, any::<u64>()), 0..50)) {
            if let Some(sketch) = Sketch::from_steps(steps.into_iter()) {
                prop_assert!(sketch.is_empty() || sketch.quantile(0.5).is_some());
            }
        }
    }
}
