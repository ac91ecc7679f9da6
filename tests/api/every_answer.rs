//! Answers that the description promises at every address like it: what one reader or one rule does
//! for all of them is met at each of them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::auth::{SCOPES, secret, token};
use crate::described::{self, description};
use crate::kit::{Lease, Server, with};
use crate::server::until;
use crate::wire::Wire;

const NOBODY: &str = "0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7";

/// The operations: their methods, their addresses with something in them, whether there is a body.
fn operations() -> Vec<(Method, String, bool)> {
    let mut all = Vec::new();
    for (path, item) in description()["paths"].as_object().expect("paths") {
        let path = path.replace("{id}", NOBODY).replace("{q}", "q").replace("{slug}", "queue-full");
        for (method, operation) in item.as_object().expect("operations") {
            let method = method.to_uppercase().parse().expect("a method");
            all.push((method, path.clone(), operation["requestBody"].is_object()));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_before_it_is_understood() {
    let server = Server::start();
    for (method, path, body) in operations() {
        let ask = |headers: &[(&str, &str)]| with(server.request(method.clone(), &path), headers);
        server.send(ask(&[("Host", "elsewhere.example")])).await.problem(421, "misdirected-host");
        server.send(ask(&[("Host", "no host")])).await.problem(400, "invalid-header");
        if method != Method::GET {
            let page = ask(&[("Sec-Fetch-Site", "cross-site")]);
            server.send(page).await.problem(403, "cross-site");
        }
        if body {
            let json = ask(&[("Content-Type", "application/json")]).body("{");
            server.send(json).await.problem(400, "malformed-json");
            let text = ask(&[("Content-Type", "text/plain")]).body("{}");
            server.send(text).await.problem(415, "unsupported-media-type");
        }
    }
    server.is_alive().await;
}

/// One reader for all bodies, met at each address: what is too large, breaks off, or never comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_do_not_come() {
    let server = Server::with(&[("SERVER__BODY_TIMEOUT", "300ms")]);
    let port = server.port();
    let asked = operations().into_iter().filter(|(_, _, body)| *body);
    let tries = asked.map(|(method, path, _)| {
        std::thread::spawn(move || {
            let begin = |length: u64| {
                let mut wire = Wire::connect(port);
                wire.send(format!(
                    "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: \
                     application/json\r\nContent-Length: {length}\r\n\r\n{{"
                ));
                wire
            };
            let told = |mut wire: Wire, status: u16, code: &str| {
                let answer = wire.answer();
                let problem = answer.problem(status, code);
                described::check(&method, &path, status, &answer.header_map(), &problem);
            };
            told(begin(1 << 40), 413, "payload-too-large");
            told(begin(40), 408, "request-timeout");
            let mut broken = begin(40);
            broken.end();
            told(broken, 400, "bad-request");
        })
    });
    for tried in tries.collect::<Vec<_>>() {
        tried.join().expect("the answers");
    }
    server.is_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_not_let_in() {
    let mut tokens = SCOPES.map(|scope| token(scope, &[scope], "")).concat();
    tokens += &token("slow", &SCOPES, "rate_limit_per_second = 0.001");
    let server = Server::configured(&[], &tokens);
    let bearer = |name: &str| format!("Bearer {}", secret(name));
    let slow = [("Authorization", bearer("slow"))];
    let slow: Vec<(&str, &str)> = slow.iter().map(|(name, value)| (*name, &**value)).collect();
    server.get_with("/v1/meta", &slow).await.is(200);
    let mut refused = 0;
    for (method, mut path, _) in operations() {
        if path == "/readyz" {
            path += "?verbose";
        }
        let ask = |headers: &[(&str, &str)]| with(server.request(method.clone(), &path), headers);
        let reply = server.send(ask(&[])).await;
        if reply.status != 401 {
            continue;
        }
        reply.problem(401, "unauthenticated");
        server.send(ask(&slow)).await.problem(429, "rate-limited");
        let mut lacking = 0;
        for scope in SCOPES {
            let reply = server.send(ask(&[("Authorization", &bearer(scope))])).await;
            if reply.status == 403 {
                reply.problem(403, "insufficient-scope");
                lacking += 1;
            }
        }
        assert!(lacking > 0 || path == "/v1/meta", "{method} {path}");
        refused += 1;
    }
    assert!(refused > 25, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_no_lease_any_more_is_told_so() {
    let server = Server::with(&[("TASKS__RETENTION", "50ms")]);
    let error = json!({"error": {"type": "t", "message": "m"}});
    for (what, members) in [
        ("complete", &json!({})),
        ("fail", &error),
        ("release", &json!({})),
        ("cancelled", &json!({})),
        ("heartbeat", &json!({})),
    ] {
        let nobody = Lease {
            id: NOBODY.to_owned(),
            token: "AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
            fence: 1,
            json: json!({}),
        };
        server.with_lease(what, &nobody, members).await.problem(404, "no-such-job");

        let id = server.submit(&json!({"kind": "a"})).await;
        let lost = server.lease("lost", "default").await;
        let guess = Lease { token: nobody.token.clone(), ..lost.clone() };
        server.with_lease(what, &guess, members).await.problem(409, "lease-lost");
        server.post_nothing("/v1/workers/lost/goodbye").await.is(204);
        server.with_lease(what, &lost, members).await.problem(409, "lease-expired");

        let lease = server.lease("w", "default").await;
        assert_eq!(lease.id, id);
        // What it does not ask for.
        if what == "complete" {
            server.fail(&lease, json!({"retryable": false})).await;
        } else {
            server.complete(&lease, json!(1)).await;
        }
        let settled = if what == "heartbeat" { "job-already-finished" } else { "already-reported" };
        server.with_lease(what, &lease, members).await.problem(409, settled);
        server.with_lease(what, &guess, members).await.problem(409, "job-already-finished");
        server.delete(&format!("/v1/jobs/{id}")).await.is(204);
        let gone = server.with_lease(what, &lease, members).await.problem(410, "job-deleted");
        assert_eq!((&gone.json["job_id"], gone.json["created_at"].is_string()), (&json!(id), true));

        let short = json!({"kind": "a", "retention_seconds": 1});
        let id = server.submit(&short).await;
        let lease = server.lease("w", "default").await;
        server.complete(&lease, json!(1)).await;
        until_expired(&server, &id).await;
        let gone = server.with_lease(what, &lease, members).await.problem(410, "job-expired");
        assert_eq!((&gone.json["job_id"], gone.json["created_at"].is_string()), (&json!(id), true));
    }
}

async fn until_expired(server: &Server, id: &str) {
    let path = format!("/v1/jobs/{id}/explain");
    until("its retention to pass", || async {
        (server.get(&path).await.status == 410).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_of_a_job_that_is_gone_says_so() {
    let server = Server::with(&[("TASKS__RETENTION", "50ms")]);
    let mut leases = Vec::new();
    for _ in 0..2 {
        server.submit(&json!({"kind": "a", "retention_seconds": 1})).await;
        let lease = server.lease("w", "default").await;
        server.complete(&lease, json!(1)).await;
        leases.push(lease);
    }
    server.delete(&format!("/v1/jobs/{}", leases[0].id)).await.is(204);
    until_expired(&server, &leases[1].id).await;
    let item = |lease: &Lease| json!({"job_id": lease.id, "lease_token": lease.token});
    let mut items: Vec<Value> = leases.iter().map(item).collect();
    items.push(json!({"job_id": NOBODY, "lease_token": leases[0].token}));
    let beats = json!({"worker_id": "w", "leases": items});
    let beats = server.post("/v1/heartbeats", &beats).await.is(200);
    for item in &mut items {
        item["outcome"] = json!("completed");
    }
    let settlements = json!({"worker_id": "w", "settlements": items});
    let settlements = server.post("/v1/settlements", &settlements).await.is(200);
    for answer in [beats, settlements] {
        let problems: Vec<&Value> = answer.json["results"]
            .as_array()
            .expect("results")
            .iter()
            .map(|r| &r["problem"])
            .collect();
        for (problem, (status, code, id)) in problems.into_iter().zip([
            (410, "job-deleted", Some(&leases[0].id)),
            (410, "job-expired", Some(&leases[1].id)),
            (404, "no-such-job", None),
        ]) {
            assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)));
            assert_eq!(problem["job_id"].as_str(), id.map(String::as_str));
            assert_eq!(problem["created_at"].is_string(), id.is_some());
        }
    }
    let lost = server.metrics().await.sum("punctual_jobs_lost_total", &[]);
    assert!(lost.abs() < 0.5, "none of them was lost: {lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_repeats_no_job_that_is_gone() {
    let server = Server::with(&[("TASKS__RETENTION", "50ms")]);
    let job = |key: &str| json!({"kind": "a", "retention_seconds": 1, "idempotency_key": key});
    let batch = |key: &str| json!({"jobs": [{"kind": "b"}, job(key)]});
    let ended = async |key: &str| {
        server.post("/v1/jobs/batch", &json!({"jobs": [job(key)]})).await.is(202);
        let lease = server.lease("w", "default").await;
        server.complete(&lease, json!(1)).await;
        lease.id
    };
    let id = ended("deleted").await;
    server.delete(&format!("/v1/jobs/{id}")).await.is(204);
    let gone = server.post("/v1/jobs/batch", &batch("deleted")).await.problem(410, "job-deleted");
    assert_eq!(gone.json["job_id"], id);

    let id = ended("expired").await;
    until_expired(&server, &id).await;
    let gone = server.post("/v1/jobs/batch", &batch("expired")).await.problem(410, "job-expired");
    assert_eq!(gone.json["job_id"], id);
    assert!(gone.json["detail"].as_str().expect("one").starts_with("/jobs/1: "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_a_queue_is_none() {
    let server = Server::start();
    for path in ["", "/explain"] {
        server.get(&format!("/v1/queues/Not%20one{path}")).await.problem(404, "no-such-queue");
    }
    for what in ["pause", "resume"] {
        let path = format!("/v1/queues/Not%20one/{what}");
        server.post_nothing(&path).await.problem(404, "no-such-queue");
    }
}
