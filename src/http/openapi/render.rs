//! The `OpenAPI` document: `components` that are shared, and `paths` that refer to them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::problem::{Code, Document};
use super::operation::{Answer, Body, Content, Described, Tag};
use super::schemas::{Schemas, tidy};
use super::shared;

/// With a token that has a rate.
const RATE: [&str; 2] = ["RateLimit-Policy", "RateLimit"];

const ABOUT: &str = "Punctual runs jobs. A 202 is a promise that is on disk, with an address to \
    follow and an honest estimate; a 200 to a submission means: use the result.\n\n\
    Members, endpoints and problem codes are only added: ignore members of answers that you do \
    not know. Requests are read strictly: an unknown member, a name twice in one object, a `null` \
    in place of an absent member or a fraction where a whole number belongs (`1.0` too) are \
    refused, all of them in one answer. Lengths of texts are counted in bytes of UTF-8. Moments \
    are RFC 3339, durations are seconds.\n\n\
    `HEAD` works wherever `GET` does, with the same headers and no body. Any other method is 405 \
    `method-not-allowed` with `Allow`, any other address 404 `no-such-route`. A request line and \
    headers over 64 KiB, or more than 100 headers, are a bare 431. Every other error is an RFC 9457 document with a stable `code`.\n\n\
    For web pages of the origins that the operator names, `OPTIONS` is answered, and every answer has \
    `Vary: Origin` and what CORS asks for.\n\n\
    A server without tokens serves its own machine only, and asks nobody who he is.";

/// How a problem is referred to: its status, then its codes.
fn problem_name(codes: &[Code]) -> String {
    let slugs: Vec<&str> = codes.iter().map(|code| code.slug()).collect();
    let status = codes.first().map_or(0, |code| code.status());
    format!("{status}.{}", slugs.join("."))
}

struct Renderer {
    schemas: Schemas,
    /// By the names that operations refer to them by.
    problems: BTreeMap<String, Value>,
}

fn reference(place: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{place}/{name}")})
}

fn headers(names: &[&str]) -> Value {
    let of = names.iter().map(|name| ((*name).to_owned(), reference("headers", name)));
    Value::Object(of.collect())
}

/// Those of every answer at this address, and `own`.
fn answer_headers(path: &str, guarded: bool, own: &[&str]) -> Value {
    let traced: &[&str] =
        if path.starts_with("/v1/") { &["traceresponse", "Server-Timing"] } else { &[] };
    let metered: &[&str] = if guarded { &RATE } else { &[] };
    headers(&[&["X-Request-Id", "Cache-Control"], traced, metered, own].concat())
}

impl Renderer {
    fn answer(&mut self, path: &str, guarded: bool, answer: &Answer) -> Value {
        let mut shown = json!({
            "description": answer.text,
            "headers": answer_headers(path, guarded, answer.headers),
        });
        match answer.content {
            Content::Nothing => {}
            Content::Json(schema) => {
                let mut schema = schema(&mut self.schemas.answers).to_value();
                tidy(&mut schema);
                let mut content = json!({"schema": schema});
                if let Some(example) = &answer.example {
                    content["example"] = example.clone();
                }
                shown["content"] = json!({"application/json": content});
            }
            Content::Text(types) => {
                let content = types.iter().map(|media_type| {
                    ((*media_type).to_owned(), json!({"schema": {"type": "string"}}))
                });
                shown["content"] = Value::Object(content.collect());
            }
            Content::Any => shown["content"] = json!({"*/*": {"schema": {}}}),
        }
        if answer.leads_to_job {
            shown["links"] = json!({"job": {
                "operationId": "getJob",
                "parameters": {"id": "$response.body#/job_id"},
                "description": "Follow it.",
            }});
        }
        shown
    }

    fn body(&mut self, body: &Body) -> Value {
        let mut schema = (body.schema)(&mut self.schemas.requests).to_value();
        tidy(&mut schema);
        let mut content = json!({"schema": schema});
        if let Some(example) = &body.example {
            content["example"] = example.clone();
        }
        let types = body.media_types.iter();
        let content = types.map(|media_type| ((*media_type).to_owned(), content.clone()));
        let content = Value::Object(content.collect());
        json!({"required": body.required, "content": content})
    }

    /// One answer for each status that the problems have.
    fn problems(&mut self, described: &Described) -> BTreeMap<u16, Value> {
        let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        let among = shared::problems(described);
        // In the order of the table, so that the same problems have one name.
        for code in Code::ALL.iter().filter(|code| among.contains(code)) {
            by_status.entry(code.status()).or_default().push(*code);
        }
        let refer = by_status.into_iter().map(|(status, codes)| {
            let name = problem_name(&codes);
            let to = reference("responses", &name);
            self.problems.entry(name).or_insert_with(|| problem(&codes));
            (status, to)
        });
        refer.collect()
    }

    fn operation(&mut self, described: &Described) -> Value {
        let Described { path, needs, operation, .. } = described;
        let mut text = operation.text.to_owned();
        if let Some(scopes) = needs {
            let space = if text.is_empty() { "" } else { "\n\n" };
            let names: Vec<String> =
                scopes.iter().map(|scope| format!("`{}`", scope.as_str())).collect();
            text = match &names[..] {
                [] => format!("{text}{space}Needs a token."),
                names => format!("{text}{space}Needs the scope {}.", names.join(" or ")),
            };
        }
        let named = operation.parameters.iter().map(|name| reference("parameters", name));
        let queries = operation.queries.iter().map(|query| {
            json!({"in": "query", "name": query.name, "schema": query.schema,
                   "description": query.text})
        });
        let request_id = std::iter::once(reference("parameters", "RequestId"));
        let parameters: Vec<Value> = named.chain(queries).chain(request_id).collect();

        let mut responses = Map::new();
        for answer in &operation.answers {
            responses.insert(answer.status.to_string(), self.answer(path, needs.is_some(), answer));
        }
        for (status, problem) in self.problems(described) {
            responses.insert(status.to_string(), problem);
        }
        let mut shown = json!({
            "operationId": operation.id,
            "tags": [operation.tag.as_str()],
            "summary": operation.summary,
            "description": text,
            "parameters": parameters,
            "responses": responses,
        });
        if let Some(scopes) = needs {
            let any: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
            shown["x-one-of-scopes"] = json!(any);
            // Without any token configured, nothing has to be shown.
            shown["security"] = json!([{"bearer": []}, {}]);
        }
        if let Some(body) = &operation.body {
            shown["requestBody"] = self.body(body);
        }
        shown
    }
}

fn problem(codes: &[Code]) -> Value {
    let slugs: Vec<&str> = codes.iter().map(|code| code.slug()).collect();
    let status = codes.first().map(|code| code.status());
    let words: Vec<String> =
        codes.iter().map(|code| format!("`{}`: {}", code.slug(), code.when())).collect();
    let own = shared::problem_headers(codes);
    let all = ["X-Request-Id", "Cache-Control", "traceresponse", "Server-Timing"];
    let all = [&all[..], &RATE].concat();
    json!({
        "description": words.join("\n\n"),
        "headers": headers(&[&all[..], &own[..]].concat()),
        "content": {"application/problem+json": {"schema": {
            "allOf": [
                reference("schemas", "ProblemDocument"),
                {"properties": {"code": {"enum": slugs}, "status": {"const": status}}},
            ],
        }}},
    })
}

pub(super) fn document(described: Vec<Described>) -> Value {
    let mut renderer = Renderer { schemas: Schemas::new(), problems: BTreeMap::new() };
    let mut paths: Map<String, Value> = Map::new();
    for described in described {
        let shown = renderer.operation(&described);
        let item = paths.entry(described.path).or_insert_with(|| json!({}));
        item[described.method.as_str().to_ascii_lowercase()] = shown;
    }
    renderer.schemas.answers.subschema_for::<Document>();
    let everywhere = [Code::NoSuchRoute, Code::MethodNotAllowed];
    for code in everywhere {
        renderer.problems.insert(problem_name(&[code]), problem(&[code]));
    }
    let tags = Tag::ALL.map(|tag| json!({"name": tag.as_str(), "description": tag.text()}));
    let components = |all: Vec<(&str, Value)>| -> Value {
        Value::Object(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    };
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Punctual",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": renderer.schemas.finish(),
            "parameters": components(shared::parameters()),
            "headers": components(shared::headers()),
            "responses": renderer.problems,
            "securitySchemes": {"bearer": {
                "type": "http", "scheme": "bearer",
                "description": "An opaque token. Each operation says which scopes do.",
            }},
        },
    })
}

/// As it is committed and sent: for people to compare, too.
pub(super) fn text(document: &Value) -> String {
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}
