//! What a worker's code sees: a job, a context, and the outcomes it may return.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::domain::job::RawJson;
use crate::wire::{ErrorReport, LeasedJob, ProgressReport};

/// Runs jobs. Also implemented by closures `Fn(LeasedJob, Context) -> impl Future<Output = Outcome>`.
///
/// The future is dropped when it goes on after it was told to stop and the right to run is gone;
/// a panic fails the attempt.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    async fn run(&self, job: LeasedJob, context: Context) -> Outcome;
}

#[async_trait]
impl<F, Fut> Handler for F
where
    F: Fn(LeasedJob, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send,
{
    async fn run(&self, job: LeasedJob, context: Context) -> Outcome {
        self(job, context).await
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done, with a JSON result or none.
    Completed(Option<RawJson>),
    Failed {
        error: ErrorReport,
        /// Whether another attempt may help.
        retryable: bool,
        /// Instead of the job's own back-off.
        retry_after: Option<Duration>,
    },
    /// Given back; the attempt does not count.
    Released,
    /// Stopped because [`Context::stopped`] said so.
    Cancelled,
}

impl Outcome {
    /// Done, with `result` as JSON. What cannot be written as JSON fails the job for good.
    pub fn completed(result: &impl Serialize) -> Self {
        match RawJson::write(result) {
            Ok(json) => Self::Completed(Some(json)),
            Err(e) => Self::hopeless("result-unwritable", format!("the result is no JSON: {e}")),
        }
    }

    /// A failure that no other attempt can mend, in two words.
    pub fn hopeless(kind: impl Into<String>, message: impl Into<String>) -> Self {
        let error =
            ErrorReport { kind: kind.into(), message: message.into(), ..ErrorReport::default() };
        Self::Failed { error, retryable: false, retry_after: None }
    }

    /// A failure that may be tried again, in two words.
    pub fn failed(kind: impl Into<String>, message: impl Into<String>) -> Self {
        let error =
            ErrorReport { kind: kind.into(), message: message.into(), ..ErrorReport::default() };
        Self::Failed { error, retryable: true, retry_after: None }
    }
}

/// Why a job's work should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The job's cancel was requested.
    Cancelled,
    /// The worker leaves.
    Draining,
    /// The lease could not be extended and ends at this moment.
    LeaseEnding(Instant),
    /// The attempt has used up its `timeout_seconds` and ends at this moment: nothing extends it.
    TimedOut(Instant),
    /// Another worker may be running the job by now.
    LeaseLost,
}

/// An attempt's line to the runtime.
#[derive(Debug, Clone)]
pub struct Context {
    pub(super) stop: watch::Receiver<Option<Stop>>,
    pub(super) progress: Progress,
}

impl Context {
    /// Why the work should stop, if it should.
    pub fn stop(&self) -> Option<Stop> {
        *self.stop.borrow()
    }

    /// Waits until the work should stop. Cancel-safe; at once when it should already.
    pub async fn stopped(&mut self) -> Stop {
        let told = self.stop.wait_for(Option::is_some).await.ok().and_then(|told| *told);
        // The runtime itself is gone, and with it whoever keeps the lease.
        told.unwrap_or(Stop::LeaseLost)
    }

    /// Tells the client how far the work is. Sent with the next heartbeat, at most once a
    /// second; only the latest report is kept. `percent` is 0 to 100.
    pub fn report_progress(&self, percent: Option<f64>, message: Option<&str>) {
        self.progress.put(ProgressReport {
            percent: percent.filter(|p| p.is_finite()).map(|p| p.clamp(0.0, 100.0)),
            message: message.map(|m| cut(m, 256).to_owned()),
        });
    }
}

/// The latest report that is not sent yet.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    latest: Arc<Mutex<Option<ProgressReport>>>,
    news: Arc<Notify>,
}

impl Progress {
    pub(super) fn new(news: Arc<Notify>) -> Self {
        Self { latest: Arc::default(), news }
    }

    fn put(&self, report: ProgressReport) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
        self.news.notify_one();
    }

    pub(super) fn take(&self) -> Option<ProgressReport> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A report whose heartbeat failed, unless a newer one has come.
    pub(super) fn give_back(&self, report: ProgressReport) {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(report);
    }
}

/// The longest start of `text` that has at most `bytes` bytes.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|i| text.is_char_boundary(*i));
    &text[..end.unwrap_or(0)]
}

/// The longest end of `text` that has at most `bytes` bytes.
pub(super) fn cut_front(text: &str, bytes: usize) -> &str {
    let first = text.len().saturating_sub(bytes);
    let start = (first..text.len()).find(|i| text.is_char_boundary(*i));
    &text[start.unwrap_or(text.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_keeps_the_latest_and_prefers_it_to_a_returned_one() {
        let (_keep, stop) = watch::channel(None);
        let progress = Progress::new(Arc::new(Notify::new()));
        let context = Context { stop, progress: progress.clone() };
        context.report_progress(Some(150.0), Some(&"é".repeat(200)));
        let first = progress.take().unwrap();
        assert_eq!((first.percent, first.message.as_ref().unwrap().len()), (Some(100.0), 256));
        context.report_progress(Some(f64::NAN), None);
        progress.give_back(first.clone());
        assert_eq!(progress.take(), Some(ProgressReport::default()));
        progress.give_back(first.clone());
        assert_eq!(progress.take(), Some(first));
    }

    #[test]
    fn cuts_between_characters() {
        assert_eq!((cut("aé", 2), cut("aé", 3), cut("", 5)), ("a", "aé", ""));
        assert_eq!((cut_front("éa", 2), cut_front("éa", 3)), ("a", "éa"));
    }
}
