//! R1–R19: submitting.

use serde_json::json;

use crate::book::Book;
use crate::kit::{Lease, Stand, held_for, in_millis, moment, soon, until};

pub fn checks(book: &mut Book) {
    book.rule("R1", |at| {
        let body = at.body(json!({}));
        let held = at.later(move |c| c.post("/v1/jobs", body, &[("Prefer", "wait=50")]));
        let lease = at.take();
        at.complete(&lease, json!({"pages": 1}));
        let reply = soon(held).is(200);
        assert_eq!(
            (&reply.json["status"], &reply.json["result"]["pages"]),
            (&json!("completed"), &json!(1))
        );
        // Too large for the body: 200 all the same, and the way to it.
        let body = at.body(json!({}));
        let held = at.later(move |c| c.post("/v1/jobs", body, &[("Prefer", "wait=50")]));
        let lease = at.take();
        at.complete(&lease, json!("x".repeat(70_000)));
        let reply = soon(held).is(200);
        assert!(reply.json.get("result").is_none() && reply.json["result_url"].is_string());
    });
    book.rule("R2", |at| {
        at.post("/v1/jobs", at.body(json!({})), &[]).is(202);
        at.take();
        let body = at.body(json!({}));
        let held = at.later(move |c| c.post("/v1/jobs", body, &[("Prefer", "wait=50")]));
        let lease = at.take();
        at.fail(&lease, json!({"retryable": false}));
        assert_eq!(soon(held).is(202).json["status"], "failed");
    });
    book.rule("R3", |at| {
        let reply = at.post("/v1/jobs", at.body(json!({})), &[]).is(202);
        let url = reply.json["status_url"].as_str().expect("an address");
        assert_eq!(url, format!("{}/v1/jobs/{}", at.base, reply.id()));
        assert_eq!(reply.header("location"), Some(url));
        assert_eq!(reply.header("content-location"), Some(url));
        assert_eq!(reply.tag(), "W/\"1\"");
        let link = reply.header("link").expect("Link");
        assert!(link.contains(&format!("<{url}>; rel=\"monitor\"")), "{link}");
    });
    book.rule("R4", |_| {
        let mut stand = Stand::start();
        for n in 0..3 {
            let id = stand.submit(json!({"kind": "a", "payload": n}));
            stand = stand.killed();
            let job = stand.get(&format!("/v1/jobs/{id}?include=payload"), &[]).is(200).json;
            assert_eq!((&job["status"], &job["payload"]), (&json!("pending"), &json!(n)));
        }
    });
    book.rule("R5", |at| {
        let body = json!({"kind": "nobody.waits", "queue": "held"});
        soon(at.later(move |c| c.post("/v1/jobs", body, &[]))).is(202);
    });
    book.rule("R6", |at| {
        let kind = at.queue.clone();
        let claim =
            json!({"worker_id": kind, "queues": ["held"], "kinds": [kind], "wait_seconds": 50});
        let worker = at.parked(claim);
        let held =
            at.later(move |c| c.post("/v1/jobs", json!({"kind": kind, "queue": "held"}), &[]));
        let lease = Lease::of(&soon(worker).is(200).json["jobs"][0]);
        at.complete(&lease, json!(6));
        assert_eq!(soon(held).is(200).json["result"], 6);
    });
    book.rule("R7", |at| {
        let kind = at.queue.clone();
        let claim =
            json!({"worker_id": kind, "queues": ["held"], "kinds": [kind], "wait_seconds": 50});
        let worker = at.parked(claim);
        let body = json!({"kind": kind, "queue": "held"});
        let reply =
            soon(at.later(move |c| c.post("/v1/jobs", body, &[("Prefer", "respond-async")])));
        assert_eq!(reply.is(202).header("preference-applied"), Some("respond-async"));
        soon(worker).is(200);
    });
    book.rule("R8", |at| {
        let body = at.body(json!({}));
        let held = at.later(move |c| c.post("/v1/jobs", body, &[("Prefer", "wait=50")]));
        // A retry is not the end.
        let lease = at.take();
        at.fail(&lease, json!({"retry_after_seconds": 0}));
        let lease = at.take();
        assert!(!held.is_finished());
        at.complete(&lease, json!(8));
        assert_eq!(soon(held).is(200).json["attempt"], 2);
    });
    book.rule("R9", |at| {
        let reply = at.post("/v1/jobs", at.body(json!({})), &[("Prefer", "wait=2")]).is(202);
        assert_eq!(reply.json["status"], "pending");
        assert_eq!(reply.header("preference-applied"), Some("wait=2"));
        held_for(&reply, &reply.json["created_at"], 2);
        // As it is at the end of the wait, not as it was when it was accepted.
        at.take();
        let body = at.body(json!({}));
        let held = at.later(move |c| c.post("/v1/jobs", body, &[("Prefer", "wait=3")]));
        let job = at.job(&at.take().id);
        let reply = soon(held).is(202);
        let started = moment(&job["started_at"]).duration_since(moment(&job["created_at"]));
        assert!(reply.json["status"] == "running" || started.as_millis() >= 3_000, "{started:#}");
    });
    book.rule("R10", |at| {
        let body = at.body(json!({}));
        let held =
            at.later(move |c| c.post("/v1/jobs", body, &[("Prefer", "respond-async, wait=99999")]));
        let lease = at.take();
        at.complete(&lease, json!(1));
        let reply = soon(held).is(200);
        assert_eq!(reply.header("preference-applied"), Some("respond-async, wait=50"));
    });
    book.rule("R11", |at| {
        for odd in
            ["wait=soon", "wait=-1", "wait=1.5", "handling=strict", "=;,\"", "respond-async=no"]
        {
            let reply = at.post("/v1/jobs", at.body(json!({})), &[("Prefer", odd)]).is(202);
            assert!(reply.header("preference-applied").is_none(), "{odd}");
        }
    });
    book.rule("R12", |at| {
        let body = at.body(json!({"delay_seconds": 3600}));
        let reply = soon(at.later(move |c| c.post("/v1/jobs", body, &[("Prefer", "wait=50")])));
        let reply = reply.is(202);
        assert_eq!(reply.json["pending_reason"], "scheduled");
        assert!(reply.header("preference-applied").is_none(), "nothing was held");
    });
    book.rule("R13", |at| {
        use std::io::Write as _;
        let body = at.body(json!({})).to_string();
        let mut stream = at.connect();
        let head = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=50\r\n\
                    Content-Type: application/json\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("sent");
        let lease = at.take();
        drop(stream);
        assert_eq!(at.complete(&lease, json!(1))["status"], "completed");
    });
    book.rule("R14", |at| {
        let job = at.post("/v1/jobs", json!({"kind": "plain.defaults", "delay_seconds": 900}), &[]);
        let job = job.is(202).json;
        for (name, value) in [
            ("queue", json!("default")),
            ("priority", json!(0)),
            ("attempt", json!(0)),
            ("max_attempts", json!(5)),
            ("version", json!(1)),
            ("root_job_id", job["job_id"].clone()),
        ] {
            assert_eq!(job[name], value, "{name}");
        }
    });
    book.rule("R15", |at| {
        let payload = r#"{"z":1.0,"a":[1e2, "é😀", null], "big":123456789012345678901234567890}"#;
        let body = format!(r#"{{"kind":"a","queue":"{}","payload":{payload}}}"#, at.queue);
        let reply = at.text("/v1/jobs", &body, &[]).is(202);
        assert!(reply.json.get("payload").is_none());
        let path = format!("/v1/jobs/{}", reply.id());
        assert!(at.job(&reply.id()).get("payload").is_none());
        assert!(at.get(&format!("{path}?include=payload"), &[]).is(200).text().contains(payload));
        assert!(at.post("/v1/claims", at.asks(json!({})), &[]).is(200).text().contains(payload));
    });
    book.rule("R16", |at| {
        let past = at.put(json!({"run_at": "1999-01-01T00:00:00Z"}));
        assert_eq!(at.take().id, past);
        let due = at.post("/v1/jobs", at.body(json!({"delay_seconds": 0.5})), &[]).is(202);
        assert_eq!(due.json["pending_reason"], "scheduled");
        let lease = at.take();
        assert_eq!(lease.id, due.id());
        let job = at.job(&lease.id);
        assert!(job["started_at"].as_str() >= due.json["run_at"].as_str(), "{job}");
    });
    book.rule("R17", |at| {
        // A busy machine may need longer than the first of these.
        let within = [1_500, 6_000, 24_000];
        let mut tried = within.into_iter().map(|allowed| {
            at.post("/v1/jobs", at.body(json!({"start_by": in_millis(allowed)})), &[])
        });
        let late = tried.find(|reply| reply.status == 202).expect("it was in time");
        let job = at.done(&late.id());
        assert_eq!((&job["status"], &job["attempt"]), (&json!("failed"), &json!(0)));
        assert_eq!(job["error"]["type"], "start-deadline-exceeded");
        let started = within.into_iter().find_map(|allowed| {
            let by = in_millis(allowed);
            at.post("/v1/jobs", at.body(json!({"start_by": by})), &[]);
            let claimed = at.claim(at.asks(json!({})));
            claimed["jobs"].get(0).map(|job| (Lease::of(job), by))
        });
        let (lease, by) = started.expect("a start in time");
        until("the deadline", || (in_millis(0) > by).then_some(()));
        at.fail(&lease, json!({"retry_after_seconds": 0}));
        assert_eq!(at.take().id, lease.id);
    });
    book.rule("R18", |at| {
        let good = at.body(json!({"payload": 1}));
        let reply =
            at.post("/v1/jobs/batch", json!({"jobs": [good, at.body(json!({"payload": 2}))]}), &[]);
        let jobs = reply.is(202).json["jobs"].clone();
        for n in 0..2 {
            let lease = at.take();
            assert_eq!(
                (jobs[n]["job_id"].as_str(), &lease.json["payload"]),
                (Some(&*lease.id), &json!(n + 1))
            );
        }
        let wrong = json!({"jobs": [good, {"kind": "A!"}, {"kind": "a", "priority": 1000}, 7]});
        let reply = at.post("/v1/jobs/batch", wrong, &[]).problem(422, "validation-failed");
        assert_eq!(
            reply.errors(),
            ["/jobs/1/kind pattern", "/jobs/2/priority range", "/jobs/3 type"]
        );
        assert_eq!(at.claim(at.asks(json!({})))["jobs"], json!([]), "nothing was accepted");
    });
    book.rule("R19", |at| {
        for body in [
            json!({"kind": "system.canary"}),
            json!({"kind": "system"}),
            json!({"kind": "a", "queue": "_internal"}),
        ] {
            at.post("/v1/jobs", body, &[]).problem(422, "validation-failed");
        }
        let queues = at.get("/v1/queues", &[]).is(200).json;
        let jobs = at.get("/v1/jobs?limit=1000", &[]).is(200).json;
        let queues = queues["queues"].as_array().expect("queues").iter().map(|q| &q["name"]);
        assert!(queues.filter_map(|q| q.as_str()).all(|q| !q.starts_with('_')));
        let kinds = jobs["jobs"].as_array().expect("jobs").iter().map(|j| &j["kind"]);
        assert!(kinds.filter_map(|k| k.as_str()).all(|k| !k.starts_with("system.")));
    });
}
