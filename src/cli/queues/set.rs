//! `punctual queues set`: from `key=value` to a merge patch.

use clap::Args;
use serde_json::{Map, Number, Value};

use super::super::{Done, Failure, Format};
use crate::client::Client;
use crate::domain::overrides::{OFF, QueueKey, Range, Setting};

#[derive(Debug, Args)]
#[command(
    long_about = "Change a queue's settings at once and without a restart. What is set here lies over \
                  the configuration until it is unset; the server remembers who set it. Keys and \
                  values are those of a [queues.NAME] section; where there may be no limit, `off` \
                  is none.",
    after_long_help = "Examples:\n  \
                       punctual queues set reports max_running=10 start_rate_per_second=2.5\n  \
                       punctual queues set reports stuck_after=30m backoff.max=1h\n  \
                       punctual queues set reports max_depth=off\n  \
                       punctual queues set reports --unset max_running --if-match 7"
)]
pub(super) struct SetArgs {
    /// The queue's name
    #[arg(value_parser = super::super::name)]
    queue: String,
    #[arg(
        value_name = "KEY=VALUE",
        value_parser = assignment,
        help = "What to set: max_depth=1000, lease=45s"
    )]
    set: Vec<Assignment>,
    /// Take a key back to what the configuration says; may be repeated
    #[arg(long, value_name = "KEY", value_parser = key)]
    unset: Vec<QueueKey>,
    /// Only if the queue is still of this revision, as `punctual queues show` prints it
    #[arg(long, value_name = "REVISION")]
    if_match: Option<u64>,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Assignment {
    key: QueueKey,
    value: Setting,
}

pub(super) async fn run(client: &Client, args: SetArgs) -> Done {
    let patch = patch(&args.set, &args.unset).map_err(Failure::usage)?;
    super::one(&client.set_queue(&args.queue, &patch, args.if_match).await?, args.format)
}

fn key(name: &str) -> Result<QueueKey, String> {
    QueueKey::parse(name).ok_or_else(|| {
        let near = QueueKey::ALL
            .iter()
            .map(|key| (strsim::jaro_winkler(key.name(), name), key.name()))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((_, near)) = near {
            return format!("unknown key; did you mean {near}?");
        }
        let known: Vec<&str> = QueueKey::ALL.iter().map(|key| key.name()).collect();
        format!("unknown key; known are {}", known.join(", "))
    })
}

fn assignment(text: &str) -> Result<Assignment, String> {
    let (name, value) =
        text.split_once('=').ok_or("write it like max_depth=1000; --unset KEY takes one back")?;
    let key = key(name.trim())?;
    let value = setting(key, value.trim())?;
    Ok(Assignment { key, value })
}

fn setting(key: QueueKey, text: &str) -> Result<Setting, String> {
    let off = if key.may_be_off() { ", or off" } else { "" };
    if text == OFF && key.may_be_off() {
        return Ok(Setting::Off);
    }
    let (read, expected) = match key.range() {
        Range::Span { min, max } => {
            let seconds = || std::time::Duration::try_from_secs_f64(text.parse().ok()?).ok();
            // A name that says seconds takes them plainly too.
            let span = humantime::parse_duration(text).ok().or_else(seconds);
            let (min, max) = (humantime::format_duration(min), humantime::format_duration(max));
            (span.map(Setting::Span), format!("a duration such as 30s, {min} to {max}"))
        }
        Range::Count { min, max } => {
            (text.parse().ok().map(Setting::Count), format!("a whole number, {min} to {max}"))
        }
        Range::Real { min, max } => {
            (text.parse().ok().map(Setting::Real), format!("a number, {min} to {max}"))
        }
        Range::Switch => (text.parse().ok().map(Setting::Switch), "true or false".to_owned()),
    };
    let fits = read.filter(|value| key.admits(*value));
    fits.ok_or_else(|| format!("{} takes {expected}{off}", key.name()))
}

fn patch(set: &[Assignment], unset: &[QueueKey]) -> Result<Value, String> {
    if set.is_empty() && unset.is_empty() {
        return Err("nothing to set; write it like max_depth=1000, or --unset KEY".to_owned());
    }
    let mut seen = Vec::new();
    let mut patch = Map::new();
    let assigned = set.iter().map(|a| (a.key, json(a.value)));
    for (key, value) in assigned.chain(unset.iter().map(|key| (*key, Value::Null))) {
        if seen.contains(&key) {
            return Err(format!("{} is there twice; keep one of them", key.name()));
        }
        seen.push(key);
        match key.member().split_once('.') {
            None => {
                patch.insert(key.member().to_owned(), value);
            }
            Some((group, name)) => {
                let group = patch.entry(group).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(group) = group {
                    group.insert(name.to_owned(), value);
                }
            }
        }
    }
    Ok(Value::Object(patch))
}

fn json(value: Setting) -> Value {
    let real = |x| Number::from_f64(x).map_or(Value::Null, Value::Number);
    match value {
        Setting::Off => OFF.into(),
        Setting::Span(span) => real(span.as_secs_f64()),
        Setting::Count(n) => n.into(),
        Setting::Real(x) => real(x),
        Setting::Switch(on) => on.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn assignments_become_a_patch() {
        let set: Vec<Assignment> = [
            "max_depth=1000",
            "max_running = off",
            "stuck_after=30m",
            "lease_seconds=45",
            "backoff.max=1h",
            "start_rate_per_second=2.5",
            "require_idempotency_key=true",
        ]
        .iter()
        .map(|text| assignment(text).unwrap())
        .collect();
        let expected = json!({
            "max_depth": 1000, "max_running": "off", "stuck_after_seconds": 1800.0,
            "lease_seconds": 45.0, "backoff": {"max_seconds": 3600.0, "initial_seconds": null},
            "start_rate_per_second": 2.5, "require_idempotency_key": true,
        });
        assert_eq!(patch(&set, &[QueueKey::BackoffInitial]), Ok(expected));
        let twice = patch(&set, &[QueueKey::MaxDepth]).unwrap_err();
        assert!(twice.contains("max_depth is there twice"), "{twice}");
        assert!(patch(&[], &[]).unwrap_err().contains("nothing to set"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("max_depth", "write it like"),
            ("max_deph=1", "did you mean max_depth?"),
            ("zzz=1", "known are sync_window"),
            ("max_depth=0", "a whole number, 1 to 1000000000000, or off"),
            ("lease=off", "lease takes a duration such as 30s, 1s to 1h"),
            ("lease=2h", "1s to 1h"),
            ("require_idempotency_key=yes", "true or false"),
        ] {
            let error = assignment(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
