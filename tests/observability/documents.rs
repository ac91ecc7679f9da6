//! The words of the documents: every metric that they name exists, and what the catalogue advises
//! keeps its own rules.

use promql_parser::parser::Expr;
use punctual::telemetry::catalogue::{self, Kind, Metric};

use crate::finding::Findings;
use crate::known::{self, World};
use crate::query::{self, Use, Variables};
use crate::{files, rules, selectors};

const OURS: [&str; 3] = ["punctual_", "http_server_", "process_"];

/// The metrics that a text names, with the matchers behind them.
fn mentions(text: &str) -> Vec<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut all = Vec::new();
    let mut from = 0;
    while let Some(start) = text[from..].find(word).map(|at| from + at) {
        let end = text[start..].find(|c| !word(c)).map_or(text.len(), |at| start + at);
        from = end;
        if OURS.iter().any(|ours| text[start..end].starts_with(ours)) {
            let braces = text[end..].strip_prefix('{').and_then(|rest| rest.find('}'));
            all.push(&text[start..braces.map_or(end, |at| end + at + 2)]);
        }
    }
    all
}

/// A histogram's name will do, for all of its series.
fn check_mention(mention: &str, world: &World, found: &mut Findings) {
    if catalogue::ALL.iter().any(|m| m.name == mention) {
        return;
    }
    let variables = Variables::new();
    let family = catalogue::ALL.iter().find(|m| mention.starts_with(&format!("{}{{", m.name)));
    let series = match family {
        Some(Metric { kind: Kind::Histogram(_), name, .. }) => {
            mention.replacen(name, &format!("{name}_count"), 1)
        }
        Some(_) | None => mention.to_owned(),
    };
    let parsed = query::parse(Use::Document, &series, &variables, found);
    if let Some(Expr::VectorSelector(selector)) = parsed {
        selectors::one(&selector, &variables, world, found);
    }
}

/// The expressions in a metric's advice: what stands between backticks and has it as `…`.
fn advice(metric: &Metric) -> Vec<String> {
    let quoted = metric.read.split('`').skip(1).step_by(2);
    let queries = quoted.filter(|q| q.contains('…') || q.contains('('));
    // A range that says `[…]` is not the metric.
    queries.map(|q| q.replace('…', metric.name)).collect()
}

fn check_advice(metric: &Metric, world: &World, found: &mut Findings) {
    let counts = metric.read.split('`').count();
    if counts.is_multiple_of(2) {
        found.say("a backtick in its advice is not closed", "pair them");
    }
    for expr in advice(metric) {
        query::check(Use::Document, &expr, &Variables::new(), world, found);
    }
}

fn documents() -> Vec<String> {
    let mut files =
        ["README.md", "CONTRIBUTING.md", "dashboards/README.md"].map(str::to_owned).to_vec();
    files.extend(files::list("docs", ".md"));
    files.extend(files::list("alerts", ".yml"));
    files
}

#[test]
fn documents_name_what_there_is() {
    let (mut found, world) = (Findings::default(), rules::world(&rules::ours()));
    let mut named = 0;
    for file in documents() {
        for (number, line) in files::read(&file).lines().enumerate() {
            // Of rules the comments; the expressions are checked as such.
            if file.starts_with("alerts/") && !line.trim_start().starts_with('#') {
                continue;
            }
            found.at(format!("{file}:{}", number + 1));
            for mention in mentions(line) {
                named += 1;
                check_mention(mention, &world, &mut found);
            }
        }
    }
    found.none();
    assert!(named > catalogue::ALL.len(), "the documents were read: {named}");
}

#[test]
fn the_catalogue_takes_its_own_advice() {
    let (mut found, world) = (Findings::default(), World::default());
    let mut queries = 0;
    for metric in catalogue::ALL {
        check_advice(metric, &world, found.at(metric.name));
        queries += advice(metric).len();
        for text in [metric.help, metric.read, metric.debug.unwrap_or_default()] {
            for mention in mentions(text) {
                check_mention(mention, &world, &mut found);
            }
        }
    }
    found.none();
    assert!(queries >= catalogue::ALL.len(), "there is advice for each metric: {queries}");
    assert!(known::metric("punctual_job_wait_seconds_bucket").is_some());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mentions_are_found() {
        let text =
            "`punctual_a_total{b=\"c\"}` rises, punctual_d. Not punctual, xpunctual_e_total.";
        assert_eq!(mentions(text), ["punctual_a_total{b=\"c\"}", "punctual_d"]);
    }

    #[test]
    fn a_document_with_a_name_of_yesterday() {
        let of = |text: &str| {
            let mut found = Findings::default();
            for mention in mentions(text) {
                check_mention(mention, &World::default(), found.at("docs/X.md:7"));
            }
            found
        };
        of("see `punctual_jobs_lost_total` and `punctual_job_wait_seconds{queue=\"a\"}`").none();
        of("see `punctual_lost_jobs_total`").only(
            "docs/X.md:7",
            "is neither catalogued",
            "declare it",
        );
        of("`punctual_store_operation_errors_total{error_class=\"fool\"}` rises").only(
            "docs/X.md:7",
            "error_class is never \"fool\"",
            "it can be busy, full",
        );
    }

    #[test]
    fn advice_against_the_rules() {
        let of = |read: &'static str| {
            let mut found = Findings::default();
            let metric = Metric { read, ..catalogue::DEPTH };
            check_advice(&metric, &World::default(), found.at("punctual_queue_depth"));
            found
        };
        of("`max by (queue) (…)`; not `idle`.").none();
        of("`sum by (queue) (…)`.").only("punctual_queue_depth", "sum over the replicas", "max");
        of("`max by (kind) (…)`.").only("punctual_queue_depth", "groups by or without kind", "has");
        of("`max by (queue (…)`.").only("punctual_queue_depth", "is no query", "correct it");
        of("`max by (queue) (…)`, and `idle.").only("punctual_queue_depth", "not closed", "pair");
    }
}
