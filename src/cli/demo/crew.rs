//! The workers: the same runtime and the same HTTP as any other worker's.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::ending::Ending;
use super::scene::{CORRUPT, MAIL, RENDER, REPORTS, THUMBNAILS};
use crate::client::Client;
use crate::domain::job::RawJson;
use crate::wire::{Claim, LeasedJob};
use crate::worker::{self, Context, Handler, Outcome, Phase, WorkerConfig};

/// How long what runs may go on at the end; after that it is given back.
const GRACE: Duration = Duration::from_secs(1);

/// Between two deaths of the worker that dies.
const LIFE: Duration = Duration::from_secs(25);
const PAGES: u32 = 40;

#[derive(Debug)]
pub(super) struct Crew {
    phase: watch::Sender<Phase>,
    workers: JoinSet<()>,
    mortal: JoinSet<()>,
}

impl Crew {
    pub(super) fn start(client: &Client) -> Self {
        let mut crew = Self {
            phase: watch::Sender::default(),
            workers: JoinSet::new(),
            mortal: JoinSet::new(),
        };
        for id in ["mail-1", "mail-2", "mail-3"] {
            crew.hire(client, id, MAIL, 1, send_mail);
        }
        for id in ["thumbnails-1", "thumbnails-2"] {
            crew.hire(client, id, THUMBNAILS, 2, render_thumbnail);
        }
        crew.hire(client, "reports-1", REPORTS, 2, build_report);
        crew.mortal.spawn(die_now_and_then(client.clone()));
        crew
    }

    fn hire(&mut self, client: &Client, id: &str, queue: &str, slots: u32, handler: impl Handler) {
        let config = WorkerConfig {
            concurrency: slots,
            hostname: Some("demo".to_owned()),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            grace: GRACE,
            ..WorkerConfig::new(client.clone(), id.to_owned(), vec![queue.to_owned()])
        };
        let phase = self.phase.subscribe();
        self.workers.spawn(async move {
            if let Err(error) = worker::run(config, handler, phase).await {
                tracing::warn!(%error, "a worker of the demo has left");
            }
        });
    }

    /// Everybody says goodbye; a signal hastens them.
    pub(super) async fn leave(mut self, ending: &mut Ending) {
        self.mortal.shutdown().await;
        self.phase.send_replace(Phase::Drain);
        loop {
            tokio::select! {
                left = self.workers.join_next() => if left.is_none() { return },
                () = ending.hurry() => {
                    self.phase.send_replace(Phase::Stop);
                }
            }
        }
    }
}

/// Runs `work` unless it should stop.
async fn unless_stopped(mut context: Context, work: impl Future<Output = Outcome>) -> Outcome {
    tokio::select! {
        outcome = work => outcome,
        _ = context.stopped() => Outcome::Cancelled,
    }
}

/// A number that is the same for each attempt of a job, and looks like chance (FNV-1a).
fn chance(job: &LeasedJob) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    job.job_id.bytes().fold(0xcbf2_9ce4_8422_2325, step) >> 8
}

async fn work_for(job: &LeasedJob, least: u64, spread: u64) {
    sleep(Duration::from_millis(least + chance(job) % spread)).await;
}

async fn send_mail(job: LeasedJob, context: Context) -> Outcome {
    unless_stopped(context, async {
        work_for(&job, 60, 240).await;
        Outcome::Completed(Some(RawJson::trusted(r#"{"sent":true}"#)))
    })
    .await
}

async fn render_thumbnail(job: LeasedJob, context: Context) -> Outcome {
    unless_stopped(context, async {
        work_for(&job, 150, 250).await;
        if job.kind == CORRUPT {
            return Outcome::failed("corrupt-image", "not a JPEG: starts with 0x00 0x00");
        }
        // An odd chance for half of them; from the second attempt on they succeed.
        if job.attempt <= 1 && !chance(&job).is_multiple_of(2) {
            return Outcome::failed("upstream-timeout", "the image store did not answer in 200 ms");
        }
        Outcome::Completed(Some(RawJson::trusted(r#"{"width":320,"height":213}"#)))
    })
    .await
}

async fn build_report(job: LeasedJob, context: Context) -> Outcome {
    let reporter = context.clone();
    unless_stopped(context, async {
        let page_time = Duration::from_millis(5_000 + chance(&job) % 5_000) / PAGES;
        for page in 1..=PAGES {
            sleep(page_time).await;
            let percent = f64::from(page) * 100.0 / f64::from(PAGES);
            reporter.report_progress(Some(percent), Some(&format!("page {page} of {PAGES}")));
        }
        Outcome::Completed(Some(RawJson::trusted(format!(r#"{{"pages":{PAGES}}}"#))))
    })
    .await
}

/// A worker that takes a job and is never heard of again; then another process takes its name.
async fn die_now_and_then(client: Client) {
    let claim = Claim {
        worker_id: "thumbnails-3".to_owned(),
        queues: vec![THUMBNAILS.to_owned()],
        kinds: vec![RENDER.to_owned()],
        max_jobs: Some(1),
        lease_seconds: Some(2.0),
        wait_seconds: Some(10.0),
        hostname: Some("demo".to_owned()),
        ..Claim::default()
    };
    loop {
        sleep(LIFE).await;
        if let Err(error) = client.claim(&claim).await {
            tracing::warn!(%error, "the demo's mortal worker could not claim");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_half_of_the_thumbnails_fail_at_first() {
        let odd = (0..1_000).filter(|n| {
            let job_id = format!("01a20c15-75d4-7000-ac15-d849bc{n:06}");
            !chance(&LeasedJob { job_id, ..LeasedJob::default() }).is_multiple_of(2)
        });
        let odd = odd.count();
        assert!((400..=600).contains(&odd), "{odd}");
    }
}
