//! The rule files: alerts and recording rules.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::finding::Findings;
use crate::known::{Recorded, TARGET, World};
use crate::query::{self, Use, Variables};
use crate::shape::{self, Labels, Shape};
use crate::{dashboards, files, recorded, templates};

/// As Prometheus reads it; a field that it does not know, it refuses.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(rename = "name")]
    _name: String,
    #[serde(default, rename = "interval")]
    _interval: Option<String>,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub alert: Option<String>,
    pub record: Option<String>,
    pub expr: String,
    #[serde(default, rename = "for")]
    _held: Option<String>,
    #[serde(default, rename = "keep_firing_for")]
    _kept: Option<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip)]
    pub file: String,
}

impl Rule {
    pub fn name(&self) -> &str {
        self.alert.as_deref().or(self.record.as_deref()).unwrap_or("a rule without a name")
    }

    fn place(&self) -> String {
        format!("{}, {}", self.file, self.name())
    }

    fn used(&self) -> Use {
        if self.alert.is_some() { Use::Alert } else { Use::Recording }
    }
}

pub fn parse(file: &str, text: &str) -> Vec<Rule> {
    let parsed: File =
        serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{file} is no rule file: {e}"));
    let rules = parsed.groups.into_iter().flat_map(|group| group.rules);
    rules.map(|rule| Rule { file: file.to_owned(), ..rule }).collect()
}

/// Every rule of ours.
pub fn ours() -> Vec<Rule> {
    let files = files::list("alerts", ".yml").into_iter().filter(|f| !f.ends_with(".example.yml"));
    let rules: Vec<Rule> = files.flat_map(|file| parse(&file, &files::read(&file))).collect();
    assert!(rules.iter().filter(|r| r.alert.is_some()).count() > 15, "the alerts were read");
    assert!(rules.iter().filter(|r| r.record.is_some()).count() > 15, "the recordings were read");
    rules
}

/// What queries may name, with these rules loaded.
pub fn world(rules: &[Rule]) -> World {
    let mut world = World::default();
    // What is wrong with an expression is said when it is checked.
    let labels = |rule: &Rule, world: &World| {
        let mut ignored = Findings::default();
        let expr = query::parse(rule.used(), &rule.expr, &Variables::new(), &mut ignored)?;
        match shape::of(&expr, world, &mut ignored) {
            Shape::Series(labels) => Some(labels),
            Shape::Number | Shape::Unknown => None,
        }
    };
    for rule in rules.iter().filter(|r| r.record.is_some()) {
        let labels = labels(rule, &world).unwrap_or_default();
        let retained = rule.name().starts_with("punctual:jobs:");
        world.recorded.insert(rule.name().to_owned(), Recorded { labels, retained });
    }
    for rule in rules.iter().filter(|r| r.alert.is_some()) {
        world.alerts.insert(rule.name().to_owned());
        world.severities.extend(rule.labels.get("severity").cloned());
        let own = rule.labels.keys().cloned();
        let result = labels(rule, &world).unwrap_or_default();
        world.alert_labels.extend(own.chain(result.into_keys()));
    }
    world
}

pub fn check(rule: &Rule, world: &World, found: &mut Findings) {
    found.at(rule.place());
    if rule.alert.is_some() == rule.record.is_some() {
        found.say("it is not one of an alert and a recording", "say `alert` or `record`");
    }
    let shape = query::check(rule.used(), &rule.expr, &Variables::new(), world, found);
    if rule.record.is_some() {
        recorded::check(rule, found);
        return;
    }
    let result = match shape {
        Some(Shape::Series(labels)) => labels,
        Some(Shape::Number) => Labels::new(),
        Some(Shape::Unknown) | None => return,
    };
    let labels: BTreeSet<String> = result.into_keys().collect();
    for text in rule.labels.values().chain(rule.annotations.values()) {
        templates::check(text, &labels, world, found);
    }
    for key in ["dashboard_url", "runbook_url"] {
        if let Some(url) = rule.annotations.get(key) {
            dashboards::check_link(url, &dashboards::uids(), found);
        }
    }
}

/// Alertmanager's example: the alerts, labels and severities that it matches are ours.
fn check_routing(text: &str, world: &World, found: &mut Findings) {
    for line in text.lines().map(str::trim).filter(|l| !l.starts_with('#')) {
        let quoted = |label: &str| {
            let mut values = Vec::new();
            for rest in line.split(label).skip(1).map(str::trim_start) {
                if rest.starts_with(['=', '!']) {
                    values.extend(rest.split('"').nth(1).unwrap_or_default().split('|'));
                }
            }
            values
        };
        for name in quoted("alertname").into_iter().filter(|n| !n.contains(['.', '*', '+'])) {
            if !world.alerts.contains(name) {
                found.say(format!("there is no alert {name}"), "name one of alerts/*.yml");
            }
        }
        for severity in quoted("severity") {
            if !world.severities.contains(severity) {
                found.say(format!("no alert has the severity {severity}"), "name one that is used");
            }
        }
        if let Some(labels) = line.strip_prefix("equal: [").or(line.strip_prefix("group_by: [")) {
            let labels = labels.trim_end_matches(']').split(", ");
            let known = |l: &&str| {
                let fleet = ["alertname", "cluster", "environment", "namespace"];
                fleet.contains(l) || TARGET.contains(l) || world.alert_labels.contains(*l)
            };
            for label in labels.filter(|l| !known(l)) {
                found.say(format!("no alert has the label {label}"), "compare one that they have");
            }
        }
    }
}

#[test]
fn every_rule_keeps_the_contract() {
    let (rules, mut found) = (ours(), Findings::default());
    let world = world(&rules);
    for rule in &rules {
        check(rule, &world, &mut found);
    }
    recorded::complete(&rules, found.at("alerts/punctual.rules.yml"));
    found.none();
}

#[test]
fn the_routing_example_names_what_there_is() {
    let (file, mut found) = ("alerts/alertmanager.example.yml", Findings::default());
    check_routing(&files::read(file), &world(&ours()), found.at(file));
    found.none();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rule: &str) -> Findings {
        let rule = rule.replace('\n', "\n      ");
        let text = format!("groups:\n  - name: g\n    rules:\n    - {rule}\n");
        let (rules, mut found) = (parse("sins.yml", &text), Findings::default());
        check(&rules[0], &world(&rules), &mut found);
        found
    }

    #[test]
    fn findings_say_in_which_rule() {
        of("alert: PunctualX\nexpr: punctual_jobs_lost_total > 0").only(
            "sins.yml, PunctualX",
            "punctual_jobs_lost_total counts from the start",
            "take rate",
        );
        of("alert: PunctualX\nexpr: sum(").only("sins.yml, PunctualX", "is no query", "correct it");
        of("expr: vector(1)").only("sins.yml, a rule without", "not one of", "say `alert`");
    }

    #[test]
    fn an_alert_that_reads_a_recording() {
        let text = "groups:\n- name: g\n  rules:\n  - record: punctual:queue_depth:max\n    expr: max without (instance, pod) (punctual_queue_depth)\n  - alert: PunctualX\n    expr: punctual:queue_depth:max > 9\n";
        let (rules, mut found) = (parse("sins.yml", text), Findings::default());
        for rule in &rules {
            check(rule, &world(&rules), &mut found);
        }
        found.only("PunctualX", "punctual:queue_depth:max is recorded by another", "write its");
    }

    #[test]
    fn texts_that_show_what_is_not_there() {
        let alert = |more: &str| of(&format!("alert: PunctualX\nexpr: up == 0\n{more}"));
        alert("annotations:\n  summary: \"{{ $labels.instance }}\"").none();
        alert("annotations:\n  description: \"{{ $labels.queue }}\"").only(
            "sins.yml, PunctualX",
            "shows $labels.queue",
            "it has instance, job, pod",
        );
        alert("labels:\n  team: \"{{ $labels.task }}\"").only(
            "PunctualX",
            "$labels.task",
            "it has",
        );
        let url = "https://grafana.example/d/punctual-cue?var-queue={{ $labels.job }}";
        alert(&format!("annotations:\n  dashboard_url: {url}")).only(
            "PunctualX",
            "there is no dashboard punctual-cue",
            "punctual-overview, punctual-queue",
        );
        let url = "https://punctual.example/docs/RUNBOOKS.md#punctualx";
        alert(&format!("annotations:\n  runbook_url: {url}")).only(
            "PunctualX",
            "docs/RUNBOOKS.md#punctualx, and no heading",
            "write the section",
        );
    }

    #[test]
    #[should_panic(expected = "keep_fireing_for")]
    fn a_field_that_prometheus_does_not_know() {
        of("alert: PunctualX\nexpr: up == 0\nkeep_fireing_for: 2m");
    }

    #[test]
    fn routing_by_what_there_is_not() {
        let rules = parse(
            "sins.yml",
            "groups:\n- name: g\n  rules:\n  - alert: PunctualX\n    expr: up == 0\n    labels: {severity: info}\n",
        );
        let of = |line: &str| {
            let mut found = Findings::default();
            check_routing(line, &world(&rules), found.at("routing"));
            found
        };
        of(r#"- matchers: [alertname = "PunctualX", severity = "info"]"#).none();
        of(r#"- alertname =~ "PunctualX|PunctualY""#).only(
            "routing",
            "there is no alert PunctualY",
            "name one of alerts/*.yml",
        );
        of(r#"- matchers: [severity = "criticle"]"#).only("routing", "severity criticle", "used");
        of("equal: [cluster, kind]").only("routing", "no alert has the label kind", "compare one");
    }
}
