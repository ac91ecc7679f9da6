//! Recording rules: named `level:metric:operation` for what they do, and one for each fact about
//! the store.

use std::time::Duration;

use promql_parser::parser::Expr;
use punctual::telemetry::catalogue::{self, Kind, Scope};

use crate::finding::Findings;
use crate::query::{self, Use, Variables};
use crate::rules::Rule;
use crate::scope;

/// The name without what every metric of ours, or every counter, has.
fn short(metric: &str) -> &str {
    let name = metric.strip_prefix("punctual_").unwrap_or(metric);
    name.strip_suffix("_total").unwrap_or(name)
}

/// The metrics that an expression reads, and its ranges.
fn reads(expr: &Expr) -> (Vec<String>, Vec<Duration>) {
    let (mut names, mut ranges) = (Vec::new(), Vec::new());
    scope::each_selector(expr, &mut |selector, range, _| {
        names.extend(selector.name.clone());
        ranges.extend(range);
    });
    names.dedup();
    (names, ranges)
}

/// What stands outermost: an aggregation's or an operator's name.
fn outermost(expr: &Expr) -> String {
    match expr {
        Expr::Paren(inner) => outermost(&inner.expr),
        Expr::Aggregate(aggregate) => aggregate.op.to_string(),
        Expr::Binary(binary) => binary.op.to_string(),
        Expr::Call(call) => call.func.name.to_owned(),
        Expr::Unary(_)
        | Expr::Subquery(_)
        | Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Extension(_) => String::new(),
    }
}

pub fn check(rule: &Rule, found: &mut Findings) {
    let name = rule.name();
    let parts: Vec<&str> = name.split(':').collect();
    let ["punctual", subject, operation] = parts[..] else {
        found.say(
            format!("{name} is not level:metric:operation"),
            "call it punctual:METRIC:OPERATION",
        );
        return;
    };
    let mut ignored = Findings::default();
    let Some(expr) = query::parse(Use::Recording, &rule.expr, &Variables::new(), &mut ignored)
    else {
        return;
    };
    let (names, ranges) = reads(&expr);
    let outermost = outermost(&expr);
    let over = |text: &str| {
        let range = text.parse::<humantime::Duration>().ok().map(Duration::from);
        range.is_some_and(|range| !ranges.is_empty() && ranges.iter().all(|r| *r == range))
    };
    let fits = if let Some(range) = operation.strip_prefix("ratio_rate") {
        outermost == "/" && over(range)
    } else if let Some(range) = operation.strip_prefix("rate") {
        outermost == "sum" && over(range)
    } else {
        outermost == operation && ranges.is_empty()
    };
    if !fits {
        found.say(
            format!("it is called {operation}, and is `{outermost}` over {ranges:?}"),
            "name what it does: max, rate5m, ratio_rate5m",
        );
    }
    if !operation.starts_with("ratio_") && names.iter().any(|n| short(n) != subject) {
        found.say(
            format!("it is called {subject}, and reads {}", names.join(", ")),
            "call it after its metric, without punctual_ and _total",
        );
    }
}

/// Every fact about the store is combined once for all.
pub fn complete(rules: &[Rule], found: &mut Findings) {
    let facts = catalogue::ALL.iter().filter(|m| m.scope == Scope::Store && m.kind == Kind::Gauge);
    for fact in facts {
        let name = format!("punctual:{}:max", short(fact.name));
        if !rules.iter().any(|rule| rule.record.as_deref() == Some(&name)) {
            found.say(
                format!("{} has no recording rule", fact.name),
                format!("record {name}: max without (instance, pod) ({})", fact.name),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, expr: &str) -> Rule {
        let text = format!(
            "groups:\n- name: g\n  rules:\n  - record: {name}\n    expr: {}\n",
            serde_json::Value::from(expr)
        );
        crate::rules::parse("sins.yml", &text).remove(0)
    }

    fn of(name: &str, expr: &str) -> Findings {
        let mut found = Findings::default();
        check(&rule(name, expr), found.at("sins.yml"));
        found
    }

    const DEPTH: &str = "max without (instance, pod) (punctual_queue_depth)";
    const STARTED: &str = "sum without (instance, pod) (rate(punctual_attempts_started_total[5m]))";

    #[test]
    fn names_say_what_the_rule_does() {
        of("punctual:queue_depth:max", DEPTH).none();
        of("punctual:attempts_started:rate5m", STARTED).none();
        of("punctual:start:ratio_rate5m", &format!("{STARTED} / ({STARTED} > 0)")).none();
        for name in
            ["queue_depth_max", "punctual:queue_depth", "a:queue_depth:max", "punctual:a:b:max"]
        {
            of(name, DEPTH).only(
                "sins.yml",
                "is not level:metric:operation",
                "punctual:METRIC:OPERATION",
            );
        }
        for (name, expr) in [
            ("punctual:queue_depth:sum", DEPTH),
            ("punctual:queue_depth:max5m", DEPTH),
            ("punctual:attempts_started:rate1m", STARTED),
            ("punctual:attempts_started:sum", STARTED),
            ("punctual:start:ratio_rate5m", STARTED),
        ] {
            of(name, expr).only("sins.yml", "it is called", "name what it does");
        }
        of("punctual:depth:max", DEPTH).only(
            "sins.yml",
            "called depth, and reads punctual_queue_depth",
            "after its metric",
        );
    }

    #[test]
    fn a_fact_without_its_rule() {
        let mut rules = crate::rules::ours();
        rules.retain(|rule| rule.name() != "punctual:workers:max");
        let mut found = Findings::default();
        complete(&rules, found.at("alerts/punctual.rules.yml"));
        found.only(
            "alerts/punctual.rules.yml",
            "punctual_workers has no recording rule",
            "record punctual:workers:max: max without (instance, pod) (punctual_workers)",
        );
    }
}
