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
        to_its_end(Some(PATIENCE), work).await
    }

    /// The same for who must know what became of it, however long that takes.
    pub(super) async fn outlive_to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        to_its_end(None, work).await
    }
}

async fn to_its_end<T: Send + 'static>(
    patience: Option<Duration>,
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let work = tokio::spawn(work);
    let outcome = match patience {
        Some(patience) => {
            tokio::time::timeout(patience, work).await.map_err(|_| out_of_patience())?
        }
        None => work.await,
    };
    outcome.unwrap_or_else(|panicked| Err(StoreError::Other(panicked.to_string()).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn work_goes_on_whoever_waits() {
        let (go, wait) = oneshot::channel::<()>();
        let (done, told) = oneshot::channel();
        let work = async move {
            wait.await.expect("the word");
            done.send(()).expect("the test");
            Ok(7)
        };
        let tired = to_its_end(Some(Duration::ZERO), work).await;
        assert_eq!(tired, Err(out_of_patience().into()));
        go.send(()).expect("it goes on");
        told.await.expect("it came to its end");

        let (go, wait) = oneshot::channel::<()>();
        let work = async move { Ok(wait.await.map_or(0, |()| 7)) };
        let mut patient = Box::pin(to_its_end(None, work));
        assert_eq!(patient.as_mut().now_or_never(), None);
        go.send(()).expect("it waits");
        assert_eq!(patient.await, Ok(7));
        let panics = to_its_end::<()>(None, async { panic!("on purpose") }).await;
        assert!(matches!(panics, Err(Failure::Store(StoreError::Other(_)))), "{panics:?}");
    }
}
