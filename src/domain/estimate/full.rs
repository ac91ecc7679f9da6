//! When there will be room again in a queue that is full.

use super::JITTER;

/// Room is worth coming back for once a tenth of the queue is free: whoever comes for a single
/// place comes too early.
const REFILL_AT: f64 = 0.9;

/// The longest that is told.
const LONGEST_SECONDS: f64 = 300.0;

/// Whole seconds for `Retry-After`, at least 1: until `jobs` pending jobs have come down to nine
/// tenths of `max` and leave room for `coming` ones, at so many starts a second; then later by up
/// to a tenth, by `unit` in [0, 1), so that those who were refused together do not return together.
/// At most 300, and spread below that.
pub fn room_after_seconds(jobs: u64, max: u64, coming: u64, start_rate: f64, unit: f64) -> u64 {
    let (jobs, max) = (jobs as f64, max as f64);
    let excess = (jobs - REFILL_AT * max).max(jobs + coming as f64 - max).max(1.0);
    // Without a rate that is for ever.
    let told = (excess / start_rate).ceil().clamp(1.0, LONGEST_SECONDS / (1.0 + JITTER));
    let later = told * (1.0 + JITTER * unit.clamp(0.0, 1.0));
    // The cast saturates.
    later.ceil().min(LONGEST_SECONDS) as u64
}

#[cfg(test)]
mod tests {
    use super::room_after_seconds;

    #[test]
    fn a_tenth_of_the_queue_must_drain() {
        let of_a_thousand = |rate, unit| room_after_seconds(1_000, 1_000, 1, rate, unit);
        assert_eq!(of_a_thousand(10.0, 0.0), 10);
        assert_eq!(of_a_thousand(10.0, 0.99), 11);
        assert_eq!(of_a_thousand(9.0, 0.0), 12, "rounded up");
        assert_eq!(of_a_thousand(1e9, 0.0), 1);
        assert_eq!(of_a_thousand(0.0, 0.0), 273, "nothing starts");
        assert_eq!([of_a_thousand(0.0, 0.5), of_a_thousand(0.0, 1.0)], [287, 300]);
        assert_eq!(of_a_thousand(0.35, 1.0), 300, "not beyond the longest");
        assert_eq!(room_after_seconds(u64::MAX, 1, 1, 1e-300, 0.5), 287);
    }

    #[test]
    fn and_whoever_comes_must_fit() {
        assert_eq!(room_after_seconds(1, 1, 1, 0.05, 0.0), 20, "a tenth of a job is no room");
        assert_eq!(room_after_seconds(900, 1_000, 150, 10.0, 0.0), 5);
        assert_eq!(room_after_seconds(1, 20, 20, 0.0, 0.0), 273);
        assert_eq!(room_after_seconds(5, 1_000, 1, 0.5, 0.0), 2, "there is room by now");
    }
}
