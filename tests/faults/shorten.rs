//! The one place where durations are shortened, so that an hour's alarms ring in minutes.
//!
//! Everything that the rules wait for takes a thirtieth of its time: `for`, `keep_firing_for`, the
//! ranges of the expressions and the intervals of groups. Not below what a busy machine can keep apart: a `for` lasts at
//! least as long as a server takes to restart there, a range holds enough scrapes for a rate.
//! Thresholds, constants and labels stay as they are.

use std::fmt::Write as _;
use std::time::Duration;

pub(crate) const FACTOR: u32 = 30;

pub(crate) const LEAST_FOR: Duration = Duration::from_secs(5);
/// Between two evaluations of a group.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
const LEAST_KEPT: Duration = Duration::from_secs(1);
pub(crate) const LEAST_RANGE: Duration = Duration::from_secs(6);

/// Where Alertmanager's example sends its notifications.
const RECEIVERS: &str = "http://127.0.0.1:9095";

/// A file of rules.
pub(crate) fn rules(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let short = if let Some(value) = value_of(line, "for") {
            line.replace(value, &shortened(value, LEAST_FOR))
        } else if let Some(value) = value_of(line, "keep_firing_for") {
            line.replace(value, &shortened(value, LEAST_KEPT))
        } else if let Some(value) = value_of(line, "interval") {
            line.replace(value, &shortened(value, LEAST_INTERVAL))
        } else {
            ranges(line)
        };
        out.push_str(&short);
        out.push('\n');
    }
    out
}

/// Alertmanager's file, with its receivers at `address`. Groups are told at once: what they gather
/// is not what is proven here.
pub(crate) fn routes(text: &str, address: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut short = line.replace(RECEIVERS, address);
        for key in ["group_wait", "group_interval"] {
            if let Some(value) = value_of(line, key).filter(|value| *value != "0s") {
                short = line.replace(value, "1s");
            }
        }
        if let Some(value) = value_of(line, "repeat_interval") {
            short = line.replace(value, &shortened(value, Duration::from_secs(1)));
        }
        out.push_str(&short);
        out.push('\n');
    }
    out
}

/// The value of `key: value` on a line of its own.
fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let value = line.trim().strip_prefix(key)?.strip_prefix(": ")?.trim();
    parse(value).map(|_| value)
}

/// `[5m]` in an expression.
fn ranges(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('[') {
        let range = after.split_once(']').filter(|(range, _)| parse(range).is_some());
        let Some((range, after)) = range else {
            write!(out, "{before}[").expect("text");
            rest = after;
            continue;
        };
        write!(out, "{before}[{}]", shortened(range, LEAST_RANGE)).expect("text");
        rest = after;
    }
    out + rest
}

fn shortened(text: &str, least: Duration) -> String {
    let whole = parse(text).expect("a duration");
    let short = (whole / FACTOR).max(least);
    format!("{}s", short.as_secs_f64().ceil())
}

/// A duration of Prometheus: `90s`, `1h30m`.
fn parse(text: &str) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let number: u32 = rest[..digits].parse().ok()?;
        sum += number
            * match &rest[digits..digits + unit] {
                "ms" => Duration::from_millis(1),
                "s" => Duration::from_secs(1),
                "m" => Duration::from_secs(60),
                "h" => Duration::from_secs(3_600),
                "d" => Duration::from_secs(86_400),
                "w" => Duration::from_secs(7 * 86_400),
                _ => return None,
            };
        rest = &rest[digits + unit..];
    }
    (!text.is_empty()).then_some(sum)
}

#[test]
fn only_durations_are_shortened() {
    let long = "      - alert: A\n        expr: rate(x{y=~\"[5m]|[a-z]\"}[1h30m]) > 5 * a[1m]\n        \
                for: 30m\n        keep_firing_for: 2m\n        summary: for: 5m or so\n";
    let short = "      - alert: A\n        expr: rate(x{y=~\"[10s]|[a-z]\"}[180s]) > 5 * a[6s]\n        \
                 for: 60s\n        keep_firing_for: 4s\n        summary: for: 5m or so\n";
    assert_eq!(rules(long), short);
    assert_eq!(rules("for: 30s\n"), "for: 5s\n");
    assert_eq!(rules("    interval: 1m\n"), "    interval: 2s\n");
    let long =
        "group_wait: 0s\ngroup_interval: 5m\nrepeat_interval: 12h\nurl: http://127.0.0.1:9095/x\n";
    let short = "group_wait: 0s\ngroup_interval: 1s\nrepeat_interval: 1440s\nurl: http://h:1/x\n";
    assert_eq!(routes(long, "http://h:1"), short);
}
