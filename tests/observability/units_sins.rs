//! Numbers in the wrong unit.

use promql_parser::parser;
use serde_json::json;

use super::*;
use crate::query::{Use, sin};

fn unit(text: &str) -> &'static str {
    let mut found = Findings::default();
    let unit = of(&parser::parse(text).expect("a query"), found.at("here"));
    found.none();
    unit.words()
}

#[test]
fn units_follow_through_an_expression() {
    let bytes = "punctual_job_payload_bytes";
    let wait = "punctual_job_wait_seconds";
    for (text, expected) in [
        ("punctual_store_size_bytes".to_owned(), "bytes"),
        ("max(punctual_queue_depth) > 0".to_owned(), "a count"),
        ("rate(punctual_attempts_started_total[5m])".to_owned(), "a count a second"),
        ("increase(punctual_attempts_started_total[5m])".to_owned(), "a count"),
        ("rate(process_cpu_seconds_total[5m])".to_owned(), "seconds a second"),
        (format!("rate({bytes}_sum[5m])"), "bytes a second"),
        (format!("rate({bytes}_sum[5m]) / (rate({bytes}_count[5m]) > 0)"), "bytes"),
        (format!("histogram_quantile(0.9, sum by (le) (rate({wait}_bucket[5m])))"), "seconds"),
        (format!("sum(increase({wait}_bucket[5m]))"), "a count"),
        ("process_open_fds / process_max_fds".to_owned(), "a quotient of counts"),
        ("punctual_store_free_bytes / punctual_store_size_bytes".to_owned(), "a ratio"),
        ("time() - max(process_start_time_seconds)".to_owned(), "seconds"),
        ("count(punctual_store_size_bytes)".to_owned(), "a count"),
        ("3 * punctual_task_interval_seconds + 10".to_owned(), "seconds"),
        ("punctual_store_size_bytes > bool 5".to_owned(), "a count"),
        ("5 < punctual_store_size_bytes".to_owned(), "bytes"),
        ("1 - rate(up[1m]) / rate(up[1m])".to_owned(), "a quotient of counts"),
        ("vector(0) or up".to_owned(), "a number"),
    ] {
        assert_eq!(unit(&text), expected, "{text}");
    }
}

#[test]
fn like_meets_like() {
    let max = |metric: &str| format!("max without (instance, pod) ({metric})");
    let size = max("punctual_store_size_bytes");
    let age = "max without (instance, pod, task) (punctual_task_interval_seconds)";
    sin(Use::Alert, &format!("{size} > {age}")).only(
        "here",
        "`>` of bytes and seconds",
        "compute with like and like",
    );
    sin(Use::Alert, &format!("{size} + {age} > 0")).only(
        "here",
        "`+` of bytes and seconds",
        "compute with like and like",
    );
    sin(Use::Alert, &format!("{size} > {}", max("punctual_store_free_bytes"))).none();
}

fn shown_as(panel: &Value, expr: &str) -> Findings {
    let mut found = Findings::default();
    let panel = Panel { place: "panel".into(), json: panel };
    let target = &panel.json["targets"][0];
    check_panel(&panel, target, &parser::parse(expr).expect("a query"), found.at("panel"));
    found
}

#[test]
fn a_panel_in_another_unit() {
    let panel = |unit: &str| {
        json!({"type": "timeseries", "targets": [{"refId": "A", "legendFormat": "age"}],
               "fieldConfig": {"defaults": {"unit": unit}}})
    };
    let age = "max(punctual_queue_oldest_pending_age_seconds)";
    let rate = "rate(punctual_attempts_started_total[5m])";
    shown_as(&panel("s"), age).none();
    shown_as(&panel("ops"), rate).none();
    shown_as(&panel("short"), age).only(
        "panel",
        "it is seconds, and is shown as short",
        "set its unit to one of s,",
    );
    shown_as(&panel("s"), rate).only("panel", "a count a second, and is shown as s", "ops");
    shown_as(&panel("bytes"), &format!("{age} / {age}")).only("panel", "a ratio", "percentunit");
}

#[test]
fn an_override_in_another_unit() {
    let panel = |id: &str, option: &str| {
        json!({"type": "table",
        "targets": [{"refId": "A", "legendFormat": "age"}, {"refId": "B"}],
        "transformations": [
            {"id": "organize", "options": {"renameByName": {"Value #A": "Oldest"}}},
        ],
        "fieldConfig": {"defaults": {"unit": "s"}, "overrides": [
            {"matcher": {"id": id, "options": option},
             "properties": [{"id": "unit", "value": "bytes"}]},
        ]}})
    };
    let age = "max(punctual_queue_oldest_pending_age_seconds)";
    for (id, option) in
        [("byFrameRefID", "A"), ("byName", "Oldest"), ("byName", "Value #A"), ("byName", "age")]
    {
        shown_as(&panel(id, option), age).only("panel", "shown as bytes", "one of s");
    }
    shown_as(&panel("byFrameRefID", "B"), age).none();
}

#[test]
fn a_heatmap_shows_its_buckets() {
    let panel = json!({"type": "heatmap", "targets": [{"refId": "A"}],
                       "fieldConfig": {"defaults": {"unit": "bytes"}}});
    let buckets = |metric: &str| format!("sum by (le) (increase({metric}_bucket[5m]))");
    shown_as(&panel, &buckets("punctual_job_payload_bytes")).none();
    shown_as(&panel, &buckets("punctual_job_wait_seconds")).only("panel", "seconds", "one of s");
}
