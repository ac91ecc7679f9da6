//! How the server itself is: its tasks, its store, its telemetry, its process.

use super::{
    Group, Kind, Label, Metric, OPERATION, Scope, TASK, TASK_BUCKETS, Unit, Values, closed, labels,
};

const STORE_BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];
const BATCH_BUCKETS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0];
/// A canary takes milliseconds, and is given up after ten seconds.
const CANARY_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The timer's own grain is a millisecond.
const DELAY_BUCKETS: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

catalogue! {
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
    CANARY_SUCCESS = Metric {
        group: Group::Tasks,
        name: "punctual_canary_last_success_timestamp_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "When a job of the server's own last went all the way: submitted, claimed, completed. In Unix time; the start of the process before its first. Absent with tasks.canary = \"off\".",
        labels: &[],
        scope: Scope::Liveness,
        read: "`time() - min by (instance) (…)` by instance, against `3 * max by (instance) (punctual_task_interval_seconds{task=\"canary\"})`.",
        debug: None,
    };
    CANARY_DURATION = Metric {
        group: Group::Tasks,
        name: "punctual_canary_duration_seconds",
        kind: Kind::Histogram(CANARY_BUCKETS),
        unit: Unit::Seconds,
        help: "How long the server's own job took from its submission to the news of its completion.",
        labels: &[],
        scope: Scope::Process,
        read: "`histogram_quantile(0.99, sum by (le, instance) (rate(…_bucket[15m])))`: what a job costs that has nothing to do.",
        debug: None,
    };
    CANARY_FAILURES = Metric {
        group: Group::Tasks,
        name: "punctual_canary_failures_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Times that the server's own job did not come back completed within 10 s.",
        labels: &[],
        scope: Scope::Process,
        read: "`sum by (instance) (increase(…[10m]))`; more than one in a row, and work does not get through this server.",
        debug: None,
    };
    LEADER = Metric {
        group: Group::Tasks,
        name: "punctual_leader",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "1 where the maintenance of the store runs; 0 before it has begun and while the server drains.",
        labels: &[],
        scope: Scope::Process,
        read: "`sum(…)` is 1; 0 for longer than a restart means that nobody takes back leases.",
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
    STORE_NAMES = Metric {
        group: Group::Store,
        name: "punctual_store_names",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "Names of queues and of kinds that the store knows, the server's own too. A new one beyond 10 000 is refused with 422 too-many-names.",
        labels: &[Label { name: "dictionary", values: Values::Closed(&labels::DICTIONARIES) }],
        scope: Scope::Store,
        read: "`max by (dictionary) (…)`: near 10 000 a client makes names of what belongs into payload or tags.",
        debug: Some("It grows by a client's mistake only, which `punctual_job_submissions_total{outcome=\"too_many_names\"}` tells."),
    };
    CLOCK_SKEW = Metric {
        group: Group::Store,
        name: "punctual_store_clock_skew_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "How far the time by which the store lives is ahead of this machine's clock. It follows that clock forwards, also over a jump, and goes on by itself while the clock has been set back.",
        labels: &[],
        scope: Scope::Process,
        read: "By instance, `max(…)`, never a `sum`; anything but 0 is a clock that was set back, and is so until it has caught up.",
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
    SPANS_ENDED = Metric {
        group: Group::Server,
        name: "punctual_spans_ended_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Spans that were sampled and ended; 0 without telemetry.otlp_endpoint.",
        labels: &[],
        scope: Scope::Process,
        read: "`sum(rate(…[5m]))` is what the collector must take; less `punctual_spans_exported_total{outcome=\"ok\"}` it is lost or waits.",
        debug: None,
    };
    SPANS_EXPORTED = Metric {
        group: Group::Server,
        name: "punctual_spans_exported_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Spans that were sent to the collector, by outcome: ok, rejected (it took the batch without these) or failed.",
        labels: &[closed("outcome", &labels::SpanExport::VALUES)],
        scope: Scope::Process,
        read: "`sum by (outcome) (rate(…[5m]))`; `failed` with none `ok` means that the collector is away.",
        debug: None,
    };
    SPANS_DROPPED = Metric {
        group: Group::Server,
        name: "punctual_spans_dropped_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Spans that were lost, by reason. Jobs are not touched by it.",
        labels: &[closed("reason", &labels::SpanLoss::VALUES)],
        scope: Scope::Process,
        read: "`sum by (reason) (increase(…[5m]))` should be 0: `queue_full` means a collector that is too slow, `export_failed` one that does not answer, `rejected` one that refuses.",
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
    SCHEDULING_DELAY = Metric {
        group: Group::Server,
        name: "punctual_runtime_scheduling_delay_seconds",
        kind: Kind::Histogram(DELAY_BUCKETS),
        unit: Unit::Seconds,
        help: "How late the runtime woke a task that asks for it every 500 ms.",
        labels: &[],
        scope: Scope::Process,
        read: "`histogram_quantile(0.99, sum by (le, instance) (rate(…_bucket[5m])))`; tens of milliseconds mean that the machine is busy, or that something blocks the runtime.",
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
    CONFIG_RELOADED = Metric {
        group: Group::Server,
        name: "punctual_config_last_reload_successful",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "1 when the configuration that was read last is in force, at the start or after SIGHUP; 0 when it was refused and an older one is.",
        labels: &[],
        scope: Scope::Process,
        read: "`… == 0` by instance: the file and the running server differ, and the log says why; `sum(… == bool 0)` counts such servers.",
        debug: None,
    };
    CONFIG_TIMESTAMP = Metric {
        group: Group::Server,
        name: "punctual_config_last_reload_success_timestamp_seconds",
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        help: "When the configuration in force was read, in Unix time.",
        labels: &[],
        scope: Scope::Liveness,
        read: "`time() - max by (instance) (…)`; one that is older than the last change of the file has not been told of it.",
        debug: Some("Only a person knows when the file was changed; `punctual_config_last_reload_successful` is the one that alerts."),
    };
    PROCESS_CPU = Metric {
        group: Group::Server,
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        unit: Unit::Seconds,
        help: "Total user and system CPU time spent in seconds.",
        labels: &[],
        scope: Scope::Process,
        read: "`sum(rate(…[1m]))` is the number of busy cores.",
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
