//! From facts to finished spans: pure.
//!
//! Names and attributes follow OpenTelemetry's conventions for HTTP and messaging; what they do
//! not foresee is under `punctual.`.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Link, SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::Begun;
use crate::domain::id::JobId;
use crate::domain::job::{Attempt, AttemptOutcome};
use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::domain::trace::{AttemptTrace, SpanId, TraceContext, TraceId};

/// The most jobs that a look of the watchdog links to.
pub const SCAN_LINKS: usize = 32;

/// What there is to say of a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub method: &'a str,
    pub route: &'a str,
    /// `None`: its caller left before it was answered.
    pub status: Option<u16>,
    pub request_id: &'a str,
    /// Of the problem that it was answered with.
    pub problem: Option<&'static str>,
}

/// A job that was committed.
#[derive(Debug, Clone, Copy)]
pub struct Published<'a> {
    pub job: JobId,
    pub queue: &'a Name,
    pub kind: &'a Name,
    pub payload_bytes: usize,
    /// Where the job was handed in that this one is a retry of.
    pub retry_of: Option<TraceContext>,
}

/// An attempt that has ended.
#[derive(Debug, Clone, Copy)]
pub struct AttemptEnd<'a> {
    pub trace: &'a AttemptTrace,
    pub job: JobId,
    pub queue: &'a Name,
    pub kind: &'a Name,
    pub attempt: &'a Attempt,
    pub max_attempts: u32,
    /// Of the job, after it.
    pub status: &'static str,
}

/// A look of the watchdog that found something, or failed.
#[derive(Debug, Clone, Default)]
pub struct Scan {
    pub stuck_jobs: u64,
    pub opened: usize,
    pub changed: usize,
    pub ended: usize,
    /// The verdicts of what opened and changed, each once.
    pub verdicts: Vec<&'static str>,
    /// Where the oldest jobs were handed in.
    pub jobs: Vec<TraceContext>,
    pub error: Option<String>,
}

pub(super) const fn is_failure(outcome: AttemptOutcome) -> bool {
    match outcome {
        AttemptOutcome::Failed | AttemptOutcome::TimedOut | AttemptOutcome::LeaseExpired => true,
        AttemptOutcome::Completed | AttemptOutcome::Released | AttemptOutcome::Cancelled => false,
    }
}

/// From the hex digits that are kept with an attempt that has ended.
pub(super) fn context_of(trace: &str, span: &str) -> Option<TraceContext> {
    Some(TraceContext::new(TraceId::parse(trace)?, SpanId::parse(span)?, true))
}

pub(super) fn request(begun: &Begun, request: &Request<'_>, end: SystemTime) -> SpanData {
    let mut attributes = vec![
        text("http.request.method", request.method.to_owned()),
        text("http.route", request.route.to_owned()),
        text("url.path", request.route.to_owned()),
        text("punctual.request.id", request.request_id.to_owned()),
    ];
    let mut status = Status::Unset;
    match request.status {
        Some(code) => {
            attributes.push(number("http.response.status_code", i64::from(code)));
            let kind = request.problem.map_or_else(|| code.to_string(), str::to_owned);
            if code >= 400 {
                attributes.push(text("error.type", kind.clone()));
            }
            // A client's mistake is no error of the server's.
            if code >= 500 {
                status = Status::error(kind);
            }
        }
        None => attributes.push(text("error.type", "client-left")),
    }
    let name = format!("{} {}", request.method, request.route);
    Draft {
        context: begun.context,
        parent: begun.parent,
        remote: true,
        kind: SpanKind::Server,
        name: name.into(),
        start: begun.at,
        end,
        attributes,
        links: Vec::new(),
        status,
    }
    .finish()
}

pub(super) fn publish(begun: &Begun, job: &Published<'_>, end: SystemTime) -> SpanData {
    let mut attributes = messaging(job.queue, job.kind, job.job, ["publish", "send"]);
    attributes.push(number("messaging.message.body.size", job.payload_bytes as i64));
    Draft {
        context: begun.context,
        parent: begun.parent,
        remote: false,
        kind: SpanKind::Producer,
        name: format!("publish {}", job.queue).into(),
        start: begun.at,
        end,
        attributes,
        links: job.retry_of.map(|to| link(to, "retry_of")).into_iter().collect(),
        status: Status::Unset,
    }
    .finish()
}

/// The attempt, its wait and the worker's part.
pub(super) fn attempt(end: &AttemptEnd<'_>) -> [SpanData; 3] {
    let AttemptEnd { trace, attempt, queue, .. } = end;
    let [began, claimed, ended] =
        [trace.eligible_since, attempt.started_at, attempt.ended_at].map(wall);
    // A clock that was set back makes no span that ends before it begins.
    let (claimed, ended) = (claimed.max(began), ended.max(claimed).max(began));
    let failure = is_failure(attempt.outcome);
    let kind = attempt.error_type.clone().unwrap_or_else(|| attempt.outcome.as_str().to_owned());
    let status = || if failure { Status::error(kind.clone()) } else { Status::Unset };
    let told = |mut attributes: Vec<KeyValue>| {
        attributes.push(number("punctual.attempt", i64::from(attempt.attempt)));
        attributes.push(number("punctual.fence", attempt.fence as i64));
        attributes.push(text("punctual.worker.id", attempt.worker.clone()));
        attributes.push(text("punctual.outcome", attempt.outcome.as_str()));
        if failure {
            attributes.push(text("error.type", kind.clone()));
        }
        attributes
    };
    let context = |span| TraceContext::new(trace.trace, span, true);
    let whole = context(trace.attempt);
    let creation = trace.creation.filter(|_| !trace.child);
    let links =
        [(creation, "creation"), (trace.previous, "previous_attempt"), (trace.claim, "claim")];
    let links = links.into_iter().filter_map(|(to, what)| to.map(|to| link(to, what)));

    let mut attributes = told(job_attributes(end.queue, end.kind, end.job));
    attributes.push(number("punctual.max_attempts", i64::from(end.max_attempts)));
    attributes.push(text("punctual.job.status", end.status));
    let first = Draft {
        context: whole,
        parent: trace.creation.filter(|_| trace.child),
        remote: true,
        kind: SpanKind::Internal,
        name: format!("attempt {queue}").into(),
        start: began,
        end: ended,
        attributes,
        links: links.collect(),
        status: status(),
    };
    let mut attributes = job_attributes(end.queue, end.kind, end.job);
    attributes.extend(trace.verdict.clone().map(|verdict| text("punctual.verdict", verdict)));
    let wait = Draft {
        context: context(wait_span(trace)),
        parent: Some(whole),
        remote: false,
        kind: SpanKind::Internal,
        name: format!("wait {queue}").into(),
        start: began,
        end: claimed,
        attributes,
        links: Vec::new(),
        status: Status::Unset,
    };
    let mut attributes = told(messaging(end.queue, end.kind, end.job, ["process", "process"]));
    attributes.push(text("messaging.client.id", attempt.worker.clone()));
    let process = Draft {
        context: context(trace.process),
        parent: Some(whole),
        remote: false,
        kind: SpanKind::Consumer,
        name: format!("process {queue}").into(),
        start: claimed,
        end: ended,
        attributes,
        links: creation.map(|to| link(to, "creation")).into_iter().collect(),
        status: status(),
    };
    [first, wait, process].map(Draft::finish)
}

/// Nobody refers to it before it ends, so it needs no place in the store: it follows from the
/// others, and whoever makes the spans makes the same.
fn wait_span(trace: &AttemptTrace) -> SpanId {
    let mut bytes = trace.attempt.bytes();
    for (byte, other) in bytes.iter_mut().zip(trace.process.bytes()) {
        *byte ^= other;
    }
    SpanId::new(bytes).unwrap_or(trace.process)
}

pub(super) fn scan(
    context: TraceContext,
    start: SystemTime,
    end: SystemTime,
    scan: &Scan,
) -> SpanData {
    let mut attributes = vec![
        number("punctual.stuck_jobs", scan.stuck_jobs as i64),
        number("punctual.episodes.opened", scan.opened as i64),
        number("punctual.episodes.changed", scan.changed as i64),
        number("punctual.episodes.ended", scan.ended as i64),
    ];
    if !scan.verdicts.is_empty() {
        let verdicts = scan.verdicts.iter().map(|v| (*v).into()).collect();
        let verdicts = Value::Array(opentelemetry::Array::String(verdicts));
        attributes.push(KeyValue::new("punctual.verdicts", verdicts));
    }
    if scan.error.is_some() {
        attributes.push(text("error.type", "scan-failed"));
    }
    Draft {
        context,
        parent: None,
        remote: false,
        kind: SpanKind::Internal,
        name: "watchdog scan".into(),
        start,
        end,
        attributes,
        links: scan.jobs.iter().take(SCAN_LINKS).map(|to| link(*to, "creation")).collect(),
        status: scan.error.clone().map_or(Status::Unset, Status::error),
    }
    .finish()
}

fn messaging(queue: &Name, kind: &Name, job: JobId, operation: [&'static str; 2]) -> Vec<KeyValue> {
    let [name, operation] = operation;
    let mut attributes = vec![
        text("messaging.system", "punctual"),
        text("messaging.operation.name", name),
        text("messaging.operation.type", operation),
        text("messaging.destination.name", queue.to_string()),
        text("messaging.message.id", job.to_string()),
    ];
    attributes.extend(job_attributes(queue, kind, job));
    attributes
}

fn job_attributes(queue: &Name, kind: &Name, job: JobId) -> Vec<KeyValue> {
    vec![
        text("punctual.job.id", job.to_string()),
        text("punctual.job.kind", kind.to_string()),
        text("punctual.queue", queue.to_string()),
    ]
}

fn text(key: &'static str, value: impl Into<Cow<'static, str>>) -> KeyValue {
    let value: Value = match value.into() {
        Cow::Borrowed(text) => text.into(),
        Cow::Owned(text) => text.into(),
    };
    KeyValue::new(key, value)
}

fn number(key: &'static str, value: i64) -> KeyValue {
    KeyValue::new(key, value)
}

fn link(to: TraceContext, what: &'static str) -> Link {
    Link::new(outside(to, true), vec![text("punctual.link", what)], 0)
}

fn wall(at: Timestamp) -> SystemTime {
    let ms = Duration::from_millis(at.as_millis().unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let moment = if at.as_millis() < 0 { epoch.checked_sub(ms) } else { epoch.checked_add(ms) };
    moment.unwrap_or(epoch)
}

fn outside(context: TraceContext, remote: bool) -> SpanContext {
    let flags = if context.sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    SpanContext::new(
        opentelemetry::TraceId::from_bytes(context.trace.bytes()),
        opentelemetry::SpanId::from_bytes(context.span.bytes()),
        flags,
        remote,
        TraceState::NONE,
    )
}

struct Draft {
    context: TraceContext,
    parent: Option<TraceContext>,
    /// Whether the parent is in another process.
    remote: bool,
    kind: SpanKind,
    name: Cow<'static, str>,
    start: SystemTime,
    end: SystemTime,
    attributes: Vec<KeyValue>,
    links: Vec<Link>,
    status: Status,
}

impl Draft {
    fn finish(self) -> SpanData {
        let parent = self.parent.map(|p| opentelemetry::SpanId::from_bytes(p.span.bytes()));
        let mut links = SpanLinks::default();
        links.links = self.links;
        SpanData {
            span_context: outside(self.context, false),
            parent_span_id: parent.unwrap_or(opentelemetry::SpanId::INVALID),
            parent_span_is_remote: parent.is_some() && self.remote,
            span_kind: self.kind,
            name: self.name,
            start_time: self.start,
            end_time: self.end,
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: self.status,
            instrumentation_scope: scope(),
        }
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("punctual").with_version(env!("CARGO_PKG_VERSION")).build()
}
