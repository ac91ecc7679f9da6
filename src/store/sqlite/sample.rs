//! Counts and ages at one moment: from counters, and from one end of an index for each queue and
//! kind. What it costs grows with the queues, kinds and leases, never with the jobs.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension};

use crate::domain::job::Tally;
use crate::domain::names::{Name, WorkerId};
use crate::domain::time::Timestamp;
use crate::store::{QueueSample, Result, Sample};

use super::book::{NOT_OURS, QUEUE_COLUMNS, queue_state};
use super::episodes;
use super::rows::fault;

pub(super) fn sample(conn: &Connection, now: Timestamp) -> Result<Sample> {
    let snapshot = conn.unchecked_transaction().map_err(fault)?;
    let mut queues: BTreeMap<i64, QueueSample> = conn
        .prepare_cached(&format!("SELECT queue_id, {QUEUE_COLUMNS} FROM queues q WHERE {NOT_OURS}"))
        .and_then(|mut s| {
            s.query_map([], |r| {
                let sample = QueueSample {
                    state: queue_state(r, 1)?,
                    tallies: [0; 7],
                    due: 0,
                    oldest_eligible: None,
                    oldest_lease: None,
                    running_kinds: Vec::new(),
                };
                Ok((r.get::<_, i64>(0)?, sample))
            })?
            .collect()
        })
        .map_err(fault)?;
    counts(conn, &mut queues, now)?;
    due(conn, &mut queues, now)?;
    let leases = leases(conn, &mut queues)?;
    let episodes = episodes::open(conn)?;
    let names: (i64, i64) = conn
        .prepare_cached("SELECT (SELECT count(*) FROM queues), (SELECT count(*) FROM kinds)")
        .and_then(|mut s| s.query_row([], |r| Ok((r.get(0)?, r.get(1)?))))
        .map_err(fault)?;
    let size: i64 = conn
        .query_row(
            "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
            [],
            |r| r.get(0),
        )
        .map_err(fault)?;
    snapshot.finish().map_err(fault)?;
    Ok(Sample {
        queues: queues.into_values().collect(),
        leases,
        episodes,
        names: [names.0, names.1].map(|n| u64::try_from(n).unwrap_or(0)),
        size_bytes: u64::try_from(size).unwrap_or(0),
        // The caller's to say: the file does not know.
        free_bytes: None,
    })
}

fn counts(
    conn: &Connection,
    queues: &mut BTreeMap<i64, QueueSample>,
    now: Timestamp,
) -> Result<()> {
    let counts: Vec<(i64, i64, i64, i64)> = conn
        .prepare_cached("SELECT queue_id, kind_id, tally, jobs FROM job_counts WHERE jobs > 0")
        .and_then(|mut s| {
            s.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?.collect()
        })
        .map_err(fault)?;
    let mut oldest = conn
        .prepare_cached(
            "SELECT eligible_at FROM live_jobs INDEXED BY live_pending \
             WHERE tally < 3 AND queue_id = ?1 AND kind_id = ?2 AND eligible_at <= ?3 \
             ORDER BY eligible_at LIMIT 1",
        )
        .map_err(fault)?;
    let mut kind_name =
        conn.prepare_cached("SELECT name FROM kinds WHERE kind_id = ?1").map_err(fault)?;
    let mut looked = None;
    for (queue, kind, tally, jobs) in counts {
        let (Some(sample), Ok(at)) = (queues.get_mut(&queue), usize::try_from(tally)) else {
            continue;
        };
        if let Some(slot) = sample.tallies.get_mut(at) {
            *slot += u64::try_from(jobs).unwrap_or(0);
        }
        // The pending tallies of a kind follow each other.
        if tally < Tally::Running.code() && looked != Some((queue, kind)) {
            looked = Some((queue, kind));
            let at = oldest
                .query_row((queue, kind, now.as_millis()), |r| r.get(0).map(Timestamp::from_millis))
                .optional()
                .map_err(fault)?;
            sample.oldest_eligible = earlier(sample.oldest_eligible, at);
        }
        if tally == Tally::Running.code() {
            let name = kind_name
                .query_row([kind], |r| Ok(Name::trusted(r.get_ref(0)?.as_str()?)))
                .map_err(fault)?;
            sample.running_kinds.push(name);
        }
    }
    Ok(())
}

fn due(conn: &Connection, queues: &mut BTreeMap<i64, QueueSample>, now: Timestamp) -> Result<()> {
    let due: Vec<(i64, i64)> = conn
        .prepare_cached(
            "SELECT queue_id, count(*) FROM live_jobs INDEXED BY live_due \
             WHERE tally IN (1, 2) AND eligible_at <= ?1 GROUP BY queue_id",
        )
        .and_then(|mut s| s.query_map([now.as_millis()], |r| Ok((r.get(0)?, r.get(1)?)))?.collect())
        .map_err(fault)?;
    for (queue, jobs) in due {
        if let Some(sample) = queues.get_mut(&queue) {
            sample.due = u64::try_from(jobs).unwrap_or(0);
        }
    }
    Ok(())
}

fn leases(
    conn: &Connection,
    queues: &mut BTreeMap<i64, QueueSample>,
) -> Result<Vec<(WorkerId, u64)>> {
    let mut held: HashMap<WorkerId, u64> = HashMap::new();
    let mut stmt = conn
        .prepare_cached(
            "SELECT lease_worker, queue_id, count(*), min(lease_claimed_at) \
             FROM live_jobs INDEXED BY live_worker WHERE tally = 3 \
             GROUP BY lease_worker, queue_id",
        )
        .map_err(fault)?;
    let mut rows = stmt.query([]).map_err(fault)?;
    while let Some(row) = rows.next().map_err(fault)? {
        let read = || -> rusqlite::Result<(WorkerId, i64, i64, i64)> {
            let worker = WorkerId::trusted(row.get_ref(0)?.as_str()?);
            Ok((worker, row.get(1)?, row.get(2)?, row.get(3)?))
        };
        let (worker, queue, jobs, oldest) = read().map_err(fault)?;
        let Some(sample) = queues.get_mut(&queue) else { continue };
        *held.entry(worker).or_default() += u64::try_from(jobs).unwrap_or(0);
        sample.oldest_lease = earlier(sample.oldest_lease, Some(Timestamp::from_millis(oldest)));
    }
    Ok(held.into_iter().collect())
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
