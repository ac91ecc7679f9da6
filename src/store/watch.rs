//! What the store knows that helps to say why work is late.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::id::JobId;
use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::domain::watch::{Evidence, Verdict};

use super::QueueState;

/// How long an eligible job may wait before it counts as stuck; `None`: for ever.
#[derive(Debug, Clone, Default)]
pub struct StuckAfter {
    pub default: Option<Duration>,
    /// Queues with a threshold of their own.
    pub queues: HashMap<Name, Option<Duration>>,
}

impl StuckAfter {
    pub fn of(&self, queue: &str) -> Option<Duration> {
        self.queues.get(queue).copied().unwrap_or(self.default)
    }
}

/// The limits of a queue that are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLimits {
    pub name: Name,
    /// Jobs of the queue that may be leased at once.
    pub max_running: Option<u32>,
    /// Jobs of the queue that may be pending at once, beyond which submissions are refused. Jobs
    /// that come back to pending are not.
    pub max_depth: Option<u64>,
}

impl QueueLimits {
    /// A queue without limits.
    pub const fn none(name: Name) -> Self {
        Self { name, max_running: None, max_depth: None }
    }
}

/// One queue's jobs of one kind, and what concerns them.
#[derive(Debug, Clone, PartialEq)]
pub struct KindState {
    pub kind: Name,
    pub queue: QueueState,
    /// Jobs that have been eligible for longer than the threshold, as of the last scan and less
    /// those that have left since.
    pub stuck: u64,
    /// Of those, the ones that this scan found for the first time.
    pub newly: u64,
    /// By [`Tally::code`](crate::domain::job::Tally::code): those of a job that is not finished.
    pub tallies: [u64; 4],
    /// Since when the oldest eligible job waits, or since the queue's last resume if that was
    /// later; `None` when none is eligible.
    pub oldest_since: Option<Timestamp>,
    /// That job's.
    pub oldest_priority: Option<i32>,
    pub oldest_namespace: Option<Name>,
    /// The oldest eligible jobs, oldest first: at most 10, fewer when there are many kinds.
    pub oldest_jobs: Vec<JobId>,
    /// Kinds of the queue of which jobs run, and how many.
    pub queue_running: Vec<(Name, u64)>,
}

/// A time during which jobs of one queue and kind were stuck.
#[derive(Debug, Clone, PartialEq)]
pub struct Episode {
    pub queue: Name,
    pub kind: Name,
    pub verdict: Verdict,
    pub since: Timestamp,
    /// Stuck jobs when it was last looked at.
    pub jobs: u64,
    /// The most that were stuck at once.
    pub peak_jobs: u64,
    /// At most 10, oldest first.
    pub oldest_jobs: Vec<JobId>,
    /// What the verdict was judged by.
    pub evidence: Evidence,
    pub ended_at: Option<Timestamp>,
}

/// An episode that goes on, with the numbers of this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenEpisode {
    pub queue: Name,
    pub kind: Name,
    pub verdict: Verdict,
    pub since: Timestamp,
    pub jobs: u64,
    /// Jobs of the kind that wait for a worker, stuck or not.
    pub queued: u64,
}

#[derive(Debug, Clone, Default)]
pub struct EpisodeFilter {
    pub queue: Option<Name>,
    pub kind: Option<Name>,
    /// Only those that go on, or ended later than this.
    pub ended_after: Option<Timestamp>,
}
