//! Alarms about nothing: what happens when the series that should tell it is not there.
//!
//! A rate of 0 and a rate of which there is no series mean the same to people, and the opposite to
//! Prometheus: `x > 0 and rate(y) == 0` is empty, so silent, where `y` never existed: before the
//! first event, after a restart, for a value of a label that was not seen yet. Hence, in rules:
//!
//! - *No comparison is true of a flow of 0*: neither `rate(y) == 0` nor `rate(y) < 1`, `1 > rate(y)`,
//!   `rate(y) <= z`, wherever it stands. "Nothing happens" is written `x unless rate(y) > 0`, which
//!   holds without a series too. (A flow: anything with `rate`, `increase`, `irate`, `changes` or
//!   `resets` in it.)
//! - *No condition is true of a gauge of 0*: on the right of `and` and `unless` the same holds for
//!   the catalogue's gauges, against a number. On the left a gauge is the subject itself.
//! - *What excuses is born at 0*: the flow behind `unless` is of a counter whose series all exist
//!   before they count. The first event of one that begins with it is no increase, so an alarm
//!   would ring while the very thing that it misses is happening.

use promql_parser::parser::{BinaryExpr, Expr};
use punctual::telemetry::catalogue::Values;

use crate::finding::Findings;
use crate::known::{Source, World};
use crate::query::Use;
use crate::terms::{constant, holds, is_comparison, is_flow, names, operators};

pub fn check(expr: &Expr, used: Use, world: &World, found: &mut Findings) {
    if !matches!(used, Use::Alert | Use::Recording) {
        return;
    }
    for binary in operators(expr) {
        let op = binary.op.to_string();
        if is_comparison(&op) {
            flow(binary, &op, found);
        }
        if matches!(op.as_str(), "and" | "unless") {
            operators(&binary.rhs).for_each(|inner| condition(inner, world, found));
        }
        if op == "unless" {
            excuse(&binary.rhs, world, found);
        }
    }
}

fn flow(binary: &BinaryExpr, op: &str, found: &mut Findings) {
    let left = is_flow(&binary.lhs) && zero_on_the_left(op, constant(&binary.rhs));
    let right = is_flow(&binary.rhs) && zero_on_the_right(constant(&binary.lhs), op);
    for (side, quiet) in [(&binary.lhs, left), (&binary.rhs, right)] {
        if quiet {
            let names: Vec<String> = names(side).into_iter().collect();
            found.say(
                format!(
                    "it takes a flow of 0 of {}, and without a series it is silent",
                    names.join(", ")
                ),
                "write `… unless rate(…) > 0`, or turn the comparison round",
            );
        }
    }
}

/// Whether `0 op other` holds; against a series it may.
fn zero_on_the_left(op: &str, other: Option<f64>) -> bool {
    other.map_or(matches!(op, "<" | "<=" | "=="), |number| holds(0.0, op, number))
}

fn zero_on_the_right(other: Option<f64>, op: &str) -> bool {
    other.map_or(matches!(op, ">" | ">=" | "=="), |number| holds(number, op, 0.0))
}

fn condition(binary: &BinaryExpr, world: &World, found: &mut Findings) {
    let op = binary.op.to_string();
    let (side, quiet) = match (constant(&binary.lhs), constant(&binary.rhs)) {
        (None, Some(bound)) => (&binary.lhs, holds(0.0, &op, bound)),
        (Some(bound), None) => (&binary.rhs, holds(bound, &op, 0.0)),
        (Some(_), Some(_)) | (None, None) => return,
    };
    if !quiet || is_flow(side) {
        return;
    }
    for name in names(side) {
        if matches!(world.source(&name), Some(Source::Metric(..) | Source::Recorded(_))) {
            found.say(
                format!("its condition takes {name} of 0, and fails where there is no {name}"),
                format!("write `… unless {name} > 0`"),
            );
        }
    }
}

fn excuse(expr: &Expr, world: &World, found: &mut Findings) {
    if !is_flow(expr) {
        return;
    }
    for name in names(expr) {
        let Some(Source::Metric(metric, _)) = world.source(&name) else { continue };
        let late = metric.labels.iter().find(|label| match label.values {
            Values::Kind | Values::ErrorClass | Values::StatusCode => true,
            Values::Queue { .. } | Values::Closed(_) | Values::Fixed(_) => false,
        });
        if let Some(label) = late {
            found.say(
                format!(
                    "{name} excuses, and its series begin with their first event (by {})",
                    label.name
                ),
                "excuse by a counter whose series all exist from the start",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::finding::Findings;
    use crate::query::{Use, sin};

    const DEPTH: &str = "max without (instance, pod) (punctual_queue_depth) > 0";
    const STARTS: &str = "sum without (instance, pod) (rate(punctual_attempts_started_total[5m]))";

    fn alert(expr: &str) -> Findings {
        sin(Use::Alert, expr)
    }

    #[test]
    fn nothing_happens_and_there_is_no_series() {
        let wrong = "it takes a flow of 0 of punctual_attempts_started_total";
        let cure = "write `… unless rate(…) > 0`";
        for quiet in [
            format!("{DEPTH} and {STARTS} == 0"),
            format!("{DEPTH} and {STARTS} < 0.1"),
            format!("{DEPTH} and {STARTS} <= 0"),
            format!("{DEPTH} and 0 == {STARTS}"),
            format!("{DEPTH} and 0.1 >= {STARTS}"),
            format!("{DEPTH} and {STARTS} != 1"),
            format!("{DEPTH} and ({STARTS} == bool 0) > 0"),
            format!("{DEPTH} unless {STARTS} == 0"),
            format!("{STARTS} < 1"),
            format!("{STARTS} < 2 * {STARTS}"),
            format!("2 * {STARTS} > {STARTS}"),
        ] {
            alert(&quiet).only("here", wrong, cure);
        }
        for right in [
            format!("{DEPTH} unless {STARTS} > 0"),
            format!("{DEPTH} unless 0 < {STARTS}"),
            format!("{DEPTH} and {STARTS} > 0"),
            format!("{STARTS} >= 3"),
        ] {
            alert(&right).none();
        }
    }

    #[test]
    fn a_condition_that_needs_a_series_to_say_no() {
        let paused = "max without (instance, pod) (punctual_queue_paused)";
        let wrong = "its condition takes punctual_queue_paused of 0";
        let cure = "write `… unless punctual_queue_paused > 0`";
        for op in ["== 0", "< 1", "!= 1", "<= 0"] {
            alert(&format!("{DEPTH} and {paused} {op}")).only("here", wrong, cure);
            alert(&format!("{DEPTH} unless ({paused} {op})")).only("here", wrong, cure);
        }
        alert(&format!("{DEPTH} unless {paused} == 1")).none();
        // The subject, and Prometheus's own knowledge of its targets.
        alert(&format!("{paused} == 0 and {DEPTH}")).none();
        alert("absent(punctual_build_info) unless on () (up == 0)").none();
    }

    #[test]
    fn an_excuse_that_is_born_with_its_first_event() {
        let by = |metric: &str, gone: &str| {
            format!(
                "{DEPTH} unless on (job) sum without (instance, pod, queue, {gone}) (rate({metric}[5m])) > 0"
            )
        };
        let errors = "sum without (instance, pod, error_class) (rate(punctual_attempt_errors_total[5m])) > 0";
        alert(&format!("{DEPTH} unless on (job) {errors}")).only(
            "here",
            "punctual_attempt_errors_total excuses, and its series begin with their first event",
            "whose series all exist",
        );
        alert(&by("punctual_jobs_finished_total", "status")).none();
    }
}
