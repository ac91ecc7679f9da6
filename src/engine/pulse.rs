//! How promptly the runtime does what it is asked: the first thing to suffer when the machine is
//! busy or something blocks, and no request shows it as plainly.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Engine;

const EVERY: Duration = Duration::from_millis(500);

impl Engine {
    /// Asks to be woken, again and again, and counts how late that happens.
    pub(super) fn start_pulse(&self) {
        let weak = Arc::downgrade(&self.0);
        self.0.tasks.drive(tokio::spawn(async move {
            loop {
                let due = Instant::now() + EVERY;
                tokio::time::sleep_until(due).await;
                let late = due.elapsed();
                let Some(inner) = weak.upgrade() else { return };
                inner.events.scheduling_delay(late);
            }
        }));
    }
}
