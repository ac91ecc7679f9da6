//! The API as it describes itself: `OpenAPI` 3.1 for programs, pages for people.
//!
//! Owns one description for each route ([`clients`], [`workers`], [`operators`], [`operations`]),
//! what they share ([`shared`]), and what is made of them: `/openapi.json` ([`render`]), `/docs`
//! and `/problems/{slug}` ([`page`]). Schemas are made from the [`wire`](crate::wire) types
//! ([`schemas`]), with the limits that the readers keep ([`members`]).
//!
//! Invariants:
//! - a route comes with its description ([`Routes`]), or it is not routed;
//! - what is described is the same in every process of a version: no setting shows in it;
//! - pages need nothing from elsewhere, and a browser may do nothing with them but show them.
//!
//! It must not know: what an engine does, who asks.

pub(super) mod clients;
mod html;
mod members;
mod operation;
pub(super) mod operations;
pub(super) mod operators;
mod page;
mod render;
mod routes;
mod schemas;
mod shared;
pub(super) mod workers;

use std::sync::OnceLock;

use axum::extract::{Path, Request};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::problem::{Code, Problem};
use super::{headers, respond};

pub(super) use routes::Routes;

/// A text that stays as it is for as long as this process runs.
struct Fixed {
    text: String,
    tag: String,
    media_type: &'static str,
}

impl Fixed {
    fn new(text: String, media_type: &'static str) -> Self {
        let tag = URL_SAFE_NO_PAD.encode(&Sha256::digest(&text)[..12]);
        Self { text, tag, media_type }
    }

    fn html(text: String) -> Self {
        Self::new(text, "text/html; charset=utf-8")
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let mut response = if headers::none_match(headers, &self.tag) {
            respond::empty(StatusCode::NOT_MODIFIED)
        } else {
            respond::text(StatusCode::OK, self.media_type, self.text.clone())
        };
        respond::set(&mut response, ETAG, format!("\"{}\"", self.tag));
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.media_type.starts_with("text/html") {
            respond::set(&mut response, CONTENT_SECURITY_POLICY, page::policy());
        }
        response
    }
}

struct Fixtures {
    description: Fixed,
    docs: Fixed,
    problems: Vec<(&'static str, Fixed)>,
}

fn fixtures() -> &'static Fixtures {
    static MADE: OnceLock<Fixtures> = OnceLock::new();
    MADE.get_or_init(|| {
        let document = render::document(super::routes().described());
        let problems = Code::ALL.iter().filter(|code| code.reaches_clients());
        Fixtures {
            docs: Fixed::html(page::docs(&document)),
            problems: problems.map(|c| (c.slug(), Fixed::html(page::problem(*c)))).collect(),
            description: Fixed::new(render::text(&document), "application/json"),
        }
    })
}

/// The description, as `/openapi.json` answers it.
pub fn openapi_json() -> &'static str {
    &fixtures().description.text
}

/// `GET /openapi.json`.
pub(super) async fn serve(request: Request) -> Response {
    fixtures().description.answer(request.headers())
}

/// `GET /docs`.
pub(super) async fn docs(request: Request) -> Response {
    fixtures().docs.answer(request.headers())
}

/// `GET /problems/{slug}`.
pub(super) async fn problem(
    Path(slug): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let found = fixtures().problems.iter().find(|(known, _)| *known == slug);
    match found {
        Some((_, page)) => Ok(page.answer(request.headers())),
        None => Err(Problem::new(Code::NoSuchRoute, "no problem has this code; see /docs")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_describes_a_query_reads_it() {
        for operation::Described { path, method, operation, .. } in
            super::super::routes().described()
        {
            let reads = super::super::query::is_read(&method, path);
            if path.starts_with("/v1/") && !operation.queries.is_empty() {
                assert!(
                    reads,
                    "{method} {path} describes a query that is refused before it is read"
                );
            }
        }
    }

    #[test]
    fn texts_keep_their_tag_and_change_it_with_a_letter() {
        let tag = |text: &str| Fixed::html(text.to_owned()).tag;
        assert_eq!(tag("a"), tag("a"));
        assert_ne!(tag("a"), tag("b"));
    }
}
