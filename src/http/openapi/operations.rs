//! What machines ask of the server itself.

use super::super::ops::{Ready, Root};
use super::super::problem::Code;
use super::operation::{Answer, Operation, Tag};
use crate::wire;

/// What may be kept, and is asked for again by its tag.
const KEPT: &[&str] = &["ETag", "X-Content-Type-Options"];
const PAGE: &[&str] = &["ETag", "Content-Security-Policy", "X-Content-Type-Options"];
const HTML: &[&str] = &["text/html"];

fn operation(id: &'static str, summary: &'static str, text: &'static str) -> Operation {
    Operation::new(Tag::Operations, id, summary, text)
}

pub(in crate::http) fn root() -> Operation {
    operation("getRoot", "Where everything is", "")
        .answer(Answer::json::<Root>(200, "The addresses.").headers(&["Link"]))
}

pub(in crate::http) fn meta() -> Operation {
    operation("getMeta", "Every promise in numbers", "")
        .answer(Answer::json::<wire::Meta>(200, "The numbers."))
}

pub(in crate::http) fn livez() -> Operation {
    operation(
        "getLive",
        "Is the process alive?",
        "Looks at nothing else: a dependency that fails must not restart it.",
    )
    .answer(Answer::text(200, "`ok`.", &["text/plain"]))
}

pub(in crate::http) fn readyz() -> Operation {
    operation(
        "getReady",
        "Should it get requests?",
        "For this server's own causes only. A storage that is down is 200 and `degraded`, since \
         only this server can tell its clients so.",
    )
    .query(
        "verbose",
        serde_json::json!({"type": "string"}),
        "Lists the checks; needs the scope `metrics`.",
    )
    .answer(Answer::json::<Ready>(200, "Ready.").headers(&["RateLimit-Policy", "RateLimit"]))
    .problems(&[
        Code::Unauthenticated,
        Code::InsufficientScope,
        Code::RateLimited,
        Code::ServerDraining,
        Code::TaskHung,
    ])
}

pub(in crate::http) fn metrics() -> Operation {
    operation("getMetrics", "Metrics", "In the format that `Accept` prefers.")
        .parameters(&["Accept"])
        .answer(
            Answer::text(200, "Every metric.", &["text/plain", "application/openmetrics-text"])
                .headers(&["Vary"]),
        )
        // Where they have a listener of their own.
        .problems(&[Code::NoSuchRoute])
}

pub(in crate::http) fn openapi() -> Operation {
    operation("getOpenapi", "This description", "OpenAPI 3.1.")
        .parameters(&["IfNoneMatch"])
        .answer(
            Answer::json::<serde_json::Map<String, serde_json::Value>>(200, "It.").headers(KEPT),
        )
        .answer(Answer::empty(304, "Not changed.").headers(KEPT))
}

pub(in crate::http) fn docs() -> Operation {
    operation("getDocs", "This description for people", "One page, with nothing from elsewhere.")
        .parameters(&["IfNoneMatch"])
        .answer(Answer::text(200, "The page.", HTML).headers(PAGE))
        .answer(Answer::empty(304, "Not changed.").headers(PAGE))
}

pub(in crate::http) fn problem() -> Operation {
    operation("getProblem", "What a problem means", "The `type` of every problem leads here.")
        .parameters(&["Slug", "IfNoneMatch"])
        .answer(Answer::text(200, "When it comes, and what to do.", HTML).headers(PAGE))
        .answer(Answer::empty(304, "Not changed.").headers(PAGE))
        .problems(&[Code::NoSuchRoute])
}
