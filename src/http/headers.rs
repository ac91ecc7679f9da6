//! Request headers, read by their own rules. Pure: bytes in, meaning out.
//!
//! A header that steers the exchange and cannot be understood is either refused
//! (`Idempotency-Key`: guessing would make two jobs) or ignored (everything else: RFC 9110 asks
//! for that).

use std::borrow::Cow;
use std::time::Duration;

use axum::http::header::{HOST, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, Version};

use super::host::is_host;
use super::limits;
use crate::domain::overrides::IfMatch;
use crate::domain::trace::{self, TraceContext};
use crate::engine::MAX_WAIT;

pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(super) const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
pub(super) const SUNSET: HeaderName = HeaderName::from_static("sunset");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const TRACERESPONSE: HeaderName = HeaderName::from_static("traceresponse");
pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The key of `Idempotency-Key`; `Err` says what is wrong with it. A structured-field string
/// (RFC 8941) or the bare characters; both name the same key.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("is there twice; send it once");
    }
    let text = value.to_str().map_err(|_| "may hold printable ASCII only")?.trim();
    let key = match text.strip_prefix('"') {
        Some(rest) => unquote(rest)?,
        None if text.contains('"') => return Err("has a quote that is not closed"),
        None => Cow::Borrowed(text),
    };
    key_is_valid(&key)?;
    Ok(Some(key.into_owned()))
}

/// The rule for keys, wherever they come from.
pub(super) fn key_is_valid(key: &str) -> Result<(), &'static str> {
    if key.is_empty() {
        Err("is empty; send 1 to 255 characters")
    } else if key.len() > limits::IDEMPOTENCY_KEY_BYTES {
        Err("is longer than 255 characters")
    } else if !key.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        Err("may hold printable ASCII only")
    } else {
        Ok(())
    }
}

/// The string whose opening quote has been read.
fn unquote(rest: &str) -> Result<Cow<'_, str>, &'static str> {
    const OPEN: &str = "has a quote that is not closed";
    if let Some(plain) = rest.strip_suffix('"')
        && !plain.contains(['"', '\\'])
    {
        return Ok(Cow::Borrowed(plain));
    }
    let mut out = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    loop {
        match chars.next().ok_or(OPEN)? {
            '"' if chars.as_str().is_empty() => return Ok(Cow::Owned(out)),
            '"' => return Err("has characters after its closing quote"),
            '\\' => match chars.next().ok_or(OPEN)? {
                c @ ('"' | '\\') => out.push(c),
                _ => return Err("has a backslash before something other than a quote"),
            },
            c => out.push(c),
        }
    }
}

/// `Prefer` (RFC 7240): what the client would like, as far as it is understood.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Prefer {
    pub(super) respond_async: bool,
    /// At most [`MAX_WAIT`].
    pub(super) wait: Option<Duration>,
}

impl Prefer {
    /// Of each preference the first instance counts, in several headers as in one.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        let mut waits = false;
        let values = headers.get_all(PREFER).iter().filter_map(|v| v.to_str().ok());
        for preference in values.flat_map(|v| unquoted_split(v, ',')) {
            let token = unquoted_split(preference, ';').next().unwrap_or_default();
            let (name, value) = match token.split_once('=') {
                Some((name, value)) => (name.trim(), value.trim()),
                None => (token.trim(), ""),
            };
            if name.eq_ignore_ascii_case("respond-async") {
                prefer.respond_async |= matches!(value, "" | "\"\"");
            } else if name.eq_ignore_ascii_case("wait") && !waits {
                waits = true;
                let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
                prefer.wait = whole_seconds(bare.unwrap_or(value)).map(|w| w.min(MAX_WAIT));
            }
        }
        prefer
    }

    /// The value of `Preference-Applied` where both preferences are honoured.
    pub(super) fn applied(self) -> Option<HeaderValue> {
        match (self.respond_async, self.wait) {
            (false, None) => None,
            (true, None) => Some(HeaderValue::from_static("respond-async")),
            (false, Some(_)) => self.applied_wait(),
            (true, Some(wait)) => {
                HeaderValue::try_from(format!("respond-async, wait={}", wait.as_secs())).ok()
            }
        }
    }

    /// The same where only `wait` has a meaning.
    pub(super) fn applied_wait(self) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("wait={}", self.wait?.as_secs())).ok()
    }
}

fn whole_seconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // More digits than fit still mean "long".
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}

/// Splits at `at` where it is not inside a quoted string.
pub(super) fn unquoted_split(text: &str, at: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == at && !quoted
    })
}

/// `If-None-Match` against weak tags that are a job's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    /// `*`: whatever there is.
    Anything,
    /// The latest of the versions named; versions only rise, so no other can match.
    Version(u64),
}

impl Known {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut latest = None;
        for tag in tags(headers, &IF_NONE_MATCH) {
            if tag == "*" {
                return Self::Anything;
            }
            let version = opaque(tag).and_then(|t| t.parse::<u64>().ok());
            latest = latest.max(version);
        }
        latest.map_or(Self::Nothing, Self::Version)
    }

    pub(super) fn is(self, version: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Anything => true,
            Self::Version(known) => known == version,
        }
    }
}

/// Whether `If-None-Match` names the tag whose characters between the quotes are `text`.
pub(super) fn none_match(headers: &HeaderMap, text: &str) -> bool {
    tags(headers, &IF_NONE_MATCH).any(|tag| tag == "*" || opaque(tag) == Some(text))
}

/// The revisions that `If-Match` names. By strong comparison: a weak tag is none of them.
pub(super) fn if_match(headers: &HeaderMap) -> IfMatch {
    if !headers.contains_key(IF_MATCH) {
        return IfMatch::Any;
    }
    let mut revisions = Vec::new();
    for tag in tags(headers, &IF_MATCH) {
        if tag == "*" {
            return IfMatch::Exists;
        }
        let strong = opaque(tag).filter(|_| tag.starts_with('"'));
        revisions.extend(strong.and_then(|text| text.parse::<u64>().ok()));
    }
    IfMatch::OneOf(revisions)
}

fn tags<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| unquoted_split(v, ',')).map(str::trim).filter(|t| !t.is_empty())
}

/// Weak comparison looks at the characters between the quotes only.
fn opaque(tag: &str) -> Option<&str> {
    tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"')?.strip_suffix('"')
}

/// The W3C trace context of the request, if it is valid.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<TraceContext> {
    single(headers, &TRACEPARENT).and_then(TraceContext::parse)
}

/// What goes with a valid `traceparent`, and without one means nothing.
pub(super) fn tracestate(headers: &HeaderMap) -> Option<String> {
    traceparent(headers)?;
    let states: Vec<&str> =
        headers.get_all(TRACESTATE).iter().filter_map(|v| v.to_str().ok()).collect();
    trace::tracestate(&states.join(","))
}

/// The client's `X-Request-Id`, if it may be repeated: up to 128 visible ASCII characters.
pub(super) fn request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let text = single(headers, &X_REQUEST_ID)?;
    let fits = (1..=limits::REQUEST_ID_BYTES).contains(&text.len());
    let visible = text.bytes().all(|b| b.is_ascii_graphic());
    (fits && visible).then(|| headers.get(X_REQUEST_ID).cloned()).flatten()
}

/// The header's text, if it is there exactly once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

/// The host that the request names, with its port; `Err` says what is wrong. `None` only before
/// HTTP/1.1. An address in the request line counts instead of `Host` (RFC 9112 section 3.2.2).
pub(super) fn host<'a>(
    version: Version,
    uri: &'a Uri,
    headers: &'a HeaderMap,
) -> Result<Option<&'a str>, &'static str> {
    if headers.get_all(HOST).iter().nth(1).is_some() {
        return Err("is there twice; send it once");
    }
    let named = headers.get(HOST);
    if named.is_none() && version >= Version::HTTP_11 && uri.authority().is_none() {
        return Err("is missing");
    }
    let text = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => match named {
            Some(value) => value.to_str().map_err(|_| "is not a host name")?,
            None => return Ok(None),
        },
    };
    if is_host(text) { Ok(Some(text)) } else { Err("is not a host name") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
                (HeaderName::from_static(name), value)
            })
            .collect()
    }

    fn key(value: &str) -> Result<Option<String>, &'static str> {
        idempotency_key(&map(&[("idempotency-key", value)]))
    }

    #[test]
    fn quoted_and_bare_keys_are_the_same() {
        for text in ["abc", "\"abc\"", "  abc ", " \"abc\" "] {
            assert_eq!(key(text), Ok(Some("abc".into())), "{text}");
        }
        assert_eq!(key(r#""a\"b\\c""#), Ok(Some(r#"a"b\c"#.into())));
        assert_eq!(key("a b"), Ok(Some("a b".into())));
        assert_eq!(key(r"a\b"), Ok(Some(r"a\b".into())));
        assert_eq!(idempotency_key(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn unusable_keys_are_refused() {
        let long = "k".repeat(256);
        for text in [
            "", "\"\"", "\"abc", "abc\"", "a\"b", "\"a\"b\"", "\"a\\", "\"a\\x\"", "é", "a\tb",
            &long,
        ] {
            assert!(key(text).is_err(), "{text:?}");
        }
        assert!(key(&"k".repeat(255)).is_ok());
        let twice = map(&[("idempotency-key", "a"), ("idempotency-key", "a")]);
        assert!(idempotency_key(&twice).is_err());
    }

    fn prefer(values: &[&str]) -> (bool, Option<u64>) {
        let pairs: Vec<_> = values.iter().map(|v| ("prefer", *v)).collect();
        let p = Prefer::read(&map(&pairs));
        (p.respond_async, p.wait.map(|w| w.as_secs()))
    }

    #[test]
    fn preferences() {
        assert_eq!(prefer(&[]), (false, None));
        assert_eq!(prefer(&["respond-async"]), (true, None));
        assert_eq!(prefer(&["Respond-Async, WAIT=10"]), (true, Some(10)));
        assert_eq!(prefer(&["wait=10", "respond-async"]), (true, Some(10)));
        assert_eq!(prefer(&["wait=5, wait=9"]), (false, Some(5)));
        assert_eq!(prefer(&["wait=5", "wait=9"]), (false, Some(5)));
        assert_eq!(prefer(&["wait = \"7\" ; q=1, x"]), (false, Some(7)));
        assert_eq!(prefer(&["wait=600"]), (false, Some(50)));
        assert_eq!(prefer(&["wait=99999999999999999999999"]), (false, Some(50)));
        assert_eq!(prefer(&["handling=lenient; a=\", wait=3\", wait=4"]), (false, Some(4)));
        for bad in ["wait", "wait=", "wait=-1", "wait=1.5", "wait=x", "wait=5s, wait=5", "=,;,\""] {
            assert_eq!(prefer(&[bad]), (false, None), "{bad}");
        }
    }

    #[test]
    fn says_what_was_applied() {
        let read = |v: &str| Prefer::read(&map(&[("prefer", v)]));
        assert_eq!(read("x").applied(), None);
        assert_eq!(read("respond-async").applied().unwrap(), "respond-async");
        assert_eq!(read("wait=99, respond-async").applied().unwrap(), "respond-async, wait=50");
        assert_eq!(read("wait=2").applied().unwrap(), "wait=2");
        assert_eq!(read("wait=2, respond-async").applied_wait().unwrap(), "wait=2");
        assert_eq!(read("respond-async").applied_wait(), None);
    }

    #[test]
    fn entity_tags() {
        let known = |v: &str| Known::read(&map(&[("if-none-match", v)]));
        assert_eq!(known("W/\"3\""), Known::Version(3));
        assert_eq!(known("\"3\""), Known::Version(3));
        assert_eq!(known("\"a,b\", W/\"3\" , W/\"12\""), Known::Version(12));
        assert_eq!(known("*"), Known::Anything);
        for nothing in ["", "3", "\"x\"", "W/3", "\"3", "w/\"3\""] {
            assert_eq!(known(nothing), Known::Nothing, "{nothing}");
        }
        assert!(Known::Version(3).is(3) && !Known::Version(3).is(4) && Known::Anything.is(9));
        let headers = map(&[("if-none-match", "\"a\""), ("if-none-match", "W/\"b\"")]);
        assert!(none_match(&headers, "a") && none_match(&headers, "b"));
        assert!(!none_match(&headers, "c"));
    }

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn revisions_are_compared_strongly() {
        assert_eq!(if_match(&map(&[])), IfMatch::Any);
        assert_eq!(if_match(&map(&[("if-match", "*")])), IfMatch::Exists);
        let several = map(&[("if-match", "\"3\", W/\"4\", \"x\""), ("if-match", "\"5\"")]);
        assert_eq!(if_match(&several), IfMatch::OneOf(vec![3, 5]));
        assert_eq!(if_match(&map(&[("if-match", "3")])), IfMatch::OneOf(Vec::new()));
    }

    #[test]
    fn trace_contexts() {
        let both = map(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]);
        assert_eq!(traceparent(&both).unwrap().to_string(), PARENT);
        assert_eq!(tracestate(&both).as_deref(), Some("a=1,b=2"));
        let alone = map(&[("tracestate", "a=1")]);
        assert_eq!((traceparent(&alone), tracestate(&alone)), (None, None));
        let twice = map(&[("traceparent", PARENT), ("traceparent", PARENT)]);
        assert_eq!(traceparent(&twice), None);
        let wrong = map(&[("traceparent", "00-0-0-01"), ("tracestate", "a=1")]);
        assert_eq!((traceparent(&wrong), tracestate(&wrong)), (None, None));
    }

    #[test]
    fn request_ids() {
        let id = |v: &str| request_id(&map(&[("x-request-id", v)]));
        assert_eq!(id("abc-1").unwrap(), "abc-1");
        for bad in ["", "a b", "é", &"x".repeat(129)] {
            assert_eq!(id(bad), None, "{bad}");
        }
    }

    #[test]
    fn hosts() {
        let of = |uri: &str, headers: &HeaderMap| {
            host(Version::HTTP_11, &uri.parse().unwrap(), headers).map(|h| h.map(str::to_owned))
        };
        let a = map(&[("host", "a.example:80")]);
        assert_eq!(of("/x", &a), Ok(Some("a.example:80".into())));
        assert_eq!(of("http://b.example/x", &a), Ok(Some("b.example".into())));
        assert!(of("/x", &HeaderMap::new()).is_err());
        assert!(of("/x", &map(&[("host", "a"), ("host", "a")])).is_err());
        for bad in ["", "a>b", "user@host", "a/b", "a b"] {
            assert!(of("/x", &map(&[("host", bad)])).is_err(), "{bad}");
        }
        let slash = Uri::from_static("/");
        assert_eq!(host(Version::HTTP_10, &slash, &HeaderMap::new()), Ok(None));
    }

    proptest! {
        #[test]
        fn every_printable_key_survives_quoting(text in "[ -~]{1,255}") {
            let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            prop_assert_eq!(key(&quoted), Ok(Some(text)));
        }

        #[test]
        fn a_key_read_is_a_valid_key(text in "[ -~\"\\\\]{0,300}") {
            if let Ok(Some(read)) = key(&text) {
                prop_assert!(key_is_valid(&read).is_ok());
            }
        }

        #[test]
        fn preferences_never_panic_and_are_bounded(text in "[ -~\"\\\\;,=]{0,80}") {
            let read = Prefer::read(&map(&[("prefer", &text)]));
            prop_assert!(read.wait.is_none_or(|w| w <= MAX_WAIT));
        }

        #[test]
        fn a_tag_matches_itself_in_any_list(version: u64, other in 0u64..9) {
            let list = format!("W/\"{}\" ,\"x\", W/\"{version}\"", other.min(version));
            prop_assert!(Known::read(&map(&[("if-none-match", &list)])).is(version));
        }
    }
}
