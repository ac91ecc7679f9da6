//! Names that others rely on: routes and silences on alerts, queries on recordings, links and
//! bookmarks on dashboards and panels. None of them goes or changes unnoticed.

use std::fmt::Write as _;

use crate::dashboards::{self, Dashboard, text};
use crate::rules::{self, Rule};

fn listed(rules: &[Rule], dashboards: &[Dashboard]) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{text}").expect("a string takes all");
    for rule in rules {
        match &rule.alert {
            Some(alert) => {
                let severity = rule.labels.get("severity").map_or("no severity", String::as_str);
                line(format!("alert {alert}, {severity}"));
            }
            None => line(format!("recording {}", rule.name())),
        }
    }
    for dashboard in dashboards {
        let uid = text(&dashboard.json, "uid");
        line(format!("dashboard {uid}"));
        for panel in dashboard.panels() {
            let (kind, title) = (text(panel.json, "type"), text(panel.json, "title"));
            line(format!("  {uid} {} {kind}: {title}", panel.json["id"]));
        }
    }
    out
}

/// `INSTA_UPDATE=always` accepts what was meant.
#[test]
fn what_others_rely_on_is_still_there() {
    insta::with_settings!({
        snapshot_path => "../snapshots",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, {
        insta::assert_snapshot!("public-names", listed(&rules::ours(), &dashboards::ours()));
    });
}
