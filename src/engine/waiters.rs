//! Who waits for a job to change: long-polls, woken by commits.
//!
//! Waiters register before they look, and are woken after the commit, so nothing falls between.
//! A wake-up is a hint: the woken looks again, and what it finds in the store decides.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::lock;
use crate::domain::id::JobId;

/// Long-polls, by job.
#[derive(Debug, Default)]
pub(super) struct JobWaiters {
    waiting: Mutex<HashMap<JobId, (Arc<Notify>, usize)>>,
    /// Lets the common case, nobody waits, skip the lock.
    count: AtomicUsize,
}

impl JobWaiters {
    pub(super) fn register(&self, id: JobId) -> JobTicket<'_> {
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut waiting = lock(&self.waiting);
        let entry = waiting.entry(id).or_default();
        entry.1 += 1;
        JobTicket { waiters: self, id, notify: Arc::clone(&entry.0) }
    }

    /// The job has changed.
    pub(super) fn changed(&self, id: JobId) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some((notify, _)) = lock(&self.waiting).get(&id) {
            notify.notify_waiters();
        }
    }
}

/// A place among those who wait for one job; gives it up when dropped.
#[derive(Debug)]
pub(super) struct JobTicket<'a> {
    waiters: &'a JobWaiters,
    id: JobId,
    notify: Arc<Notify>,
}

impl JobTicket<'_> {
    /// Make this future before looking at the job: it catches every change from then on.
    pub(super) fn change(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
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
        drop(ticket);
        assert!(lock(&waiters.waiting).is_empty());
    }
}
