//! Readers of single values: from the text of one JSON value to what it means, or what is wrong
//! with it. Pure; used with [`fields`](super::fields).

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

use axum::http::Uri;

use super::fields::{Read, Wrong};
use super::{headers, limits};
use crate::domain::job::RawJson;
use crate::domain::lease::LeaseToken;
use crate::domain::names::{NAME_RULE, Name, WorkerId, is_reserved_kind};
use crate::domain::time::Timestamp;

/// What a value is, for messages.
pub(super) fn kind_of(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(_) | None => "a number",
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b == b'-' || b.is_ascii_digit())
}

/// Any value at all, byte for byte.
pub(super) fn json(text: &str) -> RawJson {
    RawJson::trusted(text)
}

pub(super) fn text(text: &str) -> Read<Cow<'_, str>> {
    let plain = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    match plain {
        Some(plain) if !plain.contains('\\') => Ok(Cow::Borrowed(plain)),
        Some(_) => match serde_json::from_str(text) {
            Ok(decoded) => Ok(Cow::Owned(decoded)),
            Err(_) => Err(Wrong::kind("a string", text)),
        },
        None => Err(Wrong::kind("a string", text)),
    }
}

/// A string of so many bytes.
pub(super) fn text_of(bytes: RangeInclusive<usize>) -> impl Fn(&str) -> Read<String> {
    move |raw| {
        let read = text(raw)?;
        if bytes.contains(&read.len()) {
            return Ok(read.into_owned());
        }
        let (min, max, has) = (bytes.start(), bytes.end(), read.len());
        Err(Wrong::new("length", format!("must have {min} to {max} bytes, and has {has}")))
    }
}

/// The same without control characters, for what is shown in lists and logs.
pub(super) fn line_of(bytes: RangeInclusive<usize>) -> impl Fn(&str) -> Read<String> {
    let within = text_of(bytes);
    move |raw| {
        let read = within(raw)?;
        if read.chars().any(char::is_control) {
            return Err(Wrong::new("pattern", "must not have control characters"));
        }
        Ok(read)
    }
}

pub(super) fn boolean(text: &str) -> Read<bool> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(Wrong::kind("true or false", other)),
    }
}

/// Digits only: `1.0` and `1e0` are not whole numbers here.
pub(super) fn integer(range: RangeInclusive<i64>) -> impl Fn(&str) -> Read<i64> {
    move |text| {
        if !is_number(text) {
            return Err(Wrong::kind("a whole number", text));
        }
        if text.contains(['.', 'e', 'E']) {
            return Err(Wrong::new("type", "must be a whole number, written in digits only"));
        }
        // What does not fit is out of range, whatever the range.
        text.parse::<i64>().ok().filter(|n| range.contains(n)).ok_or_else(|| {
            Wrong::new("range", format!("must be {} to {}", range.start(), range.end()))
        })
    }
}

/// The same for numbers that are counts.
pub(super) fn count(range: RangeInclusive<u32>) -> impl Fn(&str) -> Read<u32> {
    let read = integer(i64::from(*range.start())..=i64::from(*range.end()));
    move |text| read(text).map(|n| u32::try_from(n).unwrap_or_default())
}

pub(super) fn number(range: RangeInclusive<f64>) -> impl Fn(&str) -> Read<f64> {
    move |text| {
        if !is_number(text) {
            return Err(Wrong::kind("a number", text));
        }
        text.parse::<f64>().ok().filter(|n| n.is_finite() && range.contains(n)).ok_or_else(|| {
            Wrong::new("range", format!("must be {} to {}", range.start(), range.end()))
        })
    }
}

/// A duration, as a number of seconds that may have a fraction.
pub(super) fn seconds(range: RangeInclusive<Duration>) -> impl Fn(&str) -> Read<Duration> {
    let read = number(range.start().as_secs_f64()..=range.end().as_secs_f64());
    move |text| {
        // In range, so it fits a duration.
        Ok(Duration::try_from_secs_f64(read(text)?).unwrap_or_default())
    }
}

/// Zero to `max`.
pub(super) fn seconds_to(max: Duration) -> impl Fn(&str) -> Read<Duration> {
    seconds(Duration::ZERO..=max)
}

/// RFC 3339 with an offset.
pub(super) fn moment(raw: &str) -> Read<Timestamp> {
    Timestamp::parse_rfc3339(&text(raw)?).ok_or_else(|| {
        Wrong::new("format", "must be an RFC 3339 moment such as 2030-01-31T08:00:00Z")
    })
}

/// A queue. Those of the server's own are not of the pattern.
pub(super) fn name(raw: &str) -> Read<Name> {
    Name::parse(&text(raw)?).ok_or_else(|| Wrong::new("pattern", format!("must be {NAME_RULE}")))
}

/// A kind that clients may use.
pub(super) fn kind(raw: &str) -> Read<Name> {
    let name = name(raw)?;
    if is_reserved_kind(name.as_str()) {
        return Err(Wrong::new(
            "pattern",
            "must not start with system: those are the server's own",
        ));
    }
    Ok(name)
}

pub(super) fn worker(raw: &str) -> Read<WorkerId> {
    WorkerId::parse(&text(raw)?)
        .ok_or_else(|| Wrong::new("length", "must have 1 to 512 bytes and no control characters"))
}

pub(super) fn token(raw: &str) -> Read<LeaseToken> {
    LeaseToken::parse(&text(raw)?)
        .ok_or_else(|| Wrong::new("pattern", "must be the lease_token of the claim, unchanged"))
}

/// Any value within so many bytes.
pub(super) fn json_of(max: usize) -> impl Fn(&str) -> Read<RawJson> {
    move |raw| {
        if raw.len() > max {
            let detail = format!("must have at most {max} bytes, and has {}", raw.len());
            return Err(Wrong::new("length", detail));
        }
        Ok(json(raw))
    }
}

pub(super) fn metadata(raw: &str) -> Read<RawJson> {
    if !raw.starts_with('{') {
        return Err(Wrong::kind("an object", raw));
    }
    json_of(limits::METADATA_BYTES)(raw)
}

pub(super) fn idempotency_key(raw: &str) -> Read<String> {
    let key = text(raw)?;
    match headers::key_is_valid(&key) {
        Ok(()) => Ok(key.into_owned()),
        Err(why) => Err(Wrong::new("pattern", why)),
    }
}

/// An https address; of one of `hosts`, when there are any.
pub(super) fn location(hosts: &[String]) -> impl Fn(&str) -> Read<String> + '_ {
    let within = text_of(1..=limits::URL_BYTES);
    move |raw| {
        let text = within(raw)?;
        let uri: Option<Uri> = text.parse().ok();
        let host = uri
            .as_ref()
            .filter(|u| u.scheme_str() == Some("https"))
            .and_then(Uri::authority)
            // A name before the host is a way to look like another host.
            .filter(|a| !a.as_str().contains('@'))
            .map(|a| a.host().to_owned())
            .ok_or_else(|| Wrong::new("format", "must be an https address"))?;
        let allowed = hosts.is_empty() || hosts.iter().any(|h| h.eq_ignore_ascii_case(&host));
        if allowed {
            Ok(text)
        } else {
            Err(Wrong::new("pattern", format!("the host {host} is not among jobs.result_hosts")))
        }
    }
}

/// A media type such as `text/csv; charset=utf-8`, safe to be sent as a header.
pub(super) fn media_type(raw: &str) -> Read<String> {
    let text = text_of(1..=limits::MEDIA_TYPE_BYTES)(raw)?;
    let essence = text.split(';').next().unwrap_or_default().trim();
    let token = |t: &str| {
        !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    let valid = essence.split_once('/').is_some_and(|(a, b)| token(a) && token(b))
        && text.bytes().all(|b| (0x20..0x7f).contains(&b));
    if valid {
        Ok(text)
    } else {
        Err(Wrong::new("format", "must be a media type such as text/csv"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code<T>(read: Read<T>) -> &'static str {
        read.err().map_or("ok", |w| w.code)
    }

    #[test]
    fn whole_numbers_are_digits() {
        let read = integer(1..=100);
        assert_eq!(read("7"), Ok(7));
        for (text, expected) in [
            ("1.0", "type"),
            ("1e1", "type"),
            ("\"1\"", "type"),
            ("null", "type"),
            ("true", "type"),
            ("0", "range"),
            ("101", "range"),
            ("-1", "range"),
            ("99999999999999999999999", "range"),
        ] {
            assert_eq!(code(read(text)), expected, "{text}");
        }
    }

    #[test]
    fn seconds_may_have_a_fraction_and_no_sign() {
        let read = seconds_to(limits::WEEK);
        assert_eq!(read("1.5"), Ok(Duration::from_millis(1_500)));
        assert_eq!(read("0"), Ok(Duration::ZERO));
        assert_eq!(read("-0.0"), Ok(Duration::ZERO));
        assert_eq!(read("604800"), Ok(limits::WEEK));
        for (text, expected) in [
            ("-1", "range"),
            ("604800.1", "range"),
            ("1e308", "range"),
            ("\"5\"", "type"),
            ("[]", "type"),
        ] {
            assert_eq!(code(read(text)), expected, "{text}");
        }
    }

    #[test]
    fn strings() {
        assert_eq!(text(r#""a\u0062""#).unwrap(), "ab");
        assert_eq!(code(text("5")), "type");
        let read = line_of(1..=4);
        assert_eq!(read("\"π\"").unwrap(), "π");
        assert_eq!(code(read("\"\"")), "length");
        assert_eq!(code(read("\"abcde\"")), "length");
        assert_eq!(code(read("\"a\\nb\"")), "pattern");
    }

    #[test]
    fn names_and_kinds() {
        assert!(name("\"a.b\"").is_ok() && kind("\"systemic\"").is_ok());
        for bad in ["\"system.x\"", "\"system\"", "\"_q\"", "\"A\"", "\"\"", "\"a\\u0000\""] {
            assert_eq!(code(kind(bad)), "pattern", "{bad}");
        }
    }

    #[test]
    fn moments() {
        assert!(moment("\"2030-01-31T08:00:00+01:00\"").is_ok());
        for bad in ["\"2030-01-31\"", "\"tomorrow\"", "\"\"", "\"2030-13-01T00:00:00Z\""] {
            assert_eq!(code(moment(bad)), "format", "{bad}");
        }
    }

    #[test]
    fn locations() {
        let any = location(&[]);
        assert!(any("\"https://s3.example/x?sig=1\"").is_ok());
        for bad in
            ["http://a/x", "https:///x", "ftp://a", "//a", "a", "https://u@a/", "javascript:1"]
        {
            assert_eq!(code(any(&format!("\"{bad}\""))), "format", "{bad}");
        }
        let hosts = ["a.example".to_owned()];
        let some = location(&hosts);
        assert!(some("\"https://A.example:444/x\"").is_ok());
        assert_eq!(code(some("\"https://b.example/x\"")), "pattern");
    }

    #[test]
    fn media_types() {
        assert!(media_type("\"text/csv; charset=utf-8\"").is_ok());
        for bad in ["text", "/x", "a/", "a b/c", "a/b\\r\\nx: y", "é/b"] {
            assert_eq!(code(media_type(&format!("\"{bad}\""))), "format", "{bad}");
        }
    }

    #[test]
    fn tokens_and_workers() {
        let good = format!("\"{}\"", LeaseToken::new([9; 16]).reveal());
        assert!(token(&good).is_ok());
        assert_eq!(code(token("\"nonsense\"")), "pattern");
        assert_eq!(code(token("7")), "type");
        assert_eq!(code(worker("\"\"")), "length");
    }

    #[test]
    fn metadata_is_an_object_within_its_limit() {
        assert!(metadata("{\"a\":[1]}").is_ok());
        assert_eq!(code(metadata("[]")), "type");
        assert_eq!(code(metadata(&format!("{{\"a\":\"{}\"}}", "x".repeat(4096)))), "length");
    }

    proptest! {
        #[test]
        fn any_string_is_read_back(s in any::<String>()) {
            let raw = serde_json::to_string(&s).unwrap();
            prop_assert_eq!(text(&raw).unwrap().into_owned(), s);
        }

        #[test]
        fn any_whole_number_is_read_back(n: i64) {
            prop_assert_eq!(integer(i64::MIN..=i64::MAX)(&n.to_string()), Ok(n));
        }
    }
}
