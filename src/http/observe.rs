//! The one layer around every handler: the request's id, metrics, panics, and the writing of
//! problems.

use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::hash::BuildHasher;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Extensions;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use hyper::body::Body as _;

use super::Api;
use super::headers::{self, SERVER_TIMING, TRACERESPONSE, X_REQUEST_ID};
use super::problem::{Code, Problem};
use super::{auth, cors, pages, query};
use crate::domain::trace::{TraceContext, TraceId};
use crate::telemetry::events::Events;
use crate::telemetry::spans::{self, Begun, Spans};

/// Ids for requests that bring none: unique within this process by a counter, and among
/// processes by a random start.
#[derive(Debug)]
pub(super) struct RequestIds {
    process: u32,
    next: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        // The only randomness at hand that needs no source of its own.
        let process = RandomState::new().hash_one(0u8) as u32;
        Self { process, next: AtomicU64::new(1) }
    }

    fn next(&self) -> HeaderValue {
        let mut text = String::with_capacity(24);
        // Writing to a String cannot fail.
        let _ =
            write!(text, "{:08x}-{:x}", self.process, self.next.fetch_add(1, Ordering::Relaxed));
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("-"))
    }
}

/// Counts a request as active for as long as somebody waits for it.
struct Active<'a> {
    events: &'a Events,
    method: &'a Method,
}

impl<'a> Active<'a> {
    fn new(events: &'a Events, method: &'a Method) -> Self {
        events.http_started(method.as_str());
        Self { events, method }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.events.http_ended(self.method.as_str());
    }
}

/// The trace that a request belongs to: our own span's, or without tracing the caller's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traced(TraceContext);

impl Traced {
    pub(super) fn of(extensions: &Extensions) -> Option<TraceContext> {
        extensions.get::<Self>().map(|traced| traced.0)
    }
}

/// Requests that are worth a span of their own. Those of workers are as many as their polls, and
/// mostly find nothing.
fn is_recorded(method: &Method, route: &str) -> bool {
    let hands_in = matches!(route, "/v1/jobs" | "/v1/jobs/batch" | "/v1/jobs/{id}/retry");
    method == Method::POST && hands_in
}

/// A request's span. It ends with the answer, or when the caller leaves.
struct Answering<'a> {
    spans: &'a Spans,
    begun: Option<Begun>,
    method: &'a Method,
    route: &'a str,
    request_id: &'a HeaderValue,
    answer: Option<(u16, Option<Code>)>,
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        let Some(begun) = &self.begun else { return };
        self.spans.request_ended(
            begun,
            &spans::Request {
                method: self.method.as_str(),
                route: self.route,
                status: self.answer.map(|(status, _)| status),
                request_id: self.request_id.to_str().unwrap_or_default(),
                problem: self.answer.and_then(|(_, code)| code).map(Code::slug),
            },
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "measures the request")]
fn now() -> Instant {
    Instant::now()
}

pub(super) async fn observe(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let began = now();
    let events = api.engine().events();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let id = headers::request_id(request.headers()).unwrap_or_else(|| api.0.request_ids.next());
    let active = Active::new(events, &method);
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    let caller = headers::traceparent(request.headers());
    let spans = api.engine().spans();
    let span = spans.request(caller, is_recorded(&method, route));
    let trace = span.map(|s| s.context).or(caller);
    if let Some(context) = trace {
        request.extensions_mut().insert(Traced(context));
    }
    let told = span.filter(|_| request.uri().path().starts_with("/v1/"));
    let mut answering =
        Answering { spans, begun: span, method: &method, route, request_id: &id, answer: None };

    let mut metered = None;
    let origins = &api.settings().cors_origins;
    let page = cors::allowed(origins, request.headers());
    let asks_first = page.is_some() && cors::is_preflight(&method, request.headers());
    let admitted = match expected(&api, &request) {
        // A browser asks before it has a token to show.
        Ok(()) if asks_first => Ok(None),
        Ok(()) => auth::admit(&api, &mut request, route, &id),
        Err(problem) => Err(problem),
    };
    let answer = match admitted {
        Ok(_) if asks_first => Ok(cors::preflight()),
        Ok(left) => {
            metered = left;
            match query::expected(&method, route, request.uri()) {
                Ok(()) => AssertUnwindSafe(next.run(request)).catch_unwind().await,
                Err(problem) => Ok(problem.into_response()),
            }
        }
        Err(problem) => Ok(problem.into_response()),
    };
    let answer = answer.unwrap_or_else(|panic| {
        let problem = Problem::new(Code::InternalError, "report this with the request id");
        problem.caused_by(words(&*panic)).into_response()
    });
    let mut response = finished(answer, &id, &method, trace.map(|context| context.trace));
    answering.answer = Some((response.status().as_u16(), response.extensions_mut().remove()));
    drop(answering);
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, id);
    if let Some(metered) = metered {
        metered.tell(headers);
    }
    cors::tell(origins, page, headers);
    if let Some(span) = told {
        tell_trace(headers, span.context);
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));

    // Only here: whoever left before was not answered.
    drop(active);
    events.http_request(method.as_str(), route, response.status().as_u16(), began.elapsed());
    response
}

/// Where the request can be found, for programs and for a browser's developer.
fn tell_trace(headers: &mut HeaderMap, context: TraceContext) {
    let text = context.to_string();
    let timing = HeaderValue::try_from(format!("trace;desc={text}"));
    if let (Ok(context), Ok(timing)) = (HeaderValue::try_from(text), timing) {
        headers.insert(TRACERESPONSE, context);
        headers.append(SERVER_TIMING, timing);
    }
}

/// Whether the request is meant for this server at all.
fn expected(api: &Api, request: &Request) -> Result<(), Problem> {
    let host = headers::host(request.version(), request.uri(), request.headers())
        .map_err(|why| Problem::new(Code::InvalidHeader, format!("Host {why}")))?;
    if pages::are_kept_out(api.settings(), api.gate()) {
        pages::check(&api.settings().cors_origins, host, request.method(), request.headers())?;
    }
    Ok(())
}

/// Writes the problem, if it is one: ours, or the router's own refusal.
fn finished(
    mut response: Response,
    id: &HeaderValue,
    method: &Method,
    trace: Option<TraceId>,
) -> Response {
    let ours = response.extensions_mut().remove::<Problem>();
    let refused = response.status().is_client_error() || response.status().is_server_error();
    let problem = match ours {
        Some(problem) => problem,
        // To a 405 the router adds Allow on the way out.
        None if refused => Problem::from_status(response.status()),
        None => return response,
    };
    let id = id.to_str().unwrap_or_default();
    report(&problem, id, trace);
    let code = problem.code();
    let mut response = problem.render(id, trace);
    response.extensions_mut().insert(code);
    if method == Method::HEAD
        && let Some(size) = response.body().size_hint().exact()
    {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
        *response.body_mut() = Body::empty();
    }
    debug_assert!(response.headers().contains_key(CONTENT_TYPE));
    response
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a handler panicked: {}", text.unwrap_or("without words"))
}

/// The log's only line about a failure inside. An outage refuses every request: it is told once
/// a second, with the number of those not told.
fn report(problem: &Problem, request_id: &str, trace: Option<TraceId>) {
    static LAST: AtomicU64 = AtomicU64::new(0);
    static UNTOLD: AtomicU64 = AtomicU64::new(0);

    let Some(cause) = problem.cause() else { return };
    let code = problem.code().slug();
    let trace_id = trace.map(tracing::field::display);
    if problem.code() == Code::InternalError {
        tracing::error!(request_id, trace_id, code, cause, "request failed");
        return;
    }
    // From 1, so that the first is always told.
    let second = began_ago().as_secs() + 1;
    if LAST.swap(second, Ordering::Relaxed) == second {
        UNTOLD.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let untold = UNTOLD.swap(0, Ordering::Relaxed);
    tracing::error!(request_id, trace_id, code, cause, untold, "request refused");
}

fn began_ago() -> Duration {
    static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGAN.get_or_init(now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_differ() {
        let ids = RequestIds::new();
        let (a, b) = (ids.next(), ids.next());
        assert!(a != b && a.to_str().unwrap().len() <= 24);
    }

    #[test]
    fn the_router_s_refusals_become_problems() {
        let mut raw = Response::default();
        *raw.status_mut() = axum::http::StatusCode::METHOD_NOT_ALLOWED;
        let id = HeaderValue::from_static("r1");
        let response = finished(raw, &id, &Method::POST, None);
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn head_has_the_length_and_no_body() {
        let problem = Problem::no_such_job().into_response();
        let response = finished(problem, &HeaderValue::from_static("r1"), &Method::HEAD, None);
        assert_eq!(response.body().size_hint().exact(), Some(0));
        assert!(response.headers()[CONTENT_LENGTH].to_str().unwrap().parse::<u32>().unwrap() > 50);
    }
}
