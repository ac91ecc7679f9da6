//! What a panel calls its series and columns, and the labels that it refers to.

use std::collections::BTreeSet;

use promql_parser::label::Matcher;
use promql_parser::parser::token::T_EQL_REGEX;
use serde_json::Value;

use crate::dashboards::{Panel, list, text};
use crate::finding::Findings;
use crate::known::World;
use crate::query::{self, Use, Variables};
use crate::scope;
use crate::shape::{Labels, listed};
use crate::values::Allowed;

/// A query of a panel, and the labels of what it returns.
pub struct Result<'a> {
    pub target: &'a Value,
    pub labels: Labels,
}

/// The labels in `{{…}}`.
fn placeholders(format: &str) -> Vec<&str> {
    let inner = format.split("{{").skip(1).filter_map(|rest| rest.split("}}").next());
    inner.map(str::trim).collect()
}

fn must_have(labels: &Labels, label: &str, what: &str, found: &mut Findings) {
    if !labels.contains_key(label) {
        found.say(
            format!("{what} shows {label}, which the result does not have"),
            format!("it has {}", listed(labels.keys())),
        );
    }
}

pub fn check(
    panel: &Panel<'_>,
    results: &[Result<'_>],
    variables: &Variables,
    world: &World,
    found: &mut Findings,
) {
    let mut union = Labels::new();
    for result in results {
        found.at(format!("{}, query {}", panel.place, text(result.target, "refId")));
        let format = text(result.target, "legendFormat");
        if format.is_empty() {
            found.say("its series have no name", "set legendFormat, or \"__auto\" in a table");
        }
        for label in placeholders(format) {
            must_have(&result.labels, label, "the legend", found);
        }
        union.extend(result.labels.clone());
    }
    found.at(&*panel.place);
    for field in panel.json.to_string().split("${__field.labels.").skip(1) {
        let label = field.split(['}', '[']).next().unwrap_or_default();
        must_have(&union, label, "a link", found);
    }
    let ids: BTreeSet<&str> = results.iter().map(|r| text(r.target, "refId")).collect();
    let mut columns: BTreeSet<String> = union.keys().cloned().collect();
    columns.extend(["Time", "Value", "__name__"].map(str::to_owned));
    columns.extend(ids.iter().map(|id| format!("Value #{id}")));
    let mut names = columns.clone();
    for organize in list(panel.json, "/transformations").filter(|t| t["id"] == "organize") {
        for what in ["excludeByName", "indexByName", "renameByName"] {
            let keys = organize["options"][what].as_object();
            for (column, new) in keys.into_iter().flatten() {
                if !columns.contains(column) {
                    found.say(
                        format!("{what} has {column}, and no such column comes"),
                        format!("there are {}", listed(&columns)),
                    );
                }
                names.extend(new.as_str().map(str::to_owned));
            }
        }
    }
    let series: Option<Vec<Vec<String>>> =
        results.iter().map(|r| series_names(r, variables, world)).collect();
    for matcher in list(panel.json, "/fieldConfig/overrides").map(|o| &o["matcher"]) {
        let option = text(matcher, "options");
        match text(matcher, "id") {
            "byFrameRefID" if !ids.contains(option) => {
                found.say(format!("an override is for query {option}"), "there is no such query");
            }
            // With open label values, anything may come.
            "byName" if !names.contains(option) => {
                if let Some(all) = series.as_ref().map(|s| s.concat())
                    && !all.iter().any(|name| name == option)
                {
                    found.say(
                        format!("an override is for \"{option}\", and nothing is called so"),
                        format!("there are {}", listed(all.iter().chain(&names))),
                    );
                }
            }
            "byRegexp" => {
                let inner = option.strip_prefix("/^").and_then(|o| o.strip_suffix("$/"));
                let Some(inner) = inner else {
                    found.say(format!("{option} is not anchored"), "write /^…$/");
                    continue;
                };
                let matcher = Matcher::new_matcher(T_EQL_REGEX, String::new(), inner.to_owned());
                let all = series.as_ref().map(|s| s.concat());
                let dead = |all: &Vec<String>| {
                    !all.iter().any(|n| matcher.as_ref().is_ok_and(|m| m.is_match(n)))
                };
                if all.as_ref().is_some_and(dead) {
                    found.say(format!("an override is for {option}"), "nothing is called so");
                }
            }
            _ => {}
        }
    }
}

/// What the series of a query can be called, if that can be told.
fn series_names(result: &Result<'_>, variables: &Variables, world: &World) -> Option<Vec<String>> {
    let format = text(result.target, "legendFormat");
    let mut names = vec![format.to_owned()];
    for label in placeholders(format) {
        let values = values_of(label, text(result.target, "expr"), variables, world)?;
        let place = format!("{{{{{label}}}}}");
        names = names
            .iter()
            .flat_map(|name| values.iter().map(|value| name.replace(&place, value)))
            .collect();
    }
    Some(names)
}

/// The values that a label can have in the result of a query, if they are closed.
fn values_of(label: &str, expr: &str, variables: &Variables, world: &World) -> Option<Vec<String>> {
    let expr = query::parse(Use::Panel, expr, variables, &mut Findings::default())?;
    let mut values = Some(Vec::new());
    scope::each_selector(&expr, &mut |selector, _, path| {
        let replaced = path.iter().any(|s| matches!(s, scope::Step::Called("label_replace")));
        let source = selector.name.as_deref().and_then(|name| world.source(name));
        let allowed = source.and_then(|source| world.label(&source, label));
        match allowed {
            Some(Allowed::Set(all)) if !replaced => {
                let matchers = &selector.matchers.matchers;
                let fits = |v: &String| matchers.iter().all(|m| m.name != label || m.is_match(v));
                let fits: Vec<String> = all.into_iter().filter(fits).collect();
                values = values.take().map(|known| [known, fits].concat());
            }
            _ => values = None,
        }
    });
    values
}

/// An annotation's texts and tags.
pub fn check_annotation(annotation: &Value, labels: &Labels, found: &mut Findings) {
    for key in ["titleFormat", "textFormat"] {
        for label in placeholders(text(annotation, key)) {
            must_have(labels, label, key, found);
        }
    }
    for label in text(annotation, "tagKeys").split(',').map(str::trim).filter(|l| !l.is_empty()) {
        must_have(labels, label, "tagKeys", found);
    }
}
