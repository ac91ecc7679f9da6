//! When work last started, by priority: enough to tell whether jobs of one priority wait for those
//! of higher ones.
//!
//! Of each side only what a later start has not made irrelevant is kept: of higher priorities, a
//! start that no later one of the same or a higher priority has followed; the other side likewise.

use crate::domain::time::Timestamp;

/// Priorities remembered on each side; of more, the oldest starts are forgotten.
const KEPT: usize = 16;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels {
    /// Oldest first, so from the highest priority to the lowest.
    down: Vec<(i32, Timestamp)>,
    /// Oldest first, so from the lowest priority to the highest.
    up: Vec<(i32, Timestamp)>,
}

impl Levels {
    /// A job of this priority started, no earlier than those before it.
    pub fn started(&mut self, priority: i32, at: Timestamp) {
        self.down.retain(|(p, _)| *p > priority);
        self.up.retain(|(p, _)| *p < priority);
        for side in [&mut self.down, &mut self.up] {
            if side.len() == KEPT {
                side.remove(0);
            }
            side.push((priority, at));
        }
    }

    /// When a job of a higher priority than this last started.
    pub fn above(&self, priority: i32) -> Option<Timestamp> {
        self.down.iter().rev().find(|(p, _)| *p > priority).map(|(_, at)| *at)
    }

    /// When a job of this priority, or of a lower one, last started.
    pub fn up_to(&self, priority: i32) -> Option<Timestamp> {
        self.up.iter().rev().find(|(p, _)| *p <= priority).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn starts_are_told_by_priority() {
        let mut levels = Levels::default();
        assert_eq!((levels.above(0), levels.up_to(0)), (None, None));
        for (priority, ms) in [(0, 1), (9, 2), (5, 3), (5, 4)] {
            levels.started(priority, at(ms));
        }
        assert_eq!((levels.above(0), levels.up_to(0)), (Some(at(4)), Some(at(1))));
        assert_eq!((levels.above(5), levels.up_to(5)), (Some(at(2)), Some(at(4))));
        assert_eq!((levels.above(9), levels.up_to(9)), (None, Some(at(4))));
        assert_eq!((levels.above(-1), levels.up_to(-1)), (Some(at(4)), None));
    }

    proptest! {
        #[test]
        fn as_if_everything_were_remembered(
            starts in prop::collection::vec(-7i32..=7, 0..60), priority in -8i32..=8,
        ) {
            let mut levels = Levels::default();
            let mut all = Vec::new();
            for (ms, p) in (1..).zip(starts) {
                levels.started(p, at(ms));
                all.push((p, at(ms)));
            }
            let last = |of: &dyn Fn(i32) -> bool| {
                all.iter().filter(|(p, _)| of(*p)).map(|(_, at)| *at).max()
            };
            prop_assert_eq!(levels.above(priority), last(&|p| p > priority));
            prop_assert_eq!(levels.up_to(priority), last(&|p| p <= priority));
            prop_assert!(levels.down.len() <= KEPT && levels.up.len() <= KEPT);
        }
    }
}
