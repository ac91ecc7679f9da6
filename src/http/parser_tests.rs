//! Whatever a client writes into a header or a query: nothing panics, valid values come back as
//! they were meant, and the rest has the outcome that the reference gives it.

use std::time::Duration;

use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use proptest::prelude::*;

use super::accept::metrics_format;
use super::headers::{
    IDEMPOTENCY_KEY, Known, PREFER, Prefer, idempotency_key, none_match, request_id, traceparent,
    tracestate,
};
use super::query::Query;
use crate::engine::MAX_WAIT;
use crate::telemetry::exposition::Format;

/// Every byte that may stand in a header, not only text.
fn anything() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..120)
}

fn map(name: &HeaderName, values: &[Vec<u8>]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    headers
}

fn prefer(text: &str) -> Prefer {
    Prefer::read(&map(&PREFER, &[text.as_bytes().to_vec()]))
}

/// As a query says it: everything but letters and digits by its bytes.
fn escaped(text: &str) -> String {
    let byte = |b: u8| match b {
        b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

proptest! {
    #[test]
    fn bytes_in_headers_do_no_harm(values in proptest::collection::vec(anything(), 0..3)) {
        for name in ["prefer", "idempotency-key", "accept", "if-none-match", "traceparent",
                     "tracestate", "x-request-id"] {
            let headers = map(&HeaderName::from_static(name), &values);
            prop_assert!(Prefer::read(&headers).wait.is_none_or(|w| w <= MAX_WAIT));
            if let Ok(Some(key)) = idempotency_key(&headers) {
                prop_assert!((1..=255).contains(&key.len()));
                prop_assert!(key.bytes().all(|b| (0x20..0x7f).contains(&b)));
            }
            metrics_format(&headers);
            Known::read(&headers);
            none_match(&headers, "x");
            tracestate(&headers);
            if let Some(context) = traceparent(&headers) {
                prop_assert_eq!(context.to_string().len(), 55);
            }
            if let Some(id) = request_id(&headers) {
                prop_assert!(id.as_bytes().iter().all(u8::is_ascii_graphic));
            }
        }
    }

    /// A key that is there is a key or an error; it is never taken for none.
    #[test]
    fn a_key_is_never_overlooked(value in anything()) {
        let headers = map(&IDEMPOTENCY_KEY, &[value]);
        if headers.contains_key(IDEMPOTENCY_KEY) {
            prop_assert_ne!(idempotency_key(&headers), Ok(None));
        }
    }

    #[test]
    fn waits_are_read_in_every_spelling(
        seconds in 0u64..200, space in " {0,2}", quoted: bool, upper: bool, behind: bool
    ) {
        let value = if quoted { format!("\"{seconds}\"") } else { seconds.to_string() };
        let name = if upper { "WAIT" } else { "wait" };
        let wait = format!("{space}{name}{space}={space}{value}{space}");
        let text = if behind { format!("x=\"a, wait=7\";y, {wait}") } else { format!("{wait}; p=1") };
        let expected = Duration::from_secs(seconds).min(MAX_WAIT);
        prop_assert_eq!(prefer(&text).wait, Some(expected), "{}", text);
        prop_assert!(!prefer(&text).respond_async);
        let both = prefer(&[text.as_str(), ", respond-async"].concat());
        prop_assert!(both.respond_async && both.wait == Some(expected));
    }

    #[test]
    fn a_wait_that_is_no_whole_number_is_none(value in "[-+ .a-z\"]{0,6}|[0-9]+[.][0-9]+|-[0-9]+") {
        prop_assert_eq!(prefer(&format!("wait={value}")), Prefer::default());
    }

    /// What is said to be honoured reads back as what is honoured.
    #[test]
    fn what_was_applied_reads_back(respond_async: bool, wait in proptest::option::of(0u64..=50)) {
        let honoured = Prefer { respond_async, wait: wait.map(Duration::from_secs) };
        let headers: HeaderMap = honoured.applied().map(|v| (PREFER, v)).into_iter().collect();
        prop_assert_eq!(Prefer::read(&headers), honoured);
    }

    #[test]
    fn the_better_liked_format_wins(open in 0u32..=1_000, text in 0u32..=1_000) {
        let q = |n: u32| format!("{}.{:03}", n / 1_000, n % 1_000);
        let accept = format!("application/openmetrics-text;q={}, text/plain;q={}", q(open), q(text));
        let expected =
            if open > 0 && open >= text { Format::OpenMetrics } else { Format::Text };
        prop_assert_eq!(metrics_format(&map(&ACCEPT, &[accept.into_bytes()])), expected);
    }

    /// A version's own tag matches however it is surrounded, and no other one's does.
    #[test]
    fn tags_name_their_version(version: u64, noise in "[a-z*]{1,9}") {
        let headers = |text: String| map(&HeaderName::from_static("if-none-match"), &[text.into_bytes()]);
        let known = Known::read(&headers(format!(" \"{noise}\",W/\"{version}\" ")));
        prop_assert!(known.is(version) && !known.is(version.wrapping_add(1)));
        prop_assert_eq!(Known::read(&headers(format!("\"{noise}\""))), Known::Nothing);
    }

    #[test]
    fn parameters_come_back(value in any::<String>(), other in "[a-z]{1,8}") {
        let uri: Uri = format!("/x?name={}&{other}x=1", escaped(&value)).parse().expect("an address");
        let Ok(mut query) = Query::read(&uri) else {
            return Err(TestCaseError::fail("well-formed, and refused"));
        };
        prop_assert_eq!(query.text("name").ok().flatten(), Some(value));
        let refused = query.finish().expect_err("the other is unknown");
        prop_assert_eq!(refused.code().status(), 400);
    }

    #[test]
    fn any_query_is_read_or_refused(text in "[!-\"$-;=?-~]{0,60}") {
        let Ok(uri) = format!("/x?{text}").parse::<Uri>() else { return Ok(()) };
        match Query::read(&uri) {
            Ok(mut query) => {
                let absent = matches!(query.text("a"), Ok(None));
                let pairs = text.split('&').any(|pair| !pair.is_empty());
                prop_assert!(!absent || query.finish().is_err() == pairs, "{}", text);
            }
            Err(problem) => prop_assert_eq!(problem.code().slug(), "invalid-query"),
        }
    }
}
