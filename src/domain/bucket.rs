//! A token bucket: at most so many starts a second, with a burst of one second's worth.
//!
//! It holds time, not fractions of tokens: the time since the last start that has not been spent
//! yet. A token costs the reciprocal of the rate, rounded up, so rounding never lets one start too
//! many through. Times are readings of a clock that never runs backwards, from any origin.

use std::time::Duration;

/// What is saved up at most, unless one token costs more: a burst of max(1, rate).
const BURST: u64 = 1_000_000_000;

/// Never more than max(1, rate) + rate × t starts in any time t.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenBucket {
    /// Nanoseconds, like the rest.
    cost: u64,
    saved: u64,
    at: Duration,
}

impl TokenBucket {
    /// Full. A rate that is no positive number gives one token and then none.
    pub fn new(per_second: f64, at: Duration) -> Self {
        // The cast saturates; 0 / 0 and the like are never.
        let cost = (1e9 / per_second).ceil();
        let cost = if cost > 0.0 { cost as u64 } else { u64::MAX };
        Self { cost, saved: cost.max(BURST), at }
    }

    /// Another rate from now on. What was saved up is time, and is worth at the new rate what that
    /// gives for it.
    pub fn set_rate(&mut self, per_second: f64, at: Duration) {
        self.refill(at);
        let Self { cost, saved: most, .. } = Self::new(per_second, at);
        self.cost = cost;
        self.saved = self.saved.min(most);
    }

    fn refill(&mut self, at: Duration) {
        let passed = u64::try_from(at.saturating_sub(self.at).as_nanos()).unwrap_or(u64::MAX);
        self.saved = self.saved.saturating_add(passed).min(self.cost.max(BURST));
        self.at = self.at.max(at);
    }

    /// Takes up to `wanted` tokens; answers how many.
    pub fn take(&mut self, wanted: u64, at: Duration) -> u64 {
        self.refill(at);
        let taken = wanted.min(self.saved / self.cost);
        self.saved -= taken * self.cost;
        taken
    }

    /// Tokens that were taken and not used.
    pub fn give_back(&mut self, tokens: u64) {
        let saved = self.saved.saturating_add(tokens.saturating_mul(self.cost));
        self.saved = saved.min(self.cost.max(BURST));
    }

    /// How many tokens there are.
    pub fn tokens(&self, at: Duration) -> u64 {
        let mut now = *self;
        now.refill(at);
        now.saved / now.cost
    }

    /// Until there is a token.
    pub fn wait(&self, at: Duration) -> Duration {
        let mut now = *self;
        now.refill(at);
        Duration::from_nanos(now.cost.saturating_sub(now.saved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut bucket = TokenBucket::new(4.0, ms(70));
        assert_eq!(bucket.take(9, ms(70)), 4);
        assert_eq!((bucket.take(9, ms(319)), bucket.wait(ms(319))), (0, ms(1)));
        assert_eq!((bucket.tokens(ms(320)), bucket.wait(ms(320))), (1, Duration::ZERO));
        assert_eq!(bucket.take(9, ms(320)), 1);
        assert_eq!(bucket.take(9, ms(60_000)), 4, "no more is saved up");
        bucket.give_back(2);
        assert_eq!(bucket.take(9, ms(60_000)), 2);
        assert_eq!(bucket.take(9, ms(1)), 0, "time does not run backwards");
    }

    #[test]
    fn a_slow_rate_still_starts_one() {
        let mut bucket = TokenBucket::new(0.001, Duration::ZERO);
        assert_eq!(bucket.take(2, Duration::ZERO), 1);
        assert_eq!(bucket.wait(ms(0)), Duration::from_secs(1_000));
        assert_eq!(bucket.take(2, ms(999_999)), 0);
        assert_eq!(bucket.take(2, ms(1_000_000)), 1);
    }

    #[test]
    fn another_rate_takes_over_what_was_saved() {
        let mut bucket = TokenBucket::new(1.0, Duration::ZERO);
        assert_eq!(bucket.take(1, Duration::ZERO), 1);
        bucket.set_rate(100.0, ms(250));
        assert_eq!(bucket.take(99, ms(250)), 25, "a quarter of a second");
        bucket.set_rate(0.5, ms(1_250));
        assert_eq!((bucket.tokens(ms(1_250)), bucket.wait(ms(1_250))), (0, ms(1_000)));
        bucket.set_rate(4.0, ms(10_000));
        assert_eq!(bucket.take(99, ms(10_000)), 4, "a burst is one second's worth");
    }

    #[test]
    fn no_rate_is_no_reason_to_panic() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut bucket = TokenBucket::new(rate, Duration::ZERO);
            assert_eq!(bucket.take(5, Duration::ZERO), 1, "{rate}");
            assert_eq!(bucket.take(5, ms(u64::from(u32::MAX))), 0, "{rate}");
        }
    }

    proptest! {
        /// However it is asked, in no stretch of time more starts than max(1, rate) + rate × t.
        #[test]
        fn never_more_than_the_burst_and_the_rate(
            millis in 1u64..=1_000_000_000,
            steps in prop::collection::vec((0u64..=3_000_000, 0u64..=50, 0u64..=3), 1..80),
        ) {
            let rate = millis as f64 / 1_000.0;
            let mut bucket = TokenBucket::new(rate, Duration::ZERO);
            let mut now = Duration::ZERO;
            let mut starts: Vec<(Duration, u64)> = Vec::new();
            for (micros, wanted, unused) in steps {
                now += Duration::from_micros(micros);
                let taken = bucket.take(wanted, now);
                prop_assert!(taken <= wanted);
                let unused = unused.min(taken);
                bucket.give_back(unused);
                starts.push((now, taken - unused));
            }
            for (from, (began, _)) in starts.iter().enumerate() {
                let mut sum = 0;
                for (at, n) in &starts[from..] {
                    sum += n;
                    let most = rate.max(1.0) + rate * at.saturating_sub(*began).as_secs_f64();
                    prop_assert!(sum as f64 <= most + 1e-6 * most, "{sum} > {most}");
                }
            }
        }

        /// Whoever waits as long as he is told gets one.
        #[test]
        fn the_wait_is_long_enough(millis in 1u64..=1_000_000_000, spent in 0u64..2_000_000) {
            let mut bucket = TokenBucket::new(millis as f64 / 1_000.0, Duration::ZERO);
            bucket.take(spent, Duration::ZERO);
            let then = bucket.wait(Duration::ZERO);
            prop_assert_eq!(bucket.take(1, then), 1);
            if then > Duration::ZERO {
                let mut early = TokenBucket::new(millis as f64 / 1_000.0, Duration::ZERO);
                early.take(spent, Duration::ZERO);
                prop_assert_eq!(early.take(1, then.saturating_sub(Duration::from_nanos(1))), 0);
            }
        }
    }
}
