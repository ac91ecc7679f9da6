//! R122–R132: operators, probes, starting and ending.

use serde_json::{Value, json};

use crate::book::Book;
use crate::kit::{Client, Stand, soon, until};

/// A server that was asked to leave, and stays because a request is still on its way.
fn leaving(slow: &mut std::net::TcpStream, client: &Client, stand: &Stand) {
    use std::io::Write as _;
    let head = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"kind\"";
    slow.write_all(head.as_bytes()).expect("sent");
    until("the slow request", || {
        let text = client.get("/metrics", &[]).is(200).text();
        let active = text.lines().filter(|l| {
            l.starts_with("http_server_active_requests") && l.contains("method=\"POST\"")
        });
        let n: f64 = active.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        (n >= 1.0).then_some(())
    });
    stand.process.signal("TERM");
    until("the drain", || (client.get("/readyz", &[]).status == 503).then_some(()));
}

fn stays() -> Stand {
    Stand::configured(&[("SERVER__SHUTDOWN_GRACE", "1h"), ("SERVER__BODY_TIMEOUT", "1h")], "")
}

pub fn checks(book: &mut Book) {
    book.rule("R122", |_| {
        let stand = Stand::start();
        let pause = || stand.post("/v1/queues/q/pause", json!({"reason": "why"}), &[]).is(200).json;
        let (first, again) = (pause(), pause());
        assert_eq!((&first["paused"], &first["paused_at"]), (&json!(true), &again["paused_at"]));
        let stand = stand.killed();
        let queue = stand.get("/v1/queues/q", &[]).is(200).json;
        assert_eq!((&queue["paused"], &queue["paused_reason"]), (&json!(true), &json!("why")));
        for _ in 0..2 {
            assert_eq!(stand.nothing("/v1/queues/q/resume").is(200).json["paused"], false);
        }
    });
    book.rule("R123", |at| {
        at.get("/v1/queues/never.used", &[]).problem(404, "no-such-queue");
        at.taken(json!({}));
        at.put(json!({"delay_seconds": 900}));
        at.put(json!({}));
        let queue = at.get(&format!("/v1/queues/{}", at.queue), &[]).is(200).json;
        let jobs = json!({"eligible": 1, "scheduled": 1, "retry_backoff": 0, "running": 1});
        assert_eq!((&queue["name"], &queue["jobs"]), (&json!(at.queue), &jobs));
    });
    book.rule("R124", |at| {
        at.put(json!({}));
        at.lease_by(at.asks(json!({"hostname": "h1", "version": "1.2", "concurrency": 8})));
        let workers = until("the lease to be seen", || {
            let list = at.get("/v1/workers", &[]).is(200).json;
            let mine =
                list["workers"].as_array()?.iter().find(|w| w["worker_id"] == at.queue.as_str())?;
            (mine["leases"] == 1).then(|| mine.clone())
        });
        for (name, value) in [
            ("hostname", json!("h1")),
            ("version", json!("1.2")),
            ("capacity", json!(8)),
            ("queues", json!([at.queue])),
            ("directive", json!("continue")),
        ] {
            assert_eq!(workers[name], value, "{name}");
        }
    });
    book.rule("R125", |at| {
        let id = at.put(json!({"delay_seconds": 900}));
        let job = at.get(&format!("/v1/jobs/{id}/explain"), &[]).is(200).json;
        assert_eq!((&job["job_id"], &job["verdict"]), (&json!(id), &json!("scheduled")));
        assert!(job["next_step"].as_str().is_some_and(|s| !s.is_empty()), "{job}");
        let queue = at.get(&format!("/v1/queues/{}/explain", at.queue), &[]).is(200).json;
        assert_eq!((&queue["queue"], &queue["verdict"]), (&json!(at.queue), &json!("flowing")));
        assert!(queue["kinds"].is_array() && queue["sampled_at"].is_string(), "{queue}");
    });
    book.rule("R167", |at| {
        at.put(json!({}));
        let path = format!("/v1/queues/{}", at.queue);
        let before = at.get(&path, &[]).is(200).json;
        assert!(before.get("failure_ratio_5m").is_none(), "nothing has ended: {before}");
        assert_eq!(before["finish_rate_per_second"], 0.0, "{before}");
        let cancelled = at.put(json!({}));
        at.cancel(&cancelled, json!({})).is(200);
        let lease = at.take();
        at.complete(&lease, json!(1));
        let failed = at.taken(json!({}));
        at.fail(&failed, json!({"retryable": false}));
        let list = at.get("/v1/queues", &[]).is(200).json;
        let listed = list["queues"].as_array().expect("queues");
        let listed = listed.iter().find(|q| q["name"] == at.queue.as_str()).expect("the queue");
        for queue in [&at.get(&path, &[]).is(200).json, listed] {
            assert_eq!(queue["failure_ratio_5m"], 0.5, "cancelled jobs do not count: {queue}");
            assert!(queue["finish_rate_per_second"].as_f64() > Some(0.0), "{queue}");
            assert!(queue.get("max_depth").is_none(), "{queue}");
        }
        at.submit(json!({"kind": "a", "queue": "tight6"}));
        let tight = at.get("/v1/queues/tight6", &[]).is(200).json;
        assert_eq!((&tight["max_depth"], &tight["limits"]["max_depth"]), (&json!(7), &json!(7)));
    });
    book.rule("R126", |at| {
        for name in ["queues", "workers", "kinds", "tasks", "episodes", "jobs"] {
            let list = at.get(&format!("/v1/{name}"), &[]).is(200).json;
            assert!(list[name].is_array(), "{name}: {list}");
        }
    });
    book.rule("R127", |at| {
        assert_eq!(at.get("/livez", &[]).is(200).bytes, b"ok");
    });
    book.rule("R128", |at| {
        assert_eq!(at.get("/readyz", &[]).is(200).json["status"], "ready");
        let checks = at.get("/readyz?verbose", &[]).is(200).json;
        let checks: Vec<Value> = checks["checks"].as_array().expect("checks").clone();
        assert!(!checks.is_empty() && checks.iter().all(|c| c["ok"] == true), "{checks:?}");
    });
    book.rule("R129", |_| {
        let stand = stays();
        let id = stand.submit(json!({"kind": "a", "queue": "other"}));
        let parked =
            stand.parked(json!({"worker_id": "p", "queues": ["none"], "wait_seconds": 50}));
        let path = format!("/v1/jobs/{id}");
        let poll = stand.later(move |c| c.get(&path, &[("Prefer", "wait=50")]));
        let mut slow = stand.connect();
        leaving(&mut slow, &stand.client, &stand);
        assert_eq!(soon(parked).is(200).json["jobs"], json!([]));
        assert_eq!(soon(poll).is(200).json["status"], "pending");
        stand.get("/readyz", &[]).problem(503, "server-draining").retry_after();
        stand
            .post("/v1/jobs", json!({"kind": "a"}), &[])
            .problem(503, "server-draining")
            .retry_after();
        let claim = json!({"worker_id": "n", "queues": ["other"]});
        stand.post("/v1/claims", claim, &[]).problem(503, "server-draining").retry_after();
        stand.get("/livez", &[]).is(200);
    });
    book.rule("R130", |_| {
        use std::io::{Read as _, Write as _};
        let stand = stays();
        stand.submit(json!({"kind": "a"}));
        let waits = stand.submit(json!({"kind": "a", "queue": "other"}));
        let lease = stand.lease("w", "default");
        let mut slow = stand.connect();
        leaving(&mut slow, &stand.client, &stand);
        assert_eq!(stand.job(&waits)["status"], "pending");
        stand.with("heartbeat", &lease, json!({})).is(200);
        stand.complete(&lease, json!(130));
        stand.cancel(&waits, json!({})).is(200);
        slow.write_all(b":\"a\"}").expect("the rest");
        let mut answer = String::new();
        slow.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains("503"), "{answer}");
        let Stand { client, mut process, launch, dir } = stand;
        assert!(process.wait().success(), "{}", process.log());
        let process = launch.start();
        assert_eq!(client.job(&lease.id)["result"], 130);
        drop((process, dir));
    });
    book.rule("R131", |_| {
        let stand = stays();
        let id = stand.submit(json!({"kind": "a"}));
        let mut slow = stand.connect();
        leaving(&mut slow, &stand.client, &stand);
        stand.process.signal("INT");
        let Stand { client, mut process, launch, dir } = stand;
        assert!(process.wait().success(), "{}", process.log());
        let process = launch.start();
        assert_eq!(client.job(&id)["status"], "pending");
        drop((process, dir));
    });
    book.rule("R132", |at| {
        let kind = |accept: &str| {
            let reply = at.get("/metrics", &[("Accept", accept)]).is(200);
            reply.header("content-type").expect("a type").to_owned()
        };
        assert!(kind("*/*").starts_with("text/plain; version=0.0.4"));
        let open = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        assert!(kind(open).starts_with("application/openmetrics-text; version=1.0.0"));
    });
}
