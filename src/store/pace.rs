//! How many attempts a claim may start, by queue, where that is limited over time.
//!
//! A store of one process asks whoever paces it, within the commit; one that several processes
//! share must keep the pace itself, beside its other limits.

use std::fmt;
use std::sync::Arc;

use crate::domain::names::Name;

/// Decides how many attempts may start now. Called within the commit: it must be quick and ask no
/// store. A commit that fails, or that is tried again, may have spent what then did not start.
pub trait Pacing: Send + Sync {
    /// Up to `wanted`.
    fn take(&self, queue: &Name, wanted: u64) -> u64;

    /// `wanted` were asked for, `taken` were given, and so many of these are not used.
    fn settle(&self, queue: &Name, wanted: u64, taken: u64, unused: u64);
}

#[derive(Clone)]
pub struct Pace(Arc<dyn Pacing>);

impl Pace {
    pub fn new(pacing: Arc<dyn Pacing>) -> Self {
        Self(pacing)
    }

    /// Starts for one queue, up to `wanted`.
    pub fn starts<'a>(&'a self, queue: &'a Name, wanted: usize) -> Starts<'a> {
        let wanted = wanted as u64;
        let taken = self.0.take(queue, wanted);
        Starts { pacing: self.0.as_ref(), queue, wanted, taken, left: taken }
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pace(…)")
    }
}

/// Attempts that may start; what is left of them goes back when dropped.
pub struct Starts<'a> {
    pacing: &'a dyn Pacing,
    queue: &'a Name,
    wanted: u64,
    taken: u64,
    left: u64,
}

impl Starts<'_> {
    pub fn left(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    /// One has started.
    pub fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

impl fmt::Debug for Starts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starts").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Drop for Starts<'_> {
    fn drop(&mut self) {
        self.pacing.settle(self.queue, self.wanted, self.taken, self.left);
    }
}
