//! Who watches the watchers: maintenance that panics or hangs, by a fire drill.

use std::path::PathBuf;

use crate::case::{Case, QUEUE};
use crate::daemon::until;
use crate::expect::critical;
use crate::workers::{Program, job, submit, until_done};

fn drill(case: &mut Case) -> PathBuf {
    let file = case.dir.path().join("drill");
    case.env("PUNCTUAL_DRILL_FILE", file.to_str().expect("a path"));
    file
}

fn order(file: &PathBuf, order: &str) {
    // Whole, or not at all.
    let draft = file.with_extension("draft");
    std::fs::write(&draft, format!("{order}\n")).expect("the drill");
    std::fs::rename(draft, file).expect("the drill");
}

fn end(file: &PathBuf) {
    std::fs::remove_file(file).expect("the drill");
}

pub(crate) async fn watchdog_panics(case: &mut Case) {
    panics(case, "watchdog", "PunctualWatchdogStalled").await;
}

pub(crate) async fn sampler_panics(case: &mut Case) {
    panics(case, "sampler", "PunctualStateSampleStale").await;
}

pub(crate) async fn reaper_panics(case: &mut Case) {
    panics(case, "reaper", "PunctualTaskStalled").await;
}

pub(crate) async fn scheduler_panics(case: &mut Case) {
    panics(case, "scheduler", "PunctualTaskStalled").await;
}

/// It is started again and again, and the rest of the server does not mind.
async fn panics(case: &mut Case, task: &'static str, alert: &'static str) {
    let file = drill(case);
    case.start("").await;
    case.healthy().await;

    case.injected();
    order(&file, &format!("{task} panic"));
    let expected = critical(alert);
    // Of the sampler there is one alert, and it names no task.
    let named = alert != "PunctualStateSampleStale";
    case.raises(&[if named { expected.with("task", task) } else { expected }]).await;
    let (status, ready) = case.get("/readyz").await;
    assert_eq!(status, 200, "{ready}");
    let metrics = case.get("/metrics").await.1;
    let series = format!("punctual_task_restarts_total{{task=\"{task}\"}} ");
    let restarts = metrics.lines().find_map(|l| l.strip_prefix(series.as_str()));
    let restarts = restarts.and_then(|n| n.parse::<f64>().ok());
    assert!(restarts >= Some(5.0), "{restarts:?}");

    case.cured().await;
    end(&file);
    case.clears().await;
}

/// Without it nobody says why jobs do not start, but that they do not is told all the same.
pub(crate) async fn watchdog_hangs(case: &mut Case) {
    let file = drill(case);
    case.start("").await;
    case.healthy().await;

    case.injected();
    order(&file, "watchdog hang");
    submit(&case.client(), &job(QUEUE), 3).await;
    case.raises(&[
        critical("PunctualWatchdogStalled").with("task", "watchdog"),
        critical("PunctualOldestPendingTooOld").with("queue", QUEUE),
        critical("PunctualNoWorkersPolling").with("queue", QUEUE),
    ])
    .await;
    until_ready(case, "watchdog", false).await;
    // Whoever asks is told what is wrong, and with the jobs all the same.
    let (_, explained) = case.get(&format!("/v1/queues/{QUEUE}/explain")).await;
    assert!(explained.contains("no_workers"), "{explained}");
    assert!(explained.contains("the watchdog does not look"), "{explained}");
    let (_, tasks) = case.get("/v1/tasks").await;
    assert!(tasks.contains("\"hung\":true"), "{tasks}");
    until("a line in the log", || async { case.log().contains("maintenance hangs").then_some(()) })
        .await;

    case.cured().await;
    let worker = Program::start(case, QUEUE, 1, "true");
    until_done(case, QUEUE).await;
    end(&file);
    until_ready(case, "watchdog", true).await;
    case.clears().await;
    worker.leave().await;
}

async fn until_ready(case: &Case, task: &str, ready: bool) {
    until("another readiness", || async {
        let (status, body) = case.get("/readyz?verbose").await;
        assert!(status == 200 || body.contains(task), "{body}");
        ((status == 200) == ready).then_some(())
    })
    .await;
}

/// What is not measured any more is not shown as if it were.
pub(crate) async fn sampler_hangs(case: &mut Case) {
    let file = drill(case);
    case.start("").await;
    submit(&case.client(), &job("later"), 0).await;
    case.healthy().await;
    assert!(case.get("/metrics").await.1.contains("punctual_store_size_bytes "));

    case.injected();
    order(&file, "sampler hang");
    case.raises(&[critical("PunctualStateSampleStale")]).await;
    let (_, metrics) = case.get("/metrics").await;
    for gone in ["punctual_store_size_bytes ", "punctual_queue_depth{", "punctual_jobs{"] {
        assert!(!metrics.contains(gone), "{gone} is still shown");
    }

    until_ready(case, "sampler", false).await;

    case.cured().await;
    end(&file);
    until_ready(case, "sampler", true).await;
    case.clears().await;
    assert!(case.get("/metrics").await.1.contains("punctual_store_size_bytes "));
}

pub(crate) async fn scheduler_hangs(case: &mut Case) {
    let file = drill(case);
    case.start("").await;
    case.healthy().await;

    case.injected();
    order(&file, "scheduler hang");
    case.raises(&[critical("PunctualTaskStalled").with("task", "scheduler")]).await;

    until_ready(case, "scheduler", false).await;

    case.cured().await;
    end(&file);
    until_ready(case, "scheduler", true).await;
    case.clears().await;
}

pub(crate) async fn reaper_hangs(case: &mut Case) {
    let file = drill(case);
    case.start("").await;
    case.healthy().await;

    case.injected();
    order(&file, "reaper hang");
    case.raises(&[critical("PunctualTaskStalled").with("task", "reaper")]).await;
    until_ready(case, "reaper", false).await;

    case.cured().await;
    end(&file);
    until_ready(case, "reaper", true).await;
    case.clears().await;
}

/// Everything looks well, and a job of the server's own does not get through.
pub(crate) async fn canary_fails(case: &mut Case) {
    let file = drill(case);
    case.set("TASKS__CANARY", "1s");
    case.start("").await;
    case.healthy().await;

    case.injected();
    order(&file, "canary error");
    case.raises(&[critical("PunctualCanaryFailing")]).await;
    assert!(case.total("punctual_canary_failures_total").await >= 3.0);

    case.cured().await;
    end(&file);
    case.clears().await;
}
