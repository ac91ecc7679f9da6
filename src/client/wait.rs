//! Following a job to its end.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::{Backoff, Client, Poll, Result, Snapshot};
use crate::wire::Job;

/// How long the server is asked to hold one look: well under what proxies cut off.
const LONG_POLL: Duration = Duration::from_secs(20);
/// Between two looks at a job that only reports progress.
const CALM: Duration = Duration::from_millis(200);
/// What is kept of a limit for a last look, when the advice reaches beyond it.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// When to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// One held look after the other: every change is noticed at once.
    Held,
    /// As the server advises.
    Advised,
}

impl Client {
    /// The job as it is now, to wait for it later: [`wait_done`](Self::wait_done) takes it.
    pub async fn look(&self, id: &str) -> Result<Snapshot> {
        self.send(self.call(reqwest::Method::GET, &["jobs", id])).await?.snapshot()
    }

    /// Waits until a job is `done` or `limit` has passed, and returns what was last seen: look at
    /// `job.done` to tell which.
    ///
    /// It looks when the server's `Retry-After` says so, and asks the server to hold each look for
    /// a while. That is the fewest requests for many jobs that are waited for together; about half
    /// of them are done before they are looked at. When the end must be noticed at once, use
    /// [`wait_until_done`](Self::wait_until_done). Outages shorter than
    /// [`retry_for`](Client::retry_for) are sat out; a job that is gone is an error whose
    /// [`is_gone`](super::ClientError::is_gone) holds.
    pub async fn wait_done(&self, seen: Snapshot, limit: Option<Duration>) -> Result<Snapshot> {
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        self.follow(seen, until, Pace::Advised, |_| {}).await
    }

    /// Follows a job until it is `done` or `until` has passed, and returns what was last seen:
    /// look at `job.done` to tell which. `on_change` sees every change that was noticed.
    ///
    /// Each look is a conditional long poll, so the end is noticed at once and nothing is
    /// transferred meanwhile. When the server does not hold a look, its `Retry-After` is
    /// followed instead. Outages shorter than [`retry_for`](Client::retry_for) are sat out.
    pub async fn wait_until_done(
        &self,
        seen: Snapshot,
        until: Option<Instant>,
        on_change: impl FnMut(&Job),
    ) -> Result<Snapshot> {
        self.follow(seen, until, Pace::Held, on_change).await
    }

    async fn follow(
        &self,
        mut seen: Snapshot,
        until: Option<Instant>,
        pace: Pace,
        mut on_change: impl FnMut(&Job),
    ) -> Result<Snapshot> {
        let id = seen.job.job_id.clone();
        let mut backoff = Backoff::new(Duration::from_secs(5));
        let mut failing_since = None;
        let mut pause = match pace {
            Pace::Held => Duration::ZERO,
            Pace::Advised => advised(seen.retry_after),
        };
        while !seen.job.done {
            let left = until.map(|u| u.saturating_duration_since(Instant::now()));
            bounded(until, sleep(fitting(pause, pace, left))).await;
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
            pause = match answer {
                Ok(Poll::Changed(next)) => {
                    let only_progress = next.job.status == seen.job.status;
                    seen = *next;
                    on_change(&seen.job);
                    match pace {
                        Pace::Held if only_progress => CALM,
                        Pace::Held => Duration::ZERO,
                        Pace::Advised => advised(seen.retry_after),
                    }
                }
                Ok(Poll::Unchanged { retry_after }) => match pace {
                    Pace::Held => early(asked.elapsed(), wait, retry_after),
                    Pace::Advised => advised(retry_after),
                },
                Err(error) if error.is_transient() => {
                    let since = *failing_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.retry_for {
                        return Err(error);
                    }
                    pause = backoff.delay(error.retry_after());
                    continue;
                }
                Err(error) => return Err(error),
            };
            failing_since = None;
            backoff.reset();
        }
        Ok(seen)
    }
}

fn advised(retry_after: Option<Duration>) -> Duration {
    retry_after.unwrap_or(Duration::from_secs(1)).max(CALM)
}

/// A long piece of advice leaves room for a look before the limit.
fn fitting(pause: Duration, pace: Pace, left: Option<Duration>) -> Duration {
    match (pace, left) {
        (Pace::Advised, Some(left)) => pause.min(left.saturating_sub(LAST_LOOK).max(CALM)),
        (Pace::Advised, None) | (Pace::Held, _) => pause,
    }
}

/// How long to pause after "unchanged": not at all when the server held the look.
fn early(took: Duration, wait: Duration, retry_after: Option<Duration>) -> Duration {
    if took + Duration::from_secs(1) >= wait.max(Duration::from_secs(2)) {
        return Duration::ZERO;
    }
    advised(retry_after)
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

    #[test]
    fn advice_beyond_the_limit_leaves_a_last_look() {
        let s = Duration::from_secs;
        assert_eq!(fitting(s(4), Pace::Advised, Some(s(10))), s(4));
        assert_eq!(fitting(s(300), Pace::Advised, Some(s(10))), s(9));
        assert_eq!(fitting(s(300), Pace::Advised, None), s(300));
        assert_eq!(fitting(s(4), Pace::Advised, Some(s(0))), CALM);
        assert_eq!(fitting(s(300), Pace::Held, Some(s(10))), s(300));
    }
}
