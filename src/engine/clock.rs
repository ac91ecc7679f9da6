//! The real clock: the wall's time, followed forwards only.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::time::{Clock, Follower, Timestamp};

#[derive(Debug)]
pub struct WallClock {
    started: Instant,
    follower: Follower,
}

impl WallClock {
    /// Starts no earlier than `never_before`: the latest moment that the store has seen.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
    pub fn new(never_before: Timestamp) -> Self {
        Self {
            started: Instant::now(),
            follower: Follower::new(Self::wall(), Duration::ZERO, never_before),
        }
    }

    /// The machine's own opinion, before there is a store to agree with.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
    pub fn wall() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH.plus(since)
    }
}

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        self.follower.read(Self::wall(), self.started.elapsed())
    }

    fn take_step(&self) -> Duration {
        self.follower.take_step()
    }

    fn ahead(&self) -> Duration {
        let wall = Self::wall();
        self.follower.read(wall, self.started.elapsed()).since(wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_shows() {
        let minute = Duration::from_secs(60);
        // As after a restart with the clock a minute behind what the store has seen.
        let behind = WallClock::new(WallClock::wall().plus(minute)).ahead();
        assert!(behind <= minute + minute && behind > minute / 2, "{behind:?}");
        let right = WallClock::new(Timestamp::EPOCH).ahead();
        assert!(right < Duration::from_secs(5), "{right:?}");
    }
}
