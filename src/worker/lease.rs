//! A lease as the worker must count it: from before the request, and less a margin.

use std::time::Duration;

use tokio::time::Instant;

/// When to extend a lease, when to stop its work, and when it is over, if nothing is heard.
///
/// All three count from the moment *before* the request that granted or extended the lease left:
/// the server began to count later than that, so it ends later too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeaseClock {
    length: Duration,
    sent: Instant,
}

impl LeaseClock {
    pub(super) fn new(length: Duration, sent: Instant) -> Self {
        Self { length, sent }
    }

    pub(super) fn extend(&mut self, sent: Instant) {
        self.sent = self.sent.max(sent);
    }

    pub(super) fn length(&self) -> Duration {
        self.length
    }

    pub(super) fn beat_at(&self) -> Instant {
        self.sent + self.length / 3
    }

    /// The work is told to stop here.
    pub(super) fn stop_at(&self) -> Instant {
        self.end_at() - margin(self.length)
    }

    /// The work is dropped here.
    pub(super) fn end_at(&self) -> Instant {
        self.sent + self.length
    }

    /// Whether so little is left that work must not start before the lease was extended, as after
    /// a claim that was parked for long.
    pub(super) fn must_confirm(&self, now: Instant) -> bool {
        now + self.length / 3 > self.stop_at()
    }
}

/// A tenth of the lease, at least a quarter of a second, at most 5 s or a quarter of it.
fn margin(length: Duration) -> Duration {
    (length / 10).max(Duration::from_millis(250)).min(Duration::from_secs(5)).min(length / 4)
}

/// How long a claim may stay parked, so that a job that is granted at its very end still has
/// half its lease. `lease` is the shortest one seen.
pub(super) fn park(lease: Option<Duration>) -> Duration {
    let longest = Duration::from_secs(20);
    lease.map_or(longest, |l| (l / 2).clamp(Duration::from_secs(1), longest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[tokio::test]
    async fn a_thirty_second_lease() {
        let s = Duration::from_secs;
        let t = Instant::now();
        let mut clock = LeaseClock::new(s(30), t);
        assert_eq!(
            (clock.beat_at(), clock.stop_at(), clock.end_at()),
            (t + s(10), t + s(27), t + s(30))
        );
        assert!(!clock.must_confirm(t + s(17)) && clock.must_confirm(t + s(18)));
        clock.extend(t + s(5));
        assert_eq!(clock.end_at(), t + s(35));
        clock.extend(t);
        assert_eq!(clock.end_at(), t + s(35), "an older answer shortens nothing");
    }

    #[test]
    fn parks_for_half_a_lease() {
        let s = Duration::from_secs;
        assert_eq!([park(None), park(Some(s(30))), park(Some(s(600)))], [s(20), s(15), s(20)]);
        assert_eq!(park(Some(s(1))), s(1));
    }

    proptest! {
        #[test]
        fn beats_twice_before_it_stops(ms in 1_000u64..3_600_000) {
            let length = Duration::from_millis(ms);
            let margin = margin(length);
            prop_assert!(margin <= length / 4 && margin >= Duration::from_millis(250));
            prop_assert!(length * 2 / 3 + margin < length);
        }
    }
}
