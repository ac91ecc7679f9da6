//! What of a trace the API shows, and how tracing is switched on and off.

use serde_json::{Value, json};

use crate::collector::Collector;
use crate::kit::Server;
use crate::scene::{CALLER, TRACE, accounted, parts, server, server_of, submit, submit_from, told};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_says_where_it_is_found() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[]);
    let headers = [("Prefer", "respond-async"), ("traceparent", CALLER)];
    let reply = server.post_with("/v1/jobs", &json!({"kind": "k", "queue": "q"}), &headers).await;
    let context = reply.header("traceresponse").expect("a context").to_owned();
    assert_eq!(reply.header("server-timing"), Some(format!("trace;desc={context}").as_str()));
    let post = collector.one("POST /v1/jobs").await;
    assert_eq!(context, post.context());

    // Others have a place in their caller's trace, and no span of their own.
    let reply = server.get_with("/v1/queues", &[("traceparent", CALLER)]).await;
    let (trace, _, flags) = parts(reply.header("traceresponse").expect("a context"));
    assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "00"));
    let reply = server.get("/v1/jobs/nonsense").await.problem(404, "no-such-job");
    let (trace, _, _) = parts(reply.header("traceresponse").expect("a context"));
    assert_eq!(reply.json["trace_id"], trace);
    assert_eq!(server.get("/livez").await.header("traceresponse"), None);
    accounted(&server).await;
    assert_eq!(collector.spans().len(), 2, "POST and publish");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_and_their_stories_name_their_traces() {
    let collector = Collector::start().await;
    let server = server_of(&collector, &[]);
    let body = json!({"kind": "k", "queue": "q", "max_attempts": 2});
    let id = submit_from(&server, CALLER, &body).await;
    assert_eq!(server.job(&id).await["trace"], json!({"submit": TRACE}));
    let first = server.lease("w", "q").await;
    let trace = parts(&told(&first)).0;
    assert_eq!(first.json.get("tracestate"), None, "it belongs to the other trace");
    assert_eq!(server.job(&id).await["attempts"][0]["trace_id"], trace, "while it runs");
    server.fail(&first, json!({"retry_after_seconds": 0})).await;
    let second = server.lease("w", "q").await;
    server.complete(&second, json!(1)).await;

    let timeline = server.get(&format!("/v1/jobs/{id}/timeline")).await.is(200).json;
    let told: Vec<(&str, Option<&str>)> = timeline["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|e| (e["type"].as_str().expect("a type"), e["trace_id"].as_str()))
        .collect();
    let last = parts(second.json["traceparent"].as_str().expect("a context")).0;
    for expected in [
        ("submitted", Some(TRACE)),
        ("claimed", Some(trace.as_str())),
        ("failed_attempt", Some(trace.as_str())),
        ("claimed", Some(last.as_str())),
    ] {
        assert!(told.contains(&expected), "{expected:?} in {told:?}");
    }
    let log = server.process.log();
    assert!(!log.contains("damaged"), "{log}");
}

/// Without an endpoint contexts still travel: from the caller to the worker, as they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_endpoint() {
    let server = Server::start();
    let headers = [("Prefer", "respond-async"), ("traceparent", CALLER)];
    let reply = server.post_with("/v1/jobs", &json!({"kind": "k", "queue": "q"}), &headers).await;
    assert_eq!((reply.header("traceresponse"), reply.header("server-timing")), (None, None));
    assert_eq!(reply.json["trace"]["submit"], TRACE);
    let lease = server.lease("w", "q").await;
    assert_eq!(told(&lease), CALLER);
    let job = server.complete(&lease, json!(1)).await;
    assert_eq!(job["attempts"][0].get("trace_id"), None::<&Value>);
    let problem = server.get_with("/v1/jobs/x", &[("traceparent", CALLER)]).await;
    assert_eq!(problem.problem(404, "no-such-job").json["trace_id"], TRACE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standard_variables_count() {
    let collector = Collector::start().await;
    let variables = [
        ("OTEL_SERVICE_NAME", "orders"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=ignored,deployment.environment.name=test"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=acme"),
    ];
    let server = server_of(&collector, &variables);
    submit(&server).await;
    let span = collector.one("publish q").await;
    assert_eq!(span.resource["service.name"], "orders");
    assert_eq!(span.resource["deployment.environment.name"], "test");
    assert!(span.resource["service.version"].is_string());
    assert_eq!(collector.headers()[0]["x-tenant"], "acme");
    assert_eq!(collector.headers()[0]["content-type"], "application/x-protobuf");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_is_stronger_and_off_is_off() {
    let collector = Collector::start().await;
    let url = collector.url();
    let configured = [("TELEMETRY__OTLP_ENDPOINT", url.as_str())];
    let first = server("http://127.0.0.1:1", &configured);
    submit(&first).await;
    collector.one("publish q").await;

    let off = server_of(&collector, &[("OTEL_SDK_DISABLED", "true")]);
    let reply = off.post("/v1/jobs", &json!({"kind": "k", "queue": "off"})).await;
    assert_eq!(reply.header("traceresponse"), None);
}

#[test]
fn what_cannot_be_spoken_is_refused_at_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut launch = crate::server::Launch::new(dir.path().join("jobs.db"))
        .set("TELEMETRY__OTLP_ENDPOINT", "http://127.0.0.1:4317");
    launch.env.push(("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), "grpc".to_owned()));
    let (code, said) = launch.refused();
    assert_eq!(code, Some(2), "{said:?}");
    let last = said.last().expect("a line");
    assert!(last.contains("grpc") && last.contains("http/protobuf"), "{last}");
}
