//! One request and its answer: how it is made, sent and read.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Client, ClientError, Prefer, Result, Snapshot, error, headers};

/// How long one exchange may take beyond the time that the server was asked to hold it.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// One request, before it is sent.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Vec<u8>>,
    pub(super) patience: Duration,
}

impl Call {
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Result<Self> {
        let value = HeaderValue::from_str(value).map_err(|_| {
            ClientError::Config(format!("{name} may hold visible ASCII only: {value:?}"))
        })?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Asks the server to hold the request, and allows for it.
    pub(super) fn prefer(mut self, prefer: Prefer) -> Result<Self> {
        self.patience += prefer.wait.unwrap_or_default();
        match prefer.header() {
            Some(value) => self.with(HeaderName::from_static("prefer"), &value),
            None => Ok(self),
        }
    }

    pub(super) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(super) fn query(mut self, pairs: &[(&'static str, String)]) -> Self {
        if !pairs.is_empty() {
            self.url.query_pairs_mut().extend_pairs(pairs);
        }
        self
    }

    pub(super) fn json(mut self, body: &impl Serialize) -> Result<Self> {
        let bytes = serde_json::to_vec(body)
            .map_err(|e| ClientError::Config(format!("the request is not valid JSON: {e}")))?;
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = Some(bytes);
        Ok(self)
    }
}

/// A whole answer that is not a problem.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// For messages: `GET /v1/jobs/…`.
    pub(super) what: String,
}

impl Answer {
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|e| {
            ClientError::Protocol(format!(
                "the answer to {} is not what this client understands ({e}); check that the \
                 address is a Punctual server of the same version",
                self.what
            ))
        })
    }

    pub(super) fn text(&self, name: HeaderName) -> Option<String> {
        Some(self.headers.get(name)?.to_str().ok()?.to_owned())
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot {
            job: self.read()?,
            etag: self.text(header::ETAG),
            retry_after: headers::retry_after(&self.headers),
            replayed: self.headers.get("idempotent-replayed").is_some_and(|v| v == "true"),
        })
    }
}

impl Client {
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T> {
        self.send(self.call(Method::GET, path)).await?.read()
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T> {
        self.post_patiently(path, body, PATIENCE).await
    }

    pub(super) async fn post_patiently<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<T> {
        let call = self.call(Method::POST, path).json(body)?;
        self.send(call.patience(patience)).await?.read()
    }

    /// `path` is below `/v1`; its segments are escaped.
    pub(super) fn call(&self, method: Method, path: &[&str]) -> Call {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        let headers = HeaderMap::new();
        Call { method, url, headers, body: None, patience: PATIENCE }
    }

    pub(super) async fn send(&self, call: Call) -> Result<Answer> {
        let what = format!("{} {}", call.method, call.url.path());
        let patience = call.patience;
        let mut request =
            self.http.request(call.method, call.url).headers(call.headers).timeout(patience);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        if let Some(context) = &self.traceparent {
            request = request.header("traceparent", context);
        }
        if let Some(body) = call.body {
            request = request.body(body);
        }
        let unreachable = |e: &reqwest::Error| error::unreachable(self.base_url(), patience, e);
        let response = request.send().await.map_err(|e| unreachable(&e))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(|e| unreachable(&e))?;
        if status.is_client_error() || status.is_server_error() {
            return Err(error::problem(status, &headers, &body));
        }
        Ok(Answer { status, headers, body, what })
    }
}
