//! When there will be room again in a queue that is full.

use super::JITTER;

/// Room is worth coming back for once a tenth of the queue is free: whoever comes for a single
/// place comes too early.
const REFILL_AT: f64 = 0.9;

/// The longest that is told, before it is spread.
const LONGEST_SECONDS: f64 = 300.0;

/// Whole seconds for `Retry-After`, at least 1: until `jobs` pending jobs have come down to nine
/// tenths of `max`, at so many starts a second; then later by up to a tenth, by `unit` in [0, 1),
/// so that those who were refused together do not return together.
pub fn room_after_seconds(jobs: u64, max: u64, start_rate: f64, unit: f64) -> u64 {
    let excess = (jobs as f64 - REFILL_AT * max as f64).max(0.0);
    // Nothing to divide by is "long", and no excess is "soon".
    let seconds = excess / start_rate;
    let seconds = if seconds.is_nan() { 1.0 } else { seconds };
    let told = seconds.ceil().clamp(1.0, LONGEST_SECONDS);
    // The cast saturates.
    (told * (1.0 + JITTER * unit.clamp(0.0, 1.0))).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::room_after_seconds;

    #[test]
    fn a_tenth_of_the_queue_must_drain() {
        assert_eq!(room_after_seconds(1_000, 1_000, 10.0, 0.0), 10);
        assert_eq!(room_after_seconds(1_000, 1_000, 10.0, 0.99), 11);
        assert_eq!(room_after_seconds(1_000, 1_000, 9.0, 0.0), 12, "rounded up");
        assert_eq!(room_after_seconds(1_000, 1_000, 1e9, 0.0), 1);
        assert_eq!(room_after_seconds(1_000, 1_000, 0.0, 0.0), 300, "nothing starts");
        assert_eq!(room_after_seconds(1_000, 1_000, 0.0, 0.999), 330);
        assert_eq!(room_after_seconds(5, 1_000, 0.0, 0.0), 1, "there is room");
        assert_eq!(room_after_seconds(1, 1, 0.05, 0.0), 2);
        assert_eq!(room_after_seconds(u64::MAX, 1, 1e-300, 0.5), 315);
    }
}
