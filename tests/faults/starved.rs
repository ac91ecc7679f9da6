//! Something more urgent always comes first.

use std::time::Duration;

use punctual::client::{Client, Prefer};
use punctual::wire::Submit;
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::case::{Case, QUEUE};
use crate::expect::critical;
use crate::workers::{Doing, Hands, job, submit, until_done};

/// Urgent ones that wait, at most: none of them does for long.
const URGENT: u64 = 8;

/// The others.
const LOW: usize = 3;

/// There is always something urgent, until it is dropped.
struct Urgent(JoinHandle<()>);

impl Urgent {
    fn start(client: Client) -> Self {
        Self(tokio::spawn(async move {
            let urgent = Submit { priority: Some(50), ..job(QUEUE) };
            let mut ticks = interval(Duration::from_millis(100));
            loop {
                ticks.tick().await;
                let Ok(queue) = client.queue(QUEUE).await else { continue };
                for _ in queue.jobs.eligible..URGENT + LOW as u64 {
                    drop(client.submit(&urgent, None, Prefer::ASYNC).await);
                }
            }
        }))
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) async fn by_priority(case: &mut Case) {
    case.start("").await;
    let hands = Hands::start(case, QUEUE, 2, Doing::Work(Duration::from_millis(300)));
    let urgent = Urgent::start(case.client());
    case.healthy().await;

    case.injected();
    submit(&case.client(), &job(QUEUE), LOW).await;
    case.raises(&[critical("PunctualJobsStuckPending")
        .with("queue", QUEUE)
        .with("verdict", "starved")])
        .await;
    case.verdict("starved").await;

    case.cured().await;
    drop(urgent);
    until_done(case, QUEUE).await;
    case.clears().await;
    drop(hands);
}
