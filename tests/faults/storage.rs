//! The store cannot be written, or has no room.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use punctual::client::{Client, Prefer};
use tempfile::TempDir;

use crate::case::{Case, QUEUE};
use crate::daemon::until;
use crate::expect::{critical, warning};
use crate::workers::{Doing, Feed, Hands, QUICKLY, job, submit, until_done, until_running};

/// Another program that writes to the store and takes its time.
const HOLD: &str = "import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
c.execute('BEGIN IMMEDIATE')
print('held', flush=True)
sys.stdin.read()
c.execute('ROLLBACK')
";

/// The same, over and over: it leaves no more than a moment between.
const HAMPER: &str = "import sqlite3, sys, threading, time
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
print('held', flush=True)
while not ended.is_set():
    c.execute('BEGIN IMMEDIATE')
    time.sleep(0.9)
    c.execute('ROLLBACK')
    time.sleep(0.1)
";

pub(crate) struct Locker {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Locker {
    pub(crate) fn hold(store: &Path) -> Self {
        Self::start(HOLD, store)
    }

    fn start(program: &str, store: &Path) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", program])
            .arg(store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut said = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut said).expect("text");
        let stdin = child.stdin.take();
        let locker = Self { child, stdin };
        assert_eq!(said, "held\n");
        locker
    }

    pub(crate) fn let_go(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().expect("its end").success());
    }
}

impl Drop for Locker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nothing can be accepted, settled or taken back meanwhile; it is no worker's fault.
pub(crate) async fn locked(case: &mut Case) {
    // Workers come back within 15 s of an outage; by default nothing is stuck until long after.
    case.set("WATCHDOG__STUCK_AFTER", "30s");
    case.start("").await;
    let hands = Hands::start(case, QUEUE, 2, QUICKLY);
    let feed = Feed::start(case.client(), job(QUEUE), Duration::from_millis(500));
    case.healthy().await;
    drop(feed);

    case.injected();
    let store = case.dir.path().join("jobs.db");
    let locker = tokio::task::spawn_blocking(move || Locker::hold(&store)).await.expect("the lock");
    let refused = refusal(&case.client()).await;
    assert_eq!(refused, "storage-unavailable");
    case.raises(&[
        critical("PunctualStoreErrors"),
        critical("PunctualTaskStalled").with("task", "reaper").inhibited(),
        critical("PunctualTaskStalled").with("task", "scheduler").inhibited(),
        warning("PunctualTaskStalled").with("task", "retention").inhibited(),
    ])
    .await;
    let (status, ready) = case.get("/readyz").await;
    assert!(status == 200 && ready.contains("\"degraded\":true"), "{status} {ready}");

    case.cured().await;
    tokio::task::spawn_blocking(|| locker.let_go()).await.expect("the lock");
    submit(&case.client(), &job(QUEUE), 3).await;
    until_done(case, QUEUE).await;
    case.clears().await;
    drop(hands);
}

/// Everything comes through, and everybody waits.
/// Between one submission's answer and the next, of each client of the slow store.
const FED: Duration = Duration::from_millis(250);

pub(crate) async fn slow(case: &mut Case) {
    case.start("").await;
    let hands = Hands::start(case, QUEUE, 4, QUICKLY);
    // Several, since each waits for its own: what is counted is many operations, each of them slow.
    let feeds = [(); 4].map(|()| Feed::start(case.client(), job(QUEUE), FED));
    case.healthy().await;

    case.injected();
    let store = case.dir.path().join("jobs.db");
    let locker = tokio::task::spawn_blocking(move || Locker::start(HAMPER, &store));
    let locker = locker.await.expect("the lock");
    // Of submissions and settlements, and of claims too if enough of them come.
    case.raises(&[warning("PunctualStoreSlow")]).await;

    case.cured().await;
    tokio::task::spawn_blocking(|| locker.let_go()).await.expect("the lock");
    drop(feeds);
    until_done(case, QUEUE).await;
    case.clears().await;
    drop(hands);
}

/// The code of the problem that a submission meets.
async fn refusal(client: &Client) -> String {
    let once = client.clone().retry_for(Duration::ZERO);
    until("a refusal", || async {
        let refused = once.submit(&job(QUEUE), None, Prefer::ASYNC).await.err()?;
        refused.code().map(str::to_owned)
    })
    .await
}

/// Room that is left above `store.min_free`, and what takes it away.
const ROOM: u64 = 24 << 20;
const FILLER: u64 = 32 << 20;

/// A file system in memory: it fills up in no time, and everybody may.
const DISK: &str = "/dev/shm";

pub(crate) async fn full(case: &mut Case) {
    let disk = TempDir::with_prefix_in("punctual-", DISK).expect("a directory");
    let space = rustix::fs::statvfs(disk.path()).expect("its size");
    let free = space.f_bavail * space.f_frsize;
    assert!(free > FILLER * 3 / 2, "{DISK} has {free} bytes free");
    let filler = disk.path().join("filler");
    case.keep_store_on(disk);
    case.set("STORE__MIN_FREE", &(free - ROOM).to_string());
    case.start("").await;
    let hands = Hands::start(case, QUEUE, 2, Doing::Hang);
    let held = submit(&case.client(), &job(QUEUE), 2).await;
    until_running(case, 2).await;
    case.healthy().await;

    case.injected();
    let file = File::create(&filler).expect("a file");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILLER)
        .expect("room for it");
    // As long as it is open its room is not given back.
    drop(file);
    assert_eq!(refusal(&case.client()).await, "storage-full");
    case.raises(&[critical("PunctualStoreFull")]).await;
    // What was accepted comes to its end.
    hands.now(QUICKLY);
    until_done(case, QUEUE).await;
    for id in &held {
        let job = case.client().show(id).await.expect("the job");
        assert_eq!(job.status, "completed");
    }
    assert_eq!(refusal(&case.client()).await, "storage-full");

    case.cured().await;
    std::fs::remove_file(&filler).expect("the file");
    submit(&case.client(), &job(QUEUE), 1).await;
    until_done(case, QUEUE).await;
    case.clears().await;
    drop(hands);
}
