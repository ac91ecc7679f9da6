//! Holding and settling: heartbeats, outcomes, repetitions, and what a stale token can do: nothing.

use serde_json::{Value, json};

use crate::kit::{Lease, Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_extend_and_carry() {
    let server = Server::start();
    server.submit(&json!({"kind": "a", "max_attempts": 2})).await;
    let claim = json!({"worker_id": "w", "queues": ["default"], "lease_seconds": 60});
    let lease = server.lease_by(&claim).await;
    let first = lease.json["lease_expires_at"].as_str().expect("a moment").to_owned();
    let body = json!({"extend_seconds": 600, "checkpoint": {"row": 1000},
                      "progress": {"percent": 12.5, "message": "row 1000"}});
    let beat = server.with_lease("heartbeat", &lease, &body).await.is(200).json;
    assert!(beat["lease_expires_at"].as_str() > Some(first.as_str()), "{beat}");
    assert_eq!(beat["timeout_at"], lease.json["timeout_at"], "nothing extends the hard limit");
    // A shorter one does not shorten.
    let again = server.with_lease("heartbeat", &lease, &json!({"extend_seconds": 1})).await;
    assert!(again.is(200).json["lease_expires_at"].as_str() >= beat["lease_expires_at"].as_str());
    let job = server.job(&lease.id).await;
    assert_eq!(
        (&job["progress"]["percent"], &job["progress"]["message"]),
        (&json!(12.5), &json!("row 1000"))
    );

    for (bad, error) in [
        (json!({"progress": {"percent": 101}}), "/progress/percent range"),
        (json!({"progress": {"percent": -0.5}}), "/progress/percent range"),
        (json!({"progress": {"message": "m".repeat(257)}}), "/progress/message length"),
        (json!({"progress": 7}), "/progress type"),
        (json!({"checkpoint": "c".repeat(65 << 10)}), "/checkpoint length"),
        (json!({"extend_seconds": 0}), "/extend_seconds range"),
        (json!({"extend_seconds": 3_601}), "/extend_seconds range"),
        (json!({"extend": 5}), "/extend unknown"),
    ] {
        server.with_lease("heartbeat", &lease, &bad).await.wrong(&[error]);
    }

    // The checkpoint is handed to the next attempt; the progress was the last one's.
    server.fail(&lease, json!({"retry_after_seconds": 0})).await;
    let next = server.lease("w2", "default").await;
    assert_eq!(next.json["checkpoint"], json!({"row": 1000}));
    assert!(server.job(&lease.id).await.get("progress").is_none());

    // Batches answer item by item, in their order.
    server.submit(&json!({"kind": "a"})).await;
    let other = server.lease("w2", "default").await;
    let items = json!([
        {"job_id": next.id, "lease_token": next.token, "progress": {"percent": 1}},
        {"job_id": lease.id, "lease_token": lease.token},
        {"job_id": "nonsense", "lease_token": other.token},
        {"job_id": other.id, "lease_token": next.token},
        {"job_id": other.id, "lease_token": other.token, "progress": {"message": "m".repeat(300)}},
        {"job_id": other.id, "lease_token": other.token},
    ]);
    let body = json!({"worker_id": "w2", "leases": items});
    let answer = server.post("/v1/heartbeats", &body).await.is(200).json;
    let results = answer["results"].as_array().expect("results");
    let told: Vec<&str> =
        results.iter().map(|r| r["problem"]["code"].as_str().unwrap_or("ok")).collect();
    let expected = ["ok", "lease-lost", "no-such-job", "lease-lost", "validation-failed", "ok"];
    assert_eq!(told, expected, "{answer}");
    for (item, result) in items.as_array().expect("items").iter().zip(results) {
        assert_eq!(result["job_id"], item["job_id"]);
        assert_eq!(result["ok"], result.get("problem").is_none());
        assert_eq!(result.get("lease_expires_at").is_some(), result["ok"] == true);
    }
    let empty = json!({"worker_id": "w2", "leases": []});
    assert_eq!(server.post("/v1/heartbeats", &empty).await.is(200).json["results"], json!([]));
    let many = json!({"worker_id": "w", "leases": vec![items[0].clone(); 1_001]});
    server.post("/v1/heartbeats", &many).await.wrong(&["/leases length"]);
    server
        .post("/v1/heartbeats", &json!({}))
        .await
        .wrong(&["/worker_id required", "/leases required"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_and_the_next_claim_in_one_call() {
    let server = Server::start();
    for n in 0..8 {
        server.submit(&json!({"kind": "a", "payload": n})).await;
    }
    let claim = json!({"worker_id": "w", "queues": ["default"], "max_jobs": 6});
    let leases: Vec<Lease> = server.claims(&claim).await["jobs"]
        .as_array()
        .expect("jobs")
        .iter()
        .map(Lease::of)
        .collect();
    let item = |at: usize, members: Value| {
        let mut item = json!({"job_id": leases[at].id, "lease_token": leases[at].token});
        item.as_object_mut().expect("one").extend(members.as_object().expect("one").clone());
        item
    };
    let error = json!({"type": "t", "message": "m", "details": {"at": 7}});
    let body = json!({"worker_id": "w", "settlements": [
        item(0, json!({"outcome": "completed", "result": [1]})),
        item(1, json!({"outcome": "completed"})),
        item(2, json!({"outcome": "failed", "error": error, "retryable": false})),
        item(3, json!({"outcome": "failed", "error": error, "retry_after_seconds": 60})),
        item(4, json!({"outcome": "released", "delay_seconds": 60})),
        item(5, json!({"outcome": "cancelled"})),
        {"job_id": "nonsense", "lease_token": leases[0].token, "outcome": "completed"},
        item(5, json!({"outcome": "failed", "error": {"type": "t", "message": "m".repeat(17 << 10)}})),
    ], "claim": claim});
    let answer = server.post("/v1/settlements", &body).await.is(200).json;
    let told: Vec<&str> = answer["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|r| r["status"].as_str().or(r["problem"]["code"].as_str()).expect("either"))
        .collect();
    let expected = [
        "completed",
        "completed",
        "failed",
        "pending",
        "pending",
        "cancel-not-requested",
        "no-such-job",
        "validation-failed",
    ];
    assert_eq!(told, expected, "{answer}");
    let payloads: Vec<&Value> =
        answer["jobs"].as_array().expect("jobs").iter().map(|j| &j["payload"]).collect();
    assert_eq!(payloads, [&json!(6), &json!(7)], "the next two, in the same call");
    assert_eq!(answer["directive"], "continue");
    for (at, status, reason) in [
        (0, "completed", None),
        (2, "failed", None),
        (3, "pending", Some("retry_backoff")),
        (4, "pending", Some("scheduled")),
        (5, "running", None),
    ] {
        let job = server.job(&leases[at].id).await;
        assert_eq!((&job["status"], job["pending_reason"].as_str()), (&json!(status), reason));
        assert_eq!(job["attempt"], u32::from(at != 4), "a release does not count: {job}");
    }
    assert_eq!(server.job(&leases[3].id).await["last_error"]["details"], json!({"at": 7}));

    // The same again is the same; differently, it was reported already.
    let again = json!({"worker_id": "w", "settlements": [
        item(0, json!({"outcome": "completed", "result": [1]})),
        item(0, json!({"outcome": "failed", "error": error})),
        item(2, json!({"outcome": "failed", "error": error, "retryable": false})),
        item(3, json!({"outcome": "failed", "error": error, "retry_after_seconds": 60})),
        item(4, json!({"outcome": "released"})),
        item(4, json!({"outcome": "completed"})),
    ]});
    let answer = server.post("/v1/settlements", &again).await.is(200).json;
    let told: Vec<&str> = answer["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|r| r["status"].as_str().or(r["problem"]["code"].as_str()).expect("either"))
        .collect();
    let expected =
        ["completed", "already-reported", "failed", "pending", "pending", "already-reported"];
    assert_eq!(told, expected, "{answer}");
    assert_eq!(answer["jobs"], json!([]), "no claim, no jobs");

    // A claim may wait after its settlements are committed.
    let waiting = json!({"worker_id": "w", "settlements": [
        item(5, json!({"outcome": "completed"}))],
        "claim": {"worker_id": "w", "queues": ["later"], "wait_seconds": 50}});
    let waiting = server.posting("/v1/settlements", waiting, &[]);
    server.job_done(&leases[5].id).await;
    assert!(!waiting.is_finished());
    let later = server.submit(&json!({"kind": "a", "queue": "later"})).await;
    let answer = waiting.await.expect("one").is(200).json;
    assert_eq!(answer["jobs"][0]["job_id"], later);

    // What is wrong in kind refuses the whole, and nothing of it counts.
    let lease = Lease::of(&answer["jobs"][0]);
    let good = json!({"job_id": lease.id, "lease_token": lease.token, "outcome": "completed"});
    for (bad, errors) in [
        (
            json!({"job_id": lease.id, "lease_token": "x", "outcome": "completed"}),
            "/settlements/1/lease_token pattern",
        ),
        (
            json!({"job_id": lease.id, "lease_token": lease.token, "outcome": "done"}),
            "/settlements/1/outcome pattern",
        ),
        (
            json!({"job_id": lease.id, "lease_token": lease.token, "outcome": "failed"}),
            "/settlements/1/error required",
        ),
        (
            json!({"job_id": lease.id, "lease_token": lease.token, "outcome": "cancelled", "result": 1}),
            "/settlements/1/result unknown",
        ),
        (
            json!({"lease_token": lease.token, "outcome": "completed"}),
            "/settlements/1/job_id required",
        ),
        (json!("x"), "/settlements/1 type"),
    ] {
        let body = json!({"worker_id": "w", "settlements": [good, bad]});
        server.post("/v1/settlements", &body).await.wrong(&[errors]);
    }
    assert_eq!(server.job(&lease.id).await["status"], "running");
    let other =
        json!({"worker_id": "w", "settlements": [], "claim": {"worker_id": "v", "queues": ["q"]}});
    server.post("/v1/settlements", &other).await.wrong(&["/claim exclusive"]);
    let lone = json!({"worker_id": "w", "settlements": [], "held": []});
    server.post("/v1/settlements", &lone).await.wrong(&["/held exclusive"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_settlements_and_their_repetitions() {
    let server = Server::start();
    let error = json!({"error": {"type": "t", "message": "m"}});
    let lease = |kind: &'static str| {
        let server = &server;
        async move {
            server.submit(&json!({"kind": kind})).await;
            server.lease("w", "default").await
        }
    };
    let outcomes = [
        ("complete", json!({"result": 1})),
        ("fail", json!({"error": {"type": "t", "message": "m"}, "retry_after_seconds": 600})),
        ("release", json!({"delay_seconds": 600})),
    ];
    for (what, members) in &outcomes {
        let lease = lease("a").await;
        let first = server.with_lease(what, &lease, members).await.is(200);
        let again = server.with_lease(what, &lease, members).await.is(200);
        assert_eq!(again.json, first.json, "{what} again is the same");
        for (other, members) in outcomes.iter().filter(|(other, _)| other != what) {
            let reply = server.with_lease(other, &lease, members).await;
            assert_eq!(reply.problem(409, "already-reported").json["job_id"], lease.id);
        }
        // A sign of life is no report: it is told where the job is.
        let now = if *what == "complete" { "job-already-finished" } else { "lease-expired" };
        server.with_lease("heartbeat", &lease, &json!({})).await.problem(409, now);
    }
    // Repeated after the job has moved on it is still answered, with the job as it is.
    let first = lease("a").await;
    server.fail(&first, json!({"retry_after_seconds": 0})).await;
    let second = server.lease("v", "default").await;
    assert_eq!(second.id, first.id);
    let again = server.with_lease("fail", &first, &error).await.is(200);
    assert_eq!(again.json["status"], "running");
    server.complete(&second, json!(2)).await;
    server.with_lease("release", &first, &json!({})).await.problem(409, "job-already-finished");

    let lease = lease("a").await;
    let far = "x".repeat(2_100);
    for (what, bad, wrong) in [
        ("complete", json!({"results": 1}), "/results unknown"),
        ("complete", json!({"result_location": "http://a/b"}), "/result_location format"),
        (
            "complete",
            json!({"result_location": format!("https://a/{far}")}),
            "/result_location length",
        ),
        (
            "complete",
            json!({"result": 1, "result_location": "https://a/b"}),
            "/result_location exclusive",
        ),
        (
            "complete",
            json!({"result": 1, "result_content_type": "text/csv"}),
            "/result_content_type exclusive",
        ),
        (
            "complete",
            json!({"result_location": "https://a/b", "result_content_type": "a\r\nb: c"}),
            "/result_content_type format",
        ),
        ("fail", json!({}), "/error required"),
        ("fail", json!({"error": {"message": "m"}}), "/error/type required"),
        ("fail", json!({"error": {"type": "t", "message": 5}}), "/error/message type"),
        (
            "fail",
            json!({"error": {"type": "t", "message": "m".repeat(9 << 10), "stack": "s".repeat(9 << 10)}}),
            "/error length",
        ),
        (
            "fail",
            json!({"error": {"type": "t", "message": "m"}, "retryable": 1}),
            "/retryable type",
        ),
        (
            "fail",
            json!({"error": {"type": "t", "message": "m"}, "retry_after_seconds": -1}),
            "/retry_after_seconds range",
        ),
        ("release", json!({"delay_seconds": -1}), "/delay_seconds range"),
        ("release", json!({"reason": "r".repeat(513)}), "/reason length"),
        ("cancelled", json!({"reason": "x"}), "/reason unknown"),
    ] {
        server.with_lease(what, &lease, &bad).await.wrong(&[wrong]);
    }
    for (token, wrong) in [
        (json!(null), "/lease_token type"),
        (json!(7), "/lease_token type"),
        (json!(""), "/lease_token pattern"),
        (json!("x".repeat(10_000)), "/lease_token pattern"),
        (json!("'; DROP TABLE"), "/lease_token pattern"),
    ] {
        let path = format!("/v1/jobs/{}/complete", lease.id);
        server.post(&path, &json!({"lease_token": token})).await.wrong(&[wrong]);
    }
    let path = format!("/v1/jobs/{}/complete", lease.id);
    server.post(&path, &json!({})).await.wrong(&["/lease_token required"]);
    let guess = json!({"lease_token": "AAAAAAAAAAAAAAAAAAAAAA"});
    server.post(&path, &guess).await.problem(409, "lease-lost");
    assert_eq!(server.job(&lease.id).await["status"], "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_tried_again_until_there_are_no_attempts() {
    let server = Server::with(&[("TASKS__SCHEDULER", "50ms")]);
    let backoff = json!({"initial_seconds": 100, "max_seconds": 150, "multiplier": 2, "jitter": 0});
    let id = server.submit(&json!({"kind": "a", "max_attempts": 4, "backoff": backoff})).await;
    let delay = |job: &Value| {
        let at =
            |name: &str| job[name].as_str().expect("one").parse::<jiff::Timestamp>().expect("one");
        at("run_at").duration_since(at("updated_at")).as_secs()
    };
    // By the back-off, which grows up to its limit; by the worker's word; at once.
    let lease = server.lease("w", "default").await;
    let job = server.fail(&lease, json!({})).await;
    assert_eq!(
        (&job["status"], &job["pending_reason"]),
        (&json!("pending"), &json!("retry_backoff"))
    );
    assert_eq!(delay(&job), 100);
    assert!(server.get(&format!("/v1/jobs/{id}")).await.retry_after() >= 100);
    assert_eq!(job["last_error"]["type"], "boom");
    assert_eq!(
        (&job["last_error"]["attempt"], &job["last_error"]["retryable"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(
        server.claims(&json!({"worker_id": "w", "queues": ["default"]})).await["jobs"],
        json!([])
    );

    let id = server
        .submit(&json!({"kind": "a", "queue": "b", "max_attempts": 3, "backoff": backoff}))
        .await;
    let lease = server.lease("w", "b").await;
    let job = server.fail(&lease, json!({"retry_after_seconds": 0.1})).await;
    assert_eq!(job["pending_reason"], "retry_backoff");
    let lease = server.lease("w", "b").await;
    assert_eq!((&lease.json["attempt"], lease.fence), (&json!(2), 2));
    let running = server.job(&id).await;
    assert_eq!(running["last_error"]["attempt"], 1, "an attempt's failure is no error of the job");
    server.fail(&lease, json!({"retry_after_seconds": 0})).await;
    let lease = server.lease("w", "b").await;
    let job = server.fail(&lease, json!({})).await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("failed"), &json!(3)));
    assert_eq!((&job["error"]["attempt"], &job["error"]["type"]), (&json!(3), &json!("boom")));

    // Final is final, whatever is left.
    server.submit(&json!({"kind": "a", "queue": "c", "max_attempts": 100})).await;
    let lease = server.lease("w", "c").await;
    let job = server.fail(&lease, json!({"retryable": false})).await;
    assert_eq!((&job["status"], &job["error"]["retryable"]), (&json!("failed"), &json!(false)));

    // A release never counts, keeps its place, and does not use up attempts.
    let id = server.submit(&json!({"kind": "a", "queue": "d", "max_attempts": 1})).await;
    server.submit(&json!({"kind": "a", "queue": "d"})).await;
    for turn in 1..=5 {
        let lease = server.lease("w", "d").await;
        assert_eq!((&lease.id, lease.fence, &lease.json["attempt"]), (&id, turn, &json!(1)));
        let job = server.with_lease("release", &lease, &json!({})).await.is(200).json;
        assert_eq!((&job["status"], &job["attempt"]), (&json!("pending"), &json!(0)));
        assert_eq!(job["pending_reason"], "queued");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goodbye_gives_everything_back() {
    let server = Server::start();
    for _ in 0..3 {
        server.submit(&json!({"kind": "a"})).await;
    }
    let claim = json!({"worker_id": "host 1/π", "queues": ["default"], "max_jobs": 2});
    let held = server.claims(&claim).await;
    let other = server.lease("other", "default").await;
    let path = "/v1/workers/host%201%2F%CF%80/goodbye";
    server.post_nothing(path).await.is(204);
    server.post(path, &json!({})).await.is(204);
    let leases: Vec<Lease> = held["jobs"].as_array().expect("jobs").iter().map(Lease::of).collect();
    for lease in &leases {
        let job = server.job(&lease.id).await;
        assert_eq!((&job["status"], &job["attempt"]), (&json!("pending"), &json!(0)));
        server.with_lease("complete", lease, &json!({})).await.problem(409, "lease-expired");
    }
    server.with_lease("heartbeat", &other, &json!({})).await.is(200);
    let workers = server.get("/v1/workers").await.is(200).json.to_string();
    assert!(!workers.contains("host 1"), "{workers}");
    server.post_nothing("/v1/workers/never.seen/goodbye").await.is(204);
    let long = format!("/v1/workers/{}/goodbye", "w".repeat(513));
    server.post_nothing(&long).await.wrong(&["/worker_id length"]);
    server.post("/v1/workers/w/goodbye", &json!({"now": true})).await.wrong(&["/now unknown"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_worker_loses_its_lease_and_its_token() {
    let server = Server::with(&[("TASKS__REAPER", "100ms")]);
    let claim = |worker: &str| json!({"worker_id": worker, "queues": ["default"], "lease_seconds": 1, "wait_seconds": 30});
    // Dead on every attempt: the job ends as failed, and not never.
    let id = server.submit(&json!({"kind": "a", "max_attempts": 3})).await;
    let mut stale: Vec<Lease> = Vec::new();
    for attempt in 1..=3 {
        let lease = server.lease_by(&claim(&format!("dead{attempt}"))).await;
        assert_eq!((&lease.id, lease.fence), (&id, attempt));
        for old in &stale {
            let reply = server.with_lease("complete", old, &json!({"result": "stale"})).await;
            reply.problem(409, "lease-lost");
            server.with_lease("heartbeat", old, &json!({})).await.problem(409, "lease-lost");
        }
        stale.push(lease);
    }
    let job = server.job_done(&id).await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("failed"), &json!(3)));
    assert_eq!(job["error"]["type"], "lease-expired");
    let attempts = job["attempts"].as_array().expect("attempts");
    assert!(attempts.iter().all(|a| a["outcome"] == "lease_expired"), "{job}");
    for old in &stale {
        for (what, members) in [
            ("complete", json!({"result": "stale"})),
            ("fail", json!({"error": {"type": "t", "message": "m"}})),
            ("release", json!({})),
            ("cancelled", json!({})),
            ("heartbeat", json!({})),
        ] {
            let reply = server.with_lease(what, old, &members).await;
            reply.problem(409, "job-already-finished");
        }
    }
    let still = server.job(&id).await;
    assert_eq!(still, job, "a stale token changes nothing");

    // Taken back and held by nobody. (The queue is paused, so that nobody takes it.)
    let id = server.submit(&json!({"kind": "a"})).await;
    let lease = server.lease_by(&claim("w")).await;
    server.post_nothing("/v1/queues/default/pause").await.is(200);
    let job = server.job_when(&id, |job| job["status"] == "pending").await;
    assert_eq!((&job["attempt"], &job["last_error"]["type"]), (&json!(1), &json!("lease-expired")));
    server.with_lease("complete", &lease, &json!({})).await.problem(409, "lease-expired");
    server.post_nothing("/v1/queues/default/resume").await.is(200);
    let next = server.lease("v", "default").await;
    server.complete(&next, json!("the second's")).await;

    // Heartbeats keep a lease, and do not help against the hard limit.
    let id = server.submit(&json!({"kind": "a", "timeout_seconds": 2, "max_attempts": 1})).await;
    let lease = server.lease_by(&claim("w")).await;
    let beats = crate::server::until("the hard limit", || async {
        let reply = server.with_lease("heartbeat", &lease, &json!({})).await;
        (reply.status != 200).then_some(reply)
    })
    .await;
    beats.problem(409, "job-already-finished");
    let job = server.job(&id).await;
    assert_eq!(
        (&job["status"], &job["error"]["type"]),
        (&json!("failed"), &json!("attempt-timeout"))
    );
    assert_eq!(job["attempts"][0]["outcome"], "timed_out");
    let at = |name: &str| job[name].as_str().expect("one").parse::<jiff::Timestamp>().expect("one");
    let ran = at("finished_at").duration_since(at("started_at"));
    assert!(ran.as_millis() >= 2_000, "not before its time: {ran:?}");
    let taken = server.metrics().await;
    let queue = "queue=\"default\"";
    let count = |cause: &str| taken.sum("punctual_leases_taken_back_total", &[queue, cause]);
    assert_eq!((count("worker_silent") as u64, count("hard_timeout") as u64), (4, 1));
}
