//! Who waits for a job to change: long-polls, woken by commits.
//!
//! Waiters register before they look, and are woken after the commit, so nothing falls between.
//! A wake-up is a hint: the woken looks again, and what it finds in the store decides.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::lock;
use crate::domain::id::JobId;
use crate::domain::time::Timestamp;

/// Not ended: no moment is that late.
const NOT_ENDED: i64 = i64::MAX;

/// What all who wait for one job share.
#[derive(Debug)]
struct Waited {
    notify: Notify,
    /// When the job ended, in milliseconds; [`NOT_ENDED`] before.
    ended: AtomicI64,
}

impl Default for Waited {
    fn default() -> Self {
        Self { notify: Notify::new(), ended: AtomicI64::new(NOT_ENDED) }
    }
}

/// Long-polls, by job.
#[derive(Debug, Default)]
pub(super) struct JobWaiters {
    waiting: Mutex<HashMap<JobId, (Arc<Waited>, usize)>>,
    /// Lets the common case, nobody waits, skip the lock.
    count: AtomicUsize,
}

impl JobWaiters {
    pub(super) fn register(&self, id: JobId) -> JobTicket<'_> {
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut waiting = lock(&self.waiting);
        let entry = waiting.entry(id).or_default();
        entry.1 += 1;
        JobTicket { waiters: self, id, waited: Arc::clone(&entry.0) }
    }

    /// The job has changed.
    pub(super) fn changed(&self, id: JobId) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some((waited, _)) = lock(&self.waiting).get(&id) {
            waited.notify.notify_waiters();
        }
    }

    /// The job has changed, and will not again.
    pub(super) fn ended(&self, id: JobId, at: Timestamp) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some((waited, _)) = lock(&self.waiting).get(&id) {
            waited.ended.store(at.as_millis(), Ordering::SeqCst);
            waited.notify.notify_waiters();
        }
    }
}

/// A place among those who wait for one job; gives it up when dropped.
#[derive(Debug)]
pub(super) struct JobTicket<'a> {
    waiters: &'a JobWaiters,
    id: JobId,
    waited: Arc<Waited>,
}

impl JobTicket<'_> {
    /// Make this future before looking at the job: it catches every change from then on.
    pub(super) fn change(&self) -> tokio::sync::futures::Notified<'_> {
        self.waited.notify.notified()
    }

    pub(super) fn id(&self) -> JobId {
        self.id
    }

    /// When the job ended, if it has since this ticket was made.
    pub(super) fn ended(&self) -> Option<Timestamp> {
        let at = self.waited.ended.load(Ordering::SeqCst);
        (at != NOT_ENDED).then(|| Timestamp::from_millis(at))
    }
}

impl Drop for JobTicket<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.waiters.waiting);
        if let Some(entry) = waiting.get_mut(&self.id) {
            entry.1 -= 1;
            if entry.1 == 0 {
                waiting.remove(&self.id);
            }
        }
        self.waiters.count.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_change_between_registering_and_waiting_is_not_lost() {
        let waiters = JobWaiters::default();
        let id = JobId::from_bytes([1; 16]);
        let ticket = waiters.register(id);
        let change = ticket.change();
        waiters.changed(JobId::from_bytes([2; 16]));
        waiters.changed(id);
        assert!(change.now_or_never().is_some());
        assert_eq!(ticket.ended(), None);
        waiters.ended(id, Timestamp::from_millis(7));
        assert_eq!(ticket.ended(), Some(Timestamp::from_millis(7)));
        drop(ticket);
        assert!(lock(&waiters.waiting).is_empty());
    }
}
