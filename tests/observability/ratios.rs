//! A division of flows says what it means when there was nothing, or next to nothing, to divide by.
//!
//! `failed / finished` is NaN where nothing finished, which no comparison notices and every average
//! is poisoned by; and 1 where one job failed, which wakes people. So a denominator with a rate in it
//! is guarded, one way or the other:
//!
//! - *by itself*, it cannot be 0: `(… > 0)`, `clamp_min(…, 1)`, `… + 1`, or a `sum` of such;
//! - *by its volume*: the division is one side of an `and` whose other side asks for more than a
//!   certain number of what the denominator counts.

use std::collections::BTreeSet;

use promql_parser::parser::Expr;

use crate::finding::Findings;
use crate::query::Use;
use crate::terms::{bare, constant, drops_zero, is_flow, names, operators, parts};

pub fn check(expr: &Expr, used: Use, found: &mut Findings) {
    match used {
        Use::Alert | Use::Recording | Use::Panel | Use::Annotation => {
            walk(expr, &BTreeSet::new(), found);
        }
        // Whoever asks by hand sees what comes.
        Use::Template | Use::Variable | Use::Document => {}
    }
}

fn walk(expr: &Expr, asked: &BTreeSet<String>, found: &mut Findings) {
    if let Expr::Binary(binary) = expr {
        match binary.op.to_string().as_str() {
            "and" => {
                for (side, other) in [(&binary.lhs, &binary.rhs), (&binary.rhs, &binary.lhs)] {
                    walk(side, &(asked | &volumes(other)), found);
                }
                return;
            }
            "/" if is_flow(&binary.rhs) && !is_guarded(&binary.rhs) => {
                let divided_by = names(&binary.rhs);
                if !divided_by.is_subset(asked) {
                    let all: Vec<String> = divided_by.into_iter().collect();
                    found.say(
                        format!("it divides by {}, which may have been nothing", all.join(", ")),
                        "divide by (… > 0), or ask for a volume: … and increase(…) >= 10",
                    );
                }
            }
            _ => {}
        }
    }
    for part in parts(expr) {
        walk(part, asked, found);
    }
}

/// Of which series an expression asks for more than nothing.
fn volumes(expr: &Expr) -> BTreeSet<String> {
    let is_volume =
        |side: &Expr| is_flow(side) && !operators(side).any(|o| o.op.to_string() == "/");
    let asking = operators(expr).filter(|binary| drops_zero(binary, is_volume));
    asking.flat_map(|binary| names(&binary.lhs).into_iter().chain(names(&binary.rhs))).collect()
}

/// Whether it is never 0 where it is at all.
fn is_guarded(expr: &Expr) -> bool {
    let positive = |expr: &Expr| constant(expr).is_some_and(|number| number > 0.0);
    match bare(expr) {
        Expr::Binary(binary) if binary.op.to_string() == "+" => {
            positive(&binary.lhs) || positive(&binary.rhs)
        }
        Expr::Binary(binary) => drops_zero(binary, |_| true),
        Expr::Call(call) if call.func.name == "clamp_min" => {
            call.args.args.last().is_some_and(|least| positive(least))
        }
        Expr::Aggregate(aggregate) => {
            let op = aggregate.op.to_string();
            matches!(op.as_str(), "sum" | "max" | "min" | "avg") && is_guarded(&aggregate.expr)
        }
        Expr::Paren(_)
        | Expr::Unary(_)
        | Expr::Call(_)
        | Expr::Subquery(_)
        | Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Extension(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::finding::Findings;
    use crate::query::{Use, sin};

    fn of(expr: &str) -> Findings {
        sin(Use::Alert, expr)
    }

    fn finished(function: &str, status: &str) -> String {
        format!(
            "sum without (instance, pod, status) ({function}(punctual_jobs_finished_total{{status=~\"{status}\"}}[5m]))"
        )
    }

    #[test]
    fn a_ratio_of_nothing() {
        let (failed, all) = (finished("rate", "failed"), finished("rate", "completed|failed"));
        let wrong = "it divides by punctual_jobs_finished_total, which may have been nothing";
        let cure = "divide by (… > 0), or ask for a volume";
        for naked in [
            format!("{failed} / {all} > 0.25"),
            format!("{failed} / ({all}) > 0.25"),
            format!("1 - {failed} / {all} > 0.25"),
            // Of something else.
            format!(
                "({failed} / {all} > 0.25) and sum without (instance, pod) (increase(punctual_attempts_started_total[5m])) > 9"
            ),
            // This keeps the 0.
            format!("{failed} / ({all} > bool 0) > 0.25"),
        ] {
            of(&naked).only("here", wrong, cure);
        }
        let volume = format!("{} >= 10", finished("increase", "completed|failed"));
        for guarded in [
            format!("{failed} / ({all} > 0) > 0.25"),
            format!("{failed} / (0 < {all}) > 0.25"),
            format!("{failed} / clamp_min({all}, 1) > 0.25"),
            format!("{failed} / ({all} + 1) > 0.25"),
            format!("({failed} / {all} > 0.25) and {volume}"),
            format!("{volume} and (1 - {failed} / {all} > 0.25)"),
        ] {
            of(&guarded).none();
        }
    }

    #[test]
    fn a_ratio_is_no_volume() {
        let (failed, all) = (finished("rate", "failed"), finished("rate", "completed|failed"));
        of(&format!("({failed} / {all} > 0.25) and ({failed} / {all} > 0.1)")).only(
            "here",
            "it divides by",
            "ask for a volume",
        );
    }

    #[test]
    fn a_panel_divides_by_something_too() {
        let expr = |over: &str| {
            let of = |part: &str| {
                format!(
                    r#"sum(rate(punctual_job_payload_bytes_{part}{{job=~"$job",instance=~"$instance"}}[$__rate_interval]))"#
                )
            };
            sin(Use::Panel, &format!("{} / ({}{over})", of("sum"), of("count")))
        };
        expr("").only("here", "it divides by punctual_job_payload_bytes_count", "(… > 0)");
        expr(" > 0").none();
    }
}
