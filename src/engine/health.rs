//! What the store's verbs say about the store: is it well, and was it away?
//!
//! Two questions with different memories. *Degraded* is about now: a write failed and none has been
//! committed since, or writes are stuck, or the last read failed. *Outage* is about leases: since
//! the reaper last asked, a write failed that may have been somebody's heartbeat.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::store::{Result, StoreError};

use super::lock;

/// Writes that are answered less often than this are stuck.
const STUCK: Duration = Duration::from_secs(2);

/// What a verb does to the store, as far as its health is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    Read,
    /// May find nothing to write, and then proves nothing by succeeding.
    Maybe,
    /// Has committed something when it succeeds.
    Commits,
}

#[derive(Debug, Default)]
pub struct Health {
    read_failed: AtomicBool,
    write_failed: AtomicBool,
    outage: AtomicBool,
    writes: Mutex<Writes>,
}

#[derive(Debug, Default)]
struct Writes {
    under_way: usize,
    /// When the first of them began, or the latest was answered.
    since: Option<Instant>,
}

impl Health {
    #[expect(clippy::disallowed_methods, reason = "times the store at its edge")]
    pub(super) fn began(&self, nature: Nature) {
        if nature != Nature::Read {
            let mut writes = lock(&self.writes);
            writes.under_way += 1;
            writes.since.get_or_insert_with(Instant::now);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "times the store at its edge")]
    pub(super) fn ended(&self, nature: Nature) {
        if nature != Nature::Read {
            let mut writes = lock(&self.writes);
            writes.under_way = writes.under_way.saturating_sub(1);
            writes.since = (writes.under_way > 0).then(Instant::now);
        }
    }

    pub(super) fn learned<T>(&self, nature: Nature, outcome: &Result<T>) {
        match (nature, outcome) {
            (Nature::Read, Ok(_)) => self.read_failed.store(false, Ordering::Relaxed),
            (Nature::Commits, Ok(_)) => self.write_failed.store(false, Ordering::Relaxed),
            // A store that takes no more jobs is well for all that.
            // A verb that failed for reasons of its own kept nobody's heartbeat away, and says
            // nothing of the next one; it is counted and logged where it failed.
            (Nature::Maybe, Ok(_))
            | (_, Err(StoreError::LowSpace(_)))
            | (Nature::Maybe | Nature::Commits, Err(StoreError::Other(_))) => {}
            (Nature::Read, Err(_)) => self.read_failed.store(true, Ordering::Relaxed),
            (Nature::Maybe | Nature::Commits, Err(_)) => {
                self.write_failed.store(true, Ordering::Relaxed);
                self.outage.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Whether the store does not answer as it should, now.
    pub fn is_degraded(&self) -> bool {
        let stuck = lock(&self.writes).since.is_some_and(|since| since.elapsed() > STUCK);
        stuck
            || self.read_failed.load(Ordering::Relaxed)
            || self.write_failed.load(Ordering::Relaxed)
    }

    /// Whether a write failed since the last call: leases may have gone without heartbeats.
    pub fn take_outage(&self) -> bool {
        self.outage.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Result<()> {
        Err(StoreError::Full("no space".to_owned()))
    }

    #[test]
    fn only_a_commit_proves_that_writes_work_again() {
        let health = Health::default();
        health.learned(Nature::Commits, &full());
        health.learned(Nature::Read, &Ok(()));
        health.learned(Nature::Maybe, &Ok(()));
        assert!(health.is_degraded());
        health.learned(Nature::Commits, &Ok(()));
        assert!(!health.is_degraded());
        assert!(health.take_outage() && !health.take_outage());
    }

    #[test]
    fn low_space_says_nothing_about_the_store() {
        let low = Err::<(), _>(StoreError::LowSpace("not enough".to_owned()));
        let health = Health::default();
        health.learned(Nature::Commits, &low);
        assert!(!health.is_degraded() && !health.take_outage());
        // Nor does it prove that writes work again.
        health.learned(Nature::Commits, &full());
        health.learned(Nature::Commits, &low);
        assert!(health.is_degraded() && health.take_outage());
    }

    #[test]
    fn a_failing_read_is_no_outage() {
        let health = Health::default();
        health.learned(Nature::Read, &full());
        assert!(health.is_degraded() && !health.take_outage());
        health.learned(Nature::Maybe, &Err::<(), _>(StoreError::Other("odd".to_owned())));
        assert!(!health.take_outage());
    }
}
