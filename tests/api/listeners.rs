//! Where the server listens, whom it believes about the client's side, and which pages may read.

use reqwest::Method;
use serde_json::json;

use crate::kit::{Client, Reply, Server, with};
use crate::server::{Launch, raw};

/// Of the second listener, as the log tells it.
fn metrics_port(server: &Server) -> u16 {
    let log = server.process.log();
    let (_, rest) = log.split_once("metrics on http://127.0.0.1:").expect("it is told");
    rest.split_once('/').expect("a path").0.parse().expect("a port")
}

#[tokio::test]
async fn metrics_may_live_on_a_listener_of_their_own() {
    let s = Server::with(&[("SERVER__METRICS_LISTEN", "127.0.0.1:0")]);
    s.submit(&json!({"kind": "k"})).await;
    s.get("/metrics").await.problem(404, "no-such-route");
    let root = s.get("/").await.is(200).json;
    assert!(root["links"].get("metrics").is_none(), "{root}");
    s.get("/readyz").await.is(200);

    let second = Client::new(metrics_port(&s));
    let accepted = second.metrics().await;
    assert!(accepted.sum("punctual_job_submissions_total", &["outcome=\"accepted\""]) >= 1.0);
    second.get("/livez").await.is(200);
    second.get("/readyz?verbose").await.is(200);
    for path in ["/", "/v1/meta", "/v1/jobs", "/v1/queues", "/v1/workers"] {
        second.get(path).await.problem(404, "no-such-route");
    }
    second.post("/metrics", &json!({})).await.problem(405, "method-not-allowed");
    // A page that rebinds its name reads no metrics either.
    let rebound = b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let answer = raw(metrics_port(&s), rebound);
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
}

#[tokio::test]
async fn the_second_listener_shows_the_drain_and_does_not_hold_it_up() {
    let s = Server::with(&[("SERVER__METRICS_LISTEN", "127.0.0.1:0")]);
    let second = Client::new(metrics_port(&s));
    second.get("/readyz").await.is(200);
    // Held open, idle and in the middle of a request.
    let half = std::net::TcpStream::connect(("127.0.0.1", metrics_port(&s))).expect("connect");
    std::io::Write::write_all(&mut &half, b"GET /metrics HTTP/1.1\r\nHost: local").expect("sent");
    let claim = json!({"worker_id": "w", "queues": ["q"], "wait_seconds": 50});
    let parked = s.parked(claim).await;
    let Server { process, client: _client, .. } = s;
    let status = tokio::task::spawn_blocking(move || process.terminate()).await.expect("it ends");
    assert!(status.success(), "{status}");
    parked.await.expect("an answer").is(200);
    drop(half);
}

#[test]
fn a_second_listener_that_cannot_be_is_told_by_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("its address").to_string();
    let dir = tempfile::tempdir().expect("a directory");
    let launch = Launch::new(dir.path().join("jobs.db"));
    let (code, said) = launch.clone().set("SERVER__METRICS_LISTEN", &addr).refused();
    assert_eq!(code, Some(1), "{said:?}");
    let told = said.iter().any(|l| l.contains(&addr) && l.contains("server.metrics_listen"));
    assert!(told, "{said:?}");
    // Open to other machines only by the operator's word, as the first one.
    let (code, said) = launch.set("SERVER__METRICS_LISTEN", "0.0.0.0:0").refused();
    assert_eq!(code, Some(2), "{said:?}");
    let told = said.iter().any(|l| l.contains("METRICS_LISTEN") && l.contains("auth.mode"));
    assert!(told, "{said:?}");
}

async fn submitted(s: &Server, headers: &[(&str, &str)]) -> Reply {
    let request = s.request(Method::POST, "/v1/jobs").json(&json!({"kind": "k"}));
    let reply = s.send_anywhere(with(request, headers)).await.is(202);
    let id = reply.id();
    let url = reply.json["status_url"].as_str().expect("a URL").to_owned();
    assert_eq!(reply.header("location"), Some(&*url));
    assert_eq!(reply.header("link").map(|l| l.contains(&url)), Some(true));
    assert!(url.ends_with(&format!("/v1/jobs/{id}")), "{url}");
    reply
}

fn base(reply: &Reply) -> &str {
    let url = reply.json["status_url"].as_str().expect("a URL");
    url.split_once("/v1/").expect("a path").0
}

const FORWARDED: (&str, &str) =
    ("forwarded", "for=192.0.2.1;proto=https;host=jobs.example.com, for=127.0.0.9;host=inner");
const OLDER: [(&str, &str); 2] =
    [("x-forwarded-proto", "https"), ("x-forwarded-host", "old.example.com")];

#[tokio::test]
async fn links_follow_a_trusted_proxys_word() {
    let s = Server::with(&[("SERVER__TRUSTED_PROXIES", "10.0.0.0/8, 127.0.0.0/8")]);
    assert_eq!(base(&submitted(&s, &[]).await), s.base);
    assert_eq!(base(&submitted(&s, &[FORWARDED]).await), "https://jobs.example.com");
    assert_eq!(base(&submitted(&s, &OLDER).await), "https://old.example.com");
    // One of them may be a client's.
    let both = [FORWARDED, OLDER[0], OLDER[1]];
    assert_eq!(base(&submitted(&s, &both).await), s.base);
    let same = [FORWARDED, OLDER[0], ("x-forwarded-host", "jobs.example.com")];
    assert_eq!(base(&submitted(&s, &same).await), "https://jobs.example.com");
    // What cannot be understood changes nothing.
    let broken = ("forwarded", "proto=https;host=\"evil.example");
    assert_eq!(base(&submitted(&s, &[broken, OLDER[1]]).await), s.base);
    // The rule on `Host` looks at `Host`.
    let reply = s.get_with("/", &[("host", "evil.example"), FORWARDED]).await;
    reply.problem(421, "misdirected-host");
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let s = Server::with(&[("SERVER__TRUSTED_PROXIES", "10.0.0.0/8")]);
    for headers in [&[FORWARDED][..], &OLDER[..]] {
        assert_eq!(base(&submitted(&s, headers).await), s.base);
    }
    let s = Server::with(&[
        ("SERVER__TRUSTED_PROXIES", "127.0.0.1/32"),
        ("SERVER__PUBLIC_URL", "https://public.example.com"),
    ]);
    assert_eq!(base(&submitted(&s, &[FORWARDED]).await), "https://public.example.com");
}

const PAGE: &str = "https://app.example.com";

async fn preflight(s: &Server, path: &str, origin: &str) -> Reply {
    let asks = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "idempotency-key,authorization,content-type"),
    ];
    s.send(with(s.request(Method::OPTIONS, path), &asks)).await
}

fn list(reply: &Reply, header: &str) -> Vec<String> {
    let text = reply.header(header).unwrap_or_default();
    text.split(',').map(|item| item.trim().to_ascii_lowercase()).collect()
}

#[tokio::test]
async fn named_pages_may_read_answers() {
    let other = "http://localhost:3000";
    let s = Server::with(&[("SERVER__CORS_ORIGINS", &format!("{PAGE}, {other}"))]);
    for origin in [PAGE, other] {
        let reply = preflight(&s, "/v1/jobs", origin).await.is(204);
        assert_eq!(reply.header("access-control-allow-origin"), Some(origin));
        assert!(list(&reply, "access-control-allow-methods").contains(&"post".to_owned()));
        for asked in ["idempotency-key", "authorization", "content-type", "prefer"] {
            assert!(list(&reply, "access-control-allow-headers").contains(&asked.to_owned()));
        }
        assert!(list(&reply, "vary").contains(&"origin".to_owned()));
        assert_eq!(reply.header("access-control-allow-credentials"), None);
    }
    let id = s.submit(&json!({"kind": "k"})).await;
    let page = [("origin", PAGE)];
    let reply = s.get_with(&format!("/v1/jobs/{id}"), &page).await.is(200);
    assert_eq!(reply.header("access-control-allow-origin"), Some(PAGE));
    let exposed = list(&reply, "access-control-expose-headers");
    for header in [
        "location",
        "retry-after",
        "etag",
        "link",
        "preference-applied",
        "idempotent-replayed",
        "traceresponse",
    ] {
        assert!(exposed.contains(&header.to_owned()), "{header} in {exposed:?}");
    }
    // Also a 304 and a refusal, which a page must be able to understand.
    let tag = reply.header("etag").expect("a tag").to_owned();
    let known = [page[0], ("if-none-match", &*tag)];
    let unchanged = s.get_with(&format!("/v1/jobs/{id}"), &known).await.is(304);
    assert_eq!(unchanged.header("access-control-allow-origin"), Some(PAGE));
    let refused = s.get_with("/v1/jobs/nothing", &page).await.problem(404, "no-such-job");
    assert_eq!(refused.header("access-control-allow-origin"), Some(PAGE));
}

#[tokio::test]
async fn other_pages_may_not() {
    let s = Server::with(&[("SERVER__CORS_ORIGINS", PAGE)]);
    for origin in ["https://evil.example", "null", "http://app.example.com"] {
        let reply = preflight(&s, "/v1/jobs", origin).await.problem(405, "method-not-allowed");
        assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}");
        let reply = s.get_with("/v1/meta", &[("origin", origin)]).await.is(200);
        assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}");
        assert_eq!(reply.header("vary").map(|v| v.contains("Origin")), Some(true));
    }
    // A question that is no preflight.
    let plain = with(s.request(Method::OPTIONS, "/v1/jobs"), &[("origin", PAGE)]);
    s.send(plain).await.problem(405, "method-not-allowed");
}

#[tokio::test]
async fn by_default_no_page_may() {
    let s = Server::start();
    let reply = preflight(&s, "/v1/jobs", PAGE).await.problem(405, "method-not-allowed");
    assert_eq!(reply.header("access-control-allow-origin"), None);
    let reply = s.get_with("/v1/meta", &[("origin", PAGE)]).await.is(200);
    assert_eq!(reply.header("access-control-allow-origin"), None);
    assert_eq!(reply.header("vary"), None);
}
