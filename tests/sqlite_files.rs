//! What the embedded store makes of the files that it is given: each bad one gets a clear answer
//! and is left as it was.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use punctual::domain::time::Timestamp;
use punctual::store::sqlite::{OpenError, SqliteStore};
use punctual::store::{Store, StoreError};
use rusqlite::Connection;

#[path = "sqlite_files/space.rs"]
mod space;
#[path = "support/stores.rs"]
mod stores;

use stores::{START, Settings, World, at, completed, json, sqlite_options};

fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    open_at(path, START)
}

fn open_at(path: &Path, now: Timestamp) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(sqlite_options(path.to_owned(), Settings::default(), now))
}

/// The error, whose text must be one line that names the file and the next step.
fn refused(path: &Path) -> OpenError {
    let error = open(path).expect_err("the file is refused");
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert!(!text.contains('\n'), "{text}");
    error
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("jobs.db")
    }
}

impl stores::Home for Dir {
    fn open(&self, now: Timestamp) -> std::sync::Arc<dyn Store> {
        std::sync::Arc::new(open_at(&self.file(), now).unwrap())
    }
}

/// A store file with a few jobs in it, closed.
async fn furnished() -> Dir {
    let dir = Dir::new();
    let world = World::new(Box::new(Dir(tempfile::tempdir_in(dir.0.path()).unwrap())));
    world.submit_many(200, START).await;
    for leased in world.take(20, START).await {
        world.settle(&leased, completed("1"), START).await;
    }
    world.store().close().await;
    let made = fs::read_dir(dir.0.path()).unwrap().next().unwrap().unwrap().path();
    fs::rename(made.join("jobs.db"), dir.file()).unwrap();
    drop(world);
    dir
}

#[tokio::test]
async fn closing_leaves_one_whole_file() {
    let dir = furnished().await;
    let copy = Dir::new();
    fs::copy(dir.file(), copy.file()).unwrap();
    let store = open(&copy.file()).unwrap();
    let recount = store.recount().await.unwrap();
    assert_eq!(recount.counted.iter().sum::<u64>(), 200);
    assert_eq!(recount.differing, 0);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let dir = furnished().await;
    let conn = Connection::open(dir.file()).unwrap();
    let known: i64 = conn.query_row("PRAGMA user_version", [], |r| r.get(0)).unwrap();
    conn.pragma_update(None, "user_version", known + 1).unwrap();
    drop(conn);
    let before = fs::read(dir.file()).unwrap();
    let error = refused(&dir.file());
    assert!(matches!(error, OpenError::Newer { .. }), "{error:?}");
    assert!(error.to_string().contains("newer version"), "{error}");
    assert!(fs::read(dir.file()).unwrap() == before, "the file was written to");
    // The version that knows it takes it.
    let conn = Connection::open(dir.file()).unwrap();
    conn.pragma_update(None, "user_version", known).unwrap();
    drop(conn);
    open(&dir.file()).unwrap();
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    let dir = Dir::new();
    let conn = Connection::open(dir.file()).unwrap();
    conn.execute_batch("CREATE TABLE songs (name TEXT); INSERT INTO songs VALUES ('one')").unwrap();
    drop(conn);
    let before = fs::read(dir.file()).unwrap();
    let error = refused(&dir.file());
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
    assert!(fs::read(dir.file()).unwrap() == before, "the file was written to");
}

#[test]
fn garbage_is_refused_and_left_alone() {
    let zeros = vec![0u8; 8_192];
    let noise = vec![0xde; 100_000];
    let header = [b"SQLite format 3\0".as_slice(), &[0xff; 5_000]].concat();
    let files: [&[u8]; 4] = [b"id,name\n1,one\n", &noise, &header, &zeros];
    for bytes in files {
        let dir = Dir::new();
        fs::write(dir.file(), bytes).unwrap();
        let error = refused(&dir.file());
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
        assert!(fs::read(dir.file()).unwrap() == bytes, "the file was written to");
    }
}

#[test]
fn an_empty_file_is_a_new_store() {
    let dir = Dir::new();
    fs::write(dir.file(), b"").unwrap();
    open(&dir.file()).unwrap();
}

#[tokio::test]
async fn a_damaged_store_is_refused() {
    let dir = furnished().await;
    let whole = fs::read(dir.file()).unwrap();
    assert!(whole.len() > 20 * 4_096, "{} bytes", whole.len());
    // The middle is overwritten.
    let mut holed = whole.clone();
    let pages = whole.len() / 4_096;
    for page in (pages / 4)..(pages / 2) {
        holed[page * 4_096..page * 4_096 + 512].fill(0xa5);
    }
    fs::write(dir.file(), &holed).unwrap();
    let error = refused(&dir.file());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    // The end is missing.
    fs::write(dir.file(), &whole[..pages / 2 * 4_096]).unwrap();
    let error = refused(&dir.file());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    // The whole file is good again.
    fs::write(dir.file(), &whole).unwrap();
    open(&dir.file()).unwrap();
}

#[tokio::test]
async fn one_server_at_a_time() {
    let dir = Dir::new();
    let first = open(&dir.file()).unwrap();
    let error = refused(&dir.file());
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains("another server"), "{error}");
    // The first one does not mind.
    let world = World::new(Box::new(Dir::new()));
    first.submit(vec![world.job(START)], START).await.unwrap();
    drop(first);
    let second = open(&dir.file()).unwrap();
    assert_eq!(second.recount().await.unwrap().counted.iter().sum::<u64>(), 1);
}

#[test]
fn a_path_that_leads_nowhere_is_told() {
    let dir = Dir::new();
    let error = refused(&dir.0.path().join("missing").join("jobs.db"));
    assert!(matches!(error, OpenError::Unusable { .. }), "{error:?}");
    let error = refused(dir.0.path());
    assert!(matches!(error, OpenError::Unusable { .. }), "{error:?}");
}

/// A file system of its own, for as long as it lives. `None` where mounting is not allowed.
struct Mount(tempfile::TempDir);

impl Mount {
    fn tmpfs(options: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let args = ["-t", "tmpfs", "-o", options, "tmpfs"];
        let done = Command::new("mount").args(args).arg(dir.path()).output().ok()?;
        done.status.success().then_some(Self(dir))
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let done = Command::new("mount").args(["-o", &options]).arg(self.0.path()).status();
        assert!(done.unwrap().success(), "remounting");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0.path()).output());
    }
}

#[tokio::test]
async fn a_read_only_file_system_is_told() {
    let Some(mount) = Mount::tmpfs("size=16m") else {
        eprintln!("skipped: mounting needs root");
        return;
    };
    let file = mount.0.path().join("jobs.db");
    // Also once the lock's file is there.
    drop(open(&file).unwrap());
    mount.remount("ro");
    let error = refused(&file);
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
}

#[tokio::test]
async fn a_read_only_file_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root may write to every file");
        return;
    }
    let dir = furnished().await;
    fs::set_permissions(dir.file(), fs::Permissions::from_mode(0o444)).unwrap();
    let error = refused(&dir.file());
    assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
}

#[tokio::test]
async fn a_full_disk_is_told_and_harms_nothing() {
    let Some(mount) = Mount::tmpfs("size=2m") else {
        eprintln!("skipped: mounting needs root");
        return;
    };
    let file = mount.0.path().join("jobs.db");
    let world = World::new(Box::new(Dir::new()));
    let big = || {
        world
            .job_with(START, |n| n.spec.payload = Some(json(format!("\"{}\"", "x".repeat(50_000)))))
    };
    let store = open(&file).unwrap();
    let mut accepted = Vec::new();
    let error = loop {
        let new = big();
        let id = new.spec.id;
        match store.submit(vec![new], START).await {
            Ok(_) => accepted.push(id),
            Err(error) => break error,
        }
        assert!(accepted.len() < 100, "2 MiB hold less");
    };
    assert!(matches!(error, StoreError::Full(_) | StoreError::Io(_)), "{error:?}");
    assert_eq!(error.class(), "full");
    // What was accepted is there, what was refused is not, and reads go on.
    let recount = store.recount().await.unwrap();
    assert_eq!(recount.differing, 0);
    assert_eq!(recount.counted.iter().sum::<u64>(), u64::try_from(accepted.len()).unwrap());
    // With room again, so do writes.
    mount.remount("size=8m");
    store.submit(vec![big()], START).await.unwrap();
    let leased = store.claim(world.ask(&["q"], 1, at(1)), at(1)).await.unwrap().jobs;
    assert_eq!(leased[0].spec.id, accepted[0]);
    drop(store);
    let store = open(&file).unwrap();
    let recount = store.recount().await.unwrap();
    assert_eq!(recount.counted.iter().sum::<u64>(), u64::try_from(accepted.len() + 1).unwrap());
    assert_eq!(recount.differing, 0);
}

#[tokio::test]
async fn a_copy_made_by_sqlites_own_means_is_a_store() {
    let dir = furnished().await;
    let store = open(&dir.file()).unwrap();
    let secret = store.identity().id_secret.clone();
    let copy = Dir::new();
    let conn = Connection::open(dir.file()).unwrap();
    conn.execute("VACUUM INTO ?1", [copy.file().to_str().unwrap()]).unwrap();
    drop(conn);
    let restored = open_at(&copy.file(), at(9)).unwrap();
    assert_eq!(restored.recount().await.unwrap(), store.recount().await.unwrap());
    let id = punctual::domain::id::IdMint::new(secret).mint(START, "default", 1);
    assert!(restored.identity().id_secret.verify(&id, "default"));
}
