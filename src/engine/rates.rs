//! Limits on how many attempts start a second, by queue.
//!
//! The buckets are this process's memory, and full when it starts. The store asks for starts in the
//! commit of each claim ([`Pacing`]), so claims that come at once share what there is. Whoever is
//! held back and stays parked is woken when tokens return: by one timer for each queue that has
//! spent its own, and by nothing else.
//!
//! The buckets go by the machine's monotonic clock; only what is told of them is in engine time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::domain::bucket::TokenBucket;
use crate::domain::names::Name;
use crate::domain::time::{Clock, Timestamp};
use crate::domain::watch::Rate;
use crate::store::{Pace, Pacing};

use super::{Engine, lock};

/// A timer waits at least so long: many tokens that come at once wake many.
const TICK: Duration = Duration::from_millis(5);

/// Cheap to clone; clones are the same buckets.
#[derive(Debug, Clone)]
pub(super) struct Rates(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    queues: HashMap<Name, Limited>,
    clock: Arc<dyn Clock>,
    origin: Instant,
}

#[derive(Debug)]
struct Limited {
    per_second: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bucket: TokenBucket,
    /// Tokens that a claim under way has taken and may yet give back: until it has ended, it is
    /// as if they were there.
    lent: u64,
    /// A claim was held back, and nobody has been woken since: also if a token has come in between,
    /// it may be parked beside it.
    owed: bool,
    /// When a claim last got fewer jobs than it could have.
    held_back: Option<Timestamp>,
    /// Whether a timer is set.
    timed: bool,
}

impl Rates {
    #[expect(clippy::disallowed_methods, reason = "a rate is of time that passes evenly")]
    pub(super) fn new(limits: &HashMap<Name, f64>, clock: Arc<dyn Clock>) -> Self {
        let limited = |per_second: f64| Limited {
            per_second,
            state: Mutex::new(State {
                bucket: TokenBucket::new(per_second, Duration::ZERO),
                lent: 0,
                owed: false,
                held_back: None,
                timed: false,
            }),
        };
        let queues = limits.iter().map(|(name, rate)| (name.clone(), limited(*rate))).collect();
        Self(Arc::new(Buckets { queues, clock, origin: Instant::now() }))
    }

    /// For a claim; `None` when no queue is limited.
    pub(super) fn pace(&self) -> Option<Pace> {
        (!self.0.queues.is_empty()).then(|| Pace::new(Arc::clone(&self.0) as Arc<dyn Pacing>))
    }

    pub(super) fn limit(&self, queue: &Name) -> Option<f64> {
        self.0.queues.get(queue).map(|limited| limited.per_second)
    }

    /// Whether nothing of the queue may start at this moment.
    pub(super) fn is_spent(&self, queue: &Name) -> bool {
        self.0.queues.get(queue).is_some_and(|limited| self.is_empty(limited))
    }

    fn is_empty(&self, limited: &Limited) -> bool {
        let state = lock(&limited.state);
        state.lent == 0 && state.bucket.tokens(self.0.origin.elapsed()) == 0
    }

    /// The queues of which nothing may start at this moment.
    pub(super) fn spent(&self) -> Vec<Name> {
        let spent = self.0.queues.iter().filter(|(_, limited)| self.is_empty(limited));
        spent.map(|(name, _)| name.clone()).collect()
    }

    /// When a claim was last held back.
    pub(super) fn held_back(&self, queue: &Name) -> Option<Timestamp> {
        lock(&self.0.queues.get(queue)?.state).held_back
    }

    /// Whether something may start at this moment, and how long a timer is to wait; none when
    /// nobody waits for a token, or one waits already. Both of the same moment: what comes between
    /// two looks would be missed.
    fn look(&self, queue: &Name) -> (bool, Option<Duration>) {
        let Some(limited) = self.0.queues.get(queue) else { return (true, None) };
        let mut state = lock(&limited.state);
        let now = self.0.origin.elapsed();
        let ready = state.lent > 0 || state.bucket.tokens(now) > 0;
        if state.timed || (ready && !state.owed) {
            return (ready, None);
        }
        state.timed = true;
        (ready, Some(state.bucket.wait(now).max(TICK)))
    }

    /// The timer has rung: how many tokens there are.
    fn rung(&self, queue: &Name) -> u64 {
        let Some(limited) = self.0.queues.get(queue) else { return 0 };
        let mut state = lock(&limited.state);
        state.timed = false;
        let tokens = state.bucket.tokens(self.0.origin.elapsed());
        state.owed &= tokens == 0;
        tokens
    }
}

impl Pacing for Buckets {
    fn take(&self, queue: &Name, wanted: u64) -> u64 {
        let Some(limited) = self.queues.get(queue) else { return wanted };
        let mut state = lock(&limited.state);
        let taken = state.bucket.take(wanted, self.origin.elapsed());
        state.lent += taken;
        taken
    }

    fn settle(&self, queue: &Name, wanted: u64, taken: u64, unused: u64) {
        let Some(limited) = self.queues.get(queue) else { return };
        let mut state = lock(&limited.state);
        state.lent = state.lent.saturating_sub(taken);
        state.bucket.give_back(unused);
        if taken < wanted && unused == 0 {
            state.held_back = Some(self.clock.now());
            state.owed = true;
        }
    }
}

impl Engine {
    /// Whether something of the queue may start now. If not, its parked claims are woken when it
    /// may.
    pub(super) fn may_start(&self, queue: &Name) -> bool {
        let (ready, wait) = self.0.rates.look(queue);
        if let Some(wait) = wait {
            self.wake_in(queue, wait);
        }
        ready
    }

    fn wake_in(&self, queue: &Name, wait: Duration) {
        // An engine that is gone has nobody to wake.
        let (engine, queue) = (Arc::downgrade(&self.0), queue.clone());
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let Some(engine) = engine.upgrade().map(Self) else { return };
            match engine.0.rates.rung(&queue) {
                0 => drop(engine.may_start(&queue)),
                tokens => engine.0.claims.wake(&queue, None, tokens),
            }
        });
    }

    /// The queue's limit on starts, and when it last held a claim back: now, while somebody waits
    /// for it.
    pub(super) fn start_limit(
        &self,
        queue: &Name,
        parked_claims: u64,
        now: Timestamp,
    ) -> (Option<Rate>, Option<Timestamp>) {
        let waits = parked_claims > 0 && self.0.rates.is_spent(queue);
        let last = if waits { Some(now) } else { self.0.rates.held_back(queue) };
        (self.0.rates.limit(queue).map(Rate::per_second), last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(7)
        }

        fn take_step(&self) -> Duration {
            Duration::ZERO
        }
    }

    fn rates() -> (Rates, Name, Name) {
        let (slow, free) = (Name::trusted("slow"), Name::trusted("free"));
        let limits = HashMap::from([(slow.clone(), 0.001)]);
        (Rates::new(&limits, Arc::new(Still)), slow, free)
    }

    #[test]
    fn what_is_not_used_goes_back_and_who_is_held_back_is_remembered() {
        let (rates, slow, free) = rates();
        let pace = rates.pace().unwrap();
        assert_eq!(pace.starts(&free, 100).left(), 100, "no limit there");
        let starts = pace.starts(&slow, 5);
        assert_eq!((rates.is_spent(&slow), rates.look(&slow)), (false, (true, None)), "lent");
        drop(starts);
        assert_eq!((rates.is_spent(&slow), rates.held_back(&slow)), (false, None), "no job there");
        let mut starts = pace.starts(&slow, 5);
        assert_eq!(starts.left(), 1);
        starts.spend();
        drop(starts);
        assert_eq!(rates.held_back(&slow), Some(Timestamp::from_millis(7)));
        assert_eq!((rates.is_spent(&slow), rates.is_spent(&free)), (true, false));
        assert_eq!(rates.spent(), [slow]);
    }

    #[test]
    fn who_was_held_back_is_woken_though_a_token_came_in_between() {
        let quick = Name::trusted("quick");
        let rates = Rates::new(&HashMap::from([(quick.clone(), 1e9)]), Arc::new(Still));
        let Some(limited) = rates.0.queues.get(&quick) else { panic!("it is limited") };
        assert_eq!(rates.look(&quick), (true, None), "nobody was");
        // Fewer than it could have had; by now there are tokens again.
        limited.state.lock().unwrap().owed = true;
        assert_eq!(rates.look(&quick), (true, Some(TICK)));
        assert_eq!(rates.look(&quick), (true, None), "one timer is enough");
        assert!(rates.rung(&quick) > 0);
        assert_eq!(rates.look(&quick), (true, None));
    }

    #[test]
    fn one_timer_waits_for_each_queue() {
        let (rates, slow, free) = rates();
        assert_eq!((rates.look(&slow), rates.look(&free)), ((true, None), (true, None)));
        rates.pace().unwrap().starts(&slow, 1).spend();
        let (ready, wait) = rates.look(&slow);
        assert!(!ready && wait.unwrap() > Duration::from_secs(900));
        assert_eq!(rates.look(&slow), (false, None));
        assert_eq!(rates.rung(&slow), 0);
        assert!(rates.look(&slow).1.is_some());
    }

    #[test]
    fn without_limits_nobody_is_asked() {
        assert!(Rates::new(&HashMap::new(), Arc::new(Still)).pace().is_none());
    }
}
