//! Names, and the labels and values that are matched.

use promql_parser::label::{METRIC_NAME, Matcher};
use promql_parser::parser::{Expr, VectorSelector};
use punctual::telemetry::catalogue;

use crate::finding::Findings;
use crate::known::World;
use crate::query::{STANDS_FOR, Variables};
use crate::{scope, values};

pub fn check(expr: &Expr, variables: &Variables, world: &World, found: &mut Findings) {
    scope::each_selector(expr, &mut |selector, _, _| one(selector, variables, world, found));
}

/// One selector by itself.
pub fn one(selector: &VectorSelector, variables: &Variables, world: &World, found: &mut Findings) {
    let Some(name) = selector.name.as_deref() else {
        found.say(
            format!("{{{}}} does not say which metric", selector.matchers),
            "write the metric's name in front of the braces",
        );
        return;
    };
    if !selector.matchers.or_matchers.is_empty() {
        found.say(format!("{name} is matched with `or`"), "only VictoriaMetrics knows it: use =~");
        return;
    }
    let Some(source) = world.source(name) else {
        if catalogue::ALL.iter().any(|m| m.name == name) {
            let cure = format!("write {name}_bucket, {name}_sum or {name}_count");
            found.say(format!("{name} is a histogram and no series"), cure);
        } else {
            let cure = format!("declare it, or write {}", world.nearest(name));
            found.say(format!("{name} is neither catalogued nor recorded"), cure);
        }
        return;
    };
    for matcher in selector.matchers.matchers.iter().filter(|m| m.name != METRIC_NAME) {
        match world.label(&source, &matcher.name) {
            None => {
                let labels: Vec<String> = world.labels(&source).into_keys().collect();
                found.say(
                    format!("{name} has no label {}", matcher.name),
                    format!("it has {}", labels.join(", ")),
                );
            }
            Some(allowed) => {
                if let Some((wrong, cure)) = values::judge(&allowed, matcher) {
                    found.say(format!("{name}: {wrong}"), cure);
                } else {
                    variable(matcher, name, variables, found);
                }
            }
        }
    }
}

/// A variable's values are those of one label.
fn variable(matcher: &Matcher, name: &str, variables: &Variables, found: &mut Findings) {
    for (variable, label) in variables {
        let stands = format!("{STANDS_FOR}{variable}");
        let Some(label) = label.as_ref().filter(|_| matcher.value.contains(&stands)) else {
            continue;
        };
        if *label != matcher.name {
            found.say(
                format!("{name}: {} is compared with ${variable}", matcher.name),
                format!("${variable} has the values of {label}: match {label}"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::query::{Use, sin};

    #[test]
    fn a_name_that_nobody_declared() {
        sin(Use::Alert, "max without (instance, pod) (punctual_queue_dept) > 0").only(
            "here",
            "punctual_queue_dept is neither catalogued nor recorded",
            "write punctual_queue_depth",
        );
        sin(Use::Panel, r#"max(punctual:queue_depth:max{job=~"$job"})"#).only(
            "here",
            "punctual:queue_depth:max is neither",
            "declare it",
        );
    }

    #[test]
    fn a_histogram_by_its_family_s_name() {
        sin(Use::Alert, "sum without (instance, pod) (rate(punctual_job_wait_seconds[5m]))").only(
            "here",
            "punctual_job_wait_seconds is a histogram and no series",
            "punctual_job_wait_seconds_bucket",
        );
        // And what only a histogram has, of something else.
        sin(
            Use::Alert,
            "sum without (instance, pod) (rate(punctual_attempts_started_total_sum[5m]))",
        )
        .only("here", "neither catalogued nor recorded", "punctual_attempts_started_total");
    }

    #[test]
    fn a_label_that_the_metric_does_not_have() {
        sin(Use::Alert, r#"max without (instance, pod) (punctual_queue_depth{state="running"})"#)
            .only(
                "here",
                "punctual_queue_depth has no label state",
                "it has instance, job, pod, queue",
            );
        sin(
            Use::Alert,
            r#"sum without (instance, pod) (rate(punctual_job_wait_seconds_sum{le="5"}[5m]))"#,
        )
        .only("here", "punctual_job_wait_seconds_sum has no label le", "it has");
        sin(Use::Alert, r#"up{queue="mail"} == 0"#).only("here", "up has no label queue", "it has");
    }

    #[test]
    fn a_variable_on_another_label() {
        let panel = |matchers: &str| {
            let filters = r#"job=~"$job",instance=~"$instance""#;
            let metric = "punctual_attempts_finished_by_kind_total";
            let expr = format!("sum(rate({metric}{{{filters},{matchers}}}[$__rate_interval]))");
            sin(Use::Panel, &expr)
        };
        panel(r#"kind="mail""#).none();
        panel(r#"kind=~"$queue""#).only("here", "kind is compared with $queue", "match queue");
        panel(r#"outcome="$queue""#).only(
            "here",
            "outcome is never \"$queue\"",
            "it can be completed",
        );
    }

    #[test]
    fn no_name_at_all() {
        sin(Use::Alert, r#"max without (instance, pod) ({queue="mail"}) > 0"#).only(
            "here",
            "does not say which metric",
            "write the metric's name",
        );
    }
}
