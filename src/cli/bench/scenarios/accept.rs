//! `baseline` and `accept`: what a request costs, without and with a durable write.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;

use super::Bench;
use crate::cli::Failure;
use crate::cli::bench::connection::{Call, Connection};
use crate::cli::bench::fill;
use crate::cli::bench::load::{self, Load, Loaded};
use crate::cli::bench::measure::{Meter, Usage, now, per_second};
use crate::cli::bench::report::{Row, times};

/// The baseline that submissions are compared with.
const NO_STORE: &str = "baseline POST 422";
const META: &str = "baseline GET meta";
const ACCEPT: &str = "accept";

/// The cheapest useful answers: a submission that is read whole and refused, and a constant.
pub(super) async fn baseline(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let queue = bench.queue("baseline");
    let mut wrong = serde_json::to_value(fill::submission(&queue, bench.payload_bytes()))
        .map_err(|e| Failure::no(format!("a request cannot be written: {e}; report this")))?;
    // A misspelt member: everything is parsed and checked, nothing is stored.
    wrong["max_attemps"] = 3.into();
    let post = Call::post(&bench.target, "/v1/jobs", Bytes::from(wrong.to_string()))?;
    let get = Call::get(&bench.target, "/v1/meta")?;
    for connections in sizes(bench) {
        for (name, call, status) in
            [(NO_STORE, &post, StatusCode::UNPROCESSABLE_ENTITY), (META, &get, StatusCode::OK)]
        {
            let (load, loaded, usage) =
                saturate(bench, name, connections, || Load::new(call.clone(), status, false))
                    .await?;
            let row = Row::new(name, connections).of_requests(loaded.requests(), usage);
            let quantiles = load.latencies.quantiles();
            bench.add(row.latency(quantiles).note(loaded.remark().unwrap_or_default()));
        }
    }
    Ok(())
}

/// Submissions at the limit for each number of connections, then at a fixed rate below it; and
/// afterwards every accepted job is completed, to prove that it was kept.
pub(super) async fn accept(bench: &mut Bench<'_>) -> Result<(), Failure> {
    let queue = bench.queue(ACCEPT);
    let call = fill::submit(&bench.target, &queue, bench.payload_bytes())?;
    let load = || Load::new(call.clone(), StatusCode::ACCEPTED, true);
    let mut accepted = Vec::new();
    let mut best: f64 = 0.0;
    for connections in sizes(bench) {
        let (load, loaded, usage) = saturate(bench, ACCEPT, connections, load).await?;
        best = best.max(per_second(loaded.answered, usage.wall));
        let row = Row::new(ACCEPT, connections).of_jobs(loaded.answered, loaded.requests(), usage);
        let row = row.latency(load.latencies.quantiles());
        let row = compared(bench, row).note(loaded.remark().unwrap_or_default());
        bench.add(row);
        accepted.extend(loaded.ids);
    }
    accepted.extend(at_a_rate(bench, load(), best).await?);
    let worked = bench.finish(ACCEPT, &queue, accepted.len() as u64).await?;
    bench.check(ACCEPT, &queue, accepted, worked).await
}

/// The open loop: at half of the most that was reached, or as asked for.
async fn at_a_rate(
    bench: &mut Bench<'_>,
    load: Arc<Load>,
    best: f64,
) -> Result<Vec<u128>, Failure> {
    let connections = bench.args.most_connections();
    let rate = bench.args.rate.map_or(best / 2.0, f64::from).max(1.0);
    let open = Connection::open_many(&bench.target, connections).await?;
    let during = bench.args.duration;
    let meter = Meter::start(bench.pid);
    let label = format!("{ACCEPT} open-loop at {rate:.0}/s");
    let seen = || load.latencies.count();
    let loaded =
        bench.watch(&label, during * 2, seen, load::open(open, &load, rate, during)).await?;
    let usage = meter.stop();
    let due = (rate * during.as_secs_f64()) as u64;
    let mut row = Row::new("accept open-loop", connections)
        .of_jobs(loaded.answered, loaded.requests(), usage)
        .latency(load.latencies.quantiles())
        .note(match bench.args.rate {
            Some(rate) => format!("{rate}/s, counted from when a request was due"),
            None => "at half of the limit, counted from when a request was due".to_owned(),
        })
        .note(loaded.remark().unwrap_or_default());
    if loaded.requests() < due {
        row = row.note(format!("only {} of {due} could be sent", loaded.requests()));
    }
    bench.add(row);
    Ok(loaded.ids)
}

fn sizes(bench: &Bench<'_>) -> Vec<usize> {
    bench.args.connections.iter().map(|n| usize::from(*n)).collect()
}

/// A closed loop for the duration, after a short one that is not measured; the ids of both count.
async fn saturate(
    bench: &mut Bench<'_>,
    name: &str,
    connections: usize,
    load: impl Fn() -> Arc<Load>,
) -> Result<(Arc<Load>, Loaded, Usage), Failure> {
    let label = format!("{name}, {connections} connections");
    let open = Connection::open_many(&bench.target, connections).await?;
    let during = bench.args.duration;
    let warm = (during / 5).min(Duration::from_secs(1));
    let before = load();
    let seen = || before.latencies.count();
    let warmed = load::closed(open, &before, now() + warm, u64::MAX);
    let warmed = bench.watch(&label, warm, seen, warmed).await?;
    let load = load();
    let meter = Meter::start(bench.pid);
    let seen = || load.latencies.count();
    let measured = load::closed(warmed.connections, &load, now() + during, u64::MAX);
    let mut loaded = bench.watch(&label, during, seen, measured).await?;
    let usage = meter.stop();
    loaded.ids.extend(warmed.ids);
    Ok((load, loaded, usage))
}

/// The costs beside those of requests that store nothing, when these were measured in this run.
fn compared(bench: &Bench<'_>, row: Row) -> Row {
    let mine = row.server_cpu_microseconds_per_request;
    let remarks: Vec<String> = [(NO_STORE, "the POST that stores nothing"), (META, "GET meta")]
        .into_iter()
        .filter_map(|(name, what)| {
            let times = times(mine, bench.report.cpu(name, row.connections))?;
            Some(format!("{times} the CPU of {what}"))
        })
        .collect();
    row.note(remarks.join(", "))
}
