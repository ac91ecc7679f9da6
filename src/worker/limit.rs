//! An attempt's time-out as the worker must count it: by the server's clock and its own monotonic
//! one, never by the time of day here.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::time::Timestamp;
use crate::wire::LeasedJob;

/// Blur that is no more than the way of an answer.
const SHARP: Duration = Duration::from_millis(250);

/// When an attempt's time is up, at the earliest.
///
/// An answer says how much is left at the moment the server wrote it. The worker counts that from
/// when the request left, which is sooner; a later and shorter exchange shows that more was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    timeout_at: Timestamp,
    /// What the attempt had when it began.
    span: Duration,
    at: Instant,
}

impl Limit {
    /// `None` when the server does not say.
    pub(super) fn new(job: &LeasedJob, length: Duration, sent: Instant) -> Option<Self> {
        let timeout_at = Timestamp::parse_rfc3339(&job.timeout_at)?;
        let span = left(timeout_at, &job.lease_expires_at, length)?;
        Some(Self { timeout_at, span, at: sent + span })
    }

    pub(super) fn learn(&mut self, lease_expires_at: &str, length: Duration, sent: Instant) {
        if let Some(left) = left(self.timeout_at, lease_expires_at, length) {
            self.at = self.at.max(sent + left);
        }
    }

    pub(super) fn at(self) -> Instant {
        self.at
    }

    pub(super) fn span(self) -> Duration {
        self.span
    }

    /// Whether a grant that took so long may cost the attempt more than a tenth of its time.
    pub(super) fn is_blurred(self, wait: Duration) -> bool {
        wait > (self.span / 10).max(SHARP)
    }
}

/// The server granted or extended the lease one length before it expires, or later.
fn left(timeout_at: Timestamp, lease_expires_at: &str, length: Duration) -> Option<Duration> {
    let expires_at = Timestamp::parse_rfc3339(lease_expires_at)?;
    Some(timeout_at.plus(length).since(expires_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_later_answer_only_sharpens_it() {
        let s = Duration::from_secs;
        let t = Instant::now();
        let job = LeasedJob {
            timeout_at: "2027-01-01T00:01:00Z".into(),
            lease_expires_at: "2027-01-01T00:00:30Z".into(),
            ..LeasedJob::default()
        };
        // Parked for 15 s: the attempt had a minute then, and nobody knows when that was.
        let mut limit = Limit::new(&job, s(30), t).unwrap();
        assert_eq!((limit.span(), limit.at()), (s(60), t + s(60)));
        assert!(limit.is_blurred(s(15)) && !limit.is_blurred(s(6)));
        limit.learn("2027-01-01T00:00:31Z", s(30), t + s(16));
        assert_eq!(limit.at(), t + s(75));
        limit.learn("2027-01-01T00:00:31Z", s(30), t + s(3));
        limit.learn("soon", s(30), t + s(90));
        assert_eq!(limit.at(), t + s(75));
        limit.learn("2027-01-01T01:00:00Z", s(30), t + s(70));
        assert_eq!(limit.at(), t + s(75), "nothing is left by then");
    }
}
