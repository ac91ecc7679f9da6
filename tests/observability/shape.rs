//! Which labels the result of an expression has.

use std::collections::BTreeMap;

use promql_parser::label::MatchOp;
use promql_parser::parser::{AggregateExpr, Call, Expr, LabelModifier, VectorSelector};

use crate::finding::Findings;
use crate::known::World;
use crate::matching;

/// How many values a label has among the series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    Free,
    /// One, where there is one instance.
    ByInstance,
    /// One: a matcher says which.
    Pinned,
}

pub type Labels = BTreeMap<String, Grain>;

#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    Number,
    Series(Labels),
    /// Something about it was wrong, and is said already.
    Unknown,
}

pub fn listed<'a>(labels: impl IntoIterator<Item = &'a String>) -> String {
    let labels: Vec<&str> = labels.into_iter().map(String::as_str).collect();
    if labels.is_empty() { "no labels".to_owned() } else { labels.join(", ") }
}

pub fn of(expr: &Expr, world: &World, found: &mut Findings) -> Shape {
    match expr {
        Expr::Paren(inner) => of(&inner.expr, world, found),
        Expr::Unary(inner) => of(&inner.expr, world, found),
        Expr::Subquery(inner) => of(&inner.expr, world, found),
        Expr::VectorSelector(selector) => selected(selector, world),
        Expr::MatrixSelector(selector) => selected(&selector.vs, world),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Shape::Number,
        Expr::Aggregate(aggregate) => aggregated(aggregate, world, found),
        Expr::Call(call) => called(call, world, found),
        Expr::Binary(binary) => {
            let left = of(&binary.lhs, world, found);
            let right = of(&binary.rhs, world, found);
            matching::of(binary, left, right, found)
        }
        Expr::Extension(_) => Shape::Unknown,
    }
}

fn selected(selector: &VectorSelector, world: &World) -> Shape {
    let Some(source) = selector.name.as_deref().and_then(|name| world.source(name)) else {
        return Shape::Unknown;
    };
    let mut labels = world.labels(&source);
    for matcher in selector.matchers.matchers.iter().filter(|m| m.op == MatchOp::Equal) {
        if let Some(grain) = labels.get_mut(&matcher.name) {
            *grain = Grain::Pinned;
        }
    }
    Shape::Series(labels)
}

fn aggregated(aggregate: &AggregateExpr, world: &World, found: &mut Findings) -> Shape {
    let op = aggregate.op.to_string();
    let Shape::Series(operand) = of(&aggregate.expr, world, found) else {
        return Shape::Unknown;
    };
    let named = aggregate.modifier.as_ref().map(|m| &m.labels().labels);
    for label in named.into_iter().flatten().filter(|l| !operand.contains_key(*l)) {
        found.say(
            format!("{op} groups by or without {label}, which is not there"),
            format!("what it aggregates has {}", listed(operand.keys())),
        );
    }
    if matches!(op.as_str(), "topk" | "bottomk" | "limitk" | "limit_ratio") {
        return Shape::Series(operand);
    }
    let mut labels = operand;
    match &aggregate.modifier {
        Some(LabelModifier::Include(kept)) => labels.retain(|l, _| kept.labels.contains(l)),
        Some(LabelModifier::Exclude(gone)) => labels.retain(|l, _| !gone.labels.contains(l)),
        None => labels.clear(),
    }
    if !labels.contains_key("instance") {
        for grain in labels.values_mut().filter(|g| **g == Grain::ByInstance) {
            *grain = Grain::Free;
        }
    }
    if let (true, Some(Expr::StringLiteral(label))) =
        (op == "count_values", aggregate.param.as_deref())
    {
        labels.insert(label.val.clone(), Grain::Free);
    }
    Shape::Series(labels)
}

fn called(call: &Call, world: &World, found: &mut Findings) -> Shape {
    let args: Vec<&Expr> = call.args.args.iter().map(AsRef::as_ref).collect();
    let shapes: Vec<Shape> = args.iter().map(|arg| of(arg, world, found)).collect();
    let text = |i: usize| match args.get(i) {
        Some(Expr::StringLiteral(text)) => text.val.as_str(),
        Some(_) | None => "",
    };
    if shapes.contains(&Shape::Unknown) {
        return Shape::Unknown;
    }
    let series = shapes.iter().find_map(|shape| match shape {
        Shape::Series(labels) => Some(labels.clone()),
        Shape::Number | Shape::Unknown => None,
    });
    let name = call.func.name;
    match (name, series) {
        ("scalar" | "time" | "pi", _) => Shape::Number,
        ("absent" | "absent_over_time", Some(mut labels)) => {
            labels.retain(|_, grain| *grain == Grain::Pinned);
            Shape::Series(labels)
        }
        ("histogram_quantile", Some(mut labels)) => {
            if labels.remove("le").is_none() {
                found.say(
                    "histogram_quantile gets no le",
                    "keep le in the aggregation of the buckets",
                );
            }
            Shape::Series(labels)
        }
        ("label_replace", Some(mut labels)) => {
            let source = text(3);
            if !source.is_empty() && !labels.contains_key(source) {
                found.say(
                    format!("label_replace reads {source}, which is not there"),
                    format!("there is {}", listed(labels.keys())),
                );
            }
            labels.insert(text(1).to_owned(), Grain::Free);
            Shape::Series(labels)
        }
        ("label_join", Some(mut labels)) => {
            labels.insert(text(1).to_owned(), Grain::Free);
            Shape::Series(labels)
        }
        (_, Some(labels)) => Shape::Series(labels),
        // `vector(1)`, `hour()`.
        (_, None) => Shape::Series(Labels::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{self, Use, Variables, sin};

    fn labels(text: &str) -> String {
        let (world, mut found) = (World::default(), Findings::default());
        let expr = query::parse(Use::Alert, text, &Variables::new(), &mut found).unwrap();
        let shape = of(&expr, &world, &mut found);
        found.none();
        match shape {
            Shape::Series(labels) => listed(labels.keys()),
            Shape::Number => "number".to_owned(),
            Shape::Unknown => "unknown".to_owned(),
        }
    }

    #[test]
    fn results_have_the_labels_that_are_left() {
        for (text, expected) in [
            ("punctual_workers", "instance, job, pod, queue, state"),
            ("max by (queue) (punctual_workers)", "queue"),
            ("max without (instance, pod) (punctual_workers)", "job, queue, state"),
            ("sum(up)", "no labels"),
            ("topk(3, max by (queue) (punctual_queue_depth))", "queue"),
            ("count_values(\"version\", up)", "version"),
            ("time() - max by (task) (punctual_task_last_success_timestamp_seconds)", "task"),
            ("absent(up{job=\"punctual\"})", "job"),
            ("vector(1)", "no labels"),
            ("time()", "number"),
            (
                "histogram_quantile(0.9, sum by (le, queue) (rate(punctual_job_wait_seconds_bucket[5m])))",
                "queue",
            ),
            ("label_replace(sum(up), \"fleet\", \"x\", \"\", \"\")", "fleet"),
        ] {
            assert_eq!(labels(text), expected, "{text}");
        }
    }

    #[test]
    fn a_grouping_by_what_is_not_there() {
        sin(Use::Panel, r#"max by (que) (punctual_queue_depth{job=~"$job",queue="$queue"})"#).only(
            "here",
            "max groups by or without que",
            "has instance, job, pod, queue",
        );
        sin(Use::Alert, "sum without (instance, pod, reason) (up)").only(
            "here",
            "sum groups by or without reason",
            "has instance, job, pod",
        );
        // It was there, further inside.
        let gone =
            "sum without (state) (max without (instance, pod, state) (punctual_workers)) > 0";
        sin(Use::Alert, gone).only("here", "groups by or without state", "has job, queue");
    }

    #[test]
    fn a_quantile_without_buckets() {
        let expr = "histogram_quantile(0.9, sum without (instance, pod) (rate(punctual_job_wait_seconds_sum[5m])))";
        sin(Use::Alert, expr).only("here", "histogram_quantile gets no le", "keep le");
    }

    #[test]
    fn a_label_made_from_what_is_not_there() {
        let expr = r#"label_replace(up, "a", "$1", "nodename", "(.*)") == 0"#;
        sin(Use::Alert, expr).only(
            "here",
            "reads nodename, which is not there",
            "there is instance",
        );
    }
}
