//! Nobody is crowded out: not by bodies that are announced or held back, not by idle connections.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::kit::{Reply, Server};
use crate::server::{PATIENCE, until};
use crate::wire::{Wire, ask, get};

const LARGE: usize = 16 << 20;

/// The beginning of a request with a body of [`LARGE`] bytes, of which `sent` come.
fn announcing(port: u16, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {LARGE}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(&vec![b' '; sent]).expect("sent");
    stream
}

fn job(bytes: usize) -> Value {
    json!({"kind": "k", "queue": "q", "payload": "x".repeat(bytes)})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_announced_holds_nobody_up() {
    let server = Server::start();
    server.post("/v1/jobs", &job(10)).await.is(202);
    let announced: Vec<TcpStream> = (0..40).map(|_| announcing(server.port(), 10)).collect();
    server.in_flight("POST", announced.len()).await;
    // Long before any of them is given up, there is room for others.
    server.post("/v1/jobs", &job(1 << 19)).await.is(202);
    let lease = server.lease("w", "q").await;
    server.complete(&lease, json!("y".repeat(4 << 20))).await;
    for mut stream in announced {
        stream.set_nonblocking(true).expect("a mode");
        assert!(stream.read(&mut [0]).is_err(), "it was not answered yet");
    }
    server.is_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_finds_no_room_is_told_so_and_workers_have_theirs() {
    // The room is waited for a third of this.
    let server = Server::with(&[("SERVER__BODY_TIMEOUT", "24s")]);
    server.post("/v1/jobs", &job(10)).await.is(202);
    let lease = server.lease("w", "q").await;
    let port = server.port();
    let held: Vec<TcpStream> = (0..8).map(|_| announcing(port, LARGE - 1)).collect();
    // Once all has arrived, which the first to be refused shows.
    let refused: Reply = until("a full room", || async {
        let reply = server.post("/v1/jobs", &job(1 << 19)).await;
        (reply.status != 202).then_some(reply)
    })
    .await;
    let refused = refused.problem(503, "overloaded");
    assert!((1..=5).contains(&refused.retry_after()));
    // Neither small bodies nor the large ones of workers wait for them.
    let waits = server.posting("/v1/jobs", job(1 << 19), &[]);
    server.in_flight("POST", held.len() + 1).await;
    server.post("/v1/jobs", &job(10)).await.is(202);
    server.complete(&lease, json!("y".repeat(4 << 20))).await;
    // Who leaves makes room.
    drop(held);
    waits.await.expect("an answer").is(202);
    server.is_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_give_way_to_whoever_comes() {
    let server = Server::with(&[("SERVER__MAX_CONNECTIONS", "20")]);
    let port = server.port();
    let claim = json!({"worker_id": "w", "queues": ["q"], "wait_seconds": 50});
    let parked = server.parked(claim).await;
    // Some that have said something, and some that never do.
    let mut idle: Vec<Wire> = (0..60).map(|_| Wire::connect(port)).collect();
    for wire in idle.iter_mut().step_by(3) {
        wire.send(get("/v1/meta", ""));
    }
    for _ in 0..30 {
        assert_eq!(ask(port, get("/livez", "")).status, 200);
    }
    // Who is being answered stays.
    let id = server.submit(&json!({"kind": "k", "queue": "q"})).await;
    assert_eq!(parked.await.expect("an answer").is(200).json["jobs"][0]["job_id"], id);
    assert!(server.process.log().contains("all connections are taken"));
    drop(idle);
    server.is_alive().await;
}
