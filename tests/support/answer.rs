//! What a server answers, and what is asked of it again and again: for every suite that speaks
//! HTTP, whatever its client is made of.

use reqwest::header::HeaderMap;
use serde_json::Value;

#[derive(Debug, Clone)]
pub struct Lease {
    pub id: String,
    pub token: String,
    pub fence: u64,
    pub json: Value,
}

impl Lease {
    #[track_caller]
    pub fn of(job: &Value) -> Self {
        Self {
            id: job["job_id"].as_str().expect("an id").to_owned(),
            token: job["lease_token"].as_str().expect("a token").to_owned(),
            fence: job["fence"].as_u64().expect("a fence"),
            json: job.clone(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
    /// `null` when the body is no JSON.
    pub json: Value,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().expect("ASCII"))
    }

    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        let body = String::from_utf8_lossy(&self.bytes);
        assert_eq!(self.status, status, "{body}");
        self
    }

    /// The problem with this status and code.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Self {
        let reply = self.is(status);
        assert_eq!(reply.json["code"], code, "{}", reply.json);
        reply
    }

    /// A 422 whose errors are exactly these, as `pointer code`.
    #[track_caller]
    pub fn wrong(self, errors: &[&str]) -> Self {
        let reply = self.problem(422, "validation-failed");
        assert_eq!(reply.errors(), errors, "{}", reply.json);
        reply
    }

    #[allow(dead_code, reason = "not every suite reads it")]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    #[allow(dead_code, reason = "not every suite reads it")]
    #[track_caller]
    pub fn tag(&self) -> String {
        self.header("etag").expect("a tag").to_owned()
    }

    pub fn errors(&self) -> Vec<String> {
        let text = |item: &Value, name: &str| item[name].as_str().expect("text").to_owned();
        let items = self.json["errors"].as_array().cloned().unwrap_or_default();
        items.iter().map(|i| format!("{} {}", text(i, "pointer"), text(i, "code"))).collect()
    }

    #[track_caller]
    pub fn id(&self) -> String {
        self.json["job_id"].as_str().expect("a job").to_owned()
    }

    #[track_caller]
    pub fn retry_after(&self) -> u64 {
        let text = self.header("retry-after").expect("Retry-After");
        let seconds = text.parse().expect("whole seconds");
        assert!(seconds >= 1);
        seconds
    }
}

/// A scrape.
pub struct Metrics(String);

impl Metrics {
    pub fn of(reply: Reply) -> Self {
        Self(String::from_utf8(reply.bytes).expect("text"))
    }

    /// The sum over the series with these labels, written `name="value"`; 0 when there is none.
    pub fn sum(&self, metric: &str, labels: &[&str]) -> f64 {
        let series = self.0.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, rest) = series.split_once('{').unwrap_or((series, ""));
            let fits = name == metric && labels.iter().all(|l| rest.contains(l));
            fits.then(|| value.parse::<f64>().expect("a number"))
        });
        series.sum()
    }
}

/// So many milliseconds from now by the wall, as a client writes moments. All have one form, so
/// that they compare as text.
#[expect(clippy::disallowed_methods, reason = "a client's clock is its own")]
pub fn in_millis(millis: i64) -> String {
    format!("{:.3}", jiff::Timestamp::now() + jiff::SignedDuration::from_millis(millis))
}
