//! One action on many jobs: which ones, whether that is meant, and what became of them. The going
//! through them is [`sweep`]'s.
//!
//! Nothing is ever done to everything by accident: there must be a filter, and whoever does not
//! say `--yes` is shown the number first and asked.

mod sweep;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use super::output::{self, Now};
use super::{Done, Failure, Format, NO, jobs};
use crate::client::{Client, ListQuery};
use crate::wire;

use sweep::{End, Sweep};

pub(super) const STATUSES: [&str; 5] = ["pending", "running", "completed", "failed", "cancelled"];

/// Apart from the options of one job.
const MANY: &str = "Many jobs at once (all filters must match)";

/// One job, or all that match.
#[derive(Debug, Clone, Args)]
pub(super) struct Which {
    /// One job's id; without it, every job that the filters below match
    #[arg(value_name = "JOB")]
    pub(super) id: Option<String>,
    #[command(flatten)]
    pub(super) many: Many,
}

#[derive(Debug, Clone, Args)]
pub(super) struct Many {
    /// Jobs in this state
    #[arg(help_heading = MANY, long, conflicts_with = "id", value_parser = PossibleValuesParser::new(STATUSES))]
    status: Option<String>,
    /// Jobs of this kind
    #[arg(help_heading = MANY, long, conflicts_with = "id")]
    kind: Option<String>,
    /// Jobs of this queue
    #[arg(help_heading = MANY, long, conflicts_with = "id")]
    queue: Option<String>,
    /// Jobs with this tag
    #[arg(help_heading = MANY, long, conflicts_with = "id")]
    tag: Option<String>,
    /// Jobs that met an error of this type last: exit-1, lease-expired …
    #[arg(help_heading = MANY, long, value_name = "TYPE", conflicts_with = "id")]
    error_type: Option<String>,
    /// Jobs that finished within this time, or, to cancel them, were created in it: 30m, 1h
    #[arg(help_heading = MANY, long, value_name = "TIME", conflicts_with = "id", value_parser = super::duration)]
    since: Option<Duration>,
    /// Do it to at most so many, the newest first [default: all]
    #[arg(help_heading = MANY, long, value_name = "N", conflicts_with = "id", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Change nothing: show what matches
    #[arg(help_heading = MANY, long, conflicts_with = "id")]
    dry_run: bool,
    /// Do it without asking
    #[arg(help_heading = MANY, long, short, conflicts_with_all = ["id", "dry_run"])]
    yes: bool,
}

/// What is to be done to each.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Cancel(wire::CancelRequest),
    Retry { request: wire::RetryRequest, force: bool },
    Delete,
}

impl Action {
    const fn name(&self) -> &'static str {
        match self {
            Self::Cancel(_) => "cancel",
            Self::Retry { .. } => "retry",
            Self::Delete => "delete",
        }
    }

    const fn past(&self) -> &'static str {
        match self {
            Self::Cancel(_) => "cancelled or asked to stop",
            Self::Retry { .. } => "retried",
            Self::Delete => "deleted",
        }
    }

    /// As the list shows it: there is nothing to ask the server for.
    fn was_done(&self, job: &wire::Job) -> bool {
        match self {
            Self::Cancel(request) => job.cancel_requested_at.is_some() && !request.force,
            Self::Retry { force, .. } => job.retried_as.is_some() && !force,
            Self::Delete => false,
        }
    }

    /// The states of jobs to which it can be done, and how many of them, from the first, are meant
    /// when none is named: a job that has completed is not done again just because it matches.
    const fn states(&self) -> (&'static [&'static str], usize) {
        match self {
            Self::Cancel(_) => (&["pending", "running"], 2),
            Self::Retry { .. } => (&["failed", "cancelled", "completed"], 1),
            Self::Delete => (&["completed", "failed", "cancelled"], 3),
        }
    }
}

/// The answer for programs.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Summary {
    action: &'static str,
    dry_run: bool,
    matched: u64,
    changed: u64,
    /// What was wanted was so already.
    unchanged: u64,
    not_possible: u64,
    /// Of what was not possible: codes of problems, and how often.
    reasons: BTreeMap<String, u64>,
    /// Whether it was stopped before its end.
    interrupted: bool,
}

impl Summary {
    fn refused(&mut self, code: &str) {
        self.not_possible += 1;
        *self.reasons.entry(code.to_owned()).or_default() += 1;
    }

    /// Of those that were only counted: to how many it is still to be done.
    const fn left(&self) -> u64 {
        self.matched - self.unchanged
    }

    fn line(&self, action: &Action) -> String {
        let mut line = if self.dry_run {
            format!("{} matched, {} would be {}", self.matched, self.left(), action.past())
        } else {
            format!("{} matched, {} {}", self.matched, self.changed, action.past())
        };
        if self.unchanged > 0 {
            let _ = write!(line, ", {} were so before", self.unchanged);
        }
        if self.not_possible > 0 {
            let reasons: Vec<String> =
                self.reasons.iter().map(|(code, jobs)| format!("{code} {jobs}")).collect();
            let reasons = output::printable(&reasons.join(", "));
            let _ = write!(line, ", {} not possible ({reasons})", self.not_possible);
        }
        if self.interrupted {
            line.push_str("; stopped before the end, the rest is as it was");
        }
        line
    }
}

impl Many {
    /// The lists to go through, one after the other.
    fn queries(&self, action: &Action, now: Now) -> Result<Vec<ListQuery>, Failure> {
        let texts = [&self.status, &self.kind, &self.queue, &self.tag, &self.error_type];
        if texts.iter().all(|text| text.is_none()) && self.since.is_none() {
            return Err(Failure::usage(
                "say which: one JOB, or at least one of --status, --kind, --queue, --tag, \
                 --error-type and --since",
            ));
        }
        let (possible, usual) = action.states();
        let states = match &self.status {
            None => &possible[..usual],
            Some(status) => match possible.iter().position(|state| state == status) {
                Some(at) => &possible[at..=at],
                None => {
                    return Err(Failure::usage(format!(
                        "jobs that are {status} cannot be {}: --status takes {} here",
                        match action {
                            Action::Cancel(_) => "cancelled",
                            Action::Retry { .. } | Action::Delete => action.past(),
                        },
                        possible.join(", ")
                    )));
                }
            },
        };
        let since = self.since.map(|span| now.minus(span).to_rfc3339());
        let (created_after, finished_after) = match action {
            Action::Cancel(_) => (since, None),
            Action::Retry { .. } | Action::Delete => (None, since),
        };
        let query = |status: &&str| ListQuery {
            status: Some((*status).to_owned()),
            kind: self.kind.clone(),
            queue: self.queue.clone(),
            tag: self.tag.clone(),
            error_type: self.error_type.clone(),
            created_after: created_after.clone(),
            finished_after: finished_after.clone(),
            ..ListQuery::default()
        };
        Ok(states.iter().map(query).collect())
    }
}

/// Does it to all that match.
pub(super) async fn run(client: &Client, many: &Many, action: Action, format: Format) -> Done {
    let queries = many.queries(&action, Now::read())?;
    let asks = !many.yes && !many.dry_run;
    if asks && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Failure::usage(
            "nobody is there to be asked: add --yes to do it, or --dry-run to see what matches",
        ));
    }
    let mut sweep = Sweep { client, queries, limit: many.limit, action, expected: None };
    if many.dry_run || asks {
        let (action, dry_run) = (sweep.action.name(), many.dry_run);
        let mut found = Summary { action, dry_run, ..Summary::default() };
        let sample = sweep.count(&mut found).await?;
        if dry_run {
            return tell_matches(&sweep.action, &found, &sample, format);
        }
        if found.left() == 0 {
            return report(&found, &sweep, format);
        }
        if !confirmed(&sweep.action, found.left())? {
            return Err(Failure::no("nothing was changed"));
        }
        // Never more than was agreed to.
        (sweep.limit, sweep.expected) = (Some(found.left()), Some(found.matched));
    }
    if let (Action::Cancel(_), [pending, _]) = (&sweep.action, &sweep.queries[..]) {
        // What ran when those that wait were listed, and waited again when those that ran were, was
        // in neither list.
        sweep.queries.push(pending.clone());
    }
    let mut summary = Summary { action: sweep.action.name(), ..Summary::default() };
    let end = match sweep.run(&mut summary).await {
        Err(error) if summary.matched == 0 => return Err(error.into()),
        end => end,
    };
    summary.interrupted = !matches!(end, Ok(End { whole: true, .. }));
    let done = report(&summary, &sweep, format)?;
    match end {
        Ok(End { example, .. }) => {
            if let Some(example) = example {
                output::note(&format!("for example {}", output::printable(&example)));
            }
            Ok(done)
        }
        Err(error) => Err(error.into()),
    }
}

fn report(summary: &Summary, sweep: &Sweep<'_>, format: Format) -> Done {
    output::show(format.json, summary, || format!("{}\n", summary.line(&sweep.action)))?;
    let all = summary.not_possible == 0 && !summary.interrupted;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(NO) })
}

fn tell_matches(action: &Action, summary: &Summary, sample: &[wire::Job], format: Format) -> Done {
    output::show(format.json, summary, || {
        let mut text = String::new();
        if !sample.is_empty() {
            text.push_str(&jobs::table(sample, Now::read()));
        }
        let more = summary.left() - sample.len() as u64;
        if more > 0 {
            let _ = writeln!(text, "… and {more} more");
        }
        let _ = writeln!(text, "{}", summary.line(action));
        text
    })
}

/// Asks on the terminal. Whatever is not a yes is a no.
fn confirmed(action: &Action, matched: u64) -> Result<bool, Failure> {
    let what = if matched == 1 { "job" } else { "jobs" };
    let name = action.name();
    let mut stderr = std::io::stderr().lock();
    let asked = write!(stderr, "{name} {matched} {what}? [y/N] ").and_then(|()| stderr.flush());
    let mut answer = String::new();
    asked
        .and_then(|()| std::io::stdin().read_line(&mut answer))
        .map_err(|e| Failure::no(format!("cannot ask: {e}; add --yes to do it")))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many() -> Many {
        Many {
            status: None,
            kind: None,
            queue: None,
            tag: None,
            error_type: None,
            since: None,
            limit: None,
            dry_run: false,
            yes: false,
        }
    }

    fn retry() -> Action {
        Action::Retry { request: wire::RetryRequest::default(), force: false }
    }

    fn states(many: &Many, action: &Action) -> Result<Vec<String>, String> {
        let queries = many.queries(action, Now::read()).map_err(|f| f.message)?;
        Ok(queries.into_iter().filter_map(|q| q.status).collect())
    }

    #[test]
    fn everything_is_never_meant() {
        let cancel = Action::Cancel(wire::CancelRequest::default());
        for action in [&cancel, &retry(), &Action::Delete] {
            let all = Many { limit: Some(5), yes: true, ..many() };
            assert!(states(&all, action).unwrap_err().contains("say which"));
        }
    }

    #[test]
    fn what_is_gone_through_depends_on_what_is_done() {
        let cancel = Action::Cancel(wire::CancelRequest::default());
        let of_kind = Many { kind: Some("k".to_owned()), ..many() };
        assert_eq!(states(&of_kind, &cancel).unwrap(), ["pending", "running"]);
        assert_eq!(states(&of_kind, &retry()).unwrap(), ["failed"]);
        assert_eq!(
            states(&of_kind, &Action::Delete).unwrap(),
            ["completed", "failed", "cancelled"]
        );
        let status = |status: &str| Many { status: Some(status.to_owned()), ..many() };
        assert_eq!(states(&status("completed"), &retry()).unwrap(), ["completed"]);
        for (status_, action) in
            [("failed", &cancel), ("running", &retry()), ("pending", &Action::Delete)]
        {
            let told = states(&status(status_), action).unwrap_err();
            assert!(told.contains(status_) && told.contains("--status takes"), "{told}");
        }
        let recent = Many { since: Some(Duration::from_secs(60)), ..many() };
        let query = recent.queries(&retry(), Now::read()).ok().unwrap().remove(0);
        assert!(query.finished_after.is_some() && query.created_after.is_none());
        let query = recent.queries(&cancel, Now::read()).ok().unwrap().remove(0);
        assert!(query.finished_after.is_none() && query.created_after.is_some());
    }

    #[test]
    fn the_last_line_accounts_for_every_job() {
        let mut summary = Summary { matched: 9, changed: 5, unchanged: 1, ..Summary::default() };
        for code in ["queue-full", "job-expired", "queue-full"] {
            summary.refused(code);
        }
        assert_eq!(
            summary.line(&retry()),
            "9 matched, 5 retried, 1 were so before, 3 not possible (job-expired 1, queue-full 2)"
        );
        let stopped = Summary { matched: 2, changed: 2, interrupted: true, ..Summary::default() };
        assert_eq!(
            stopped.line(&Action::Delete),
            "2 matched, 2 deleted; stopped before the end, the rest is as it was"
        );
        let dry = Summary { matched: 3, unchanged: 1, dry_run: true, ..Summary::default() };
        assert_eq!(dry.line(&retry()), "3 matched, 2 would be retried, 1 were so before");
    }
}
