//! Nobody reaches over: every described operation, tried by whoever is of another namespace, with
//! all that he could know, and by whoever is confined to another queue and kind.
//!
//! Queues, kinds and workers are common to all namespaces (`docs/API.md`, Tokens); what is in jobs is
//! not.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::auth::{secret, token};
use crate::kit::{Lease, Reply, Server, with};
use crate::server::until;

const TRACE: &str = "5ec4e7000000000000000000000000aa";

/// What is in jobs: nobody else may read it anywhere.
const OF_JOBS: [&str; 4] = ["secretpayload", "secretresult", "secreterror", TRACE];
/// What a confined token does not see beside that.
const OF_QUEUES: [&str; 4] = ["secretq", "secretkind", "secretworker", "secrethost"];

struct Scene {
    server: Server,
    pending: String,
    running: Lease,
    done: String,
}

async fn call(server: &Server, who: &str, method: &str, path: &str, body: &Value) -> Reply {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let request = server.request(method, path);
    let request = if body.is_null() { request } else { request.json(body) };
    let bearer = format!("Bearer {}", secret(who));
    server.send(with(request, &[("Authorization", &bearer)])).await
}

impl Scene {
    /// Three jobs of the namespace `shop`: one stuck between two attempts, one that is worked on,
    /// one that is done.
    async fn set() -> Self {
        let all = ["submit", "work", "metrics", "read"];
        let confined = "namespace = \"shop\"\nqueues = [\"mine\"]\nkinds = [\"mine\"]";
        let tokens = [
            token("shop", &["submit", "work"], "namespace = \"shop\""),
            token("bank", &all, "namespace = \"bank\""),
            token("one", &["submit", "work", "operate"], confined),
            token("ops", &["operate"], ""),
            "[queues.secretq]\nstuck_after = \"1s\"\n[watchdog]\ninterval = \"100ms\"\n".to_owned(),
        ];
        let server = Server::configured(&[], &tokens.concat());
        let shop = async |method: &str, path: &str, body: Value| {
            call(&server, "shop", method, path, &body).await
        };
        let job = json!({"kind": "secretkind", "queue": "secretq", "payload": "secretpayload",
                         "backoff": {"initial_seconds": 0}});
        let bearer = format!("Bearer {}", secret("shop"));
        let trace = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let headers = [("Authorization", bearer.as_str()), ("traceparent", trace.as_str())];
        let claim = json!({"worker_id": "secretworker", "queues": ["secretq"],
                           "hostname": "secrethost"});
        let take = async || {
            let submitted = server.post_with("/v1/jobs", &job, &headers).await.is(202).id();
            let claimed = shop("POST", "/v1/claims", claim.clone()).await.is(200).json;
            let lease = Lease::of(&claimed["jobs"][0]);
            assert_eq!(lease.id, submitted);
            lease
        };
        let done = take().await;
        let path = format!("/v1/jobs/{}/complete", done.id);
        let result = json!({"lease_token": done.token, "result": "secretresult"});
        shop("POST", &path, result).await.is(200);
        let running = take().await;
        let failed = take().await;
        let path = format!("/v1/jobs/{}/fail", failed.id);
        let error = json!({"type": "secreterror", "message": "it broke"});
        shop("POST", &path, json!({"lease_token": failed.token, "error": error})).await.is(200);
        let scene = Self { server, pending: failed.id, running, done: done.id };
        until("a stuck job", || async {
            let all = call(&scene.server, "ops", "GET", "/v1/episodes", &Value::Null).await.json;
            let told = all.to_string();
            (told.contains(&scene.pending) && told.contains("secreterror")).then_some(())
        })
        .await;
        scene
    }

    /// Every guarded operation, as the description calls it, with requests that would do something
    /// if they were let. `token`: of the lease.
    fn tries(&self, queue: &str, token: &str) -> Vec<(&'static str, &'static str, String, Value)> {
        let job = json!({"kind": "mine", "queue": "mine"});
        let claim =
            json!({"worker_id": "secretworker", "queues": [queue], "held": [], "max_jobs": 9});
        let lease = json!({"job_id": self.running.id, "lease_token": token});
        let settled =
            json!({"job_id": self.running.id, "lease_token": token, "outcome": "completed"});
        let error = json!({"type": "x", "message": "y"});
        let mut tries = vec![
            ("GET", "/metrics", "/metrics".to_owned(), Value::Null),
            ("GET", "/v1/meta", "/v1/meta".to_owned(), Value::Null),
            ("POST", "/v1/jobs", "/v1/jobs".to_owned(), job.clone()),
            ("POST", "/v1/jobs/batch", "/v1/jobs/batch".to_owned(), json!({"jobs": [job]})),
            ("GET", "/v1/jobs", "/v1/jobs".to_owned(), Value::Null),
            ("GET", "/v1/jobs", "/v1/jobs?queue=secretq".to_owned(), Value::Null),
            ("GET", "/v1/jobs", "/v1/jobs?kind=secretkind&stuck=true".to_owned(), Value::Null),
            ("GET", "/v1/jobs", "/v1/jobs?status=completed".to_owned(), Value::Null),
            ("GET", "/v1/workers", "/v1/workers".to_owned(), Value::Null),
            ("GET", "/v1/queues", "/v1/queues".to_owned(), Value::Null),
            ("GET", "/v1/kinds", "/v1/kinds".to_owned(), Value::Null),
            ("GET", "/v1/tasks", "/v1/tasks".to_owned(), Value::Null),
            ("GET", "/v1/episodes", "/v1/episodes".to_owned(), Value::Null),
            ("GET", "/v1/episodes", "/v1/episodes?queue=secretq".to_owned(), Value::Null),
            ("GET", "/v1/queues/{q}", "/v1/queues/secretq".to_owned(), Value::Null),
            ("GET", "/v1/queues/{q}/explain", "/v1/queues/secretq/explain".to_owned(), Value::Null),
            ("PATCH", "/v1/queues/{q}", "/v1/queues/secretq".to_owned(), json!({"max_depth": 1})),
            ("POST", "/v1/queues/{q}/pause", "/v1/queues/secretq/pause".to_owned(), json!({})),
            ("POST", "/v1/queues/{q}/resume", "/v1/queues/secretq/resume".to_owned(), json!({})),
            ("POST", "/v1/claims", "/v1/claims".to_owned(), claim.clone()),
            (
                "POST",
                "/v1/heartbeats",
                "/v1/heartbeats".to_owned(),
                json!({"worker_id": "secretworker", "leases": [lease]}),
            ),
            (
                "POST",
                "/v1/settlements",
                "/v1/settlements".to_owned(),
                json!({"worker_id": "secretworker", "settlements": [settled], "claim": claim}),
            ),
            (
                "POST",
                "/v1/workers/{id}/drain",
                "/v1/workers/secretworker/drain".to_owned(),
                json!({}),
            ),
            (
                "POST",
                "/v1/workers/{id}/goodbye",
                "/v1/workers/secretworker/goodbye".to_owned(),
                json!({}),
            ),
        ];
        for id in [&self.pending, &self.running.id, &self.done] {
            let mut one = |method, what: &'static str, of: &'static str, body: Value| {
                tries.push((method, of, format!("/v1/jobs/{id}{what}"), body));
            };
            one("GET", "", "/v1/jobs/{id}", Value::Null);
            one("GET", "?include=payload", "/v1/jobs/{id}", Value::Null);
            one("GET", "/result", "/v1/jobs/{id}/result", Value::Null);
            one("GET", "/timeline", "/v1/jobs/{id}/timeline", Value::Null);
            one("GET", "/explain", "/v1/jobs/{id}/explain", Value::Null);
            one("POST", "/cancel", "/v1/jobs/{id}/cancel", json!({}));
            one("POST", "/cancel", "/v1/jobs/{id}/cancel", json!({"force": true}));
            one("POST", "/retry", "/v1/jobs/{id}/retry", json!({"queue": "mine"}));
            one("DELETE", "", "/v1/jobs/{id}", Value::Null);
            let with = |mut members: Value| {
                members["lease_token"] = json!(token);
                members
            };
            one("POST", "/heartbeat", "/v1/jobs/{id}/heartbeat", with(json!({})));
            one("POST", "/complete", "/v1/jobs/{id}/complete", with(json!({"result": 1})));
            one("POST", "/fail", "/v1/jobs/{id}/fail", with(json!({"error": error})));
            one("POST", "/release", "/v1/jobs/{id}/release", with(json!({})));
            one("POST", "/cancelled", "/v1/jobs/{id}/cancelled", with(json!({})));
        }
        tries
    }

    /// What must stay as it is.
    async fn state(&self) -> Value {
        let ops = async |path: &str| call(&self.server, "ops", "GET", path, &Value::Null).await;
        let mut state = Vec::new();
        for id in [&self.pending, &self.running.id, &self.done] {
            let job = ops(&format!("/v1/jobs/{id}")).await.is(200).json;
            let course = ["status", "version", "attempt", "cancel_requested_at", "retried_as"];
            state.push(json!(course.map(|member| job[member].clone())));
        }
        let queue = ops("/v1/queues/secretq").await.is(200);
        state.push(json!([queue.tag(), queue.json["paused"], queue.json["limits"]]));
        let workers = ops("/v1/workers").await.is(200).json["workers"].clone();
        let worker = workers.as_array().expect("workers").iter();
        let worker = worker.clone().find(|w| w["worker_id"] == "secretworker");
        state.push(json!(worker.map(|w| [w["leases"].clone(), w["directive"].clone()])));
        Value::Array(state)
    }

    /// Tries everything; answers how much that was.
    async fn try_all(&self, who: &str, queue: &str, token: &str, hidden: &[&str]) -> usize {
        let ids = [&self.pending, &self.running.id, &self.done].map(String::as_str);
        let hidden: Vec<&str> = OF_JOBS.iter().chain(hidden).copied().chain(ids).collect();
        let before = self.state().await;
        let tries = self.tries(queue, token);
        let mut all = self.operations().await;
        for (method, operation, path, body) in &tries {
            all.remove(&format!("{method} {operation}"));
            let reply = call(&self.server, who, method, path, body).await;
            let what = format!("{who}: {method} {path}: {}", reply.status);
            let text = reply.text();
            assert!(reply.status < 500, "{what}");
            for word in &hidden {
                let echo = match path.as_str() {
                    // By name every queue, and the classes of errors.
                    "/metrics" => OF_QUEUES.contains(word) || *word == "secreterror",
                    "/v1/heartbeats" | "/v1/settlements" => ids.contains(word),
                    // A refusal may name what was asked for.
                    _ => reply.status >= 400 && !OF_JOBS.contains(word),
                };
                assert!(echo || !text.contains(word), "{what} tells {word}: {text}");
            }
            assert_eq!(self.state().await, before, "{what}");
        }
        assert!(all.is_empty(), "nobody tried {all:?}");
        tries.len()
    }

    /// Every operation that needs a token, by method and address.
    async fn operations(&self) -> BTreeSet<String> {
        let about = self.server.get("/openapi.json").await.is(200).json;
        let paths = about["paths"].as_object().expect("paths").clone();
        let mut all = BTreeSet::new();
        for (path, methods) in paths {
            for (method, operation) in methods.as_object().expect("methods") {
                if operation["security"].as_array().is_some_and(|s| !s.is_empty()) {
                    all.insert(format!("{} {path}", method.to_uppercase()));
                }
            }
        }
        assert!(all.len() > 30, "{all:?}");
        all
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_namespace_reaches_nothing() {
    let scene = Scene::set().await;
    let tries = scene.try_all("bank", "secretq", &scene.running.token, &[]).await;
    println!("{tries} tries from another namespace, 0 crossings");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_queue_and_kind_reach_nothing() {
    let scene = Scene::set().await;
    // The lease's own token would do: whoever was given it may settle, whatever he is given later.
    let wrong = "not-the-token";
    let tries = scene.try_all("one", "mine", wrong, &OF_QUEUES).await;
    println!("{tries} tries from another queue and kind, 0 crossings");
}
