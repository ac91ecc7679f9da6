//! What becomes spans: the facts, from the engine's terms to those of telemetry.

use std::sync::Arc;
use std::time::SystemTime;

use crate::domain::id::JobId;
use crate::domain::job::RawJson;
use crate::domain::names::Name;
use crate::domain::trace::{AttemptTrace, TraceContext};
use crate::domain::watch::{Turn, Verdict};
use crate::store::{Episode, Found, NewJob, Stamp, Transition};
use crate::telemetry::exemplars::Example;
use crate::telemetry::spans::{AttemptEnd, AttemptStart, Begun, Published, SCAN_LINKS, Scan};

use super::Engine;

/// Where a metric's exemplar leads.
pub(super) const fn example(trace: &AttemptTrace) -> Example {
    Example { trace: trace.trace, span: trace.attempt }
}

/// A span that begins before the commit of a job, and what is said of it after.
#[derive(Debug, Clone)]
pub(super) struct Publishing {
    begun: Begun,
    job: JobId,
    queue: Name,
    kind: Name,
    payload_bytes: usize,
    /// Where the job was handed in that this one is a retry of.
    retry_of: Option<TraceContext>,
}

impl Publishing {
    pub(super) fn retrying(self, source: Option<&str>) -> Self {
        Self { retry_of: source.and_then(TraceContext::parse), ..self }
    }
}

impl Engine {
    /// Begins the job's own span, and makes it the context that is stored with the job. Without
    /// tracing the caller's is.
    pub(super) fn publishing(
        &self,
        request: Option<TraceContext>,
        new: &mut NewJob,
    ) -> Option<Publishing> {
        if new.spec.queue.is_reserved() {
            return None;
        }
        let begun = self.0.spans.publish(request);
        let stored = begun.map(|b| b.context).or(request);
        new.spec.traceparent = stored.map(|context| context.to_string());
        let begun = begun.filter(|b| b.context.sampled())?;
        Some(Publishing {
            begun,
            job: new.spec.id,
            queue: new.spec.queue.clone(),
            kind: new.spec.kind.clone(),
            payload_bytes: new.spec.payload.as_ref().map_or(0, RawJson::len),
            retry_of: None,
        })
    }

    /// The job was committed.
    pub(super) fn published(&self, publishing: Option<&Publishing>) {
        let Some(Publishing { begun, job, queue, kind, payload_bytes, retry_of }) = publishing
        else {
            return;
        };
        let (payload_bytes, retry_of) = (*payload_bytes, *retry_of);
        let published = Published { job: *job, queue, kind, payload_bytes, retry_of };
        self.0.spans.submitted(begun, &published);
    }

    /// Gives the attempts of a claim their ids, within its commit.
    pub(super) fn stamp(&self, claim: Option<TraceContext>) -> Option<Stamp> {
        if !self.0.spans.is_on() {
            return None;
        }
        // Weak: the store must not be what keeps the engine, and so itself.
        let inner = Arc::downgrade(&self.0);
        Some(Stamp::new(move |spec, job, eligible_since| {
            if spec.queue.is_reserved() {
                return None;
            }
            let engine = Engine(inner.upgrade()?);
            let last = job.history.last();
            let previous = last.and_then(|a| a.trace_id.as_deref().zip(a.span_id.as_deref()));
            let threshold = engine.stuck_after(&spec.queue);
            let waited = engine.now().since(eligible_since);
            let verdict = threshold
                .filter(|threshold| waited >= *threshold)
                .and_then(|_| engine.0.watchdog.verdict(&spec.queue, &spec.kind));
            engine.0.spans.attempt(&AttemptStart {
                creation: spec.traceparent.as_deref(),
                previous,
                claim,
                eligible_since,
                verdict: verdict.map(Verdict::as_str),
            })
        }))
    }

    /// The attempt's span, if it is recorded.
    pub(super) fn trace_attempt(&self, t: &Transition) -> Option<Example> {
        let (trace, attempt) = (t.trace.as_ref()?, t.job.history.last()?);
        let recorded = self.0.spans.attempt_ended(&AttemptEnd {
            trace,
            job: t.id,
            queue: &t.queue,
            kind: &t.kind,
            attempt,
            max_attempts: t.job.max_attempts,
            status: t.job.status().as_str(),
        });
        recorded.then(|| example(trace))
    }

    /// A look of the watchdog ended: it is told if it found something, or failed.
    pub(super) async fn trace_scan(
        &self,
        began: Option<SystemTime>,
        told: &[(Turn, Episode)],
        stuck_jobs: u64,
        error: Option<&String>,
    ) {
        let Some(began) = began.filter(|_| !told.is_empty() || error.is_some()) else { return };
        let mut scan = Scan { stuck_jobs, error: error.cloned(), ..Scan::default() };
        for (turn, _) in told {
            let verdict = match turn {
                Turn::Open(verdict) => {
                    scan.opened += 1;
                    *verdict
                }
                Turn::Change { to, .. } => {
                    scan.changed += 1;
                    *to
                }
                Turn::End(_) => {
                    scan.ended += 1;
                    continue;
                }
                Turn::Calm | Turn::Suspect | Turn::Stay(_) => continue,
            };
            if !scan.verdicts.contains(&verdict.as_str()) {
                scan.verdicts.push(verdict.as_str());
            }
        }
        let oldest = told.iter().flat_map(|(_, episode)| &episode.oldest_jobs);
        for id in oldest.take(SCAN_LINKS) {
            let Ok(Found::Here(record)) = self.0.store.get(*id, false).await else { continue };
            let creation = record.spec.traceparent.as_deref().and_then(TraceContext::parse);
            scan.jobs.extend(creation);
        }
        self.0.spans.scanned(began, &scan);
    }
}
