//! Kind and scope of a metric, and what may be done with it.

use std::time::Duration;

use promql_parser::label::Labels;
use promql_parser::parser::{Expr, LabelModifier, VectorSelector};
use punctual::telemetry::catalogue::{Kind, Metric, Scope};

use crate::finding::Findings;
use crate::known::{Part, REPLICA, Source, World};
use crate::query::Use;

/// What stands around a selector, from the outside in.
#[derive(Debug, Clone)]
pub enum Step<'a> {
    Aggregated { op: String, modifier: Option<&'a LabelModifier> },
    Called(&'a str),
    Operand { op: String, on_the_right: bool, other: &'a Expr },
}

impl Step<'_> {
    /// An aggregation whose result does not have the label.
    fn removes(&self, label: &str) -> bool {
        let Self::Aggregated { op, modifier } = self else {
            return false;
        };
        // They pick series and leave these as they are.
        if matches!(op.as_str(), "topk" | "bottomk" | "limitk" | "limit_ratio") {
            return false;
        }
        let named = |labels: &Labels| labels.labels.iter().any(|l| l == label);
        match modifier {
            Some(LabelModifier::Include(kept)) => !named(kept),
            Some(LabelModifier::Exclude(gone)) => named(gone),
            None => true,
        }
    }

    fn calls(&self, functions: &[&str]) -> bool {
        matches!(self, Self::Called(name) if functions.contains(name))
    }
}

type Visit<'v, 'a> = dyn FnMut(&'a VectorSelector, Option<Duration>, &[Step<'a>]) + 'v;

/// Visits every selector with its range and with what stands around it.
pub fn each_selector<'a>(expr: &'a Expr, visit: &mut Visit<'_, 'a>) {
    walk(expr, &mut Vec::new(), visit);
}

fn walk<'a>(expr: &'a Expr, path: &mut Vec<Step<'a>>, visit: &mut Visit<'_, 'a>) {
    match expr {
        Expr::Paren(inner) => walk(&inner.expr, path, visit),
        Expr::Unary(inner) => walk(&inner.expr, path, visit),
        Expr::Subquery(inner) => walk(&inner.expr, path, visit),
        Expr::VectorSelector(selector) => visit(selector, None, path),
        Expr::MatrixSelector(selector) => visit(&selector.vs, Some(selector.range), path),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
        Expr::Aggregate(aggregate) => {
            let op = aggregate.op.to_string();
            path.push(Step::Aggregated { op, modifier: aggregate.modifier.as_ref() });
            walk(&aggregate.expr, path, visit);
            if let Some(param) = &aggregate.param {
                walk(param, path, visit);
            }
            path.pop();
        }
        Expr::Call(call) => {
            path.push(Step::Called(call.func.name));
            for arg in &call.args.args {
                walk(arg, path, visit);
            }
            path.pop();
        }
        Expr::Binary(binary) => {
            let sides = [(&binary.lhs, &binary.rhs), (&binary.rhs, &binary.lhs)];
            for (on_the_right, (side, other)) in [false, true].into_iter().zip(sides) {
                let op = binary.op.to_string();
                path.push(Step::Operand { op, on_the_right, other });
                walk(side, path, visit);
                path.pop();
            }
        }
    }
}

const RATES: [&str; 3] = ["rate", "increase", "irate"];
const COUNTED: [&str; 5] = ["rate", "increase", "irate", "resets", "changes"];
const EXISTENCE: [&str; 3] = ["absent", "absent_over_time", "present_over_time"];
/// What makes a slope of a gauge.
const SLOPES: [&str; 7] =
    ["rate", "increase", "irate", "delta", "idelta", "deriv", "predict_linear"];

pub fn check(expr: &Expr, used: Use, world: &World, found: &mut Findings) {
    each_selector(expr, &mut |selector, range, path| {
        let Some(name) = selector.name.as_deref() else { return };
        let Some(source) = world.source(name) else { return };
        let (counts, retained) = match &source {
            Source::Metric(metric, part) => (
                metric.kind == Kind::Counter || *part != Part::Whole,
                metric.name == "punctual_jobs",
            ),
            Source::Recorded(recorded) => (false, recorded.retained),
            Source::Up | Source::Alerts => (false, false),
        };
        if counts {
            counter(name, range, path, found);
        } else {
            gauge(name, path, found);
        }
        if retained {
            kept(name, selector, path, found);
        }
        let Source::Metric(metric, part) = source else { return };
        if part == Part::Bucket {
            bucket(name, selector, path, found);
        }
        match metric.scope {
            Scope::Process => events(name, path, found),
            Scope::Store => fact(name, path, found),
            Scope::Liveness => {
                alive(name, path, found);
                if is_moment(metric) {
                    moment(name, path, used, found);
                }
            }
        }
    });
}

fn counter(name: &str, range: Option<Duration>, path: &[Step<'_>], found: &mut Findings) {
    let direct = path
        .last()
        .is_some_and(|step| step.calls(&EXISTENCE) || (range.is_some() && step.calls(&COUNTED)));
    if !direct {
        found.say(
            format!("{name} counts from the start of the process, and starts again with it"),
            format!("take rate({name}[…]) or increase of it, before anything else"),
        );
    }
}

fn gauge(name: &str, path: &[Step<'_>], found: &mut Findings) {
    if let Some(Step::Called(function)) = path.last().filter(|s| s.calls(&RATES)) {
        found.say(
            format!("{function} of {name}, which is a gauge and goes down too"),
            "use a counter, or delta or deriv",
        );
    }
}

fn bucket(name: &str, selector: &VectorSelector, path: &[Step<'_>], found: &mut Findings) {
    let pinned = selector.matchers.matchers.iter().any(|m| m.name == "le");
    let until = path.iter().rposition(|s| s.calls(&["histogram_quantile"])).unwrap_or(0);
    if !pinned && path[until..].iter().any(|step| step.removes("le")) {
        found.say(
            format!("buckets of {name} are added up, and each holds those below it"),
            "keep le in the aggregation, or use _count",
        );
    }
}

/// The first aggregation from the inside that takes away the replicas.
fn combined<'p>(path: &'p [Step<'_>]) -> Option<&'p str> {
    let gone = |label: &&str| path.iter().any(|step| step.removes(label));
    if !REPLICA.iter().all(gone) {
        return None;
    }
    // The innermost after which none of them is left.
    let mut left: Vec<&str> = REPLICA.to_vec();
    path.iter().rev().find_map(|step| {
        let Step::Aggregated { op, .. } = step else { return None };
        let before = left.len();
        left.retain(|label| !step.removes(label));
        (left.len() < before).then_some(op.as_str())
    })
}

fn fact(name: &str, path: &[Step<'_>], found: &mut Findings) {
    if path.iter().any(|step| step.calls(&EXISTENCE)) {
        return;
    }
    match combined(path) {
        Some("max" | "min") => {}
        Some(op) => found.say(
            format!("{op} over the replicas of {name}, which all tell the same fact"),
            format!("combine them first: max without (instance, pod) ({name})"),
        ),
        None => found.say(
            format!("every replica tells {name}, and instance or pod is still there"),
            format!("combine them: max without (instance, pod) ({name})"),
        ),
    }
}

/// What each replica counts of its own adds up; the most or the mean of them is nobody's number.
fn events(name: &str, path: &[Step<'_>], found: &mut Findings) {
    if !path.last().is_some_and(|step| step.calls(&RATES)) {
        return;
    }
    match combined(path) {
        Some("sum" | "count" | "group") | None => {}
        Some(op) => found.say(
            format!("{op} over the replicas of a rate of {name}, which each counts for itself"),
            format!("add them: sum without (instance, pod) (rate({name}[…]))"),
        ),
    }
}

fn alive(name: &str, path: &[Step<'_>], found: &mut Findings) {
    let counted = path.last().is_some_and(|step| step.calls(&["changes", "resets"]));
    match combined(path) {
        Some("max" | "min") | None => {}
        Some(_) if counted => {}
        Some(op) => found.say(
            format!("{op} over the replicas of {name}, which is about each one's own work"),
            "use max or min, or keep instance",
        ),
    }
}

fn is_moment(metric: &Metric) -> bool {
    metric.name.ends_with("_timestamp_seconds") || metric.name == "process_start_time_seconds"
}

/// Follows a moment outwards until it is an age, a count, or something senseless.
fn moment(name: &str, path: &[Step<'_>], used: Use, found: &mut Findings) {
    let mut scrape = false;
    for step in path.iter().rev() {
        match step {
            Step::Called("timestamp") => scrape = true,
            Step::Called("changes" | "resets") => return,
            Step::Called(function) if EXISTENCE.contains(function) => return,
            Step::Called("label_replace" | "label_join" | "last_over_time") => {}
            Step::Aggregated { op, .. } if matches!(op.as_str(), "max" | "min") => {}
            // Said already, by `alive`.
            Step::Aggregated { .. } => return,
            Step::Operand { op, on_the_right, other } => match (op.as_str(), *on_the_right) {
                ("-", right) if right != scrape && is_now(other, right) => return,
                ("and" | "unless", true) => return,
                ("and" | "unless" | "or", _) => {}
                ("*", _) if scales(other) => {}
                _ => return no_age(name, found),
            },
            Step::Called(_) => return no_age(name, found),
        }
    }
    if used != Use::Annotation {
        no_age(name, found);
    }
}

fn no_age(name: &str, found: &mut Findings) {
    found.say(
        format!("{name} is a moment, and no number to compute with or to show"),
        format!("make it an age: time() - max(…), or timestamp({name}) - {name}"),
    );
}

/// Whether the other side of a `-` is the present, or (left of it) what the present is compared
/// with.
fn is_now(other: &Expr, on_the_right: bool) -> bool {
    if !on_the_right {
        let mut any = false;
        each_selector(other, &mut |_, _, _| any = true);
        return any;
    }
    calls_now(other)
}

fn calls_now(expr: &Expr) -> bool {
    match expr {
        Expr::Call(call) => {
            matches!(call.func.name, "time" | "timestamp")
                || call.args.args.iter().any(|arg| calls_now(arg))
        }
        Expr::Paren(inner) => calls_now(&inner.expr),
        Expr::Aggregate(inner) => calls_now(&inner.expr),
        Expr::Unary(_)
        | Expr::Binary(_)
        | Expr::Subquery(_)
        | Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Extension(_) => false,
    }
}

/// A number, or a series that is always 1 and brings its labels.
fn scales(other: &Expr) -> bool {
    match other {
        Expr::NumberLiteral(_) => true,
        Expr::VectorSelector(selector) => {
            selector.name.as_deref().is_some_and(|name| name.ends_with("_info"))
        }
        Expr::Paren(inner) => scales(&inner.expr),
        Expr::Aggregate(_)
        | Expr::Unary(_)
        | Expr::Binary(_)
        | Expr::Subquery(_)
        | Expr::StringLiteral(_)
        | Expr::MatrixSelector(_)
        | Expr::Call(_)
        | Expr::Extension(_) => false,
    }
}

/// Finished jobs leave at the end of their retention, so they neither grow nor are all there were.
fn kept(name: &str, selector: &VectorSelector, path: &[Step<'_>], found: &mut Findings) {
    let matchers = selector.matchers.matchers.iter().filter(|m| m.name == "state");
    let matchers: Vec<_> = matchers.collect();
    let finished = ["completed", "failed", "cancelled"];
    if !finished.iter().any(|state| matchers.iter().all(|m| m.is_match(state))) {
        return;
    }
    let misread = path.iter().find_map(|step| match step {
        Step::Called(function) if SLOPES.contains(function) => Some(*function),
        Step::Operand { op, .. } if op == "/" || op == "%" => Some("a ratio"),
        Step::Called(_) | Step::Operand { .. } | Step::Aggregated { .. } => None,
    });
    if let Some(misread) = misread {
        found.say(
            format!("{misread} of {name}, whose finished states count only what is still kept"),
            "use punctual_jobs_finished_total, or match state=\"pending\" or \"running\"",
        );
    }
}

#[cfg(test)]
#[path = "scope_sins.rs"]
mod tests;
