//! What the texts of an alert refer to: labels of its result, and queries of their own.

use std::collections::BTreeSet;

use crate::finding::Findings;
use crate::known::World;
use crate::query::{self, Use, Variables};

/// The actions of a Go template: what stands between `{{` and `}}`.
fn actions(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap_or_default())
}

/// The names behind each `prefix` in `text`.
fn names<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let behind = text.split(prefix).skip(1);
    behind.map(|rest| &rest[..rest.find(word).unwrap_or(rest.len())]).collect()
}

/// The string literals in an action, without their quotes and escapes.
fn strings(action: &str) -> Vec<String> {
    let (mut all, mut current, mut escaped) = (Vec::new(), None::<String>, false);
    for c in action.chars() {
        match (&mut current, c) {
            (Some(text), c) if escaped => {
                text.push(c);
                escaped = false;
            }
            (Some(_), '\\') => escaped = true,
            (Some(_), '"') => all.extend(current.take()),
            (Some(text), c) => text.push(c),
            (None, '"') => current = Some(String::new()),
            (None, _) => {}
        }
    }
    all
}

/// Checks a label or an annotation of an alert whose result has `labels`.
pub fn check(text: &str, labels: &BTreeSet<String>, world: &World, found: &mut Findings) {
    if text.matches("{{").count() != text.matches("}}").count() {
        found.say("an action of the template is not closed", "pair {{ and }}");
    }
    for action in actions(text) {
        for prefix in ["$labels.", ".Labels."] {
            for name in names(action, prefix) {
                if !labels.contains(name) {
                    let there: Vec<&str> = labels.iter().map(String::as_str).collect();
                    found.say(
                        format!(
                            "the template shows {prefix}{name}, which the result does not have"
                        ),
                        format!("it has {}", there.join(", ")),
                    );
                }
            }
        }
        if action.split([' ', '(']).any(|word| word.trim() == "query") {
            for string in strings(action).iter().filter(|s| s.contains('(') || s.contains('{')) {
                let expr = string.replace("%q", "\"x\"").replace("%s", "x");
                query::check(Use::Template, &expr, &Variables::new(), world, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Findings {
        let labels = ["job", "queue"].map(str::to_owned).into();
        let mut found = Findings::default();
        check(text, &labels, &World::default(), found.at("here"));
        found
    }

    #[test]
    fn labels_that_are_there() {
        of(r#"Queue "{{ $labels.queue }}" {{ if .Labels.job }}of {{ $labels.job }}{{ end }}"#)
            .none();
        of("punctual jobs list --queue {{ $labels.queue }}, {{ $value | humanize }}").none();
    }

    #[test]
    fn a_label_that_is_not_there() {
        of("{{ $labels.queue }}: {{ $labels.verdict }}").only(
            "here",
            "shows $labels.verdict, which the result does not have",
            "it has job, queue",
        );
        of("{{ .Labels.instance }}").only("here", "shows .Labels.instance", "it has job, queue");
        of("{{ $labels.queue }").only("here", "is not closed", "pair");
    }

    #[test]
    fn a_query_in_a_template() {
        let text = |name: &str| {
            format!(
                r#"{{{{ with printf "max({name}{{job=%q}})" $labels.job | query }}}}x{{{{ end }}}}"#
            )
        };
        of(&text("punctual_store_free_bytes")).none();
        of(&text("punctual_store_bytes")).only(
            "here",
            "punctual_store_bytes is neither",
            "declare",
        );
        let sum = text("punctual_store_free_bytes").replace("max(", "sum(");
        of(&sum).only("here", "sum over the replicas of punctual_store_free_bytes", "max without");
    }
}
