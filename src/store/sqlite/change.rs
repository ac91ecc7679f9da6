//! Saving what the state machine answered: every transition of a stored job goes through here.

use std::sync::LazyLock;

use rusqlite::OptionalExtension;

use crate::domain::id::JobId;
use crate::domain::job::{Job, Status, Tally};
use crate::domain::state::{Applied, Event, Order, Rejected, apply};
use crate::domain::time::{Timestamp, millis};
use crate::store::{Refusal, Result, ResultValue, Ruling, StoreError, Transition};

use super::reads;
use super::rows::{
    FINISHED_COLUMNS, Finished, LIVE_COLUMNS, Live, fault, finished, live, maybe_json, policy_text,
    to_json,
};
use super::writer::Tx;

static LOAD_LIVE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {LIVE_COLUMNS} FROM job_specs s JOIN live_jobs l ON l.job_row = s.job_row \
         WHERE s.job_id = ?1"
    )
});

static LOAD_FINISHED: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {FINISHED_COLUMNS} FROM job_specs s \
         JOIN finished_jobs f ON f.job_row = s.job_row WHERE s.job_id = ?1"
    )
});

pub(super) fn load_live(tx: &Tx<'_>, id: JobId) -> Result<Option<Live>> {
    tx.conn
        .prepare_cached(&LOAD_LIVE)
        .and_then(|mut s| s.query_row([id.as_bytes()], live).optional())
        .map_err(fault)
}

pub(super) fn load_finished(tx: &Tx<'_>, id: JobId) -> Result<Option<Finished>> {
    tx.conn
        .prepare_cached(&LOAD_FINISHED)
        .and_then(|mut s| s.query_row([id.as_bytes()], finished).optional())
        .map_err(fault)
}

/// Fires `event` at the job, wherever it lies.
pub(super) fn fire(
    tx: &mut Tx<'_>,
    id: JobId,
    event: &Event,
    result: Option<&ResultValue>,
    inline_limit: usize,
    now: Timestamp,
) -> Result<Ruling> {
    if let Some(before) = load_live(tx, id)? {
        return Ok(match apply(&before.job, event, now) {
            Ok(applied) => Ok(save(tx, &before, applied, result, inline_limit)?),
            Err(rejected) => Err(rejected.into()),
        });
    }
    let Some(done) = load_finished(tx, id)? else { return absent(tx, id).map(Err) };
    Ok(match apply(&done.job, event, now) {
        // The only changes of a finished job remove it, and have verbs of their own.
        Ok(applied) => Ok(Transition {
            id,
            namespace: tx.book.namespaces.name(done.namespace),
            queue: tx.book.queues.name(done.queue),
            kind: tx.book.kinds.name(done.kind),
            change: applied.change,
            job: applied.job,
            attempt_ended: false,
            trace: None,
        }),
        Err(rejected) => Err(rejected.into()),
    })
}

/// What is told of a job that is not there.
pub(super) fn absent(tx: &Tx<'_>, id: JobId) -> Result<Refusal> {
    reads::absence(tx.conn, id).map(Refusal::Absent)
}

/// Fires `event` at a live job that is already loaded.
pub(super) fn fire_live(
    tx: &mut Tx<'_>,
    before: &Live,
    event: &Event,
    now: Timestamp,
) -> Result<std::result::Result<Transition, Rejected>> {
    match apply(&before.job, event, now) {
        Ok(applied) => save(tx, before, applied, None, 0).map(Ok),
        Err(rejected) => Ok(Err(rejected)),
    }
}

fn save(
    tx: &mut Tx<'_>,
    before: &Live,
    applied: Applied,
    result: Option<&ResultValue>,
    inline_limit: usize,
) -> Result<Transition> {
    let Applied { job, change, order } = applied;
    if job != before.job {
        let (from, to) = (Tally::of(&before.job.phase), Tally::of(&job.phase));
        let mut sequence = before.sequence;
        if job.status().is_done() {
            finish(tx, before, &job, result, inline_limit)?;
        } else if from == to && order == Order::Keep {
            touch(tx, before, &job)?;
        } else {
            sequence = match order {
                Order::Keep => before.sequence,
                Order::Renew => tx.book.take_sequence(),
            };
            move_on(tx, before, &job, sequence)?;
        }
        tx.count(before.queue, before.kind, Some(from), Some(to));
        let place = |tally, sequence| (tally == Tally::Queued).then_some(sequence);
        let (left, came) = (place(from, before.sequence), place(to, sequence));
        tx.stands((before.queue, before.priority), left, came);
        tx.waits((before.queue, before.kind), waiting_since(&before.job), waiting_since(&job));
    }
    let attempt_ended = before.job.lease().is_some() && job.lease().is_none();
    let lease = before.job.lease().filter(|_| attempt_ended);
    Ok(Transition {
        id: before.id,
        namespace: tx.book.namespaces.name(before.namespace),
        queue: tx.book.queues.name(before.queue),
        kind: tx.book.kinds.name(before.kind),
        change,
        job,
        attempt_ended,
        trace: lease.and_then(|l| l.trace.clone()),
    })
}

fn waiting_since(job: &Job) -> Option<Timestamp> {
    (job.status() == Status::Pending).then_some(job.eligible_at)
}

/// Every write names the version and fence that it was computed from. One writer makes a miss
/// impossible; if it happens all the same, nothing is committed.
fn hit(rows: usize) -> Result<()> {
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::Other(format!("a job changed under its own transition ({rows} rows)")))
    }
}

fn at(t: Option<Timestamp>) -> Option<i64> {
    t.map(Timestamp::as_millis)
}

/// A change that moves the job in no index but the reaper's.
fn touch(tx: &Tx<'_>, before: &Live, job: &Job) -> Result<()> {
    let lease = job.lease();
    let (cancel, progress) = (maybe_json(job.cancel.as_ref())?, maybe_json(job.progress.as_ref())?);
    let rows = tx
        .conn
        .prepare_cached(
            "UPDATE live_jobs SET version = ?1, updated_at = ?2, reap_at = ?3, \
             lease_expires_at = ?4, timeout_at = ?5, cancel = ?6, progress = ?7 \
             WHERE job_row = ?8 AND version = ?9 AND fence = ?10",
        )
        .and_then(|mut s| {
            s.execute((
                job.version as i64,
                job.updated_at.as_millis(),
                at(job.reap_at()),
                at(lease.map(|l| l.expires_at)),
                at(lease.map(|l| l.timeout_at)),
                cancel,
                progress,
                before.row,
                before.job.version as i64,
                before.job.fence as i64,
            ))
        })
        .map_err(fault)?;
    hit(rows)
}

/// A change between pending and running, or within pending.
fn move_on(tx: &Tx<'_>, before: &Live, job: &Job, sequence: i64) -> Result<()> {
    let lease = job.lease();
    let history = if job.history.is_empty() { None } else { Some(&job.history) };
    let rows = tx
        .conn
        .prepare_cached(
            "UPDATE live_jobs SET tally = ?1, sequence = ?2, eligible_at = ?3, attempt = ?4, \
             fence = ?5, version = ?6, updated_at = ?7, started_at = ?8, reap_at = ?9, \
             lease_worker = ?10, lease_token = ?11, lease_ms = ?12, lease_claimed_at = ?13, \
             lease_expires_at = ?14, timeout_at = ?15, settled_token = ?16, settled_report = ?17, \
             cancel = ?18, progress = ?19, error = ?20, history = ?21, attempt_trace = ?22 \
             WHERE job_row = ?23 AND version = ?24 AND fence = ?25",
        )
        .map_err(fault)?
        .execute(rusqlite::params![
            Tally::of(&job.phase).code(),
            sequence,
            job.eligible_at.as_millis(),
            job.attempt,
            job.fence as i64,
            job.version as i64,
            job.updated_at.as_millis(),
            at(job.started_at),
            at(job.reap_at()),
            lease.map(|l| l.worker.as_str()),
            lease.map(|l| *l.token.as_bytes()),
            lease.map(|l| millis(l.length)),
            at(lease.map(|l| l.claimed_at)),
            at(lease.map(|l| l.expires_at)),
            at(lease.map(|l| l.timeout_at)),
            job.settled.map(|s| *s.token.as_bytes()),
            job.settled.map(|s| s.report.code()),
            maybe_json(job.cancel.as_ref())?,
            maybe_json(job.progress.as_ref())?,
            maybe_json(job.error.as_ref())?,
            maybe_json(history)?,
            lease.and_then(|l| l.trace.as_ref()).map(|t| t.encode()),
            before.row,
            before.job.version as i64,
            before.job.fence as i64,
        ])
        .map_err(fault)?;
    hit(rows)
}

fn finish(
    tx: &Tx<'_>,
    before: &Live,
    job: &Job,
    result: Option<&ResultValue>,
    inline_limit: usize,
) -> Result<()> {
    let rows = tx
        .conn
        .prepare_cached("DELETE FROM live_jobs WHERE job_row = ?1 AND version = ?2 AND fence = ?3")
        .and_then(|mut s| {
            s.execute((before.row, before.job.version as i64, before.job.fence as i64))
        })
        .map_err(fault)?;
    hit(rows)?;
    let mut stored = StoredResult::default();
    if Tally::of(&job.phase) == Tally::Completed {
        stored = StoredResult::of(result, inline_limit);
    }
    tx.conn
        .prepare_cached(
            "INSERT INTO finished_jobs (job_row, queue_id, kind_id, tally, finished_at, \
             expires_at, eligible_at, attempt, max_attempts, fence, version, created_at, \
             updated_at, started_at, start_by, settled_token, settled_report, policy, cancel, \
             progress, error, history, result_content_type, result_location, result_size, result) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, \
             ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26)",
        )
        .map_err(fault)?
        .execute(rusqlite::params![
            before.row,
            before.queue,
            before.kind,
            Tally::of(&job.phase).code(),
            at(job.finished_at),
            at(job.expires_at),
            job.eligible_at.as_millis(),
            job.attempt,
            job.max_attempts,
            job.fence as i64,
            job.version as i64,
            job.created_at.as_millis(),
            job.updated_at.as_millis(),
            at(job.started_at),
            at(job.start_by),
            job.settled.map(|s| *s.token.as_bytes()),
            job.settled.map(|s| s.report.code()),
            policy_text(&job.policy)?,
            maybe_json(job.cancel.as_ref())?,
            maybe_json(job.progress.as_ref())?,
            maybe_json(job.error.as_ref())?,
            if job.history.is_empty() { None } else { Some(to_json(&job.history)?) },
            stored.content_type,
            stored.location,
            stored.size,
            stored.inline,
        ])
        .map_err(fault)?;
    if let Some(body) = stored.large {
        tx.conn
            .prepare_cached("INSERT INTO results (job_row, body) VALUES (?1, ?2)")
            .and_then(|mut s| s.execute((before.row, body.as_bytes())))
            .map_err(fault)?;
    }
    Ok(())
}

#[derive(Default)]
struct StoredResult<'a> {
    content_type: Option<&'a str>,
    location: Option<&'a str>,
    size: Option<i64>,
    inline: Option<&'a str>,
    large: Option<&'a str>,
}

impl<'a> StoredResult<'a> {
    /// A result that was not given is `null` (4 bytes), and read as such.
    fn of(value: Option<&'a ResultValue>, inline_limit: usize) -> Self {
        match value {
            None => Self { size: Some(4), inline: Some("null"), ..Self::default() },
            Some(ResultValue::Json(json)) => {
                let text = json.as_str();
                let small = text.len() <= inline_limit;
                Self {
                    size: Some(text.len() as i64),
                    inline: small.then_some(text),
                    large: (!small).then_some(text),
                    ..Self::default()
                }
            }
            Some(ResultValue::Elsewhere { location, content_type }) => Self {
                content_type: content_type.as_deref(),
                location: Some(location),
                size: Some(0),
                ..Self::default()
            },
        }
    }
}
