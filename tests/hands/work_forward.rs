//! `punctual work --forward`: what a service gets, and what becomes of its answers.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::place::{DONE, Hand, Place, USAGE, nobody};
use crate::server::until;

/// A service that answers as the job's kind says, and keeps the book.
#[derive(Clone, Default)]
struct Service {
    log: Arc<Mutex<Vec<String>>>,
}

/// Writes down when a request's connection was closed before its answer.
struct Open(Service);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.note("closed");
    }
}

impl Service {
    /// Starts it and answers its address.
    async fn start(&self) -> String {
        let routes = Router::new()
            .route("/run", post(run))
            .route("/elsewhere", post(elsewhere))
            .with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}/run", listener.local_addr().expect("its address"));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    fn note(&self, line: &str) {
        self.log.lock().expect("the log").push(line.to_owned());
    }

    fn saw(&self, line: &str) -> bool {
        self.log.lock().expect("the log").iter().any(|l| l == line)
    }

    async fn sees(&self, line: &str) {
        until(line, || async { self.saw(line).then_some(()) }).await;
    }
}

async fn run(State(service): State<Service>, headers: HeaderMap, body: String) -> Response<Body> {
    let of = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("none");
    let (kind, attempt) = (of("punctual-kind"), of("punctual-attempt"));
    service.note(&format!("{kind} {attempt}"));
    let answer = |status: u16, text: String| {
        Response::builder().status(status).body(Body::from(text)).expect("an answer")
    };
    let with = |status: u16, name: &str, value: &str| {
        let answer = Response::builder().status(status).header(name, value);
        answer.body(Body::from("not now")).expect("an answer")
    };
    match (kind, attempt) {
        ("echo", _) => {
            let heard = json!({
                "id": of("punctual-job-id"), "root": of("punctual-root-job-id"),
                "queue": of("punctual-queue"), "attempt": attempt, "fence": of("punctual-fence"),
                "key": of("idempotency-key"), "type": of("content-type"), "payload": body,
                "trace": of("traceparent"), "state": of("tracestate"),
                "token": of("authorization"),
            });
            answer(200, heard.to_string())
        }
        ("plain", _) => answer(201, "hello\n".into()),
        ("silent", _) => answer(204, String::new()),
        ("reject", _) => answer(422, "no such order\n".into()),
        ("mute", _) => answer(404, String::new()),
        ("long", _) => answer(400, "é".repeat(100_000)),
        ("flaky", "1") => answer(500, "oops".into()),
        ("flaky", _) => answer(200, format!("[\"{}\"]", of("idempotency-key"))),
        ("busy", _) => with(429, "retry-after", "3600"),
        ("moved", _) => with(307, "location", "/elsewhere"),
        ("huge", _) => answer(200, "x".repeat((16 << 20) + 1)),
        ("slow", _) => {
            let _open = Open(service.clone());
            std::future::pending().await
        }
        (kind, _) => panic!("no answer for {kind}"),
    }
}

async fn elsewhere(State(service): State<Service>) {
    service.note("followed");
}

fn forward(place: &Place, options: &[&str], address: &str) -> Hand {
    let mut command = place.punctual(&["work", "--queue", "default"]);
    command.args(options).args(["--forward", address]).env("PUNCTUAL_TOKEN", "secret");
    Hand::start(command)
}

#[tokio::test]
async fn a_service_gets_the_job_and_its_answer_is_the_result() {
    let place = Place::new();
    let _worker = forward(&place, &[], &Service::default().start().await);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = http
        .post(format!("{}/v1/jobs", place.url()))
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .header("tracestate", "shop=1")
        .json(&json!({"kind": "echo", "payload": {"a": [1, 2]}}))
        .send()
        .await
        .expect("an answer");
    let job: Value = answer.json().await.expect("a job");
    let id = job["job_id"].as_str().expect("an id");
    let heard = &place.until_status(id, "completed").await["result"];
    for (member, value) in [
        ("id", id),
        ("root", id),
        ("key", id),
        ("queue", "default"),
        ("attempt", "1"),
        ("fence", "1"),
        ("type", "application/json"),
        ("payload", "{\"a\":[1,2]}"),
        ("token", "none"),
        ("state", "shop=1"),
    ] {
        assert_eq!(heard[member], value, "{member}: {heard}");
    }
    assert!(heard["trace"].as_str().is_some_and(|t| t.contains(trace)), "{heard}");

    let plain = place.submit(&["plain", "--wait"]).await;
    assert_eq!(place.job(&plain).await["result"], "hello");
    let silent = place.submit(&["silent", "--wait"]).await;
    assert_eq!(place.job(&silent).await["result"], Value::Null);
}

#[tokio::test]
async fn the_status_decides_whether_it_is_tried_again() {
    let place = Place::with(&[("JOBS__BACKOFF__INITIAL", "50ms")]);
    let service = Service::default();
    let _worker = forward(&place, &["--concurrency", "4"], &service.start().await);

    for (kind, error, message) in [
        ("reject", "http-422", "no such order"),
        ("mute", "http-404", "the service answered 404 Not Found and said nothing"),
        ("huge", "result-too-large", "the service's answer has more than 16777216 bytes"),
    ] {
        let id = place.submit(&[kind]).await;
        let job = place.until_status(&id, "failed").await;
        assert_eq!((&job["attempt"], &job["error"]["type"]), (&1.into(), &error.into()), "{job}");
        assert_eq!(job["error"]["message"], message);
    }
    let long = place.submit(&["long"]).await;
    let job = place.until_status(&long, "failed").await;
    assert_eq!(job["error"]["message"], "é".repeat(2048));

    // Another attempt, and the same key.
    let flaky = place.submit(&["flaky"]).await;
    let job = place.until_status(&flaky, "completed").await;
    assert_eq!((&job["attempt"], &job["result"]), (&2.into(), &json!([flaky])), "{job}");

    // The service says when.
    let busy = place.submit(&["busy"]).await;
    let job = place.until_job(&busy, |job| job["pending_reason"] == "retry_backoff").await;
    assert_eq!(job["last_error"]["type"], "http-429", "{job}");
    let moment = |name: &str| {
        job[name].as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()).expect("a moment")
    };
    let pause = moment("run_at").duration_since(moment("updated_at")).as_secs();
    assert!((3599..=3601).contains(&pause), "{job}");

    let moved = place.submit(&["moved", "--max-attempts", "1"]).await;
    let job = place.until_status(&moved, "failed").await;
    assert_eq!(job["error"]["type"], "http-307", "{job}");
    assert!(!service.saw("followed"));
}

#[tokio::test]
async fn a_service_that_is_not_there_costs_an_attempt() {
    let place = Place::new();
    let _worker = forward(&place, &[], &nobody());
    let id = place.submit(&["echo", "--max-attempts", "1"]).await;
    let job = place.until_status(&id, "failed").await;
    assert_eq!(job["error"]["type"], "no-answer", "{job}");
}

#[tokio::test]
async fn a_cancel_closes_the_connection() {
    let place = Place::new();
    let service = Service::default();
    let _worker = forward(&place, &["--lease", "3s"], &service.start().await);
    let id = place.submit(&["slow"]).await;
    service.sees("slow 1").await;
    place.run(&["jobs", "cancel", &id]).await.ended(DONE);
    service.sees("closed").await;
    place.until_status(&id, "cancelled").await;
    // The worker goes on.
    let next = place.submit(&["plain", "--wait"]).await;
    assert_eq!(place.job(&next).await["result"], "hello");
}

#[tokio::test]
async fn a_worker_that_leaves_gives_the_job_back() {
    let place = Place::new();
    let service = Service::default();
    let worker = forward(&place, &["--grace", "0s"], &service.start().await);
    let id = place.submit(&["slow"]).await;
    service.sees("slow 1").await;
    worker.signal(rustix::process::Signal::TERM);
    worker.ended().await.ended(DONE);
    service.sees("closed").await;
    let job = place.job(&id).await;
    assert_eq!((&job["status"], &job["attempt"]), (&"pending".into(), &0.into()), "{job}");
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_refused_at_the_start() {
    let place = Place::new();
    for (address, part) in [
        ("https://127.0.0.1/", "is no http address"),
        ("http://me:secret@127.0.0.1/", "user name"),
        ("run", "cannot be read"),
    ] {
        let said = place.run(&["work", "--queue", "default", "--forward", address]).await;
        let said = said.ended(USAGE);
        assert!(said.err.contains("--forward: ") && said.err.contains(part), "{}", said.err);
        assert!(!said.err.contains("secret"), "{}", said.err);
    }
    let both = ["work", "--queue", "default", "--forward", "http://x", "--exec", "true"];
    place.run(&both).await.ended(USAGE);
}
