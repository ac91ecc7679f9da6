//! A lease as the worker must count it: from before the request, and less a margin.

use std::time::Duration;

use tokio::time::Instant;

use super::handler::Stop;
use super::limit::Limit;

/// When to extend a lease, when to stop its work, and when it is over, if nothing is heard.
///
/// All three count from the moment *before* the request that granted or extended the lease left:
/// the server began to count later than that, so it ends later too. The attempt's own time-out
/// ends both earlier, and a heartbeat does not move it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeaseClock {
    length: Duration,
    sent: Instant,
    limit: Option<Limit>,
}

impl LeaseClock {
    pub(super) fn new(length: Duration, sent: Instant, limit: Option<Limit>) -> Self {
        Self { length, sent, limit }
    }

    pub(super) fn extend(&mut self, sent: Instant) {
        self.sent = self.sent.max(sent);
    }

    /// What the answer of a heartbeat tells of the attempt's time-out.
    pub(super) fn learn(&mut self, sent: Instant, lease_expires_at: &str) {
        if let Some(limit) = &mut self.limit {
            limit.learn(lease_expires_at, self.length, sent);
        }
    }

    pub(super) fn length(&self) -> Duration {
        self.length
    }

    pub(super) fn beat_at(&self) -> Instant {
        self.sent + self.length / 3
    }

    /// The work is told to stop here.
    pub(super) fn stop_at(&self) -> Instant {
        let lease = self.confirm_by();
        self.limit.map_or(lease, |limit| lease.min(self.last_call(limit)))
    }

    /// The work is dropped here.
    pub(super) fn end_at(&self) -> Instant {
        let lease = self.lease_end();
        self.limit.map_or(lease, |limit| lease.min(limit.at()))
    }

    /// What the work is told when it must stop.
    pub(super) fn why(&self) -> Stop {
        let lease = self.confirm_by();
        match self.limit {
            Some(limit) if self.last_call(limit) <= lease => Stop::TimedOut(self.end_at()),
            Some(_) | None => Stop::LeaseEnding(self.end_at()),
        }
    }

    /// Work that has not started by here may not start any more, unless the lease is extended.
    pub(super) fn confirm_by(&self) -> Instant {
        before(self.lease_end(), margin(self.length))
    }

    /// Whether so little is left that work must not start before the lease was extended, or so
    /// little is known of what is left, as after a claim that was parked for long.
    pub(super) fn must_confirm(&self, now: Instant) -> bool {
        let wait = now.saturating_duration_since(self.sent);
        now + self.length / 3 > self.confirm_by() || self.limit.is_some_and(|l| l.is_blurred(wait))
    }

    fn lease_end(&self) -> Instant {
        self.sent + self.length
    }

    fn last_call(&self, limit: Limit) -> Instant {
        before(limit.at(), margin(self.length.min(limit.span())))
    }
}

fn before(end: Instant, span: Duration) -> Instant {
    end.checked_sub(span).unwrap_or(end)
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
        let mut clock = LeaseClock::new(s(30), t, None);
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

    #[tokio::test]
    async fn a_time_out_ends_the_work_however_often_the_lease_is_extended() {
        let s = Duration::from_secs;
        let t = Instant::now();
        let job = |timeout_at: &str| crate::wire::LeasedJob {
            timeout_at: timeout_at.into(),
            lease_expires_at: "2027-01-01T00:00:30Z".into(),
            ..crate::wire::LeasedJob::default()
        };
        let clock = |timeout_at| LeaseClock::new(s(30), t, Limit::new(&job(timeout_at), s(30), t));
        let mut minute = clock("2027-01-01T00:01:00Z");
        assert_eq!((minute.stop_at(), minute.end_at()), (t + s(27), t + s(30)));
        assert_eq!(minute.why(), Stop::LeaseEnding(t + s(30)));
        for beat in [20, 40, 50] {
            minute.extend(t + s(beat));
        }
        assert_eq!((minute.stop_at(), minute.end_at()), (t + s(57), t + s(60)));
        assert_eq!(minute.why(), Stop::TimedOut(t + s(60)));
        assert_eq!(minute.beat_at(), t + s(60));

        // A short one leaves the most of its time to the work.
        let short = clock("2027-01-01T00:00:02Z");
        assert_eq!(short.stop_at(), t + Duration::from_millis(1_750));
        assert!(!short.must_confirm(t), "a lease that is long enough need not be extended first");
        // After a long wait it is not known how much is left: a heartbeat tells.
        assert!(short.must_confirm(t + s(1)) && short.confirm_by() == t + s(27));
        // No answer with a readable moment, no limit.
        assert_eq!(clock("").end_at(), t + s(30));
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
