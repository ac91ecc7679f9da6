//! Heartbeats that a report of the same lease has overtaken: sent while it was on its way. Nobody
//! was late, so nothing is counted; what the beat is answered is where the job is now.

use crate::domain::id::JobId;
use crate::domain::job::Phase;
use crate::domain::state::Rejected;
use crate::store::{Found, Refusal, Ruling};

use super::{Engine, Failure};

impl Engine {
    /// The answer to a beat whose token has settled its job; `None`: it is another case.
    pub(super) async fn overtaken(&self, id: JobId, ruling: &Ruling) -> Option<Failure> {
        if !matches!(ruling, Err(Refusal::Rejected(Rejected::AlreadyReported))) {
            return None;
        }
        Some(match self.0.store.get(id, false).await {
            Ok(Found::Here(record)) => {
                let rejected = where_it_is(&record.job.phase);
                Failure::Rejected { id, rejected, status: Some(record.job.status()) }
            }
            Ok(Found::Absent(absence)) => self.absent(id, absence),
            Err(error) => error.into(),
        })
    }
}

/// Why a token that has settled the job holds it no more.
const fn where_it_is(phase: &Phase) -> Rejected {
    match phase {
        Phase::Running(_) => Rejected::LeaseLost,
        Phase::Pending(_) => Rejected::LeaseExpired,
        Phase::Completed | Phase::Failed | Phase::Cancelled => Rejected::JobAlreadyFinished,
    }
}
