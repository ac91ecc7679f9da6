//! What the estimator has learnt, kept for the next start.

use rusqlite::{Connection, Row};

use crate::domain::estimate::Saved;
use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::store::{Result, StoreError};

use super::rows::{fault, moment, readable};
use super::writer::Tx;

/// Rows kept; a stranger can invent names. Beyond it those written longest ago go.
const KEPT: i64 = 10_000;

/// Rows removed in one commit.
const STEP: i64 = 1_000;

pub(super) fn save(tx: &mut Tx<'_>, estimates: &[Saved], oldest: Timestamp) -> Result<()> {
    if let Some(why) = &tx.low_space {
        return Err(StoreError::LowSpace(why.clone()));
    }
    let mut upsert = tx
        .conn
        .prepare_cached(
            "INSERT INTO estimates (queue, kind, saved_at, body) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT DO UPDATE SET saved_at = excluded.saved_at, body = excluded.body",
        )
        .map_err(fault)?;
    for one in estimates {
        let text = |name: &Option<Name>| name.as_ref().map_or(String::new(), Name::to_string);
        let row = (text(&one.queue), text(&one.kind), one.at.as_millis(), &one.body);
        upsert.execute(row).map_err(fault)?;
    }
    forget(
        tx.conn,
        "SELECT rowid FROM estimates WHERE saved_at < ?1 LIMIT ?2",
        oldest.as_millis(),
    )?;
    let crowd = "SELECT rowid FROM estimates ORDER BY saved_at DESC LIMIT ?2 OFFSET ?1";
    forget(tx.conn, crowd, KEPT)
}

fn forget(conn: &Connection, which: &str, by: i64) -> Result<()> {
    conn.prepare_cached(&format!("DELETE FROM estimates WHERE rowid IN ({which})"))
        .and_then(|mut s| s.execute((by, STEP)))
        .map_err(fault)?;
    Ok(())
}

/// Those written last come first.
pub(super) fn load(conn: &Connection) -> Result<Vec<Saved>> {
    conn.prepare_cached(
        "SELECT queue, kind, saved_at, body FROM estimates ORDER BY saved_at DESC LIMIT ?1",
    )
    .map_err(fault)?
    .query_map([KEPT], saved)
    .map_err(fault)?
    .filter_map(|row| readable(row, "estimates").transpose())
    .collect()
}

fn saved(row: &Row<'_>) -> rusqlite::Result<Saved> {
    let name = |at: usize| -> rusqlite::Result<Option<Name>> {
        let text = row.get_ref(at)?.as_str()?;
        Ok((!text.is_empty()).then(|| Name::trusted(text)))
    };
    Ok(Saved { queue: name(0)?, kind: name(1)?, at: moment(row, 2)?, body: row.get(3)? })
}
