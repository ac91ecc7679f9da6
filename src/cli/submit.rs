//! `punctual submit`.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::output::{self, Now, Ticker};
use super::{Connect, Done, Failure, Format, jobs};
use crate::client::{Client, ClientError, JobResult, Prefer, Snapshot};
use crate::domain::job::RawJson;
use crate::wire;

#[derive(Debug, Args)]
#[command(
    about = "Submit a job, and wait for it if asked to",
    long_about = "Submit a job.\n\nPrints the job. With --wait, follows it to its end (with \
                  progress, when stderr is a terminal) and prints its result; a job that failed \
                  or was cancelled, or is not done in time, is exit code 1.\n\nA submission \
                  that gets no answer is tried again under the same idempotency key, so it makes \
                  one job. Give --key to make it one job across runs of this command too.\n\n\
                  A trace context in TRACEPARENT is continued: a job that a worker's command \
                  submits belongs to the trace of the command's own job.",
    after_long_help = "Examples:\n  \
                       punctual submit report.render --payload '{\"id\":7}'\n  \
                       punctual submit report.render --queue reports --payload @order.json --key order-7\n  \
                       echo '{\"id\":7}' | punctual submit report.render --payload - --wait 30s\n  \
                       punctual submit cleanup --delay 1h --priority -10 --json"
)]
pub(super) struct SubmitArgs {
    /// What kind of job it is, which says how to run it: 1 to 128 of a-z 0-9 . _ : -
    kind: String,
    /// The queue to put it in [default: default]
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// The input: JSON, @FILE to read it from a file, or - to read it from stdin
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    payload: Option<String>,
    /// The idempotency key: the same key makes the same job once
    #[arg(long)]
    key: Option<String>,
    /// Start it no sooner than this from now: 5s, 1h
    #[arg(long, value_parser = super::duration)]
    delay: Option<Duration>,
    /// -100 to 100; higher goes first [default: 0]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    priority: Option<i32>,
    /// How often it may be tried, 1 to 100 [default: the queue's]
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// How long to go on trying while the server gives no answer or is busy; 0s: one try
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = super::duration)]
    retry_for: Duration,
    /// Wait until it is done, at most this long if a time is given
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        default_missing_value = "forever",
        value_parser = wait
    )]
    pub(super) wait: Option<Wait>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

/// How long the server is asked to hold the submission itself: well under what proxies cut off.
const HOLD: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Forever,
    For(Duration),
}

fn wait(text: &str) -> Result<Wait, String> {
    match text {
        "forever" => Ok(Wait::Forever),
        time => super::duration(time).map(Wait::For),
    }
}

pub(super) async fn run(args: SubmitArgs) -> Done {
    let mut client = args.connect.client()?.retry_for(args.retry_for);
    // As OpenTelemetry hands a context to a command. A worker's command gets it from its job.
    if let Ok(context) = std::env::var("TRACEPARENT") {
        client = client.in_trace(&context);
    }
    let job = wire::Submit {
        kind: args.kind.clone(),
        payload: args.payload.as_deref().map(payload).transpose()?,
        queue: args.queue.clone(),
        priority: args.priority,
        delay_seconds: args.delay.map(|d| d.as_secs_f64()),
        max_attempts: args.max_attempts,
        ..wire::Submit::default()
    };
    let until = match args.wait {
        Some(Wait::For(span)) => Some(Instant::now() + span),
        Some(Wait::Forever) | None => None,
    };
    let prefer = match args.wait {
        // The server holds for whole seconds: what is left of the time is for the looks after.
        Some(Wait::For(span)) => Prefer::wait(Duration::from_secs(span.min(HOLD).as_secs())),
        Some(Wait::Forever) => Prefer::wait(HOLD),
        None => Prefer::default(),
    };
    let mut told = false;
    let tell = |error: &ClientError, _: Duration| {
        if !std::mem::replace(&mut told, true) {
            let span = humantime::format_duration(args.retry_for);
            output::note(&format!("{error}; trying for {span} before giving up"));
        }
    };
    let submitted = client.submit_telling(&job, args.key.as_deref(), prefer, tell).await?;
    if args.wait.is_none() {
        let job = &submitted.job;
        if submitted.replayed {
            output::note("this key was used before; this is the job that it made");
        }
        let done = output::show(args.format.json, job, || jobs::describe(job, Now::read()))?;
        if std::io::stderr().is_terminal()
            && let Some(advice) = advice(&client, job).await
        {
            output::note(&advice);
        }
        return Ok(done);
    }
    let mut job = follow(&client, submitted, until).await?.job;
    if job.done || args.format.json {
        return finish(&client, &job, args.format.json).await;
    }
    // Why it waits may have changed since it was last seen, which is no change of the job.
    job = client.show(&job.job_id).await.unwrap_or(job);
    let mut message = verdict(&job);
    if let Some(advice) = advice(&client, &job).await {
        let _ = write!(message, "; {advice}");
    }
    Err(Failure::no(message))
}

/// What a person can do about a job that waits for something they may have forgotten.
async fn advice(client: &Client, job: &wire::Job) -> Option<String> {
    let queue = &job.queue;
    match job.pending_reason.as_deref()? {
        "queue_paused" => {
            Some(format!("queue {queue} is paused; `punctual queues resume {queue}` goes on"))
        }
        "queued" | "no_workers" => {
            // Advice that cannot be had is no failure.
            let workers = client.workers().await.ok()?.workers;
            let takes = |w: &wire::Worker| {
                w.queues.contains(queue) && (w.kinds.is_empty() || w.kinds.contains(&job.kind))
            };
            (!workers.iter().any(takes)).then(|| {
                format!(
                    "no worker takes it: start one with `punctual work --queue {queue} --exec CMD`"
                )
            })
        }
        _ => None,
    }
}

/// Reads and checks the payload, so that a mistake is told before anything is sent.
fn payload(text: &str) -> Result<RawJson, Failure> {
    let (json, source) = match text.strip_prefix('@') {
        _ if text == "-" => {
            let mut json = String::new();
            std::io::stdin().read_to_string(&mut json).map_err(|e| {
                Failure::usage(format!("cannot read the payload from stdin: {e}; pipe UTF-8 in"))
            })?;
            (json, "stdin".to_owned())
        }
        Some(file) => {
            let json = std::fs::read_to_string(file).map_err(|e| {
                Failure::usage(format!("cannot read the payload: {file}: {e}; check the path"))
            })?;
            (json, file.to_owned())
        }
        None => (text.to_owned(), "--payload".to_owned()),
    };
    match serde_json::from_str::<&serde_json::value::RawValue>(&json) {
        Ok(raw) => Ok(RawJson::trusted(raw.get())),
        Err(e) => Err(Failure::usage(format!(
            "the payload from {source} is not JSON: {e}; a text needs quotes: '\"text\"'"
        ))),
    }
}

async fn follow(
    client: &Client,
    submitted: Snapshot,
    until: Option<Instant>,
) -> Result<Snapshot, Failure> {
    let mut ticker = Ticker::new();
    let id = submitted.job.job_id.clone();
    ticker.show(&progress_line(&submitted.job));
    let waiting = client.wait_until_done(submitted, until, |job| ticker.show(&progress_line(job)));
    let seen = waiting.await;
    ticker.clear();
    seen.map_err(|error| {
        let mut failure = Failure::from(error);
        failure.message = format!("{}; the job is {id}", failure.message);
        failure
    })
}

pub(super) fn progress_line(job: &wire::Job) -> String {
    let mut line = format!("{} {}", job.job_id, job.status);
    if let Some(reason) = &job.pending_reason {
        let _ = write!(line, " ({reason})");
    }
    if job.attempt > 1 {
        let _ = write!(line, ", attempt {}/{}", job.attempt, job.max_attempts);
    }
    if let Some(progress) = &job.progress {
        if let Some(percent) = progress.percent {
            let _ = write!(line, ", {percent:.0}%");
        }
        if let Some(message) = &progress.message {
            let _ = write!(line, ", {message}");
        }
    }
    output::printable(&line)
}

/// Prints what a followed job came to.
async fn finish(client: &Client, job: &wire::Job, as_json: bool) -> Done {
    if as_json {
        output::json(job)?;
    }
    match job.status.as_str() {
        "completed" if as_json => Ok(ExitCode::SUCCESS),
        "completed" => match &job.result {
            Some(result) => {
                output::print(&format!("{}\n", result.as_str()))?;
                Ok(ExitCode::SUCCESS)
            }
            None => print_result(client, &job.job_id).await,
        },
        _ => Err(Failure::no(verdict(job))),
    }
}

/// The one line for a job that did not complete.
pub(super) fn verdict(job: &wire::Job) -> String {
    let id = &job.job_id;
    match (job.status.as_str(), &job.error) {
        ("failed", Some(error)) => output::printable(&format!(
            "job {id} failed after {} attempts: {}: {}; see `punctual jobs timeline {id}`",
            job.attempt,
            error.kind,
            last_line(&error.message),
        )),
        ("cancelled", _) => {
            let why = job.cancel_reason.as_deref().unwrap_or("no reason given");
            output::printable(&format!("job {id} was cancelled: {why}"))
        }
        (status, _) => format!(
            "job {id} is still {status}, not lost; look again with `punctual jobs show {id}`"
        ),
    }
}

/// The last line of a message is the one that says what broke.
fn last_line(message: &str) -> &str {
    message.trim_end().lines().next_back().unwrap_or("no message")
}

/// Prints the bytes of a result as they are; JSON gets a line's end.
pub(super) async fn print_result(client: &Client, id: &str) -> Done {
    match client.result(id).await? {
        JobResult::Here { content_type, bytes } => {
            output::print_bytes(&bytes)?;
            if content_type.starts_with("application/json") && !bytes.ends_with(b"\n") {
                output::print("\n")?;
            }
            Ok(ExitCode::SUCCESS)
        }
        JobResult::Elsewhere(place) => Err(Failure::no(format!(
            "the result of job {id} is stored elsewhere; fetch it from {}",
            output::printable(&place)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn payloads_are_checked_before_they_are_sent() {
        assert_eq!(payload(" {\"a\": 1.0} ").unwrap().as_str(), "{\"a\": 1.0}");
        for bad in ["{", "hello", "", "@/no/such/file"] {
            let failure = payload(bad).unwrap_err();
            assert_eq!(failure.code, super::super::USAGE, "{bad}");
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"[1]\n").unwrap();
        assert_eq!(payload(&format!("@{}", file.path().display())).unwrap().as_str(), "[1]");
    }

    #[test]
    fn verdicts() {
        let mut job = wire::Job {
            job_id: "j".into(),
            status: "failed".into(),
            attempt: 3,
            ..wire::Job::default()
        };
        job.error = Some(wire::JobError {
            kind: "exit-1".into(),
            message: "Traceback\nboom\n".into(),
            ..wire::JobError::default()
        });
        assert!(verdict(&job).starts_with("job j failed after 3 attempts: exit-1: boom; see"));
        job.status = "running".into();
        assert!(verdict(&job).contains("still running"));
    }

    #[test]
    fn progress_in_a_line() {
        let job = wire::Job {
            job_id: "j".into(),
            status: "running".into(),
            attempt: 2,
            max_attempts: 5,
            progress: Some(wire::JobProgress {
                percent: Some(40.4),
                message: Some("page\r4".into()),
                ..wire::JobProgress::default()
            }),
            ..wire::Job::default()
        };
        assert_eq!(progress_line(&job), "j running, attempt 2/5, 40%, page 4");
    }
}
