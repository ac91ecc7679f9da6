//! What a job gets when its submission is silent, and what its queue is held to: resolved from
//! configuration, per queue.

use std::time::Duration;

use super::job::{Policy, Retention};
use super::retry::Backoff;

/// What a job gets when its request says nothing: `[jobs]`, with the queue's own keys over it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobDefaults {
    /// 0 s (never) to 50 s, default 100 ms.
    pub sync_window: Duration,
    /// 1 s to 1 h, default 30 s.
    pub lease: Duration,
    /// 1 to 100, default 5.
    pub max_attempts: u32,
    /// Of one attempt. 1 s to 604 800 s, default 1 h.
    pub timeout: Duration,
    /// 0 s to 7 d, default 5 m.
    pub cancel_grace: Duration,
    pub backoff: Backoff,
    pub retention: Retention,
    /// Of what jobs took, the quantile that clients are told as `Retry-After`. 0.05 to 0.95,
    /// default 0.5.
    pub retry_after_quantile: f64,
}

impl JobDefaults {
    /// The part that is fixed in a job when it is accepted.
    pub fn policy(&self) -> Policy {
        Policy {
            timeout: self.timeout,
            cancel_grace: self.cancel_grace,
            backoff: self.backoff,
            retention: self.retention,
        }
    }
}

/// What a queue gets beside its [`JobDefaults`]: nothing of it is fixed in a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueueWatch {
    /// How long a job may be eligible before it is stuck; `None`: it never is. 1 s to 7 d, default
    /// 5 m.
    pub stuck_after: Option<Duration>,
    /// How many of its jobs may run at a time; `None`: any number. 1 to 1 000 000.
    pub max_running: Option<u32>,
    /// How many of its jobs may wait; `None`: any number. At least 1.
    pub max_depth: Option<u64>,
    /// How many attempts may start a second; `None`: any number. 0.001 to 1 000 000.
    pub start_rate: Option<f64>,
    /// Whether a submission must have an `Idempotency-Key`. Default false.
    pub require_key: bool,
}
