//! The watchdog's judgement: why jobs of one queue and kind are stuck, and when to say so.
//!
//! A job is *stuck* when it has been eligible for longer than its queue's `stuck_after`; time that
//! it was scheduled for, backed off or paused through does not count. The verdict follows from the
//! [`Evidence`] alone, so whoever is shown the evidence can judge for themselves.

mod advice;
mod levels;
mod watching;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

pub use advice::{next_step, outlook};
pub use levels::Levels;
pub use watching::{Turn, Watching};

/// A worker that was not seen for this long counts as silent.
pub const SILENT_AFTER: Duration = Duration::from_secs(90);

/// Why jobs are stuck. The order is the order of judgement: the first that applies is the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// The server sees its own store failing or crawling.
    StoreDegraded,
    /// As many attempts start as the queue's `start_rate_per_second` allows.
    RateLimited,
    /// As many jobs run as the queue's `max_running` allows.
    ConcurrencyLimited,
    /// Nobody was seen who accepts this queue and kind.
    NoWorkers,
    /// Somebody was, but not lately.
    WorkersSilent,
    /// Jobs of a higher priority start, again and again, and none of theirs.
    Starved,
    /// Somebody asks for such jobs and gets none: the server's own fault.
    DispatchStalled,
    /// Leases are held, and nothing has been settled for far too long.
    WorkersStalled,
    /// Leases are held and settled: too little capacity.
    WorkersSaturated,
    /// None of these.
    Unknown,
}

impl Verdict {
    pub const ALL: [Self; 10] = [
        Self::StoreDegraded,
        Self::RateLimited,
        Self::ConcurrencyLimited,
        Self::NoWorkers,
        Self::WorkersSilent,
        Self::Starved,
        Self::DispatchStalled,
        Self::WorkersStalled,
        Self::WorkersSaturated,
        Self::Unknown,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StoreDegraded => "store_degraded",
            Self::RateLimited => "rate_limited",
            Self::ConcurrencyLimited => "concurrency_limited",
            Self::NoWorkers => "no_workers",
            Self::WorkersSilent => "workers_silent",
            Self::Starved => "starved",
            Self::DispatchStalled => "dispatch_stalled",
            Self::WorkersStalled => "workers_stalled",
            Self::WorkersSaturated => "workers_saturated",
            Self::Unknown => "unknown",
        }
    }

    /// Whether a client should hear that nobody works on its job.
    pub const fn means_no_workers(self) -> bool {
        match self {
            Self::NoWorkers | Self::WorkersSilent => true,
            Self::StoreDegraded
            | Self::RateLimited
            | Self::ConcurrencyLimited
            | Self::Starved
            | Self::DispatchStalled
            | Self::WorkersStalled
            | Self::WorkersSaturated
            | Self::Unknown => false,
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.as_str() == text)
    }
}

/// What is known of one queue and kind at one moment.
///
/// *Workers* are those who accept this queue and kind and were seen within a day. *Present* are
/// those of them who showed themselves (by a claim, a heartbeat or a settlement) within
/// [`SILENT_AFTER`], since the oldest job became eligible, and since a lease of theirs ran out; and
/// whoever holds a lease that goes on: how often it must show itself is what the lease says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    pub at: Timestamp,
    /// Of this queue and kind.
    pub eligible: u64,
    pub running: u64,
    /// Since when the oldest eligible job waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_since: Option<Timestamp>,
    /// The queue's threshold; absent when it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stuck_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Timestamp>,
    /// Of all kinds in the queue.
    pub queue_running: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// Attempts of the queue that may start a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_rate_limit: Option<Rate>,
    /// When that last held a claim back; now, while it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_rate_limited: Option<Timestamp>,
    pub store_degraded: bool,
    pub workers: u64,
    pub workers_present: u64,
    /// Jobs that the present workers run at once, by their own word.
    pub slots: u64,
    /// Leases that they hold, in any queue.
    pub leases: u64,
    /// Their claims that wait for a job right now.
    pub parked_claims: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_empty_claim: Option<Timestamp>,
    /// Of this queue and kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_start: Option<Timestamp>,
    /// Of any kind in the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_last_start: Option<Timestamp>,
    /// Of the oldest eligible job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_priority: Option<i32>,
    /// When these workers last started a job of a higher priority in the queue, of any kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_higher_start: Option<Timestamp>,
    /// When they last started one of the same priority, or a lower one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_level_start: Option<Timestamp>,
    /// Since when their starts are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub levels_since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_settlement: Option<Timestamp>,
    /// When the newest of those who hold leases was first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_worker: Option<Timestamp>,
    /// Jobs started a second in this queue, over about a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_rate: Option<Rate>,
    /// How long nothing may be settled before the workers count as stalled.
    pub run_limit_ms: u64,
    /// The scan before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_scan: Option<Timestamp>,
    /// Of the oldest job's latest failed attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Of the oldest job's submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

impl Evidence {
    pub fn oldest_age(&self) -> Option<Duration> {
        self.oldest_since.map(|since| self.at.since(since))
    }

    /// Whether the oldest has waited for longer than the queue allows.
    pub fn is_overdue(&self) -> bool {
        let limit = self.stuck_after_ms.map(Duration::from_millis);
        self.oldest_age().zip(limit).is_some_and(|(age, limit)| age > limit)
    }

    /// The limit held a claim back since the scan before this one, and somebody who takes such
    /// jobs has time for one: where all are busy, it is not the limit that keeps them.
    fn is_at_start_rate(&self) -> bool {
        self.start_rate_limit.is_some()
            && after(self.last_rate_limited, self.previous_scan)
            && (self.parked_claims > 0 || self.leases < self.slots)
    }

    /// Work of a higher priority has started since the scan before this one, and for as long as it
    /// takes to be stuck, nothing of this one's own: it is not merely its turn that has not come.
    fn is_starved(&self) -> bool {
        let Some(previous) = self.previous_scan else { return false };
        let patience = Duration::from_millis(self.stuck_after_ms.unwrap_or_default());
        let long_ago = previous.min(self.at.minus(patience));
        after(self.last_higher_start, Some(previous))
            && self.last_level_start.or(self.levels_since).is_some_and(|at| at <= long_ago)
    }

    /// The verdict, whether or not anything is stuck yet.
    pub fn judge(&self) -> Verdict {
        let run_limit = Duration::from_millis(self.run_limit_ms);
        // Who has only just come cannot have settled anything.
        let settled_lately = self
            .last_settlement
            .max(self.newest_worker)
            .is_some_and(|t| self.at.since(t) <= run_limit);
        // Where a limit holds claims back, one that waits may be waiting for another kind's turn.
        let limited = self.max_running.is_some() || self.start_rate_limit.is_some();
        let last_start = if limited { self.queue_last_start } else { self.last_start };
        // Without an earlier scan nothing can have gone on over two of them.
        let nothing_started =
            self.previous_scan.is_some() && !after(last_start, self.previous_scan);
        let asked_in_vain = self.parked_claims > 0
            || after(self.last_empty_claim, self.previous_scan.max(self.oldest_since));
        if self.store_degraded {
            Verdict::StoreDegraded
        } else if self.is_at_start_rate() {
            Verdict::RateLimited
        } else if self.max_running.is_some_and(|max| self.queue_running >= u64::from(max)) {
            Verdict::ConcurrencyLimited
        } else if self.workers == 0 {
            Verdict::NoWorkers
        } else if self.workers_present == 0 {
            Verdict::WorkersSilent
        } else if self.is_starved() {
            Verdict::Starved
        } else if nothing_started && asked_in_vain {
            Verdict::DispatchStalled
        } else if self.leases > 0 && self.queue_running > 0 && !settled_lately {
            // Leases of other queues alone are other work, however long it takes.
            Verdict::WorkersStalled
        } else if self.leases > 0 || after(self.last_settlement, self.previous_scan) {
            Verdict::WorkersSaturated
        } else {
            Verdict::Unknown
        }
    }
}

fn after(moment: Option<Timestamp>, mark: Option<Timestamp>) -> bool {
    moment.is_some_and(|m| mark.is_none_or(|mark| m > mark))
}

/// Jobs a second, in thousandths: equal evidence is equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate {
    pub per_1000_seconds: u64,
}

impl Rate {
    pub fn per_second(rate: f64) -> Self {
        // The cast saturates.
        Self { per_1000_seconds: (rate * 1_000.0).round() as u64 }
    }

    pub fn as_per_second(self) -> f64 {
        self.per_1000_seconds as f64 / 1_000.0
    }
}

#[cfg(test)]
mod tests;
