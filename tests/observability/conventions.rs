//! How queries of rule files and of dashboards are written, whatever they ask.

use std::time::Duration;

use promql_parser::parser::{Expr, LabelModifier, VectorSelector};
use punctual::telemetry::catalogue::Scope;

use crate::finding::Findings;
use crate::known::{Source, World};
use crate::query::{RATE_INTERVAL_SECONDS, STANDS_FOR, Use};
use crate::scope::{self, Step};

pub fn check(expr: &Expr, used: Use, world: &World, found: &mut Findings) {
    scope::each_selector(expr, &mut |selector, range, path| match used {
        Use::Alert | Use::Recording => {
            in_rules(path, found);
            let recorded = selector.name.as_deref().and_then(|n| world.source(n));
            if matches!((used, recorded), (Use::Alert, Some(Source::Recorded(_)))) {
                found.say(
                    format!(
                        "{} is recorded by another group, one evaluation late",
                        named(selector)
                    ),
                    "write its expression out",
                );
            }
        }
        Use::Panel | Use::Annotation => {
            filters(selector, world, found);
            at_rate_interval(selector, range, found);
        }
        Use::Variable | Use::Template | Use::Document => {}
    });
}

fn named(selector: &VectorSelector) -> &str {
    selector.name.as_deref().unwrap_or("a series")
}

/// A target's other labels (cluster, environment, …) keep fleets apart, so they must survive.
fn in_rules(path: &[Step<'_>], found: &mut Findings) {
    for step in path {
        if let Step::Aggregated { op, modifier } = step
            && !matches!(modifier, Some(LabelModifier::Exclude(_)))
        {
            found.say(
                format!("{op} loses the labels that keep fleets apart"),
                format!("say what goes, not what stays: {op} without (instance, pod, …)"),
            );
        }
    }
}

fn at_rate_interval(selector: &VectorSelector, range: Option<Duration>, found: &mut Findings) {
    if range.is_some_and(|range| range != Duration::from_secs(RATE_INTERVAL_SECONDS)) {
        found.say(
            format!("the range of {} does not follow the resolution of the panel", named(selector)),
            "use [$__rate_interval]",
        );
    }
}

/// Whether the selector has a matcher on the label by the variable of that name.
pub fn filtered(selector: &VectorSelector, label: &str) -> bool {
    let stands = format!("{STANDS_FOR}{label}");
    let mut matchers = selector.matchers.matchers.iter().filter(|m| m.name == label);
    matchers.any(|m| m.value.contains(&stands))
}

fn must(selector: &VectorSelector, label: &str, why: &str, found: &mut Findings) {
    if !filtered(selector, label) {
        found.say(
            format!("{} is not filtered by ${label}, and {why}", named(selector)),
            format!("match {label}=~\"${label}\""),
        );
    }
}

fn filters(selector: &VectorSelector, world: &World, found: &mut Findings) {
    let Some(source) = selector.name.as_deref().and_then(|name| world.source(name)) else {
        return;
    };
    must(selector, "job", "would mix deployments", found);
    match &source {
        Source::Metric(metric, _) => {
            if metric.by_queue() {
                must(selector, "queue", "has a series for each queue", found);
            }
            match metric.scope {
                Scope::Process => must(selector, "instance", "is each process's own", found),
                Scope::Store => {
                    if selector.matchers.matchers.iter().any(|m| m.name == "instance") {
                        found.say(
                            format!(
                                "{} is filtered by instance, and no instance owns it",
                                named(selector)
                            ),
                            "leave instance out: a fact about the store is the same everywhere",
                        );
                    }
                }
                // As the panel needs it: a task of the whole deployment, or one process.
                Scope::Liveness => {}
            }
        }
        Source::Up => must(selector, "instance", "is each process's own", found),
        Source::Recorded(_) | Source::Alerts => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::query::{Use, sin};

    #[test]
    fn rules_that_mix_fleets() {
        let cure = "sum without (instance, pod, …)";
        let failed = "rate(punctual_jobs_finished_total[5m])";
        for grouping in ["", "by (queue) "] {
            let expr = format!("sum {grouping}({failed}) > 1");
            sin(Use::Alert, &expr).only("here", "sum loses the labels", cure);
            sin(Use::Recording, &expr).only("here", "sum loses the labels", cure);
        }
    }

    #[test]
    fn a_panel_without_its_filters() {
        let panel = |expr: &str| sin(Use::Panel, expr);
        panel(r#"max(punctual_queue_depth{queue=~"$queue"})"#).only(
            "here",
            "punctual_queue_depth is not filtered by $job",
            "match job=~\"$job\"",
        );
        panel(r#"max(punctual_queue_depth{job=~"$job"})"#).only(
            "here",
            "not filtered by $queue",
            "match queue=~\"$queue\"",
        );
        panel(r#"max(punctual_store_degraded{job=~"$job"})"#).only(
            "here",
            "not filtered by $instance",
            "match instance=~\"$instance\"",
        );
        panel(r#"max(punctual_store_size_bytes{job=~"$job",instance=~"$instance"})"#).only(
            "here",
            "is filtered by instance",
            "leave instance out",
        );
        // A fixed value is no filter by the variable.
        panel(r#"max(punctual_queue_depth{job=~"$job",queue="mail"})"#).only(
            "here",
            "not filtered by $queue",
            "match queue",
        );
    }

    #[test]
    fn a_range_of_its_own() {
        let expr = |range: &str| {
            let filters = r#"job=~"$job",instance=~"$instance""#;
            format!("sum(rate(punctual_log_events_total{{{filters}}}[{range}]))")
        };
        sin(Use::Panel, &expr("$__rate_interval")).none();
        sin(Use::Panel, &expr("5m")).only(
            "here",
            "punctual_log_events_total",
            "[$__rate_interval]",
        );
    }
}
