//! Crowds: thousands who wait, and a hundred thousand names that somebody makes up.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::kit::Server;
use crate::server::{PATIENCE, until};

/// Requests that wait at once.
const CROWD: usize = 5_000;
/// Jobs that they wait for, as many for each.
const JOBS: usize = 50;

/// Memory that each of them may take, connection and all: a bound against growth, and no figure of
/// merit.
const MOST_BYTES_EACH: f64 = 64.0 * 1024.0;

async fn resident(server: &Server) -> f64 {
    server.metrics().await.sum("process_resident_memory_bytes", &[])
}

/// One whole answer, with the length that it says.
async fn answer(stream: &mut TcpStream) -> String {
    let mut seen = Vec::new();
    let mut part = [0; 4_096];
    loop {
        let text = String::from_utf8_lossy(&seen);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse::<usize>().ok())?
            });
            if length.is_none_or(|length| body.len() >= length) {
                return text.into_owned();
            }
        }
        let read = timeout(PATIENCE, stream.read(&mut part)).await.expect("an answer");
        let read = read.expect("a readable answer");
        assert!(read > 0, "closed after {text:?}");
        seen.extend_from_slice(&part[..read]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_job_wakes_those_who_wait_for_it_and_nobody_else() {
    let server = Server::start();
    let mut jobs = Vec::new();
    for _ in 0..JOBS {
        let body = json!({"kind": "awaited", "queue": "crowd"});
        jobs.push(server.submit(&body).await);
    }
    let before = resident(&server).await;
    let mut crowd: Vec<Vec<TcpStream>> = Vec::new();
    for id in &jobs {
        let ask =
            format!("GET /v1/jobs/{id} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=50\r\n\r\n");
        let mut waiting = Vec::new();
        for _ in 0..CROWD / JOBS {
            let mut stream =
                TcpStream::connect(("127.0.0.1", server.port())).await.expect("a place");
            stream.write_all(ask.as_bytes()).await.expect("a request");
            waiting.push(stream);
        }
        crowd.push(waiting);
    }
    server.in_flight("GET", CROWD).await;
    let each = (resident(&server).await - before) / CROWD as f64;
    assert!(each < MOST_BYTES_EACH, "{each} bytes for each who waits");

    // Others are served meanwhile, and the first job's end is told to its own.
    let lease = server.lease("w1", "crowd").await;
    let reads = ["operation=\"get\""];
    let looked = |metrics: &crate::kit::Metrics| {
        metrics.sum("punctual_store_operation_duration_seconds_count", &reads)
    };
    let reads_before = looked(&server.metrics().await);
    server.complete(&lease, json!({"done": true})).await;
    let at = jobs.iter().position(|id| *id == lease.id).expect("one of ours");
    let mut woken = crowd.swap_remove(at);
    for stream in &mut woken {
        let text = answer(stream).await;
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        assert!(text.contains(r#""status":"completed""#) && text.contains(&lease.id), "{text}");
    }
    let looks = looked(&server.metrics().await) - reads_before;
    // Everybody looks by himself now and then; had all been woken, there would be thousands.
    assert!(looks < CROWD as f64 / 4.0, "{looks} looks at the store for one job's end");
    for stream in crowd.iter().flatten() {
        let mut nothing = [0; 1];
        let peeked = stream.try_read(&mut nothing).expect_err("nobody else hears of it");
        assert_eq!(peeked.kind(), std::io::ErrorKind::WouldBlock);
    }
    // Whoever leaves is forgotten.
    drop((woken, crowd));
    until("nobody to wait", || async {
        let active = server
            .metrics()
            .await
            .sum("http_server_active_requests", &["http_request_method=\"GET\""]);
        (active <= 1.0).then_some(())
    })
    .await;
    server.is_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_names_are_refused_in_good_time() {
    const NAMES: usize = 100_000;
    const BATCH: usize = 1_000;
    let server = Server::with(&[("TASKS__SAMPLER", "100ms"), ("LIMITS__QUEUES", "20")]);
    server.submit(&json!({"kind": "known", "queue": "known"})).await;
    let before = resident(&server).await;
    let (mut taken, mut refused) = (0, 0);
    for batch in 0..NAMES / BATCH {
        let jobs: Vec<Value> = (batch * BATCH..(batch + 1) * BATCH)
            .map(|n| json!({"kind": format!("kind-{n}"), "queue": format!("queue-{n}")}))
            .collect();
        let reply = server.post("/v1/jobs/batch", &json!({ "jobs": jobs })).await;
        if reply.status == 202 {
            taken += BATCH;
        } else {
            let reply = reply.problem(422, "too-many-names");
            let detail = reply.json["detail"].as_str().expect("words").to_owned();
            assert!(detail.contains("10000 names") && detail.starts_with("/jobs/"), "{detail}");
            refused += BATCH;
        }
    }
    assert_eq!((taken, refused), (9_000, 91_000), "of ten thousand one is known");
    // What is known works as before.
    server.submit(&json!({"kind": "known", "queue": "known"})).await;
    server.submit(&json!({"kind": "kind-1", "queue": "queue-2"})).await;
    // One at a time it goes on to the very limit.
    let mut alone = 0;
    let reply = loop {
        let one = json!({"kind": format!("last-{alone}"), "queue": "known"});
        let reply = server.post("/v1/jobs", &one).await;
        if reply.status != 202 {
            break reply.problem(422, "too-many-names");
        }
        alone += 1;
    };
    assert!(reply.header("retry-after").is_none());
    // The server's own kind may be there by now.
    assert!((998..=999).contains(&alone), "{alone}");

    // Nor does anybody bring in a queue by another way, once those are as many.
    for n in 0.. {
        let one = json!({"kind": "known", "queue": format!("last-{n}")});
        if server.post("/v1/jobs", &one).await.status != 202 {
            break;
        }
    }
    let done = server.lease_by(&json!({"worker_id": "w", "queues": ["known"]})).await;
    server.complete(&done, json!(1)).await;
    let elsewhere = json!({"queue": "elsewhere"});
    let retried = server.post(&format!("/v1/jobs/{}/retry", done.id), &elsewhere).await;
    retried.problem(422, "too-many-names");
    for what in ["pause", "resume"] {
        let path = format!("/v1/queues/elsewhere/{what}");
        server.post_nothing(&path).await.problem(422, "too-many-names");
        server.post_nothing(&format!("/v1/queues/known/{what}")).await.is(200);
    }
    let patch = server.request(reqwest::Method::PATCH, "/v1/queues/elsewhere");
    let patch = patch.header("Content-Type", "application/merge-patch+json");
    server.send(patch.body(r#"{"max_depth":1}"#)).await.problem(422, "too-many-names");

    let metrics = until("a sample of all", || async {
        let metrics = server.metrics().await;
        let known = metrics.sum("punctual_store_names", &["dictionary=\"kinds\""]);
        (known >= 10_000.0).then_some(metrics)
    })
    .await;
    let outcome = ["outcome=\"too_many_names\""];
    let counted = metrics.sum("punctual_job_submissions_total", &outcome);
    assert!((counted - 91_003.0).abs() < 0.5, "{counted}");
    let scrape = server.get("/metrics").await.bytes.len();
    assert!(scrape < 512 << 10, "{scrape} bytes of metrics");
    let grown = resident(&server).await - before;
    assert!(grown < 200.0 * 1024.0 * 1024.0, "{grown} bytes more");
}

/// Whoever sends no whole request takes a place for a while, and no more than that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_dawdles_is_cut_off_and_the_rest_is_served() {
    let server = Server::with(&[("SERVER__HEADER_TIMEOUT", "500ms")]);
    let mut slow = Vec::new();
    for n in 0..1_000 {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.expect("a place");
        let start =
            if n % 2 == 0 { "" } else { "GET /v1/meta HTTP/1.1\r\nHost: localhost\r\nX-A: b" };
        stream.write_all(start.as_bytes()).await.expect("a beginning");
        slow.push(stream);
    }
    server.submit(&json!({"kind": "prompt"})).await;
    for stream in &mut slow {
        let mut rest = Vec::new();
        // An answer of 408 or none at all; but an end.
        let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "a connection without end");
    }
    server.submit(&json!({"kind": "prompt"})).await;
}
