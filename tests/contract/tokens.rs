//! R133–R144: who may do what.

use serde_json::json;

use crate::book::Book;
use crate::guarded::{Guarded, tables, token};
use crate::kit::until;

fn job(queue: &str) -> serde_json::Value {
    json!({"kind": "a", "queue": queue})
}

pub fn checks(book: &mut Book) {
    book.rule("R133", |_| {
        let server = Guarded::start();
        for path in ["/v1/jobs", "/v1/meta", "/v1/queues", "/v1/workers", "/v1/jobs/1"] {
            let refused = server.get(path, &[]).problem(401, "unauthenticated");
            assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"jobs\""), "{path}");
        }
        server.post("/v1/jobs", job("q"), &[]).problem(401, "unauthenticated");
        server.by("submit", "POST", "/v1/jobs", Some(job("q"))).is(202);
    });
    book.rule("R134", |_| {
        let server = Guarded::start();
        let expired = format!("Bearer {}", token("expired"));
        for bad in ["Bearer nobody-has-this-token", expired.as_str()] {
            let refused = server.get("/v1/meta", &[("Authorization", bad)]);
            let refused = refused.problem(401, "unauthenticated");
            let challenge = refused.header("www-authenticate").expect("a challenge");
            assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        }
        for bad in ["", "Bearer", "Basic YTpi", "Bearer two words"] {
            let refused = server.get("/v1/meta", &[("Authorization", bad)]);
            let refused = refused.problem(401, "unauthenticated");
            assert!(refused.header("www-authenticate").is_some());
        }
    });
    book.rule("R135", |_| {
        let server = Guarded::start();
        let refused = server.by("read", "POST", "/v1/jobs", Some(job("q")));
        let refused = refused.problem(403, "insufficient-scope");
        let challenge = refused.header("www-authenticate").expect("a challenge");
        for part in ["error=\"insufficient_scope\"", "scope=\"submit\""] {
            assert!(challenge.contains(part), "{challenge}");
        }
    });
    book.rule("R136", |_| {
        let server = Guarded::start();
        let id = server.put_by("submit", job("q"));
        let path = format!("/v1/jobs/{id}");
        server.by("submit", "GET", &path, None).is(200);
        server.by("submit", "GET", "/v1/jobs", None).is(200);
        server.by("submit", "POST", &format!("{path}/cancel"), None).is(200);
        server.by("submit", "DELETE", &path, None).is(204);
        let claim = json!({"worker_id": "w", "queues": ["q"]});
        for (path, body) in [("/v1/claims", Some(claim)), ("/v1/queues/q/pause", None)] {
            let refused = server.by("submit", "POST", path, body);
            refused.problem(403, "insufficient-scope");
        }
    });
    book.rule("R137", |_| {
        let server = Guarded::start();
        server.put_by("submit", job("q"));
        let claim = json!({"worker_id": "w", "queues": ["q"]});
        let lease = server.lease_of("work", claim).expect("the job");
        let path = format!("/v1/jobs/{}", lease.id);
        let body = json!({"lease_token": lease.token});
        server.by("work", "POST", &format!("{path}/heartbeat"), Some(body.clone())).is(200);
        server.by("work", "POST", &format!("{path}/complete"), Some(body)).is(200);
        for (path, body) in [("/v1/jobs", Some(job("q"))), ("/v1/queues/q/pause", None)] {
            server.by("work", "POST", path, body).problem(403, "insufficient-scope");
        }
    });
    book.rule("R138", |_| {
        let server = Guarded::start();
        let id = server.put_by("submit", job("q"));
        let path = format!("/v1/jobs/{id}");
        server.by("read", "GET", &path, None).is(200);
        server.by("metrics", "GET", "/metrics", None).is(200);
        server.by("metrics", "GET", &path, None).problem(403, "insufficient-scope");
        for who in ["read", "metrics"] {
            for (method, path) in [
                ("POST", format!("{path}/cancel")),
                ("DELETE", path.clone()),
                ("POST", "/v1/queues/q/pause".to_owned()),
            ] {
                server.by(who, method, &path, None).problem(403, "insufficient-scope");
            }
        }
        assert_eq!(server.by("read", "GET", &path, None).is(200).json["status"], "pending");
    });
    book.rule("R139", |_| {
        let server = Guarded::start();
        let id = server.put_by("other", job("q"));
        server.by("operate", "POST", "/v1/queues/q/pause", None).is(200);
        server.by("operate", "POST", "/v1/queues/q/resume", None).is(200);
        let claim = json!({"worker_id": "w", "queues": ["q"]});
        server.lease_of("work.other", claim).expect("the job");
        let path = format!("/v1/jobs/{id}/cancel");
        let force = Some(json!({"force": true}));
        server.by("other", "POST", &path, force.clone()).problem(403, "insufficient-scope");
        let job = server.by("operate", "POST", &path, force).is(200).json;
        assert_eq!(
            (&job["status"], &job["cancelled_by"]),
            (&json!("cancelled"), &json!("operator"))
        );
    });
    book.rule("R140", |_| {
        let server = Guarded::start();
        server.get("/livez", &[]).is(200);
        server.get("/readyz", &[]).is(200);
        for path in ["/readyz?verbose", "/metrics"] {
            server.get(path, &[]).problem(401, "unauthenticated");
            server.by("metrics", "GET", path, None).is(200);
            server.by("read", "GET", path, None).problem(403, "insufficient-scope");
        }
    });
    book.rule("R141", |_| {
        let server = Guarded::start();
        let first = server.by("hasty", "GET", "/v1/jobs", None).is(200);
        assert!(first.header("ratelimit").is_some());
        let refused = server.by("hasty", "GET", "/v1/jobs", None).is(429);
        let left = refused.header("ratelimit").expect("RateLimit").to_owned();
        let left = left.split(';').find_map(|part| part.trim().strip_prefix("t="));
        let left: u64 = left.expect("t").parse().expect("seconds");
        assert!(left > 1 && refused.retry_after() >= left, "{:?}", refused.headers);
        assert!(refused.json["type"].as_str().expect("a type").ends_with("#quota-exceeded"));
        assert!(refused.json["violated-policies"].is_array(), "{}", refused.json);
        // Over the rate nothing is done, and the key stays unused.
        let id = server.put_by("hasty.submit", job("q"));
        let keyed = |who: &str| {
            let key = [("Idempotency-Key", "r141")];
            server.by_with(who, "POST", "/v1/jobs", Some(job("q")), &key)
        };
        keyed("hasty.submit").is(429).retry_after();
        let jobs = server.by("read", "GET", "/v1/jobs", None).is(200).json["jobs"].clone();
        let jobs = jobs.as_array().expect("jobs");
        assert!(jobs.len() == 1 && jobs[0]["job_id"] == id, "{jobs:?}");
        assert!(keyed("submit").is(202).header("idempotent-replayed").is_none());
    });
    book.rule("R142", |_| {
        let server = Guarded::start();
        server.put_by("confined", job("mine"));
        let foreign = server.by("confined", "POST", "/v1/jobs", Some(job("theirs")));
        foreign.problem(403, "insufficient-scope");
        let claim = json!({"worker_id": "w", "queues": ["mine", "theirs"]});
        let foreign = server.by("confined", "POST", "/v1/claims", Some(claim));
        foreign.problem(403, "insufficient-scope");
        let claim = json!({"worker_id": "w", "queues": ["mine"]});
        assert!(server.lease_of("confined", claim).is_some());
        let id = server.put_by("submit", job("theirs"));
        for (method, path) in [
            ("GET", format!("/v1/jobs/{id}")),
            ("GET", format!("/v1/jobs/{id}/result")),
            ("POST", format!("/v1/jobs/{id}/cancel")),
            ("DELETE", format!("/v1/jobs/{id}")),
            ("GET", "/v1/queues/theirs".to_owned()),
            ("GET", "/v1/queues/theirs/explain".to_owned()),
        ] {
            let body = (method == "POST").then(|| json!({}));
            server.by("confined", method, &path, body).problem(403, "insufficient-scope");
        }
        for (method, path, body) in [
            ("PATCH", "/v1/queues/theirs", json!({"max_depth": 1})),
            ("POST", "/v1/queues/theirs/pause", json!({})),
            ("POST", "/v1/queues/theirs/resume", json!({})),
        ] {
            let by = server.by("confined.ops", method, path, Some(body));
            by.problem(403, "insufficient-scope");
        }
    });
    book.rule("R143", |_| {
        let server = Guarded::start();
        for who in ["submit", "expired", "nobody", "metrics"] {
            for path in ["/v1/jobs", "/metrics", "/v1/nothing", "/v1/jobs/1"] {
                let reply = server.by(who, "GET", path, None);
                let headers = format!("{:?}", reply.headers);
                assert!(!reply.text().contains(&token(who)) && !headers.contains(&token(who)));
            }
        }
        assert!(!server.process.log().contains("-token-0123456789abcdef"));
    });
    book.rule("R144", |_| {
        let server = Guarded::start();
        let file = server.dir.path().join("contract.toml");
        let status = |who: &str| server.by(who, "GET", "/v1/meta", None).status;
        assert_eq!((status("read"), status("fresh")), (200, 401));
        std::fs::write(&file, tables("fresh: scopes = [\"read\"]\n")).expect("the file");
        server.process.signal("HUP");
        until("the new token", || (status("fresh") == 200).then_some(()));
        assert_eq!(status("read"), 401, "it is in the file no more");
        std::fs::write(&file, tables("worse: scopes = [\"everything\"]\n")).expect("the file");
        server.process.signal("HUP");
        until("the refusal to be told", || {
            server.process.log().contains("everything").then_some(())
        });
        assert_eq!((status("fresh"), status("worse")), (200, 401));
    });
}
