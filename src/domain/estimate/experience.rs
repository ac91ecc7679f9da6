//! What was learnt of durations, by (queue, kind), by kind and by queue.

use std::collections::HashMap;
use std::time::Duration;

use super::super::names::Name;
use super::super::time::Timestamp;
use super::law::{Basis, Law};
use super::window::Window;
use super::{ENOUGH_SAMPLES, GUESS};

/// Keys remembered by default.
const DEFAULT_KEYS: usize = 10_000;

/// Buckets remembered by default, of 8 bytes each: 32 MiB, or up to twice that with the slack of
/// arrays that grow.
const DEFAULT_BUCKETS: usize = 4 << 20;

/// Whose durations.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    Pair(Name, Name),
    Kind(Name),
    Queue(Name),
}

/// Whether a job ended before or after the moment that was advertised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    Early,
    Late,
}

/// How long jobs ran (completed attempts only: those that fail fast say nothing of success), how
/// long they waited from eligible to claimed and, but for a queue as a whole, how they ended and how
/// good the advice was.
///
/// Bounded: a fixed number of keys, and of buckets over all of them. (One key of the server's
/// ordinary kind, a spread of a hundredfold seen all day, has about 300 buckets in each of at most
/// 19 sketches for runs and as many for waits: 90 kB. The most that is possible is 330 kB, with
/// durations of every size in each five minutes.) The keys live in two generations; a key that is
/// observed moves to the young one, and when that holds half of a limit the old one is dropped
/// whole. So the keys observed latest are kept, and each observation costs O(1).
#[derive(Debug)]
pub struct Experience {
    young: Generation,
    old: Generation,
    keys: usize,
    buckets: usize,
}

#[derive(Debug, Default)]
struct Generation {
    known: HashMap<Key, Known>,
    buckets: usize,
}

impl Generation {
    fn put(&mut self, key: Key, known: Known) {
        self.buckets += known.buckets();
        self.known.insert(key, known);
    }

    fn take(&mut self, key: &Key) -> Option<Known> {
        let known = self.known.remove(key)?;
        self.buckets -= known.buckets();
        Some(known)
    }

    fn change(&mut self, key: &Key, change: impl FnOnce(&mut Known)) -> bool {
        let Some(known) = self.known.get_mut(key) else { return false };
        let before = known.buckets();
        change(known);
        self.buckets = self.buckets - before + known.buckets();
        true
    }
}

#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) run: Window,
    pub(super) wait: Window,
    /// Of kinds and pairs only.
    pub(super) record: Option<Box<Record>>,
    /// Counts observations, to tell what was written down from what has come since.
    changes: u64,
    written: u64,
}

/// How jobs of a kind ended, and what their clients had been told.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Counts, of zeros.
    pub(super) completed: Window,
    pub(super) failed: Window,
    pub(super) early: Window,
    pub(super) late: Window,
}

impl Record {
    pub(super) fn windows(&self) -> [&Window; 4] {
        [&self.completed, &self.failed, &self.early, &self.late]
    }
}

impl Known {
    pub(super) fn new(run: Window, wait: Window, record: Option<Box<Record>>) -> Self {
        Self { run, wait, record, changes: 0, written: 0 }
    }

    fn buckets(&self) -> usize {
        let record = self
            .record
            .as_ref()
            .map_or(0, |record| record.windows().into_iter().map(Window::buckets).sum());
        self.run.buckets() + self.wait.buckets() + record
    }

    fn turn(&mut self, now: Timestamp) {
        self.run.turn(now);
        self.wait.turn(now);
        if let Some(record) = &mut self.record {
            record.completed.turn(now);
            record.failed.turn(now);
            record.early.turn(now);
            record.late.turn(now);
        }
    }
}

impl Default for Experience {
    fn default() -> Self {
        Self::with_limits(DEFAULT_KEYS, DEFAULT_BUCKETS)
    }
}

impl Experience {
    /// At most so many keys (at least 2), and about so many buckets. A (queue, kind) pair, its
    /// queue and its kind are a key each.
    pub fn with_limits(keys: usize, buckets: usize) -> Self {
        let (young, old) = <(Generation, Generation)>::default();
        Self { young, old, keys: (keys / 2).max(1), buckets: (buckets / 2).max(1) }
    }

    /// An attempt of this queue and kind has completed after `took`.
    pub fn observe_run(&mut self, queue: &Name, kind: &Name, took: Duration, now: Timestamp) {
        for key in keys(queue, kind) {
            self.observe(key, |known| known.run.observe(took, now));
        }
    }

    /// A job of this queue and kind was claimed after being eligible for `waited`.
    pub fn observe_wait(&mut self, queue: &Name, kind: &Name, waited: Duration, now: Timestamp) {
        for key in keys(queue, kind) {
            self.observe(key, |known| known.wait.observe(waited, now));
        }
    }

    /// A job of this queue and kind ended as completed or failed.
    pub fn observe_end(&mut self, queue: &Name, kind: &Name, completed: bool, now: Timestamp) {
        self.observe_record(queue, kind, |record| {
            let window = if completed { &mut record.completed } else { &mut record.failed };
            window.observe(Duration::ZERO, now);
        });
    }

    /// A job of this queue and kind ended so far from the moment that its client had been told.
    pub fn observe_offset(
        &mut self,
        queue: &Name,
        kind: &Name,
        missed: Missed,
        by: Duration,
        now: Timestamp,
    ) {
        self.observe_record(queue, kind, |record| {
            let window = match missed {
                Missed::Early => &mut record.early,
                Missed::Late => &mut record.late,
            };
            window.observe(by, now);
        });
    }

    fn observe_record(&mut self, queue: &Name, kind: &Name, change: impl Fn(&mut Record)) {
        for key in [Key::Pair(queue.clone(), kind.clone()), Key::Kind(kind.clone())] {
            self.observe(key, |known| change(known.record.get_or_insert_default()));
        }
    }

    /// The laws of runs and of waits, in that order; see [`Self::run`] and [`Self::wait`].
    pub fn laws(
        &mut self,
        queue: &Name,
        kind: &Name,
        hint: Option<Duration>,
        now: Timestamp,
    ) -> (Law<'_>, Law<'_>) {
        let keys = keys(queue, kind);
        self.turn(keys.each_ref(), now);
        (self.run_law(&keys, hint), self.wait_law(&keys))
    }

    /// The law of runs: the pair's own once it has 20 samples, else its kind's, else its queue's
    /// once *that* has 20 (other kinds' few runs say little), else the hint, else 2 s.
    pub fn run(
        &mut self,
        queue: &Name,
        kind: &Name,
        hint: Option<Duration>,
        now: Timestamp,
    ) -> Law<'_> {
        self.laws(queue, kind, hint, now).0
    }

    fn run_law(&self, [pair, kind, queue]: &[Key; 3], hint: Option<Duration>) -> Law<'_> {
        let of = |key, least, basis| self.law(key, |known| &known.run, least, basis);
        of(pair, ENOUGH_SAMPLES, Basis::Pair)
            .or_else(|| of(kind, 1, Basis::Kind))
            .or_else(|| of(queue, ENOUGH_SAMPLES, Basis::Queue))
            .or_else(|| hint.map(|span| Law::told(span, Basis::Hint)))
            .unwrap_or(Law::told(GUESS, Basis::Guess))
    }

    /// The law of waits: the pair's own once it has 20 samples, else its queue's, else 2 s. What
    /// the kind waits for elsewhere says nothing of this queue.
    pub fn wait(&mut self, queue: &Name, kind: &Name, now: Timestamp) -> Law<'_> {
        self.laws(queue, kind, None, now).1
    }

    fn wait_law(&self, [pair, _, queue]: &[Key; 3]) -> Law<'_> {
        let of = |key, least, basis| self.law(key, |known| &known.wait, least, basis);
        of(pair, ENOUGH_SAMPLES, Basis::Pair)
            .or_else(|| of(queue, 1, Basis::Queue))
            .unwrap_or(Law::told(GUESS, Basis::Guess))
    }

    /// The mean run of the queue's jobs, of any kind.
    pub fn mean_run(&mut self, queue: &Name, now: Timestamp) -> Option<Duration> {
        let key = Key::Queue(queue.clone());
        self.turn([&key], now);
        self.get(&key)?.run.sketch().mean()
    }

    /// What 99 of 100 runs do not exceed, once there are 20 of the pair, or else of the kind.
    pub fn p99_run(&mut self, queue: &Name, kind: &Name, now: Timestamp) -> Option<Duration> {
        let [pair, of_kind, _] = keys(queue, kind);
        self.turn([&pair, &of_kind], now);
        let of = |key, basis| self.law(key, |known| &known.run, ENOUGH_SAMPLES, basis);
        of(&pair, Basis::Pair).or_else(|| of(&of_kind, Basis::Kind)).map(|law| law.quantile(0.99))
    }

    /// Run times known of exactly this queue and kind.
    pub fn run_samples(&mut self, queue: &Name, kind: &Name, now: Timestamp) -> u64 {
        let key = Key::Pair(queue.clone(), kind.clone());
        self.turn([&key], now);
        self.get(&key).map_or(0, |known| known.run.sketch().count())
    }

    /// Keys remembered.
    pub fn len(&self) -> usize {
        self.young.known.len() + self.old.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Buckets remembered.
    pub fn buckets(&self) -> usize {
        self.young.buckets + self.old.buckets
    }

    /// The keys of which something is known that is not written down.
    pub fn unwritten(&self) -> Vec<Key> {
        let news = self.all().filter(|(_, known)| known.changes != known.written);
        news.map(|(key, _)| key.clone()).collect()
    }

    /// What is known of the key, and a mark for [`Self::has_written`].
    pub(super) fn looked_up(&mut self, key: &Key, now: Timestamp) -> Option<(&Known, u64)> {
        self.turn([key], now);
        self.get(key).map(|known| (known, known.changes))
    }

    /// What is known of those of the keys of which anything is.
    pub(super) fn looked_up_all(&mut self, keys: &[Key], now: Timestamp) -> Vec<&Known> {
        for key in keys {
            self.turn([key], now);
        }
        keys.iter().filter_map(|key| self.get(key)).collect()
    }

    pub(super) fn has_written(&mut self, key: &Key, mark: u64) {
        for generation in [&mut self.young, &mut self.old] {
            if let Some(known) = generation.known.get_mut(key) {
                known.written = known.written.max(mark);
            }
        }
    }

    /// What was written down; `false` when there is no room for it, or it is known already.
    pub(super) fn put_back(&mut self, key: Key, known: Known) -> bool {
        let room = self.old.known.len() < self.keys && self.old.buckets < self.buckets;
        let fits = room && self.get(&key).is_none();
        if fits {
            self.old.put(key, known);
        }
        fits
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Key, &Known)> {
        self.young.known.iter().chain(&self.old.known)
    }

    #[cfg(test)]
    fn turn_all(&mut self, now: Timestamp) {
        for generation in [&mut self.young, &mut self.old] {
            let known = generation.known.values_mut();
            generation.buckets = known.fold(0, |sum, known| {
                known.turn(now);
                sum + known.buckets()
            });
        }
    }

    fn get(&self, key: &Key) -> Option<&Known> {
        self.young.known.get(key).or_else(|| self.old.known.get(key))
    }

    fn turn<const N: usize>(&mut self, keys: [&Key; N], now: Timestamp) {
        for key in keys {
            if !self.young.change(key, |known| known.turn(now)) {
                self.old.change(key, |known| known.turn(now));
            }
        }
    }

    fn law(
        &self,
        key: &Key,
        window: impl Fn(&Known) -> &Window,
        least: u64,
        basis: Basis,
    ) -> Option<Law<'_>> {
        let sketch = window(self.get(key)?).sketch();
        (sketch.count() >= least).then(|| Law::seen(sketch, basis))
    }

    fn observe(&mut self, key: Key, change: impl FnOnce(&mut Known)) {
        let change = |known: &mut Known| {
            change(known);
            known.changes += 1;
        };
        if self.young.buckets < self.buckets && self.young.known.contains_key(&key) {
            self.young.change(&key, change);
            return;
        }
        // First: it is about to be dropped, perhaps.
        let mut known = self.young.take(&key).or_else(|| self.old.take(&key)).unwrap_or_default();
        if self.young.known.len() >= self.keys || self.young.buckets >= self.buckets {
            self.old = std::mem::take(&mut self.young);
        }
        change(&mut known);
        self.young.put(key, known);
    }
}

fn keys(queue: &Name, kind: &Name) -> [Key; 3] {
    [Key::Pair(queue.clone(), kind.clone()), Key::Kind(kind.clone()), Key::Queue(queue.clone())]
}

#[cfg(test)]
mod tests;
