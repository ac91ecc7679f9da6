//! R31–R43: following a job.

use serde_json::json;

use crate::book::Book;
use crate::kit::{Stand, held_for, soon};

pub fn checks(book: &mut Book) {
    book.rule("R31", |at| {
        let lease = at.taken(json!({}));
        at.fail(&lease, json!({"retryable": false}));
        assert_eq!(at.job(&lease.id)["status"], "failed");
    });
    book.rule("R32", |at| {
        let new = at.post("/v1/jobs", at.body(json!({})), &[]).is(202);
        new.retry_after();
        let path = format!("/v1/jobs/{}", new.id());
        let read = at.get(&path, &[]).is(200);
        read.retry_after();
        at.get(&path, &[("If-None-Match", &read.tag())]).is(304).retry_after();
        at.get(&format!("{path}/result"), &[]).problem(409, "result-not-ready").retry_after();
        let lease = at.take();
        at.cancel(&lease.id, json!({})).is(202).retry_after();
        at.complete(&lease, json!(1));
        // Who settles a job does not wait for it.
        let other = at.taken(json!({}));
        let released = at.with("release", &other, json!({})).is(200);
        assert!(released.json["done"] == false && released.header("retry-after").is_none());
        let done = at.get(&path, &[]).is(200);
        assert!(done.header("retry-after").is_none());
        let same = at.get(&path, &[("If-None-Match", &done.tag())]).is(304);
        assert!(same.header("retry-after").is_none());
    });
    book.rule("R33", |at| {
        let path = format!("/v1/jobs/{}", at.put(json!({})));
        let read = at.get(&path, &[]).is(200);
        assert_eq!(read.tag(), format!("W/\"{}\"", read.json["version"]));
        let same = at.get(&path, &[("If-None-Match", &read.tag())]).is(304);
        assert!(same.bytes.is_empty());
        for name in ["etag", "cache-control", "vary"] {
            assert!(
                read.header(name).is_some() && same.header(name) == read.header(name),
                "{name}"
            );
        }
        same.retry_after();
        for (tag, status) in
            [("*", 304), ("\"x\", W/\"1\"", 304), ("W/\"9\"", 200), ("nonsense", 200)]
        {
            at.get(&path, &[("If-None-Match", tag)]).is(status);
        }
    });
    book.rule("R34", |at| {
        let path = format!("/v1/jobs/{}", at.put(json!({})));
        let read = at.get(&path, &[]).is(200);
        at.nothing(&format!("/v1/queues/{}/pause", at.queue)).is(200);
        let paused = at.get(&path, &[]).is(200);
        assert_eq!(
            (&paused.json["pending_reason"], paused.tag()),
            (&json!("queue_paused"), read.tag())
        );
        at.get(&path, &[("If-None-Match", &read.tag())]).is(304);
    });
    book.rule("R35", |at| {
        let path = format!("/v1/jobs/{}", at.put(json!({})));
        let held = at.later(move |c| c.get(&path, &[("Prefer", "wait=50")]));
        let lease = at.take();
        assert!(!held.is_finished());
        at.complete(&lease, json!(35));
        assert_eq!(soon(held).is(200).json["result"], 35);
    });
    book.rule("R36", |at| {
        let path = format!("/v1/jobs/{}", at.put(json!({})));
        let held =
            at.later(move |c| c.get(&path, &[("If-None-Match", "W/\"1\""), ("Prefer", "wait=50")]));
        at.take();
        let news = soon(held).is(200);
        assert_eq!(
            (&news.json["status"], news.header("preference-applied")),
            (&json!("running"), Some("wait=50"))
        );
    });
    book.rule("R37", |at| {
        let job = at.job(&at.put(json!({})));
        let path = format!("/v1/jobs/{}", job["job_id"].as_str().expect("an id"));
        let ask = |tag: Option<&'static str>| {
            let path = path.clone();
            let tag = tag.map(|tag| ("If-None-Match", tag));
            let headers: Vec<_> = tag.into_iter().chain([("Prefer", "wait=2")]).collect();
            at.later(move |c| c.get(&path, &headers))
        };
        let (plain, tagged) = (ask(None), ask(Some("W/\"1\"")));
        let (plain, tagged) = (soon(plain).is(200), soon(tagged).is(304));
        assert_eq!(plain.json["done"], false);
        held_for(&plain, &job["created_at"], 2);
        held_for(&tagged, &job["created_at"], 2);
    });
    book.rule("R38", |at| {
        let path = format!("/v1/jobs/{}", at.put(json!({})));
        at.get(&format!("{path}?wait=0.1"), &[]).is(200);
        let held = at.later(move |c| c.get(&format!("{path}?wait=50"), &[]));
        let lease = at.take();
        at.complete(&lease, json!(38));
        assert_eq!(soon(held).is(200).json["result"], 38);
    });
    book.rule("R39", |at| {
        let path = format!("/v1/jobs/{}", at.put(json!({})));
        let (read, head) = (at.get(&path, &[]).is(200), at.ask("HEAD", &path, &[], b"").is(200));
        assert!(head.bytes.is_empty());
        for name in ["etag", "content-type", "content-length", "link", "vary"] {
            assert_eq!(head.header(name), read.header(name), "{name}");
        }
        at.ask("HEAD", &path, &[("If-None-Match", &read.tag())], b"").is(304);
    });
    book.rule("R40", |at| {
        let lease = at.taken(json!({}));
        let path = format!("/v1/jobs/{}", lease.id);
        at.get(&format!("{path}?on_completed=redirect"), &[]).is(200);
        at.complete(&lease, json!(1));
        at.get(&path, &[]).is(200);
        let there = at.get(&format!("{path}?on_completed=redirect"), &[]).is(303);
        assert_eq!(there.header("location"), Some(format!("{}{path}/result", at.base).as_str()));
    });
    book.rule("R41", |at| {
        let lease = at.taken(json!({}));
        let told = at.with("complete", &lease, json!({"result": 1})).is(200);
        let done = at.get(&format!("/v1/jobs/{}", lease.id), &[]).is(200);
        assert_eq!(told.header("sunset"), done.header("sunset"));
        let sunset =
            jiff::fmt::rfc2822::parse(done.header("sunset").expect("Sunset")).expect("a date");
        let expires: jiff::Timestamp =
            done.json["expires_at"].as_str().expect("one").parse().expect("one");
        let off = sunset.timestamp().duration_since(expires).as_millis().abs();
        assert!(off < 1_001, "{off} ms apart");
    });
    book.rule("R42", |at| {
        let lease = at.taken(json!({}));
        at.fail(&lease, json!({"retry_after_seconds": 0}));
        let lease = at.take();
        at.complete(&lease, json!(1));
        let told = at.get(&format!("/v1/jobs/{}/timeline", lease.id), &[]).is(200).json;
        let events = told["events"].as_array().expect("events");
        let types: Vec<&str> = events.iter().filter_map(|e| e["type"].as_str()).collect();
        let expected =
            ["submitted", "claimed", "failed_attempt", "retry_scheduled", "claimed", "completed"];
        assert_eq!(types, expected, "{told}");
        assert!(events.is_sorted_by(|a, b| a["seq"].as_u64() < b["seq"].as_u64()));
        assert_eq!(events[2]["reason"], "boom");
        assert_eq!(events[1]["worker_id"], at.queue.as_str());
    });
    book.rule("R171", |at| {
        let lease = at.taken(json!({}));
        at.fail(&lease, json!({"retry_after_seconds": 0}));
        let lease = at.take();
        at.complete(&lease, json!(1));
        let told = at.get(&format!("/v1/jobs/{}/timeline", lease.id), &[]).is(200).json;
        let events = told["events"].as_array().expect("events");
        let end = events.last().expect("one");
        assert_eq!(end["type"], "completed", "{told}");
        assert_eq!((&end["attempt"], &end["fence"]), (&json!(2), &json!(2)), "{told}");
        assert_eq!(end["worker_id"], at.queue.as_str());
        assert!(end["run_ms"].is_u64() && events[4]["wait_ms"].is_u64(), "{told}");
        assert_eq!(events[4]["type"], "claimed");
    });
    book.rule("R172", |at| {
        let lease = at.taken(json!({}));
        let path = format!("/v1/jobs/{}", lease.id);
        let open = at.get(&path, &[]).is(200);
        assert_eq!(open.json["links"]["cancel"], format!("{}{path}/cancel", at.base));
        assert!(open.header("link").expect("Link").contains("/rels/cancel"));
        at.complete(&lease, json!(1));
        let done = at.get(&path, &[]).is(200);
        assert!(done.json["links"].get("cancel").is_none(), "{}", done.json);
        assert!(!done.header("link").expect("Link").contains("/rels/cancel"));
    });
    book.rule("R170", |at| {
        let stands = [Stand::start(), Stand::start()];
        let cursors = stands.each_ref().map(|stand| {
            for _ in 0..3 {
                stand.submit(json!({"kind": "a"}));
            }
            let page = stand.get("/v1/jobs?limit=1", &[]).is(200).json;
            page["next_cursor"].as_str().expect("one").to_owned()
        });
        // The same place in two stores: what is told of it has nothing in common.
        assert_ne!(cursors[0], cursors[1]);
        let next = |n: usize, cursor: &str| {
            stands[n].get(&format!("/v1/jobs?limit=1&cursor={cursor}"), &[])
        };
        assert_eq!(next(0, &cursors[0]).is(200).json["jobs"].as_array().map(Vec::len), Some(1));
        next(0, &cursors[1]).problem(400, "invalid-query");
        at.get(&format!("/v1/jobs?cursor={}", cursors[0]), &[]).problem(400, "invalid-query");
    });
    book.rule("R43", |at| {
        let mut ids: Vec<String> =
            (0..9).map(|n| at.put(json!({"tags": [format!("t{}", n % 2)]}))).collect();
        ids.reverse();
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = at.get(&format!("/v1/jobs?queue={}&limit=2{cursor}", at.queue), &[]).is(200);
            let jobs = page.json["jobs"].as_array().expect("jobs");
            seen.extend(jobs.iter().map(|j| j["job_id"].as_str().expect("an id").to_owned()));
            let Some(next) = page.json["next_cursor"].as_str() else { break };
            assert!(page.header("link").expect("Link").ends_with("rel=\"next\""));
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, ids);
        at.get("/v1/jobs?cursor=!", &[]).problem(400, "invalid-query");
    });
}
