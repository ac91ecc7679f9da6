//! The settings of a queue: read from a merge patch, and shown with who has set what.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::ETAG;
use axum::response::Response;
use serde_json::{Number, Value};

use super::Api;
use super::audit::Subject;
use super::auth::Asker;
use super::fields::{At, Errors, Fields, Read, Wrong, object};
use super::operators::Queue;
use super::problem::Problem;
use super::{body, headers, respond, show, strict, values};
use crate::domain::defaults::JobDefaults;
use crate::domain::overrides::{Changes, OFF, Overrides, QueueKey, Range, Setting};
use crate::engine::QueueView;
use crate::wire;

/// `PATCH /v1/queues/{q}`.
pub(super) async fn patch(
    State(api): State<Api>,
    Queue(name): Queue,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    let set = async {
        caller.may_use_queue(&api, &name)?;
        let bytes = body::read_merge_patch(&api, &parts.headers, body).await?;
        let mut errors = Errors::default();
        let changes = object(strict::check(&bytes)?, At::Root, &mut errors, changes);
        errors.check()?;
        let if_match = headers::if_match(&parts.headers);
        let changes = changes.unwrap_or_default();
        let by = author(&caller);
        Ok(api.engine().override_settings(by, &name, changes, if_match).await?)
    };
    let queue = caller.acts("set", Subject::Queue(name.clone())).over(set).await?;
    Ok(tagged(queue))
}

/// As whom a change is remembered: by the token's name, where there are tokens.
fn author(caller: &Asker) -> &str {
    if caller.name().is_reserved() { "operator" } else { caller.name().as_str() }
}

/// The queue with its revision as a strong tag: for `If-Match`, and of the settings and the pause
/// alone. Counts change all the time, and nobody decides by them what to write.
pub(super) fn tagged(queue: QueueView) -> Response {
    let revision = queue.state.revision;
    let mut response = respond::json(StatusCode::OK, &show::queue(queue));
    respond::set(&mut response, ETAG, format!("\"{revision}\""));
    response
}

/// The members that are objects.
const GROUPS: [&str; 3] = ["backoff", "retention_seconds", "retry_after"];

/// RFC 7396: what is `null` goes back to the configuration, and a group that is, with all in it.
fn changes(f: &mut Fields<'_, '_>) -> Changes {
    let mut changes = Changes::new();
    let plain = QueueKey::ALL.iter().filter(|key| !key.member().contains('.'));
    for key in plain {
        if let Some(value) = f.optional(key.member(), setting(*key)) {
            changes.insert(*key, value);
        }
    }
    for group in GROUPS {
        let inside = || {
            let split = |key: &QueueKey| Some((*key, key.member().split_once('.')?));
            let all = QueueKey::ALL.iter().filter_map(split);
            all.filter(move |(_, (of, _))| *of == group).map(|(key, (_, name))| (key, name))
        };
        if f.is_null(group) {
            changes.extend(inside().map(|(key, _)| (key, None)));
            continue;
        }
        f.nested(group, |f| {
            for (key, name) in inside() {
                if let Some(value) = f.optional(name, setting(key)) {
                    changes.insert(key, value);
                }
            }
        });
    }
    changes
}

/// `None` inside: as configured.
fn setting(key: QueueKey) -> impl Fn(&str) -> Read<Option<Setting>> {
    move |text| {
        if text == "null" {
            return Ok(None);
        }
        if key.may_be_off() && values::text(text).is_ok_and(|word| word == OFF) {
            return Ok(Some(Setting::Off));
        }
        let read = match key.range() {
            Range::Span { min, max } => values::seconds(min..=max)(text).map(Setting::Span),
            Range::Count { min, max } => {
                let bound = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
                let read = values::integer(bound(min)..=bound(max))(text);
                read.map(|n| Setting::Count(u64::try_from(n).unwrap_or_default()))
            }
            Range::Real { min, max } => values::number(min..=max)(text).map(Setting::Real),
            Range::Switch => values::boolean(text).map(Setting::Switch),
        };
        let read = read.and_then(|value| {
            let fine = || Wrong::new("range", "must be whole milliseconds");
            if key.admits(value) { Ok(Some(value)) } else { Err(fine()) }
        });
        read.map_err(|wrong| {
            let off = if key.may_be_off() { format!(", or {OFF:?}") } else { String::new() };
            Wrong { detail: format!("{}{off}", wrong.detail), ..wrong }
        })
    }
}

/// What the queue's jobs get.
pub(super) fn shown(jobs: &JobDefaults, require_key: bool) -> wire::QueueSettings {
    let seconds = |span: Duration| span.as_secs_f64();
    wire::QueueSettings {
        sync_window_seconds: seconds(jobs.sync_window),
        lease_seconds: seconds(jobs.lease),
        max_attempts: jobs.max_attempts,
        timeout_seconds: seconds(jobs.timeout),
        cancel_grace_seconds: seconds(jobs.cancel_grace),
        backoff: wire::QueueBackoff {
            initial_seconds: seconds(jobs.backoff.initial),
            max_seconds: seconds(jobs.backoff.max),
            multiplier: jobs.backoff.multiplier,
            jitter: jobs.backoff.jitter,
        },
        retention_seconds: wire::MetaRetention {
            completed: seconds(jobs.retention.completed),
            failed: seconds(jobs.retention.failed),
            cancelled: seconds(jobs.retention.cancelled),
        },
        require_idempotency_key: require_key,
        retry_after: wire::QueueRetryAfter { quantile: jobs.retry_after_quantile },
    }
}

/// By the member that a patch sets it with, a dot before one inside a group.
pub(super) fn overrides(overrides: &Overrides) -> BTreeMap<String, wire::Override> {
    let shown = overrides.iter().map(|(key, set)| {
        let value = wire::Override {
            value: value(set.value),
            set_by: set.by.clone(),
            set_at: set.at.to_rfc3339(),
        };
        (key.member().to_owned(), value)
    });
    shown.collect()
}

fn value(setting: Setting) -> Value {
    match setting {
        Setting::Off => OFF.into(),
        Setting::Span(span) if span.subsec_nanos() == 0 => span.as_secs().into(),
        Setting::Span(span) => real(span.as_secs_f64()),
        Setting::Count(n) => n.into(),
        Setting::Real(x) => real(x),
        Setting::Switch(on) => on.into(),
    }
}

fn real(x: f64) -> Value {
    Number::from_f64(x).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Changes, Vec<String>> {
        let mut errors = Errors::default();
        let read = object(text, At::Root, &mut errors, changes);
        match errors.problem() {
            None => Ok(read.unwrap()),
            Some(problem) => {
                let items = problem.wire(None).errors.into_iter();
                Err(items.map(|e| format!("{} {} {}", e.pointer, e.code, e.detail)).collect())
            }
        }
    }

    #[test]
    fn a_patch_names_what_changes() {
        let changes = read(
            r#"{"max_depth":9,"max_running":"off","start_rate_per_second":2,"lease_seconds":1.5,
                "stuck_after_seconds":null,"require_idempotency_key":true,
                "retry_after":{"quantile":0.25},
                "backoff":{"initial_seconds":1,"jitter":null},"retention_seconds":null}"#,
        );
        let expected = Changes::from([
            (QueueKey::MaxDepth, Some(Setting::Count(9))),
            (QueueKey::MaxRunning, Some(Setting::Off)),
            (QueueKey::StartRate, Some(Setting::Real(2.0))),
            (QueueKey::Lease, Some(Setting::Span(Duration::from_millis(1_500)))),
            (QueueKey::StuckAfter, None),
            (QueueKey::RequireKey, Some(Setting::Switch(true))),
            (QueueKey::RetryAfterQuantile, Some(Setting::Real(0.25))),
            (QueueKey::BackoffInitial, Some(Setting::Span(Duration::from_secs(1)))),
            (QueueKey::BackoffJitter, None),
            (QueueKey::RetentionCompleted, None),
            (QueueKey::RetentionFailed, None),
            (QueueKey::RetentionCancelled, None),
        ]);
        assert_eq!(changes, Ok(expected));
        assert_eq!(read("{}"), Ok(Changes::new()));
    }

    #[test]
    fn every_key_can_be_read() {
        for key in QueueKey::ALL {
            let (open, name, close) = match key.member().split_once('.') {
                None => (String::new(), key.member(), ""),
                Some((group, name)) => (format!("\"{group}\":{{"), name, "}"),
            };
            let text = format!("{{{open}\"{name}\":null{close}}}");
            assert_eq!(read(&text), Ok(Changes::from([(*key, None)])), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            (r#"{"max_depth":0}"#, r#"/max_depth range must be 1 to 1000000000000, or "off""#),
            (
                r#"{"max_depth":"of"}"#,
                r#"/max_depth type must be a whole number, not a string, or "off""#,
            ),
            (r#"{"lease_seconds":"off"}"#, "/lease_seconds type must be a number, not a string"),
            (r#"{"lease_seconds":1.0005}"#, "/lease_seconds range must be whole milliseconds"),
            (r#"{"backoff":{"multiplier":0.5}}"#, "/backoff/multiplier range must be 1 to 100"),
            (
                r#"{"retention_seconds":5}"#,
                "/retention_seconds type must be an object, not a number",
            ),
            (r#"{"max_deph":5}"#, "/max_deph unknown is unknown; did you mean max_depth?"),
        ] {
            assert_eq!(read(text), Err(vec![expected.to_owned()]), "{text}");
        }
    }
}
