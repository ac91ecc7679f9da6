//! Where events become spans: the only place that makes one.
//!
//! A span is built when it has ended, from ids that we own, and handed to the exporter whole. So
//! an attempt's spans can be made by whoever ends it, after restarts and dead workers, from what
//! was kept with the lease; and where sampling says no there is nothing to make.
//!
//! Invariants:
//! - without an endpoint nothing is done, and nothing is paid;
//! - whether a trace is recorded is decided before any of its spans is made;
//! - no caller is ever held up: what the collector does not take in time is dropped, and counted;
//! - every span that was ended is exported or dropped, and counted once as such.
//!
//! It must not know: the engine, HTTP, stores, configuration files.

mod build;
mod export;
mod ids;
mod sampling;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub use build::{AttemptEnd, Published, Request, SCAN_LINKS, Scan};
pub use export::{ExportError, Target, Tls};

use crate::domain::time::Timestamp;
use crate::domain::trace::{AttemptTrace, TraceContext, TraceId};
use crate::telemetry::events::Events;

use export::Pipeline;
use ids::Ids;
use sampling::Sampler;

/// What is recorded, and how attempts relate to what submitted them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The share of traces that are recorded, from 0 to 1.
    pub sample_ratio: f64,
    /// Traces beyond that share that callers may have recorded by their own `sampled` flag.
    pub max_forced_per_second: u32,
    /// Attempts that ran for longer are recorded all the same.
    pub keep_slow: Option<Duration>,
    /// The same for attempts that failed.
    pub keep_failed: bool,
    /// Whether an attempt is a child of its submission's span, in the same trace.
    pub child: bool,
    /// Of all ids.
    pub seed: [u8; 32],
}

/// The emission point of one app instance. Clones share everything.
#[derive(Clone)]
pub struct Spans(Option<Arc<Inner>>);

struct Inner {
    settings: Settings,
    sampler: Sampler,
    ids: Ids,
    pipeline: Pipeline,
    began: Instant,
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Spans(on)" } else { "Spans(off)" })
    }
}

/// A span that has begun.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    pub context: TraceContext,
    parent: Option<TraceContext>,
    at: SystemTime,
}

/// What is known of an attempt when its lease is given.
#[derive(Debug, Clone, Copy)]
pub struct AttemptStart<'a> {
    /// The context stored with the job.
    pub creation: Option<&'a str>,
    /// Trace and span of the attempt before.
    pub previous: Option<(&'a str, &'a str)>,
    pub claim: Option<TraceContext>,
    pub eligible_since: Timestamp,
    pub verdict: Option<&'static str>,
}

impl Spans {
    /// Without an endpoint.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Starts the thread that exports. Blocks for a moment; not for asynchronous code.
    pub fn start(settings: Settings, target: &Target, events: Events) -> Result<Self, ExportError> {
        Ok(Self(Some(Arc::new(Inner {
            settings,
            sampler: Sampler::new(settings.sample_ratio, settings.max_forced_per_second),
            ids: Ids::new(settings.seed),
            pipeline: Pipeline::start(target, events)?,
            began: began(),
        }))))
    }

    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A request came in. `recorded`: its span is worth recording if its trace is.
    pub fn request(&self, caller: Option<TraceContext>, recorded: bool) -> Option<Begun> {
        let inner = self.0.as_ref()?;
        let trace = caller.map_or_else(|| inner.ids.trace(), |c| c.trace);
        let sampled = recorded && inner.samples(caller, trace);
        let context = TraceContext::new(trace, inner.ids.span(), sampled);
        Some(Begun { context, parent: caller, at: now() })
    }

    /// A request was answered, or its caller left.
    pub fn request_ended(&self, begun: &Begun, request: &Request<'_>) {
        self.emit(begun.context.sampled(), || build::request(begun, request, now()));
    }

    /// A job is about to be committed, by the request with this context.
    pub fn publish(&self, request: Option<TraceContext>) -> Option<Begun> {
        let inner = self.0.as_ref()?;
        let trace = request.map_or_else(|| inner.ids.trace(), |c| c.trace);
        let sampled = request.map_or_else(|| inner.sampler.by_ratio(trace), TraceContext::sampled);
        let context = TraceContext::new(trace, inner.ids.span(), sampled);
        Some(Begun { context, parent: request, at: now() })
    }

    /// The job was committed.
    pub fn submitted(&self, begun: &Begun, job: &Published<'_>) {
        self.emit(begun.context.sampled(), || build::publish(begun, job, now()));
    }

    /// The ids of an attempt that begins.
    pub fn attempt(&self, start: &AttemptStart<'_>) -> Option<AttemptTrace> {
        let inner = self.0.as_ref()?;
        let creation = start.creation.and_then(TraceContext::parse);
        let child = inner.settings.child && creation.is_some();
        let trace = match creation {
            Some(creation) if child => creation.trace,
            Some(_) | None => inner.ids.trace(),
        };
        // A job is recorded whole or not at all.
        let sampled = creation.map_or_else(|| inner.sampler.by_ratio(trace), TraceContext::sampled);
        Some(AttemptTrace {
            trace,
            attempt: inner.ids.span(),
            process: inner.ids.span(),
            sampled,
            child,
            creation,
            previous: start.previous.and_then(|(t, s)| build::context_of(t, s)),
            claim: start.claim,
            eligible_since: start.eligible_since,
            verdict: start.verdict.map(str::to_owned),
        })
    }

    /// An attempt ended, whoever ended it. Says whether it is recorded.
    pub fn attempt_ended(&self, end: &AttemptEnd<'_>) -> bool {
        let Some(inner) = &self.0 else { return false };
        let recorded = end.trace.sampled || inner.keeps(end);
        if recorded {
            for span in build::attempt(end) {
                inner.pipeline.emit(span);
            }
        }
        recorded
    }

    /// The moment at which something begins that [`Spans::scanned`] will tell.
    pub fn begin(&self) -> Option<SystemTime> {
        self.0.as_ref().map(|_| now())
    }

    /// The watchdog found something, or failed. Rare, and always recorded.
    pub fn scanned(&self, began: SystemTime, scan: &Scan) {
        let Some(inner) = &self.0 else { return };
        let context = TraceContext::new(inner.ids.trace(), inner.ids.span(), true);
        inner.pipeline.emit(build::scan(context, began, now(), scan));
    }

    fn emit(&self, sampled: bool, span: impl FnOnce() -> opentelemetry_sdk::trace::SpanData) {
        if let Some(inner) = self.0.as_ref().filter(|_| sampled) {
            inner.pipeline.emit(span());
        }
    }

    /// Exports what is left, for at most `patience`; what is not exported by then is dropped.
    /// Blocks; not for asynchronous code.
    pub fn shut_down(&self, patience: Duration) {
        if let Some(inner) = &self.0 {
            inner.pipeline.shut_down(patience);
        }
    }
}

impl Inner {
    fn samples(&self, caller: Option<TraceContext>, trace: TraceId) -> bool {
        match caller {
            None => self.sampler.by_ratio(trace),
            // Whoever began the trace does not record it: a part of it would explain nothing.
            Some(caller) if !caller.sampled() => false,
            Some(_) => self.sampler.of_caller(trace, self.began.elapsed()),
        }
    }

    fn keeps(&self, end: &AttemptEnd<'_>) -> bool {
        let failed = build::is_failure(end.attempt.outcome);
        let run = end.attempt.ended_at.since(end.attempt.started_at);
        (self.settings.keep_failed && failed)
            || self.settings.keep_slow.is_some_and(|least| run > least)
    }
}

#[expect(clippy::disallowed_methods, reason = "spans of requests are finer than engine time")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[expect(clippy::disallowed_methods, reason = "measures the seconds of the sampler")]
fn began() -> Instant {
    Instant::now()
}
