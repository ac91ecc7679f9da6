//! The one table of configuration keys. Reading, `docs/CONFIG.md` and the sample file are made
//! from it; a new key is a line here and a field in `config.rs`.

use std::time::Duration;

use super::checks::{
    collector_url, host, listen, maybe_listen, network, origin, public_url, store_url,
};
use super::value::{Check, Kind, show};
use crate::domain::overrides::QueueKey;

/// A section of the file.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) keys: &'static [Key],
}

/// One key of a section.
#[derive(Debug)]
pub(super) struct Key {
    /// Below the section, with a dot for a nested table: `backoff.initial`.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// As it is written in an environment variable. Empty for the keys that only queues have:
    /// those are unset until a queue sets them.
    pub(super) default: &'static str,
    /// May also be set in `[queues.NAME]`. The names of such keys differ between sections.
    pub(super) per_queue: bool,
    /// What it does, in Markdown.
    pub(super) doc: &'static str,
}

impl Key {
    const fn new(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Self {
        Self { name, kind, default, per_queue: false, doc }
    }

    const fn per_queue(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        doc: &'static str,
    ) -> Self {
        Self { name, kind, default, per_queue: true, doc }
    }
}

const fn ms(min: u64, max: u64) -> Kind {
    span(min, max, false)
}

const fn ms_or_off(min: u64, max: u64) -> Kind {
    span(min, max, true)
}

const fn span(min: u64, max: u64, off: bool) -> Kind {
    Kind::Duration { min: Duration::from_millis(min), max: Duration::from_millis(max), off }
}

const fn integer(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max }
}

const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

const fn text(rule: &'static str, check: Check) -> Kind {
    Kind::Text { rule, check }
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const MIB: u64 = 1 << 20;
const PIB: u64 = 1 << 50;

pub(super) const JOBS: &str = "jobs";
pub(super) const WATCHDOG: &str = "watchdog";
pub(super) const QUEUES: &str = "queues";
pub(super) const AUTH: &str = "auth";

/// In the order of the documentation.
pub(super) const SECTIONS: &[Section] = &[
    Section {
        name: "server",
        doc: "The HTTP listener.",
        keys: &[
            Key::new(
                "listen",
                text("an address and a port", listen),
                "127.0.0.1:8080",
                "Where to serve HTTP. Port 0 picks a free one. Other machines are served only with \
                 tokens (see `[auth]`), or with `auth.mode = \"off\"` written out.",
            ),
            Key::new(
                "public_url",
                text("an http(s) URL without a path, or empty", public_url),
                "",
                "The address clients see, for absolute links behind a proxy. Empty: links come \
                 from the `Host` header, or from what a proxy of `trusted_proxies` says.",
            ),
            Key::new(
                "metrics_listen",
                text("an address and a port, or empty", maybe_listen),
                "",
                "A second listener for `/metrics`, `/livez` and `/readyz` alone, so that metrics need \
                 not be where clients are; `/metrics` is then not on the first. Empty: it is. Other \
                 machines are served under the same rule as for `listen`.",
            ),
            Key::new(
                "trusted_proxies",
                Kind::List { rule: "networks, such as `10.0.0.0/8`", check: network },
                "",
                "Proxies whose word on the client's scheme and host counts in absolute links: \
                 `Forwarded`, else `X-Forwarded-Proto` and `X-Forwarded-Host`; neither where both are \
                 there and differ. From everybody else those headers are ignored. Not needed with \
                 `public_url`.",
            ),
            Key::new(
                "cors_origins",
                Kind::List { rule: "origins, such as `https://app.example.com`", check: origin },
                "",
                "Web pages of these origins may read answers (CORS), and change things on a server \
                 without tokens; there is no wildcard. Empty: none may, and OPTIONS is 405.",
            ),
            Key::new(
                "shutdown_grace",
                ms(0, HOUR),
                "30s",
                "How long requests in flight may take to finish after SIGTERM or SIGINT.",
            ),
            Key::new(
                "header_timeout",
                ms(100, 5 * MINUTE),
                "10s",
                "A connection that has not sent its request's headers in this time is closed.",
            ),
            Key::new(
                "body_timeout",
                ms(100, HOUR),
                "30s",
                "A request whose body has not arrived in this time is refused, and a connection \
                 whose client reads nothing of its answer for as long is closed. A large body waits \
                 for room in memory a third of it.",
            ),
            Key::new(
                "max_connections",
                integer(1, 1_000_000),
                "10000",
                "Open connections. Whoever comes then gets the place of the longest idle one, and \
                 waits if none is idle. Mind the limit on open files (`ulimit -n`).",
            ),
        ],
    },
    Section {
        name: "store",
        doc: "Where jobs are kept.",
        keys: &[
            Key::new(
                "url",
                text("`sqlite://PATH`", store_url),
                "sqlite://punctual.db",
                "The store. The path is relative to the working directory; the file is made when \
                 absent.",
            ),
            Key::new(
                "durability",
                Kind::Choice(&["full", "normal"]),
                "full",
                "`full`: every accepted job is on disk before the 202. `normal`: faster, but a \
                 power failure may lose the last moments; `/v1/meta` says so.",
            ),
            Key::new(
                "min_free",
                bytes(0, PIB),
                "256MB",
                "While less than this is free on the disk of the store, submissions get 503 \
                 `storage-full`. What is accepted goes on: work is claimed, settled and cancelled \
                 in the space that this keeps back. 0: no guard; then only a full disk stops \
                 submissions, and everything else with them.",
            ),
        ],
    },
    Section {
        name: JOBS,
        doc: "Defaults for jobs. A request may choose its own within the API's limits; a queue \
              may override those marked *per queue*.",
        keys: &[
            Key::per_queue(
                "sync_window",
                Kind::of(QueueKey::SyncWindow),
                "100ms",
                "How long a submission may be held to answer with the result at once, when the \
                 job is likely to finish in that time. `\"0s\"`: never.",
            ),
            Key::per_queue(
                "lease",
                Kind::of(QueueKey::Lease),
                "30s",
                "How long a worker holds a job without a heartbeat before it is taken back.",
            ),
            Key::per_queue(
                "max_attempts",
                Kind::of(QueueKey::MaxAttempts),
                "5",
                "Attempts before a job ends as failed.",
            ),
            Key::per_queue(
                "timeout",
                Kind::of(QueueKey::Timeout),
                "1h",
                "The longest one attempt may run, whatever its heartbeats say.",
            ),
            Key::per_queue(
                "cancel_grace",
                Kind::of(QueueKey::CancelGrace),
                "5m",
                "How long a worker has to honour a cancellation before the job is cancelled \
                 without it.",
            ),
            Key::per_queue(
                "backoff.initial",
                Kind::of(QueueKey::BackoffInitial),
                "5s",
                "The delay after the first failed attempt. At most `backoff.max`.",
            ),
            Key::per_queue(
                "backoff.max",
                Kind::of(QueueKey::BackoffMax),
                "10m",
                "The longest delay between attempts, before jitter.",
            ),
            Key::per_queue(
                "backoff.multiplier",
                Kind::of(QueueKey::BackoffMultiplier),
                "2.0",
                "Each delay is this many times the one before. 1: a constant delay.",
            ),
            Key::per_queue(
                "backoff.jitter",
                Kind::of(QueueKey::BackoffJitter),
                "0.1",
                "The share of each delay that is random, to both sides, so that jobs that failed \
                 together do not return together.",
            ),
            Key::per_queue(
                "retention.completed",
                Kind::of(QueueKey::RetentionCompleted),
                "24h",
                "How long a completed job and its result are kept.",
            ),
            Key::per_queue(
                "retention.failed",
                Kind::of(QueueKey::RetentionFailed),
                "7d",
                "How long a failed job is kept.",
            ),
            Key::per_queue(
                "retention.cancelled",
                Kind::of(QueueKey::RetentionCancelled),
                "24h",
                "How long a cancelled job is kept.",
            ),
            Key::new(
                "idempotency_ttl",
                ms(SECOND, 365 * DAY),
                "24h",
                "How long an `Idempotency-Key` is remembered.",
            ),
            Key::new(
                "max_payload_bytes",
                bytes(1, 16 * MIB),
                "1048576",
                "The largest payload of a job.",
            ),
            Key::new(
                "inline_result_bytes",
                bytes(0, 16 * MIB),
                "65536",
                "Results up to this size appear in the job itself; larger ones only at \
                 `/v1/jobs/{id}/result`. At most `max_result_bytes`.",
            ),
            Key::new(
                "max_result_bytes",
                bytes(1, 256 * MIB),
                "16777216",
                "The largest result of a job.",
            ),
            Key::new(
                "result_hosts",
                Kind::List { rule: "host names", check: host },
                "",
                "Hosts that a `result_location` may name. Empty: any host, by https.",
            ),
            Key::per_queue(
                "retry_after.quantile",
                Kind::of(QueueKey::RetryAfterQuantile),
                "0.5",
                "When a client should ask again: the moment by which this share of the jobs like \
                 its own are done, and then again of those that took longer. 0.5 costs about two \
                 questions a job. Lower: results are fetched sooner, for more questions \
                 ([measured](PERFORMANCE.md#retry-after)).",
            ),
            Key::new(
                "retry_after.max",
                ms(SECOND, HOUR),
                "5m",
                "The largest `Retry-After` that a client is told.",
            ),
        ],
    },
    Section {
        name: WATCHDOG,
        doc: "The watchdog looks for jobs that could run and do not, and says why.",
        keys: &[
            Key::new(
                "interval",
                ms(100, 10 * MINUTE),
                "15s",
                "How often it looks. A verdict is given when two looks agree, so a stuck job shows within \
                 two intervals of its time.",
            ),
            Key::per_queue(
                "stuck_after",
                Kind::of(QueueKey::StuckAfter),
                "5m",
                "A job that could have been claimed for longer than this is stuck: it is counted, \
                 shown with a verdict and alerted on. Time that it was scheduled for, backed off \
                 or paused through does not count. Set it to the longest wait that is normal in \
                 the queue. `\"off\"`: no job is ever called stuck.",
            ),
        ],
    },
    Section {
        name: "tasks",
        doc: "How often each maintenance task runs.",
        keys: &[
            Key::new(
                "reaper",
                ms(10, MINUTE),
                "1s",
                "Takes back work whose lease or timeout has passed.",
            ),
            Key::new(
                "scheduler",
                ms(10, MINUTE),
                "250ms",
                "Makes scheduled and backed-off jobs eligible when they are due.",
            ),
            Key::new("sampler", ms(10, 5 * MINUTE), "5s", "Refreshes the gauges of the queues."),
            Key::new(
                "retention",
                ms(10, DAY),
                "10s",
                "Removes finished jobs whose retention has passed, some at a time.",
            ),
            Key::new(
                "reconcile",
                ms(10, DAY),
                "10m",
                "Recounts the jobs and compares with the running counters.",
            ),
            Key::new(
                "estimates",
                ms(10, HOUR),
                "1m",
                "Writes what was learnt of how long jobs take, so that `Retry-After` is good from \
                 the start after a restart. It is written at the end too; a `kill -9` loses what \
                 came since the last time.",
            ),
            Key::new(
                "canary",
                ms_or_off(100, HOUR),
                "1m",
                "Sends a job of the server's own through submission, claim and completion, to see \
                 that work gets through. It shows in no list, count or queue. `\"off\"`: none is \
                 sent.",
            ),
        ],
    },
    Section {
        name: AUTH,
        doc: "Who may call.",
        keys: &[
            Key::new(
                "mode",
                Kind::Choice(&["tokens", "off"]),
                "tokens",
                "`tokens`: callers need one of the tokens below; while there are none, only loopback \
                 is served, and everything is allowed there. `off`: everything is allowed to everyone \
                 who can connect.",
            ),
            Key::new(
                "names_per_namespace",
                integer(1, 10_000),
                "1000",
                "New names of queues, and as many of kinds, that one namespace may bring in where \
                 the tokens name several; more get 422 `too-many-names`. The server knows 10000 of \
                 each, and one namespace alone may bring in all of them. Names that nothing uses and \
                 that were forgotten do not count.",
            ),
        ],
    },
    Section {
        name: "telemetry",
        doc: "What the server says about itself. `RUST_LOG` filters the log.",
        keys: &[
            Key::new(
                "log_format",
                Kind::Choice(&["text", "json"]),
                "text",
                "One line for people, or one JSON object, for each event.",
            ),
            Key::new(
                "otlp_endpoint",
                text("an http(s) URL, or empty", collector_url),
                "",
                "The OpenTelemetry collector that gets traces, by OTLP over HTTP; `/v1/traces` is \
                 added when the URL has no path. Empty: `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, else \
                 `OTEL_EXPORTER_OTLP_ENDPOINT`, else no tracing. See [TRACING.md](TRACING.md).",
            ),
            Key::new(
                "sample_ratio",
                Kind::Float { min: 0.0, max: 1.0 },
                "1.0",
                "The share of traces that are recorded. Decided once for a job, by the trace of \
                 its submission.",
            ),
            Key::new(
                "max_forced_samples_per_second",
                integer(0, 1_000_000),
                "100",
                "Traces beyond that share that are recorded because their caller records them \
                 (the `sampled` flag of `traceparent`).",
            ),
            Key::new(
                "keep_failed",
                Kind::Choice(&["on", "off"]),
                "on",
                "`on`: attempts that failed, timed out or lost their lease are recorded, whatever \
                 the share.",
            ),
            Key::new(
                "keep_slow",
                ms_or_off(1, 7 * DAY),
                "10s",
                "Attempts that ran for longer are recorded, whatever the share. `\"off\"`: none \
                 for that.",
            ),
            Key::new(
                "job_relation",
                Kind::Choice(&["link", "child"]),
                "link",
                "`link`: each attempt is a trace of its own, linked to the submission. `child`: it \
                 is part of the submission's trace; for jobs that end soon.",
            ),
        ],
    },
    Section {
        name: "limits",
        doc: "Bounds on metric labels: further values are counted under `_other`.",
        keys: &[
            Key::new("queues", integer(1, 10_000), "100", "Distinct queues in metric labels."),
            Key::new("kinds", integer(1, 10_000), "100", "Distinct kinds in metric labels."),
        ],
    },
];

/// What only a queue has. Unset means no limit, so there is no default to inherit.
pub(super) const QUEUE_ONLY: &[Key] = &[
    Key::per_queue(
        "max_running",
        Kind::of(QueueKey::MaxRunning),
        "",
        "At most this many of the queue's jobs run at a time, over all workers; more wait, also \
         when workers ask for them, and say `concurrency_limited`. For work that shares something \
         scarce. Unset: no limit.",
    ),
    Key::per_queue(
        "max_depth",
        Kind::of(QueueKey::MaxDepth),
        "",
        "At most this many of the queue's jobs are pending, whatever they wait for (a worker, \
         their time, another attempt); submissions beyond it get 503 `queue-full` with a \
         `Retry-After`. Repetitions by `Idempotency-Key` are answered all the same, and jobs that \
         come back for another attempt are never refused. Unset: no limit.",
    ),
    Key::per_queue(
        "start_rate_per_second",
        Kind::of(QueueKey::StartRate),
        "",
        "At most this many attempts of the queue start a second, over all workers, with a burst of \
         one second's worth (at least one); more wait, also when workers ask for them, and say \
         `rate_limited`. Retries count. For an API that allows so many calls. Unset: no limit.",
    ),
    Key::per_queue(
        "require_idempotency_key",
        Kind::of(QueueKey::RequireKey),
        "",
        "`true`: a submission without an `Idempotency-Key` gets 400 `idempotency-key-required`. For \
         work that must not be done twice because an answer was lost. Unset: keys are welcome and \
         not asked for.",
    ),
];

/// Where a key is set: a section, or a queue's overrides.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    Section(&'static Section),
    Queue(&'a str),
}

impl Target<'_> {
    pub(super) fn keys(self) -> impl Iterator<Item = &'static Key> {
        let (sections, own) = match self {
            Target::Section(section) => (std::slice::from_ref(section), &[][..]),
            Target::Queue(_) => (SECTIONS, QUEUE_ONLY),
        };
        let all = matches!(self, Target::Section(_));
        let inherited = sections.iter().flat_map(|section| section.keys);
        inherited.filter(move |key| all || key.per_queue).chain(own)
    }

    /// Whether the list of tokens is among its keys.
    pub(super) fn has_tokens(self) -> bool {
        matches!(self, Target::Section(section) if section.name == AUTH)
    }

    pub(super) fn key(self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }

    /// Whether `name` is a table of keys, such as `backoff`.
    pub(super) fn is_group(self, name: &str) -> bool {
        self.keys().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }

    /// The table's name as written in the file.
    pub(super) fn table(self) -> String {
        match self {
            Target::Section(section) => section.name.to_owned(),
            Target::Queue(name) => format!("{QUEUES}.{}", bare_or_quoted(name)),
        }
    }

    /// The name of a key in this table, in full.
    pub(super) fn full(self, key: &str) -> String {
        format!("{}.{key}", self.table())
    }
}

pub(super) fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

/// The section whose value a queue inherits; `None`: only queues have the key.
pub(super) fn inherited_from(key: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.keys.iter().any(|k| k.per_queue && k.name == key))
}

pub(super) fn jobs() -> &'static Section {
    section(JOBS).expect("the table has it")
}

/// A TOML key: quoted when it must be.
pub(super) fn bare_or_quoted(name: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if !name.is_empty() && name.len() <= 128 && name.bytes().all(bare) {
        name.to_owned()
    } else {
        show(name)
    }
}
