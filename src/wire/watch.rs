//! Why nothing moves: the watchdog's verdicts, what they were judged by, and what to do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The verdict of a queue or kind of which nothing is stuck.
pub const FLOWING: &str = "flowing";

/// `GET /v1/queues/{queue}/explain`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QueueExplanation {
    pub queue: String,
    /// The first of its kinds' in the order of judgement; `flowing` when none is stuck.
    pub verdict: String,
    /// When this was so; earlier than now only while the storage does not answer.
    pub sampled_at: String,
    pub age_seconds: f64,
    /// Those of which jobs are not finished; those with a verdict first.
    pub kinds: Vec<KindExplanation>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KindExplanation {
    pub kind: String,
    /// `flowing` while nothing is stuck.
    pub verdict: String,
    /// Since when the watchdog knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Jobs that have been eligible for longer than the queue's threshold.
    pub stuck: u64,
    /// The oldest eligible jobs, oldest first; at most 10.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub oldest_jobs: Vec<String>,
    pub evidence: Evidence,
    pub next_step: String,
}

/// `GET /v1/jobs/{id}/explain`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct JobExplanation {
    pub job_id: String,
    pub queue: String,
    pub kind: String,
    pub status: String,
    /// Whether it has been eligible for longer than its queue's threshold.
    pub stuck: bool,
    /// The watchdog's when it is stuck, else why it is pending, else its status.
    pub verdict: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Of its queue and kind, while it waits for a worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    pub next_step: String,
}

/// What a verdict is judged by. Moments that are not known are absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Evidence {
    pub at: String,
    /// Jobs of this queue and kind, like `running`.
    pub eligible: u64,
    pub running: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_age_seconds: Option<f64>,
    /// The queue's threshold; absent when it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stuck_after_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<String>,
    /// Jobs of every kind in the queue.
    pub queue_running: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// Attempts of the queue that may start a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_rate_limit_per_second: Option<f64>,
    /// When that last held a claim back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rate_limited: Option<String>,
    /// Those who accept this queue and kind and were seen within a day.
    pub workers: u64,
    /// Those of them who were seen within 90 s, since the oldest job became eligible, and since a
    /// lease of theirs ran out.
    pub workers_present: u64,
    /// Jobs that the present workers run at once, by their own word.
    pub slots: u64,
    /// Leases that they hold, in any queue.
    pub leases: u64,
    /// Their claims that wait for a job right now.
    pub parked_claims: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_empty_claim: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_start: Option<String>,
    /// Of the oldest job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_priority: Option<i32>,
    /// When the present workers last started a job of a higher priority in this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_higher_start: Option<String>,
    /// When they last started one of the same priority, or of a lower one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_level_start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_settlement: Option<String>,
    /// In this queue, over about a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_rate_per_second: Option<f64>,
    /// How long nothing may be settled before workers who hold leases count as stalled.
    pub run_limit_seconds: f64,
    pub store_degraded: bool,
    /// The type of the error that the oldest job last met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Of the oldest job's submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

/// A time during which jobs of one queue and kind were stuck.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Episode {
    pub queue: String,
    pub kind: String,
    pub verdict: String,
    pub since: String,
    /// Absent while it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Stuck jobs when it was last looked at.
    pub stuck: u64,
    /// The most that were stuck at once.
    pub peak_stuck: u64,
    /// At most 10, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub oldest_jobs: Vec<String>,
    pub evidence: Evidence,
    /// While it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
}

/// `GET /v1/episodes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EpisodeList {
    pub episodes: Vec<Episode>,
}
