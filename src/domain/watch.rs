//! What the watchdog can say: why jobs of one queue and kind are stuck.
//!
//! A job is *stuck* when it has been eligible for longer than its queue's `stuck_after`: time that
//! it was scheduled for, backed off or paused through does not count.

/// Why jobs are stuck. The order is the order of judgement: the first that applies is the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// The server sees its own store failing or crawling.
    StoreDegraded,
    /// As many jobs run as the queue's `max_running` allows.
    ConcurrencyLimited,
    /// Nobody was seen who accepts this queue and kind.
    NoWorkers,
    /// Somebody was, but not lately.
    WorkersSilent,
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
    pub const ALL: [Self; 8] = [
        Self::StoreDegraded,
        Self::ConcurrencyLimited,
        Self::NoWorkers,
        Self::WorkersSilent,
        Self::DispatchStalled,
        Self::WorkersStalled,
        Self::WorkersSaturated,
        Self::Unknown,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StoreDegraded => "store_degraded",
            Self::ConcurrencyLimited => "concurrency_limited",
            Self::NoWorkers => "no_workers",
            Self::WorkersSilent => "workers_silent",
            Self::DispatchStalled => "dispatch_stalled",
            Self::WorkersStalled => "workers_stalled",
            Self::WorkersSaturated => "workers_saturated",
            Self::Unknown => "unknown",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.as_str() == text)
    }
}
