//! The API's request and response bodies, shared by the server, the client and the worker.
//!
//! Responses carry `Deserialize` too, because our own client reads them; unknown members are
//! ignored there, so that an older client understands a newer server. Requests are read strictly
//! by the server (`http::body`), which names every unknown or wrong member at once; the structs
//! here are what it reads them *into* and what the client writes.
//!
//! Absent is not null: absent members are omitted. Moments are RFC 3339 UTC with milliseconds,
//! durations are seconds. Must not know: anything but serde and the domain's plain values.

use serde::{Deserialize, Serialize};

use crate::domain::job::RawJson;

/// `POST /v1/jobs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Submit {
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// RFC 3339; exclusive with `delay_seconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<SubmitBackoff>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_duration_seconds: Option<f64>,
    /// A JSON object of strings or anything else, up to 4 KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RawJson>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SubmitBackoff {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiplier: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
}

/// A job, in the one shape that every endpoint uses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Job {
    pub job_id: String,
    /// `pending`, `running`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// Loop on this, never on a list of statuses.
    pub done: bool,
    pub status_url: String,
    pub kind: String,
    pub queue: String,
    pub priority: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_reason: Option<String>,
    pub attempt: u32,
    pub max_attempts: u32,
    pub version: u64,
    pub created_at: String,
    /// When a scheduled or backing-off job becomes eligible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    pub updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<JobProgress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_requested_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_reason: Option<String>,
    /// `client` or `operator`; present on a cancelled job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled_by: Option<String>,
    /// The latest attempt's failure, while the job is not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<JobError>,
    /// Present if and only if `status` is `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// Inline when small; `null` when the worker gave none; absent unless completed.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "some_json")]
    pub result: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_size: Option<u64>,
    pub root_job_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retried_as: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RawJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Only with `?include=payload`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "some_json")]
    pub payload: Option<RawJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<JobAttempt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<JobLinks>,
}

/// An explicit `null` is a value here, not an absence.
fn some_json<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<RawJson>, D::Error> {
    RawJson::deserialize(d).map(Some)
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobProgress {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    pub updated_at: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobError {
    #[serde(rename = "type")]
    pub kind: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<RawJson>,
    pub attempt: u32,
    pub at: String,
    pub retryable: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobAttempt {
    pub attempt: u32,
    pub fence: u64,
    pub worker_id: String,
    pub started_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// `completed`, `failed`, `timed_out`, `lease_expired`, `released`, `cancelled`; absent while
    /// it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobLinks {
    #[serde(rename = "self")]
    pub this: String,
    pub cancel: String,
    pub timeline: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobList {
    pub jobs: Vec<Job>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// `POST /v1/jobs/{id}/cancel`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CancelRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Operators only: fence the lease at once instead of asking the worker.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub force: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    pub events: Vec<TimelineEvent>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimelineEvent {
    pub seq: u32,
    pub at: String,
    /// `submitted`, `claimed`, `progress`, `released`, `failed_attempt`, `taken_back`,
    /// `retry_scheduled`, `cancel_requested`, `completed`, `failed`, `cancelled`.
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_ms: Option<u64>,
}

/// `POST /v1/claims`, and `claim` of a settlement.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Unique for each worker process.
    pub worker_id: String,
    /// In strict order of preference.
    pub queues: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub kinds: Vec<String>,
    /// 1 to 100; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_jobs: Option<u32>,
    /// 1 to 3600; the queue's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<f64>,
    /// 0 to 50: how long to stay parked while there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How many jobs the worker runs at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Every job that the worker holds. Its leases that are not listed (their answer was lost)
    /// are released, uncounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Claimed {
    pub jobs: Vec<LeasedJob>,
    /// Jobs of this worker whose cancel is requested.
    pub cancel: Vec<String>,
    /// `continue` or `drain`.
    pub directive: String,
    pub server_time: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeasedJob {
    pub job_id: String,
    pub lease_token: String,
    pub fence: u64,
    pub lease_expires_at: String,
    pub lease_seconds: f64,
    pub kind: String,
    pub queue: String,
    /// `null` when the client sent none.
    pub payload: Option<RawJson>,
    pub attempt: u32,
    pub max_attempts: u32,
    pub timeout_at: String,
    pub root_job_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RawJson>,
}

/// Progress as a worker reports it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProgressReport {
    /// 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `POST /v1/jobs/{id}/heartbeat`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub lease_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressReport>,
    /// Any JSON up to 64 KiB, handed to the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extend_seconds: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeartbeatAnswer {
    pub lease_expires_at: String,
    pub cancel_requested: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_reason: Option<String>,
    pub directive: String,
    pub timeout_at: String,
}

/// `POST /v1/heartbeats`: up to 1000 leases.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Heartbeats {
    pub worker_id: String,
    pub leases: Vec<HeartbeatItem>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatItem {
    pub job_id: String,
    pub lease_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressReport>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeartbeatsAnswer {
    pub results: Vec<HeartbeatResult>,
    pub directive: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeartbeatResult {
    pub job_id: String,
    pub ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancel_requested: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// A failure as a worker reports it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorReport {
    #[serde(rename = "type")]
    pub kind: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
}

/// `POST /v1/jobs/{id}/complete`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Complete {
    pub lease_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_content_type: Option<String>,
}

/// `POST /v1/jobs/{id}/fail`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fail {
    pub lease_token: String,
    pub error: ErrorReport,
    /// `true` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<f64>,
}

/// `POST /v1/jobs/{id}/release`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Release {
    pub lease_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `POST /v1/jobs/{id}/cancelled`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AgreeToCancel {
    pub lease_token: String,
}

/// One item of `POST /v1/settlements`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settlement {
    pub job_id: String,
    pub lease_token: String,
    /// `completed`, `failed`, `released` or `cancelled`.
    pub outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_location: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retryable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_seconds: Option<f64>,
}

/// `POST /v1/settlements`: up to 1000 outcomes and, optionally, the next claim.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settlements {
    pub worker_id: String,
    pub settlements: Vec<Settlement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SettlementsAnswer {
    pub results: Vec<SettlementResult>,
    pub jobs: Vec<LeasedJob>,
    pub cancel: Vec<String>,
    pub directive: String,
    pub server_time: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SettlementResult {
    pub job_id: String,
    pub ok: bool,
    /// The job's status after the settlement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// RFC 9457 problem details.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Stable and machine-readable.
    pub code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// The failed job's error, on `job-failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemItem>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProblemItem {
    /// RFC 6901, e.g. `/jobs/3/kind`.
    pub pointer: String,
    pub code: String,
    pub detail: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queue {
    pub name: String,
    pub paused: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<String>,
    pub jobs: QueueJobs,
    /// Since eligible, by the server's clock; 0 when nothing waits or the queue is paused.
    pub oldest_pending_age_seconds: f64,
    /// Workers seen in the last 90 s that accept this queue.
    pub workers: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueJobs {
    pub eligible: u64,
    pub scheduled: u64,
    pub retry_backoff: u64,
    pub running: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueList {
    pub queues: Vec<Queue>,
}

/// `POST /v1/queues/{queue}/pause`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// RFC 3339: resumes by itself then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Worker {
    pub worker_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub queues: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    pub capacity: u32,
    pub last_seen: String,
    pub leases: u64,
    pub directive: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerList {
    pub workers: Vec<Worker>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Task {
    pub task: String,
    pub interval_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<String>,
    /// `ok`, `error` or `panic`; absent before the first run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    pub restarts: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskList {
    pub tasks: Vec<Task>,
}

/// `GET /v1/meta`: every promise in numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    pub name: String,
    pub version: String,
    /// `sqlite` …
    pub store: String,
    /// `full`: a 202 means synced to disk; `normal`: a power cut may lose the last moments.
    pub durability: String,
    pub sync_window_seconds: f64,
    pub idempotency: MetaIdempotency,
    pub retention_seconds: MetaRetention,
    pub limits: MetaLimits,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetaIdempotency {
    /// A key lives at least this long, and as long as its job's record.
    pub key_lifetime_seconds: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetaRetention {
    pub completed: f64,
    pub failed: f64,
    pub cancelled: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetaLimits {
    pub request_body_bytes: u64,
    pub payload_bytes: u64,
    pub inline_result_bytes: u64,
    pub result_bytes: u64,
    pub error_bytes: u64,
    pub checkpoint_bytes: u64,
    pub progress_message_bytes: u64,
    pub metadata_bytes: u64,
    pub tags: u64,
    pub json_depth: u64,
    pub name_pattern: String,
    pub priority_min: i64,
    pub priority_max: i64,
    pub max_attempts: u64,
    pub timeout_seconds: f64,
    pub run_at_ahead_seconds: f64,
    pub batch_items: u64,
    pub wait_seconds: f64,
    pub claim_jobs: u64,
    pub claim_bytes: u64,
    pub lease_seconds: f64,
    pub worker_id_bytes: u64,
    pub idempotency_key_bytes: u64,
}
