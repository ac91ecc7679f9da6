//! How fast work starts: by queue a rate over about the last minute, by kind the latest start.
//!
//! Beside what has started there is what *can*: while nothing waits, work starts as it comes, and
//! says nothing of how fast a line would move. So that rate is taken only from the time between
//! two samples which both saw a line. Starts and seconds are summed apart and forgotten alike, so
//! that the first interval weighs what it is worth and no more.
//!
//! Time in which a line stood and nobody worked on it counts once somebody does again, if that is
//! within a minute: a worker who comes now and then. If it is not, they were away, and how fast the
//! line moves is learnt anew.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::domain::names::Name;
use crate::domain::time::Timestamp;

use super::lock;

/// The time over which a rate forgets.
const WINDOW: Duration = Duration::from_secs(60);

/// The same for lines whose jobs run so long that a minute tells too little.
const LONG_WINDOW: Duration = Duration::from_secs(600);

/// Fewer starts than these say nothing of how fast a line moves.
const HANDFUL: u64 = 5;

/// As little does less time than so many runs take: starts come in rounds, and the first at once.
const ROUNDS: f64 = 2.0;

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
    /// The queues in which a line was seen at the last tick, and whether any of their jobs ran.
    lined: HashMap<Name, bool>,
    /// The clock was set since the last tick.
    stepped: bool,
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
    /// What was measured of its lines, and when last.
    line: Option<(Paces, Timestamp)>,
    /// Seconds for which a line has stood since, with nobody at work.
    stood: f64,
}

/// Starts while there was a line, and the seconds that there was one; forgotten alike.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    starts: f64,
    seconds: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Paces {
    short: Pace,
    long: Pace,
    /// Starts in all, none forgotten.
    counted: u64,
}

impl Pace {
    /// `elapsed`: since the last time.
    fn add(&mut self, starts: u64, seconds: f64, elapsed: f64, window: Duration) {
        let kept = (-elapsed / window.as_secs_f64()).exp();
        self.starts = self.starts * kept + starts as f64;
        self.seconds = self.seconds * kept + seconds;
    }
}

/// How fast a line moves, as measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pull {
    /// Jobs a second; more than 0.
    pub(super) rate: f64,
    /// Whether it is more than the luck of the moment.
    pub(super) is_sure: bool,
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

    /// The clock was set: how long it is since the last tick is not known.
    pub(super) fn clock_stepped(&self) {
        self.lock().stepped = true;
    }

    /// Takes what has started since the last call into the rates; called with each sample.
    /// `lined`: the queues in which jobs wait for nothing but a worker, and whether others of their
    /// jobs run.
    pub(super) fn tick(&self, lined: &HashMap<&Name, bool>, now: Timestamp) {
        let mut known = self.lock();
        if known.ticked_at == Some(now) {
            return;
        }
        let lined = lined.iter().map(|(name, busy)| ((*name).clone(), *busy)).collect();
        let were_lined = std::mem::replace(&mut known.lined, lined);
        let stepped = std::mem::take(&mut known.stepped);
        let passed = known.ticked_at.replace(now).map(|before| now.since(before));
        // Nobody looks so seldom: the clock was set, or we stood still.
        let Some(passed) = passed.filter(|passed| !stepped && *passed <= WINDOW) else {
            known.queues.values_mut().for_each(|starts| starts.since_tick = 0);
            return;
        };
        let passed = passed.as_secs_f64();
        let weight = 1.0 - (-passed / WINDOW.as_secs_f64()).exp();
        let Known { queues, lined, .. } = &mut *known;
        queues.retain(|name, starts| {
            let started = std::mem::take(&mut starts.since_tick);
            starts.rate += weight * (started as f64 / passed - starts.rate);
            match (were_lined.get(name), lined.get(name)) {
                (Some(before), Some(busy)) => {
                    starts.saw_line(started, passed, *before && *busy, now);
                }
                (None, _) | (_, None) => starts.stood = 0.0,
            }
            starts.rate > 1e-6
        });
    }

    /// Jobs started a second.
    pub(super) fn rate(&self, queue: &Name) -> f64 {
        self.lock().queues.get(queue).map_or(0.0, |starts| starts.rate)
    }

    /// Jobs started a second while there is a line, each of which runs for about `run`; `None`:
    /// there was none in the last minute, or nothing started.
    pub(super) fn pull(&self, queue: &Name, run: Duration, now: Timestamp) -> Option<Pull> {
        let (paces, at) = self.lock().queues.get(queue)?.line?;
        if paces.counted == 0 || now.since(at) > WINDOW {
            return None;
        }
        let tells =
            |pace: &&Pace| paces.counted >= HANDFUL && pace.seconds >= ROUNDS * run.as_secs_f64();
        let sure = [&paces.short, &paces.long].into_iter().find(tells);
        let pace = sure.unwrap_or(&paces.short);
        Some(Pull { rate: pace.starts / pace.seconds, is_sure: sure.is_some() })
    }
}

impl Starts {
    fn saw_line(&mut self, started: u64, passed: f64, busy: bool, now: Timestamp) {
        if started == 0 && !busy {
            self.stood += passed;
            return;
        }
        let stood = std::mem::take(&mut self.stood);
        let recent = self.line.filter(|(_, at)| now.since(*at) <= WINDOW);
        let (mut paces, elapsed, stood) = recent.map_or_else(
            || (Paces::default(), 0.0, 0.0),
            |(paces, at)| (paces, now.since(at).as_secs_f64(), stood),
        );
        paces.short.add(started, passed + stood, elapsed, WINDOW);
        paces.long.add(started, passed + stood, elapsed, LONG_WINDOW);
        paces.counted += started;
        self.line = Some((paces, now));
    }
}

/// How long `depth` jobs take to start at so many a second; at most [`DRAIN_MAX`].
pub(super) fn drain(depth: u64, rate: f64) -> Duration {
    if depth == 0 {
        return Duration::ZERO;
    }
    Duration::try_from_secs_f64(depth as f64 / rate).map_or(DRAIN_MAX, |d| d.min(DRAIN_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    /// One queue, one kind, and a look every five seconds.
    struct Rig {
        flow: Flow,
        queue: Name,
        kind: Name,
        now: i64,
    }

    impl Rig {
        fn new() -> Self {
            let (queue, kind) = (Name::trusted("q"), Name::trusted("k"));
            let rig = Self { flow: Flow::default(), queue, kind, now: 0 };
            rig.flow.tick(&HashMap::new(), at(0));
            rig
        }

        /// Five seconds in which so many jobs start; `line`: whether others run, if any wait.
        fn pass(&mut self, starts: u64, line: Option<bool>) {
            self.after(5, starts, line);
        }

        fn after(&mut self, seconds: i64, starts: u64, line: Option<bool>) {
            self.now += seconds;
            for _ in 0..starts {
                self.flow.started(&self.queue, &self.kind, WINDOW, at(self.now));
            }
            let lined = line.map(|busy| (&self.queue, busy)).into_iter().collect();
            self.flow.tick(&lined, at(self.now));
        }

        /// Of jobs that take no time.
        fn rate(&self) -> Option<f64> {
            self.flow.pull(&self.queue, Duration::ZERO, at(self.now)).map(|pull| pull.rate)
        }

        /// When it is sure, of jobs that take so many seconds.
        fn sure(&self, run: u64) -> Option<f64> {
            let pull = self.flow.pull(&self.queue, Duration::from_secs(run), at(self.now));
            pull.filter(|pull| pull.is_sure).map(|pull| pull.rate)
        }
    }

    fn near(found: Option<f64>, expected: f64, share: f64) -> bool {
        found.is_some_and(|found| (found / expected - 1.0).abs() <= share)
    }

    #[test]
    fn a_steady_flow_becomes_its_rate_and_an_ended_one_is_forgotten() {
        let mut rig = Rig::new();
        for _ in 0..60 {
            rig.pass(20, None);
        }
        let rate = |rig: &Rig| rig.flow.rate(&rig.queue);
        assert!((rate(&rig) - 4.0).abs() < 0.1, "{}", rate(&rig));
        assert_eq!(rig.flow.last_start(&rig.queue, &rig.kind), Some(at(300)));
        for _ in 0..400 {
            rig.pass(0, None);
        }
        assert!(rate(&rig).abs() < 1e-9);
    }

    #[test]
    fn how_fast_a_line_moves_is_learnt_from_lines_alone() {
        let mut rig = Rig::new();
        rig.pass(5, Some(true));
        assert_eq!(rig.rate(), None, "at first there was no line");
        rig.pass(50, Some(true));
        assert_eq!(rig.rate(), Some(10.0));
        rig.pass(5, None);
        assert_eq!(rig.rate(), Some(10.0), "the line has ended");
        rig.after(56, 0, None);
        assert_eq!(rig.rate(), None, "a minute ago");
    }

    #[test]
    fn the_first_interval_weighs_no_more_than_any_other() {
        // Four workers, twenty seconds a job: all start at once, and then none for a while.
        let mut rig = Rig::new();
        rig.pass(4, Some(true));
        for round in 1..=20 {
            (0..3).for_each(|_| rig.pass(0, Some(true)));
            assert!(round > 1 || rig.rate().is_none(), "nothing started");
            rig.pass(4, Some(true));
            assert!(near(rig.rate(), 0.2, 0.25), "round {round}: {:?}", rig.rate());
            assert_eq!(rig.sure(20).is_some(), round >= 3, "round {round}");
        }
        (0..3).for_each(|_| rig.pass(0, Some(true)));
        assert!(near(rig.sure(20), 0.2, 0.25), "and before the next: {:?}", rig.rate());
    }

    #[test]
    fn long_rounds_are_remembered_for_longer_and_the_longest_tell_no_rate() {
        // Ten workers; four minutes a job, and then half an hour.
        let mut rig = Rig::new();
        rig.pass(10, Some(true));
        for round in 1..10 {
            (0..47).for_each(|_| rig.pass(0, Some(true)));
            rig.pass(10, Some(true));
            if round >= 4 {
                assert!(near(rig.sure(240), 10.0 / 240.0, 0.3), "{round}: {:?}", rig.sure(240));
            }
            assert_eq!(rig.sure(1_800), None);
        }
    }

    #[test]
    fn a_queue_that_starves_is_slow_however_many_slots_there_are() {
        let mut rig = Rig::new();
        for _ in 0..10 {
            rig.pass(1, Some(true));
            (0..11).for_each(|_| rig.pass(0, Some(true)));
        }
        assert!(near(rig.sure(5), 1.0 / 60.0, 0.5), "{:?}", rig.sure(5));
    }

    #[test]
    fn workers_who_were_away_have_not_been_slow() {
        let mut rig = Rig::new();
        (0..12).for_each(|_| rig.pass(20, Some(true)));
        (0..8).for_each(|_| rig.pass(0, Some(false)));
        assert!(near(rig.rate(), 4.0, 0.01), "{:?}", rig.rate());
        (0..6).for_each(|_| rig.pass(0, Some(false)));
        assert_eq!(rig.rate(), None, "for more than a minute");
        rig.pass(20, Some(true));
        assert!(near(rig.rate(), 4.0, 0.01), "anew: {:?}", rig.rate());
    }

    #[test]
    fn a_worker_who_comes_now_and_then_is_slow() {
        // Thirty jobs at once, every half a minute.
        let mut rig = Rig::new();
        for _ in 0..10 {
            rig.pass(30, Some(false));
            (0..5).for_each(|_| rig.pass(0, Some(false)));
        }
        rig.pass(30, Some(false));
        assert!(near(rig.rate(), 1.0, 0.3), "{:?}", rig.rate());
    }

    #[test]
    fn an_interval_of_unknown_length_is_not_counted() {
        let mut rig = Rig::new();
        (0..12).for_each(|_| rig.pass(20, Some(true)));
        rig.flow.clock_stepped();
        rig.after(40, 20, Some(true));
        assert!(near(rig.rate(), 4.0, 0.01), "a step that somebody saw: {:?}", rig.rate());
        rig.pass(20, Some(true));
        assert!(near(rig.rate(), 4.0, 0.01), "{:?}", rig.rate());
        let before = rig.flow.rate(&rig.queue);
        rig.after(3_600, 20, Some(true));
        assert!((rig.flow.rate(&rig.queue) - before).abs() < 1e-9, "and one that nobody did");
        rig.pass(20, Some(true));
        assert!(near(rig.rate(), 4.0, 0.01), "{:?}", rig.rate());
    }

    #[test]
    fn a_drain_ends_within_a_day() {
        assert_eq!(drain(400, 4.0), Duration::from_secs(100));
        assert_eq!(drain(0, 0.0), Duration::ZERO);
        assert_eq!((drain(1, 0.0), drain(u64::MAX, 1.0)), (DRAIN_MAX, DRAIN_MAX));
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
