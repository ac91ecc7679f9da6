//! `GET /v1/kinds`: what was learnt of each kind of job.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Kind {
    pub kind: String,
    /// Completed attempts that are known: of the last hour, or of the last day where that is less
    /// than 20. So are the spreads below.
    pub samples: u64,
    /// Of completed attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_seconds: Option<Spread>,
    /// From eligible to claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<Spread>,
    /// Jobs that ended so in the last day.
    pub completed: u64,
    pub failed: u64,
    /// Failed of those two; absent when there were none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_ratio: Option<f64>,
    pub retry_after: Calibration,
}

/// Within 1 % each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Spread {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
}

/// The end of each job against the last moment that its client had been told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Calibration {
    /// Jobs that ended before that moment: their clients come too late, by so many seconds.
    pub ended_early: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_seconds: Option<Spread>,
    /// Jobs that ended after it: their clients come too early, and ask again.
    pub ended_late: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_seconds: Option<Spread>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KindList {
    pub kinds: Vec<Kind>,
}
