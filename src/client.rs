//! A typed HTTP client of the API: what the command line, the worker runtime and tests speak.
//!
//! It owns how a request is made (address, token, time-outs, idempotency key, preferences) and
//! how an answer is read (a body, a problem, a `Retry-After`). Three methods do more than one
//! exchange: [`Client::submit`] retries under one idempotency key, [`Client::wait_done`] and
//! [`Client::wait_until_done`] follow a job to its end. Everything else is one request and one
//! answer, and its errors say whether trying again can help ([`ClientError::is_transient`]), which
//! problem the server named ([`ClientError::code`]), and whether a job's outcome is lost
//! ([`ClientError::is_gone`]).
//!
//! Invariants:
//! - a submission that is retried carries the same key each time, so it makes one job;
//! - a job that is gone is never submitted again;
//! - `Retry-After` is never undercut, except by a look that the server is asked to hold;
//! - redirects are not followed: the token goes to the configured server and nowhere else.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use punctual::client::{Client, JobResult, Prefer};
//! use punctual::domain::job::RawJson;
//! use punctual::wire::Submit;
//!
//! # async fn order() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("http://127.0.0.1:8080")
//!     .token(std::env::var("PUNCTUAL_TOKEN")?)
//!     .build()?;
//! let report = Submit {
//!     kind: "report.render".into(),
//!     payload: Some(RawJson::write(&serde_json::json!({ "order": 7 }))?),
//!     ..Submit::default()
//! };
//! // The same key makes the same job once, across restarts of this program too.
//! let accepted = match client.submit(&report, Some("report-order-7"), Prefer::ASYNC).await {
//!     Ok(accepted) => accepted,
//!     // It was done, and what came of it is no longer kept: not to be repeated blindly.
//!     Err(error) if error.is_gone() => return Ok(()),
//!     Err(error) => return Err(error.into()),
//! };
//! let seen = client.wait_done(accepted, Some(Duration::from_secs(600))).await?;
//! match seen.job.status.as_str() {
//!     "completed" => match client.result(&seen.job.job_id).await? {
//!         JobResult::Here { bytes, .. } => println!("{} bytes", bytes.len()),
//!         JobResult::Elsewhere(address) => println!("it is at {address}"),
//!     },
//!     "failed" => println!("{:?}", seen.job.error),
//!     "cancelled" => println!("nobody wants it any more"),
//!     _ => println!("not done yet; look again later"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Must not know: the engine, stores, the command line.

mod backoff;
mod builder;
mod error;
mod exchange;
mod headers;
mod leases;
mod retry;
mod submit;
mod wait;

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{self, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};

pub(crate) use backoff::Backoff;
pub use builder::ClientBuilder;
pub use error::ClientError;
pub(crate) use error::{is_transient, root_cause};
pub use headers::Prefer;
pub(crate) use headers::retry_after;

use crate::wire;

type Result<T, E = ClientError> = std::result::Result<T, E>;

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// Only jobs that could have been claimed for longer than their queue allows.
    pub stuck: bool,
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
        pairs.extend(self.stuck.then(|| ("stuck", "true".to_owned())));
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

impl Client {
    /// Every request is a part of the caller's trace: `traceparent` as W3C Trace Context has it, for
    /// example from the environment variable `TRACEPARENT` of a worker's command. Text that no
    /// header can hold is no context.
    #[must_use]
    pub fn in_trace(mut self, traceparent: &str) -> Self {
        self.traceparent = HeaderValue::from_str(traceparent.trim()).ok();
        self
    }

    /// How long [`submit`](Self::submit), [`wait_done`](Self::wait_done) and
    /// [`wait_until_done`](Self::wait_until_done) go on trying without a useful answer. 30 s by default; zero means one try.
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
            return Ok(Poll::Unchanged { retry_after: retry_after(&answer.headers) });
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

    /// `PATCH /v1/queues/{queue}`: settings over the configuration; `null` takes one back. With
    /// `if_match` only if the queue is still of that revision.
    pub async fn set_queue(
        &self,
        name: &str,
        patch: &serde_json::Value,
        if_match: Option<u64>,
    ) -> Result<wire::Queue> {
        let mut call = self.call(Method::PATCH, &["queues", name]).json(patch)?;
        let merge_patch = HeaderValue::from_static("application/merge-patch+json");
        call.headers.insert(header::CONTENT_TYPE, merge_patch);
        if let Some(revision) = if_match {
            call = call.with(header::IF_MATCH, &format!("\"{revision}\""))?;
        }
        self.send(call).await?.read()
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

    /// `POST /v1/workers/{id}/drain`: the worker takes no more work, and leaves.
    pub async fn drain_worker(&self, worker_id: &str) -> Result<wire::Worker> {
        self.post(&["workers", worker_id, "drain"], &serde_json::Map::new()).await
    }

    /// `GET /v1/tasks`.
    pub async fn tasks(&self) -> Result<wire::TaskList> {
        self.get(&["tasks"]).await
    }

    /// `GET /v1/meta`.
    pub async fn meta(&self) -> Result<wire::Meta> {
        self.get(&["meta"]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
