//! Somebody makes up names, ten thousand of them: the metrics stay what they are.

use std::collections::BTreeSet;

use serde_json::json;

use crate::case::Case;
use crate::daemon::until;
use crate::expect::info;

const BATCH: usize = 1_000;
const BATCHES: usize = 10;

/// Labels of each kind.
const CAP: usize = 20;

/// Of a scrape with all its labels taken.
const MOST_BYTES: usize = 512 << 10;

pub(crate) async fn hostile(case: &mut Case) {
    case.set("LIMITS__QUEUES", &CAP.to_string());
    case.set("LIMITS__KINDS", &CAP.to_string());
    case.start("").await;
    case.healthy().await;

    case.injected();
    for batch in 0..BATCHES {
        send(case, batch * BATCH, BATCH).await;
    }
    // They go on until it is noticed.
    let mut sent = BATCH * BATCHES;
    until("somebody to notice", || {
        let noticed = case.heard().len() >= 2;
        sent += 10;
        let case = &*case;
        async move {
            if !noticed {
                send(case, sent, 10).await;
            }
            noticed.then_some(())
        }
    })
    .await;
    case.raises(&[
        info("PunctualLabelOverflow").with("label", "queue"),
        info("PunctualLabelOverflow").with("label", "kind"),
    ])
    .await;
    let (_, metrics) = case.get("/metrics").await;
    assert!(metrics.len() <= MOST_BYTES, "a scrape has {} bytes", metrics.len());
    for (label, others) in [("queue", 2), ("kind", 1)] {
        let values = values(&metrics, label);
        assert!(values.len() <= CAP + others, "{label}: {values:?}");
        assert!(values.contains("_other"), "{label}: {values:?}");
    }

    case.cured().await;
    case.clears().await;
}

/// Scheduled for later: nobody is to work on them.
async fn send(case: &Case, from: usize, jobs: usize) {
    let of = |n: usize| json!({"kind": format!("k{n}"), "queue": format!("q{n}"), "delay_seconds": 3600});
    let jobs: Vec<_> = (from..from + jobs).map(of).collect();
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = http
        .post(format!("{}/v1/jobs/batch", case.url()))
        .json(&json!({"jobs": jobs}))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status().as_u16(), 202, "{}", answer.text().await.unwrap_or_default());
}

fn values(metrics: &str, label: &str) -> BTreeSet<String> {
    let starts = [format!("{{{label}=\""), format!(",{label}=\"")];
    let of = |line: &str| {
        let (_, rest) = starts.iter().find_map(|start| line.split_once(start.as_str()))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    metrics.lines().filter_map(of).collect()
}
