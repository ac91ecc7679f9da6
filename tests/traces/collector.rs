//! A collector: takes OTLP over HTTP, keeps what it got, and misbehaves when told.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use prost::Message;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::server::until;

pub type Attributes = BTreeMap<String, Value>;

/// A span as it came.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: String,
    /// `internal`, `server`, `producer`, `consumer`.
    pub kind: &'static str,
    pub trace: String,
    pub id: String,
    /// Empty: a root.
    pub parent: String,
    pub start: u64,
    pub end: u64,
    pub attributes: Attributes,
    pub links: Vec<Link>,
    /// What went wrong, if it did.
    pub error: Option<String>,
    pub resource: Attributes,
    pub scope: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub trace: String,
    pub span: String,
    pub what: String,
}

impl Span {
    #[track_caller]
    pub fn says(&self, key: &str) -> &Value {
        self.attributes.get(key).unwrap_or_else(|| panic!("no {key} in {self:#?}"))
    }

    pub fn link(&self, what: &str) -> Option<&Link> {
        self.links.iter().find(|l| l.what == what)
    }

    /// As `traceparent` names it.
    pub fn context(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }
}

/// What it does with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Takes,
    /// Takes the batch and says that so many of it were refused.
    Refuses(i64),
    /// Answers 400, which is not tried again.
    Fails,
    /// Says nothing until the mood changes.
    Hangs,
}

struct Inner {
    spans: Mutex<Vec<Span>>,
    headers: Mutex<Vec<HeaderMap>>,
    mood: watch::Sender<Mood>,
}

pub struct Collector {
    inner: Arc<Inner>,
    pub port: u16,
    serving: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Collector {
    pub async fn start() -> Self {
        Self::on(0).await
    }

    pub async fn on(port: u16) -> Self {
        let inner = Arc::new(Inner {
            spans: Mutex::default(),
            headers: Mutex::default(),
            mood: watch::Sender::new(Mood::Takes),
        });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let app = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&inner));
        let serving = tokio::spawn(async move {
            axum::serve(listener, app).await.expect("it serves");
        });
        Self { inner, port, serving }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn is(&self, mood: Mood) {
        self.inner.mood.send_replace(mood);
    }

    pub fn spans(&self) -> Vec<Span> {
        self.inner.spans.lock().expect("spans").clone()
    }

    /// Of each request.
    pub fn headers(&self) -> Vec<HeaderMap> {
        self.inner.headers.lock().expect("headers").clone()
    }

    /// The spans of this name, once there are so many; in the order in which they began.
    pub async fn named(&self, name: &str, many: usize) -> Vec<Span> {
        until(&format!("{many} spans {name:?}"), || async {
            let mut spans = self.spans();
            spans.retain(|s| s.name == name);
            spans.sort_by_key(|s| s.start);
            (spans.len() >= many).then_some(spans)
        })
        .await
    }

    pub async fn one(&self, name: &str) -> Span {
        let mut spans = self.named(name, 1).await;
        assert_eq!(spans.len(), 1, "{spans:#?}");
        spans.remove(0)
    }
}

async fn take(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    let mut mood = inner.mood.subscribe();
    let now = *mood.wait_for(|mood| *mood != Mood::Hangs).await.expect("the test goes on");
    if now == Mood::Fails {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let body = if headers.get(header::CONTENT_ENCODING).is_some_and(|how| how == "gzip") {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).expect("gzip");
        plain.into()
    } else {
        body
    };
    let batch = ExportTraceServiceRequest::decode(body).expect("OTLP");
    inner.headers.lock().expect("headers").push(headers);
    inner.spans.lock().expect("spans").extend(read(batch));
    let partial = match now {
        Mood::Refuses(rejected_spans) => {
            Some(ExportTracePartialSuccess { rejected_spans, error_message: "too much".to_owned() })
        }
        Mood::Takes | Mood::Fails | Mood::Hangs => None,
    };
    let answer = ExportTraceServiceResponse { partial_success: partial }.encode_to_vec();
    ([(header::CONTENT_TYPE, "application/x-protobuf")], answer).into_response()
}

fn read(batch: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for of_resource in batch.resource_spans {
        let resource = attributes(of_resource.resource.expect("a resource").attributes);
        for of_scope in of_resource.scope_spans {
            let scope = of_scope.scope.expect("a scope").name;
            for span in of_scope.spans {
                let hex = |bytes: &[u8]| {
                    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat()
                };
                let status = span.status.filter(|status| status.code == 2);
                spans.push(Span {
                    name: span.name,
                    kind: ["unspecified", "internal", "server", "client", "producer", "consumer"]
                        [span.kind as usize],
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                    attributes: attributes(span.attributes),
                    links: span
                        .links
                        .into_iter()
                        .map(|link| Link {
                            trace: hex(&link.trace_id),
                            span: hex(&link.span_id),
                            what: attributes(link.attributes)["punctual.link"]
                                .as_str()
                                .expect("text")
                                .to_owned(),
                        })
                        .collect(),
                    error: status.map(|status| status.message),
                    resource: resource.clone(),
                    scope: scope.clone(),
                });
            }
        }
    }
    spans
}

#[expect(clippy::wildcard_enum_match_arm, reason = "anything else is a failure")]
fn attributes(all: Vec<KeyValue>) -> Attributes {
    let value = |value: Any| match value {
        Any::StringValue(text) => json!(text),
        Any::BoolValue(yes) => json!(yes),
        Any::IntValue(n) => json!(n),
        Any::DoubleValue(x) => json!(x),
        Any::ArrayValue(items) => {
            let text = |item: Any| match item {
                Any::StringValue(text) => json!(text),
                other => panic!("unexpected {other:?}"),
            };
            items.values.into_iter().filter_map(|v| v.value).map(text).collect()
        }
        other => panic!("unexpected {other:?}"),
    };
    all.into_iter()
        .map(|kv| (kv.key, value(kv.value.expect("a value").value.expect("a value"))))
        .collect()
}
