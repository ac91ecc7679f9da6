//! Reads one job of a submission.

use std::time::Duration;

use super::fields::Fields;
use super::{canonical, limits, values};
use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::domain::trace::TraceContext;
use crate::engine::{BackoffOverrides, IdempotencyKey, Submission};

/// What a submission is read with, beside its own members.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) max_payload_bytes: usize,
    pub(super) trace: Option<TraceContext>,
    pub(super) tracestate: Option<String>,
}

/// The default queue.
const DEFAULT_QUEUE: &str = "default";

/// The member of a batch's item that takes the place of the header.
pub(super) const KEY_MEMBER: &str = "idempotency_key";

/// The job, as far as it can be read; what is wrong with it is among the errors of `f`.
/// `None`: it has no usable kind.
pub(super) fn read(f: &mut Fields<'_, '_>, setting: &Setting) -> Option<Submission> {
    let kind = f.required("kind", values::kind);
    let queue = f.optional("queue", values::name);
    let payload = f.optional("payload", |text| Ok(values::json(text)));
    if payload.as_ref().is_some_and(|p| p.len() > setting.max_payload_bytes) {
        f.too_large("payload", setting.max_payload_bytes);
    }
    let priority = f.optional("priority", values::integer(limits::PRIORITY)).unwrap_or(0);
    let (run_at, delay, start_by) = times(f);
    let second = Duration::from_secs(1);
    let timeout = f.optional("timeout_seconds", values::seconds(second..=limits::WEEK));
    let max_attempts = f.optional("max_attempts", values::integer(limits::MAX_ATTEMPTS));
    let backoff = f.nested("backoff", backoff).unwrap_or_default();
    let retention = f.optional("retention_seconds", values::seconds(second..=limits::RETENTION));
    let expected_duration =
        f.optional("expected_duration_seconds", values::seconds_to(limits::WEEK));
    let metadata = f.optional("metadata", values::metadata);
    let tags = f.list("tags", 0..=limits::TAGS, values::line_of(1..=limits::TAG_BYTES));
    Some(Submission {
        kind: kind?,
        queue: queue.unwrap_or_else(|| Name::trusted(DEFAULT_QUEUE)),
        priority: i32::try_from(priority).unwrap_or_default(),
        payload,
        run_at,
        delay,
        start_by,
        timeout,
        max_attempts: max_attempts.and_then(|n| u32::try_from(n).ok()),
        backoff,
        retention,
        expected_duration,
        metadata,
        tags: distinct(tags.unwrap_or_default()),
        trace: setting.trace,
        tracestate: setting.tracestate.clone(),
        key: None,
    })
}

/// The key with the fingerprint of the job that it stands for, `text` as it was sent.
pub(super) fn bind(key: String, text: &str) -> IdempotencyKey {
    IdempotencyKey { key, fingerprint: canonical::fingerprint(text, Some(KEY_MEMBER)) }
}

/// What depends on the clock is the engine's to judge: a repetition is not refused for its age.
fn times(f: &mut Fields<'_, '_>) -> (Option<Timestamp>, Option<Duration>, Option<Timestamp>) {
    let both = f.has("run_at") && f.has("delay_seconds");
    let run_at = f.optional("run_at", values::moment);
    let delay = f.optional("delay_seconds", values::seconds_to(limits::RUN_AT_AHEAD));
    let start_by = f.optional("start_by", values::moment);
    if both {
        f.wrong("delay_seconds", "exclusive", "must not be there beside run_at; send one of them");
    }
    if let (Some(run_at), Some(start_by)) = (run_at, start_by)
        && start_by <= run_at
    {
        f.wrong("start_by", "range", "must be later than the job may start");
    }
    (run_at, delay, start_by)
}

fn backoff(f: &mut Fields<'_, '_>) -> BackoffOverrides {
    let read = BackoffOverrides {
        initial: f.optional("initial_seconds", values::seconds_to(limits::WEEK)),
        max: f.optional("max_seconds", values::seconds_to(limits::WEEK)),
        multiplier: f.optional("multiplier", values::number(limits::MULTIPLIER)),
        jitter: f.optional("jitter", values::number(0.0..=1.0)),
    };
    if let (Some(initial), Some(max)) = (read.initial, read.max)
        && initial > max
    {
        f.wrong("initial_seconds", "range", "must be at most max_seconds");
    }
    read
}

/// Tags are a set, in the order in which they were sent.
fn distinct(tags: Vec<String>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::with_capacity(tags.len());
    for tag in tags {
        if !seen.contains(&tag) {
            seen.push(tag);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::super::fields::{At, Errors, object};
    use super::*;

    fn setting() -> Setting {
        Setting { max_payload_bytes: 64, trace: None, tracestate: None }
    }

    fn job(text: &str) -> Result<Submission, Vec<String>> {
        let mut errors = Errors::default();
        let found = object(text, At::Root, &mut errors, |f| read(f, &setting())).flatten();
        match errors.problem() {
            None => Ok(found.unwrap()),
            Some(problem) => {
                let items = problem.wire(None).errors;
                Err(items.into_iter().map(|e| format!("{} {}", e.pointer, e.code)).collect())
            }
        }
    }

    #[test]
    fn the_shortest_job() {
        let job = job(r#"{"kind":"a"}"#).unwrap();
        assert_eq!((job.kind.as_str(), job.queue.as_str(), job.priority), ("a", "default", 0));
        assert!(job.payload.is_none() && job.key.is_none() && job.tags.is_empty());
    }

    #[test]
    fn the_longest_job() {
        let job = job(r#"{"kind":"a","queue":"q","payload": { "x" : [1.0] } ,"priority":-100,
                "run_at":"2030-06-01T00:00:00Z","start_by":"2030-06-02T00:00:00Z",
                "timeout_seconds":1.5,"max_attempts":100,
                "backoff":{"initial_seconds":0.1,"max_seconds":9,"multiplier":1,"jitter":0},
                "retention_seconds":60,"expected_duration_seconds":0.25,
                "metadata":{"tenant":"acme"},"tags":["b","a","b"]}"#)
        .unwrap();
        assert_eq!(job.payload.unwrap().as_str(), r#"{ "x" : [1.0] }"#, "as it was sent");
        assert_eq!(job.tags, ["b", "a"]);
        assert_eq!(job.timeout, Some(Duration::from_millis(1_500)));
        assert_eq!(job.backoff.multiplier, Some(1.0));
    }

    #[test]
    fn null_is_a_payload_and_nothing_else_is_null() {
        assert_eq!(
            job(r#"{"kind":"a","payload":null}"#).unwrap().payload.unwrap().as_str(),
            "null"
        );
        for member in ["queue", "priority", "tags", "metadata", "backoff", "run_at"] {
            let text = format!(r#"{{"kind":"a","{member}":null}}"#);
            assert_eq!(job(&text).unwrap_err(), [format!("/{member} type")]);
        }
    }

    #[test]
    fn wrong_members() {
        for (members, expected) in [
            (r#""delay_seconds":-1"#, "/delay_seconds range"),
            (r#""run_at":"2030-01-02T00:00:00Z","delay_seconds":1"#, "/delay_seconds exclusive"),
            (
                r#""run_at":"2030-01-01T00:01:00Z","start_by":"2030-01-01T00:01:00Z""#,
                "/start_by range",
            ),
            (r#""queue":"Evil Queue""#, "/queue pattern"),
            (r#""max_attempts":0"#, "/max_attempts range"),
            (r#""max_attempts":1.0"#, "/max_attempts type"),
            (r#""max_attemps":3"#, "/max_attemps unknown"),
            (r#""timeout_seconds":0"#, "/timeout_seconds range"),
            (
                r#""backoff":{"initial_seconds":9,"max_seconds":1}"#,
                "/backoff/initial_seconds range",
            ),
            (r#""tags":[""]"#, "/tags/0 length"),
            (r#""idempotency_key":"k""#, "/idempotency_key unknown"),
        ] {
            assert_eq!(job(&format!(r#"{{"kind":"a",{members}}}"#)).unwrap_err(), [expected]);
        }
        assert_eq!(job(r#"{"kind":"system.x"}"#).unwrap_err(), ["/kind pattern"]);
        assert_eq!(job("{}").unwrap_err(), ["/kind required"]);
        let many = format!(r#"{{"kind":"a","tags":{:?}}}"#, vec!["t"; 17]);
        assert_eq!(job(&many).unwrap_err(), ["/tags length"]);
    }

    #[test]
    fn no_moment_is_wrong_by_itself() {
        for members in [
            r#""run_at":"1999-01-01T00:00:00Z""#,
            r#""run_at":"2999-01-01T00:00:00Z""#,
            r#""start_by":"1999-01-01T00:00:00Z","delay_seconds":60"#,
        ] {
            assert!(job(&format!(r#"{{"kind":"a",{members}}}"#)).is_ok(), "{members}");
        }
    }

    #[test]
    fn a_large_payload_is_not_merely_wrong() {
        let text = format!(r#"{{"payload":"{}"}}"#, "x".repeat(63));
        let mut errors = Errors::default();
        object(&text, At::Root, &mut errors, |f| read(f, &setting()));
        assert_eq!(errors.problem().unwrap().code().status(), 413);
    }
}
