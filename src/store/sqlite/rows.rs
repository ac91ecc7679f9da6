//! Between rows and the domain: one place that knows the column order.

use std::sync::LazyLock;
use std::time::Duration;

use rusqlite::{ErrorCode, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::id::JobId;
use crate::domain::job::{
    Job, Phase, Policy, RawJson, Record, Report, ResultInfo, Retention, Settled, Spec, Standing,
    Tally, Wait,
};
use crate::domain::lease::{Lease, TokenHash};
use crate::domain::names::{Name, WorkerId};
use crate::domain::retry::Backoff;
use crate::domain::time::{Timestamp, millis};
use crate::domain::trace::AttemptTrace;
use crate::store::{Result, StoreError};

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
pub(super) fn fault(error: rusqlite::Error) -> StoreError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(text),
        Some(ErrorCode::DiskFull) => StoreError::Full(text),
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied,
        ) => StoreError::Io(text),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt(text),
        _ => StoreError::Other(text),
    }
}

/// A row that cannot be understood is damage to one job and must not stop the others: it is told
/// and passed over. Any other failure is the store's.
pub(super) fn readable<T>(read: rusqlite::Result<T>, what: &'static str) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(
            error @ (rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)),
        ) => {
            tracing::error!(%error, what, "a damaged row was passed over");
            Ok(None)
        }
        Err(error) => Err(fault(error)),
    }
}

pub(super) fn moment(row: &Row<'_>, at: usize) -> rusqlite::Result<Timestamp> {
    row.get(at).map(Timestamp::from_millis)
}

pub(super) fn maybe_moment(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(at)?.map(Timestamp::from_millis))
}

pub(super) fn job_id(row: &Row<'_>, at: usize) -> rusqlite::Result<JobId> {
    row.get(at).map(JobId::from_bytes)
}

fn maybe_job_id(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<JobId>> {
    Ok(row.get::<_, Option<[u8; 16]>>(at)?.map(JobId::from_bytes))
}

fn token(row: &Row<'_>, at: usize) -> rusqlite::Result<TokenHash> {
    row.get(at).map(TokenHash::from_bytes)
}

fn span(row: &Row<'_>, at: usize) -> rusqlite::Result<Duration> {
    row.get::<_, i64>(at).map(duration)
}

fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

fn conversion(at: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, rusqlite::types::Type::Text, Box::new(error))
}

pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<T>> {
    match row.get_ref(at)?.as_str_or_null()? {
        None => Ok(None),
        Some(text) => serde_json::from_str(text).map(Some).map_err(|e| conversion(at, e)),
    }
}

pub(super) fn raw_json(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<RawJson>> {
    Ok(row.get_ref(at)?.as_str_or_null()?.map(RawJson::trusted))
}

pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| StoreError::Other(e.to_string()))
}

pub(super) fn maybe_json<T: Serialize>(value: Option<&T>) -> Result<Option<String>> {
    value.map(to_json).transpose()
}

/// timeout, cancel grace, back-off (initial, max, multiplier, jitter), retention (completed,
/// failed, cancelled); milliseconds. An array, because every live row carries one.
type PolicyRow = (i64, i64, i64, i64, f64, f64, i64, i64, i64);

pub(super) fn policy_text(p: &Policy) -> Result<String> {
    let row: PolicyRow = (
        millis(p.timeout),
        millis(p.cancel_grace),
        millis(p.backoff.initial),
        millis(p.backoff.max),
        p.backoff.multiplier,
        p.backoff.jitter,
        millis(p.retention.completed),
        millis(p.retention.failed),
        millis(p.retention.cancelled),
    );
    to_json(&row)
}

fn policy(row: &Row<'_>, at: usize) -> rusqlite::Result<Policy> {
    let text = row.get_ref(at)?.as_str()?;
    let p: PolicyRow = serde_json::from_str(text).map_err(|e| conversion(at, e))?;
    Ok(Policy {
        timeout: duration(p.0),
        cancel_grace: duration(p.1),
        backoff: Backoff {
            initial: duration(p.2),
            max: duration(p.3),
            multiplier: p.4,
            jitter: p.5,
        },
        retention: Retention {
            completed: duration(p.6),
            failed: duration(p.7),
            cancelled: duration(p.8),
        },
    })
}

/// In the order that [`live`] reads: `l` is `live_jobs`, `s` is `job_specs`.
pub(super) const LIVE_COLUMNS: &str = "l.job_row, s.job_id, l.queue_id, l.kind_id, l.priority, \
     l.sequence, l.tally, l.eligible_at, l.attempt, l.max_attempts, l.fence, l.version, \
     l.created_at, l.updated_at, l.started_at, l.start_by, l.lease_worker, l.lease_token, \
     l.lease_ms, l.lease_claimed_at, l.lease_expires_at, l.timeout_at, l.settled_token, \
     l.settled_report, l.policy, l.cancel, l.progress, l.error, l.history, \
     l.attempt_trace, s.namespace_id";

/// How many columns [`LIVE_COLUMNS`] names; further ones follow.
pub(super) const LIVE_WIDTH: usize = 31;

/// A job that can still change, with its place.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) row: i64,
    pub(super) id: JobId,
    pub(super) namespace: i64,
    pub(super) queue: i64,
    pub(super) kind: i64,
    pub(super) priority: i32,
    pub(super) sequence: i64,
    pub(super) job: Job,
}

fn tally(row: &Row<'_>, at: usize) -> rusqlite::Result<Tally> {
    let code: i64 = row.get(at)?;
    Tally::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(at, code))
}

fn settled(row: &Row<'_>, token_at: usize, report_at: usize) -> rusqlite::Result<Option<Settled>> {
    let Some(bytes) = row.get::<_, Option<[u8; 16]>>(token_at)? else { return Ok(None) };
    let code: i64 = row.get(report_at)?;
    let report =
        Report::from_code(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(report_at, code))?;
    Ok(Some(Settled { token: TokenHash::from_bytes(bytes), report }))
}

pub(super) fn live(row: &Row<'_>) -> rusqlite::Result<Live> {
    let phase = match tally(row, 6)? {
        Tally::Queued => Phase::Pending(Wait::Queued),
        Tally::Scheduled => Phase::Pending(Wait::Scheduled),
        Tally::Backoff => Phase::Pending(Wait::Backoff),
        Tally::Running => Phase::Running(Lease {
            worker: WorkerId::trusted(row.get_ref(16)?.as_str()?),
            token: token(row, 17)?,
            length: span(row, 18)?,
            claimed_at: moment(row, 19)?,
            expires_at: moment(row, 20)?,
            timeout_at: moment(row, 21)?,
            trace: row.get_ref(29)?.as_blob_or_null()?.and_then(AttemptTrace::decode).map(Box::new),
        }),
        done @ (Tally::Completed | Tally::Failed | Tally::Cancelled) => {
            return Err(rusqlite::Error::IntegralValueOutOfRange(6, done.code()));
        }
    };
    Ok(Live {
        row: row.get(0)?,
        id: job_id(row, 1)?,
        namespace: row.get(30)?,
        queue: row.get(2)?,
        kind: row.get(3)?,
        priority: row.get(4)?,
        sequence: row.get(5)?,
        job: Job {
            phase,
            version: row.get::<_, i64>(11)? as u64,
            attempt: row.get(8)?,
            max_attempts: row.get(9)?,
            fence: row.get::<_, i64>(10)? as u64,
            created_at: moment(row, 12)?,
            updated_at: moment(row, 13)?,
            eligible_at: moment(row, 7)?,
            started_at: maybe_moment(row, 14)?,
            finished_at: None,
            expires_at: None,
            start_by: maybe_moment(row, 15)?,
            cancel: json(row, 25)?,
            error: json(row, 27)?,
            progress: json(row, 26)?,
            settled: settled(row, 22, 23)?,
            history: json(row, 28)?.unwrap_or_default(),
            policy: policy(row, 24)?,
        },
    })
}

/// In the order that [`finished`] reads: `f` is `finished_jobs`, `s` is `job_specs`.
pub(super) const FINISHED_COLUMNS: &str = "f.job_row, s.job_id, f.queue_id, f.kind_id, f.tally, \
     f.finished_at, f.expires_at, f.eligible_at, f.attempt, f.max_attempts, f.fence, f.version, \
     f.created_at, f.updated_at, f.started_at, f.start_by, f.settled_token, f.settled_report, \
     f.retried_as, f.policy, f.cancel, f.progress, f.error, f.history, f.result_content_type, \
     f.result_location, f.result_size, s.namespace_id";

pub(super) const FINISHED_WIDTH: usize = 28;

/// A job that never changes again.
#[derive(Debug, Clone)]
pub(super) struct Finished {
    pub(super) row: i64,
    pub(super) id: JobId,
    pub(super) namespace: i64,
    pub(super) queue: i64,
    pub(super) kind: i64,
    pub(super) job: Job,
    pub(super) retried_as: Option<JobId>,
    pub(super) result: Option<ResultInfo>,
}

pub(super) fn finished(row: &Row<'_>) -> rusqlite::Result<Finished> {
    finished_at(row, 0)
}

/// The same, where the columns begin at `at`.
pub(super) fn finished_at(row: &Row<'_>, at: usize) -> rusqlite::Result<Finished> {
    let phase = match tally(row, at + 4)? {
        Tally::Completed => Phase::Completed,
        Tally::Failed => Phase::Failed,
        Tally::Cancelled => Phase::Cancelled,
        live @ (Tally::Queued | Tally::Scheduled | Tally::Backoff | Tally::Running) => {
            return Err(rusqlite::Error::IntegralValueOutOfRange(at + 4, live.code()));
        }
    };
    let result = match row.get::<_, Option<i64>>(at + 26)? {
        None => None,
        Some(size) => {
            let (given, location): (Option<String>, Option<String>) =
                (row.get(at + 24)?, row.get(at + 25)?);
            // What is stored here is JSON; what is elsewhere is what its worker said.
            let content_type = given.or_else(|| location.is_none().then(default_content_type));
            Some(ResultInfo { content_type, size: size as u64, location, inline: None })
        }
    };
    Ok(Finished {
        row: row.get(at)?,
        id: job_id(row, at + 1)?,
        namespace: row.get(at + 27)?,
        queue: row.get(at + 2)?,
        kind: row.get(at + 3)?,
        job: Job {
            phase,
            version: row.get::<_, i64>(at + 11)? as u64,
            attempt: row.get(at + 8)?,
            max_attempts: row.get(at + 9)?,
            fence: row.get::<_, i64>(at + 10)? as u64,
            created_at: moment(row, at + 12)?,
            updated_at: moment(row, at + 13)?,
            eligible_at: moment(row, at + 7)?,
            started_at: maybe_moment(row, at + 14)?,
            finished_at: Some(moment(row, at + 5)?),
            expires_at: Some(moment(row, at + 6)?),
            start_by: maybe_moment(row, at + 15)?,
            cancel: json(row, at + 20)?,
            error: json(row, at + 22)?,
            progress: json(row, at + 21)?,
            settled: settled(row, at + 16, at + 17)?,
            history: json(row, at + 23)?.unwrap_or_default(),
            policy: policy(row, at + 19)?,
        },
        retried_as: maybe_job_id(row, at + 18)?,
        result,
    })
}

pub(super) fn default_content_type() -> String {
    "application/json".to_owned()
}

/// In the order that [`spec`] reads: of `s`, and the names of `q`, `k` and `n`.
pub(super) const SPEC_COLUMNS: &str = "s.job_id, n.name, q.name, k.name, s.priority, \
     s.root_job_id, s.retry_of, s.expected_duration_ms, s.traceparent, s.tracestate, s.tags, \
     s.metadata";

pub(super) const SPEC_WIDTH: usize = 12;

/// The joins that [`SPEC_COLUMNS`] needs.
pub(super) const SPEC_JOINS: &str = "JOIN namespaces n ON n.namespace_id = s.namespace_id \
     JOIN queues q ON q.queue_id = s.queue_id JOIN kinds k ON k.kind_id = s.kind_id";

/// The payload is left out.
pub(super) fn spec(row: &Row<'_>, at: usize) -> rusqlite::Result<Spec> {
    let id = job_id(row, at)?;
    Ok(Spec {
        id,
        namespace: Name::trusted(row.get_ref(at + 1)?.as_str()?),
        queue: Name::trusted(row.get_ref(at + 2)?.as_str()?),
        kind: Name::trusted(row.get_ref(at + 3)?.as_str()?),
        priority: row.get(at + 4)?,
        payload: None,
        metadata: raw_json(row, at + 11)?,
        tags: json(row, at + 10)?.unwrap_or_default(),
        root: maybe_job_id(row, at + 5)?.unwrap_or(id),
        retry_of: maybe_job_id(row, at + 6)?,
        expected_duration: row.get::<_, Option<i64>>(at + 7)?.map(duration),
        traceparent: row.get(at + 8)?,
        tracestate: row.get(at + 9)?,
    })
}

/// Of `q`.
pub(super) const PAUSED: &str = "q.paused_at IS NOT NULL";

/// Of `s`: what the watchdog has found.
pub(super) const NO_WORKERS: &str = "EXISTS (SELECT 1 FROM episodes e INDEXED BY episodes_open \
     WHERE e.ended_at IS NULL AND e.queue_id = s.queue_id AND e.kind_id = s.kind_id \
     AND e.verdict IN ('no_workers', 'workers_silent'))";

/// Of `q`.
pub(super) const AT_LIMIT: &str = "(q.max_running IS NOT NULL AND q.max_running <= \
     (SELECT coalesce(sum(c.jobs), 0) FROM job_counts c \
     WHERE c.queue_id = q.queue_id AND c.tally = 3))";

/// In the order that [`standing`] reads.
pub(super) static STANDING_COLUMNS: LazyLock<String> =
    LazyLock::new(|| format!("{PAUSED}, {NO_WORKERS}, {AT_LIMIT}"));

pub(super) const STANDING_WIDTH: usize = 3;

pub(super) fn standing(row: &Row<'_>, at: usize) -> rusqlite::Result<Standing> {
    Ok(Standing {
        queue_paused: row.get(at)?,
        no_workers: row.get(at + 1)?,
        at_limit: row.get(at + 2)?,
        // Not the store's to know.
        rate_limited: false,
        jobs_ahead: None,
    })
}

pub(super) fn record(spec: Spec, live: Live, standing: Standing) -> Record {
    Record { spec, job: live.job, result: None, retried_as: None, standing }
}
