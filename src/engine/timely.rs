//! What a new job's moments must be at the time of its making.
//!
//! These are conditions of creating, and of nothing else: whoever repeats a submission with its key
//! hears of the job that it made, also when the `start_by` of both has passed meanwhile.

use std::time::Duration;

use crate::domain::time::Timestamp;

use super::{Caller, Engine, Failure, Submission};

/// How far ahead a job may be put off.
pub const RUN_AT_AHEAD: Duration = Duration::from_secs(365 * 86_400);

/// A moment that no new job may have now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Untimely {
    pub member: &'static str,
    pub must: &'static str,
}

/// `run_at`, as far as it depends on the clock.
pub(super) fn too_far(run_at: Option<Timestamp>, now: Timestamp) -> Option<Untimely> {
    let far = run_at.is_some_and(|t| t > now.plus(RUN_AT_AHEAD));
    far.then_some(Untimely { member: "run_at", must: "must be at most 365 days ahead" })
}

fn too_late(s: &Submission, now: Timestamp) -> Option<Untimely> {
    let start_by = s.start_by?;
    let from = s.run_at.or_else(|| s.delay.map(|d| now.plus(d))).map_or(now, |t| t.max(now));
    let must = if start_by <= now {
        "must be in the future"
    } else if start_by <= from {
        "must be later than the job may start"
    } else {
        return None;
    };
    Some(Untimely { member: "start_by", must })
}

impl Engine {
    /// Refuses what would make a job whose time has passed, or is too far off. The index is the
    /// first such item. Asks the store only of such, and only if their keys may be known.
    pub(super) async fn timely(
        &self,
        caller: &Caller,
        submissions: &[Submission],
        now: Timestamp,
    ) -> Result<(), (usize, Failure)> {
        for (at, submission) in submissions.iter().enumerate() {
            let wrong: Vec<Untimely> = too_far(submission.run_at, now)
                .into_iter()
                .chain(too_late(submission, now))
                .collect();
            if wrong.is_empty() {
                continue;
            }
            let repeated = match &submission.key {
                None => false,
                Some(key) => {
                    let namespace = caller.namespace.clone();
                    let known = self.0.store.knows_key(namespace, key.key.clone()).await;
                    known.map_err(|e| (at, e.into()))?
                }
            };
            if !repeated {
                return Err((at, Failure::Untimely(wrong)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_is_far_enough() {
        let now = Timestamp::from_millis(5);
        let last = now.plus(RUN_AT_AHEAD);
        assert_eq!(too_far(Some(last), now), None);
        assert_eq!(too_far(None, now), None);
        assert!(too_far(Some(last.plus(Duration::from_millis(1))), now).is_some());
    }
}
