//! `punctual work`: a worker that executes a command for each job, or posts it to a service.

use std::io::IsTerminal as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Args};
use tracing_subscriber::EnvFilter;

use super::{Connect, DEFAULT_TOKEN_ENV, Done, Failure};
use crate::worker::{self, Exec, Forward, MAX_CONCURRENCY, WorkerConfig};

#[derive(Debug, Args)]
#[command(
    about = "Run a worker that executes a command for each job, or posts it to a service",
    long_about = "Run a worker that executes a command for each job, or posts it to a service.\n\n\
                  --exec: the command gets the payload as JSON on stdin and PUNCTUAL_JOB_ID, \
                  PUNCTUAL_ROOT_JOB_ID, PUNCTUAL_KIND, PUNCTUAL_QUEUE, PUNCTUAL_ATTEMPT, \
                  PUNCTUAL_FENCE and TRACEPARENT in its environment. What it writes to stdout is the result: JSON \
                  if it parses, else a text. Exit 0 completes the job, 65 fails it for good, \
                  anything else fails the attempt; the end of stderr is the error's message. \
                  When the job is cancelled, its time-out comes or its lease is lost the command \
                  gets SIGTERM, and SIGKILL 10 s later or when its time is up.\n\n\
                  --forward: the payload is posted as JSON, with the headers Punctual-Job-Id, \
                  -Root-Job-Id, -Kind, -Queue, -Attempt and -Fence, Idempotency-Key (the root \
                  job's id: the same in every attempt) and traceparent. 2xx completes the job \
                  with the body as its result. 4xx fails it for good, except 408, 425 and 429; \
                  these, 3xx, 5xx and no answer fail the attempt, and Retry-After is obeyed. \
                  Redirects are not followed. When the job is cancelled, its time-out comes or its \
                  lease is lost the connection is closed.\n\n\
                  SIGTERM or Ctrl-C drains the worker: it takes no new jobs and ends when its \
                  jobs are done, or after --grace. A second one stops the jobs and gives them \
                  back.",
    after_long_help = "Examples:\n  \
                       punctual work --queue reports --exec ./render.py --quality high\n  \
                       punctual work --queue urgent --queue default --concurrency 8 --exec ./run\n  \
                       punctual work --queue default --kind resize --exec 'jq -r .path | xargs file'\n  \
                       punctual work --queue mail --concurrency 4 --forward http://127.0.0.1:3000/jobs",
    group = ArgGroup::new("hands").args(["forward", "exec"]).required(true)
)]
pub(super) struct WorkArgs {
    /// A queue to take jobs from; repeat it, the first is served first
    #[arg(long, required = true, value_name = "QUEUE")]
    pub(super) queue: Vec<String>,
    /// A kind to take; repeat it [default: all]
    #[arg(long, value_name = "KIND")]
    kind: Vec<String>,
    /// How many jobs to run at once, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CONCURRENCY)))]
    concurrency: u32,
    /// How long the server waits for a sign of life, 1s to 1h [default: the queue's]
    #[arg(long, value_name = "TIME", value_parser = lease)]
    lease: Option<Duration>,
    /// How long running jobs may go on when the worker is drained
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = super::duration)]
    grace: Duration,
    #[command(flatten)]
    connect: Connect,
    /// The address of a service to post each job to, instead of running a command
    #[arg(long, value_name = "ADDRESS")]
    pub(super) forward: Option<String>,
    /// The command: everything that follows. One word with blanks in it is run by `sh -c`
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true)]
    pub(super) exec: Vec<String>,
}

fn lease(text: &str) -> Result<Duration, String> {
    let span = super::duration(text)?;
    let range = Duration::from_secs(1)..=Duration::from_secs(3600);
    if range.contains(&span) { Ok(span) } else { Err("a lease is 1s to 1h".to_owned()) }
}

pub(super) fn run(args: WorkArgs) -> Done {
    log_to_stderr();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| {
            Failure::no(format!("cannot start the runtime: {e}; raise the process limit"))
        })?
        .block_on(work(args))
}

async fn work(args: WorkArgs) -> Done {
    let client = args.connect.client()?;
    let hands = hands(&args)?;
    let hostname = hostname();
    let id = worker_id(hostname.as_deref());
    let config = WorkerConfig {
        kinds: args.kind,
        concurrency: args.concurrency,
        lease: args.lease,
        hostname,
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        grace: args.grace,
        ..WorkerConfig::new(client, id, args.queue)
    };
    let phase = worker::on_signals().map_err(|e| {
        Failure::no(format!("cannot listen for signals: {e}; check the process limits"))
    })?;
    tracing::info!(
        worker_id = %config.worker_id,
        queues = %config.queues.join(","),
        concurrency = config.concurrency,
        server = %config.client.base_url(),
        "worker started"
    );
    let ended = match hands {
        Hands::Exec(exec) => worker::run(config, exec, phase).await,
        Hands::Forward(forward) => worker::run(config, forward, phase).await,
    };
    let s = ended.map_err(|e| {
        let worker::WorkerError::Refused(error) = e;
        Failure::from(error)
    })?;
    tracing::info!(
        completed = s.completed,
        failed = s.failed,
        cancelled = s.cancelled,
        released = s.released,
        lost = s.lost,
        "worker ended"
    );
    Ok(ExitCode::SUCCESS)
}

/// What does the work.
enum Hands {
    Exec(Exec),
    Forward(Forward),
}

fn hands(args: &WorkArgs) -> Result<Hands, Failure> {
    if let Some(address) = &args.forward {
        let forward = Forward::new(address);
        return forward.map(Hands::Forward).map_err(|e| Failure::usage(format!("--forward: {e}")));
    }
    let exec = Exec::new(&args.exec)
        .ok_or_else(|| Failure::usage("--exec needs a command; write it last on the line"))?;
    find(exec.program())?;
    Ok(Hands::Exec(exec.hiding(DEFAULT_TOKEN_ENV).hiding(args.connect.token_variable())))
}

/// A command that is not there would fail every job; better no worker.
fn find(program: &str) -> Result<(), Failure> {
    let runs = |path: &Path| {
        path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let path = Path::new(program);
    let problem = if program.contains('/') {
        match path.metadata() {
            _ if runs(path) => return Ok(()),
            Ok(_) => "is not an executable file; chmod +x it, or name its interpreter first",
            Err(_) => "is not there; check the path",
        }
    } else {
        let places = std::env::var_os("PATH").unwrap_or_default();
        if std::env::split_paths(&places).any(|place| runs(&place.join(program))) {
            return Ok(());
        }
        "is not in PATH; for a file in this directory write ./ before it"
    };
    Err(Failure::usage(format!("cannot run {program}: it {problem}")))
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Someone who has set up logging before has it as they want it.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_target(false)
        .try_init();
}

fn hostname() -> Option<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = kernel.or_else(|| std::env::var("HOSTNAME").ok())?;
    let name: String = name.trim().chars().filter(|c| !c.is_control()).take(100).collect();
    (!name.is_empty()).then_some(name)
}

/// Readable, and unique even where process ids repeat, as in containers.
fn worker_id(hostname: Option<&str>) -> String {
    let unique = uuid::Uuid::now_v7().simple().to_string();
    format!("{}-{}-{}", hostname.unwrap_or("worker"), std::process::id(), &unique[24..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_ids_differ() {
        let (a, b) = (worker_id(Some("h")), worker_id(Some("h")));
        assert!(a != b && a.starts_with("h-"), "{a} {b}");
    }

    #[test]
    fn commands_that_cannot_run_are_told_from_those_that_can() {
        assert!(find("sh").is_ok() && find("/bin/sh").is_ok());
        for (program, word) in
            [("no-such-command", "PATH"), ("./no-such", "not there"), ("/etc/passwd", "chmod")]
        {
            let failure = find(program).unwrap_err();
            assert!(failure.code == 2 && failure.message.contains(word), "{}", failure.message);
        }
    }

    #[test]
    fn leases_have_a_range() {
        assert!(lease("30s").is_ok() && lease("1h").is_ok());
        assert!(lease("500ms").is_err() && lease("61m").is_err() && lease("x").is_err());
    }
}
