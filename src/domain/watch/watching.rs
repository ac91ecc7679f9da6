//! When a finding becomes an episode: two scans must agree, so that a moment between two states
//! raises nobody.

use super::Verdict;

/// A finding that disagrees with the one before it this often in a row is believed all the same:
/// what is stuck must not stay unsaid because its cause wavers.
const WAVERING: u32 = 3;

/// What one queue and kind has looked like over the latest scans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watching {
    open: Option<Verdict>,
    candidate: Option<Verdict>,
    wavered: u32,
}

/// What a scan's finding means for the episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing is stuck, and nothing was.
    Calm,
    /// Something is stuck; one more scan must say so.
    Suspect,
    Open(Verdict),
    /// It goes on.
    Stay(Verdict),
    Change {
        from: Verdict,
        to: Verdict,
    },
    End(Verdict),
}

impl Watching {
    /// Goes on where an earlier process has stopped.
    pub const fn opened(verdict: Verdict) -> Self {
        Self { open: Some(verdict), candidate: None, wavered: 0 }
    }

    pub const fn verdict(&self) -> Option<Verdict> {
        self.open
    }

    /// `finding` is `None` when nothing is stuck.
    pub fn see(&mut self, finding: Option<Verdict>) -> Turn {
        let before = self.open;
        let Some(found) = finding else {
            *self = Self::default();
            return before.map_or(Turn::Calm, Turn::End);
        };
        if before == Some(found) {
            *self = Self::opened(found);
            return Turn::Stay(found);
        }
        self.wavered += 1;
        if self.candidate != Some(found) && self.wavered < WAVERING {
            self.candidate = Some(found);
            return before.map_or(Turn::Suspect, Turn::Stay);
        }
        *self = Self::opened(found);
        before.map_or(Turn::Open(found), |from| Turn::Change { from, to: found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{NoWorkers, Unknown, WorkersSaturated, WorkersStalled};

    fn turns(findings: &[Option<Verdict>]) -> Vec<Turn> {
        let mut watching = Watching::default();
        findings.iter().map(|f| watching.see(*f)).collect()
    }

    #[test]
    fn two_scans_must_agree() {
        assert_eq!(
            turns(&[None, Some(NoWorkers), Some(NoWorkers), Some(NoWorkers), None, None]),
            [
                Turn::Calm,
                Turn::Suspect,
                Turn::Open(NoWorkers),
                Turn::Stay(NoWorkers),
                Turn::End(NoWorkers),
                Turn::Calm
            ]
        );
        assert_eq!(
            turns(&[Some(NoWorkers), None, Some(NoWorkers), None]),
            [Turn::Suspect, Turn::Calm, Turn::Suspect, Turn::Calm],
            "a moment raises nobody"
        );
    }

    #[test]
    fn a_verdict_changes_when_two_scans_agree() {
        assert_eq!(
            turns(&[
                Some(NoWorkers),
                Some(NoWorkers),
                Some(WorkersSaturated),
                Some(NoWorkers),
                Some(WorkersSaturated),
                Some(WorkersSaturated),
            ])[2..],
            [
                Turn::Stay(NoWorkers),
                Turn::Stay(NoWorkers),
                Turn::Stay(NoWorkers),
                Turn::Change { from: NoWorkers, to: WorkersSaturated }
            ]
        );
    }

    #[test]
    fn a_wavering_cause_is_told_all_the_same() {
        assert_eq!(
            turns(&[Some(WorkersSaturated), Some(WorkersStalled), Some(Unknown)]),
            [Turn::Suspect, Turn::Suspect, Turn::Open(Unknown)]
        );
    }

    #[test]
    fn an_episode_of_an_earlier_process_goes_on() {
        let mut watching = Watching::opened(NoWorkers);
        assert_eq!(watching.see(Some(NoWorkers)), Turn::Stay(NoWorkers));
        assert_eq!(watching.see(None), Turn::End(NoWorkers));
        assert_eq!(watching.verdict(), None);
    }
}
