//! What every dashboard and every panel has, whatever it shows.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::dashboards::{self, Dashboard, Uids, list, text};
use crate::files;
use crate::finding::Findings;

/// What is shown at once can still be read, and loaded.
const MOST_PANELS: usize = 25;
const VARIABLES: [&str; 4] = ["datasource", "job", "instance", "queue"];

pub fn check(dashboard: &Dashboard, uids: &Uids, found: &mut Findings) {
    let json = &dashboard.json;
    let file = dashboard.file.as_str();
    found.at(file);
    let stem = file.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    let mut must = |pointer: &str, expected: Value| {
        let value = json.pointer(pointer).unwrap_or(&Value::Null);
        if *value != expected {
            found.say(format!("{pointer} is {value}"), format!("make it {expected}"));
        }
    };
    must("/uid", format!("punctual-{stem}").into());
    // Opens in Grafana 10 to 13.
    must("/schemaVersion", 42.into());
    must("/editable", false.into());
    must("/graphTooltip", 1.into());
    let panels = dashboard.panels();
    if panels.len() > MOST_PANELS {
        found.say(
            format!("it has {} panels", panels.len()),
            format!("keep to {MOST_PANELS}, rows included: merge some, or make another dashboard"),
        );
    }
    let variables = dashboard.variables();
    for name in VARIABLES.into_iter().filter(|name| !variables.contains_key(*name)) {
        found.say(format!("it has no variable {name}"), "every dashboard has them all");
    }
    for read in ["ALERTS", "punctual_build_info"] {
        if !dashboard.annotations().any(|a| text(a, "expr").contains(read) && a["enable"] == true) {
            found.say(format!("no annotation reads {read}"), "mark deploys and firing alerts");
        }
    }
    for link in list(json, "/links") {
        dashboards::check_link(text(link, "url"), uids, found);
    }
    let mut ids = BTreeSet::new();
    for panel in panels {
        found.at(&*panel.place);
        if !panel.json["id"].as_u64().is_some_and(|id| id > 0 && ids.insert(id)) {
            found.say("its id is not its own", "links lead to ids: take the next free number");
        }
        if text(panel.json, "title").is_empty() {
            found.say("it has no title", "say what it shows");
        }
        if text(panel.json, "type") != "row" {
            check_panel(panel.json, found);
            links(panel.json, uids, found);
        }
    }
    data_sources(dashboard, found);
}

fn check_panel(panel: &Value, found: &mut Findings) {
    if text(panel, "type") == "piechart" {
        found.say(
            "it is a pie chart",
            "use bars or a table: shares over time cannot be read off it",
        );
    }
    for (what, value, cure) in [
        ("description", panel.get("description"), "say what it shows and when to worry"),
        ("unit", panel.pointer("/fieldConfig/defaults/unit"), "set fieldConfig.defaults.unit"),
        ("min", panel.pointer("/fieldConfig/defaults/min"), "set fieldConfig.defaults.min"),
        (
            "noValue",
            panel.pointer("/fieldConfig/defaults/noValue"),
            "say in fieldConfig.defaults.noValue what it means that there is nothing",
        ),
    ] {
        let empty = value.is_none_or(|v| v.is_null() || v.as_str().is_some_and(str::is_empty));
        if empty {
            found.say(format!("it has no {what}"), cure);
        }
    }
    let mut ids = BTreeSet::new();
    for target in list(panel, "/targets") {
        if !ids.insert(text(target, "refId")) || text(target, "refId").is_empty() {
            found.say("two queries have the same refId, or one has none", "letter them A, B, …");
        }
    }
    if ids.is_empty() {
        found.say("it has no query", "give it one, or remove it");
    }
}

/// Links to dashboards, of series and of cells.
fn links(panel: &Value, uids: &Uids, found: &mut Findings) {
    let own = list(panel, "/links").chain(list(panel, "/fieldConfig/defaults/links"));
    let properties = list(panel, "/fieldConfig/overrides").flat_map(|o| list(o, "/properties"));
    let overriding = properties.filter(|p| p["id"] == "links").flat_map(|p| list(p, "/value"));
    for link in own.chain(overriding) {
        dashboards::check_link(text(link, "url"), uids, found);
    }
}

/// Everything that asks, asks the data source that is chosen at the top.
fn data_sources(dashboard: &Dashboard, found: &mut Findings) {
    let chosen = serde_json::json!({"type": "prometheus", "uid": "${datasource}"});
    let mut must = |place: String, json: &Value| {
        if json["datasource"] != chosen {
            found.at(place).say(
                format!("its data source is {}", json["datasource"]),
                format!("make it {chosen}"),
            );
        }
    };
    for panel in dashboard.panels().iter().filter(|p| text(p.json, "type") != "row") {
        must(panel.place.clone(), panel.json);
        for target in list(panel.json, "/targets") {
            must(format!("{}, query {}", panel.place, text(target, "refId")), target);
        }
    }
    for annotation in dashboard.annotations() {
        must(format!("{}, annotation {}", dashboard.file, annotation["name"]), annotation);
    }
    for variable in list(&dashboard.json, "/templating/list") {
        if text(variable, "type") == "query" {
            must(format!("{}, variable {}", dashboard.file, variable["name"]), variable);
        }
    }
}

/// The tables in the folder's README: each dashboard's uid, and the question of each row.
fn listed(readme: &str) -> (BTreeSet<[String; 2]>, BTreeSet<[String; 2]>) {
    let (mut uids, mut rows) = (BTreeSet::new(), BTreeSet::new());
    let mut last = String::new();
    for line in readme.lines().filter(|l| l.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, first, second, third, _] = cells[..] else { continue };
        let plain = |cell: &str| cell.trim_matches('`').to_owned();
        if first.ends_with(".json`") {
            uids.insert([plain(first), plain(second)]);
        } else if !first.starts_with('-') && third != "question" && third != "for" {
            if !first.is_empty() {
                first.clone_into(&mut last);
            }
            rows.insert([last.clone(), second.to_owned()]);
        }
    }
    (uids, rows)
}

#[test]
fn the_readme_lists_the_dashboards_and_their_rows() {
    let (uids, rows) = listed(&files::read("dashboards/README.md"));
    let (mut own_uids, mut own_rows) = (BTreeSet::new(), BTreeSet::new());
    for dashboard in dashboards::ours() {
        let name = dashboard.file.trim_start_matches("dashboards/").to_owned();
        let stem = name.trim_end_matches(".json").to_owned();
        for row in dashboard.panels().iter().filter(|p| text(p.json, "type") == "row") {
            own_rows.insert([stem.clone(), text(row.json, "title").to_owned()]);
        }
        own_uids.insert([name, text(&dashboard.json, "uid").to_owned()]);
    }
    assert_eq!(uids, own_uids, "dashboards/README.md (left) and the files");
    assert_eq!(rows, own_rows, "dashboards/README.md (left) and the rows");
}
