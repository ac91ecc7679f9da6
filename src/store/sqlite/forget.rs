//! Forgetting names: queues and kinds of which nothing is left.
//!
//! Clients make names by using them, so a stranger can make any number. [`names_kept`] of each are
//! kept for ever, since whoever looks for a queue that works once a month should find it. Beyond
//! that those that are not in use go with retention, the longest known first; and beyond
//! [`MAX_NAMES`] no new ones come.
//!
//! In use is what a counter above zero or an episode names, and a queue that is declared, paused,
//! has settings or is the server's own. Counters change in the commit that changes the job, so a
//! name that none counts is no job's.

use std::collections::HashSet;

use rusqlite::{Connection, ToSql};

use crate::domain::names::Name;
use crate::store::{MAX_NAMES, NewJob, Result, Submitted};

use super::rows::fault;
use super::writer::Tx;

/// Names of either sort that are kept whether used or not.
const fn names_kept() -> usize {
    MAX_NAMES / 10
}

/// Counters looked at in one step; those that are zero say nothing that their absence does not.
const COUNTERS: usize = 2_000;

/// The first of the jobs to be created whose queue or kind would be one name too many.
pub(super) fn too_many_names(
    tx: &Tx<'_>,
    jobs: &[NewJob],
    answers: &[Submitted],
    replayed: &[usize],
) -> Option<usize> {
    let (mut queues, mut kinds) = (HashSet::new(), HashSet::new());
    for (at, new) in jobs.iter().enumerate() {
        let (queue, kind) = (&new.spec.queue, &new.spec.kind);
        if answers[at] != Submitted::Created || replayed.contains(&at) || queue.is_reserved() {
            continue;
        }
        let fits = |known: &super::book::Names, coming: &mut HashSet<Name>, name: &Name| {
            if known.id(name).is_none() {
                coming.insert(name.clone());
            }
            coming.is_empty() || known.len() + coming.len() <= MAX_NAMES
        };
        if !fits(&tx.book.queues, &mut queues, queue) || !fits(&tx.book.kinds, &mut kinds, kind) {
            return Some(at);
        }
    }
    None
}

/// One bounded step; answers how many names went.
pub(super) fn forget(tx: &mut Tx<'_>, limit: u32) -> Result<usize> {
    if limit > 0 {
        zero_counters(tx)?;
    }
    Ok(queues(tx, limit)? + kinds(tx, limit)?)
}

fn run(conn: &Connection, sql: &str, values: &[&dyn ToSql]) -> Result<usize> {
    conn.prepare_cached(sql).and_then(|mut s| s.execute(values)).map_err(fault)
}

fn ids(conn: &Connection, sql: &str, limit: usize) -> Result<Vec<i64>> {
    conn.prepare_cached(sql)
        .and_then(|mut s| s.query_map([limit as i64], |r| r.get(0))?.collect())
        .map_err(fault)
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

fn queues(tx: &mut Tx<'_>, limit: u32) -> Result<usize> {
    let excess = tx.book.queues.len().saturating_sub(names_kept()).min(limit as usize);
    if excess == 0 {
        return Ok(0);
    }
    let unused = ids(
        tx.conn,
        "SELECT q.queue_id FROM queues q \
         WHERE NOT q.declared AND q.paused_at IS NULL AND q.settings IS NULL AND substr(q.name, 1, 1) <> '_' \
         AND NOT EXISTS (SELECT 1 FROM job_counts c WHERE c.queue_id = q.queue_id AND c.jobs <> 0) \
         AND q.queue_id NOT IN (SELECT queue_id FROM episodes) ORDER BY q.queue_id LIMIT ?1",
        excess,
    )?;
    let mut gone = 0;
    for id in unused {
        if tx.counts_change_in(|(queue, _)| queue == id) {
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

fn kinds(tx: &mut Tx<'_>, limit: u32) -> Result<usize> {
    let excess = tx.book.kinds.len().saturating_sub(names_kept()).min(limit as usize);
    if excess == 0 {
        return Ok(0);
    }
    let unused = ids(
        tx.conn,
        "SELECT kind_id FROM kinds WHERE substr(name, 1, 7) <> 'system.' \
         AND kind_id NOT IN (SELECT kind_id FROM job_counts WHERE jobs <> 0) \
         AND kind_id NOT IN (SELECT kind_id FROM episodes) ORDER BY kind_id LIMIT ?1",
        excess,
    )?;
    let mut gone = 0;
    for id in unused {
        if tx.counts_change_in(|(_, kind)| kind == id) {
            continue;
        }
        run(tx.conn, "DELETE FROM kinds WHERE kind_id = ?1", &[&id])?;
        tx.book.forget_kind(id);
        gone += 1;
    }
    if gone > 0 {
        // What is left of them are zeros.
        for sql in [
            "DELETE FROM job_counts WHERE kind_id NOT IN (SELECT kind_id FROM kinds)",
            "DELETE FROM stuck_marks WHERE kind_id NOT IN (SELECT kind_id FROM kinds)",
        ] {
            run(tx.conn, sql, &[])?;
        }
    }
    Ok(gone)
}
