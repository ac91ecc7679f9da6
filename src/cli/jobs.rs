//! `punctual jobs`.

use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use super::bulk::{self, Action, STATUSES, Which};
use super::output::{self, Facts, Now, Table};
use super::{Connect, Done, Format, submit, watch};
use crate::client::{Client, ListQuery};
use crate::domain::job::PendingReason;
use crate::wire;

#[derive(Debug, Args)]
#[command(
    about = "List, show, watch, cancel, retry and delete jobs",
    after_long_help = "Examples:\n  punctual jobs list --status failed --kind report.render\n  \
                       punctual jobs show JOB\n  punctual jobs timeline JOB\n  \
                       punctual jobs result JOB > report.pdf\n  \
                       punctual jobs retry --status failed --since 1h"
)]
pub(super) struct JobsArgs {
    #[command(subcommand)]
    command: JobsCommand,
    #[command(flatten)]
    pub(super) connect: Connect,
}

#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// List jobs, newest first
    #[command(
        after_long_help = "Examples:\n  punctual jobs list --status pending --queue reports\n  \
                                 punctual jobs list --json --limit 1000 | jq -r '.jobs[].job_id'"
    )]
    List(ListArgs),
    /// Show one job
    Show {
        #[command(flatten)]
        job: JobArg,
        /// Show its payload too
        #[arg(long)]
        payload: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Follow a job to its end
    #[command(after_long_help = "The exit code is 0 if the job completed.\n\nExamples:\n  \
                                 punctual jobs watch JOB\n  \
                                 punctual jobs watch JOB --timeout 5m && punctual jobs result JOB")]
    Watch(watch::WatchArgs),
    /// Cancel jobs: at once if they wait, else by asking their workers to stop
    #[command(after_long_help = "Examples:\n  punctual jobs cancel JOB --reason 'not needed'\n  \
                                 punctual jobs cancel --queue reports --since 1h --dry-run")]
    Cancel {
        #[command(flatten)]
        which: Which,
        /// Why, for whoever looks at the job later
        #[arg(long)]
        reason: Option<String>,
        /// For operators: take the job from its worker at once
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Do the work of finished jobs again, as new jobs
    #[command(
        long_about = "Do the work of finished jobs again, as new jobs.\n\nThe new job has the \
                      kind, payload, priority and rules of the old one, and all of its attempts; \
                      the old one stays as it ended and says what came of it. A job that was \
                      retried before is not retried again without --force. Without --status, \
                      filters match jobs that failed.",
        after_long_help = "Examples:\n  punctual jobs retry JOB\n  \
                           punctual jobs retry --status failed --kind report.render --since 1h\n  \
                           punctual jobs retry --error-type lease-expired --dry-run"
    )]
    Retry(RetryArgs),
    /// Forget finished jobs and their results
    #[command(after_long_help = "Examples:\n  punctual jobs delete JOB\n  \
                                 punctual jobs delete --status completed --queue imports --yes")]
    Delete {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        format: Format,
    },
    /// Show what happened to a job, event by event
    Timeline {
        #[command(flatten)]
        job: JobArg,
        #[command(flatten)]
        format: Format,
    },
    /// Print a completed job's result, byte for byte
    Result {
        #[command(flatten)]
        job: JobArg,
    },
}

#[derive(Debug, Args)]
struct JobArg {
    /// The job's id
    #[arg(value_name = "JOB")]
    id: String,
}

#[derive(Debug, Args)]
struct RetryArgs {
    #[command(flatten)]
    which: Which,
    /// Put the new job in this queue [default: the old one's]
    #[arg(long, value_name = "QUEUE")]
    to_queue: Option<String>,
    /// Give the new job this priority, -100 to 100 [default: the old one's]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    priority: Option<i32>,
    /// Start it no sooner than this from now: 5s, 1h
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    delay: Option<Duration>,
    /// Make another job also of one that was retried before
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The state it is in
    #[arg(long, value_parser = PossibleValuesParser::new(STATUSES))]
    status: Option<String>,
    /// Its kind
    #[arg(long)]
    kind: Option<String>,
    /// Its queue
    #[arg(long)]
    queue: Option<String>,
    /// One of its tags
    #[arg(long)]
    tag: Option<String>,
    /// Why it waits
    #[arg(long, value_name = "REASON",
          value_parser = PossibleValuesParser::new(PendingReason::ALL.map(PendingReason::as_str)))]
    pending_reason: Option<String>,
    /// The type of its error: exit-1, lease-expired …
    #[arg(long, value_name = "TYPE")]
    error_type: Option<String>,
    /// Only jobs that could have been claimed for longer than their queue allows
    #[arg(long)]
    stuck: bool,
    /// How many, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Where the page before ended
    #[arg(long)]
    cursor: Option<String>,
    #[command(flatten)]
    format: Format,
}

pub(super) async fn run(args: JobsArgs) -> Done {
    let client = args.connect.client()?;
    match args.command {
        JobsCommand::List(args) => list(&client, args).await,
        JobsCommand::Show { job, payload, format } => {
            let job = if payload {
                client.job_with_payload(&job.id).await?
            } else {
                client.show(&job.id).await?
            };
            output::show(format.json, &job, || describe(&job, Now::read()))
        }
        JobsCommand::Watch(args) => watch::run(&client, args).await,
        JobsCommand::Cancel { which, reason, force, format } => {
            let request = wire::CancelRequest { reason, force };
            let Some(id) = which.id else {
                return bulk::run(&client, &which.many, Action::Cancel(request), format).await;
            };
            let job = client.cancel(&id, &request).await?;
            output::show(format.json, &job, || cancelled(&job))
        }
        JobsCommand::Retry(args) => retry(&client, args).await,
        JobsCommand::Delete { which, format } => {
            let Some(id) = which.id else {
                return bulk::run(&client, &which.many, Action::Delete, format).await;
            };
            client.delete(&id).await?;
            let deleted = serde_json::json!({ "job_id": id, "deleted": true });
            output::show(format.json, &deleted, || format!("{} deleted\n", output::printable(&id)))
        }
        JobsCommand::Timeline { job, format } => {
            let timeline = client.timeline(&job.id).await?;
            output::show(format.json, &timeline, || events(&timeline))
        }
        JobsCommand::Result { job } => submit::print_result(&client, &job.id).await,
    }
}

async fn retry(client: &Client, args: RetryArgs) -> Done {
    let RetryArgs { which, to_queue, priority, delay, force, format } = args;
    let run_at = delay.map(|delay| Now::read().plus(delay).to_rfc3339());
    let request = wire::RetryRequest { run_at, priority, queue: to_queue };
    let Some(id) = which.id else {
        return bulk::run(client, &which.many, Action::Retry { request, force }, format).await;
    };
    let retried = client.retry(&id, &request, force).await?;
    if retried.replayed {
        output::note("it was retried before, and this came of it; --force makes another");
    }
    output::show(format.json, &retried.job, || describe(&retried.job, Now::read()))
}

async fn list(client: &Client, args: ListArgs) -> Done {
    let query = ListQuery {
        status: args.status,
        kind: args.kind,
        queue: args.queue,
        tag: args.tag,
        pending_reason: args.pending_reason,
        error_type: args.error_type,
        stuck: args.stuck,
        limit: Some(args.limit),
        cursor: args.cursor,
        ..ListQuery::default()
    };
    let page = client.list(&query).await?;
    let done = output::show(args.format.json, &page, || table(&page.jobs, Now::read()))?;
    if page.jobs.is_empty() && !args.format.json {
        output::note("no jobs match; `punctual submit KIND` makes one");
    }
    if let (Some(cursor), false) = (&page.next_cursor, args.format.json) {
        output::note(&format!("there are more: add --cursor {cursor}"));
    }
    Ok(done)
}

pub(super) fn table(jobs: &[wire::Job], now: Now) -> String {
    let mut table = Table::new(&["JOB", "KIND", "QUEUE", "STATUS", ">TRIES", ">AGE", "NOTE"]);
    for job in jobs {
        table.row([
            job.job_id.clone(),
            job.kind.clone(),
            job.queue.clone(),
            job.status.clone(),
            format!("{}/{}", job.attempt, job.max_attempts),
            now.age(since(job)),
            note(job, now),
        ]);
    }
    table.render()
}

/// Of a job that runs the attempt's age counts, of others the job's.
fn since(job: &wire::Job) -> &str {
    let started = job.started_at.as_deref().filter(|_| job.status == "running");
    started.unwrap_or(&job.created_at)
}

/// The most telling thing about a job that fits a cell.
fn note(job: &wire::Job, now: Now) -> String {
    if let Some(error) = &job.error {
        return error.kind.clone();
    }
    if let Some(progress) = job.progress.as_ref().filter(|_| job.status == "running") {
        let percent = progress.percent.map(|p| format!("{p:.0}% "));
        let message = progress.message.as_deref().unwrap_or_default();
        return format!("{}{message}", percent.unwrap_or_default());
    }
    match (&job.pending_reason, &job.run_at) {
        (Some(reason), Some(at)) => format!("{reason}, {}", now.age(at)),
        (Some(reason), None) => reason.clone(),
        (None, _) if !job.done && job.cancel_requested_at.is_some() => "cancel requested".into(),
        (None, _) => String::new(),
    }
}

/// Everything about one job, for a person.
pub(super) fn describe(job: &wire::Job, now: Now) -> String {
    let mut facts = Facts::default();
    let moment = |at: &String| now.moment(at);
    facts.add("job", &*job.job_id);
    facts.add(
        "status",
        match &job.pending_reason {
            Some(reason) => format!("{} ({reason})", job.status),
            None => job.status.clone(),
        },
    );
    facts.add("kind", &*job.kind);
    facts.add("queue", &*job.queue);
    facts.add("priority", job.priority.to_string());
    facts.add("attempt", format!("{} of {}", job.attempt, job.max_attempts));
    facts.add("created", now.moment(&job.created_at));
    facts.maybe("runs at", job.run_at.as_ref().map(moment));
    facts.maybe("start by", job.start_by.as_ref().map(moment));
    facts.maybe("started", job.started_at.as_ref().map(moment));
    facts.maybe("finished", job.finished_at.as_ref().map(moment));
    facts.maybe("expires", job.expires_at.as_ref().map(moment));
    if let Some(progress) = &job.progress {
        let percent = progress.percent.map(|p| format!("{p:.0}% ")).unwrap_or_default();
        let message = progress.message.as_deref().unwrap_or_default();
        let at = now.age(&progress.updated_at);
        facts.add("progress", format!("{percent}{message} ({at} ago)"));
    }
    facts.maybe("cancel requested", job.cancel_requested_at.as_ref().map(moment));
    facts.maybe("cancel reason", job.cancel_reason.clone());
    facts.maybe("cancelled by", job.cancelled_by.clone());
    for (name, error) in [("error", &job.error), ("last error", &job.last_error)] {
        facts.maybe(name, error.as_ref().map(|e| format!("{}: {}", e.kind, e.message.trim_end())));
    }
    facts.maybe("result", job.result.as_ref().map(|r| r.as_str().to_owned()));
    if job.result.is_none() {
        facts.maybe("result at", job.result_url.clone());
    }
    facts.maybe("retry of", job.retry_of.clone());
    facts.maybe("retried as", job.retried_as.clone());
    facts.maybe("metadata", job.metadata.as_ref().map(|m| m.as_str().to_owned()));
    facts.maybe("tags", (!job.tags.is_empty()).then(|| job.tags.join(" ")));
    facts.maybe("trace", job.trace.as_ref().map(|t| t.submit.clone()));
    facts.maybe("payload", job.payload.as_ref().map(|p| p.as_str().to_owned()));
    let mut text = facts.render();
    if !job.attempts.is_empty() {
        text.push('\n');
        text.push_str(&attempts(&job.attempts, now));
    }
    text
}

fn attempts(attempts: &[wire::JobAttempt], now: Now) -> String {
    let mut table = Table::new(&[">ATTEMPT", "OUTCOME", "STARTED", "ENDED", "WORKER"]);
    for a in attempts {
        table.row([
            a.attempt.to_string(),
            a.outcome.clone().unwrap_or_else(|| "running".into()),
            now.moment(&a.started_at),
            a.ended_at.as_ref().map_or_else(|| "-".into(), |at| now.moment(at)),
            a.worker_id.clone(),
        ]);
    }
    table.render()
}

fn cancelled(job: &wire::Job) -> String {
    let id = output::printable(&job.job_id);
    if job.done {
        format!("{id} {}\n", output::printable(&job.status))
    } else {
        format!("{id} cancel requested; its worker is told, `punctual jobs show` shows the end\n")
    }
}

fn events(timeline: &wire::Timeline) -> String {
    let mut table = Table::new(&["AT", "EVENT", ">ATTEMPT", ">RAN", "WORKER", "REASON"]);
    for event in &timeline.events {
        table.row([
            event.at.clone(),
            event.kind.clone(),
            event.attempt.map_or_else(|| "-".into(), |n| n.to_string()),
            event.run_ms.map_or_else(|| "-".into(), |ms| output::span(ms as f64 / 1_000.0)),
            output::dash(event.worker_id.as_deref()),
            why(event),
        ]);
    }
    table.render()
}

fn why(event: &wire::TimelineEvent) -> String {
    match (&event.reason, &event.retry_of, &event.retried_as) {
        (Some(reason), _, _) => reason.clone(),
        (None, Some(source), _) => format!("retry of {source}"),
        (None, None, Some(retry)) => format!("as {retry}"),
        (None, None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::RawJson;

    fn job() -> wire::Job {
        wire::Job {
            job_id: "0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7".into(),
            kind: "report.render".into(),
            queue: "default".into(),
            status: "pending".into(),
            pending_reason: Some("no_workers".into()),
            max_attempts: 5,
            created_at: "?".into(),
            ..wire::Job::default()
        }
    }

    #[test]
    fn lists_whole_ids_and_why_they_wait() {
        assert_eq!(
            table(&[job()], Now::read()),
            "JOB                                   KIND           QUEUE    STATUS   TRIES  AGE  NOTE\n\
             0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7  report.render  default  pending    0/5    ?  no_workers\n"
        );
    }

    #[test]
    fn describes_an_end() {
        let done = wire::Job {
            status: "completed".into(),
            done: true,
            pending_reason: None,
            result: Some(RawJson::trusted("null")),
            ..job()
        };
        let text = describe(&done, Now::read());
        assert!(
            text.contains("status    completed\n") && text.contains("result    null\n"),
            "{text}"
        );
        assert_eq!(cancelled(&done), format!("{} completed\n", done.job_id));
    }

    #[test]
    fn a_running_jobs_note_is_its_progress() {
        let progress = wire::JobProgress {
            percent: Some(40.0),
            message: Some("page 4".into()),
            ..wire::JobProgress::default()
        };
        let running = wire::Job {
            status: "running".into(),
            pending_reason: None,
            progress: Some(progress),
            ..job()
        };
        assert_eq!(note(&running, Now::read()), "40% page 4");
    }
}
