//! What operators see and do, and what machines ask of the server itself.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::answer::in_millis;
use crate::kit::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_pause_and_go_on() {
    let server = Server::with(&[("TASKS__SCHEDULER", "50ms")]);
    server.get("/v1/queues/q").await.problem(404, "no-such-queue");
    let id = server.submit(&json!({"kind": "a", "queue": "q"})).await;
    server.submit(&json!({"kind": "a", "queue": "q", "delay_seconds": 600})).await;
    let queue = server.get("/v1/queues/q").await.is(200).json;
    assert_eq!((&queue["name"], &queue["paused"]), (&json!("q"), &json!(false)));
    let jobs = json!({"eligible": 1, "scheduled": 1, "retry_backoff": 0, "running": 0});
    assert_eq!(queue["jobs"], jobs);
    assert!(queue["oldest_pending_age_seconds"].as_f64() >= Some(0.0), "{queue}");
    for absent in ["paused_at", "paused_reason", "paused_until"] {
        assert!(queue.get(absent).is_none(), "{queue}");
    }

    let pause = json!({"reason": "the mailer is down"});
    let queue = server.post("/v1/queues/q/pause", &pause).await.is(200).json;
    assert_eq!((&queue["paused"], &queue["paused_reason"]), (&json!(true), &pause["reason"]));
    let since = queue["paused_at"].clone();
    let again = server.post("/v1/queues/q/pause", &pause).await.is(200).json;
    assert_eq!(again["paused_at"], since, "paused once");
    assert_eq!(again["oldest_pending_age_seconds"], 0.0);
    // Claims find nothing, submissions are accepted, the reason shows.
    let claim = json!({"worker_id": "w", "queues": ["q"]});
    assert_eq!(server.claims(&claim).await["jobs"], json!([]));
    let other = server.submit(&json!({"kind": "a", "queue": "q"})).await;
    let read = server.get(&format!("/v1/jobs/{other}")).await;
    assert_eq!(read.json["pending_reason"], "queue_paused");
    let tag = read.header("etag").expect("a tag").to_owned();
    let reply = server.post("/v1/jobs", &json!({"kind": "a", "queue": "q"})).await.is(202);
    assert_eq!(reply.json["pending_reason"], "queue_paused");
    // Other queues of a claim go on.
    server.submit(&json!({"kind": "a", "queue": "r"})).await;
    let both = json!({"worker_id": "w", "queues": ["q", "r"]});
    assert_eq!(server.lease_by(&both).await.json["queue"], "r");

    let parked = json!({"worker_id": "p", "queues": ["q"], "wait_seconds": 50});
    let parked = server.parked(parked).await;
    let queue = server.post_nothing("/v1/queues/q/resume").await.is(200).json;
    assert_eq!((&queue["paused"], queue.get("paused_reason")), (&json!(false), None));
    assert_eq!(parked.await.expect("one").is(200).json["jobs"][0]["job_id"], id);
    server.post_nothing("/v1/queues/q/resume").await.is(200);
    // What is worked out on reading is no part of the tag.
    let path = format!("/v1/jobs/{other}");
    server.get_with(&path, &[("If-None-Match", &tag)]).await.is(304);

    // The end of a pause is a moment that is known, and told.
    let until = json!({"until": in_millis(1_000_000)});
    server.post("/v1/queues/r/pause", &until).await.is(200);
    let reply = server.post("/v1/jobs", &json!({"kind": "a", "queue": "r"})).await.is(202);
    assert!(reply.retry_after() > 900, "{}", reply.retry_after());
    let read = server.get(&format!("/v1/jobs/{}", reply.id())).await.is(200);
    assert!(read.retry_after() > 900, "{}", read.retry_after());
    server.post_nothing("/v1/queues/r/resume").await.is(200);
    let read = server.get(&format!("/v1/jobs/{}", reply.id())).await.is(200);
    assert!(read.retry_after() < 900, "{}", read.retry_after());

    // Until a moment: it goes on by itself, and wakes who waits.
    let until = json!({"until": in_millis(700)});
    let queue = server.post("/v1/queues/q/pause", &until).await.is(200).json;
    assert_eq!(queue["paused_until"], until["until"]);
    assert_eq!(server.claims(&claim).await["jobs"], json!([]));
    let lease = server.lease("w", "q").await;
    assert_eq!(lease.id, other);
    let job = server.job(&other).await;
    assert!(job["started_at"].as_str() >= until["until"].as_str(), "{job}");
    assert_eq!(server.get("/v1/queues/q").await.json["paused"], false);

    // Pauses outlive the process, also of a queue that was never used.
    server.post("/v1/queues/new/pause", &pause).await.is(200);
    let server = server.restart_after_kill();
    let queue = server.get("/v1/queues/new").await.is(200).json;
    assert_eq!((&queue["paused"], &queue["paused_reason"]), (&json!(true), &pause["reason"]));
    let names = server.get("/v1/queues").await.is(200).json;
    let names: Vec<&str> = names["queues"]
        .as_array()
        .expect("queues")
        .iter()
        .filter_map(|q| q["name"].as_str())
        .collect();
    assert_eq!(names, ["new", "q", "r"]);

    for (bad, error) in [
        (json!({"until": "2020-01-01T00:00:00Z"}), "/until range"),
        (json!({"until": "later"}), "/until format"),
        (json!({"reason": "r".repeat(513)}), "/reason length"),
        (json!({"resaon": "x"}), "/resaon unknown"),
    ] {
        server.post("/v1/queues/q/pause", &bad).await.wrong(&[error]);
    }
    server.post("/v1/queues/q/resume", &json!({"now": 1})).await.wrong(&["/now unknown"]);
    for bad in ["Q", "_internal", "a%20b", "%00", &"q".repeat(129)] {
        let reply = server.post_nothing(&format!("/v1/queues/{bad}/pause")).await;
        let reply = reply.problem(404, "no-such-queue");
        let detail = reply.json["detail"].as_str().expect("a detail");
        assert!(detail.contains("a name is 1 to 128 characters of a-z"), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_and_tasks_are_listed() {
    let server = Server::start();
    server.submit(&json!({"kind": "a"})).await;
    let claim = json!({"worker_id": "w1", "queues": ["default", "q"], "kinds": ["a"],
                       "hostname": "h1", "version": "1.2", "concurrency": 8});
    server.lease_by(&claim).await;
    server.claims(&json!({"worker_id": "w2", "queues": ["q"], "max_jobs": 3})).await;
    let workers = server.get("/v1/workers").await.is(200).json;
    let workers = workers["workers"].as_array().expect("workers");
    let ids: Vec<&str> = workers.iter().filter_map(|w| w["worker_id"].as_str()).collect();
    assert_eq!(ids, ["w1", "w2"]);
    for (name, value) in [
        ("hostname", json!("h1")),
        ("version", json!("1.2")),
        ("queues", json!(["default", "q"])),
        ("kinds", json!(["a"])),
        ("capacity", json!(8)),
        ("directive", json!("continue")),
    ] {
        assert_eq!(workers[0][name], value, "{name}");
    }
    assert!(crate::jobs::is_moment(workers[0]["last_seen"].as_str().expect("one")));
    assert_eq!((&workers[1]["capacity"], workers[1].get("hostname")), (&json!(3), None));
    let queue = server.get("/v1/queues/default").await.is(200).json;
    assert_eq!((&queue["workers"], &queue["jobs"]["running"]), (&json!(1), &json!(1)));
    // Who is known survives the process, leases included.
    let server = {
        // They may have been written one after the other.
        let store = rusqlite::Connection::open(server.store()).expect("the file");
        crate::server::until("presence to be written", || async {
            let count = "SELECT count(*) FROM presence";
            (store.query_row(count, [], |r| r.get::<_, i64>(0)) == Ok(2)).then_some(())
        })
        .await;
        drop(store);
        server.restart_after_kill()
    };
    let workers = server.get("/v1/workers").await.is(200).json;
    assert_eq!(
        (&workers["workers"][0]["leases"], &workers["workers"][1]["worker_id"]),
        (&json!(1), &json!("w2"))
    );

    let expected = [
        "canary",
        "estimates",
        "presence",
        "reaper",
        "reconcile",
        "retention",
        "sampler",
        "scheduler",
        "watchdog",
    ];
    let tasks = crate::server::until("every task to have run", || async {
        let tasks = server.get("/v1/tasks").await.is(200).json;
        let tasks = tasks["tasks"].as_array().expect("tasks").clone();
        tasks.iter().all(|t| t["last_success_at"].is_string()).then_some(tasks)
    })
    .await;
    let names: Vec<&str> = tasks.iter().filter_map(|t| t["task"].as_str()).collect();
    assert_eq!(names, expected);
    for task in &tasks {
        assert!(task["interval_seconds"].as_f64() > Some(0.0), "{task}");
        assert_eq!((&task["outcome"], &task["restarts"]), (&json!("ok"), &json!(0)));
        assert!(task["duration_seconds"].is_f64() && task["last_run_at"].is_string(), "{task}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_meta_promises_is_what_is_enforced() {
    let server = Server::with(&[
        ("JOBS__MAX_PAYLOAD_BYTES", "1000"),
        ("JOBS__INLINE_RESULT_BYTES", "100"),
        ("JOBS__MAX_RESULT_BYTES", "5000"),
        ("JOBS__RETENTION__FAILED", "2h"),
        ("JOBS__IDEMPOTENCY_TTL", "48h"),
        ("JOBS__SYNC_WINDOW", "250ms"),
        ("STORE__DURABILITY", "normal"),
        ("SERVER__PUBLIC_URL", "https://jobs.example"),
    ]);
    let meta = server.get("/v1/meta").await.is(200).json;
    let limit = |name: &str| {
        let value = meta["limits"][name].as_f64();
        value.unwrap_or_else(|| panic!("{name}: {meta}")) as u64
    };
    assert_eq!((&meta["name"], &meta["store"]), (&json!("punctual"), &json!("sqlite")));
    assert_eq!(
        (&meta["durability"], &meta["sync_window_seconds"]),
        (&json!("normal"), &json!(0.25))
    );
    assert_eq!(meta["idempotency"]["key_lifetime_seconds"], 172_800.0);
    assert_eq!(
        meta["retention_seconds"],
        json!({"completed": 86_400.0, "failed": 7_200.0, "cancelled": 86_400.0})
    );
    assert_eq!(limit("payload_bytes"), 1_000);
    assert_eq!((limit("inline_result_bytes"), limit("result_bytes")), (100, 5_000));
    // Each limit: just within it, and just beyond.
    let text = |n: u64| "x".repeat(usize::try_from(n).expect("small") - 2);
    let raw = |body: Value| {
        let request = server.request(Method::POST, "/v1/jobs").json(&body);
        async { server.client.send_anywhere(request).await }
    };
    raw(json!({"kind": "a", "payload": text(1_000)})).await.is(202);
    let large = raw(json!({"kind": "a", "payload": text(1_001)})).await;
    assert_eq!(large.problem(413, "payload-too-large").json["max_bytes"], 1_000);
    for (name, at_limit, beyond) in [
        (
            "metadata",
            json!({"k": "m".repeat(limit("metadata_bytes") as usize - 8)}),
            json!({"k": "m".repeat(limit("metadata_bytes") as usize - 7)}),
        ),
        (
            "tags",
            json!(vec!["t"; limit("tags") as usize]),
            json!(vec!["t"; limit("tags") as usize + 1]),
        ),
        ("priority", meta["limits"]["priority_max"].clone(), json!(limit("priority_max") + 1)),
        ("max_attempts", json!(limit("max_attempts")), json!(limit("max_attempts") + 1)),
        ("timeout_seconds", meta["limits"]["timeout_seconds"].clone(), json!(604_801)),
        ("delay_seconds", meta["limits"]["run_at_ahead_seconds"].clone(), json!(31_536_001)),
    ] {
        raw(json!({"kind": "a", "queue": "limits", name: at_limit})).await.is(202);
        let errors =
            raw(json!({"kind": "a", name: beyond})).await.problem(422, "validation-failed");
        assert!(errors.errors()[0].starts_with(&format!("/{name}")), "{}", errors.json);
    }
    let deep = |n: usize| {
        format!(r#"{{"kind":"a","queue":"limits","payload":{}{}}}"#, "[".repeat(n), "]".repeat(n))
    };
    let depth = limit("json_depth") as usize;
    let request = |body: String| {
        server
            .request(Method::POST, "/v1/jobs")
            .header("Content-Type", "application/json")
            .body(body)
    };
    server.client.send_anywhere(request(deep(depth - 1))).await.is(202);
    server.client.send_anywhere(request(deep(depth))).await.problem(400, "malformed-json");
    let key = |n: u64| {
        let request =
            server.request(Method::POST, "/v1/jobs").json(&json!({"kind": "a", "queue": "limits"}));
        request.header("Idempotency-Key", "k".repeat(n as usize))
    };
    server.client.send_anywhere(key(limit("idempotency_key_bytes"))).await.is(202);
    let long = server.client.send_anywhere(key(limit("idempotency_key_bytes") + 1)).await;
    long.problem(400, "invalid-idempotency-key");

    let claim = |members: Value| {
        let mut body = json!({"worker_id": "w", "queues": ["default"]});
        body.as_object_mut().expect("one").extend(members.as_object().expect("one").clone());
        let request = server.request(Method::POST, "/v1/claims").json(&body);
        async { server.client.send_anywhere(request).await }
    };
    let lease =
        claim(json!({"max_jobs": limit("claim_jobs"), "wait_seconds": limit("wait_seconds"),
                             "lease_seconds": meta["limits"]["lease_seconds"],
                             "worker_id": "w".repeat(limit("worker_id_bytes") as usize)}));
    let lease = crate::kit::Lease::of(&lease.await.is(200).json["jobs"][0]);
    for (name, value) in [
        ("max_jobs", json!(limit("claim_jobs") + 1)),
        ("wait_seconds", json!(limit("wait_seconds") + 1)),
        ("lease_seconds", json!(3_601)),
        ("worker_id", json!("w".repeat(limit("worker_id_bytes") as usize + 1))),
    ] {
        let errors = claim(json!({name: value})).await.problem(422, "validation-failed");
        assert!(errors.errors()[0].starts_with(&format!("/{name}")), "{}", errors.json);
    }
    let settle = |what: &str, mut members: Value| {
        members["lease_token"] = json!(lease.token);
        let path = format!("/v1/jobs/{}/{what}", lease.id);
        let request = server.request(Method::POST, &path).json(&members);
        async { server.client.send_anywhere(request).await }
    };
    let message = |n: u64| json!({"progress": {"message": "m".repeat(n as usize)}});
    settle("heartbeat", message(limit("progress_message_bytes"))).await.is(200);
    settle("heartbeat", message(limit("progress_message_bytes") + 1)).await.is(422);
    settle("heartbeat", json!({"checkpoint": text(limit("checkpoint_bytes"))})).await.is(200);
    settle("heartbeat", json!({"checkpoint": text(limit("checkpoint_bytes") + 1)})).await.is(422);
    let error = |n: u64| json!({"error": {"type": "t", "message": "m".repeat(n as usize - 1)}});
    settle("fail", error(limit("error_bytes") + 1)).await.is(422);
    let large = settle("complete", json!({"result": text(5_001)})).await;
    assert_eq!(large.problem(413, "payload-too-large").json["max_bytes"], 5_000);
    let done = settle("complete", json!({"result": text(5_000)})).await.is(200);
    assert!(done.json.get("result").is_none() && done.json["result_size"] == 5_000);
    // Addresses are the public ones.
    let url = format!("https://jobs.example/v1/jobs/{}", lease.id);
    assert_eq!(done.json["status_url"], url);
    assert_eq!(done.json["result_url"], format!("{url}/result"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_may_ask_how_it_is() {
    let server = Server::start();
    let live = server.get("/livez").await.is(200);
    assert_eq!(live.bytes, b"ok");
    let ready = server.get("/readyz").await.is(200);
    assert_eq!(ready.json, json!({"status": "ready"}));
    let checks = server.get("/readyz?verbose").await.is(200);
    let names: BTreeSet<&str> = checks.json["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .filter_map(|c| c["name"].as_str())
        .collect();
    assert_eq!(names, BTreeSet::from(["lifecycle", "storage", "tasks"]));
    assert!(checks.json["checks"].as_array().expect("checks").iter().all(|c| c["ok"] == true));

    // The root leads everywhere.
    let root = server.get("/").await.is(200);
    assert!(root.header("link").expect("links").contains("</readyz>; rel=\"status\""));
    for url in root.json["links"].as_object().expect("links").values() {
        let path = url.as_str().expect("one").strip_prefix(&server.base).expect("an address here");
        server.get(path).await.is(200);
        let head = server.send(server.request(Method::HEAD, path)).await.is(200);
        assert!(head.bytes.is_empty());
    }

    let metrics = server.get("/metrics").await.is(200);
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = String::from_utf8(metrics.bytes).expect("text");
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("a sample");
        assert!(value.parse::<f64>().is_ok() && !series.is_empty(), "{line}");
    }
    // Paths that do not exist cannot grow the metrics.
    for n in 0..50 {
        server.get(&format!("/nothing/{n}")).await.problem(404, "no-such-route");
    }
    let text = String::from_utf8(server.get("/metrics").await.bytes).expect("text");
    assert!(!text.contains("/nothing/") && text.contains("http_route=\"_unmatched\""));
}
