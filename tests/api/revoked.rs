//! Those who wait with a token that is none any more.

use serde_json::{Value, json};

use crate::answer::in_millis;
use crate::auth::{As, heard, secret, token, write};
use crate::kit::{Metrics, Server};
use crate::server::until;

fn claim(worker: &str) -> Value {
    json!({"worker_id": worker, "queues": ["q"], "wait_seconds": 50})
}

fn bearer(name: &str) -> String {
    format!("Bearer {}", secret(name))
}

async fn parked(server: &Server, posts: usize, gets: usize) {
    until("parked requests", || async {
        let metrics = Metrics::of(As(server, "ops").get("/metrics").await.is(200));
        let active = |method: &str| {
            let label = format!("http_request_method=\"{method}\"");
            metrics.sum("http_server_active_requests", &[&label]) as usize
        };
        (active("POST") >= posts && active("GET") > gets).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_ends_the_waits_of_tokens_that_are_gone() {
    let ops = token("ops", &["operate", "work"], "");
    let stays = token("stays", &["work"], "");
    let gone = token("gone", &["submit", "work"], "");
    let wide = token("narrows", &["work"], "");
    let server = Server::configured(&[], &[&*ops, &*stays, &*gone, &*wide].concat());
    let id = As(&server, "gone").submit(&json!({"kind": "k", "queue": "other"})).await;
    let wait = |name: &str, path: &str, body: Value| {
        server.posting(path, body, &[("Authorization", &bearer(name))])
    };
    let read = |path: String| {
        let headers = [("Authorization", bearer("gone")), ("Prefer", "wait=50".to_owned())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        server.getting(&path, &headers)
    };
    let stays_on = wait("stays", "/v1/claims", claim("w1"));
    let narrowed = wait("narrows", "/v1/claims", claim("w2"));
    let settle = json!({"worker_id": "w4", "settlements": [], "claim": claim("w4")});
    let ended = [
        wait("gone", "/v1/claims", claim("w3")),
        wait("gone", "/v1/settlements", settle),
        read(format!("/v1/jobs/{id}")),
        read(format!("/v1/jobs/{id}/result")),
    ];
    parked(&server, 4, 2).await;

    let narrow = token("narrows", &["work"], "queues = [\"other\"]");
    write(&server, &[&*ops, &*stays, &*narrow].concat());
    server.process.signal("HUP");
    for ended in ended {
        let refused = ended.await.expect("an answer").problem(401, "unauthenticated");
        assert!(refused.header("www-authenticate").is_some_and(|v| v.contains("invalid_token")));
    }
    let empty = narrowed.await.expect("an answer").is(200);
    assert_eq!(empty.json["jobs"], json!([]), "it is for another queue now");
    heard(&server, "added=\"\" removed=\"gone\" changed=\"narrows\"", 1).await;

    // Who stays gets what comes, and nobody else took it first.
    assert!(!stays_on.is_finished());
    write(&server, &[&*ops, &*stays, &*gone].concat());
    server.process.signal("HUP");
    heard(&server, "configuration read again", 2).await;
    let id = As(&server, "gone").submit(&json!({"kind": "k", "queue": "q"})).await;
    let claimed = stays_on.await.expect("an answer").is(200).json;
    assert_eq!(
        (&claimed["jobs"][0]["job_id"], &claimed["jobs"][0]["attempt"]),
        (&json!(id), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_ends_with_its_token() {
    let brief = format!("expires_at = \"{}\"", in_millis(4_000));
    let tokens = [token("ops", &["operate"], ""), token("brief", &["work"], &brief)].concat();
    let server = Server::configured(&[], &tokens);
    let waits = server.posting("/v1/claims", claim("w"), &[("Authorization", &bearer("brief"))]);
    let refused = waits.await.expect("an answer").problem(401, "unauthenticated");
    assert!(refused.json["detail"].as_str().is_some_and(|d| d.contains("expired")));
    let metrics = Metrics::of(As(&server, "ops").get("/metrics").await.is(200));
    assert!(metrics.sum("punctual_auth_refusals_total", &["reason=\"expired\""]) >= 1.0);
}
