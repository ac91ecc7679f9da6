//! `crossing`: whether anybody feels it when many jobs become stuck in one moment.
//!
//! The jobs wait in a queue that is paused while it is filled. The resume is the moment from which
//! they all count as eligible, so they all cross the threshold together.

use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;

use super::Bench;
use crate::cli::Failure;
use crate::cli::bench::connection::{Call, Connection};
use crate::cli::bench::fill;
use crate::cli::bench::load::{self, Load};
use crate::cli::bench::measure::{Meter, now};
use crate::cli::bench::report::{Row, times};
use crate::wire;

/// Submissions a second beside it, unless another rate is asked for: well below the limit, so that
/// what is felt is the crossing and not the load.
const RATE: f64 = 1_000.0;
/// The quiet before, and what the crossing may be late by.
const MARGIN: Duration = Duration::from_secs(4);
/// What finding the stuck jobs may take.
const FOUND: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// Settings for a server of our own: the crossing comes in the middle of the second load.
pub(crate) fn settings(during: Duration) -> Vec<(String, String)> {
    let stuck_after = humantime::format_duration(during + MARGIN).to_string();
    vec![
        ("PUNCTUAL_WATCHDOG__STUCK_AFTER".to_owned(), stuck_after),
        ("PUNCTUAL_WATCHDOG__INTERVAL".to_owned(), "1s".to_owned()),
    ]
}

pub(super) async fn crossing(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let (waiting, beside) = (bench.queue("crossing"), bench.queue("beside"));
    let count = bench.args.preload_pending;
    post(bench, &format!("/v1/queues/{waiting}/pause")).await?;
    bench.fill(&waiting, count).await?;
    post(bench, &format!("/v1/queues/{waiting}/resume")).await?;

    let before = open_loop(bench, &beside, "before").await?;
    if stuck(bench, &waiting).await? > 0 {
        return Err(Failure::no(
            "the jobs were stuck too early; on a server of your own set watchdog.stuck_after to \
             a few seconds more than --duration",
        ));
    }
    let during = open_loop(bench, &beside, "during").await?;
    let until = now() + FOUND;
    let mut found = 0;
    while found < count {
        if now() > until {
            return Err(Failure::no(format!(
                "only {found} of {count} jobs were found stuck; set watchdog.stuck_after to a few \
                 seconds more than --duration"
            )));
        }
        found = stuck(bench, &waiting).await?;
        tokio::time::sleep(POLL).await;
    }
    let cpu = |row: &Row| row.server_cpu_microseconds_per_request;
    let note = times(cpu(&during), cpu(&before)).map_or(String::new(), |t| format!("CPU {t}"));
    let scan = slowest_scan(bench).await?;
    bench.add(before.note("nothing is stuck"));
    bench.add(during.note(format!("{found} jobs became stuck at once")).note(note).note(scan));
    Ok(())
}

/// Submissions at a fixed rate, counted from when each was due.
async fn open_loop(bench: &mut Bench<'_>, queue: &str, name: &str) -> Result<Row, Failure> {
    let call = fill::submit(&bench.target, queue, bench.payload_bytes())?;
    let load = Load::new(call, StatusCode::ACCEPTED, false);
    let connections = bench.args.connections.iter().copied().min().unwrap_or(1);
    let open = Connection::open_many(&bench.target, usize::from(connections)).await?;
    let rate = bench.args.rate.map_or(RATE, f64::from);
    let lasting = bench.args.duration;
    let meter = Meter::start(bench.pid);
    let label = format!("crossing: {name}");
    let seen = || load.latencies.count();
    let loaded =
        bench.watch(&label, lasting * 2, seen, load::open(open, &load, rate, lasting)).await?;
    Ok(Row::new(format!("crossing {name}"), usize::from(connections))
        .of_jobs(loaded.answered, loaded.requests(), meter.stop())
        .latency(load.latencies.quantiles())
        .note(loaded.remark().unwrap_or_default()))
}

async fn post(bench: &Bench<'_>, path: &str) -> Result<(), Failure> {
    let call = Call::post(&bench.target, path, Bytes::from_static(b"{}"))?;
    let answer = Connection::open(&bench.target).await?.exchange(call.request()).await?;
    answer.read::<wire::Queue>(StatusCode::OK).map(drop)
}

async fn stuck(bench: &Bench<'_>, queue: &str) -> Result<u64, Failure> {
    let call = Call::get(&bench.target, &format!("/v1/queues/{queue}"))?;
    let answer = Connection::open(&bench.target).await?.exchange(call.request()).await?;
    Ok(answer.read::<wire::Queue>(StatusCode::OK)?.stuck)
}

/// The watchdog's last scan, which is about as long as all are by now.
async fn slowest_scan(bench: &Bench<'_>) -> Result<String, Failure> {
    let call = Call::get(&bench.target, "/v1/tasks")?;
    let answer = Connection::open(&bench.target).await?.exchange(call.request()).await?;
    let tasks = answer.read::<wire::TaskList>(StatusCode::OK)?.tasks;
    let scan = tasks.iter().find(|t| t.task == "watchdog").and_then(|t| t.duration_seconds);
    Ok(scan.map_or(String::new(), |s| format!("a scan takes {:.1} ms since", s * 1e3)))
}
