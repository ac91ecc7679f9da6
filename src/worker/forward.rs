//! A handler that posts each job to an HTTP service: payload as the body, answer as the result.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode, Url};

use super::handler::{Context, Handler, Outcome, Stop, cut};
use super::outcome::{MAX_RESULT, json_or_text, too_large};
use crate::client::retry_after;
use crate::domain::job::RawJson;
use crate::wire::{ErrorReport, LeasedJob};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of the start of a failure's body becomes the error's message.
const HEAD: usize = 4 * 1024;
/// A service cannot put a job off for longer: a day is more than any overload lasts.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// Posts each job to one address.
///
/// - body: the payload as JSON (`null` when there is none), `Content-Type: application/json`;
/// - headers: `Punctual-Job-Id`, `Punctual-Root-Job-Id`, `Punctual-Kind`, `Punctual-Queue`,
///   `Punctual-Attempt`, `Punctual-Fence`; `Idempotency-Key`, which is the root job's id and so the
///   same in every attempt and retry; `traceparent` and `tracestate` when the job has a trace;
/// - 2xx completes the job; the body, up to 16 MiB, is its result: JSON if it parses, else a JSON
///   string without the trailing line breaks, none when empty;
/// - 4xx fails it for good, except 408, 425 and 429; these, any other answer and none at all fail
///   the attempt, and `Retry-After` replaces the job's back-off. The error's type is
///   `http-<status>` or `no-answer`, its message the first 4 KiB of the body.
///
/// A redirect is an answer like any other and is not followed. There is no time-out but the
/// lease's and the job's own: when the work should stop, for whatever reason, the connection is
/// closed, which is how the service hears of it. Each job has a connection of its own, because a
/// kept one that the service closes at that very moment would cost the job an attempt.
#[derive(Debug, Clone)]
pub struct Forward {
    http: reqwest::Client,
    url: Url,
}

impl Forward {
    /// `url` is an `http` address without user name and password; the error says what is wrong
    /// with it. Proxies are not used.
    pub fn new(url: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("the address {why}; write it like http://127.0.0.1:3000/run");
        let url = Url::parse(url).map_err(|e| bad(&format!("cannot be read ({e})")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("holds a user name or password, which everybody could read"));
        }
        if url.scheme() != "http" || !url.has_host() {
            return Err(bad("is no http address"));
        }
        let http = reqwest::Client::builder()
            .user_agent(concat!("punctual/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .no_proxy()
            .tls_certs_only([])
            .build()
            .map_err(|e| format!("cannot set up the HTTP client: {e}"))?;
        Ok(Self { http, url })
    }

    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    async fn post(&self, job: LeasedJob) -> Outcome {
        let headers = headers(&job);
        let payload = job.payload.unwrap_or_else(|| RawJson::trusted("null"));
        let body = payload.as_str().to_owned();
        let sent = self.http.post(self.url.clone()).headers(headers).body(body).send();
        match sent.await {
            Ok(response) if response.status().is_success() => completed(response).await,
            Ok(response) => refused(response).await,
            Err(error) => no_answer(&error),
        }
    }
}

#[async_trait]
impl Handler for Forward {
    async fn run(&self, job: LeasedJob, mut context: Context) -> Outcome {
        tokio::select! {
            biased;
            outcome = self.post(job) => outcome,
            told = context.stopped() => match told {
                Stop::Draining => Outcome::Released,
                Stop::Cancelled
                | Stop::LeaseEnding(_)
                | Stop::TimedOut(_)
                | Stop::LeaseLost => Outcome::Cancelled,
            },
        }
    }
}

fn headers(job: &LeasedJob) -> HeaderMap {
    let numbers = (job.attempt.to_string(), job.fence.to_string());
    let pairs = [
        ("punctual-job-id", Some(job.job_id.as_str())),
        ("punctual-root-job-id", Some(job.root_job_id.as_str())),
        ("punctual-kind", Some(job.kind.as_str())),
        ("punctual-queue", Some(job.queue.as_str())),
        ("punctual-attempt", Some(numbers.0.as_str())),
        ("punctual-fence", Some(numbers.1.as_str())),
        ("idempotency-key", Some(job.root_job_id.as_str())),
        ("traceparent", job.traceparent.as_deref()),
        ("tracestate", job.tracestate.as_deref()),
    ];
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in pairs {
        // What no header can hold is left out; ids, names and numbers always fit.
        if let Some(value) = value.and_then(|v| HeaderValue::from_str(v).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

async fn completed(mut response: Response) -> Outcome {
    if response.content_length().is_some_and(|length| length > MAX_RESULT as u64) {
        return too_large("the service's answer has");
    }
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_RESULT => {
                return too_large("the service's answer has");
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Outcome::Completed(json_or_text(&body)),
            Err(error) => return no_answer(&error),
        }
    }
}

async fn refused(mut response: Response) -> Outcome {
    let status = response.status();
    let retry_after = retry_after(response.headers()).map(|pause| pause.min(LONGEST_PAUSE));
    let mut body = Vec::new();
    // The answer is no, whether or not all of its words arrive.
    while body.len() <= HEAD
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk[..chunk.len().min(HEAD + 1)]);
    }
    let text = String::from_utf8_lossy(&body);
    let head = cut(text.trim(), HEAD).trim_end_matches('\u{fffd}');
    let message = if head.is_empty() {
        format!("the service answered {status} and said nothing")
    } else {
        head.to_owned()
    };
    let kind = format!("http-{}", status.as_u16());
    Outcome::Failed {
        error: ErrorReport { kind, message, ..ErrorReport::default() },
        retryable: is_retryable(status),
        retry_after,
    }
}

fn is_retryable(status: StatusCode) -> bool {
    !status.is_client_error() || matches!(status.as_u16(), 408 | 425 | 429)
}

fn no_answer(error: &reqwest::Error) -> Outcome {
    let why = crate::client::root_cause(error);
    Outcome::failed("no-answer", format!("no whole answer from the service: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["http://127.0.0.1:3000", "http://app:80/run?x=1", "http://[::1]:1/"] {
            assert!(Forward::new(good).is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1:80", "https://x", "ftp://x", "http://u:secret@x"] {
            let why = Forward::new(bad).unwrap_err();
            assert!(why.contains("write it like") && !why.contains("secret"), "{why}");
        }
    }

    #[test]
    fn what_can_be_tried_again() {
        for status in [301, 408, 425, 429, 500, 503, 599] {
            assert!(is_retryable(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [400, 404, 409, 410, 422, 451] {
            assert!(!is_retryable(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }

    #[test]
    fn a_job_in_headers() {
        let job = LeasedJob {
            job_id: "j2".into(),
            root_job_id: "j1".into(),
            kind: "k".into(),
            queue: "q".into(),
            attempt: 2,
            fence: 5,
            traceparent: Some("00-t".into()),
            tracestate: Some("a\nb".into()),
            ..LeasedJob::default()
        };
        let headers = headers(&job);
        let of = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        assert_eq!((of("punctual-job-id"), of("idempotency-key")), (Some("j2"), Some("j1")));
        assert_eq!((of("punctual-attempt"), of("punctual-fence")), (Some("2"), Some("5")));
        assert_eq!((of("traceparent"), of("tracestate")), (Some("00-t"), None));
        assert_eq!(of("content-type"), Some("application/json"));
    }
}
