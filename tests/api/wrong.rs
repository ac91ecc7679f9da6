//! Wrong inputs: each gets the one answer that tells what is wrong, and the server goes on.

use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{Server, with};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_no_json() {
    let server = Server::start();
    let nested =
        |n: usize| format!("{{\"kind\":\"a\",\"payload\":{}{}}}", "[".repeat(n), "]".repeat(n));
    let bodies: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "empty"),
        (b" ".to_vec(), "JSON"),
        (b"{".to_vec(), "line 1"),
        (b"{\"kind\":\"a\",}".to_vec(), "line 1"),
        (b"{\"kind\":\n\"a\"} x".to_vec(), "line 2"),
        (b"{'kind':'a'}".to_vec(), "JSON"),
        (b"{\"kind\":\"a\"}{\"kind\":\"b\"}".to_vec(), "trailing"),
        (b"{\"kind\":\"a\",\"kind\":\"b\"}".to_vec(), "duplicate member \"kind\""),
        (b"{\"kind\":\"a\",\"\\u006bind\":\"b\"}".to_vec(), "duplicate member \"kind\""),
        (b"{\"kind\":\"a\",\"payload\":[{\"x\":1,\"x\":2}]}".to_vec(), "duplicate member \"x\""),
        (b"{\"kind\":\"a\",\"payload\":1e400}".to_vec(), "out of range"),
        (b"{\"kind\":\"a\",\"payload\":-1e400}".to_vec(), "out of range"),
        (b"{\"kind\":\"a\",\"payload\":NaN}".to_vec(), "JSON"),
        (b"{\"kind\":\"a\",\"payload\":01}".to_vec(), "JSON"),
        (b"{\"kind\":\"a\",\"payload\":\"\\ud800\"}".to_vec(), "JSON"),
        (b"{\"kind\":\"a\",\"payload\":\"\n\"}".to_vec(), "JSON"),
        (b"{\"kind\":\"a\xff\"}".to_vec(), "UTF-8 at byte 10"),
        (b"\xef\xbb\xbf{\"kind\":\"a\"}".to_vec(), "JSON"),
        (b"\xfe\xff\0{".to_vec(), "UTF-8 at byte 0"),
        (b"\0\0\0\0".to_vec(), "JSON"),
        (nested(64).into_bytes(), "deeper than 64"),
        ("[".repeat(1 << 20).into_bytes(), "deeper than 64"),
    ];
    for path in ["/v1/jobs", "/v1/jobs/batch", "/v1/claims", "/v1/settlements", "/v1/heartbeats"] {
        for (body, told) in &bodies {
            let reply = server.post_text(path, body.clone()).await.problem(400, "malformed-json");
            let detail = reply.json["detail"].as_str().expect("one");
            assert!(detail.contains(told), "{path} {:?}: {detail}", String::from_utf8_lossy(body));
        }
        for (body, kind) in
            [("[]", "an array"), ("7", "a number"), ("null", "null"), ("\"a\"", "a string")]
        {
            let reply = server.post_text(path, body).await.wrong(&[" type"]);
            assert!(reply.json["errors"][0]["detail"].as_str().expect("one").contains(kind));
        }
    }
    let fine = server.post_text("/v1/jobs", nested(63)).await.is(202);
    server
        .post_text(&format!("/v1/jobs/{}/cancel", fine.id()), "{")
        .await
        .problem(400, "malformed-json");
    server.post_text("/v1/queues/q/pause", "nul").await.problem(400, "malformed-json");

    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
        "application/problem+json",
        "application/jsonx",
        "nonsense",
        "",
    ] {
        let request = server.request(Method::POST, "/v1/jobs").body("{\"kind\":\"a\"}");
        let request = with(request, &[("Content-Type", kind)]);
        let reply = server.send(request).await.problem(415, "unsupported-media-type");
        assert_eq!(reply.header("accept"), Some("application/json"));
    }
    let plain = server.request(Method::POST, "/v1/jobs").body("{\"kind\":\"a\"}");
    server.send(plain).await.problem(415, "unsupported-media-type");
    let zipped = server.request(Method::POST, "/v1/jobs").json(&json!({"kind": "a"}));
    let zipped = server.send(with(zipped, &[("Content-Encoding", "gzip")])).await;
    zipped.problem(415, "unsupported-media-type");
    let nothing = server.post_nothing("/v1/jobs").await.problem(400, "malformed-json");
    assert!(nothing.json["detail"].as_str().expect("one").contains("empty"));
    server.is_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_are_wrong_are_all_named_at_once() {
    let server = Server::start();
    let submit = |members: &str| {
        let comma = if members.is_empty() { "" } else { "," };
        let body = format!(r#"{{"kind":"a"{comma}{members}}}"#);
        let client = server.client.clone();
        async move { client.post_text("/v1/jobs", body).await }
    };
    for (members, error) in [
        (r#""max_attemps":3"#, "/max_attemps unknown"),
        (r#""Kind":"a""#, "/Kind unknown"),
        (r#""idempotency_key":"k""#, "/idempotency_key unknown"),
        (r#""a/b~c":1"#, "/a~1b~0c unknown"),
        (r#""":1"#, "/ unknown"),
        (r#""queue":null"#, "/queue type"),
        (r#""queue":7"#, "/queue type"),
        (r#""priority":-101"#, "/priority range"),
        (r#""priority":101"#, "/priority range"),
        (r#""priority":1.0"#, "/priority type"),
        (r#""priority":1e1"#, "/priority type"),
        (r#""priority":"1""#, "/priority type"),
        (r#""priority":99999999999999999999999999"#, "/priority range"),
        (r#""max_attempts":0"#, "/max_attempts range"),
        (r#""max_attempts":-1"#, "/max_attempts range"),
        (r#""max_attempts":101"#, "/max_attempts range"),
        (r#""max_attempts":4294967297"#, "/max_attempts range"),
        (r#""max_attempts":2.5"#, "/max_attempts type"),
        (r#""timeout_seconds":0"#, "/timeout_seconds range"),
        (r#""timeout_seconds":-1"#, "/timeout_seconds range"),
        (r#""timeout_seconds":604800.5"#, "/timeout_seconds range"),
        (r#""timeout_seconds":1e300"#, "/timeout_seconds range"),
        (r#""timeout_seconds":true"#, "/timeout_seconds type"),
        (r#""delay_seconds":-0.001"#, "/delay_seconds range"),
        (r#""delay_seconds":1e18"#, "/delay_seconds range"),
        (r#""run_at":"tomorrow""#, "/run_at format"),
        (r#""run_at":"2026-02-30T00:00:00Z""#, "/run_at format"),
        (r#""run_at":"2026-02-03T00:00:00""#, "/run_at format"),
        (r#""run_at":1790000000"#, "/run_at type"),
        (r#""run_at":"2199-01-01T00:00:00Z""#, "/run_at range"),
        (r#""run_at":"9999-12-31T23:59:59Z""#, "/run_at range"),
        (r#""run_at":"+999999-01-01T00:00:00Z""#, "/run_at format"),
        (r#""start_by":"2001-01-01T00:00:00Z""#, "/start_by range"),
        (r#""run_at":"2027-01-02T00:00:00Z","start_by":"2027-01-01T00:00:00Z""#, "/start_by range"),
        (r#""run_at":"2027-01-01T00:00:00Z","delay_seconds":1"#, "/delay_seconds exclusive"),
        (r#""retention_seconds":0"#, "/retention_seconds range"),
        (r#""retention_seconds":1e12"#, "/retention_seconds range"),
        (r#""expected_duration_seconds":-1"#, "/expected_duration_seconds range"),
        (r#""backoff":[]"#, "/backoff type"),
        (r#""backoff":{"initial_seconds":-1}"#, "/backoff/initial_seconds range"),
        (r#""backoff":{"initial_seconds":9,"max_seconds":8}"#, "/backoff/initial_seconds range"),
        (r#""backoff":{"multiplier":0.5}"#, "/backoff/multiplier range"),
        (r#""backoff":{"jitter":1.01}"#, "/backoff/jitter range"),
        (r#""backoff":{"jiter":1}"#, "/backoff/jiter unknown"),
        (r#""metadata":[]"#, "/metadata type"),
        (r#""metadata":"x""#, "/metadata type"),
        (r#""tags":"a""#, "/tags type"),
        (r#""tags":[""]"#, "/tags/0 length"),
        (r#""tags":["a",7]"#, "/tags/1 type"),
        (r#""tags":["a\u0000"]"#, "/tags/0 pattern"),
        (r#""callback":{"url":"https://a/b"}"#, "/callback unknown"),
    ] {
        submit(members).await.wrong(&[error]);
    }
    let long = format!(r#""tags":["{}"]"#, "t".repeat(129));
    submit(&long).await.wrong(&["/tags/0 length"]);

    // The nearest name is suggested; everything is told in one answer.
    let reply = submit(r#""max_attemps":3,"priority":"high","tags":[1],"zzz":0,"queue":"Q""#).await;
    let mut errors = reply.errors();
    errors.sort();
    let expected = [
        "/max_attemps unknown",
        "/priority type",
        "/queue pattern",
        "/tags/0 type",
        "/zzz unknown",
    ];
    assert_eq!(errors, expected);
    let details = reply.json["errors"].to_string();
    assert!(details.contains("did you mean max_attempts?"), "{details}");
    assert!(details.contains("known are kind, queue, payload"), "{details}");
    assert_eq!(reply.json["detail"], "5 members are wrong; see errors");
    // A flood of them is cut.
    let flood: Vec<String> = (0..5_000).map(|n| format!("\"x{n}\":{n}")).collect();
    let reply = submit(&flood.join(",")).await.problem(422, "validation-failed");
    assert_eq!(reply.errors().len(), 100);

    // Claims are as strict.
    for (body, errors) in [
        (json!({}), &["/worker_id required", "/queues required"][..]),
        (json!({"worker_id": "", "queues": []}), &["/worker_id length", "/queues length"]),
        (json!({"worker_id": "a\nb", "queues": ["q"]}), &["/worker_id length"]),
        (json!({"worker_id": 7, "queues": "q"}), &["/worker_id type", "/queues type"]),
        (json!({"worker_id": "w", "queues": vec!["q"; 101]}), &["/queues length"]),
        (json!({"worker_id": "w", "queues": ["q"], "max_jobs": 0}), &["/max_jobs range"]),
        (json!({"worker_id": "w", "queues": ["q"], "max_jobs": 1.5}), &["/max_jobs type"]),
        (
            json!({"worker_id": "w", "queues": ["q"], "lease_seconds": 0.5}),
            &["/lease_seconds range"],
        ),
        (json!({"worker_id": "w", "queues": ["q"], "wait_seconds": -1}), &["/wait_seconds range"]),
        (json!({"worker_id": "w", "queues": ["q"], "held": "x"}), &["/held type"]),
        (json!({"worker_id": "w", "queues": ["q"], "held": [1]}), &["/held/0 type"]),
        (json!({"worker_id": "w", "queues": ["q"], "held": vec!["x"; 1_001]}), &["/held length"]),
        (json!({"worker_id": "w", "queues": ["q"], "concurrency": -1}), &["/concurrency range"]),
        (
            json!({"worker_id": "w", "queues": ["q"], "hostname": "h".repeat(513)}),
            &["/hostname length"],
        ),
        (json!({"worker_id": "w", "queues": ["q"], "wait": 1}), &["/wait unknown"]),
    ] {
        server.post("/v1/claims", &body).await.wrong(errors);
    }
    server.is_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_names_are_data_and_nothing_else() {
    let server = Server::with(&[("TELEMETRY__LOG_FORMAT", "json")]);
    let long = "q".repeat(129);
    let huge = "q".repeat(10_000);
    for name in [
        "",
        " ",
        "Default",
        "_internal",
        "a b",
        "a\nb",
        "a\r\nX-Evil: 1",
        "a\0b",
        "é",
        "日本",
        "\u{202e}q",
        "'; DROP TABLE live_jobs; --",
        "\" OR 1=1 --",
        "a\"}",
        "../../etc/passwd",
        "%2e%2e",
        "{q}",
        "<script>",
        "$(reboot)",
        "`id`",
        "${jndi:ldap://x}",
        ".hidden",
        "-rf",
        "a/b",
        "a,b",
        "q\u{7f}",
        &long,
        &huge,
    ] {
        let body = json!({"kind": "a", "queue": name});
        server.post("/v1/jobs", &body).await.wrong(&["/queue pattern"]);
        server.post("/v1/jobs", &json!({"kind": name})).await.wrong(&["/kind pattern"]);
        let claim = json!({"worker_id": "w", "queues": ["q", name], "kinds": [name]});
        server.post("/v1/claims", &claim).await.wrong(&["/queues/1 pattern", "/kinds/0 pattern"]);
    }
    for kind in ["system", "system.canary"] {
        server.post("/v1/jobs", &json!({"kind": kind})).await.wrong(&["/kind pattern"]);
    }
    // What may be any text comes back as it was.
    let evil = "'; DROP TABLE live_jobs; -- \u{202e}<script>${x}{{y}}\\\"";
    let body = json!({"kind": "a", "payload": evil, "metadata": {evil: evil}, "tags": [evil]});
    let id = server
        .post_with("/v1/jobs", &body, &[("Idempotency-Key", "'; DROP TABLE --")])
        .await
        .is(202)
        .id();
    let reply = server.get(&format!("/v1/jobs/{id}?include=payload")).await.is(200);
    assert_eq!((&reply.json["payload"], &reply.json["tags"][0]), (&json!(evil), &json!(evil)));
    assert_eq!(reply.json["metadata"][evil], evil);
    let claim = json!({"worker_id": evil, "queues": ["default"], "hostname": evil});
    let lease = server.lease_by(&claim).await;
    let error = json!({"error": {"type": evil, "message": format!("{evil}\n\0"), "details": evil}, "retryable": false});
    let job = server.with_lease("fail", &lease, &error).await.is(200).json;
    assert_eq!((&job["error"]["type"], &job["error"]["details"]), (&json!(evil), &json!(evil)));
    assert_eq!(job["attempts"][0]["worker_id"], evil);
    let query: String = url(evil);
    let listed = server.get(&format!("/v1/jobs?tag={query}&error_type={query}")).await.is(200);
    assert_eq!(listed.json["jobs"].as_array().expect("jobs").len(), 1);
    // And breaks no line of the metrics or of the log.
    let text = String::from_utf8(server.get("/metrics").await.is(200).bytes).expect("text");
    assert!(!text.contains("DROP"));
    let log = server.process.log();
    assert!(log.contains(&id), "the job's end is told: {log}");
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    }
    server.is_alive().await;
}

fn url(text: &str) -> String {
    text.bytes().fold(String::new(), |out, b| out + &format!("%{b:02X}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_routes_and_methods() {
    let server = Server::start();
    for path in [
        "/v1",
        "/v1/",
        "/v2/jobs",
        "/v1/jobs/",
        "/v1/job",
        "/v1/jobs/x/y",
        "//v1/jobs",
        "/metrics/x",
        "/v1/jobs/x/result/",
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE, Method::PATCH] {
            let reply = server.send(server.request(method, path)).await;
            reply.problem(404, "no-such-route");
        }
    }
    let id = server.submit(&json!({"kind": "a"})).await;
    let job = format!("/v1/jobs/{id}");
    for (method, path, allow) in [
        (Method::PUT, "/v1/jobs", &["GET", "HEAD", "POST"][..]),
        (Method::DELETE, "/v1/jobs", &["GET", "HEAD", "POST"]),
        (Method::POST, &job, &["DELETE", "GET", "HEAD"]),
        (Method::PATCH, &job, &["DELETE", "GET", "HEAD"]),
        (Method::GET, "/v1/claims", &["POST"]),
        (Method::PUT, "/v1/settlements", &["POST"]),
        (Method::GET, "/v1/queues/q/pause", &["POST"]),
        (Method::POST, "/livez", &["GET", "HEAD"]),
        (Method::POST, "/metrics", &["GET", "HEAD"]),
        (Method::OPTIONS, "/v1/meta", &["GET", "HEAD"]),
        (Method::from_bytes(b"BREW").expect("a token"), "/", &["GET", "HEAD"]),
    ] {
        let reply =
            server.send(server.request(method, path)).await.problem(405, "method-not-allowed");
        let allowed = reply.header("allow").expect("Allow");
        let mut allowed: Vec<&str> = allowed.split(',').map(str::trim).collect();
        allowed.sort_unstable();
        assert_eq!(allowed, allow, "{path}");
    }
    let head = server.send(server.request(Method::HEAD, "/v1/nothing")).await.is(404);
    assert!(head.bytes.is_empty());
    server.is_alive().await;
}

/// Numbers that are merely odd, and a value of every kind where another belongs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_takes_any_nonsense_calmly() {
    let server = Server::start();
    let nonsense = [
        "null",
        "true",
        "-0",
        "-1",
        "0.1",
        "1e-400",
        "1e308",
        "123456789012345678901234567890",
        "\"\"",
        "\"\\u0000\"",
        "\"\u{202e}\"",
        "[]",
        "[[[[]]]]",
        "{}",
        "{\"\":{}}",
        "\"9999-99-99\"",
    ];
    let members = |names: &'static str| names.split(' ');
    let id = server.submit(&json!({"kind": "a", "queue": "held"})).await;
    let lease = server.lease("w", "held").await;
    let bodies: Vec<(&str, String, &str)> = vec![
        (
            "/v1/jobs",
            r#""kind":"a","queue":"junk""#.to_owned(),
            "payload priority run_at delay_seconds start_by timeout_seconds max_attempts backoff \
          retention_seconds expected_duration_seconds metadata tags kind queue",
        ),
        (
            "/v1/claims",
            r#""worker_id":"x","queues":["none"]"#.to_owned(),
            "kinds max_jobs lease_seconds hostname version concurrency held worker_id queues",
        ),
        (
            "heartbeat",
            format!(r#""lease_token":"{}""#, lease.token),
            "progress checkpoint extend_seconds lease_token",
        ),
        (
            "fail",
            format!(r#""lease_token":"{}x","error":{{"type":"t","message":"m"}}"#, lease.token),
            "error retryable retry_after_seconds",
        ),
        (
            "complete",
            format!(r#""lease_token":"{}x""#, lease.token),
            "result result_location result_content_type",
        ),
    ];
    for (path, base, names) in bodies {
        let path =
            if path.starts_with('/') { path.to_owned() } else { format!("/v1/jobs/{id}/{path}") };
        for name in members(names).filter(|n| !n.is_empty()) {
            for value in nonsense {
                let kept: Vec<&str> = split(&base)
                    .into_iter()
                    .filter(|m| !m.starts_with(&format!("\"{name}\"")))
                    .collect();
                let body =
                    format!("{{{},\"{name}\":{value}}}", kept.join(",")).replacen("{,", "{", 1);
                let reply = server.post_text(&path, body.clone()).await;
                let fine = matches!(reply.status, 200 | 202 | 422)
                    || (reply.status == 400 && value == "\"\\u0000\"");
                assert!(fine, "{path} {body}: {} {}", reply.status, reply.json);
            }
        }
    }
    server.with_lease("heartbeat", &lease, &json!({})).await.is(200);
    assert_eq!(server.complete(&lease, Value::Null).await["status"], "completed");
    server.is_alive().await;
}

/// The members of an object's text whose commas are all between members or inside braces.
fn split(members: &str) -> Vec<&str> {
    let mut depth = 0;
    members
        .split(move |c: char| {
            match c {
                '{' | '[' => depth += 1,
                '}' | ']' => depth -= 1,
                _ => {}
            }
            c == ',' && depth == 0
        })
        .collect()
}
