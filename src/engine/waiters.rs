//! Who waits for a commit: long-polls for a job, parked claims for work.
//!
//! Waiters register before they look, and are woken after the commit, so nothing falls between.
//! A wake-up is a hint: the woken looks again, and what it finds in the store decides. As many
//! parked claims are woken as jobs became claimable, first come first served; one that was woken
//! and left without looking passes the hint on.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::id::JobId;
use crate::domain::names::{Name, WorkerId};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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

#[derive(Debug)]
struct Parked {
    worker: WorkerId,
    kinds: Vec<Name>,
    /// Woken for a job and not looked yet.
    woken: AtomicBool,
    notify: Notify,
}

impl Parked {
    fn accepts(&self, kind: Option<&Name>) -> bool {
        kind.is_none_or(|kind| self.kinds.is_empty() || self.kinds.contains(kind))
    }

    /// Wakes it unless somebody has already.
    fn wake(&self) -> bool {
        let first = !self.woken.swap(true, Ordering::SeqCst);
        if first {
            self.notify.notify_one();
        }
        first
    }
}

/// Parked claims, by queue, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct ClaimWaiters {
    next: AtomicU64,
    queues: Mutex<HashMap<Name, BTreeMap<u64, Arc<Parked>>>>,
    count: AtomicUsize,
}

impl ClaimWaiters {
    pub(super) fn park(
        &self,
        worker: WorkerId,
        queues: &[Name],
        kinds: Vec<Name>,
    ) -> ClaimTicket<'_> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let parked = Arc::new(Parked {
            worker,
            kinds,
            woken: AtomicBool::new(false),
            notify: Notify::new(),
        });
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut map = lock(&self.queues);
        for queue in queues {
            map.entry(queue.clone()).or_default().insert(number, Arc::clone(&parked));
        }
        ClaimTicket { waiters: self, queues: queues.to_vec(), number, parked }
    }

    /// `jobs` jobs of `kind` (any, when `None`) became claimable in `queue`.
    pub(super) fn wake(&self, queue: &Name, kind: Option<&Name>, jobs: u64) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Some(parked) = lock(&self.queues).get(queue) {
            let mut left = jobs;
            for claim in parked.values() {
                if left == 0 {
                    break;
                }
                if claim.accepts(kind) && claim.wake() {
                    left -= 1;
                }
            }
        }
    }

    /// A lease of `worker` is to be cancelled: its parked claims carry the news.
    pub(super) fn wake_worker(&self, worker: &WorkerId) {
        for parked in lock(&self.queues).values().flat_map(BTreeMap::values) {
            if parked.worker == *worker {
                parked.wake();
            }
        }
    }

    /// Whether somebody waits for a job of this queue and kind.
    pub(super) fn is_waited_for(&self, queue: &Name, kind: &Name) -> bool {
        self.count.load(Ordering::SeqCst) > 0
            && lock(&self.queues)
                .get(queue)
                .is_some_and(|parked| parked.values().any(|p| p.accepts(Some(kind))))
    }
}

/// A parked claim's place; keeps it until dropped, however often it is woken in vain.
#[derive(Debug)]
pub(super) struct ClaimTicket<'a> {
    waiters: &'a ClaimWaiters,
    queues: Vec<Name>,
    number: u64,
    parked: Arc<Parked>,
}

impl ClaimTicket<'_> {
    pub(super) async fn woken(&self) {
        self.parked.notify.notified().await;
    }

    /// Call before each look at the store: a wake-up from here on counts for the next one.
    pub(super) fn about_to_look(&self) {
        self.parked.woken.store(false, Ordering::SeqCst);
    }
}

impl Drop for ClaimTicket<'_> {
    fn drop(&mut self) {
        let mut map = lock(&self.waiters.queues);
        for queue in &self.queues {
            if let Some(parked) = map.get_mut(queue) {
                parked.remove(&self.number);
                if parked.is_empty() {
                    map.remove(queue);
                }
            }
        }
        drop(map);
        self.waiters.count.fetch_sub(1, Ordering::SeqCst);
        // Woken, but leaving without another look: somebody else may want what was there.
        if self.parked.woken.load(Ordering::SeqCst) {
            for queue in &self.queues {
                self.waiters.wake(queue, None, 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn worker(text: &str) -> WorkerId {
        WorkerId::parse(text).unwrap()
    }

    fn is_woken(ticket: &ClaimTicket<'_>) -> bool {
        ticket.woken().now_or_never().is_some()
    }

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

    #[test]
    fn claims_are_woken_in_order_one_for_each_job() {
        let waiters = ClaimWaiters::default();
        let queue = [name("q")];
        let a = waiters.park(worker("a"), &queue, vec![]);
        let b = waiters.park(worker("b"), &queue, vec![name("k")]);
        let c = waiters.park(worker("c"), &queue, vec![]);
        waiters.wake(&queue[0], Some(&name("other")), 2);
        assert!(is_woken(&a) && !is_woken(&b) && is_woken(&c));
        waiters.wake(&name("elsewhere"), None, 9);
        assert!(!is_woken(&b));
    }

    #[test]
    fn a_wake_up_that_is_not_used_is_passed_on() {
        let waiters = ClaimWaiters::default();
        let queue = [name("q"), name("r")];
        let a = waiters.park(worker("a"), &queue, vec![]);
        let b = waiters.park(worker("b"), &queue, vec![]);
        waiters.wake(&queue[1], None, 1);
        drop(a);
        assert!(is_woken(&b));
        b.about_to_look();
        drop(b);
        assert!(lock(&waiters.queues).is_empty());
    }

    #[test]
    fn a_cancel_wakes_the_workers_own_claims_only() {
        let waiters = ClaimWaiters::default();
        let queue = [name("q")];
        let a = waiters.park(worker("a"), &queue, vec![]);
        let b = waiters.park(worker("b"), &queue, vec![]);
        waiters.wake_worker(&worker("b"));
        assert!(!is_woken(&a) && is_woken(&b));
    }
}
