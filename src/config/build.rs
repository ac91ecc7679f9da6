//! From values that are each in range to a [`Config`], or the ways in which they disagree.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::errors::{ConfigErrors, Place};
use super::keys::{JOBS, Target, WATCHDOG, jobs};
use super::read::{Reader, Values};
use super::value::{Value, format_duration};
use super::{
    AuthConfig, AuthMode, Config, Durability, JobDefaults, JobRelation, JobsConfig, LimitsConfig,
    LogFormat, QueueWatch, RetryAfterConfig, ServerConfig, StoreConfig, StoreUrl, TasksConfig,
    TelemetryConfig, WatchdogConfig,
};
use crate::domain::job::Retention;
use crate::domain::names::Name;
use crate::domain::retry::Backoff;

pub(super) fn build(mut reader: Reader, file: Option<&Path>) -> Result<Config, ConfigErrors> {
    // Values that could not be read kept their defaults: what disagrees with those is no news.
    let whole = |reader: &Reader, keys: &[&str]| {
        reader.errors.iter().all(|error| match &error.key {
            Some(key) => keys.iter().all(|mine| !key.ends_with(mine)),
            None => error.file().is_none(),
        })
    };
    if whole(&reader, &["backoff.initial", "backoff.max"]) {
        backoff_rises(&mut reader);
    }
    if whole(&reader, &["inline_result_bytes", "max_result_bytes"]) {
        inline_results_fit(&mut reader);
    }
    for key in ["listen", "metrics_listen"] {
        if whole(&reader, &[&format!("server.{key}"), "auth.mode"]) {
            strangers_are_expected(&mut reader, key);
        }
    }
    if !reader.errors.is_empty() {
        return Err(ConfigErrors::new(reader.errors, file));
    }
    Ok(config(reader.values, file))
}

fn backoff_rises(reader: &mut Reader) {
    let values = reader.values.clone();
    let queues = values.queue_names().map(Some);
    for queue in [None].into_iter().chain(queues) {
        let entry = |key| match queue {
            Some(queue) => values.queue(queue, key).expect(INHERITED),
            None => values.base(JOBS, key),
        };
        let (initial, max) = (entry("backoff.initial"), entry("backoff.max"));
        let inherited = |key| queue.is_some() && entry(key).place == values.base(JOBS, key).place;
        if span(&initial.value) <= span(&max.value)
            || (inherited("backoff.initial") && inherited("backoff.max"))
        {
            continue;
        }
        // Blame what was set, the nearer of the two.
        let target = queue.map_or(Target::Section(jobs()), Target::Queue);
        let blame_initial = initial.place != Place::Default && !inherited("backoff.initial");
        let (place, key) = if blame_initial {
            (&initial.place, "backoff.initial")
        } else {
            (&max.place, "backoff.max")
        };
        let message = format!(
            "the first delay ({}) is longer than the longest ({}); raise backoff.max or lower \
             backoff.initial",
            format_duration(span(&initial.value)),
            format_duration(span(&max.value)),
        );
        reader.error(place.clone(), target.full(key), message);
    }
}

fn inline_results_fit(reader: &mut Reader) {
    let inline = reader.values.base(JOBS, "inline_result_bytes").clone();
    let most = reader.values.base(JOBS, "max_result_bytes").clone();
    if count(&inline.value) <= count(&most.value) {
        return;
    }
    let (place, key) = if inline.place == Place::Default {
        (most.place, "max_result_bytes")
    } else {
        (inline.place, "inline_result_bytes")
    };
    let message = format!(
        "inline_result_bytes ({}) is more than max_result_bytes ({}); lower the first or raise \
         the second",
        count(&inline.value),
        count(&most.value),
    );
    reader.error(place, Target::Section(jobs()).full(key), message);
}

/// Without tokens everybody who can connect may do everything: that is said, not fallen into.
fn strangers_are_expected(reader: &mut Reader, key: &'static str) {
    let listen = reader.values.base("server", key).clone();
    let Some(address) = maybe_addr(&listen.value) else { return };
    let open = word(&reader.values.base("auth", "mode").value) == "off";
    if open || reader.values.tokens.any || address.ip().to_canonical().is_loopback() {
        return;
    }
    let message = format!(
        "{address} can be reached from other machines and no tokens are configured; add some (see \
         `punctual token`), listen on 127.0.0.1:{}, or write auth.mode = \"off\" to allow everything to everyone",
        address.port()
    );
    reader.error(listen.place, format!("server.{key}"), message);
}

fn config(values: Values, file: Option<&Path>) -> Config {
    let base = |section, key| &values.base(section, key).value;
    let job = |key| base(JOBS, key);
    let defaults = |queue: Option<&str>| {
        let of = |key| match queue {
            Some(queue) => &values.queue(queue, key).expect(INHERITED).value,
            None => job(key),
        };
        Arc::new(job_defaults(of))
    };
    let watch = |queue: &str| QueueWatch {
        stuck_after: span_or_off(&values.queue(queue, "stuck_after").expect(INHERITED).value),
        max_running: values.queue(queue, "max_running").map(|limit| small(&limit.value)),
        max_depth: values.queue(queue, "max_depth").map(|limit| number(&limit.value)),
        start_rate: values.queue(queue, "start_rate_per_second").map(|limit| real(&limit.value)),
        require_key: values
            .queue(queue, "require_idempotency_key")
            .is_some_and(|required| switch(&required.value)),
    };
    let server = ServerConfig {
        listen: socket_addr(base("server", "listen")),
        public_url: Some(word(base("server", "public_url")).to_owned()).filter(|u| !u.is_empty()),
        metrics_listen: maybe_addr(base("server", "metrics_listen")),
        trusted_proxies: list(base("server", "trusted_proxies"))
            .iter()
            .map(|network| network.parse().expect("checked when it was read"))
            .collect(),
        cors_origins: list(base("server", "cors_origins")),
        shutdown_grace: span(base("server", "shutdown_grace")),
        header_timeout: span(base("server", "header_timeout")),
        body_timeout: span(base("server", "body_timeout")),
        max_connections: count(base("server", "max_connections")),
    };
    let store = StoreConfig {
        url: store_url(word(base("store", "url"))),
        durability: match word(base("store", "durability")) {
            "normal" => Durability::Normal,
            _ => Durability::Full,
        },
        min_free: number(base("store", "min_free")),
    };
    let jobs = JobsConfig {
        defaults: defaults(None),
        idempotency_ttl: span(job("idempotency_ttl")),
        max_payload_bytes: count(job("max_payload_bytes")),
        inline_result_bytes: count(job("inline_result_bytes")),
        max_result_bytes: count(job("max_result_bytes")),
        result_hosts: list(job("result_hosts")),
        retry_after: RetryAfterConfig { max: span(job("retry_after.max")) },
    };
    let watchdog = WatchdogConfig {
        interval: span(base(WATCHDOG, "interval")),
        stuck_after: span_or_off(base(WATCHDOG, "stuck_after")),
    };
    let tasks = TasksConfig {
        reaper: span(base("tasks", "reaper")),
        scheduler: span(base("tasks", "scheduler")),
        sampler: span(base("tasks", "sampler")),
        retention: span(base("tasks", "retention")),
        reconcile: span(base("tasks", "reconcile")),
        estimates: span(base("tasks", "estimates")),
        canary: span_or_off(base("tasks", "canary")),
    };
    let mode = match word(base("auth", "mode")) {
        "off" => AuthMode::Off,
        _ => AuthMode::Tokens,
    };
    let tokens = values.tokens.list.iter().map(|t| (t.hash, t.permit.clone())).collect();
    let log_format = match word(base("telemetry", "log_format")) {
        "json" => LogFormat::Json,
        _ => LogFormat::Text,
    };
    let endpoint = word(base("telemetry", "otlp_endpoint"));
    let telemetry = TelemetryConfig {
        log_format,
        otlp_endpoint: Some(endpoint.to_owned()).filter(|url| !url.is_empty()),
        sample_ratio: real(base("telemetry", "sample_ratio")),
        max_forced_samples_per_second: small(base("telemetry", "max_forced_samples_per_second")),
        keep_failed: word(base("telemetry", "keep_failed")) == "on",
        keep_slow: span_or_off(base("telemetry", "keep_slow")),
        job_relation: match word(base("telemetry", "job_relation")) {
            "child" => JobRelation::Child,
            _ => JobRelation::Link,
        },
    };
    let limits = LimitsConfig {
        queues: count(base("limits", "queues")),
        kinds: count(base("limits", "kinds")),
    };
    let queues =
        values.queue_names().map(|name| (Name::trusted(name), (defaults(Some(name)), watch(name))));
    let queues = queues.collect();
    Config {
        file: file.map(PathBuf::from),
        server,
        store,
        jobs,
        watchdog,
        tasks,
        auth: AuthConfig {
            mode,
            tokens,
            names_per_namespace: count(base("auth", "names_per_namespace")),
        },
        telemetry,
        limits,
        queues,
        values,
    }
}

fn job_defaults<'a>(of: impl Fn(&'static str) -> &'a Value) -> JobDefaults {
    JobDefaults {
        sync_window: span(of("sync_window")),
        lease: span(of("lease")),
        max_attempts: small(of("max_attempts")),
        timeout: span(of("timeout")),
        cancel_grace: span(of("cancel_grace")),
        backoff: Backoff {
            initial: span(of("backoff.initial")),
            max: span(of("backoff.max")),
            multiplier: real(of("backoff.multiplier")),
            jitter: real(of("backoff.jitter")),
        },
        retention: Retention {
            completed: span(of("retention.completed")),
            failed: span(of("retention.failed")),
            cancelled: span(of("retention.cancelled")),
        },
        retry_after_quantile: real(of("retry_after.quantile")),
    }
}

// The table gives each key one type, so a mismatch is a slip in `config` above, which the test
// of the defaults meets.

const SLIP: &str = "read as the type that the table of keys declares";
const INHERITED: &str = "a section has the key";

fn span(value: &Value) -> Duration {
    span_or_off(value).expect(SLIP)
}

/// `None`: off.
fn span_or_off(value: &Value) -> Option<Duration> {
    match value {
        Value::Duration(span) => Some(*span),
        Value::Off => None,
        Value::Integer(_)
        | Value::Float(_)
        | Value::Switch(_)
        | Value::Text(_)
        | Value::List(_) => panic!("{SLIP}"),
    }
}

fn number(value: &Value) -> u64 {
    match value {
        Value::Integer(n) => *n,
        Value::Duration(_)
        | Value::Off
        | Value::Float(_)
        | Value::Switch(_)
        | Value::Text(_)
        | Value::List(_) => {
            panic!("{SLIP}")
        }
    }
}

fn count(value: &Value) -> usize {
    usize::try_from(number(value)).unwrap_or(usize::MAX)
}

fn small(value: &Value) -> u32 {
    u32::try_from(number(value)).unwrap_or(u32::MAX)
}

fn real(value: &Value) -> f64 {
    match value {
        Value::Float(x) => *x,
        Value::Duration(_)
        | Value::Off
        | Value::Integer(_)
        | Value::Switch(_)
        | Value::Text(_)
        | Value::List(_) => {
            panic!("{SLIP}")
        }
    }
}

fn switch(value: &Value) -> bool {
    match value {
        Value::Switch(on) => *on,
        Value::Duration(_)
        | Value::Off
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::List(_) => {
            panic!("{SLIP}")
        }
    }
}

fn word(value: &Value) -> &str {
    match value {
        Value::Text(text) => text,
        Value::Duration(_)
        | Value::Off
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Switch(_)
        | Value::List(_) => {
            panic!("{SLIP}")
        }
    }
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::List(items) => items.clone(),
        Value::Duration(_)
        | Value::Off
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Switch(_)
        | Value::Text(_) => {
            panic!("{SLIP}")
        }
    }
}

fn socket_addr(value: &Value) -> SocketAddr {
    word(value).parse().expect("checked when it was read")
}

fn maybe_addr(value: &Value) -> Option<SocketAddr> {
    (!word(value).is_empty()).then(|| socket_addr(value))
}

fn store_url(text: &str) -> StoreUrl {
    StoreUrl::Sqlite(PathBuf::from(text.strip_prefix("sqlite://").unwrap_or(text)))
}
