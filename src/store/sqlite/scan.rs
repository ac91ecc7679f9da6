//! Finding what is stuck, and looking at one queue closely: reads, with short writes between.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension};

use crate::domain::id::JobId;
use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::store::{KindState, QueueState, Result, StuckAfter};

use super::book::{QUEUE_COLUMNS, queue_state};
use super::marks::{self, Counted, Key, Mark};
use super::rows::{fault, job_id};

/// Marks written in one commit.
pub(super) const STEP: usize = 500;

/// The oldest jobs that are shown of each kind, and of how many kinds that many; so many kinds are
/// shown to whoever asks about one queue.
const SHOWN: i64 = 10;
const SHOWN_KINDS: usize = 200;

/// What a scan has to do, as one committed moment shows it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) reset: Vec<Key>,
    /// To be counted, up to that moment.
    pub(super) count: Vec<(Key, Timestamp)>,
}

pub(super) fn plan(conn: &Connection, rules: &StuckAfter, now: Timestamp) -> Result<Plan> {
    let _snapshot = conn.unchecked_transaction().map_err(fault)?;
    let queues = queues(conn)?;
    let marks = marks::load(conn)?;
    let mut keys: Vec<Key> = conn
        .prepare_cached(
            "SELECT DISTINCT queue_id, kind_id FROM job_counts WHERE tally < 3 AND jobs > 0",
        )
        .and_then(|mut s| s.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect())
        .map_err(fault)?;
    keys.extend(marks.iter().filter(|(_, mark)| **mark != Mark::ZERO).map(|(key, _)| *key));
    keys.sort_unstable();
    keys.dedup();
    let mut anybody = conn
        .prepare_cached(
            "SELECT 1 FROM live_jobs INDEXED BY live_pending WHERE tally < 3 AND queue_id = ?1 \
             AND kind_id = ?2 AND eligible_at > ?3 AND eligible_at <= ?4 LIMIT 1",
        )
        .map_err(fault)?;
    let mut plan = Plan::default();
    for key in keys {
        let mut mark = marks.get(&key).copied().unwrap_or(Mark::ZERO);
        let watermark = queues.get(&key.0).and_then(|queue| watermark(queue, rules, now));
        let backwards = watermark.is_none_or(|to| to < mark.watermark);
        if backwards && mark != Mark::ZERO {
            plan.reset.push(key);
            mark = Mark::ZERO;
        }
        let Some(to) = watermark else { continue };
        let between = (key.0, key.1, mark.watermark.as_millis(), to.as_millis());
        if mark.counting_to.is_some() || anybody.exists(between).map_err(fault)? {
            plan.count.push((key, to));
        }
    }
    Ok(plan)
}

/// Whoever has been eligible since this moment is stuck; `None` when nobody can be.
fn watermark(queue: &QueueState, rules: &StuckAfter, now: Timestamp) -> Option<Timestamp> {
    if queue.name.is_reserved() {
        return None;
    }
    let to = now.minus(rules.of(queue.name.as_str())?);
    // Time before the last resume does not count.
    let resumed = queue.resumed_at.is_none_or(|resumed| resumed <= to);
    (queue.paused_at.is_none() && resumed).then_some(to)
}

/// Counts what the armed marks are to be advanced by; marks that are not armed are left out.
pub(super) fn count(conn: &Connection, armed: &[(Key, Timestamp)]) -> Result<Vec<Counted>> {
    let _snapshot = conn.unchecked_transaction().map_err(fault)?;
    let mut between = conn
        .prepare_cached(
            "SELECT count(*) FROM live_jobs INDEXED BY live_pending WHERE tally < 3 \
             AND queue_id = ?1 AND kind_id = ?2 AND eligible_at > ?3 AND eligible_at <= ?4",
        )
        .map_err(fault)?;
    let mut mark = conn
        .prepare_cached(
            "SELECT watermark, departed FROM stuck_marks \
             WHERE queue_id = ?1 AND kind_id = ?2 AND counting_to = ?3",
        )
        .map_err(fault)?;
    let mut counted = Vec::new();
    for (key, to) in armed {
        let found: Option<(i64, i64)> = mark
            .query_row((key.0, key.1, to.as_millis()), |r| Ok((r.get(0)?, r.get(1)?)))
            .optional()
            .map_err(fault)?;
        let Some((watermark, departed)) = found else { continue };
        let jobs = between
            .query_row((key.0, key.1, watermark, to.as_millis()), |r| r.get(0))
            .map_err(fault)?;
        counted.push(Counted { key: *key, to: *to, jobs, departed });
    }
    Ok(counted)
}

/// All kinds of which jobs are stuck.
pub(super) fn stuck(
    conn: &Connection,
    newly: &HashMap<Key, i64>,
    now: Timestamp,
) -> Result<Vec<KindState>> {
    let _snapshot = conn.unchecked_transaction().map_err(fault)?;
    let keys: Vec<Key> = conn
        .prepare_cached("SELECT queue_id, kind_id FROM stuck_marks WHERE jobs > 0")
        .and_then(|mut s| s.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect())
        .map_err(fault)?;
    states(conn, &keys, newly, now)
}

/// The kinds of the queue of which jobs are not finished; see [`SHOWN_KINDS`].
pub(super) fn inspect(
    conn: &Connection,
    queue: &Name,
    kind: Option<&Name>,
    now: Timestamp,
) -> Result<Vec<KindState>> {
    let _snapshot = conn.unchecked_transaction().map_err(fault)?;
    let keys: Vec<Key> = conn
        .prepare_cached(
            "SELECT c.queue_id, c.kind_id FROM queues q JOIN job_counts c USING (queue_id) \
             JOIN kinds k USING (kind_id) \
             LEFT JOIN stuck_marks m ON m.queue_id = c.queue_id AND m.kind_id = c.kind_id \
             WHERE q.name = ?1 AND c.tally < 4 AND c.jobs > 0 AND (?2 IS NULL OR k.name = ?2) \
             GROUP BY c.queue_id, c.kind_id \
             ORDER BY max(coalesce(m.jobs, 0)) DESC, sum(c.jobs) DESC LIMIT ?3",
        )
        .and_then(|mut s| {
            let limit = i64::try_from(SHOWN_KINDS).unwrap_or(i64::MAX);
            s.query_map((queue.as_str(), kind.map(Name::as_str), limit), |r| {
                Ok((r.get(0)?, r.get(1)?))
            })?
            .collect()
        })
        .map_err(fault)?;
    states(conn, &keys, &HashMap::new(), now)
}

fn states(
    conn: &Connection,
    keys: &[Key],
    newly: &HashMap<Key, i64>,
    now: Timestamp,
) -> Result<Vec<KindState>> {
    let queues = queues(conn)?;
    let marks = marks::load(conn)?;
    let mut running: BTreeMap<i64, Vec<(Name, u64)>> = BTreeMap::new();
    let mut tallies = conn
        .prepare_cached("SELECT tally, jobs FROM job_counts WHERE queue_id = ?1 AND kind_id = ?2")
        .map_err(fault)?;
    let mut name =
        conn.prepare_cached("SELECT name FROM kinds WHERE kind_id = ?1").map_err(fault)?;
    let mut oldest = conn
        .prepare_cached(
            "SELECT s.job_id, l.eligible_at, l.priority, n.name FROM live_jobs l INDEXED BY live_pending \
             JOIN job_specs s USING (job_row) \
             JOIN namespaces n ON n.namespace_id = s.namespace_id \
             WHERE l.tally < 3 AND l.queue_id = ?1 \
             AND l.kind_id = ?2 AND l.eligible_at <= ?3 ORDER BY l.eligible_at LIMIT ?4",
        )
        .map_err(fault)?;
    let shown = if keys.len() > SHOWN_KINDS { 1 } else { SHOWN };
    let mut states = Vec::with_capacity(keys.len());
    for key in keys {
        let Some(queue) = queues.get(&key.0) else { continue };
        let queue_running = match running.entry(key.0) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(running_kinds(conn, key.0)?),
        };
        let mut namespace = None;
        let jobs: Vec<(JobId, Timestamp, i32)> = oldest
            .query_map((key.0, key.1, now.as_millis(), shown), |r| {
                if namespace.is_none() {
                    namespace = Some(Name::trusted(r.get_ref(3)?.as_str()?));
                }
                Ok((job_id(r, 0)?, Timestamp::from_millis(r.get(1)?), r.get(2)?))
            })
            .and_then(Iterator::collect)
            .map_err(fault)?;
        let mut counts = [0; 4];
        let rows: Vec<(i64, i64)> = tallies
            .query_map(*key, |r| Ok((r.get(0)?, r.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(fault)?;
        for (tally, jobs) in rows {
            if let Some(slot) = usize::try_from(tally).ok().and_then(|at| counts.get_mut(at)) {
                *slot = u64::try_from(jobs).unwrap_or(0);
            }
        }
        let since = jobs.first().map(|(_, since, _)| *since);
        states.push(KindState {
            kind: name
                .query_row([key.1], |r| Ok(Name::trusted(r.get_ref(0)?.as_str()?)))
                .map_err(fault)?,
            queue: queue.clone(),
            stuck: positive(marks.get(key).map_or(0, |mark| mark.jobs)),
            newly: positive(newly.get(key).copied().unwrap_or(0)),
            tallies: counts,
            oldest_since: since.map(|s| queue.resumed_at.map_or(s, |r| r.max(s))),
            oldest_priority: jobs.first().map(|(_, _, priority)| *priority),
            oldest_namespace: namespace,
            oldest_jobs: jobs.into_iter().map(|(id, _, _)| id).collect(),
            queue_running: queue_running.clone(),
        });
    }
    Ok(states)
}

fn positive(jobs: i64) -> u64 {
    u64::try_from(jobs).unwrap_or(0)
}

fn running_kinds(conn: &Connection, queue: i64) -> Result<Vec<(Name, u64)>> {
    conn.prepare_cached(
        "SELECT k.name, c.jobs FROM job_counts c JOIN kinds k USING (kind_id) \
         WHERE c.queue_id = ?1 AND c.tally = 3 AND c.jobs > 0",
    )
    .and_then(|mut s| {
        s.query_map([queue], |r| Ok((Name::trusted(r.get_ref(0)?.as_str()?), positive(r.get(1)?))))?
            .collect()
    })
    .map_err(fault)
}

fn queues(conn: &Connection) -> Result<HashMap<i64, QueueState>> {
    conn.prepare_cached(&format!("SELECT q.queue_id, {QUEUE_COLUMNS} FROM queues q"))
        .and_then(|mut s| s.query_map([], |r| Ok((r.get(0)?, queue_state(r, 1)?)))?.collect())
        .map_err(fault)
}
