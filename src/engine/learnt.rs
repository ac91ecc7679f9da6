//! Keeps what the estimator has learnt in the store, and brings it back at the next start.
//!
//! Now and then, and at the end, what has changed is written, a few keys in each commit; a process
//! that is killed loses what came since. None of it matters to any job: whatever goes wrong here
//! costs clients some questions that come too early or too late.

use crate::domain::estimate::{KindRecord, REMEMBERED};
use crate::domain::names::Name;
use crate::store::StoreError;

use super::Engine;
use super::tasks::StepResult;

/// Keys in one commit, and under one turn at the lock: about a millisecond of each.
const STEP: usize = 25;

/// Keys read back under one turn at the lock.
const READ_STEP: usize = 100;

/// Kinds shown under one turn at the lock.
const SHOW_STEP: usize = 20;

impl Engine {
    /// What was learnt of each kind, by name: of jobs of these queues (`None`: of any). A few under
    /// each turn at the lock, for which every estimate waits.
    pub async fn kinds(&self, queues: Option<&[Name]>) -> Vec<KindRecord> {
        let mut kinds = self.experience().known_kinds(queues);
        kinds.sort();
        let now = self.now();
        let mut known = Vec::with_capacity(kinds.len());
        for step in kinds.chunks(SHOW_STEP) {
            {
                let mut experience = self.experience();
                known.extend(step.iter().filter_map(|kind| experience.kind(kind, queues, now)));
            }
            tokio::task::yield_now().await;
        }
        known
    }

    /// Brings back what was learnt before; to be called once, before anything is estimated.
    pub async fn recall(&self) {
        let saved = match self.0.store.estimates().await {
            Ok(saved) => saved,
            Err(error) => {
                tracing::warn!(%error, "estimates begin anew: what was learnt cannot be read");
                return;
            }
        };
        let (now, found) = (self.now(), saved.len());
        let (mut saved, mut unreadable) = (saved.into_iter().peekable(), 0);
        while saved.peek().is_some() {
            let step = saved.by_ref().take(READ_STEP).collect();
            unreadable += self.experience().remember(step, now);
        }
        if unreadable > 0 {
            tracing::warn!(
                unreadable,
                found,
                "some estimates begin anew: what was learnt is damaged or another version's"
            );
        }
    }

    /// Writes what was learnt since it was last written.
    pub(super) async fn keep_learnt(&self) -> StepResult {
        let news = self.experience().unwritten();
        for step in news.chunks(STEP) {
            let now = self.now();
            let (saved, marks) = self.experience().to_keep(step, now);
            match self.0.store.save_estimates(saved, now.minus(REMEMBERED)).await {
                Ok(()) => self.experience().were_kept(&marks),
                Err(StoreError::LowSpace(_)) => {
                    return Ok("nothing is kept while the disk is nearly full".to_owned());
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(format!("{} estimates kept", news.len()))
    }

    /// The last time.
    pub(super) async fn flush_learnt(&self) {
        if let Err(error) = self.keep_learnt().await {
            tracing::warn!(%error, "what was learnt last is lost");
        }
    }
}
