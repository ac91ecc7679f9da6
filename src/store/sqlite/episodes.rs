//! Episodes: what the watchdog has found, kept for those who ask later.

use std::fmt::Write as _;

use rusqlite::{Connection, Row, params_from_iter};

use crate::domain::id::JobId;
use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::domain::watch::Verdict;
use crate::store::{Episode, EpisodeFilter, OpenEpisode, Result};

use super::rows::{fault, json, moment, to_json};
use super::writer::Tx;

pub(super) fn record(tx: &Tx<'_>, episode: &Episode) -> Result<()> {
    let (Some(queue), Some(kind)) =
        (tx.book.queues.id(&episode.queue), tx.book.kinds.id(&episode.kind))
    else {
        // Its jobs gave it both names; there is nothing to tell of a queue that never was.
        return Ok(());
    };
    let oldest: Vec<String> = episode.oldest_jobs.iter().map(ToString::to_string).collect();
    let values = rusqlite::params![
        queue,
        kind,
        episode.verdict.as_str(),
        episode.since.as_millis(),
        episode.jobs as i64,
        episode.peak_jobs as i64,
        to_json(&oldest)?,
        to_json(&episode.evidence)?,
        episode.ended_at.map(Timestamp::as_millis),
    ];
    let rewritten = tx
        .conn
        .prepare_cached(
            "UPDATE episodes INDEXED BY episodes_open SET verdict = ?3, since = ?4, jobs = ?5, \
             peak_jobs = ?6, oldest_jobs = ?7, evidence = ?8, ended_at = ?9 \
             WHERE queue_id = ?1 AND kind_id = ?2 AND ended_at IS NULL",
        )
        .and_then(|mut s| s.execute(values))
        .map_err(fault)?;
    // The end of one that is not open has been written before.
    if rewritten == 0 && episode.ended_at.is_none() {
        tx.conn
            .prepare_cached(
                "INSERT INTO episodes (queue_id, kind_id, verdict, since, jobs, peak_jobs, \
                 oldest_jobs, evidence, ended_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )
            .and_then(|mut s| s.execute(values))
            .map_err(fault)?;
    }
    Ok(())
}

pub(super) fn list(conn: &Connection, filter: &EpisodeFilter, limit: u32) -> Result<Vec<Episode>> {
    let _snapshot = conn.unchecked_transaction().map_err(fault)?;
    let mut clauses = String::new();
    let mut values: Vec<rusqlite::types::Value> = vec![i64::from(limit).into()];
    for (column, name) in [("q.name", &filter.queue), ("k.name", &filter.kind)] {
        if let Some(name) = name {
            values.push(name.as_str().to_owned().into());
            // Writing to a String cannot fail.
            let _ = write!(clauses, " AND {column} = ?{}", values.len());
        }
    }
    let mut found = select(
        conn,
        &format!(
            "INDEXED BY episodes_open JOIN queues q USING (queue_id) JOIN kinds k USING (kind_id) \
             WHERE e.ended_at IS NULL{clauses} ORDER BY e.since DESC"
        ),
        &values,
    )?;
    let left = u32::try_from(found.len()).map_or(0, |n| limit.saturating_sub(n));
    let after = filter.ended_after.unwrap_or(Timestamp::EPOCH).as_millis();
    values[0] = i64::from(left).into();
    values.push(after.into());
    found.extend(select(
        conn,
        &format!(
            "INDEXED BY episodes_ended JOIN queues q USING (queue_id) JOIN kinds k USING (kind_id) \
             WHERE e.ended_at IS NOT NULL AND e.ended_at > ?{}{clauses} ORDER BY e.ended_at DESC",
            values.len()
        ),
        &values,
    )?);
    Ok(found)
}

fn select(
    conn: &Connection,
    clause: &str,
    values: &[rusqlite::types::Value],
) -> Result<Vec<Episode>> {
    conn.prepare_cached(&format!(
        "SELECT q.name, k.name, e.verdict, e.since, e.jobs, e.peak_jobs, e.oldest_jobs, \
         e.evidence, e.ended_at FROM episodes e {clause} LIMIT ?1"
    ))
    .and_then(|mut s| s.query_map(params_from_iter(values), episode)?.collect())
    .map_err(fault)
}

fn episode(r: &Row<'_>) -> rusqlite::Result<Episode> {
    let ids: Vec<String> = json(r, 6)?.unwrap_or_default();
    Ok(Episode {
        queue: Name::trusted(r.get_ref(0)?.as_str()?),
        kind: Name::trusted(r.get_ref(1)?.as_str()?),
        verdict: verdict(r, 2)?,
        since: moment(r, 3)?,
        jobs: r.get::<_, i64>(4)? as u64,
        peak_jobs: r.get::<_, i64>(5)? as u64,
        oldest_jobs: ids.iter().filter_map(|id| JobId::parse(id)).collect(),
        evidence: json(r, 7)?.unwrap_or_default(),
        ended_at: r.get::<_, Option<i64>>(8)?.map(Timestamp::from_millis),
    })
}

/// A verdict that an older version does not know is none that it can judge.
fn verdict(r: &Row<'_>, at: usize) -> rusqlite::Result<Verdict> {
    Ok(Verdict::parse(r.get_ref(at)?.as_str()?).unwrap_or(Verdict::Unknown))
}

/// Those that go on, with the numbers of this moment.
pub(super) fn open(conn: &Connection) -> Result<Vec<OpenEpisode>> {
    conn.prepare_cached(
        "SELECT q.name, k.name, e.verdict, e.since, coalesce(m.jobs, 0), coalesce(c.jobs, 0) \
         FROM episodes e INDEXED BY episodes_open \
         JOIN queues q USING (queue_id) JOIN kinds k USING (kind_id) \
         LEFT JOIN stuck_marks m USING (queue_id, kind_id) \
         LEFT JOIN job_counts c \
           ON c.queue_id = e.queue_id AND c.kind_id = e.kind_id AND c.tally = 0 \
         WHERE e.ended_at IS NULL",
    )
    .and_then(|mut s| {
        s.query_map([], |r| {
            Ok(OpenEpisode {
                queue: Name::trusted(r.get_ref(0)?.as_str()?),
                kind: Name::trusted(r.get_ref(1)?.as_str()?),
                verdict: verdict(r, 2)?,
                since: moment(r, 3)?,
                jobs: r.get::<_, i64>(4)?.max(0) as u64,
                queued: r.get::<_, i64>(5)?.max(0) as u64,
            })
        })?
        .collect()
    })
    .map_err(fault)
}
