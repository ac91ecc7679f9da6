//! The settings of a queue that can change while the server runs: which there are, what each may
//! be, and the values that operators have put over the configuration.
//!
//! [`QueueKey`] is the one table: the configuration file, the API and the command line read their
//! names and ranges from it. An override wins over the file until it is taken back; it says who
//! set it and when.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::defaults::{JobDefaults, QueueWatch};
use super::job::Retention;
use super::retry::Backoff;
use super::time::Timestamp;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const WEEK: Duration = Duration::from_secs(7 * 86_400);
const TEN_YEARS: Duration = Duration::from_secs(3_650 * 86_400);

/// How the absence of a limit is written.
pub const OFF: &str = "off";

/// What a setting may be; bounds are inclusive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    /// In whole milliseconds.
    Span {
        min: Duration,
        max: Duration,
    },
    Count {
        min: u64,
        max: u64,
    },
    Real {
        min: f64,
        max: f64,
    },
    Switch,
}

/// A value of a setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Setting {
    /// No limit.
    Off,
    Span(Duration),
    Count(u64),
    Real(f64),
    Switch(bool),
}

macro_rules! keys {
    ($($key:ident => $name:literal $member:literal $range:expr, $off:literal;)+) => {
        /// A setting of a queue.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum QueueKey { $($key,)+ }

        impl QueueKey {
            pub const ALL: &'static [Self] = &[$(Self::$key,)+];

            /// As the configuration file calls it; a dot is a nested table.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$key => $name,)+ }
            }

            /// As the API calls it; a dot is a nested object, and durations are in seconds.
            pub const fn member(self) -> &'static str {
                match self { $(Self::$key => $member,)+ }
            }

            pub const fn range(self) -> Range {
                match self { $(Self::$key => $range,)+ }
            }

            /// Whether there may be no limit at all.
            pub const fn may_be_off(self) -> bool {
                match self { $(Self::$key => $off,)+ }
            }
        }
    };
}

const fn span(min: Duration, max: Duration) -> Range {
    Range::Span { min, max }
}

keys! {
    SyncWindow => "sync_window" "sync_window_seconds" span(Duration::ZERO, Duration::from_secs(50)), false;
    Lease => "lease" "lease_seconds" span(SECOND, HOUR), false;
    MaxAttempts => "max_attempts" "max_attempts" Range::Count { min: 1, max: 100 }, false;
    Timeout => "timeout" "timeout_seconds" span(SECOND, WEEK), false;
    CancelGrace => "cancel_grace" "cancel_grace_seconds" span(Duration::ZERO, WEEK), false;
    BackoffInitial => "backoff.initial" "backoff.initial_seconds" span(Duration::ZERO, WEEK), false;
    BackoffMax => "backoff.max" "backoff.max_seconds" span(Duration::ZERO, WEEK), false;
    BackoffMultiplier => "backoff.multiplier" "backoff.multiplier" Range::Real { min: 1.0, max: 100.0 }, false;
    BackoffJitter => "backoff.jitter" "backoff.jitter" Range::Real { min: 0.0, max: 1.0 }, false;
    RetentionCompleted => "retention.completed" "retention_seconds.completed" span(SECOND, TEN_YEARS), false;
    RetentionFailed => "retention.failed" "retention_seconds.failed" span(SECOND, TEN_YEARS), false;
    RetentionCancelled => "retention.cancelled" "retention_seconds.cancelled" span(SECOND, TEN_YEARS), false;
    StuckAfter => "stuck_after" "stuck_after_seconds" span(SECOND, WEEK), true;
    MaxRunning => "max_running" "max_running" Range::Count { min: 1, max: 1_000_000 }, true;
    MaxDepth => "max_depth" "max_depth" Range::Count { min: 1, max: 1_000_000_000_000 }, true;
    StartRate => "start_rate_per_second" "start_rate_per_second" Range::Real { min: 0.001, max: 1_000_000.0 }, true;
    RequireKey => "require_idempotency_key" "require_idempotency_key" Range::Switch, false;
    RetryAfterQuantile => "retry_after.quantile" "retry_after.quantile" Range::Real { min: 0.05, max: 0.95 }, false;
}

impl QueueKey {
    /// By either of its names.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.name() == name || key.member() == name)
    }

    /// Whether the value is one that this key may have.
    pub fn admits(self, value: Setting) -> bool {
        match (value, self.range()) {
            (Setting::Off, _) => self.may_be_off(),
            (Setting::Span(at), Range::Span { min, max }) => {
                (min..=max).contains(&at) && at.subsec_nanos().is_multiple_of(1_000_000)
            }
            (Setting::Count(n), Range::Count { min, max }) => (min..=max).contains(&n),
            // NaN is in no range.
            (Setting::Real(x), Range::Real { min, max }) => (min..=max).contains(&x),
            (Setting::Switch(_), Range::Switch) => true,
            (
                Setting::Span(_) | Setting::Count(_) | Setting::Real(_) | Setting::Switch(_),
                Range::Span { .. } | Range::Count { .. } | Range::Real { .. } | Range::Switch,
            ) => false,
        }
    }
}

/// As the command line and the log write it.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str(OFF),
            Self::Span(span) => write!(f, "{}s", span.as_secs_f64()),
            Self::Count(n) => write!(f, "{n}"),
            Self::Real(x) => write!(f, "{x}"),
            Self::Switch(on) => write!(f, "{on}"),
        }
    }
}

/// A value that an operator has set.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    pub value: Setting,
    pub by: String,
    pub at: Timestamp,
}

/// What is to become of settings; `None`: as the configuration has it.
pub type Changes = BTreeMap<QueueKey, Option<Setting>>;

/// Which revisions of a queue a change is meant for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IfMatch {
    #[default]
    Any,
    /// The queue must be there.
    Exists,
    OneOf(Vec<u64>),
}

impl IfMatch {
    /// `None`: there is no such queue.
    pub fn admits(&self, revision: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::Exists => revision.is_some(),
            Self::OneOf(known) => revision.is_some_and(|r| known.contains(&r)),
        }
    }
}

/// A queue's overrides. Values are in the range of their key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides(BTreeMap<QueueKey, Override>);

impl Overrides {
    /// Of what was set before; values that their keys do not admit any more are left out.
    pub fn restored(all: impl IntoIterator<Item = (QueueKey, Override)>) -> Self {
        Self(all.into_iter().filter(|(key, set)| key.admits(set.value)).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (QueueKey, &Override)> {
        self.0.iter().map(|(key, set)| (*key, set))
    }

    pub fn get(&self, key: QueueKey) -> Option<Setting> {
        self.0.get(&key).map(|set| set.value)
    }

    /// With the changes made. What is set to the value that it has keeps its author.
    #[must_use]
    pub fn changed(&self, changes: &Changes, by: &str, at: Timestamp) -> Self {
        let mut all = self.0.clone();
        for (key, value) in changes {
            match value {
                None => {
                    all.remove(key);
                }
                Some(value) if self.get(*key) == Some(*value) => {}
                Some(value) => {
                    all.insert(*key, Override { value: *value, by: by.to_owned(), at });
                }
            }
        }
        Self(all)
    }

    fn span(&self, key: QueueKey, configured: Duration) -> Duration {
        if let Some(Setting::Span(span)) = self.get(key) { span } else { configured }
    }

    fn real(&self, key: QueueKey, configured: f64) -> f64 {
        if let Some(Setting::Real(x)) = self.get(key) { x } else { configured }
    }

    pub fn max_running(&self, configured: Option<u32>) -> Option<u32> {
        match self.get(QueueKey::MaxRunning) {
            Some(Setting::Count(n)) => Some(u32::try_from(n).unwrap_or(u32::MAX)),
            Some(Setting::Off) => None,
            Some(Setting::Span(_) | Setting::Real(_) | Setting::Switch(_)) | None => configured,
        }
    }

    pub fn max_depth(&self, configured: Option<u64>) -> Option<u64> {
        match self.get(QueueKey::MaxDepth) {
            Some(Setting::Count(n)) => Some(n),
            Some(Setting::Off) => None,
            Some(Setting::Span(_) | Setting::Real(_) | Setting::Switch(_)) | None => configured,
        }
    }

    /// What jobs of the queue get.
    pub fn jobs(&self, configured: &Arc<JobDefaults>) -> Arc<JobDefaults> {
        use QueueKey as Key;
        if self.is_empty() {
            return Arc::clone(configured);
        }
        let c = configured;
        let attempts = if let Some(Setting::Count(n)) = self.get(Key::MaxAttempts) {
            u32::try_from(n).unwrap_or(u32::MAX)
        } else {
            c.max_attempts
        };
        let initial = self.span(Key::BackoffInitial, c.backoff.initial);
        let longest = self.span(Key::BackoffMax, c.backoff.max);
        Arc::new(JobDefaults {
            sync_window: self.span(Key::SyncWindow, c.sync_window),
            lease: self.span(Key::Lease, c.lease),
            max_attempts: attempts,
            timeout: self.span(Key::Timeout, c.timeout),
            cancel_grace: self.span(Key::CancelGrace, c.cancel_grace),
            backoff: Backoff {
                initial,
                // The configuration may have been lowered below what was set over it.
                max: longest.max(initial),
                multiplier: self.real(Key::BackoffMultiplier, c.backoff.multiplier),
                jitter: self.real(Key::BackoffJitter, c.backoff.jitter),
            },
            retention: Retention {
                completed: self.span(Key::RetentionCompleted, c.retention.completed),
                failed: self.span(Key::RetentionFailed, c.retention.failed),
                cancelled: self.span(Key::RetentionCancelled, c.retention.cancelled),
            },
            retry_after_quantile: self.real(Key::RetryAfterQuantile, c.retry_after_quantile),
        })
    }

    /// Whether these and the configuration agree on a back-off that rises.
    pub fn backoff_rises(&self, configured: &JobDefaults) -> bool {
        let initial = self.span(QueueKey::BackoffInitial, configured.backoff.initial);
        initial <= self.span(QueueKey::BackoffMax, configured.backoff.max)
    }

    /// What the queue is held to beside that.
    pub fn watch(&self, configured: QueueWatch) -> QueueWatch {
        let stuck_after = match self.get(QueueKey::StuckAfter) {
            Some(Setting::Span(span)) => Some(span),
            Some(Setting::Off) => None,
            Some(Setting::Count(_) | Setting::Real(_) | Setting::Switch(_)) | None => {
                configured.stuck_after
            }
        };
        let start_rate = match self.get(QueueKey::StartRate) {
            Some(Setting::Real(x)) => Some(x),
            Some(Setting::Off) => None,
            Some(Setting::Span(_) | Setting::Count(_) | Setting::Switch(_)) | None => {
                configured.start_rate
            }
        };
        let require_key = if let Some(Setting::Switch(on)) = self.get(QueueKey::RequireKey) {
            on
        } else {
            configured.require_key
        };
        QueueWatch {
            stuck_after,
            max_running: self.max_running(configured.max_running),
            max_depth: self.max_depth(configured.max_depth),
            start_rate,
            require_key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::Policy;
    use std::collections::BTreeSet;

    const MINUTE: Duration = Duration::from_secs(60);

    fn changes(all: &[(QueueKey, Option<Setting>)]) -> Changes {
        all.iter().copied().collect()
    }

    fn configured() -> (Arc<JobDefaults>, QueueWatch) {
        let Policy { timeout, cancel_grace, backoff, retention } = Policy::default();
        let jobs = JobDefaults {
            retry_after_quantile: 0.5,
            sync_window: Duration::ZERO,
            lease: MINUTE,
            max_attempts: 3,
            timeout,
            cancel_grace,
            backoff,
            retention,
        };
        let watch = QueueWatch {
            stuck_after: Some(MINUTE),
            max_running: Some(5),
            max_depth: None,
            start_rate: Some(2.0),
            require_key: false,
        };
        (Arc::new(jobs), watch)
    }

    #[test]
    fn names_are_distinct_and_known_by_both() {
        let mut seen = BTreeSet::new();
        for key in QueueKey::ALL {
            assert!(seen.insert(key.name()) && QueueKey::parse(key.name()) == Some(*key));
            assert_eq!(QueueKey::parse(key.member()), Some(*key));
        }
        assert_eq!(QueueKey::parse("max_deep"), None);
    }

    #[test]
    fn only_values_in_range_are_admitted() {
        use QueueKey as Key;
        for (key, value) in [
            (Key::MaxDepth, Setting::Count(1)),
            (Key::MaxDepth, Setting::Off),
            (Key::StartRate, Setting::Real(0.001)),
            (Key::StuckAfter, Setting::Off),
            (Key::SyncWindow, Setting::Span(Duration::ZERO)),
            (Key::RequireKey, Setting::Switch(true)),
        ] {
            assert!(key.admits(value), "{key:?} {value}");
        }
        for (key, value) in [
            (Key::MaxDepth, Setting::Count(0)),
            (Key::MaxDepth, Setting::Real(5.0)),
            (Key::StartRate, Setting::Real(f64::NAN)),
            (Key::Lease, Setting::Off),
            (Key::Lease, Setting::Span(Duration::from_micros(1_000_500))),
            (Key::MaxAttempts, Setting::Count(101)),
            (Key::RequireKey, Setting::Count(1)),
        ] {
            assert!(!key.admits(value), "{key:?} {value}");
        }
        let damaged =
            Override { value: Setting::Count(0), by: String::new(), at: Timestamp::EPOCH };
        assert!(Overrides::restored([(Key::MaxDepth, damaged)]).is_empty());
    }

    #[test]
    fn overrides_lie_over_the_configuration_until_they_are_taken_back() {
        use QueueKey as Key;
        let (jobs, watch) = configured();
        let none = Overrides::default();
        assert_eq!((none.jobs(&jobs), none.watch(watch)), (Arc::clone(&jobs), watch));
        let set = changes(&[
            (Key::Lease, Some(Setting::Span(2 * MINUTE))),
            (Key::MaxRunning, Some(Setting::Off)),
            (Key::MaxDepth, Some(Setting::Count(9))),
            (Key::StartRate, Some(Setting::Real(0.5))),
            (Key::StuckAfter, Some(Setting::Off)),
            (Key::RequireKey, Some(Setting::Switch(true))),
            (Key::MaxAttempts, Some(Setting::Count(7))),
            (Key::RetryAfterQuantile, Some(Setting::Real(0.25))),
        ]);
        let some = none.changed(&set, "ann", Timestamp::from_millis(5));
        let now = some.jobs(&jobs);
        assert_eq!((now.lease, now.max_attempts, now.timeout), (2 * MINUTE, 7, jobs.timeout));
        assert!((now.retry_after_quantile - 0.25).abs() < f64::EPSILON);
        let expected = QueueWatch {
            stuck_after: None,
            max_running: None,
            max_depth: Some(9),
            start_rate: Some(0.5),
            require_key: true,
        };
        assert_eq!(some.watch(watch), expected);
        let back: Changes = set.keys().map(|key| (*key, None)).collect();
        assert_eq!(some.changed(&back, "bob", Timestamp::from_millis(6)), none);
    }

    #[test]
    fn the_same_value_again_keeps_its_author() {
        let set = changes(&[(QueueKey::MaxDepth, Some(Setting::Count(9)))]);
        let once = Overrides::default().changed(&set, "ann", Timestamp::from_millis(5));
        assert_eq!(once.changed(&set, "bob", Timestamp::from_millis(6)), once);
        let other = changes(&[(QueueKey::MaxDepth, Some(Setting::Count(8)))]);
        let twice = once.changed(&other, "bob", Timestamp::from_millis(6));
        let by: Vec<&str> = twice.iter().map(|(_, set)| set.by.as_str()).collect();
        assert_eq!(by, ["bob"]);
    }

    #[test]
    fn the_longest_delay_is_never_below_the_first() {
        let (jobs, _) = configured();
        let set = changes(&[(QueueKey::BackoffInitial, Some(Setting::Span(HOUR)))]);
        let over = Overrides::default().changed(&set, "ann", Timestamp::EPOCH);
        assert!(!over.backoff_rises(&jobs), "{:?}", jobs.backoff);
        assert_eq!(over.jobs(&jobs).backoff.max, HOUR);
    }

    #[test]
    fn a_revision_is_one_of_those_that_are_meant() {
        assert!(IfMatch::Any.admits(None) && IfMatch::Exists.admits(Some(0)));
        assert!(!IfMatch::Exists.admits(None) && !IfMatch::OneOf(vec![0]).admits(None));
        assert!(
            IfMatch::OneOf(vec![1, 2]).admits(Some(2)) && !IfMatch::OneOf(vec![]).admits(Some(0))
        );
    }
}
