//! One simulated client: one HTTP/1.1 connection that stays open.
//!
//! The connection is driven by the task that uses it, not by a task of its own: a load client
//! shares the machine with the server it measures, so every wake-up it saves makes the numbers
//! more the server's and less its own. Nothing here retries: a request whose answer is lost must
//! be seen as such, or the delivery check would prove nothing.

use std::future::{Future as _, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::cli::{Failure, UNREACHABLE};
use crate::wire;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where requests go and as whom.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) addr: SocketAddr,
    pub(crate) host: HeaderValue,
    pub(crate) token: Option<HeaderValue>,
}

/// A request made once and sent many times.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    pub(crate) fn get(target: &Target, path: &str) -> Result<Self, Failure> {
        let uri = path.parse().map_err(|e| Failure::usage(format!("{path} is no path: {e}")))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, target.host.clone());
        if let Some(token) = &target.token {
            headers.insert(header::AUTHORIZATION, token.clone());
        }
        Ok(Self { method: Method::GET, uri, headers, body: Bytes::new() })
    }

    pub(crate) fn post(target: &Target, path: &str, body: Bytes) -> Result<Self, Failure> {
        let mut call = Self::get(target, path)?;
        call.method = Method::POST;
        call.body = body;
        let json = HeaderValue::from_static("application/json");
        call.headers.insert(header::CONTENT_TYPE, json);
        Ok(call)
    }

    /// Asks for the answer at once, without the server's synchronous window (RFC 7240).
    pub(crate) fn respond_async(mut self) -> Self {
        let prefer = HeaderValue::from_static("respond-async");
        self.headers.insert(HeaderName::from_static("prefer"), prefer);
        self
    }

    pub(crate) fn with_body(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    pub(crate) fn request(&self) -> Request<Full<Bytes>> {
        self.with_body(self.body.clone())
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body of an answer with this status; another status is the server's no.
    pub(crate) fn read<T: DeserializeOwned>(&self, status: StatusCode) -> Result<T, Failure> {
        if self.status == status { json(&self.body) } else { Err(self.unexpected()) }
    }

    /// The failure that this answer is where another was due.
    pub(crate) fn unexpected(&self) -> Failure {
        Failure::no(format!("the server answered {}", self.complaint()))
    }

    /// Status and what the problem says, in one line.
    pub(crate) fn complaint(&self) -> String {
        let problem: wire::Problem = serde_json::from_slice(&self.body).unwrap_or_default();
        let detail = problem.detail.unwrap_or(problem.title);
        format!("{} {} {detail}", self.status.as_u16(), problem.code).trim_end().to_owned()
    }

    /// Whether the server is merely out of capacity, or we out of our share.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
    }
}

/// Reads a body that the contract describes.
pub(crate) fn json<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|e| {
        Failure::no(format!("the server's answer cannot be read: {e}; is it a punctual server?"))
    })
}

/// The failure of a server that is not there, or no longer.
pub(crate) fn gone(message: impl Into<String>) -> Failure {
    Failure { message: message.into(), code: UNREACHABLE }
}

type Driver = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// One open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    target: Arc<Target>,
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once the server has closed.
    driver: Option<Pin<Box<Driver>>>,
}

impl Connection {
    pub(crate) async fn open(target: &Arc<Target>) -> Result<Self, Failure> {
        let addr = target.addr;
        let cannot = |why: String| gone(format!("cannot connect to {addr}: {why}"));
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(addr))
            .await
            .map_err(|_| cannot("no answer within 5 s".to_owned()))?
            .map_err(|e| cannot(e.to_string()))?;
        stream.set_nodelay(true).map_err(|e| cannot(e.to_string()))?;
        let (sender, driver) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| cannot(e.to_string()))?;
        Ok(Self { target: Arc::clone(target), sender, driver: Some(Box::pin(driver)) })
    }

    /// As many connections as asked for.
    pub(crate) async fn open_many(
        target: &Arc<Target>,
        count: usize,
    ) -> Result<Vec<Self>, Failure> {
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(Self::open(target).await?);
        }
        Ok(all)
    }

    /// Sends a request and reads the whole answer. One that the server closed after the last
    /// answer is opened again first.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Failure> {
        if self.driver.is_none() {
            *self = Self::open(&self.target).await?;
        }
        let Self { target, sender, driver } = self;
        let lost = |why: &dyn std::fmt::Display| {
            gone(format!("{} went away in the middle of a request: {why}", target.addr))
        };
        let mut exchange = pin!(async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Answer { status, body })
        });
        poll_fn(|context| {
            if let Poll::Ready(done) = exchange.as_mut().poll(context) {
                return Poll::Ready(done.map_err(|e| lost(&e)));
            }
            let ended = match driver.as_mut().map(|d| d.as_mut().poll(context)) {
                Some(Poll::Pending) => None,
                Some(Poll::Ready(Ok(()))) | None => Some("the connection was closed".to_owned()),
                Some(Poll::Ready(Err(e))) => Some(e.to_string()),
            };
            if ended.is_some() {
                *driver = None;
            }
            // The driver may just have read the answer: no need to be woken for it.
            match (exchange.as_mut().poll(context), ended) {
                (Poll::Ready(done), _) => Poll::Ready(done.map_err(|e| lost(&e))),
                (Poll::Pending, Some(why)) => Poll::Ready(Err(lost(&why))),
                (Poll::Pending, None) => Poll::Pending,
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    async fn canned(answers: Vec<&'static str>) -> Arc<Target> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut seen = Vec::new();
                while !seen.ends_with(b"{}") {
                    stream.read_buf(&mut seen).await.unwrap();
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Arc::new(Target { addr, host: HeaderValue::from_static("localhost"), token: None })
    }

    fn call(target: &Target) -> Call {
        Call::post(target, "/v1/jobs", Bytes::from_static(b"{}")).unwrap().respond_async()
    }

    #[tokio::test]
    async fn an_answer_is_read_whole_and_a_closed_connection_opened_again() {
        let full = "HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: 14\r\n\r\n{\"job_id\":\"a\"}";
        let target = canned(vec![full, full]).await;
        let mut connection = Connection::open(&target).await.unwrap();
        for _ in 0..2 {
            let answer = connection.exchange(call(&target).request()).await.unwrap();
            let job: wire::Job = answer.read(StatusCode::ACCEPTED).unwrap();
            assert_eq!(job.job_id, "a");
        }
    }

    #[tokio::test]
    async fn a_server_that_dies_is_said_to_be_gone() {
        let target = canned(vec!["HTTP/1.1 202 Acc"]).await;
        let mut connection = Connection::open(&target).await.unwrap();
        let failure = connection.exchange(call(&target).request()).await.unwrap_err();
        assert_eq!(failure.code, UNREACHABLE);
        assert!(failure.message.contains("went away"), "{}", failure.message);
    }

    #[test]
    fn a_refusal_is_told_from_a_no() {
        let answer = |status| Answer {
            status,
            body: Bytes::from_static(br#"{"code":"queue-full","title":"Full","status":503}"#),
        };
        let full = answer(StatusCode::SERVICE_UNAVAILABLE);
        assert!(full.is_refusal());
        assert_eq!(full.complaint(), "503 queue-full Full");
        assert!(!answer(StatusCode::NOT_FOUND).is_refusal());
        assert!(full.read::<wire::Job>(StatusCode::OK).is_err());
    }
}
