//! R101–R121: leases, fences, and what a stale worker can do: nothing.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::book::Book;
use crate::kit::{Lease, Stand, in_millis, moment, soon, until};

fn ids(answer: &Value) -> Vec<String> {
    let jobs = answer["jobs"].as_array().expect("jobs");
    jobs.iter().map(|j| j["job_id"].as_str().expect("an id").to_owned()).collect()
}

pub fn checks(book: &mut Book) {
    book.rule("R101", |at| {
        let id = at.put(json!({"payload": [1], "metadata": {"tenant": "acme"}, "max_attempts": 3}));
        let lease = at.take();
        for (name, value) in [
            ("job_id", json!(id)),
            ("payload", json!([1])),
            ("attempt", json!(1)),
            ("max_attempts", json!(3)),
            ("kind", json!("a")),
            ("queue", json!(at.queue)),
            ("root_job_id", json!(id)),
            ("metadata", json!({"tenant": "acme"})),
        ] {
            assert_eq!(lease.json[name], value, "{name}");
        }
        assert!(lease.json["lease_expires_at"].is_string() && lease.json["timeout_at"].is_string());
        assert_eq!(at.job(&id)["status"], "running");
    });
    book.rule("R102", |at| {
        let jobs = vec![at.body(json!({})); 40];
        at.post("/v1/jobs/batch", json!({"jobs": jobs}), &[]).is(202);
        let crowd: Vec<_> = (0..12)
            .map(|n| {
                let body = at.asks(json!({"worker_id": format!("r102.{n}"), "max_jobs": 5}));
                at.later(move |c| c.post("/v1/claims", body, &[]))
            })
            .collect();
        let given: Vec<String> =
            crowd.into_iter().flat_map(|c| ids(&soon(c).is(200).json)).collect();
        assert_eq!(given.len(), 40);
        assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 40);
    });
    book.rule("R103", |at| {
        let answered = |wait: f64| {
            let claim = at.asks(json!({"wait_seconds": wait}));
            let reply = soon(at.later(move |c| c.post("/v1/claims", claim, &[]))).is(200);
            assert_eq!(reply.json["jobs"], json!([]));
            moment(&reply.json["server_time"])
        };
        let (at_once, held) = (answered(0.0), answered(1.5));
        let held = held.duration_since(at_once);
        assert!(held.as_millis() >= 1_500, "it was held for {held:#}");
    });
    book.rule("R104", |at| {
        let park = |n: u32| {
            at.parked(at.asks(json!({"worker_id": format!("r104.{n}"), "wait_seconds": 50})))
        };
        let (first, second) = (park(1), park(2));
        let one = at.put(json!({}));
        assert_eq!(ids(&soon(first).is(200).json), [one]);
        assert!(!second.is_finished());
        let two = at.put(json!({}));
        assert_eq!(ids(&soon(second).is(200).json), [two]);
    });
    book.rule("R105", |at| {
        let other = format!("{}.other", at.queue);
        let first = at.submit(json!({"kind": "a", "queue": other, "priority": 100}));
        let low = at.put(json!({"priority": -1}));
        let (one, two) = (at.put(json!({})), at.put(json!({})));
        let high = at.put(json!({"priority": 9}));
        let claim = at.asks(json!({"queues": [at.queue, other], "max_jobs": 9}));
        assert_eq!(ids(&at.claim(claim)), [high, one, two, low, first]);
    });
    book.rule("R106", |at| {
        at.put(json!({"kind": "common"}));
        let rare = at.put(json!({"kind": "rare"}));
        let claim = at.asks(json!({"kinds": ["rare", "never"], "max_jobs": 9}));
        assert_eq!(ids(&at.claim(claim)), [rare]);
    });
    book.rule("R107", |at| {
        let lease = at.taken(json!({}));
        let second = at.put(json!({}));
        at.with("release", &lease, json!({})).is(200);
        assert_eq!(at.take().id, lease.id);
        assert_eq!(at.take().id, second);
    });
    book.rule("R108", |at| {
        let lease = at.taken(json!({}));
        let expiry = |members: Value| {
            let beat = at.with("heartbeat", &lease, members).is(200).json;
            assert_eq!(beat["timeout_at"], lease.json["timeout_at"]);
            beat["lease_expires_at"].as_str().expect("a moment").to_owned()
        };
        let longer = expiry(json!({"extend_seconds": 600}));
        assert!(Some(longer.as_str()) > lease.json["lease_expires_at"].as_str());
        assert!(expiry(json!({"extend_seconds": 1})) >= longer);
    });
    book.rule("R109", |_| {
        let stand = Stand::configured(&[("TASKS__REAPER", "1m")], "");
        stand.submit(json!({"kind": "a", "max_attempts": 1}));
        let claim = json!({"worker_id": "w", "queues": ["default"], "lease_seconds": 1});
        let lease = stand.lease_by(claim);
        let ends = lease.json["lease_expires_at"].as_str().expect("a moment").to_owned();
        until("the lease to run out", || (in_millis(-200) > ends).then_some(()));
        assert_eq!(stand.complete(&lease, json!("late"))["status"], "completed");
    });
    book.rule("R110", |at| {
        let error = json!({"error": {"type": "t", "message": "m"}, "retry_after_seconds": 900});
        let outcomes = [
            ("complete", json!({"result": 1})),
            ("fail", error),
            ("release", json!({"delay_seconds": 900})),
        ];
        for (what, members) in &outcomes {
            let lease = at.taken(json!({}));
            let first = at.with(what, &lease, members.clone()).is(200);
            assert_eq!(at.with(what, &lease, members.clone()).is(200).json, first.json);
            for (other, members) in outcomes.iter().filter(|(other, _)| other != what) {
                let reply = at.with(other, &lease, members.clone());
                reply.problem(409, "already-reported");
            }
        }
    });
    book.rule("R111", |at| {
        at.put(json!({}));
        let stale = at.lease_by(at.asks(json!({"lease_seconds": 1})));
        let next = at.take();
        assert_eq!(next.id, stale.id);
        for what in ["complete", "release", "heartbeat"] {
            at.with(what, &stale, json!({})).problem(409, "lease-lost");
        }
        assert_eq!(at.job(&next.id)["status"], "running");
        at.nothing(&format!("/v1/workers/{}/goodbye", at.queue)).is(204);
        at.with("complete", &next, json!({})).problem(409, "lease-expired");
        let last = at.take();
        at.complete(&last, json!("the holder's"));
        at.with("complete", &stale, json!({"result": "the stale one's"}))
            .problem(409, "job-already-finished");
        assert_eq!(at.job(&last.id)["result"], "the holder's");
    });
    book.rule("R165", |at| {
        let error = json!({"error": {"type": "t", "message": "m"}, "retry_after_seconds": 0});
        let done = at.taken(json!({}));
        at.complete(&done, json!(1));
        at.with("heartbeat", &done, json!({})).problem(409, "job-already-finished");
        let given = at.taken(json!({}));
        at.with("release", &given, json!({})).is(200);
        at.with("heartbeat", &given, json!({})).problem(409, "lease-expired");
        let failed = at.take();
        at.with("fail", &failed, error).is(200);
        let next = at.take();
        assert_eq!(next.id, failed.id);
        let leases: Vec<Value> =
            [&done, &failed, &next].map(|l| json!({"job_id": l.id, "lease_token": l.token})).into();
        let body = json!({"worker_id": at.queue, "leases": leases});
        let told = at.post("/v1/heartbeats", body, &[]).is(200).json;
        let code = |n: usize| told["results"][n]["problem"]["code"].as_str();
        assert_eq!(
            (code(0), code(1), code(2)),
            (Some("job-already-finished"), Some("lease-lost"), None)
        );
    });
    book.rule("R168", |at| {
        for (name, value) in [("kinds", json!([])), ("concurrency", json!(0))] {
            let reply = at.post("/v1/claims", at.asks(json!({name: value})), &[]);
            let reply = reply.problem(422, "validation-failed");
            assert!(reply.errors()[0].starts_with(&format!("/{name}")), "{}", reply.json);
        }
        at.post("/v1/claims", at.asks(json!({"concurrency": 1})), &[]).is(200);
    });
    book.rule("R112", |_| {
        let mut stand = Stand::start();
        stand.submit(json!({"kind": "a"}));
        let mut last = 0;
        for _ in 0..3 {
            let lease = stand.lease("w", "default");
            assert!(lease.fence > last, "{}", lease.json);
            last = lease.fence;
            stand = stand.killed();
            stand.with("release", &lease, json!({})).is(200);
        }
    });
    book.rule("R113", |_| {
        let stand = Stand::configured(&[("TASKS__REAPER", "50ms")], "");
        let lease = |queue: &str, seconds: u32| {
            stand.submit(json!({"kind": "a", "queue": queue, "max_attempts": 1}));
            let claim = json!({"worker_id": "w", "queues": [queue], "lease_seconds": seconds});
            stand.lease_by(claim)
        };
        let (long, late, silent) = (lease("long", 60), lease("late", 60), lease("silent", 3));
        let ends = silent.json["lease_expires_at"].as_str().expect("a moment").to_owned();
        let Stand { client, process, launch, dir } = stand;
        process.kill();
        until("the shortest lease to run out", || (in_millis(-100) > ends).then_some(()));
        let (a_minute_on, three_seconds_on) = (in_millis(60_000), in_millis(3_000));
        let process = launch.start();
        client.reaped();
        // A heartbeat never shortens: it shows what the start has given.
        let beat = client.with("heartbeat", &long, json!({"extend_seconds": 1})).is(200).json;
        assert!(beat["lease_expires_at"].as_str() >= Some(&*a_minute_on), "{beat}");
        assert_eq!(client.complete(&late, json!(1))["attempt"], 1);
        // And a worker that is gone is not waited for any longer.
        let job = client.done(&silent.id);
        assert_eq!(job["error"]["type"], "lease-expired");
        assert!(job["finished_at"].as_str() >= Some(&*three_seconds_on), "{job}");
        drop((process, dir));
    });
    book.rule("R114", |at| {
        let (one, two) = (at.taken(json!({})), at.taken(json!({})));
        at.nothing(&format!("/v1/workers/{}/goodbye", at.queue)).is(204);
        for lease in [&one, &two] {
            let job = at.job(&lease.id);
            assert_eq!((&job["status"], &job["attempt"]), (&json!("pending"), &json!(0)));
        }
    });
    book.rule("R115", |at| {
        let (kept, lost) = (at.taken(json!({})), at.taken(json!({})));
        at.put(json!({}));
        let other = at.lease("r115.other", &at.queue);
        let again = at.lease_by(at.asks(json!({"held": [kept.id]})));
        assert_eq!((&again.id, &again.json["attempt"]), (&lost.id, &json!(1)));
        at.with("complete", &lost, json!({})).problem(409, "lease-lost");
        at.with("heartbeat", &kept, json!({})).is(200);
        at.with("heartbeat", &other, json!({})).is(200);
    });
    book.rule("R116", |at| {
        let lease = at.taken(json!({}));
        let idle = json!({"worker_id": at.queue, "queues": ["r116.none"]});
        let parked = at.parked_too();
        assert!(!parked.is_finished());
        at.cancel(&lease.id, json!({"reason": "enough"})).is(202);
        assert_eq!(soon(parked).is(200).json["cancel"], json!([lease.id]));
        assert_eq!(at.claim(idle)["cancel"], json!([lease.id]));
        let beat = at.with("heartbeat", &lease, json!({})).is(200).json;
        assert_eq!(
            (&beat["cancel_requested"], &beat["cancel_reason"]),
            (&json!(true), &json!("enough"))
        );
        let leases = json!([{"job_id": lease.id, "lease_token": lease.token}]);
        let beats = json!({"worker_id": at.queue, "leases": leases});
        let beats = at.post("/v1/heartbeats", beats, &[]).is(200).json;
        assert_eq!(beats["results"][0]["cancel_requested"], true);
    });
    book.rule("R117", |at| {
        let lease = at.taken(json!({}));
        at.with("cancelled", &lease, json!({})).problem(409, "cancel-not-requested");
        at.cancel(&lease.id, json!({})).is(202);
        at.with("cancelled", &lease, json!({})).is(200);
        at.with("cancelled", &lease, json!({})).is(200);
    });
    book.rule("R118", |at| {
        let leases: Vec<Lease> = (0..3).map(|_| at.taken(json!({}))).collect();
        let next = at.put(json!({}));
        let item = |n: usize, outcome: &str| {
            json!({"job_id": leases[n].id, "lease_token": leases[n].token, "outcome": outcome})
        };
        let mut failed = item(1, "failed");
        failed["error"] = json!({"type": "t", "message": "m"});
        failed["retryable"] = json!(false);
        let mut unknown = item(2, "completed");
        unknown["job_id"] = json!("nonsense");
        let body = json!({"worker_id": at.queue, "claim": at.asks(json!({})), "settlements": [
            item(0, "completed"), failed, unknown, item(2, "cancelled"), item(2, "completed")]});
        let answer = at.post("/v1/settlements", body, &[]).is(200).json;
        let results = answer["results"].as_array().expect("results");
        let told: Vec<&str> = results
            .iter()
            .filter_map(|r| r["status"].as_str().or(r["problem"]["code"].as_str()))
            .collect();
        let expected = ["completed", "failed", "no-such-job", "cancel-not-requested", "completed"];
        assert_eq!(told, expected, "{answer}");
        assert_eq!(ids(&answer), [next]);
    });
    book.rule("R119", |at| {
        let lease = at.taken(json!({}));
        let good = json!({"job_id": lease.id, "lease_token": lease.token, "outcome": "completed"});
        for bad in [
            json!({"job_id": lease.id, "lease_token": "x", "outcome": "completed"}),
            json!({"job_id": lease.id, "lease_token": lease.token, "outcome": "done"}),
            json!({"job_id": lease.id, "outcome": "completed"}),
        ] {
            let body = json!({"worker_id": at.queue, "settlements": [good, bad]});
            at.post("/v1/settlements", body, &[]).problem(422, "validation-failed");
        }
        assert_eq!(at.job(&lease.id)["status"], "running");
    });
    book.rule("R120", |at| {
        let lease = at.taken(json!({}));
        let progress = json!({"percent": 40, "message": "page 4"});
        let beat = json!({"checkpoint": {"row": 7}, "progress": progress});
        at.with("heartbeat", &lease, beat).is(200);
        assert_eq!(at.job(&lease.id)["progress"]["message"], "page 4");
        at.fail(&lease, json!({"retry_after_seconds": 0}));
        assert_eq!(at.take().json["checkpoint"], json!({"row": 7}));
        assert!(at.job(&lease.id).get("progress").is_none());
    });
    book.rule("R121", |at| {
        use std::io::Write as _;
        let worker = format!("{}.gone", at.queue);
        let body = at.asks(json!({"worker_id": worker, "wait_seconds": 50})).to_string();
        let mut stream = at.connect();
        let head =
            "POST /v1/claims HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("sent");
        until("the claim", || {
            let list = at.get("/v1/workers", &[]).is(200).json;
            list["workers"].as_array()?.iter().any(|w| w["worker_id"] == *worker).then_some(())
        });
        drop(stream);
        let id = at.put(json!({}));
        let lease = at.take();
        assert_eq!((&lease.id, &lease.json["attempt"]), (&id, &json!(1)));
    });
}
