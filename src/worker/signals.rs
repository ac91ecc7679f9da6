//! Leaving on a signal, as every supervisor and every Ctrl-C asks for it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::Phase;

/// A phase for [`run`](super::run) that SIGTERM and SIGINT move on: the first drains the worker,
/// the second stops its jobs and gives them back.
///
/// The process does not end by these signals any more, so it must leave when the worker has. To be
/// called within a tokio runtime.
pub fn on_signals() -> io::Result<watch::Receiver<Phase>> {
    let term = signal(SignalKind::terminate())?;
    let int = signal(SignalKind::interrupt())?;
    let (sender, phase) = watch::channel(Phase::Run);
    tokio::spawn(listen(term, int, sender));
    Ok(phase)
}

async fn listen(mut term: Signal, mut int: Signal, phase: watch::Sender<Phase>) {
    for next in [Phase::Drain, Phase::Stop] {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            // The worker has left.
            () = phase.closed() => return,
        }
        phase.send_replace(next);
        if next == Phase::Drain {
            tracing::info!("draining: send the signal again to stop the running jobs");
        }
    }
    // Further signals change nothing; the sender must live as long as the worker.
    phase.closed().await;
}
