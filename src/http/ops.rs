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
use super::links::Base;
use super::problem::{Check, Code, Problem};
use super::respond;

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
