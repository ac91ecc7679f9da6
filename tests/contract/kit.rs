//! A client of bare sockets, which trusts nothing, and a place of its own for each check.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::answer::Metrics;
pub use crate::answer::{Lease, Reply, in_millis};
use crate::described;
use crate::jobs::{Seen, check_answer};
use crate::server::{Launch, PATIENCE, ServerProcess};

/// Less than any wait that a check asks for.
pub const AT_ONCE: Duration = Duration::from_secs(15);

/// Why a check cannot be made here.
pub struct Skipped(pub String);

/// Ends a check that cannot be made here; the report says so.
pub fn skip(why: &str) -> ! {
    std::panic::panic_any(Skipped(why.to_owned()))
}

static STORES: AtomicUsize = AtomicUsize::new(0);

/// A server of its own.
pub struct Stand {
    pub client: Client,
    pub process: ServerProcess,
    pub launch: Launch,
    pub dir: TempDir,
}

impl Deref for Stand {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Stand {
    pub fn start() -> Self {
        Self::configured(&[], "")
    }

    pub fn configured(settings: &[(&str, &str)], toml: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("contract.toml");
        std::fs::write(&file, toml).expect("the configuration");
        let mut launch = Launch::new(dir.path().join("jobs.db")).config(file);
        if let Ok(url) = std::env::var("PUNCTUAL_TEST_STORE") {
            assert!(
                url.contains("{}"),
                "PUNCTUAL_TEST_STORE needs {{}} for each server's own word"
            );
            let n = STORES.fetch_add(1, Ordering::SeqCst);
            launch.url = Some(url.replace("{}", &format!("c{}_{n}", std::process::id())));
        }
        let launch = settings.iter().fold(launch, |l, (key, value)| l.set(key, value));
        let process = launch.start();
        let launch = launch.port(process.port);
        Self { client: Client::new(process.port), process, launch, dir }
    }

    /// The file of the store. Only a file can be held up or put back from outside: over other stores
    /// the check is skipped.
    pub fn file(&self) -> PathBuf {
        let Some(url) = &self.launch.url else { return self.launch.store.clone() };
        match url.strip_prefix("sqlite://") {
            Some(path) => path.into(),
            None => skip("the store is no file"),
        }
    }

    pub fn killed(self) -> Self {
        let Self { client, process, launch, dir } = self;
        process.kill();
        let process = launch.start();
        Self { client, process, launch, dir }
    }
}

#[derive(Clone)]
pub struct Client {
    pub port: u16,
    pub base: String,
    seen: Arc<Mutex<Seen>>,
}

impl Client {
    pub fn new(port: u16) -> Self {
        Self { port, base: format!("http://127.0.0.1:{port}"), seen: Arc::default() }
    }

    /// Sends, and holds the answer to the rules for all answers and all jobs.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let floor = self.seen.lock().expect("seen").versions();
        let reply = self.ask_freely(method, path, headers, body);
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let bare = path.split('?').next().unwrap_or_default();
        check_answer(&method, bare, &reply);
        described::check(&method, bare, reply.status, &reply.headers, &reply.json);
        if method != Method::HEAD {
            self.seen.lock().expect("seen").look(&self.base, bare, &reply, &floor);
        }
        reply
    }

    /// The same without looking at the answer.
    #[track_caller]
    pub fn ask_freely(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut lines = vec![format!("{method} {path} HTTP/1.1"), "Connection: close".to_owned()];
        if !headers.iter().any(|(name, _)| *name == "Host") {
            lines.push(format!("Host: 127.0.0.1:{}", self.port));
        }
        lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
        if method != "GET" && method != "HEAD" {
            lines.push(format!("Content-Length: {}", body.len()));
        }
        self.raw(&[lines.join("\r\n").as_bytes(), b"\r\n\r\n", body].concat())
    }

    #[track_caller]
    pub fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        // It may answer and close before it has read everything.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        parse(&answer)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        stream
    }

    #[track_caller]
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.ask("GET", path, headers, b"")
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: Value, headers: &[(&str, &str)]) -> Reply {
        self.text(path, &body.to_string(), headers)
    }

    #[track_caller]
    pub fn text(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
        let all = [&[("Content-Type", "application/json")], headers].concat();
        self.ask("POST", path, &all, body.as_bytes())
    }

    #[track_caller]
    pub fn nothing(&self, path: &str) -> Reply {
        self.ask("POST", path, &[], b"")
    }

    #[track_caller]
    pub fn delete(&self, id: &str) -> Reply {
        self.ask("DELETE", &format!("/v1/jobs/{id}"), &[], b"")
    }

    /// In the background.
    pub fn later(&self, what: impl FnOnce(Self) -> Reply + Send + 'static) -> JoinHandle<Reply> {
        let client = self.clone();
        std::thread::spawn(move || what(client))
    }

    #[track_caller]
    pub fn submit(&self, body: Value) -> String {
        self.post("/v1/jobs", body, &[("Prefer", "respond-async")]).is(202).id()
    }

    #[track_caller]
    pub fn job(&self, id: &str) -> Value {
        self.get(&format!("/v1/jobs/{id}"), &[]).is(200).json
    }

    /// Once it is done.
    #[track_caller]
    pub fn done(&self, id: &str) -> Value {
        self.when(id, |job| job["done"] == true)
    }

    #[track_caller]
    pub fn when(&self, id: &str, enough: impl Fn(&Value) -> bool) -> Value {
        until("a job's change", || Some(self.job(id)).filter(|job| enough(job)))
    }

    #[track_caller]
    pub fn claim(&self, body: Value) -> Value {
        self.post("/v1/claims", body, &[]).is(200).json
    }

    #[track_caller]
    pub fn lease(&self, worker: &str, queue: &str) -> Lease {
        self.lease_by(json!({"worker_id": worker, "queues": [queue], "wait_seconds": 20}))
    }

    #[track_caller]
    pub fn lease_by(&self, body: Value) -> Lease {
        let answer = self.claim(body);
        assert_eq!(answer["jobs"].as_array().map(Vec::len), Some(1), "{answer}");
        Lease::of(&answer["jobs"][0])
    }

    #[track_caller]
    pub fn with(&self, what: &str, lease: &Lease, mut members: Value) -> Reply {
        members["lease_token"] = json!(lease.token);
        self.post(&format!("/v1/jobs/{}/{what}", lease.id), members, &[])
    }

    #[track_caller]
    pub fn complete(&self, lease: &Lease, result: Value) -> Value {
        self.with("complete", lease, json!({"result": result})).is(200).json
    }

    #[track_caller]
    pub fn fail(&self, lease: &Lease, mut members: Value) -> Value {
        members["error"] = json!({"type": "boom", "message": "it broke"});
        self.with("fail", lease, members).is(200).json
    }

    #[track_caller]
    pub fn cancel(&self, id: &str, body: Value) -> Reply {
        self.post(&format!("/v1/jobs/{id}/cancel"), body, &[])
    }

    /// A claim that waits, and does so when this returns. The worker must be a new one.
    pub fn parked(&self, claim: Value) -> JoinHandle<Reply> {
        let worker = claim["worker_id"].clone();
        let handle = self.later(move |c| c.post("/v1/claims", claim, &[]));
        until("a parked claim", || {
            let list = self.get("/v1/workers", &[]).is(200).json;
            list["workers"].as_array()?.iter().any(|w| w["worker_id"] == worker).then_some(())
        });
        // What is written after the claim has looked: it waits now.
        self.ask_freely("POST", "/v1/workers/nobody/goodbye", &[], b"");
        handle
    }

    /// Waits until the server has looked for leases to take back.
    pub fn reaped(&self) {
        until("the reaper", || {
            let list = self.get("/v1/tasks", &[]).is(200).json;
            let mut tasks = list["tasks"].as_array()?.iter();
            let reaper = tasks.find(|task| task["task"] == "reaper")?;
            reaper["last_success_at"].is_string().then_some(())
        });
    }

    pub fn metric(&self, name: &str) -> f64 {
        Metrics::of(self.get("/metrics", &[]).is(200)).sum(name, &[])
    }
}

/// Where one check is: the common server, and a queue of its own.
pub struct At<'a> {
    pub stand: &'a Stand,
    pub queue: String,
}

impl Deref for At<'_> {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.stand
    }
}

impl<'a> At<'a> {
    pub fn new(stand: &'a Stand, rule: &str, n: usize) -> Self {
        Self { stand, queue: format!("{}.{n}", rule.to_ascii_lowercase()) }
    }

    /// A body for this queue.
    pub fn body(&self, mut members: Value) -> Value {
        for (name, value) in [("kind", json!("a")), ("queue", json!(self.queue))] {
            if members.get(name).is_none() {
                members[name] = value;
            }
        }
        members
    }

    #[track_caller]
    pub fn put(&self, members: Value) -> String {
        self.submit(self.body(members))
    }

    #[track_caller]
    pub fn take(&self) -> Lease {
        self.lease(&self.queue, &self.queue)
    }

    /// A new job, already leased.
    #[track_caller]
    pub fn taken(&self, members: Value) -> Lease {
        self.put(members);
        self.take()
    }

    /// The worker of a job that runs asks for more, and waits when this returns.
    pub fn parked_too(&self) -> JoinHandle<Reply> {
        let claim = self.asks(json!({"wait_seconds": 50}));
        let handle = self.later(move |c| c.post("/v1/claims", claim, &[]));
        until("a parked claim", || {
            let path = format!("/v1/queues/{}/explain", self.queue);
            let told = self.get(&path, &[]).is(200).json;
            (told["kinds"][0]["evidence"]["parked_claims"] == 1).then_some(())
        });
        handle
    }

    pub fn asks(&self, members: Value) -> Value {
        let mut body = json!({"worker_id": self.queue, "queues": [self.queue]});
        for (name, value) in members.as_object().expect("members") {
            body[name] = value.clone();
        }
        body
    }
}

/// Reads an answer as it came over the wire.
#[track_caller]
fn parse(answer: &[u8]) -> Reply {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(answer)));
    let head = std::str::from_utf8(&answer[..end]).expect("ASCII");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|l| l.split(' ').nth(1)).and_then(|s| s.parse().ok());
    let headers = lines.filter_map(|l| l.split_once(':')).map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        (name, HeaderValue::from_str(value.trim()).expect("a header's value"))
    });
    let headers = headers.collect();
    let bytes = answer[end + 4..].to_vec();
    let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let reply = Reply { status: status.expect("a status"), headers, bytes, json };
    assert!(reply.header("transfer-encoding").is_none(), "{head}");
    reply
}

/// Waits until `check` answers something, within bounds.
#[track_caller]
pub fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + PATIENCE;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(now() < deadline, "waited too long: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The answer, which must come long before its wait would be over.
#[track_caller]
pub fn soon(handle: JoinHandle<Reply>) -> Reply {
    let deadline = now() + AT_ONCE;
    while !handle.is_finished() {
        assert!(now() < deadline, "it is still held");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    match handle.join() {
        Ok(reply) => reply,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// A moment as answers have it.
#[track_caller]
pub fn moment(value: &Value) -> jiff::Timestamp {
    let text = value.as_str().unwrap_or_else(|| panic!("no moment: {value}"));
    text.parse().expect("a moment")
}

/// By the server's own clock the answer was given no sooner than so long after that moment. Its
/// `Date` has whole seconds, so a part of the last one is not known.
#[track_caller]
pub fn held_for(reply: &Reply, since: &Value, seconds: i64) {
    let date = jiff::fmt::rfc2822::parse(reply.header("date").expect("Date")).expect("a date");
    let held = date.timestamp().duration_since(moment(since));
    assert!(held.as_millis() > i128::from(seconds - 1) * 1_000, "answered {held:#} after {since}");
}

#[expect(clippy::disallowed_methods, reason = "a bound on waiting, at the edge")]
fn now() -> Instant {
    Instant::now()
}
