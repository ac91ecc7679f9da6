//! Following a job to its end.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{Backoff, Client, Poll, Result, Snapshot};
use crate::wire::Job;

/// How long the server is asked to hold one look: well under what proxies cut off.
const LONG_POLL: Duration = Duration::from_secs(20);
/// Between two looks at a job that only reports progress.
const CALM: Duration = Duration::from_millis(200);

impl Client {
    /// Follows a job until it is `done` or `until` has passed, and returns what was last seen:
    /// look at `job.done` to tell which. `on_change` sees every change that was noticed.
    ///
    /// Each look is a conditional long poll, so the end is noticed at once and nothing is
    /// transferred meanwhile. When the server does not hold a look, its `Retry-After` is
    /// followed instead. Outages shorter than [`retry_for`](Client::retry_for) are sat out.
    pub async fn wait_until_done(
        &self,
        mut seen: Snapshot,
        until: Option<Instant>,
        mut on_change: impl FnMut(&Job),
    ) -> Result<Snapshot> {
        let id = seen.job.job_id.clone();
        let mut backoff = Backoff::new(Duration::from_secs(5));
        let mut heard = Instant::now();
        while !seen.job.done {
            let asked = Instant::now();
            let left = until.map_or(LONG_POLL, |u| u.saturating_duration_since(asked));
            if left.is_zero() {
                break;
            }
            let wait = LONG_POLL.min(left);
            let look = self.job(&id, Some(wait), seen.etag.as_deref());
            let Some(answer) = bounded(until, look).await else {
                break;
            };
            let pause = match answer {
                Ok(Poll::Changed(next)) => {
                    let only_progress = next.job.status == seen.job.status;
                    seen = *next;
                    on_change(&seen.job);
                    if only_progress && !seen.job.done { CALM } else { Duration::ZERO }
                }
                Ok(Poll::Unchanged { retry_after }) => early(asked.elapsed(), wait, retry_after),
                Err(error) if error.is_transient() && heard.elapsed() < self.retry_for => {
                    bounded(until, sleep(backoff.delay(error.retry_after()))).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            heard = Instant::now();
            backoff.reset();
            bounded(until, sleep(pause)).await;
        }
        Ok(seen)
    }
}

/// How long to pause after "unchanged": not at all when the server held the look.
fn early(took: Duration, wait: Duration, retry_after: Option<Duration>) -> Duration {
    if took + Duration::from_secs(1) >= wait.max(Duration::from_secs(2)) {
        return Duration::ZERO;
    }
    retry_after.unwrap_or(Duration::from_secs(1)).max(CALM)
}

async fn bounded<F: Future>(until: Option<Instant>, work: F) -> Option<F::Output> {
    match until {
        Some(until) => timeout_at(until, work).await.ok(),
        None => Some(work.await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_only_when_the_server_did_not_hold() {
        let s = Duration::from_secs;
        assert_eq!(early(s(20), s(20), Some(s(4))), Duration::ZERO);
        assert_eq!(early(s(0), s(20), Some(s(4))), s(4));
        assert_eq!(early(s(0), s(20), None), s(1));
        assert_eq!(early(s(0), Duration::from_millis(300), Some(s(0))), CALM);
    }
}
