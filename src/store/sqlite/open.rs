//! Opening a store file: the lock, the checks that give an operator a clear answer, migrations.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use crate::domain::time::Timestamp;

/// "Punc": tells our files from other programs' `SQLite` databases.
const APPLICATION_ID: i32 = 0x5075_6e63;

/// Applied in order; `user_version` counts how many have been. Never edit one that was released.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_foundation.sql"),
    include_str!("migrations/0002_watchdog.sql"),
    include_str!("migrations/0003_limits.sql"),
    include_str!("migrations/0004_estimates.sql"),
    include_str!("migrations/0005_namespaces.sql"),
    include_str!("migrations/0006_names.sql"),
    include_str!("migrations/0007_bringers.sql"),
];

/// How long one connection waits for another's lock.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// Files up to this size are checked whole at start-up.
const CHECKED_BYTES: u64 = 32 << 20;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "another server holds {path}; stop it first, or give this one another store with --store sqlite://PATH"
    )]
    InUse { path: String },
    #[error(
        "{path} was written by a newer version (schema {found}, this one knows {known}); start the newer version, or restore a backup"
    )]
    Newer { path: String, found: usize, known: usize },
    #[error(
        "{path} is a SQLite database of another program; choose another path with --store sqlite://PATH"
    )]
    Foreign { path: String },
    #[error(
        "{path} is damaged or no store file ({reason}); restore a backup, or move it away to start empty, and with it {path}-wal and {path}-shm if they exist: they are another file's"
    )]
    Damaged { path: String, reason: String },
    #[error(
        "{path} cannot be written ({reason}); make the file and its directory writable for this user"
    )]
    ReadOnly { path: String, reason: String },
    #[error("{path} cannot be opened ({reason}); check that the directory exists and has space")]
    Unusable { path: String, reason: String },
}

impl OpenError {
    fn from_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let (path, reason) = (path.display().to_string(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::ReadOnly { path, reason }
            }
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path, reason }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse { path },
            _ => Self::Unusable { path, reason },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Every commit is synced to disk before it is answered.
    Full,
    /// Synced at checkpoints: a power cut may lose the last moments; a crash of the process not.
    Normal,
}

/// Held for as long as the store is open; the kernel releases it when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// The file's one true path: who comes by a link is to meet the same lock and the same log.
/// A path that does not lead anywhere yet stays as it is.
pub(super) fn resolved(path: &Path) -> PathBuf {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    path.canonicalize()
        .or_else(|_| Ok(parent.canonicalize()?.join(path.file_name().unwrap_or_default())))
        .unwrap_or_else(|_: std::io::Error| path.to_owned())
}

pub(super) fn lock(path: &Path) -> Result<Lock, OpenError> {
    let lock_path = suffixed(path, "-lock");
    let shown = path.display().to_string();
    let file =
        File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(|e| {
            let (path, reason) = (shown.clone(), e.to_string());
            if matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) {
                OpenError::ReadOnly { path, reason }
            } else {
                OpenError::Unusable { path, reason }
            }
        })?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: shown }),
        Err(TryLockError::Error(e)) => {
            Err(OpenError::Unusable { path: shown, reason: e.to_string() })
        }
    }
}

pub(super) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The writer's connection, checked and migrated.
pub(super) fn writer(
    path: &Path,
    durability: Durability,
    secret: [u8; 32],
    now: Timestamp,
) -> Result<Connection, OpenError> {
    let fail = |e: rusqlite::Error| OpenError::from_sqlite(path, &e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(fail)?;
    if conn.is_readonly(rusqlite::MAIN_DB).map_err(fail)? {
        return Err(OpenError::ReadOnly {
            path: path.display().to_string(),
            reason: "the file is read-only".to_owned(),
        });
    }
    check(&conn, path)?;
    configure(&conn, durability).map_err(fail)?;
    migrate(&mut conn, path, secret, now)?;
    Ok(conn)
}

/// A plan that may depend on bound values is made anew at every execution, and partial indexes
/// make most of ours such; this promises one plan for each statement.
fn keep_plans(conn: &Connection) -> rusqlite::Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

fn configure(conn: &Connection, durability: Durability) -> rusqlite::Result<()> {
    keep_plans(conn)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.pragma_update(None, "journal_mode", "wal")?;
    conn.pragma_update(
        None,
        "synchronous",
        match durability {
            Durability::Full => "full",
            Durability::Normal => "normal",
        },
    )?;
    // Checkpoints are another connection's work, off the path of commits.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    conn.pragma_update(None, "cache_size", -65_536)?;
    conn.set_prepared_statement_cache_capacity(128);
    Ok(())
}

pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    keep_plans(&conn)?;
    conn.pragma_update(None, "query_only", true)?;
    conn.pragma_update(None, "cache_size", -8_192)?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

pub(super) fn checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open(path)?;
    conn.busy_timeout(Duration::ZERO)?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.pragma_update(None, "cache_size", -1_024)?;
    Ok(conn)
}

fn check(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let fail = |e: rusqlite::Error| OpenError::from_sqlite(path, &e);
    let shown = path.display().to_string();
    let tables: i64 =
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(fail)?;
    let id: i32 = conn.query_row("PRAGMA application_id", [], |r| r.get(0)).map_err(fail)?;
    if tables > 0 && id != APPLICATION_ID {
        return Err(OpenError::Foreign { path: shown });
    }
    if std::fs::metadata(path).is_ok_and(|m| m.len() <= CHECKED_BYTES) {
        let found: String =
            conn.query_row("PRAGMA quick_check(1)", [], |r| r.get(0)).map_err(fail)?;
        if found != "ok" {
            let reason = found.split_whitespace().collect::<Vec<_>>().join(" ");
            return Err(OpenError::Damaged { path: shown, reason });
        }
    }
    Ok(())
}

fn migrate(
    conn: &mut Connection,
    path: &Path,
    secret: [u8; 32],
    now: Timestamp,
) -> Result<(), OpenError> {
    let fail = |e: rusqlite::Error| OpenError::from_sqlite(path, &e);
    let found: usize = conn
        .query_row("PRAGMA user_version", [], |r| r.get::<_, i64>(0))
        .map(|v| usize::try_from(v).unwrap_or(usize::MAX))
        .map_err(fail)?;
    let known = MIGRATIONS.len();
    if found > known {
        return Err(OpenError::Newer { path: path.display().to_string(), found, known });
    }
    for (at, sql) in MIGRATIONS.iter().enumerate().skip(found) {
        let tx = conn.transaction().map_err(fail)?;
        tx.execute_batch(sql).map_err(fail)?;
        tx.pragma_update(None, "user_version", at as i64 + 1).map_err(fail)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(fail)?;
        tx.commit().map_err(fail)?;
    }
    seed(conn, secret, now).map_err(fail)
}

/// What a new store starts with. An existing one keeps its own.
fn seed(conn: &mut Connection, secret: [u8; 32], now: Timestamp) -> rusqlite::Result<()> {
    let tx = conn.transaction()?;
    let known: Option<i64> =
        tx.query_row("SELECT last_seen FROM progress", [], |r| r.get(0)).optional()?;
    if known.is_none() {
        let at = now.as_millis();
        tx.execute("INSERT INTO meta VALUES ('id_secret', ?1), ('created_at', ?2)", (secret, at))?;
        tx.execute("INSERT INTO progress VALUES (1, ?1, 1)", [at])?;
        tx.execute("INSERT INTO namespaces (name) VALUES ('default')", [])?;
    }
    tx.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store from before namespaces had lines of their own: each job joins its namespace's.
    #[test]
    fn old_jobs_join_the_lines_of_their_namespaces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jobs.db");
        let before = MIGRATIONS.iter().position(|sql| sql.contains("ADD COLUMN namespace_id"));
        let before = before.expect("the migration");
        let mut conn = Connection::open(&path).unwrap();
        for sql in &MIGRATIONS[..before] {
            conn.execute_batch(sql).unwrap();
        }
        conn.pragma_update(None, "user_version", before as i64).unwrap();
        seed(&mut conn, [1; 32], Timestamp::from_millis(5)).unwrap();
        conn.execute("INSERT INTO namespaces (name) VALUES ('shop')", []).unwrap();
        for (row, namespace) in [(1, 1), (2, 2), (3, 1), (4, 2)] {
            conn.execute(
                "INSERT INTO job_specs (job_row, job_id, namespace_id, queue_id, kind_id, priority) \
                 VALUES (?1, ?1, ?2, 1, 1, 0)",
                (row, namespace),
            )
            .unwrap();
            conn.execute(
                "INSERT INTO live_jobs (job_row, queue_id, kind_id, tally, priority, sequence, \
                 eligible_at, attempt, max_attempts, fence, version, created_at, updated_at, policy) \
                 VALUES (?1, 1, 1, 0, 0, ?1, 0, 0, 1, 0, 1, 0, 0, '')",
                [row],
            )
            .unwrap();
        }
        migrate(&mut conn, &path, [2; 32], Timestamp::from_millis(6)).unwrap();
        let lines: Vec<(i64, i64)> = conn
            .prepare("SELECT job_row, namespace_id FROM live_jobs ORDER BY job_row")
            .and_then(|mut s| s.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect())
            .unwrap();
        assert_eq!(lines, [(1, 1), (2, 2), (3, 1), (4, 2)]);
    }
}
