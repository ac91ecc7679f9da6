//! Parked claims: workers who wait for work, served first come first served.
//!
//! There are two ways out of the car park. A submission that finds a parked claim for its job
//! *enlists* it: the claim is made in the submission's own commit, and what it brings is put on the
//! claim's desk. For everything else that makes jobs claimable, as many parked claims are *woken*
//! as there are jobs, and look for themselves; one that was woken and leaves without looking passes
//! the hint on.
//!
//! A claim that is enlisted waits for its delivery, whatever its own time says: it is one commit
//! away. What is on the desk of a claim that has left is given back.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::{ClaimOrder, lock};
use crate::domain::job::Spec;
use crate::domain::names::{Name, WorkerId};
use crate::domain::time::Timestamp;
use crate::store::{Claimed, Transition};

/// What a claim must accept to get a job of a queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sort<'a> {
    pub(super) kind: &'a Name,
    pub(super) namespace: &'a Name,
}

impl<'a> From<&'a Spec> for Sort<'a> {
    fn from(spec: &'a Spec) -> Self {
        Self { kind: &spec.kind, namespace: &spec.namespace }
    }
}

impl<'a> From<&'a Transition> for Sort<'a> {
    fn from(t: &'a Transition) -> Self {
        Self { kind: &t.kind, namespace: &t.namespace }
    }
}

/// What happens at a parked claim's place.
#[derive(Debug)]
enum Desk {
    /// It is asking the store itself.
    Looking,
    Waiting,
    /// A submission claims on its behalf.
    Enlisted,
    Delivered(Box<Claimed>),
    /// Nobody is there any more.
    Left,
}

#[derive(Debug)]
struct Parked {
    order: ClaimOrder,
    received_at: Timestamp,
    /// Woken for a job and not looked yet.
    woken: AtomicBool,
    desk: Mutex<Desk>,
    notify: Notify,
}

impl Parked {
    fn sees(&self, namespace: &Name) -> bool {
        self.order.namespace.as_ref().is_none_or(|own| own == namespace)
    }

    fn takes(&self, kind: &Name) -> bool {
        self.order.kinds.is_empty() || self.order.kinds.contains(kind)
    }

    fn accepts(&self, job: Sort<'_>) -> bool {
        self.sees(job.namespace) && self.takes(job.kind)
    }

    /// Claims that are alike in this take the same jobs.
    fn lane(&self) -> (Option<&Name>, &[Name]) {
        (self.order.namespace.as_ref(), &self.order.kinds)
    }

    /// Whether it waits and has not been told of a job.
    fn is_free(&self) -> bool {
        !self.woken.load(Ordering::SeqCst) && matches!(*lock(&self.desk), Desk::Waiting)
    }

    /// Wakes it unless somebody has already.
    fn wake(&self) -> bool {
        let first = !self.woken.swap(true, Ordering::SeqCst);
        if first {
            self.notify.notify_one();
        }
        first
    }

    fn enlist(&self) -> bool {
        let mut desk = lock(&self.desk);
        let free = matches!(*desk, Desk::Waiting) && !self.woken.load(Ordering::SeqCst);
        if free {
            *desk = Desk::Enlisted;
        }
        free
    }
}

/// All parked claims, by queue, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct CarPark {
    next: AtomicU64,
    queues: Mutex<HashMap<Name, BTreeMap<u64, Arc<Parked>>>>,
    /// Lets the common case under load, nobody waits, skip the lock.
    count: AtomicUsize,
}

impl CarPark {
    /// A place for `order`. `give_back` gets what was delivered to somebody who had left.
    pub(super) fn park(
        &self,
        order: &ClaimOrder,
        received_at: Timestamp,
        give_back: impl Fn(Claimed) + Send + Sync + 'static,
    ) -> Ticket<'_> {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let parked = Arc::new(Parked {
            // What the worker holds is checked once, when the request comes in.
            order: ClaimOrder { held: None, ..order.clone() },
            received_at,
            woken: AtomicBool::new(false),
            desk: Mutex::new(Desk::Looking),
            notify: Notify::new(),
        });
        self.count.fetch_add(1, Ordering::SeqCst);
        let mut queues = lock(&self.queues);
        for queue in &order.queues {
            queues.entry(queue.clone()).or_default().insert(number, Arc::clone(&parked));
        }
        Ticket { park: self, number, parked, give_back: Box::new(give_back) }
    }

    /// The first claim that waits for such a job of `queue`, to be served by the caller.
    pub(super) fn enlist(&self, queue: &Name, job: Sort<'_>) -> Option<Enlisted> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let queues = lock(&self.queues);
        let parked =
            queues.get(queue)?.values().find(|claim| claim.accepts(job) && claim.enlist())?;
        Some(Enlisted { parked: Arc::clone(parked), delivered: false })
    }

    /// `jobs` jobs of that sort became claimable in `queue`. When `None`, it is not known which
    /// they are: of the claims for each namespace and set of kinds, so many are woken.
    /// Answers how many will look that nobody serves already.
    pub(super) fn wake(&self, queue: &Name, sort: Option<Sort<'_>>, jobs: u64) -> u64 {
        let mut will_look = 0;
        if self.count.load(Ordering::SeqCst) == 0 {
            return will_look;
        }
        if let Some(parked) = lock(&self.queues).get(queue) {
            let mut woken: HashMap<(Option<&Name>, &[Name]), u64> = HashMap::new();
            for claim in parked.values() {
                let lane = if sort.is_some() { (None, &[][..]) } else { claim.lane() };
                let woken = woken.entry(lane).or_default();
                let accepts = sort.is_none_or(|job| claim.accepts(job));
                if *woken < jobs && accepts && claim.wake() {
                    *woken += 1;
                    let free = matches!(*lock(&claim.desk), Desk::Looking | Desk::Waiting);
                    will_look += u64::from(free);
                } else if *woken == jobs && sort.is_some() {
                    break;
                }
            }
        }
        will_look
    }

    /// A lease of `worker`, on a job of `namespace`, is to be cancelled: its parked claims carry the
    /// news, as far as they may hear of that job.
    pub(super) fn wake_worker(&self, worker: &WorkerId, namespace: &Name) {
        for parked in lock(&self.queues).values().flat_map(BTreeMap::values) {
            if parked.order.worker == *worker && parked.sees(namespace) {
                parked.wake();
            }
        }
    }

    /// The worker is asked to leave: every parked claim of its answers.
    pub(super) fn wake_all_of(&self, worker: &WorkerId) {
        for parked in lock(&self.queues).values().flat_map(BTreeMap::values) {
            if parked.order.worker == *worker {
                parked.wake();
            }
        }
    }

    /// Claims that wait for a job of this queue, kind and namespace (`None`: of any) and have not
    /// been told of one.
    pub(super) fn free(&self, queue: &Name, kind: &Name, namespace: Option<&Name>) -> u64 {
        let idle = |p: &&Arc<Parked>| {
            p.takes(kind) && namespace.is_none_or(|namespace| p.sees(namespace)) && p.is_free()
        };
        lock(&self.queues)
            .get(queue)
            .map_or(0, |parked| parked.values().filter(idle).count() as u64)
    }

    /// Jobs of the queue that those who wait for one would run at once.
    pub(super) fn capacity(&self, queue: &Name) -> u64 {
        let of = |claim: &Arc<Parked>| {
            claim.order.concurrency.map_or(claim.order.max_jobs as u64, u64::from)
        };
        lock(&self.queues).get(queue).map_or(0, |parked| parked.values().map(of).sum())
    }

    /// Whether somebody waits for such a job of the queue.
    pub(super) fn is_waited_for(&self, queue: &Name, job: Sort<'_>) -> bool {
        self.count.load(Ordering::SeqCst) > 0
            && lock(&self.queues)
                .get(queue)
                .is_some_and(|parked| parked.values().any(|p| p.accepts(job)))
    }

    /// The same of somebody who has looked, found nothing and not been told of a job since.
    pub(super) fn is_free_for(&self, queue: &Name, job: Sort<'_>) -> bool {
        self.count.load(Ordering::SeqCst) > 0
            && lock(&self.queues)
                .get(queue)
                .is_some_and(|parked| parked.values().any(|p| p.accepts(job) && p.is_free()))
    }
}

/// A parked claim that its holder must serve, by delivering or by dropping this.
#[derive(Debug)]
pub(super) struct Enlisted {
    parked: Arc<Parked>,
    delivered: bool,
}

impl Enlisted {
    pub(super) fn order(&self) -> &ClaimOrder {
        &self.parked.order
    }

    pub(super) fn received_at(&self) -> Timestamp {
        self.parked.received_at
    }

    /// Hands over what the claim brought; comes back if nobody is there any more.
    pub(super) fn deliver(mut self, claimed: Box<Claimed>) -> Result<(), Box<Claimed>> {
        if claimed.jobs.is_empty() && claimed.cancel.is_empty() {
            return Ok(());
        }
        let mut desk = lock(&self.parked.desk);
        if matches!(*desk, Desk::Left) {
            return Err(claimed);
        }
        *desk = Desk::Delivered(claimed);
        drop(desk);
        self.delivered = true;
        self.parked.notify.notify_one();
        Ok(())
    }
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        if self.delivered {
            return;
        }
        let mut desk = lock(&self.parked.desk);
        if matches!(*desk, Desk::Enlisted) {
            *desk = Desk::Waiting;
        }
        drop(desk);
        // Nothing came of it: it had better look for itself.
        self.parked.wake();
        self.parked.notify.notify_one();
    }
}

/// A parked claim's own place; kept until dropped, however often it is woken in vain.
pub(super) struct Ticket<'a> {
    park: &'a CarPark,
    number: u64,
    parked: Arc<Parked>,
    give_back: Box<dyn Fn(Claimed) + Send + Sync>,
}

impl fmt::Debug for Ticket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("parked", &self.parked).finish_non_exhaustive()
    }
}

impl Ticket<'_> {
    /// Completes when there may be something: a delivery, or a reason to look.
    pub(super) async fn woken(&self) {
        self.parked.notify.notified().await;
    }

    /// What was delivered, or is about to be.
    pub(super) async fn delivery(&self) -> Option<Claimed> {
        loop {
            let notified = self.parked.notify.notified();
            {
                let mut desk = lock(&self.parked.desk);
                match std::mem::replace(&mut *desk, Desk::Looking) {
                    Desk::Delivered(claimed) => return Some(*claimed),
                    Desk::Enlisted => *desk = Desk::Enlisted,
                    other @ (Desk::Looking | Desk::Waiting | Desk::Left) => {
                        *desk = other;
                        return None;
                    }
                }
            }
            notified.await;
        }
    }

    /// Call before each look at the store: a wake-up from here on counts for the next one, and
    /// nobody claims on its behalf meanwhile.
    pub(super) fn about_to_look(&self) {
        *lock(&self.parked.desk) = Desk::Looking;
        self.parked.woken.store(false, Ordering::SeqCst);
    }

    /// Call when the look has found nothing.
    pub(super) fn waits(&self) {
        *lock(&self.parked.desk) = Desk::Waiting;
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut queues = lock(&self.park.queues);
        for queue in &self.parked.order.queues {
            if let Some(parked) = queues.get_mut(queue) {
                parked.remove(&self.number);
                if parked.is_empty() {
                    queues.remove(queue);
                }
            }
        }
        drop(queues);
        self.park.count.fetch_sub(1, Ordering::SeqCst);
        let desk = std::mem::replace(&mut *lock(&self.parked.desk), Desk::Left);
        if let Desk::Delivered(claimed) = desk {
            (self.give_back)(*claimed);
        }
        // Woken, but leaving without another look: somebody else may want what was there.
        if self.parked.woken.load(Ordering::SeqCst) {
            // Everybody of those queues: it is not known which kind it was.
            for queue in &self.parked.order.queues {
                self.park.wake(queue, None, u64::MAX);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::Lists;
    use futures_util::FutureExt;
    use std::sync::LazyLock;
    use std::time::Duration;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn order(worker: &str, queues: &[&str], kinds: &[&str]) -> ClaimOrder {
        ClaimOrder {
            worker: WorkerId::parse(worker).unwrap(),
            namespace: None,
            lists: Lists::ALL,
            queues: queues.iter().map(|q| name(q)).collect(),
            kinds: kinds.iter().map(|k| name(k)).collect(),
            max_jobs: 1,
            lease: None,
            wait: Duration::from_secs(1),
            hostname: None,
            version: None,
            concurrency: None,
            trace: None,
            held: None,
        }
    }

    /// A job of the kind, in the namespace `default`.
    fn sort(kind: &Name) -> Sort<'_> {
        static DEFAULT: LazyLock<Name> = LazyLock::new(|| Name::trusted("default"));
        Sort { kind, namespace: &DEFAULT }
    }

    fn parked<'a>(park: &'a CarPark, order: &ClaimOrder) -> Ticket<'a> {
        let ticket = park.park(order, Timestamp::EPOCH, |_| ());
        ticket.waits();
        ticket
    }

    fn is_woken(ticket: &Ticket<'_>) -> bool {
        ticket.woken().now_or_never().is_some()
    }

    fn something() -> Claimed {
        Claimed {
            cancel: vec![crate::domain::id::JobId::from_bytes([1; 16])],
            ..Claimed::default()
        }
    }

    #[test]
    fn claims_are_woken_in_order_one_for_each_job() {
        let park = CarPark::default();
        let a = parked(&park, &order("a", &["q"], &[]));
        let b = parked(&park, &order("b", &["q"], &["k"]));
        let c = parked(&park, &order("c", &["q"], &[]));
        park.wake(&name("q"), Some(sort(&name("other"))), 2);
        assert!(is_woken(&a) && !is_woken(&b) && is_woken(&c));
        park.wake(&name("elsewhere"), None, 9);
        assert!(!is_woken(&b));
    }

    #[test]
    fn a_wake_up_that_is_not_used_is_passed_on() {
        let park = CarPark::default();
        let a = parked(&park, &order("a", &["q", "r"], &[]));
        let b = parked(&park, &order("b", &["q", "r"], &[]));
        park.wake(&name("r"), None, 1);
        drop(a);
        assert!(is_woken(&b));
        b.about_to_look();
        drop(b);
        assert!(lock(&park.queues).is_empty());
    }

    #[test]
    fn a_wake_up_is_passed_on_to_whoever_can_use_it() {
        let park = CarPark::default();
        let a = parked(&park, &order("a", &["q"], &["k"]));
        let other = parked(&park, &order("b", &["q"], &["x"]));
        let right = parked(&park, &order("c", &["q"], &["k"]));
        park.wake(&name("q"), Some(sort(&name("k"))), 1);
        assert!(!is_woken(&right), "one job, one claim");
        drop(a);
        assert!(is_woken(&right), "whoever else is there, and whatever he takes");
        drop(other);
    }

    #[test]
    fn a_cancel_wakes_the_workers_own_claims_only() {
        let park = CarPark::default();
        let a = parked(&park, &order("a", &["q"], &[]));
        let b = parked(&park, &order("b", &["q"], &[]));
        park.wake_worker(&WorkerId::parse("b").unwrap(), &Name::trusted("default"));
        assert!(!is_woken(&a) && is_woken(&b));
    }

    #[test]
    fn a_claim_hears_of_its_own_namespace_only() {
        let park = CarPark::default();
        let (queue, kind) = (name("q"), name("k"));
        let within =
            |space: &str| ClaimOrder { namespace: Some(name(space)), ..order("w", &["q"], &[]) };
        let a = parked(&park, &within("a"));
        let b = parked(&park, &within("b"));
        let all = parked(&park, &order("w", &["q"], &[]));
        let (space_a, space_b) = (name("a"), name("b"));
        let of_b = Sort { kind: &kind, namespace: &space_b };
        assert_eq!(park.free(&queue, &kind, Some(&space_b)), 2);
        assert_eq!(park.free(&queue, &kind, None), 3);
        assert!(park.is_waited_for(&queue, of_b) && park.is_free_for(&queue, of_b));
        park.wake_worker(&WorkerId::parse("w").unwrap(), &space_b);
        assert!(!is_woken(&a) && is_woken(&b) && is_woken(&all), "of one worker's id");
        for ticket in [&b, &all] {
            ticket.about_to_look();
            ticket.waits();
        }
        park.wake(&queue, Some(of_b), 1);
        assert!(!is_woken(&a) && is_woken(&b) && !is_woken(&all), "one job, one claim");
        let first = park.enlist(&queue, of_b).unwrap();
        assert!(first.order().namespace.is_none(), "b looks for itself");
        assert!(park.enlist(&queue, of_b).is_none(), "never a's claim");
        assert!(park.is_waited_for(&queue, of_b) && !park.is_free_for(&queue, of_b));
        // It is not known whose they are: somebody of each.
        park.wake(&queue, None, 1);
        assert!(is_woken(&a));
        drop((first, b, all));
        assert!(!park.is_waited_for(&queue, of_b));
        assert!(park.is_waited_for(&queue, Sort { kind: &kind, namespace: &space_a }));
    }

    #[test]
    fn the_first_waiting_claim_is_enlisted_once() {
        let park = CarPark::default();
        let (queue, kind) = (name("q"), name("k"));
        let looking = park.park(&order("l", &["q"], &[]), Timestamp::EPOCH, |_| ());
        let other = parked(&park, &order("o", &["q"], &["x"]));
        let a = parked(&park, &order("a", &["q"], &[]));
        let b = parked(&park, &order("b", &["q"], &[]));
        let first = park.enlist(&queue, sort(&kind)).unwrap();
        let second = park.enlist(&queue, sort(&kind)).unwrap();
        assert_eq!(first.order().worker.as_str(), "a");
        assert_eq!(second.order().worker.as_str(), "b");
        assert!(park.enlist(&queue, sort(&kind)).is_none());
        assert!(first.deliver(Box::new(something())).is_ok());
        assert!(a.delivery().now_or_never().flatten().is_some());
        assert!(b.delivery().now_or_never().is_none(), "it waits for what is under way");
        drop(second);
        assert!(b.delivery().now_or_never().unwrap().is_none());
        assert!(is_woken(&b), "and looks for itself when nothing came");
        drop((looking, other));
    }

    #[test]
    fn what_is_delivered_to_nobody_comes_back() {
        let park = CarPark::default();
        let (queue, kind) = (name("q"), name("k"));
        let returned = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&returned);
        let ticket = park.park(&order("a", &["q"], &[]), Timestamp::EPOCH, move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        ticket.waits();
        let enlisted = park.enlist(&queue, sort(&kind)).unwrap();
        enlisted.deliver(Box::new(something())).unwrap();
        drop(ticket);
        assert_eq!(returned.load(Ordering::SeqCst), 1, "it left with the delivery on its desk");
        let ticket = parked(&park, &order("a", &["q"], &[]));
        let enlisted = park.enlist(&queue, sort(&kind)).unwrap();
        drop(ticket);
        assert!(enlisted.deliver(Box::new(something())).is_err(), "it left before the delivery");
    }
}
