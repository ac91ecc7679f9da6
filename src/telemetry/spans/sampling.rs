//! Which traces are recorded: decided once, from the trace's id, before any of its spans.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::trace::TraceId;

#[derive(Debug)]
pub(super) struct Sampler {
    /// Of 2^63: ids whose low bits are below it are recorded.
    threshold: u64,
    /// Callers choose their ids; what those decide must not be theirs to choose.
    key: RandomState,
    forced: PerSecond,
}

const RANGE: u64 = 1 << 63;

impl Sampler {
    pub(super) fn new(ratio: f64, max_forced_per_second: u32) -> Self {
        // A ratio of 1 is a threshold that nothing reaches.
        let threshold = (ratio.clamp(0.0, 1.0) * RANGE as f64) as u64;
        let forced = PerSecond::new(max_forced_per_second);
        Self { threshold, key: RandomState::new(), forced }
    }

    /// For a trace whose id is ours. As other programs decide by the same ratio (OpenTelemetry's
    /// `TraceIdRatioBased`).
    pub(super) fn by_ratio(&self, trace: TraceId) -> bool {
        self.draws(u128::from_be_bytes(trace.bytes()) as u64)
    }

    /// For a trace that its caller records: by the ratio, and beyond it as long as callers do not
    /// ask for too much. `at` is the time since some fixed moment.
    pub(super) fn of_caller(&self, trace: TraceId, at: Duration) -> bool {
        self.draws(self.key.hash_one(trace)) || self.forced.allows(at)
    }

    const fn draws(&self, bits: u64) -> bool {
        bits >> 1 < self.threshold
    }
}

/// So many in each second, without a lock.
#[derive(Debug)]
struct PerSecond {
    most: u32,
    /// The second, and how many were allowed in it.
    state: AtomicU64,
}

impl PerSecond {
    fn new(most: u32) -> Self {
        Self { most, state: AtomicU64::new(0) }
    }

    fn allows(&self, at: Duration) -> bool {
        let second = at.as_secs() & u64::from(u32::MAX);
        let next = |state: u64| {
            let used = if state >> 32 == second { state & u64::from(u32::MAX) } else { 0 };
            (used < u64::from(self.most)).then_some(second << 32 | (used + 1))
        };
        self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(n: u64) -> impl Iterator<Item = TraceId> {
        (1..=n).map(|i| {
            let mut bytes = [7; 16];
            bytes[8..].copy_from_slice(&i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            TraceId::new(bytes).unwrap()
        })
    }

    #[test]
    fn the_ratio_holds() {
        for (ratio, least, most) in [(0.0, 0, 0), (0.1, 900, 1_100), (1.0, 10_000, 10_000)] {
            let sampler = Sampler::new(ratio, 0);
            let own = ids(10_000).filter(|id| sampler.by_ratio(*id)).count();
            let theirs = ids(10_000).filter(|id| sampler.of_caller(*id, Duration::ZERO)).count();
            for count in [own, theirs] {
                assert!((least..=most).contains(&count), "{ratio}: {count}");
            }
        }
    }

    #[test]
    fn the_same_trace_is_decided_the_same() {
        let sampler = Sampler::new(0.5, 0);
        for id in ids(100) {
            assert_eq!(sampler.by_ratio(id), sampler.by_ratio(id));
            let theirs = |s: u64| sampler.of_caller(id, Duration::from_secs(s));
            assert_eq!(theirs(0), theirs(1));
        }
    }

    #[test]
    fn callers_cannot_choose_ids_that_are_recorded() {
        let sampler = Sampler::new(0.01, 0);
        let low = (1..=255u8).map(|i| {
            let mut bytes = [0; 16];
            (bytes[0], bytes[1]) = (i, 1);
            TraceId::new(bytes).unwrap()
        });
        let (all, recorded) = low.fold((0, 0), |(all, recorded), id| {
            assert!(sampler.by_ratio(id), "it would be, were it ours");
            (all + 1, recorded + usize::from(sampler.of_caller(id, Duration::ZERO)))
        });
        assert!(recorded * 10 < all, "{recorded} of {all}");
    }

    #[test]
    fn callers_force_no_more_than_they_may() {
        let sampler = Sampler::new(0.0, 3);
        let forced = |second: u64| {
            let at = Duration::from_secs(second);
            ids(100).filter(|id| sampler.of_caller(*id, at)).count()
        };
        assert_eq!([forced(0), forced(0), forced(1), forced(9)], [3, 0, 3, 3]);
    }
}
