//! What machines ask of the server itself: is it alive, is it ready, how does it do.

use axum::extract::{Request, State};
use axum::http::header::{LINK, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::Api;
use super::accept::metrics_format;
use super::auth::is_verbose;
use super::limits;
use super::links::Base;
use super::problem::{Check, Code, Problem};
use super::respond;
use crate::domain::names::{NAME_PATTERN, WorkerId};
use crate::engine::{MAX_CLAIM, MAX_WAIT};
use crate::wire;

pub(super) async fn no_such_route(request: Request) -> Problem {
    let detail = format!("there is nothing at {}; see / for the addresses", request.uri().path());
    Problem::new(Code::NoSuchRoute, detail)
}

/// `GET /livez`: nothing is looked at, for a dependency that fails must not restart this process.
pub(super) async fn livez() -> Response {
    respond::text(StatusCode::OK, "text/plain; charset=utf-8", "ok".to_owned())
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Ready {
    status: &'static str,
    /// The storage does not answer. Still ready: this server is the one that says so properly.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    degraded: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checks: Vec<Check>,
}

/// `GET /readyz`: for this process's own causes only. A store that is down makes it `degraded`
/// and not unready, or the balancer would remove every server and nobody could be told why.
pub(super) async fn readyz(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let engine = api.engine();
    let verbose = is_verbose(request.uri());
    let (draining, degraded) = (engine.is_draining(), engine.store_is_degraded());
    // While the store does not answer, neither does maintenance, and sending everybody elsewhere
    // would leave nobody to say so.
    let hung = if degraded { Vec::new() } else { engine.tasks().hung() };
    let checks = if verbose { checks(draining, &hung, degraded) } else { Vec::new() };
    if draining {
        let problem = Problem::new(Code::ServerDraining, "send new requests to another server");
        return Err(problem.retry_soon().with_checks(checks));
    }
    if !hung.is_empty() {
        let detail = format!("{}; see /v1/tasks and the log", hung.join(", "));
        return Err(Problem::new(Code::TaskHung, detail).retry_soon().with_checks(checks));
    }
    Ok(respond::json(StatusCode::OK, &Ready { status: "ready", degraded, checks }))
}

fn checks(draining: bool, hung: &[&'static str], degraded: bool) -> Vec<Check> {
    let say = |name, ok: bool, good: &str, bad: String| Check {
        name,
        ok,
        detail: if ok { good.to_owned() } else { bad },
    };
    vec![
        say("lifecycle", !draining, "serving", "draining".to_owned()),
        say("tasks", hung.is_empty(), "running", format!("hung: {}", hung.join(", "))),
        say(
            "storage",
            !degraded,
            "answers",
            "does not answer; this alone is not unready".to_owned(),
        ),
    ]
}

/// `GET /metrics`, in the format that `Accept` asks for.
pub(super) async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Response {
    let format = metrics_format(&headers);
    let mut response =
        respond::text(StatusCode::OK, format.content_type(), api.engine().metrics(format));
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    response
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Root {
    name: &'static str,
    version: &'static str,
    links: Links,
}

#[derive(Serialize, JsonSchema)]
struct Links {
    jobs: String,
    queues: String,
    workers: String,
    tasks: String,
    episodes: String,
    kinds: String,
    meta: String,
    ready: String,
    live: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<String>,
    openapi: String,
    docs: String,
}

/// `GET /`: where everything is.
pub(super) async fn root(State(api): State<Api>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let base = Base::of(api.settings(), &parts);
    let links = Links {
        jobs: base.path("/v1/jobs"),
        queues: base.path("/v1/queues"),
        workers: base.path("/v1/workers"),
        tasks: base.path("/v1/tasks"),
        episodes: base.path("/v1/episodes"),
        kinds: base.path("/v1/kinds"),
        meta: base.path("/v1/meta"),
        ready: base.path("/readyz"),
        live: base.path("/livez"),
        metrics: (!api.settings().metrics_elsewhere).then(|| base.path("/metrics")),
        openapi: base.path("/openapi.json"),
        docs: base.path("/docs"),
    };
    let root = Root { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION"), links };
    let mut response = respond::json(StatusCode::OK, &root);
    // RFC 8631: what describes the service, for programs and for people, and how it does.
    let links = HeaderValue::from_static(
        "</openapi.json>; rel=\"service-desc\", </docs>; rel=\"service-doc\", \
         </readyz>; rel=\"status\"",
    );
    response.headers_mut().insert(LINK, links);
    response
}

/// `GET /v1/meta`: every promise in numbers.
pub(super) async fn meta(State(api): State<Api>) -> Response {
    let settings = api.settings();
    // No queue is called so: what queues without keys of their own get.
    let defaults = api.engine().defaults("");
    let bytes = |n: usize| n as u64;
    let meta = wire::Meta {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store: api.engine().store_backend().to_owned(),
        durability: settings.durability.to_owned(),
        sync_window_seconds: defaults.sync_window.as_secs_f64(),
        idempotency: wire::MetaIdempotency {
            key_lifetime_seconds: settings.idempotency_ttl.as_secs_f64(),
        },
        retention_seconds: wire::MetaRetention {
            completed: defaults.retention.completed.as_secs_f64(),
            failed: defaults.retention.failed.as_secs_f64(),
            cancelled: defaults.retention.cancelled.as_secs_f64(),
        },
        limits: wire::MetaLimits {
            request_body_bytes: bytes(limits::BODY_BYTES),
            payload_bytes: bytes(settings.max_payload_bytes),
            inline_result_bytes: bytes(settings.inline_result_bytes),
            result_bytes: bytes(settings.max_result_bytes),
            error_bytes: bytes(limits::ERROR_BYTES),
            checkpoint_bytes: bytes(limits::CHECKPOINT_BYTES),
            progress_message_bytes: bytes(limits::PROGRESS_MESSAGE_BYTES),
            metadata_bytes: bytes(limits::METADATA_BYTES),
            tags: bytes(limits::TAGS),
            json_depth: bytes(limits::JSON_DEPTH),
            name_pattern: NAME_PATTERN.to_owned(),
            priority_min: *limits::PRIORITY.start(),
            priority_max: *limits::PRIORITY.end(),
            max_attempts: *limits::MAX_ATTEMPTS.end() as u64,
            timeout_seconds: limits::WEEK.as_secs_f64(),
            run_at_ahead_seconds: limits::RUN_AT_AHEAD.as_secs_f64(),
            batch_items: bytes(limits::BATCH_ITEMS),
            wait_seconds: MAX_WAIT.as_secs_f64(),
            claim_jobs: bytes(MAX_CLAIM),
            claim_bytes: bytes(limits::CLAIM_BYTES),
            lease_seconds: limits::LEASE.end().as_secs_f64(),
            worker_id_bytes: bytes(WorkerId::MAX_BYTES),
            idempotency_key_bytes: bytes(limits::IDEMPOTENCY_KEY_BYTES),
        },
    };
    respond::json(StatusCode::OK, &meta)
}
