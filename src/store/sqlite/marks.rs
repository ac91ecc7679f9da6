//! Stuck counts that cost nothing while nothing is stuck.
//!
//! Per queue and kind, a mark holds a moment (the watermark) and the number of pending jobs that
//! have been eligible since then or longer. A job that leaves pending counts itself out in its own
//! transaction; only a scan moves the watermark on, and then counts what lies between the old and
//! the new one. That is done beside the writer, in three steps: *arm* the mark with the moment
//! counted to, in the writer; count on a snapshot; *advance* it in the writer, less the jobs that
//! have departed between the snapshot and then, of which the armed mark keeps account.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::domain::time::Timestamp;
use crate::store::Result;

use super::rows::fault;
use super::writer::Tx;

/// A queue and a kind.
pub(super) type Key = (i64, i64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) watermark: Timestamp,
    pub(super) jobs: i64,
    pub(super) counting_to: Option<Timestamp>,
    pub(super) departed: i64,
}

impl Mark {
    pub(super) const ZERO: Self =
        Self { watermark: Timestamp::EPOCH, jobs: 0, counting_to: None, departed: 0 };

    /// `by` jobs, eligible since `since`, came to (or left, when negative) pending. Whether that
    /// changed anything.
    fn note(&mut self, since: Option<Timestamp>, by: i64) -> bool {
        let Some(since) = since else { return false };
        if since <= self.watermark {
            self.jobs += by;
            true
        } else if self.counting_to.is_some_and(|to| since <= to) {
            self.departed -= by;
            true
        } else {
            false
        }
    }
}

/// What a scan has counted of one mark.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted {
    pub(super) key: Key,
    pub(super) to: Timestamp,
    pub(super) jobs: i64,
    /// The mark's own account when the snapshot was taken.
    pub(super) departed: i64,
}

pub(super) fn load(conn: &Connection) -> Result<HashMap<Key, Mark>> {
    conn.prepare(
        "SELECT queue_id, kind_id, watermark, jobs, counting_to, departed FROM stuck_marks",
    )
    .and_then(|mut s| {
        s.query_map([], |r| {
            let mark = Mark {
                watermark: Timestamp::from_millis(r.get(2)?),
                jobs: r.get(3)?,
                counting_to: r.get::<_, Option<i64>>(4)?.map(Timestamp::from_millis),
                departed: r.get(5)?,
            };
            Ok(((r.get(0)?, r.get(1)?), mark))
        })?
        .collect()
    })
    .map_err(fault)
}

impl Tx<'_> {
    /// A job's wait, by the moment that it has been eligible since, ended or began.
    pub(super) fn waits(&mut self, key: Key, ended: Option<Timestamp>, began: Option<Timestamp>) {
        if ended == began {
            return;
        }
        if let Some(mark) = self.book.marks.get_mut(&key)
            && (mark.note(ended, -1) | mark.note(began, 1))
        {
            self.marks.insert(key);
        }
    }
}

pub(super) fn write(tx: &Tx<'_>, key: Key) -> Result<()> {
    let Some(mark) = tx.book.marks.get(&key) else { return Ok(()) };
    tx.conn
        .prepare_cached(
            "INSERT INTO stuck_marks (queue_id, kind_id, watermark, jobs, counting_to, departed) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET \
             watermark = excluded.watermark, jobs = excluded.jobs, \
             counting_to = excluded.counting_to, departed = excluded.departed",
        )
        .and_then(|mut s| {
            s.execute((
                key.0,
                key.1,
                mark.watermark.as_millis(),
                mark.jobs,
                mark.counting_to.map(Timestamp::as_millis),
                mark.departed,
            ))
        })
        .map_err(fault)?;
    Ok(())
}

/// Nothing is stuck there, or what is must be counted anew.
pub(super) fn reset(tx: &mut Tx<'_>, key: Key) -> Result<()> {
    tx.book.marks.insert(key, Mark::ZERO);
    write(tx, key)
}

pub(super) fn arm(tx: &mut Tx<'_>, key: Key, to: Timestamp) -> Result<()> {
    let mark = tx.book.marks.entry(key).or_insert(Mark::ZERO);
    mark.counting_to = Some(to);
    mark.departed = 0;
    write(tx, key)
}

/// How many jobs are newly stuck.
pub(super) fn advance(tx: &mut Tx<'_>, counted: &Counted) -> Result<i64> {
    let Some(mark) = tx.book.marks.get_mut(&counted.key) else { return Ok(0) };
    if mark.counting_to != Some(counted.to) {
        return Ok(0);
    }
    let newly = counted.jobs - (mark.departed - counted.departed);
    *mark = Mark { watermark: counted.to, jobs: mark.jobs + newly, counting_to: None, departed: 0 };
    write(tx, counted.key)?;
    Ok(newly)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn jobs_count_themselves_out_on_either_side_of_the_watermark() {
        let mut mark = Mark {
            watermark: Timestamp::from_millis(10),
            jobs: 5,
            counting_to: Some(at(20)),
            departed: 0,
        };
        assert!(mark.note(Some(at(10)), -1));
        assert!(mark.note(Some(at(11)), -1));
        assert!(mark.note(Some(at(20)), -1));
        assert!(!mark.note(Some(at(21)), -1));
        assert!(!mark.note(None, -1));
        assert!(mark.note(Some(at(3)), 1));
        assert_eq!((mark.jobs, mark.departed), (5, 2));
    }
}
