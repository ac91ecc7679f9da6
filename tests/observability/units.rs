//! What a number is measured in, and what it is shown or compared as.
//!
//! The unit of each metric is in the catalogue; from there it follows through an expression: `rate`
//! makes it so much a second, a quantile is what its buckets measure, a division of like by like is
//! a ratio. Then:
//!
//! - *a panel* shows each query in a unit that Grafana has for it: seconds as `s`, a rate of jobs as
//!   `ops`. The unit of a query is that of its override (by query, or by the name of its column or
//!   series), else that of the panel. A heatmap's is that of its buckets.
//! - *any query* adds and compares only like with like: no seconds with bytes.
//!
//! Where a unit cannot be told, nothing is said.

use promql_parser::parser::{BinaryExpr, Call, Expr};
use punctual::telemetry::catalogue;
use serde_json::Value;

use crate::dashboards::{Panel, list, text};
use crate::finding::Findings;
use crate::known::{self, Part};
use crate::terms::{bare, constant, is_comparison, names};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    Seconds,
    Bytes,
    /// Jobs, requests, workers, yes or no.
    Count,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Of(Base),
    /// So much a second.
    Rate(Base),
    Ratio,
    /// A count by a count: a share, or a mean.
    Quotient,
    /// A number that stands in the expression.
    Number,
    Unknown,
}

impl Unit {
    /// What Grafana calls it.
    fn shown(self) -> &'static [&'static str] {
        match self {
            Self::Of(Base::Seconds) => &["s", "dtdurations", "dthms"],
            Self::Of(Base::Bytes) => &["bytes", "decbytes"],
            Self::Of(Base::Count) | Self::Number => &["short", "none", "locale", "bool_yes_no"],
            Self::Rate(Base::Count) => &["ops", "reqps", "cps", "wps", "rps"],
            Self::Rate(Base::Bytes) => &["Bps", "binBps"],
            // Seconds a second are processors.
            Self::Rate(Base::Seconds) => &["none", "short", "percentunit"],
            Self::Ratio => &["percentunit", "none"],
            Self::Quotient => &["percentunit", "none", "short"],
            Self::Unknown => &[],
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Of(Base::Seconds) => "seconds",
            Self::Of(Base::Bytes) => "bytes",
            Self::Of(Base::Count) => "a count",
            Self::Rate(Base::Seconds) => "seconds a second",
            Self::Rate(Base::Bytes) => "bytes a second",
            Self::Rate(Base::Count) => "a count a second",
            Self::Ratio => "a ratio",
            Self::Quotient => "a quotient of counts",
            Self::Number => "a number",
            Self::Unknown => "unknown",
        }
    }
}

/// The unit of a metric by its name, or of what a rule of ours records of it.
fn declared(name: &str) -> Unit {
    if matches!(name, "up" | "ALERTS") {
        return Unit::Of(Base::Count);
    }
    let Some((metric, part)) = known::metric(name) else { return Unit::Unknown };
    match part {
        Part::Bucket | Part::Total if !name.ends_with("_sum") => Unit::Of(Base::Count),
        Part::Whole | Part::Total | Part::Bucket => base(metric.unit),
    }
}

fn base(unit: catalogue::Unit) -> Unit {
    Unit::Of(match unit {
        catalogue::Unit::Seconds => Base::Seconds,
        catalogue::Unit::Bytes => Base::Bytes,
        catalogue::Unit::Jobs | catalogue::Unit::None => Base::Count,
    })
}

/// What the buckets measure that an expression reads.
fn bucketed(expr: &Expr) -> Unit {
    let mut metrics = names(expr).into_iter().filter_map(|name| known::metric(&name));
    metrics.next().map_or(Unit::Unknown, |(metric, _)| base(metric.unit))
}

/// Checks that like meets like, anywhere in it.
pub fn check(expr: &Expr, found: &mut Findings) {
    of(expr, found);
}

fn of(expr: &Expr, found: &mut Findings) -> Unit {
    match expr {
        Expr::Paren(inner) => of(&inner.expr, found),
        Expr::Unary(inner) => of(&inner.expr, found),
        Expr::Subquery(inner) => of(&inner.expr, found),
        Expr::NumberLiteral(_) => Unit::Number,
        Expr::StringLiteral(_) | Expr::Extension(_) => Unit::Unknown,
        Expr::VectorSelector(selector) => selector.name.as_deref().map_or(Unit::Unknown, declared),
        Expr::MatrixSelector(selector) => {
            selector.vs.name.as_deref().map_or(Unit::Unknown, declared)
        }
        Expr::Aggregate(aggregate) => {
            let inner = of(&aggregate.expr, found);
            match aggregate.op.to_string().as_str() {
                "count" | "count_values" | "group" => Unit::Of(Base::Count),
                _ => inner,
            }
        }
        Expr::Call(call) => called(call, found),
        Expr::Binary(binary) => {
            let (left, right) = (of(&binary.lhs, found), of(&binary.rhs, found));
            computed(binary, left, right, found)
        }
    }
}

fn called(call: &Call, found: &mut Findings) -> Unit {
    let args: Vec<Unit> = call.args.args.iter().map(|arg| of(arg, found)).collect();
    let first = args.first().copied().unwrap_or(Unit::Unknown);
    match (call.func.name, first) {
        ("time" | "timestamp", _) => Unit::Of(Base::Seconds),
        ("rate" | "irate" | "deriv", Unit::Of(base)) => Unit::Rate(base),
        ("changes" | "resets" | "absent" | "absent_over_time" | "count_over_time", _) => {
            Unit::Of(Base::Count)
        }
        ("histogram_quantile", _) => {
            call.args.args.last().map_or(Unit::Unknown, |buckets| bucketed(buckets))
        }
        (
            "increase" | "delta" | "idelta" | "abs" | "ceil" | "floor" | "round" | "clamp"
            | "clamp_min" | "clamp_max" | "label_replace" | "label_join" | "sort" | "sort_desc"
            | "vector" | "scalar" | "max_over_time" | "min_over_time" | "avg_over_time"
            | "last_over_time" | "sum_over_time" | "quantile_over_time" | "predict_linear",
            _,
        ) => args.into_iter().find(|u| !matches!(u, Unit::Unknown)).unwrap_or(Unit::Unknown),
        (_, _) => Unit::Unknown,
    }
}

fn computed(binary: &BinaryExpr, left: Unit, right: Unit, found: &mut Findings) -> Unit {
    let op = binary.op.to_string();
    let same = match (left, right) {
        (Unit::Number | Unit::Unknown, other) => other,
        (known, Unit::Number | Unit::Unknown) => known,
        (one, other) if one == other => one,
        (one, other) => {
            if matches!(op.as_str(), "+" | "-") || is_comparison(&op) {
                found.say(
                    format!("`{op}` of {} and {}", one.words(), other.words()),
                    "compute with like and like, or convert one of them",
                );
            }
            Unit::Unknown
        }
    };
    let yes_or_no = binary.modifier.as_ref().is_some_and(|m| m.return_bool);
    match op.as_str() {
        "+" | "-" => same,
        "and" | "unless" => left,
        "or" => {
            if left == Unit::Unknown {
                right
            } else {
                left
            }
        }
        // Times how often, which share, or yes or no.
        "*" => match (left, right) {
            (Unit::Number | Unit::Of(Base::Count) | Unit::Ratio | Unit::Quotient, other)
            | (other, Unit::Number | Unit::Of(Base::Count) | Unit::Ratio | Unit::Quotient) => other,
            _ => Unit::Unknown,
        },
        "/" => match (left, right) {
            (Unit::Unknown, _) | (_, Unit::Unknown) => Unit::Unknown,
            (Unit::Of(Base::Count), Unit::Of(Base::Count))
            | (Unit::Rate(Base::Count), Unit::Rate(Base::Count)) => Unit::Quotient,
            (one, other) if one == other => Unit::Ratio,
            (one, Unit::Number | Unit::Of(Base::Count)) => one,
            (Unit::Rate(base), Unit::Rate(Base::Count)) => Unit::Of(base),
            (Unit::Of(base), Unit::Of(Base::Seconds)) => Unit::Rate(base),
            _ => Unit::Unknown,
        },
        _ if is_comparison(&op) && yes_or_no => Unit::Of(Base::Count),
        _ if is_comparison(&op) => {
            if constant(&binary.lhs).is_some() {
                right
            } else {
                left
            }
        }
        _ => Unit::Unknown,
    }
}

/// Whether the panel shows the result of this query in a unit that it has.
pub fn check_panel(panel: &Panel<'_>, target: &Value, expr: &Expr, found: &mut Findings) {
    // What is wrong inside is said where the query is checked.
    let mut ignored = Findings::default();
    let heatmap = text(panel.json, "type") == "heatmap";
    let unit = if heatmap { bucketed(expr) } else { of(bare(expr), &mut ignored) };
    let shown = shown(panel.json, target);
    if unit != Unit::Unknown && !shown.is_empty() && !unit.shown().contains(&shown) {
        found.say(
            format!("it is {}, and is shown as {shown}", unit.words()),
            format!("set its unit to one of {}", unit.shown().join(", ")),
        );
    }
}

/// The unit of a query's column or series.
fn shown<'a>(panel: &'a Value, target: &Value) -> &'a str {
    let id = text(target, "refId");
    let many = list(panel, "/targets").count() > 1;
    let column = if many { format!("Value #{id}") } else { "Value".to_owned() };
    let organize = list(panel, "/transformations").filter(|t| t["id"] == "organize");
    let renamed = organize
        .filter_map(|t| t["options"]["renameByName"][&column].as_str())
        .last()
        .unwrap_or(&column);
    let legend = text(target, "legendFormat");
    let is_for = |matcher: &Value| {
        let option = text(matcher, "options");
        match text(matcher, "id") {
            "byFrameRefID" => option == id,
            "byName" => [&column, renamed, legend].contains(&option),
            _ => false,
        }
    };
    let overrides = list(panel, "/fieldConfig/overrides").filter(|o| is_for(&o["matcher"]));
    let properties = overrides.flat_map(|o| list(o, "/properties")).filter(|p| p["id"] == "unit");
    let own = properties.filter_map(|p| p["value"].as_str()).last();
    own.unwrap_or_else(|| text(&panel["fieldConfig"]["defaults"], "unit"))
}

#[cfg(test)]
#[path = "units_sins.rs"]
mod tests;
