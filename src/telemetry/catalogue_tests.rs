use std::collections::HashSet;

use super::*;

#[test]
fn names_follow_the_conventions() {
    let mut seen = HashSet::new();
    for m in ALL {
        let name = m.name;
        assert!(seen.insert(name), "{name} is declared twice");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        assert!(
            ["punctual_", "http_server_", "process_"].iter().any(|p| name.starts_with(p)),
            "{name}"
        );
        assert_eq!(name.ends_with("_total"), m.kind == Kind::Counter, "{name}");
        if m.unit != Unit::None {
            let base = name.strip_suffix("_total").unwrap_or(name);
            let base = base.strip_suffix("_timestamp").unwrap_or(base);
            assert!(base.ends_with(m.unit.as_str()), "{name}: unit {}", m.unit.as_str());
        }
        assert!(m.help.ends_with('.') && !m.help.contains('\n'), "{name}: help");
        assert!(!m.read.is_empty() && !m.read.contains('\n'), "{name}: how to read it");
    }
}

#[test]
fn labels_are_closed_or_capped_and_never_identities() {
    for m in ALL {
        let names = m.label_names();
        let unique: HashSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len(), "{}", m.name);
        for label in m.labels {
            let id = ["job", "job_id", "trace_id", "worker", "worker_id", "client", "error", "le"];
            assert!(!id.contains(&label.name), "{}: {}", m.name, label.name);
            if let Values::Closed(values) = label.values {
                let distinct: HashSet<_> = values.iter().collect();
                assert_eq!(distinct.len(), values.len(), "{}: {}", m.name, label.name);
            }
        }
        let capped = |l: &Label| l.values.capped();
        assert!(!m.labels.iter().skip(1).any(capped), "{}: a capped label comes first", m.name);
    }
}

/// The prometheus crate tells the series of a family apart by a hash of their label values
/// written one after another, so no two combinations may spell the same text.
#[test]
fn no_two_combinations_spell_the_same() {
    for m in ALL {
        let spelled: Vec<_> = m.combinations("").iter().map(|c| c.concat()).collect();
        let distinct: HashSet<_> = spelled.iter().collect();
        assert_eq!(distinct.len(), spelled.len(), "{}", m.name);
        if m.labels.iter().any(|l| l.values.capped()) {
            // Names vary in front: no rest may end with another rest.
            for a in &spelled {
                let hidden = spelled.iter().find(|b| a != *b && a.ends_with(b.as_str()));
                assert!(hidden.is_none(), "{}: {a} ends with {hidden:?}", m.name);
            }
        }
    }
}

#[test]
fn buckets_ascend_and_are_few() {
    for m in ALL {
        if let Kind::Histogram(bounds) = m.kind {
            assert!(bounds.windows(2).all(|w| w[0] < w[1]), "{}", m.name);
            assert!(bounds.len() < 20, "{}: at most 20 with +Inf", m.name);
        }
    }
}

#[test]
fn the_reading_fits_the_scope() {
    for m in ALL {
        match m.scope {
            Scope::Process => assert!(m.read.contains("sum"), "{}: {}", m.name, m.read),
            Scope::Store => {
                assert!(m.read.contains("max") && !m.read.contains("sum"), "{}", m.name);
                assert!(m.kind == Kind::Gauge, "{}: the store's facts are gauges", m.name);
            }
            Scope::Liveness => {
                assert!(m.kind == Kind::Gauge, "{}", m.name);
                assert!(m.read.contains("time()") || m.read.contains("max"), "{}", m.name);
            }
        }
    }
}

#[test]
fn a_queue_costs_at_most_250_series() {
    let series: usize = ALL
        .iter()
        .filter(|m| m.by_queue())
        .map(|m| {
            let each = match m.kind {
                Kind::Counter | Kind::Gauge => 1,
                Kind::Histogram(bounds) => bounds.len() + 3,
            };
            each * m.combinations("q").len()
        })
        .sum();
    assert!(series <= 250, "{series}");
}

#[test]
fn the_documentation_names_every_metric_once() {
    let text = docs_markdown();
    for m in ALL {
        assert_eq!(text.matches(&format!("### `{}`\n", m.name)).count(), 1, "{}", m.name);
    }
}

#[test]
fn programs_read_the_same_as_people() {
    let document: serde_json::Value = serde_json::from_str(&docs_json()).unwrap();
    let metrics = document["metrics"].as_array().unwrap();
    assert_eq!(metrics.len(), ALL.len());
    for (json, m) in metrics.iter().zip(ALL) {
        assert_eq!(json["name"], m.name);
        assert_eq!(json["type"], m.kind.as_str(), "{}", m.name);
        assert_eq!(json["scope"], m.scope.as_str(), "{}", m.name);
        assert_eq!(json["help"], m.help, "{}", m.name);
        assert_eq!(json["read"], m.read, "{}", m.name);
        assert_eq!(json["debug"].as_str(), m.debug, "{}", m.name);
        assert_eq!(json["unit"].as_str(), (m.unit != Unit::None).then(|| m.unit.as_str()));
        let bounds = json["buckets"].as_array().map(Vec::len);
        match m.kind {
            Kind::Histogram(buckets) => assert_eq!(bounds, Some(buckets.len()), "{}", m.name),
            Kind::Counter | Kind::Gauge => assert_eq!(bounds, None, "{}", m.name),
        }
        let labels = json["labels"].as_array().unwrap();
        assert_eq!(labels.len(), m.labels.len(), "{}", m.name);
        for (json, label) in labels.iter().zip(m.labels) {
            assert_eq!(json["name"], label.name);
            match label.values {
                Values::Closed(values) => assert_eq!(json["values"], serde_json::json!(values)),
                Values::Queue { .. } | Values::Kind | Values::ErrorClass => {
                    assert_eq!(json["values"], "open, capped");
                    assert_eq!(json["reserved"][0], "_other");
                }
                Values::StatusCode | Values::Fixed(_) => assert!(json["values"].is_string()),
            }
        }
    }
}

#[test]
fn what_nobody_watches_says_why() {
    for m in ALL {
        assert!(m.debug.is_none_or(|why| why.ends_with('.') && !why.contains('\n')), "{}", m.name);
    }
}
