//! What is the case: queues, their jobs and workers, what the watchdog found, and the sampler that
//! looks.

use super::{Group, Kind, Metric, QUEUE, Scope, TASK_BUCKETS, Unit, closed, labels};

catalogue! {
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
        help: "How long the eligible jobs will take to start: as fast as the line has moved in the last minute, or else as the workers can; 0 when there are none or the queue is paused, and at most 86400, which says a day or more, or that nothing starts.",
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
    MAX_DEPTH = Metric {
        group: Group::Queues,
        name: "punctual_queue_max_depth",
        kind: Kind::Gauge,
        unit: Unit::None,
        help: "How many jobs of the queue may be pending, beyond which submissions are refused with 503 queue-full; 0 when there is no limit.",
        labels: &[QUEUE],
        scope: Scope::Store,
        read: "`max by (queue) (… > 0)`, beside `max by (queue) (punctual_jobs{state=\"pending\"})`.",
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
}
