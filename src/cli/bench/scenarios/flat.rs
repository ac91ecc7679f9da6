//! `flat` and `preload`: whether costs grow with what the store holds.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;

use super::{BATCHERS, Bench, at_slowest};
use crate::cli::Failure;
use crate::cli::bench::connection::{Call, Connection};
use crate::cli::bench::crew::{self, Crew};
use crate::cli::bench::fill::{self, Fill};
use crate::cli::bench::load::{self, Load};
use crate::cli::bench::measure::{Meter, now, ratio};
use crate::cli::bench::report::{Row, times};
use crate::wire;

/// The queues that a preload fills.
const HISTORY: &str = "history";
const BACKLOG: &str = "backlog";
/// Claims of one probe, each of one job.
const CLAIMS: u64 = 4_000;
/// Scrapes of one probe.
const SCRAPES: u64 = 2_000;
/// What a probe may take.
const PROBE: Duration = Duration::from_secs(60);
/// Maintenance tasks that run less often than this are not waited for.
const TASK_PERIOD_SECONDS: f64 = 16.0;
const TASK_POLLS: u32 = 40;
const TASK_POLL: Duration = Duration::from_millis(500);

/// Probes a store with few jobs, fills it, and probes it again.
pub(super) async fn flat(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let few = bench.queue("flat");
    bench.fill(&few, 2 * CLAIMS).await?;
    touch(bench, &[HISTORY, BACKLOG]).await?;
    let before = probe(bench, &few).await?;
    let filled = preload(bench).await?;
    // With nothing preloaded as pending, what is left of the first queue serves again.
    let many = if bench.args.preload_pending > CLAIMS { &filled.backlog } else { &few };
    let after = probe(bench, many).await?;

    let size = format!("{} pending", 2 * CLAIMS);
    bench.add(before.claim.clone().note(size.clone()));
    bench.add(compared(after.claim, &before.claim).note(filled.size.clone()));
    bench.add(before.scrape.clone().note(size));
    bench.add(compared(after.scrape, &before.scrape).note(filled.size));
    if let Some(note) = tasks_compared(&before.tasks, &after.tasks) {
        bench.add(Row::new("flat tasks", 0).note(note));
    }
    Ok(())
}

/// Asks the queues that are filled later for work, in vain: what a scrape costs follows the number
/// of queues, so that must be the same before and after.
async fn touch(bench: &Bench<'_>, names: &[&str]) -> Result<(), Failure> {
    let claim = wire::Claim {
        worker_id: "bench-touch".to_owned(),
        queues: names.iter().map(|name| bench.queue(name)).collect(),
        ..wire::Claim::default()
    };
    let body = serde_json::to_vec(&claim)
        .map_err(|e| Failure::no(format!("a request cannot be written: {e}; report this")))?;
    let call = Call::post(&bench.target, "/v1/claims", Bytes::from(body))?;
    let answer = Connection::open(&bench.target).await?.exchange(call.request()).await?;
    answer.read::<wire::Claimed>(StatusCode::OK).map(drop)
}

/// What a preload left in the store.
pub(super) struct Filled {
    backlog: String,
    size: String,
}

/// Fills the store with finished jobs, by having them submitted and completed, and pending ones.
pub(super) async fn preload(bench: &mut Bench<'_>) -> Result<Filled, Failure> {
    let (finished, pending) = (bench.args.preload_finished, bench.args.preload_pending);
    let meter = Meter::start(bench.pid);
    if finished > 0 {
        history(bench, finished).await?;
    }
    let backlog = bench.queue(BACKLOG);
    if pending > 0 {
        bench.fill(&backlog, pending).await?;
    }
    let size = format!("{finished} finished + {pending} pending");
    let usage = meter.stop();
    let row = Row::new("preload", BATCHERS).of_jobs(finished + pending, 0, usage);
    bench.add(row.note(format!("{size}, in batches")));
    Ok(Filled { backlog, size })
}

async fn history(bench: &mut Bench<'_>, count: u64) -> Result<(), Failure> {
    let queue = bench.queue(HISTORY);
    let limit = at_slowest(count);
    let fill = Fill {
        queue: queue.clone(),
        count,
        payload_bytes: bench.payload_bytes(),
        until: now() + limit,
    };
    let crew = Crew::new(&queue, &queue, bench.batch, count, now() + limit);
    let (target, submitted) = (Arc::clone(&bench.target), Arc::new(AtomicU64::new(0)));
    let connections = Connection::open_many(&target, BATCHERS).await?;
    let both = async {
        let submit = fill::run(&target, &fill, &submitted);
        tokio::try_join!(submit, crew::run(&crew, &target, connections))
    };
    let seen = || crew.done.load(Ordering::Relaxed);
    let label = format!("preload: completing {count} jobs");
    let (accepted, worked) = bench.watch(&label, limit, seen, both).await?;
    bench.check("preload", &queue, accepted, worked).await
}

#[derive(Debug)]
struct Probe {
    claim: Row,
    scrape: Row,
    tasks: Vec<wire::Task>,
}

/// What one worker's claims, one scraper's scrapes and the maintenance tasks cost just now.
async fn probe(bench: &mut Bench<'_>, queue: &str) -> Result<Probe, Failure> {
    let target = Arc::clone(&bench.target);
    let tasks = tasks(bench).await?;

    let call = Call::get(&target, "/metrics")?;
    let load = Load::new(call, StatusCode::OK, false);
    let connections = Connection::open_many(&target, 1).await?;
    let meter = Meter::start(bench.pid);
    let seen = || load.latencies.count();
    let scrapes = load::closed(connections, &load, now() + PROBE, SCRAPES);
    let loaded = bench.watch("flat: scraping", PROBE, seen, scrapes).await?;
    let scrape = Row::new("flat /metrics", 1)
        .of_requests(loaded.requests(), meter.stop())
        .latency(load.latencies.quantiles());

    let crew = Crew::new(&format!("{queue}-probe"), queue, 1, CLAIMS, now() + PROBE);
    let connections = Connection::open_many(&target, 1).await?;
    let meter = Meter::start(bench.pid);
    let seen = || crew.done.load(Ordering::Relaxed);
    let claims = crew::run(&crew, &target, connections);
    let worked = bench.watch("flat: claiming", PROBE, seen, claims).await?;
    let claim = Row::new("flat claim", 1)
        .of_jobs(worked.ids.len() as u64, worked.requests, meter.stop())
        .latency(crew.latencies.quantiles())
        .note(worked.remark().unwrap_or_default());
    Ok(Probe { claim, scrape, tasks })
}

/// The maintenance tasks after each has run once more; none on a server that does not show them.
async fn tasks(bench: &mut Bench<'_>) -> Result<Vec<wire::Task>, Failure> {
    let call = Call::get(&bench.target, "/v1/tasks")?;
    let mut connection = Connection::open(&bench.target).await?;
    let mut first: Option<Vec<wire::Task>> = None;
    for _ in 0..TASK_POLLS {
        let answer = connection.exchange(call.request()).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        let tasks = answer.read::<wire::TaskList>(StatusCode::OK)?.tasks;
        let first = first.get_or_insert_with(|| tasks.clone());
        let again = tasks.iter().zip(first.iter()).all(|(now, then)| {
            now.interval_seconds > TASK_PERIOD_SECONDS || now.last_run_at != then.last_run_at
        });
        if again {
            return Ok(tasks);
        }
        bench.ticker.show("flat: waiting for the maintenance tasks to run");
        tokio::time::sleep(TASK_POLL).await;
    }
    Ok(first.unwrap_or_default())
}

/// `sampler 0.31 -> 0.33 ms (1.1x)` for each task that ran before and after.
fn tasks_compared(before: &[wire::Task], after: &[wire::Task]) -> Option<String> {
    let mut note = String::new();
    for task in after {
        let then = before.iter().find(|b| b.task == task.task).and_then(|b| b.duration_seconds);
        let (Some(then), Some(now)) = (then, task.duration_seconds) else {
            continue;
        };
        if !note.is_empty() {
            note.push_str(", ");
        }
        let _ = write!(note, "{} {:.2} -> {:.2} ms", task.task, then * 1e3, now * 1e3);
    }
    (!note.is_empty()).then(|| format!("one run each: {note}"))
}

/// The row with how its figures compare to those of the smaller store.
fn compared(row: Row, small: &Row) -> Row {
    let p50 = |row: &Row| row.latency_microseconds.map(|q| q.p50 as f64);
    let mut remarks = Vec::new();
    if let Some(ratio) = ratio(p50(&row), p50(small)) {
        remarks.push(format!("p50 {ratio:.2}x"));
    }
    let cpu = |row: &Row| row.server_cpu_microseconds_per_request;
    if let Some(times) = times(cpu(&row), cpu(small)) {
        remarks.push(format!("CPU {times}"));
    }
    row.note(remarks.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::measure::{Quantiles, Usage};

    #[test]
    fn the_larger_store_is_compared_with_the_smaller() {
        let row = |p50, cpu| {
            let usage = Usage {
                wall: Duration::from_secs(1),
                server: Some(Duration::from_millis(cpu)),
                client: None,
            };
            let q = Quantiles { p50, p99: 0, p999: 0, max: 0 };
            Row::new("flat claim", 1).of_requests(100, usage).latency(Some(q))
        };
        assert_eq!(compared(row(240, 30), &row(200, 20)).note, "p50 1.20x, CPU 1.50x");
        assert_eq!(compared(Row::new("x", 1), &row(200, 20)).note, "");
    }

    #[test]
    fn tasks_are_compared_by_name() {
        let task = |name: &str, seconds| wire::Task {
            task: name.to_owned(),
            duration_seconds: seconds,
            ..wire::Task::default()
        };
        let before = [task("sampler", Some(0.001)), task("reaper", None)];
        let after = [task("reaper", Some(0.1)), task("sampler", Some(0.0015))];
        let note = tasks_compared(&before, &after).unwrap();
        assert_eq!(note, "one run each: sampler 1.00 -> 1.50 ms");
        assert_eq!(tasks_compared(&[], &after), None);
    }
}
