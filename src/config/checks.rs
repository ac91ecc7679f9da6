//! Checks of strings beyond their type. Each error says what is wrong and the next step.

use std::net::SocketAddr;

use super::value::show;

pub(super) fn listen(text: &str) -> Result<(), String> {
    text.parse::<SocketAddr>().map(|_| ()).map_err(|_| {
        format!(
            "{} is not an IP address and a port; write for example \"127.0.0.1:8080\"",
            show(text)
        )
    })
}

pub(super) fn maybe_listen(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { listen(text) }
}

pub(super) fn network(text: &str) -> Result<(), String> {
    text.parse::<ipnet::IpNet>().map(|_| ()).map_err(|_| {
        format!(
            "{} is not a network; write an address and a prefix length, for example \"10.0.0.0/8\", \
             or \"10.0.0.1/32\" for one address",
            show(text)
        )
    })
}

pub(super) fn origin(text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains('*') || text == "null" {
        return Err(format!(
            "{} is not one origin; name each, for example \"https://app.example.com\"",
            show(text)
        ));
    }
    public_url(text)?;
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        let lower = text.to_ascii_lowercase();
        return Err(format!("browsers write origins in lower case; write \"{lower}\""));
    }
    let default = [("http://", ":80"), ("https://", ":443")];
    for (scheme, port) in default {
        if text.starts_with(scheme)
            && let Some(bare) = text.strip_suffix(port)
        {
            return Err(format!("browsers leave out the usual port; write \"{bare}\""));
        }
    }
    Ok(())
}

pub(super) fn public_url(text: &str) -> Result<(), String> {
    const NEXT: &str = "write for example \"https://jobs.example.com\"";
    if text.is_empty() {
        return Ok(());
    }
    let Ok(uri) = text.parse::<hyper::Uri>() else {
        return Err(format!("{} is not a URL; {NEXT}", show(text)));
    };
    let (Some("http" | "https"), Some(host)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("{} is not an absolute http or https URL; {NEXT}", show(text)));
    };
    if host.host().is_empty() {
        return Err(format!("{} names no host; {NEXT}", show(text)));
    }
    if host.as_str().contains('@') {
        return Err(format!("a user name in a public address has no use; {NEXT}"));
    }
    // Compared with the text, for the parser drops a fragment and adds a slash.
    let origin_len = text.find("://").map_or(0, |at| at + 3) + host.as_str().len();
    if text.len() != origin_len {
        let origin = text.get(..origin_len).unwrap_or(text);
        return Err(format!("{} has more than a host; write \"{origin}\"", show(text)));
    }
    Ok(())
}

pub(crate) fn collector_url(text: &str) -> Result<(), String> {
    const NEXT: &str = "write for example \"http://127.0.0.1:4318\"";
    if text.is_empty() {
        return Ok(());
    }
    let Ok(uri) = text.parse::<hyper::Uri>() else {
        return Err(format!("{} is not a URL; {NEXT}", show(text)));
    };
    let (Some("http" | "https"), Some(host)) = (uri.scheme_str(), uri.authority()) else {
        return Err(format!("{} is not an absolute http or https URL; {NEXT}", show(text)));
    };
    if host.host().is_empty() {
        return Err(format!("{} names no host; {NEXT}", show(text)));
    }
    if host.as_str().contains('@') {
        return Err(format!(
            "a user name is not sent; take it out, and set OTEL_EXPORTER_OTLP_HEADERS; {NEXT}"
        ));
    }
    Ok(())
}

pub(super) fn store_url(text: &str) -> Result<(), String> {
    // Never echo other databases' URLs: they may hold a password.
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Err("postgres is not supported yet in this version; use sqlite://PATH".into());
    }
    let Some(path) = text.strip_prefix("sqlite://") else {
        return Err("not the URL of a store; write sqlite://PATH, such as \
                    \"sqlite://punctual.db\""
            .into());
    };
    if path.contains(":memory:") {
        return Err("a store in memory would lose accepted jobs; write sqlite://PATH".into());
    }
    if path.is_empty() {
        return Err("names no file; write sqlite://PATH, such as \"sqlite://punctual.db\"".into());
    }
    if path.contains(['?', '#']) || path.contains(char::is_control) {
        return Err(format!(
            "{} has options or control characters after the path; write sqlite://PATH only",
            show(text)
        ));
    }
    Ok(())
}

pub(super) fn host(text: &str) -> Result<(), String> {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(())
    } else {
        Err(format!(
            "{} is not a host name in lower case, without scheme, port and path; write for \
             example \"files.example.com\"",
            show(text)
        ))
    }
}
