//! Work is done, but not enough of it: too few workers, a limit, a pause.

use std::time::Duration;

use punctual::wire::Pause;

use crate::case::{Case, QUEUE};
use crate::expect::{critical, warning};
use crate::workers::{Doing, Hands, QUICKLY, job, submit, until_done};

const SLOWLY: Doing = Doing::Work(Duration::from_secs(1));

/// Jobs in one claim.
const MOST: u32 = 100;

pub(crate) async fn too_few(case: &mut Case) {
    case.start("").await;
    let one = Hands::start(case, QUEUE, 1, SLOWLY);
    case.healthy().await;

    case.injected();
    submit(&case.client(), &job(QUEUE), 120).await;
    case.raises(&[
        critical("PunctualJobsStuckPending")
            .with("queue", QUEUE)
            .with("verdict", "workers_saturated"),
        warning("PunctualBacklogDrainSlow").with("queue", QUEUE).inhibited(),
    ])
    .await;
    case.verdict("workers_saturated").await;

    case.cured().await;
    let many = Hands::start(case, QUEUE, 60, SLOWLY);
    until_done(case, QUEUE).await;
    case.clears().await;
    drop((one, many));
}

pub(crate) async fn limited(case: &mut Case) {
    // Its end is a restart, from which workers come back within seconds. As by default that is
    // less than the grace of three looks: no other verdict comes of it.
    case.set("WATCHDOG__INTERVAL", "3s");
    case.start(&limit(1)).await;
    let hands = Hands::start(case, QUEUE, MOST, SLOWLY);
    case.healthy().await;

    case.injected();
    // One claim takes what is left of them in the end.
    submit(&case.client(), &job(QUEUE), MOST as usize).await;
    case.raises(&[
        critical("PunctualJobsStuckPending")
            .with("queue", QUEUE)
            .with("verdict", "concurrency_limited"),
        warning("PunctualBacklogDrainSlow").with("queue", QUEUE).inhibited(),
    ])
    .await;
    case.verdict("concurrency_limited").await;

    case.cured().await;
    case.stop().await;
    case.start(&limit(MOST)).await;
    until_done(case, QUEUE).await;
    case.clears().await;
    drop(hands);
}

fn limit(jobs: u32) -> String {
    format!("[queues.{QUEUE}]\nmax_running = {jobs}\n")
}

/// Jobs wait, workers are there, and it is nobody's fault.
pub(crate) async fn paused(case: &mut Case) {
    case.start("").await;
    let hands = Hands::start(case, QUEUE, 1, QUICKLY);
    case.healthy().await;

    case.injected();
    case.client().pause(QUEUE, &Pause::default()).await.expect("paused");
    submit(&case.client(), &job(QUEUE), 3).await;
    case.raises(&[warning("PunctualQueuePausedTooLong").with("queue", QUEUE)]).await;

    case.cured().await;
    case.client().resume(QUEUE).await.expect("resumed");
    until_done(case, QUEUE).await;
    case.clears().await;
    drop(hands);
}
