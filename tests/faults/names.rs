//! Somebody makes up names, nine thousand of them, nearly as many as the server keeps: the metrics
//! stay what they are.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::case::{Case, QUEUE};
use crate::expect::info;
use crate::workers::{Hands, QUICKLY, until_done};

const BATCH: usize = 1_000;
const BATCHES: usize = 9;

/// Labels of each kind.
const CAP: usize = 20;

/// Of a scrape with all its labels taken.
const MOST_BYTES: usize = 512 << 10;

pub(crate) async fn hostile(case: &mut Case) {
    case.set("LIMITS__QUEUES", &CAP.to_string());
    case.set("LIMITS__KINDS", &CAP.to_string());
    // A declared queue keeps its label, whoever else comes.
    case.start(&format!("[queues.{QUEUE}]\n")).await;
    case.healthy().await;

    // Kinds count when work is done.
    let hands = Hands::start(case, QUEUE, 8, QUICKLY);
    case.injected();
    for batch in 0..BATCHES {
        later(case, batch * BATCH, BATCH).await;
    }
    now(case, 3 * CAP).await;
    case.raises(&[
        info("PunctualLabelOverflow").with("label", "queue"),
        info("PunctualLabelOverflow").with("label", "kind"),
    ])
    .await;
    until_done(case, QUEUE).await;
    let (_, metrics) = case.get("/metrics").await;
    assert!(metrics.len() <= MOST_BYTES, "a scrape has {} bytes", metrics.len());
    assert!(values(&metrics, "queue").contains(QUEUE));
    for (label, others) in [("queue", 2), ("kind", 1)] {
        let values = values(&metrics, label);
        assert!(values.len() <= CAP + others, "{label}: {values:?}");
        assert!(values.contains("_other"), "{label}: {values:?}");
    }

    case.cured().await;
    case.clears().await;
    drop(hands);
}

/// Names of queues and kinds that nobody is to work on yet.
async fn later(case: &Case, from: usize, jobs: usize) {
    let job = |n: usize| json!({"kind": format!("k{n}"), "queue": format!("q{n}"), "delay_seconds": 3600});
    send(case, (from..from + jobs).map(job).collect()).await;
}

/// Names of kinds.
async fn now(case: &Case, jobs: usize) {
    let job = |n: usize| json!({"kind": format!("now{n}"), "queue": QUEUE});
    send(case, (0..jobs).map(job).collect()).await;
}

async fn send(case: &Case, jobs: Vec<Value>) {
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
