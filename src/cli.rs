//! The command line: what it accepts, and how its commands end.
//!
//! Each command lives in its own file below and returns an [`ExitCode`]; this file owns the
//! tree, the options that commands share, and the meaning of the codes:
//!
//! - 0: done;
//! - 1: the job failed, or the server's answer is no;
//! - 2: the command was not used properly;
//! - 3: the server could not be reached.
//!
//! Answers go to stdout, everything else to stderr; an error is one line with the next step. A
//! reader that closes stdout early ends the command quietly. Must not know: stores, the engine
//! ([`demo`] alone looks into the server that it starts).

pub mod bench;
mod bulk;
pub mod check_config;
mod demo;
pub mod docs;
mod episodes;
mod explain;
mod jobs;
mod kinds;
mod metrics;
mod output;
mod queues;
mod submit;
mod token;
mod watch;
mod work;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::client::{Client, ClientError};
use crate::domain::names::{NAME_RULE, Name};

/// The command line's root. `Cli::parse()` and then [`run`].
#[derive(Debug, Parser)]
#[command(
    name = "punctual",
    version,
    about = "An observability-first job server",
    long_about = "An observability-first job server: an honest 202, leases with fencing, and a \
                  watchdog that says why work is late.\n\n\
                  Start here:\n  \
                  punctual demo\n  \
                  punctual serve\n  \
                  punctual work --queue default --exec sh -c 'cat; echo done >&2'\n  \
                  punctual submit hello --payload '{\"name\":\"you\"}' --wait",
    after_long_help = "Exit codes: 0 done; 1 the job failed or the answer is no; 2 usage; \
                       3 the server could not be reached.",
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(ServeArgs),
    Demo(demo::DemoArgs),
    Work(work::WorkArgs),
    Submit(submit::SubmitArgs),
    Jobs(jobs::JobsArgs),
    Queues(queues::QueuesArgs),
    Workers(workers::WorkersArgs),
    Kinds(kinds::KindsArgs),
    Explain(explain::ExplainArgs),
    Episodes(episodes::EpisodesArgs),
    CheckConfig(CheckConfigArgs),
    Token(token::TokenArgs),
    Metrics(metrics::MetricsArgs),
    Bench(bench::BenchArgs),
}

/// Options of `punctual serve`.
#[derive(Debug, Clone, Default, Args)]
#[command(
    about = "Run the server",
    long_about = "Run the server.\n\nWithout a configuration it keeps its jobs in \
                  ./punctual.db and listens on 127.0.0.1:8080. Every configuration key can also \
                  be set in the environment, for example PUNCTUAL_JOBS__LEASE=1m; \
                  options given here win over both. SIGTERM drains: the server stops taking work \
                  and ends once nothing is in flight.",
    after_long_help = "Examples:\n  punctual serve\n  \
                       punctual serve --config /etc/punctual.toml\n  \
                       punctual serve --listen 127.0.0.1:9000 --store sqlite:///var/lib/punctual/jobs.db"
)]
pub struct ServeArgs {
    /// The configuration file [default: ./punctual.toml if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address to listen on, instead of server.listen
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Where jobs are kept, instead of store.url
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    about = "Check a configuration file and print what would be in force",
    long_about = "Check a configuration file, with the environment, and print what would be in \
                  force. All errors are reported at once.",
    after_long_help = "Examples:\n  punctual check-config punctual.toml\n  \
                       PUNCTUAL_JOBS__LEASE=1m punctual check-config"
)]
struct CheckConfigArgs {
    /// The file [default: ./punctual.toml if it exists, else the defaults]
    file: Option<PathBuf>,
    #[command(flatten)]
    format: Format,
}

/// Where the server is and who asks.
#[derive(Debug, Clone, Args)]
struct Connect {
    /// The server's address
    #[arg(
        long,
        global = true,
        env = "PUNCTUAL_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        hide_env_values = true
    )]
    server: String,
    #[arg(
        long,
        global = true,
        value_name = "VAR",
        help = "The environment variable that holds the access token [default: PUNCTUAL_TOKEN if \
                it is set, else no token]"
    )]
    token_env: Option<String>,
}

const DEFAULT_TOKEN_ENV: &str = "PUNCTUAL_TOKEN";

impl Connect {
    /// The variable that holds the token, if there is one.
    fn token_variable(&self) -> &str {
        self.token_env.as_deref().unwrap_or(DEFAULT_TOKEN_ENV)
    }

    fn client(&self) -> Result<Client, Failure> {
        let token = match &self.token_env {
            Some(name) => Some(std::env::var(name).map_err(|_| {
                Failure::usage(format!(
                    "--token-env names {name}, which is not set; export {name}=<token> first"
                ))
            })?),
            None => std::env::var(DEFAULT_TOKEN_ENV).ok().filter(|t| !t.is_empty()),
        };
        Ok(Client::new(&self.server, token)?)
    }
}

#[derive(Debug, Clone, Copy, Args)]
struct Format {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Why a command did not do what it was asked to: the line for stderr and the exit code.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

const NO: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;

impl Failure {
    fn no(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: NO }
    }

    fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: USAGE }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::Unreachable(_) => UNREACHABLE,
            ClientError::Config(_) => USAGE,
            ClientError::Problem(..) | ClientError::Protocol(_) => NO,
        };
        let mut message = error.to_string();
        if let Some(hint) = hint(&error) {
            message.push_str("; ");
            message.push_str(hint);
        }
        Self { message, code }
    }
}

/// The next step on this command line, beyond what the server's answer says.
fn hint(error: &ClientError) -> Option<&'static str> {
    match error {
        ClientError::Problem(problem, _) => match (problem.code.as_str(), problem.status) {
            ("no-such-job", _) => Some("`punctual jobs list` shows the jobs that exist"),
            ("no-such-queue", _) => Some("`punctual queues list` shows the queues that exist"),
            ("no-such-worker", _) => {
                Some("`punctual workers list` shows the workers that are there")
            }
            ("precondition-failed", _) => Some("`punctual queues show` shows the present revision"),
            ("job-not-finished", _) => Some("`punctual jobs cancel` cancels it"),
            ("result-not-ready", _) => Some("`punctual jobs show` shows how it goes"),
            ("no-such-route", _) => Some("--server takes the address alone: http://127.0.0.1:8080"),
            ("job-failed", _) => Some("`punctual jobs show` shows its error"),
            (_, 401) => Some(
                "put the token into PUNCTUAL_TOKEN, or name the variable that holds it with --token-env",
            ),
            (_, 403) => Some(
                "use a token that may, in PUNCTUAL_TOKEN or in the variable that --token-env names",
            ),
            _ => None,
        },
        ClientError::Unreachable(_) | ClientError::Protocol(_) | ClientError::Config(_) => None,
    }
}

/// What a command that went well ends with.
type Done = Result<ExitCode, Failure>;

/// Runs the command and says how it ended.
pub fn run(cli: Cli) -> ExitCode {
    let done = match cli.command {
        Command::Serve(args) => return crate::server::serve(&args),
        Command::CheckConfig(args) => {
            return check_config::run(args.file.as_deref(), args.format.json);
        }
        Command::Bench(args) => return bench::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Work(args) => work::run(args),
        Command::Metrics(args) => metrics::run(&args),
        Command::Token(args) => token::run(&args),
        Command::Submit(args) => block_on(submit::run(args)),
        Command::Jobs(args) => block_on(jobs::run(args)),
        Command::Queues(args) => block_on(queues::run(args)),
        Command::Workers(args) => block_on(workers::run(args)),
        Command::Kinds(args) => block_on(kinds::run(args)),
        Command::Explain(args) => block_on(explain::run(args)),
        Command::Episodes(args) => block_on(episodes::run(args)),
    };
    done.unwrap_or_else(|failure| {
        output::complain(&failure.message);
        ExitCode::from(failure.code)
    })
}

/// For commands that make a few requests: one thread is enough.
fn block_on(command: impl Future<Output = Done>) -> Done {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| {
            Failure::no(format!("cannot start the runtime: {e}; raise the open-file limit"))
        })?
        .block_on(command)
}

/// A value parser for the names of queues, kinds, namespaces and tokens.
fn name(text: &str) -> Result<String, String> {
    Name::parse(text).map(|name| name.to_string()).ok_or_else(|| format!("use {NAME_RULE}"))
}

/// A value parser for humantime durations: `5s`, `1h 30m`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; write it like 30s, 5m or 1h30m"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;
    use clap::CommandFactory as _;

    fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"punctual").chain(line))
    }

    #[test]
    fn the_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn exec_takes_the_rest_of_the_line() {
        let line = "work --queue a --queue b --lease 45s --exec grep -c --queue x";
        let cli = parse(&line.split(' ').collect::<Vec<_>>()).unwrap();
        let Command::Work(args) = cli.command else { panic!("not work") };
        assert_eq!(args.exec, ["grep", "-c", "--queue", "x"]);
        assert_eq!(args.queue, ["a", "b"]);
        assert!(parse(&["work", "--queue", "a"]).is_err());
        assert!(parse(&["work", "--exec", "true"]).is_err());
        let forward = ["work", "--queue", "a", "--forward", "http://x"];
        let Command::Work(args) = parse(&forward).unwrap().command else { panic!("not work") };
        assert_eq!((args.forward.as_deref(), args.exec.len()), (Some("http://x"), 0));
        assert!(parse(&[&forward[..], &["--exec", "true"]].concat()).is_err());
        assert!(parse(&["work", "--queue", "a", "--lease", "2h", "--exec", "true"]).is_err());
    }

    #[test]
    fn shared_options_go_anywhere() {
        for line in [
            ["jobs", "--server", "http://x", "list", "--json"],
            ["jobs", "list", "--json", "--server", "http://x"],
        ] {
            let Command::Jobs(args) = parse(&line).unwrap().command else { panic!("not jobs") };
            assert_eq!(args.connect.server, "http://x");
        }
    }

    #[test]
    fn wait_takes_an_optional_time() {
        let waits = |line: &[&str]| {
            let Command::Submit(args) = parse(line).unwrap().command else { panic!("not submit") };
            args.wait
        };
        assert_eq!(waits(&["submit", "k"]), None);
        assert_eq!(waits(&["submit", "k", "--wait"]), Some(submit::Wait::Forever));
        let half = std::time::Duration::from_secs(30);
        assert_eq!(waits(&["submit", "k", "--wait", "30s"]), Some(submit::Wait::For(half)));
        assert_eq!(waits(&["submit", "--wait=30s", "k"]), Some(submit::Wait::For(half)));
        assert!(parse(&["submit", "k", "--wait", "soon"]).is_err());
    }

    #[test]
    fn failures_say_what_to_do_and_carry_their_code() {
        let gone = Failure::from(ClientError::Unreachable("cannot reach x".into()));
        assert_eq!(gone.code, 3);
        let problem = wire::Problem { status: 401, ..wire::Problem::default() };
        let stranger = Failure::from(ClientError::Problem(Box::new(problem), None));
        assert!(stranger.code == 1 && stranger.message.contains("--token-env"));
        let bad = Failure::from(Client::new("https://x", None).unwrap_err());
        assert_eq!(bad.code, 2);
    }
}
