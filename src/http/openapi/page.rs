//! The pages for people: the description as one page, and one for each problem. Plain HTML without
//! scripts, readable on a phone and in the dark, and complete without a network.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::super::problem::Code;
use super::html::Html;

const STYLE: &str = include_str!("style.css");
const NONE: &Vec<Value> = &Vec::new();

/// A browser may show the page with its own style, and nothing else.
pub(super) fn policy() -> String {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

fn page(title: &str, write: impl FnOnce(&mut Html)) -> String {
    let mut html = Html::default();
    html.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n")
        .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
        .raw("<meta name=\"color-scheme\" content=\"light dark\">\n<title>")
        .text(title)
        .raw("</title>\n<style>")
        .raw(STYLE)
        .raw("</style></head>\n<body><main>\n");
    write(&mut html);
    html.raw("</main></body></html>\n");
    html.finish()
}

pub(super) fn problem(code: Code) -> String {
    page(code.slug(), |html| {
        html.raw("<h1>").text(code.title()).raw("</h1>\n<p>");
        html.code(code.slug()).text(", status ").code(&code.status().to_string()).raw("</p>\n");
        html.raw("<h2>When</h2>\n<p>").prose(code.when()).raw("</p>\n");
        html.raw("<h2>What to do</h2>\n<p>").prose(code.what_to_do()).raw("</p>\n");
        html.raw("<p>").link("/docs", "The API").raw("</p>\n");
    })
}

/// The operations of a document: path, method, operation.
fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.map(|(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

/// What `value` refers to, or `value` itself.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let to = value["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
    to.and_then(|to| document.pointer(to)).unwrap_or(value)
}

fn str_of<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

pub(super) fn docs(document: &Value) -> String {
    page("Punctual: the API", |html| {
        html.raw("<h1>Punctual: the API</h1>\n<p>Version ");
        html.text(str_of(&document["info"], "version")).text(". For programs: ");
        html.link("/openapi.json", "openapi.json").raw("</p>\n");
        html.paragraphs(str_of(&document["info"], "description"));
        let tags = document["tags"].as_array().unwrap_or(NONE);
        html.raw("<nav>\n");
        for tag in tags {
            let name = str_of(tag, "name");
            html.raw("<h2>").text(name).raw("</h2>\n<p>").prose(str_of(tag, "description"));
            html.raw("</p>\n<ul>\n");
            for (path, method, operation) in of_tag(document, name) {
                let id = str_of(operation, "operationId");
                html.raw("<li>").link(&format!("#{id}"), str_of(operation, "summary")).text(" ");
                html.code(&format!("{} {path}", method.to_ascii_uppercase())).raw("</li>\n");
            }
            html.raw("</ul>\n");
        }
        html.raw("</nav>\n");
        for tag in tags {
            for (path, method, operation) in of_tag(document, str_of(tag, "name")) {
                show(html, document, path, method, operation);
            }
        }
        html.raw("<h2>Bodies</h2>\n");
        let schemas = document["components"]["schemas"].as_object();
        for (name, schema) in schemas.into_iter().flatten() {
            html.raw("<section id=\"schema-").text(name).raw("\"><h3>").text(name).raw("</h3>\n");
            html.paragraphs(str_of(schema, "description"));
            let choices = schema["oneOf"].as_array();
            for one in choices.into_iter().flatten().chain(choices.is_none().then_some(schema)) {
                if let Some(title) = one["title"].as_str() {
                    html.raw("<h4>").text(title).raw("</h4>\n");
                }
                members(html, one);
            }
            html.raw("</section>\n");
        }
    })
}

fn of_tag<'a>(
    document: &'a Value,
    tag: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str, &'a Value)> {
    operations(document).filter(move |(_, _, operation)| operation["tags"][0] == *tag)
}

fn show(html: &mut Html, document: &Value, path: &str, method: &str, operation: &Value) {
    html.raw("<section id=\"").text(str_of(operation, "operationId")).raw("\">\n<h3>");
    html.text(str_of(operation, "summary")).raw("</h3>\n<p class=\"at\">");
    html.code(&format!("{} {path}", method.to_ascii_uppercase())).raw("</p>\n");
    html.paragraphs(str_of(operation, "description"));
    let parameters = operation["parameters"].as_array().unwrap_or(NONE);
    html.raw("<h4>Parameters</h4>\n<dl>\n");
    for parameter in parameters.iter().map(|p| resolved(document, p)) {
        html.raw("<dt>").code(str_of(parameter, "name"));
        html.text(" in ").text(str_of(parameter, "in")).text(": ");
        kind(html, &parameter["schema"]);
        html.raw("</dt><dd>").prose(str_of(parameter, "description")).raw("</dd>\n");
    }
    html.raw("</dl>\n");
    let body = &operation["requestBody"];
    if body.is_object() {
        html.raw("<h4>Body</h4>\n<p>");
        let content = &body["content"]["application/json"];
        kind(html, &content["schema"]);
        html.text(if body["required"] == true { "" } else { ", optional" }).raw("</p>\n");
        example(html, &content["example"]);
    }
    html.raw("<h4>Answers</h4>\n<dl>\n");
    for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
        let answer = resolved(document, answer);
        html.raw("<dt>").code(status);
        for (media_type, content) in answer["content"].as_object().into_iter().flatten() {
            html.text(" ").text(media_type).text(" ");
            if content["schema"]["$ref"].is_string() {
                kind(html, &content["schema"]);
            }
        }
        html.raw("</dt><dd>");
        html.paragraphs(str_of(answer, "description"));
        for code in answer["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]
            ["code"]["enum"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            html.link(&format!("/problems/{code}"), code).text(" ");
        }
        let names: Vec<&str> =
            answer["headers"].as_object().into_iter().flatten().map(|(n, _)| n.as_str()).collect();
        html.raw("<p class=\"headers\">Headers: ").text(&names.join(", ")).raw("</p>\n");
        for (_, content) in answer["content"].as_object().into_iter().flatten() {
            example(html, &content["example"]);
        }
        html.raw("</dd>\n");
    }
    html.raw("</dl>\n</section>\n");
}

fn example(html: &mut Html, value: &Value) {
    if !value.is_null() {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        html.raw("<pre>").text(&text).raw("</pre>\n");
    }
}

fn members(html: &mut Html, schema: &Value) {
    html.raw("<dl>\n");
    let required = schema["required"].as_array().unwrap_or(NONE);
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        html.raw("<dt>").code(name);
        html.text(if required.iter().any(|r| r == name) { " * " } else { " " });
        kind(html, member);
        html.raw("</dt><dd>").prose(str_of(member, "description")).raw("</dd>\n");
    }
    html.raw("</dl>\n");
}

/// What sort of value it is, in a few words.
fn kind(html: &mut Html, schema: &Value) {
    if let Some(name) = schema["$ref"].as_str().and_then(|to| to.rsplit('/').next()) {
        html.link(&format!("#schema-{name}"), name);
        return;
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        html.text("one of ").text(&values.join(", "));
        return;
    }
    if let Some(value) = schema["const"].as_str() {
        html.code(value);
        return;
    }
    let of = str_of(schema, "type");
    if of == "array" {
        html.text("array of ");
        kind(html, &schema["items"]);
    } else {
        html.text(if of.is_empty() { "any JSON" } else { of });
    }
    if let Some(format) = schema["format"].as_str() {
        html.text(" (").text(format).text(")");
    }
    for (least, most) in
        [("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems")]
    {
        match (&schema[least], &schema[most]) {
            (Value::Null, Value::Null) => {}
            (least, Value::Null) => {
                html.text(&format!(", at least {least}"));
            }
            (Value::Null, most) => {
                html.text(&format!(", at most {most}"));
            }
            (least, most) => {
                html.text(&format!(", {least} to {most}"));
            }
        }
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        html.text(", ").code(pattern);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_says_what_to_do() {
        for code in Code::ALL {
            let shown = problem(*code);
            assert!(shown.contains(code.slug()) && !code.when().is_empty());
            assert!(code.what_to_do().ends_with('.'), "{}", code.slug());
            for text in [code.when(), code.what_to_do()] {
                assert_eq!(text.matches('`').count() % 2, 0, "{text}");
            }
        }
    }

    #[test]
    fn pages_need_nothing_from_elsewhere() {
        for shown in [problem(Code::QueueFull), super::super::fixtures().docs.text.clone()] {
            for word in ["<script", "src=", "@import", "url(", "<link", "style=\"", "onclick"] {
                assert!(!shown.contains(word), "{word}");
            }
            assert!(shown.contains("color-scheme") && shown.contains("width=device-width"));
        }
        assert!(!STYLE.contains('<'), "it stands inside a page");
        assert!(policy().starts_with("default-src 'none'; style-src 'sha256-"));
    }
}
