//! The closed sets that label values come from.

use std::borrow::Cow;

use crate::domain::job::{AttemptOutcome, PendingReason, Status};
use crate::domain::lease::TakeBackCause;
use crate::domain::state::Rejected;
use crate::domain::watch::Verdict;

/// Where names beyond the cap are counted together. No queue, kind or class of errors can be
/// called so.
pub const OTHER: &str = "_other";
/// The queue of a request that was refused before its queue was known.
pub const NONE: &str = "_none";

macro_rules! closed {
    ($(#[$doc:meta])* $name:ident { $($(#[$note:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$note])* $variant,)+ }

        impl $name {
            pub const ALL: [Self; [$($text),+].len()] = [$(Self::$variant),+];
            /// The label values, in the order of `ALL`.
            pub const VALUES: [&'static str; [$($text),+].len()] = [$($text),+];

            pub const fn as_str(self) -> &'static str {
                Self::VALUES[self as usize]
            }
        }
    };
}

closed! {
    /// What became of a submission; every one has exactly one outcome.
    Submission {
        Accepted => "accepted",
        /// Accepted, and finished within the synchronous window.
        CompletedSync => "completed_sync",
        /// Answered from an earlier submission with the same idempotency key.
        Replayed => "replayed",
        Invalid => "invalid",
        TooLarge => "too_large",
        /// As many jobs wait as the queue's `max_depth` allows.
        QueueFull => "queue_full",
        /// Its queue or kind would have been one name too many for the server.
        TooManyNames => "too_many_names",
        /// Over the rate of its token.
        RateLimited => "rate_limited",
        /// Without a token that may.
        Unauthorized => "unauthorized",
        Unavailable => "unavailable",
    }
}

closed! {
    /// Why a request was not let in.
    AuthRefusal {
        NoToken => "no_token",
        Malformed => "malformed",
        Unknown => "unknown",
        Expired => "expired",
        /// The token lacks the scope.
        Scope => "scope",
        /// The queue or kind is not on the token's list.
        List => "list",
        /// Over the token's rate.
        Rate => "rate",
    }
}

closed! {
    /// What a claim brought, for each queue that it named.
    ClaimOutcome {
        Leased => "leased",
        Empty => "empty",
        Paused => "paused",
        /// As many jobs run as the queue's `max_running` allows, or start as its
        /// `start_rate_per_second` does.
        Limited => "limited",
        Error => "error",
    }
}

closed! {
    HeartbeatOutcome {
        Extended => "extended",
        /// The lease was no longer this worker's.
        Lost => "lost",
    }
}

closed! {
    /// On which side of the advised moment a job ended.
    Direction {
        Early => "early",
        Late => "late",
    }
}

closed! {
    /// How a question for a job's status fits what was advised.
    Timing {
        /// Before the moment that was advised.
        Early => "early",
        Due => "due",
        Finished => "finished",
    }
}

closed! {
    TaskOutcome {
        Ok => "ok",
        Error => "error",
        Panic => "panic",
    }
}

closed! {
    /// What became of spans that were sent to the collector.
    SpanExport {
        Ok => "ok",
        /// It took the batch, and refused these.
        Rejected => "rejected",
        Failed => "failed",
    }
}

closed! {
    /// Why a span did not arrive.
    SpanLoss {
        /// More ended than the collector took.
        QueueFull => "queue_full",
        ExportFailed => "export_failed",
        Rejected => "rejected",
        /// The process ended first.
        Shutdown => "shutdown",
    }
}

closed! {
    /// The store's verbs.
    Operation {
        Submit => "submit",
        Get => "get",
        Result => "result",
        List => "list",
        Cancel => "cancel",
        Retry => "retry",
        Delete => "delete",
        Claim => "claim",
        Heartbeat => "heartbeat",
        Settle => "settle",
        Withdraw => "withdraw",
        Goodbye => "goodbye",
        TakeBack => "take_back",
        Promote => "promote",
        ExtendLeases => "extend_leases",
        Expire => "expire",
        Sample => "sample",
        Recount => "recount",
        Pause => "pause",
        Resume => "resume",
        Presence => "presence",
        Override => "override",
        SetLimits => "set_limits",
        Scan => "scan",
        Inspect => "inspect",
        RecordEpisodes => "record_episodes",
        Estimates => "estimates",
        SaveEstimates => "save_estimates",
        Episodes => "episodes",
        Workers => "workers",
    }
}

closed! {
    /// How a store operation failed; the coarse classes that call for different cures.
    ErrorClass {
        Busy => "busy",
        Full => "full",
        Io => "io",
        Corrupt => "corrupt",
        Closed => "closed",
        Other => "other",
    }
}

impl ErrorClass {
    /// An unknown class is `other`.
    pub fn of(text: &str) -> Self {
        Self::ALL.into_iter().find(|c| c.as_str() == text).unwrap_or(Self::Other)
    }
}

closed! {
    /// The maintenance tasks.
    Task {
        Watchdog => "watchdog",
        Sampler => "sampler",
        Reaper => "reaper",
        Scheduler => "scheduler",
        Retention => "retention",
        Reconcile => "reconcile",
        Presence => "presence",
        Canary => "canary",
        Estimates => "estimates",
    }
}

impl Task {
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == text)
    }
}

closed! {
    /// The labels that have a cap.
    CappedLabel {
        Queue => "queue",
        Kind => "kind",
        ErrorClass => "error_class",
    }
}

closed! {
    /// What the workers of a queue are at.
    WorkerState {
        /// Heard of lately, and holds no lease.
        Idle => "idle",
        /// Holds a lease.
        Busy => "busy",
        /// Not heard of lately.
        Silent => "silent",
    }
}

closed! {
    /// The severity of a log event.
    LogLevel {
        Error => "error",
        Warn => "warn",
        Info => "info",
        Debug => "debug",
        Trace => "trace",
    }
}

impl LogLevel {
    pub fn of(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::INFO => Self::Info,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::TRACE => Self::Trace,
        }
    }
}

closed! {
    /// Why a worker's late report was refused.
    LateReason {
        LeaseLost => "lease_lost",
        LeaseExpired => "lease_expired",
        AlreadyReported => "already_reported",
        JobAlreadyFinished => "job_already_finished",
    }
}

impl LateReason {
    /// `None` for refusals that say nothing about lateness.
    pub const fn of(reason: Rejected) -> Option<Self> {
        match reason {
            Rejected::LeaseLost => Some(Self::LeaseLost),
            Rejected::LeaseExpired => Some(Self::LeaseExpired),
            Rejected::AlreadyReported => Some(Self::AlreadyReported),
            Rejected::JobAlreadyFinished => Some(Self::JobAlreadyFinished),
            Rejected::JobNotFinished | Rejected::CancelNotRequested | Rejected::NotEligible => None,
        }
    }
}

closed! {
    /// The states that a job ends in.
    Finished {
        Completed => "completed",
        Failed => "failed",
        Cancelled => "cancelled",
    }
}

impl Finished {
    pub const fn of(status: Status) -> Option<Self> {
        match status {
            Status::Completed => Some(Self::Completed),
            Status::Failed => Some(Self::Failed),
            Status::Cancelled => Some(Self::Cancelled),
            Status::Pending | Status::Running => None,
        }
    }
}

closed! {
    /// Attempts that a worker carried to an end of their own, whose length means something.
    Run {
        Completed => "completed",
        Failed => "failed",
    }
}

impl Run {
    pub const fn of(outcome: AttemptOutcome) -> Option<Self> {
        match outcome {
            AttemptOutcome::Completed => Some(Self::Completed),
            AttemptOutcome::Failed => Some(Self::Failed),
            AttemptOutcome::TimedOut
            | AttemptOutcome::LeaseExpired
            | AttemptOutcome::Released
            | AttemptOutcome::Cancelled => None,
        }
    }
}

closed! {
    /// HTTP request methods, by the OpenTelemetry semantic conventions: the known ones and
    /// `_OTHER`.
    Method {
        Connect => "CONNECT",
        Delete => "DELETE",
        Get => "GET",
        Head => "HEAD",
        Options => "OPTIONS",
        Patch => "PATCH",
        Post => "POST",
        Put => "PUT",
        Trace => "TRACE",
        Other => "_OTHER",
    }
}

impl Method {
    /// Methods are case-sensitive (RFC 9110, section 9.1).
    pub fn of(text: &str) -> Self {
        Self::ALL.into_iter().find(|m| m.as_str() == text).unwrap_or(Self::Other)
    }
}

/// The route of a request that no route matched.
pub const UNMATCHED: &str = "_unmatched";

/// The routes, as the router writes them; `_unmatched` for everything else.
pub const ROUTES: [&str; 36] = [
    "/",
    "/docs",
    "/livez",
    "/metrics",
    "/openapi.json",
    "/problems/{slug}",
    "/readyz",
    "/v1/claims",
    "/v1/episodes",
    "/v1/heartbeats",
    "/v1/jobs",
    "/v1/jobs/batch",
    "/v1/jobs/{id}",
    "/v1/jobs/{id}/cancel",
    "/v1/jobs/{id}/cancelled",
    "/v1/jobs/{id}/complete",
    "/v1/jobs/{id}/explain",
    "/v1/jobs/{id}/fail",
    "/v1/jobs/{id}/heartbeat",
    "/v1/jobs/{id}/release",
    "/v1/jobs/{id}/result",
    "/v1/jobs/{id}/retry",
    "/v1/jobs/{id}/timeline",
    "/v1/kinds",
    "/v1/meta",
    "/v1/queues",
    "/v1/queues/{q}",
    "/v1/queues/{q}/explain",
    "/v1/queues/{q}/pause",
    "/v1/queues/{q}/resume",
    "/v1/settlements",
    "/v1/tasks",
    "/v1/workers",
    "/v1/workers/{id}/drain",
    "/v1/workers/{id}/goodbye",
    UNMATCHED,
];

/// The canonical text of a route.
pub fn route(text: &str) -> &'static str {
    ROUTES.into_iter().find(|r| *r == text).unwrap_or(UNMATCHED)
}

/// The longest class of errors.
pub const ERROR_CLASS_LENGTH: usize = 64;

/// The class of an attempt's error by its `type`, as `[a-z0-9._-]{1,64}`.
///
/// Letters become small, every other character `-`, and what is longer is cut. An underscore in
/// front becomes `-` too, so that no class is taken for [`OTHER`]. No type at all is `unknown`.
pub fn attempt_error_class(error_type: &str) -> Cow<'_, str> {
    let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let bytes = error_type.as_bytes();
    match bytes {
        [] => Cow::Borrowed("unknown"),
        [first, ..]
            if *first != b'_'
                && bytes.len() <= ERROR_CLASS_LENGTH
                && bytes.iter().copied().all(plain) =>
        {
            Cow::Borrowed(error_type)
        }
        _ => {
            let class = error_type.chars().take(ERROR_CLASS_LENGTH).enumerate();
            let class = class.map(|(i, c)| match u8::try_from(c.to_ascii_lowercase()) {
                Ok(b'_') if i == 0 => '-',
                Ok(b) if plain(b) => char::from(b),
                Ok(_) | Err(_) => '-',
            });
            Cow::Owned(class.collect())
        }
    }
}

macro_rules! texts {
    ($set:ty) => {{
        let mut out = [""; <$set>::ALL.len()];
        let mut i = 0;
        while i < out.len() {
            out[i] = <$set>::ALL[i].as_str();
            i += 1;
        }
        out
    }};
}

/// What the store keeps names of, in the order of its sample.
pub const DICTIONARIES: [&str; 2] = ["queues", "kinds"];

pub const STATES: [&str; Status::ALL.len()] = texts!(Status);
pub const PENDING_REASONS: [&str; PendingReason::ALL.len()] = texts!(PendingReason);
pub const ATTEMPT_OUTCOMES: [&str; AttemptOutcome::ALL.len()] = texts!(AttemptOutcome);
pub const TAKE_BACK_CAUSES: [&str; TakeBackCause::ALL.len()] = texts!(TakeBackCause);
pub const VERDICTS: [&str; Verdict::ALL.len()] = texts!(Verdict);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_values_fold_into_the_closed_sets() {
        assert_eq!(Method::of("get"), Method::Other);
        assert_eq!(Method::of("POST").as_str(), "POST");
        assert_eq!(route("/v1/jobs/{id}"), "/v1/jobs/{id}");
        assert_eq!(route("/../etc/passwd"), UNMATCHED);
        assert_eq!(ErrorClass::of("weird"), ErrorClass::Other);
        assert_eq!(ErrorClass::of("busy"), ErrorClass::Busy);
    }

    #[test]
    fn error_types_become_classes() {
        for (error_type, class) in [
            ("lease-expired", "lease-expired"),
            ("e_conn.reset-2", "e_conn.reset-2"),
            ("ValueError", "valueerror"),
            ("std::io::Error", "std--io--error"),
            ("no space left: \"x\"\n", "no-space-left---x--"),
            ("Überlauf", "-berlauf"),
            ("_other", "-other"),
            ("__main__.Oops", "-_main__.oops"),
            ("Ａ", "-"),
            ("", "unknown"),
        ] {
            assert_eq!(attempt_error_class(error_type), class);
        }
        let long = "Ä".repeat(1_000);
        assert_eq!(attempt_error_class(&long), "-".repeat(ERROR_CLASS_LENGTH));
        let just = "x".repeat(ERROR_CLASS_LENGTH);
        assert_eq!(attempt_error_class(&just), just);
        assert_eq!(attempt_error_class(&(just.clone() + "y")), just);
        for cause in TakeBackCause::ALL {
            assert_eq!(attempt_error_class(cause.error_type()), cause.error_type());
        }
    }

    #[test]
    fn every_log_level_has_its_label() {
        for level in LogLevel::VALUES {
            let parsed: tracing::Level = level.parse().unwrap();
            assert_eq!(LogLevel::of(parsed).as_str(), level);
        }
    }

    #[test]
    fn the_domain_s_sets_are_in_the_order_of_their_variants() {
        assert!(Status::ALL.into_iter().enumerate().all(|(i, s)| s as usize == i));
        assert!(AttemptOutcome::ALL.into_iter().enumerate().all(|(i, s)| s as usize == i));
        assert!(TakeBackCause::ALL.into_iter().enumerate().all(|(i, s)| s as usize == i));
        assert!(Verdict::ALL.into_iter().enumerate().all(|(i, v)| v as usize == i));
        for status in Status::ALL {
            assert_eq!(Finished::of(status).is_some(), status.is_done());
            if let Some(finished) = Finished::of(status) {
                assert_eq!(finished.as_str(), status.as_str());
            }
        }
        for outcome in AttemptOutcome::ALL {
            assert!(Run::of(outcome).is_none_or(|r| r.as_str() == outcome.as_str()));
        }
        for reason in Rejected::ALL {
            let snake = reason.code().replace('-', "_");
            assert!(LateReason::of(reason).is_none_or(|r| r.as_str() == snake));
        }
    }
}
