//! How fast work starts: by queue a rate over about the last minute, by kind the latest start.
//!
//! Beside what has started there is what *can*: while nothing waits, work starts as it comes, and
//! says nothing of how fast a line would move. So that rate is taken only from the time between
//! two samples which both saw a line.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::domain::names::Name;
use crate::domain::time::Timestamp;

use super::lock;

/// The time over which a rate forgets.
const WINDOW: Duration = Duration::from_secs(60);

/// Kinds remembered; a stranger can invent names. Beyond it those that have not started for
/// longest make room.
const LIMIT: usize = 10_000;

/// The longest drain that is told: "a day or more".
pub(super) const DRAIN_MAX: Duration = Duration::from_secs(86_400);

#[derive(Debug, Default)]
pub(super) struct Flow(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    kinds: HashMap<(Name, Name), Latest>,
    queues: HashMap<Name, Starts>,
    ticked_at: Option<Timestamp>,
    /// The queues in which a line was seen at the last tick.
    lined: HashSet<Name>,
}

#[derive(Debug, Clone, Copy)]
struct Latest {
    at: Timestamp,
    /// The longest hard limit that a job of the kind was started with.
    timeout: Duration,
}

#[derive(Debug, Default)]
struct Starts {
    latest: Option<Timestamp>,
    since_tick: u64,
    /// Jobs a second.
    rate: f64,
    /// Jobs a second while there is a line, and when that was last measured.
    pull: Option<(f64, Timestamp)>,
}

impl Flow {
    fn lock(&self) -> MutexGuard<'_, Known> {
        lock(&self.0)
    }

    /// A job was leased, for `timeout` at most.
    pub(super) fn started(&self, queue: &Name, kind: &Name, timeout: Duration, now: Timestamp) {
        let mut known = self.lock();
        if known.kinds.len() >= LIMIT {
            let mut starts: Vec<Timestamp> = known.kinds.values().map(|l| l.at).collect();
            let (_, oldest, _) = starts.select_nth_unstable(LIMIT / 10);
            let limit = *oldest;
            known.kinds.retain(|_, latest| latest.at > limit);
        }
        let latest =
            known.kinds.entry((queue.clone(), kind.clone())).or_insert(Latest { at: now, timeout });
        *latest = Latest { at: now, timeout: latest.timeout.max(timeout) };
        let starts = known.queues.entry(queue.clone()).or_default();
        starts.since_tick += 1;
        starts.latest = Some(now);
    }

    fn latest(&self, queue: &Name, kind: &Name) -> Option<Latest> {
        self.lock().kinds.get(&(queue.clone(), kind.clone())).copied()
    }

    pub(super) fn last_start(&self, queue: &Name, kind: &Name) -> Option<Timestamp> {
        self.latest(queue, kind).map(|latest| latest.at)
    }

    /// Of any kind; forgotten some time after work has ceased, when it no longer matters.
    pub(super) fn queue_last_start(&self, queue: &Name) -> Option<Timestamp> {
        self.lock().queues.get(queue)?.latest
    }

    pub(super) fn longest_timeout(&self, queue: &Name, kind: &Name) -> Option<Duration> {
        self.latest(queue, kind).map(|latest| latest.timeout)
    }

    /// Takes what has started since the last call into the rates; called with each sample.
    /// `lined`: the queues in which jobs wait for nothing but a worker.
    pub(super) fn tick(&self, lined: &HashSet<&Name>, now: Timestamp) {
        let mut known = self.lock();
        let Some(before) = known.ticked_at.replace(now) else {
            known.queues.values_mut().for_each(|starts| starts.since_tick = 0);
            known.lined = lined.iter().copied().cloned().collect();
            return;
        };
        let passed = now.since(before).as_secs_f64();
        if passed <= 0.0 {
            known.ticked_at = Some(before);
            return;
        }
        let weight = 1.0 - (-passed / WINDOW.as_secs_f64()).exp();
        let lined = lined.iter().copied().cloned().collect();
        let were_lined = std::mem::replace(&mut known.lined, lined);
        let Known { queues, lined, .. } = &mut *known;
        queues.retain(|name, starts| {
            let rate = std::mem::take(&mut starts.since_tick) as f64 / passed;
            starts.rate += weight * (rate - starts.rate);
            if were_lined.contains(name) && lined.contains(name) {
                let recent = starts.pull.filter(|(_, at)| now.since(*at) <= WINDOW);
                let before = recent.map_or(rate, |(before, _)| before);
                starts.pull = Some((before + weight * (rate - before), now));
            }
            starts.rate > 1e-6
        });
    }

    /// Jobs started a second.
    pub(super) fn rate(&self, queue: &Name) -> f64 {
        self.lock().queues.get(queue).map_or(0.0, |starts| starts.rate)
    }

    /// Jobs started a second while there is a line; `None`: there was none in the last minute.
    pub(super) fn pull(&self, queue: &Name, now: Timestamp) -> Option<f64> {
        let (rate, at) = self.lock().queues.get(queue)?.pull?;
        (now.since(at) <= WINDOW).then_some(rate)
    }

    /// How long the queue's eligible jobs will take to start at this rate; at most [`DRAIN_MAX`].
    pub(super) fn drain(&self, queue: &Name, depth: u64) -> Duration {
        if depth == 0 {
            return Duration::ZERO;
        }
        let seconds = depth as f64 / self.rate(queue);
        Duration::try_from_secs_f64(seconds).map_or(DRAIN_MAX, |d| d.min(DRAIN_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_steady_flow_becomes_its_rate_and_an_ended_one_is_forgotten() {
        let flow = Flow::default();
        let (queue, kind) = (Name::trusted("q"), Name::trusted("k"));
        flow.tick(&HashSet::new(), at(0));
        for second in 1..=300 {
            for _ in 0..4 {
                flow.started(&queue, &kind, WINDOW, at(second));
            }
            if second % 5 == 0 {
                flow.tick(&HashSet::new(), at(second));
            }
        }
        assert!((flow.rate(&queue) - 4.0).abs() < 0.1, "{}", flow.rate(&queue));
        assert_eq!(flow.last_start(&queue, &kind), Some(at(300)));
        assert!((flow.drain(&queue, 400).as_secs_f64() - 100.0).abs() < 3.0);
        assert_eq!(flow.drain(&queue, 0), Duration::ZERO);
        for second in 301..2_000 {
            flow.tick(&HashSet::new(), at(second));
        }
        assert!(flow.rate(&queue).abs() < 1e-9);
        assert_eq!(flow.drain(&queue, 1), DRAIN_MAX);
    }

    #[test]
    fn how_fast_a_line_moves_is_learnt_from_lines_alone() {
        let flow = Flow::default();
        let (queue, kind) = (Name::trusted("q"), Name::trusted("k"));
        let start = |jobs: usize, second| {
            (0..jobs).for_each(|_| flow.started(&queue, &kind, WINDOW, at(second)));
        };
        let (lined, none) = (HashSet::from([&queue]), HashSet::new());
        flow.tick(&none, at(0));
        start(5, 4);
        flow.tick(&lined, at(5));
        assert_eq!(flow.pull(&queue, at(5)), None, "at first there was no line");
        start(50, 9);
        flow.tick(&lined, at(10));
        assert_eq!(flow.pull(&queue, at(10)), Some(10.0));
        start(5, 14);
        flow.tick(&none, at(15));
        assert_eq!(flow.pull(&queue, at(15)), Some(10.0), "the line has ended");
        assert_eq!(flow.pull(&queue, at(71)), None, "a minute ago");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let flow = Flow::default();
        for n in 0..(LIMIT as i64 + 10) {
            flow.started(&Name::trusted("q"), &Name::trusted(&format!("k{n}")), WINDOW, at(n));
        }
        assert!(flow.lock().kinds.len() <= LIMIT);
        let last = Name::trusted(&format!("k{}", LIMIT + 9));
        assert!(flow.last_start(&Name::trusted("q"), &last).is_some());
    }
}
