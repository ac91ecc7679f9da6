//! The description of the API, and that it is of this API.

use reqwest::Method;
use serde_json::{Value, json};

use crate::described::{description, resolved};
use crate::kit::{Server, with};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_served_and_may_be_kept() {
    let server = Server::start();
    let root = server.get("/").await.is(200);
    let links = root.header("link").expect("links").to_owned();
    for (path, media_type) in [
        ("/openapi.json", "application/json"),
        ("/docs", "text/html; charset=utf-8"),
        ("/problems/queue-full", "text/html; charset=utf-8"),
    ] {
        let reply = server.get(path).await.is(200);
        assert_eq!(reply.header("content-type"), Some(media_type));
        let tag = reply.header("etag").expect("a tag").to_owned();
        assert!(tag.starts_with('"') && tag.len() > 10, "{tag}");
        let again = server.get_with(path, &[("If-None-Match", &tag)]).await.is(304);
        assert!(again.bytes.is_empty() && again.header("etag") == Some(&tag));
        server.get_with(path, &[("If-None-Match", "\"other\"")]).await.is(200);
        let head = server.send(server.request(Method::HEAD, path)).await.is(200);
        assert!(head.bytes.is_empty());
        if path == "/openapi.json" {
            assert_eq!(reply.json, *description(), "what is committed is what is served");
        } else {
            let policy = reply.header("content-security-policy").expect("a policy");
            assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        }
    }
    for link in [
        "</openapi.json>; rel=\"service-desc\"",
        "</docs>; rel=\"service-doc\"",
        "</readyz>; rel=\"status\"",
    ] {
        assert!(links.contains(link), "{links}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_problem_and_operation_has_its_page() {
    let server = Server::start();
    let docs = server.get("/docs").await.is(200);
    let docs = String::from_utf8(docs.bytes).expect("text");
    let mut codes = 0;
    for answer in description()["components"]["responses"].as_object().expect("problems").values() {
        let schema = &answer["content"]["application/problem+json"]["schema"];
        let code = schema["allOf"][1]["properties"]["code"]["enum"].as_array().expect("codes");
        for code in code.iter().filter_map(Value::as_str) {
            codes += 1;
            let page = server.get(&format!("/problems/{code}")).await.is(200);
            let page = String::from_utf8(page.bytes).expect("text");
            assert!(page.contains(code) && page.contains("What to do"), "{page}");
        }
    }
    assert!(codes > 30);
    for item in description()["paths"].as_object().expect("paths").values() {
        for operation in item.as_object().expect("operations").values() {
            let id = operation["operationId"].as_str().expect("an id");
            assert!(docs.contains(&format!("<section id=\"{id}\">")), "{id}");
        }
    }
    server.get("/problems/nonsense").await.problem(404, "no-such-route");
}

/// The readers of requests tell which members they know. Those are the ones that are described,
/// at every depth.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_have_the_members_that_are_described() {
    let server = Server::start();
    let mut asked = 0;
    for (path, item) in description()["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let content = &operation["requestBody"]["content"]["application/json"];
            if content.is_null() {
                continue;
            }
            let mut objects = Vec::new();
            collect(&content["schema"], &mut Vec::new(), &mut objects);
            let path = path
                .replace("{id}", "0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7")
                .replace("{q}", "some-queue");
            for object in objects {
                asked += 1;
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("one");
                let request = server.request(method, &path).json(&object.body());
                let reply = server.send(request).await.problem(422, "validation-failed");
                object.compare(&path, &reply.json);
            }
        }
    }
    assert!(asked > 20, "{asked}");
}

/// An object somewhere in a body.
struct Object {
    /// From the outside: members, and `0` for an item.
    way: Vec<Step>,
    tag: Option<Tag>,
    members: Vec<String>,
    required: Vec<String>,
}

/// The member and its value that tell which of several objects it is.
type Tag = (String, String);
/// A member, and the tag of the object that has it.
type Step = (String, Option<Tag>);

const STRANGE: &str = "zz_9";

fn collect(schema: &Value, way: &mut Vec<Step>, into: &mut Vec<Object>) {
    let schema = resolved(schema);
    for one in schema["oneOf"].as_array().into_iter().flatten() {
        collect(one, way, into);
    }
    if schema["items"].is_object() {
        way.push(("0".to_owned(), None));
        collect(&schema["items"], way, into);
        way.pop();
    }
    if schema["type"] != "object" || schema["additionalProperties"] != false {
        return;
    }
    let members = schema["properties"].as_object();
    let members = || members.into_iter().flatten();
    let text = |v: &Value| v.as_str().expect("text").to_owned();
    let tag = members().find_map(|(name, m)| Some((name.clone(), m["const"].as_str()?.to_owned())));
    let required = schema["required"].as_array().into_iter().flatten().map(text);
    let required = required.filter(|name| tag.as_ref().is_none_or(|(tag, _)| tag != name));
    into.push(Object {
        way: way.clone(),
        required: required.collect(),
        members: members().map(|(name, _)| name.clone()).collect(),
        tag: tag.clone(),
    });
    for (name, member) in members() {
        way.push((name.clone(), tag.clone()));
        collect(member, way, into);
        way.pop();
    }
}

impl Object {
    /// One with nothing but a member that there cannot be.
    fn body(&self) -> Value {
        let tagged = |mut object: Value, tag: &Option<Tag>| {
            if let Some((name, value)) = tag {
                object[name] = json!(value);
            }
            object
        };
        let body = tagged(json!({STRANGE: 1}), &self.tag);
        self.way.iter().rev().fold(body, |body, (step, tag)| match step.as_str() {
            "0" => json!([body]),
            name => tagged(json!({name: body}), tag),
        })
    }

    fn compare(&self, path: &str, problem: &Value) {
        let at = self.way.iter().fold(String::new(), |at, (step, _)| at + "/" + step);
        let errors = problem["errors"].as_array().expect("errors");
        let detail = errors.iter().find(|e| e["pointer"] == format!("{at}/{STRANGE}"));
        let detail = detail.unwrap_or_else(|| panic!("{path} {at}: {problem}"));
        let detail = detail["detail"].as_str().expect("text");
        let known = detail.split_once("known are ").map_or("", |(_, known)| known);
        let mut known: Vec<&str> = known.split(", ").filter(|name| !name.is_empty()).collect();
        known.sort_unstable();
        known.dedup();
        assert_eq!(known, self.members, "{path} {at} reads other members than are described");
        let mut required: Vec<&str> = errors
            .iter()
            .filter(|e| e["code"] == "required")
            .filter_map(|e| e["pointer"].as_str()?.strip_prefix(&format!("{at}/")))
            .filter(|name| !name.contains('/'))
            .collect();
        required.sort_unstable();
        let mut described: Vec<&str> = self.required.iter().map(String::as_str).collect();
        described.sort_unstable();
        assert_eq!(required, described, "{path} {at} requires other members than are described");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_methods_that_are_described_work() {
    let server = Server::start();
    for (path, item) in description()["paths"].as_object().expect("paths") {
        let filled = path
            .replace("{id}", "0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7")
            .replace("{q}", "some-queue")
            .replace("{slug}", "queue-full");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if item[method.to_lowercase()].is_object() {
                continue;
            }
            let request = server.request(method.parse().expect("a method"), &filled);
            let reply = server.send(with(request, &[])).await.problem(405, "method-not-allowed");
            let allow = reply.header("allow").expect("Allow");
            assert!(!allow.split(',').any(|m| m.trim() == method), "{path}: {allow}");
            for known in item.as_object().expect("operations").keys() {
                assert!(allow.contains(&known.to_uppercase()), "{path}: {allow}");
            }
        }
    }
}
