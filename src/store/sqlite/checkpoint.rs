//! Moving the write-ahead log into the database file, off the path of commits.
//!
//! A thread of its own copies in the background (PASSIVE never blocks the writer). A log only
//! starts anew when it is copied whole at a moment without writers, which under steady load never
//! comes by itself; past a size the writer is asked to copy the small rest between two commits.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use rusqlite::Connection;

use super::writer::{Joined, WeakWriter};

/// How often the log is copied while there are commits.
const PERIOD: Duration = Duration::from_millis(500);

/// Log pages (4 KiB each) past which the writer helps.
const LARGE: i64 = 8192;

/// Log pages below which copying waits for more: pages written again and again cost once.
const SMALL: i64 = 1000;

/// What PASSIVE answers: pages in the log, and how many of them are copied.
pub(super) fn passive(conn: &Connection) -> Option<(i64, i64)> {
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| Ok((r.get(1)?, r.get(2)?))).ok()
}

/// On closing: leaves no log behind, if nobody else reads.
pub(super) fn truncate(conn: &Connection) {
    drop(conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get::<_, i64>(0)));
}

/// Tells the checkpointer that there was a commit.
pub(super) fn signal() -> (SyncSender<()>, Receiver<()>) {
    sync_channel(1)
}

pub(super) fn start(
    conn: Connection,
    dirty: Receiver<()>,
    writer: WeakWriter,
    wal_pages: impl Fn() -> i64 + Send + 'static,
) -> std::io::Result<Joined> {
    std::thread::Builder::new()
        .name("store-checkpoint".to_owned())
        .spawn(move || run(&conn, &dirty, &writer, &wal_pages))
        .map(Joined::from)
}

fn run(conn: &Connection, dirty: &Receiver<()>, writer: &WeakWriter, wal_pages: &dyn Fn() -> i64) {
    loop {
        if dirty.recv().is_err() {
            return;
        }
        // Gather: the period passes whether or not more commits come.
        match dirty.recv_timeout(PERIOD) {
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(()) | Err(RecvTimeoutError::Timeout) => {}
        }
        if wal_pages() < SMALL {
            continue;
        }
        if passive(conn).is_some_and(|(log, _)| log > LARGE) {
            writer.finish_checkpoint();
        }
    }
}
