//! When the disk is full, the file is not ours to write, or somebody else is in the way.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::answer::in_millis;
use crate::kit::{Client, Lease, Server};
use crate::server::{Launch, until};

/// A file system of its own, unmounted when dropped.
struct Tmpfs {
    dir: TempDir,
}

impl Tmpfs {
    /// `None`, with a note, where this user may not mount.
    fn mount(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(dir.path())
            .output();
        if mount.is_ok_and(|m| m.status.success()) {
            return Some(Self { dir });
        }
        println!("skipped: mounting a tmpfs needs root");
        None
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(self.path())
            .status()
            .expect("mount");
        assert!(status.success(), "remount,{options}");
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_work_and_keeps_what_it_has() {
    let Some(disk) = Tmpfs::mount("size=6m") else { return };
    // Nothing is kept back: it fills up to the last byte.
    let launch = Launch::new(disk.path().join("jobs.db"))
        .set("TASKS__SAMPLER", "100ms")
        .set("STORE__MIN_FREE", "0");
    let process = launch.start();
    let launch = launch.port(process.port);
    let client = Client::new(process.port);
    client.submit(&json!({"kind": "a", "queue": "held"})).await;
    let held = client.lease("h", "held").await;
    let filler = "x".repeat(100 << 10);
    let job = |n: usize| json!({"kind": "a", "payload": {"n": n, "filler": filler}});
    let mut accepted = Vec::new();
    let refused = loop {
        let n = accepted.len();
        let key = format!("k{n}");
        let headers = [("Idempotency-Key", key.as_str()), ("Prefer", "respond-async")];
        let reply = client.post_with("/v1/jobs", &job(n), &headers).await;
        if reply.status != 202 {
            break reply;
        }
        accepted.push(reply.id());
        assert!(n < 1_000, "the disk does not fill up");
    };
    assert!(accepted.len() > 5, "{}", accepted.len());
    // Other clients hear the same, and may come back; the server itself is well.
    let refused = refused.problem(503, "storage-full");
    assert!(!refused.json.to_string().contains("disk"), "{}", refused.json);
    let unused = format!("k{}", accepted.len());
    let mut refusals = 0;
    for _ in 0..100 {
        // A log that starts anew may leave room for one more.
        let reply = client.post("/v1/jobs", &job(accepted.len())).await;
        if reply.status == 202 {
            accepted.push(reply.id());
            continue;
        }
        reply.problem(503, "storage-full").retry_after();
        refusals += 1;
        if refusals == 5 {
            break;
        }
    }
    assert_eq!(refusals, 5);
    let batch = json!({"jobs": vec![job(0); 3]});
    client.post("/v1/jobs/batch", &batch).await.problem(503, "storage-full");
    // A heartbeat that cannot be stored is no lost lease.
    let beat = client.with_lease("heartbeat", &held, &json!({})).await;
    assert!(matches!(beat.status, 200 | 503), "{} {}", beat.status, beat.json);
    client.get("/livez").await.is(200);
    let ready = client.get("/readyz").await.is(200);
    assert_eq!(ready.json["status"], "ready");
    for id in &accepted {
        assert_eq!(client.job(id).await["status"], "pending");
    }
    let metrics = client.metrics().await;
    let unavailable = metrics.sum("punctual_job_submissions_total", &["outcome=\"unavailable\""]);
    assert_eq!(unavailable as usize, 1 + 5 + 3);
    assert!(metrics.sum("punctual_store_operation_errors_total", &["error_class=\"full\""]) >= 7.0);
    assert!(process.log().contains("storage-full"), "{}", process.log());

    // Not even a crash in this state loses anything.
    process.kill();
    disk.remount("size=64m");
    let process = launch.start();
    for (n, id) in accepted.iter().enumerate() {
        let shown = client.get(&format!("/v1/jobs/{id}?include=payload")).await.is(200).json;
        assert_eq!(shown["payload"]["n"], n);
    }
    // The refused submission left its key unused; the accepted ones kept theirs.
    let again = &[("Idempotency-Key", unused.as_str())];
    let reply = client.post_with("/v1/jobs", &job(accepted.len()), again).await;
    assert!(reply.is(202).header("idempotent-replayed").is_none());
    let replay = client.post_with("/v1/jobs", &job(0), &[("Idempotency-Key", "k0")]).await.is(202);
    assert_eq!(
        (replay.id(), replay.header("idempotent-replayed")),
        (accepted[0].clone(), Some("true"))
    );
    // It fills up again, is given space while it runs, and goes on by itself.
    disk.remount("size=9m");
    let lease = client.lease("w", "default").await;
    assert_eq!(lease.id, accepted[0]);
    loop {
        let reply = client.post("/v1/jobs", &job(0)).await;
        if reply.status != 202 {
            reply.problem(503, "storage-full");
            break;
        }
        accepted.push(reply.id());
    }
    disk.remount("size=64m");
    until("work to be taken again", || async {
        let reply = client.post("/v1/jobs", &job(0)).await;
        (reply.status == 202).then_some(())
    })
    .await;
    client.complete(&lease, json!("done all the same")).await;
    let claim = json!({"worker_id": "w", "queues": ["default"], "max_jobs": 100});
    loop {
        let claimed = client.claims(&claim).await;
        let leases: Vec<Lease> =
            claimed["jobs"].as_array().expect("jobs").iter().map(Lease::of).collect();
        if leases.is_empty() {
            break;
        }
        for lease in leases {
            client.complete(&lease, Value::Null).await;
        }
    }
    for id in &accepted {
        assert_eq!(client.job(id).await["status"], "completed");
    }
    let ready = client.get("/readyz").await.is(200);
    assert!(ready.json.get("degraded").is_none(), "{}", ready.json);
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nearly_full_disk_takes_no_more_jobs_and_finishes_what_it_has() {
    let server = Server::start();
    let body = json!({"kind": "a", "queue": "known"});
    let key = [("Idempotency-Key", "k"), ("Prefer", "respond-async")];
    let known = server.post_with("/v1/jobs", &body, &key).await.is(202).id();
    server.submit(&json!({"kind": "a", "queue": "held"})).await;
    let held = server.lease("h", "held").await;
    let waiting = server.submit(&json!({"kind": "a", "queue": "waiting"})).await;
    let Server { client, process, launch, dir } = server;
    assert!(process.terminate().success());
    // Without a canary, which would be refused too: every refusal below is a client's.
    let launch = launch.set("STORE__MIN_FREE", "1000000GB").set("TASKS__CANARY", "off");
    let process = launch.start();

    let job = json!({"kind": "a", "queue": "new"});
    for _ in 0..5 {
        let refused = client.post("/v1/jobs", &job).await.problem(503, "storage-full");
        assert!((1..=5).contains(&refused.retry_after()));
        let said = refused.json.to_string();
        assert!(!said.contains("free") && !said.contains("bytes"), "{said}");
    }
    let batch = json!({"jobs": vec![job.clone(); 3]});
    client.post("/v1/jobs/batch", &batch).await.problem(503, "storage-full");
    assert!(process.log().contains("store.min_free"), "{}", process.log());
    // A repetition is no new work.
    let replay = client.post_with("/v1/jobs", &body, &key).await.is(202);
    assert_eq!((replay.id(), replay.header("idempotent-replayed")), (known.clone(), Some("true")));
    // What was accepted comes to its end.
    client.with_lease("heartbeat", &held, &json!({})).await.is(200);
    client.complete(&held, json!("done")).await;
    let lease = client.lease("w", "known").await;
    assert_eq!(lease.id, known);
    client.fail(&lease, json!({"retryable": false})).await;
    client.post_nothing(&format!("/v1/jobs/{waiting}/cancel")).await.is(200);
    client.delete(&format!("/v1/jobs/{waiting}")).await.is(204);
    // It is no outage.
    let ready = client.get("/readyz").await.is(200);
    assert_eq!(ready.json["status"], "ready");
    assert!(ready.json.get("degraded").is_none(), "{}", ready.json);
    let metrics = client.metrics().await;
    let unavailable = metrics.sum("punctual_job_submissions_total", &["outcome=\"unavailable\""]);
    assert_eq!(unavailable as usize, 5 + 3);
    let full = metrics.sum(
        "punctual_store_operation_errors_total",
        &["operation=\"submit\"", "error_class=\"full\""],
    );
    assert_eq!(full as usize, 5 + 1);
    assert!(process.terminate().success());
    drop(dir);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_answer_is_our_outage() {
    let server = Server::with(&[("TASKS__REAPER", "100ms")]);
    server.submit(&json!({"kind": "a", "max_attempts": 1})).await;
    let claim = json!({"worker_id": "w", "queues": ["default"], "lease_seconds": 3});
    let lease = server.lease_by(&claim).await;
    let parked = json!({"worker_id": "p", "queues": ["default"], "wait_seconds": 50});
    let parked = server.parked(parked).await;
    // Somebody else writes to the file and does not come to an end.
    let db = rusqlite::Connection::open(server.store()).expect("the file");
    db.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let key = [("Idempotency-Key", "during")];
    let body = json!({"kind": "a"});
    let path = format!("/v1/jobs/{}", lease.id);
    let token = json!({"lease_token": lease.token});
    let settle = json!({"worker_id": "w", "settlements": [
        {"job_id": lease.id, "lease_token": lease.token, "outcome": "completed"}]});
    let refused = [
        server.posting("/v1/jobs", body.clone(), &key),
        server.posting(&format!("{path}/heartbeat"), token.clone(), &[]),
        server.posting(&format!("{path}/complete"), token, &[]),
        server.posting("/v1/settlements", settle, &[]),
    ];
    for refused in refused {
        refused.await.expect("one").problem(503, "storage-unavailable");
    }
    // By the clock the lease is over; nobody was able to extend it.
    let end = lease.json["lease_expires_at"].as_str().expect("a moment").to_owned();
    until("the end of the lease", || async { (in_millis(0) > end).then_some(()) }).await;
    // Reads go on, and the server is ready to say so, degraded.
    let job = server.job(&lease.id).await;
    assert_eq!(job["status"], "running");
    server.get("/livez").await.is(200);
    let degraded = until("it to show", || async {
        let ready = server.get("/readyz?verbose").await.is(200);
        (ready.json["degraded"] == true).then_some(ready.json)
    })
    .await;
    assert_eq!(degraded["status"], "ready");
    assert!(!server.process.log().contains("taken back"));
    db.execute_batch("ROLLBACK").expect("the end");
    drop(db);

    // Whoever repeats himself is heard now; the worker has lost nothing.
    let accepted = until("the store to be back", || async {
        let reply = server.post_with("/v1/jobs", &body, &key).await;
        (reply.status == 202).then_some(reply)
    })
    .await;
    let got = parked.await.expect("one");
    // A claim that was parked is answered with the outage or with the job, and nothing is lost.
    let second = if got.status == 200 {
        Lease::of(&got.json["jobs"][0])
    } else {
        got.problem(503, "storage-unavailable");
        server.lease("p", "default").await
    };
    assert_eq!(second.id, accepted.id());
    server.with_lease("heartbeat", &lease, &json!({})).await.is(200);
    let job = server.complete(&lease, json!("after the outage")).await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("completed"), &json!(1)));
    let metrics = server.metrics().await;
    let busy = metrics.sum("punctual_store_operation_errors_total", &["error_class=\"busy\""]);
    assert!(busy >= 4.0, "{busy}");
    let counts = metrics.sum("punctual_job_submissions_total", &[]);
    let unavailable = metrics.sum("punctual_job_submissions_total", &["outcome=\"unavailable\""]);
    assert!(unavailable >= 1.0 && counts >= unavailable + 2.0);
    until("all to be well", || async {
        let ready = server.get("/readyz").await.is(200);
        ready.json.get("degraded").is_none().then_some(())
    })
    .await;
}

/// One line for people: what is wrong and what to do, and exit code 1.
#[track_caller]
fn refused(launch: &Launch, words: &[&str]) {
    is_refusal(&launch.refused(), words);
}

#[track_caller]
fn is_refusal((code, lines): &(Option<i32>, Vec<String>), words: &[&str]) {
    assert_eq!(*code, Some(1), "{lines:#?}");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].starts_with("punctual: "), "{lines:#?}");
    for word in words {
        assert!(lines[0].contains(word), "{word:?} is not in {lines:#?}");
    }
}

fn file(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).expect("a file");
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_no_store_are_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let garbage = file(&dir, "garbage.db", &vec![0xa5; 20_000]);
    refused(
        &Launch::new(&garbage),
        &["garbage.db", "damaged or no store file", "restore a backup"],
    );
    assert_eq!(std::fs::read(&garbage).expect("still there"), vec![0xa5; 20_000]);
    let text = file(&dir, "notes.txt", b"remember the milk\n");
    refused(&Launch::new(&text), &["notes.txt", "no store file"]);
    assert_eq!(std::fs::read(&text).expect("still there"), b"remember the milk\n");

    let foreign = dir.path().join("foreign.db");
    let db = rusqlite::Connection::open(&foreign).expect("a database");
    db.execute_batch("CREATE TABLE live_jobs (x); INSERT INTO live_jobs VALUES (1)").expect("SQL");
    drop(db);
    refused(&Launch::new(&foreign), &["foreign.db", "another program", "--store"]);

    // A store of ours, damaged in the middle; and one from the future.
    let store = dir.path().join("ours.db");
    let process = Launch::new(&store).start();
    let client = Client::new(process.port);
    for n in 0..200 {
        client.submit(&json!({"kind": "a", "payload": "p".repeat(1_000 + n)})).await;
    }
    assert!(process.terminate().success());
    let whole = std::fs::read(&store).expect("the file");
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 16_384].fill(0xff);
    let damaged = file(&dir, "damaged.db", &damaged);
    refused(&Launch::new(&damaged), &["damaged.db", "is damaged", "restore a backup"]);
    let cut = file(&dir, "cut.db", &whole[..whole.len() / 2]);
    refused(&Launch::new(&cut), &["cut.db", "is damaged", "restore a backup"]);
    let newer = file(&dir, "newer.db", &whole);
    let db = rusqlite::Connection::open(&newer).expect("a database");
    db.pragma_update(None, "user_version", 999).expect("a version");
    drop(db);
    refused(&Launch::new(&newer), &["newer.db", "newer version", "999"]);

    let mut nowhere = Launch::new(dir.path().join("no/such/dir/jobs.db")).command();
    let outcome = Launch::outcome(nowhere.current_dir(dir.path()));
    is_refusal(&outcome, &["cannot be opened", "directory exists"]);
    refused(&Launch::new(dir.path()), &["cannot be opened"]);
    // The good one is as it was.
    let process = Launch::new(&store).start();
    let client = Client::new(process.port);
    assert_eq!(client.get("/v1/queues/default").await.is(200).json["jobs"]["eligible"], 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_written_is_refused() {
    let Some(disk) = Tmpfs::mount("size=16m") else { return };
    let store = disk.path().join("jobs.db");
    let process = Launch::new(&store).set("STORE__MIN_FREE", "1MiB").start();
    let client = Client::new(process.port);
    let id = client.submit(&json!({"kind": "a"})).await;
    assert!(process.terminate().success());
    disk.remount("ro");
    refused(
        &Launch::new(&store),
        &["jobs.db", "cannot be written", "make the file and its directory writable"],
    );
    disk.remount("rw");
    let process = Launch::new(&store).set("STORE__MIN_FREE", "1MiB").start();
    let client = Client::new(process.port);
    assert_eq!(client.job(&id).await["status"], "pending");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_that_are_taken() {
    let server = Server::start();
    let id = server.submit(&json!({"kind": "a"})).await;
    // A second server on the file; also by another name for it.
    refused(
        &Launch::new(server.store()),
        &["another server holds", "jobs.db", "stop it first", "--store"],
    );
    let link = server.dir.path().join("link.db");
    std::os::unix::fs::symlink(server.store(), &link).expect("a link");
    refused(&Launch::new(&link), &["another server holds"]);
    // The port of another.
    let elsewhere = tempfile::tempdir().expect("a directory");
    let launch = Launch::new(elsewhere.path().join("jobs.db")).port(server.port());
    let address = format!("127.0.0.1:{}", server.port());
    refused(&launch, &["cannot listen on", &address, "--listen"]);
    // None of that disturbed the first.
    assert_eq!(server.job(&id).await["status"], "pending");
    server.is_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_will_not_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let plain = |listen: &str| {
        let mut command = Command::new(crate::server::binary());
        command
            .args(["serve", "--listen", listen, "--store"])
            .arg(format!("sqlite://{}", dir.path().join("jobs.db").display()))
            .stderr(std::process::Stdio::piped());
        command
    };
    // Other machines are not served without anyone saying so.
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let (code, lines) = Launch::outcome(&mut plain(listen));
        assert_eq!(code, Some(2), "{lines:#?}");
        assert!(lines.iter().any(|l| l.contains("auth.mode")), "{lines:#?}");
    }
    assert!(!dir.path().join("jobs.db").exists(), "refused before anything is touched");
    for (key, value, word) in [
        ("PUNCTUAL_JOBS__LEASE", "soon", "jobs.lease"),
        ("PUNCTUAL_JOBS__LEESE", "5s", "did you mean PUNCTUAL_JOBS__LEASE?"),
        ("PUNCTUAL_SERVER__MAX_CONNECTIONS", "0", "server.max_connections"),
    ] {
        let mut command = plain("127.0.0.1:0");
        let (code, lines) = Launch::outcome(command.env(key, value));
        assert_eq!(code, Some(2), "{lines:#?}");
        assert!(lines.iter().any(|l| l.contains(word)), "{lines:#?}");
    }

    // Said so, and with a proxy that keeps watch, any host is answered.
    let url = ("SERVER__PUBLIC_URL", "https://jobs.example.com");
    let server = Server::with(&[("AUTH__MODE", "off"), url]);
    let other = "GET /v1/meta HTTP/1.1\r\nHost: jobs.internal\r\n\r\n";
    assert_eq!(crate::wire::ask(server.port(), other).status, 200);
}
