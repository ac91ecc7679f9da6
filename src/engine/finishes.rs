//! How work ends: by queue, the jobs that completed or failed within the last five minutes, as this
//! process has seen them since it started. Cancelled ones are neither success nor failure, and do
//! not count.
//!
//! Exact but for the edges: jobs are counted by slots of five seconds, and the oldest slot of a
//! window counts whole or not at all.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use crate::domain::job::Status;
use crate::domain::names::Name;
use crate::domain::time::Timestamp;

use super::lock;

const SLOT_MS: i64 = 5_000;
/// Five minutes of slots.
const KEPT: i64 = 60;
/// A minute of slots.
const RATE: i64 = 12;
/// Queues remembered. Beyond it those in which nothing has ended lately make room.
const LIMIT: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Finishes(Mutex<HashMap<Name, VecDeque<Slot>>>);

#[derive(Debug, Clone, Copy)]
struct Slot {
    number: i64,
    completed: u64,
    failed: u64,
}

/// What has ended in a queue of late.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Ended {
    /// Jobs a second, over the last minute.
    pub rate: f64,
    /// The share that failed, of the last five minutes; `None`: nothing ended.
    pub failure_ratio: Option<f64>,
}

impl Finishes {
    pub(super) fn ended(&self, queue: &Name, status: Status, at: Timestamp) {
        let (completed, failed) = match status {
            Status::Completed => (1, 0),
            Status::Failed => (0, 1),
            Status::Cancelled | Status::Pending | Status::Running => return,
        };
        let number = slot(at);
        let mut queues = lock(&self.0);
        if queues.len() >= LIMIT && !queues.contains_key(queue) {
            queues.retain(|_, slots| slots.back().is_some_and(|s| s.number > number - KEPT));
            if queues.len() >= LIMIT {
                return;
            }
        }
        let slots = queues.entry(queue.clone()).or_default();
        while slots.front().is_some_and(|s| s.number <= number - KEPT) {
            slots.pop_front();
        }
        match slots.back_mut() {
            // One who is told late counts for now: slots stay in order.
            Some(last) if last.number >= number => {
                last.completed += completed;
                last.failed += failed;
            }
            Some(_) | None => slots.push_back(Slot { number, completed, failed }),
        }
    }

    pub(super) fn told(&self, queue: &Name, now: Timestamp) -> Ended {
        let queues = lock(&self.0);
        let Some(slots) = queues.get(queue) else { return Ended::default() };
        let number = slot(now);
        let since = |width: i64| slots.iter().filter(move |s| s.number > number - width);
        let recent: u64 = since(RATE).map(|s| s.completed + s.failed).sum();
        let covered = now.as_millis() - (number - RATE + 1) * SLOT_MS;
        let (completed, failed) =
            since(KEPT).fold((0, 0), |(c, f), s| (c + s.completed, f + s.failed));
        let all = completed + failed;
        Ended {
            rate: recent as f64 * 1_000.0 / covered as f64,
            failure_ratio: (all > 0).then(|| failed as f64 / all as f64),
        }
    }
}

fn slot(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(SLOT_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn rates_and_ratios_are_of_the_latest_ends_only() {
        let (finishes, q) = (Finishes::default(), Name::trusted("q"));
        assert_eq!(finishes.told(&q, at(0)), Ended::default());
        for second in 1_000..1_060 {
            finishes.ended(&q, Status::Completed, at(second));
        }
        for _ in 0..20 {
            finishes.ended(&q, Status::Failed, at(1_059));
            finishes.ended(&q, Status::Cancelled, at(1_059));
        }
        let told = finishes.told(&q, at(1_059));
        assert!((told.rate - 80.0 / 59.0).abs() < 1e-9, "{told:?}");
        assert_eq!(told.failure_ratio, Some(0.25));
        let later = finishes.told(&q, at(1_059 + 70));
        assert_eq!((later.rate, later.failure_ratio), (0.0, Some(0.25)));
        assert_eq!(finishes.told(&q, at(1_059 + 302)), Ended::default(), "long ago");
        assert_eq!(finishes.told(&Name::trusted("other"), at(1_059)), Ended::default());
    }

    #[test]
    fn only_cancelled_jobs_are_nothing_that_ended() {
        let (finishes, q) = (Finishes::default(), Name::trusted("q"));
        finishes.ended(&q, Status::Cancelled, at(10));
        assert_eq!(finishes.told(&q, at(10)), Ended::default());
    }

    #[test]
    fn an_end_told_late_is_counted_and_what_is_kept_is_bounded() {
        let (finishes, q) = (Finishes::default(), Name::trusted("q"));
        finishes.ended(&q, Status::Completed, at(100));
        finishes.ended(&q, Status::Failed, at(90));
        assert_eq!(finishes.told(&q, at(100)).failure_ratio, Some(0.5));
        for n in 0..LIMIT + 10 {
            finishes.ended(&Name::trusted(&format!("q{n}")), Status::Failed, at(101));
        }
        assert_eq!(lock(&finishes.0).len(), LIMIT);
        for second in 400..1_400 {
            finishes.ended(&q, Status::Completed, at(second));
        }
        finishes.ended(&Name::trusted("new"), Status::Failed, at(1_400));
        assert_eq!(lock(&finishes.0).len(), 2);
        assert!(lock(&finishes.0)[&q].len() <= KEPT as usize);
    }
}
