//! R160: the API describes itself.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::book::Book;

/// Every operation that this list, or the reference, speaks of.
const KNOWN: &str = "
    get /, get /docs, get /livez, get /metrics, get /openapi.json, get /problems/{slug}, get /readyz,
    post /v1/claims, get /v1/episodes, post /v1/heartbeats, get /v1/jobs, post /v1/jobs,
    post /v1/jobs/batch, get /v1/jobs/{id}, delete /v1/jobs/{id}, post /v1/jobs/{id}/cancel,
    post /v1/jobs/{id}/cancelled, post /v1/jobs/{id}/complete, get /v1/jobs/{id}/explain,
    post /v1/jobs/{id}/fail, post /v1/jobs/{id}/heartbeat, post /v1/jobs/{id}/release,
    get /v1/jobs/{id}/result, post /v1/jobs/{id}/retry, get /v1/jobs/{id}/timeline, get /v1/kinds,
    get /v1/meta, get /v1/queues, get /v1/queues/{q}, patch /v1/queues/{q},
    get /v1/queues/{q}/explain, post /v1/queues/{q}/pause, post /v1/queues/{q}/resume,
    post /v1/settlements, get /v1/tasks, get /v1/workers, post /v1/workers/{id}/drain,
    post /v1/workers/{id}/goodbye";

/// The problem codes of everything in there.
fn codes(of: &Value, found: &mut BTreeSet<String>) {
    if let Some(known) = of["properties"]["code"]["enum"].as_array() {
        found.extend(known.iter().map(|code| code.as_str().expect("a code").to_owned()));
    }
    match of {
        Value::Object(members) => members.values().for_each(|part| codes(part, found)),
        Value::Array(items) => items.iter().for_each(|part| codes(part, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub fn checks(book: &mut Book) {
    book.rule("R160", |at| {
        let about = at.ask_freely("GET", "/openapi.json", &[], b"").is(200).json;
        let version = about["openapi"].as_str().expect("a version");
        assert!(version.starts_with("3.1"), "{version}");
        let paths = about["paths"].as_object().expect("paths");
        let described: BTreeSet<String> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("methods").keys();
                methods.map(move |method| format!("{method} {path}"))
            })
            .collect();
        let missing: Vec<&str> =
            KNOWN.split(',').map(str::trim).filter(|known| !described.contains(*known)).collect();
        assert!(missing.is_empty(), "not described: {missing:?}");
        // And whatever is described is there.
        for operation in &described {
            let (method, path) = operation.split_once(' ').expect("both");
            let path = path.replace("{slug}", "no-such-job").replace("{id}", "1");
            let path = path.replace("{q}", "never.used");
            let reply = at.ask_freely(&method.to_uppercase(), &path, &[], b"");
            let code = reply.json["code"].as_str().unwrap_or_default();
            assert!(!["no-such-route", "method-not-allowed"].contains(&code), "{operation}");
            assert!(reply.status < 500, "{operation}: {}", reply.text());
        }
        let mut known = BTreeSet::new();
        codes(&about, &mut known);
        assert!(known.len() > 30, "{known:?}");
        for code in &known {
            let page = at.ask_freely("GET", &format!("/problems/{code}"), &[], b"").is(200);
            assert!(page.text().contains(code.as_str()), "{code}");
        }
        let refused = at.get("/v1/jobs/1", &[]).json["type"].clone();
        assert_eq!(refused, "/problems/no-such-job");
    });
}
