//! R58–R76 and R173: results, cancelling, deleting, and what is gone.

use serde_json::json;

use crate::book::Book;
use crate::jobs::is_moment;
use crate::kit::{Stand, until};

pub fn checks(book: &mut Book) {
    book.rule("R58", |at| {
        let lease = at.taken(json!({}));
        let job = at.complete(&lease, json!("x".repeat((64 << 10) - 2)));
        assert!(job.get("result").is_some() && job["result_url"].is_string());
        let lease = at.taken(json!({}));
        let large = json!("y".repeat((64 << 10) - 1));
        let job = at.complete(&lease, large.clone());
        assert!(job.get("result").is_none() && at.job(&lease.id).get("result").is_none());
        assert_eq!(job["result_url"], format!("{}/v1/jobs/{}/result", at.base, lease.id));
        assert_eq!(at.get(&format!("/v1/jobs/{}/result", lease.id), &[]).is(200).json, large);
    });
    book.rule("R59", |at| {
        let lease = at.taken(json!({}));
        let exact = r#"{ "b" : 1.50, "a":[ "é", 1e3 ],"c":12345678901234567890123 }"#;
        let body = format!(r#"{{"lease_token":"{}","result":{exact}}}"#, lease.token);
        at.text(&format!("/v1/jobs/{}/complete", lease.id), &body, &[]).is(200);
        let path = format!("/v1/jobs/{}/result", lease.id);
        let result = at.get(&path, &[]).is(200);
        assert_eq!(result.text(), exact);
        for (name, value) in [
            ("content-type", "application/json"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "sandbox"),
        ] {
            assert_eq!(result.header(name), Some(value));
        }
        assert!(result.tag().starts_with('"'), "strong");
        at.get(&path, &[("If-None-Match", &result.tag())]).is(304);
    });
    book.rule("R60", |at| {
        for members in [json!({}), json!({"result": null})] {
            let lease = at.taken(json!({}));
            let job = at.with("complete", &lease, members).is(200).json;
            assert!(job.get("result").is_some_and(serde_json::Value::is_null), "{job}");
            let path = format!("/v1/jobs/{}/result", lease.id);
            assert_eq!(at.get(&path, &[]).is(200).bytes, b"null");
        }
    });
    book.rule("R61", |at| {
        let lease = at.taken(json!({}));
        let url = "https://bucket.example/r/7?sig=a%2Fb";
        let job = at.with("complete", &lease, json!({"result_location": url})).is(200).json;
        assert!(job.get("result").is_none() && job["status"] == "completed", "{job}");
        let there = at.get(&format!("/v1/jobs/{}/result", lease.id), &[]).is(303);
        assert_eq!(there.header("location"), Some(url));
    });
    book.rule("R62", |at| {
        let result = |id: &str| at.get(&format!("/v1/jobs/{id}/result"), &[]);
        let lease = at.taken(json!({}));
        let early = result(&lease.id).problem(409, "result-not-ready");
        let monitor = format!("<{}/v1/jobs/{}>; rel=\"monitor\"", at.base, lease.id);
        assert_eq!(early.header("link"), Some(monitor.as_str()));
        at.fail(&lease, json!({"retryable": false}));
        assert_eq!(result(&lease.id).problem(409, "job-failed").json["error"]["type"], "boom");
        let id = at.put(json!({}));
        at.cancel(&id, json!({})).is(200);
        result(&id).problem(409, "job-cancelled");
    });
    book.rule("R63", |_| {
        let stand = Stand::configured(&[("JOBS__MAX_RESULT_BYTES", "100000")], "");
        stand.submit(json!({"kind": "a"}));
        let lease = stand.lease("w", "default");
        let large = json!({"result": "x".repeat(100_000)});
        let refused = stand.with("complete", &lease, large).problem(413, "payload-too-large");
        assert_eq!(refused.json["max_bytes"], 100_000);
        assert_eq!(stand.complete(&lease, json!("less"))["status"], "completed");
    });
    book.rule("R64", |at| {
        let id = at.put(json!({}));
        let job = at.cancel(&id, json!({"reason": "enough"})).is(200).json;
        assert_eq!(job["status"], "cancelled");
        assert_eq!(
            (&job["cancel_reason"], &job["cancelled_by"]),
            (&json!("enough"), &json!("client"))
        );
        assert_eq!(at.claim(at.asks(json!({})))["jobs"], json!([]));
    });
    book.rule("R65", |at| {
        let id = at.put(json!({}));
        let first = at.cancel(&id, json!({"reason": "one"})).is(200).json;
        assert_eq!(at.cancel(&id, json!({"reason": "two"})).is(200).json, first);
        let lease = at.taken(json!({}));
        let first = at.cancel(&lease.id, json!({})).is(202).json;
        assert_eq!(at.cancel(&lease.id, json!({})).is(202).json["version"], first["version"]);
    });
    book.rule("R66", |at| {
        let lease = at.taken(json!({}));
        let job = at.cancel(&lease.id, json!({})).is(202).json;
        assert!(job["status"] == "running" && job["cancel_requested_at"].is_string(), "{job}");
        let job = at.with("cancelled", &lease, json!({})).is(200).json;
        assert_eq!(job["status"], "cancelled");
    });
    book.rule("R67", |at| {
        let lease = at.taken(json!({}));
        at.cancel(&lease.id, json!({})).is(202);
        let job = at.complete(&lease, json!(67));
        assert_eq!((&job["status"], &job["result"]), (&json!("completed"), &json!(67)));
        assert!(job["cancel_requested_at"].is_string(), "{job}");
    });
    book.rule("R68", |at| {
        let error = json!({"error": {"type": "t", "message": "m"}});
        for (what, members) in [("fail", error), ("release", json!({}))] {
            let lease = at.taken(json!({}));
            at.cancel(&lease.id, json!({})).is(202);
            assert_eq!(at.with(what, &lease, members).is(200).json["status"], "cancelled");
        }
        at.put(json!({}));
        let silent = at.lease_by(at.asks(json!({"lease_seconds": 1})));
        at.cancel(&silent.id, json!({})).is(202);
        assert_eq!(at.done(&silent.id)["status"], "cancelled");
    });
    book.rule("R69", |at| {
        at.submit(json!({"kind": "a", "queue": "hasty"}));
        let lease = at.lease(&at.queue, "hasty");
        let asked = at.cancel(&lease.id, json!({}));
        assert!(matches!(asked.status, 200 | 202), "{}", asked.text());
        assert_eq!(at.done(&lease.id)["status"], "cancelled");
        at.with("complete", &lease, json!({})).problem(409, "job-already-finished");
    });
    book.rule("R70", |at| {
        let lease = at.taken(json!({}));
        let job = at.cancel(&lease.id, json!({"force": true})).is(200).json;
        assert_eq!(
            (&job["status"], &job["cancelled_by"]),
            (&json!("cancelled"), &json!("operator"))
        );
        at.with("heartbeat", &lease, json!({})).problem(409, "job-already-finished");
        at.with("complete", &lease, json!({})).problem(409, "job-already-finished");
    });
    book.rule("R71", |at| {
        let lease = at.taken(json!({}));
        at.complete(&lease, json!(1));
        at.cancel(&lease.id, json!({})).problem(409, "job-already-finished");
        let lease = at.taken(json!({}));
        at.fail(&lease, json!({"retryable": false}));
        at.cancel(&lease.id, json!({})).problem(409, "job-already-finished");
    });
    book.rule("R72", |at| {
        let id = at.put(json!({}));
        let before = at.job(&id);
        at.delete(&id).problem(409, "job-not-finished");
        assert_eq!(at.job(&id), before);
        let lease = at.take();
        at.delete(&id).problem(409, "job-not-finished");
        at.complete(&lease, json!(1));
        assert!(at.delete(&id).is(204).bytes.is_empty());
    });
    book.rule("R73", |at| {
        let deleted = at.put(json!({}));
        at.cancel(&deleted, json!({})).is(200);
        at.delete(&deleted).is(204);
        at.put(json!({"retention_seconds": 1}));
        let expired = at.take();
        at.complete(&expired, json!(1));
        let path = format!("/v1/jobs/{}", expired.id);
        until("the end of its retention", || (at.get(&path, &[]).status == 410).then_some(()));
        for (id, code) in [(&deleted, "job-deleted"), (&expired.id, "job-expired")] {
            for (method, end) in [
                ("GET", ""),
                ("GET", "/result"),
                ("GET", "/timeline"),
                ("GET", "/explain"),
                ("DELETE", ""),
                ("POST", "/cancel"),
            ] {
                let gone = at.ask(method, &format!("/v1/jobs/{id}{end}"), &[], b"");
                let gone = gone.problem(410, code);
                assert_eq!(gone.json["job_id"], **id);
                assert!(is_moment(gone.json["created_at"].as_str().expect("a moment")));
            }
        }
    });
    book.rule("R74", |_| {
        let stand = Stand::start();
        let id = stand.submit(json!({"kind": "a"}));
        stand.cancel(&id, json!({})).is(200);
        stand.delete(&id).is(204);
        let stand = stand.killed();
        stand.get(&format!("/v1/jobs/{id}"), &[]).problem(410, "job-deleted");
        assert!(stand.metric("punctual_jobs_lost_total").abs() < 0.5);
    });
    book.rule("R75", |at| {
        let id = at.put(json!({}));
        let mut forged = id.clone().into_bytes();
        forged[35] = if forged[35] == b'0' { b'1' } else { b'0' };
        let forged = String::from_utf8(forged).expect("ASCII");
        let odd = [
            forged,
            id.to_uppercase(),
            id.replace('-', ""),
            format!("urn:uuid:{id}"),
            format!("{id}%20"),
            "1".to_owned(),
            "%FF".to_owned(),
            "x".repeat(5_000),
        ];
        for other in &odd {
            for end in ["", "/result", "/timeline"] {
                at.get(&format!("/v1/jobs/{other}{end}"), &[]).problem(404, "no-such-job");
            }
            at.delete(other).problem(404, "no-such-job");
            at.cancel(other, json!({})).problem(404, "no-such-job");
        }
        assert!(at.metric("punctual_jobs_lost_total").abs() < 0.5, "none of these was ours");
    });
    book.rule("R76", |_| {
        // An older copy of the file is put in its place.
        let stand = Stand::start();
        let file = stand.file();
        let Stand { client, process, launch, dir } = stand;
        assert!(process.terminate().success());
        let copy = dir.path().join("copy.db");
        std::fs::copy(&file, &copy).expect("a backup");
        let process = launch.start();
        let id = client.submit(json!({"kind": "a"}));
        assert!(process.terminate().success());
        for end in ["-wal", "-shm"] {
            let mut beside = file.clone().into_os_string();
            beside.push(end);
            let _ = std::fs::remove_file(beside);
        }
        std::fs::copy(&copy, &file).expect("the restore");
        let process = launch.start();
        let lost = client.get(&format!("/v1/jobs/{id}"), &[]).problem(404, "no-such-job");
        assert!(lost.json["detail"].as_str().expect("one").contains("lost"), "{}", lost.json);
        assert!((client.metric("punctual_jobs_lost_total") - 1.0).abs() < 0.5);
        drop(process);
    });
    book.rule("R173", |at| {
        let lease = at.taken(json!({}));
        at.complete(&lease, json!(1));
        at.delete(&lease.id).is(204);
        let item = json!({"job_id": lease.id, "lease_token": lease.token});
        let failed = json!({"error": {"type": "a", "message": "b"}});
        for (what, members) in [
            ("complete", json!({})),
            ("fail", failed),
            ("release", json!({})),
            ("cancelled", json!({})),
            ("heartbeat", json!({})),
        ] {
            let gone = at.with(what, &lease, members).problem(410, "job-deleted");
            assert_eq!(gone.json["job_id"], lease.id);
            assert!(is_moment(gone.json["created_at"].as_str().expect("one")));
        }
        let mut settled = item.clone();
        settled["outcome"] = json!("completed");
        for (path, member, item) in
            [("/v1/heartbeats", "leases", item), ("/v1/settlements", "settlements", settled)]
        {
            let answer = at.post(path, json!({"worker_id": "w", member: [item]}), &[]).is(200);
            let problem = &answer.json["results"][0]["problem"];
            assert_eq!(
                (&problem["status"], &problem["code"]),
                (&json!(410), &json!("job-deleted"))
            );
            assert_eq!(problem["job_id"], lease.id);
        }
    });
}
