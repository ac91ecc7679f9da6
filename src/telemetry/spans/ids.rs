//! New ids, from one seed.

use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::domain::trace::{SpanId, TraceId};

/// A generator behind a lock that is held for nanoseconds.
pub(super) struct Ids(Mutex<StdRng>);

impl Ids {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self(Mutex::new(StdRng::from_seed(seed)))
    }

    pub(super) fn trace(&self) -> TraceId {
        self.draw(TraceId::new)
    }

    pub(super) fn span(&self) -> SpanId {
        self.draw(SpanId::new)
    }

    /// All zeros, which is no id, is drawn again.
    fn draw<T, const N: usize>(&self, make: impl Fn([u8; N]) -> Option<T>) -> T {
        let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut bytes = [0; N];
            rng.fill(&mut bytes[..]);
            if let Some(id) = make(bytes) {
                return id;
            }
        }
    }
}
