//! `punctual bench`: load on a server, and what it costs.
//!
//! A bench is only worth something when it cannot flatter. So:
//!
//! - latencies under a given rate count from the moment a request was *due* ([`load`]), and the
//!   rate at which that is done is taken from what the server showed to be its limit;
//! - figures of a machine that runs server and client wander, so each row also has the processor
//!   time per request, and `baseline` shows what a request costs that stores nothing;
//! - work that was lost or done twice makes the figures void, so each scenario that accepts jobs
//!   follows every one of them to its end ([`delivery`]) and the command ends with 1 if one is
//!   missing.
//!
//! Without `--server` each scenario has a server of its own, this very program on an empty
//! temporary store. Everything is bounded in time and number, and a server that dies in the middle
//! ends the command with a line that says so, and what was measured until then. Must not know:
//! the engine, stores; it sees what any client sees.

mod connection;
mod crew;
mod delivery;
mod fill;
mod load;
mod measure;
mod report;
mod scenarios;
mod server;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use hyper::StatusCode;
use tokio::signal::unix::{SignalKind, signal};

use self::connection::{Call, Connection, Target};
use self::report::{Machine, Report};
use self::scenarios::Bench;
use self::server::Spawned;
use super::output::{self, Ticker};
use super::{DEFAULT_TOKEN_ENV, Done, Failure, NO};
use crate::wire;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Requests that store nothing: the floor that others are compared with
    Baseline,
    /// Submissions: the most that can be, then open-loop at half of that
    Accept,
    /// Producers and batching workers at once, until every job is completed
    Cycle,
    /// 64 workers that settle one job and claim the next, over a backlog
    Drain,
    /// One such worker alone
    Solo,
    /// From a submission to the parked claim that it ends, on an idle server
    Pickup,
    /// What a claim and /metrics cost with few jobs and with many
    Flat,
    /// Submissions while many pending jobs become stuck in one moment
    Crossing,
    /// What it costs to be observed: metrics, traces, and a collector that hangs
    Tax,
    /// Fill a server with finished and pending jobs, measuring nothing else
    Preload,
    /// All of these but preload
    All,
}

impl Scenario {
    const MEASURED: [Self; 9] = [
        Self::Baseline,
        Self::Accept,
        Self::Cycle,
        Self::Drain,
        Self::Solo,
        Self::Pickup,
        Self::Flat,
        Self::Crossing,
        Self::Tax,
    ];
}

/// Options of `punctual bench`.
#[derive(Debug, Clone, Args)]
#[command(
    about = "Put a server under load and measure it",
    long_about = "Put a server under load and measure it: rates, latencies, processor time for \
                  each request, and whether every accepted job was done exactly once.\n\n\
                  Without --server each scenario starts a server of its own on an empty store \
                  below --dir; PUNCTUAL_* settings in the environment apply to it, so \
                  PUNCTUAL_STORE__DURABILITY=normal shows what syncing costs. Processor times \
                  are Linux only. Build with --release before you believe a figure.",
    after_long_help = "Examples:\n  punctual bench\n  \
                       punctual bench baseline accept --connections 64,256 --duration 20s\n  \
                       punctual bench accept --rate 5000\n  \
                       punctual bench flat --preload-finished 1000000 --preload-pending 100000\n  \
                       punctual bench cycle --server http://127.0.0.1:8080 --server-pid 4711\n\n\
                       Exit codes: 0 measured; 1 a job was lost or done twice, or the server \
                       said no; 2 usage; 3 the server could not be reached or died."
)]
pub struct BenchArgs {
    /// What to measure, one after the other
    #[arg(value_enum, value_name = "SCENARIO", default_value = "all")]
    pub scenarios: Vec<Scenario>,
    /// A server that runs already, instead of one of our own
    #[arg(long, value_name = "URL", conflicts_with = "dir")]
    pub server: Option<String>,
    /// Its process id, to measure its processor time and memory
    #[arg(long, value_name = "PID", requires = "server")]
    pub server_pid: Option<u32>,
    /// The environment variable that holds its access token [default: `PUNCTUAL_TOKEN` if set]
    #[arg(long, value_name = "VAR", requires = "server")]
    pub token_env: Option<String>,
    /// Load a server on another machine, and fill it with jobs
    #[arg(long, requires = "server")]
    pub yes_really: bool,
    /// How long each load lasts, 100ms to 1h
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = super::duration)]
    pub duration: Duration,
    /// Connections of baseline and accept, one load for each; the most is also that of cycle's
    /// producers
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "64,256",
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub connections: Vec<u16>,
    /// Requests a second of accept's open loop [default: half of the most that was reached]
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// Jobs of cycle, drain and (at most) solo
    #[arg(long, value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub jobs: u64,
    /// The size of each job's payload
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub payload_bytes: u32,
    /// Finished jobs of flat and preload
    #[arg(long, visible_alias = "finished", value_name = "N", default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    pub preload_finished: u64,
    /// Pending jobs of flat, crossing and preload
    #[arg(long, visible_alias = "pending", value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    pub preload_pending: u64,
    /// Where our own server's store is made, on a real disk [default: the current directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Print everything as JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

impl BenchArgs {
    fn check(&self) -> Result<(), Failure> {
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(3_600));
        if !(least..=most).contains(&self.duration) {
            return Err(Failure::usage("--duration must be between 100ms and 1h"));
        }
        if self.scenarios.contains(&Scenario::Preload) && self.server.is_none() {
            return Err(Failure::usage(
                "preload fills a server that stays: name it with --server http://127.0.0.1:8080",
            ));
        }
        Ok(())
    }

    fn plan(&self) -> Vec<Scenario> {
        let mut plan = Vec::new();
        for scenario in &self.scenarios {
            if *scenario == Scenario::All {
                plan.extend(Scenario::MEASURED);
            } else {
                plan.push(*scenario);
            }
        }
        plan
    }

    fn most_connections(&self) -> usize {
        usize::from(self.connections.iter().copied().max().unwrap_or(1))
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        match &self.token_env {
            Some(name) => std::env::var(name).map(Some).map_err(|_| {
                Failure::usage(format!(
                    "--token-env names {name}, which is not set; export {name}=<token> first"
                ))
            }),
            None => Ok(std::env::var(DEFAULT_TOKEN_ENV).ok().filter(|t| !t.is_empty())),
        }
    }
}

/// Measures, prints, and says how it went: see the command's help for the codes.
pub fn run(args: &BenchArgs) -> ExitCode {
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| {
            Failure::no(format!("cannot start the runtime: {e}; raise the open-file limit"))
        })
        .and_then(|runtime| runtime.block_on(until_interrupted(args)));
    done.unwrap_or_else(|failure| {
        output::complain(&failure.message);
        ExitCode::from(failure.code)
    })
}

/// An interrupt unwinds like any failure, so that our server and its store go away.
async fn until_interrupted(args: &BenchArgs) -> Done {
    args.check()?;
    let signals = |e| Failure::no(format!("cannot listen for signals: {e}; try again"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    tokio::select! {
        done = measure_all(args) => return done,
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    if std::io::stderr().is_terminal() {
        output::note("");
    }
    Err(Failure::no("interrupted; what was measured so far is dropped"))
}

async fn measure_all(args: &BenchArgs) -> Done {
    let mut report = Report::default();
    if cfg!(debug_assertions) {
        report.warnings.push("a debug build: its figures mean nothing, use --release".to_owned());
    }
    for scenario in args.plan() {
        if let Err(failure) = measure_one(args, scenario, &mut report).await {
            if !report.rows.is_empty() {
                print(args, &report)?;
            }
            return Err(failure);
        }
    }
    print(args, &report)?;
    Ok(if report.is_exact() {
        ExitCode::SUCCESS
    } else {
        output::complain("jobs were lost, duplicated or rejected: see the delivery check above");
        ExitCode::from(NO)
    })
}

fn print(args: &BenchArgs, report: &Report) -> Result<(), Failure> {
    output::show(args.json, report, || report.text()).map(|_| ())
}

/// One scenario on its server, which is ended afterwards if it is ours.
async fn measure_one(
    args: &BenchArgs,
    scenario: Scenario,
    report: &mut Report,
) -> Result<(), Failure> {
    if let Some(url) = &args.server {
        let target = server::find(url, args.token()?.as_deref(), args.yes_really).await?;
        return measure_on(args, scenario, report, &target, args.server_pid).await;
    }
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from("."));
    let settings = match scenario {
        Scenario::Crossing => scenarios::crossing::settings(args.duration),
        Scenario::Baseline
        | Scenario::Accept
        | Scenario::Cycle
        | Scenario::Drain
        | Scenario::Solo
        | Scenario::Pickup
        | Scenario::Flat
        | Scenario::Tax
        | Scenario::Preload
        | Scenario::All => Vec::new(),
    };
    let mut ours = Spawned::start(&dir, settings).await?;
    let target = Arc::clone(&ours.target);
    match measure_on(args, scenario, report, &target, Some(ours.pid)).await {
        Ok(()) => {
            ours.stop().await;
            Ok(())
        }
        Err(mut failure) => {
            failure.message.push_str(&ours.last_words().await);
            ours.stop().await;
            Err(failure)
        }
    }
}

async fn measure_on(
    args: &BenchArgs,
    scenario: Scenario,
    report: &mut Report,
    target: &Arc<Target>,
    pid: Option<u32>,
) -> Result<(), Failure> {
    let meta = meta(target).await?;
    if report.machine.date.is_empty() {
        let current = PathBuf::from(".");
        let dir = args.server.is_none().then(|| args.dir.as_ref().unwrap_or(&current));
        let dir = dir.and_then(|dir| dir.canonicalize().ok());
        report.machine = Machine::look(&meta, dir.as_deref());
        report.machine.idle_resident_bytes = pid.and_then(measure::resident);
        if report.machine.is_in_memory() {
            report.warnings.push(
                "the store is in memory, where syncing costs nothing: name a real disk with --dir"
                    .to_owned(),
            );
        }
    }
    let mut ticker = Ticker::new();
    let mut bench = Bench::new(args, target, pid, &meta, report, &mut ticker);
    let done = scenarios::run(scenario, &mut bench).await;
    ticker.clear();
    done
}

async fn meta(target: &Arc<Target>) -> Result<wire::Meta, Failure> {
    let call = Call::get(target, "/v1/meta")?;
    Connection::open(target).await?.exchange(call.request()).await?.read(StatusCode::OK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn parse(line: &str) -> Result<BenchArgs, clap::Error> {
        Line::try_parse_from(std::iter::once("bench").chain(line.split_whitespace()))
            .map(|line| line.args)
    }

    #[test]
    fn everything_is_measured_by_default() {
        let args = parse("").unwrap();
        assert_eq!(args.plan(), Scenario::MEASURED);
        assert_eq!(args.connections, [64, 256]);
        assert_eq!(args.most_connections(), 256);
        assert!(args.check().is_ok());
    }

    #[test]
    fn several_scenarios_go_one_after_the_other() {
        let args = parse("accept baseline --connections 8,2 --rate 100 --duration 2s").unwrap();
        assert_eq!(args.plan(), [Scenario::Accept, Scenario::Baseline]);
        assert_eq!(args.most_connections(), 8);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--connections 0",
            "--jobs 0",
            "--rate 0",
            "--server-pid 5",
            "--yes-really",
            "--server http://a --dir /tmp",
            "--duration soon",
            "nonsense",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("--duration 1ms").unwrap().check().is_err());
        assert!(parse("--duration 2h").unwrap().check().is_err());
        assert!(parse("preload").unwrap().check().is_err());
        assert!(parse("preload --server http://127.0.0.1:1 --finished 5").unwrap().check().is_ok());
    }
}
