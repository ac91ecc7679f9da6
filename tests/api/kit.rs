//! A server of the test's own and a client that trusts it in nothing: every answer is held to the
//! rules that hold for all answers, and every job in it to the rules that hold for all jobs.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub use crate::answer::{Lease, Metrics, Reply};
use crate::described;
use crate::jobs::{Seen, check_answer};
use crate::server::{Launch, PATIENCE, ServerProcess, until};

pub struct Server {
    pub client: Client,
    pub process: ServerProcess,
    pub launch: Launch,
    pub dir: TempDir,
}

impl Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Server {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With configuration: `("TASKS__REAPER", "100ms")`.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self::configured(settings, "")
    }

    /// With a configuration file as well.
    pub fn configured(settings: &[(&str, &str)], toml: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("punctual.toml"), toml).expect("the configuration");
        let launch = Launch::new(dir.path().join("jobs.db"));
        let launch = settings.iter().fold(launch, |l, (key, value)| l.set(key, value));
        let process = launch.start();
        let launch = launch.port(process.port);
        Self { client: Client::new(process.port), process, launch, dir }
    }

    pub fn port(&self) -> u16 {
        self.process.port
    }

    pub fn store(&self) -> PathBuf {
        self.dir.path().join("jobs.db")
    }

    /// SIGKILL and a new process on the same file and port; what was seen must still be true.
    pub fn restart_after_kill(self) -> Self {
        let Self { client, process, launch, dir } = self;
        process.kill();
        let process = launch.start();
        Self { client, process, launch, dir }
    }
}

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub base: String,
    seen: Arc<Mutex<Seen>>,
}

impl Client {
    pub fn new(port: u16) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .expect("a client");
        Self { http, base: format!("http://127.0.0.1:{port}"), seen: Arc::default() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Sends and checks; the answer, or why there is none.
    pub async fn try_send(&self, request: RequestBuilder) -> reqwest::Result<Reply> {
        let request = request.build()?;
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let floor = self.seen.lock().expect("seen").versions();
        let response = self.http.execute(request).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await?.to_vec();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let reply = Reply { status, headers, bytes, json };
        check_answer(&method, &path, &reply);
        described::check(&method, &path, status, &reply.headers, &reply.json);
        self.seen.lock().expect("seen").look(&self.base, &path, &reply, &floor);
        Ok(reply)
    }

    pub async fn send(&self, request: RequestBuilder) -> Reply {
        self.try_send(request).await.expect("an answer")
    }

    /// To a server whose addresses are not the ones it listens on: its jobs are not looked at.
    pub async fn send_anywhere(&self, request: RequestBuilder) -> Reply {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.expect("a body").to_vec();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Reply { status, headers, bytes, json }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send(with(self.request(Method::GET, path), headers)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(self.request(Method::DELETE, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    pub async fn post_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Reply {
        self.send(with(self.request(Method::POST, path).json(body), headers)).await
    }

    /// Without a body.
    pub async fn post_nothing(&self, path: &str) -> Reply {
        self.send(self.request(Method::POST, path)).await
    }

    /// Any text as the body, called JSON.
    pub async fn post_text(&self, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        let request = self.request(Method::POST, path);
        self.send(request.header("Content-Type", "application/json").body(body)).await
    }

    /// A new job that waits; its id.
    pub async fn submit(&self, body: &Value) -> String {
        let reply = self.post_with("/v1/jobs", body, &[("Prefer", "respond-async")]).await;
        reply.is(202).id()
    }

    pub async fn job(&self, id: &str) -> Value {
        self.get(&format!("/v1/jobs/{id}")).await.is(200).json
    }

    /// The job once `enough` is true of it: held by the server, never polled in a hurry.
    pub async fn job_when(&self, id: &str, enough: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut tag = String::new();
        loop {
            let held = [("If-None-Match", tag.as_str()), ("Prefer", "wait=5")];
            let headers = if tag.is_empty() { &[][..] } else { &held[..] };
            let reply = self.get_with(&format!("/v1/jobs/{id}"), headers).await;
            if reply.status == 200 {
                if enough(&reply.json) {
                    return reply.json;
                }
                reply.header("etag").expect("a tag").clone_into(&mut tag);
            }
            assert!(tokio::time::Instant::now() < deadline, "waited too long: {}", reply.json);
        }
    }

    pub async fn job_done(&self, id: &str) -> Value {
        self.job_when(id, |job| job["done"] == true).await
    }

    /// `POST` in the background.
    #[expect(clippy::needless_pass_by_value, reason = "made for this one request")]
    pub fn posting(&self, path: &str, body: Value, headers: &[(&str, &str)]) -> JoinHandle<Reply> {
        let client = self.clone();
        let request = with(self.request(Method::POST, path).json(&body), headers);
        tokio::spawn(async move { client.send(request).await })
    }

    /// `GET` in the background.
    pub fn getting(&self, path: &str, headers: &[(&str, &str)]) -> JoinHandle<Reply> {
        let client = self.clone();
        let request = with(self.request(Method::GET, path), headers);
        tokio::spawn(async move { client.send(request).await })
    }

    /// A claim that stays parked, and is so when this returns. The worker must be a new one.
    pub async fn parked(&self, claim: Value) -> JoinHandle<Reply> {
        let worker = claim["worker_id"].clone();
        let claim = self.posting("/v1/claims", claim, &[]);
        until("a parked claim", || async {
            let workers = self.get("/v1/workers").await.is(200);
            let workers = workers.json["workers"].as_array().expect("workers").clone();
            workers.iter().any(|w| w["worker_id"] == worker).then_some(())
        })
        .await;
        // What is written after the claim has looked: it waits now.
        self.post_nothing("/v1/workers/nobody/goodbye").await;
        claim
    }

    /// Waits until this many requests of the method are being answered, this one aside.
    pub async fn in_flight(&self, method: &str, requests: usize) {
        let label = format!("http_request_method=\"{method}\"");
        let own = usize::from(method == "GET");
        until("requests in flight", || async {
            let active = self.metrics().await.sum("http_server_active_requests", &[&label]);
            (active >= (requests + own) as f64).then_some(())
        })
        .await;
    }

    pub async fn claims(&self, body: &Value) -> Value {
        self.post("/v1/claims", body).await.is(200).json
    }

    /// The one job that there is for `worker` in `queue`.
    pub async fn lease(&self, worker: &str, queue: &str) -> Lease {
        let body = json!({"worker_id": worker, "queues": [queue], "wait_seconds": 20});
        self.lease_by(&body).await
    }

    pub async fn lease_by(&self, body: &Value) -> Lease {
        let answer = self.claims(body).await;
        let jobs = answer["jobs"].as_array().expect("jobs");
        assert_eq!(jobs.len(), 1, "{answer}");
        Lease::of(&jobs[0])
    }

    /// `complete`, `fail`, `release`, `cancelled` or `heartbeat`, with the lease's token.
    pub async fn with_lease(&self, what: &str, lease: &Lease, members: &Value) -> Reply {
        let mut body = members.clone();
        body["lease_token"] = json!(lease.token);
        self.post(&format!("/v1/jobs/{}/{what}", lease.id), &body).await
    }

    pub async fn complete(&self, lease: &Lease, result: Value) -> Value {
        self.with_lease("complete", lease, &json!({"result": result})).await.is(200).json
    }

    pub async fn fail(&self, lease: &Lease, members: Value) -> Value {
        let mut body = json!({"error": {"type": "boom", "message": "it broke"}});
        body.as_object_mut().expect("an object").extend(members.as_object().expect("one").clone());
        self.with_lease("fail", lease, &body).await.is(200).json
    }

    pub async fn metrics(&self) -> Metrics {
        Metrics::of(self.get("/metrics").await.is(200))
    }

    /// Whether the server still does its work, after all that.
    pub async fn is_alive(&self) {
        self.get("/livez").await.is(200);
        let id = self.submit(&json!({"kind": "sign.of.life", "queue": "alive"})).await;
        let lease = self.lease("alive", "alive").await;
        assert_eq!(lease.id, id);
        self.complete(&lease, json!(true)).await;
    }
}

pub fn with(request: RequestBuilder, headers: &[(&str, &str)]) -> RequestBuilder {
    headers.iter().fold(request, |r, (name, value)| r.header(*name, *value))
}
