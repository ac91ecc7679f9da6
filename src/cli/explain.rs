//! `punctual explain`.

use std::cmp::Reverse;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::output::{self, Facts, Now, Table};
use super::{Connect, Done, Failure, Format, NO};
use crate::client::{Client, ClientError};
use crate::wire::{self, FLOWING};

#[derive(Debug, Args)]
#[command(
    about = "Say why a job or a queue is not moving, and what to do",
    long_about = "Say why a job or a queue is not moving, and what to do.\n\nPrints the verdict, \
                  the evidence that it was judged by, and the next step. An id is a job, every \
                  other name a queue. Without either, every queue in which jobs wait for a \
                  worker.\n\nThe exit code is 1 if the job, or some job of the queue, is stuck: \
                  it could have been claimed for longer than stuck_after, and was not.",
    after_long_help = "Examples:\n  punctual explain\n  punctual explain reports\n  \
                       punctual explain 0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7 --json"
)]
pub(super) struct ExplainArgs {
    /// A job's id or a queue's name [default: every queue in which jobs wait]
    #[arg(value_name = "JOB|QUEUE")]
    target: Option<String>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

/// Queues that the overview asks about, the most stuck first.
const QUEUES_SHOWN: usize = 50;

/// Of the oldest jobs.
const IDS_SHOWN: usize = 3;

pub(super) async fn run(args: ExplainArgs) -> Done {
    let client = args.connect.client()?;
    let json = args.format.json;
    match args.target {
        None => overview(&client, json).await,
        Some(id) if is_id(&id) => {
            let job = client.explain_job(&id).await?;
            output::show(json, &job, || of_job(&job, Now::read()))?;
            Ok(exit(job.stuck))
        }
        Some(queue) => {
            let queue = client.explain_queue(&queue).await?;
            output::show(json, &queue, || of_queue(&queue, Now::read()))?;
            Ok(exit(queue.verdict != FLOWING))
        }
    }
}

/// A queue is hardly ever called so.
fn is_id(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::try_parse(text).is_ok()
}

fn exit(stuck: bool) -> ExitCode {
    if stuck { ExitCode::from(NO) } else { ExitCode::SUCCESS }
}

#[derive(Serialize)]
struct Overview {
    queues: Vec<wire::QueueExplanation>,
}

async fn overview(client: &Client, json: bool) -> Done {
    let all = client.queues().await.map_err(no_overview)?.queues;
    let known = all.len() as u64;
    let mut waiting: Vec<wire::Queue> =
        all.into_iter().filter(|q| q.stuck > 0 || q.jobs.eligible > 0).collect();
    waiting.sort_by_key(|q| Reverse((q.stuck, q.jobs.eligible)));
    let more = waiting.len().saturating_sub(QUEUES_SHOWN);
    let mut queues = Vec::new();
    for queue in waiting.iter().take(QUEUES_SHOWN) {
        queues.push(client.explain_queue(&queue.name).await?);
    }
    let overview = Overview { queues };
    let done = output::show(json, &overview, || of_all(&overview.queues, known, Now::read()))?;
    if more > 0 {
        output::note(&format!("jobs wait in {more} more queues; see `punctual queues list`"));
    }
    Ok(done)
}

fn no_overview(error: ClientError) -> Failure {
    let outage = error.code() == Some("storage-unavailable");
    let mut failure = Failure::from(error);
    if outage {
        failure.message.push_str("; `punctual explain QUEUE` is answered from memory");
    }
    failure
}

fn of_all(queues: &[wire::QueueExplanation], known: u64, now: Now) -> String {
    let kinds = queues.iter().flat_map(|q| q.kinds.iter().map(move |k| (q, k)));
    let kinds: Vec<_> =
        kinds.filter(|(_, k)| k.verdict != FLOWING || k.evidence.eligible > 0).collect();
    if kinds.is_empty() {
        return format!("all flows: no job waits for a worker in {}\n", count(known, "queue"));
    }
    let mut table = Table::new(&[
        "QUEUE",
        "KIND",
        "VERDICT",
        ">STUCK",
        ">SINCE",
        ">ELIGIBLE",
        ">OLDEST",
        ">RUNNING",
        ">WORKERS",
    ]);
    for (queue, kind) in &kinds {
        let evidence = &kind.evidence;
        table.row([
            queue.queue.clone(),
            kind.kind.clone(),
            kind.verdict.clone(),
            kind.stuck.to_string(),
            kind.since.as_ref().map_or_else(|| "-".to_owned(), |at| now.age(at)),
            evidence.eligible.to_string(),
            evidence.oldest_age_seconds.map_or_else(|| "-".to_owned(), output::span),
            evidence.running.to_string(),
            evidence.workers_present.to_string(),
        ]);
    }
    let mut text = table.render();
    text.push('\n');
    for (queue, kind) in &kinds {
        let line = format!("{}, {}: {}", queue.queue, kind.kind, kind.next_step);
        text.push_str(&output::printable(&line));
        text.push('\n');
    }
    text
}

fn of_queue(queue: &wire::QueueExplanation, now: Now) -> String {
    let mut text = format!("queue {}: {}", queue.queue, queue.verdict);
    if queue.age_seconds > 0.0 {
        text = format!("{text}, as it was {} ago", output::span(queue.age_seconds));
    }
    if queue.kinds.is_empty() {
        text.push_str(if queue.verdict == FLOWING {
            "; nothing waits or runs"
        } else {
            "; nothing of it was stuck when the store last answered"
        });
    }
    text = output::printable(&text);
    text.push('\n');
    for kind in &queue.kinds {
        let head = format!("kind {}: {}", kind.kind, kind.verdict);
        let stuck = (kind.verdict != FLOWING)
            .then(|| format!(", {} stuck{}", count(kind.stuck, "job"), since(kind, now)));
        text.push('\n');
        text.push_str(&output::printable(&(head + &stuck.unwrap_or_default())));
        text.push('\n');
        let mut facts = of_evidence(&kind.evidence, now);
        facts.maybe("oldest jobs", some_of(&kind.oldest_jobs));
        facts.add("next step", &*kind.next_step);
        text.push_str(&indented(&facts));
    }
    text
}

fn since(kind: &wire::KindExplanation, now: Now) -> String {
    kind.since.as_ref().map_or_else(String::new, |at| format!(" since {}", now.moment(at)))
}

fn of_job(job: &wire::JobExplanation, now: Now) -> String {
    let mut head = format!("job {}: {}", job.job_id, job.verdict);
    if job.stuck {
        head.push_str(", stuck");
        let since = job.since.as_ref().map(|at| format!(" since {}", now.moment(at)));
        head.push_str(&since.unwrap_or_default());
    }
    let mut facts = Facts::default();
    facts.add("status", &*job.status);
    facts.add("kind", &*job.kind);
    facts.add("queue", &*job.queue);
    if let Some(evidence) = &job.evidence {
        facts.extend(of_evidence(evidence, now));
    }
    facts.add("next step", &*job.next_step);
    format!("{}\n{}", output::printable(&head), indented(&facts))
}

/// What the verdict was judged by, for a person.
fn of_evidence(e: &wire::Evidence, now: Now) -> Facts {
    let mut facts = Facts::default();
    let moment = |at: &Option<String>| at.as_ref().map(|at| now.moment(at));
    facts.maybe("store", e.store_degraded.then_some("does not answer as it should"));
    facts.maybe("paused since", moment(&e.paused_at));
    let oldest = e.oldest_age_seconds.map(|age| format!(", the oldest for {}", output::span(age)));
    facts.add("eligible", format!("{}{}", e.eligible, oldest.unwrap_or_default()));
    facts.add(
        "stuck after",
        e.stuck_after_seconds.map_or_else(|| "never: the watchdog is off".to_owned(), output::span),
    );
    let most = e.max_running.map(|max| format!(", at most {max}"));
    let most = most.unwrap_or_default();
    facts.add(
        "running",
        format!("{} of this kind, {} in the queue{most}", e.running, e.queue_running),
    );
    if e.workers == 0 {
        facts.add("workers", "none");
    } else {
        let seen = moment(&e.last_seen).map(|at| format!(", last seen {at}"));
        let seen = seen.unwrap_or_default();
        facts.add("workers", format!("{} of {} present{seen}", e.workers_present, e.workers));
        facts.add(
            "capacity",
            format!(
                "{}, {}, {} waiting",
                count(e.slots, "slot"),
                count(e.leases, "lease"),
                count(e.parked_claims, "claim")
            ),
        );
    }
    facts.maybe("last empty claim", moment(&e.last_empty_claim));
    facts.maybe("last start", moment(&e.last_start));
    facts.maybe("last settlement", moment(&e.last_settlement));
    facts.maybe("start rate", start_rate(e));
    // Priorities matter to whom other ones overtake.
    let higher = moment(&e.last_higher_start).zip(e.oldest_priority);
    facts.maybe(
        "last overtaken",
        higher.map(|(at, own)| format!("{at}, by more than priority {own}")),
    );
    facts.maybe("run limit", (e.leases > 0).then(|| output::span(e.run_limit_seconds)));
    facts.maybe("last error", e.last_error.clone());
    facts.maybe("trace", e.trace_id.clone());
    facts
}

/// And what it may be at most.
fn start_rate(e: &wire::Evidence) -> Option<String> {
    let most = e.start_rate_limit_per_second.map(|limit| format!(", at most {limit}/s"));
    let rate = e.start_rate_per_second.map(output::rate)?;
    Some(format!("{rate}{}", most.unwrap_or_default()))
}

fn some_of(ids: &[String]) -> Option<String> {
    let more = ids.len().saturating_sub(IDS_SHOWN);
    let shown = ids.iter().take(IDS_SHOWN).cloned().collect::<Vec<_>>().join(" ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!shown.is_empty()).then(|| shown + &more)
}

fn indented(facts: &Facts) -> String {
    facts.render().lines().flat_map(|line| ["  ", line, "\n"]).collect()
}

fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuck() -> wire::QueueExplanation {
        wire::QueueExplanation {
            queue: "reports".into(),
            verdict: "no_workers".into(),
            kinds: vec![wire::KindExplanation {
                kind: "render".into(),
                verdict: "no_workers".into(),
                since: Some("?".into()),
                stuck: 1,
                oldest_jobs: ["a", "b", "c", "d", "e"].map(String::from).to_vec(),
                evidence: wire::Evidence {
                    eligible: 12,
                    oldest_age_seconds: Some(372.0),
                    stuck_after_seconds: Some(300.0),
                    queue_running: 3,
                    max_running: Some(8),
                    start_rate_per_second: Some(0.0),
                    ..wire::Evidence::default()
                },
                next_step: "start a worker".into(),
            }],
            ..wire::QueueExplanation::default()
        }
    }

    #[test]
    fn a_queue_is_explained_with_its_evidence() {
        assert_eq!(
            of_queue(&stuck(), Now::read()),
            "queue reports: no_workers\n\
             \n\
             kind render: no_workers, 1 job stuck since ?\n  \
               eligible     12, the oldest for 6m12s\n  \
               stuck after  5m\n  \
               running      0 of this kind, 3 in the queue, at most 8\n  \
             workers      none\n  \
             start rate   0/s\n  \
               oldest jobs  a b c and 2 more\n  \
               next step    start a worker\n"
        );
        let mut silent = stuck();
        silent.kinds[0].evidence.workers = 2;
        silent.kinds[0].evidence.parked_claims = 1;
        silent.kinds[0].evidence.last_seen = Some("?".into());
        let text = of_queue(&silent, Now::read());
        assert!(text.contains("workers      0 of 2 present, last seen ?\n"), "{text}");
        assert!(text.contains("capacity     0 slots, 0 leases, 1 claim waiting\n"), "{text}");
        let empty = wire::QueueExplanation {
            queue: "q".into(),
            verdict: FLOWING.into(),
            age_seconds: 12.0,
            ..wire::QueueExplanation::default()
        };
        assert_eq!(
            of_queue(&empty, Now::read()),
            "queue q: flowing, as it was 12s ago; nothing waits or runs\n"
        );
        let unknown = wire::QueueExplanation { verdict: "store_degraded".into(), ..empty };
        let text = of_queue(&unknown, Now::read());
        assert!(text.ends_with("nothing of it was stuck when the store last answered\n"), "{text}");
    }

    #[test]
    fn an_overview_is_a_table_and_what_to_do() {
        assert_eq!(
            of_all(&[stuck()], 3, Now::read()),
            "QUEUE    KIND    VERDICT     STUCK  SINCE  ELIGIBLE  OLDEST  RUNNING  WORKERS\n\
             reports  render  no_workers      1      ?        12   6m12s        0        0\n\
             \n\
             reports, render: start a worker\n"
        );
        assert_eq!(
            of_all(&[], 1, Now::read()),
            "all flows: no job waits for a worker in 1 queue\n"
        );
    }

    #[test]
    fn a_job_that_is_not_stuck_says_so_by_not_saying_it() {
        let job = wire::JobExplanation {
            job_id: "1".into(),
            queue: "q".into(),
            kind: "k".into(),
            status: "pending".into(),
            verdict: "scheduled".into(),
            next_step: "it may start at noon".into(),
            ..wire::JobExplanation::default()
        };
        assert_eq!(
            of_job(&job, Now::read()),
            "job 1: scheduled\n  status     pending\n  kind       k\n  queue      q\n  \
             next step  it may start at noon\n"
        );
        let stuck = wire::JobExplanation {
            stuck: true,
            verdict: "no_workers".into(),
            evidence: Some(wire::Evidence::default()),
            ..job
        };
        let text = of_job(&stuck, Now::read());
        assert!(text.starts_with("job 1: no_workers, stuck\n"), "{text}");
        assert!(text.contains("stuck after  never: the watchdog is off\n"), "{text}");
    }

    #[test]
    fn ids_are_jobs_and_the_rest_are_queues() {
        assert!(is_id("0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7"));
        assert!(is_id("0199C8F2-7A31-7C44-9D2E-5B1C4F80A3E7"), "the server says what is wrong");
        assert!(!is_id("0199c8f27a317c449d2e5b1c4f80a3e7") && !is_id("reports"));
    }
}
