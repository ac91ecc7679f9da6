//! Nobody works: there is no worker, or there was one.

use crate::case::{Case, QUEUE};
use crate::expect::{critical, warning};
use crate::workers::{Doing, Hands, Program, QUICKLY, job, submit, until_done, until_running};

pub(crate) async fn no_worker(case: &mut Case) {
    case.start("").await;
    case.healthy().await;

    case.injected();
    submit(&case.client(), &job(QUEUE), 3).await;
    case.raises(&[
        critical("PunctualJobsStuckPending").with("queue", QUEUE).with("verdict", "no_workers"),
        critical("PunctualOldestPendingTooOld").with("queue", QUEUE),
        critical("PunctualNoWorkersPolling").with("queue", QUEUE),
    ])
    .await;
    case.verdict("no_workers").await;

    case.cured().await;
    let worker = Program::start(case, QUEUE, 1, "true");
    until_done(case, QUEUE).await;
    case.clears().await;
    worker.leave().await;
}

/// Runs until the file `go` is there, and not longer than the directory.
const GATE: &str = "while [ ! -e go ] && [ -e here ]; do sleep 0.3; done";

pub(crate) async fn killed(case: &mut Case) {
    std::fs::write(case.dir.path().join("here"), "").expect("the mark");
    // Its holder is silent for a lease before a job is stuck, as by default.
    case.set("JOBS__LEASE", "3s");
    case.set("WATCHDOG__STUCK_AFTER", "8s");
    case.start("").await;
    let workers: Vec<Program> = (0..3).map(|_| Program::start(case, QUEUE, 2, GATE)).collect();
    submit(&case.client(), &job(QUEUE), 6).await;
    until_running(case, 6).await;
    case.healthy().await;

    // More wait already when it happens.
    submit(&case.client(), &job(QUEUE), 4).await;
    case.injected();
    for worker in workers {
        worker.kill().await;
    }
    case.raises(&[
        critical("PunctualJobsStuckPending").with("queue", QUEUE).with("verdict", "workers_silent"),
        critical("PunctualOldestPendingTooOld").with("queue", QUEUE),
        critical("PunctualNoWorkersPolling").with("queue", QUEUE),
        warning("PunctualLeasesTakenBack")
            .with("queue", QUEUE)
            .with("cause", "worker_silent")
            .of_event(),
    ])
    .await;
    case.verdict("workers_silent").await;

    case.cured().await;
    std::fs::write(case.dir.path().join("go"), "").expect("the mark");
    let worker = Program::start(case, QUEUE, 4, GATE);
    until_done(case, QUEUE).await;
    case.clears().await;
    worker.leave().await;
}

pub(crate) async fn hung(case: &mut Case) {
    case.start("").await;
    let hands = Hands::start(case, QUEUE, 2, QUICKLY);
    // Enough to know how long such a job takes.
    submit(&case.client(), &job(QUEUE), 30).await;
    until_done(case, QUEUE).await;
    case.healthy().await;

    case.injected();
    hands.now(Doing::Hang);
    submit(&case.client(), &job(QUEUE), 6).await;
    case.raises(&[
        critical("PunctualJobsStuckPending")
            .with("queue", QUEUE)
            .with("verdict", "workers_stalled"),
        critical("PunctualOldestPendingTooOld").with("queue", QUEUE),
        critical("PunctualQueueStalled").with("queue", QUEUE),
    ])
    .await;
    case.verdict("workers_stalled").await;

    case.cured().await;
    hands.now(QUICKLY);
    until_done(case, QUEUE).await;
    case.clears().await;
}
