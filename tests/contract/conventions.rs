//! R84–R100: media types, headers, bodies, problems, limits. Whatever holds for every answer is
//! also looked at in every answer of the suite: see `tests/api/jobs.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::book::Book;
use crate::jobs::is_moment;
use crate::kit::{At, Reply, Stand};

fn member(at: &At, name: &str, value: Value) -> Reply {
    let mut body = at.body(json!({}));
    body[name] = value;
    at.post("/v1/jobs", body, &[])
}

/// The limits that the reference states: by member of `/v1/meta`, as they are written.
fn stated_limits() -> BTreeMap<String, String> {
    let reference = include_str!("../../docs/API.md");
    let (_, limits) = reference.split_once("\n## Limits\n").expect("the section");
    let limits = limits.split("\n## ").next().unwrap_or_default();
    let rows = limits.lines().filter_map(|row| row.strip_suffix(" |")?.rsplit_once(" | "));
    let cells = rows.flat_map(|(_, stated)| stated.split(", `"));
    let cells = cells.filter_map(|cell| cell.trim_start_matches('`').split_once("` "));
    cells.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub fn checks(book: &mut Book) {
    book.rule("R84", |at| {
        let body = at.body(json!({})).to_string();
        for headers in [
            &[][..],
            &[("Content-Type", "text/plain")][..],
            &[("Content-Type", "application/json; charset=latin1")][..],
            &[("Content-Type", "application/json"), ("Content-Encoding", "gzip")][..],
        ] {
            let reply = at.ask("POST", "/v1/jobs", headers, body.as_bytes());
            let reply = reply.problem(415, "unsupported-media-type");
            assert!(reply.header("accept").is_some());
        }
    });
    book.rule("R85", |at| {
        let deep = format!(r#"{{"kind":"a","payload":{}{}}}"#, "[".repeat(64), "]".repeat(64));
        for bad in [
            "",
            "{",
            "{\"kind\":\"a\",}",
            "{\"kind\":\"a\",\"kind\":\"b\"}",
            "{\"kind\":\"a\",\"payload\":{\"x\":1,\"x\":2}}",
            "{\"kind\":\"a\",\"payload\":NaN}",
            "{\"kind\":\"a\",\"payload\":\"\\ud800\"}",
            &deep,
        ] {
            for path in ["/v1/jobs", "/v1/claims", "/v1/settlements"] {
                at.text(path, bad, &[]).problem(400, "malformed-json");
            }
        }
    });
    book.rule("R86", |at| {
        let body =
            json!({"kind": "A!", "max_attemps": 3, "priority": 101, "queue": null, "tags": [""]});
        let reply = at.post("/v1/jobs", body, &[]).problem(422, "validation-failed");
        let mut errors = reply.errors();
        errors.sort_unstable();
        let expected = [
            "/kind pattern",
            "/max_attemps unknown",
            "/priority range",
            "/queue type",
            "/tags/0 length",
        ];
        assert_eq!(errors, expected);
        at.post("/v1/jobs", json!({}), &[]).problem(422, "validation-failed");
        at.text("/v1/jobs", "[]", &[]).problem(422, "validation-failed");
    });
    book.rule("R87", |at| {
        for reply in [
            at.get("/v1/jobs/1", &[]),
            at.get("/nothing", &[]),
            at.text("/v1/jobs", "{", &[]),
            at.ask("DELETE", "/v1/meta", &[], b""),
        ] {
            assert!((400..500).contains(&reply.status));
            assert_eq!(reply.header("content-type"), Some("application/problem+json"));
            for name in ["type", "title", "detail", "code", "request_id"] {
                assert!(reply.json[name].as_str().is_some_and(|t| !t.is_empty()), "{name}");
            }
            assert_eq!(reply.json["status"], reply.status);
            assert_eq!(reply.json["request_id"].as_str(), reply.header("x-request-id"));
        }
    });
    book.rule("R88", |at| {
        let echo = at.get("/v1/meta", &[("X-Request-Id", "order-7/retry.2")]).is(200);
        assert_eq!(echo.header("x-request-id"), Some("order-7/retry.2"));
        let long = "x".repeat(129);
        for bad in [&long, "two words", ""] {
            let new = at.get("/v1/meta", &[("X-Request-Id", bad)]).is(200);
            assert!(new.header("x-request-id").is_some_and(|id| id != bad && !id.is_empty()));
        }
        let ids: BTreeSet<String> = (0..20)
            .map(|_| at.get("/livez", &[]).header("x-request-id").expect("one").to_owned())
            .collect();
        assert_eq!(ids.len(), 20);
    });
    book.rule("R89", |at| {
        let id = at.put(json!({}));
        let caching = |path: &str| at.get(path, &[]).header("cache-control").map(str::to_owned);
        assert_eq!(caching(&format!("/v1/jobs/{id}")).as_deref(), Some("private, no-cache"));
        for path in ["/v1/meta", "/v1/jobs", "/v1/queues", "/v1/jobs/1", "/v1/nothing"] {
            assert_eq!(caching(path).as_deref(), Some("no-store"), "{path}");
        }
        for path in ["/openapi.json", "/docs", "/problems/queue-full"] {
            let reply = at.ask_freely("GET", path, &[], b"").is(200);
            assert_eq!(reply.header("cache-control"), Some("public, max-age=300"), "{path}");
        }
    });
    book.rule("R169", |at| {
        let id = at.put(json!({}));
        for path in ["/v1/meta".to_owned(), format!("/v1/jobs/{id}"), "/v1/nothing".to_owned()] {
            let plain = at.get(&path, &[]);
            for accept in ["text/html", "image/png;q=1, */*;q=0", "nonsense"] {
                let reply = at.get(&path, &[("Accept", accept)]);
                assert_eq!(reply.status, plain.status, "{path} {accept}");
                assert_eq!(reply.header("content-type"), plain.header("content-type"));
            }
        }
    });
    book.rule("R90", |at| {
        let odd = [("X-Whatever", "1"), ("Forwarded", "for=;;"), ("Accept", "text/*;q=zero")];
        at.get("/v1/meta", &odd).is(200);
        let id = at.put(json!({}));
        let about = at.ask_freely("GET", "/openapi.json", &[], b"").is(200).json;
        let mut tried = 0;
        for (path, methods) in about["paths"].as_object().expect("paths") {
            let operations = methods.as_object().expect("methods").keys();
            for method in operations.filter(|_| path.starts_with("/v1/")) {
                let path = match path.strip_prefix("/v1/workers/{id}") {
                    Some(rest) => format!("/v1/workers/nobody{rest}"),
                    None => path.replace("{id}", &id).replace("{q}", &at.queue),
                };
                let (method, path) = (method.to_uppercase(), format!("{path}?limt=3"));
                let json = [("Content-Type", "application/json")];
                let wrong = at.ask(&method, &path, &json, b"{}").problem(400, "invalid-query");
                let detail = wrong.json["detail"].as_str().expect("words");
                assert!(detail.contains("limt"), "{method} {path}: {detail}");
                tried += 1;
            }
        }
        assert!(tried > 30, "{tried}");
        assert_eq!(at.job(&id)["status"], "pending");
    });
    book.rule("R91", |at| {
        at.get("/v1/nothing", &[]).problem(404, "no-such-route");
        let wrong = at.ask("PUT", "/v1/jobs", &[], b"").problem(405, "method-not-allowed");
        let allow = wrong.header("allow").expect("Allow");
        assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    });
    book.rule("R92", |at| {
        fn no_null(value: &Value) {
            match value {
                Value::Null => panic!("a null"),
                Value::Array(items) => items.iter().for_each(no_null),
                Value::Object(members) => members.values().for_each(no_null),
                Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let lease = at.taken(json!({"delay_seconds": 0.1}));
        let job = at.job(&lease.id);
        no_null(&job);
        no_null(&at.get(&format!("/v1/queues/{}", at.queue), &[]).is(200).json);
        no_null(&at.get("/v1/workers", &[]).is(200).json);
        for name in ["created_at", "updated_at", "started_at"] {
            assert!(is_moment(job[name].as_str().expect("a moment")), "{job}");
        }
    });
    book.rule("R93", |at| {
        let body = at.body(json!({})).to_string();
        let headers = [("Content-Type", "application/json"), ("Host", "localhost")];
        let reply = at.ask_freely("POST", "/v1/jobs", &headers, body.as_bytes()).is(202);
        assert!(reply.header("location").expect("one").starts_with("http://localhost/v1/jobs/"));
        let public = [("SERVER__PUBLIC_URL", "https://jobs.example")];
        let stand = Stand::configured(&public, "");
        let headers = [("Content-Type", "application/json")];
        let reply = stand.ask_freely("POST", "/v1/jobs", &headers, body.as_bytes()).is(202);
        let url = format!("https://jobs.example/v1/jobs/{}", reply.id());
        assert_eq!(
            (reply.header("location"), &reply.json["status_url"]),
            (Some(&*url), &json!(url))
        );
    });
    book.rule("R94", |at| {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        at.post("/v1/jobs", at.body(json!({})), &[("traceparent", trace)]).is(202);
        assert_eq!(at.take().json["traceparent"], trace);
        for bad in
            ["00-0-0-01", "nonsense", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]
        {
            at.post("/v1/jobs", at.body(json!({})), &[("traceparent", bad)]).is(202);
            assert!(at.take().json.get("traceparent").is_none(), "{bad}");
        }
    });
    book.rule("R95", |at| {
        for bad in ["", "Host: a\r\nHost: b\r\n", "Host: two words\r\n"] {
            let head = format!("GET /v1/meta HTTP/1.1\r\nConnection: close\r\n{bad}\r\n");
            let reply = at.raw(head.as_bytes());
            assert_eq!(reply.status, 400, "{bad:?} {}", reply.text());
        }
        let other = at.ask_freely("GET", "/v1/meta", &[("Host", "evil.example")], b"");
        other.problem(421, "misdirected-host");
        for own in ["localhost", "[::1]:80", "127.0.0.1"] {
            at.ask_freely("GET", "/v1/meta", &[("Host", own)], b"").is(200);
        }
    });
    book.rule("R96", |at| {
        let origin = [("Origin", "https://evil.example")];
        let reply = at.get("/v1/meta", &origin).is(200);
        let open =
            |r: &Reply| r.headers.iter().any(|(n, _)| n.as_str().starts_with("access-control-"));
        assert!(!open(&reply));
        let preflight = at.ask("OPTIONS", "/v1/jobs", &origin, b"");
        assert!(preflight.status == 405 && !open(&preflight), "{}", preflight.text());
    });
    book.rule("R97", |at| {
        let meta = at.get("/v1/meta", &[]).is(200).json;
        for name in ["version", "durability", "store"] {
            assert!(meta[name].is_string(), "{name}: {meta}");
        }
        assert!(meta["sync_window_seconds"].is_number(), "{meta}");
        assert!(meta["idempotency"]["key_lifetime_seconds"].is_number(), "{meta}");
        for end in ["completed", "failed", "cancelled"] {
            assert!(meta["retention_seconds"][end].as_f64() > Some(0.0), "{meta}");
        }
        let limits = meta["limits"].as_object().expect("limits");
        let stated = stated_limits();
        assert_eq!(
            stated.keys().map(String::as_str).collect::<BTreeSet<_>>(),
            limits.keys().map(String::as_str).collect::<BTreeSet<_>>(),
            "docs/API.md and /v1/meta tell of the same limits"
        );
        for (name, stated) in stated {
            let limit = &limits[&name];
            let same = match limit.as_str() {
                Some(text) => stated == format!("`{text}`"),
                None => limit.is_number() && stated.parse::<f64>().ok() == limit.as_f64(),
            };
            assert!(same, "{name}: {stated} is documented, {limit} is so");
        }
    });
    book.rule("R98", |at| {
        for (name, good, bad) in [
            ("priority", json!(100), json!(101)),
            ("priority", json!(-100), json!(-101)),
            ("max_attempts", json!(100), json!(101)),
            ("max_attempts", json!(1), json!(0)),
            ("timeout_seconds", json!(604_800), json!(604_801)),
            ("delay_seconds", json!(31_536_000), json!(31_536_001)),
            ("tags", json!(vec!["t"; 16]), json!(vec!["t"; 17])),
            ("kind", json!("k".repeat(128)), json!("k".repeat(129))),
            ("metadata", json!({"k": "m".repeat(4_088)}), json!({"k": "m".repeat(4_089)})),
        ] {
            member(at, name, good).is(202);
            let refused = member(at, name, bad).problem(422, "validation-failed");
            assert!(refused.errors()[0].starts_with(&format!("/{name}")), "{}", refused.json);
        }
    });
    book.rule("R99", |at| {
        member(at, "payload", json!("x".repeat((1 << 20) - 2))).is(202);
        let large = member(at, "payload", json!("x".repeat((1 << 20) - 1)));
        let large = large.problem(413, "payload-too-large");
        assert_eq!(large.json["max_bytes"], 1 << 20);
        assert!(large.header("retry-after").is_none());
        let head = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                    Content-Type: application/json\r\nContent-Length: 16777217\r\n\r\n";
        assert_eq!(at.raw(head.as_bytes()).status, 413);
    });
    book.rule("R100", |at| {
        for jobs in [json!([]), json!(vec![at.body(json!({})); 1_001])] {
            let reply = at.post("/v1/jobs/batch", json!({"jobs": jobs}), &[]);
            assert_eq!(reply.problem(422, "validation-failed").errors(), ["/jobs length"]);
        }
        for (name, value) in [
            ("max_jobs", json!(101)),
            ("max_jobs", json!(0)),
            ("wait_seconds", json!(50.5)),
            ("lease_seconds", json!(3_601)),
            ("queues", json!([])),
            ("worker_id", json!("")),
            ("worker_id", json!("w".repeat(513))),
        ] {
            let reply = at.post("/v1/claims", at.asks(json!({name: value})), &[]);
            let reply = reply.problem(422, "validation-failed");
            assert!(reply.errors()[0].starts_with(&format!("/{name}")), "{}", reply.json);
        }
    });
}
