//! Submitting so that it happens once, whatever the network does.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Backoff, Client, ClientError, Prefer, Result, Snapshot};
use crate::wire;

const MAX_DELAY: Duration = Duration::from_secs(5);

impl Client {
    /// Submits a job, trying again under the same idempotency key when there is no answer, when
    /// the server is busy (408, 429, 503) or when the same key is still being committed.
    ///
    /// Without a `key` one is made for this call, so that its retries make one job. Gives up
    /// when the next try would come later than [`retry_for`](Client::retry_for) allows, with the
    /// last error; a try that has begun is not cut short. After [`ClientError::Unreachable`] it is
    /// unknown whether the job exists: the same call with the same key finds out. An error whose
    /// [`is_gone`](ClientError::is_gone) holds says that the key made a job whose outcome is no
    /// longer kept.
    pub async fn submit(
        &self,
        job: &wire::Submit,
        key: Option<&str>,
        prefer: Prefer,
    ) -> Result<Snapshot> {
        self.submit_telling(job, key, prefer, |_, _| {}).await
    }

    /// [`submit`](Self::submit) that tells of every try that failed, and of the pause that
    /// follows it.
    pub async fn submit_telling(
        &self,
        job: &wire::Submit,
        key: Option<&str>,
        prefer: Prefer,
        mut on_retry: impl FnMut(&ClientError, Duration),
    ) -> Result<Snapshot> {
        let made;
        let key = if let Some(key) = key {
            key
        } else {
            made = uuid::Uuid::now_v7().to_string();
            &made
        };
        let deadline = Instant::now() + self.retry_for;
        let mut backoff = Backoff::new(MAX_DELAY);
        loop {
            let error = match self.submit_once(job, Some(key), prefer).await {
                Ok(snapshot) => return Ok(snapshot),
                Err(error) => error,
            };
            let delay = backoff.delay(error.retry_after());
            if !worth_it(&error, Instant::now() + delay, deadline) {
                return Err(error);
            }
            on_retry(&error, delay);
            sleep(delay).await;
        }
    }
}

fn worth_it(error: &ClientError, next_try: Instant, deadline: Instant) -> bool {
    error.is_transient() && next_try < deadline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tries_only_what_can_help_and_only_in_time() {
        let now = Instant::now();
        let gone = ClientError::Unreachable(String::new());
        assert!(worth_it(&gone, now, now + Duration::from_secs(1)));
        assert!(!worth_it(&gone, now + Duration::from_secs(2), now + Duration::from_secs(1)));
        let no = ClientError::Protocol(String::new());
        assert!(!worth_it(&no, now, now + Duration::from_secs(1)));
    }
}
