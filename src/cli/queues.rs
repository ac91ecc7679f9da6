//! `punctual queues`.

mod set;

use std::time::Duration;

use clap::{Args, Subcommand};

use super::output::{self, Facts, Now, Table};
use super::{Connect, Done, Format};
use crate::domain::time::Timestamp;
use crate::wire;

#[derive(Debug, Args)]
#[command(
    about = "List, show, pause, resume and set queues",
    after_long_help = "Examples:\n  punctual queues list\n  \
                       punctual queues pause reports --reason 'printer is broken' --for 1h\n  \
                       punctual queues resume reports\n  \
                       punctual queues set reports max_running=10 stuck_after=30m"
)]
pub(super) struct QueuesArgs {
    #[command(subcommand)]
    command: QueuesCommand,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Subcommand)]
enum QueuesCommand {
    /// List queues and what waits in them
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Show one queue
    Show {
        /// The queue's name
        #[arg(value_parser = super::name)]
        queue: String,
        #[command(flatten)]
        format: Format,
    },
    /// Stop handing out a queue's jobs; submits are still taken, and what runs goes on
    Pause {
        /// The queue's name
        #[arg(value_parser = super::name)]
        queue: String,
        /// Why, for whoever looks at the queue later
        #[arg(long)]
        reason: Option<String>,
        /// Resume by itself at this moment, RFC 3339: 2027-01-01T08:00:00Z
        #[arg(long, value_name = "MOMENT", value_parser = moment)]
        until: Option<Timestamp>,
        /// Resume by itself after this time: 30m, 2h
        #[arg(long = "for", value_name = "TIME", conflicts_with = "until", value_parser = super::duration)]
        span: Option<Duration>,
        #[command(flatten)]
        format: Format,
    },
    /// Change a queue's settings at once, over the configuration, until they are unset
    Set(set::SetArgs),
    /// Hand out a paused queue's jobs again
    Resume {
        /// The queue's name
        #[arg(value_parser = super::name)]
        queue: String,
        #[command(flatten)]
        format: Format,
    },
}

/// The longest wait that the server tells: a day or more.
const DAY_SECONDS: f64 = 86_400.0;

fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text)
        .ok_or_else(|| "not an RFC 3339 moment; write it like 2027-01-01T08:00:00Z".to_owned())
}

pub(super) async fn run(args: QueuesArgs) -> Done {
    let client = args.connect.client()?;
    match args.command {
        QueuesCommand::List { format } => {
            let list = client.queues().await?;
            let done = output::show(format.json, &list, || table(&list.queues))?;
            if list.queues.is_empty() && !format.json {
                output::note("no queues yet: a queue is there with its first job");
            }
            Ok(done)
        }
        QueuesCommand::Show { queue, format } => one(&client.queue(&queue).await?, format),
        QueuesCommand::Pause { queue, reason, until, span, format } => {
            let until = until.or_else(|| span.map(|span| Now::read().plus(span)));
            let request = wire::Pause { reason, until: until.map(Timestamp::to_rfc3339) };
            one(&client.pause(&queue, &request).await?, format)
        }
        QueuesCommand::Set(args) => set::run(&client, args).await,
        QueuesCommand::Resume { queue, format } => one(&client.resume(&queue).await?, format),
    }
}

fn one(queue: &wire::Queue, format: Format) -> Done {
    output::show(format.json, queue, || describe(queue, Now::read()))
}

fn table(queues: &[wire::Queue]) -> String {
    let mut table = Table::new(&[
        "QUEUE",
        ">ELIGIBLE",
        ">OLDEST",
        ">STUCK",
        ">RUNNING",
        ">RETRYING",
        ">SCHEDULED",
        ">WORKERS",
        ">SLOTS",
        ">RATE",
        ">WAIT",
        "STATE",
    ]);
    for queue in queues {
        table.row([
            queue.name.clone(),
            queue.jobs.eligible.to_string(),
            oldest(queue),
            queue.stuck.to_string(),
            running(queue, "/"),
            queue.jobs.retry_backoff.to_string(),
            queue.jobs.scheduled.to_string(),
            queue.workers.to_string(),
            queue.slots.to_string(),
            output::rate(queue.start_rate_per_second),
            wait(queue),
            if queue.paused { "paused".into() } else { "open".into() },
        ]);
    }
    table.render()
}

fn oldest(queue: &wire::Queue) -> String {
    if queue.oldest_pending_age_seconds > 0.0 {
        output::span(queue.oldest_pending_age_seconds)
    } else {
        "-".to_owned()
    }
}

/// And as many as may.
fn running(queue: &wire::Queue, of: &str) -> String {
    let most = queue.limits.max_running.map(|max| format!("{of}{max}"));
    format!("{}{}", queue.jobs.running, most.unwrap_or_default())
}

/// Until what is eligible now has started.
fn wait(queue: &wire::Queue) -> String {
    match queue.estimated_wait_seconds {
        s if s <= 0.0 => "-".to_owned(),
        s if s >= DAY_SECONDS => ">1d".to_owned(),
        s => output::span(s),
    }
}

fn describe(queue: &wire::Queue, now: Now) -> String {
    let mut facts = Facts::default();
    facts.add("queue", &*queue.name);
    facts.add("state", if queue.paused { "paused" } else { "open" });
    facts.maybe("paused because", queue.paused_reason.clone());
    facts.maybe("paused since", queue.paused_at.as_ref().map(|at| now.moment(at)));
    facts.maybe("paused until", queue.paused_until.as_ref().map(|at| now.moment(at)));
    facts.add("eligible", queue.jobs.eligible.to_string());
    facts.add("oldest waits", oldest(queue));
    facts.add("stuck", queue.stuck.to_string());
    let after = queue.limits.stuck_after_seconds;
    facts.add("stuck after", after.map_or_else(|| "never".to_owned(), output::span));
    facts.add("running", running(queue, " of at most "));
    facts.add("retrying", queue.jobs.retry_backoff.to_string());
    facts.add("scheduled", queue.jobs.scheduled.to_string());
    facts.add("workers", queue.workers.to_string());
    facts.add("slots", queue.slots.to_string());
    facts.maybe("at most pending", queue.limits.max_depth.map(|max| max.to_string()));
    let most = queue.limits.start_rate_per_second.map(|limit| format!(" of at most {limit}/s"));
    let rate = output::rate(queue.start_rate_per_second);
    facts.add("start rate", format!("{rate}{}", most.unwrap_or_default()));
    facts.add("estimated wait", wait(queue));
    if queue.settings.require_idempotency_key {
        facts.add("idempotency key", "required");
    }
    facts.add("revision", queue.revision.to_string());
    for (key, set) in &queue.overrides {
        let value = set.value.as_str().map_or_else(|| set.value.to_string(), str::to_owned);
        let when = now.moment(&set.set_at);
        facts.add("override", format!("{key} = {value}, set by {} at {when}", set.set_by));
    }
    facts.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_waits_and_why() {
        let queue = wire::Queue {
            name: "reports".into(),
            paused: true,
            paused_reason: Some("printer".into()),
            jobs: wire::QueueJobs { eligible: 12, running: 3, ..wire::QueueJobs::default() },
            oldest_pending_age_seconds: 75.0,
            stuck: 5,
            workers: 2,
            slots: 8,
            start_rate_per_second: 0.1,
            estimated_wait_seconds: 120.0,
            limits: wire::QueueLimits {
                max_running: Some(3),
                max_depth: Some(1_000),
                start_rate_per_second: Some(2.5),
                stuck_after_seconds: Some(60.0),
            },
            ..wire::Queue::default()
        };
        assert_eq!(
            table(std::slice::from_ref(&queue)),
            "QUEUE    ELIGIBLE  OLDEST  STUCK  RUNNING  RETRYING  SCHEDULED  WORKERS  SLOTS    RATE  WAIT  STATE\n\
             reports        12   1m15s      5      3/3         0          0        2      8  0.10/s    2m  paused\n"
        );
        let text = describe(&queue, Now::read());
        assert!(text.contains("paused because   printer\n"), "{text}");
        assert!(text.contains("running          3 of at most 3\n"), "{text}");
        assert!(text.contains("stuck after      1m\n"), "{text}");
        assert!(text.contains("at most pending  1000\n"), "{text}");
        assert!(text.contains("start rate       0.10/s of at most 2.5/s\n"), "{text}");
        let set = wire::Override {
            value: 5.into(),
            set_by: "ann".into(),
            set_at: "2027-01-01T08:00:00.000Z".into(),
        };
        let queue = wire::Queue { overrides: [("max_depth".into(), set)].into(), ..queue };
        let text = describe(&queue, Now::read());
        assert!(text.contains("override         max_depth = 5, set by ann at "), "{text}");
        let idle = wire::Queue { estimated_wait_seconds: 86_400.0, ..wire::Queue::default() };
        assert_eq!((wait(&idle), wait(&wire::Queue::default())), (">1d".into(), "-".into()));
    }

    #[test]
    fn moments_are_checked() {
        assert!(moment("2027-01-01T08:00:00Z").is_ok() && moment("tomorrow").is_err());
    }
}
