//! Tokens: who is let in where, what is said to whoever is not, and that no token is said to anybody.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::kit::{Client, Lease, Metrics, Reply, Server, with};
use crate::server::{Launch, until};

pub const SCOPES: [&str; 5] = ["submit", "work", "operate", "metrics", "read"];

/// What a test calls a token is the start of the token itself.
pub fn secret(name: &str) -> String {
    format!("{name}-s3cret-4f9a1c77b2")
}

pub fn token(name: &str, scopes: &[&str], more: &str) -> String {
    let hash = Sha256::digest(secret(name)).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string");
        hex
    });
    let scopes = scopes.join("\", \"");
    format!(
        "[[auth.tokens]]\nname = \"{name}\"\nsha256 = \"{hash}\"\nscopes = [\"{scopes}\"]\n{more}\n"
    )
}

/// A token for each scope, called like it.
fn one_for_each() -> String {
    SCOPES.map(|scope| token(scope, &[scope], "")).concat()
}

/// As whoever has the token of this name.
pub struct As<'a>(pub &'a Client, pub &'a str);

impl As<'_> {
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let request = self.0.request(method, path);
        let request = body.map_or(request.try_clone().expect("no body"), |body| request.json(body));
        let bearer = format!("Bearer {}", secret(self.1));
        self.0.send(with(request, &[("Authorization", &bearer)])).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.call(Method::POST, path, Some(body)).await
    }

    pub async fn submit(&self, body: &Value) -> String {
        self.post("/v1/jobs", body).await.is(202).id()
    }

    async fn metrics(&self) -> Metrics {
        Metrics::of(self.get("/metrics").await.is(200))
    }
}

const ALL: &[&str] = &SCOPES;
const READERS: &[&str] = &["submit", "operate", "read"];
const NUMBERS: &[&str] = &["submit", "operate", "metrics", "read"];

/// Every route, and the scopes that open it. `ID` is a job's.
const ROUTES: [(&str, &str, &[&str]); 36] = [
    ("GET", "/readyz?verbose", &["operate", "metrics"]),
    ("GET", "/metrics", &["operate", "metrics"]),
    ("GET", "/v1/meta", ALL),
    ("POST", "/v1/jobs", &["submit"]),
    ("POST", "/v1/jobs/batch", &["submit"]),
    ("GET", "/v1/jobs", READERS),
    ("HEAD", "/v1/jobs", READERS),
    ("GET", "/v1/jobs/ID", READERS),
    ("GET", "/v1/jobs/ID?include=payload", &["submit", "operate"]),
    ("GET", "/v1/jobs/ID/result", READERS),
    ("GET", "/v1/jobs/ID/timeline", READERS),
    ("GET", "/v1/jobs/ID/explain", READERS),
    ("POST", "/v1/jobs/ID/cancel", &["submit", "operate"]),
    ("POST", "/v1/jobs/ID/retry", &["operate"]),
    ("DELETE", "/v1/jobs/ID", &["submit", "operate"]),
    ("POST", "/v1/jobs/ID/heartbeat", &["work"]),
    ("POST", "/v1/jobs/ID/complete", &["work"]),
    ("POST", "/v1/jobs/ID/fail", &["work"]),
    ("POST", "/v1/jobs/ID/release", &["work"]),
    ("POST", "/v1/jobs/ID/cancelled", &["work"]),
    ("POST", "/v1/claims", &["work"]),
    ("POST", "/v1/heartbeats", &["work"]),
    ("POST", "/v1/settlements", &["work"]),
    ("POST", "/v1/workers/w/goodbye", &["work"]),
    ("POST", "/v1/workers/w/drain", &["operate"]),
    ("GET", "/v1/workers", READERS),
    ("GET", "/v1/queues", NUMBERS),
    ("GET", "/v1/queues/default", NUMBERS),
    ("PATCH", "/v1/queues/default", &["operate"]),
    ("GET", "/v1/queues/default/explain", READERS),
    ("POST", "/v1/queues/default/pause", &["operate"]),
    ("POST", "/v1/queues/default/resume", &["operate"]),
    ("GET", "/v1/kinds", NUMBERS),
    ("GET", "/v1/episodes", READERS),
    ("GET", "/v1/tasks", NUMBERS),
    ("HEAD", "/v1/queues/default", NUMBERS),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_and_every_scope() {
    let ended = token("ended", &["operate"], "expires_at = \"2020-01-01T00:00:00Z\"");
    let server = Server::configured(&[], &(one_for_each() + &ended));
    // Everything that is said, to be searched in the end.
    let mut said = String::new();
    for (method, path, open_to) in ROUTES {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let id = As(&server, "submit").submit(&json!({"kind": "a", "delay_seconds": 60})).await;
        let path = path.replace("ID", &id);
        let body = (method == Method::POST).then(|| json!({}));
        let call = async |name| As(&server, name).call(method.clone(), &path, body.as_ref()).await;
        for name in ["nobody", "ended"] {
            let reply = call(name).await.is(401);
            let challenge = "Bearer realm=\"jobs\", error=\"invalid_token\"";
            assert_eq!(reply.header("www-authenticate"), Some(challenge), "{method} {path}");
            said += &String::from_utf8_lossy(&reply.bytes);
        }
        let reply = server.send(server.request(method.clone(), &path)).await.is(401);
        assert_eq!(reply.header("www-authenticate"), Some("Bearer realm=\"jobs\""));
        assert!(method == Method::HEAD || reply.json["code"] == "unauthenticated");
        for scope in SCOPES {
            let reply = call(scope).await;
            said += &String::from_utf8_lossy(&reply.bytes);
            let what = format!("{scope}: {method} {path}: {} {}", reply.status, reply.json);
            if open_to.contains(&scope) {
                assert!(!matches!(reply.status, 401 | 403 | 405), "{what}");
                assert!(reply.header("www-authenticate").is_none(), "{what}");
            } else {
                assert_eq!(reply.status, 403, "{what}");
                let expected = format!(
                    "Bearer realm=\"jobs\", error=\"insufficient_scope\", scope=\"{}\"",
                    reply_scope(&path, open_to, scope),
                );
                assert_eq!(reply.header("www-authenticate"), Some(expected.as_str()), "{what}");
                assert!(method == Method::HEAD || reply.json["code"] == "insufficient-scope");
            }
        }
    }
    each_is_described(&server.get("/openapi.json").await.is(200).json);
    // Balancers and newcomers need none, and what is not there is not there for anybody.
    for path in ["/", "/livez", "/readyz"] {
        server.get(path).await.is(200);
    }
    server.get("/v1/nothing").await.problem(404, "no-such-route");
    let reply = server.send(server.request(Method::PUT, "/v1/jobs")).await.is(405);
    assert_eq!(reply.header("allow"), Some("POST, GET, HEAD"));

    let metrics = As(&server, "metrics").get("/metrics").await.is(200);
    said += &String::from_utf8_lossy(&metrics.bytes);
    let metrics = Metrics::of(metrics);
    let refused = |reason| {
        metrics.sum("punctual_auth_refusals_total", &[&format!("reason=\"{reason}\"")]) as usize
    };
    assert_eq!(["no_token", "unknown", "expired"].map(refused), [ROUTES.len(); 3]);
    let submissions =
        |outcome: &str| metrics.sum("punctual_job_submissions_total", &["_none", outcome]) as usize;
    assert_eq!(submissions("outcome=\"unauthorized\""), 2 * (3 + 4));
    said += &server.process.log();
    for name in SCOPES.iter().chain(&["nobody", "ended"]) {
        assert!(!said.contains(&secret(name)), "{name}");
    }
    assert!(!said.contains("s3cret"));
}

/// The description knows the same operations, and that the same scopes open them.
fn each_is_described(about: &Value) {
    let implied = |scope: &str| -> &[&str] {
        match scope {
            "submit" => &["submit", "read"],
            "operate" => &["operate", "read", "metrics"],
            "work" => &["work"],
            "metrics" => &["metrics"],
            "read" => &["read"],
            _ => panic!("{scope}"),
        }
    };
    let mut described = BTreeMap::new();
    for (path, methods) in about["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            if operation["security"].as_array().is_some_and(|needs| !needs.is_empty()) {
                let needs = operation["x-one-of-scopes"].as_array();
                let opens = |scope: &&str| {
                    let needs = needs.expect("a list");
                    let has = |need: &Value| implied(scope).iter().any(|i| need == i);
                    needs.is_empty() || needs.iter().any(has)
                };
                let open_to: Vec<&str> = SCOPES.into_iter().filter(opens).collect();
                described.insert((method.to_uppercase(), path.clone()), open_to);
            }
        }
    }
    let tried =
        ROUTES.into_iter().filter(|(method, path, _)| *method != "HEAD" && !path.contains('?'));
    let tried = tried.map(|(method, path, open_to)| {
        let path = path.replace("ID", "{id}").replace("/w/", "/{id}/").replace("default", "{q}");
        ((method.to_owned(), path), open_to.to_vec())
    });
    assert_eq!(tried.collect::<BTreeMap<_, _>>(), described);
}

/// The scope that a 403 names: the first of those that would do by themselves.
fn reply_scope<'a>(path: &str, open_to: &[&'a str], has: &str) -> &'a str {
    if path.ends_with("payload") && !READERS.contains(&has) {
        return "read";
    }
    let direct: &[&str] = if path.starts_with("/metrics") || path.starts_with("/readyz") {
        &["metrics"]
    } else if open_to == READERS || open_to == NUMBERS {
        &["read"]
    } else {
        open_to
    };
    open_to.iter().find(|scope| direct.contains(scope)).expect("one")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_are_no_token() {
    let server = Server::configured(&[], &token("a", &["read"], ""));
    let good = format!("Bearer {}", secret("a"));
    let plain = "Bearer realm=\"jobs\"";
    let invalid = "Bearer realm=\"jobs\", error=\"invalid_token\"";
    for (values, challenge) in [
        (&[good.as_str(), good.as_str()][..], invalid),
        (&["Basic dXNlcjpwYXNz"], plain),
        (&["Bearer"], plain),
        (&["Bearer  "], plain),
        (&[""], plain),
        (&[secret("a").as_str()], plain),
        (&["Bearer a b"], invalid),
        (&["Bearer é"], invalid),
        (&[&format!("Bearer {}", "x".repeat(10_000))], invalid),
    ] {
        let request = server.request(Method::GET, "/v1/jobs");
        let request = values.iter().fold(request, |r, value| {
            let value = reqwest::header::HeaderValue::from_bytes(value.as_bytes()).expect("one");
            r.header("Authorization", value)
        });
        let reply = server.send(request).await.problem(401, "unauthenticated");
        assert_eq!(reply.header("www-authenticate"), Some(challenge), "{values:?}");
        assert!(!reply.json.to_string().contains("s3cret"), "{}", reply.json);
    }
    for scheme in ["bearer", "BEARER", "Bearer "] {
        let value = format!("{scheme} {}", secret("a"));
        server.get_with("/v1/jobs", &[("Authorization", &value)]).await.is(200);
    }
    // It is decided before the body is looked at.
    let reply = server.post_text("/v1/jobs", "{").await.problem(401, "unauthenticated");
    assert!(reply.json["detail"].as_str().expect("words").contains("Authorization: Bearer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_for_its_namespace() {
    let tokens = [
        token("shop", &["submit"], "namespace = \"shop\""),
        token("bank", &["submit"], "namespace = \"bank\""),
        token("ops", &["operate"], ""),
    ];
    let server = Server::configured(&[], &tokens.concat());
    let (shop, bank) = (As(&server, "shop"), As(&server, "bank"));
    let id = shop.submit(&json!({"kind": "a"})).await;
    let path = format!("/v1/jobs/{id}");
    shop.get(&path).await.is(200);
    bank.get(&path).await.problem(404, "no-such-job");
    bank.post(&format!("{path}/cancel"), &json!({})).await.problem(404, "no-such-job");
    bank.call(Method::DELETE, &path, None).await.problem(404, "no-such-job");
    assert_eq!(bank.get("/v1/jobs").await.is(200).json["jobs"], json!([]));
    assert_eq!(shop.get("/v1/jobs").await.is(200).json["jobs"][0]["job_id"], id);
    let force = json!({"force": true});
    let reply = shop.post(&format!("{path}/cancel"), &force).await;
    let reply = reply.problem(403, "insufficient-scope");
    assert!(reply.header("www-authenticate").is_some_and(|c| c.ends_with("scope=\"operate\"")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_for_its_queues_and_kinds() {
    let confined = "queues = [\"a\", \"b\"]\nkinds = [\"k\"]";
    let tokens = [
        token("some", &["submit", "work"], confined),
        token("one", &["operate"], "queues = [\"a\"]"),
        token("all", &["submit", "work", "operate"], ""),
    ];
    let server = Server::configured(&[], &tokens.concat());
    let (some, one, all) = (As(&server, "some"), As(&server, "one"), As(&server, "all"));
    let ours = some.submit(&json!({"kind": "k", "queue": "a"})).await;
    let other_queue = all.submit(&json!({"kind": "k", "queue": "c"})).await;
    let other_kind = all.submit(&json!({"kind": "l", "queue": "a"})).await;
    let refused = |reply: Reply, word: &str| {
        let reply = reply.problem(403, "insufficient-scope");
        assert!(reply.json["detail"].as_str().expect("words").ends_with(word), "{}", reply.json);
        assert!(reply.header("www-authenticate").is_some());
    };

    let job = |queue: &str, kind: &str| json!({"kind": kind, "queue": queue});
    refused(some.post("/v1/jobs", &job("c", "k")).await, "not for queue c");
    refused(some.post("/v1/jobs", &job("a", "l")).await, "not for kind l");
    refused(some.post("/v1/jobs", &json!({"kind": "k"})).await, "not for queue default");
    let batch = json!({"jobs": [job("a", "k"), job("c", "k")]});
    refused(some.post("/v1/jobs/batch", &batch).await, "not for queue c");

    for (id, word) in [(&other_queue, "queue c"), (&other_kind, "kind l")] {
        for what in ["", "/result", "/timeline", "/explain"] {
            refused(some.get(&format!("/v1/jobs/{id}{what}")).await, word);
        }
        refused(some.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await, word);
        refused(some.call(Method::DELETE, &format!("/v1/jobs/{id}"), None).await, word);
    }
    let ids = |reply: Reply| {
        let jobs = reply.is(200).json["jobs"].as_array().expect("jobs").clone();
        jobs.iter().map(|j| j["job_id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(some.get("/v1/jobs").await), *std::slice::from_ref(&ours));
    refused(some.get("/v1/jobs?queue=c").await, "queue c");
    refused(some.get("/v1/jobs?kind=l").await, "kind l");
    assert_eq!(ids(one.get("/v1/jobs").await), [other_kind.clone(), ours.clone()]);
    assert_eq!(ids(all.get("/v1/jobs").await).len(), 3);

    let queues = one.get("/v1/queues").await.is(200).json;
    assert_eq!(queues["queues"].as_array().map(Vec::len), Some(1), "{queues}");
    refused(one.get("/v1/queues/c").await, "queue c");
    refused(one.get("/v1/queues/c/explain").await, "queue c");
    refused(one.post("/v1/queues/c/pause", &json!({})).await, "queue c");
    one.post("/v1/queues/a/resume", &json!({})).await.is(200);

    let claim = |queue: &str| json!({"worker_id": "w", "queues": [queue], "max_jobs": 9});
    let mut of_kind = claim("a");
    of_kind["kinds"] = json!(["l"]);
    refused(some.post("/v1/claims", &claim("c")).await, "queue c");
    refused(some.post("/v1/claims", &of_kind).await, "kind l");
    let settle = json!({"worker_id": "w", "settlements": [], "claim": claim("c")});
    refused(some.post("/v1/settlements", &settle).await, "queue c");
    // Every kind is every kind that it is for.
    let claimed = some.post("/v1/claims", &claim("a")).await.is(200).json;
    let jobs = claimed["jobs"].as_array().expect("jobs");
    assert_eq!(jobs.len(), 1, "{claimed}");
    let lease = Lease::of(&jobs[0]);
    assert_eq!(lease.id, ours);
    let done = json!({"lease_token": lease.token});
    some.post(&format!("/v1/jobs/{ours}/complete"), &done).await.is(200);

    let metrics = all.metrics().await;
    let outcome = |queue: &str| {
        let labels = [queue, "outcome=\"unauthorized\""];
        metrics.sum("punctual_job_submissions_total", &labels) as u64
    };
    // Of the batch both, for neither was accepted.
    let counted = ["queue=\"a\"", "queue=\"c\"", "queue=\"default\""].map(outcome);
    assert_eq!(counted, [2, 2, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_has_a_rate() {
    let tokens = [
        token("slow", &["submit"], "rate_limit_per_second = 0.01"),
        token("quick", &["read"], "rate_limit_per_second = 100"),
        token("free", &["metrics"], ""),
    ];
    let server = Server::configured(&[], &tokens.concat());
    let job = json!({"kind": "a"});
    let first = As(&server, "slow").post("/v1/jobs", &job).await.is(202);
    assert_eq!(first.header("ratelimit-policy"), Some("\"requests\";q=1;w=100"));
    assert_eq!(first.header("ratelimit"), Some("\"requests\";r=0;t=100"));
    // Before the body: this one is not JSON.
    let request = server.request(Method::POST, "/v1/jobs").body("{");
    let bearer = format!("Bearer {}", secret("slow"));
    let second = server.send(with(request, &[("Authorization", &bearer)])).await;
    let second = second.problem(429, "rate-limited");
    let kind = "https://iana.org/assignments/http-problem-types#quota-exceeded";
    assert_eq!(second.json["type"], kind);
    assert_eq!(second.json["violated-policies"], json!(["requests"]));
    assert_eq!(second.header("ratelimit-policy"), Some("\"requests\";q=1;w=100"));
    let left = second.header("ratelimit").expect("RateLimit").to_owned();
    let (start, wait) = left.rsplit_once('=').expect("t");
    assert_eq!(start, "\"requests\";r=0;t");
    assert!(second.retry_after() >= wait.parse().expect("seconds"), "{left}");
    // Without the right it counts all the same; without a need nothing does.
    let wrong = As(&server, "slow").post("/v1/claims", &json!({})).await;
    wrong.problem(429, "rate-limited");
    let wrong = As(&server, "quick").post("/v1/claims", &json!({})).await;
    let wrong = wrong.problem(403, "insufficient-scope");
    assert_eq!(wrong.header("ratelimit-policy"), Some("\"requests\";q=100;w=1"));
    assert!(wrong.header("ratelimit").is_some_and(|v| v.starts_with("\"requests\";r=99")));
    server.get("/livez").await.is(200);

    let reply = As(&server, "quick").get("/v1/jobs").await.is(200);
    assert_eq!(reply.header("ratelimit-policy"), Some("\"requests\";q=100;w=1"));
    assert!(reply.header("ratelimit").is_some_and(|v| v.starts_with("\"requests\";r=9")));
    let reply = As(&server, "free").get("/metrics").await.is(200);
    assert!(reply.header("ratelimit").is_none());
    let metrics = Metrics::of(reply);
    let count = |metric, label| metrics.sum(metric, &[label]) as u64;
    assert_eq!(count("punctual_job_submissions_total", "outcome=\"rate_limited\""), 1);
    assert_eq!(count("punctual_auth_refusals_total", "reason=\"rate\""), 2);
    assert_eq!(count("punctual_job_submissions_total", "outcome=\"accepted\""), 1);
}

pub fn write(server: &Server, toml: &str) {
    // As a whole: the server may read it at any moment.
    let file = server.dir.path().join("punctual.toml");
    let new = file.with_extension("new");
    std::fs::write(&new, toml).expect("the configuration");
    std::fs::rename(new, file).expect("put in place");
}

pub async fn heard(server: &Server, words: &str, times: usize) {
    until(words, || async { (server.process.log().matches(words).count() >= times).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_change_under_way() {
    let always = token("ops", &["operate"], "");
    let old = token("old", &["submit", "work"], "");
    let new = token("new", &["submit", "work"], "");
    let server = Server::configured(&[], &format!("{always}{old}"));
    let (ops, by_old, by_new) = (As(&server, "ops"), As(&server, "old"), As(&server, "new"));
    let bearer = format!("Bearer {}", secret("old"));
    let claim = json!({"worker_id": "w", "queues": ["default"], "wait_seconds": 50});
    let parked = server.posting("/v1/claims", claim, &[("Authorization", &bearer)]);
    until("a parked claim", || async {
        let workers = ops.get("/v1/workers").await.is(200).json;
        (workers["workers"][0]["worker_id"] == "w").then_some(())
    })
    .await;

    // Both for a while, as a change is made.
    write(&server, &format!("{always}{old}{new}"));
    server.process.signal("HUP");
    heard(&server, "configuration read again", 1).await;
    heard(&server, "added=\"new\" removed=\"\" changed=\"\"", 1).await;
    by_old.get("/v1/meta").await.is(200);
    by_new.get("/v1/meta").await.is(200);
    write(&server, &format!("{always}{new}\n[server]\nheader_timeout = \"31s\"\n"));
    server.process.signal("HUP");
    heard(&server, "configuration read again", 2).await;
    heard(&server, "removed=\"old\"", 1).await;
    by_old.get("/v1/meta").await.problem(401, "unauthenticated");
    heard(&server, "server.header_timeout", 1).await;
    // Who waited with it gets nothing more, and at once.
    parked.await.expect("one").problem(401, "unauthenticated");
    let id = by_new.submit(&json!({"kind": "a"})).await;
    let claim = json!({"worker_id": "v", "queues": ["default"]});
    let claimed = by_new.post("/v1/claims", &claim).await.is(200).json;
    assert_eq!(claimed["jobs"][0]["job_id"], id);
    assert_eq!(claimed["jobs"][0]["attempt"], 1);
    let in_force =
        async || ops.metrics().await.sum("punctual_config_last_reload_successful", &[]) as u64;
    assert_eq!(in_force().await, 1);

    // What will not do is refused whole.
    write(&server, &format!("{always}{old}[[auth.tokens]]\nname = \"x\"\n[joobs]\n"));
    server.process.signal("HUP");
    heard(&server, "configuration refused", 3).await;
    assert_eq!(in_force().await, 0);
    let log = server.process.log();
    assert!(log.contains("auth.tokens.sha256: required") && log.contains("did you mean jobs?"));
    by_old.get("/v1/meta").await.problem(401, "unauthenticated");
    by_new.get("/v1/meta").await.is(200);
    // A file that has gone opens nothing.
    std::fs::remove_file(server.dir.path().join("punctual.toml")).expect("removed");
    server.process.signal("HUP");
    heard(&server, "no such file", 1).await;
    server.get("/v1/meta").await.problem(401, "unauthenticated");
    write(&server, &always);
    server.process.signal("HUP");
    heard(&server, "configuration read again", 3).await;
    assert_eq!(in_force().await, 1);
    by_new.get("/v1/meta").await.problem(401, "unauthenticated");
    assert!(!server.process.log().contains("s3cret"));
    assert!(server.process.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_machines_are_served_with_tokens_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("punctual.toml");
    std::fs::write(&file, token("a", &["read"], "")).expect("the configuration");
    let server = started(&Launch::new(dir.path().join("jobs.db")).config(&file), dir);
    // Who has a token may come by any name.
    let bearer = format!("Bearer {}", secret("a"));
    let strange = [("Host", "jobs.example.com"), ("Authorization", bearer.as_str())];
    let request = with(server.request(Method::GET, "/v1/jobs"), &strange);
    server.send_anywhere(request).await.is(200);
    // Without tokens everybody on this machine could do everything: half a file does not do that.
    std::fs::write(&file, "").expect("the configuration");
    server.process.signal("HUP");
    heard(&server, "the server asks for tokens", 1).await;
    server.get("/v1/jobs").await.problem(401, "unauthenticated");
    // A restart does, and then everybody is asked for his name.
    let server = server.restart_after_kill();
    server.get("/v1/jobs").await.is(200);
    let request = with(server.request(Method::GET, "/v1/jobs"), &strange);
    server.send_anywhere(request).await.problem(421, "misdirected-host");
}

fn started(launch: &Launch, dir: tempfile::TempDir) -> Server {
    let process = launch.start();
    let launch = launch.clone().port(process.port);
    Server { client: Client::new(process.port), process, launch, dir }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_operators_do_is_written_down_and_tokens_are_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let tokens = [
        token("ops", &["operate"], ""),
        token("shop", &["submit"], ""),
        token("worker", &["work"], ""),
        token("narrow", &["operate"], "queues = [\"other\"]"),
    ];
    std::fs::write(dir.path().join("punctual.toml"), tokens.concat()).expect("the configuration");
    let mut launch = Launch::new(dir.path().join("jobs.db"));
    launch.env.push(("RUST_LOG".to_owned(), "trace".to_owned()));
    let server = started(&launch, dir);
    let (ops, shop) = (As(&server, "ops"), As(&server, "shop"));
    let id = shop.submit(&json!({"kind": "a", "queue": "q"})).await;
    let pause = json!({"reason": "why"});
    let bearer = format!("Bearer {}", secret("ops"));
    let headers = [("Authorization", bearer.as_str()), ("X-Request-Id", "pause-1")];
    server.post_with("/v1/queues/q/pause", &pause, &headers).await.is(200);
    ops.post("/v1/queues/q/resume", &json!({})).await.is(200);
    let path = format!("/v1/jobs/{id}");
    shop.call(Method::DELETE, &path, None).await.problem(409, "job-not-finished");
    ops.post(&format!("{path}/cancel"), &json!({"force": true})).await.is(200);
    ops.call(Method::DELETE, &path, None).await.is(204);
    // A client's own cancel is no operator's action; an operator's plain one is, and so is what is
    // refused by a list.
    for who in [&shop, &ops] {
        let id = shop.submit(&json!({"kind": "a", "queue": "q"})).await;
        who.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await.is(200);
    }
    let listed = shop.submit(&json!({"kind": "a", "queue": "q"})).await;
    let narrow = As(&server, "narrow");
    for what in ["/v1/queues/q/pause".to_owned(), format!("/v1/jobs/{listed}/cancel")] {
        narrow.post(&what, &json!({})).await.problem(403, "insufficient-scope");
    }
    narrow.post("/v1/workers/nobody/drain", &json!({})).await.problem(404, "no-such-worker");

    heard(&server, "punctual::audit", 9).await;
    let log = server.process.log();
    let lines: Vec<&str> = log
        .lines()
        .filter_map(|line| Some(line.split_once("punctual::audit: audit ")?.1))
        .collect();
    let about = |line: &str, words: &[&str]| words.iter().all(|word| line.contains(word));
    let job = format!("job_id={id}");
    for (line, words) in lines.iter().zip([
        &["who=\"ops\" action=\"pause\" queue=\"q\" outcome=\"done\" request_id=\"pause-1\""][..],
        &["who=\"ops\" action=\"resume\" queue=\"q\" outcome=\"done\""],
        &["who=\"shop\" action=\"delete\"", &job, "outcome=\"job-not-finished\""],
        &["who=\"ops\" action=\"force-cancel\"", &job, "outcome=\"done\""],
        &["who=\"ops\" action=\"delete\"", &job, "outcome=\"done\" request_id="],
        &["who=\"ops\" action=\"cancel\" namespace=\"default\"", "outcome=\"done\""],
        &["who=\"narrow\" action=\"pause\" queue=\"q\" outcome=\"insufficient-scope\""],
        &["who=\"narrow\" action=\"cancel\"", &listed, "outcome=\"insufficient-scope\""],
        &["who=\"narrow\" action=\"drain\" worker_id=\"nobody\" outcome=\"no-such-worker\""],
    ]) {
        assert!(about(line, words), "{line}: {words:?}");
    }
    assert_eq!(lines.len(), 9, "{lines:#?}");
    // Not even at the finest level.
    assert!(log.contains("DEBUG"));
    assert!(!log.contains("s3cret"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_by_itself() {
    let ends = crate::answer::in_millis(3_000);
    let tokens = token("brief", &["read"], &format!("expires_at = \"{ends}\""));
    let server = Server::configured(&[], &tokens);
    until("the end of the token", || async {
        let reply = As(&server, "brief").get("/v1/jobs").await;
        (reply.status != 200).then(|| reply.problem(401, "unauthenticated"))
    })
    .await;
    assert!(Path::new(&server.store()).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_namespace_leaves_room_for_the_names_of_others() {
    let shared = format!(
        "[auth]\nnames_per_namespace = 5\n{}{}",
        token("shop", &["submit"], "namespace = \"shop\""),
        token("mail", &["submit"], "namespace = \"mail\""),
    );
    let server = Server::configured(&[], &shared);
    let (shop, mail) = (As(&server, "shop"), As(&server, "mail"));
    for n in 0..5 {
        shop.submit(&json!({"kind": format!("k{n}"), "queue": "q"})).await;
    }
    let reply = shop.post("/v1/jobs", &json!({"kind": "more", "queue": "q"})).await;
    let reply = reply.problem(422, "too-many-names");
    let detail = reply.json["detail"].as_str().expect("words");
    assert!(detail.contains("namespace shop has brought in 5 names"), "{detail}");
    mail.submit(&json!({"kind": "more", "queue": "q"})).await;
    // It is everybody's from then on.
    shop.submit(&json!({"kind": "more", "queue": "q"})).await;

    let alone = format!(
        "[auth]\nnames_per_namespace = 5\n{}",
        token("shop", &["submit"], "namespace = \"shop\"")
    );
    let server = Server::configured(&[], &alone);
    for n in 0..9 {
        As(&server, "shop").submit(&json!({"kind": format!("k{n}")})).await;
    }
}
