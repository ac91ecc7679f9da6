//! `punctual metrics`: the catalogue of what `/metrics` serves, without a server.

use clap::Args;

use super::output::{self, Facts, Table};
use super::{Done, Failure, Format};
use crate::telemetry::catalogue::{self, Kind, Metric, Scope, Unit};

#[derive(Debug, Args)]
#[command(
    about = "List the server's metrics, or show how to read one",
    long_about = "List the metrics that the server exports at /metrics, or show how to read one. \
                  This is the catalogue of this very version; no server is asked.",
    after_long_help = "Examples:\n  punctual metrics\n  \
                       punctual metrics punctual_queue_stuck_jobs\n  \
                       punctual metrics --json"
)]
pub(super) struct MetricsArgs {
    /// The metric to show in full
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    format: Format,
}

pub(super) fn run(args: &MetricsArgs) -> Done {
    let Some(name) = &args.name else {
        output::print(&if args.format.json { catalogue::docs_json() } else { table() })?;
        return Ok(std::process::ExitCode::SUCCESS);
    };
    let metric = find(name).ok_or_else(|| unknown(name))?;
    output::show(args.format.json, &metric.described(), || describe(metric))
}

fn table() -> String {
    let mut table = Table::new(&["NAME", "TYPE", "SCOPE", "LABELS", "HELP"]);
    for metric in catalogue::ALL {
        let labels = metric.label_names().join(",");
        table.row([
            metric.name.to_owned(),
            metric.kind.as_str().to_owned(),
            metric.scope.as_str().to_owned(),
            output::dash(Some(labels.as_str())),
            first_sentence(metric.help).to_owned(),
        ]);
    }
    table.render()
}

/// The rest is for who looks at one.
fn first_sentence(help: &str) -> &str {
    help.split_once(". ").map_or(help, |(first, _)| first).trim_end_matches('.')
}

fn describe(metric: &Metric) -> String {
    let mut facts = Facts::default();
    facts.add("metric", metric.name);
    facts.add("type", metric.kind.as_str());
    if metric.unit != Unit::None {
        facts.add("unit", metric.unit.as_str());
    }
    facts.add(
        "scope",
        match metric.scope {
            Scope::Process => "process: events of one process; add replicas with sum",
            Scope::Store => "store: the same on every replica; combine with max, never sum",
            Scope::Liveness => "liveness: moments and periods of one process; compare with time()",
        },
    );
    for label in metric.labels {
        facts.add("label", format!("{}: {}", label.name, plain(&label.values.describe())));
    }
    if let Kind::Histogram(bounds) = metric.kind {
        let bounds: Vec<_> = bounds.iter().map(ToString::to_string).collect();
        facts.add("buckets", bounds.join(", "));
    }
    facts.add("help", metric.help);
    facts.add("read it", plain(metric.read).replace('…', metric.name));
    facts.maybe("debug", metric.debug);
    facts.render()
}

/// Without the marks of Markdown.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

/// By its name, or by that of one of a histogram's series.
fn find(name: &str) -> Option<&'static Metric> {
    let series = |metric: &Metric| {
        let suffix = name.strip_prefix(metric.name);
        matches!(metric.kind, Kind::Histogram(_))
            && matches!(suffix, Some("_bucket" | "_sum" | "_count"))
    };
    catalogue::ALL.iter().copied().find(|m| m.name == name || series(m))
}

fn unknown(name: &str) -> Failure {
    let near = nearest(name).map_or_else(String::new, |near| format!("did you mean {near}? "));
    let name = output::printable(name);
    Failure::no(format!("no metric is called {name}; {near}`punctual metrics` lists them all"))
}

/// One that has all of `name` in it, else the most alike.
fn nearest(name: &str) -> Option<&'static str> {
    let names = || catalogue::ALL.iter().map(|m| m.name);
    let name = name.to_lowercase();
    if let Some(whole) = names().filter(|n| n.contains(&name)).min_by_key(|n| n.len()) {
        return Some(whole).filter(|_| !name.is_empty());
    }
    names()
        .map(|known| (strsim::normalized_damerau_levenshtein(known, &name), known))
        .filter(|(likeness, _)| *likeness > 0.4)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_row_and_can_be_shown() {
        let table = table();
        assert_eq!(table.lines().count(), catalogue::ALL.len() + 1);
        for metric in catalogue::ALL {
            let row = table.lines().find(|l| l.split_whitespace().next() == Some(metric.name));
            let row = row.unwrap_or_else(|| panic!("no {}", metric.name));
            assert!(row.contains(metric.kind.as_str()) && row.contains(metric.scope.as_str()));
            assert!(!row.ends_with('.'), "{row}");
            let shown = describe(find(metric.name).unwrap());
            assert!(shown.contains(metric.help) && !shown.contains('…'), "{shown}");
        }
    }

    #[test]
    fn one_metric_in_full() {
        let shown = describe(find("punctual_job_run_seconds_bucket").unwrap());
        for part in [
            "metric   punctual_job_run_seconds\n",
            "type     histogram\n",
            "unit     seconds\n",
            "scope    process: ",
            "label    queue: the queue, or _other beyond the cap\n",
            "label    outcome: completed, failed\n",
            "buckets  0.005, ",
            "read it  histogram_quantile(",
            "rate(punctual_job_run_seconds_bucket{",
        ] {
            assert!(shown.contains(part), "{part:?} is not in {shown}");
        }
        assert!(find("punctual_jobs_bucket").is_none() && find("punctual_job").is_none());
    }

    #[test]
    fn slips_are_understood() {
        for (slip, meant) in [
            ("punctual_queue_stuck_job", Some("punctual_queue_stuck_jobs")),
            ("punctual_queue_stukc_jobs", Some("punctual_queue_stuck_jobs")),
            ("queue_depth", Some("punctual_queue_depth")),
            ("PUNCTUAL_QUEUE_DEPTH", Some("punctual_queue_depth")),
            ("punctual_job_wait_second_bucket", Some("punctual_job_wait_seconds")),
            ("zebra", None),
            ("", None),
        ] {
            assert_eq!(nearest(slip), meant, "{slip}");
        }
        let failure = unknown("zebra\n");
        assert_eq!(failure.code, 1);
        assert!(failure.message.contains("no metric is called zebra ;"), "{}", failure.message);
    }
}
