//! The scenarios, and what they share: queues of their own, progress, bounds, rows.

mod accept;
pub(super) mod crossing;
mod crowd;
mod flat;
mod pickup;
mod tax;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::StatusCode;

use super::connection::{Call, Connection, Target, gone};
use super::crew::{self, Crew, Worked};
use super::delivery::{Delivery, Id};
use super::fill::{self, Fill};
use super::measure::{self, now, per_second};
use super::report::{Report, Row};
use super::{BenchArgs, Scenario};
use crate::cli::Failure;
use crate::cli::output::{Now, Ticker};
use crate::wire;

/// What a phase may take beyond its own time before the server counts as hung.
const GRACE: Duration = Duration::from_secs(60);
/// Workers that take many jobs at once, when speed of settling is not what is measured.
const BATCHERS: usize = 8;
/// Jobs in one claim at most.
const CLAIM: u32 = 100;
/// The slowest that submitting and settling in batches may be before a phase is given up.
const SLOWEST_PER_SECOND: u64 = 500;

pub(crate) async fn run(scenario: Scenario, bench: &mut Bench<'_>) -> Result<(), Failure> {
    match scenario {
        Scenario::Baseline => accept::baseline(bench).await,
        Scenario::Accept => accept::accept(bench).await,
        Scenario::Cycle => crowd::cycle(bench).await,
        Scenario::Drain => crowd::drain(bench).await,
        Scenario::Solo => crowd::solo(bench).await,
        Scenario::Pickup => pickup::pickup(bench).await,
        Scenario::Flat => flat::flat(bench).await,
        Scenario::Crossing => crossing::crossing(bench).await,
        Scenario::Tax => tax::tax(bench).await,
        Scenario::Preload => flat::preload(bench).await.map(|_| ()),
        Scenario::All => Err(Failure::usage("all is a list of scenarios, not one of them")),
    }
}

/// One scenario's surroundings.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) args: &'a BenchArgs,
    pub(crate) target: Arc<Target>,
    /// The server's, if known.
    pub(crate) pid: Option<u32>,
    /// Jobs that a batching worker claims at once.
    pub(crate) batch: u32,
    pub(crate) report: &'a mut Report,
    ticker: &'a mut Ticker,
    run: String,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(
        args: &'a BenchArgs,
        target: &Arc<Target>,
        pid: Option<u32>,
        meta: &wire::Meta,
        report: &'a mut Report,
        ticker: &'a mut Ticker,
    ) -> Self {
        let allowed = u32::try_from(meta.limits.claim_jobs).unwrap_or(CLAIM);
        let moment = Now::read().plus(Duration::ZERO).as_millis();
        Self {
            args,
            target: Arc::clone(target),
            pid,
            batch: if allowed == 0 { CLAIM } else { allowed.min(CLAIM) },
            report,
            ticker,
            run: format!("{moment:x}"),
        }
    }

    fn payload_bytes(&self) -> usize {
        self.args.payload_bytes as usize
    }

    /// A queue that nothing else uses, whatever the server has seen before.
    fn queue(&self, name: &str) -> String {
        format!("bench-{name}-{}", self.run)
    }

    /// Waits for a phase, shows how far it is, and gives it up when it takes longer than
    /// `limit` and some grace.
    async fn watch<T>(
        &mut self,
        label: &str,
        limit: Duration,
        count: impl Fn() -> u64,
        phase: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let started = now();
        let mut phase = std::pin::pin!(phase);
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                done = &mut phase => return done,
                _ = ticks.tick() => {
                    let elapsed = now() - started;
                    if elapsed > limit + GRACE {
                        return Err(gone(format!(
                            "{label}: the server did not finish within {} s; {} done by then",
                            (limit + GRACE).as_secs(),
                            count(),
                        )));
                    }
                    let (seconds, so_far) = (elapsed.as_secs_f64(), count());
                    let rate = per_second(so_far, elapsed);
                    self.ticker.show(&format!("{label}: {seconds:.0} s, {so_far}, {rate:.0}/s"));
                }
            }
        }
    }

    /// Submits jobs to a queue, as fast as batches go.
    async fn fill(&mut self, queue: &str, count: u64) -> Result<Vec<Id>, Failure> {
        let limit = at_slowest(count);
        let fill = Fill {
            queue: queue.to_owned(),
            count,
            payload_bytes: self.payload_bytes(),
            until: now() + limit,
        };
        let (target, progress) = (Arc::clone(&self.target), Arc::new(AtomicU64::new(0)));
        let label = format!("submitting {count} jobs");
        let seen = || progress.load(Ordering::Relaxed);
        self.watch(&label, limit, seen, fill::run(&target, &fill, &progress)).await
    }

    /// Completes a queue's jobs in batches, to see what became of them.
    async fn finish(&mut self, name: &str, queue: &str, count: u64) -> Result<Worked, Failure> {
        let limit = at_slowest(count);
        let crew = Crew::new(&self.queue(name), queue, self.batch, count, now() + limit);
        let target = Arc::clone(&self.target);
        let connections = Connection::open_many(&target, BATCHERS).await?;
        let label = format!("{name}: completing {count} jobs");
        let seen = || crew.done.load(Ordering::Relaxed);
        self.watch(&label, limit, seen, crew::run(&crew, &target, connections)).await
    }

    /// How many unfinished jobs a queue holds, by its own count.
    async fn waiting(&self, queue: &str) -> Result<u64, Failure> {
        let call = Call::get(&self.target, &format!("/v1/queues/{queue}"))?;
        let answer = Connection::open(&self.target).await?.exchange(call.request()).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(0);
        }
        let jobs = answer.read::<wire::Queue>(StatusCode::OK)?.jobs;
        Ok(jobs.eligible + jobs.scheduled + jobs.retry_backoff + jobs.running)
    }

    /// Keeps the row, with the server's memory as it is now.
    fn add(&mut self, mut row: Row) {
        row.resident_bytes = self.pid.and_then(measure::resident);
        self.report.rows.push(row);
    }

    /// Compares what was accepted with what was completed, and keeps the verdict.
    async fn check(
        &mut self,
        scenario: &str,
        queue: &str,
        accepted: Vec<Id>,
        worked: Worked,
    ) -> Result<(), Failure> {
        let waiting = self.waiting(queue).await?;
        let delivery = Delivery::check(scenario, accepted, worked.ids, waiting, worked.rejected);
        self.report.delivery.push(delivery);
        Ok(())
    }
}

/// How long so many jobs may take in batches.
fn at_slowest(count: u64) -> Duration {
    GRACE + Duration::from_secs(count / SLOWEST_PER_SECOND)
}
