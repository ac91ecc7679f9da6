//! What an operator may set, where it comes from, and what is wrong with it.
//!
//! This module owns the names of configuration keys, their defaults and ranges (one table,
//! `config/keys.rs`), and the order of strength: flags of the command line, then `PUNCTUAL_…`
//! environment variables, then the file, then the defaults.
//!
//! Invariants:
//! - an empty file, or none, is a working configuration;
//! - a [`Config`] that exists is valid: every value is in its range and the values agree;
//! - a configuration is refused whole, with everything that is wrong with it at once, each with
//!   its place, its key and the next step;
//! - unknown keys are errors: a key that is silently ignored is an outage later;
//! - `docs/CONFIG.md` and `punctual.example.toml` are made from the table of keys.
//!
//! It must not know: stores, HTTP, metrics, nor who reads a value. The defaults of jobs leave
//! here as plain [`JobDefaults`].

mod build;
mod checks;
pub(crate) use checks::collector_url;
mod docs;
mod errors;
mod hint;
mod keys;
mod read;
mod reload;
mod tokens;
mod value;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

pub use self::errors::{ConfigError, ConfigErrors, Place};
use self::read::{Reader, Values};

use crate::domain::access::{Permit, Reach, SecretHash};
use crate::domain::names::Name;

/// The file that is read when none is named and it exists, in the working directory.
pub const DEFAULT_FILE: &str = "punctual.toml";

/// A larger file is a mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A valid configuration.
///
/// Read-only in spirit: the [`Config::queues`], [`Config::hash`] and [`Config::describe`] are fixed
/// when it is loaded and do not follow later changes of the public fields.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that was read, as it was named; `None`: defaults and environment only.
    pub file: Option<PathBuf>,
    pub server: ServerConfig,
    pub store: StoreConfig,
    pub jobs: JobsConfig,
    pub watchdog: WatchdogConfig,
    pub tasks: TasksConfig,
    pub auth: AuthConfig,
    pub telemetry: TelemetryConfig,
    pub limits: LimitsConfig,
    queues: HashMap<Name, (Arc<JobDefaults>, QueueWatch)>,
    values: Values,
}

/// `[server]`: the HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// Scheme and host without a trailing slash; `None`: links come from the `Host` header.
    pub public_url: Option<String>,
    /// A second listener, for metrics and health alone; `None`: `/metrics` is on the first.
    pub metrics_listen: Option<SocketAddr>,
    /// Peers whose `Forwarded` headers count.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins of web pages that may read answers.
    pub cors_origins: Vec<String>,
    /// For requests in flight after SIGTERM. 0 s to 1 h, default 30 s.
    pub shutdown_grace: Duration,
    /// From connection to complete headers. 100 ms to 5 m, default 10 s.
    pub header_timeout: Duration,
    /// From headers to the end of the body, and how long a client may take nothing of its answer.
    /// 100 ms to 1 h, default 30 s.
    pub body_timeout: Duration,
    /// 1 to 1 000 000, default 10 000.
    pub max_connections: usize,
}

/// `[store]`: where jobs are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Default `sqlite://punctual.db`.
    pub url: StoreUrl,
    /// Default full.
    pub durability: Durability,
    /// Bytes; with less free on the disk, no more jobs are taken. 0 (no guard) to 1 PiB, default
    /// 256 MB.
    pub min_free: u64,
}

/// Which store, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A file, relative to the working directory unless absolute.
    Sqlite(PathBuf),
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
        }
    }
}

/// What a 202 promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The job is on disk.
    Full,
    /// The job survives a crash of the server, but perhaps not of the machine.
    Normal,
}

impl Durability {
    /// As in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
        }
    }
}

/// `[jobs]`: the defaults of jobs, and bounds that are the same for all queues.
#[derive(Debug, Clone, PartialEq)]
pub struct JobsConfig {
    /// For queues without keys of their own.
    pub defaults: Arc<JobDefaults>,
    /// How long an `Idempotency-Key` is remembered. 1 s to 365 d, default 24 h.
    pub idempotency_ttl: Duration,
    /// Default 1 MiB, at most 16 MiB.
    pub max_payload_bytes: usize,
    /// Results up to this size appear in the job. Default 64 KiB, at most `max_result_bytes`.
    pub inline_result_bytes: usize,
    /// Default 16 MiB, at most 256 MiB.
    pub max_result_bytes: usize,
    /// Hosts that `result_location` may name; empty: any.
    pub result_hosts: Vec<String>,
    pub retry_after: RetryAfterConfig,
}

/// `[jobs] retry_after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfterConfig {
    /// The largest `Retry-After`. 1 s to 1 h, default 5 m.
    pub max: Duration,
}

pub use crate::domain::defaults::{JobDefaults, QueueWatch};

/// `[watchdog]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchdogConfig {
    /// 100 ms to 10 m, default 15 s.
    pub interval: Duration,
    /// For queues without a value of their own; `None`: off. 1 s to 7 d, default 5 m.
    pub stuck_after: Option<Duration>,
}

/// `[tasks]`: the periods of maintenance tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TasksConfig {
    /// Default 1 s.
    pub reaper: Duration,
    /// Default 250 ms.
    pub scheduler: Duration,
    /// Default 5 s.
    pub sampler: Duration,
    /// Default 10 s.
    pub retention: Duration,
    /// Default 10 m.
    pub reconcile: Duration,
    /// Default 1 m.
    pub estimates: Duration,
    /// Default 1 m; `None`: no canaries.
    pub canary: Option<Duration>,
}

/// `[auth]`: who may call.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Default tokens.
    pub mode: AuthMode,
    /// What each permits, by the hash of the token.
    pub tokens: Vec<(SecretHash, Permit)>,
    /// 1 to 10 000, default 1 000; see [`Config::names_per_namespace`].
    pub names_per_namespace: usize,
}

/// How callers are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// By tokens; while there are none, only loopback is served.
    Tokens,
    /// Not at all: everything is allowed.
    Off,
}

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetryConfig {
    /// Default text.
    pub log_format: LogFormat,
    /// `None`: OpenTelemetry's own variables say where traces go, if anywhere.
    pub otlp_endpoint: Option<String>,
    /// 0 to 1, default 1.
    pub sample_ratio: f64,
    /// Default 100.
    pub max_forced_samples_per_second: u32,
    /// Default true.
    pub keep_failed: bool,
    /// `None`: off. Default 10 s.
    pub keep_slow: Option<Duration>,
    /// Default link.
    pub job_relation: JobRelation,
}

/// How an attempt's trace relates to that of its submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobRelation {
    /// Its own, with a link.
    Link,
    /// The same.
    Child,
}

/// How log events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object on one line.
    Json,
}

/// `[limits]`: distinct values of metric labels before `_other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitsConfig {
    /// 1 to 10 000, default 100.
    pub queues: usize,
    /// 1 to 10 000, default 100.
    pub kinds: usize,
}

/// A key set by a flag of the command line, which is stronger than file and environment.
#[derive(Debug, Clone)]
pub struct Override<'a> {
    /// As errors name it: `--listen`.
    pub flag: &'a str,
    /// In full: `server.listen`.
    pub key: &'a str,
    /// As in an environment variable.
    pub value: String,
}

impl Default for Config {
    /// The defaults alone: no file, no environment.
    fn default() -> Self {
        build::build(Reader::new(), None).expect("a test builds the defaults")
    }
}

impl Config {
    /// How many new names of queues, and of kinds, one namespace may bring in; `None`: there is one
    /// namespace at most, and it may bring in all that fit.
    pub fn names_per_namespace(&self) -> Option<usize> {
        let reaches = self.auth.tokens.iter().map(|(_, permit)| &permit.reach);
        let namespaces: BTreeSet<&Name> = reaches
            .filter_map(|reach| match reach {
                Reach::One(namespace) => Some(namespace),
                Reach::All => None,
            })
            .collect();
        let shared = self.auth.mode == AuthMode::Tokens && namespaces.len() > 1;
        shared.then_some(self.auth.names_per_namespace)
    }

    /// Reads the file (`path`, else `punctual.toml` if it exists, else none) and the environment.
    ///
    /// Errors: everything that is wrong, at once; also when `path` names no readable file.
    pub fn load(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        Self::load_with(path, env, &[])
    }

    /// As [`Config::load`], with flags of the command line over it.
    pub fn load_with(
        path: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        flags: &[Override<'_>],
    ) -> Result<Self, ConfigErrors> {
        Self::load_from(path, Path::new(DEFAULT_FILE), env, flags)
    }

    fn load_from(
        path: Option<&Path>,
        fallback: &Path,
        env: impl Iterator<Item = (String, String)>,
        flags: &[Override<'_>],
    ) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new();
        let mut used = None;
        match read_text(path.unwrap_or(fallback)) {
            Ok(text) => {
                let file = path.unwrap_or(fallback);
                reader.file(file, &text);
                used = Some(file);
            }
            Err(unreadable) if path.is_none() && unreadable.absent => {}
            Err(unreadable) => {
                let file = path.unwrap_or(fallback);
                let place = Place::File { path: Arc::from(file), line: unreadable.line };
                reader.error(place, None, unreadable.message);
                used = Some(file);
            }
        }
        reader.environment(env);
        for flag in flags {
            reader.flag(flag);
        }
        build::build(reader, used)
    }

    /// The configuration that `text` is, with no environment: for tests and examples.
    pub fn from_toml(text: &str) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new();
        reader.file(Path::new(DEFAULT_FILE), text);
        build::build(reader, None)
    }

    /// What jobs of this queue get: its own keys, else those of `[jobs]`. One hash look-up.
    pub fn queue(&self, name: &str) -> &Arc<JobDefaults> {
        self.queues.get(name).map_or(&self.jobs.defaults, |(defaults, _)| defaults)
    }

    /// What this queue gets beside that: its own keys, else that of `[watchdog]`, else no limit.
    pub fn queue_watch(&self, name: &str) -> QueueWatch {
        let undeclared = QueueWatch {
            stuck_after: self.watchdog.stuck_after,
            max_running: None,
            max_depth: None,
            start_rate: None,
            require_key: false,
        };
        self.queues.get(name).map_or(undeclared, |(_, watch)| *watch)
    }

    /// The queues that have a section, in no order.
    pub fn queues(&self) -> impl Iterator<Item = (&Name, &Arc<JobDefaults>)> {
        self.queues.iter().map(|(name, (defaults, _))| (name, defaults))
    }

    /// The same with what each gets beside its [`JobDefaults`].
    pub fn queue_watches(&self) -> impl Iterator<Item = (&Name, QueueWatch)> {
        self.queues.iter().map(|(name, (_, watch))| (name, *watch))
    }

    /// Changes with the effective values, and only with them: 16 hex digits of a SHA-256. Tokens do
    /// not count: they come and go while the server runs.
    pub fn hash(&self) -> String {
        self.hash_with("")
    }

    fn hash_with(&self, more: &str) -> String {
        use std::fmt::Write as _;
        let digest = Sha256::digest(self.described() + more);
        digest.iter().take(8).fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// Everything in force, as TOML that loads to the same configuration. Queues show what they
    /// inherit too. Tokens are told in comments, without their hashes.
    pub fn describe(&self) -> String {
        let tokens = self.auth.tokens.iter().map(|(_, permit)| tokens::describe(permit));
        tokens.fold(self.described(), |out, token| out + &token)
    }

    fn described(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::new();
        let mut table = String::new();
        for (target, key, value) in self.values.effective() {
            let heading = target.table();
            if heading != table {
                let gap = if out.is_empty() { "" } else { "\n" };
                // Writing to a String cannot fail.
                let _ = writeln!(out, "{gap}[{heading}]");
                table = heading;
            }
            let _ = writeln!(out, "{} = {value}", key.name);
        }
        out
    }

    /// The text of `docs/CONFIG.md`.
    pub fn docs_markdown() -> String {
        docs::markdown()
    }

    /// The text of `punctual.example.toml`: every key with its default.
    pub fn sample_toml() -> String {
        docs::sample()
    }
}

/// The `PUNCTUAL_…` variables of this process. Text that is not Unicode is replaced, and so
/// refused with the name of its variable.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        name.starts_with(read::PREFIX).then(|| (name, value.to_string_lossy().into_owned()))
    })
}

struct Unreadable {
    absent: bool,
    line: Option<usize>,
    message: String,
}

fn read_text(path: &Path) -> Result<String, Unreadable> {
    let refused = |message: String| Unreadable { absent: false, line: None, message };
    let failed = |error: &std::io::Error| {
        if error.kind() == ErrorKind::NotFound {
            let message = "no such file; name an existing file, or leave it out for the defaults";
            Unreadable { absent: true, line: None, message: message.into() }
        } else if error.kind() == ErrorKind::PermissionDenied {
            refused("not readable by this user; change its owner or mode".into())
        } else {
            refused(format!("cannot be read ({error}); name a text file"))
        }
    };
    // Before opening: a pipe would wait for its writer.
    let meta = std::fs::metadata(path).map_err(|e| failed(&e))?;
    if meta.is_dir() {
        return Err(refused(format!(
            "a directory; name the file in it, such as {}",
            path.join(DEFAULT_FILE).display()
        )));
    }
    if !meta.is_file() {
        return Err(refused("not a regular file; name a text file".into()));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|e| failed(&e))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refused("larger than 1 MiB; this is hardly a configuration file".into()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].split(|b| *b == b'\n').count();
        Unreadable {
            absent: false,
            line: Some(line),
            message: "not UTF-8 text; save the file as UTF-8".into(),
        }
    })
}
