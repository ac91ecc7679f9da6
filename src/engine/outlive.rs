//! Work that goes on when its caller leaves.
//!
//! A client that hangs up drops its request in the middle, and a store that stalls outlasts
//! anybody's patience. What was begun is committed all the same, so what follows from it (metrics,
//! wake-ups, the log) must follow too.

use std::future::Future;
use std::time::Duration;

use crate::store::StoreError;

use super::{Engine, Failure};

/// How long a caller waits for the store before he is told that nothing is known.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn out_of_patience() -> StoreError {
    StoreError::Busy(format!("no answer within {} s", PATIENCE.as_secs()))
}

impl Engine {
    /// Runs `work` to its end, whatever becomes of the caller, who waits for at most [`PATIENCE`].
    pub(super) async fn outlive<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(PATIENCE, self.outlive_to_the_end(work)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(out_of_patience().into()),
        }
    }

    /// The same for who must know what became of it, however long that takes.
    pub(super) async fn outlive_to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        match tokio::spawn(work).await {
            Ok(outcome) => outcome,
            Err(panicked) => Err(StoreError::Other(panicked.to_string()).into()),
        }
    }
}
