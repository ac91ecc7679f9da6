//! Scrapes that differ from the catalogue by one thing.

use std::fmt::Write as _;

use super::*;
use crate::scrape;

const NAMES: Names<'static> =
    Names { queues: &["mail"], kinds: &["send"], error_classes: &["lease-expired"] };

/// What the catalogue promises, word by word.
fn honest() -> String {
    let mut text = String::new();
    for metric in catalogue::ALL {
        let (name, kind) = (metric.name, metric.kind.as_str());
        writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", metric.help).unwrap();
        let mut series = vec![String::new()];
        let mut labels = metric.labels.to_vec();
        labels.sort_unstable_by_key(|l| l.name);
        for label in &labels {
            let values = NAMES.of(label).unwrap_or(vec!["200"]);
            let longer = |known: &String| {
                let pairs = values.iter().map(|v| format!("{known}{}=\"{v}\",", label.name));
                pairs.collect::<Vec<_>>()
            };
            series = series.iter().flat_map(longer).collect();
        }
        for labels in series {
            let braced = |labels: &str| match labels.trim_end_matches(',') {
                "" => String::new(),
                labels => format!("{{{labels}}}"),
            };
            let Kind::Histogram(bounds) = metric.kind else {
                writeln!(text, "{name}{} 0", braced(&labels)).unwrap();
                continue;
            };
            for bound in bounds.iter().map(ToString::to_string).chain(["+Inf".to_owned()]) {
                let labels = braced(&format!("{labels}le=\"{bound}\""));
                writeln!(text, "{name}_bucket{labels} 0").unwrap();
            }
            let labels = braced(&labels);
            writeln!(text, "{name}_sum{labels} 0\n{name}_count{labels} 0").unwrap();
        }
    }
    text
}

fn of(text: &str) -> Findings {
    let mut found = Findings::default();
    check(&scrape::parse(text).unwrap(), &NAMES, &mut found);
    found
}

/// What is found after `old` was replaced; it must be there.
fn sin(old: &str, new: &str) -> Findings {
    let honest = honest();
    assert_eq!(honest.matches(old).count(), 1, "{old} is there once");
    of(&honest.replace(old, new))
}

#[test]
fn the_truth() {
    of(&honest()).none();
}

#[test]
fn a_family_more_or_less() {
    let more = "# HELP punctual_fun Fun.\n# TYPE punctual_fun gauge\npunctual_fun 1\n";
    of(&(honest() + more)).only("/metrics, punctual_fun", "not in the catalogue", "declare it");
    let family = |metric: &Metric| {
        let honest = honest();
        let from = honest.find(&format!("# HELP {} ", metric.name)).unwrap();
        let to = honest[from + 1..].find("# HELP").map_or(honest.len(), |at| from + 1 + at);
        honest[from..to].to_owned()
    };
    for metric in catalogue::ALL {
        let place = format!("/metrics, {}", metric.name);
        let text = family(metric);
        sin(&text, "").only(&place, "in the catalogue and not exposed", "from the start");
    }
    let twice = honest() + &family(&catalogue::DEPTH);
    of(&twice).only("/metrics, punctual_queue_depth", "it comes twice", "register it once");
}

#[test]
fn another_help_or_type() {
    let help = catalogue::DEPTH.help;
    let place = "/metrics, punctual_queue_depth";
    sin(&format!("depth {help}"), "depth Deep.").only(place, "HELP is \"Deep.\"", help);
    sin("# TYPE punctual_queue_depth gauge", "# TYPE punctual_queue_depth counter").only(
        place,
        "TYPE is counter",
        "make it gauge",
    );
}

#[test]
fn labels_and_values_that_are_not_declared() {
    let place = "/metrics, punctual_attempts_started_total";
    let series = "punctual_attempts_started_total{queue=\"mail\"} 0\n";
    let with =
        |more: &str| sin(series, &format!("{series}punctual_attempts_started_total{more} 1\n"));
    with("{queue=\"post\"}").only(place, "queue=\"post\" is not one of its values", "declare");
    with("{queue=\"_none\"}").only(place, "queue=\"_none\" is not one", "declare the value");
    with("{queue=\"mail\"}").only(place, "[\"mail\"] comes twice", "one series for each");
    with("{queue=\"mail\",job=\"7\"}").only(
        place,
        "a series has the labels queue, job",
        "declared are queue",
    );
    let state = "punctual_jobs{queue=\"mail\",state=\"failed\"} 0\n";
    sin(state, &format!("{state}punctual_jobs{{queue=\"mail\",state=\"stuck\"}} 0\n")).only(
        "/metrics, punctual_jobs",
        "state=\"stuck\" is not one",
        "declare the value",
    );
    sin(state, "").only(
        "/metrics, punctual_jobs",
        "there is no series {queue=mail, state=failed}",
        "let it begin at 0",
    );
    let build = "punctual_build_info{revision=\"200\",store=\"200\",version=\"200\"} 0\n";
    let other = build.replacen("200", "201", 1);
    sin(build, &format!("{build}{other}")).only(
        "/metrics, punctual_build_info",
        "it has 2 series",
        "expose exactly one",
    );
}

#[test]
fn values_that_cannot_be() {
    let series = "punctual_jobs_lost_total 0";
    let place = "/metrics, punctual_jobs_lost_total";
    sin(series, "punctual_jobs_lost_total -1").only(place, "-1 is no value", "count from 0");
    sin(series, "punctual_jobs_lost_total NaN").only(place, "NaN is no value", "count from 0");
}

#[test]
fn histograms_that_differ() {
    let place = "/metrics, punctual_job_payload_bytes";
    let bucket = |le: &str| format!("punctual_job_payload_bytes_bucket{{le=\"{le}\"}} 0\n");
    let wrong = "[] has the buckets";
    sin(&bucket("256"), "").only(place, wrong, "[64.0, 256.0");
    sin(&bucket("256"), &bucket("255")).only(place, wrong, "[64.0, 256.0");
    sin(&bucket("256"), &(bucket("128") + &bucket("256"))).only(place, wrong, "[64.0, 256.0");
    sin(&bucket("+Inf"), "").only(place, wrong, "inf");
    sin(&bucket("256"), &bucket("256").replace(" 0", " 1")).only(
        place,
        "a bucket holds less than one below",
        "count upwards",
    );
    sin("payload_bytes_count 0", "payload_bytes_count 1").only(
        place,
        "_count is Some(1.0)",
        "same",
    );
    sin("punctual_job_payload_bytes_sum 0\n", "").only(place, "_sum is None", "less than 0");
}

#[test]
fn what_does_not_begin_at_zero() {
    let text = honest().replace(
        "punctual_heartbeats_total{outcome=\"lost\",queue=\"mail\"} 0",
        "punctual_heartbeats_total{outcome=\"lost\",queue=\"mail\"} 1",
    );
    assert_ne!(text, honest());
    let families = scrape::parse(&text).unwrap();
    let mut found = Findings::default();
    check_zero(&families, "mail", &[&catalogue::HEARTBEATS], &mut found);
    found.none();
    check_zero(&families, "mail", &[], &mut found);
    found.only("/metrics, punctual_heartbeats_total", "begins at 1", "begin at 0");
}
