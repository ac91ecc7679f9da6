//! Every metric, declared once: what it is called, what it means, and how to read it.
//!
//! To add one: declare it here, resolve it in `instruments` (or `sample`, for facts about the
//! store), emit it from one method of `events`, and regenerate `docs/METRICS.md` and
//! `docs/metrics.json`. The tests hold the declaration and the rendered text to each other in both
//! directions.

mod docs;
mod json;
mod model;

pub use docs::docs_markdown;
pub use json::{Described, docs_json};
pub use model::{Group, Kind, Label, Metric, Scope, Unit, Values};

use super::labels;

const QUEUE: Label = Label { name: "queue", values: Values::Queue { none: false } };
const QUEUE_OR_NONE: Label = Label { name: "queue", values: Values::Queue { none: true } };

const KIND: Label = Label { name: "kind", values: Values::Kind };
const ERROR_CLASS: Label = Label { name: "error_class", values: Values::ErrorClass };

const fn closed(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values: Values::Closed(values) }
}

const TASK: Label = closed("task", &labels::Task::VALUES);
const OPERATION: Label = closed("operation", &labels::Operation::VALUES);
const METHOD: Label = closed("http_request_method", &labels::Method::VALUES);

/// The boundaries that the OpenTelemetry HTTP semantic conventions advise.
const HTTP_BUCKETS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Jobs wait for hours in an incident, which is when the histogram must not be blind.
const WAIT_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    1_800.0, 3_600.0, 14_400.0,
];
/// Up to half a day.
const RUN_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    1_800.0, 3_600.0, 14_400.0, 43_200.0,
];
const STORE_BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];
const TASK_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0];
const PAYLOAD_BUCKETS: &[f64] =
    &[64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0];
const BATCH_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];

macro_rules! catalogue {
    ($($id:ident = $metric:expr;)+) => {
        $(pub static $id: Metric = $metric;)+

        /// Every metric, in the order of the documentation.
        pub static ALL: &[&Metric] = &[$(&$id),+];
    };
}

catalogue! {
    HTTP_DURATION = Metric {
        group: Group::Http,
        name: "http_server_request_duration_seconds",
        kind: Kind::Histogram(HTTP_BUCKETS),
        unit: Unit::Seconds,
        help: "From the request's head to the response's head, by method, route and status code (OpenTelemetry HTTP semantic conventions).",
        labels: &[
            METHOD,
            closed("http_route", &labels::ROUTES),
            Label { name: "http_response_status_code", values: Values::StatusCode },
        ],
        scope: Scope::Process,
        read: "`histogram_quantile(0.99, sum by (le, http_route) (rate(…_bucket[5m])))`. Routes with a long poll wait on purpose: keep `/v1/claims` and `/v1/settlements` out of latency objectives.",
        debug: None,
    };
    HTTP_ACTIVE = Metric {
        group: Group::Http,
        name: "http_server_active_requests",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "Requests in flight, parked long polls included.",
        labels: &[METHOD],
        scope: Scope::Process,
        read: "`sum(…)`; idle workers park one claim each, so a steady level is normal.",
        debug: None,
    };

    SUBMISSIONS = Metric {
        group: Group::Submissions,
        name: "punctual_job_submissions_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Submissions by outcome; every submission has exactly one.",
        labels: &[QUEUE_OR_NONE, closed("outcome", &labels::Submission::VALUES)],
        scope: Scope::Process,
        read: "`sum by (queue, outcome) (rate(…[5m]))`; `unavailable` is our fault, `invalid` and `too_large` the client's.",
        debug: None,
    };
    PAYLOAD = Metric {
        group: Group::Submissions,
        name: "punctual_job_payload_bytes",
        kind: Kind::Histogram(PAYLOAD_BUCKETS),
        unit: Unit::Bytes,
        help: "Size of accepted payloads.",
        labels: &[],
        scope: Scope::Process,
        read: "`sum(rate(…_sum[5m])) / sum(rate(…_count[5m]))` is the mean size.",
        debug: None,
    };

    CLAIMS = Metric {
        group: Group::Workers,
        name: "punctual_claim_requests_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Claims by outcome, once for each queue that a claim names.",
        labels: &[QUEUE, closed("outcome", &labels::ClaimOutcome::VALUES)],
        scope: Scope::Process,
        read: "`sum by (queue) (rate(…[5m]))`; zero means that nobody polls the queue.",
        debug: None,
    };
    STARTED = Metric {
        group: Group::Workers,
        name: "punctual_attempts_started_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Attempts begun, one for each lease.",
        labels: &[QUEUE],
        scope: Scope::Process,
        read: "`sum by (queue) (rate(…[5m]))` is the start rate; zero with eligible jobs means that nothing starts.",
        debug: None,
    };
    HEARTBEATS = Metric {
        group: Group::Workers,
        name: "punctual_heartbeats_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Heartbeats for a lease; a lost one came when the lease was no longer the worker's.",
        labels: &[QUEUE, closed("outcome", &labels::HeartbeatOutcome::VALUES)],
        scope: Scope::Process,
        read: "`sum by (queue, outcome) (rate(…[5m]))`.",
        debug: None,
    };
    TAKEN_BACK = Metric {
        group: Group::Workers,
        name: "punctual_leases_taken_back_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Leases taken back from workers that went silent or ran past the hard timeout. Releases and goodbyes are not counted.",
        labels: &[QUEUE, closed("cause", &labels::TAKE_BACK_CAUSES)],
        scope: Scope::Process,
        read: "`sum by (queue, cause) (increase(…[10m]))`; `worker_silent` points at dying workers, `hard_timeout` at jobs that are too slow.",
        debug: None,
    };
    LATE_REPORTS = Metric {
        group: Group::Workers,
        name: "punctual_late_reports_rejected_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Reports refused because the lease had moved on: each is a second run of the same job that was kept from counting.",
        labels: &[QUEUE_OR_NONE, closed("reason", &labels::LateReason::VALUES)],
        scope: Scope::Process,
        read: "`sum by (queue, reason) (increase(…[10m]))`; steady values mean that leases are too short for the heartbeats.",
        debug: None,
    };
    ATTEMPTS = Metric {
        group: Group::Workers,
        name: "punctual_attempts_finished_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Attempts ended, by outcome. Attempts, not jobs: one job may have several.",
        labels: &[QUEUE, closed("outcome", &labels::ATTEMPT_OUTCOMES)],
        scope: Scope::Process,
        read: "`sum by (queue, outcome) (rate(…[5m]))`; for the failure rate of jobs use `punctual_jobs_finished_total`.",
        debug: None,
    };
    ATTEMPTS_BY_KIND = Metric {
        group: Group::Workers,
        name: "punctual_attempts_finished_by_kind_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Attempts ended, by kind of job and outcome. A kind has its series from its first attempt's start.",
        labels: &[KIND, closed("outcome", &labels::ATTEMPT_OUTCOMES)],
        scope: Scope::Process,
        read: "`topk(5, sum by (kind) (rate(…{outcome=\"failed\"}[5m])))` are the kinds that fail most.",
        debug: None,
    };
    ATTEMPT_ERRORS = Metric {
        group: Group::Workers,
        name: "punctual_attempt_errors_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Attempts that failed, timed out or lost their lease, by class of error: its type in small letters, with - for whatever is not of [a-z0-9._-], cut at 64 characters.",
        labels: &[ERROR_CLASS],
        scope: Scope::Process,
        read: "`topk(5, sum by (error_class) (rate(…[5m])))`. `lease-expired` and `attempt-timeout` are the server's and there from the start; any other class begins with its first error, which `increase` does not see.",
        debug: None,
    };
    RETRIES = Metric {
        group: Group::Workers,
        name: "punctual_retries_scheduled_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Jobs put back to pending after a failure or a lease taken back; not by release.",
        labels: &[QUEUE],
        scope: Scope::Process,
        read: "`sum by (queue) (rate(…[5m]))` beside the start rate: close to it is a retry storm.",
        debug: None,
    };

    WAIT = Metric {
        group: Group::Jobs,
        name: "punctual_job_wait_seconds",
        kind: Kind::Histogram(WAIT_BUCKETS),
        unit: Unit::Seconds,
        help: "From eligible to claimed. Sees only jobs that start.",
        labels: &[QUEUE],
        scope: Scope::Process,
        read: "`histogram_quantile(0.99, sum by (le, queue) (rate(…_bucket[5m])))`; silent when nothing starts, so pair it with the oldest pending age.",
        debug: None,
    };
    RUN = Metric {
        group: Group::Jobs,
        name: "punctual_job_run_seconds",
        kind: Kind::Histogram(RUN_BUCKETS),
        unit: Unit::Seconds,
        help: "One attempt, from claimed to reported, for those that completed or failed.",
        labels: &[QUEUE, closed("outcome", &labels::Run::VALUES)],
        scope: Scope::Process,
        read: "`histogram_quantile(0.5, sum by (le, queue) (rate(…_bucket{outcome=\"completed\"}[5m])))`.",
        debug: None,
    };
    END_TO_END = Metric {
        group: Group::Jobs,
        name: "punctual_job_end_to_end_seconds",
        kind: Kind::Histogram(WAIT_BUCKETS),
        unit: Unit::Seconds,
        help: "From accepted to finished, retries and scheduled delays included.",
        labels: &[QUEUE, closed("status", &labels::Finished::VALUES)],
        scope: Scope::Process,
        read: "`histogram_quantile(0.95, sum by (le, queue) (rate(…_bucket{status=\"completed\"}[5m])))`.",
        debug: None,
    };
    FINISHED = Metric {
        group: Group::Jobs,
        name: "punctual_jobs_finished_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Jobs finished, by how. Jobs, not attempts.",
        labels: &[QUEUE, closed("status", &labels::Finished::VALUES)],
        scope: Scope::Process,
        read: "Failure rate: `sum by (queue) (rate(…{status=\"failed\"}[5m])) / sum by (queue) (rate(…{status=~\"completed|failed\"}[5m]))`; cancelled jobs are no failures.",
        debug: None,
    };
    LOST = Metric {
        group: Group::Jobs,
        name: "punctual_jobs_lost_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Jobs that were accepted and then could not be found or read again. Must be 0.",
        labels: &[],
        scope: Scope::Process,
        read: "`sum(increase(…[1h])) > 0` is an incident.",
        debug: None,
    };
    EXPIRED = Metric {
        group: Group::Jobs,
        name: "punctual_jobs_expired_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Finished jobs removed at the end of their retention.",
        labels: &[],
        scope: Scope::Process,
        read: "`sum(rate(…[1h]))` follows the finish rate of one retention ago.",
        debug: None,
    };

    JOBS = Metric {
        group: Group::Queues,
        name: "punctual_jobs",
        kind: Kind::Gauge,
        unit: Unit::Jobs,
        help: "Jobs in the store by state. Finished states count jobs still retained: take no rate or ratio over them, punctual_jobs_finished_total counts what finished.",
        labels: &[QUEUE, closed("state", &labels::STATES)],
        scope: Scope::Store,
        read: "`max by (queue, state) (…)`.",
        debug: None,
    };
    DEPTH = Metric {
        group: Group::Queues,
        name: "punctual_queue_depth",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "Jobs pending and eligible now: waiting for a worker, not for a time. Counted also while the queue is paused.",
        labels: &[QUEUE],
        scope: Scope::Store,
        read: "`max by (queue) (…)`.",
        debug: None,
    };
    PENDING = Metric {
        group: Group::Queues,
        name: "punctual_queue_pending_jobs",
        kind: Kind::Gauge,
        unit: Unit::Jobs,
        help: "Pending jobs by why they are not running, as pending_reason says in the API.",
        labels: &[QUEUE, closed("reason", &labels::PENDING_REASONS)],
        scope: Scope::Store,
        read: "`max by (queue, reason) (…)`.",
        debug: None,
    };
    OLDEST_PENDING = Metric {
        group: Group::Queues,
        name: "punctual_queue_oldest_pending_age_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "How long the oldest eligible job has been eligible; 0 when there is none or the queue is paused. Grows between samples.",
        labels: &[QUEUE],
        scope: Scope::Store,
        read: "`max by (queue) (…)`; a high age is a problem only while nothing starts, so pair it with the start rate.",
        debug: None,
    };
    OLDEST_RUNNING = Metric {
        group: Group::Queues,
        name: "punctual_queue_oldest_running_age_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "How long the oldest running attempt has been running, since it was claimed; 0 when nothing runs. Grows between samples.",
        labels: &[QUEUE],
        scope: Scope::Store,
        read: "`max by (queue) (…) > max by (queue) (punctual_queue_run_threshold_seconds)` is suspicious once nothing finishes either.",
        debug: None,
    };
    RUN_THRESHOLD = Metric {
        group: Group::Queues,
        name: "punctual_queue_run_threshold_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "The oldest running age beyond which a queue is suspicious: the stuck threshold or three times the longest of the last 64 runs, whichever is longer; the timeout while fewer than 20 runs are known.",
        labels: &[QUEUE],
        scope: Scope::Store,
        read: "`max by (queue) (…)`, to compare `punctual_queue_oldest_running_age_seconds` with.",
        debug: None,
    };
    DRAIN_ESTIMATE = Metric {
        group: Group::Queues,
        name: "punctual_queue_drain_estimate_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "How long the eligible jobs will take to start at the present start rate; 0 when there are none or the queue is paused, and at most 86400, which says a day or more, or that nothing starts.",
        labels: &[QUEUE],
        scope: Scope::Store,
        read: "`max by (queue) (…)`; growing while the start rate is steady means too few workers.",
        debug: None,
    };
    MAX_RUNNING = Metric {
        group: Group::Queues,
        name: "punctual_queue_max_running",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "How many jobs of the queue may run at once; 0 when there is no limit.",
        labels: &[QUEUE],
        scope: Scope::Store,
        read: "`max by (queue) (…)`, beside `max by (queue) (punctual_jobs{state=\"running\"})`.",
        debug: None,
    };
    PAUSED = Metric {
        group: Group::Queues,
        name: "punctual_queue_paused",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "1 while the queue is paused: submissions are accepted and nothing is claimed.",
        labels: &[QUEUE],
        scope: Scope::Store,
        read: "`max by (queue) (…)`.",
        debug: None,
    };
    WORKERS = Metric {
        group: Group::Queues,
        name: "punctual_workers",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "Workers that serve the queue: idle, busy (they hold leases) or silent (not heard of lately). One that serves two queues counts in both.",
        labels: &[QUEUE, closed("state", &labels::WorkerState::VALUES)],
        scope: Scope::Store,
        read: "`max by (queue, state) (…)`; eligible jobs without `idle` or `busy` workers wait for nobody.",
        debug: None,
    };
    SLOTS = Metric {
        group: Group::Queues,
        name: "punctual_worker_slots",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "Jobs that the workers of the queue can run at once: slots that are idle, busy, or of silent workers. One that serves two queues counts in both.",
        labels: &[QUEUE, closed("state", &labels::WorkerState::VALUES)],
        scope: Scope::Store,
        read: "`max by (queue) (…{state=\"busy\"})` beside `max by (queue) (…{state=\"idle\"})`: none idle while jobs wait means too little capacity.",
        debug: None,
    };
    DRIFT = Metric {
        group: Group::Queues,
        name: "punctual_count_drift_jobs",
        kind: Kind::Gauge,
        unit: Unit::Jobs,
        help: "Kept counters minus an exact recount, by state. Must be 0.",
        labels: &[closed("state", &labels::STATES)],
        scope: Scope::Store,
        read: "`max by (state) (abs(…)) > 0` is a defect of the server.",
        debug: None,
    };

    STUCK = Metric {
        group: Group::Watchdog,
        name: "punctual_queue_stuck_jobs",
        kind: Kind::Gauge,
        unit: Unit::Jobs,
        help: "Jobs eligible for longer than the stuck threshold, by why. A paused queue has none.",
        labels: &[QUEUE, closed("verdict", &labels::VERDICTS)],
        scope: Scope::Store,
        read: "`max by (queue, verdict) (…) > 0`: the verdict says what to do.",
        debug: None,
    };
    STUCK_THRESHOLD = Metric {
        group: Group::Watchdog,
        name: "punctual_queue_stuck_threshold_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "How long a job of the queue may be eligible before it is stuck (stuck_after); 0 when the watchdog is off for the queue.",
        labels: &[QUEUE],
        scope: Scope::Store,
        read: "`max by (queue) (…)`, to compare `punctual_queue_oldest_pending_age_seconds` with.",
        debug: None,
    };
    STUCK_DETECTED = Metric {
        group: Group::Watchdog,
        name: "punctual_watchdog_stuck_jobs_detected_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Jobs found stuck, by why; each once in an episode, not once a scan.",
        labels: &[QUEUE, closed("verdict", &labels::VERDICTS)],
        scope: Scope::Process,
        read: "`sum by (queue, verdict) (increase(…[1h]))`.",
        debug: None,
    };

    SAMPLE_TIMESTAMP = Metric {
        group: Group::Sampler,
        name: "punctual_state_sample_timestamp_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "When the latest sample of the store was taken, in Unix time; the start of the process before the first.",
        labels: &[],
        scope: Scope::Liveness,
        read: "`time() - max(…)`; after three missed samples every metric of scope store is withheld.",
        debug: None,
    };
    SAMPLE_DURATION = Metric {
        group: Group::Sampler,
        name: "punctual_state_sample_duration_seconds",
        kind: Kind::Histogram(TASK_BUCKETS),
        unit: Unit::Seconds,
        help: "How long a sample of the store took.",
        labels: &[],
        scope: Scope::Process,
        read: "`histogram_quantile(0.99, sum by (le) (rate(…_bucket[5m])))`; must not grow with the number of jobs.",
        debug: None,
    };
    SAMPLE_ERRORS = Metric {
        group: Group::Sampler,
        name: "punctual_state_sample_errors_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Samples of the store that failed.",
        labels: &[],
        scope: Scope::Process,
        read: "`sum(increase(…[5m]))`.",
        debug: None,
    };

    TASK_SUCCESS = Metric {
        group: Group::Tasks,
        name: "punctual_task_last_success_timestamp_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "When the task last succeeded, in Unix time; the start of the process before its first success. Absent for tasks that this process does not run.",
        labels: &[TASK],
        scope: Scope::Liveness,
        read: "`time() - max by (task) (…) > 3 * max by (task) (punctual_task_interval_seconds)` is a stalled task.",
        debug: None,
    };
    TASK_INTERVAL = Metric {
        group: Group::Tasks,
        name: "punctual_task_interval_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "How often the task is due. Absent for tasks that this process does not run.",
        labels: &[TASK],
        scope: Scope::Liveness,
        read: "`max by (task) (…)`, to compare the last success with.",
        debug: None,
    };
    TASK_RUNS = Metric {
        group: Group::Tasks,
        name: "punctual_task_runs_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Runs of a maintenance task by outcome.",
        labels: &[TASK, closed("outcome", &labels::TaskOutcome::VALUES)],
        scope: Scope::Process,
        read: "`sum by (task, outcome) (rate(…[5m]))`.",
        debug: None,
    };
    TASK_DURATION = Metric {
        group: Group::Tasks,
        name: "punctual_task_duration_seconds",
        kind: Kind::Histogram(TASK_BUCKETS),
        unit: Unit::Seconds,
        help: "How long one run of a maintenance task took.",
        labels: &[TASK],
        scope: Scope::Process,
        read: "`histogram_quantile(0.99, sum by (le, task) (rate(…_bucket[5m])))`; runs that near the interval will fall behind.",
        debug: None,
    };
    TASK_RESTARTS = Metric {
        group: Group::Tasks,
        name: "punctual_task_restarts_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Times that a maintenance task was started again after it died.",
        labels: &[TASK],
        scope: Scope::Process,
        read: "`sum by (task) (increase(…[1h]))`; the log has the panic.",
        debug: None,
    };

    STORE_DEGRADED = Metric {
        group: Group::Store,
        name: "punctual_store_degraded",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "1 while this process sees commits or reads failing or crawling.",
        labels: &[],
        scope: Scope::Process,
        read: "`sum(…)` is the number of replicas that see it; `max(…) > 0` deserves a look at `punctual_store_operation_errors_total`.",
        debug: None,
    };
    STORE_DURATION = Metric {
        group: Group::Store,
        name: "punctual_store_operation_duration_seconds",
        kind: Kind::Histogram(STORE_BUCKETS),
        unit: Unit::Seconds,
        help: "How long a store operation took as its caller saw it, waiting for the commit included.",
        labels: &[OPERATION],
        scope: Scope::Process,
        read: "`histogram_quantile(0.99, sum by (le, operation) (rate(…_bucket[5m])))`.",
        debug: None,
    };
    STORE_ERRORS = Metric {
        group: Group::Store,
        name: "punctual_store_operation_errors_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Store operations that failed, by class of error.",
        labels: &[OPERATION, closed("error_class", &labels::ErrorClass::VALUES)],
        scope: Scope::Process,
        read: "`sum by (operation, error_class) (rate(…[5m]))`; `full` wants disk space, `corrupt` a restore.",
        debug: None,
    };
    COMMIT_BATCH = Metric {
        group: Group::Store,
        name: "punctual_store_commit_batch_jobs",
        kind: Kind::Histogram(BATCH_BUCKETS),
        unit: Unit::Jobs,
        help: "Jobs written by one commit.",
        labels: &[],
        scope: Scope::Process,
        read: "`sum(rate(…_sum[5m])) / sum(rate(…_count[5m]))` is the mean batch: it grows with load, and commits stay few.",
        debug: None,
    };
    STORE_SIZE = Metric {
        group: Group::Store,
        name: "punctual_store_size_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        help: "Size of the store on disk.",
        labels: &[],
        scope: Scope::Store,
        read: "`max(…)`.",
        debug: None,
    };
    STORE_FREE = Metric {
        group: Group::Store,
        name: "punctual_store_free_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        help: "Free disk space where the store lies, as far as the server may use it.",
        labels: &[],
        scope: Scope::Store,
        read: "`max(…) < max(punctual_store_min_free_bytes)`: submissions are refused.",
        debug: None,
    };
    STORE_MIN_FREE = Metric {
        group: Group::Store,
        name: "punctual_store_min_free_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        help: "The free space below which submissions are refused with 503 storage-full (store.min_free); 0 when nothing is refused for it.",
        labels: &[],
        scope: Scope::Store,
        read: "`max(…)`, to compare `punctual_store_free_bytes` with.",
        debug: None,
    };

    LABEL_OVERFLOW = Metric {
        group: Group::Server,
        name: "punctual_label_overflow_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Events counted under _other because their label had reached its cap.",
        labels: &[closed("label", &labels::CappedLabel::VALUES)],
        scope: Scope::Process,
        read: "`sum by (label) (increase(…[10m])) > 0` means that there are more names than the cap: declare the queues that matter, raise the cap, or take what varies out of the names.",
        debug: None,
    };
    LOG_EVENTS = Metric {
        group: Group::Server,
        name: "punctual_log_events_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Events written to the log, by level. What RUST_LOG filters out is not counted.",
        labels: &[closed("level", &labels::LogLevel::VALUES)],
        scope: Scope::Process,
        read: "`sum by (level) (rate(…[5m]))`; any `error` deserves a look at the log.",
        debug: None,
    };
    BUILD_INFO = Metric {
        group: Group::Server,
        name: "punctual_build_info",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "Always 1; the version, its revision and the kind of store are in the labels.",
        labels: &[
            Label { name: "revision", values: Values::Fixed("the git revision that was built, or `unknown`") },
            Label { name: "store", values: Values::Fixed("the kind of store, such as `sqlite`") },
            Label { name: "version", values: Values::Fixed("the running version") },
        ],
        scope: Scope::Process,
        read: "`sum by (version, revision) (…)` is the number of replicas on each build.",
        debug: None,
    };
    CONFIG_INFO = Metric {
        group: Group::Server,
        name: "punctual_config_info",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "Always 1; a hash of the effective configuration is in the label.",
        labels: &[Label { name: "hash", values: Values::Fixed("a hash of the effective configuration") }],
        scope: Scope::Process,
        read: "`count(sum by (hash) (…)) > 1` means that replicas differ in configuration.",
        debug: None,
    };

    PROCESS_CPU = Metric {
        group: Group::Server,
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        help: "Total user and system CPU time spent in seconds.",
        labels: &[],
        scope: Scope::Process,
        read: "`sum(rate(…[5m]))` is the number of busy cores; counted in whole seconds, so use ranges of minutes.",
        debug: None,
    };
    PROCESS_OPEN_FDS = Metric {
        group: Group::Server,
        name: "process_open_fds",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "Number of open file descriptors.",
        labels: &[],
        scope: Scope::Process,
        read: "`… / process_max_fds` by instance; `sum(…)` for the fleet.",
        debug: None,
    };
    PROCESS_MAX_FDS = Metric {
        group: Group::Server,
        name: "process_max_fds",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "Maximum number of open file descriptors.",
        labels: &[],
        scope: Scope::Process,
        read: "By instance, to compare with; a `sum` says little.",
        debug: None,
    };
    PROCESS_VIRTUAL_MEMORY = Metric {
        group: Group::Server,
        name: "process_virtual_memory_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        help: "Virtual memory size in bytes.",
        labels: &[],
        scope: Scope::Process,
        read: "By instance; a `sum` says little.",
        debug: Some("Reserved address space says little; `process_resident_memory_bytes` is the memory in use."),
    };
    PROCESS_RESIDENT_MEMORY = Metric {
        group: Group::Server,
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        unit: Unit::Bytes,
        help: "Resident memory size in bytes.",
        labels: &[],
        scope: Scope::Process,
        read: "`sum(…)`, or by instance.",
        debug: None,
    };
    PROCESS_START = Metric {
        group: Group::Server,
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "Start time of the process since unix epoch in seconds.",
        labels: &[],
        scope: Scope::Liveness,
        read: "`changes(…[15m])` by instance counts restarts; `time() - …` is the time up.",
        debug: None,
    };
    PROCESS_THREADS = Metric {
        group: Group::Server,
        name: "process_threads",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "Number of OS threads in the process.",
        labels: &[],
        scope: Scope::Process,
        read: "`sum(…)`, or by instance.",
        debug: None,
    };
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
