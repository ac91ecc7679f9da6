//! Making a client: the address, the token, and what can be wrong with them.

use std::fmt;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;

use super::{CONNECT_TIMEOUT, Client, ClientError, Result};

/// How long submissions and waits go on trying when the server does not say yes or no.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// A client in the making; see [`Client::builder`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    base_url: String,
    token: Option<Secret>,
    traceparent: Option<String>,
    retry_for: Duration,
}

#[derive(Clone)]
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl ClientBuilder {
    /// Sent as a bearer token, to this server and nowhere else; never shown.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Secret(token.into()));
        self
    }

    /// See [`Client::retry_for`].
    #[must_use]
    pub fn retry_for(mut self, span: Duration) -> Self {
        self.retry_for = span;
        self
    }

    /// See [`Client::in_trace`].
    #[must_use]
    pub fn in_trace(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// [`ClientError::Config`] when the address or the token cannot be used.
    pub fn build(self) -> Result<Client> {
        let base = parse_base(&self.base_url)?;
        let token = self.token.as_ref().map(bearer).transpose()?;
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("punctual/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // It speaks plain HTTP only: a machine without certificates will do.
            .tls_certs_only([]);
        // A proxy is for reaching elsewhere; this machine is never behind it.
        if is_loopback(&base) {
            http = http.no_proxy();
        }
        let http = http
            .build()
            .map_err(|e| ClientError::Config(format!("cannot set up the HTTP client: {e}")))?;
        let client = Client { http, base, token, traceparent: None, retry_for: self.retry_for };
        Ok(match self.traceparent {
            Some(context) => client.in_trace(&context),
            None => client,
        })
    }
}

impl Client {
    /// Begins a client of the server at `base_url`, for example `http://127.0.0.1:8080`. A path in
    /// it is kept as a prefix.
    pub fn builder(base_url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            base_url: base_url.into(),
            token: None,
            traceparent: None,
            retry_for: RETRY_FOR,
        }
    }

    /// [`builder`](Self::builder) in one step.
    pub fn new(base_url: &str, token: Option<String>) -> Result<Self> {
        let builder = Self::builder(base_url);
        match token {
            Some(token) => builder.token(token),
            None => builder,
        }
        .build()
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.0.trim()))
        .map_err(|_| ClientError::Config("the token is not visible ASCII".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn parse_base(text: &str) -> Result<Url> {
    let bad = |why: &str| {
        ClientError::Config(format!(
            "the server address {text:?} {why}; write it like http://127.0.0.1:8080"
        ))
    };
    let url = Url::parse(text).map_err(|e| bad(&format!("cannot be read ({e})")))?;
    match url.scheme() {
        "http" if url.has_host() => {}
        "https" => {
            return Err(bad(
                "is https, which this build cannot speak: reach the server over http, or put a \
                 TLS-ending proxy on this machine in between",
            ));
        }
        _ => return Err(bad("is no http address")),
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("has a query or a fragment"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("holds a user name or password, which belongs in a token"));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["http://127.0.0.1:8080", "http://[::1]:1/", "http://jobs.internal/prefix/"] {
            assert!(Client::new(good, None).is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1:8080", "localhost:80", "ftp://x", "http://u:p@x", "http://x?a=1"]
        {
            let error = Client::new(bad, None).unwrap_err().to_string();
            assert!(error.contains("write it like") && !error.contains('\n'), "{error}");
        }
        let tls = Client::new("https://jobs.example.com", None).unwrap_err().to_string();
        assert!(tls.contains("https"), "{tls}");
    }

    #[test]
    fn tokens_do_not_show() {
        let client = Client::new("http://h", Some("s3cret\n".into())).unwrap();
        assert!(!format!("{client:?}").contains("s3cret"));
        let builder = Client::builder("http://h").token("s3cret");
        assert!(!format!("{builder:?}").contains("s3cret"));
        assert!(Client::new("http://h", Some("a\nb".into())).is_err());
    }

    #[test]
    fn only_this_machine_skips_the_proxy() {
        let loopback = |s: &str| is_loopback(&Url::parse(s).unwrap());
        assert!(loopback("http://localhost:1") && loopback("http://127.9.9.9"));
        assert!(loopback("http://[::1]:80") && !loopback("http://10.0.0.1"));
    }
}
