//! Web pages on the server's own machine: without a token to ask for, they are kept out by where
//! they come from.

use reqwest::Method;
use serde_json::json;

use crate::auth::{secret, token};
use crate::kit::{Reply, Server, with};

const EVIL: [(&str, &str); 2] =
    [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")];

async fn change(server: &Server, path: &str, headers: &[(&str, &str)]) -> Reply {
    server.send(with(server.request(Method::POST, path), headers)).await
}

#[tokio::test]
async fn no_other_page_changes_anything() {
    let s = Server::with(&[("SERVER__CORS_ORIGINS", "https://app.example.com")]);
    let id = s.submit(&json!({"kind": "k", "queue": "q"})).await;
    let paths = [
        "/v1/queues/q/pause".to_owned(),
        "/v1/queues/q/resume".to_owned(),
        "/v1/workers/w/goodbye".to_owned(),
        "/v1/workers/w/drain".to_owned(),
        format!("/v1/jobs/{id}/cancel"),
        format!("/v1/jobs/{id}/retry"),
    ];
    let foreign: [&[(&str, &str)]; 5] = [
        &EVIL,
        &EVIL[1..],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("origin", "http://localhost:3000")],
    ];
    for path in &paths {
        for headers in foreign {
            change(&s, path, headers).await.problem(403, "cross-site");
        }
    }
    let delete = s.request(Method::DELETE, &format!("/v1/jobs/{id}"));
    s.send(with(delete, &EVIL)).await.problem(403, "cross-site");
    assert_eq!(s.job(&id).await["status"], "pending");
    assert_eq!(s.get("/v1/queues/q").await.is(200).json["paused"], false);

    // Reading is the browser's to forbid; a person's link is no page's request.
    s.get_with("/v1/meta", &EVIL).await.is(200);
    let ours: [&[(&str, &str)]; 4] = [
        &[],
        &[("sec-fetch-site", "none")],
        &[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:8080")],
        &[("sec-fetch-site", "cross-site"), ("origin", "https://app.example.com")],
    ];
    for headers in ours {
        change(&s, "/v1/queues/q/pause", headers).await.is(200);
    }
}

#[tokio::test]
async fn with_tokens_a_page_has_none_and_that_is_enough() {
    let s = Server::configured(&[], &token("ops", &["operate"], ""));
    change(&s, "/v1/queues/q/pause", &EVIL).await.problem(401, "unauthenticated");
    let bearer = format!("Bearer {}", secret("ops"));
    let known = [EVIL[0], EVIL[1], ("authorization", bearer.as_str())];
    change(&s, "/v1/queues/q/pause", &known).await.is(200);
}

/// `auth.mode = "off"` trusts whoever connects, and the pages of this machine's browsers only where
/// there is a sign that somebody else keeps watch.
#[tokio::test]
async fn nobody_is_asked_and_pages_are_kept_out_all_the_same() {
    let strange = [("host", "evil.example")];
    let s = Server::with(&[("AUTH__MODE", "off")]);
    s.get_with("/v1/meta", &strange).await.problem(421, "misdirected-host");
    s.submit(&json!({"kind": "k", "queue": "q"})).await;
    change(&s, "/v1/queues/q/pause", &EVIL).await.problem(403, "cross-site");
    assert!(!s.process.log().contains("every web page"), "{}", s.process.log());

    for sign in [
        ("SERVER__PUBLIC_URL", "https://jobs.example.com"),
        ("SERVER__TRUSTED_PROXIES", "127.0.0.0/8"),
    ] {
        let s = Server::with(&[("AUTH__MODE", "off"), sign]);
        let request = with(s.request(Method::GET, "/v1/meta"), &strange);
        s.send_anywhere(request).await.is(200);
        assert_eq!(s.process.log().matches("every web page").count(), 1, "{}", s.process.log());
    }
}
