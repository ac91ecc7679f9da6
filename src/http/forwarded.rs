//! What proxies say of the client's side: under which scheme and host it knows us.
//!
//! Anybody can write such headers, so they count only from a peer that the operator trusts, and
//! only as far as trust goes. Each proxy adds its element at the end of `Forwarded` (RFC 7239), with
//! the address that it heard from in `for`. The last element is therefore the peer's own word; while
//! the address in it is a trusted proxy's, the element before is that proxy's word. The outermost
//! trusted one saw the client.
//!
//! `X-Forwarded-Proto` and `X-Forwarded-Host` count where there is no `Forwarded`, and of several
//! values the last: they do not say which proxy wrote which. What cannot be understood is as if it
//! were not there.
//!
//! A proxy that writes the one sort may hand on what its client wrote of the other. Which sort is
//! the proxy's cannot be told, so where both are there and do not say the same, neither counts.

use std::net::{IpAddr, SocketAddr};

use axum::http::header::FORWARDED;
use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use super::headers::unquoted_split;
use super::host::is_host;

const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The other end of the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// How the client addressed us; `None` where the proxies do not say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) scheme: Option<&'static str>,
    pub(super) host: Option<String>,
}

impl Origin {
    /// Nothing, unless the peer is trusted.
    pub(super) fn read(trusted: &[IpNet], peer: Option<Peer>, headers: &HeaderMap) -> Self {
        let is_trusted = |ip: IpAddr| {
            let ip = ip.to_canonical();
            trusted.iter().any(|net| net.contains(&ip))
        };
        if !peer.is_some_and(|peer| is_trusted(peer.0.ip())) {
            return Self::default();
        }
        let older = headers.contains_key(PROTO) || headers.contains_key(HOST);
        match (headers.contains_key(FORWARDED), older) {
            (false, false) => Self::default(),
            (true, false) => standard(headers, is_trusted).unwrap_or_default(),
            (false, true) => Self::older(headers),
            (true, true) => {
                let said = standard(headers, is_trusted).unwrap_or_default();
                if said == Self::older(headers) { said } else { Self::default() }
            }
        }
    }

    fn older(headers: &HeaderMap) -> Self {
        Self {
            scheme: last(headers, &PROTO).and_then(scheme),
            host: last(headers, &HOST).filter(|host| is_host(host)).map(str::to_owned),
        }
    }
}

fn standard(headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> Option<Origin> {
    let mut elements = Vec::new();
    for value in headers.get_all(FORWARDED) {
        for text in unquoted_split(value.to_str().ok()?, ',') {
            // RFC 9110 lets lists have empty places.
            if !text.trim().is_empty() {
                elements.push(Element::parse(text)?);
            }
        }
    }
    let mut outermost = elements.pop()?;
    while outermost.node.is_some_and(&is_trusted) {
        let Some(further) = elements.pop() else { break };
        outermost = further;
    }
    Some(Origin { scheme: outermost.scheme, host: outermost.host })
}

/// One proxy's word.
#[derive(Debug, Default, PartialEq, Eq)]
struct Element {
    /// Whom it heard from, if it tells an address.
    node: Option<IpAddr>,
    scheme: Option<&'static str>,
    host: Option<String>,
}

impl Element {
    /// `None` if it is not written by the rules: nothing of it is believed then.
    fn parse(text: &str) -> Option<Self> {
        let (mut found, mut names) = (Self::default(), Vec::new());
        for pair in unquoted_split(text, ';') {
            let pair = pair.trim_matches([' ', '\t']);
            if pair.is_empty() {
                continue;
            }
            let (name, value) = pair.split_once('=')?;
            let (name, value) = (name.to_ascii_lowercase(), unquoted(value)?);
            if !is_token(&name) || names.contains(&name) {
                return None;
            }
            match name.as_str() {
                "for" => found.node = address(&value),
                "proto" => found.scheme = Some(scheme(&value)?),
                "host" => found.host = Some(value).filter(|host| is_host(host)),
                _ => {}
            }
            if name == "host" && found.host.is_none() {
                return None;
            }
            names.push(name);
        }
        Some(found)
    }
}

/// A token, or what is between quotes.
fn unquoted(value: &str) -> Option<String> {
    let Some(rest) = value.strip_prefix('"') else {
        return is_token(value).then(|| value.to_owned());
    };
    let mut out = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return chars.as_str().is_empty().then_some(out),
            '\\' => out.push(chars.next()?),
            c => out.push(c),
        }
    }
}

fn is_token(text: &str) -> bool {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(tchar)
}

/// `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]` or `[2001:db8::1]:80`; other nodes are hidden.
fn address(node: &str) -> Option<IpAddr> {
    let bare = node.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(node);
    let with_port = || node.parse::<SocketAddr>().ok().map(|a| a.ip());
    bare.parse().ok().or_else(with_port)
}

fn scheme(text: &str) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|known| text.eq_ignore_ascii_case(known))
}

/// The last item of the last such header.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    fn read(peer: &str, pairs: &[(&'static str, &str)]) -> Origin {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_str(value).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        Origin::read(&trusted, Some(Peer(peer.parse().unwrap())), &headers)
    }

    fn said(scheme: Option<&'static str>, host: Option<&str>) -> Origin {
        Origin { scheme, host: host.map(str::to_owned) }
    }

    const PROXY: &str = "10.1.2.3:4444";

    #[test]
    fn only_a_trusted_peer_is_believed() {
        let pairs = [("forwarded", "proto=https;host=a.example")];
        let told = said(Some("https"), Some("a.example"));
        for peer in [PROXY, "[2001:db8::7]:1", "[::ffff:10.0.0.1]:1"] {
            assert_eq!(read(peer, &pairs), told, "{peer}");
        }
        for peer in ["127.0.0.1:1", "11.0.0.1:1", "[::1]:1", "[2001:db9::1]:1"] {
            assert_eq!(read(peer, &pairs), Origin::default(), "{peer}");
        }
        assert_eq!(Origin::read(&[], None, &HeaderMap::new()), Origin::default());
    }

    #[test]
    fn the_outermost_trusted_proxy_saw_the_client() {
        let of = |value: &str| read(PROXY, &[("forwarded", value)]);
        // A client that writes the header itself is the first element, and heard by nobody.
        let forged =
            "host=evil.example;proto=http;for=10.9.9.9, for=192.0.2.1;host=real;proto=https";
        assert_eq!(of(forged), said(Some("https"), Some("real")));
        // Through two of ours.
        let two = "for=192.0.2.1;host=real;proto=https, for=10.0.0.1;host=inner;proto=http";
        assert_eq!(of(two), said(Some("https"), Some("real")));
        let three = format!("host=evil, {two}, for=\"[2001:db8::1]:99\";host=innermost");
        assert_eq!(of(&three), said(Some("https"), Some("real")));
        // Whom it heard from is not said, or hidden: there trust ends.
        let hidden = "host=evil;for=1.2.3.4, for=_hidden;host=a;proto=http";
        assert_eq!(of(hidden), said(Some("http"), Some("a")));
        assert_eq!(of("host=evil, proto=https"), said(Some("https"), None));
        // All of ours: the first is all there is.
        assert_eq!(of("for=10.0.0.2;host=a"), said(None, Some("a")));
        // Several headers are one list.
        let pairs = [("forwarded", "for=192.0.2.1;host=real"), ("forwarded", "for=10.0.0.1")];
        assert_eq!(read(PROXY, &pairs), said(None, Some("real")));
    }

    #[test]
    fn what_is_not_by_the_rules_is_not_believed() {
        for bad in [
            "",
            ",",
            "host",
            "host=",
            "host=a b",
            "host=a;host=b",
            "HOST=a;host=b",
            "host=\"a",
            "host=\"a\"b",
            "host=\"a/b\"",
            "host=\"\"",
            "proto=gopher",
            "proto=https:",
            "ho st=a",
            "host =a",
            "proto=https;host=\"<script>\"",
            "good=1;=2",
            "for=1.2.3.4;host=a, host==",
        ] {
            assert_eq!(read(PROXY, &[("forwarded", bad)]), Origin::default(), "{bad:?}");
        }
        let good = "For=\"[::1]:5\" ; Proto=HTTPS;;host=\"a.example:\\8\\0\" ;by=x;";
        assert_eq!(read(PROXY, &[("forwarded", good)]), said(Some("https"), Some("a.example:80")));
        // Then the older headers do not count either.
        let pairs = [("forwarded", "host=\"a"), ("x-forwarded-host", "b")];
        assert_eq!(read(PROXY, &pairs), Origin::default());
    }

    #[test]
    fn neither_sort_counts_where_they_differ() {
        let standard = ("forwarded", "for=192.0.2.1;proto=https;host=a.example");
        let (proto, host) = (("x-forwarded-proto", "https"), ("x-forwarded-host", "a.example"));
        let same = [standard, proto, host];
        assert_eq!(read(PROXY, &same), said(Some("https"), Some("a.example")));
        for other in [
            &[standard, proto, ("x-forwarded-host", "b.example")][..],
            &[standard, ("x-forwarded-proto", "http"), host],
            // A client's whole word beside a proxy's half.
            &[standard, proto],
            &[standard, host],
            &[standard, ("x-forwarded-host", "")],
        ] {
            assert_eq!(read(PROXY, other), Origin::default(), "{other:?}");
        }
    }

    #[test]
    fn the_older_headers_count_without_the_standard_one() {
        let pairs = [("x-forwarded-proto", "https"), ("x-forwarded-host", "a.example")];
        assert_eq!(read(PROXY, &pairs), said(Some("https"), Some("a.example")));
        let pairs = [("x-forwarded-proto", "http, https"), ("x-forwarded-host", "evil, a")];
        assert_eq!(read(PROXY, &pairs), said(Some("https"), Some("a")));
        let pairs = [("x-forwarded-proto", "ftp"), ("x-forwarded-host", "a/b")];
        assert_eq!(read(PROXY, &pairs), Origin::default());
        assert_eq!(read("127.0.0.1:1", &[("x-forwarded-host", "a")]), Origin::default());
    }

    proptest! {
        #[test]
        fn nothing_panics_and_only_hosts_come_out(text in "[ -~]{0,80}") {
            let origin = read(PROXY, &[("forwarded", &text), ("x-forwarded-host", &text)]);
            prop_assert!(origin.host.is_none_or(|host| is_host(&host)));
        }

        #[test]
        fn what_is_written_by_the_rules_is_read_back(
            host in "[a-z][a-z0-9]{0,8}([.-][a-z][a-z0-9]{0,3}){0,3}(:[0-9]{1,4})?",
            secure: bool,
            quoted: bool,
            hops in 0usize..4,
        ) {
            let scheme = if secure { "https" } else { "http" };
            let quote = if quoted || host.contains(':') { "\"" } else { "" };
            let mut text = format!("host=evil.example, proto={scheme};host={quote}{host}{quote}");
            text += ";for=192.0.2.9";
            for hop in 0..hops {
                text = format!("{text} ,for=\"10.0.0.{hop}:1\";host=inner{hop}");
            }
            prop_assert_eq!(read(PROXY, &[("forwarded", &text)]), said(Some(scheme), Some(&host)));
        }
    }
}
