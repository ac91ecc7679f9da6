//! What was accepted is never lost and never done twice: a server killed twenty times under load,
//! and ten thousand submissions by clients that hang up and say everything twice.

#[path = "support/server.rs"]
mod server;

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use server::{Launch, until};

const KILLS: usize = 20;

/// A small generator of its own: the tests must be repeatable and need no good randomness.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[derive(Default)]
struct Ledger {
    /// Key to job, for every submission that was answered.
    accepted: Mutex<HashMap<String, String>>,
    /// Job to the fences that were granted, in the order in which workers heard of them.
    granted: Mutex<HashMap<String, Vec<u64>>>,
    /// Job to the fence whose completion was confirmed.
    completed: Mutex<HashMap<String, u64>>,
    stale_refused: AtomicU64,
    submitting: AtomicBool,
    working: AtomicBool,
}

fn http() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(20))
        .build()
        .expect("a client")
}

/// Sends until there is an answer: the server may be dead for the moment.
async fn stubborn(request: impl Fn() -> reqwest::RequestBuilder) -> (u16, Value) {
    until("an answer", || async {
        let response = request().send().await.ok()?;
        let status = response.status().as_u16();
        let body = response.json::<Value>().await.ok()?;
        (status != 503).then_some((status, body))
    })
    .await
}

async fn submitter(base: String, me: u64, ledger: Arc<Ledger>) {
    let http = http();
    let mut n = 0;
    while ledger.submitting.load(Ordering::SeqCst) {
        let key = format!("key-{me}-{n}");
        n += 1;
        let body = json!({"kind": "crash.test", "payload": {"key": key}, "max_attempts": 50,
                          "backoff": {"initial_seconds": 0.05, "max_seconds": 0.2}});
        let (status, answer) = stubborn(|| {
            http.post(format!("{base}/v1/jobs"))
                .header("Idempotency-Key", &key)
                .header("Prefer", "respond-async")
                .json(&body)
        })
        .await;
        assert!(status == 202 || status == 200, "{status} {answer}");
        let id = answer["job_id"].as_str().expect("an id").to_owned();
        ledger.accepted.lock().expect("ledger").insert(key, id);
    }
}

async fn worker(base: String, me: u64, ledger: Arc<Ledger>) {
    let http = http();
    let mut dice = Dice(me + 1);
    let mut stale: Vec<(String, String, u64)> = Vec::new();
    while ledger.working.load(Ordering::SeqCst) {
        let claim = json!({"worker_id": format!("w{me}"), "queues": ["default"], "max_jobs": 5,
                           "lease_seconds": 2, "wait_seconds": 0.3});
        let (status, answer) =
            stubborn(|| http.post(format!("{base}/v1/claims")).json(&claim)).await;
        assert_eq!(status, 200, "{answer}");
        for job in answer["jobs"].as_array().expect("jobs") {
            let id = job["job_id"].as_str().expect("an id").to_owned();
            let token = job["lease_token"].as_str().expect("a token").to_owned();
            let fence = job["fence"].as_u64().expect("a fence");
            ledger.granted.lock().expect("ledger").entry(id.clone()).or_default().push(fence);
            match dice.roll(20) {
                // Hangs: the lease runs out. It will come back with its stale token.
                0 => stale.push((id, token, fence)),
                1 => {
                    fail(&http, &base, &id, &token).await;
                }
                _ => {
                    complete(&http, &base, &ledger, &id, &token, fence).await;
                }
            }
        }
        if stale.len() > 3 {
            let (id, token, fence) = stale.remove(0);
            complete(&http, &base, &ledger, &id, &token, fence).await;
        }
    }
    for (id, token, fence) in stale {
        complete(&http, &base, &ledger, &id, &token, fence).await;
    }
}

async fn fail(http: &reqwest::Client, base: &str, id: &str, token: &str) {
    let body = json!({"lease_token": token, "error": {"type": "dice", "message": "a one"}});
    let (status, answer) =
        stubborn(|| http.post(format!("{base}/v1/jobs/{id}/fail")).json(&body)).await;
    assert!(status == 200 || status == 409, "{status} {answer}");
}

async fn complete(
    http: &reqwest::Client,
    base: &str,
    ledger: &Ledger,
    id: &str,
    token: &str,
    fence: u64,
) {
    let body = json!({"lease_token": token, "result": {"fence": fence}});
    let (status, answer) =
        stubborn(|| http.post(format!("{base}/v1/jobs/{id}/complete")).json(&body)).await;
    match status {
        200 => {
            let before = ledger.completed.lock().expect("ledger").insert(id.to_owned(), fence);
            assert!(
                before.is_none_or(|f| f == fence),
                "{id} was completed by {before:?} and {fence}"
            );
        }
        409 => {
            ledger.stale_refused.fetch_add(1, Ordering::SeqCst);
        }
        other => panic!("{other} {answer}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_under_load_lose_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("jobs.db");
    let launch = Launch::new(&store).set("TASKS__REAPER", "200ms");
    let mut process = launch.start();
    let launch = launch.port(process.port);
    let base = process.url();
    let ledger = Arc::new(Ledger::default());
    ledger.submitting.store(true, Ordering::SeqCst);
    ledger.working.store(true, Ordering::SeqCst);
    let submitters: Vec<_> =
        (0..8).map(|i| tokio::spawn(submitter(base.clone(), i, Arc::clone(&ledger)))).collect();
    let workers: Vec<_> =
        (0..6).map(|i| tokio::spawn(worker(base.clone(), i, Arc::clone(&ledger)))).collect();
    let mut dice = Dice(7);
    for _ in 0..KILLS {
        let accepted = ledger.accepted.lock().expect("ledger").len();
        let settled = ledger.completed.lock().expect("ledger").len();
        let (more, done) = (20 + dice.roll(120) as usize, 5 + dice.roll(30) as usize);
        until("load between two kills", || async {
            let enough = ledger.accepted.lock().expect("ledger").len() >= accepted + more
                && ledger.completed.lock().expect("ledger").len() >= settled + done;
            enough.then_some(())
        })
        .await;
        process.kill();
        process = launch.start();
    }
    ledger.submitting.store(false, Ordering::SeqCst);
    for task in submitters {
        task.await.expect("a submitter");
    }
    let http = http();
    until("every job to end", || async {
        let (_, queue) = stubborn(|| http.get(format!("{base}/v1/queues/default"))).await;
        let left: u64 = ["eligible", "scheduled", "retry_backoff", "running"]
            .iter()
            .map(|k| queue["jobs"][k].as_u64().expect("a count"))
            .sum();
        (left == 0).then_some(())
    })
    .await;
    ledger.working.store(false, Ordering::SeqCst);
    for task in workers {
        task.await.expect("a worker");
    }

    let accepted = ledger.accepted.lock().expect("ledger").clone();
    let ids: HashSet<&String> = accepted.values().collect();
    assert_eq!(ids.len(), accepted.len(), "one job for each key");
    for (key, id) in &accepted {
        let (status, job) = stubborn(|| http.get(format!("{base}/v1/jobs/{id}"))).await;
        assert_eq!(status, 200, "{key} was accepted as {id}: {job}");
        assert_eq!(job["status"], "completed", "{job}");
        let fence = job["result"]["fence"].as_u64().expect("a result");
        // The one completion that was confirmed is the one that is kept. (A confirmation may have
        // been lost with the server, and the repetition confirms the same.)
        if let Some(confirmed) = ledger.completed.lock().expect("ledger").get(id) {
            assert_eq!(*confirmed, fence, "{job}");
        }
        let attempts = job["attempts"].as_array().expect("attempts");
        let fences: Vec<u64> =
            attempts.iter().map(|a| a["fence"].as_u64().expect("a fence")).collect();
        assert!(fences.is_sorted_by(|a, b| a < b), "{job}");
        assert_eq!(fences.last(), Some(&fence), "nothing was leased after the completion: {job}");
        for pair in attempts.windows(2) {
            let (end, start) = (pair[0]["ended_at"].as_str(), pair[1]["started_at"].as_str());
            assert!(end <= start, "two leases at once: {job}");
        }
    }
    for (id, fences) in ledger.granted.lock().expect("ledger").iter() {
        let distinct: HashSet<_> = fences.iter().collect();
        assert_eq!(distinct.len(), fences.len(), "{id}: a fence was granted twice: {fences:?}");
    }
    assert!(process.terminate().success());
    assert_counters_are_exact(&store, accepted.len());
    println!(
        "{KILLS} kills, {} jobs, {} late reports refused",
        accepted.len(),
        ledger.stale_refused.load(Ordering::SeqCst)
    );
}

/// Straight from the file: what the server counted, against what is there.
fn assert_counters_are_exact(store: &std::path::Path, jobs: usize) {
    let db = rusqlite::Connection::open(store).expect("the store file");
    let one = |sql: &str| db.query_row(sql, [], |r| r.get::<_, i64>(0)).expect("a count");
    assert_eq!(one("SELECT count(*) FROM job_specs"), jobs as i64);
    let differing = one("SELECT count(*) FROM (
        SELECT queue_id, kind_id, tally, sum(n) AS n FROM (
            SELECT queue_id, kind_id, tally, count(*) AS n FROM live_jobs GROUP BY 1, 2, 3
            UNION ALL SELECT queue_id, kind_id, tally, count(*) FROM finished_jobs GROUP BY 1, 2, 3
            UNION ALL SELECT queue_id, kind_id, tally, -jobs FROM job_counts)
        GROUP BY 1, 2, 3) WHERE n <> 0");
    assert_eq!(differing, 0, "counters equal a recount");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_submits_make_one_job_for_each_key() {
    const SUBMITS: u64 = 10_000;
    const KEYS: u64 = 2_500;
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("jobs.db");
    let process = Launch::new(&store).start();
    let (base, port) = (process.url(), process.port);
    let heard: Arc<Mutex<HashMap<u64, HashSet<String>>>> = Arc::default();
    let tasks: Vec<_> = (0..16u64)
        .map(|me| {
            let (base, heard) = (base.clone(), Arc::clone(&heard));
            tokio::spawn(async move {
                let http = http();
                let mut dice = Dice(me * 31 + 5);
                for _ in 0..SUBMITS / 16 {
                    let key = dice.roll(KEYS);
                    let body = json!({"kind": "once", "payload": key}).to_string();
                    if dice.roll(3) == 0 {
                        let cut = dice.roll(body.len() as u64 + 2) as usize;
                        tokio::task::spawn_blocking(move || hang_up(port, key, &body, cut))
                            .await
                            .expect("a client that hangs up");
                        continue;
                    }
                    let (status, answer) = stubborn(|| {
                        http.post(format!("{base}/v1/jobs"))
                            .header("Idempotency-Key", format!("\"once-{key}\""))
                            .header("Content-Type", "application/json")
                            .body(body.clone())
                    })
                    .await;
                    assert_eq!(status, 202, "{answer}");
                    let id = answer["job_id"].as_str().expect("an id").to_owned();
                    heard.lock().expect("heard").entry(key).or_default().insert(id);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("a client");
    }
    // Every key once more, now with an answer: also those of which nobody heard.
    let http = http();
    for key in 0..KEYS {
        let (status, answer) = stubborn(|| {
            http.post(format!("{base}/v1/jobs"))
                .header("Idempotency-Key", format!("once-{key}"))
                .json(&json!({"payload": key, "kind": "once"}))
        })
        .await;
        assert_eq!(status, 202, "{answer}");
        let id = answer["job_id"].as_str().expect("an id").to_owned();
        heard.lock().expect("heard").entry(key).or_default().insert(id);
    }
    for (key, ids) in heard.lock().expect("heard").iter() {
        assert_eq!(ids.len(), 1, "key {key} made {ids:?}");
    }
    let (status, problem) = stubborn(|| {
        http.post(format!("{base}/v1/jobs"))
            .header("Idempotency-Key", "once-0")
            .json(&json!({"kind": "once", "payload": "another"}))
    })
    .await;
    assert_eq!((status, problem["code"].as_str()), (422, Some("idempotency-key-reused")));
    assert!(process.terminate().success());
    assert_counters_are_exact(&store, KEYS as usize);
}

/// Sends a submission, or its first part, and hangs up without reading the answer.
fn hang_up(port: u16, key: u64, body: &str, cut: usize) {
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Idempotency-Key: \"once-{key}\"\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return };
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&body.as_bytes()[..cut.min(body.len())]);
}
