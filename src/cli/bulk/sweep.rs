//! Going through the jobs that match: page by page, newest first, a few at a time.
//!
//! Pages stay put while jobs come and go, so each job is met once, and no more than one page is
//! ever in memory. What the server cannot do now is tried again when it says so; what it will not
//! do is counted, and the rest goes on. A first interrupt lets what is under way come to its end; a
//! second one does not.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Action, Summary};
use crate::cli::output::{self, Ticker};
use crate::client::{Backoff, Client, ClientError, ListQuery};
use crate::wire::Job;

/// Requests at once.
const AT_ONCE: usize = 8;

/// Jobs in one page.
const PAGE: u32 = 500;

/// Jobs that a dry run shows.
const SHOWN: usize = 10;

/// How long one request is tried again while the server is away or has no room.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two tries when the server does not say.
const MAX_DELAY: Duration = Duration::from_secs(10);

pub(super) struct Sweep<'c> {
    pub(super) client: &'c Client,
    pub(super) queries: Vec<ListQuery>,
    pub(super) limit: Option<u64>,
    pub(super) action: Action,
    /// How many there should be, if they were counted.
    pub(super) expected: Option<u64>,
}

/// How it ended, if not for want of a server.
pub(super) struct End {
    /// Whether all that matched was gone through.
    pub(super) whole: bool,
    /// The first job that it could not be done to, and why.
    pub(super) example: Option<String>,
}

enum Outcome {
    Changed,
    /// It was so already.
    Unchanged,
    /// The server has refused, or had no room for as long as was waited.
    Refused(ClientError),
    /// Nothing was heard of the server for as long as was waited.
    Lost(ClientError),
    /// Not begun, or given up between two tries.
    Stopped,
}

impl Sweep<'_> {
    /// How many match, and the first few of those that it would be done to.
    pub(super) async fn count(&self, summary: &mut Summary) -> Result<Vec<Job>, ClientError> {
        let (_running, stop) = watch::channel(false);
        let mut sample = Vec::new();
        let mut ticker = Ticker::new();
        let mut pages = Pages::new(self);
        while let Some(Page { todo, already }) = pages.next(&stop).await? {
            summary.matched += todo.len() as u64 + already;
            summary.unchanged += already;
            let room = SHOWN.saturating_sub(sample.len());
            sample.extend(todo.into_iter().take(room));
            ticker.show(&format!("{} match", summary.matched));
        }
        ticker.clear();
        Ok(sample)
    }

    /// Does it. `summary` is true at every moment, whenever this ends.
    pub(super) async fn run(&self, summary: &mut Summary) -> Result<End, ClientError> {
        let (stopper, stop) = watch::channel(false);
        let mut example = None;
        let mut interrupts = signal(SignalKind::interrupt()).ok();
        let outcome = {
            let going = self.go(summary, &mut example, &stop, &stopper);
            tokio::pin!(going);
            tokio::select! {
                outcome = &mut going => Some(outcome),
                () = next(&mut interrupts) => {
                    stopper.send_replace(true);
                    output::note("stopping: interrupt again not to wait for what is under way");
                    tokio::select! {
                        outcome = &mut going => Some(outcome),
                        () = next(&mut interrupts) => None,
                    }
                }
            }
        };
        match outcome {
            Some(Err(error)) => Err(error),
            Some(Ok(())) => Ok(End { whole: !*stop.borrow(), example }),
            None => Ok(End { whole: false, example }),
        }
    }

    async fn go(
        &self,
        summary: &mut Summary,
        example: &mut Option<String>,
        stop: &watch::Receiver<bool>,
        stopper: &watch::Sender<bool>,
    ) -> Result<(), ClientError> {
        let mut ticker = Ticker::new();
        let mut lost = None;
        let mut pages = Pages::new(self);
        loop {
            let todo = match pages.next(stop).await {
                Ok(Some(Page { todo, already })) => {
                    summary.matched += already;
                    summary.unchanged += already;
                    todo
                }
                Ok(None) => break,
                Err(error) => {
                    lost.get_or_insert(error);
                    break;
                }
            };
            let mut results = stream::iter(todo)
                .map(|job| async move {
                    let outcome = self.one(&job, &mut stop.clone()).await;
                    (job.job_id, outcome)
                })
                .buffer_unordered(AT_ONCE);
            while let Some((id, outcome)) = results.next().await {
                match outcome {
                    Outcome::Stopped => continue,
                    Outcome::Changed => summary.changed += 1,
                    Outcome::Unchanged => summary.unchanged += 1,
                    Outcome::Refused(error) => {
                        summary.refused(error.code().unwrap_or("not-understood"));
                        example.get_or_insert_with(|| format!("{id}: {error}"));
                    }
                    Outcome::Lost(error) => {
                        summary.refused("unreachable");
                        stopper.send_replace(true);
                        lost.get_or_insert(error);
                    }
                }
                summary.matched += 1;
                ticker.show(&self.progress(summary));
            }
        }
        ticker.clear();
        lost.map_or(Ok(()), Err)
    }

    fn progress(&self, summary: &Summary) -> String {
        let of = self.expected.map(|n| format!(" of {n}")).unwrap_or_default();
        let refused = match summary.not_possible {
            0 => String::new(),
            n => format!(", {n} not possible"),
        };
        format!("{}{of} jobs gone through{refused}", summary.matched)
    }

    async fn one(&self, job: &Job, stop: &mut watch::Receiver<bool>) -> Outcome {
        let id = &job.job_id;
        let client = self.client;
        let outcome = match &self.action {
            Action::Cancel(request) => {
                let ask = async || client.cancel(id, request).await.map(|_| true);
                persist(true, PATIENCE, stop, ask).await
            }
            Action::Retry { request, force } => {
                let ask = async || client.retry(id, request, *force).await.map(|s| !s.replayed);
                persist(!force, PATIENCE, stop, ask).await
            }
            Action::Delete => {
                let ask = async || match client.delete(id).await {
                    // Somebody else was quicker, or an answer was lost.
                    Err(error) if error.as_problem().is_some_and(|p| p.status == 410) => Ok(false),
                    deleted => deleted.map(|()| true),
                };
                persist(true, PATIENCE, stop, ask).await
            }
        };
        match outcome {
            Ok(Some(true)) => Outcome::Changed,
            Ok(Some(false)) => Outcome::Unchanged,
            Ok(None) => Outcome::Stopped,
            Err(error @ ClientError::Unreachable(_)) => Outcome::Lost(error),
            Err(error) => Outcome::Refused(error),
        }
    }
}

/// What is to be done, and of how many it was done before.
struct Page {
    todo: Vec<Job>,
    already: u64,
}

/// The pages of one list after the other. The limit is of what is left to be done, so that asking
/// again goes on from there.
struct Pages<'s> {
    sweep: &'s Sweep<'s>,
    list: usize,
    cursor: Option<String>,
    left: u64,
}

impl<'s> Pages<'s> {
    fn new(sweep: &'s Sweep<'s>) -> Self {
        Self { sweep, list: 0, cursor: None, left: sweep.limit.unwrap_or(u64::MAX) }
    }

    /// The next page, which may be empty; `None` after the last, and once it was stopped.
    async fn next(&mut self, stop: &watch::Receiver<bool>) -> Result<Option<Page>, ClientError> {
        let Some(query) = self.sweep.queries.get(self.list).filter(|_| self.left > 0) else {
            return Ok(None);
        };
        let query = ListQuery { limit: Some(PAGE), cursor: self.cursor.take(), ..query.clone() };
        let client = self.sweep.client;
        let page =
            persist(true, PATIENCE, &mut stop.clone(), async || client.list(&query).await).await?;
        let Some(page) = page else { return Ok(None) };
        match page.next_cursor {
            Some(cursor) => self.cursor = Some(cursor),
            None => self.list += 1,
        }
        let (mut todo, mut already) = (Vec::new(), 0);
        for job in page.jobs {
            if self.sweep.action.was_done(&job) {
                already += 1;
                continue;
            }
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            todo.push(job);
        }
        Ok(Some(Page { todo, already }))
    }
}

/// Asks until there is an answer that will not change by asking again; `None` when it was stopped
/// before. `repeatable`: asking twice does no more than asking once, so it is asked again also
/// when nobody knows what became of the first.
async fn persist<T>(
    repeatable: bool,
    patience: Duration,
    stop: &mut watch::Receiver<bool>,
    ask: impl AsyncFn() -> Result<T, ClientError>,
) -> Result<Option<T>, ClientError> {
    let deadline = Instant::now() + patience;
    let mut backoff = Backoff::new(MAX_DELAY);
    loop {
        if *stop.borrow_and_update() {
            return Ok(None);
        }
        let error = match ask().await {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) => error,
        };
        let delay = backoff.delay(error.retry_after());
        let again = error.is_transient() && (repeatable || did_nothing(&error));
        if !again || Instant::now() + delay > deadline {
            return Err(error);
        }
        tokio::select! {
            () = sleep(delay) => {}
            _ = stop.wait_for(|stopped| *stopped) => return Ok(None),
        }
    }
}

/// Whether the server has said that it has not done what it was asked to.
fn did_nothing(error: &ClientError) -> bool {
    let refusals = ["queue-full", "server-draining", "storage-full", "overloaded"];
    error.as_problem().is_some_and(|p| p.status == 429 || refusals.contains(&p.code.as_str()))
}

/// Never, if interrupts cannot be heard: then they end the process as ever.
async fn next(interrupts: &mut Option<Signal>) {
    match interrupts {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Problem;
    use std::cell::Cell;

    fn problem(status: u16, code: &str, after: Option<Duration>) -> ClientError {
        let problem = Problem { status, code: code.to_owned(), ..Problem::default() };
        ClientError::Problem(Box::new(problem), after)
    }

    const MOMENT: Duration = Duration::from_millis(5);

    /// Answers with the errors in turn, then with how often it was asked.
    async fn asked(repeatable: bool, errors: &[ClientError]) -> Result<Option<usize>, ClientError> {
        let (_running, mut stop) = watch::channel(false);
        let times = Cell::new(0);
        persist(repeatable, PATIENCE, &mut stop, async || {
            let at = times.replace(times.get() + 1);
            errors.get(at).cloned().map_or(Ok(at + 1), Err)
        })
        .await
    }

    #[tokio::test]
    async fn what_passes_is_waited_out() {
        let away = ClientError::Unreachable("away".to_owned());
        let full = problem(503, "queue-full", Some(MOMENT));
        assert!(matches!(asked(true, &[full.clone(), away.clone()]).await, Ok(Some(3))));
        assert!(asked(true, &[problem(409, "job-not-finished", None)]).await.is_err());
        let later = problem(503, "queue-full", Some(2 * PATIENCE));
        assert!(asked(true, &[later]).await.is_err(), "that is more than our patience");
        // What may have been done must not be done twice.
        assert!(asked(false, &[away]).await.is_err());
        assert!(asked(false, &[problem(503, "storage-unavailable", Some(MOMENT))]).await.is_err());
        assert!(matches!(asked(false, &[full]).await, Ok(Some(2))));
    }

    #[tokio::test]
    async fn a_stop_ends_the_waiting_and_begins_nothing() {
        let (stopper, mut stop) = watch::channel(false);
        // It is stopped while it waits for longer than any test lasts.
        let ask = async || {
            stopper.send_replace(true);
            Err::<(), _>(problem(503, "queue-full", Some(Duration::from_secs(3_600))))
        };
        let long = Duration::from_secs(7_200);
        assert!(matches!(persist(true, long, &mut stop, ask).await, Ok(None)));
        let never = async || -> Result<(), ClientError> { panic!("it was stopped") };
        assert!(matches!(persist(true, long, &mut stop, never).await, Ok(None)));
    }
}
