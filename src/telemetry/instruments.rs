//! The catalogue's declarations as live instruments, each resolved to its handle once.
//!
//! A lookup by label values hashes strings under a lock, which is too slow for every event; so
//! everything closed is an array indexed by its enum, and a queue's instruments are resolved
//! together when the queue is first seen.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use super::catalogue::{self as c, Kind, Metric};
use super::exemplars::{Exemplars, TracedCounter, TracedHistogram};
use super::labels::{
    self, AuthRefusal, ClaimOutcome, Direction, ErrorClass, Finished, HeartbeatOutcome, LateReason,
    Method, Operation, Run, SpanExport, SpanLoss, Submission, Task, TaskOutcome, Timing,
};
use crate::domain::job::AttemptOutcome;
use crate::domain::lease::TakeBackCause;
use crate::domain::watch::Verdict;

const VALID: &str = "the catalogue's declarations are valid, and registered once";
const KNOWN: &str = "as many label values as the metric has labels";

/// A family of counters with the declaration that it follows.
#[derive(Debug, Clone)]
struct Counters {
    metric: &'static Metric,
    vec: IntCounterVec,
}

#[derive(Debug, Clone)]
struct Histograms {
    metric: &'static Metric,
    vec: HistogramVec,
}

fn opts(metric: &Metric) -> Opts {
    Opts::new(metric.name, metric.help)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, family: &C) {
    registry.register(Box::new(family.clone())).expect(VALID);
}

fn counters(registry: &Registry, metric: &'static Metric) -> Counters {
    assert!(metric.kind == Kind::Counter, "{} is no counter", metric.name);
    let vec = IntCounterVec::new(opts(metric), &metric.label_names()).expect(VALID);
    register(registry, &vec);
    Counters { metric, vec }
}

fn histograms(registry: &Registry, metric: &'static Metric) -> Histograms {
    let Kind::Histogram(bounds) = metric.kind else { panic!("{} is no histogram", metric.name) };
    let opts = HistogramOpts::from(opts(metric)).buckets(bounds.to_vec());
    let vec = HistogramVec::new(opts, &metric.label_names()).expect(VALID);
    register(registry, &vec);
    Histograms { metric, vec }
}

fn gauges(registry: &Registry, metric: &'static Metric) -> GaugeVec {
    assert!(metric.kind == Kind::Gauge, "{} is no gauge", metric.name);
    let vec = GaugeVec::new(opts(metric), &metric.label_names()).expect(VALID);
    register(registry, &vec);
    vec
}

fn int_gauges(registry: &Registry, metric: &'static Metric) -> IntGaugeVec {
    assert!(metric.kind == Kind::Gauge, "{} is no gauge", metric.name);
    let vec = IntGaugeVec::new(opts(metric), &metric.label_names()).expect(VALID);
    register(registry, &vec);
    vec
}

impl Counters {
    fn one(&self, values: &[&str]) -> IntCounter {
        self.vec.get_metric_with_label_values(values).expect(KNOWN)
    }

    fn traced(&self, values: &[&str], exemplars: &Exemplars) -> TracedCounter {
        TracedCounter { counter: self.one(values), exemplars: exemplars.of(self.metric, values) }
    }

    /// One for each of the last label's values, behind those in `first`.
    fn each<const N: usize>(&self, first: &[&str], values: &[&'static str; N]) -> [IntCounter; N] {
        values.map(|value| self.one(&[first, &[value]].concat()))
    }

    fn forget(&self, name: &str) {
        for values in self.metric.combinations(name) {
            // Absent is as good as removed.
            let _ = self.vec.remove_label_values(&values);
        }
    }
}

impl Histograms {
    fn one(&self, values: &[&str]) -> Histogram {
        self.vec.get_metric_with_label_values(values).expect(KNOWN)
    }

    fn traced(&self, values: &[&str], exemplars: &Exemplars) -> TracedHistogram {
        TracedHistogram {
            histogram: self.one(values),
            exemplars: exemplars.of(self.metric, values),
        }
    }

    fn each<const N: usize>(&self, first: &[&str], values: &[&'static str; N]) -> [Histogram; N] {
        values.map(|value| self.one(&[first, &[value]].concat()))
    }

    fn forget(&self, name: &str) {
        for values in self.metric.combinations(name) {
            let _ = self.vec.remove_label_values(&values);
        }
    }
}

/// The families whose series are kept for each queue.
#[derive(Debug)]
pub(super) struct QueueFamilies {
    submissions: Counters,
    claims: Counters,
    started: Counters,
    heartbeats: Counters,
    taken_back: Counters,
    late_reports: Counters,
    attempts: Counters,
    retries: Counters,
    finished: Counters,
    stuck_detected: Counters,
    wait: Histograms,
    run: Histograms,
    end_to_end: Histograms,
    exemplars: Arc<Exemplars>,
}

impl QueueFamilies {
    pub(super) fn new(registry: &Registry, exemplars: Arc<Exemplars>) -> Self {
        Self {
            exemplars,
            submissions: counters(registry, &c::SUBMISSIONS),
            claims: counters(registry, &c::CLAIMS),
            started: counters(registry, &c::STARTED),
            heartbeats: counters(registry, &c::HEARTBEATS),
            taken_back: counters(registry, &c::TAKEN_BACK),
            late_reports: counters(registry, &c::LATE_REPORTS),
            attempts: counters(registry, &c::ATTEMPTS),
            retries: counters(registry, &c::RETRIES),
            finished: counters(registry, &c::FINISHED),
            stuck_detected: counters(registry, &c::STUCK_DETECTED),
            wait: histograms(registry, &c::WAIT),
            run: histograms(registry, &c::RUN),
            end_to_end: histograms(registry, &c::END_TO_END),
        }
    }

    /// Makes (or finds) every series of a queue, at zero when new.
    pub(super) fn resolve(&self, queue: &str) -> QueueInstruments {
        let q = &[queue];
        QueueInstruments {
            submissions: self.submissions.each(q, &Submission::VALUES),
            claims: self.claims.each(q, &ClaimOutcome::VALUES),
            started: self.started.one(q),
            heartbeats: self.heartbeats.each(q, &HeartbeatOutcome::VALUES),
            taken_back: self.taken_back.each(q, &labels::TAKE_BACK_CAUSES),
            late_reports: self.late_reports.each(q, &LateReason::VALUES),
            attempts: labels::ATTEMPT_OUTCOMES
                .map(|outcome| self.attempts.traced(&[queue, outcome], &self.exemplars)),
            retries: self.retries.one(q),
            finished: self.finished.each(q, &Finished::VALUES),
            stuck_detected: self.stuck_detected.each(q, &labels::VERDICTS),
            wait: self.wait.traced(q, &self.exemplars),
            run: Run::VALUES.map(|outcome| self.run.traced(&[queue, outcome], &self.exemplars)),
            end_to_end: Finished::VALUES
                .map(|status| self.end_to_end.traced(&[queue, status], &self.exemplars)),
        }
    }

    /// The series of requests that were refused before their queue was known.
    pub(super) fn resolve_none(&self) -> NoQueueInstruments {
        let q = &[labels::NONE];
        NoQueueInstruments {
            submissions: self.submissions.each(q, &Submission::VALUES),
            late_reports: self.late_reports.each(q, &LateReason::VALUES),
        }
    }

    /// Removes a queue's series.
    pub(super) fn forget(&self, queue: &str) {
        let counters = [
            &self.submissions,
            &self.claims,
            &self.started,
            &self.heartbeats,
            &self.taken_back,
            &self.late_reports,
            &self.attempts,
            &self.retries,
            &self.finished,
            &self.stuck_detected,
        ];
        for family in counters {
            family.forget(queue);
        }
        for family in [&self.wait, &self.run, &self.end_to_end] {
            family.forget(queue);
        }
        for metric in c::WITH_EXEMPLARS {
            for values in metric.combinations(queue) {
                self.exemplars.forget(metric, &values);
            }
        }
    }
}

/// Everything that counts for one queue; arrays are in the order of their label's values.
#[derive(Debug)]
pub(super) struct QueueInstruments {
    pub(super) submissions: [IntCounter; Submission::ALL.len()],
    pub(super) claims: [IntCounter; ClaimOutcome::ALL.len()],
    pub(super) started: IntCounter,
    pub(super) heartbeats: [IntCounter; HeartbeatOutcome::ALL.len()],
    pub(super) taken_back: [IntCounter; TakeBackCause::ALL.len()],
    pub(super) late_reports: [IntCounter; LateReason::ALL.len()],
    pub(super) attempts: [TracedCounter; AttemptOutcome::ALL.len()],
    pub(super) retries: IntCounter,
    pub(super) finished: [IntCounter; Finished::ALL.len()],
    pub(super) stuck_detected: [IntCounter; Verdict::ALL.len()],
    pub(super) wait: TracedHistogram,
    pub(super) run: [TracedHistogram; Run::ALL.len()],
    pub(super) end_to_end: [TracedHistogram; Finished::ALL.len()],
}

#[derive(Debug)]
pub(super) struct NoQueueInstruments {
    pub(super) submissions: [IntCounter; Submission::ALL.len()],
    pub(super) late_reports: [IntCounter; LateReason::ALL.len()],
}

/// The family whose series are kept for each kind of job.
#[derive(Debug)]
pub(super) struct KindFamily(Counters);

/// Attempts ended, by [`AttemptOutcome`].
pub(super) type KindInstruments = [IntCounter; AttemptOutcome::ALL.len()];

impl KindFamily {
    pub(super) fn new(registry: &Registry) -> Self {
        Self(counters(registry, &c::ATTEMPTS_BY_KIND))
    }

    pub(super) fn resolve(&self, kind: &str) -> KindInstruments {
        self.0.each(&[kind], &labels::ATTEMPT_OUTCOMES)
    }

    pub(super) fn forget(&self, kind: &str) {
        self.0.forget(kind);
    }
}

/// The family whose series are kept for each class of attempts' errors.
#[derive(Debug)]
pub(super) struct ErrorFamily(Counters);

impl ErrorFamily {
    pub(super) fn new(registry: &Registry) -> Self {
        Self(counters(registry, &c::ATTEMPT_ERRORS))
    }

    pub(super) fn resolve(&self, class: &str) -> IntCounter {
        self.0.one(&[class])
    }

    pub(super) fn forget(&self, class: &str) {
        self.0.forget(class);
    }
}

/// Series of which an objective takes a ratio exist before the first request, with the answers
/// that the ratio needs; others begin with their first request.
const FORESEEN: [(Method, &str, &[u16]); 4] = [
    (Method::Post, "/v1/jobs", &[200, 202, 500, 503]),
    (Method::Get, "/v1/jobs/{id}", &[200, 500, 503]),
    (Method::Post, "/v1/claims", &[200, 500, 503]),
    (Method::Post, "/v1/settlements", &[200, 500, 503]),
];

/// Requests by method, route and status: too many combinations to make beforehand, few in use.
#[derive(Debug)]
pub(super) struct Http {
    durations: Histograms,
    known: RwLock<HashMap<(Method, &'static str, u16), Histogram>>,
    pub(super) active: [IntGauge; Method::ALL.len()],
}

impl Http {
    fn new(registry: &Registry) -> Self {
        let active = int_gauges(registry, &c::HTTP_ACTIVE);
        let http = Self {
            durations: histograms(registry, &c::HTTP_DURATION),
            known: RwLock::default(),
            active: Method::VALUES
                .map(|method| active.get_metric_with_label_values(&[method]).expect(KNOWN)),
        };
        for (method, route, statuses) in FORESEEN {
            for status in statuses {
                http.with_duration(method, route, *status, |_| ());
            }
        }
        http
    }

    pub(super) fn with_duration(
        &self,
        method: Method,
        route: &'static str,
        status: u16,
        use_it: impl FnOnce(&Histogram),
    ) {
        // Beyond what HTTP has (RFC 9110, section 15) only a defect could ask for.
        let status = status.clamp(100, 599);
        let key = (method, route, status);
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(histogram) = known.get(&key) {
                return use_it(histogram);
            }
        }
        let status = status.to_string();
        let histogram = self.durations.one(&[method.as_str(), route, &status]);
        use_it(&histogram);
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(key, histogram);
    }
}

/// One maintenance task's instruments.
#[derive(Debug)]
pub(super) struct TaskInstruments {
    pub(super) runs: [IntCounter; TaskOutcome::ALL.len()],
    pub(super) duration: Histogram,
    pub(super) restarts: IntCounter,
}

/// What counts for the process as a whole.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) http: Http,
    pub(super) auth_refusals: [IntCounter; AuthRefusal::ALL.len()],
    pub(super) payload: Histogram,
    pub(super) lost: IntCounter,
    pub(super) expired: IntCounter,
    pub(super) sample_timestamp: Gauge,
    pub(super) sample_duration: Histogram,
    pub(super) sample_errors: IntCounter,
    pub(super) tasks: [TaskInstruments; Task::ALL.len()],
    task_success: GaugeVec,
    task_interval: GaugeVec,
    canary_success: GaugeVec,
    pub(super) canary_duration: Histogram,
    pub(super) canary_failures: IntCounter,
    pub(super) retry_after_offset: [Histogram; Direction::ALL.len()],
    pub(super) status_polls: [IntCounter; Timing::ALL.len()],
    pub(super) config_info: IntGaugeVec,
    pub(super) config_reloaded: IntGauge,
    pub(super) config_timestamp: Gauge,
    pub(super) leader: IntGauge,
    pub(super) clock_skew: Gauge,
    pub(super) scheduling_delay: Histogram,
    pub(super) store_degraded: IntGauge,
    pub(super) store_durations: [Histogram; Operation::ALL.len()],
    pub(super) store_errors: [[IntCounter; ErrorClass::ALL.len()]; Operation::ALL.len()],
    pub(super) commit_batch: Histogram,
    pub(super) spans_ended: IntCounter,
    pub(super) spans_exported: [IntCounter; SpanExport::ALL.len()],
    pub(super) spans_dropped: [IntCounter; SpanLoss::ALL.len()],
    pub(super) overflow: [IntCounter; labels::CappedLabel::ALL.len()],
}

impl Process {
    /// `build` is what is running: revision, store and version.
    pub(super) fn new(registry: &Registry, build: [&str; 3], config_hash: &str) -> Self {
        let runs = counters(registry, &c::TASK_RUNS);
        let durations = histograms(registry, &c::TASK_DURATION);
        let restarts = counters(registry, &c::TASK_RESTARTS);
        let store_durations = histograms(registry, &c::STORE_DURATION);
        let store_errors = counters(registry, &c::STORE_ERRORS);
        let build_info = int_gauges(registry, &c::BUILD_INFO);
        build_info.get_metric_with_label_values(&build).expect(KNOWN).set(1);
        let config_info = int_gauges(registry, &c::CONFIG_INFO);
        config_info.get_metric_with_label_values(&[config_hash]).expect(KNOWN).set(1);
        #[cfg(target_os = "linux")]
        register_process(registry);
        Self {
            http: Http::new(registry),
            auth_refusals: counters(registry, &c::AUTH_REFUSALS).each(&[], &AuthRefusal::VALUES),
            payload: histograms(registry, &c::PAYLOAD).one(&[]),
            lost: counters(registry, &c::LOST).one(&[]),
            expired: counters(registry, &c::EXPIRED).one(&[]),
            sample_timestamp: gauges(registry, &c::SAMPLE_TIMESTAMP).with_label_values::<&str>(&[]),
            sample_duration: histograms(registry, &c::SAMPLE_DURATION).one(&[]),
            sample_errors: counters(registry, &c::SAMPLE_ERRORS).one(&[]),
            tasks: Task::VALUES.map(|task| TaskInstruments {
                runs: runs.each(&[task], &TaskOutcome::VALUES),
                duration: durations.one(&[task]),
                restarts: restarts.one(&[task]),
            }),
            task_success: gauges(registry, &c::TASK_SUCCESS),
            task_interval: gauges(registry, &c::TASK_INTERVAL),
            canary_success: gauges(registry, &c::CANARY_SUCCESS),
            canary_duration: histograms(registry, &c::CANARY_DURATION).one(&[]),
            canary_failures: counters(registry, &c::CANARY_FAILURES).one(&[]),
            retry_after_offset: histograms(registry, &c::RETRY_AFTER_OFFSET)
                .each(&[], &Direction::VALUES),
            status_polls: counters(registry, &c::STATUS_POLLS).each(&[], &Timing::VALUES),
            config_info,
            config_reloaded: int_gauges(registry, &c::CONFIG_RELOADED)
                .with_label_values::<&str>(&[]),
            config_timestamp: gauges(registry, &c::CONFIG_TIMESTAMP).with_label_values::<&str>(&[]),
            leader: int_gauges(registry, &c::LEADER).with_label_values::<&str>(&[]),
            clock_skew: gauges(registry, &c::CLOCK_SKEW).with_label_values::<&str>(&[]),
            scheduling_delay: histograms(registry, &c::SCHEDULING_DELAY).one(&[]),
            store_degraded: int_gauges(registry, &c::STORE_DEGRADED)
                .get_metric_with_label_values::<&str>(&[])
                .expect(KNOWN),
            store_durations: Operation::VALUES.map(|operation| store_durations.one(&[operation])),
            store_errors: Operation::VALUES
                .map(|operation| store_errors.each(&[operation], &ErrorClass::VALUES)),
            commit_batch: histograms(registry, &c::COMMIT_BATCH).one(&[]),
            spans_ended: counters(registry, &c::SPANS_ENDED).one(&[]),
            spans_exported: counters(registry, &c::SPANS_EXPORTED).each(&[], &SpanExport::VALUES),
            spans_dropped: counters(registry, &c::SPANS_DROPPED).each(&[], &SpanLoss::VALUES),
            overflow: counters(registry, &c::LABEL_OVERFLOW)
                .each(&[], &labels::CappedLabel::VALUES),
        }
    }

    /// The moment of the task's latest success; the series begins when this is first asked for.
    pub(super) fn task_success(&self, task: Task) -> Gauge {
        self.task_success.get_metric_with_label_values(&[task.as_str()]).expect(KNOWN)
    }

    /// Likewise for the canary.
    pub(super) fn canary_success(&self) -> Gauge {
        self.canary_success.with_label_values::<&str>(&[])
    }

    pub(super) fn task_interval(&self, task: Task) -> Gauge {
        self.task_interval.get_metric_with_label_values(&[task.as_str()]).expect(KNOWN)
    }
}

#[cfg(target_os = "linux")]
fn register_process(registry: &Registry) {
    registry.register(Box::new(super::process::Process::of_self())).expect(VALID);
}
