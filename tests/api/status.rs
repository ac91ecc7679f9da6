//! Following a job: its status, its result, its story, and the lists.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::{Server, with};
use crate::wire::{ask, get};

const NOT_HELD: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unchanged_job_is_304_and_news_come_at_once() {
    let server = Server::start();
    let id = server.submit(&json!({"kind": "a"})).await;
    let path = format!("/v1/jobs/{id}");
    let read = server.get(&path).await.is(200);
    assert_eq!(read.header("vary"), Some("Prefer, Accept, Authorization"));
    let tag = read.header("etag").expect("a tag").to_owned();

    let unchanged = server.get_with(&path, &[("If-None-Match", &tag)]).await.is(304);
    assert!(unchanged.bytes.is_empty() && unchanged.header("content-type").is_none());
    assert_eq!(unchanged.header("etag"), Some(tag.as_str()));
    assert_eq!(unchanged.header("vary"), Some("Prefer, Accept, Authorization"));
    unchanged.retry_after();
    for (known, status) in
        [("\"1\"", 304), ("*", 304), ("\"x\", W/\"1\"", 304), ("W/\"9\"", 200), ("nonsense", 200)]
    {
        server.get_with(&path, &[("If-None-Match", known)]).await.is(status);
    }

    // HEAD is GET without the body.
    let head = server.send(server.request(Method::HEAD, &path)).await.is(200);
    assert!(head.bytes.is_empty());
    for name in ["etag", "content-type", "content-length", "link", "vary"] {
        assert_eq!(head.header(name), read.header(name), "{name}");
    }
    head.retry_after();
    let known = [("If-None-Match", tag.as_str())];
    server.send(with(server.request(Method::HEAD, &path), &known)).await.is(304);

    // Held until the tag changes: a claim is news, and so is progress.
    let waits = [("If-None-Match", tag.as_str()), ("Prefer", "wait=50")];
    let until_news = server.getting(&path, &waits);
    let until_done = server.getting(&path, &[("Prefer", "wait=50")]);
    server.in_flight("GET", 2).await;
    let lease = server.lease("w", "default").await;
    let news = tokio::time::timeout(NOT_HELD, until_news).await.expect("at once").expect("one");
    let news = news.is(200);
    assert_eq!(news.json["status"], "running");
    assert_eq!(news.header("preference-applied"), Some("wait=50"));

    let tag = news.header("etag").expect("a tag").to_owned();
    let until_news = server.getting(&path, &[("If-None-Match", &tag), ("Prefer", "wait=50")]);
    server.in_flight("GET", 2).await;
    let progress = json!({"progress": {"percent": 40, "message": "page 4/10"}});
    server.with_lease("heartbeat", &lease, &progress).await.is(200);
    let news = tokio::time::timeout(NOT_HELD, until_news).await.expect("at once").expect("one");
    let news = news.is(200);
    assert_eq!(news.json["progress"]["percent"], 40.0);
    assert_eq!(news.json["progress"]["message"], "page 4/10");

    // A bare heartbeat is no news: nothing of the job has changed.
    let tag = news.header("etag").expect("a tag").to_owned();
    server.with_lease("heartbeat", &lease, &json!({})).await.is(200);
    let same = [("If-None-Match", &*tag), ("Prefer", "wait=5")];
    let same = server.get_with(&path, &same).await.is(304);
    assert_eq!(same.header("preference-applied"), Some("wait=5"));
    let short = [("If-None-Match", tag.as_str()), ("Prefer", "wait=1")];
    let same = server.get_with(&path, &short).await.is(304);
    assert_eq!(same.header("preference-applied"), Some("wait=1"));

    // Without a tag only the end is worth waiting for; with an old one there is news already.
    let early = server.get(&format!("{path}?wait=0.2")).await.is(200);
    assert_eq!(early.json["done"], false);
    let old = [("If-None-Match", "W/\"1\""), ("Prefer", "wait=50")];
    let old = tokio::time::timeout(NOT_HELD, server.get_with(&path, &old)).await.expect("at once");
    old.is(200);
    server.complete(&lease, json!({"pages": 10})).await;
    let done = tokio::time::timeout(NOT_HELD, until_done).await.expect("at once").expect("one");
    let done = done.is(200);
    assert_eq!(
        (&done.json["status"], &done.json["result"]),
        (&json!("completed"), &json!({"pages": 10}))
    );

    // A finished job has no more news: nobody is held for it.
    let tag = done.header("etag").expect("a tag").to_owned();
    let waits = [("If-None-Match", tag.as_str()), ("Prefer", "wait=50")];
    let end =
        tokio::time::timeout(NOT_HELD, server.get_with(&path, &waits)).await.expect("at once");
    let end = end.is(304);
    assert!(end.header("retry-after").is_none() && end.header("sunset").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_may_ask_for_more_and_nothing_unknown() {
    let server = Server::start();
    let id = server.submit(&json!({"kind": "a", "payload": [1, {"b": null}]})).await;
    let path = format!("/v1/jobs/{id}");
    let shown = server.get(&format!("{path}?include=payload")).await.is(200);
    assert_eq!(shown.json["payload"], json!([1, {"b": null}]));
    server.get(&format!("{path}?on_completed=redirect")).await.is(200);
    for bad in [
        "include=all",
        "include=",
        "on_completed=yes",
        "wait=x",
        "wait=-1",
        "wait=NaN",
        "wait=inf",
        "wait=1&wait=2",
        "wat=1",
        "%zz=1",
    ] {
        let problem = server.get(&format!("{path}?{bad}")).await;
        problem.problem(400, "invalid-query");
    }
    server.get(&format!("{path}/result?include=payload")).await.problem(400, "invalid-query");

    let none = server.submit(&json!({"kind": "a", "queue": "none"})).await;
    let shown = server.get(&format!("/v1/jobs/{none}?include=payload")).await.is(200);
    assert!(shown.json.get("payload").is_some_and(Value::is_null), "{}", shown.json);

    let lease = server.lease("w", "default").await;
    server.complete(&lease, json!(7)).await;
    let wait = [("Prefer", "wait=5")];
    let seen = server.get_with(&format!("{path}?on_completed=redirect"), &wait).await.is(303);
    assert_eq!(seen.header("preference-applied"), Some("wait=5"));
    let location = seen.header("location").expect("Location");
    assert_eq!(location, format!("{}{path}/result", server.base));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_come_back_byte_for_byte() {
    let server = Server::start();
    let body = json!({"kind": "a"});
    let id = server.submit(&body).await;
    let path = format!("/v1/jobs/{id}/result");
    let early = server.get(&path).await.problem(409, "result-not-ready");
    early.retry_after();
    let link = early.header("link").expect("Link");
    assert_eq!(link, format!("<{}/v1/jobs/{id}>; rel=\"monitor\"", server.base));
    assert_eq!(early.json["job_id"], id);
    server.get_with(&path, &[("Prefer", "wait=1")]).await.problem(409, "result-not-ready");

    let held = server.getting(&path, &[("Prefer", "wait=50")]);
    server.in_flight("GET", 1).await;
    let lease = server.lease("w", "default").await;
    let exact = r#"{ "b" : 1.50, "a":[ "é", 1e3 ],"c":12345678901234567890123 }"#;
    let complete = format!(r#"{{"lease_token":"{}","result":{exact}}}"#, lease.token);
    let done = server.post_text(&format!("/v1/jobs/{id}/complete"), complete).await.is(200);
    assert!(String::from_utf8(done.bytes.clone()).expect("text").contains(exact));
    let result = held.await.expect("one").is(200);
    assert_eq!(result.bytes, exact.as_bytes());
    assert_eq!(result.header("preference-applied"), Some("wait=50"));
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
    ] {
        assert_eq!(result.header(name), Some(value));
    }
    let shown = server.get(&format!("/v1/jobs/{id}")).await.is(200);
    assert_eq!(result.header("sunset"), shown.header("sunset"), "it goes with the job");
    let tag = result.header("etag").expect("a tag").to_owned();
    assert!(tag.starts_with('"'), "strong: {tag}");
    let same = [("If-None-Match", &*tag), ("Prefer", "wait=5")];
    let same = server.get_with(&path, &same).await.is(304);
    assert_eq!(same.header("preference-applied"), Some("wait=5"));
    let head = server.send(server.request(Method::HEAD, &path)).await.is(200);
    assert_eq!(head.header("content-length"), Some(exact.len().to_string().as_str()));
    assert_eq!(server.job(&id).await["result_size"], exact.len());

    // Large ones are not in the job, and are where the job says.
    server.submit(&body).await;
    let lease = server.lease("w", "default").await;
    let limit = 64 << 10;
    let just = "x".repeat(limit - 2);
    let job = server.complete(&lease, json!(just)).await;
    assert_eq!((&job["result"], &job["result_size"]), (&json!(just), &json!(limit)));
    server.submit(&body).await;
    let lease = server.lease("w", "default").await;
    let large = "y".repeat(limit - 1);
    let job = server.complete(&lease, json!(large)).await;
    assert!(job.get("result").is_none() && job["result_size"] == limit + 1, "{}", job["job_id"]);
    assert!(server.job(&lease.id).await.get("result").is_none());
    let result = server.get(&format!("/v1/jobs/{}/result", lease.id)).await.is(200);
    assert_eq!(result.json, json!(large));

    // None given is null, and so is null.
    for members in [json!({}), json!({"result": null})] {
        server.submit(&body).await;
        let lease = server.lease("w", "default").await;
        let job = server.with_lease("complete", &lease, &members).await.is(200).json;
        assert!(job.get("result").is_some_and(Value::is_null), "{job}");
        assert_eq!(job["result_size"], 4, "{job}");
        let result = server.get(&format!("/v1/jobs/{}/result", lease.id)).await.is(200);
        assert_eq!(result.bytes, b"null");
        assert_eq!(result.header("content-type"), Some("application/json"));
    }

    // Elsewhere: the way there.
    server.submit(&body).await;
    let lease = server.lease("w", "default").await;
    let url = "https://bucket.example/r/7?sig=a%2Fb";
    let members = json!({"result_location": url, "result_content_type": "text/csv"});
    let job = server.with_lease("complete", &lease, &members).await.is(200).json;
    assert!(job.get("result").is_none() && job.get("result_size").is_none(), "{job}");
    assert_eq!(job["result_content_type"], "text/csv");
    let path = format!("/v1/jobs/{}/result", lease.id);
    let there = server.get_with(&path, &[("Prefer", "wait=5")]).await.is(303);
    assert_eq!(there.header("preference-applied"), Some("wait=5"));
    assert_eq!(there.header("location"), Some(url));
    assert!(there.header("sunset").is_some());
    // Its type is what the worker says, or not known.
    server.submit(&body).await;
    let lease = server.lease("w", "default").await;
    let members = json!({"result_location": url});
    let job = server.with_lease("complete", &lease, &members).await.is(200).json;
    assert!(job.get("result_content_type").is_none() && job["result_url"].is_string(), "{job}");

    // Who failed or was cancelled has none.
    server.submit(&body).await;
    let lease = server.lease("w", "default").await;
    server.fail(&lease, json!({"retryable": false})).await;
    let failed = server.get(&format!("/v1/jobs/{}/result", lease.id)).await;
    let failed = failed.problem(409, "job-failed");
    assert_eq!(
        (&failed.json["error"]["type"], &failed.json["error"]["message"]),
        (&json!("boom"), &json!("it broke"))
    );
    let id = server.submit(&body).await;
    server.post_nothing(&format!("/v1/jobs/{id}/cancel")).await.is(200);
    server.get(&format!("/v1/jobs/{id}/result")).await.problem(409, "job-cancelled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_filter_and_turn_pages() {
    let server = Server::start();
    let before = server.submit(&json!({"kind": "first"})).await;
    let created = server.job(&before).await["created_at"].as_str().expect("one").to_owned();
    let mut ids = vec![before.clone()];
    for n in 0..25 {
        let (kind, queue) = (["a", "b"][n % 2], ["x", "y", "z"][n % 3]);
        let body = json!({"kind": kind, "queue": queue, "tags": [format!("t{}", n % 5), "é v"]});
        ids.push(server.submit(&body).await);
    }
    ids.push(server.submit(&json!({"kind": "late", "delay_seconds": 600})).await);
    let list = |query: String| {
        let client = server.client.clone();
        async move {
            let reply = client.get(&format!("/v1/jobs?{query}")).await.is(200);
            let jobs = reply.json["jobs"].as_array().expect("jobs").clone();
            let ids = jobs.iter().map(|j| j["job_id"].as_str().expect("an id").to_owned());
            (ids.collect::<Vec<String>>(), reply)
        }
    };
    let newest: Vec<String> = ids.iter().rev().cloned().collect();
    let (all, reply) = list(String::new()).await;
    assert_eq!(all, newest);
    assert!(reply.json.get("next_cursor").is_none() && reply.header("link").is_none());

    // Pages neither repeat nor skip, while jobs come and go.
    let (mut seen, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let from = cursor.map(|c| format!("&cursor={c}")).unwrap_or_default();
        let (page, reply) = list(format!("limit=4&tag=%C3%A9%20v{from}")).await;
        seen.extend(page);
        pages += 1;
        server.submit(&json!({"kind": "noise", "tags": ["é v"]})).await;
        cursor = reply.json["next_cursor"].as_str().map(str::to_owned);
        let Some(cursor) = &cursor else { break };
        let next = reply.header("link").expect("Link").to_owned();
        let expected = format!(
            "<{}/v1/jobs?limit=4&tag=%C3%A9%20v&cursor={cursor}>; rel=\"next\"",
            server.base
        );
        assert_eq!(next, expected);
    }
    assert_eq!(seen, newest[1..26]);
    assert!(pages >= 7);

    // Every filter, alone and together.
    let lease = server.lease("w", "x").await;
    server.complete(&lease, json!(1)).await;
    let failing = server.lease("w", "y").await;
    server.fail(&failing, json!({"retryable": false})).await;
    let running = server.lease("w", "z").await;
    let backing = server.lease("w", "x").await;
    server.fail(&backing, json!({"retry_after_seconds": 600})).await;
    server.post_nothing("/v1/queues/y/pause").await.is(200);
    let one = |id: &String| vec![id.clone()];
    for (query, expected) in [
        ("status=completed", one(&lease.id)),
        ("status=failed&error_type=boom", one(&failing.id)),
        ("error_type=other", vec![]),
        ("status=running&queue=z", one(&running.id)),
        ("pending_reason=retry_backoff", one(&backing.id)),
        ("pending_reason=scheduled", one(&ids[26])),
        ("kind=first", one(&before)),
        ("kind=late&status=pending&pending_reason=scheduled", one(&ids[26])),
        ("kind=late&status=running", vec![]),
        ("finished_after=2099-01-01T00:00:00Z", vec![]),
        ("created_after=2099-01-01T00:00:00Z", vec![]),
        ("kind=never", vec![]),
        ("queue=never", vec![]),
        ("tag=never", vec![]),
    ] {
        assert_eq!(list(query.to_owned()).await.0, expected, "{query}");
    }
    let (finished, _) = list("finished_after=2020-01-01T00:00:00Z".to_owned()).await;
    assert_eq!(finished.len(), 2);
    let (paused, reply) = list("pending_reason=queue_paused".to_owned()).await;
    assert_eq!(paused.len(), 7);
    assert!(reply.json["jobs"].as_array().expect("jobs").iter().all(|j| j["queue"] == "y"));
    let (tagged, _) = list("tag=t1&kind=a&limit=1000".to_owned()).await;
    assert_eq!(tagged, [ids[17].clone(), ids[7].clone()]);
    let (older, _) = list(format!("created_before={created}")).await;
    assert!(!older.contains(&ids[26]));
    let (since, _) = list(format!("created_after={created}&kind=late")).await;
    assert_eq!(since, one(&ids[26]));

    for bad in [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=1e2",
        "status=done",
        "cursor=!",
        "cursor=AAAA",
        "queue=A",
        "kind=",
        "created_after=yesterday",
        "limt=3",
        "pending_reason=bored",
        "status=failed&status=failed",
        "created_after=2030-01-01T00:00:00+00:00",
    ] {
        let problem = server.get(&format!("/v1/jobs?{bad}")).await.problem(400, "invalid-query");
        let name = bad.split('=').next().expect("a name");
        assert!(problem.json["detail"].as_str().expect("one").contains(name), "{}", problem.json);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_others_are_nobody_s() {
    let server = Server::start();
    let elsewhere = Server::start();
    let id = server.submit(&json!({"kind": "a"})).await;
    let foreign = elsewhere.submit(&json!({"kind": "a"})).await;
    let mut forged = id.clone().into_bytes();
    forged[35] = if forged[35] == b'0' { b'1' } else { b'0' };
    let forged = String::from_utf8(forged).expect("text");
    let plain: String = id.replace('-', "");
    let ids = [
        foreign,
        forged,
        id.to_uppercase(),
        plain,
        format!("%7B{id}%7D"),
        format!("urn:uuid:{id}"),
        format!("{id}%20"),
        "00000000-0000-0000-0000-000000000000".to_owned(),
        "1".to_owned(),
        "%00".to_owned(),
        "%FF%FE".to_owned(),
        "..%2F..%2Fetc%2Fpasswd".to_owned(),
        "';DROP%20TABLE%20jobs;--".to_owned(),
        "x".repeat(10_000),
    ];
    let token = json!({"lease_token": "AAAAAAAAAAAAAAAAAAAAAA"});
    for other in &ids {
        for path in ["", "/result", "/timeline"] {
            let reply = server.get(&format!("/v1/jobs/{other}{path}")).await;
            reply.problem(404, "no-such-job");
        }
        server.delete(&format!("/v1/jobs/{other}")).await.problem(404, "no-such-job");
        for path in ["cancel", "complete", "release", "cancelled", "heartbeat"] {
            let body = if path == "cancel" { json!({}) } else { token.clone() };
            let reply = server.post(&format!("/v1/jobs/{other}/{path}"), &body).await;
            reply.problem(404, "no-such-job");
        }
    }
    let answer = ask(server.port(), get("/v1/jobs/\u{e9}", ""));
    assert!(matches!(answer.status, 400 | 404), "{answer:?}");
    let lost = server.metrics().await.sum("punctual_jobs_lost_total", &[]);
    assert!(lost.abs() < 0.5, "{lost} jobs are thought lost");
    server.is_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timelines_tell_the_story_in_order() {
    let server = Server::start();
    let id = server.submit(&json!({"kind": "a", "max_attempts": 3})).await;
    let lease = server.lease("w1", "default").await;
    server.with_lease("release", &lease, &json!({"reason": "deploy"})).await.is(200);
    let lease = server.lease("w2", "default").await;
    let progress = json!({"progress": {"percent": 10}});
    server.with_lease("heartbeat", &lease, &progress).await.is(200);
    server.fail(&lease, json!({"retry_after_seconds": 0})).await;
    let lease = server.lease("w3", "default").await;
    server.post_nothing(&format!("/v1/jobs/{id}/cancel")).await.is(202);
    server.complete(&lease, json!(1)).await;
    let reply = server.get(&format!("/v1/jobs/{id}/timeline")).await.is(200);
    let events = reply.json["events"].as_array().expect("events");
    let kinds: Vec<&str> = events.iter().map(|e| e["type"].as_str().expect("one")).collect();
    let expected = [
        "submitted",
        "claimed",
        "released",
        "claimed",
        "failed_attempt",
        "retry_scheduled",
        "claimed",
        "cancel_requested",
        "completed",
    ];
    let told: Vec<&str> = kinds.iter().filter(|k| **k != "progress").copied().collect();
    assert_eq!(told, expected, "{}", reply.json);
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["seq"], at + 1);
        assert!(crate::jobs::is_moment(event["at"].as_str().expect("a moment")));
    }
    assert!(events.is_sorted_by(|a, b| a["at"].as_str() <= b["at"].as_str()));
    let claimed = events.iter().filter(|e| e["type"] == "claimed");
    let fences: Vec<u64> = claimed.clone().map(|e| e["fence"].as_u64().expect("one")).collect();
    assert_eq!(fences, [1, 2, 3]);
    let failed = events.iter().find(|e| e["type"] == "failed_attempt").expect("one");
    assert_eq!((&failed["worker_id"], &failed["reason"]), (&json!("w2"), &json!("boom")));
    assert!(failed["run_ms"].is_u64() && failed["attempt"] == 1, "{failed}");
    // Only of the latest wait it is remembered when it began.
    let waits: Vec<bool> = claimed.map(|e| e["wait_ms"].is_u64()).collect();
    assert_eq!(waits, [false, false, true], "{}", reply.json);
    let end = events.last().expect("one");
    assert_eq!((&end["worker_id"], &end["fence"]), (&json!("w3"), &json!(3)), "{end}");
    assert!(end["run_ms"].is_u64() && end["attempt"] == 2, "{end}");

    // A cancelled attempt is told likewise, and a job that ends while none runs has none.
    let id = server.submit(&json!({"kind": "a"})).await;
    let lease = server.lease("w4", "default").await;
    server.post_nothing(&format!("/v1/jobs/{id}/cancel")).await.is(202);
    server.with_lease("cancelled", &lease, &json!({})).await.is(200);
    let idle = server.submit(&json!({"kind": "a"})).await;
    server.post_nothing(&format!("/v1/jobs/{idle}/cancel")).await.is(200);
    for (id, worker) in [(&id, Some("w4")), (&idle, None)] {
        let told = server.get(&format!("/v1/jobs/{id}/timeline")).await.is(200).json;
        let end = told["events"].as_array().and_then(|e| e.last()).expect("one").clone();
        assert_eq!((&end["type"], end["worker_id"].as_str()), (&json!("cancelled"), worker));
        assert_eq!(end["run_ms"].is_u64(), worker.is_some(), "{end}");
    }
}
