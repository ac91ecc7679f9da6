//! What operators see: queues, workers, tasks, and the promises in numbers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Jobs that have been eligible for longer than the queue's threshold, as the watchdog found.
    pub stuck: u64,
    /// Workers seen in the last 90 s, and since a lease of theirs ran out, that accept this queue.
    pub workers: u64,
    /// Jobs that they run at once, by their own word.
    pub slots: u64,
    /// Over about a minute.
    pub start_rate_per_second: f64,
    /// Jobs that completed or failed, over the last minute, as this server's process saw them.
    pub finish_rate_per_second: f64,
    /// The share that failed of those that completed or failed in the last 5 minutes, as this
    /// server's process saw them; absent when none did. Cancelled jobs do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_ratio_5m: Option<f64>,
    /// Until what is eligible now has started, at that rate; at most a day, which means a day or
    /// more.
    pub estimated_wait_seconds: f64,
    /// That of `limits`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_depth: Option<u64>,
    pub limits: QueueLimits,
    pub settings: QueueSettings,
    /// What operators have set over the configuration, by member of a patch, such as `max_depth` or
    /// `backoff.max_seconds`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<String, Override>,
    /// Of the settings and the pause: in quotes, the `ETag`.
    pub revision: u64,
}

/// What jobs of a queue get when their submission is silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QueueSettings {
    pub sync_window_seconds: f64,
    pub lease_seconds: f64,
    pub max_attempts: u32,
    pub timeout_seconds: f64,
    pub cancel_grace_seconds: f64,
    pub backoff: QueueBackoff,
    pub retention_seconds: MetaRetention,
    pub require_idempotency_key: bool,
    pub retry_after: QueueRetryAfter,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QueueRetryAfter {
    /// The share of jobs that are done when their client is told to ask again.
    pub quantile: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QueueBackoff {
    pub initial_seconds: f64,
    pub max_seconds: f64,
    pub multiplier: f64,
    pub jitter: f64,
}

/// A value that was set over the configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Override {
    pub value: serde_json::Value,
    pub set_by: String,
    pub set_at: String,
}

/// What is in force in a queue; absent when there is no limit or the watchdog is off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QueueLimits {
    /// Jobs that may run at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// Jobs that may be pending at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_depth: Option<u64>,
    /// Attempts that may start a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_rate_per_second: Option<f64>,
    /// How long an eligible job may wait before it counts as stuck.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stuck_after_seconds: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QueueJobs {
    pub eligible: u64,
    pub scheduled: u64,
    pub retry_backoff: u64,
    pub running: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QueueList {
    pub queues: Vec<Queue>,
}

/// A body without members, where one may be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Nothing {}

/// `POST /v1/queues/{queue}/pause`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// RFC 3339: resumes by itself then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WorkerList {
    pub workers: Vec<Worker>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Task {
    pub task: String,
    pub interval_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<String>,
    /// Of the last run that ended: `ok`, `error` or `panic`; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    /// Since when the run under way has been going; absent between two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_for_seconds: Option<f64>,
    /// That run takes far too long.
    pub hung: bool,
    pub restarts: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TaskList {
    pub tasks: Vec<Task>,
}

/// `GET /v1/meta`: every promise in numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MetaIdempotency {
    /// A key lives at least this long, and as long as its job's record.
    pub key_lifetime_seconds: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MetaRetention {
    pub completed: f64,
    pub failed: f64,
    pub cancelled: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MetaLimits {
    /// Of the request line and the headers together.
    pub request_head_bytes: u64,
    pub request_head_lines: u64,
    pub request_head_seconds: f64,
    pub request_body_bytes: u64,
    pub request_body_seconds: f64,
    /// Of all request bodies at once that are larger than `small_body_bytes`.
    pub large_bodies_bytes: u64,
    pub small_body_bytes: u64,
    /// In which a client must read some of its answer.
    pub answer_seconds: f64,
    pub request_id_bytes: u64,
    /// Wrong members that one answer lists.
    pub errors_shown: u64,
    pub payload_bytes: u64,
    pub inline_result_bytes: u64,
    pub result_bytes: u64,
    pub result_location_bytes: u64,
    pub result_content_type_bytes: u64,
    pub error_bytes: u64,
    pub error_type_bytes: u64,
    pub checkpoint_bytes: u64,
    pub progress_message_bytes: u64,
    pub metadata_bytes: u64,
    pub tags: u64,
    pub tag_bytes: u64,
    pub json_depth: u64,
    pub name_pattern: String,
    /// Names of queues that are known at once, and as many of kinds.
    pub names: u64,
    pub priority_min: i64,
    pub priority_max: i64,
    pub max_attempts_default: u64,
    pub max_attempts: u64,
    pub timeout_seconds_default: f64,
    pub timeout_seconds: f64,
    /// Of `initial_seconds` and `max_seconds`.
    pub backoff_seconds: f64,
    pub backoff_multiplier_min: f64,
    pub backoff_multiplier_max: f64,
    pub expected_duration_seconds: f64,
    /// Also of the delay that a worker gives with a failure or a release.
    pub run_at_ahead_seconds: f64,
    /// The longest that a submission may ask for.
    pub retention_seconds: f64,
    pub batch_items: u64,
    pub list_items: u64,
    pub list_items_default: u64,
    pub timeline_events: u64,
    pub workers_shown: u64,
    pub wait_seconds: f64,
    pub claim_jobs: u64,
    pub claim_bytes: u64,
    /// Queues in one claim, and as many kinds.
    pub claim_names: u64,
    pub concurrency: u64,
    pub lease_seconds_min: f64,
    pub lease_seconds_default: f64,
    pub lease_seconds: f64,
    pub worker_id_bytes: u64,
    /// Also of host names and versions of workers.
    pub reason_bytes: u64,
    pub idempotency_key_bytes: u64,
}
