//! A query, from its text to what the checks say about it.

use std::collections::BTreeMap;

use promql_parser::parser::{self, Expr};

use crate::finding::Findings;
use crate::known::World;
use crate::shape::Shape;
use crate::{absence, conventions, ratios, scope, selectors, shape, thresholds, units};

/// Where a query is used; not everything is right everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Alert,
    Recording,
    /// In the template of an alert's annotation.
    Template,
    Panel,
    Annotation,
    /// What a dashboard's variable is read from.
    Variable,
    /// In the documents, as an example.
    Document,
}

impl Use {
    pub const fn in_dashboard(self) -> bool {
        matches!(self, Self::Panel | Self::Annotation | Self::Variable)
    }
}

/// Stands in a query for the value of a variable, before the variable's name.
pub const STANDS_FOR: &str = "var-";

/// Grafana's variables, and the label whose values each has.
pub type Variables = BTreeMap<String, Option<String>>;

/// Stands for `$__rate_interval`: a range that nobody writes.
pub const RATE_INTERVAL_SECONDS: u64 = 97;

/// `text` with each variable replaced: those that are known by something that tells them apart.
pub fn replaced(text: &str, variables: &Variables) -> Result<String, String> {
    substituted(text, |name| match name {
        "__rate_interval" => Some(format!("{RATE_INTERVAL_SECONDS}s")),
        _ => variables.contains_key(name).then(|| format!("{STANDS_FOR}{name}")),
    })
}

/// `text` with `$name`, `${name}` and `${name:format}` replaced by what `value` says of the name.
pub fn substituted(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let (name, end) = if let Some(inner) = behind.strip_prefix('{') {
            let close = inner.find('}').ok_or("a variable's brace is not closed")?;
            (inner[..close].split(':').next().unwrap_or_default(), close + 2)
        } else {
            let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
            let end = behind.find(word).unwrap_or(behind.len());
            (&behind[..end], end)
        };
        let value =
            value(name).ok_or_else(|| format!("${name} is no variable of the dashboard"))?;
        out.push_str(&value);
        rest = &behind[end..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Every check of a query. The shape of its result, unless that cannot be told.
pub fn check(
    used: Use,
    text: &str,
    variables: &Variables,
    world: &World,
    found: &mut Findings,
) -> Option<Shape> {
    let expr = parse(used, text, variables, found)?;
    selectors::check(&expr, variables, world, found);
    scope::check(&expr, used, world, found);
    conventions::check(&expr, used, world, found);
    absence::check(&expr, used, world, found);
    ratios::check(&expr, used, found);
    units::check(&expr, found);
    thresholds::check(&expr, found);
    Some(shape::of(&expr, world, found))
}

pub fn parse(used: Use, text: &str, variables: &Variables, found: &mut Findings) -> Option<Expr> {
    let replaced =
        if used.in_dashboard() { replaced(text, variables) } else { Ok(text.to_owned()) };
    match replaced.and_then(|text| parser::parse(&text)) {
        Ok(expr) => Some(expr),
        Err(error) => {
            found.say(format!("`{text}` is no query: {error}"), "correct it");
            None
        }
    }
}

/// What is found about a query in a small world of its own.
pub fn sin(used: Use, text: &str) -> Findings {
    let label = |name: &str| (name.to_owned(), Some(name.to_owned()));
    let variables = Variables::from(["job", "instance", "queue"].map(label));
    let mut world = World::default();
    world.alerts.insert("PunctualAlert".to_owned());
    world.severities.insert("critical".to_owned());
    world.alert_labels.insert("queue".to_owned());
    let mut found = Findings::default();
    check(used, text, &variables, &world, found.at("here"));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced() {
        let variables = Variables::from([("queue".to_owned(), Some("queue".to_owned()))]);
        let of = |text: &str| replaced(text, &variables);
        let expected = "rate(x{q=\"var-queue\",r=~\"var-queue|\"}[97s])";
        assert_eq!(
            of("rate(x{q=\"$queue\",r=~\"${queue:regex}|\"}[$__rate_interval])").as_deref(),
            Ok(expected)
        );
        let wrong = of("x{q=\"$que\"}").expect_err("no such variable");
        assert!(wrong.contains("$que is no variable"), "{wrong}");
    }

    #[test]
    fn what_does_not_parse() {
        sin(Use::Alert, "sum by (queue (x)").only("here", "is no query", "correct it");
        sin(Use::Alert, "rate(punctual_attempts_started_total)")
            .only("here", "no query", "correct");
        sin(Use::Panel, "sum(up{job=\"$jobs\"})").only("here", "$jobs is no variable", "correct");
        sin(Use::Panel, "   ").only("here", "is no query", "correct");
    }
}
