//! R19 and R196: what is the server's own. R195: what a token for some kinds is for.

use serde_json::{Value, json};

use crate::book::Book;
use crate::guarded::Guarded;
use crate::kit::{Lease, Stand, until};

/// A server whose canaries come back all the time.
fn with_canaries() -> Stand {
    let often = ["TASKS__CANARY", "TASKS__SAMPLER", "TASKS__RECONCILE", "WATCHDOG__INTERVAL"];
    let stand = Stand::configured(&often.map(|key| (key, "100ms")), "");
    until("canaries", || {
        (stand.metric("punctual_canary_duration_seconds_count") > 3.5).then_some(())
    });
    stand
}

pub fn checks(book: &mut Book) {
    book.rule("R19", |_| {
        let stand = with_canaries();
        for name in ["jobs", "queues", "kinds", "workers", "episodes"] {
            let list = stand.get(&format!("/v1/{name}"), &[]).is(200).json;
            assert_eq!(list[name], json!([]), "{name}");
        }
        for queue in ["_canary", "_"] {
            let path = format!("/v1/queues/{queue}");
            stand.get(&path, &[]).problem(404, "no-such-queue");
            stand.get(&format!("{path}/explain"), &[]).problem(404, "no-such-queue");
        }
        let claim = json!({"worker_id": "w", "queues": ["_canary"]});
        stand.post("/v1/claims", claim, &[]).problem(422, "validation-failed");
    });
    book.rule("R196", |_| {
        let stand = with_canaries();
        let text = stand.get("/metrics", &[]).is(200).text();
        assert!(!text.contains("_canary\"") && !text.contains("system."), "{text}");
        for metric in [
            "punctual_job_submissions_total",
            "punctual_attempts_started_total",
            "punctual_attempts_finished_total",
            "punctual_jobs_finished_total",
            "punctual_claim_requests_total",
            "punctual_job_wait_seconds_count",
            "punctual_jobs",
            "punctual_canary_failures_total",
        ] {
            assert!(stand.metric(metric).abs() < 0.5, "{metric}");
        }
    });
    book.rule("R195", |_| {
        let server = Guarded::start();
        let job = |kind: &str| json!({"kind": kind, "queue": "q"});
        let theirs = server.put_by("submit", job("theirs"));
        let mine = server.put_by("kinds", job("mine"));
        let refused = server.by("kinds", "POST", "/v1/jobs", Some(job("theirs")));
        refused.problem(403, "insufficient-scope");
        let batch = json!({"jobs": [job("mine"), job("theirs")]});
        let refused = server.by("kinds", "POST", "/v1/jobs/batch", Some(batch));
        refused.problem(403, "insufficient-scope");
        for (method, end) in [("GET", ""), ("GET", "/result"), ("POST", "/cancel"), ("DELETE", "")]
        {
            let path = format!("/v1/jobs/{theirs}{end}");
            let refused = server.by("kinds", method, &path, None);
            refused.problem(403, "insufficient-scope");
        }
        let list = server.by("kinds", "GET", "/v1/jobs", None).is(200).json;
        let ids: Vec<&Value> =
            list["jobs"].as_array().expect("jobs").iter().map(|job| &job["job_id"]).collect();
        assert_eq!(ids, [&json!(mine)]);
        let claim = |kinds: Option<&str>| {
            let mut claim = json!({"worker_id": "w", "queues": ["q"], "max_jobs": 9});
            if let Some(kind) = kinds {
                claim["kinds"] = json!([kind]);
            }
            server.by("kinds", "POST", "/v1/claims", Some(claim))
        };
        claim(Some("theirs")).problem(403, "insufficient-scope");
        // Without a word about kinds it asks for its own.
        let given = claim(None).is(200).json["jobs"].clone();
        assert_eq!(given.as_array().map(Vec::len), Some(1), "{given}");
        assert_eq!(Lease::of(&given[0]).id, mine);
    });
}
