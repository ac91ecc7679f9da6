//! R145–R149: what one namespace knows of another: nothing.

use serde_json::json;

use crate::book::Book;
use crate::guarded::Guarded;

fn job() -> serde_json::Value {
    json!({"kind": "a", "queue": "q"})
}

fn claim() -> serde_json::Value {
    json!({"worker_id": "w", "queues": ["q"]})
}

pub fn checks(book: &mut Book) {
    book.rule("R145", |_| {
        let server = Guarded::start();
        let id = server.put_by("submit", job());
        let lease = server.lease_of("work", claim()).expect("the job");
        let path = format!("/v1/jobs/{id}");
        for (method, end) in [
            ("GET", ""),
            ("GET", "/result"),
            ("GET", "/timeline"),
            ("GET", "/explain"),
            ("POST", "/cancel"),
            ("DELETE", ""),
        ] {
            let reply = server.by("other", method, &format!("{path}{end}"), None);
            reply.problem(404, "no-such-job");
        }
        let body = json!({"lease_token": lease.token});
        for end in ["heartbeat", "complete", "release"] {
            let path = format!("{path}/{end}");
            let reply = server.by("work.other", "POST", &path, Some(body.clone()));
            reply.problem(404, "no-such-job");
        }
        assert_eq!(server.by("submit", "GET", &path, None).is(200).json["status"], "running");
    });
    book.rule("R146", |_| {
        let server = Guarded::start();
        let (mine, theirs) = (server.put_by("submit", job()), server.put_by("other", job()));
        let list = |who: &str| {
            let list = server.by(who, "GET", "/v1/jobs", None).is(200).json;
            let jobs = list["jobs"].as_array().expect("jobs").clone();
            jobs.iter().map(|j| j["job_id"].as_str().expect("one").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!((list("submit"), list("other")), (vec![mine.clone()], vec![theirs.clone()]));
        assert_eq!(list("operate"), [theirs, mine]);
    });
    book.rule("R147", |_| {
        let server = Guarded::start();
        let put = |who: &str| {
            let key = [("Idempotency-Key", "r147")];
            server.by_with(who, "POST", "/v1/jobs", Some(job()), &key).is(202).id()
        };
        let (one, two) = (put("submit"), put("other"));
        assert_ne!(one, two);
        assert_eq!((put("submit"), put("other")), (one, two));
    });
    book.rule("R148", |_| {
        let server = Guarded::start();
        let mine = server.put_by("submit", job());
        assert!(server.lease_of("work.other", claim()).is_none());
        assert_eq!(server.lease_of("work", claim()).expect("the job").id, mine);
        let (one, two) = (server.put_by("submit", job()), server.put_by("other", job()));
        let mut given: Vec<String> =
            (0..2).map(|_| server.lease_of("work.all", claim()).expect("one of both").id).collect();
        given.sort_unstable();
        let mut expected = [one, two];
        expected.sort_unstable();
        assert_eq!(given, expected);
    });
    book.rule("R149", |_| {
        let server = Guarded::start();
        let id = server.put_by("submit", job());
        server.lease_of("work", claim()).expect("the job");
        let goodbye = "/v1/workers/w/goodbye";
        let mut held = claim();
        held["held"] = json!([]);
        assert!(server.lease_of("work.other", held.clone()).is_none());
        held["queues"] = json!(["mine"]);
        assert!(server.lease_of("confined", held).is_none());
        for who in ["work.other", "confined"] {
            server.by(who, "POST", goodbye, None).is(204);
        }
        let status = || {
            let job = server.by("submit", "GET", &format!("/v1/jobs/{id}"), None);
            job.is(200).json["status"].clone()
        };
        assert_eq!(status(), "running");
        server.by("work", "POST", goodbye, None).is(204);
        assert_eq!(status(), "pending");
    });
}
