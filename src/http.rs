//! The HTTP API: from bytes to the engine's terms and back.
//!
//! Owns the routes, the strict reading of requests, the one shape of each answer, and every status
//! code ([`problem`]). A handler is four steps: read the head, read the body, ask the engine, show
//! the answer; nothing here decides what becomes of a job.
//!
//! Invariants:
//! - a request is understood whole or refused whole, with everything that is wrong with it at once;
//! - every refusal, also the router's own and a panic's, is an RFC 9457 problem with a stable code
//!   and the request's id; what went wrong inside is logged once, at [`observe`], and never shown;
//! - a payload's bytes are handed on as they came;
//! - every route has its description ([`openapi`]), or it could not be added;
//! - status 200 to a submission means "use the result"; everything else accepted is 202.
//!
//! It must not know: stores, SQL, configuration files, who starts and stops it.

mod accept;
mod audit;
pub mod auth;
mod body;
mod canonical;
mod cors;
mod fields;
mod forwarded;
mod headers;
mod host;
mod jobs;
mod kinds;
mod limits;
mod links;
mod listing;
mod meta;
mod observe;
mod openapi;
mod operators;
mod ops;
mod pages;
#[cfg(test)]
mod parser_tests;
mod problem;
mod query;
mod respond;
mod retry;
pub mod serve;
mod settings;
mod settle;
mod show;
mod strict;
mod submission;
mod values;
mod watch;
mod work;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Extensions;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use ipnet::IpNet;

use crate::engine::Engine;

pub use openapi::openapi_json;
pub use serve::{InFlight, serve};

use auth::{Asker, Gate};
use observe::RequestIds;
use openapi::Routes;
use problem::{Code, Problem};

/// What the API needs to know beside the engine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Scheme and host without a trailing slash; `None`: links come from the `Host` header.
    pub public_url: Option<String>,
    /// Peers whose word on the client's scheme and host counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins of web pages that may read answers.
    pub cors_origins: Vec<String>,
    /// Whether `/metrics` is served by [`metrics_router`] and not here.
    pub metrics_elsewhere: bool,
    /// Who is let in.
    pub gate: Gate,
    /// Whether only this machine is served. While it is trusted without a token, web pages are
    /// kept out: see [`pages`].
    pub loopback_only: bool,
    /// Of one job. Default 1 MiB.
    pub max_payload_bytes: usize,
    /// Results up to this size appear in the job. Default 64 KiB. Only shown: the store decides.
    pub inline_result_bytes: usize,
    /// Default 16 MiB.
    pub max_result_bytes: usize,
    /// Hosts that `result_location` may name; empty: any.
    pub result_hosts: Vec<String>,
    /// The least life of an idempotency key; only shown. Default 24 h.
    pub idempotency_ttl: Duration,
    /// What a 202 promises; only shown: `full` or `normal`.
    pub durability: &'static str,
    /// From the first byte of a request to the end of its headers; only shown. Default 10 s.
    pub header_timeout: Duration,
    /// From headers to the end of the body. Default 30 s.
    pub body_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            public_url: None,
            gate: Gate::default(),
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            metrics_elsewhere: false,
            loopback_only: true,
            max_payload_bytes: 1 << 20,
            inline_result_bytes: 64 << 10,
            max_result_bytes: 16 << 20,
            result_hosts: Vec::new(),
            idempotency_ttl: Duration::from_secs(86_400),
            durability: "full",
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// What every handler gets. Cheap to clone.
#[derive(Clone)]
struct Api(Arc<Shared>);

struct Shared {
    engine: Engine,
    settings: Settings,
    request_ids: RequestIds,
}

impl Api {
    fn engine(&self) -> &Engine {
        &self.0.engine
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }

    fn gate(&self) -> &Gate {
        &self.0.settings.gate
    }

    /// Who asks, as [`auth::admit`] found: its table has what the route needs.
    #[expect(clippy::unused_self, reason = "every handler asks the API")]
    fn caller(&self, extensions: &Extensions) -> Result<Asker, Problem> {
        Asker::of(extensions).ok_or_else(|| {
            let problem = Problem::new(Code::InternalError, "report this with the request id");
            problem.caused_by("a route without a need asks for its caller")
        })
    }
}

impl Api {
    fn new(engine: Engine, settings: Settings) -> Self {
        let request_ids = RequestIds::new();
        Self(Arc::new(Shared { engine, settings, request_ids }))
    }
}

/// Whether a server with these settings keeps web pages out, though it asks for no token.
pub fn pages_are_kept_out(settings: &Settings) -> bool {
    pages::are_kept_out(settings, &settings.gate)
}

/// Metrics and health alone, for a listener that clients do not reach.
pub fn metrics_router(engine: Engine, settings: Settings) -> Router {
    let api = Api::new(engine, settings);
    let routes = Router::new()
        .route("/livez", get(ops::livez))
        .route("/readyz", get(ops::readyz))
        .route("/metrics", get(ops::metrics));
    finished(routes, api)
}

/// What is around every route.
fn finished(routes: Router<Api>, api: Api) -> Router {
    routes
        .fallback(ops::no_such_route)
        .layer(from_fn_with_state(api.clone(), observe::observe))
        .with_state(api)
}

/// The API over `engine`.
pub fn router(engine: Engine, settings: Settings) -> Router {
    let api = Api::new(engine, settings);
    let routes = if api.settings().metrics_elsewhere { routes_without_metrics() } else { routes() };
    finished(routes.router(), api)
}

/// Every route, with its description.
fn routes() -> Routes {
    routes_without_metrics().get("/metrics", ops::metrics, openapi::operations::metrics)
}

fn routes_without_metrics() -> Routes {
    use openapi as about;

    Routes::new()
        .get("/", ops::root, about::operations::root)
        .get("/livez", ops::livez, about::operations::livez)
        .get("/readyz", ops::readyz, about::operations::readyz)
        .get("/v1/meta", meta::meta, about::operations::meta)
        .post("/v1/jobs", jobs::submit, about::clients::submit)
        .get("/v1/jobs", listing::list, about::clients::list)
        .post("/v1/jobs/batch", jobs::submit_batch, about::clients::submit_batch)
        .get("/v1/jobs/{id}", jobs::show, about::clients::show)
        .delete("/v1/jobs/{id}", jobs::delete, about::clients::delete)
        .get("/v1/jobs/{id}/result", jobs::result, about::clients::result)
        .get("/v1/jobs/{id}/timeline", jobs::timeline, about::clients::timeline)
        .get("/v1/jobs/{id}/explain", watch::explain_job, about::operators::explain_job)
        .post("/v1/jobs/{id}/cancel", jobs::cancel, about::clients::cancel)
        .post("/v1/jobs/{id}/retry", retry::retry, about::clients::retry)
        .post("/v1/jobs/{id}/heartbeat", work::heartbeat, about::workers::heartbeat)
        .post("/v1/jobs/{id}/complete", settle::complete, about::workers::complete)
        .post("/v1/jobs/{id}/fail", settle::fail, about::workers::fail)
        .post("/v1/jobs/{id}/release", settle::release, about::workers::release)
        .post("/v1/jobs/{id}/cancelled", settle::cancelled, about::workers::cancelled)
        .post("/v1/claims", work::claim, about::workers::claim)
        .post("/v1/heartbeats", work::heartbeats, about::workers::heartbeats)
        .post("/v1/settlements", settle::settlements, about::workers::settlements)
        .get("/v1/workers", operators::workers, about::operators::workers)
        .post("/v1/workers/{id}/drain", operators::drain, about::operators::drain)
        .post("/v1/workers/{id}/goodbye", work::goodbye, about::workers::goodbye)
        .get("/v1/queues", operators::queues, about::operators::queues)
        .get("/v1/queues/{q}", operators::queue, about::operators::queue)
        .patch("/v1/queues/{q}", settings::patch, about::operators::change_queue)
        .get("/v1/queues/{q}/explain", watch::explain_queue, about::operators::explain_queue)
        .post("/v1/queues/{q}/pause", operators::pause, about::operators::pause)
        .post("/v1/queues/{q}/resume", operators::resume, about::operators::resume)
        .get("/v1/episodes", watch::episodes, about::operators::episodes)
        .get("/v1/kinds", kinds::kinds, about::operators::kinds)
        .get("/v1/tasks", operators::tasks, about::operators::tasks)
        .get("/openapi.json", openapi::serve, about::operations::openapi)
        .get("/docs", openapi::docs, about::operations::docs)
        .get("/problems/{slug}", openapi::problem, about::operations::problem)
}
