//! `punctual bench`: small runs of every scenario. Nothing here looks at a figure.

use crate::place::{DONE, Place, USAGE, run};

/// Small, on servers whose maintenance runs often enough to be seen.
fn bench(place: &Place, words: &[&str]) -> tokio::process::Command {
    let mut command = place.punctual(&["bench"]);
    command
        .args(words)
        .args(["--duration", "200ms", "--connections", "2", "--jobs", "60"])
        .args(["--preload-finished", "40", "--preload-pending", "20"])
        .env("PUNCTUAL_TASKS__RETENTION", "500ms")
        .env("PUNCTUAL_TASKS__SAMPLER", "500ms");
    command
}

#[tokio::test]
async fn every_load_is_exact_and_its_report_is_json() {
    let place = Place::new();
    let loads = ["baseline", "accept", "cycle", "drain", "solo", "pickup"];
    let report = run(bench(&place, &[&loads[..], &["--json"]].concat())).await.ended(DONE).json();
    let text = report.to_string();
    for scenario in loads {
        assert!(text.contains(scenario), "{scenario} is not in {text}");
    }
    assert!(!report["rows"].as_array().expect("rows").is_empty(), "{text}");
    for check in report["delivery"].as_array().expect("checks") {
        assert_eq!((&check["lost"], &check["duplicated"]), (&0.into(), &0.into()), "{check}");
    }
    let left: Vec<_> = std::fs::read_dir(place.dir.path()).expect("the directory").collect();
    assert!(left.len() <= 5, "its stores are gone: {left:?}");
}

#[tokio::test]
async fn the_cost_of_a_full_store_is_shown_as_a_table() {
    let place = Place::new();
    let said = run(bench(&place, &["flat"])).await.ended(DONE);
    for part in ["SCENARIO", "flat claim", "flat /metrics", "lost 0, duplicated 0"] {
        assert!(said.out.contains(part), "{part} is not in {}", said.out);
    }
}

#[tokio::test]
async fn a_running_server_can_be_measured_too() {
    let place = Place::new();
    let said = run(bench(&place, &["solo", "--server", &place.url()])).await.ended(DONE);
    assert!(said.out.contains("lost 0, duplicated 0"), "{}", said.out);
    run(bench(&place, &["preload"])).await.ended(USAGE).complains(&["--server"]);
}
