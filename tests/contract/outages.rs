//! R175–R179 and R197: when the store fails, and after a start.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::book::Book;
use crate::kit::{Lease, Reply, Stand, in_millis, moment, skip, until};

/// What a server is set to that is to notice soon.
const WATCHED: [(&str, &str); 3] =
    [("TASKS__REAPER", "100ms"), ("TASKS__SAMPLER", "100ms"), ("TASKS__CANARY", "off")];

/// Another program that writes to the store, and comes to no end as long as this is there.
fn writing(stand: &Stand) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(stand.file()).expect("the file");
    db.busy_timeout(crate::server::PATIENCE).expect("a time-out");
    db.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    db
}

/// Another program that holds the locks of all who read and write.
const HOLD: &str = "import fcntl, sys
file = open(sys.argv[1] + '-shm', 'r+b')
fcntl.lockf(file, fcntl.LOCK_EX, 8, 120)
print('held', flush=True)
sys.stdin.read()
";

struct Holding(Child);

impl Holding {
    fn start(stand: &Stand) -> Self {
        let file = stand.file();
        let child = Command::new("python3")
            .args(["-c", HOLD])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else { skip("there is no python3 to hold the file's locks") };
        let mut said = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut said).expect("text");
        assert_eq!(said, "held\n");
        Self(child)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn leased(stand: &Stand, seconds: u32) -> Lease {
    stand.submit(json!({"kind": "a", "max_attempts": 1}));
    let claim = json!({"worker_id": "w", "queues": ["default"], "lease_seconds": seconds});
    stand.lease_by(claim)
}

#[track_caller]
fn unavailable(reply: Reply) {
    reply.problem(503, "storage-unavailable").retry_after();
}

pub fn checks(book: &mut Book) {
    book.rule("R175", |_| {
        let stand = Stand::configured(&WATCHED, "");
        let lease = leased(&stand, 60);
        let (one, two) = (leased(&stand, 60), leased(&stand, 60));
        let db = writing(&stand);
        let key = [("Idempotency-Key", "during")];
        let new = json!({"kind": "a", "queue": "new"});
        let token = |lease: &Lease| json!({"lease_token": lease.token});
        let settle = json!({"worker_id": "w", "settlements": [
            {"job_id": two.id, "lease_token": two.token, "outcome": "completed"}]});
        let asked = [
            ("/v1/jobs".to_owned(), new.clone()),
            ("/v1/jobs/batch".to_owned(), json!({"jobs": [new]})),
            ("/v1/claims".to_owned(), json!({"worker_id": "w", "queues": ["default"]})),
            (format!("/v1/jobs/{}/heartbeat", lease.id), token(&lease)),
            (format!("/v1/jobs/{}/complete", one.id), token(&one)),
            ("/v1/settlements".to_owned(), settle),
            (format!("/v1/jobs/{}/cancel", lease.id), json!({})),
        ];
        let asked = asked.map(|(path, body)| {
            let keyed = path == "/v1/jobs";
            stand.later(move |c| c.post(&path, body, if keyed { &key } else { &[] }))
        });
        for asked in asked {
            unavailable(asked.join().expect("an answer"));
        }
        for held in [&lease, &one, &two] {
            assert_eq!(stand.job(&held.id)["status"], "running", "nothing came of it");
        }
        drop(db);
        // Whoever repeats it is heard, and nothing was done twice.
        let made = until("the store", || {
            Some(stand.post("/v1/jobs", new.clone(), &key)).filter(|reply| reply.status == 202)
        });
        assert_eq!(stand.post("/v1/jobs", new.clone(), &key).is(202).id(), made.id());
        for held in [&one, &two] {
            assert_eq!(stand.complete(held, json!(1))["status"], "completed");
        }
        assert!(stand.job(&lease.id).get("cancel_requested_at").is_none());
    });
    book.rule("R176", |_| {
        let stand = Stand::configured(&WATCHED, "");
        let lease = leased(&stand, 60);
        let db = writing(&stand);
        let beat = json!({"lease_token": lease.token});
        let path = format!("/v1/jobs/{}/heartbeat", lease.id);
        unavailable(stand.post(&path, beat, &[]));
        let degraded = until("it to show", || {
            let ready = stand.get("/readyz", &[]).is(200).json;
            (ready["degraded"] == true).then_some(ready)
        });
        assert_eq!(degraded["status"], "ready");
        assert_eq!(stand.get("/livez", &[]).is(200).bytes, b"ok");
        assert_eq!(stand.job(&lease.id)["status"], "running");
        let list = stand.get("/v1/jobs", &[]).is(200).json;
        assert_eq!(list["jobs"][0]["job_id"], lease.id);
        drop(db);
        until("all to be well", || {
            stand.get("/readyz", &[]).is(200).json.get("degraded").is_none().then_some(())
        });
    });
    book.rule("R177", |_| {
        let stand = Stand::configured(&WATCHED, "");
        // Long enough for a busy machine to begin the outage meanwhile.
        let lease = leased(&stand, 5);
        let ends = lease.json["lease_expires_at"].as_str().expect("a moment").to_owned();
        let db = writing(&stand);
        let beat = json!({"lease_token": lease.token});
        let path = format!("/v1/jobs/{}/heartbeat", lease.id);
        unavailable(stand.post(&path, beat, &[]));
        until("the end of the lease", || (in_millis(-200) > ends).then_some(()));
        let over = in_millis(0);
        drop(db);
        // The first that is written may be a pass of the reaper.
        stand.submit(json!({"kind": "a", "queue": "other"}));
        let beat = stand.with("heartbeat", &lease, json!({"extend_seconds": 1})).is(200).json;
        assert!(beat["lease_expires_at"].as_str() > Some(&*over), "{beat}");
        let job = stand.complete(&lease, json!("after the outage"));
        assert_eq!((&job["status"], &job["attempt"]), (&json!("completed"), &json!(1)));
    });
    book.rule("R178", |_| {
        let watched = [("WATCHDOG__INTERVAL", "100ms"), ("WATCHDOG__STUCK_AFTER", "1s")];
        let stand = Stand::configured(&[&WATCHED[..], &watched[..]].concat(), "");
        let id = stand.submit(json!({"kind": "a", "queue": "q"}));
        let explain = "/v1/queues/q/explain";
        let known = until("a verdict", || {
            let queue = stand.get(explain, &[]).is(200).json;
            queue["kinds"][0]["since"].is_string().then_some(queue)
        });
        assert_eq!((&known["verdict"], &known["age_seconds"]), (&json!("no_workers"), &json!(0.0)));
        let holding = Holding::start(&stand);
        let path = format!("/v1/jobs/{id}");
        let read = stand.later(move |c| c.get(&path, &[]));
        let told = stand.get(explain, &[]).is(200).json;
        assert!(told["age_seconds"].as_f64() > Some(0.0), "{told}");
        assert!(moment(&told["sampled_at"]) >= moment(&known["kinds"][0]["since"]), "{told}");
        assert_eq!(told["kinds"][0]["oldest_jobs"], json!([id]), "{told}");
        assert!(told["kinds"][0]["next_step"].is_string(), "{told}");
        unavailable(read.join().expect("an answer"));
        assert_eq!(stand.get("/livez", &[]).is(200).bytes, b"ok");
        stand.get("/metrics", &[]).is(200);
        drop(holding);
        until("the store", || {
            let path = format!("/v1/jobs/{id}");
            (stand.get(&path, &[]).status == 200).then_some(())
        });
    });
    book.rule("R179", |_| {
        let stand = Stand::configured(&WATCHED, "");
        let key = [("Idempotency-Key", "known"), ("Prefer", "respond-async")];
        let body = json!({"kind": "a", "queue": "known"});
        let known = stand.post("/v1/jobs", body.clone(), &key).is(202).id();
        let (held, waiting) =
            (leased(&stand, 60), stand.submit(json!({"kind": "a", "queue": "w"})));
        let Stand { client, process, launch, dir } = stand;
        process.kill();
        let launch = launch.set("STORE__MIN_FREE", "1000000GB");
        let process = launch.start();
        let stand = Stand { client, process, launch, dir };
        let new = json!({"kind": "a", "queue": "new"});
        for (path, body) in [("/v1/jobs", new.clone()), ("/v1/jobs/batch", json!({"jobs": [new]}))]
        {
            stand.post(path, body, &[]).problem(503, "storage-full").retry_after();
        }
        stand.get("/v1/queues/new", &[]).problem(404, "no-such-queue");
        let again = stand.post("/v1/jobs", body, &key).is(202);
        assert_eq!(
            (again.id(), again.header("idempotent-replayed")),
            (known.clone(), Some("true"))
        );
        stand.with("heartbeat", &held, json!({})).is(200);
        assert_eq!(stand.complete(&held, json!(1))["status"], "completed");
        let lease = stand.lease("w", "known");
        assert_eq!(lease.id, known);
        assert_eq!(stand.fail(&lease, json!({"retryable": false}))["status"], "failed");
        stand.nothing(&format!("/v1/jobs/{known}/retry")).problem(503, "storage-full");
        stand.cancel(&waiting, json!({})).is(200);
        stand.delete(&waiting).is(204);
        let ready = stand.get("/readyz", &[]).is(200).json;
        assert!(ready["status"] == "ready" && ready.get("degraded").is_none(), "{ready}");
    });
    book.rule("R197", |_| {
        let stand = Stand::configured(&WATCHED, "");
        stand.submit(json!({"kind": "a", "timeout_seconds": 20, "max_attempts": 1}));
        let claim = json!({"worker_id": "w", "queues": ["default"], "lease_seconds": 60});
        let lease = stand.lease_by(claim);
        let Stand { client, process, launch, dir } = stand;
        process.kill();
        let a_minute_on = in_millis(60_000);
        let process = launch.start();
        client.reaped();
        let beat = client.with("heartbeat", &lease, json!({})).is(200).json;
        assert!(beat["timeout_at"].as_str() >= Some(&*a_minute_on), "{beat}");
        drop((process, dir));
    });
}
