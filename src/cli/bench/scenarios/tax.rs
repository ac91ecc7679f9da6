//! `tax`: what it costs to be observed.
//!
//! Servers that differ only in what they tell of themselves get the same load in turns, so that
//! what changes on the machine meets all of them alike. Jobs are submitted one by one, and worked
//! off in batches.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::Bench;
use crate::cli::Failure;
use crate::cli::bench::connection::Connection;
use crate::cli::bench::crew::Worked;
use crate::cli::bench::delivery::Id;
use crate::cli::bench::fill;
use crate::cli::bench::load::{self, Load};
use crate::cli::bench::measure::{Meter, Quantiles, Usage, now, resident};
use crate::cli::bench::report::{Row, times};
use crate::cli::bench::server::Spawned;

/// Each server's turns, in which its time is divided.
const TURNS: u32 = 5;
const CONNECTIONS: usize = 64;
/// More than any batch of spans.
const BATCH_BYTES: usize = 64 << 20;

/// How a server is observed.
struct Way {
    name: &'static str,
    settings: &'static [(&'static str, &'static str)],
    collector: Option<Mood>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Takes,
    Hangs,
}

/// The first is what the others are compared with.
const WAYS: [Way; 5] = [
    Way { name: "tax: unobserved", settings: &[("PUNCTUAL_UNOBSERVED", "1")], collector: None },
    Way { name: "tax: metrics", settings: &[], collector: None },
    Way {
        name: "tax: metrics, 1 % traced",
        settings: &[("PUNCTUAL_TELEMETRY__SAMPLE_RATIO", "0.01")],
        collector: Some(Mood::Takes),
    },
    Way {
        name: "tax: metrics, all traced",
        settings: &[("PUNCTUAL_TELEMETRY__SAMPLE_RATIO", "1.0")],
        collector: Some(Mood::Takes),
    },
    Way {
        name: "tax: the same, collector hangs",
        settings: &[("PUNCTUAL_TELEMETRY__SAMPLE_RATIO", "1.0")],
        collector: Some(Mood::Hangs),
    },
];

/// A server and what its turns have come to.
struct Observed {
    way: &'static Way,
    server: Spawned,
    _collector: Option<Collector>,
    queue: String,
    load: Arc<Load>,
    usage: Usage,
    requests: u64,
    accepted: Vec<Id>,
    worked: Worked,
    most_resident: u64,
    /// Of the accepted.
    measured_from: usize,
}

pub(super) async fn tax(bench: &mut Bench<'_>) -> Result<(), Failure> {
    if bench.args.server.is_some() {
        return Err(Failure::usage("tax compares servers of its own; leave --server out"));
    }
    let mut observed = Vec::new();
    for way in &WAYS {
        observed.push(Observed::start(way, bench).await?);
    }
    // Not measured: the first of everything.
    for one in &mut observed {
        one.turn(bench, bench.args.duration / (4 * TURNS)).await?;
        one.forget();
    }
    for turn in 0..TURNS {
        // Nobody is always the first.
        observed.rotate_left(usize::from(turn > 0));
        for one in &mut observed {
            one.turn(bench, bench.args.duration / TURNS).await?;
        }
    }
    observed.sort_by_key(|one| WAYS.iter().position(|way| way.name == one.way.name));
    let first = observed.first().map(Observed::row);
    for one in observed {
        let row = one.row();
        let row = match &first {
            Some(first) if one.way.name != WAYS[0].name => compared(row, first),
            Some(_) | None => row,
        };
        bench.report.rows.push(row);
        one.settle(bench).await?;
    }
    Ok(())
}

impl Observed {
    async fn start(way: &'static Way, bench: &Bench<'_>) -> Result<Self, Failure> {
        let dir = bench.args.dir.clone().unwrap_or_else(|| PathBuf::from("."));
        let collector = match way.collector {
            Some(mood) => Some(Collector::start(mood).await?),
            None => None,
        };
        let mut settings: Vec<_> =
            way.settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let endpoint = collector.as_ref().map(|c| c.url.clone()).unwrap_or_default();
        settings.push(("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint));
        let server = Spawned::start(&dir, settings).await?;
        let queue = bench.queue("tax");
        let call = fill::submit(&server.target, &queue, bench.payload_bytes())?;
        let load = Load::new(call, StatusCode::ACCEPTED, true);
        Ok(Self {
            way,
            server,
            _collector: collector,
            queue,
            load,
            usage: NOTHING,
            requests: 0,
            accepted: Vec::new(),
            worked: Worked::default(),
            most_resident: 0,
            measured_from: 0,
        })
    }

    /// Submits for so long, and completes what was accepted.
    async fn turn(&mut self, bench: &mut Bench<'_>, during: Duration) -> Result<(), Failure> {
        (bench.target, bench.pid) = (Arc::clone(&self.server.target), Some(self.server.pid));
        let connections = Connection::open_many(&bench.target, CONNECTIONS).await?;
        let meter = Meter::start(bench.pid);
        let load = Arc::clone(&self.load);
        let seen = || load.latencies.count();
        let loaded = load::closed(connections, &self.load, now() + during, u64::MAX);
        let mut loaded = bench.watch(self.way.name, during, seen, loaded).await?;
        let accepted = loaded.ids.len() as u64;
        let worked = bench.finish("tax", &self.queue, accepted).await?;
        let usage = meter.stop();
        self.usage = Usage {
            wall: self.usage.wall + usage.wall,
            server: self.usage.server.zip(usage.server).map(|(a, b)| a + b),
            client: self.usage.client.zip(usage.client).map(|(a, b)| a + b),
        };
        self.requests += loaded.requests() + worked.requests;
        self.accepted.append(&mut loaded.ids);
        self.worked.merge(worked);
        self.most_resident = self.most_resident.max(resident(self.server.pid).unwrap_or(0));
        Ok(())
    }

    /// The measures, but not the jobs: these are followed to their end.
    fn forget(&mut self) {
        self.usage = NOTHING;
        self.requests = 0;
        self.measured_from = self.accepted.len();
        self.load.latencies.forget();
    }

    fn row(&self) -> Row {
        let jobs = (self.accepted.len() - self.measured_from) as u64;
        let mut row = Row::new(self.way.name, CONNECTIONS)
            .of_jobs(jobs, self.requests, self.usage)
            .latency(self.load.latencies.quantiles());
        row.resident_bytes = Some(self.most_resident).filter(|bytes| *bytes > 0);
        row
    }

    async fn settle(self, bench: &mut Bench<'_>) -> Result<(), Failure> {
        (bench.target, bench.pid) = (Arc::clone(&self.server.target), Some(self.server.pid));
        bench.check(self.way.name, &self.queue, self.accepted, self.worked).await?;
        self.server.stop().await;
        Ok(())
    }
}

const NOTHING: Usage =
    Usage { wall: Duration::ZERO, server: Some(Duration::ZERO), client: Some(Duration::ZERO) };

/// The row with how its figures compare to the server that nobody observes.
fn compared(row: Row, unobserved: &Row) -> Row {
    let cpu = |row: &Row| row.server_cpu_microseconds_per_job;
    let quantile = |row: &Row, which: fn(&Quantiles) -> u64| {
        row.latency_microseconds.as_ref().map(|q| which(q) as f64)
    };
    let latency = |which| times(quantile(&row, which), quantile(unobserved, which));
    let told = [
        ("CPU a job", times(cpu(&row), cpu(unobserved))),
        ("p50", latency(|q| q.p50)),
        ("p99", latency(|q| q.p99)),
    ];
    let remarks: Vec<String> =
        told.into_iter().filter_map(|(what, times)| Some(format!("{what} {}", times?))).collect();
    row.note(remarks.join(", "))
}

/// Takes spans and throws them away, or never answers.
struct Collector {
    url: String,
    serving: AbortHandle,
}

impl Collector {
    async fn start(mood: Mood) -> Result<Self, Failure> {
        let cannot = |e| Failure::no(format!("cannot start a collector: {e}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(cannot)?;
        let url = format!("http://{}", listener.local_addr().map_err(cannot)?);
        let app = Router::new().route("/v1/traces", post(take)).with_state(mood);
        let serving = tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Ok(Self { url, serving: serving.abort_handle() })
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(State(mood): State<Mood>, body: Body) -> StatusCode {
    match mood {
        Mood::Takes => to_bytes(body, BATCH_BYTES).await.map_or(StatusCode::BAD_REQUEST, |_| {
            // An empty message says that all was taken.
            StatusCode::OK
        }),
        Mood::Hangs => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_observed_are_compared_with_the_unobserved() {
        let row = |cpu, p99| {
            let usage = Usage {
                wall: Duration::from_secs(1),
                server: Some(Duration::from_millis(cpu)),
                client: None,
            };
            let q = Quantiles { p50: 10, p99, p999: 0, max: 0 };
            Row::new("tax", 1).of_jobs(100, 300, usage).latency(Some(q))
        };
        assert_eq!(
            compared(row(23, 55), &row(20, 50)).note,
            "CPU a job 1.15x, p50 1.00x, p99 1.10x"
        );
    }
}
