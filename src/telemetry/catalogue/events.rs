//! What happens: requests, submissions, claims, attempts, jobs that end.

use super::{
    ERROR_CLASS, Group, KIND, Kind, Label, METHOD, Metric, QUEUE, QUEUE_OR_NONE, Scope, Unit,
    Values, closed, labels,
};

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
const PAYLOAD_BUCKETS: &[f64] =
    &[64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0];
/// From what nobody notices to the longest that a client is ever told to wait.
const OFFSET_BUCKETS: &[f64] =
    &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0];

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
    AUTH_REFUSALS = Metric {
        group: Group::Http,
        name: "punctual_auth_refusals_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Requests that were not let in: no token, an Authorization that is not understood, an unknown or expired token, a scope, queue or kind that the token is not for, or more than its rate.",
        labels: &[closed("reason", &labels::AuthRefusal::VALUES)],
        scope: Scope::Process,
        read: "`sum by (reason) (rate(…[5m]))`; `expired` and `unknown` after a change of tokens are clients that still send the old one, `rate` those that send too much.",
        debug: None,
    };
    SUBMISSIONS = Metric {
        group: Group::Submissions,
        name: "punctual_job_submissions_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Submissions by outcome; every submission has exactly one. Retries of finished jobs are submissions.",
        labels: &[QUEUE_OR_NONE, closed("outcome", &labels::Submission::VALUES)],
        scope: Scope::Process,
        read: "`sum by (queue, outcome) (rate(…[5m]))`; `unavailable` is our fault, `invalid`, `too_large`, `rate_limited` and `unauthorized` the client's.",
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
        read: "`sum by (queue, cause) (increase(…[10m]))`; `worker_silent` points at dying workers, `hard_timeout` at jobs that are too slow and that their workers do not stop.",
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
    RETRY_AFTER_OFFSET = Metric {
        group: Group::Jobs,
        name: "punctual_retry_after_offset_seconds",
        kind: Kind::Histogram(OFFSET_BUCKETS),
        unit: Unit::Seconds,
        help: "Distance between a job's end and the moment that its client was last advised to ask again (Retry-After): the job ended early, before that moment, or late. Jobs of which nobody was told are not counted.",
        labels: &[closed("direction", &labels::Direction::VALUES)],
        scope: Scope::Process,
        read: "`histogram_quantile(0.9, sum by (le, direction) (rate(…_bucket[5m])))`; `late` costs a poll more, `early` is time that the client waited for nothing.",
        debug: None,
    };
    STATUS_POLLS = Metric {
        group: Group::Jobs,
        name: "punctual_status_polls_total",
        kind: Kind::Counter,
        unit: Unit::None,
        help: "Answers to GET /v1/jobs/{id}: of a finished job, of an unfinished one before the moment that was last advised (early), or of one at or after it, or of which none is remembered (due).",
        labels: &[closed("timing", &labels::Timing::VALUES)],
        scope: Scope::Process,
        read: "`sum by (timing) (rate(…[5m]))`; many `early` are clients that do not honour Retry-After, many `due` for each `finished` are moments advised too soon.",
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
}
