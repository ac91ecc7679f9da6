//! What holds for single members beyond their type: the rules that the readers keep, from the
//! same constants, and the form of what is answered.

use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::JsonSchema;
use serde_json::{Value, json};

use super::super::limits;
use super::shared::{moment, name};
use crate::domain::job::{AttemptOutcome, PendingReason, Report, Status};
use crate::domain::names::WorkerId;
use crate::domain::overrides::{OFF, QueueKey, Range};
use crate::engine::{MAX_CLAIM, MAX_WAIT};

const JOB_ID: &str = "A job's id.";

fn seconds(range: RangeInclusive<Duration>) -> Value {
    json!({"type": "number", "minimum": range.start().as_secs_f64(),
           "maximum": range.end().as_secs_f64()})
}

fn seconds_to(max: Duration) -> Value {
    seconds(Duration::ZERO..=max)
}

fn number(range: &RangeInclusive<f64>) -> Value {
    json!({"type": "number", "minimum": range.start(), "maximum": range.end()})
}

fn integer(range: &RangeInclusive<i64>) -> Value {
    json!({"type": "integer", "minimum": range.start(), "maximum": range.end()})
}

/// Bytes are at least as many as characters.
fn text(bytes: RangeInclusive<usize>) -> Value {
    json!({"type": "string", "minLength": bytes.start(), "maxLength": bytes.end()})
}

/// The same without control characters.
fn line(bytes: RangeInclusive<usize>) -> Value {
    let mut text = text(bytes);
    text["pattern"] = json!(r"^[^\u0000-\u001f\u007f-\u009f]*$");
    text
}

fn list(count: RangeInclusive<usize>, items: &Value) -> Value {
    json!({"type": "array", "minItems": count.start(), "maxItems": count.end(), "items": items})
}

/// The same for items that have a schema of their own.
fn count(range: RangeInclusive<usize>) -> Value {
    json!({"minItems": range.start(), "maxItems": range.end()})
}

/// 16 bytes in base64url: the last character has two bits of them.
fn token() -> Value {
    json!({"type": "string", "pattern": "^[A-Za-z0-9_-]{21}[AQgw]$"})
}

/// Anything; how long it may be is said in words, for it is bytes as sent.
fn json_of(bytes: usize) -> Value {
    json!({"description": format!("Any JSON, up to {bytes} bytes as sent.")})
}

/// The rule for a member of a request; `None`: its type says it all.
fn request(schema: &str, member: &str) -> Option<Value> {
    let second = Duration::from_secs(1);
    Some(match (schema, member) {
        ("Submit" | "BatchJob", "kind") => {
            let mut kind = name();
            kind["description"] =
                json!("What sort of work it is. Those that start with `system.` are the server's.");
            kind
        }
        ("Submit" | "BatchJob", "payload") | ("Complete" | "Settlement", "result") => {
            json!({"description": "Any JSON; `/v1/meta` says how large it may be."})
        }
        ("Submit" | "BatchJob" | "RetryRequest", "queue") => name(),
        ("Submit" | "BatchJob" | "RetryRequest", "priority") => integer(&limits::PRIORITY),
        ("Submit" | "BatchJob", "run_at" | "start_by")
        | ("RetryRequest", "run_at")
        | ("Pause", "until") => moment(),
        ("Submit" | "BatchJob" | "Release" | "Settlement", "delay_seconds")
        | ("Fail" | "Settlement", "retry_after_seconds") => seconds_to(limits::RUN_AT_AHEAD),
        ("Submit" | "BatchJob", "timeout_seconds") => seconds(second..=limits::WEEK),
        ("Submit" | "BatchJob", "max_attempts") => integer(&limits::MAX_ATTEMPTS),
        ("Submit" | "BatchJob", "retention_seconds") => seconds(second..=limits::RETENTION),
        ("Submit" | "BatchJob", "expected_duration_seconds")
        | ("SubmitBackoff", "initial_seconds" | "max_seconds") => seconds_to(limits::WEEK),
        ("Submit" | "BatchJob", "metadata") => json!({"type": "object"}),
        ("Submit" | "BatchJob", "tags") => list(0..=limits::TAGS, &line(1..=limits::TAG_BYTES)),
        ("BatchJob", "idempotency_key") => {
            let mut key = text(1..=limits::IDEMPOTENCY_KEY_BYTES);
            key["pattern"] = json!("^[ -~]+$");
            key
        }
        ("Batch", "jobs") => count(1..=limits::BATCH_ITEMS),
        ("SubmitBackoff", "multiplier") => number(&limits::MULTIPLIER),
        ("SubmitBackoff", "jitter") => number(&(0.0..=1.0)),
        ("CancelRequest" | "Pause" | "Release", "reason") | ("Claim", "hostname" | "version") => {
            line(0..=limits::TEXT_BYTES)
        }
        ("Claim" | "Heartbeats" | "Settlements", "worker_id") => line(1..=WorkerId::MAX_BYTES),
        ("Claim", "queues" | "kinds") => list(1..=limits::CLAIM_NAMES, &name()),
        ("Claim", "max_jobs") => integer(&(1..=MAX_CLAIM as i64)),
        ("Claim", "lease_seconds") | ("Heartbeat", "extend_seconds") => seconds(limits::LEASE),
        ("Claim", "wait_seconds") => seconds_to(MAX_WAIT),
        ("Claim", "concurrency") => integer(
            &(i64::from(*limits::CONCURRENCY.start())..=i64::from(*limits::CONCURRENCY.end())),
        ),
        ("Claim" | "Settlements", "held") => {
            list(0..=limits::BATCH_ITEMS, &json!({"type": "string"}))
        }
        (_, "lease_token") => token(),
        (_, "job_id") => json!({"type": "string", "description": JOB_ID}),
        ("ProgressReport", "percent") => number(&(0.0..=100.0)),
        ("ProgressReport", "message") => text(0..=limits::PROGRESS_MESSAGE_BYTES),
        ("Heartbeat", "checkpoint") => json_of(limits::CHECKPOINT_BYTES),
        ("Heartbeats", "leases") | ("Settlements", "settlements") => count(0..=limits::BATCH_ITEMS),
        ("ErrorReport", "type") => line(1..=limits::TAG_BYTES),
        ("ErrorReport", "message" | "stack") => text(0..=limits::ERROR_BYTES),
        ("ErrorReport", "details") => json_of(limits::ERROR_BYTES),
        ("Complete" | "Settlement", "result_location") => {
            let mut url = text(1..=limits::URL_BYTES);
            url["format"] = json!("uri");
            url["pattern"] = json!("^https://");
            url
        }
        ("Complete" | "Settlement", "result_content_type") => text(1..=limits::MEDIA_TYPE_BYTES),
        ("Settlement", "outcome") => json!({"enum": Report::ALL.map(Report::as_str)}),
        _ => return None,
    })
}

/// The form of a member of an answer. Sets that may grow are examples, not an enumeration.
fn answer(schema: &str, member: &str) -> Option<Value> {
    if is_moment(member) {
        return Some(moment());
    }
    Some(match (schema, member) {
        ("Job" | "BatchItem" | "SettlementResult" | "JobExplanation", "status") => {
            json!({"enum": Status::ALL.map(Status::as_str)})
        }
        ("Job", "pending_reason") => {
            json!({"examples": PendingReason::ALL.map(PendingReason::as_str)})
        }
        ("Job", "cancelled_by") => json!({"enum": ["client", "operator"]}),
        ("JobAttempt", "outcome") => {
            json!({"examples": AttemptOutcome::ALL.map(AttemptOutcome::as_str)})
        }
        (_, "job_id" | "root_job_id" | "retry_of" | "retried_as")
            if schema != "HeartbeatResult" && schema != "SettlementResult" =>
        {
            json!({"format": "uuid"})
        }
        (_, "directive") => json!({"examples": ["continue", "drain"]}),
        ("Job" | "BatchItem", "status_url" | "result_url") => json!({"format": "uri"}),
        ("Job" | "LeasedJob", "metadata") => json!({"type": "object"}),
        _ => return None,
    })
}

fn is_moment(member: &str) -> bool {
    member.ends_with("_at")
        || matches!(
            member,
            "at" | "since"
                | "start_by"
                | "paused_until"
                | "server_time"
                | "last_seen"
                | "last_rate_limited"
                | "last_empty_claim"
                | "last_start"
                | "last_higher_start"
                | "last_level_start"
                | "last_settlement"
        )
}

pub(super) fn of_request(name: &str, schema: &mut Value) {
    apply(name, schema, request);
    match name {
        "Submit" | "BatchJob" => {
            schema["not"] = json!({"required": ["run_at", "delay_seconds"]});
        }
        "Complete" => schema["not"] = one_result(),
        "Settlement" => by_outcome(schema),
        "QueuePatch" => patch(schema),
        _ => {}
    }
}

pub(super) fn of_answer(name: &str, schema: &mut Value) {
    apply(name, schema, answer);
}

fn apply(name: &str, schema: &mut Value, rule: fn(&str, &str) -> Option<Value>) {
    let Some(Value::Object(members)) = schema.get_mut("properties") else { return };
    for (member, of) in members {
        let Some(Value::Object(rules)) = rule(name, member) else { continue };
        // Any value at all is `true`.
        if !of.is_object() {
            *of = json!({});
        }
        let Some(of) = of.as_object_mut() else { continue };
        // The widths and signs of the type; the rule is narrower.
        if rules.contains_key("minimum") {
            of.remove("format");
        }
        // What the type says in words goes first.
        let words = of.get("description").cloned();
        of.extend(rules);
        if let Some(words) = words {
            of.insert("description".to_owned(), words);
        }
    }
}

/// `PATCH /v1/queues/{q}`: its members are those of [`QueueKey`].
#[derive(JsonSchema)]
pub(super) struct QueuePatch {}

/// Every setting, or `null`: as configured.
fn patch(schema: &mut Value) {
    let object = || json!({"type": "object", "properties": {}, "additionalProperties": false});
    let mut whole = object();
    for key in QueueKey::ALL {
        let mut choices = match key.range() {
            Range::Span { min, max } => vec![seconds(min..=max)],
            Range::Count { min, max } => {
                vec![json!({"type": "integer", "minimum": min, "maximum": max})]
            }
            Range::Real { min, max } => vec![number(&(min..=max))],
            Range::Switch => vec![json!({"type": "boolean"})],
        };
        if key.may_be_off() {
            choices.push(json!({"const": OFF}));
        }
        choices.push(json!({"type": "null"}));
        let of = json!({"anyOf": choices});
        match key.member().split_once('.') {
            None => whole["properties"][key.member()] = of,
            Some((group, member)) => {
                let group = &mut whole["properties"][group];
                if group.is_null() {
                    *group = object();
                    group["type"] = json!(["object", "null"]);
                }
                group["properties"][member] = of;
            }
        }
    }
    whole["description"] = json!("What is `null` goes back to the configuration.");
    *schema = whole;
}

/// What is forbidden: a result here and elsewhere.
fn one_result() -> Value {
    json!({"required": ["result", "result_location"]})
}

/// Which members a settlement may have, its outcome decides.
fn by_outcome(schema: &mut Value) {
    let choices: Vec<Value> = Report::ALL
        .into_iter()
        .map(|outcome| {
            let own: &[&str] = match outcome {
                Report::Completed => &["result", "result_location", "result_content_type"],
                Report::Failed => &["error", "retryable", "retry_after_seconds"],
                Report::Released => &["delay_seconds"],
                Report::Cancelled => &[],
            };
            let common = ["job_id", "lease_token", "outcome"];
            let mut one = schema.clone();
            one["title"] = json!(outcome.as_str());
            if let Some(members) = one["properties"].as_object_mut() {
                members.retain(|name, _| common.contains(&&**name) || own.contains(&&**name));
            }
            one["properties"]["outcome"] = json!({"const": outcome.as_str()});
            one["required"] = match outcome {
                Report::Failed => json!(["job_id", "lease_token", "outcome", "error"]),
                Report::Completed | Report::Released | Report::Cancelled => json!(common),
            };
            if outcome == Report::Completed {
                one["not"] = one_result();
            }
            if let Some(one) = one.as_object_mut() {
                one.remove("description");
            }
            one
        })
        .collect();
    let words = schema["description"].take();
    *schema = json!({"description": words, "oneOf": choices});
}
