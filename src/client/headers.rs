//! The headers that steer an exchange: `Prefer`, `Retry-After`, `Idempotency-Key`.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// RFC 7240 preferences of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefer {
    /// How long the server may hold the request; sent in whole seconds, rounded up.
    pub wait: Option<Duration>,
    /// Answer at once, without waiting for quick work.
    pub respond_async: bool,
}

impl Prefer {
    pub const ASYNC: Self = Self { wait: None, respond_async: true };

    pub const fn wait(span: Duration) -> Self {
        Self { wait: Some(span), respond_async: false }
    }

    /// The header's value; `None` when there is nothing to prefer.
    pub fn header(self) -> Option<String> {
        let seconds = self.wait.map(|w| w.as_secs() + u64::from(w.subsec_nanos() > 0));
        match (self.respond_async, seconds) {
            (false, None) => None,
            (true, None) => Some("respond-async".to_owned()),
            (false, Some(n)) => Some(format!("wait={n}")),
            (true, Some(n)) => Some(format!("respond-async, wait={n}")),
        }
    }
}

/// Seconds, or a date less the answer's own `Date` (RFC 9110 section 10.2.3), so that this
/// machine's clock does not matter. Unreadable is absent.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let then = moment(text)?;
    let now = moment(headers.get(DATE)?.to_str().ok()?)?;
    Some(Duration::try_from(then.duration_since(now)).unwrap_or_default())
}

fn moment(text: &str) -> Option<jiff::Timestamp> {
    Some(jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp())
}

/// A structured-field string (RFC 8941 section 3.3.3).
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pairs: &[(&'static str, &str)]) -> Option<Duration> {
        let headers = pairs
            .iter()
            .map(|(k, v)| (reqwest::header::HeaderName::from_static(k), v.parse().unwrap()))
            .collect();
        retry_after(&headers)
    }

    #[test]
    fn prefers() {
        assert_eq!(Prefer::default().header(), None);
        assert_eq!(Prefer::ASYNC.header().as_deref(), Some("respond-async"));
        let short = Prefer::wait(Duration::from_millis(1_200));
        assert_eq!(short.header().as_deref(), Some("wait=2"));
        let both = Prefer { respond_async: true, ..Prefer::wait(Duration::from_secs(10)) };
        assert_eq!(both.header().as_deref(), Some("respond-async, wait=10"));
    }

    #[test]
    fn retry_after_in_seconds() {
        assert_eq!(after(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
        assert_eq!(after(&[("retry-after", " 0 ")]), Some(Duration::ZERO));
        assert!(after(&[("retry-after", "99999999999999999999999")]).is_some());
        for bad in ["", "-1", "1.5", "soon"] {
            assert_eq!(after(&[("retry-after", bad)]), None, "{bad:?}");
        }
        assert_eq!(after(&[]), None);
    }

    #[test]
    fn retry_after_as_a_date_is_relative_to_the_answer() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let then = ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT");
        assert_eq!(after(&[then, date]), Some(Duration::from_secs(30)));
        assert_eq!(after(&[("retry-after", date.1), ("date", then.1)]), Some(Duration::ZERO));
        assert_eq!(after(&[then]), None);
    }

    #[test]
    fn quotes_keys() {
        assert_eq!(quoted(r#"a "b" \c"#), r#""a \"b\" \\c""#);
    }
}
