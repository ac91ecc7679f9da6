//! Holds every answer to `docs/openapi.json`: an answer that is not described there, or has a
//! member or a header that is not, fails the test that got it. With `DESCRIBED_SEEN` naming a file,
//! what was seen is noted there, so that `tests/described.py` can tell what never was.

#![allow(dead_code, unreachable_pub, reason = "shared by several test binaries")]

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Mutex, OnceLock};

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// What HTTP itself adds, and what web pages of other origins are told.
const TRANSPORT: [&str; 8] = [
    "content-length",
    "content-type",
    "date",
    "transfer-encoding",
    "connection",
    "vary",
    "access-control-allow-origin",
    "access-control-expose-headers",
];
/// What may come before it is known what was asked for.
const EVERYWHERE: [&str; 6] = [
    "no-such-route",
    "method-not-allowed",
    "invalid-header",
    "misdirected-host",
    "cross-site",
    "internal-error",
];

pub fn description() -> &'static Value {
    static DESCRIPTION: OnceLock<Value> = OnceLock::new();
    DESCRIPTION.get_or_init(|| {
        serde_json::from_str(include_str!("../../docs/openapi.json")).expect("JSON")
    })
}

/// What `value` refers to, or `value` itself.
pub fn resolved(value: &Value) -> &Value {
    let to = value["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
    to.map_or(value, |to| description().pointer(to).unwrap_or_else(|| panic!("no {to}")))
}

/// The described address that `path` is one of; literal parts go before parameters.
fn template(path: &str) -> Option<&'static str> {
    let fits = |template: &str| {
        let (asked, known) = (path.split('/'), template.split('/'));
        asked.clone().count() == known.clone().count()
            && asked.zip(known).all(|(a, k)| a == k || (k.starts_with('{') && !a.is_empty()))
    };
    let paths = description()["paths"].as_object().expect("paths").keys();
    let fitting = paths.map(String::as_str).filter(|known| fits(known));
    fitting.min_by_key(|known| known.matches('{').count())
}

#[track_caller]
pub fn check(method: &Method, path: &str, status: u16, headers: &HeaderMap, body: &Value) {
    // As `GET`, without the body.
    let described_as = if *method == Method::HEAD { "get" } else { method.as_str() };
    let template = template(path);
    let operation = template
        .map(|template| &description()["paths"][template][described_as.to_ascii_lowercase()]);
    let code = if status >= 400 { body["code"].as_str() } else { None };
    let operation = operation.filter(|operation| operation.is_object());
    let (Some(operation), Some(template)) = (operation, template) else {
        // A browser's question about what a page may do.
        if *method == Method::OPTIONS && status == 204 {
            return;
        }
        let known = *method == Method::HEAD || code.is_some_and(|code| EVERYWHERE.contains(&code));
        assert!(known, "{method} {path} is not described, and answers {status} {body}");
        return;
    };
    let at = format!("{described_as} {template} {status}").to_ascii_lowercase();
    let answer = &operation["responses"][status.to_string()];
    // A listener may serve fewer addresses than are described.
    if !answer.is_object() && code == Some("no-such-route") {
        return;
    }
    assert!(answer.is_object(), "not described: {at}, to {method} {path}: {body}");
    let answer = resolved(answer);
    for name in headers.keys() {
        let described = answer["headers"].as_object().into_iter().flatten();
        let mut names = described.map(|(name, _)| name.to_ascii_lowercase());
        let known = TRANSPORT.contains(&name.as_str()) || names.any(|n| n == name.as_str());
        assert!(known, "the header {name} is not described: {at}");
    }
    note(&format!("{at} {}", code.unwrap_or_default()));
    if status < 400 {
        for name in headers.keys() {
            note(&format!("{at} header {name}"));
        }
    }
    if *method == Method::HEAD {
        return;
    }
    let media_type = headers.get("content-type").map(|v| v.to_str().expect("text"));
    let essence = media_type.and_then(|text| text.split(';').next()).map(str::trim);
    match (essence, answer["content"].as_object()) {
        (None, None) => {}
        (Some(essence), Some(content)) => {
            let Some(content) = content.get(essence) else {
                assert!(content.contains_key("*/*"), "{essence} is not described: {at}");
                return;
            };
            if essence.ends_with("json") {
                let problems = differences(&content["schema"], body, "");
                assert!(problems.is_empty(), "{at}: {problems:?} in {body}");
            }
        }
        (got, described) => panic!("{at}: got {got:?}, described are {described:?}"),
    }
}

fn note(line: &str) {
    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

    let Some(file) = std::env::var_os("DESCRIBED_SEEN") else { return };
    if !SEEN.lock().expect("seen").insert(line.to_owned()) {
        return;
    }
    let file = OpenOptions::new().append(true).create(true).open(file);
    // One write, for many processes write there.
    file.and_then(|mut file| file.write_all(format!("{}\n", line.trim_end()).as_bytes()))
        .expect("the file that DESCRIBED_SEEN names");
}

/// How `value` is not as `schema` says. Closed: also what is only there without being described.
fn differences(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = resolved(schema);
    let mut found = Vec::new();
    let mut say = |what: String| found.push(format!("{at}: {what}"));
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if let Some(wanted) = schema["type"].as_str()
        && wanted != kind
        && (wanted, kind) != ("number", "integer")
    {
        say(format!("is {kind} and not {wanted}"));
    }
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        say(format!("is {value}, which is not described"));
    }
    if !schema["const"].is_null() && schema["const"] != *value {
        say(format!("is {value} and not {}", schema["const"]));
    }
    if let (Some(format), Some(text)) = (schema["format"].as_str(), value.as_str()) {
        let fits = match format {
            "date-time" => text.len() == 24 && text.ends_with('Z') && text.contains('T'),
            "uuid" => text.len() == 36 && text.matches('-').count() == 4,
            "uri" => text.contains("://"),
            other => panic!("{other} cannot be checked"),
        };
        if !fits {
            say(format!("{text} is no {format}"));
        }
    }
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(required).is_none() {
            say(format!("{required} is missing"));
        }
    }
    let members = schema["properties"].as_object();
    for (name, member) in value.as_object().into_iter().flatten() {
        match members.and_then(|members| members.get(name)) {
            Some(schema) => found.extend(differences(schema, member, &format!("{at}/{name}"))),
            None if members.is_some() && schema["type"] == "object" => {
                found.push(format!("{at}/{name}: is not described"));
            }
            None => {}
        }
    }
    if schema["items"].is_object() {
        for (i, item) in value.as_array().into_iter().flatten().enumerate() {
            found.extend(differences(&schema["items"], item, &format!("{at}/{i}")));
        }
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        found.extend(differences(part, value, at));
    }
    found
}

#[test]
fn what_is_not_described_is_found() {
    use serde_json::json;

    let job = json!({"$ref": "#/components/schemas/Check"});
    let good = json!({"name": "a", "ok": true, "detail": "b"});
    assert!(differences(&job, &good, "").is_empty());
    let bad = json!({"name": 1, "ok": true, "more": []});
    let found = differences(&job, &bad, "");
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(template("/v1/jobs/batch"), Some("/v1/jobs/batch"));
    assert_eq!(template("/v1/jobs/x"), Some("/v1/jobs/{id}"));
    assert_eq!(template("/v1/jobs/"), None);
    let none = HeaderMap::new();
    for (method, path, status) in
        [(Method::GET, "/v1/jobs", 201), (Method::GET, "/v1/nowhere", 200), (Method::PUT, "/", 200)]
    {
        let checked = std::panic::catch_unwind(|| check(&method, path, status, &none, &json!({})));
        assert!(checked.is_err(), "{method} {path} {status}");
    }
}
