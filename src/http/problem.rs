//! What went wrong, as clients see it: the one place that picks status codes.
//!
//! RFC 9457 documents with a stable `code` beside the type. A handler answers a [`Problem`];
//! [`observe`](super::observe) gives it the request's id and writes it. The words for people are
//! here and in the handlers; what the inside said travels along as `cause`, for the log only.

mod advice;

use axum::http::header::{CONNECTION, LINK, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use super::links::Base;
use super::respond;
use super::show;
use crate::domain::id::JobId;
use crate::domain::job::{JobError, Status};
use crate::domain::names::{NAME_RULE, Name};
use crate::domain::state::Rejected;
use crate::domain::trace::TraceId;
use crate::engine::{Failure, Gone, MAX_NAMES, NamesFull, StoreError, Untimely, View};
use crate::wire;

/// Of draft-ietf-httpapi-ratelimit-headers.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const REDUCED_CAPACITY: &str =
    "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";

macro_rules! codes {
    ($($variant:ident => $status:literal $slug:literal $title:literal,)+) => {
        /// Every problem that the API can answer.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Code { $($variant,)+ }

        impl Code {
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant,)+];

            pub(super) const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// The stable code, and the last part of the type.
            pub(super) const fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)+ }
            }

            /// The type: ours, or one that is registered for all.
            fn kind(self) -> String {
                match self {
                    Self::RateLimited => QUOTA_EXCEEDED.to_owned(),
                    Self::QueueFull => REDUCED_CAPACITY.to_owned(),
                    other => format!("/problems/{}", other.slug()),
                }
            }

            pub(super) const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }
        }
    };
}

codes! {
    MalformedJson => 400 "malformed-json" "The body is not valid JSON",
    InvalidHeader => 400 "invalid-header" "A header is not valid",
    InvalidQuery => 400 "invalid-query" "The query is not valid",
    InvalidIdempotencyKey => 400 "invalid-idempotency-key" "The idempotency key is not valid",
    IdempotencyKeyRequired => 400 "idempotency-key-required" "The queue asks for an idempotency key",
    BadRequest => 400 "bad-request" "The request is not valid",
    Unauthenticated => 401 "unauthenticated" "The caller is not known",
    InsufficientScope => 403 "insufficient-scope" "This is not allowed to you",
    CrossSite => 403 "cross-site" "This web page may not change anything here",
    NoSuchJob => 404 "no-such-job" "There is no such job",
    NoSuchQueue => 404 "no-such-queue" "There is no such queue",
    NoSuchWorker => 404 "no-such-worker" "There is no such worker",
    NoSuchRoute => 404 "no-such-route" "There is nothing at this address",
    MethodNotAllowed => 405 "method-not-allowed" "This address does not take the method",
    RequestTimeout => 408 "request-timeout" "The request did not arrive in time",
    ResultNotReady => 409 "result-not-ready" "The job is not done yet",
    JobFailed => 409 "job-failed" "The job failed",
    JobCancelled => 409 "job-cancelled" "The job was cancelled",
    JobAlreadyFinished => 409 "job-already-finished" "The job is already finished",
    JobNotFinished => 409 "job-not-finished" "The job is not finished",
    CancelNotRequested => 409 "cancel-not-requested" "No cancel was requested",
    LeaseLost => 409 "lease-lost" "Another lease holds the job",
    LeaseExpired => 409 "lease-expired" "The lease was taken back",
    AlreadyReported => 409 "already-reported" "This lease was settled differently before",
    NotEligible => 409 "not-eligible" "The job cannot be claimed now",
    JobExpired => 410 "job-expired" "The job has expired",
    JobDeleted => 410 "job-deleted" "The job was deleted",
    PreconditionFailed => 412 "precondition-failed" "The queue is of another revision",
    PayloadTooLarge => 413 "payload-too-large" "The content is too large",
    UnsupportedMediaType => 415 "unsupported-media-type" "The body must be application/json",
    MisdirectedHost => 421 "misdirected-host" "This server does not answer for that host",
    ValidationFailed => 422 "validation-failed" "The request has wrong members",
    IdempotencyKeyReused => 422 "idempotency-key-reused" "The idempotency key was used with another body",
    TooManyNames => 422 "too-many-names" "The server knows as many names as it keeps",
    RateLimited => 429 "rate-limited" "Request cannot be satisfied as assigned quota has been exceeded",
    InternalError => 500 "internal-error" "The server failed",
    ServerDraining => 503 "server-draining" "The server is shutting down",
    QueueFull => 503 "queue-full" "Request cannot be satisfied due to temporary server capacity constraints",
    TaskHung => 503 "task-hung" "A maintenance task hangs",
    Overloaded => 503 "overloaded" "Too much is being uploaded at once",
    StorageFull => 503 "storage-full" "The server has no space left",
    StorageUnavailable => 503 "storage-unavailable" "The server cannot reach its storage",
}

impl Code {
    /// What the engine guards against may be refused in terms that no request can cause.
    pub(super) const fn reaches_clients(self) -> bool {
        !matches!(self, Self::NotEligible)
    }
}

impl From<Rejected> for Code {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::LeaseLost => Self::LeaseLost,
            Rejected::LeaseExpired => Self::LeaseExpired,
            Rejected::AlreadyReported => Self::AlreadyReported,
            Rejected::JobAlreadyFinished => Self::JobAlreadyFinished,
            Rejected::JobNotFinished => Self::JobNotFinished,
            Rejected::CancelNotRequested => Self::CancelNotRequested,
            Rejected::NotEligible => Self::NotEligible,
        }
    }
}

/// A refusal. Boxed, because results carry it everywhere and it is rare.
#[derive(Debug, Clone)]
pub(super) struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    code: Code,
    detail: String,
    job: Option<JobId>,
    created_at: Option<String>,
    max_bytes: Option<u64>,
    error: Option<wire::JobError>,
    errors: Vec<wire::ProblemItem>,
    checks: Vec<Check>,
    retry: Option<Retry>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum Retry {
    /// 1 to 5 s, by the request's id: those who were refused together do not return together.
    Soon,
    Seconds(u64),
}

/// One line of `/readyz?verbose`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) ok: bool,
    pub(super) detail: String,
}

/// The document; `checks` only from `/readyz`, `violated-policies` only with 429.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ProblemDocument")]
pub(super) struct Document {
    #[serde(flatten)]
    problem: wire::Problem,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<Check>,
    /// As the draft names it.
    #[serde(rename = "violated-policies", skip_serializing_if = "<[_]>::is_empty")]
    violated: &'static [&'static str],
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            detail: detail.into(),
            job: None,
            created_at: None,
            max_bytes: None,
            error: None,
            errors: Vec::new(),
            checks: Vec::new(),
            retry: None,
            headers: Vec::new(),
            cause: None,
        }))
    }

    pub(super) fn code(&self) -> Code {
        self.0.code
    }

    #[cfg(test)]
    pub(super) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// What happened inside, for the log.
    pub(super) fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    #[must_use]
    pub(super) fn caused_by(mut self, cause: impl Into<String>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    #[must_use]
    pub(super) fn about(mut self, id: JobId) -> Self {
        self.0.job = Some(id);
        self
    }

    #[must_use]
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    #[must_use]
    pub(super) fn with_errors(mut self, errors: Vec<wire::ProblemItem>) -> Self {
        self.0.errors = errors;
        self
    }

    #[must_use]
    pub(super) fn with_checks(mut self, checks: Vec<Check>) -> Self {
        self.0.checks = checks;
        self
    }

    #[must_use]
    pub(super) fn retry_soon(mut self) -> Self {
        self.0.retry = Some(Retry::Soon);
        self
    }

    #[must_use]
    pub(super) fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry = Some(Retry::Seconds(seconds));
        self
    }

    /// Puts where in a batch it is in front of the detail and of what is wrong in it.
    #[must_use]
    pub(super) fn at(mut self, pointer: &str) -> Self {
        self.0.detail = format!("{pointer}: {}", self.0.detail);
        for item in &mut self.0.errors {
            item.pointer = format!("{pointer}{}", item.pointer);
        }
        self
    }

    pub(super) fn too_large(what: &str, max: usize) -> Self {
        let detail = format!("{what} may have at most {max} bytes; send less, or a link to it");
        let mut problem = Self::new(Code::PayloadTooLarge, detail);
        problem.0.max_bytes = Some(max as u64);
        problem
    }

    pub(super) fn no_such_job() -> Self {
        Self::new(Code::NoSuchJob, "this server has issued no such job id; check the id")
    }

    fn lost() -> Self {
        let detail = "this job was accepted here and is not in the store: it was lost; submit it \
                      again with its Idempotency-Key";
        Self::new(Code::NoSuchJob, detail)
    }

    pub(super) fn no_such_queue() -> Self {
        Self::new(Code::NoSuchQueue, "no job was ever sent to a queue of this name; check the name")
    }

    /// Nothing can be called so.
    pub(super) fn not_a_queue() -> Self {
        let detail = format!("no queue can have this name; a name is {NAME_RULE}");
        Self::new(Code::NoSuchQueue, detail)
    }

    /// `by` is where the key goes.
    pub(super) fn key_required(queue: &Name, by: &str) -> Self {
        let detail = format!(
            "queue {queue} takes no job without an idempotency key; send {by}, with one key for \
             each piece of work and the same key when you repeat it"
        );
        let code = Code::IdempotencyKeyRequired;
        let link = format!("</problems/{}>; rel=\"describedby\"", code.slug());
        let problem = Self::new(code, detail);
        match HeaderValue::try_from(link) {
            Ok(link) => problem.header(LINK, link),
            Err(_) => problem,
        }
    }

    pub(super) fn not_ready(view: &View, base: &Base) -> Self {
        let id = view.record.spec.id;
        let status = view.status().as_str();
        let detail =
            format!("the job is {status}; ask again after Retry-After, or use Prefer: wait");
        let mut problem = Self::new(Code::ResultNotReady, detail).about(id);
        problem.0.retry = view.retry_after.map(Retry::Seconds);
        problem.header(LINK, base.monitor(id))
    }

    pub(super) fn failed(id: JobId, error: &JobError) -> Self {
        let detail = format!("the job failed with {}; it has no result", error.kind);
        let mut problem = Self::new(Code::JobFailed, detail).about(id);
        problem.0.error = Some(show::error(error));
        problem
    }

    pub(super) fn cancelled(id: JobId) -> Self {
        Self::new(Code::JobCancelled, "the job was cancelled; it has no result").about(id)
    }

    /// For an answer of the router's own.
    pub(super) fn from_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::new(Code::NoSuchRoute, "see / for the addresses"),
            StatusCode::METHOD_NOT_ALLOWED => {
                Self::new(Code::MethodNotAllowed, "Allow lists the methods that work here")
            }
            other if other.is_client_error() => {
                Self::new(Code::BadRequest, "the request could not be read")
            }
            other => Self::new(Code::InternalError, "report this with the request id")
                .caused_by(format!("a handler answered {other}")),
        }
    }

    /// As a member of a batch's answer.
    pub(super) fn wire(self, request_id: Option<&str>) -> wire::Problem {
        let code = self.0.code;
        wire::Problem {
            kind: code.kind(),
            title: code.title().to_owned(),
            status: code.status(),
            detail: Some(self.0.detail),
            code: code.slug().to_owned(),
            request_id: request_id.map(str::to_owned),
            trace_id: None,
            job_id: self.0.job.map(|id| id.to_string()),
            created_at: self.0.created_at,
            max_bytes: self.0.max_bytes,
            error: self.0.error,
            errors: self.0.errors,
        }
    }

    /// The answer itself.
    pub(super) fn render(mut self, request_id: &str, trace: Option<TraceId>) -> Response {
        let status =
            StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let extra = std::mem::take(&mut self.0.headers);
        let checks = std::mem::take(&mut self.0.checks);
        let retry = self.0.retry.map(|retry| match retry {
            Retry::Soon => {
                1 + request_id.bytes().fold(0u64, |h, b| h * 31 % 8_191 + u64::from(b)) % 5
            }
            Retry::Seconds(n) => n,
        });
        let draining = self.0.code == Code::ServerDraining;
        let violated: &[&str] =
            if self.0.code == Code::RateLimited { &[super::auth::POLICY] } else { &[] };
        let mut problem = self.wire(Some(request_id));
        problem.trace_id = trace.map(|id| id.to_string());
        let document = Document { problem, checks, violated };
        let mut response = respond::json(status, &document);
        let headers = response.headers_mut();
        headers.insert(
            axum::http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = retry {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if draining {
            // The next request finds whoever takes over.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        headers.extend(extra);
        response
    }
}

/// Carried to [`observe`](super::observe), which knows the request's id.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        *response.status_mut() =
            StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSuchJob => Self::no_such_job(),
            Failure::Lost => Self::lost(),
            Failure::NoSuchQueue => Self::no_such_queue(),
            Failure::NoSuchWorker => {
                let detail = "nobody of this id was seen within a day, or it has said goodbye; see \
                              /v1/workers";
                Self::new(Code::NoSuchWorker, detail)
            }
            Failure::OtherRevision => {
                let detail = "the queue's settings or its pause were changed meanwhile, and nothing \
                              was done; read the queue again and decide anew";
                Self::new(Code::PreconditionFailed, detail)
            }
            Failure::BackoffFalls => {
                let item = wire::ProblemItem {
                    pointer: "/backoff/initial_seconds".to_owned(),
                    code: "range".to_owned(),
                    detail: "must be at most max_seconds, with what is in force beside it"
                        .to_owned(),
                };
                Self::new(Code::ValidationFailed, "one member is wrong; see errors")
                    .with_errors(vec![item])
            }
            Failure::Gone { id, why } => gone(id, why),
            Failure::RetryGone { source_id, id, why } => {
                let what = match why {
                    Gone::Expired => "has expired",
                    Gone::Deleted => "was finished, and then deleted",
                };
                let mut problem = gone(id, why);
                problem.0.detail = format!(
                    "job {source_id} was retried before, as {id}, which {what}; ?force=true makes \
                     another"
                );
                problem
            }
            Failure::Rejected { id, rejected, status } => refused(id, rejected, status),
            Failure::KeyReused { id } => {
                let detail = "the key named another body before, which made this job; send that \
                              body, or take a new key for new work";
                Self::new(Code::IdempotencyKeyReused, detail).about(id)
            }
            Failure::KeyTwice { first } => {
                let detail = format!(
                    "/jobs/{first} of this batch has the same key and another body; nothing was \
                     accepted; give each piece of work a key of its own"
                );
                Self::new(Code::IdempotencyKeyReused, detail)
            }
            Failure::Untimely(wrong) => {
                let detail = match wrong.len() {
                    1 => "one member is wrong; see errors".to_owned(),
                    many => format!("{many} members are wrong; see errors"),
                };
                let item = |wrong: Untimely| wire::ProblemItem {
                    pointer: format!("/{}", wrong.member),
                    code: "range".to_owned(),
                    detail: wrong.must.to_owned(),
                };
                let errors = wrong.into_iter().map(item).collect();
                Self::new(Code::ValidationFailed, detail).with_errors(errors)
            }
            Failure::QueueFull { queue, max_depth, retry_after } => {
                let detail = format!(
                    "queue {queue} takes {max_depth} pending jobs and has no room; nothing was accepted; \
                     try again after Retry-After"
                );
                let mut problem = Self::new(Code::QueueFull, detail);
                problem.0.retry = Some(Retry::Seconds(retry_after));
                problem
            }
            Failure::NeverFits { queue, max_depth, jobs } => {
                let detail = format!(
                    "{jobs} jobs at once are more than the {max_depth} that may wait in queue {queue}; \
                     nothing was accepted; send smaller batches"
                );
                Self::new(Code::ValidationFailed, detail)
            }
            Failure::TooManyNames { namespace, queue, kind, full } => {
                let full = match full {
                    NamesFull::Store => format!("the server knows {MAX_NAMES} names of that sort"),
                    NamesFull::Namespace { max } => format!(
                        "namespace {namespace} has brought in {max} names of that sort, which is \
                         its share"
                    ),
                };
                let detail = format!(
                    "queue {queue} or kind {kind} is new, and {full}; nothing was accepted; use a \
                     known name, and say what differs in the payload or in tags"
                );
                Self::new(Code::TooManyNames, detail)
            }
            Failure::NoRoomForQueue { queue } => {
                let detail = format!(
                    "queue {queue} is new, and the server knows {MAX_NAMES} names of queues; nothing \
                     was done; check the name"
                );
                Self::new(Code::TooManyNames, detail)
            }
            Failure::Draining => {
                Self::new(Code::ServerDraining, "try again after Retry-After").retry_soon()
            }
            Failure::Store(error) => {
                let cause = error.to_string();
                let problem = match error {
                    StoreError::Full(_) | StoreError::LowSpace(_) => {
                        Self::new(Code::StorageFull, "nothing was accepted; try again later")
                    }
                    StoreError::Busy(_)
                    | StoreError::Io(_)
                    | StoreError::Corrupt(_)
                    | StoreError::Closed
                    | StoreError::Other(_) => Self::new(
                        Code::StorageUnavailable,
                        "whether the request took effect is not known; repeat it after Retry-After",
                    ),
                };
                problem.retry_soon().caused_by(cause)
            }
        }
    }
}

fn gone(id: JobId, why: Gone) -> Problem {
    let (code, detail) = match why {
        Gone::Expired => (Code::JobExpired, "the job's retention has passed"),
        Gone::Deleted => (Code::JobDeleted, "the job was finished, and then deleted"),
    };
    let detail = format!("{detail}; do not repeat its work blindly");
    let mut problem = Problem::new(code, detail).about(id);
    problem.0.created_at = Some(id.created_at().to_rfc3339());
    problem
}

fn refused(id: JobId, rejected: Rejected, status: Option<Status>) -> Problem {
    let detail = match rejected {
        Rejected::LeaseLost => "stop working on it: the job is in other hands",
        Rejected::LeaseExpired => "stop working on it: the job waits for another attempt",
        Rejected::AlreadyReported => "the first report stands",
        Rejected::JobAlreadyFinished => "a finished job never changes again",
        Rejected::JobNotFinished => "cancel it first, or wait until it is done",
        Rejected::CancelNotRequested => "settle it as completed, failed or released",
        Rejected::NotEligible => "it waits, runs or has ended",
    };
    let detail = match status {
        Some(status) => format!("the job is {}; {detail}", status.as_str()),
        None => detail.to_owned(),
    };
    Problem::new(rejected.into(), detail).about(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_distinct_and_in_the_reference() {
        let reference = include_str!("../../docs/API.md");
        let mut seen = BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.slug()), "{} twice", code.slug());
            assert!(!code.title().is_empty() && (400..600).contains(&code.status()));
            if code.reaches_clients() {
                let row = format!("| {} | `{}` | {}", code.status(), code.slug(), code.when());
                assert!(reference.contains(&row), "docs/API.md has no row {row:?}");
            }
        }
    }

    #[test]
    fn types_are_ours_but_for_those_that_are_registered() {
        let registered: Vec<_> =
            Code::ALL.iter().filter(|c| c.kind() != format!("/problems/{}", c.slug())).collect();
        assert_eq!(registered, [&Code::RateLimited, &Code::QueueFull]);
        let full = Failure::QueueFull { queue: Name::trusted("q"), max_depth: 2, retry_after: 9 };
        let full = Problem::from(full).wire(None);
        assert_eq!((full.status, full.code.as_str()), (503, "queue-full"));
        assert_eq!(full.kind, REDUCED_CAPACITY);
    }

    #[test]
    fn a_rejection_keeps_its_code() {
        for rejected in Rejected::ALL {
            assert_eq!(Code::from(rejected).slug(), rejected.code());
            assert_eq!(Code::from(rejected).status(), 409);
        }
    }

    #[test]
    fn outages_say_when_to_return_and_hide_what_happened() {
        for (error, slug) in [
            (StoreError::Full("secret".into()), "storage-full"),
            (StoreError::LowSpace("secret".into()), "storage-full"),
            (StoreError::Corrupt("secret".into()), "storage-unavailable"),
        ] {
            let problem = Problem::from(Failure::Store(error));
            assert_eq!((problem.code().status(), problem.code().slug()), (503, slug));
            assert!(problem.cause().unwrap().contains("secret"));
            assert!(!problem.detail().contains("secret"));
            let mut seen = BTreeSet::new();
            for i in 0..50 {
                let response = problem.clone().render(&format!("id-{i}"), None);
                let after: u64 = response.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
                assert!((1..=5).contains(&after));
                seen.insert(after);
            }
            assert!(seen.len() > 2, "{seen:?}");
        }
    }

    #[test]
    fn gone_says_when_the_job_was_made() {
        let id = JobId::parse("0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7").unwrap();
        let problem = Problem::from(Failure::Gone { id, why: Gone::Deleted }).wire(Some("r"));
        assert_eq!((problem.status, problem.code.as_str()), (410, "job-deleted"));
        assert_eq!(problem.kind, "/problems/job-deleted");
        assert_eq!(problem.job_id.as_deref(), Some("0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7"));
        assert!(problem.created_at.unwrap().starts_with("2025-"));
    }
}
