//! `punctual metrics`: the catalogue, held against what a server serves.

use std::collections::BTreeSet;

use crate::place::{DONE, NO, Place, USAGE};

#[tokio::test]
async fn the_catalogue_lists_what_the_server_serves() {
    let place = Place::new();
    let table = place.run(&["metrics"]).await.ended(DONE).out;
    assert!(table.starts_with("NAME "), "{table}");
    let listed: BTreeSet<_> =
        table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    let json = place.run(&["metrics", "--json"]).await.ended(DONE).json();
    let metrics = json["metrics"].as_array().expect("metrics");
    let described: BTreeSet<_> = metrics.iter().filter_map(|m| m["name"].as_str()).collect();
    assert_eq!(listed, described);

    let scrape = reqwest::get(format!("{}/metrics", place.url())).await.expect("an answer");
    let scrape = scrape.text().await.expect("text");
    let types = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    for (name, kind) in types {
        let metric = metrics.iter().find(|m| m["name"] == name);
        assert_eq!(metric.unwrap_or_else(|| panic!("{name} is not listed"))["type"], kind);
    }
    assert!(!scrape.contains("revision=\"\""), "{scrape}");
}

#[tokio::test]
async fn one_metric_is_shown_with_how_to_read_it() {
    let place = Place::new();
    let name = "punctual_queue_oldest_pending_age_seconds";
    let shown = place.run(&["metrics", name]).await.ended(DONE).out;
    assert!(shown.starts_with(&format!("metric   {name}\n")), "{shown}");
    assert!(shown.contains(&format!("read it  max by (queue) ({name})")), "{shown}");
    let json = place.run(&["metrics", name, "--json"]).await.ended(DONE).json();
    assert_eq!((&json["name"], &json["scope"]), (&name.into(), &"store".into()));

    let unknown = place.run(&["metrics", "punctual_queue_dept"]).await.ended(NO);
    unknown.complains(&["no metric is called punctual_queue_dept", "punctual_queue_depth?"]);
    let strange = place.run(&["metrics", "zebra"]).await.ended(NO);
    strange.complains(&["`punctual metrics` lists them all"]);
    place.run(&["metrics", "a", "b"]).await.ended(USAGE);
}
