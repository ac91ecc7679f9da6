//! `cycle`, `drain` and `solo`: jobs all the way through, by many hands or by one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::StatusCode;

use super::{BATCHERS, Bench, at_slowest};
use crate::cli::Failure;
use crate::cli::bench::connection::Connection;
use crate::cli::bench::crew::{self, Crew, NOT_YET, Worked};
use crate::cli::bench::fill;
use crate::cli::bench::load::{self, Load};
use crate::cli::bench::measure::{Meter, Usage, now};
use crate::cli::bench::report::Row;

/// Workers of `drain`.
const SINGLES: usize = 64;
/// More jobs a second than one worker alone will see.
const SOLO_PER_SECOND: f64 = 5_000.0;

/// Producers and workers at once. The clock stops when the last job is completed.
pub(super) async fn cycle(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let queue = bench.queue("cycle");
    let producers = bench.args.most_connections();
    let limit = at_slowest(bench.args.jobs);
    let crew = Crew::new(&queue, &queue, bench.batch, NOT_YET, now() + limit);
    let call = fill::submit(&bench.target, &queue, bench.payload_bytes())?;
    let load = Load::new(call, StatusCode::ACCEPTED, true);
    let target = Arc::clone(&bench.target);
    let submitting = Connection::open_many(&target, producers).await?;
    let working = Connection::open_many(&target, BATCHERS).await?;

    let meter = Meter::start(bench.pid);
    let (until, most) = (meter.started() + limit, bench.args.jobs);
    let produce = async {
        let loaded = load::closed(submitting, &load, until, most).await?;
        crew.goal.store(loaded.answered, Ordering::Relaxed);
        Ok((loaded, now()))
    };
    let both = async { tokio::try_join!(produce, crew::run(&crew, &target, working)) };
    let seen = || crew.done.load(Ordering::Relaxed);
    let ((loaded, submitted), worked) = bench.watch("cycle", limit, seen, both).await?;
    let usage = until_last(&meter, &worked);

    let submitting = (submitted - meter.started()).as_secs_f64().max(1e-9);
    let row = Row::new("cycle", producers)
        .of_jobs(worked.ids.len() as u64, loaded.requests() + worked.requests, usage)
        .latency(load.latencies.quantiles())
        .note(format!(
            "and {BATCHERS} workers x {}; submits {:.0}/s while they lasted, latency is theirs",
            bench.batch,
            loaded.answered as f64 / submitting
        ))
        .note(loaded.remark().unwrap_or_default())
        .note(worked.remark().unwrap_or_default());
    bench.add(row);
    bench.check("cycle", &queue, loaded.ids, worked).await
}

/// Many workers that hold one job each, over a backlog.
pub(super) async fn drain(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let jobs = bench.args.jobs;
    singles(bench, "drain", SINGLES, jobs, at_slowest(jobs)).await
}

/// One worker that holds one job, over a backlog that it need not get through.
pub(super) async fn solo(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let during = bench.args.duration;
    let most = (during.as_secs_f64() * SOLO_PER_SECOND) as u64;
    singles(bench, "solo", 1, bench.args.jobs.min(most.max(1)), during).await
}

async fn singles(
    bench: &mut Bench<'_>,
    name: &str,
    workers: usize,
    jobs: u64,
    during: Duration,
) -> Result<(), Failure> {
    let queue = bench.queue(name);
    let accepted = bench.fill(&queue, jobs).await?;
    let target = Arc::clone(&bench.target);
    let connections = Connection::open_many(&target, workers).await?;
    let crew = Crew::new(&queue, &queue, 1, jobs, now() + during);
    let meter = Meter::start(bench.pid);
    let seen = || crew.done.load(Ordering::Relaxed);
    let worked = bench.watch(name, during, seen, crew::run(&crew, &target, connections)).await?;
    let usage = until_last(&meter, &worked);
    let row = Row::new(name, workers)
        .of_jobs(worked.ids.len() as u64, worked.requests, usage)
        .latency(crew.latencies.quantiles())
        .note("settles one and claims the next in one call")
        .note(worked.remark().unwrap_or_default());
    bench.add(row);
    bench.check(name, &queue, accepted, worked).await
}

/// Claims that were still parked when all was done are no part of the time it took.
fn until_last(meter: &Meter, worked: &Worked) -> Usage {
    let usage = meter.stop();
    let wall = worked.last_done.map(|last| last.saturating_duration_since(meter.started()));
    Usage { wall: wall.unwrap_or(usage.wall), ..usage }
}
