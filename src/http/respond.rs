//! Answers that are not problems.

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

/// `value` as a JSON document.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    json_sized(status, value, 1024)
}

/// The same for answers whose size is roughly known.
pub(super) fn json_sized(status: StatusCode, value: &impl Serialize, size: usize) -> Response {
    let mut bytes = Vec::with_capacity(size);
    if let Err(error) = serde_json::to_writer(&mut bytes, value) {
        // Stored JSON that is none any more: the answer cannot be given, and that is our fault.
        tracing::error!(%error, "an answer could not be written as JSON");
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let mut response = empty(status);
    *response.body_mut() = Body::from(bytes);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) fn text(status: StatusCode, media_type: &'static str, text: String) -> Response {
    let mut response = empty(status);
    *response.body_mut() = Body::from(text);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

/// Sets a header from text that is made here. Text that no header can hold is left out.
pub(super) fn set(response: &mut Response, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}
