//! When a failed attempt is tried again: exponential back-off with symmetric jitter.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `min(initial × multiplier^(failures-1), max)`, then ± `jitter` of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    pub initial: Duration,
    pub max: Duration,
    /// 1 or more; 1 is a constant delay.
    pub multiplier: f64,
    /// 0 to 1: the share of the delay that is random, to both sides.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(5),
            max: Duration::from_secs(600),
            multiplier: 2.0,
            jitter: 0.1,
        }
    }
}

impl Backoff {
    /// The delay after the `failures`-th failed attempt (from 1). `unit` is uniform in [0, 1).
    ///
    /// Never zero unless `initial` is: jitter is applied to the real-valued delay and the result
    /// is rounded up to a millisecond.
    pub fn delay(&self, failures: u32, unit: f64) -> Duration {
        let exponent = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.initial.as_secs_f64() * self.multiplier.powi(exponent);
        let base = grown.min(self.max.as_secs_f64());
        let spread = base * (1.0 + self.jitter * (2.0 * unit - 1.0));
        Duration::from_millis((spread * 1_000.0).ceil().max(0.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_to_the_cap() {
        let b = Backoff { jitter: 0.0, ..Backoff::default() };
        let secs: Vec<u64> = (1..=9).map(|n| b.delay(n, 0.3).as_secs()).collect();
        assert_eq!(secs, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(b.delay(u32::MAX, 0.0), Duration::from_secs(600));
    }

    #[test]
    fn jitter_spreads_short_delays_too() {
        let b = Backoff { initial: Duration::from_millis(3), jitter: 0.5, ..Backoff::default() };
        let seen: std::collections::BTreeSet<_> =
            (0..100).map(|i| b.delay(1, f64::from(i) / 100.0)).collect();
        assert!(seen.len() >= 3 && !seen.contains(&Duration::ZERO), "{seen:?}");
    }

    proptest! {
        #[test]
        fn stays_within_the_jitter(failures in 1u32..200, unit in 0.0..1.0f64, jitter in 0.0..1.0f64) {
            let exact = Backoff { jitter: 0.0, ..Backoff::default() }.delay(failures, unit).as_secs_f64();
            let d = Backoff { jitter, ..Backoff::default() }.delay(failures, unit).as_secs_f64();
            prop_assert!(d >= exact * (1.0 - jitter) - 0.001 && d <= exact * (1.0 + jitter) + 0.001);
        }
    }
}
