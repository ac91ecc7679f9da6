//! What many operations have in common: parameters, headers, and the problems that go together.

use std::ops::RangeInclusive;

use axum::http::Method;
use serde_json::{Value, json};

use super::super::limits;
use super::super::problem::Code;
use super::operation::Described;
use crate::domain::names::{NAME_PATTERN, WorkerId};
use crate::engine::MAX_WAIT;

/// Any request may meet these: they come from around the handlers.
const EVERYWHERE: &[Code] = &[Code::InvalidHeader, Code::MisdirectedHost, Code::InternalError];

/// A body that was sent and is none.
pub(super) const BODY: &[Code] = &[
    Code::MalformedJson,
    Code::BadRequest,
    Code::RequestTimeout,
    Code::PayloadTooLarge,
    Code::UnsupportedMediaType,
    Code::ValidationFailed,
    Code::Overloaded,
];
pub(super) const READS: &[Code] = &[Code::StorageUnavailable];
pub(super) const WRITES: &[Code] = &[Code::StorageUnavailable, Code::StorageFull];
/// An id of no job, or of one that is gone.
pub(super) const JOB: &[Code] = &[Code::NoSuchJob, Code::JobExpired, Code::JobDeleted];
/// A lease that is not, or no more.
pub(super) const LEASE: &[Code] = &[Code::LeaseLost, Code::LeaseExpired, Code::JobAlreadyFinished];

/// All problems of an operation, its own and those that every one like it has.
pub(super) fn problems(described: &Described) -> Vec<Code> {
    let mut codes = described.operation.problems.clone();
    codes.extend(EVERYWHERE);
    if described.path.starts_with("/v1/") {
        codes.push(Code::InvalidQuery);
    }
    if described.method != Method::GET {
        codes.push(Code::CrossSite);
    }
    if let Some(scopes) = described.needs {
        codes.extend([Code::Unauthenticated, Code::RateLimited]);
        if !scopes.is_empty() {
            codes.push(Code::InsufficientScope);
        }
    }
    codes
}

pub(super) fn moment() -> Value {
    json!({"type": "string", "format": "date-time"})
}

pub(super) fn name() -> Value {
    json!({"type": "string", "pattern": NAME_PATTERN})
}

pub(super) fn job_id() -> Value {
    json!({"type": "string", "format": "uuid"})
}

pub(super) fn limit(range: &RangeInclusive<u32>) -> Value {
    json!({"type": "integer", "minimum": range.start(), "maximum": range.end(),
           "default": limits::LIST_DEFAULT})
}

pub(super) fn wait() -> Value {
    json!({"type": "number", "minimum": 0, "maximum": MAX_WAIT.as_secs_f64()})
}

fn parameter(place: &str, name: &str, schema: &Value, text: &str) -> Value {
    let mut parameter = json!({"in": place, "name": name, "schema": schema, "description": text});
    if place == "path" {
        parameter["required"] = json!(true);
    }
    parameter
}

/// `components.parameters`.
pub(super) fn parameters() -> Vec<(&'static str, Value)> {
    let keys = json!({"type": "string", "minLength": 1, "maxLength": limits::IDEMPOTENCY_KEY_BYTES,
                      "pattern": "^[ -~]+$"});
    let text = json!({"type": "string"});
    vec![
        (
            "JobId",
            parameter(
                "path",
                "id",
                &job_id(),
                "A job's id, written plainly; in any other form it is no job's.",
            ),
        ),
        ("Queue", parameter("path", "q", &name(), "A queue's name.")),
        (
            "WorkerId",
            parameter(
                "path",
                "id",
                &json!({"type": "string", "minLength": 1, "maxLength": WorkerId::MAX_BYTES}),
                "A worker's id: bytes in UTF-8, none of them a control character.",
            ),
        ),
        ("Slug", parameter("path", "slug", &json!({"type": "string"}), "A problem's code.")),
        (
            "IdempotencyKey",
            parameter(
                "header",
                "Idempotency-Key",
                &keys,
                "Makes a repetition find the first job instead of making a second one. `abc` and \
                 `\"abc\"` are the same key.",
            ),
        ),
        (
            "Prefer",
            parameter(
                "header",
                "Prefer",
                &text,
                "`respond-async`: answer at once. `wait=N`: hold the answer up to N whole seconds, \
                 at most 50. Both: as `wait=N`. What is malformed is ignored.",
            ),
        ),
        (
            "PreferWait",
            parameter(
                "header",
                "Prefer",
                &text,
                "`wait=N`: hold the answer until there is news, up to N whole seconds, at most 50. \
                 What is malformed is ignored.",
            ),
        ),
        (
            "IfNoneMatch",
            parameter(
                "header",
                "If-None-Match",
                &text,
                "The `ETag` of what you have: an answer that has not changed is 304.",
            ),
        ),
        (
            "IfMatch",
            parameter(
                "header",
                "If-Match",
                &text,
                "The `ETag` of the queue that the change is meant for, or several; `*`: any that \
                 is there.",
            ),
        ),
        (
            "Accept",
            parameter(
                "header",
                "Accept",
                &text,
                "`application/openmetrics-text` for OpenMetrics with exemplars; anything else gets \
                 the Prometheus text format.",
            ),
        ),
        (
            "Traceparent",
            parameter(
                "header",
                "traceparent",
                &text,
                "W3C Trace Context to continue. What is not valid is ignored.",
            ),
        ),
        (
            "Tracestate",
            parameter("header", "tracestate", &text, "What goes with a valid `traceparent`."),
        ),
        (
            "RequestId",
            parameter(
                "header",
                "X-Request-Id",
                &text,
                "Up to 128 visible ASCII characters are repeated in the answer and in the log; \
                 without it, one is made.",
            ),
        ),
    ]
}

fn header(schema: &Value, text: &str) -> Value {
    json!({"schema": schema, "description": text})
}

/// `components.headers`. Only the first is in every answer.
pub(super) fn headers() -> Vec<(&'static str, Value)> {
    let text = json!({"type": "string"});
    let url = json!({"type": "string", "format": "uri"});
    let seconds = json!({"type": "integer", "minimum": 1});
    let mut id = header(&text, "The request's id, for the log: yours, or a new one.");
    id["required"] = json!(true);
    vec![
        ("X-Request-Id", id),
        (
            "Cache-Control",
            header(
                &text,
                "`no-store`, but for a job's status (`private, no-cache`) and the documentation \
                 (`public`).",
            ),
        ),
        ("traceresponse", header(&text, "With tracing on: `00-<trace>-<span>-<flags>`.")),
        ("Server-Timing", header(&text, "With tracing on: `trace;desc=` and the same.")),
        ("Location", header(&url, "Where to go.")),
        ("Content-Location", header(&url, "The address of what this answer shows.")),
        (
            "Retry-After",
            header(
                &seconds,
                "Seconds after which to ask again. About a job: an estimate of its end, there if \
                 and only if it is not done.",
            ),
        ),
        ("ETag", header(&text, "Names this state; send it as `If-None-Match`.")),
        (
            "Link",
            header(
                &text,
                "RFC 8288. `monitor`: the job's status; `/rels/result`, `/rels/cancel`: of the \
                 job; `next`: the next page; `describedby`: of a problem; `service-desc`, `service-doc`, `status`: of the server.",
            ),
        ),
        ("Preference-Applied", header(&text, "What of `Prefer` was honoured.")),
        (
            "Idempotent-Replayed",
            header(&json!({"const": "true"}), "The key was known: this is the first job."),
        ),
        ("Sunset", header(&text, "RFC 8594: when the record of this done job goes.")),
        ("Vary", header(&text, "The request headers that the answer depends on.")),
        ("Allow", header(&text, "The methods that work here.")),
        ("Accept", header(&text, "The media type that would do.")),
        ("Accept-Patch", header(&text, "On a PATCH, the media types that would do.")),
        (
            "WWW-Authenticate",
            header(&text, "RFC 6750: what is wrong with the token, and the scope that it lacks."),
        ),
        ("RateLimit-Policy", header(&text, "Of a token with a rate: so many requests in so long.")),
        ("RateLimit", header(&text, "Of a token with a rate: what is left of it.")),
        ("X-Content-Type-Options", header(&json!({"const": "nosniff"}), "Do not guess.")),
        (
            "Content-Security-Policy",
            header(&text, "What a browser may do with it: next to nothing."),
        ),
        ("Connection", header(&text, "`close` when the server ends, or gave up reading.")),
    ]
}

/// The headers of a problem, beside those of every answer.
pub(super) fn problem_headers(codes: &[Code]) -> Vec<&'static str> {
    let has = |wanted: &[Code]| codes.iter().any(|code| wanted.contains(code));
    let mut headers = Vec::new();
    if codes.iter().any(|code| matches!(code.status(), 429 | 503)) || has(&[Code::ResultNotReady]) {
        headers.push("Retry-After");
    }
    if has(&[Code::Unauthenticated, Code::InsufficientScope]) {
        headers.push("WWW-Authenticate");
    }
    if has(&[Code::ResultNotReady, Code::IdempotencyKeyRequired]) {
        headers.push("Link");
    }
    if has(&[Code::UnsupportedMediaType]) {
        headers.extend(["Accept", "Accept-Patch"]);
    }
    if has(&[Code::ServerDraining, Code::RequestTimeout]) {
        headers.push("Connection");
    }
    headers
}
