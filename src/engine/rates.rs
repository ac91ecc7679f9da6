//! Limits on how many attempts start a second, by queue.
//!
//! The buckets are this process's memory, and full when it starts. The store asks for starts in the
//! commit of each claim ([`Pacing`]), so claims that come at once share what there is. Whoever is
//! held back and stays parked is woken when tokens return: by one timer for each queue that has
//! spent its own, and by nothing else.
//!
//! A limit may change while the server runs. What a queue has saved up is then worth what the new rate
//! makes of it, a queue that is limited for the first time starts with a full bucket, and timers of
//! before ring in vain.
//!
//! The buckets go by the machine's monotonic clock; only what is told of them is in engine time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
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
    queues: RwLock<HashMap<Name, Arc<Limited>>>,
    clock: Arc<dyn Clock>,
    origin: Instant,
}

impl Buckets {
    fn get(&self, queue: &Name) -> Option<Arc<Limited>> {
        let queues = self.queues.read().unwrap_or_else(PoisonError::into_inner);
        queues.get(queue).map(Arc::clone)
    }
}

type Limited = Mutex<State>;

/// A timer to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timer {
    wait: Duration,
    /// Of the limit that it waits for.
    turn: u64,
}

#[derive(Debug)]
struct State {
    per_second: f64,
    /// Rises with every change of the rate.
    turn: u64,
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
        let queues = RwLock::default();
        let rates = Self(Arc::new(Buckets { queues, clock, origin: Instant::now() }));
        rates.set(limits);
        rates
    }

    /// From now on these queues are limited, and no others.
    pub(super) fn set(&self, limits: &HashMap<Name, f64>) {
        let now = self.0.origin.elapsed();
        let mut queues = self.0.queues.write().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|name, _| limits.contains_key(name));
        for (name, per_second) in limits {
            let Some(limited) = queues.get(name) else {
                let state = State {
                    per_second: *per_second,
                    turn: 0,
                    bucket: TokenBucket::new(*per_second, now),
                    lent: 0,
                    owed: false,
                    held_back: None,
                    timed: false,
                };
                queues.insert(name.clone(), Arc::new(Mutex::new(state)));
                continue;
            };
            let mut state = lock(limited);
            if state.per_second.to_bits() != per_second.to_bits() {
                state.per_second = *per_second;
                state.bucket.set_rate(*per_second, now);
                state.turn += 1;
                state.timed = false;
            }
        }
    }

    /// For a claim; `None` when no queue is limited.
    pub(super) fn pace(&self) -> Option<Pace> {
        let queues = self.0.queues.read().unwrap_or_else(PoisonError::into_inner);
        (!queues.is_empty()).then(|| Pace::new(Arc::clone(&self.0) as Arc<dyn Pacing>))
    }

    pub(super) fn limit(&self, queue: &Name) -> Option<f64> {
        self.0.get(queue).map(|limited| lock(&limited).per_second)
    }

    /// Whether nothing of the queue may start at this moment.
    pub(super) fn is_spent(&self, queue: &Name) -> bool {
        self.0.get(queue).is_some_and(|limited| self.is_empty(&limited))
    }

    fn is_empty(&self, limited: &Limited) -> bool {
        let state = lock(limited);
        state.lent == 0 && state.bucket.tokens(self.0.origin.elapsed()) == 0
    }

    /// The queues of which nothing may start at this moment.
    pub(super) fn spent(&self) -> Vec<Name> {
        let queues = self.0.queues.read().unwrap_or_else(PoisonError::into_inner);
        let spent = queues.iter().filter(|(_, limited)| self.is_empty(limited));
        spent.map(|(name, _)| name.clone()).collect()
    }

    /// When a claim was last held back.
    pub(super) fn held_back(&self, queue: &Name) -> Option<Timestamp> {
        let limited = self.0.get(queue)?;
        let state = lock(&limited);
        state.held_back
    }

    /// Whether something may start at this moment, and the timer to be set; none when nobody waits
    /// for a token, or one waits already. Both of the same moment: what comes between two looks
    /// would be missed.
    fn look(&self, queue: &Name) -> (bool, Option<Timer>) {
        let Some(limited) = self.0.get(queue) else { return (true, None) };
        let mut state = lock(&limited);
        let now = self.0.origin.elapsed();
        let ready = state.lent > 0 || state.bucket.tokens(now) > 0;
        if state.timed || (ready && !state.owed) {
            return (ready, None);
        }
        state.timed = true;
        (ready, Some(Timer { wait: state.bucket.wait(now).max(TICK), turn: state.turn }))
    }

    /// A timer has rung: how many tokens there are. `None`: the limit that it waited for is no more.
    fn rung(&self, queue: &Name, turn: u64) -> Option<u64> {
        let limited = self.0.get(queue)?;
        let mut state = lock(&limited);
        if state.turn != turn {
            return None;
        }
        state.timed = false;
        let tokens = state.bucket.tokens(self.0.origin.elapsed());
        state.owed &= tokens == 0;
        Some(tokens)
    }
}

impl Pacing for Buckets {
    fn take(&self, queue: &Name, wanted: u64) -> u64 {
        let Some(limited) = self.get(queue) else { return wanted };
        let mut state = lock(&limited);
        let taken = state.bucket.take(wanted, self.origin.elapsed());
        state.lent += taken;
        taken
    }

    fn settle(&self, queue: &Name, wanted: u64, taken: u64, unused: u64) {
        let Some(limited) = self.get(queue) else { return };
        let mut state = lock(&limited);
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
        let (ready, timer) = self.0.rates.look(queue);
        if let Some(timer) = timer {
            self.wake_in(queue, timer);
        }
        ready
    }

    fn wake_in(&self, queue: &Name, timer: Timer) {
        // An engine that is gone has nobody to wake.
        let (engine, queue) = (Arc::downgrade(&self.0), queue.clone());
        tokio::spawn(async move {
            tokio::time::sleep(timer.wait).await;
            let Some(engine) = engine.upgrade().map(Self) else { return };
            match engine.0.rates.rung(&queue, timer.turn) {
                // Whoever changed it has woken who waits.
                None => {}
                Some(0) => drop(engine.may_start(&queue)),
                Some(tokens) => drop(engine.0.claims.wake(&queue, None, tokens)),
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
        let limited = rates.0.get(&quick).expect("it is limited");
        assert_eq!(rates.look(&quick), (true, None), "nobody was");
        // Fewer than it could have had; by now there are tokens again.
        lock(&limited).owed = true;
        assert_eq!(rates.look(&quick), (true, Some(Timer { wait: TICK, turn: 0 })));
        assert_eq!(rates.look(&quick), (true, None), "one timer is enough");
        assert!(rates.rung(&quick, 0) > Some(0));
        assert_eq!(rates.look(&quick), (true, None));
    }

    #[test]
    fn one_timer_waits_for_each_queue() {
        let (rates, slow, free) = rates();
        assert_eq!((rates.look(&slow), rates.look(&free)), ((true, None), (true, None)));
        rates.pace().unwrap().starts(&slow, 1).spend();
        let (ready, timer) = rates.look(&slow);
        assert!(!ready && timer.unwrap().wait > Duration::from_secs(900));
        assert_eq!(rates.look(&slow), (false, None));
        assert_eq!(rates.rung(&slow, 0), Some(0));
        assert!(rates.look(&slow).1.is_some());
    }

    #[test]
    fn another_rate_has_another_timer() {
        let (rates, slow, free) = rates();
        rates.pace().unwrap().starts(&slow, 1).spend();
        let first = rates.look(&slow).1.unwrap();
        rates.set(&HashMap::from([(slow.clone(), 0.001)]));
        assert_eq!(rates.look(&slow), (false, None), "nothing has changed");
        rates.set(&HashMap::from([(slow.clone(), 0.1), (free.clone(), 1.0)]));
        assert_eq!((rates.limit(&slow), rates.limit(&free)), (Some(0.1), Some(1.0)));
        let second = rates.look(&slow).1.unwrap();
        assert!(second.wait <= Duration::from_secs(10), "{second:?}");
        assert_eq!(rates.rung(&slow, first.turn), None);
        assert_eq!(rates.look(&slow), (false, None), "the second waits on");
        assert_eq!(rates.rung(&slow, second.turn), Some(0));
        rates.set(&HashMap::new());
        assert_eq!((rates.look(&slow), rates.pace().is_none()), ((true, None), true));
    }

    #[test]
    fn without_limits_nobody_is_asked() {
        assert!(Rates::new(&HashMap::new(), Arc::new(Still)).pace().is_none());
    }
}
