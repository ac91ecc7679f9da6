//! Limits that somebody has set, and that are reached.

use std::time::Duration;

use crate::case::{Case, QUEUE};
use crate::expect::{critical, warning};
use crate::workers::{Doing, Hands, QUICKLY, job, submit, until_done, until_running};

const DEPTH: usize = 20;

/// Refused ones: more than the objective for submissions would forgive, were they our fault.
const REFUSED: usize = 40;

/// The limit does what it is for: it is told before it is reached, and no budget burns.
pub(crate) async fn queue_full(case: &mut Case) {
    // Whoever bounds a queue may let it wait.
    case.start(&format!("[queues.{QUEUE}]\nmax_depth = {DEPTH}\nstuck_after = \"10m\"\n")).await;
    let hands = Hands::start(case, QUEUE, 1, QUICKLY);
    case.healthy().await;

    case.injected();
    hands.now(Doing::Hang);
    submit(&case.client(), &job(QUEUE), 1).await;
    until_running(case, 1).await;
    submit(&case.client(), &job(QUEUE), DEPTH).await;
    let once = case.client().retry_for(Duration::ZERO);
    for _ in 0..REFUSED {
        let refused = once.submit(&job(QUEUE), None, punctual::client::Prefer::ASYNC).await;
        let refused = refused.expect_err("it is full");
        assert_eq!(refused.code(), Some("queue-full"), "{refused}");
    }
    case.raises(&[warning("PunctualQueueNearlyFull").with("queue", QUEUE)]).await;
    case.shows("punctual_job_submissions_total{outcome=\"queue_full\"}", REFUSED as f64).await;
    case.shows("punctual_job_submissions_total{outcome=\"unavailable\"}", 0.0).await;

    case.cured().await;
    hands.now(QUICKLY);
    until_done(case, QUEUE).await;
    case.clears().await;
    drop(hands);
}

pub(crate) async fn start_rate(case: &mut Case) {
    // As where a limit of one job is lifted by a restart.
    case.set("WATCHDOG__INTERVAL", "3s");
    case.start(&rate(1)).await;
    let hands = Hands::start(case, QUEUE, 10, QUICKLY);
    case.healthy().await;

    case.injected();
    submit(&case.client(), &job(QUEUE), 100).await;
    case.raises(&[
        critical("PunctualJobsStuckPending").with("queue", QUEUE).with("verdict", "rate_limited"),
        warning("PunctualBacklogDrainSlow").with("queue", QUEUE).inhibited(),
    ])
    .await;
    case.verdict("rate_limited").await;

    case.cured().await;
    case.stop().await;
    case.start(&rate(1_000)).await;
    until_done(case, QUEUE).await;
    case.clears().await;
    drop(hands);
}

fn rate(starts: u32) -> String {
    format!("[queues.{QUEUE}]\nstart_rate_per_second = {starts}.0\n")
}
