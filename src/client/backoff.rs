//! How long to wait before trying again when the server did not say.

use std::time::Duration;

/// Exponential, from half a second to `max`, each delay shortened by up to half at random so that
/// many clients of one server do not return together.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

const INITIAL: Duration = Duration::from_millis(500);

impl Backoff {
    pub(crate) fn new(max: Duration) -> Self {
        Self { next: INITIAL.min(max), max }
    }

    pub(crate) fn reset(&mut self) {
        self.next = INITIAL.min(self.max);
    }

    /// The next delay: at least what the server asked for, if it did.
    pub(crate) fn delay(&mut self, retry_after: Option<Duration>) -> Duration {
        self.step(retry_after, unit())
    }

    /// `unit` is uniform in [0, 1).
    fn step(&mut self, retry_after: Option<Duration>, unit: f64) -> Duration {
        let full = self.next;
        self.next = full.saturating_mul(2).min(self.max);
        match retry_after {
            Some(asked) => asked + full.min(asked).mul_f64(unit * 0.1),
            None => full.mul_f64(1.0 - unit * 0.5),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "spreads clients, which are not the engine")]
fn unit() -> f64 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_cap_and_starts_over() {
        let mut b = Backoff::new(Duration::from_secs(3));
        let ms: Vec<_> = (0..5).map(|_| b.step(None, 0.0).as_millis()).collect();
        assert_eq!(ms, [500, 1000, 2000, 3000, 3000]);
        b.reset();
        assert_eq!(b.step(None, 0.5), Duration::from_millis(375));
    }

    #[test]
    fn never_undercuts_the_server() {
        let mut b = Backoff::new(Duration::from_secs(1));
        let asked = Duration::from_secs(7);
        assert_eq!(b.step(Some(asked), 0.0), asked);
        assert!(b.delay(Some(asked)) >= asked);
    }
}
