//! The delivery check: every job that the server accepted was done exactly once.
//!
//! Two lists are kept on the client's side and nothing else is believed: the ids in the answers
//! that accepted a job, and the ids whose settlement as completed the server confirmed.

use std::fmt::Write as _;

use serde::Serialize;
use uuid::Uuid;

/// A job's id, small enough to keep millions of.
pub(crate) type Id = u128;

/// `None` for what is not a UUID.
pub(crate) fn id(text: &str) -> Option<Id> {
    Uuid::try_parse(text).ok().map(|id| id.as_u128())
}

/// What became of the jobs of one scenario.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Delivery {
    pub(crate) scenario: String,
    pub(crate) accepted: u64,
    pub(crate) completed: u64,
    /// Accepted and still waiting when the scenario's time was over, by the queue's own count.
    pub(crate) left: u64,
    /// Accepted, neither completed nor waiting.
    pub(crate) lost: u64,
    /// Completed more than once, or one id for two accepted jobs.
    pub(crate) duplicated: u64,
    /// Completed though no answer had accepted them.
    pub(crate) unknown: u64,
    /// Settlements that the server did not take.
    pub(crate) rejected: u64,
}

impl Delivery {
    /// Compares the lists. `waiting` is how many jobs the queue still holds.
    pub(crate) fn check(
        scenario: &str,
        mut accepted: Vec<Id>,
        mut completed: Vec<Id>,
        waiting: u64,
        rejected: u64,
    ) -> Self {
        let mut duplicated = distinct(&mut accepted);
        duplicated += distinct(&mut completed);
        let done = accepted.iter().filter(|id| completed.binary_search(id).is_ok()).count() as u64;
        let missing = accepted.len() as u64 - done;
        let left = waiting.min(missing);
        Self {
            scenario: scenario.to_owned(),
            accepted: accepted.len() as u64,
            completed: done,
            left,
            lost: missing - left,
            duplicated,
            unknown: completed.len() as u64 - done + (waiting - left),
            rejected,
        }
    }

    pub(crate) fn is_exact(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.unknown == 0 && self.rejected == 0
    }

    pub(crate) fn line(&self) -> String {
        let mut line = format!(
            "{}: accepted {}, completed {}, lost {}, duplicated {}",
            self.scenario, self.accepted, self.completed, self.lost, self.duplicated
        );
        for (count, what) in [
            (self.left, "still waiting"),
            (self.unknown, "never accepted"),
            (self.rejected, "settlements rejected"),
        ] {
            if count > 0 {
                let _ = write!(line, ", {what} {count}");
            }
        }
        line
    }
}

/// Sorts, drops repetitions and says how many there were.
fn distinct(ids: &mut Vec<Id>) -> u64 {
    let before = ids.len();
    ids.sort_unstable();
    ids.dedup();
    (before - ids.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_done_once_is_exact() {
        let d = Delivery::check("s", vec![3, 1, 2], vec![2, 3, 1], 0, 0);
        assert!(d.is_exact());
        assert_eq!(d.line(), "s: accepted 3, completed 3, lost 0, duplicated 0");
    }

    #[test]
    fn what_waits_is_not_lost() {
        let d = Delivery::check("s", vec![1, 2, 3], vec![1], 2, 0);
        assert!(d.is_exact());
        assert_eq!((d.left, d.lost), (2, 0));
        assert!(d.line().ends_with("still waiting 2"));
    }

    #[test]
    fn each_fault_is_told() {
        let lost = Delivery::check("s", vec![1, 2], vec![1], 0, 0);
        assert_eq!((lost.lost, lost.is_exact()), (1, false));
        let twice = Delivery::check("s", vec![1, 2], vec![1, 2, 2], 0, 0);
        assert_eq!((twice.duplicated, twice.lost, twice.is_exact()), (1, 0, false));
        let same_id = Delivery::check("s", vec![1, 1], vec![1], 0, 0);
        assert_eq!((same_id.duplicated, same_id.is_exact()), (1, false));
        let stranger = Delivery::check("s", vec![1], vec![1, 9], 0, 0);
        assert_eq!((stranger.unknown, stranger.is_exact()), (1, false));
        let ghost = Delivery::check("s", vec![1], vec![1], 1, 0);
        assert_eq!((ghost.unknown, ghost.is_exact()), (1, false));
        assert!(!Delivery::check("s", vec![1], vec![1], 0, 1).is_exact());
    }

    #[test]
    fn ids_are_uuids() {
        assert_eq!(id("00000000-0000-0000-0000-00000000000a"), Some(10));
        assert_eq!(id("job-1"), None);
    }
}
