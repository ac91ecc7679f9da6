//! Nothing is measured that nobody looks at, unless it says why.

use std::collections::BTreeSet;

use promql_parser::parser::Expr;
use punctual::telemetry::catalogue::{self, Metric};

use crate::finding::Findings;
use crate::query::{self, Use, Variables};
use crate::{dashboards, known, rules, scope};

/// The metrics that these queries read.
fn read(queries: &[Expr]) -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    for expr in queries {
        scope::each_selector(expr, &mut |selector, _, _| {
            let metric = selector.name.as_deref().and_then(known::metric);
            names.extend(metric.map(|(metric, _)| metric.name));
        });
    }
    names
}

fn check<'a>(
    metrics: impl Iterator<Item = &'a Metric>,
    watched: &BTreeSet<&str>,
    found: &mut Findings,
) {
    for metric in metrics {
        match (metric.debug, watched.contains(metric.name)) {
            (None, false) => found.say(
                format!("{} is in no panel and no alert", metric.name),
                "show it, or say in the catalogue why not (debug)",
            ),
            (Some(_), true) => found.say(
                format!("{} says why it is not watched, and it is", metric.name),
                "take debug out of the catalogue",
            ),
            (None, true) | (Some(_), false) => {}
        }
    }
}

/// Of panels and alerts; recording rules are no eyes.
fn ours() -> Vec<Expr> {
    let mut queries: Vec<Expr> =
        dashboards::ours().iter().flat_map(dashboards::Dashboard::panel_queries).collect();
    let mut ignored = Findings::default();
    for rule in rules::ours().iter().filter(|rule| rule.alert.is_some()) {
        queries.extend(query::parse(Use::Alert, &rule.expr, &Variables::new(), &mut ignored));
    }
    queries
}

#[test]
fn every_metric_is_watched_or_says_why_not() {
    let mut found = Findings::default();
    check(catalogue::ALL.iter().copied(), &read(&ours()), found.at("catalogue"));
    found.none();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(metric: &Metric, query: &str) -> Findings {
        let mut found = Findings::default();
        let expr = query::parse(Use::Alert, query, &Variables::new(), &mut found).unwrap();
        check([metric].into_iter(), &read(&[expr]), found.at("catalogue"));
        found
    }

    #[test]
    fn a_metric_that_nobody_watches() {
        let wrong = "punctual_queue_depth is in no panel and no alert";
        of(&catalogue::DEPTH, "up").only("catalogue", wrong, "show it, or say in the catalogue");
        of(&catalogue::DEPTH, "max(punctual_queue_depth)").none();
        of(&catalogue::WAIT, "rate(punctual_job_wait_seconds_sum[5m])").none();
    }

    #[test]
    fn a_reason_that_is_none() {
        let metric = Metric { debug: Some("For a close look."), ..catalogue::DEPTH };
        of(&metric, "up").none();
        of(&metric, "max(punctual_queue_depth)").only("catalogue", "and it is", "take debug out");
    }
}
