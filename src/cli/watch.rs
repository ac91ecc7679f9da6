//! `punctual jobs watch`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::output::{self, Ticker};
use super::{Done, Failure, Format, submit};
use crate::client::{Client, Poll};
use crate::wire;

#[derive(Debug, Args)]
pub(super) struct WatchArgs {
    /// The job's id
    #[arg(value_name = "JOB")]
    id: String,
    /// Give up after this time: the job goes on
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    format: Format,
}

/// Prints a line for each state that was noticed, and on a terminal the progress in between. With
/// `--json` the job alone, as it ended.
pub(super) async fn run(client: &Client, args: WatchArgs) -> Done {
    let until = args.timeout.map(|span| Instant::now() + span);
    let first = match client.job(&args.id, None, None).await? {
        Poll::Changed(seen) => *seen,
        // Not asked for, so nobody can have answered it.
        Poll::Unchanged { .. } => return Err(Failure::no("the server sent no job; report this")),
    };
    let mut lines = Lines { last: String::new(), quiet: args.format.json, ticker: Ticker::new() };
    let mut broken = lines.tell(&first.job);
    let followed = client
        .wait_until_done(first, until, |job| {
            let told = lines.tell(job);
            if broken.is_ok() {
                broken = told;
            }
        })
        .await;
    lines.ticker.clear();
    broken?;
    let job = followed?.job;
    if args.format.json {
        output::json(&job)?;
    }
    if let Some(retry) = job.retried_as.as_ref().filter(|_| job.done) {
        output::note(&format!("it was retried as {}", output::printable(retry)));
    }
    match job.status.as_str() {
        "completed" => Ok(ExitCode::SUCCESS),
        _ => Err(Failure::no(submit::verdict(&job))),
    }
}

struct Lines {
    last: String,
    quiet: bool,
    ticker: Ticker,
}

impl Lines {
    fn tell(&mut self, job: &wire::Job) -> Result<(), Failure> {
        if self.quiet {
            return Ok(());
        }
        let state = state(job);
        if state == self.last {
            self.ticker.show(&submit::progress_line(job));
            return Ok(());
        }
        self.ticker.clear();
        let told = output::print(&format!("{}  {state}\n", output::printable(&job.updated_at)));
        self.last = state;
        told
    }
}

/// What is worth a line when it changes.
fn state(job: &wire::Job) -> String {
    let mut line = job.status.clone();
    if let Some(reason) = &job.pending_reason {
        let _ = write!(line, " ({reason})");
    }
    if job.status == "running" {
        let _ = write!(line, ", attempt {} of {}", job.attempt, job.max_attempts);
        if job.cancel_requested_at.is_some() {
            line.push_str(", cancel requested");
        }
    }
    if let Some(error) =
        job.error.as_ref().or(job.last_error.as_ref()).filter(|_| job.status != "running")
    {
        let _ = write!(line, ": {}", error.kind);
    }
    output::printable(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_told_once() {
        let mut job = wire::Job {
            status: "running".into(),
            attempt: 2,
            max_attempts: 5,
            ..wire::Job::default()
        };
        assert_eq!(state(&job), "running, attempt 2 of 5");
        let error = wire::JobError { kind: "boom\n".into(), ..wire::JobError::default() };
        job.last_error = Some(error);
        assert_eq!(state(&job), "running, attempt 2 of 5", "that was the attempt before");
        job.status = "pending".into();
        job.pending_reason = Some("retry_backoff".into());
        assert_eq!(state(&job), "pending (retry_backoff): boom ");
    }
}
