//! Where events become numbers: the only place that emits a metric.
//!
//! Every method is cheap enough for the hot path: closed label values index arrays of handles,
//! and a queue's handles are found with one read lock and one lookup.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounter, Registry};

pub use super::labels::{ClaimOutcome, HeartbeatOutcome, Operation, Submission, TaskOutcome};
pub use super::sample::{QueueSnapshot, Snapshot};

use super::exemplars::{Example, Exemplars};
use super::exposition::{self, Format};
use super::instruments::{
    ErrorFamily, KindFamily, KindInstruments, NoQueueInstruments, Process, QueueFamilies,
    QueueInstruments,
};
use super::labels::{
    self, AuthRefusal, CappedLabel, Direction, ErrorClass, Finished, LateReason, Method, Run,
    SpanExport, SpanLoss, Task, Timing,
};
use super::logging;
use super::sample::{Latest, Monotonic, Row};
use super::slots::Slots;
use crate::domain::job::{AttemptOutcome, Status};
use crate::domain::lease::TakeBackCause;
use crate::domain::names::Name;
use crate::domain::state::Rejected;
use crate::domain::time::Timestamp;
use crate::domain::watch::Verdict;

/// What the metrics of one app instance need to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many queues have a label of their own; the rest are `_other`.
    pub queues: usize,
    /// The same for kinds.
    pub kinds: usize,
    /// Always have their label, and their series from the start.
    pub declared_queues: Vec<Name>,
    pub version: &'static str,
    /// What was built, as version control names it.
    pub revision: &'static str,
    /// The kind of store, such as `sqlite`.
    pub store: &'static str,
    pub config_hash: String,
    /// Three times this without a sample, and the store's facts are withheld.
    pub sampler_period: Duration,
    /// Free disk space below which submissions are refused; 0 when they never are for that.
    pub min_free_bytes: u64,
    /// Nothing of what happens is counted: for measuring what counting costs.
    pub muted: bool,
}

/// How many classes of attempts' errors have a label of their own. They come from workers, who
/// may have put what varies into them.
const ERROR_CLASSES: usize = 100;

/// The emission point of one app instance. Clones share everything.
#[derive(Clone)]
pub struct Events(Arc<Inner>);

struct Inner {
    registry: Registry,
    process: Process,
    families: QueueFamilies,
    queues: Slots<QueueInstruments>,
    no_queue: NoQueueInstruments,
    by_kind: KindFamily,
    kinds: Slots<KindInstruments>,
    by_error: ErrorFamily,
    errors: Slots<IntCounter>,
    latest: Latest,
    exemplars: Arc<Exemplars>,
    muted: bool,
    monotonic: Monotonic,
    /// Unix time in seconds.
    started_at: f64,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("latest", &self.0.latest).finish_non_exhaustive()
    }
}

impl Events {
    pub fn new(settings: Settings) -> Self {
        Self::with_monotonic(settings, since_now())
    }

    #[expect(clippy::needless_pass_by_value, reason = "consumed by intent: made for one instance")]
    fn with_monotonic(settings: Settings, monotonic: Monotonic) -> Self {
        let registry = Registry::new();
        let build = [settings.revision, settings.store, settings.version];
        let process = Process::new(&registry, build, &settings.config_hash);
        let overflow = |label: CappedLabel| process.overflow[label as usize].clone();
        let exemplars = Arc::new(Exemplars::default());
        let families = QueueFamilies::new(&registry, Arc::clone(&exemplars));
        let declared = settings.declared_queues.iter().map(Name::as_str);
        let queues = Slots::new(settings.queues, declared, overflow(CappedLabel::Queue), |queue| {
            families.resolve(queue)
        });
        let by_kind = KindFamily::new(&registry);
        let kinds = Slots::new(settings.kinds, [], overflow(CappedLabel::Kind), |kind| {
            by_kind.resolve(kind)
        });
        let by_error = ErrorFamily::new(&registry);
        // Those that the server itself gives.
        let ours = TakeBackCause::ALL.map(TakeBackCause::error_type);
        let errors = Slots::new(ERROR_CLASSES, ours, overflow(CappedLabel::ErrorClass), |class| {
            by_error.resolve(class)
        });
        let latest =
            Latest::new(settings.sampler_period, settings.min_free_bytes, Arc::clone(&monotonic));
        registry.register(Box::new(latest.clone())).expect("registered once");
        registry.register(Box::new(logging::emitted())).expect("registered once");
        let started_at = unix_now();
        process.sample_timestamp.set(started_at);
        process.config_reloaded.set(1);
        process.config_timestamp.set(started_at);
        Self(Arc::new(Inner {
            no_queue: families.resolve_none(),
            registry,
            process,
            families,
            queues,
            by_kind,
            kinds,
            by_error,
            errors,
            latest,
            exemplars,
            muted: settings.muted,
            monotonic,
            started_at,
        }))
    }

    /// The server's own queues count nowhere.
    fn counts(&self, queue: &Name) -> bool {
        !self.0.muted && !queue.is_reserved()
    }

    fn queue(&self, queue: &Name, use_it: impl FnOnce(&QueueInstruments)) {
        if self.counts(queue) {
            self.0.queues.with(queue.as_str(), |label| self.0.families.resolve(label), use_it);
        }
    }

    /// A submission's outcome; exactly once for each. `None` when it was refused before its
    /// queue was known.
    pub fn submission(&self, queue: Option<&Name>, outcome: Submission) {
        match queue {
            Some(queue) => self.queue(queue, |q| q.submissions[outcome as usize].inc()),
            None => self.0.no_queue.submissions[outcome as usize].inc(),
        }
    }

    /// A request was not let in.
    pub fn auth_refused(&self, reason: AuthRefusal) {
        self.0.process.auth_refusals[reason as usize].inc();
    }

    /// The size of an accepted payload.
    pub fn payload(&self, bytes: usize) {
        if !self.0.muted {
            self.0.process.payload.observe(bytes as f64);
        }
    }

    /// A claim's outcome, once for each queue that it names.
    pub fn claim_request(&self, queue: &Name, outcome: ClaimOutcome) {
        self.queue(queue, |q| q.claims[outcome as usize].inc());
    }

    /// A lease was given, `wait` after the job became eligible.
    pub fn attempt_started(
        &self,
        queue: &Name,
        kind: &Name,
        wait: Duration,
        example: Option<Example>,
    ) {
        if !self.counts(queue) {
            return;
        }
        // What is counted when it ends must be there before.
        self.0.kinds.admit(kind.as_str(), |label| self.0.by_kind.resolve(label));
        self.queue(queue, |q| {
            q.started.inc();
            q.wait.observe(wait.as_secs_f64(), example);
        });
    }

    pub fn heartbeat(&self, queue: &Name, outcome: HeartbeatOutcome) {
        self.queue(queue, |q| q.heartbeats[outcome as usize].inc());
    }

    /// An attempt ended, `run` after its claim.
    pub fn attempt_finished(
        &self,
        queue: &Name,
        kind: &Name,
        outcome: AttemptOutcome,
        run: Duration,
        example: Option<Example>,
    ) {
        if !self.counts(queue) {
            return;
        }
        self.queue(queue, |q| {
            q.attempts[outcome as usize].inc(example);
            if let Some(outcome) = Run::of(outcome) {
                q.run[outcome as usize].observe(run.as_secs_f64(), example);
            }
        });
        self.0.kinds.with(
            kind.as_str(),
            |label| self.0.by_kind.resolve(label),
            |attempts| attempts[outcome as usize].inc(),
        );
    }

    /// An attempt ended with an error of this type.
    pub fn attempt_error(&self, error_type: &str) {
        let class = labels::attempt_error_class(error_type);
        self.0.errors.with(&class, |label| self.0.by_error.resolve(label), IntCounter::inc);
    }

    /// A job reached a terminal state, `end_to_end` after it was accepted. Other states do not
    /// count.
    pub fn job_finished(
        &self,
        queue: &Name,
        status: Status,
        end_to_end: Duration,
        example: Option<Example>,
    ) {
        let Some(status) = Finished::of(status) else {
            return;
        };
        self.queue(queue, |q| {
            q.finished[status as usize].inc();
            q.end_to_end[status as usize].observe(end_to_end.as_secs_f64(), example);
        });
    }

    /// A failure or a lease taken back put the job back to pending.
    pub fn retry_scheduled(&self, queue: &Name) {
        self.queue(queue, |q| q.retries.inc());
    }

    pub fn lease_taken_back(&self, queue: &Name, cause: TakeBackCause) {
        self.queue(queue, |q| q.taken_back[cause as usize].inc());
    }

    /// A worker's report was refused. Only refusals because the lease had moved on count.
    pub fn late_report(&self, queue: Option<&Name>, reason: Rejected) {
        let Some(reason) = LateReason::of(reason) else {
            return;
        };
        match queue {
            Some(queue) => self.queue(queue, |q| q.late_reports[reason as usize].inc()),
            None => self.0.no_queue.late_reports[reason as usize].inc(),
        }
    }

    /// The watchdog found these jobs stuck; once for each job and episode.
    pub fn stuck_detected(&self, queue: &Name, verdict: Verdict, jobs: u64) {
        self.queue(queue, |q| q.stuck_detected[verdict as usize].inc_by(jobs));
    }

    /// An accepted job could not be found or read again.
    pub fn job_lost(&self) {
        self.0.process.lost.inc();
    }

    /// Finished jobs were removed at the end of their retention.
    pub fn jobs_expired(&self, n: u64) {
        self.0.process.expired.inc_by(n);
    }

    /// A store verb returned; `error` is the class of its failure, `other` when unknown.
    pub fn store_operation(
        &self,
        operation: Operation,
        took: Duration,
        error: Option<&'static str>,
    ) {
        if self.0.muted {
            return;
        }
        let process = &self.0.process;
        process.store_durations[operation as usize].observe(took.as_secs_f64());
        if let Some(class) = error {
            process.store_errors[operation as usize][ErrorClass::of(class) as usize].inc();
        }
    }

    /// Whether commits or reads of the store fail or crawl from now on.
    pub fn store_degraded(&self, degraded: bool) {
        self.0.process.store_degraded.set(degraded.into());
    }

    /// One commit wrote `jobs` jobs.
    pub fn commit_batch(&self, jobs: usize) {
        if self.0.muted {
            return;
        }
        self.0.process.commit_batch.observe(jobs as f64);
    }

    /// A request was answered. An unknown method counts as `_OTHER`, a route that is not in
    /// [`labels::ROUTES`] as `_unmatched`.
    pub fn http_request(&self, method: &str, route: &str, status: u16, took: Duration) {
        if self.0.muted {
            return;
        }
        let (method, route) = (Method::of(method), labels::route(route));
        self.0.process.http.with_duration(method, route, status, |h| h.observe(took.as_secs_f64()));
    }

    /// A request came in. Each needs its [`Events::http_ended`], also when it is dropped.
    pub fn http_started(&self, method: &str) {
        self.0.process.http.active[Method::of(method) as usize].inc();
    }

    pub fn http_ended(&self, method: &str) {
        self.0.process.http.active[Method::of(method) as usize].dec();
    }

    /// This process runs `task` every `interval`. Its last success counts from the start of the
    /// process, so that a task that never succeeds is noticed too.
    pub fn task_registered(&self, task: &'static str, interval: Duration) {
        let Some(task) = known_task(task) else { return };
        self.0.process.task_interval(task).set(interval.as_secs_f64());
        let success = self.0.process.task_success(task);
        if success.get() <= 0.0 {
            success.set(self.0.started_at);
        }
    }

    /// A run of `task` ended at `at`.
    pub fn task_run(
        &self,
        task: &'static str,
        outcome: TaskOutcome,
        took: Duration,
        at: Timestamp,
    ) {
        let Some(task) = known_task(task) else { return };
        let instruments = &self.0.process.tasks[task as usize];
        instruments.runs[outcome as usize].inc();
        instruments.duration.observe(took.as_secs_f64());
        match outcome {
            TaskOutcome::Ok => self.0.process.task_success(task).set(unix_seconds(at)),
            TaskOutcome::Error | TaskOutcome::Panic => {}
        }
    }

    /// `task` had died and was started again.
    pub fn task_restarted(&self, task: &'static str) {
        if let Some(task) = known_task(task) {
            self.0.process.tasks[task as usize].restarts.inc();
        }
    }

    /// A sample of the store, taken at `at`: from now on this is what scrapes show.
    pub fn sampled(&self, snapshot: Snapshot, took: Duration, at: Timestamp) {
        let inner = &*self.0;
        let mut rows: HashMap<Arc<str>, Row> = HashMap::new();
        let mut other = Row::empty(labels::OTHER);
        let (in_use, idle): (Vec<_>, Vec<_>) =
            snapshot.queues.into_iter().partition(QueueSnapshot::in_use);
        for queue in in_use {
            let name = queue.queue.as_str();
            if inner.queues.admit(name, |label| inner.families.resolve(label)) {
                rows.entry(Arc::from(name)).or_insert_with(|| Row::empty(name)).add(&queue);
            } else {
                other.add(&queue);
            }
        }
        let now = (inner.monotonic)();
        inner.kinds.sweep(now, |gone| inner.by_kind.forget(gone));
        inner.errors.sweep(now, |gone| inner.by_error.forget(gone));
        // A queue that holds a label and has no jobs is empty, not absent; one that does not hold
        // any gets none for having existed.
        for name in inner.queues.sweep(now, |gone| inner.families.forget(gone)) {
            rows.entry(Arc::clone(&name)).or_insert_with(|| Row::empty(&name));
        }
        for queue in idle {
            if let Some(row) = rows.get_mut(queue.queue.as_str()) {
                row.add(&queue);
            }
        }
        let rows = rows.into_values().chain(std::iter::once(other)).collect();
        inner.latest.set(rows, snapshot.names, snapshot.size_bytes, snapshot.free_bytes);
        inner.process.sample_duration.observe(took.as_secs_f64());
        inner.process.sample_timestamp.set(unix_seconds(at));
    }

    pub fn sample_failed(&self) {
        self.0.process.sample_errors.inc();
    }

    /// What a recount found: the kept counter of `status` minus the exact number.
    pub fn drift(&self, status: Status, jobs: i64) {
        self.0.latest.set_drift(status, jobs);
    }

    /// This process sends canaries. The last that came back counts from the start of the process,
    /// so that it is noticed when none ever does.
    pub fn canary_registered(&self) {
        self.0.process.canary_success().set(self.0.started_at);
    }

    /// A job of our own came back completed at `at`, `took` after it was submitted.
    pub fn canary_succeeded(&self, took: Duration, at: Timestamp) {
        self.0.process.canary_duration.observe(took.as_secs_f64());
        self.0.process.canary_success().set(unix_seconds(at));
    }

    pub fn canary_failed(&self) {
        self.0.process.canary_failures.inc();
    }

    /// A job ended `offset` before (`early`) or after the moment that its client was advised.
    pub fn retry_after_offset(&self, direction: Direction, offset: Duration) {
        self.0.process.retry_after_offset[direction as usize].observe(offset.as_secs_f64());
    }

    /// A question for a job's status was answered.
    pub fn status_poll(&self, timing: Timing) {
        self.0.process.status_polls[timing as usize].inc();
    }

    /// The configuration was read again and put in force; now this is its hash. `None`: it was
    /// refused.
    pub fn config_reloaded(&self, hash: Option<&str>) {
        let process = &self.0.process;
        process.config_reloaded.set(hash.is_some().into());
        if let Some(hash) = hash {
            process.config_timestamp.set(unix_now());
            process.config_info.reset();
            process.config_info.with_label_values(&[hash]).set(1);
        }
    }

    /// Whether this process does the store's maintenance from now on.
    pub fn leads(&self, leads: bool) {
        self.0.process.leader.set(leads.into());
    }

    /// How far engine time is ahead of the machine's clock.
    pub fn clock_skew(&self, ahead: Duration) {
        self.0.process.clock_skew.set(ahead.as_secs_f64());
    }

    /// A task was woken this much later than it had asked for.
    pub fn scheduling_delay(&self, late: Duration) {
        self.0.process.scheduling_delay.observe(late.as_secs_f64());
    }

    pub fn span_ended(&self) {
        self.0.process.spans_ended.inc();
    }

    /// Spans were sent, and this became of them.
    pub fn spans_exported(&self, outcome: SpanExport, spans: u64) {
        self.0.process.spans_exported[outcome as usize].inc_by(spans);
    }

    pub fn spans_dropped(&self, reason: SpanLoss, spans: u64) {
        self.0.process.spans_dropped[reason as usize].inc_by(spans);
    }

    /// Everything, as [`Format::content_type`] says. Never touches the store.
    pub fn render(&self, format: Format) -> String {
        exposition::render(&self.0.registry, &self.0.exemplars, format)
    }
}

fn known_task(task: &'static str) -> Option<Task> {
    let known = Task::parse(task);
    debug_assert!(known.is_some(), "task {task} is not in telemetry::labels::Task");
    known
}

fn unix_seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1_000.0
}

#[expect(clippy::disallowed_methods, reason = "for what Prometheus compares with its own clock")]
pub(super) fn unix_now() -> f64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

#[expect(clippy::disallowed_methods, reason = "the age of a sample, measured where it is shown")]
fn since_now() -> Monotonic {
    let start = std::time::Instant::now();
    Arc::new(move || start.elapsed())
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
