//! What can go wrong with an exchange, in words for a person and in kinds for a program.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::headers;
use crate::wire::Problem;

/// Why a call had no useful answer. Each message is one line.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// No answer: the request may or may not have been carried out.
    #[error("{0}")]
    Unreachable(String),
    /// The server answered no.
    #[error("{}", describe(.0, *.1))]
    Problem(Box<Problem>, Option<Duration>),
    /// An answer that this client cannot read.
    #[error("{0}")]
    Protocol(String),
    /// The call could not be made as it was asked for: a bad address, token or header.
    #[error("{0}")]
    Config(String),
}

impl ClientError {
    /// The machine-readable code of the server's answer, if it answered.
    pub fn code(&self) -> Option<&str> {
        self.as_problem().map(|p| p.code.as_str())
    }

    pub fn as_problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem, _) => Some(problem),
            Self::Unreachable(_) | Self::Protocol(_) | Self::Config(_) => None,
        }
    }

    /// How long the server asked to wait before the next try.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Problem(_, after) => *after,
            Self::Unreachable(_) | Self::Protocol(_) | Self::Config(_) => None,
        }
    }

    /// Whether the job was accepted once and is not kept any more (410). Its outcome is lost, and
    /// its effects may be there: submitting it again under a new key could repeat them, so that is
    /// a decision for whoever knows the work.
    pub fn is_gone(&self) -> bool {
        self.as_problem().is_some_and(|problem| problem.status == 410)
    }

    /// Whether the same call may succeed later: no answer, 408, 429, 502, 503, 504, or a duplicate
    /// of a submission that is still being committed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Problem(problem, _) => is_transient(problem),
            Self::Protocol(_) | Self::Config(_) => false,
        }
    }
}

pub(crate) fn is_transient(problem: &Problem) -> bool {
    matches!(problem.status, 408 | 429 | 502 | 503 | 504) || problem.code == "idempotency-in-flight"
}

fn describe(problem: &Problem, retry_after: Option<Duration>) -> String {
    let mut text = match (&problem.detail, problem.title.as_str()) {
        // The items below say more than a sentence that counts them.
        (_, title) if !problem.errors.is_empty() && !title.is_empty() => one_line(title),
        (Some(detail), _) if !detail.is_empty() => one_line(detail),
        (_, "") => "the server refused".to_owned(),
        (_, title) => one_line(title),
    };
    for item in &problem.errors {
        let _ = write!(text, "; {}: {}", item.pointer, one_line(&item.detail));
    }
    let _ = write!(text, " ({}", problem.status);
    if !problem.code.is_empty() {
        let _ = write!(text, " {}", problem.code);
    }
    if let Some(id) = &problem.request_id {
        let _ = write!(text, ", request {id}");
    }
    text.push(')');
    if let Some(after) = retry_after {
        let _ = write!(text, "; try again in {}", humantime::format_duration(after));
    }
    text
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whatever answered: a problem document of ours, or a page of something in between.
pub(super) fn problem(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ClientError {
    let read = serde_json::from_slice::<Problem>(body).ok().filter(|p| !p.code.is_empty());
    let mut problem = read.unwrap_or_else(|| {
        let reason = status.canonical_reason().unwrap_or("an error");
        Problem { title: format!("the server answered {reason}"), ..Problem::default() }
    });
    problem.status = status.as_u16();
    ClientError::Problem(Box::new(problem), headers::retry_after(headers))
}

pub(super) fn unreachable(base: &str, patience: Duration, error: &reqwest::Error) -> ClientError {
    let why = if error.is_timeout() && !error.is_connect() {
        format!("no answer within {}", humantime::format_duration(patience))
    } else {
        root_cause(error)
    };
    ClientError::Unreachable(format!(
        "cannot reach {base}: {why}; start the server (`punctual serve`) or correct the address"
    ))
}

/// The innermost error is the one that names the cause.
pub(crate) fn root_cause(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    one_line(&inner.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ProblemItem;

    #[test]
    fn says_it_in_one_line() {
        let problem = Problem {
            status: 422,
            code: "validation-failed".into(),
            title: "The request has\nwrong members".into(),
            detail: Some("one member is wrong; see errors".into()),
            request_id: Some("r1".into()),
            errors: vec![ProblemItem {
                pointer: "/kind".into(),
                code: "missing".into(),
                detail: "is required".into(),
            }],
            ..Problem::default()
        };
        let error = ClientError::Problem(Box::new(problem), Some(Duration::from_secs(90)));
        assert_eq!(
            error.to_string(),
            "The request has wrong members; /kind: is required (422 validation-failed, request r1); \
             try again in 1m 30s"
        );
        assert!(!error.is_transient() && error.code() == Some("validation-failed"));
    }

    #[test]
    fn understands_a_proxy_in_between() {
        let error = problem(StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"<html>oops</html>");
        assert!(error.is_transient());
        assert_eq!(error.to_string(), "the server answered Bad Gateway (502)");
    }

    #[test]
    fn a_duplicate_in_flight_is_transient_and_other_conflicts_are_not() {
        let conflict =
            |code: &str| Problem { status: 409, code: code.into(), ..Problem::default() };
        assert!(is_transient(&conflict("idempotency-in-flight")));
        assert!(!is_transient(&conflict("lease-lost")));
    }

    #[test]
    fn a_job_that_is_gone_is_not_submitted_again() {
        let of = |status, code: &str| {
            let problem = Problem { status, code: code.into(), ..Problem::default() };
            ClientError::Problem(Box::new(problem), None)
        };
        let gone = of(410, "job-expired");
        assert!(gone.is_gone() && !gone.is_transient());
        assert!(!of(404, "no-such-job").is_gone());
    }
}
