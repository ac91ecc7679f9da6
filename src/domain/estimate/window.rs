//! The latest durations of one thing: the last hour, and the last day for when that is too little.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::time::Timestamp;
use super::ENOUGH_SAMPLES;
use super::sketch::Sketch;

/// The hour slides by slots of five minutes.
const SLOT_MILLIS: i64 = 300_000;
const SLOTS: i64 = 12;

/// The day slides by six hours: it is the last 18 to 24.
const QUARTER_SLOTS: i64 = 72;
const QUARTERS: i64 = 4;

/// A part of the window: its number, and what was observed in it.
type Part = (i64, Sketch);

/// Observing costs three places in sorted arrays; nothing is added up for a reading, for what
/// leaves a sum is taken out of it once.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    /// Of the last hour, oldest first; only those in which there was anything.
    slots: VecDeque<Part>,
    /// What has left the hour, likewise.
    quarters: VecDeque<Part>,
    /// The sum of the slots.
    hour: Sketch,
    /// The sum of the slots and the quarters.
    day: Sketch,
    /// Buckets in all of these.
    buckets: usize,
}

const fn slot_at(now: Timestamp) -> i64 {
    now.as_millis().div_euclid(SLOT_MILLIS)
}

const fn quarter_of(slot: i64) -> i64 {
    slot.div_euclid(QUARTER_SLOTS)
}

fn part(parts: &mut VecDeque<Part>, number: i64) -> &mut Sketch {
    // Time does not run backwards: what comes late belongs to the latest.
    if parts.back().is_none_or(|(latest, _)| *latest < number) {
        parts.push_back((number, Sketch::default()));
    }
    let latest = parts.len() - 1;
    &mut parts[latest].1
}

/// From how long ago each was, the oldest first.
fn numbered(kept: Vec<(u64, Sketch)>, now: i64) -> Option<VecDeque<Part>> {
    let mut parts = VecDeque::new();
    for (ago, sketch) in kept {
        let number = now.checked_sub(i64::try_from(ago).ok()?)?;
        part(&mut parts, number).merge(&sketch);
    }
    Some(parts)
}

fn pop_up_to(parts: &mut VecDeque<Part>, number: i64) -> Option<Part> {
    if parts.front()?.0 <= number { parts.pop_front() } else { None }
}

impl Window {
    pub(super) fn observe(&mut self, span: Duration, now: Timestamp) {
        self.turn(now);
        let place = span.into();
        let Self { slots, hour, day, buckets, .. } = self;
        for sketch in [part(slots, slot_at(now)), hour, day] {
            *buckets -= sketch.buckets();
            sketch.add_at(place);
            *buckets += sketch.buckets();
        }
    }

    /// Lets what is too old go.
    pub(super) fn turn(&mut self, now: Timestamp) {
        let slot = slot_at(now);
        let oldest = quarter_of(slot) - QUARTERS;
        let in_time = |parts: &VecDeque<Part>, oldest| parts.front().is_none_or(|p| p.0 > oldest);
        if in_time(&self.slots, slot - SLOTS) && in_time(&self.quarters, oldest) {
            return;
        }
        while let Some((number, gone)) = pop_up_to(&mut self.slots, slot - SLOTS) {
            self.hour.remove(&gone);
            part(&mut self.quarters, quarter_of(number)).merge(&gone);
        }
        while let Some((_, gone)) = pop_up_to(&mut self.quarters, oldest) {
            self.day.remove(&gone);
        }
        self.buckets = self.counted();
    }

    fn counted(&self) -> usize {
        let parts = self.slots.iter().chain(&self.quarters);
        let parts: usize = parts.map(|(_, sketch)| sketch.buckets()).sum();
        parts + self.hour.buckets() + self.day.buckets()
    }

    /// The last hour if there are enough samples in it, else the last day.
    pub(super) fn sketch(&self) -> &Sketch {
        if self.hour.count() >= ENOUGH_SAMPLES { &self.hour } else { &self.day }
    }

    /// All of the last day.
    pub(super) const fn day(&self) -> &Sketch {
        &self.day
    }

    /// What it costs, in buckets.
    pub(super) const fn buckets(&self) -> usize {
        self.buckets
    }

    /// All of the last hour.
    pub(super) const fn hour(&self) -> &Sketch {
        &self.hour
    }

    /// To be kept: the slots and the quarters, each with how many of them ago it was.
    pub(super) fn parts(&self, at: Timestamp) -> [Vec<(u64, &Sketch)>; 2] {
        let slot = slot_at(at);
        [(&self.slots, slot), (&self.quarters, quarter_of(slot))].map(|(parts, now)| {
            let ago = |number: i64| u64::try_from(now.saturating_sub(number)).unwrap_or(0);
            parts.iter().map(|(number, sketch)| (ago(*number), sketch)).collect()
        })
    }

    /// What was kept at that moment, in the same order. `None`: nothing is that old.
    pub(super) fn restored(kept: [Vec<(u64, Sketch)>; 2], at: Timestamp) -> Option<Self> {
        let slot = slot_at(at);
        let [slots, quarters] = kept;
        let slots = numbered(slots, slot)?;
        let quarters = numbered(quarters, quarter_of(slot))?;
        let mut hour = Sketch::default();
        for (_, sketch) in &slots {
            hour.merge(sketch);
        }
        let mut day = hour.clone();
        for (_, sketch) in &quarters {
            day.merge(sketch);
        }
        let mut restored = Self { slots, quarters, hour, day, buckets: 0 };
        restored.buckets = restored.counted();
        Some(restored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_millis(minutes * MINUTE)
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn median(window: &mut Window, minute: i64) -> Option<u64> {
        window.turn(at(minute));
        window.sketch().quantile(0.5).map(|d| d.as_secs_f64().round() as u64)
    }

    #[test]
    fn the_hour_follows_change_and_the_day_fills_in() {
        let mut window = Window::default();
        for _ in 0..ENOUGH_SAMPLES {
            window.observe(secs(10), at(0));
        }
        for _ in 0..ENOUGH_SAMPLES {
            window.observe(secs(50), at(30));
        }
        assert_eq!(median(&mut window, 59), Some(10), "both");
        assert_eq!(median(&mut window, 60), Some(50), "the first slot has left");
        window.observe(secs(90), at(100));
        assert_eq!(window.sketch().count(), 41, "one in this hour is too few");
        assert_eq!(median(&mut window, 24 * 60 - 1), Some(50));
        assert_eq!(median(&mut window, 24 * 60), None, "a day has passed");
        assert_eq!(window.buckets(), 0);
    }

    #[test]
    fn sums_are_the_sums_of_their_parts() {
        let mut window = Window::default();
        for minute in 0..3_000 {
            window.observe(secs((minute % 97) as u64), at(minute));
            let parts = window.slots.iter().chain(&window.quarters);
            let mut sum = Sketch::default();
            parts.for_each(|(_, sketch)| sum.merge(sketch));
            assert_eq!(sum, window.day, "minute {minute}");
            let mut sum = Sketch::default();
            window.slots.iter().for_each(|(_, sketch)| sum.merge(sketch));
            assert_eq!(sum, window.hour, "minute {minute}");
            assert!(window.slots.len() <= 12 && window.quarters.len() <= 5);
            assert_eq!(window.buckets(), window.counted(), "minute {minute}");
        }
        assert!((18 * 60..=24 * 60).contains(&window.day.count()), "{}", window.day.count());
    }

    #[test]
    fn what_comes_late_belongs_to_the_latest() {
        let mut window = Window::default();
        window.observe(secs(1), at(10));
        window.observe(secs(1), at(4));
        assert_eq!((window.slots.len(), window.hour.count()), (1, 2));
    }

    fn kept(window: &Window, minute: i64) -> Window {
        let parts = window.parts(at(minute)).map(|parts| {
            parts.into_iter().map(|(ago, sketch)| (ago, sketch.clone())).collect::<Vec<_>>()
        });
        Window::restored(parts, at(minute)).expect("what was kept")
    }

    #[test]
    fn what_was_kept_ages_as_if_it_had_not_been() {
        let mut window = Window::default();
        for minute in 0..3_000 {
            window.observe(secs((minute % 97) as u64), at(minute));
            if minute % 7 == 0 {
                window.turn(at(minute));
                let restored = kept(&window, minute);
                assert_eq!(
                    (&restored.slots, &restored.quarters),
                    (&window.slots, &window.quarters)
                );
                assert_eq!((&restored.hour, &restored.day), (&window.hour, &window.day));
                assert_eq!(restored.buckets(), window.buckets());
            }
        }
    }

    #[test]
    fn however_often_it_is_kept_the_hour_and_the_day_end() {
        let mut window = Window::default();
        for _ in 0..ENOUGH_SAMPLES {
            window.observe(secs(10), at(0));
        }
        let mut counts = (0, 0);
        for minute in (0..26 * 60).step_by(4) {
            window.turn(at(minute));
            window = kept(&window, minute);
            counts.0 = if window.hour.is_empty() { counts.0 } else { minute };
            counts.1 = if window.day.is_empty() { counts.1 } else { minute };
        }
        assert_eq!(counts, (56, 24 * 60 - 4));
    }

    #[test]
    fn what_was_kept_by_a_clock_that_was_ahead_is_the_latest() {
        let mut window = Window::default();
        window.observe(secs(1), at(100));
        window.observe(secs(1), at(110));
        let parts = window.parts(at(50)).map(|parts| {
            parts.into_iter().map(|(ago, sketch)| (ago, sketch.clone())).collect::<Vec<_>>()
        });
        let restored = Window::restored(parts, at(50)).expect("some");
        assert_eq!((restored.slots.len(), restored.hour.count()), (1, 2));
        let ancient = [vec![(u64::MAX, Sketch::default())], Vec::new()];
        assert!(Window::restored(ancient, at(50)).is_none());
    }
}
