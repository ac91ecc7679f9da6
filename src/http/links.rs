//! Absolute addresses of what the API shows.

use axum::http::HeaderValue;
use axum::http::request::Parts;

use super::Settings;
use super::forwarded::{Origin, Peer};
use super::headers;
use crate::domain::id::JobId;

/// Scheme and host, without a trailing slash: as configured, else as the client wrote them, by its
/// own or a trusted proxy's word.
#[derive(Debug, Clone)]
pub(super) struct Base(String);

impl Base {
    pub(super) fn of(settings: &Settings, parts: &Parts) -> Self {
        if let Some(url) = &settings.public_url {
            return Self(url.clone());
        }
        let peer = parts.extensions.get::<Peer>().copied();
        let origin = Origin::read(&settings.trusted_proxies, peer, &parts.headers);
        let host = headers::host(parts.version, &parts.uri, &parts.headers).ok().flatten();
        let host = origin.host.as_deref().or(host).unwrap_or("localhost");
        Self(format!("{}://{host}", origin.scheme.unwrap_or("http")))
    }

    /// The address of a path, which starts with a slash.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    pub(super) fn job(&self, id: JobId) -> String {
        format!("{}/v1/jobs/{id}", self.0)
    }

    /// The value of a `Link` to the job's status.
    pub(super) fn monitor(&self, id: JobId) -> HeaderValue {
        let link = format!("<{}>; rel=\"monitor\"", self.job(id));
        HeaderValue::try_from(link).unwrap_or(HeaderValue::from_static("</>; rel=\"monitor\""))
    }
}
