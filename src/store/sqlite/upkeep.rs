//! Maintenance steps: bounded, idempotent, each a short transaction.

use std::time::Duration;

use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension};

use crate::domain::id::JobId;
use crate::domain::job::Tally;
use crate::domain::names::Name;
use crate::domain::state::{Change, Event};
use crate::domain::time::Timestamp;
use crate::store::{Changed, QueueLimits, QueueState, Result, Retired, Ruling, Transition};

use super::change::{absent, fire_live, load_finished, load_live};
use super::forget::{self, Unused};
use super::names;
use super::rows::{
    FINISHED_COLUMNS, Finished, LIVE_COLUMNS, Live, fault, finished, live, readable, to_json,
};
use super::writer::Tx;

/// Passes that take back more than this spread the jobs' return.
const STAMPEDE: usize = 100;
const SPREAD: Duration = Duration::from_secs(5);

/// A worker that was not seen for this long is forgotten.
const PRESENCE_KEPT: Duration = Duration::from_secs(86_400);

/// Whoever was seen longest ago makes room: a stranger can invent workers.
const WORKERS_KEPT: i64 = 10_000;

/// Long enough to look back on a bad weekend.
const EPISODES_KEPT: Duration = Duration::from_secs(7 * 86_400);

pub(super) fn take_back(
    tx: &mut Tx<'_>,
    limit: u32,
    spread: &[f64],
    now: Timestamp,
) -> Result<Vec<Transition>> {
    tx.saw(now);
    let due = select(
        tx,
        "INDEXED BY live_reap",
        "l.tally = 3 AND l.reap_at <= ?1 ORDER BY l.reap_at",
        (now.as_millis(), limit),
    )?;
    let mass = due.len() > STAMPEDE;
    let mut changed = Vec::new();
    for (at, before) in due.iter().enumerate() {
        let spread = match spread.get(at % spread.len().max(1)) {
            Some(unit) if mass => SPREAD.mul_f64(unit.clamp(0.0, 1.0)),
            _ => Duration::ZERO,
        };
        changed.extend(fire_live(tx, before, &Event::TakeBack { spread }, now)?.ok());
    }
    let late = select(
        tx,
        "INDEXED BY live_start_by",
        "l.start_by IS NOT NULL AND l.tally < 3 AND l.start_by <= ?1 AND l.attempt = 0 \
         ORDER BY l.start_by",
        (now.as_millis(), limit.saturating_sub(due.len() as u32)),
    )?;
    for before in &late {
        changed.extend(fire_live(tx, before, &Event::MissStart, now)?.ok());
    }
    Ok(changed)
}

fn select(tx: &Tx<'_>, index: &str, clause: &str, params: (i64, u32)) -> Result<Vec<Live>> {
    tx.conn
        .prepare_cached(&format!(
            "SELECT {LIVE_COLUMNS} FROM live_jobs l {index} \
             JOIN job_specs s ON s.job_row = l.job_row WHERE {clause}"
        ))
        .map_err(fault)?
        .query_map([params.0], live)
        .map_err(fault)?
        .filter_map(|row| readable(row, "maintenance").transpose())
        .take(params.1 as usize)
        .collect()
}

pub(super) fn promote(tx: &mut Tx<'_>, limit: u32, now: Timestamp) -> Result<Vec<(Name, u64)>> {
    tx.saw(now);
    let due = select(
        tx,
        "INDEXED BY live_due",
        "l.tally IN (1, 2) AND l.eligible_at <= ?1 ORDER BY l.eligible_at",
        (now.as_millis(), limit),
    )?;
    let mut ready: std::collections::BTreeMap<Name, u64> = std::collections::BTreeMap::new();
    for before in &due {
        if let Ok(t) = fire_live(tx, before, &Event::Promote, now)? {
            *ready.entry(t.queue).or_default() += 1;
        }
    }
    for name in over(tx, now) {
        resume(tx, &name, now)?;
        let waiting = queued(tx, &name)?;
        *ready.entry(name).or_default() += waiting;
    }
    Ok(ready.into_iter().collect())
}

fn queued(tx: &Tx<'_>, name: &Name) -> Result<u64> {
    let jobs: i64 = tx
        .conn
        .prepare_cached(
            "SELECT coalesce(sum(c.jobs), 0) FROM job_counts c JOIN queues q USING (queue_id) \
             WHERE q.name = ?1 AND c.tally = 0",
        )
        .and_then(|mut s| s.query_row([name.as_str()], |r| r.get(0)))
        .map_err(fault)?;
    Ok(u64::try_from(jobs).unwrap_or(0))
}

/// Queues whose pause has an end that has passed.
fn over(tx: &Tx<'_>, now: Timestamp) -> Vec<Name> {
    tx.book
        .states()
        .filter(|(_, q)| q.paused_at.is_some() && q.paused_until.is_some_and(|t| t <= now))
        .map(|(_, q)| q.name.clone())
        .collect()
}

/// The rows of all running jobs: what [`extend`] goes through in steps.
pub(super) fn running(conn: &Connection) -> Result<Vec<i64>> {
    conn.prepare_cached("SELECT job_row FROM live_jobs INDEXED BY live_worker WHERE tally = 3")
        .and_then(|mut s| s.query_map([], |r| r.get(0))?.collect())
        .map_err(fault)
}

/// One step: these rows, as far as they are still running.
pub(super) fn extend(tx: &mut Tx<'_>, rows: &[i64], now: Timestamp) -> Result<u64> {
    tx.saw(now);
    // Proves that the store commits again, even if there is no lease.
    tx.commit_anyway();
    let mut extended = 0;
    for row in rows {
        let found = tx
            .conn
            .prepare_cached(&RUNNING_ROW)
            .and_then(|mut s| s.query_row([row], live).optional())
            .or_else(|e| readable(Err(e), "extension"))?;
        let Some(before) = found else { continue };
        let changed = fire_live(tx, &before, &Event::Extend, now)?;
        extended += u64::from(changed.is_ok_and(|t| t.change == Change::Extended));
    }
    Ok(extended)
}

static RUNNING_ROW: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {LIVE_COLUMNS} FROM live_jobs l JOIN job_specs s ON s.job_row = l.job_row \
         WHERE l.job_row = ?1 AND l.tally = 3"
    )
});

/// Payload and result bytes after which a step of retention ends: freeing pages takes time too.
const STEP_BYTES: i64 = 16 << 20;

fn size(tx: &Tx<'_>, job: &Finished) -> Result<i64> {
    let payload: i64 = tx
        .conn
        .prepare_cached("SELECT coalesce(length(payload), 0) FROM job_specs WHERE job_row = ?1")
        .and_then(|mut s| s.query_row([job.row], |r| r.get(0)))
        .map_err(fault)?;
    let result = job.result.as_ref().map_or(0, |r| r.size);
    Ok(payload + i64::try_from(result).unwrap_or(0))
}

pub(super) fn expire(
    tx: &mut Tx<'_>,
    limit: u32,
    tombstone: Duration,
    key_ttl: Duration,
    unused: &Unused,
    now: Timestamp,
) -> Result<Retired> {
    tx.saw(now);
    let due: Vec<Finished> = tx
        .conn
        .prepare_cached(&format!(
            "SELECT {FINISHED_COLUMNS} FROM finished_jobs f INDEXED BY finished_expiry \
             JOIN job_specs s ON s.job_row = f.job_row \
             WHERE f.expires_at <= ?1 ORDER BY f.expires_at LIMIT ?2"
        ))
        .and_then(|mut s| s.query_map((now.as_millis(), limit), finished)?.collect())
        .map_err(fault)?;
    let (mut removed, mut ours, mut bytes) = (0, 0, 0);
    for job in &due {
        bytes += size(tx, job)?;
        // Nobody knows of the server's own jobs who could ask where they are.
        let reserved = tx.book.queues.name(job.queue).is_reserved();
        let tombstone = if reserved { Duration::ZERO } else { tombstone };
        remove(tx, job, false, tombstone, key_ttl, now)?;
        removed += 1;
        ours += usize::from(reserved);
        if bytes > STEP_BYTES {
            break;
        }
    }
    let now_ms = now.as_millis();
    let statements: [(&str, i64); 5] = [
        (
            "DELETE FROM idempotency_keys WHERE (namespace_id, route, key) IN \
             (SELECT namespace_id, route, key FROM idempotency_keys INDEXED BY idempotency_expiry \
             WHERE expires_at IS NOT NULL AND expires_at <= ?1 LIMIT ?2)",
            now_ms,
        ),
        (
            "DELETE FROM tombstones WHERE job_id IN \
             (SELECT job_id FROM tombstones WHERE forget_at <= ?1 LIMIT ?2)",
            now_ms,
        ),
        (
            "DELETE FROM presence WHERE worker IN \
             (SELECT worker FROM presence INDEXED BY presence_seen \
             WHERE last_seen <= ?1 LIMIT ?2)",
            now.minus(PRESENCE_KEPT).as_millis(),
        ),
        (
            // Who was asked to leave stays so, however many others there are.
            "DELETE FROM presence WHERE directive IS NULL AND worker IN (SELECT worker FROM presence \
             INDEXED BY presence_seen ORDER BY last_seen DESC LIMIT ?2 OFFSET ?1)",
            WORKERS_KEPT,
        ),
        (
            "DELETE FROM episodes WHERE episode_id IN \
             (SELECT episode_id FROM episodes INDEXED BY episodes_ended \
             WHERE ended_at IS NOT NULL AND ended_at <= ?1 LIMIT ?2)",
            now.minus(EPISODES_KEPT).as_millis(),
        ),
    ];
    let mut other = 0;
    for (sql, before) in statements {
        other += tx
            .conn
            .prepare_cached(sql)
            .and_then(|mut s| s.execute((before, limit)))
            .map_err(fault)?;
    }
    let forgotten = forget::forget(tx, limit, unused)?;
    other += forgotten.names;
    let more = removed < due.len()
        || removed >= limit as usize
        || other >= limit as usize
        || forgotten.more;
    Ok(Retired { jobs: (removed - ours) as u64, other: other as u64, more })
}

pub(super) fn delete(
    tx: &mut Tx<'_>,
    id: JobId,
    tombstone: Duration,
    key_ttl: Duration,
    now: Timestamp,
) -> Result<Ruling> {
    tx.saw(now);
    if let Some(before) = load_live(tx, id)? {
        return Ok(fire_live(tx, &before, &Event::Delete, now)?.map_err(Into::into));
    }
    let Some(job) = load_finished(tx, id)? else { return absent(tx, id).map(Err) };
    match crate::domain::state::apply(&job.job, &Event::Delete, now) {
        Err(rejected) => Ok(Err(rejected.into())),
        Ok(applied) => {
            remove(tx, &job, true, tombstone, key_ttl, now)?;
            Ok(Ok(Transition {
                id,
                namespace: tx.book.namespaces.name(job.namespace),
                queue: tx.book.queues.name(job.queue),
                kind: tx.book.kinds.name(job.kind),
                change: applied.change,
                job: applied.job,
                attempt_ended: false,
                trace: None,
            }))
        }
    }
}

/// Forgets a finished job. Its key lives on for the rest of its time, so that a late retry learns
/// that the job was there instead of making another.
fn remove(
    tx: &mut Tx<'_>,
    job: &Finished,
    deleted: bool,
    tombstone: Duration,
    key_ttl: Duration,
    now: Timestamp,
) -> Result<()> {
    let key: Option<(i64, String)> = tx
        .conn
        .prepare_cached("SELECT namespace_id, idempotency_key FROM job_specs WHERE job_row = ?1")
        .and_then(|mut s| {
            s.query_row([job.row], |r| Ok((r.get(0)?, r.get::<_, Option<String>>(1)?))).optional()
        })
        .map_err(fault)?
        .and_then(|(namespace, key)| Some((namespace, key?)));
    if let Some((namespace, key)) = key {
        tx.conn
            .prepare_cached(
                "UPDATE idempotency_keys SET expires_at = max(created_at + ?4, ?5) \
                 WHERE namespace_id = ?1 AND route = 1 AND key = ?2 AND job_id = ?3",
            )
            .and_then(|mut s| {
                s.execute((
                    namespace,
                    key,
                    job.id.as_bytes(),
                    crate::domain::time::millis(key_ttl),
                    now.as_millis(),
                ))
            })
            .map_err(fault)?;
    }
    for sql in [
        "DELETE FROM finished_jobs WHERE job_row = ?1",
        "DELETE FROM job_specs WHERE job_row = ?1",
        "DELETE FROM results WHERE job_row = ?1",
    ] {
        tx.conn.prepare_cached(sql).and_then(|mut s| s.execute([job.row])).map_err(fault)?;
    }
    let forget_at = job.job.created_at.plus(tombstone);
    if forget_at > now {
        tx.conn
            .prepare_cached("INSERT OR REPLACE INTO tombstones VALUES (?1, ?2, ?3, ?4)")
            .and_then(|mut s| {
                s.execute((job.id.as_bytes(), deleted, now.as_millis(), forget_at.as_millis()))
            })
            .map_err(fault)?;
    }
    tx.count(job.queue, job.kind, Some(Tally::of(&job.job.phase)), None);
    Ok(())
}

pub(super) fn pause(
    tx: &mut Tx<'_>,
    name: &Name,
    reason: Option<&String>,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Result<Changed> {
    tx.saw(now);
    let Some((id, before)) = queue(tx, name, now)? else { return Ok(Changed::TooManyNames) };
    let state = QueueState {
        // Pausing again changes the reason, not since when.
        paused_at: Some(before.paused_at.unwrap_or(now)),
        paused_reason: reason.cloned(),
        paused_until: until,
        ..before.clone()
    };
    write_queue(tx, id, &before, state)
}

pub(super) fn resume(tx: &mut Tx<'_>, name: &Name, now: Timestamp) -> Result<Changed> {
    tx.saw(now);
    let Some((id, before)) = queue(tx, name, now)? else { return Ok(Changed::TooManyNames) };
    let state = QueueState {
        paused_at: None,
        paused_reason: None,
        paused_until: None,
        resumed_at: if before.paused_at.is_some() { Some(now) } else { before.resumed_at },
        ..before.clone()
    };
    write_queue(tx, id, &before, state)
}

/// The queue, which is there from now on; `None`: there is no room for its name.
fn queue(tx: &mut Tx<'_>, name: &Name, now: Timestamp) -> Result<Option<(i64, QueueState)>> {
    if !names::has_room_for_queue(tx, name) {
        return Ok(None);
    }
    let id = tx.book.queue_id(tx.conn, name, None, now)?;
    let state = tx.book.state(id).cloned().unwrap_or_else(|| QueueState::new(name.clone()));
    Ok(Some((id, state)))
}

fn write_queue(
    tx: &mut Tx<'_>,
    id: i64,
    before: &QueueState,
    mut state: QueueState,
) -> Result<Changed> {
    state.revision += u64::from(state != *before);
    tx.conn
        .prepare_cached(
            "UPDATE queues SET paused_at = ?2, paused_reason = ?3, paused_until = ?4, \
             resumed_at = ?5, settings_version = ?6 WHERE queue_id = ?1",
        )
        .and_then(|mut s| {
            s.execute((
                id,
                state.paused_at.map(Timestamp::as_millis),
                &state.paused_reason,
                state.paused_until.map(Timestamp::as_millis),
                state.resumed_at.map(Timestamp::as_millis),
                i64::try_from(state.revision).unwrap_or(i64::MAX),
            ))
        })
        .map_err(fault)?;
    tx.book.set_state(id, state.clone());
    Ok(Changed::Done(state))
}

/// These are the configured limits; every other queue has none. Overrides lie over them.
pub(super) fn set_limits(tx: &mut Tx<'_>, limits: &[QueueLimits], now: Timestamp) -> Result<()> {
    tx.saw(now);
    let mut declared = Vec::with_capacity(limits.len());
    for queue in limits {
        declared.push(tx.book.queue_id(tx.conn, &queue.name, None, now)?);
    }
    let declared = to_json(&declared)?;
    tx.conn
        .prepare_cached(
            "UPDATE queues SET declared = NOT declared \
             WHERE declared <> (queue_id IN (SELECT value FROM json_each(?1)))",
        )
        .and_then(|mut s| s.execute([declared]))
        .map_err(fault)?;
    let states: Vec<(i64, QueueState)> = tx.book.states().map(|(id, q)| (id, q.clone())).collect();
    for (id, state) in states {
        let set = limits.iter().find(|q| q.name == state.name);
        let max_running = state.overrides.max_running(set.and_then(|q| q.max_running));
        let max_depth = state.overrides.max_depth(set.and_then(|q| q.max_depth));
        if max_running != state.max_running || max_depth != state.max_depth {
            // What does not fit there is no limit.
            let depth = max_depth.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
            tx.conn
                .prepare_cached(
                    "UPDATE queues SET max_running = ?2, max_depth = ?3 WHERE queue_id = ?1",
                )
                .and_then(|mut s| s.execute((id, max_running, depth)))
                .map_err(fault)?;
            tx.book.set_state(id, QueueState { max_running, max_depth, ..state });
        }
    }
    Ok(())
}
