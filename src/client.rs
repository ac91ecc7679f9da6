//! A typed HTTP client of the API: what the command line, the worker runtime and tests speak.
//!
//! It owns how a request is made (address, token, time-outs, idempotency key, preferences) and
//! how an answer is read (a body, a problem, a `Retry-After`). Two methods do more than one
//! exchange: [`Client::submit`] retries under one idempotency key, and
//! [`Client::wait_until_done`] follows a job to its end. Everything else is one request and one
//! answer, and its errors say whether trying again can help ([`ClientError::is_transient`]).
//!
//! Invariants:
//! - a submission that is retried carries the same key each time, so it makes one job;
//! - `Retry-After` is never undercut;
//! - redirects are not followed: the token goes to the configured server and nowhere else.
//!
//! Must not know: the engine, stores, the command line.

mod backoff;
mod error;
mod headers;
mod submit;
mod wait;

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use backoff::Backoff;
pub use error::ClientError;
pub(crate) use error::is_transient;
pub use headers::Prefer;

use crate::wire;

type Result<T, E = ClientError> = std::result::Result<T, E>;

/// How long one exchange may take beyond the time that the server was asked to hold it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long submissions and waits go on trying when the server does not say yes or no.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// A client of one server. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
    retry_for: Duration,
}

/// A job as one answer showed it.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub job: wire::Job,
    /// To be sent back as `If-None-Match`.
    pub etag: Option<String>,
    /// When the server advises to look again; absent when the job is done.
    pub retry_after: Option<Duration>,
    /// Whether a submission found the job already there under its idempotency key.
    pub replayed: bool,
}

/// The answer to a conditional read of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Poll {
    Changed(Box<Snapshot>),
    Unchanged { retry_after: Option<Duration> },
}

/// A job's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobResult {
    Here {
        content_type: String,
        bytes: Bytes,
    },
    /// The worker stored it at this address. It is fetched without our token.
    Elsewhere(String),
}

/// Filters of `GET /v1/jobs`; all that are given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    pub status: Option<String>,
    pub kind: Option<String>,
    pub queue: Option<String>,
    pub tag: Option<String>,
    pub pending_reason: Option<String>,
    pub error_type: Option<String>,
    /// RFC 3339, like the next two.
    pub created_after: Option<String>,
    pub created_before: Option<String>,
    pub finished_after: Option<String>,
    /// 1 to 1000; the server's default when absent.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl ListQuery {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let texts = [
            ("status", &self.status),
            ("kind", &self.kind),
            ("queue", &self.queue),
            ("tag", &self.tag),
            ("pending_reason", &self.pending_reason),
            ("error_type", &self.error_type),
            ("created_after", &self.created_after),
            ("created_before", &self.created_before),
            ("finished_after", &self.finished_after),
            ("cursor", &self.cursor),
        ];
        let mut pairs: Vec<_> =
            texts.into_iter().filter_map(|(k, v)| v.clone().map(|v| (k, v))).collect();
        pairs.extend(self.limit.map(|n| ("limit", n.to_string())));
        pairs
    }
}

/// Filters of `GET /v1/episodes`; all that are given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EpisodesQuery {
    pub queue: Option<String>,
    pub kind: Option<String>,
    /// Only those that go on, or only those that have ended.
    pub open: Option<bool>,
    /// RFC 3339: only those that go on, or ended later.
    pub since: Option<String>,
    /// 1 to 1000; the server's default when absent.
    pub limit: Option<u32>,
}

impl EpisodesQuery {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let pairs = [
            ("queue", self.queue.clone()),
            ("kind", self.kind.clone()),
            ("open", self.open.map(|open| open.to_string())),
            ("since", self.since.clone()),
            ("limit", self.limit.map(|n| n.to_string())),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// One request, before it is sent.
struct Call {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    patience: Duration,
}

impl Call {
    fn with(mut self, name: HeaderName, value: &str) -> Result<Self> {
        let value = HeaderValue::from_str(value).map_err(|_| {
            ClientError::Config(format!("{name} may hold visible ASCII only: {value:?}"))
        })?;
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Asks the server to hold the request, and allows for it.
    fn prefer(mut self, prefer: Prefer) -> Result<Self> {
        self.patience += prefer.wait.unwrap_or_default();
        match prefer.header() {
            Some(value) => self.with(HeaderName::from_static("prefer"), &value),
            None => Ok(self),
        }
    }

    fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn query(mut self, pairs: &[(&'static str, String)]) -> Self {
        if !pairs.is_empty() {
            self.url.query_pairs_mut().extend_pairs(pairs);
        }
        self
    }

    fn json(mut self, body: &impl Serialize) -> Result<Self> {
        let bytes = serde_json::to_vec(body)
            .map_err(|e| ClientError::Config(format!("the request is not valid JSON: {e}")))?;
        self.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.body = Some(bytes);
        Ok(self)
    }
}

/// A whole answer that is not a problem.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// For messages: `GET /v1/jobs/…`.
    what: String,
}

impl Answer {
    fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|e| {
            ClientError::Protocol(format!(
                "the answer to {} is not what this client understands ({e}); check that the \
                 address is a Punctual server of the same version",
                self.what
            ))
        })
    }

    fn text(&self, name: HeaderName) -> Option<String> {
        Some(self.headers.get(name)?.to_str().ok()?.to_owned())
    }

    fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot {
            job: self.read()?,
            etag: self.text(header::ETAG),
            retry_after: headers::retry_after(&self.headers),
            replayed: self.headers.get("idempotent-replayed").is_some_and(|v| v == "true"),
        })
    }
}

impl Client {
    /// A client of the server at `base_url`, for example `http://127.0.0.1:8080`. A path in it is
    /// kept as a prefix. `token` is sent as a bearer token.
    pub fn new(base_url: &str, token: Option<String>) -> Result<Self> {
        let base = parse_base(base_url)?;
        let token = token
            .map(|t| {
                let mut value = HeaderValue::from_str(&format!("Bearer {}", t.trim()))
                    .map_err(|_| ClientError::Config("the token is not visible ASCII".into()))?;
                value.set_sensitive(true);
                Ok::<_, ClientError>(value)
            })
            .transpose()?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("punctual/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            // It speaks plain HTTP only: a machine without certificates will do.
            .tls_certs_only([]);
        // A proxy is for reaching elsewhere; this machine is never behind it.
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|e| ClientError::Config(format!("cannot set up the HTTP client: {e}")))?;
        Ok(Self { http, base, token, traceparent: None, retry_for: RETRY_FOR })
    }

    /// Every request is a part of the caller's trace: `traceparent` as W3C Trace Context has it, for
    /// example from the environment variable `TRACEPARENT` of a worker's command. Text that no
    /// header can hold is no context.
    #[must_use]
    pub fn in_trace(mut self, traceparent: &str) -> Self {
        self.traceparent = HeaderValue::from_str(traceparent.trim()).ok();
        self
    }

    /// How long [`submit`](Self::submit) and [`wait_until_done`](Self::wait_until_done) go on
    /// trying without a useful answer. 30 s by default; zero means one try.
    #[must_use]
    pub fn retry_for(mut self, span: Duration) -> Self {
        self.retry_for = span;
        self
    }

    /// The server's address, without a trailing slash.
    pub fn base_url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// `POST /v1/jobs`, once. [`submit`](Self::submit) is the one that retries.
    pub async fn submit_once(
        &self,
        job: &wire::Submit,
        key: Option<&str>,
        prefer: Prefer,
    ) -> Result<Snapshot> {
        let mut call = self.call(Method::POST, &["jobs"]).prefer(prefer)?.json(job)?;
        if let Some(key) = key {
            let name = HeaderName::from_static("idempotency-key");
            call = call.with(name, &headers::quoted(key))?;
        }
        self.send(call).await?.snapshot()
    }

    /// `GET /v1/jobs/{id}`.
    ///
    /// With `wait` (whole seconds, at most 50) the server holds the request: until the job
    /// differs from `if_none_match` when that is given, else until it is done.
    pub async fn job(
        &self,
        id: &str,
        wait: Option<Duration>,
        if_none_match: Option<&str>,
    ) -> Result<Poll> {
        let prefer = Prefer { wait, respond_async: false };
        let mut call = self.call(Method::GET, &["jobs", id]).prefer(prefer)?;
        if let Some(etag) = if_none_match {
            call = call.with(header::IF_NONE_MATCH, etag)?;
        }
        let answer = self.send(call).await?;
        if answer.status == StatusCode::NOT_MODIFIED {
            return Ok(Poll::Unchanged { retry_after: headers::retry_after(&answer.headers) });
        }
        Ok(Poll::Changed(Box::new(answer.snapshot()?)))
    }

    /// `GET /v1/jobs/{id}`, just the job.
    pub async fn show(&self, id: &str) -> Result<wire::Job> {
        self.get(&["jobs", id]).await
    }

    /// `GET /v1/jobs/{id}?include=payload`.
    pub async fn job_with_payload(&self, id: &str) -> Result<wire::Job> {
        let include = [("include", "payload".to_owned())];
        self.send(self.call(Method::GET, &["jobs", id]).query(&include)).await?.read()
    }

    /// `GET /v1/jobs`: one page, newest first.
    pub async fn list(&self, query: &ListQuery) -> Result<wire::JobList> {
        self.send(self.call(Method::GET, &["jobs"]).query(&query.pairs())).await?.read()
    }

    /// `POST /v1/jobs/{id}/cancel`. The job is `done` when it is cancelled already; otherwise its
    /// worker has been asked to stop.
    pub async fn cancel(&self, id: &str, request: &wire::CancelRequest) -> Result<wire::Job> {
        self.post(&["jobs", id, "cancel"], request).await
    }

    /// `DELETE /v1/jobs/{id}`: forgets a finished job.
    pub async fn delete(&self, id: &str) -> Result<()> {
        self.send(self.call(Method::DELETE, &["jobs", id])).await.map(drop)
    }

    /// `GET /v1/jobs/{id}/timeline`.
    pub async fn timeline(&self, id: &str) -> Result<wire::Timeline> {
        self.get(&["jobs", id, "timeline"]).await
    }

    /// `GET /v1/jobs/{id}/result`: exactly the bytes that the worker gave.
    pub async fn result(&self, id: &str) -> Result<JobResult> {
        let answer = self.send(self.call(Method::GET, &["jobs", id, "result"])).await?;
        if answer.status == StatusCode::SEE_OTHER {
            let place = answer.text(header::LOCATION).ok_or_else(|| {
                ClientError::Protocol(format!("{} redirects nowhere", answer.what))
            })?;
            return Ok(JobResult::Elsewhere(place));
        }
        Ok(JobResult::Here {
            content_type: answer.text(header::CONTENT_TYPE).unwrap_or_default(),
            bytes: answer.body,
        })
    }

    /// `POST /v1/claims`.
    pub async fn claim(&self, claim: &wire::Claim) -> Result<wire::Claimed> {
        let held = Duration::try_from_secs_f64(claim.wait_seconds.unwrap_or(0.0));
        let patience = PATIENCE + held.unwrap_or_default();
        self.post_patiently(&["claims"], claim, patience).await
    }

    /// `POST /v1/jobs/{id}/heartbeat`.
    pub async fn heartbeat(
        &self,
        id: &str,
        beat: &wire::Heartbeat,
    ) -> Result<wire::HeartbeatAnswer> {
        self.post(&["jobs", id, "heartbeat"], beat).await
    }

    /// `POST /v1/heartbeats`, given up after `patience`: a late answer is of no use to a lease.
    pub async fn heartbeats(
        &self,
        beats: &wire::Heartbeats,
        patience: Duration,
    ) -> Result<wire::HeartbeatsAnswer> {
        self.post_patiently(&["heartbeats"], beats, patience).await
    }

    /// `POST /v1/settlements`.
    pub async fn settle(&self, settlements: &wire::Settlements) -> Result<wire::SettlementsAnswer> {
        let wait = settlements.claim.as_ref().and_then(|c| c.wait_seconds).unwrap_or(0.0);
        let patience = PATIENCE + Duration::try_from_secs_f64(wait).unwrap_or_default();
        self.post_patiently(&["settlements"], settlements, patience).await
    }

    /// `POST /v1/jobs/{id}/complete`.
    pub async fn complete(&self, id: &str, outcome: &wire::Complete) -> Result<wire::Job> {
        self.post(&["jobs", id, "complete"], outcome).await
    }

    /// `POST /v1/jobs/{id}/fail`.
    pub async fn fail(&self, id: &str, outcome: &wire::Fail) -> Result<wire::Job> {
        self.post(&["jobs", id, "fail"], outcome).await
    }

    /// `POST /v1/jobs/{id}/release`.
    pub async fn release(&self, id: &str, outcome: &wire::Release) -> Result<wire::Job> {
        self.post(&["jobs", id, "release"], outcome).await
    }

    /// `POST /v1/jobs/{id}/cancelled`: the worker has stopped, as it was asked to.
    pub async fn agree_to_cancel(
        &self,
        id: &str,
        outcome: &wire::AgreeToCancel,
    ) -> Result<wire::Job> {
        self.post(&["jobs", id, "cancelled"], outcome).await
    }

    /// `POST /v1/workers/{id}/goodbye`: every lease left is released, uncounted.
    pub async fn goodbye(&self, worker_id: &str) -> Result<()> {
        let call = self.call(Method::POST, &["workers", worker_id, "goodbye"]);
        self.send(call.patience(CONNECT_TIMEOUT)).await.map(drop)
    }

    /// `GET /v1/queues`.
    pub async fn queues(&self) -> Result<wire::QueueList> {
        self.get(&["queues"]).await
    }

    /// `GET /v1/queues/{queue}`.
    pub async fn queue(&self, name: &str) -> Result<wire::Queue> {
        self.get(&["queues", name]).await
    }

    /// `POST /v1/queues/{queue}/pause`: claims stop, submissions and running jobs go on.
    pub async fn pause(&self, name: &str, request: &wire::Pause) -> Result<wire::Queue> {
        self.post(&["queues", name, "pause"], request).await
    }

    /// `POST /v1/queues/{queue}/resume`.
    pub async fn resume(&self, name: &str) -> Result<wire::Queue> {
        self.post(&["queues", name, "resume"], &serde_json::Map::new()).await
    }

    /// `GET /v1/queues/{queue}/explain`: why its jobs are not moving.
    pub async fn explain_queue(&self, name: &str) -> Result<wire::QueueExplanation> {
        self.get(&["queues", name, "explain"]).await
    }

    /// `GET /v1/jobs/{id}/explain`: why this job is not moving.
    pub async fn explain_job(&self, id: &str) -> Result<wire::JobExplanation> {
        self.get(&["jobs", id, "explain"]).await
    }

    /// `GET /v1/episodes`: those that go on, then those that ended, latest first.
    pub async fn episodes(&self, query: &EpisodesQuery) -> Result<wire::EpisodeList> {
        self.send(self.call(Method::GET, &["episodes"]).query(&query.pairs())).await?.read()
    }

    /// `GET /v1/kinds`.
    pub async fn kinds(&self) -> Result<wire::KindList> {
        self.get(&["kinds"]).await
    }

    /// `GET /v1/workers`.
    pub async fn workers(&self) -> Result<wire::WorkerList> {
        self.get(&["workers"]).await
    }

    /// `GET /v1/tasks`.
    pub async fn tasks(&self) -> Result<wire::TaskList> {
        self.get(&["tasks"]).await
    }

    /// `GET /v1/meta`.
    pub async fn meta(&self) -> Result<wire::Meta> {
        self.get(&["meta"]).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T> {
        self.send(self.call(Method::GET, path)).await?.read()
    }

    async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T> {
        self.post_patiently(path, body, PATIENCE).await
    }

    async fn post_patiently<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
        patience: Duration,
    ) -> Result<T> {
        let call = self.call(Method::POST, path).json(body)?;
        self.send(call.patience(patience)).await?.read()
    }

    /// `path` is below `/v1`; its segments are escaped.
    fn call(&self, method: Method, path: &[&str]) -> Call {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        let headers = HeaderMap::new();
        Call { method, url, headers, body: None, patience: PATIENCE }
    }

    async fn send(&self, call: Call) -> Result<Answer> {
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
    fn paths_are_escaped_below_the_prefix() {
        let client = Client::new("http://h:1/jobs/", None).unwrap();
        let url = client.call(Method::GET, &["jobs", "a/b?c", "result"]).url;
        assert_eq!(url.as_str(), "http://h:1/jobs/v1/jobs/a%2Fb%3Fc/result");
        assert_eq!(client.base_url(), "http://h:1/jobs");
        let plain = Client::new("http://h:1", None).unwrap();
        let query = ListQuery { limit: Some(5), tag: Some("a b".into()), ..ListQuery::default() };
        let url = plain.call(Method::GET, &["jobs"]).query(&query.pairs()).url;
        assert_eq!(url.as_str(), "http://h:1/v1/jobs?tag=a+b&limit=5");
        let query = EpisodesQuery { open: Some(true), limit: Some(5), ..EpisodesQuery::default() };
        let url = plain.call(Method::GET, &["episodes"]).query(&query.pairs()).url;
        assert_eq!(url.as_str(), "http://h:1/v1/episodes?open=true&limit=5");
    }

    #[test]
    fn tokens_do_not_show() {
        let client = Client::new("http://h", Some("s3cret\n".into())).unwrap();
        assert!(!format!("{client:?}").contains("s3cret"));
        assert!(Client::new("http://h", Some("a\nb".into())).is_err());
    }

    #[test]
    fn only_this_machine_skips_the_proxy() {
        let loopback = |s: &str| is_loopback(&Url::parse(s).unwrap());
        assert!(loopback("http://localhost:1") && loopback("http://127.9.9.9"));
        assert!(loopback("http://[::1]:80") && !loopback("http://10.0.0.1"));
    }
}
