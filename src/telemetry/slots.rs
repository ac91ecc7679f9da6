//! The cap on label values that come from outside: names of queues and kinds, classes of errors.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus::IntCounter;

use super::labels::OTHER;

/// How long a name that nobody declared keeps its label after its last use.
pub(super) const KEPT_UNUSED: Duration = Duration::from_secs(24 * 3_600);

/// Names that hold a label of their own, up to a limit; the rest share [`OTHER`].
///
/// Reading is the common case and takes a read lock; only a name's first sight writes.
#[derive(Debug)]
pub(super) struct Slots<T> {
    held: RwLock<HashMap<Arc<str>, Slot<T>>>,
    limit: usize,
    other: T,
    overflow: IntCounter,
}

#[derive(Debug)]
struct Slot<T> {
    value: T,
    declared: bool,
    used: AtomicBool,
    last_used: Duration,
}

impl<T> Slots<T> {
    /// `declared` names always hold a slot, even when they alone exceed `limit`.
    pub(super) fn new<'a>(
        limit: usize,
        declared: impl IntoIterator<Item = &'a str>,
        overflow: IntCounter,
        make: impl Fn(&str) -> T,
    ) -> Self {
        let held: HashMap<_, _> = declared
            .into_iter()
            .map(|name| (Arc::from(name), Slot::new(make(name), true)))
            .collect();
        Self { limit: limit.max(held.len()), held: RwLock::new(held), other: make(OTHER), overflow }
    }

    /// Uses the slot of `name`, made on first sight; the shared one beyond the limit.
    pub(super) fn with<R>(
        &self,
        name: &str,
        make: impl FnOnce(&str) -> T,
        use_it: impl FnOnce(&T) -> R,
    ) -> R {
        self.own(name, make, |slot| {
            use_it(slot.unwrap_or_else(|| {
                self.overflow.inc();
                &self.other
            }))
        })
    }

    /// Whether `name` holds a slot, given one if there is room. A look is no event: nothing
    /// overflows by it.
    pub(super) fn admit(&self, name: &str, make: impl FnOnce(&str) -> T) -> bool {
        self.own(name, make, |slot| slot.is_some())
    }

    /// Uses the slot of `name`, made on first sight; `None` beyond the limit.
    fn own<R>(
        &self,
        name: &str,
        make: impl FnOnce(&str) -> T,
        use_it: impl FnOnce(Option<&T>) -> R,
    ) -> R {
        {
            let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(slot) = held.get(name) {
                return use_it(Some(slot.touched()));
            }
            if held.len() >= self.limit {
                drop(held);
                return use_it(None);
            }
        }
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= self.limit && !held.contains_key(name) {
            drop(held);
            return use_it(None);
        }
        let slot = match held.entry(Arc::from(name)) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(slot) => {
                let value = make(slot.key());
                slot.insert(Slot::new(value, false))
            }
        };
        use_it(Some(slot.touched()))
    }

    /// Frees the slots of undeclared names unused for [`KEPT_UNUSED`] at `now` (a monotonic
    /// reading), hands each to `freed`, and returns the names that remain.
    pub(super) fn sweep(&self, now: Duration, mut freed: impl FnMut(&str)) -> Vec<Arc<str>> {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.retain(|name, slot| {
            if slot.declared || std::mem::take(slot.used.get_mut()) {
                slot.last_used = now;
            }
            let keep = now.saturating_sub(slot.last_used) < KEPT_UNUSED;
            if !keep {
                freed(name);
            }
            keep
        });
        held.keys().cloned().collect()
    }
}

impl<T> Slot<T> {
    fn new(value: T, declared: bool) -> Self {
        Self { value, declared, used: AtomicBool::new(true), last_used: Duration::ZERO }
    }

    fn touched(&self) -> &T {
        // Read first: a store on every event would pass the cache line between cores.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(limit: usize, declared: &[&str]) -> Slots<String> {
        let overflow = IntCounter::new("overflow", "Overflow.").unwrap();
        Slots::new(limit, declared.iter().copied(), overflow, str::to_owned)
    }

    fn label(slots: &Slots<String>, name: &str) -> String {
        slots.with(name, str::to_owned, Clone::clone)
    }

    #[test]
    fn names_beyond_the_limit_share_one_label_and_are_counted() {
        let s = slots(2, &["declared"]);
        assert_eq!(label(&s, "first"), "first");
        assert_eq!(label(&s, "second"), OTHER);
        assert_eq!(label(&s, "second"), OTHER);
        assert_eq!(
            (label(&s, "declared"), label(&s, "first")),
            ("declared".into(), "first".into())
        );
        assert_eq!(s.overflow.get(), 2);
        assert!(!s.admit("third", str::to_owned));
        assert!(s.admit("first", str::to_owned));
        assert_eq!(s.overflow.get(), 2, "a look is no event");
    }

    #[test]
    fn declared_names_hold_their_label_beyond_the_limit() {
        let s = slots(1, &["a", "b", "c"]);
        assert_eq!(label(&s, "c"), "c");
        assert_eq!(label(&s, "d"), OTHER);
    }

    #[test]
    fn unused_names_give_their_slot_back_and_declared_ones_do_not() {
        let s = slots(2, &["declared"]);
        assert_eq!(label(&s, "old"), "old");
        let mut freed = Vec::new();
        let minute = Duration::from_secs(60);
        s.sweep(minute, |n| freed.push(n.to_owned()));
        s.sweep(KEPT_UNUSED, |n| freed.push(n.to_owned()));
        assert!(freed.is_empty(), "{freed:?}");
        let left = s.sweep(KEPT_UNUSED + minute, |n| freed.push(n.to_owned()));
        assert_eq!(freed, ["old"]);
        assert_eq!(left, [Arc::from("declared")]);
        assert_eq!(label(&s, "new"), "new");
    }
}
