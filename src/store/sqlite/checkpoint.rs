//! Moving the write-ahead log into the database file, off the path of commits.
//!
//! A thread of its own copies in the background (PASSIVE never blocks the writer). A log only
//! starts anew when it is copied whole at a moment without writers and readers, which under steady
//! load never comes by itself. Past a size such a moment is made: new reads wait at the gate, those
//! under way end, and the writer copies the small rest between two commits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rusqlite::Connection;

use super::writer::{Joined, WeakWriter};

/// How often the log is copied while there are commits. A page that is written again and again
/// within it is copied once, so often is dear; and what has gathered is synced at once, so seldom
/// is slow for the commits beside it.
const PERIOD: Duration = Duration::from_secs(1);

/// Log pages (4 KiB each, so 64 MiB) past which the log is made to start anew.
const LARGE: i64 = 16_384;

/// How long reads may be held up for it.
const QUIET: Duration = Duration::from_secs(1);

/// What PASSIVE answers: pages in the log, and how many of them are copied.
pub(super) fn passive(conn: &Connection) -> Option<(i64, i64)> {
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| Ok((r.get(1)?, r.get(2)?))).ok()
}

/// In the writer: copies what is left and lets the next commit begin at the log's start.
pub(super) fn restart(conn: &Connection) {
    // A reader that is still there (the recount) must not hold up commits: next time, then.
    drop(conn.busy_timeout(Duration::ZERO));
    drop(conn.query_row("PRAGMA wal_checkpoint(RESTART)", [], |r| r.get::<_, i64>(0)));
    drop(conn.busy_timeout(super::open::BUSY_TIMEOUT));
}

/// On closing: leaves no log behind, if nobody else reads.
pub(super) fn truncate(conn: &Connection) {
    drop(conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get::<_, i64>(0)));
}

/// The writer's end: notes commits; when it is dropped, the checkpointer ends.
#[derive(Debug)]
pub(super) struct Commits {
    any: Arc<AtomicBool>,
    _alive: SyncSender<()>,
}

impl Commits {
    pub(super) fn note(&self) {
        self.any.store(true, Ordering::Relaxed);
    }
}

/// The checkpointer's end.
#[derive(Debug)]
pub(super) struct Watch {
    any: Arc<AtomicBool>,
    ended: Receiver<()>,
}

impl Watch {
    /// Whether there were commits in the period that has just passed; `None` at the end.
    fn period(&self) -> Option<bool> {
        match self.ended.recv_timeout(PERIOD) {
            Err(RecvTimeoutError::Timeout) => Some(self.any.swap(false, Ordering::Relaxed)),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => None,
        }
    }
}

pub(super) fn pair() -> (Commits, Watch) {
    let (alive, ended) = sync_channel(0);
    let any = Arc::new(AtomicBool::new(false));
    (Commits { any: Arc::clone(&any), _alive: alive }, Watch { any, ended })
}

/// Reads pass the gate; held for writing, it is closed to them.
pub(super) type Gate = Arc<RwLock<()>>;

pub(super) fn start(
    conn: Connection,
    watch: Watch,
    writer: WeakWriter,
    gate: Gate,
) -> std::io::Result<Joined> {
    std::thread::Builder::new()
        .name("store-checkpoint".to_owned())
        .spawn(move || run(&conn, &watch, &writer, &gate))
        .map(Joined::from)
}

fn run(conn: &Connection, watch: &Watch, writer: &WeakWriter, gate: &Gate) {
    while let Some(committed) = watch.period() {
        if committed && passive(conn).is_some_and(|(log, _)| log > LARGE) {
            let _quiet = gate.write().unwrap_or_else(PoisonError::into_inner);
            writer.finish_checkpoint(QUIET);
        }
    }
}
