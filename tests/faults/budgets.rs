//! The objectives: submissions that are not taken, and starts that come late.
//!
//! What burnt a budget stays in the long ranges for long, in which it is a share of all that
//! happened. So the cure is to do well, very often.

use std::time::Duration;

use serde_json::json;

use crate::case::{Case, QUEUE};
use crate::daemon::until;
use crate::expect::{critical, warning};
use crate::storage::Locker;
use crate::workers::{Doing, Feed, Hands, QUICKLY, job, submit, until_done, until_running};

/// Good submissions after the bad ones; the slow alert ends at one bad in a thousand.
const GOOD_SUBMISSIONS: usize = 40_000;
/// Good starts after the bad ones; one in a hundred.
const GOOD_STARTS: usize = 5_000;

const BATCH: usize = 1_000;

pub(crate) async fn submissions(case: &mut Case) {
    case.set("WATCHDOG__STUCK_AFTER", "30s");
    case.start("").await;
    let hands = Hands::start(case, QUEUE, 2, QUICKLY);
    // Who is refused does not try again, and comes with the next one.
    let client = case.client().retry_for(Duration::ZERO);
    let feeds: Vec<Feed> = (0..4)
        .map(|_| Feed::start(client.clone(), job(QUEUE), Duration::from_millis(1_500)))
        .collect();
    case.healthy().await;

    case.injected();
    let store = case.dir.path().join("jobs.db");
    let locker = tokio::task::spawn_blocking(move || Locker::hold(&store)).await.expect("the lock");
    case.raises(&[
        critical("PunctualStoreErrors"),
        critical("PunctualSubmitErrorBudgetBurn").inhibited(),
        warning("PunctualSubmitErrorBudgetBurn").with("severity", "warning").inhibited(),
    ])
    .await;

    case.cured().await;
    tokio::task::spawn_blocking(|| locker.let_go()).await.expect("the lock");
    for _ in 0..GOOD_SUBMISSIONS / BATCH {
        batch(case, &json!({"kind": "later", "queue": "later", "delay_seconds": 3600})).await;
    }
    drop(feeds);
    until_done(case, QUEUE).await;
    case.clears().await;
    drop(hands);
}

/// Jobs wait for long behind another, in a queue where that may be.
pub(crate) async fn starts(case: &mut Case) {
    const LATE: usize = 30;
    case.start(&format!("[queues.{QUEUE}]\nstuck_after = \"10m\"\n")).await;
    let hands = Hands::start(case, QUEUE, 1, Doing::Hang);
    submit(&case.client(), &job(QUEUE), 1).await;
    until_running(case, 1).await;
    case.healthy().await;

    case.injected();
    submit(&case.client(), &job(QUEUE), LATE).await;
    let oldest = format!(
        "max(punctual_queue_oldest_pending_age_seconds{{job=\"{}\",queue=\"{QUEUE}\"}})",
        case.job
    );
    until("a minute to pass", || async {
        let age = case.lab.prometheus.query(&oldest).await;
        age.first().is_some_and(|age| *age > 62.0).then_some(())
    })
    .await;
    hands.now(QUICKLY);
    case.raises(&[
        critical("PunctualStartLatencyBudgetBurn"),
        warning("PunctualStartLatencyBudgetBurn").with("severity", "warning").inhibited(),
    ])
    .await;

    case.cured().await;
    let many = Hands::start(case, QUEUE, 50, Doing::Work(Duration::ZERO));
    for _ in 0..GOOD_STARTS / 500 {
        for _ in 0..5 {
            send(case, &json!({"kind": "render", "queue": QUEUE}), 100).await;
        }
        until_done(case, QUEUE).await;
    }
    case.clears().await;
    drop((hands, many));
}

async fn batch(case: &Case, job: &serde_json::Value) {
    send(case, job, BATCH).await;
}

async fn send(case: &Case, job: &serde_json::Value, jobs: usize) {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let jobs: Vec<_> = std::iter::repeat_n(job, jobs).collect();
    let answer = http
        .post(format!("{}/v1/jobs/batch", case.url()))
        .json(&json!({ "jobs": jobs }))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status().as_u16(), 202, "{}", answer.text().await.unwrap_or_default());
}
