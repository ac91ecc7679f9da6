//! Keeps web pages out of a server that trusts its machine: whoever runs a browser there runs the
//! programs of every page that it shows, and none of those was given a token or needs one.
//!
//! - A page that rebinds its own name to this machine comes under that name: only loopback names
//!   are answered.
//! - A page may send requests to other origins without asking, as long as they look like a form's:
//!   a POST without a body is enough to pause a queue. It cannot hide where it comes from, for
//!   browsers say so in `Sec-Fetch-Site` or `Origin`, and nothing else sends these.
//!
//! With tokens there is no need for any of this, for a page has none. With `auth.mode = "off"` the
//! operator says that somebody else keeps watch; where there is no sign of him, which would be a
//! public address or a proxy, the rules hold as well.

use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, HeaderName, Method};

use super::Settings;
use super::auth::Gate;
use super::cors;
use super::host::{is_loopback, is_loopback_origin};
use super::problem::{Code, Problem};

/// Fetch Metadata Request Headers, section 2.3.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether pages are kept out of a server with these settings.
pub(super) fn are_kept_out(settings: &Settings, gate: &Gate) -> bool {
    let nobody_else = settings.public_url.is_none() && settings.trusted_proxies.is_empty();
    settings.loopback_only && (gate.trusts_this_machine() || gate.is_open() && nobody_else)
}

/// Refuses what only a page can have sent, where pages are kept out.
pub(super) fn check(
    cors_origins: &[String],
    host: Option<&str>,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(), Problem> {
    if let Some(host) = host.filter(|host| !is_loopback(host)) {
        return Err(Problem::new(
            Code::MisdirectedHost,
            format!(
                "this server is open to its own machine only, and does not answer as {host}; use \
                 localhost, or see server.listen and auth for others"
            ),
        ));
    }
    let changes = !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && cors::allowed(cors_origins, headers).is_none() && is_foreign(headers) {
        let detail = "a web page of another origin sent this; server.cors_origins names those that \
                      may";
        return Err(Problem::new(Code::CrossSite, detail));
    }
    Ok(())
}

/// Whether a page of another origin than ours asks. The older browsers send `Origin` alone.
fn is_foreign(headers: &HeaderMap) -> bool {
    let site = |value: &[u8]| matches!(value, b"cross-site" | b"same-site");
    headers.get_all(SEC_FETCH_SITE).iter().any(|value| site(value.as_bytes()))
        || headers.get_all(ORIGIN).iter().any(|value| !value.to_str().is_ok_and(is_loopback_origin))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::http::auth::Keys;

    fn refused(method: &Method, pairs: &[(&'static str, &'static str)]) -> Option<&'static str> {
        let origins = ["https://app.example".to_owned()];
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        check(&origins, Some("localhost"), method, &headers).err().map(|p| p.code().slug())
    }

    #[test]
    fn what_another_page_changes_is_refused() {
        for pairs in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site"), ("origin", "http://localhost:3000")],
            &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
            &[("origin", "https://app.example"), ("origin", "https://evil.example")],
        ] {
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                assert_eq!(refused(&method, pairs), Some("cross-site"), "{pairs:?}");
            }
            for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
                assert_eq!(refused(&method, pairs), None, "{pairs:?}");
            }
        }
    }

    #[test]
    fn programs_and_our_own_and_named_pages_are_not() {
        for pairs in [
            &[][..],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:8080")],
            &[("origin", "http://127.0.0.1:8080")],
            &[("sec-fetch-site", "cross-site"), ("origin", "https://app.example")],
        ] {
            assert_eq!(refused(&Method::POST, pairs), None, "{pairs:?}");
        }
    }

    #[test]
    fn where_pages_are_kept_out() {
        let plain = Settings::default();
        let named = Settings { public_url: Some("https://a.example".into()), ..plain.clone() };
        let proxied =
            Settings { trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()], ..plain.clone() };
        let open = Settings { loopback_only: false, ..plain.clone() };
        let kept = |settings: &Settings, keys: Keys| are_kept_out(settings, &Gate::new(keys));
        assert!(kept(&plain, Keys::ThisMachine) && kept(&plain, Keys::Everybody));
        for settings in [&named, &proxied] {
            assert!(kept(settings, Keys::ThisMachine) && !kept(settings, Keys::Everybody));
        }
        assert!(!kept(&open, Keys::ThisMachine) && !kept(&open, Keys::Everybody));
        assert!(!kept(&plain, Keys::Tokens(Vec::new())));
    }
}
