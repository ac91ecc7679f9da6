//! Settings of a queue that change while the server runs, and workers that are sent away.

use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{Reply, Server};
use crate::server::until;

impl Server {
    async fn patch(&self, queue: &str, patch: &Value, headers: &[(&str, &str)]) -> Reply {
        let request = self.request(Method::PATCH, &format!("/v1/queues/{queue}")).json(patch);
        self.send(crate::kit::with(request, headers)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_hold_at_once_and_over_the_file() {
    let file = "[queues.q]\nmax_depth = 2\nlease = \"40s\"\n";
    let server = Server::configured(&[], file);
    let queue = server.get("/v1/queues/q").await.is(200);
    assert_eq!((queue.header("etag"), &queue.json["revision"]), (Some("\"0\""), &json!(0)));
    assert_eq!(queue.header("cache-control"), Some("no-store"));
    assert_eq!(queue.json["settings"]["lease_seconds"], 40.0);
    assert!(queue.json.get("overrides").is_none(), "{}", queue.json);

    let patch = json!({"max_depth": 1, "lease_seconds": 50, "stuck_after_seconds": "off",
                       "backoff": {"max_seconds": 900.5}});
    let set = server.patch("q", &patch, &[]).await.is(200);
    assert_eq!((set.header("etag"), &set.json["limits"]["max_depth"]), (Some("\"1\""), &json!(1)));
    assert!(set.json["limits"].get("stuck_after_seconds").is_none(), "{}", set.json);
    let settings = &set.json["settings"];
    assert_eq!(
        (&settings["lease_seconds"], &settings["backoff"]["max_seconds"]),
        (&json!(50.0), &json!(900.5))
    );
    assert_eq!(settings["backoff"]["initial_seconds"], 5.0, "as configured");
    let over = &set.json["overrides"];
    for (member, value) in [
        ("max_depth", json!(1)),
        ("lease_seconds", json!(50)),
        ("stuck_after_seconds", json!("off")),
        ("backoff.max_seconds", json!(900.5)),
    ] {
        assert_eq!((&over[member]["value"], &over[member]["set_by"]), (&value, &json!("operator")));
        assert!(crate::jobs::is_moment(over[member]["set_at"].as_str().expect("when")));
    }
    let job = json!({"kind": "a", "queue": "q"});
    server.submit(&job).await;
    server.post("/v1/jobs", &job).await.problem(503, "queue-full");
    let lease = server.lease("w", "q").await;
    assert_eq!(lease.json["lease_seconds"], 50.0);

    // Counts are no part of the tag, and what changes nothing is no change.
    let same = server.patch("q", &json!({"max_depth": 1}), &[("If-Match", "\"1\"")]).await.is(200);
    assert_eq!(same.header("etag"), Some("\"1\""));
    let paused = server.post_nothing("/v1/queues/q/pause").await.is(200);
    assert_eq!(paused.header("etag"), Some("\"2\""), "a pause is a change");
    let resumed = server.post_nothing("/v1/queues/q/resume").await.is(200);
    assert_eq!(resumed.header("etag"), Some("\"3\""));

    // Through a crash, and until it is taken back.
    let server = server.restart_after_kill();
    let log = server.process.log();
    let told = log
        .lines()
        .any(|l| l.contains("override") && l.contains("max_depth") && l.contains("operator"));
    assert!(told, "{log}");
    let queue = server.get("/v1/queues/q").await.is(200);
    assert_eq!((queue.header("etag"), &queue.json["overrides"]), (Some("\"3\""), over));
    assert_eq!((&queue.json["limits"], &queue.json["settings"]), (&set.json["limits"], settings));
    let back = json!({"max_depth": null, "lease_seconds": null, "stuck_after_seconds": null, "backoff": null});
    let back = server.patch("q", &back, &[]).await.is(200).json;
    assert_eq!(
        (&back["limits"]["max_depth"], &back["settings"]["lease_seconds"]),
        (&json!(2), &json!(40.0))
    );
    assert!(back.get("overrides").is_none(), "{back}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patch_is_for_a_revision_and_understood_whole() {
    let server = Server::start();
    let limit = json!({"max_running": 3});
    for absent in ["*", "\"0\""] {
        let refused = server.patch("new", &limit, &[("If-Match", absent)]).await;
        refused.problem(412, "precondition-failed");
    }
    server.get("/v1/queues/new").await.problem(404, "no-such-queue");
    let merge = [("Content-Type", "application/merge-patch+json")];
    let request = server.request(Method::PATCH, "/v1/queues/new").body(limit.to_string());
    let set = server.send(crate::kit::with(request, &merge)).await.is(200);
    assert_eq!(set.json["limits"]["max_running"], 3, "also one that was never used");
    for stale in ["\"0\"", "W/\"1\"", "\"x\"", "1"] {
        let refused = server.patch("new", &json!({"max_running": 9}), &[("If-Match", stale)]).await;
        refused.problem(412, "precondition-failed");
    }
    let both = [("If-Match", "\"7\", \"1\"")];
    let set = server.patch("new", &json!({"max_running": 4}), &both).await.is(200);
    assert_eq!(
        (set.header("etag"), &set.json["limits"]["max_running"]),
        (Some("\"2\""), &json!(4))
    );

    for (patch, error) in [
        (json!({"max_running": 0}), "/max_running range"),
        (json!({"max_running": 5, "max_deph": 1}), "/max_deph unknown"),
        (json!({"lease_seconds": "off"}), "/lease_seconds type"),
        (json!({"lease_seconds": 3601}), "/lease_seconds range"),
        (json!({"start_rate_per_second": 0}), "/start_rate_per_second range"),
        (json!({"require_idempotency_key": 1}), "/require_idempotency_key type"),
        (json!({"retry_after": {"quantile": 0.96}}), "/retry_after/quantile range"),
        (json!({"backoff": {"initial_seconds": 700}}), "/backoff/initial_seconds range"),
        (json!({"retention_seconds": {"failed": 0.5}}), "/retention_seconds/failed range"),
    ] {
        server.patch("new", &patch, &[]).await.wrong(&[error]);
    }
    let after = server.get("/v1/queues/new").await.is(200);
    assert_eq!(
        (after.header("etag"), &after.json["limits"]["max_running"]),
        (Some("\"2\""), &json!(4))
    );

    let text = server.request(Method::PATCH, "/v1/queues/new").header("Content-Type", "text/plain");
    let refused = server.send(text.body("{}")).await.problem(415, "unsupported-media-type");
    let known = "application/merge-patch+json, application/json";
    assert_eq!(refused.header("accept-patch"), Some(known));
    for bad in ["Q", "_internal"] {
        server.patch(bad, &limit, &[]).await.problem(404, "no-such-queue");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_may_ask_for_keys() {
    let server = Server::configured(&[], "[queues.q]\nrequire_idempotency_key = true\n");
    let job = json!({"kind": "a", "queue": "q"});
    let refused = server.post("/v1/jobs", &job).await.problem(400, "idempotency-key-required");
    let link = "</problems/idempotency-key-required>; rel=\"describedby\"";
    assert_eq!(refused.header("link"), Some(link));
    assert!(refused.json["detail"].as_str().expect("words").contains("Idempotency-Key"));
    server.post_with("/v1/jobs", &job, &[("Idempotency-Key", "k")]).await.is(202);
    server.post("/v1/jobs", &json!({"kind": "a"})).await.is(202);
    let jobs = json!({"jobs": [job, {"kind": "a"}, {"kind": "a", "queue": "q", "idempotency_key": "i"}, job]});
    let refused =
        server.post("/v1/jobs/batch", &jobs).await.problem(400, "idempotency-key-required");
    let expected = ["/jobs/0/idempotency_key required", "/jobs/3/idempotency_key required"];
    assert_eq!(refused.errors(), expected);
    let queue = server.get("/v1/queues/q").await.is(200).json;
    assert_eq!(queue["jobs"]["eligible"], 1, "of the batch nothing");
    let off = json!({"require_idempotency_key": false, "retry_after": {"quantile": 0.25}});
    let queue = server.patch("q", &off, &[]).await.is(200).json;
    assert_eq!(queue["settings"]["require_idempotency_key"], false);
    assert_eq!(queue["settings"]["retry_after"]["quantile"], 0.25);
    assert_eq!(queue["overrides"]["retry_after.quantile"]["value"], 0.25);
    server.post("/v1/jobs", &job).await.is(202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_rereads_what_queues_get_and_refuses_a_bad_file_whole() {
    let server = Server::configured(&[], "[queues.q]\nmax_running = 3\n");
    let file = server.dir.path().join("punctual.toml");
    server.patch("q", &json!({"max_depth": 9}), &[]).await.is(200);
    std::fs::write(&file, "[server]\nshutdown_grace = \"7s\"\n[jobs]\nlease = \"50s\"\n[queues.q]\nmax_running = 4\nmax_depth = 5\n").expect("the file");
    let hash = async || {
        let text = server.get("/metrics").await.is(200).text();
        let line = text.lines().find(|l| l.starts_with("punctual_config_info{"));
        line.expect("the hash").to_owned()
    };
    let before = hash().await;
    server.process.signal("HUP");
    let limits = until("the new limits", || async {
        let queue = server.get("/v1/queues/q").await.is(200).json;
        (queue["limits"]["max_running"] == 4).then_some(queue)
    })
    .await;
    assert_eq!(limits["limits"]["max_depth"], 9, "overridden");
    assert_eq!(limits["settings"]["lease_seconds"], 50.0);
    until("the new hash", || async { (hash().await != before).then_some(()) }).await;
    until("the warning", || async {
        let log = server.process.log();
        let named = |l: &str| {
            l.contains("WARN") && l.contains("restart") && l.contains("server.shutdown_grace")
        };
        log.lines().any(named).then_some(())
    })
    .await;

    std::fs::write(&file, "[jobs]\nlease = \"60s\"\nleese = \"1s\"\n[queues.q]\nmax_running = 0\n")
        .expect("the file");
    server.process.signal("HUP");
    until("the refusal", || async {
        let log = server.process.log();
        let all = ["jobs.leese", "queues.q.max_running", "refused"];
        all.iter().all(|part| log.contains(part)).then_some(())
    })
    .await;
    let queue = server.get("/v1/queues/q").await.is(200).json;
    assert_eq!((&queue["limits"], &queue["settings"]), (&limits["limits"], &limits["settings"]));
    server.is_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_sent_away_hears_it_everywhere() {
    let server = Server::start();
    server.post_nothing("/v1/workers/w/drain").await.problem(404, "no-such-worker");
    let first = server.submit(&json!({"kind": "a", "queue": "q"})).await;
    let lease = server.lease("w", "q").await;
    assert_eq!(lease.id, first);
    let claim = json!({"worker_id": "w", "queues": ["q"], "wait_seconds": 50});
    let parked = server.posting("/v1/claims", claim, &[]);
    server.in_flight("POST", 1).await;
    let drained = server.post_nothing("/v1/workers/w/drain").await.is(200).json;
    assert_eq!((&drained["directive"], &drained["leases"]), (&json!("drain"), &json!(1)));
    let answer = parked.await.expect("one").is(200).json;
    assert_eq!((&answer["directive"], &answer["jobs"]), (&json!("drain"), &json!([])));
    server.post("/v1/workers/w/drain", &json!({"now": 1})).await.wrong(&["/now unknown"]);

    let server = server.restart_after_kill();
    server.submit(&json!({"kind": "a", "queue": "q"})).await;
    let listed = server.get("/v1/workers").await.is(200).json;
    assert_eq!(listed["workers"][0]["directive"], "drain", "also after a restart");
    until("the presence to be known", || async {
        let path = format!("/v1/jobs/{}/heartbeat", lease.id);
        let beat = server.post(&path, &json!({"lease_token": lease.token})).await.is(200);
        (beat.json["directive"] == "drain").then_some(())
    })
    .await;
    let claim = json!({"worker_id": "w", "queues": ["q"], "wait_seconds": 50});
    let claimed = server.claims(&claim).await;
    assert_eq!((&claimed["directive"], &claimed["jobs"]), (&json!("drain"), &json!([])));
    let beats =
        json!({"worker_id": "w", "leases": [{"job_id": lease.id, "lease_token": lease.token}]});
    assert_eq!(server.post("/v1/heartbeats", &beats).await.is(200).json["directive"], "drain");
    let settlement =
        json!({"job_id": lease.id, "lease_token": lease.token, "outcome": "completed"});
    let settle = json!({"worker_id": "w", "settlements": [settlement],
                        "claim": {"worker_id": "w", "queues": ["q"], "wait_seconds": 50}});
    let settled = server.post("/v1/settlements", &settle).await.is(200).json;
    assert_eq!((&settled["directive"], &settled["jobs"]), (&json!("drain"), &json!([])));
    assert_eq!(settled["results"][0]["ok"], true);
    // It was told; a loop of claims goes no faster than a second each, by the server's clock.
    let started = server.claims(&claim).await["server_time"].clone();
    let kept = server.claims(&claim).await;
    assert_eq!((&kept["directive"], &kept["jobs"]), (&json!("drain"), &json!([])));
    let at =
        |v: &Value| v.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()).expect("a time");
    let apart = at(&kept["server_time"]).duration_since(at(&started));
    assert!(apart >= jiff::SignedDuration::from_millis(900), "{apart}");
    // Others go on, and after its goodbye it is a stranger.
    server.post_nothing("/v1/workers/w/goodbye").await.is(204);
    server.post_nothing("/v1/workers/w/drain").await.problem(404, "no-such-worker");
    server.lease("w", "q").await;
}
