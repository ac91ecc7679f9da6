//! Connections that lie, break off, dawdle, or come from a page that has no business here.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::body::Frame;

use crate::kit::Server;
use crate::server::PATIENCE;
use crate::wire::{Wire, ask, get, post};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_too_large_or_lie() {
    let server = Server::start();
    let limit = 16 << 20;
    // A payload over its limit is refused as such, at the limit it is not.
    let text = |n: usize| format!("{{\"kind\":\"a\",\"payload\":\"{}\"}}", "x".repeat(n - 2));
    server.post_text("/v1/jobs", text(1 << 20)).await.is(202);
    let large = server.post_text("/v1/jobs", text((1 << 20) + 1)).await;
    assert_eq!(large.problem(413, "payload-too-large").json["max_bytes"], 1 << 20);
    // A whole body too large, with its length and in chunks without end; the sender hears of it.
    let huge = vec![b' '; limit + 1];
    let reply = server.post_text("/v1/jobs", huge.clone()).await.problem(413, "payload-too-large");
    assert_eq!(reply.json["max_bytes"], limit);
    assert!(reply.header("retry-after").is_none(), "it is for good");
    let frames: Vec<Result<Frame<Bytes>, std::io::Error>> =
        huge.chunks(1 << 16).map(|c| Ok(Frame::data(Bytes::copy_from_slice(c)))).collect();
    let chunked = StreamBody::new(futures_util::stream::iter(frames));
    let chunked = reqwest::Body::wrap(chunked);
    server.post_text("/v1/jobs", chunked).await.problem(413, "payload-too-large");
    let just = vec![b' '; limit];
    server.post_text("/v1/jobs", just).await.problem(400, "malformed-json");
    // Whoever asks first is told before sending anything.
    let mut asks = Wire::connect(server.port());
    asks.send(format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        1_u64 << 40
    ));
    asks.answer().problem(413, "payload-too-large");
    let mut asks = Wire::connect(server.port());
    asks.send("POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 12\r\n\r\n");
    assert_eq!(asks.answer().status, 100);
    asks.send("{\"kind\":\"a\"}");
    assert_eq!(asks.answer().status, 202);

    // Lengths that are none, that contradict, or that the body does not have.
    let head = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    for lie in [
        "Content-Length: -1\r\n\r\n{}",
        "Content-Length: 1e3\r\n\r\n{}",
        "Content-Length: 99999999999999999999999\r\n\r\n{}",
        "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "Transfer-Encoding: gzip\r\n\r\n{}",
        "Transfer-Encoding: chunked\r\n\r\nnonsense\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    ] {
        let mut wire = Wire::connect(server.port());
        wire.send(format!("{head}{lie}"));
        wire.end();
        let answer = wire.try_answer();
        assert!(answer.as_ref().is_none_or(|a| a.status == 400), "{lie}: {answer:?}");
    }
    // Too short a length: what follows is another request, and a bad one.
    let mut wire = Wire::connect(server.port());
    wire.send(format!("{head}Content-Length: 12\r\n\r\n{{\"kind\":\"a\"}}garbage\r\n\r\n"));
    assert_eq!(wire.answer().status, 202);
    let rest = wire.try_answer();
    assert!(rest.as_ref().is_none_or(|a| a.status == 400), "{rest:?}");
    // Too long a length, and then nothing more: no half of a body is taken for a whole.
    let before = server
        .metrics()
        .await
        .sum("punctual_store_operation_duration_seconds_count", &["operation=\"submit\""]);
    let mut wire = Wire::connect(server.port());
    wire.send(format!("{head}Content-Length: 40\r\n\r\n{{\"kind\":\"a\"}}"));
    wire.end();
    let answer = wire.try_answer();
    assert!(answer.as_ref().is_none_or(|a| a.status == 400), "{answer:?}");
    let after = server
        .metrics()
        .await
        .sum("punctual_store_operation_duration_seconds_count", &["operation=\"submit\""]);
    assert!((before - after).abs() < 0.5, "a broken body was accepted");
    server.is_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_misbehave() {
    let server = Server::start();
    let port = server.port();
    // Cut off anywhere: no harm.
    let whole = post("/v1/jobs", "", r#"{"kind":"cut","queue":"cut"}"#);
    for cut in (0..whole.len()).step_by(7) {
        let mut wire = Wire::connect(port);
        wire.send(&whole.as_bytes()[..cut]);
        wire.end();
        let answer = wire.try_answer();
        assert!(answer.as_ref().is_none_or(|a| a.status == 400), "{cut}: {answer:?}");
    }
    server.get("/v1/queues/cut").await.problem(404, "no-such-queue");
    // Half closed after a whole request: it is answered.
    let mut wire = Wire::connect(port);
    wire.send(&whole);
    wire.end();
    let answer = wire.try_answer();
    assert!(answer.as_ref().is_none_or(|a| a.status == 202), "{answer:?}");

    // Pipelined: every one, in order.
    let mut wire = Wire::connect(port);
    let mut all = String::new();
    for n in 0..20 {
        all += &post(
            "/v1/jobs",
            &format!("X-Request-Id: r{n}\r\n"),
            &format!(r#"{{"kind":"p{n}","queue":"p"}}"#),
        );
        all += &get("/v1/nothing", &format!("X-Request-Id: n{n}\r\n"));
    }
    wire.send(all);
    for n in 0..20 {
        let answer = wire.answer();
        assert_eq!(
            (answer.status, answer.header("x-request-id")),
            (202, Some(format!("r{n}").as_str()))
        );
        assert_eq!(answer.json()["kind"], format!("p{n}"));
        let answer = wire.answer();
        answer.problem(404, "no-such-route");
        assert_eq!(answer.header("x-request-id"), Some(format!("n{n}").as_str()));
    }

    // Floods of headers.
    let lines = |n: usize| (1..n).fold(String::new(), |all, n| all + &format!("X-{n}: {n}\r\n"));
    assert_eq!(ask(port, get("/v1/meta", &lines(100))).status, 200, "with Host, as many as may be");
    // Before there is a request there is neither an id nor a document.
    let bare = ask(port, get("/v1/meta", &lines(101)));
    assert_eq!((bare.status, bare.header("x-request-id"), &*bare.body), (431, None, ""));
    let many: String = (0..2_000).fold(String::new(), |all, n| all + &format!("X-{n}: {n}\r\n"));
    assert_eq!(ask(port, get("/v1/meta", &many)).status, 431);
    // What `/v1/meta` says of them is where they end. `get` sends some of its own.
    let own = get("/v1/meta", "").matches("\r\n").count() - 2;
    let lines = |n: usize| (own..n).fold(String::new(), |all, n| all + &format!("X-{n}: {n}\r\n"));
    assert_eq!(ask(port, get("/v1/meta", &lines(100))).status, 200);
    assert_eq!(ask(port, get("/v1/meta", &lines(101))).status, 431);
    let wide = format!("X-Wide: {}\r\n", "w".repeat(100 << 10));
    assert_eq!(ask(port, get("/v1/meta", &wide)).status, 431);
    let far = ask(port, get(&format!("/v1/{}", "x".repeat(100 << 10)), ""));
    assert!(matches!(far.status, 414 | 431), "{far:?}");
    let fits = format!("X-Wide: {}\r\n", "w".repeat(16 << 10));
    assert_eq!(ask(port, get("/v1/meta", &fits)).status, 200);

    // What is no HTTP gets 400 or nothing, and no more.
    for noise in [
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        "\0\0\0\0\0\0",
        "\x16\x03\x01\x02\0\x01\0\x01\u{fc}",
        "SSH-2.0-x\r\n",
        "GET /\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nNo colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n: empty\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nA\0b: c\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut wire = Wire::connect(port);
        wire.send(noise);
        wire.end();
        let answer = wire.try_answer();
        assert!(
            answer.as_ref().is_none_or(|a| (400..=505).contains(&a.status)),
            "{noise:?}: {answer:?}"
        );
    }
    // HTTP/1.0 is served; an address in the request line counts.
    let mut old = Wire::connect(port);
    old.send("GET /livez HTTP/1.0\r\n\r\n");
    assert_eq!(old.answer().status, 200);
    old.closed();
    let whole = ask(port, "GET http://localhost/v1/meta HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(whole.status, 200);
    server.is_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_cut_off_and_idle_ones_are_not() {
    let server =
        Server::with(&[("SERVER__HEADER_TIMEOUT", "300ms"), ("SERVER__BODY_TIMEOUT", "300ms")]);
    let port = server.port();
    // One that idles between requests is let be, though it is older than any of the others.
    let mut idle = Wire::connect(port);
    idle.send(get("/v1/meta", ""));
    assert_eq!(idle.answer().status, 200);

    let mut silent = Wire::connect(port);
    assert_eq!(silent.closed(), "");
    let mut slow = Wire::connect(port);
    slow.send("GET /v1/meta HTTP/1.1\r\nHost: local");
    slow.closed();
    // A byte now and then does not help.
    let mut dripping = Wire::connect(port);
    dripping.send("GET /v1/meta HTTP/1.1\r\nX-Drip: ");
    let mut drops = 0;
    while dripping.send("x") && drops < 1_000 {
        drops += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(drops < 1_000, "a client that drips its headers is never cut off");
    // The second request of a connection owes its headers too.
    let mut second = Wire::connect(port);
    second.send(get("/v1/meta", ""));
    assert_eq!(second.answer().status, 200);
    second.send("GET /v1");
    second.closed();

    let mut body = Wire::connect(port);
    body.send("POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n{\"kind\"");
    let answer = body.answer();
    answer.problem(408, "request-timeout");
    assert_eq!(answer.header("connection"), Some("close"));
    body.closed();
    let mut chunks = Wire::connect(port);
    chunks.send("POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"kin\r\n");
    chunks.answer().problem(408, "request-timeout");

    // A parked request is slow for good reason.
    let claim = post("/v1/claims", "", r#"{"worker_id":"w","queues":["q"],"wait_seconds":1}"#);
    assert_eq!(ask(port, claim).status, 200);
    idle.send(get("/v1/meta", ""));
    assert_eq!(idle.answer().status, 200);
    server.is_alive().await;
}

/// For those who look closer at what comes than [`Wire`] does.
fn bare(port: u16, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.write_all(request.as_bytes()).expect("sent");
    stream
}

/// More than the system buffers on the way to a client.
const LARGE: usize = 14 << 20;

/// A job with a result of [`LARGE`] bytes; the address of the result.
fn large_result(port: u16) -> String {
    let mut wire = Wire::connect(port);
    wire.send(post("/v1/jobs", "", r#"{"kind":"large","queue":"large"}"#));
    assert_eq!(wire.answer().status, 202);
    wire.send(post("/v1/claims", "", r#"{"worker_id":"w","queues":["large"]}"#));
    let claimed = wire.answer().json();
    let job = &claimed["jobs"][0];
    let id = job["job_id"].as_str().expect("an id");
    let token = job["lease_token"].as_str().expect("a token");
    let text = "x".repeat(LARGE - 2);
    let body = format!(r#"{{"lease_token":"{token}","result":"{text}"}}"#);
    wire.send(post(&format!("/v1/jobs/{id}/complete"), "", &body));
    assert_eq!(wire.answer().status, 200);
    format!("/v1/jobs/{id}/result")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_read_its_answer_is_cut_off() {
    // There is one place, and whoever comes next gets it only from the one before.
    let server =
        Server::with(&[("SERVER__BODY_TIMEOUT", "500ms"), ("SERVER__MAX_CONNECTIONS", "1")]);
    let port = server.port();
    let result = large_result(port);
    let mut stuck = Wire::connect(port);
    stuck.send(get(&result, ""));
    assert_eq!(ask(port, get("/v1/meta", "")).status, 200);
    let got = stuck.closed();
    assert!(got.len() < LARGE, "{} bytes were on their way", got.len());
    assert_eq!(ask(port, get("/v1/meta", "")).status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_its_answer_slowly_gets_it() {
    let server = Server::with(&[("SERVER__BODY_TIMEOUT", "1s")]);
    let port = server.port();
    let result = large_result(port);
    let mut slow = bare(port, &get(&result, "Connection: close\r\n"));
    // All of it takes three times as long as any of it may.
    let mut got = Vec::new();
    for step in 1..=100 {
        let more = (&slow).take((LARGE / 100) as u64).read_to_end(&mut got);
        more.unwrap_or_else(|e| panic!("step {step}: {e}"));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    slow.read_to_end(&mut got).expect("the rest");
    let body = got.windows(4).position(|w| w == b"\r\n\r\n").expect("headers") + 4;
    assert_eq!(got.len() - body, LARGE);
    server.is_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_loopback_names_are_answered() {
    let server = Server::start();
    let port = server.port();
    let from = |host: &str| ask(port, format!("GET /v1/meta HTTP/1.1\r\n{host}\r\n"));
    for host in ["localhost", "127.0.0.1:8080", "127.9.9.9", "[::1]:1", "LOCALHOST.", "a.localhost"]
    {
        assert_eq!(from(&format!("Host: {host}\r\n")).status, 200, "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "[::2]",
        "127.0.0.1.nip.io",
    ] {
        let problem = from(&format!("Host: {host}\r\n")).problem(421, "misdirected-host");
        assert!(problem["detail"].as_str().expect("one").contains(host), "{problem}");
    }
    for host in [
        "",
        "Host: \r\n",
        "Host: a b\r\n",
        "Host: a/b\r\n",
        "Host: user@localhost\r\n",
        "Host: x:y:z\r\n",
        "Host: ..\r\n",
        "Host: [\r\n",
        "Host: -\r\n",
        "Host: a:99999999\r\n",
        "Host: localhost:80:80\r\n",
        "Host: 127.0.0.1:abc\r\n",
        "Host: a..b\r\n",
        "Host: localhost\r\nHost: localhost\r\n",
    ] {
        from(host).problem(400, "invalid-header");
    }
    let elsewhere = "GET http://evil.example/v1/meta HTTP/1.1\r\nHost: localhost\r\n\r\n";
    ask(port, elsewhere).problem(421, "misdirected-host");
    // A page that has rebound its name can neither read nor write.
    let body = r#"{"kind":"a","queue":"rebound"}"#;
    let rebound = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    ask(port, rebound).problem(421, "misdirected-host");
    server.get("/v1/queues/rebound").await.problem(404, "no-such-queue");
    server.is_alive().await;
}
