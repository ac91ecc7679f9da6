//! The server's own jobs, and what is remembered of everybody's.

use std::collections::HashSet;

use punctual::store::ListFilter;
use punctual::telemetry::exposition::Format;

use super::*;

const QUEUE: &str = "_canary";

/// As a label's value: the canary has metrics of its own.
const LABEL: &str = "=\"_canary\"";

fn ours() -> Submission {
    Submission {
        queue: Name::trusted(QUEUE),
        kind: Name::trusted("system.canary"),
        max_attempts: Some(1),
        retention: Some(SECOND),
        ..World::submission()
    }
}

fn claims(queue: &str) -> ClaimOrder {
    ClaimOrder { queues: vec![Name::trusted(queue)], max_jobs: 10, ..World::order(Duration::ZERO) }
}

/// What an interrupted canary leaves behind ends by itself, and nobody hears of it.
#[tokio::test]
async fn an_interrupted_job_of_ours_ends_without_a_trace() {
    let w = world();
    let engine = &w.engine;
    // The first pass of a reaper extends leases; those that follow take back.
    w.reap().await;
    let mut left = Vec::new();
    for _ in 0..2 {
        let accepted = engine.submit(&w.everyone, ours(), Hold::Never).await.expect("accepted");
        left.push(accepted.view.record.spec.id);
        // One stays leased to somebody who is gone.
        if left.len() == 1 {
            let order = ClaimOrder { lease: Some(SECOND), ..claims(QUEUE) };
            assert_eq!(engine.claim(&w.everyone, order).await.expect("a claim").jobs.len(), 1);
        }
    }
    let before = engine.events().render(Format::Text);
    assert!(!before.contains(LABEL), "{before}");
    engine.sample().await.expect("a sample");
    assert!(engine.queues().await.expect("queues").is_empty());
    assert!(engine.workers().await.expect("workers").is_empty());
    let listed =
        engine.list(&w.everyone, ListFilter::default(), false, None, 10).await.expect("a list");
    assert!(listed.jobs.is_empty());

    w.clock.advance(2 * SECOND);
    w.reap().await;
    assert_eq!(w.status(left[0]).await.0, Status::Failed);
    // The other one is found by the next canary, and completed beside it.
    engine.start_canary(Duration::from_secs(3_600));
    let back = "punctual_canary_duration_seconds_count 1";
    w.until_counted(back).await;
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    while !matches!(engine.job(&w.everyone, left[1], false).await, Err(Failure::Lost)) {
        assert!(tokio::time::Instant::now() < patience, "it is still there");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    let metrics = engine.events().render(Format::Text);
    for (name, value) in [
        ("punctual_jobs_lost_total", 1),
        ("punctual_jobs_expired_total", 0),
        ("punctual_canary_failures_total", 0),
        ("punctual_job_payload_bytes_count", 0),
        ("punctual_label_overflow_total{label=\"queue\"}", 0),
        ("punctual_leases_taken_back_total{cause=\"worker_silent\",queue=\"_other\"}", 0),
        ("punctual_attempts_finished_total{outcome=\"lease_expired\",queue=\"_other\"}", 0),
    ] {
        let line = format!("{name} {value}");
        assert!(metrics.lines().any(|l| l == line), "no {line} in:\n{metrics}");
    }
    assert!(!metrics.contains(LABEL), "{metrics}");
    engine.tasks().stop().await;
}

/// However the end of a job and the answer to its submission overtake each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_advice_is_held_against_the_end_exactly_once() {
    const JOBS: usize = 200;
    let w = world();
    let (engine, everyone) = (w.engine.clone(), w.everyone.clone());
    let worker = tokio::spawn(async move {
        let mut done = HashSet::new();
        while done.len() < JOBS {
            let order = World::order(Duration::from_secs(50));
            let grant = engine.claim(&everyone, order).await.expect("a claim");
            let settlements = grant.jobs.into_iter().map(|leased| {
                done.insert(leased.spec.id);
                SettleOrder {
                    id: leased.spec.id,
                    token: leased.token,
                    report: ReportOrder::Completed { result: None },
                }
            });
            let settlements = settlements.collect();
            engine.settle(&everyone, settlements, None).await.expect("settled");
        }
    });
    for _ in 0..JOBS {
        w.submit().await;
    }
    worker.await.expect("the worker");
    // The clock stands still, so all ended before their moment.
    let line = format!("punctual_retry_after_offset_seconds_count{{direction=\"early\"}} {JOBS}");
    w.until_counted(&line).await;
}
