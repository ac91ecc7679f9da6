//! R161–R164: who is kept out, and who is not.

use std::io::Write as _;

use serde_json::json;

use crate::book::Book;
use crate::guarded::{Guarded, tables, token};
use crate::kit::{soon, until};

pub fn checks(book: &mut Book) {
    book.rule("R161", |at| {
        let id = at.put(json!({}));
        let cancel = format!("/v1/jobs/{id}/cancel");
        for page in [
            &[("Sec-Fetch-Site", "cross-site")][..],
            &[("Origin", "https://evil.example")],
            &[("Origin", "null")],
        ] {
            at.ask("POST", &cancel, page, b"").problem(403, "cross-site");
            at.ask("DELETE", &format!("/v1/jobs/{id}"), page, b"").problem(403, "cross-site");
            at.get("/v1/meta", page).is(200);
        }
        assert_eq!(at.job(&id)["status"], "pending");
    });
    book.rule("R162", |_| {
        let server = Guarded::start();
        let claim = json!({"worker_id": "w", "queues": ["q"], "wait_seconds": 50}).to_string();
        let parked = server.later(move |c| {
            let bearer = format!("Bearer {}", token("work"));
            let json = ("Content-Type", "application/json");
            c.ask("POST", "/v1/claims", &[("Authorization", &bearer), json], claim.as_bytes())
        });
        until("the parked claim", || {
            let workers = server.by("operate", "GET", "/v1/workers", None).is(200).json;
            workers["workers"].as_array().is_some_and(|w| !w.is_empty()).then_some(())
        });
        let left = "submit: scopes = [\"submit\"]\nwork.all: scopes = [\"work\"]\n";
        std::fs::write(server.dir.path().join("contract.toml"), tables(left)).expect("the file");
        server.process.signal("HUP");
        soon(parked).problem(401, "unauthenticated");
        let id = server.put_by("submit", json!({"kind": "a", "queue": "q"}));
        let next = server.lease_of("work.all", json!({"worker_id": "v", "queues": ["q"]}));
        assert_eq!(next.expect("the job").id, id);
    });
    book.rule("R163", |_| {
        let server = Guarded::start();
        let file = server.dir.path().join("contract.toml");
        std::fs::write(&file, "").expect("the file");
        server.process.signal("HUP");
        until("the refusal to be told", || {
            server.process.log().contains("asks for tokens").then_some(())
        });
        server.get("/v1/meta", &[]).problem(401, "unauthenticated");
        server.by("read", "GET", "/v1/meta", None).is(200);
    });
    book.rule("R164", |at| {
        let announced = (0..32).map(|_| {
            let mut stream = at.connect();
            let head = format!(
                "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{{",
                16 << 20
            );
            stream.write_all(head.as_bytes()).expect("sent");
            stream
        });
        let announced: Vec<_> = announced.collect();
        let body = at.body(json!({"payload": "x".repeat(1 << 19)}));
        soon(at.later(move |c| c.post("/v1/jobs", body, &[]))).is(202);
        drop(announced);
    });
}
