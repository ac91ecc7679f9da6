//! The cap on label values that come from outside: the names of queues.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use prometheus::IntCounter;

use super::labels::OTHER;
use crate::domain::names::Name;

/// How long a queue that nobody declared keeps its label after its last use.
pub(super) const KEPT_UNUSED: Duration = Duration::from_secs(24 * 3_600);

/// Names that hold a label of their own, up to a limit; the rest share [`OTHER`].
///
/// Reading is the common case and takes a read lock; only a name's first sight writes.
#[derive(Debug)]
pub(super) struct Slots<T> {
    held: RwLock<HashMap<Name, Slot<T>>>,
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
    pub(super) fn new(
        limit: usize,
        declared: &[Name],
        overflow: IntCounter,
        make: impl Fn(&str) -> T,
    ) -> Self {
        let held: HashMap<_, _> = declared
            .iter()
            .map(|name| (name.clone(), Slot::new(make(name.as_str()), true)))
            .collect();
        Self { limit: limit.max(held.len()), held: RwLock::new(held), other: make(OTHER), overflow }
    }

    /// Uses the slot of `name`, made on first sight; the shared one beyond the limit.
    pub(super) fn with<R>(
        &self,
        name: &Name,
        make: impl FnOnce(&str) -> T,
        use_it: impl FnOnce(&T) -> R,
    ) -> R {
        {
            let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(slot) = held.get(name) {
                return use_it(slot.touched());
            }
            if held.len() >= self.limit {
                drop(held);
                self.overflow.inc();
                return use_it(&self.other);
            }
        }
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= self.limit && !held.contains_key(name) {
            drop(held);
            self.overflow.inc();
            return use_it(&self.other);
        }
        let slot = match held.entry(name.clone()) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(slot) => slot.insert(Slot::new(make(name.as_str()), false)),
        };
        use_it(slot.touched())
    }

    /// Whether `name` holds a slot, given one if there is room.
    pub(super) fn admit(&self, name: &Name, make: impl FnOnce(&str) -> T) -> bool {
        self.with(name, make, |value| !std::ptr::eq(value, &raw const self.other))
    }

    /// Frees the slots of undeclared names unused for [`KEPT_UNUSED`] at `now` (a monotonic
    /// reading), hands each to `freed`, and returns the names that remain.
    pub(super) fn sweep(&self, now: Duration, mut freed: impl FnMut(&str)) -> Vec<Name> {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.retain(|name, slot| {
            if slot.declared || std::mem::take(slot.used.get_mut()) {
                slot.last_used = now;
            }
            let keep = now.saturating_sub(slot.last_used) < KEPT_UNUSED;
            if !keep {
                freed(name.as_str());
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
        let declared: Vec<_> = declared.iter().map(|n| Name::parse(n).unwrap()).collect();
        let overflow = IntCounter::new("overflow", "Overflow.").unwrap();
        Slots::new(limit, &declared, overflow, str::to_owned)
    }

    fn label(slots: &Slots<String>, name: &str) -> String {
        slots.with(&Name::parse(name).unwrap(), str::to_owned, Clone::clone)
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
        assert!(!s.admit(&Name::parse("third").unwrap(), str::to_owned));
        assert!(s.admit(&Name::parse("first").unwrap(), str::to_owned));
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
        assert_eq!(left, [Name::parse("declared").unwrap()]);
        assert_eq!(label(&s, "new"), "new");
    }
}
