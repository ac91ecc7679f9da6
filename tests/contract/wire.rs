//! R180–R186: web pages, proxies, traces, links, and what else goes over the wire.

use serde_json::json;

use crate::book::Book;
use crate::kit::{Reply, Stand, held_for, soon};

const PAGE: &str = "https://app.example.com";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn caller() -> String {
    format!("00-{TRACE}-00f067aa0ba902b7-01")
}

/// Items of a header that is a list.
fn list(reply: &Reply, name: &str) -> Vec<String> {
    let values = reply.headers.get_all(name).iter().map(|v| v.to_str().expect("ASCII"));
    values.flat_map(|v| v.split(',')).map(|item| item.trim().to_ascii_lowercase()).collect()
}

/// The address of this relation.
fn linked(reply: &Reply, relation: &str) -> Option<String> {
    let links = reply.header("link").unwrap_or_default().split(',');
    let mut links = links.filter_map(|link| link.trim().split_once("; "));
    let (to, _) = links.find(|(_, rest)| *rest == format!("rel=\"{relation}\""))?;
    Some(to.trim_matches(['<', '>']).to_owned())
}

fn has_cors(reply: &Reply) -> bool {
    reply.headers.keys().any(|name| name.as_str().starts_with("access-control-"))
}

pub fn checks(book: &mut Book) {
    book.rule("R180", |_| {
        let stand = Stand::configured(&[("SERVER__CORS_ORIGINS", PAGE)], "");
        let asks = |origin| {
            let headers = [
                ("Origin", origin),
                ("Access-Control-Request-Method", "POST"),
                ("Access-Control-Request-Headers", "authorization,idempotency-key"),
            ];
            stand.ask("OPTIONS", "/v1/jobs", &headers, b"")
        };
        let reply = asks(PAGE).is(204);
        assert_eq!(reply.header("access-control-allow-origin"), Some(PAGE));
        assert!(list(&reply, "access-control-allow-methods").contains(&"post".to_owned()));
        for header in ["authorization", "idempotency-key", "content-type", "prefer"] {
            let allowed = list(&reply, "access-control-allow-headers");
            assert!(allowed.contains(&header.to_owned()), "{header}");
        }
        let page = [("Origin", PAGE)];
        let id = stand.submit(json!({"kind": "a"}));
        for reply in [
            stand.get(&format!("/v1/jobs/{id}"), &page).is(200),
            stand.get("/v1/jobs/1", &page).problem(404, "no-such-job"),
        ] {
            assert_eq!(reply.header("access-control-allow-origin"), Some(PAGE));
            let shown = list(&reply, "access-control-expose-headers");
            for header in [
                "location",
                "retry-after",
                "etag",
                "link",
                "preference-applied",
                "idempotent-replayed",
                "traceresponse",
            ] {
                assert!(shown.contains(&header.to_owned()), "{header}");
            }
            assert!(list(&reply, "vary").contains(&"origin".to_owned()));
        }
        for other in ["https://evil.example", "null", "http://app.example.com"] {
            assert!(!has_cors(&asks(other).problem(405, "method-not-allowed")), "{other}");
            assert!(!has_cors(&stand.get("/v1/meta", &[("Origin", other)]).is(200)), "{other}");
        }
    });
    book.rule("R181", |_| {
        let told = [("Forwarded", "for=192.0.2.1;proto=https;host=jobs.example.com")];
        for (trusted, base) in
            [("127.0.0.0/8", Some("https://jobs.example.com")), ("10.0.0.0/8", None), ("", None)]
        {
            let stand = Stand::configured(&[("SERVER__TRUSTED_PROXIES", trusted)], "");
            let headers = [&told[..], &[("Content-Type", "application/json")]].concat();
            let reply = stand.ask_freely("POST", "/v1/jobs", &headers, b"{\"kind\":\"a\"}").is(202);
            let url = format!("{}/v1/jobs/{}", base.unwrap_or(&stand.base), reply.id());
            assert_eq!(reply.header("location"), Some(&*url), "trusted: {trusted:?}");
            assert_eq!(reply.json["status_url"], url);
        }
    });
    book.rule("R182", |at| {
        let caller = caller();
        let put = |headers: &[(&str, &str)]| {
            at.post("/v1/jobs", at.body(json!({})), headers).is(202);
            at.take().json
        };
        let given = put(&[("traceparent", &caller), ("tracestate", "vendor=1")]);
        assert_eq!(
            (&given["traceparent"], &given["tracestate"]),
            (&json!(caller), &json!("vendor=1"))
        );
        for bad in
            [&[("tracestate", "vendor=1")][..], &[("traceparent", "00-0"), ("tracestate", "v=1")]]
        {
            let given = put(bad);
            assert!(
                given.get("tracestate").is_none() && given.get("traceparent").is_none(),
                "{given}"
            );
        }
    });
    book.rule("R183", |at| {
        // There is nobody who takes the traces, and nobody notices.
        let stand = Stand::configured(&[("TELEMETRY__OTLP_ENDPOINT", "http://127.0.0.1:1")], "");
        let caller = caller();
        let headers = [("traceparent", caller.as_str())];
        for reply in [
            stand.post("/v1/jobs", json!({"kind": "a"}), &headers).is(202),
            stand.get("/v1/queues", &headers).is(200),
            stand.get("/v1/jobs/1", &headers).problem(404, "no-such-job"),
        ] {
            let context = reply.header("traceresponse").expect("a context");
            let parts: Vec<&str> = context.split('-').collect();
            assert_eq!((parts.len(), parts[0], parts[1]), (4, "00", TRACE), "{context}");
            assert!(parts[2].len() == 16 && parts[2] != "00f067aa0ba902b7", "{context}");
            let timing = format!("trace;desc={context}");
            assert_eq!(reply.header("server-timing"), Some(timing.as_str()));
            assert!(reply.status < 400 || reply.json["trace_id"] == TRACE, "{}", reply.json);
        }
        let own = stand.get("/v1/meta", &[]).is(200);
        assert!(own.header("traceresponse").is_some_and(|c| !c.contains(TRACE)));
        let off = at.get("/v1/meta", &headers).is(200);
        assert!(off.header("traceresponse").is_none() && off.header("server-timing").is_none());
    });
    book.rule("R184", |at| {
        let root = at.get("/", &[]).is(200);
        for relation in ["service-desc", "service-doc", "status"] {
            let to = linked(&root, relation).unwrap_or_else(|| panic!("no {relation}"));
            at.ask_freely("GET", &to, &[], b"").is(200);
        }
        for (name, url) in root.json["links"].as_object().expect("links") {
            let path = url.as_str().and_then(|url| url.strip_prefix(&at.base)).expect("ours");
            at.ask_freely("GET", path, &[], b"").is(200);
            assert!(!name.is_empty());
        }
    });
    book.rule("R185", |at| {
        let new = at.post("/v1/jobs", at.body(json!({})), &[]).is(202);
        let path = format!("/v1/jobs/{}", new.id());
        let url = format!("{}{path}", at.base);
        let links = |reply: &Reply| {
            let all = ["monitor", "/rels/result", "/rels/cancel"];
            all.map(|relation| linked(reply, relation))
        };
        let (monitor, result, cancel) =
            (Some(url.clone()), Some(format!("{url}/result")), Some(format!("{url}/cancel")));
        let open = [monitor.clone(), None, cancel];
        assert_eq!(links(&new), open);
        assert_eq!(links(&at.get(&path, &[]).is(200)), open);
        let lease = at.take();
        assert_eq!(links(&at.get(&path, &[]).is(200)), open);
        at.complete(&lease, json!(1));
        assert_eq!(links(&at.get(&path, &[]).is(200)), [monitor.clone(), result, None]);
        let failed = at.taken(json!({}));
        at.fail(&failed, json!({"retryable": false}));
        let [_, result, cancel] = links(&at.get(&format!("/v1/jobs/{}", failed.id), &[]).is(200));
        assert_eq!((result, cancel), (None, None));
    });
    book.rule("R169", |at| {
        let id = at.put(json!({}));
        for accept in ["text/html", "image/png, */*;q=0", "application/json;q=0", "nonsense"] {
            let headers = [("Accept", accept)];
            for path in ["/v1/meta", "/v1/jobs", "/readyz", &format!("/v1/jobs/{id}")] {
                let reply = at.get(path, &headers).is(200);
                assert_eq!(
                    reply.header("content-type"),
                    Some("application/json"),
                    "{accept} {path}"
                );
            }
            at.post("/v1/jobs", at.body(json!({})), &headers).is(202);
            at.get("/v1/jobs/1", &headers).problem(404, "no-such-job");
            let scrape = at.get("/metrics", &headers).is(200);
            assert!(scrape.header("content-type").expect("one").starts_with("text/plain"));
        }
    });
    book.rule("R186", |at| {
        let job = at.job(&at.put(json!({})));
        let path = format!("/v1/jobs/{}/result", job["job_id"].as_str().expect("an id"));
        let wait = |seconds: &'static str| {
            let path = path.clone();
            at.later(move |c| c.get(&path, &[("Prefer", seconds)]))
        };
        let (short, long) = (wait("wait=2"), wait("wait=50"));
        let early = soon(short).problem(409, "result-not-ready");
        held_for(&early, &job["created_at"], 2);
        assert!(!long.is_finished());
        let lease = at.take();
        at.complete(&lease, json!({"pages": 10}));
        assert_eq!(soon(long).is(200).bytes, br#"{"pages":10}"#);
        // An end without a result ends the wait as well.
        let lease = at.taken(json!({}));
        let path = format!("/v1/jobs/{}/result", lease.id);
        let held = at.later(move |c| c.get(&path, &[("Prefer", "wait=50")]));
        at.fail(&lease, json!({"retryable": false}));
        soon(held).problem(409, "job-failed");
    });
}
