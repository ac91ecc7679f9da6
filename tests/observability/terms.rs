//! Small questions about an expression and its parts.

use std::collections::BTreeSet;

use promql_parser::parser::{BinaryExpr, Expr};

use crate::scope;

/// The expression without the parentheses around it.
pub fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Paren(inner) => bare(&inner.expr),
        Expr::Aggregate(_)
        | Expr::Unary(_)
        | Expr::Binary(_)
        | Expr::Subquery(_)
        | Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Call(_)
        | Expr::Extension(_) => expr,
    }
}

/// What stands directly in an expression.
pub fn parts(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Paren(inner) => vec![&inner.expr],
        Expr::Unary(inner) => vec![&inner.expr],
        Expr::Subquery(inner) => vec![&inner.expr],
        Expr::Aggregate(inner) => {
            [Some(&*inner.expr), inner.param.as_deref()].into_iter().flatten().collect()
        }
        Expr::Call(call) => call.args.args.iter().map(AsRef::as_ref).collect(),
        Expr::Binary(binary) => vec![&binary.lhs, &binary.rhs],
        Expr::NumberLiteral(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Extension(_) => Vec::new(),
    }
}

/// The expression and everything in it.
pub fn all(expr: &Expr) -> Vec<&Expr> {
    let mut found = vec![expr];
    let mut at = 0;
    while at < found.len() {
        found.extend(parts(found[at]));
        at += 1;
    }
    found
}

/// The operators in it, whatever stands around them.
pub fn operators(expr: &Expr) -> impl Iterator<Item = &BinaryExpr> {
    all(expr).into_iter().filter_map(|expr| {
        let Expr::Binary(binary) = expr else { return None };
        Some(binary)
    })
}

/// Its value, where it has no series.
pub fn constant(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::NumberLiteral(number) => Some(number.val),
        Expr::Paren(inner) => constant(&inner.expr),
        Expr::Unary(inner) => constant(&inner.expr).map(|value| -value),
        Expr::Binary(binary) => {
            let (left, right) = (constant(&binary.lhs)?, constant(&binary.rhs)?);
            match binary.op.to_string().as_str() {
                "+" => Some(left + right),
                "-" => Some(left - right),
                "*" => Some(left * right),
                "/" => Some(left / right),
                _ => None,
            }
        }
        Expr::Aggregate(_)
        | Expr::Subquery(_)
        | Expr::StringLiteral(_)
        | Expr::VectorSelector(_)
        | Expr::MatrixSelector(_)
        | Expr::Call(_)
        | Expr::Extension(_) => None,
    }
}

/// The names of its series.
pub fn names(expr: &Expr) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    scope::each_selector(expr, &mut |selector, _, _| names.extend(selector.name.clone()));
    names
}

/// Whether it counts what happened in a time, and so is 0 when nothing did.
pub fn is_flow(expr: &Expr) -> bool {
    let flows = ["rate", "increase", "irate", "changes", "resets"];
    all(expr).into_iter().any(|e| matches!(e, Expr::Call(call) if flows.contains(&call.func.name)))
}

pub fn is_comparison(op: &str) -> bool {
    matches!(op, "==" | "!=" | ">" | "<" | ">=" | "<=")
}

/// `left op right`, for numbers.
pub fn holds(left: f64, op: &str, right: f64) -> bool {
    match op {
        "==" => left.total_cmp(&right).is_eq(),
        "!=" => left.total_cmp(&right).is_ne(),
        ">" => left > right,
        "<" => left < right,
        ">=" => left >= right,
        "<=" => left <= right,
        _ => false,
    }
}

/// Whether the comparison leaves `left` out, or `right`, where it is 0.
pub fn drops_zero(binary: &BinaryExpr, is_side: impl Fn(&Expr) -> bool) -> bool {
    let op = binary.op.to_string();
    if !is_comparison(&op) || binary.modifier.as_ref().is_some_and(|m| m.return_bool) {
        return false;
    }
    match (constant(&binary.lhs), constant(&binary.rhs)) {
        (None, Some(bound)) => is_side(&binary.lhs) && !holds(0.0, &op, bound),
        (Some(bound), None) => is_side(&binary.rhs) && !holds(bound, &op, 0.0),
        (Some(_), Some(_)) | (None, None) => false,
    }
}
