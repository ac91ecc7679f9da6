//! Which web pages of other origins may read the answers: those that the operator names, and no
//! page by default.
//!
//! A named origin is answered by its name, never by `*`. Nothing here lets a caller in: a page's
//! request must bring what every request must. Without named origins there is no trace of any of
//! this, and OPTIONS is a method that no address has.

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
    VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

/// What our requests may carry beyond what every page may send.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id, \
     lease-token, prefer, traceparent, tracestate, x-request-id",
);

/// What a page may read beyond what every page may.
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "Location, Retry-After, ETag, Link, Preference-Applied, Idempotent-Replayed, traceresponse, \
     X-Request-Id",
);

/// How long a browser may remember a preflight's answer; browsers have limits of their own.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The origin of the page that asks, if the operator named it.
pub(super) fn allowed(origins: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let mut sent = headers.get_all(ORIGIN).iter();
    let origin = sent.next().filter(|_| sent.next().is_none())?;
    origins.iter().any(|o| o.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// Whether this asks, for a page, if the request that it has in mind may be sent.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight of an allowed origin.
pub(super) fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// Tells the browser whether its page may read this; also of a refusal, which it must be able to
/// understand. Where any origin is named, every answer depends on the one that asks.
pub(super) fn tell(origins: &[String], allowed: Option<HeaderValue>, headers: &mut HeaderMap) {
    if origins.is_empty() {
        return;
    }
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_allowed_by_its_exact_name() {
        let origins = ["https://app.example".to_owned(), "http://localhost:3000".to_owned()];
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ORIGIN, HeaderValue::from_static(value));
            }
            allowed(&origins, &headers)
        };
        assert_eq!(of(&["https://app.example"]).unwrap(), "https://app.example");
        assert!(of(&["http://localhost:3000"]).is_some());
        for other in [
            "http://app.example",
            "https://app.example:443",
            "https://app.example.evil",
            "https://evil-app.example",
            "https://APP.example",
            "https://app.example/",
            "null",
            "*",
            "",
        ] {
            assert!(of(&[other]).is_none(), "{other}");
        }
        assert!(of(&[]).is_none());
        assert!(of(&["https://app.example", "https://app.example"]).is_none(), "which one?");
    }

    #[test]
    fn only_a_question_about_another_request_is_a_preflight() {
        let mut headers = HeaderMap::new();
        assert!(!is_preflight(&Method::OPTIONS, &headers));
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
        assert!(is_preflight(&Method::OPTIONS, &headers));
        assert!(!is_preflight(&Method::POST, &headers));
    }
}
