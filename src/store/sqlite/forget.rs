//! Forgetting names: queues and kinds of which nothing is left.
//!
//! [`names_kept`] of each are kept for ever, since whoever looks for a queue that works once a month
//! should find it. Beyond that those that are not in use go with retention, the longest known first.
//!
//! In use is what a counter above zero or an episode names, and a queue that is declared, paused,
//! has settings or is the server's own. Counters change in the commit that changes the job, so a
//! name that none counts is no job's.

use std::collections::HashSet;
use std::sync::LazyLock;

use rusqlite::{Connection, ToSql};

use crate::store::{MAX_NAMES, Result};

use super::rows::fault;
use super::writer::Tx;

/// Names of either sort that are kept whether used or not.
const fn names_kept() -> usize {
    MAX_NAMES / 10
}

/// Counters looked at in one step; those that are zero say nothing that their absence does not.
const COUNTERS: usize = 2_000;

/// Names forgotten in one step.
const AT_ONCE: usize = 200;

/// What nothing uses, as a reader has seen it. The writer looks again.
#[derive(Debug, Default)]
pub(super) struct Unused {
    queues: Vec<i64>,
    kinds: Vec<i64>,
}

/// What a step came to.
pub(super) struct Forgotten {
    pub(super) names: usize,
    /// Whether another step may find as much.
    pub(super) more: bool,
}

const UNUSED_QUEUE: &str = "SELECT q.queue_id FROM queues q \
     WHERE NOT q.declared AND q.paused_at IS NULL AND q.settings IS NULL \
     AND substr(q.name, 1, 1) <> '_' \
     AND NOT EXISTS (SELECT 1 FROM job_counts c WHERE c.queue_id = q.queue_id AND c.jobs <> 0) \
     AND NOT EXISTS (SELECT 1 FROM episodes e WHERE e.queue_id = q.queue_id)";

const UNUSED_KIND: &str = "SELECT k.kind_id FROM kinds k \
     WHERE substr(k.name, 1, 7) <> 'system.' \
     AND NOT EXISTS (SELECT 1 FROM job_counts c WHERE c.kind_id = k.kind_id AND c.jobs <> 0) \
     AND NOT EXISTS (SELECT 1 FROM episodes e WHERE e.kind_id = k.kind_id)";

static UNUSED_QUEUES: LazyLock<String> =
    LazyLock::new(|| format!("{UNUSED_QUEUE} ORDER BY q.queue_id LIMIT ?1"));
static UNUSED_KINDS: LazyLock<String> =
    LazyLock::new(|| format!("{UNUSED_KIND} ORDER BY k.kind_id LIMIT ?1"));
static QUEUE_IS_UNUSED: LazyLock<String> =
    LazyLock::new(|| format!("{UNUSED_QUEUE} AND q.queue_id = ?1"));
static KIND_IS_UNUSED: LazyLock<String> =
    LazyLock::new(|| format!("{UNUSED_KIND} AND k.kind_id = ?1"));

/// Names that may go, those known longest first. For a reader: it looks through all of them.
pub(super) fn unused(conn: &Connection, limit: u32) -> Result<Unused> {
    let of = |count: &str, sql: &str| -> Result<Vec<i64>> {
        let known: i64 = conn
            .prepare_cached(count)
            .and_then(|mut s| s.query_row([], |r| r.get(0)))
            .map_err(fault)?;
        let excess = usize::try_from(known).unwrap_or(0).saturating_sub(names_kept());
        match excess.min(limit as usize).min(AT_ONCE) {
            0 => Ok(Vec::new()),
            some => conn
                .prepare_cached(sql)
                .and_then(|mut s| s.query_map([some as i64], |r| r.get(0))?.collect())
                .map_err(fault),
        }
    };
    Ok(Unused {
        queues: of("SELECT count(*) FROM queues", &UNUSED_QUEUES)?,
        kinds: of("SELECT count(*) FROM kinds", &UNUSED_KINDS)?,
    })
}

/// One bounded step: of what was `unused`, what still is.
pub(super) fn forget(tx: &mut Tx<'_>, limit: u32, unused: &Unused) -> Result<Forgotten> {
    if limit > 0 {
        zero_counters(tx)?;
    }
    let (queues, kinds) = (queues(tx, &unused.queues)?, kinds(tx, &unused.kinds)?);
    Ok(Forgotten { names: queues + kinds, more: queues >= AT_ONCE || kinds >= AT_ONCE })
}

fn is(conn: &Connection, sql: &str, id: i64) -> Result<bool> {
    conn.prepare_cached(sql).and_then(|mut s| s.exists([id])).map_err(fault)
}

fn run(conn: &Connection, sql: &str, values: &[&dyn ToSql]) -> Result<usize> {
    conn.prepare_cached(sql).and_then(|mut s| s.execute(values)).map_err(fault)
}

/// Counters are swept in turn, from where the last step ended.
fn zero_counters(tx: &mut Tx<'_>) -> Result<()> {
    let from = tx.book.swept;
    let rows: Vec<(i64, i64, i64, i64)> = tx
        .conn
        .prepare_cached(
            "SELECT queue_id, kind_id, tally, jobs FROM job_counts \
             WHERE (queue_id, kind_id, tally) > (?1, ?2, ?3) \
             ORDER BY queue_id, kind_id, tally LIMIT ?4",
        )
        .and_then(|mut s| {
            s.query_map((from.0, from.1, from.2, COUNTERS as i64), |r| {
                Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))
            })?
            .collect()
        })
        .map_err(fault)?;
    let last = rows.last().filter(|_| rows.len() == COUNTERS);
    tx.book.swept = last.map_or((0, 0, -1), |(queue, kind, tally, _)| (*queue, *kind, *tally));
    let mut emptied = HashSet::new();
    for (queue, kind, tally, _) in rows.iter().filter(|(.., jobs)| *jobs == 0) {
        run(
            tx.conn,
            "DELETE FROM job_counts WHERE queue_id = ?1 AND kind_id = ?2 AND tally = ?3",
            &[queue, kind, tally],
        )?;
        emptied.insert((*queue, *kind));
    }
    for key in emptied {
        // A mark that is being counted for is looked at again.
        let idle = tx.book.marks.get(&key).is_some_and(|m| m.jobs == 0 && m.counting_to.is_none());
        if idle && !tx.counts_change(key) && !has_counters(tx.conn, key)? {
            run(
                tx.conn,
                "DELETE FROM stuck_marks WHERE queue_id = ?1 AND kind_id = ?2",
                &[&key.0, &key.1],
            )?;
            tx.book.marks.remove(&key);
        }
    }
    Ok(())
}

fn has_counters(conn: &Connection, key: (i64, i64)) -> Result<bool> {
    conn.prepare_cached("SELECT 1 FROM job_counts WHERE queue_id = ?1 AND kind_id = ?2")
        .and_then(|mut s| s.exists(key))
        .map_err(fault)
}

fn queues(tx: &mut Tx<'_>, unused: &[i64]) -> Result<usize> {
    let mut gone = 0;
    for &id in unused {
        let excess = tx.book.queues.len() > names_kept();
        if !excess
            || tx.counts_change_in(|(queue, _)| queue == id)
            || !is(tx.conn, &QUEUE_IS_UNUSED, id)?
        {
            continue;
        }
        for sql in [
            "DELETE FROM job_counts WHERE queue_id = ?1",
            "DELETE FROM stuck_marks WHERE queue_id = ?1",
            "DELETE FROM queues WHERE queue_id = ?1",
        ] {
            run(tx.conn, sql, &[&id])?;
        }
        tx.book.forget_queue(id);
        gone += 1;
    }
    Ok(gone)
}

fn kinds(tx: &mut Tx<'_>, unused: &[i64]) -> Result<usize> {
    let mut gone = HashSet::new();
    for &id in unused {
        let excess = tx.book.kinds.len() > names_kept();
        if !excess
            || tx.counts_change_in(|(_, kind)| kind == id)
            || !is(tx.conn, &KIND_IS_UNUSED, id)?
        {
            continue;
        }
        // What is left of it are zeros.
        for sql in
            ["DELETE FROM job_counts WHERE kind_id = ?1", "DELETE FROM kinds WHERE kind_id = ?1"]
        {
            run(tx.conn, sql, &[&id])?;
        }
        tx.book.kinds.remove(id);
        gone.insert(id);
    }
    if gone.is_empty() {
        return Ok(0);
    }
    let marks: Vec<_> =
        tx.book.marks.keys().copied().filter(|(_, kind)| gone.contains(kind)).collect();
    for key in marks {
        run(
            tx.conn,
            "DELETE FROM stuck_marks WHERE queue_id = ?1 AND kind_id = ?2",
            &[&key.0, &key.1],
        )?;
        tx.book.marks.remove(&key);
    }
    Ok(gone.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The writer finds out about one name by keys, however many there are.
    #[test]
    fn whether_a_name_is_used_is_looked_up_by_keys() {
        let conn = Connection::open_in_memory().unwrap();
        for sql in super::super::open::MIGRATIONS {
            conn.execute_batch(sql).unwrap();
        }
        for sql in [
            &*QUEUE_IS_UNUSED,
            &*KIND_IS_UNUSED,
            "DELETE FROM job_counts WHERE queue_id = ?1",
            "DELETE FROM job_counts WHERE kind_id = ?1",
            "DELETE FROM stuck_marks WHERE queue_id = ?1",
        ] {
            let plan: Vec<String> = conn
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .and_then(|mut s| s.query_map([1], |r| r.get(3))?.collect())
                .unwrap();
            assert!(plan.iter().all(|step| !step.starts_with("SCAN")), "{sql}: {plan:?}");
        }
    }
}
