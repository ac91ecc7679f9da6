//! A trace goes on through our own client and worker, and through a collector of somebody else's.

use std::process::Command;

use serde_json::json;

use crate::collector::Collector;
use crate::daemon::{Daemon, free_port};
use crate::scene::{CALLER, CALLER_SPAN, TRACE, server, server_of, submit_from};
use crate::server::{binary, until};

/// The command that hands in a job is told by the worker where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_hands_in_a_job() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[]);
    let url = format!("http://127.0.0.1:{}", server.port());
    let status = Command::new(binary())
        .args(["submit", "first", "--queue", "first"])
        .env("PUNCTUAL_URL", &url)
        .env("TRACEPARENT", CALLER)
        .output()
        .expect("the command");
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let mut worker = Command::new(binary());
    worker
        .args(["work", "--queue", "first", "--exec", binary(), "submit", "second", "--queue"])
        .arg("second")
        .env("PUNCTUAL_URL", &url)
        .env_remove("TRACEPARENT");
    let _worker = Daemon::start(worker, "punctual");

    let first = collector.one("publish first").await;
    assert_eq!(first.trace, TRACE);
    let process = collector.one("process first").await;
    let second = collector.one("publish second").await;
    assert_eq!(second.trace, process.trace);
    let posts = collector.named("POST /v1/jobs", 2).await;
    let parents: Vec<_> = posts.iter().map(|post| post.parent.as_str()).collect();
    assert_eq!(parents, [CALLER_SPAN, process.id.as_str()]);
}

/// The new job belongs to the trace of whoever retried, and says where the old one was handed in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_of_a_job() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[]);
    let source = submit_from(&server, CALLER, &json!({"kind": "k", "queue": "q"})).await;
    let lease = server.lease("w", "q").await;
    server.fail(&lease, json!({"retryable": false})).await;
    let again = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let path = format!("/v1/jobs/{source}/retry");
    let made = server.post_with(&path, &json!({}), &[("traceparent", again)]).await.is(201);
    let publishes = collector.named("publish q", 2).await;
    let [first, second] = &publishes[..] else { panic!("two jobs") };
    assert!(first.links.is_empty());
    assert_eq!(second.says("messaging.message.id"), &json!(made.id()));
    let post = collector.one("POST /v1/jobs/{id}/retry").await;
    assert_eq!(
        (post.trace.as_str(), &post.id),
        ("0af7651916cd43dd8448eb211c80319c", &second.parent)
    );
    let link = second.link("retry_of").expect("a link");
    assert_eq!((&link.trace, &link.span), (&first.trace, &first.id));
    // Its attempt leads to it, not to the old one.
    let lease = server.lease("w", "q").await;
    server.complete(&lease, json!(1)).await;
    let attempts = collector.named("attempt q", 2).await;
    assert_eq!(attempts[1].link("creation").expect("a link").span, second.id);
    assert!(attempts[1].link("previous_attempt").is_none());
}

/// Rotel (<https://rotel.dev>) takes what we send and hands it on. `tests/run` fetches it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_of_somebody_elses_understands_it() {
    let Some(program) = std::env::var_os("ROTEL") else {
        eprintln!("SKIPPED: ROTEL names no collector; `bash tests/run` fetches one");
        return;
    };
    let behind = Collector::start().await;
    let (http, grpc) = (free_port(), free_port());
    let mut rotel = Command::new(program);
    rotel
        .arg("start")
        .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
        .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
        .args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"])
        .args(["--otlp-exporter-endpoint", &behind.url()])
        .args(["--batch-timeout", "50ms"]);
    let rotel = Daemon::start(rotel, "rotel");
    let listens = || async { std::net::TcpStream::connect(("127.0.0.1", http)).ok() };
    drop(until("the collector to listen", listens).await);

    let server = server(&format!("http://127.0.0.1:{http}"), &[]);
    let job = json!({"kind": "k", "queue": "q", "max_attempts": 2});
    submit_from(&server, CALLER, &job).await;
    let first = server.lease("w", "q").await;
    server.fail(&first, json!({"retry_after_seconds": 0})).await;
    let second = server.lease("w", "q").await;
    server.complete(&second, json!(1)).await;

    let attempts = behind.named("attempt q", 2).await;
    let publish = behind.one("publish q").await;
    assert_eq!((publish.kind, publish.trace.as_str()), ("producer", TRACE), "{}", rotel.log());
    for (n, attempt) in attempts.iter().enumerate() {
        let creation = attempt.link("creation").expect("a link");
        assert_eq!((&creation.trace, &creation.span), (&publish.trace, &publish.id));
        assert_eq!(attempt.says("punctual.attempt"), &json!(n + 1));
        assert_eq!(attempt.resource["service.name"], "punctual");
    }
    let previous = attempts[1].link("previous_attempt").expect("a link");
    assert_eq!((&previous.trace, &previous.span), (&attempts[0].trace, &attempts[0].id));
    let waits = behind.named("wait q", 2).await;
    let processes = behind.named("process q", 2).await;
    for child in waits.iter().chain(&processes) {
        assert!(attempts.iter().any(|a| (&a.trace, &a.id) == (&child.trace, &child.parent)));
    }
}
