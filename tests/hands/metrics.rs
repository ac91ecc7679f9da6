//! `punctual metrics`: the catalogue, held against what a server serves.

use std::collections::BTreeSet;

use crate::place::{DONE, NO, Place, USAGE};
use crate::server::until;

async fn scrape(place: &Place) -> String {
    let answer = reqwest::get(format!("{}/metrics", place.url())).await.expect("an answer");
    answer.text().await.expect("text")
}

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

    let scrape = scrape(&place).await;
    let types = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    for (name, kind) in types {
        let metric = metrics.iter().find(|m| m["name"] == name);
        assert_eq!(metric.unwrap_or_else(|| panic!("{name} is not listed"))["type"], kind);
    }
    let build = format!("store=\"sqlite\",version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"));
    assert!(scrape.contains(&build) && !scrape.contains("revision=\"\""), "{scrape}");
}

#[tokio::test]
async fn attempts_are_counted_by_kind_and_their_errors_by_class() {
    let place = Place::new();
    let good = place.submit(&["report", "--queue", "a"]).await;
    let bad = place.submit(&["resize", "--queue", "b", "--max-attempts", "1"]).await;
    let _works = place.worker(&["--queue", "a"], "cat\n");
    let _fails = place.worker(&["--queue", "b"], "exit 3\n");
    place.until_status(&good, "completed").await;
    place.until_status(&bad, "failed").await;
    // An attempt is counted just after its job's end can be seen.
    let scrape = until("the counts", || async {
        let scrape = scrape(&place).await;
        let ended = |kind: &str| {
            let ended = format!("_by_kind_total{{kind=\"{kind}\",");
            scrape.lines().any(|l| l.contains(&ended) && l.ends_with(" 1"))
        };
        (ended("report") && ended("resize") && scrape.contains("exit-3")).then_some(scrape)
    })
    .await;
    let by_kind = "punctual_attempts_finished_by_kind_total{kind=";
    for line in [
        format!("{by_kind}\"report\",outcome=\"completed\"}} 1"),
        format!("{by_kind}\"report\",outcome=\"failed\"}} 0"),
        format!("{by_kind}\"resize\",outcome=\"completed\"}} 0"),
        format!("{by_kind}\"resize\",outcome=\"failed\"}} 1"),
        "punctual_attempt_errors_total{error_class=\"exit-3\"} 1".to_owned(),
        "punctual_attempt_errors_total{error_class=\"lease-expired\"} 0".to_owned(),
        "punctual_log_events_total{level=\"error\"} 0".to_owned(),
    ] {
        assert!(scrape.lines().any(|l| l == line), "{line} is not in {scrape}");
    }
    // It said at least that it listens.
    assert!(!scrape.contains("punctual_log_events_total{level=\"info\"} 0"), "{scrape}");
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
