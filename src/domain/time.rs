//! Engine time: milliseconds since the Unix epoch, UTC, and the rule that it never runs backwards.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment, in whole milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const EPOCH: Self = Self(0);

    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Later by `span`; saturates at the end of time.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(millis(span)))
    }

    /// How long ago `earlier` was; zero when it is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339, UTC, milliseconds: `2026-08-24T10:00:00.000Z`.
    pub fn to_rfc3339(self) -> String {
        // A stored moment is within jiff's range; a corrupt one prints as the epoch, not a panic.
        let t = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        format!("{t:.3}")
    }

    /// Any RFC 3339 moment with an offset, rounded down to the millisecond. The last hours of the
    /// year 9999, a common way to write "never", are beyond what can be shown and mean its end.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        /// 9999-12-30T22:00:00Z.
        const END: Timestamp = Timestamp(253_402_207_200_000);

        if let Ok(t) = text.parse::<jiff::Timestamp>() {
            return Some(Self(t.as_millisecond()).min(END));
        }
        let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
        let whole = pieces.time().is_some() && pieces.to_numeric_offset().is_some();
        (whole && pieces.date().year() == 9_999).then_some(END)
    }
}

/// In JSON a moment is its RFC 3339 text.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse_rfc3339(&text).ok_or_else(|| D::Error::custom("not an RFC 3339 moment"))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// Whole milliseconds of `span`, saturating.
pub fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Where the engine reads the time. Implementations never answer an earlier moment than before.
pub trait Clock: Send + Sync + fmt::Debug {
    fn now(&self) -> Timestamp;
    /// How far the wall clock has jumped forward in one step since last asked; zero normally.
    fn take_step(&self) -> Duration;
    /// How far engine time is ahead of the wall clock: what that was set back, less what has
    /// passed since.
    fn ahead(&self) -> Duration {
        Duration::ZERO
    }
}

/// A clock step longer than this makes leases unjudgeable, so they are extended first.
pub const STEP_TOLERANCE: Duration = Duration::from_secs(5);

/// Follows a wall clock forwards, and a monotonic one while the wall clock is behind.
///
/// Pure: both readings are arguments. `never_before` keeps the promise across restarts too.
#[derive(Debug)]
pub struct Follower {
    inner: Mutex<Following>,
}

#[derive(Debug)]
struct Following {
    last: Timestamp,
    last_mono: Duration,
    step: Duration,
}

impl Follower {
    pub fn new(wall: Timestamp, mono: Duration, never_before: Timestamp) -> Self {
        Self {
            inner: Mutex::new(Following {
                last: wall.max(never_before),
                last_mono: mono,
                step: Duration::ZERO,
            }),
        }
    }

    pub fn read(&self, wall: Timestamp, mono: Duration) -> Timestamp {
        let mut f = self.lock();
        let elapsed = mono.saturating_sub(f.last_mono);
        let carried = f.last.plus(elapsed);
        if wall > carried.plus(STEP_TOLERANCE) {
            f.step += wall.since(carried);
        }
        // Sub-millisecond remainders are kept so that a busy caller does not slow time down.
        if wall > carried {
            f.last = wall;
            f.last_mono = mono;
        } else if carried > f.last {
            let passed = carried.since(f.last);
            f.last_mono += passed;
            f.last = carried;
        }
        f.last
    }

    pub fn take_step(&self) -> Duration {
        std::mem::take(&mut self.lock().step)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Following> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_and_reads_milliseconds() {
        let t = Timestamp::parse_rfc3339("2026-08-24T12:00:00.1239+02:00").unwrap();
        assert_eq!(t.to_rfc3339(), "2026-08-24T10:00:00.123Z");
        assert!(Timestamp::parse_rfc3339("2026-08-24 10:00").is_none());
        assert!(Timestamp::parse_rfc3339("").is_none());
        let never = Timestamp::parse_rfc3339("9999-12-31T23:59:59Z").unwrap();
        assert!(never > Timestamp::parse_rfc3339("9999-12-30T00:00:00Z").unwrap());
        assert_eq!(never.to_rfc3339(), "9999-12-30T22:00:00.000Z");
        assert!(Timestamp::parse_rfc3339("9999-12-31T23:59:59").is_none());
        assert!(Timestamp::parse_rfc3339("9999-12-31").is_none());
    }

    #[test]
    fn a_step_forward_is_followed_and_reported_once() {
        let f = Follower::new(Timestamp(1_000), Duration::ZERO, Timestamp::EPOCH);
        let t = f.read(Timestamp(61_000), Duration::from_secs(1));
        assert_eq!(t, Timestamp(61_000));
        assert_eq!(f.take_step(), Duration::from_secs(59));
        assert_eq!(f.take_step(), Duration::ZERO);
    }

    #[test]
    fn a_step_back_keeps_time_running() {
        let f = Follower::new(Timestamp(100_000), Duration::ZERO, Timestamp::EPOCH);
        assert_eq!(f.read(Timestamp(10), Duration::from_millis(500)), Timestamp(100_500));
        assert_eq!(f.read(Timestamp(20), Duration::from_millis(1_500)), Timestamp(101_500));
        assert_eq!(f.take_step(), Duration::ZERO);
    }

    #[test]
    fn starts_no_earlier_than_the_store_last_saw() {
        let f = Follower::new(Timestamp(5), Duration::ZERO, Timestamp(900));
        assert_eq!(f.read(Timestamp(6), Duration::from_millis(1)), Timestamp(901));
    }

    proptest! {
        #[test]
        fn never_runs_backwards(readings in prop::collection::vec((0i64..1_000_000, 0u64..5_000), 1..200)) {
            let f = Follower::new(Timestamp(500_000), Duration::ZERO, Timestamp::EPOCH);
            let (mut last, mut mono) = (Timestamp::EPOCH, 0);
            for (wall, step) in readings {
                mono += step;
                let t = f.read(Timestamp(wall), Duration::from_micros(mono));
                prop_assert!(t >= last);
                last = t;
            }
        }
    }
}
