//! Medians of the latest durations, by (queue, kind), by kind and by queue.

use std::collections::HashMap;
use std::time::Duration;

use super::super::names::Name;
use super::{ENOUGH_SAMPLES, GUESS};

/// Durations remembered for each key: enough for a steady median, few enough to follow change.
const WINDOW: usize = 64;

/// Keys remembered by default.
const DEFAULT_KEYS: usize = 10_000;

/// What a median was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Basis {
    /// Jobs of this queue and kind.
    Pair,
    /// Jobs of this kind, in any queue.
    Kind,
    /// Jobs of this queue, of any kind.
    Queue,
    /// The client's `expected_duration`.
    Hint,
    /// Nothing is known.
    Guess,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Median {
    pub value: Duration,
    /// Durations behind it; 0 for a hint and a guess.
    pub samples: usize,
    pub basis: Basis,
}

impl Median {
    const GUESSED: Self = Self { value: GUESS, samples: 0, basis: Basis::Guess };
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Pair(Name, Name),
    Kind(Name),
    Queue(Name),
}

/// How long jobs ran (completed attempts only: those that fail fast say nothing of success) and
/// how long they waited from eligible to claimed.
///
/// Bounded: the latest 64 durations of each key, and a fixed number of keys. The keys live in two
/// generations; a key that is observed moves to the young one, and when that holds half of the
/// limit the old one is dropped whole. So at least the latest `limit / 2` observed keys are
/// kept, at most `limit`, and each observation costs O(1).
#[derive(Debug)]
pub struct Medians {
    young: HashMap<Key, Durations>,
    old: HashMap<Key, Durations>,
    generation: usize,
}

impl Default for Medians {
    fn default() -> Self {
        Self::with_limit(DEFAULT_KEYS)
    }
}

impl Medians {
    /// `limit` keys at most (at least 2). A (queue, kind) pair, its queue and its kind are a key
    /// each.
    pub fn with_limit(limit: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), generation: (limit / 2).max(1) }
    }

    /// An attempt of this queue and kind has completed after `took`.
    pub fn observe_run(&mut self, queue: &Name, kind: &Name, took: Duration) {
        for key in keys(queue, kind) {
            self.touch(key).run.push(took);
        }
    }

    /// A job of this queue and kind was claimed after being eligible for `waited`.
    pub fn observe_wait(&mut self, queue: &Name, kind: &Name, waited: Duration) {
        for key in [Key::Pair(queue.clone(), kind.clone()), Key::Queue(queue.clone())] {
            self.touch(key).wait.push(waited);
        }
    }

    /// The run time to expect: the pair's own median once it has 20 samples, else its kind's,
    /// else its queue's once *that* has 20 (other kinds' few runs say little), else the hint,
    /// else 2 s.
    pub fn run(&self, queue: &Name, kind: &Name, hint: Option<Duration>) -> Median {
        let of = |key, least, basis| self.median(&key, |d| &d.run, least, basis);
        of(Key::Pair(queue.clone(), kind.clone()), ENOUGH_SAMPLES, Basis::Pair)
            .or_else(|| of(Key::Kind(kind.clone()), 1, Basis::Kind))
            .or_else(|| of(Key::Queue(queue.clone()), ENOUGH_SAMPLES, Basis::Queue))
            .or_else(|| hint.map(|value| Median { value, samples: 0, basis: Basis::Hint }))
            .unwrap_or(Median::GUESSED)
    }

    /// The wait to expect: the pair's own median once it has 20 samples, else its queue's, else
    /// 2 s. What the kind waits for elsewhere says nothing of this queue.
    pub fn wait(&self, queue: &Name, kind: &Name) -> Median {
        let of = |key, least, basis| self.median(&key, |d| &d.wait, least, basis);
        of(Key::Pair(queue.clone(), kind.clone()), ENOUGH_SAMPLES, Basis::Pair)
            .or_else(|| of(Key::Queue(queue.clone()), 1, Basis::Queue))
            .unwrap_or(Median::GUESSED)
    }

    /// The longest of the runs remembered, once there are 20 of the pair, or else of the kind: of so
    /// few, a higher quantile than the longest is not to be had.
    pub fn longest_run(&self, queue: &Name, kind: &Name) -> Option<Duration> {
        let of = |key| self.get(&key).filter(|d| d.run.len() >= ENOUGH_SAMPLES);
        of(Key::Pair(queue.clone(), kind.clone()))
            .or_else(|| of(Key::Kind(kind.clone())))
            .and_then(|known| known.run.quantile(1.0))
    }

    /// Run times remembered of exactly this queue and kind.
    pub fn run_samples(&self, queue: &Name, kind: &Name) -> usize {
        self.get(&Key::Pair(queue.clone(), kind.clone())).map_or(0, |d| d.run.len())
    }

    /// Keys remembered.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn get(&self, key: &Key) -> Option<&Durations> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    fn median(
        &self,
        key: &Key,
        ring: impl Fn(&Durations) -> &Ring,
        least: usize,
        basis: Basis,
    ) -> Option<Median> {
        let ring = ring(self.get(key)?);
        let value = ring.median().filter(|_| ring.len() >= least)?;
        Some(Median { value, samples: ring.len(), basis })
    }

    fn touch(&mut self, key: Key) -> &mut Durations {
        if !self.young.contains_key(&key) {
            let known = self.old.remove(&key).unwrap_or_default();
            if self.young.len() >= self.generation {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(key.clone(), known);
        }
        self.young.entry(key).or_default()
    }
}

fn keys(queue: &Name, kind: &Name) -> [Key; 3] {
    [Key::Pair(queue.clone(), kind.clone()), Key::Kind(kind.clone()), Key::Queue(queue.clone())]
}

#[derive(Debug, Default)]
struct Durations {
    run: Ring,
    wait: Ring,
}

/// The latest durations in whole milliseconds; past 49 days they saturate.
#[derive(Debug, Default)]
struct Ring {
    millis: Vec<u32>,
    /// The oldest, once the ring is full.
    next: usize,
}

impl Ring {
    fn push(&mut self, span: Duration) {
        let millis = u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        if self.millis.len() < WINDOW {
            self.millis.push(millis);
        } else {
            self.millis[self.next] = millis;
            self.next = (self.next + 1) % WINDOW;
        }
    }

    fn len(&self) -> usize {
        self.millis.len()
    }

    /// The lower of the middle two when there is no single one.
    fn median(&self) -> Option<Duration> {
        self.quantile(0.5)
    }

    fn quantile(&self, q: f64) -> Option<Duration> {
        let mut scratch = [0; WINDOW];
        let scratch = &mut scratch[..self.millis.len()];
        scratch.copy_from_slice(&self.millis);
        let last = scratch.len().checked_sub(1)?;
        // The cast saturates; the lower neighbour where it falls between two.
        let at = ((last as f64 * q) as usize).min(last);
        let (_, millis, _) = scratch.select_nth_unstable(at);
        Some(Duration::from_millis(u64::from(*millis)))
    }
}
