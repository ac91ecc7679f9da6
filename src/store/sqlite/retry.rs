//! Doing a finished job's work again: the new job and its source's mark in one commit.

use crate::domain::id::JobId;
use crate::domain::rerun;
use crate::domain::time::Timestamp;
use crate::store::{Found, NewJob, Result, Retried, StoreError};

use super::change::{load_finished, load_live};
use super::names;
use super::reads;
use super::rows::fault;
use super::submit::insert;
use super::writer::Tx;

pub(super) fn retry(
    tx: &mut Tx<'_>,
    source: JobId,
    new: &NewJob,
    again: bool,
    now: Timestamp,
) -> Result<Retried> {
    tx.saw(now);
    if let Some(live) = load_live(tx, source)?
        && let Err(rejected) = rerun::allowed(&live.job)
    {
        return Ok(Retried::Refused(rejected));
    }
    let Some(done) = load_finished(tx, source)? else {
        return reads::absence(tx.conn, source).map(Retried::Gone);
    };
    if let Err(rejected) = rerun::allowed(&done.job) {
        return Ok(Retried::Refused(rejected));
    }
    // Before capacity is asked for: repetitions need none.
    if let Some(id) = done.retried_as.filter(|_| !again) {
        return Ok(match reads::get(tx.conn, tx.line, id, false)? {
            Found::Here(record) => Retried::Replayed(Box::new(record)),
            Found::Absent(why) => Retried::ReplayedGone(id, why),
        });
    }
    if let Some(why) = &tx.low_space {
        return Err(StoreError::LowSpace(why.clone()));
    }
    if let Some(depth) = tx.book.depth(&new.spec.queue).filter(|depth| depth.jobs >= depth.max) {
        return Ok(Retried::QueueFull(depth));
    }
    if let Some(full) = names::no_room_for(tx, &new.spec) {
        return Ok(Retried::TooManyNames(full));
    }
    insert(tx, new, now)?;
    let rows = tx
        .conn
        .prepare_cached("UPDATE finished_jobs SET retried_as = ?1 WHERE job_row = ?2")
        .and_then(|mut s| s.execute((new.spec.id.as_bytes(), done.row)))
        .map_err(fault)?;
    if rows == 1 {
        Ok(Retried::Created)
    } else {
        Err(StoreError::Other(format!("a finished job went during its retry ({rows} rows)")))
    }
}
