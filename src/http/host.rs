//! Hosts as requests name them: a name or an address, and perhaps a port (RFC 3986, section 3.2.2).
//!
//! Stricter than the grammar, which lets a name be almost anything: what is accepted goes into the
//! links of answers, and whether it means this machine is decided by it. So names are those that
//! resolve: labels of letters, digits, hyphens and underscores; and what looks like an IPv4 address
//! is one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// Whether it may stand for a host, with or without a port, in an address that we write.
pub(super) fn is_host(text: &str) -> bool {
    parse(text).is_some()
}

/// Whether `text` is a name of this machine that no web page can point elsewhere.
pub(super) fn is_loopback(text: &str) -> bool {
    match parse(text) {
        Some(Host::Address(address)) => address.is_loopback(),
        Some(Host::Name(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

/// Whether an `Origin` is of a page that this machine serves.
pub(super) fn is_loopback_origin(origin: &str) -> bool {
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(is_loopback)
}

#[derive(Debug, PartialEq, Eq)]
enum Host<'a> {
    Address(IpAddr),
    Name(&'a str),
}

fn parse(text: &str) -> Option<Host<'_>> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address = address.parse::<Ipv6Addr>().ok()?;
        let fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return fits.then_some(Host::Address(address.into()));
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    if !port.is_none_or(is_port) {
        return None;
    }
    let labels = name.strip_suffix('.').unwrap_or(name);
    let last = labels.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return name.parse::<Ipv4Addr>().ok().map(|address| Host::Address(address.into()));
    }
    (name.len() <= LONGEST_NAME && labels.split('.').all(is_label)).then_some(Host::Name(name))
}

/// None of its digits is one as well: the grammar says so.
fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && (text.is_empty() || text.parse::<u16>().is_ok())
}

fn is_label(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=LONGEST_LABEL).contains(&text.len())
        && text.bytes().all(fits)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in [
            "a",
            "A.Example",
            "a.example.:80",
            "my_service:8080",
            "xn--bcher-kva.example",
            "3com.example",
            "a:0",
            "a:65535",
            "a:",
            "192.0.2.1:80",
            "[2001:db8::1]",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_host(good), "{good}");
        }
        let long = format!("{}.example", "a".repeat(64));
        let longer = ["a"; 128].join(".");
        for bad in [
            "",
            ".",
            "..",
            "-",
            "[",
            "]",
            "[]",
            ":",
            ":80",
            "a..b",
            ".a",
            "a.-b",
            "a-.b",
            "a:b",
            "a:80:80",
            "x:y:z",
            "a:65536",
            "a:99999999",
            "a:+80",
            "a:-1",
            "a: 80",
            "1.2.3",
            "1.2.3.4.5",
            "256.1.1.1",
            "127.0.0.1.",
            "127.1",
            "1",
            "127.0.0.1:abc",
            "::1",
            "[::1",
            "[::1]80",
            "[::1]:x",
            "[fe80::1%25eth0]",
            "[v1.x]",
            "[127.0.0.1]",
            "a b",
            "a/b",
            "user@a",
            "a%41",
            "b\u{fc}cher",
            &long,
            &longer,
        ] {
            assert!(!is_host(bad) && !is_loopback(bad), "{bad}");
        }
    }

    #[test]
    fn loopback_names() {
        for ours in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]:80",
            "[::1]",
            "a.localhost:3",
        ] {
            assert!(is_loopback(ours), "{ours}");
        }
        for other in [
            "example.com",
            "127.0.0.1.evil.com",
            "localhost.evil.com",
            "10.0.0.1",
            "[::2]",
            "",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }

    #[test]
    fn loopback_origins() {
        for ours in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:8080"] {
            assert!(is_loopback_origin(ours), "{ours}");
        }
        for other in [
            "null",
            "localhost",
            "http://evil.example",
            "http://localhost.evil.example",
            "file://localhost",
            "http://localhost/x",
            "http://a@localhost",
            "",
        ] {
            assert!(!is_loopback_origin(other), "{other}");
        }
    }
}
