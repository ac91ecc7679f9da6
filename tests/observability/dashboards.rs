//! The dashboards, and their queries: of panels, of annotations, of variables.

use std::collections::{BTreeMap, BTreeSet};

use promql_parser::parser::Expr;
use serde_json::Value;

use crate::finding::Findings;
use crate::known::World;
use crate::query::{self, Use, Variables};
use crate::shape::Shape;
use crate::{conventions, files, legends, links, panels, rules, scope, thresholds, units};

pub struct Dashboard {
    pub file: String,
    pub json: Value,
}

pub struct Panel<'a> {
    pub place: String,
    pub json: &'a Value,
}

/// Every dashboard by uid, with its variables.
pub type Uids = BTreeMap<String, BTreeSet<String>>;

pub fn ours() -> Vec<Dashboard> {
    let files = files::list("dashboards", ".json");
    files.into_iter().map(|file| Dashboard::parse(&file, &files::read(&file))).collect()
}

pub fn uids() -> Uids {
    let uid = |d: &Dashboard| text(&d.json, "uid").to_owned();
    ours().iter().map(|d| (uid(d), d.variables().into_keys().collect())).collect()
}

pub fn text<'a>(json: &'a Value, key: &str) -> &'a str {
    json[key].as_str().unwrap_or_default()
}

pub fn list<'a>(json: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    json.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

impl Dashboard {
    pub fn parse(file: &str, text: &str) -> Self {
        let json = serde_json::from_str(text).unwrap_or_else(|e| panic!("{file} is no JSON: {e}"));
        Self { file: file.to_owned(), json }
    }

    /// Rows and panels, those in folded rows too.
    pub fn panels(&self) -> Vec<Panel<'_>> {
        let outer = list(&self.json, "/panels");
        let all = outer.flat_map(|panel| [panel].into_iter().chain(list(panel, "/panels")));
        let place = |json: &Value| {
            format!("{}, panel {} \"{}\"", self.file, json["id"], text(json, "title"))
        };
        all.map(|json| Panel { place: place(json), json }).collect()
    }

    pub fn variables(&self) -> Variables {
        let all = list(&self.json, "/templating/list");
        let label =
            |json: &Value| label_values(query_text(json)).map(|(_, label)| label.to_owned());
        all.map(|json| (text(json, "name").to_owned(), label(json))).collect()
    }

    pub fn annotations(&self) -> impl Iterator<Item = &Value> {
        list(&self.json, "/annotations/list").filter(|a| a["builtIn"] != 1)
    }

    /// Everything about it.
    pub fn check(&self, world: &World, uids: &Uids, found: &mut Findings) {
        panels::check(self, uids, found);
        self.check_queries(world, found);
    }

    fn check_queries(&self, world: &World, found: &mut Findings) {
        let variables = self.variables();
        for panel in self.panels().into_iter().filter(|p| text(p.json, "type") != "row") {
            let mut results = Vec::new();
            for target in list(panel.json, "/targets") {
                let (id, expr) = (text(target, "refId"), text(target, "expr"));
                found.at(format!("{}, query {id}", panel.place));
                let shape = query::check(Use::Panel, expr, &variables, world, found);
                let mut ignored = Findings::default();
                if let Some(expr) = query::parse(Use::Panel, expr, &variables, &mut ignored) {
                    units::check_panel(&panel, target, &expr, found);
                }
                if let Some(Shape::Series(labels)) = shape {
                    results.push(legends::Result { target, labels });
                }
            }
            thresholds::check_panel(&panel, found.at(&*panel.place));
            // Where a query is wrong, nothing can be said about its columns.
            if results.len() == list(panel.json, "/targets").count() {
                legends::check(&panel, &results, &variables, world, found);
            }
        }
        for annotation in self.annotations() {
            found.at(format!("{}, annotation \"{}\"", self.file, text(annotation, "name")));
            let expr = text(annotation, "expr");
            let shape = query::check(Use::Annotation, expr, &variables, world, found);
            if let Some(Shape::Series(labels)) = shape {
                legends::check_annotation(annotation, &labels, found);
            }
        }
        let mut before = BTreeSet::new();
        for variable in list(&self.json, "/templating/list") {
            let name = text(variable, "name");
            found.at(format!("{}, variable {name}", self.file));
            if text(variable, "type") == "query" {
                check_variable(variable, &before, &variables, world, found);
            }
            before.insert(name.to_owned());
        }
    }

    /// The expressions of its panels.
    pub fn panel_queries(&self) -> Vec<Expr> {
        let (variables, mut ignored) = (self.variables(), Findings::default());
        let mut parsed = Vec::new();
        for panel in self.panels() {
            for target in list(panel.json, "/targets") {
                let expr = text(target, "expr");
                parsed.extend(query::parse(Use::Panel, expr, &variables, &mut ignored));
            }
        }
        parsed
    }
}

pub fn query_text(variable: &Value) -> &str {
    variable["query"]["query"].as_str().unwrap_or_default()
}

/// `label_values(SELECTOR, LABEL)`.
pub fn label_values(query: &str) -> Option<(&str, &str)> {
    let inner = query.strip_prefix("label_values(")?.strip_suffix(')')?;
    let (selector, label) = inner.rsplit_once(',')?;
    Some((selector.trim(), label.trim()))
}

fn check_variable(
    variable: &Value,
    before: &BTreeSet<String>,
    variables: &Variables,
    world: &World,
    found: &mut Findings,
) {
    let query = query_text(variable);
    if text(variable, "definition") != query {
        found.say("`definition` and `query` differ", "write the same into both");
    }
    let Some((selector, label)) = label_values(query) else {
        found.say(
            format!("`{query}` is no query for a variable"),
            "write label_values(METRIC{…}, LABEL)",
        );
        return;
    };
    let Some(expr) = query::parse(Use::Variable, selector, variables, found) else { return };
    crate::selectors::check(&expr, variables, world, found);
    scope::each_selector(&expr, &mut |selector, _, _| {
        let source = selector.name.as_deref().and_then(|name| world.source(name));
        let Some(source) = source else { return };
        if world.label(&source, label).is_none() {
            let labels: Vec<String> = world.labels(&source).into_keys().collect();
            found.say(
                format!("its metric has no label {label}"),
                format!("it has {}", labels.join(", ")),
            );
        }
        if before.contains("job") && !conventions::filtered(selector, "job") {
            found.say("it is not filtered by $job", "match job=~\"$job\"");
        }
    });
}

/// A link to a dashboard leads to one of ours, and sets variables that it has. Links to documents
/// lead somewhere too.
pub fn check_link(url: &str, uids: &Uids, found: &mut Findings) {
    links::check(url, found);
    let Some((_, behind)) = url.split_once("/d/") else { return };
    let uid = behind.split(['?', '/']).next().unwrap_or_default();
    let Some(variables) = uids.get(uid) else {
        let known: Vec<&str> = uids.keys().map(String::as_str).collect();
        found.say(format!("there is no dashboard {uid}"), format!("link to {}", known.join(", ")));
        return;
    };
    let parameters = behind.split(['?', '&']).skip(1);
    let set = parameters.filter_map(|p| match p.strip_prefix("var-") {
        Some(set) => set.split('=').next(),
        None => p.strip_prefix("${")?.strip_suffix(":queryparam}"),
    });
    for name in set.filter(|name| !variables.contains(*name)) {
        found.say(
            format!("the link sets ${name}, which {uid} does not have"),
            "set a variable of that dashboard",
        );
    }
}

#[test]
fn every_dashboard_keeps_the_contract() {
    let (rules, mut found) = (rules::ours(), Findings::default());
    let (world, uids) = (rules::world(&rules), uids());
    for dashboard in ours() {
        dashboard.check(&world, &uids, &mut found);
    }
    found.none();
}

/// No two have the same uid or title.
fn check_apart(all: &[Dashboard], found: &mut Findings) {
    for key in ["uid", "title"] {
        let mut known = BTreeSet::new();
        for dashboard in all {
            let own = text(&dashboard.json, key);
            if own.is_empty() || !known.insert(own) {
                found.at(&*dashboard.file);
                found.say(format!("its {key} \"{own}\" is not its own"), "choose another");
            }
        }
    }
}

#[test]
fn dashboards_are_told_apart() {
    let mut found = Findings::default();
    check_apart(&ours(), &mut found);
    found.none();
}

#[cfg(test)]
#[path = "dashboard_sins.rs"]
mod tests;
