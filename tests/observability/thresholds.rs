//! A threshold that copies a default of the configuration is wrong as soon as somebody configures.
//!
//! `age > 300` means `stuck_after` to its author, and goes on meaning 5 minutes when `stuck_after`
//! is an hour. Thresholds that are configured are exported, and compared metric with metric. So a
//! number that a series of ours is compared with, in a query or by the colours of a panel, must not
//! be the default of a key of the same unit. Numbers up to 1 are everywhere and mean nothing; a
//! comparison that is right although the numbers agree is listed in [`CHANCE`], with the reason.

use std::collections::BTreeMap;

use promql_parser::parser::Expr;
use punctual::config::Config;
use punctual::telemetry::catalogue::Unit;
use serde_json::Value;

use crate::dashboards::{Panel, list, text};
use crate::finding::Findings;
use crate::known;
use crate::terms::{constant, is_comparison, names, operators};

/// Where (in the place of the finding, or the query's text) a number agrees with a default by
/// chance, and why it is no copy of it.
const CHANCE: &[(&str, f64, &str)] = &[];

/// The defaults of this unit, by key. Whole numbers without one are left out: the configuration's
/// (connections, attempts, labels) bound nothing that is exported, and agree with anything.
fn defaults(of: Unit) -> BTreeMap<String, f64> {
    let sample: toml::Table = toml::from_str(&Config::sample_toml()).expect("the sample is TOML");
    let mut all = BTreeMap::new();
    collect("", &sample, &mut all);
    all.into_iter().filter(|(_, (unit, _))| *unit == of).map(|(key, (_, n))| (key, n)).collect()
}

fn collect(prefix: &str, table: &toml::Table, all: &mut BTreeMap<String, (Unit, f64)>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            toml::Value::Table(inner) => collect(&format!("{key}."), inner, all),
            toml::Value::Integer(number) => {
                if key.ends_with("_bytes") {
                    all.insert(key, (Unit::Bytes, *number as f64));
                }
            }
            toml::Value::String(text) => {
                let span = text.parse::<humantime::Duration>().ok();
                let seconds = span.map(|span| (Unit::Seconds, span.as_secs_f64()));
                let number = seconds.or_else(|| size(text).map(|bytes| (Unit::Bytes, bytes)));
                all.extend(number.map(|number| (key, number)));
            }
            toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_) => {}
        }
    }
}

/// `256MB`.
fn size(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let factor = match &text[end..] {
        "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1_024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        _ => return None,
    };
    Some(text[..end].parse::<f64>().ok()? * factor)
}

/// The units of what an expression reads, of ours.
fn units(expr: &Expr) -> Vec<Unit> {
    let metrics = names(expr).into_iter().filter_map(|name| known::metric(&name));
    metrics.map(|(metric, _)| metric.unit).collect()
}

fn judge(number: f64, unit: Unit, where_: &str, found: &mut Findings) {
    if number <= 1.0 || CHANCE.iter().any(|(at, n, _)| where_.contains(at) && same(*n, number)) {
        return;
    }
    let copied = defaults(unit).into_iter().find(|(_, default)| same(*default, number));
    if let Some((key, _)) = copied {
        found.say(
            format!("{number} is the default of {key}, which can be configured"),
            "compare with the metric that exports it, or say in CHANCE why it is no copy",
        );
    }
}

fn same(a: f64, b: f64) -> bool {
    a.total_cmp(&b).is_eq()
}

pub fn check(expr: &Expr, found: &mut Findings) {
    for binary in operators(expr).filter(|b| is_comparison(&b.op.to_string())) {
        let (series, number) = match (constant(&binary.lhs), constant(&binary.rhs)) {
            (None, Some(number)) => (&binary.lhs, number),
            (Some(number), None) => (&binary.rhs, number),
            (Some(_), Some(_)) | (None, None) => continue,
        };
        // An expression of several units is a computation of its own.
        let mut units = units(series);
        units.dedup();
        if let [unit] = units[..] {
            judge(number, unit, &series.to_string(), found);
        }
    }
}

/// The colours of a panel, and of its columns.
pub fn check_panel(panel: &Panel<'_>, found: &mut Findings) {
    let defaults = &panel.json["fieldConfig"]["defaults"];
    steps(text(defaults, "unit"), &defaults["thresholds"], &panel.place, found);
    for field in list(panel.json, "/fieldConfig/overrides") {
        let property = |id: &str| list(field, "/properties").find(|p| p["id"] == id);
        let own = property("unit").and_then(|p| p["value"].as_str());
        let unit = own.unwrap_or_else(|| text(defaults, "unit"));
        if let Some(thresholds) = property("thresholds") {
            steps(unit, &thresholds["value"], &panel.place, found);
        }
    }
}

fn steps(unit: &str, thresholds: &Value, place: &str, found: &mut Findings) {
    let unit = match unit {
        "s" | "dtdurations" => Unit::Seconds,
        "bytes" | "decbytes" => Unit::Bytes,
        _ => return,
    };
    for number in list(thresholds, "/steps").filter_map(|step| step["value"].as_f64()) {
        judge(number, unit, place, found);
    }
}

#[test]
fn what_agrees_by_chance_is_a_default() {
    for (place, number, why) in CHANCE {
        let all = [Unit::Seconds, Unit::Bytes].map(defaults);
        let known = all.iter().any(|all| all.values().any(|default| same(*default, *number)));
        assert!(known && !why.is_empty(), "{place}: {number} needs no excuse");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::query::{Use, sin};

    #[test]
    fn defaults_are_read() {
        for (unit, key, expected) in [
            (Unit::Seconds, "watchdog.stuck_after", 300.0),
            (Unit::Seconds, "jobs.retention.failed", 604_800.0),
            (Unit::Bytes, "store.min_free", 256e6),
            (Unit::Bytes, "jobs.max_payload_bytes", 1_048_576.0),
        ] {
            assert!(same(defaults(unit)[key], expected), "{key}: {:?}", defaults(unit));
        }
    }

    #[test]
    fn a_number_that_is_configured_elsewhere() {
        let of = |metric: &str, compared: &str| {
            sin(Use::Alert, &format!("max without (instance, pod) ({metric}) {compared}"))
        };
        let age = "punctual_queue_oldest_pending_age_seconds";
        let cure = "compare with the metric that exports it";
        of(age, "> 300").only("here", "300 is the default of ", cure);
        of(age, "> 5 * 60").only("here", "300 is the default of ", cure);
        of(age, ">= 3600").only("here", "3600 is the default of jobs.timeout", cure);
        let free = "punctual_store_free_bytes";
        of(free, "< 256000000").only("here", "256000000 is the default of store.min_free", cure);
        sin(Use::Alert, &format!("300 < max without (instance, pod) ({age})")).only(
            "here",
            "300 is the default of ",
            cure,
        );
        // Of another unit, or of nobody.
        of(age, "> 299").none();
        of(free, "< 300").none();
        of("punctual_queue_depth", "> 300").none();
        of(age, "> 0").none();
    }

    #[test]
    fn colours_that_are_configured_elsewhere() {
        let of = |unit: &str, value: u32| {
            let thresholds = json!({"steps": [{"value": null}, {"value": value}]});
            let json = json!({"fieldConfig": {
                "defaults": {"unit": "none", "thresholds": {"steps": [{"value": 1}]}},
                "overrides": [{"properties": [
                    {"id": "unit", "value": unit}, {"id": "thresholds", "value": thresholds},
                ]}],
            }});
            let mut found = Findings::default();
            check_panel(&Panel { place: "panel".into(), json: &json }, found.at("panel"));
            found
        };
        of("s", 300).only("panel", "300 is the default of ", "compare with the metric");
        of("bytes", 256_000_000).only("panel", "default of store.min_free", "compare with");
        of("s", 256_000_000).none();
        of("percentunit", 300).none();
    }
}
