//! The places that a listener has for connections, and who gives way when there is none.
//!
//! A connection that is idle between requests holds a place and needs none: whoever comes gets the
//! place of the one that has been idle for longest. So no number of idle connections keeps anybody
//! out, be it a balancer that opens too many or somebody who means harm. One in use is never cut.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::watched::Head;

/// Before looking again who is idle by now, if nobody was or did not leave.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Between two lines in the log about it.
const TELL_AGAIN: Duration = Duration::from_secs(60);

pub(super) struct Places {
    size: usize,
    free: Arc<Semaphore>,
    taken: Arc<Mutex<BTreeMap<u64, Arc<Seat>>>>,
    epoch: Instant,
    next: Mutex<u64>,
    told: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Seat {
    head: Arc<Head>,
    wanted: Notify,
}

/// One connection's, until it is dropped.
pub(super) struct Place {
    seat: Arc<Seat>,
    id: u64,
    taken: Arc<Mutex<BTreeMap<u64, Arc<Seat>>>>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            free: Arc::new(Semaphore::new(size)),
            taken: Arc::default(),
            epoch: Instant::now(),
            next: Mutex::new(0),
            told: Mutex::new(None),
        }
    }

    /// A place: a free one, or the next that becomes free, to which end the longest idle connection
    /// is asked to leave. Nothing is lost when the future is dropped.
    pub(super) async fn next(&self) -> Place {
        loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                return self.take(permit);
            }
            self.tell();
            self.ask_longest_idle();
            tokio::select! {
                Ok(permit) = Arc::clone(&self.free).acquire_owned() => return self.take(permit),
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    fn take(&self, permit: OwnedSemaphorePermit) -> Place {
        let seat = Arc::new(Seat { head: Arc::new(Head::new(self.epoch)), wanted: Notify::new() });
        let mut next = lock(&self.next);
        let id = *next;
        *next += 1;
        lock(&self.taken).insert(id, Arc::clone(&seat));
        Place { seat, id, taken: Arc::clone(&self.taken), _permit: permit }
    }

    /// The one that was asked is not asked again, whether it can leave at once or not.
    fn ask_longest_idle(&self) {
        let mut taken = lock(&self.taken);
        let idle = taken.iter().filter_map(|(id, seat)| Some((seat.head.idle_since()?, *id)));
        if let Some(seat) = idle.min().and_then(|(_, id)| taken.remove(&id)) {
            seat.wanted.notify_one();
        }
    }

    fn tell(&self) {
        let mut told = lock(&self.told);
        if told.is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
            *told = Some(Instant::now());
            tracing::warn!(
                connections = self.size,
                "all connections are taken; idle ones are closed for those who come, see \
                 server.max_connections"
            );
        }
    }
}

impl Place {
    pub(super) fn head(&self) -> &Arc<Head> {
        &self.seat.head
    }

    /// Completes when somebody else needs it.
    pub(super) async fn is_wanted(&self) {
        self.seat.wanted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
