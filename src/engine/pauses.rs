//! Which queues are paused, as far as this process knows: what the answer to a fresh submission
//! says without asking the store again, and until when an estimate has to wait.
//!
//! Pauses and resumes go through here and are known at once; the sample brings in whatever else
//! has changed them, such as a pause that was there before this process.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::domain::estimate::Standstill;
use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::store::QueueState;

#[derive(Debug, Default)]
pub(super) struct Pauses(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Rises with every pause and resume, so that an older sample does not undo them.
    turn: u64,
    paused: HashMap<Name, QueueState>,
}

impl Pauses {
    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// A queue was paused or resumed.
    pub(super) fn changed(&self, state: &QueueState) {
        self.write(|known| {
            known.turn += 1;
            if state.paused_at.is_some() {
                known.paused.insert(state.name.clone(), state.clone());
            } else {
                known.paused.remove(&state.name);
            }
        });
    }

    /// Ask before taking a sample, and hand it to [`Self::sampled`].
    pub(super) fn turn(&self) -> u64 {
        self.read(|known| known.turn)
    }

    pub(super) fn sampled<'a>(&self, turn: u64, states: impl Iterator<Item = &'a QueueState>) {
        let paused = states.filter(|s| s.paused_at.is_some()).map(|s| (s.name.clone(), s.clone()));
        let paused = paused.collect();
        self.write(|known| {
            if known.turn == turn {
                known.paused = paused;
            }
        });
    }

    /// How the queue stands still; `None` when it is not known to.
    pub(super) fn standstill(&self, queue: &Name, now: Timestamp) -> Option<Standstill> {
        self.read(|known| {
            let state = known.paused.get(queue)?;
            match state.paused_until {
                Some(until) => (until > now).then_some(Standstill::Until(until)),
                None => state.paused_at.map(Standstill::Since),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(paused_at: Option<i64>, until: Option<i64>) -> QueueState {
        QueueState {
            paused_at: paused_at.map(Timestamp::from_millis),
            paused_until: until.map(Timestamp::from_millis),
            ..QueueState::new(Name::trusted("q"))
        }
    }

    #[test]
    fn pauses_end_by_a_resume_or_at_their_moment() {
        let pauses = Pauses::default();
        let at = |millis| pauses.standstill(&Name::trusted("q"), Timestamp::from_millis(millis));
        assert_eq!(at(5), None);
        pauses.changed(&state(Some(3), None));
        assert_eq!(at(5), Some(Standstill::Since(Timestamp::from_millis(3))));
        pauses.changed(&state(Some(3), Some(9)));
        assert_eq!(at(8), Some(Standstill::Until(Timestamp::from_millis(9))));
        assert_eq!(at(9), None);
        pauses.changed(&state(None, None));
        assert_eq!(at(5), None);
    }

    #[test]
    fn an_older_sample_does_not_undo_a_pause() {
        let pauses = Pauses::default();
        let turn = pauses.turn();
        pauses.changed(&state(Some(3), None));
        pauses.sampled(turn, [state(None, None)].iter());
        let now = Timestamp::from_millis(5);
        assert!(pauses.standstill(&Name::trusted("q"), now).is_some());
        pauses.sampled(pauses.turn(), [state(None, None)].iter());
        assert!(pauses.standstill(&Name::trusted("q"), now).is_none());
        pauses.sampled(pauses.turn(), [state(Some(4), None)].iter());
        assert!(pauses.standstill(&Name::trusted("q"), now).is_some());
    }
}
