//! From an [`Outcome`] to the settlement that the server is told, and back from its verdict.

use std::fmt::Write as _;

use super::Outcome;
use super::handler::{Stop, cut};
use crate::domain::job::RawJson;
use crate::wire::{ErrorReport, Problem, Settlement};

/// How much is taken as a result: what a server takes by default.
pub(super) const MAX_RESULT: usize = 16 * 1024 * 1024;
/// The room that the server leaves for an error is 16 KiB; a message and a stack share it.
const MESSAGE_BYTES: usize = 6 * 1024;
const STACK_BYTES: usize = 3 * 1024;
const DETAILS_BYTES: usize = 3 * 1024;

/// `told` is why the work was asked to stop, if it was.
pub(super) fn settlement(
    job_id: &str,
    lease_token: &str,
    outcome: Outcome,
    told: Option<Stop>,
) -> Settlement {
    let mut s = Settlement {
        job_id: job_id.to_owned(),
        lease_token: lease_token.to_owned(),
        ..Settlement::default()
    };
    match normal(outcome, told) {
        Outcome::Completed(result) => {
            s.outcome = "completed".into();
            s.result = result;
        }
        Outcome::Failed { error, retryable, retry_after } => {
            s.outcome = "failed".into();
            s.error = Some(fitted(error));
            s.retryable = Some(retryable);
            s.retry_after_seconds = retry_after.map(|d| d.as_secs_f64());
        }
        Outcome::Released => s.outcome = "released".into(),
        Outcome::Cancelled => s.outcome = "cancelled".into(),
    }
    s
}

/// "Cancelled" is only what a requested cancel may end in. Work that stopped because its worker
/// leaves or its lease ended is given back; work that stopped unasked has failed. So has work that
/// used up its time: given back, it would begin anew for ever.
fn normal(outcome: Outcome, told: Option<Stop>) -> Outcome {
    match (outcome, told) {
        (Outcome::Cancelled, Some(Stop::Draining | Stop::LeaseEnding(_) | Stop::LeaseLost)) => {
            Outcome::Released
        }
        (Outcome::Cancelled | Outcome::Released, Some(Stop::TimedOut(_))) => Outcome::failed(
            "attempt-timeout",
            "the worker stopped the attempt at the end of its timeout_seconds",
        ),
        (Outcome::Cancelled, None) => Outcome::failed(
            "stopped-unasked",
            "the handler said that it was cancelled, but nobody had asked for that",
        ),
        (outcome, _) => outcome,
    }
}

/// An error within the server's limit, so that a long one is shortened and not refused.
fn fitted(mut error: ErrorReport) -> ErrorReport {
    error.kind = cut(&error.kind, 128).to_owned();
    error.message = cut(&error.message, MESSAGE_BYTES).to_owned();
    error.stack = error.stack.map(|s| cut(&s, STACK_BYTES).to_owned());
    error.details = error.details.filter(|d| d.len() <= DETAILS_BYTES);
    error
}

/// JSON as it stands, any other text as a JSON string, nothing as none.
pub(super) fn json_or_text(bytes: &[u8]) -> Option<RawJson> {
    let text = String::from_utf8_lossy(bytes);
    let json = text.trim_matches([' ', '\t', '\r', '\n']);
    if serde_json::from_str::<&serde_json::value::RawValue>(json).is_ok() {
        return Some(RawJson::trusted(json));
    }
    let plain = text.trim_end_matches(['\r', '\n']);
    if plain.is_empty() {
        return None;
    }
    serde_json::to_string(plain).ok().map(RawJson::trusted)
}

/// `what` is who has more, up to the verb.
pub(super) fn too_large(what: &str) -> Outcome {
    Outcome::hopeless("result-too-large", format!("{what} more than {MAX_RESULT} bytes"))
}

/// What to do about a settlement that the server did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not now; send it again.
    Later,
    /// The lease is gone: nothing that is sent can matter.
    Gone,
    /// The outcome itself cannot be taken (too large, not valid).
    Unfit,
}

pub(super) fn refusal(problem: &Problem) -> Refusal {
    match (problem.code.as_str(), problem.status) {
        (
            "lease-lost"
            | "lease-expired"
            | "job-already-finished"
            | "already-reported"
            | "no-such-job"
            | "job-expired"
            | "job-deleted",
            _,
        )
        | (_, 404 | 410) => Refusal::Gone,
        _ if crate::client::is_transient(problem) => Refusal::Later,
        (_, 500..=599) => Refusal::Later,
        _ => Refusal::Unfit,
    }
}

/// What is sent in place of an outcome that cannot be taken.
pub(super) fn unfit(refused: &Settlement, problem: &Problem) -> Settlement {
    let why = problem.detail.as_deref().unwrap_or(&problem.title);
    let mut message = format!("the server did not take the outcome \"{}\": {why}", refused.outcome);
    for item in &problem.errors {
        let _ = write!(message, "; {}: {}", item.pointer, item.detail);
    }
    let outcome = Outcome::hopeless("outcome-refused", message);
    settlement(&refused.job_id, &refused.lease_token, outcome, None)
}

/// Roughly how many bytes a settlement takes in a request.
pub(super) fn weight(s: &Settlement) -> usize {
    let error = s.error.as_ref().map_or(0, |e| {
        e.message.len()
            + e.stack.as_ref().map_or(0, String::len)
            + e.details.as_ref().map_or(0, RawJson::len)
    });
    256 + error + s.result.as_ref().map_or(0, RawJson::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[test]
    fn results() {
        let json = |s: &str| json_or_text(s.as_bytes()).map(|r| r.as_str().to_owned());
        assert_eq!(json(" {\"a\": 1.00}\n").as_deref(), Some("{\"a\": 1.00}"));
        assert_eq!(json("hello\n\n").as_deref(), Some("\"hello\""));
        assert_eq!(json("  indented\n").as_deref(), Some("\"  indented\""));
        assert_eq!(json("1 2").as_deref(), Some("\"1 2\""));
        assert_eq!(json("null\n").as_deref(), Some("null"));
        assert_eq!((json(""), json("\n")), (None, None));
    }

    fn settled(outcome: Outcome, told: Option<Stop>) -> String {
        settlement("j", "t", outcome, told).outcome
    }

    #[tokio::test]
    async fn cancelled_depends_on_who_asked() {
        assert_eq!(settled(Outcome::Cancelled, Some(Stop::Cancelled)), "cancelled");
        assert_eq!(settled(Outcome::Cancelled, Some(Stop::Draining)), "released");
        let ending = Stop::LeaseEnding(Instant::now());
        assert_eq!(settled(Outcome::Cancelled, Some(ending)), "released");
        assert_eq!(settled(Outcome::Cancelled, None), "failed");
        let out_of_time = Some(Stop::TimedOut(Instant::now()));
        assert_eq!(settled(Outcome::Cancelled, out_of_time), "failed");
        assert_eq!(settled(Outcome::Released, out_of_time), "failed", "it would run for ever");
        assert_eq!(settled(Outcome::Completed(None), out_of_time), "completed");
        assert_eq!(settled(Outcome::Completed(None), Some(Stop::Cancelled)), "completed");
    }

    #[test]
    fn long_errors_are_shortened() {
        let outcome = Outcome::Failed {
            error: ErrorReport {
                kind: "k".repeat(500),
                message: "é".repeat(10_000),
                stack: Some("s".repeat(100_000)),
                ..ErrorReport::default()
            },
            retryable: true,
            retry_after: None,
        };
        let s = settlement("j", "t", outcome, None);
        assert!(weight(&s) < 12 * 1024, "{}", weight(&s));
        assert_eq!(s.error.unwrap().kind.len(), 128);
    }

    #[test]
    fn refusals() {
        let of = |status, code: &str| {
            refusal(&Problem { status, code: code.into(), ..Problem::default() })
        };
        assert_eq!(of(409, "lease-lost"), Refusal::Gone);
        assert_eq!(of(404, "no-such-job"), Refusal::Gone);
        assert_eq!(of(503, "storage-unavailable"), Refusal::Later);
        assert_eq!(of(500, ""), Refusal::Later);
        assert_eq!(of(413, "payload-too-large"), Refusal::Unfit);
        assert_eq!(of(422, "validation-failed"), Refusal::Unfit);
    }
}
