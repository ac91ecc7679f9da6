//! When it ends: after its time, or at a signal; a second signal ends it at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::cli::Failure;

#[derive(Debug)]
pub(super) struct Ending {
    interrupt: Signal,
    terminate: Signal,
    /// The terminal was closed.
    hang_up: Signal,
    at: Option<Instant>,
}

impl Ending {
    pub(super) fn listen(seconds: Option<u64>) -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|e| Failure::no(format!("cannot listen for signals: {e}; try again")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            at: seconds.map(|n| Instant::now() + Duration::from_secs(n)),
        })
    }

    /// Until it is time to end. Cancel-safe.
    pub(super) async fn wait(&mut self) {
        let at = self.at;
        let time = async {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.hurry() => {}
            () = time => {}
        }
    }

    /// Until the next signal, whatever the time. Cancel-safe.
    pub(super) async fn hurry(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
