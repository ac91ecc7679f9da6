//! Two minutes of a server's ordinary life, busy and uneven, of which nobody is told anything.

use std::time::Duration;

use punctual::wire::{Pause, Submit};
use tokio::time::{Instant, sleep_until};

use crate::case::Case;
use crate::workers::{self, Doing, Feed, Hands, Program, QUICKLY, submit, until_done};

const LENGTH: Duration = Duration::from_secs(120);

/// Between two bursts.
const STEP: Duration = Duration::from_secs(15);

const BURST: usize = 40;

/// Queues, and what happens in them.
const STEADY: &str = "steady";
const FLAKY: &str = "flaky";
const LONG: &str = "long";
const LATER: &str = "later";
const PAUSED: &str = "paused";

pub(crate) async fn healthy(case: &mut Case) {
    // After a restart workers come back within seconds, more of them where others are busy.
    case.set("WATCHDOG__STUCK_AFTER", "15s");
    case.set("JOBS__LEASE", "10s");
    case.start("").await;
    let client = case.client();
    let mut steady = crew(case, STEADY, 4, "sleep 0.05");
    let mut long = crew(case, LONG, 6, "sleep 20");
    // Three of ten jobs fail once.
    let flaky = Hands::start(case, FLAKY, 4, Doing::FailSome);
    let quick = [LATER, PAUSED].map(|queue| Hands::start(case, queue, 4, QUICKLY));
    case.healthy().await;

    let later = Submit { delay_seconds: Some(6.0), ..job(LATER) };
    let feeds = [
        Feed::start(case.client(), job(STEADY), Duration::from_millis(500)),
        Feed::start(case.client(), job(FLAKY), Duration::from_millis(500)),
        Feed::start(case.client(), later, Duration::from_secs(1)),
    ];
    let mut at = Instant::now();
    let end = at + LENGTH;
    for step in 0.. {
        if at >= end {
            break;
        }
        submit(&client, &job(STEADY), BURST).await;
        submit(&client, &job(LONG), 2).await;
        match step % 8 {
            1 => client.pause(PAUSED, &Pause::default()).await.map(drop).expect("paused"),
            2 => client.resume(PAUSED).await.map(drop).expect("resumed"),
            // New ones come before the old ones go; a long job is given back and begun anew.
            3 | 6 => deploy(case, &mut steady, STEADY, 4, "sleep 0.05").await,
            4 => {
                case.stop().await;
                case.start("").await;
            }
            5 => deploy(case, &mut long, LONG, 6, "sleep 20").await,
            _ => {}
        }
        submit(&client, &job(PAUSED), 3).await;
        at += STEP;
        sleep_until(at).await;
    }
    drop(feeds);
    for queue in [STEADY, FLAKY, LONG, LATER, PAUSED] {
        until_done(case, queue).await;
    }
    case.quiet().await;
    let failed = format!("sum(punctual_jobs{{job=\"{}\",state=~\"failed|cancelled\"}})", case.job);
    assert_eq!(case.lab.prometheus.query(&failed).await, [0.0]);
    for worker in steady.into_iter().chain(long) {
        worker.leave().await;
    }
    case.quiet().await;
    case.told_nothing();
    drop((flaky, quick));
}

/// Each queue has its own kind of work: how long it takes differs.
fn job(queue: &str) -> Submit {
    Submit { kind: format!("{queue}.work"), ..workers::job(queue) }
}

fn crew(case: &Case, queue: &str, concurrency: u32, script: &str) -> Vec<Program> {
    (0..2).map(|_| Program::start(case, queue, concurrency, script)).collect()
}

async fn deploy(case: &Case, old: &mut Vec<Program>, queue: &str, concurrency: u32, script: &str) {
    let new = crew(case, queue, concurrency, script);
    for worker in std::mem::replace(old, new) {
        worker.leave().await;
    }
}
