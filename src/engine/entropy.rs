//! The engine's randomness: seeded once from the system, or by a test.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::domain::lease::LeaseToken;

/// A cryptographically strong generator behind a lock that is held for nanoseconds.
pub struct Entropy(Mutex<StdRng>);

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy(…)")
    }
}

impl Entropy {
    #[expect(clippy::disallowed_methods, reason = "this is the owner that the ban points to")]
    pub fn from_system() -> Self {
        Self(Mutex::new(StdRng::from_rng(&mut rand::rng())))
    }

    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    pub fn secret(&self) -> [u8; 32] {
        self.lock().random()
    }

    /// A random UUID, for what must differ among processes.
    pub fn uuid(&self) -> String {
        uuid::Builder::from_random_bytes(self.lock().random()).into_uuid().to_string()
    }

    pub(super) fn bits(&self) -> u32 {
        self.lock().random()
    }

    /// Uniform in [0, 1).
    pub(super) fn unit(&self) -> f64 {
        self.lock().random()
    }

    pub(super) fn units(&self, n: usize) -> Vec<f64> {
        let mut rng = self.lock();
        (0..n).map(|_| rng.random()).collect()
    }

    pub(super) fn tokens(&self, n: usize) -> Vec<LeaseToken> {
        let mut rng = self.lock();
        (0..n).map(|_| LeaseToken::new(rng.random())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, StdRng> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
