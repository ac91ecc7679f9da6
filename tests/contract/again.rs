//! R198–R203, and R39 of results: which refusal a late worker hears, delays between attempts, what a retry may
//! change, batches of heartbeats, and what the server says where.

use serde_json::{Value, json};

use crate::book::Book;
use crate::kit::{Client, Lease, Stand, in_millis, moment};

pub fn checks(book: &mut Book) {
    book.rule("R198", |at| {
        let first = at.taken(json!({}));
        at.fail(&first, json!({"retry_after_seconds": 0}));
        let second = at.take();
        assert_eq!(second.id, first.id);
        // It settled the job itself; that another holds it by now comes second.
        at.with("complete", &first, json!({})).problem(409, "already-reported");
        at.complete(&second, json!(1));
        at.with("release", &second, json!({})).problem(409, "already-reported");
        // The settlement before the last is not remembered; that the job is done is.
        at.with("complete", &first, json!({})).problem(409, "job-already-finished");
    });
    book.rule("R199", |at| {
        let backoff = json!({"initial_seconds": 0.25, "max_seconds": 0.75, "multiplier": 2,
                             "jitter": 0});
        at.put(json!({"max_attempts": 9, "backoff": backoff}));
        let delay = |job: &Value| {
            moment(&job["run_at"]).duration_since(moment(&job["updated_at"])).as_millis()
        };
        let delays = [0.0; 3].map(|_| delay(&at.fail(&at.take(), json!({}))));
        assert_eq!(delays, [250, 500, 750]);
        let job = at.fail(&at.take(), json!({"retry_after_seconds": 700}));
        assert_eq!(delay(&job), 700_000, "the worker knows better");
    });
    book.rule("R200", |at| {
        let members = json!({"priority": 3, "payload": [1], "tags": ["t"], "max_attempts": 7,
                             "metadata": {"tenant": "acme"}});
        let lease = at.taken(members);
        let old = at.fail(&lease, json!({"retryable": false}));
        let path = format!("/v1/jobs/{}/retry", lease.id);
        let elsewhere = format!("{}.other", at.queue);
        let run_at = in_millis(900_000);
        let changes = json!({"priority": -5, "queue": elsewhere, "run_at": run_at});
        let new = at.post(&path, changes, &[]).is(201).json;
        for (name, value) in [
            ("priority", json!(-5)),
            ("queue", json!(elsewhere)),
            ("run_at", json!(run_at)),
            ("pending_reason", json!("scheduled")),
            ("attempt", json!(0)),
        ] {
            assert_eq!(new[name], value, "{name}");
        }
        for name in ["kind", "tags", "max_attempts", "metadata"] {
            assert!(new[name] == old[name] && !new[name].is_null(), "{name}: {new}");
        }
        at.post(&path, json!({"kind": "b"}), &[]).problem(422, "validation-failed");
    });
    book.rule("R201", |at| {
        let (held, settled) = (at.taken(json!({})), at.taken(json!({})));
        at.complete(&settled, json!(1));
        let beat = |lease: &Lease| {
            json!({"job_id": lease.id, "lease_token": lease.token, "progress": {"percent": 50}})
        };
        let mut unknown = beat(&held);
        unknown["job_id"] = json!("nonsense");
        let leases = json!([beat(&settled), unknown, beat(&held)]);
        let body = json!({"worker_id": at.queue, "leases": leases});
        let told = at.post("/v1/heartbeats", body, &[]).is(200).json;
        let results = told["results"].as_array().expect("results");
        let told: Vec<Value> =
            results.iter().map(|r| json!([r["job_id"], r["ok"], r["problem"]["code"]])).collect();
        let expected = json!([
            [settled.id, false, "job-already-finished"],
            ["nonsense", false, "no-such-job"],
            [held.id, true, null]
        ]);
        assert_eq!(json!(told), expected);
        assert!(results[2]["lease_expires_at"].is_string(), "{}", results[2]);
        assert_eq!(at.job(&held.id)["progress"]["percent"], 50.0);
    });
    book.rule("R202", |_| {
        let stand = Stand::configured(&[("SERVER__METRICS_LISTEN", "127.0.0.1:0")], "");
        let log = stand.process.log();
        let (_, rest) = log.split_once("metrics on http://127.0.0.1:").expect("it is told");
        let port = rest.split_once('/').expect("a path").0.parse().expect("a port");
        let second = Client::new(port);
        second.get("/metrics", &[]).is(200);
        second.get("/livez", &[]).is(200);
        second.get("/readyz", &[]).is(200);
        stand.get("/metrics", &[]).problem(404, "no-such-route");
        stand.get("/readyz", &[]).is(200);
        for path in ["/v1/jobs", "/v1/meta", "/"] {
            second.get(path, &[]).problem(404, "no-such-route");
        }
    });
    book.rule("R203", |_| {
        let stand = Stand::configured(&[], "");
        let headers = [("Content-Type", "application/merge-patch+json")];
        stand.ask("PATCH", "/v1/queues/q", &headers, br#"{"max_depth":7}"#).is(200);
        let stand = stand.killed();
        let log = stand.process.log();
        let line = log.lines().find(|line| line.contains("max_depth")).expect("a line");
        for part in ["queue=q", "value=7", "set_by="] {
            assert!(line.contains(part), "{part}: {line}");
        }
    });
    book.rule("R39", |at| {
        let lease = at.taken(json!({}));
        at.complete(&lease, json!({"pages": 10}));
        let path = format!("/v1/jobs/{}/result", lease.id);
        let (read, head) = (at.get(&path, &[]).is(200), at.ask("HEAD", &path, &[], b"").is(200));
        assert!(head.bytes.is_empty() && !read.bytes.is_empty());
        for name in ["etag", "content-type", "content-length", "x-content-type-options"] {
            assert!(
                read.header(name).is_some() && head.header(name) == read.header(name),
                "{name}"
            );
        }
        let id = at.put(json!({}));
        at.ask("HEAD", &format!("/v1/jobs/{id}/result"), &[], b"").is(409).retry_after();
    });
}
