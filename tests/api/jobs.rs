//! What holds for every answer, and for every job in an answer: the promises of the reference,
//! checked wherever a test happens to see one.

use std::collections::HashMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::kit::Reply;

const STATUSES: [&str; 5] = ["pending", "running", "completed", "failed", "cancelled"];
const REASONS: [&str; 7] = [
    "scheduled",
    "retry_backoff",
    "queue_paused",
    "no_workers",
    "concurrency_limited",
    "rate_limited",
    "queued",
];
const OUTCOMES: [&str; 6] =
    ["completed", "failed", "timed_out", "lease_expired", "released", "cancelled"];

/// Every member that a job may have.
const MEMBERS: [&str; 38] = [
    "job_id",
    "status",
    "done",
    "status_url",
    "kind",
    "queue",
    "priority",
    "pending_reason",
    "attempt",
    "max_attempts",
    "version",
    "created_at",
    "run_at",
    "start_by",
    "started_at",
    "updated_at",
    "finished_at",
    "expires_at",
    "progress",
    "cancel_requested_at",
    "cancel_reason",
    "cancelled_by",
    "last_error",
    "error",
    "result",
    "result_url",
    "result_content_type",
    "result_size",
    "root_job_id",
    "retry_of",
    "retried_as",
    "metadata",
    "tags",
    "payload",
    "attempts",
    "links",
    "trace",
    "next_cursor",
];

/// Request id, date, caching, and the form of every problem.
#[track_caller]
pub fn check_answer(method: &Method, path: &str, reply: &Reply) {
    let shown = String::from_utf8_lossy(&reply.bytes);
    let what = format!("{method} {path}: {} {shown}", reply.status);
    let id = reply.header("x-request-id").unwrap_or_else(|| panic!("no X-Request-Id: {what}"));
    assert!(!id.is_empty() && reply.header("date").is_some(), "{what}");
    let is_status = matches!(*method, Method::GET | Method::HEAD)
        && path.strip_prefix("/v1/jobs/").is_some_and(|rest| !rest.contains('/'))
        && matches!(reply.status, 200 | 303 | 304);
    let is_documentation =
        ["/openapi.json", "/docs", "/problems/"].iter().any(|start| path.starts_with(start));
    let caching = match reply.status {
        _ if is_status => "private, no-cache",
        200 | 304 if is_documentation => "public, max-age=300",
        _ => "no-store",
    };
    assert_eq!(reply.header("cache-control"), Some(caching), "{what}");
    if reply.status >= 400 && *method != Method::HEAD {
        check_problem(reply.status, reply.header("content-type"), Some(id), &reply.json);
    } else if reply.json.is_object() && !path.ends_with("/result") {
        assert_eq!(reply.header("content-type"), Some("application/json"), "{what}");
    }
    if reply.status == 503 {
        reply.retry_after();
    }
}

#[track_caller]
pub fn check_problem(
    status: u16,
    content_type: Option<&str>,
    request_id: Option<&str>,
    problem: &Value,
) {
    assert_eq!(content_type, Some("application/problem+json"), "{status} {problem}");
    let text = |name: &str| problem[name].as_str().unwrap_or_default();
    assert_eq!(problem["status"], status, "{problem}");
    assert!(!text("title").is_empty() && !text("detail").is_empty(), "{problem}");
    let kind = match text("code") {
        "rate-limited" => {
            "https://iana.org/assignments/http-problem-types#quota-exceeded".to_owned()
        }
        "queue-full" => {
            "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity".to_owned()
        }
        code => format!("/problems/{code}"),
    };
    assert_eq!(text("type"), kind, "{problem}");
    assert!(!text("code").is_empty(), "{problem}");
    assert_eq!(problem["request_id"].as_str(), request_id, "{problem}");
    // Of a submission alone the header is missing, which no pointer can name.
    let either = text("code") == "idempotency-key-required";
    let listed = text("code") == "validation-failed";
    assert!(either || problem["errors"].is_array() == listed, "{problem}");
    assert!(status < 500 || status == 503, "a fault of the server: {problem}");
}

#[derive(Debug, Clone)]
struct Known {
    version: u64,
    course: Value,
}

/// Jobs as they were last seen.
#[derive(Debug, Default)]
pub struct Seen {
    jobs: HashMap<String, Known>,
}

impl Seen {
    /// The versions known when a request starts: its answer must not be older.
    pub fn versions(&self) -> HashMap<String, u64> {
        self.jobs.iter().map(|(id, known)| (id.clone(), known.version)).collect()
    }

    #[track_caller]
    pub fn look(&mut self, base: &str, path: &str, reply: &Reply, floor: &HashMap<String, u64>) {
        if path.ends_with("/result") {
            return;
        }
        if is_job(&reply.json) {
            self.job(base, &reply.json, floor);
            let about_one = path == "/v1/jobs" || path.ends_with("/cancel") || !settles(path);
            if about_one {
                check_headers(reply);
            }
        }
        for job in reply.json["jobs"].as_array().into_iter().flatten() {
            // Neither leased jobs nor the answer to a batch are jobs in full.
            if is_job(job) {
                assert!(job.get("result").is_none() && job.get("payload").is_none(), "{job}");
                self.job(base, job, floor);
            }
        }
    }

    #[track_caller]
    fn job(&mut self, base: &str, job: &Value, floor: &HashMap<String, u64>) {
        check_job(base, job);
        let id = job["job_id"].as_str().expect("an id");
        let version = job["version"].as_u64().expect("a version");
        if let Some(floor) = floor.get(id) {
            assert!(version >= *floor, "older than version {floor}: {job}");
        }
        let course = course(job);
        match self.jobs.get(id) {
            Some(known) if known.version == version => {
                assert_eq!(known.course, course, "changed without a new version");
            }
            Some(known) if known.version > version => {}
            Some(known) => {
                assert_ne!(known.course["done"], true, "changed after its end: {known:?} {job}");
                self.jobs.insert(id.to_owned(), Known { version, course });
            }
            None => {
                self.jobs.insert(id.to_owned(), Known { version, course });
            }
        }
    }
}

fn settles(path: &str) -> bool {
    ["/complete", "/fail", "/release", "/cancelled"].iter().any(|end| path.ends_with(end))
}

fn is_job(value: &Value) -> bool {
    value.get("job_id").is_some() && value.get("version").is_some() && value.get("done").is_some()
}

/// What may change only with the version. `pending_reason` is worked out on reading, `retried_as` is
/// added to what has ended, and lists leave results out.
fn course(job: &Value) -> Value {
    let mut course = job.clone();
    let members = course.as_object_mut().expect("a job");
    let derived = ["pending_reason", "result", "payload", "status_url", "result_url", "links"];
    for derived in derived.into_iter().chain(["retried_as"]) {
        members.remove(derived);
    }
    course
}

/// `Retry-After` if and only if not done, the version as `ETag`, `Sunset` when done.
#[track_caller]
fn check_headers(reply: &Reply) {
    let job = &reply.json;
    let done = job["done"] == true;
    assert_eq!(reply.header("retry-after").is_none(), done, "{job}");
    if !done {
        reply.retry_after();
    }
    assert_eq!(reply.header("sunset").is_some(), done, "{job}");
    assert_eq!(reply.header("etag"), Some(format!("W/\"{}\"", job["version"]).as_str()), "{job}");
    let url = job["status_url"].as_str().expect("an address");
    let link = reply.header("link").expect("Link");
    assert!(link.contains(&format!("<{url}>; rel=\"monitor\"")), "{link}");
}

/// The one helper that holds every job to the promises.
#[track_caller]
pub fn check_job(base: &str, job: &Value) {
    let has = |name: &str| job.get(name).is_some();
    let text = |name: &str| job[name].as_str().unwrap_or_else(|| panic!("{name}: {job}"));
    let number = |name: &str| job[name].as_u64().unwrap_or_else(|| panic!("{name}: {job}"));
    for (name, value) in job.as_object().expect("an object") {
        assert!(MEMBERS.contains(&name.as_str()), "unknown member {name}: {job}");
        let may_be_null = name == "result" || name == "payload";
        assert!(may_be_null || !value.is_null(), "{name} is null: {job}");
    }

    let status = text("status");
    assert!(STATUSES.contains(&status), "{job}");
    let done = matches!(status, "completed" | "failed" | "cancelled");
    assert_eq!(job["done"], done, "{job}");
    assert_eq!(has("result_url"), status == "completed", "{job}");
    assert!(!has("result_content_type") || status == "completed", "{job}");
    // Of what lies elsewhere the type is what the worker said, and there is no size.
    assert!(!has("result_size") || has("result_content_type"), "{job}");
    assert!(!has("result") || status == "completed", "{job}");
    assert!(!has("result_size") || status == "completed", "{job}");
    assert_eq!(has("error"), status == "failed", "{job}");
    assert_eq!(has("pending_reason"), status == "pending", "{job}");
    assert_eq!(has("finished_at"), done, "{job}");
    assert_eq!(has("expires_at"), done, "{job}");
    assert!(!has("last_error") || !done, "{job}");
    assert_eq!(has("cancelled_by"), status == "cancelled", "{job}");
    assert!(!has("cancel_reason") || has("cancel_requested_at"), "{job}");
    if status == "pending" {
        let reason = text("pending_reason");
        assert!(REASONS.contains(&reason), "{job}");
        let gated = matches!(reason, "scheduled" | "retry_backoff");
        assert_eq!(has("run_at"), gated, "{job}");
    } else {
        assert!(!has("run_at"), "{job}");
    }
    for name in ["error", "last_error"] {
        if let Some(error) = job.get(name) {
            check_error(error);
        }
    }

    let (attempt, most) = (number("attempt"), number("max_attempts"));
    assert!(attempt <= most && (1..=100).contains(&most) && number("version") >= 1, "{job}");
    check_attempts(job, status, attempt);

    let url = text("status_url");
    assert_eq!(url, format!("{base}/v1/jobs/{}", text("job_id")), "{job}");
    assert_eq!(job["links"]["self"], url, "{job}");
    let cancel = job["links"].get("cancel");
    assert_eq!(cancel, (!done).then(|| json!(format!("{url}/cancel"))).as_ref(), "{job}");
    assert_eq!(job["links"]["timeline"], format!("{url}/timeline"), "{job}");
    if has("result_url") {
        assert_eq!(text("result_url"), format!("{url}/result"), "{job}");
    }
    for id in ["job_id", "root_job_id", "retry_of", "retried_as"] {
        assert!(!has(id) || is_id(text(id)), "{job}");
    }
    assert!(
        !text("kind").is_empty() && !text("queue").is_empty() && job["priority"].is_i64(),
        "{job}"
    );
    check_moments(job);
}

#[track_caller]
fn check_error(error: &Value) {
    assert!(error["type"].is_string() && error["message"].is_string(), "{error}");
    assert!(error["attempt"].is_u64() && error["retryable"].is_boolean(), "{error}");
    assert!(is_moment(error["at"].as_str().expect("a moment")), "{error}");
}

/// Fences rise; at most the last attempt runs, and it does if and only if the job does.
#[track_caller]
fn check_attempts(job: &Value, status: &str, attempt: u64) {
    let none = Vec::new();
    let attempts = job["attempts"].as_array().unwrap_or(&none);
    let fences: Vec<u64> = attempts.iter().map(|a| a["fence"].as_u64().expect("one")).collect();
    assert!(fences.is_sorted_by(|a, b| a < b), "{job}");
    for (at, entry) in attempts.iter().enumerate() {
        let last = at + 1 == attempts.len();
        let running = entry.get("ended_at").is_none();
        assert_eq!(running, last && status == "running", "{job}");
        assert_eq!(running, entry.get("outcome").is_none(), "{job}");
        assert!(running || OUTCOMES.contains(&entry["outcome"].as_str().expect("one")), "{job}");
        assert!(is_moment(entry["started_at"].as_str().expect("a moment")), "{job}");
        assert!(entry["worker_id"].as_str().is_some_and(|w| !w.is_empty()), "{job}");
    }
    assert!(status != "running" || (attempt >= 1 && !attempts.is_empty()), "{job}");
    assert_eq!(job.get("started_at").is_some(), !attempts.is_empty(), "{job}");
    let counted = attempts.iter().filter(|a| a["outcome"] != "released").count() as u64;
    assert!(attempts.len() >= 60 || counted == attempt, "{counted} counted attempts: {job}");
}

#[track_caller]
fn check_moments(job: &Value) {
    for (name, value) in job.as_object().expect("an object") {
        let named = name.ends_with("_at") || name == "start_by";
        assert!(!named || is_moment(value.as_str().unwrap_or_default()), "{name}: {job}");
    }
    let (created, updated) = (job["created_at"].as_str(), job["updated_at"].as_str());
    assert!(created.is_some() && created <= updated, "{job}");
    if let Some(finished) = job["finished_at"].as_str() {
        assert!(Some(finished) == updated && Some(finished) < job["expires_at"].as_str(), "{job}");
    }
}

/// RFC 3339, UTC, milliseconds.
pub fn is_moment(text: &str) -> bool {
    text.len() == 24
        && text.as_bytes()[10] == b'T'
        && text.as_bytes()[19] == b'.'
        && text.ends_with('Z')
}

/// A `UUIDv7`, written plainly.
fn is_id(text: &str) -> bool {
    text.len() == 36
        && text.as_bytes()[14] == b'7'
        && text.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The checks themselves: each of these lies must be noticed.
#[test]
fn a_lie_is_noticed() {
    let base = "http://h";
    let url = "http://h/v1/jobs/0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7";
    let moment = |second: u32| format!("2026-08-24T10:00:{second:02}.000Z");
    let job = json!({
        "job_id": "0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7", "status": "completed", "done": true,
        "status_url": url, "kind": "a", "queue": "q", "priority": 0, "attempt": 1,
        "max_attempts": 5, "version": 3, "created_at": moment(1), "started_at": moment(2),
        "updated_at": moment(3), "finished_at": moment(3), "expires_at": moment(9),
        "result": null, "result_url": format!("{url}/result"), "result_size": 4,
        "result_content_type": "application/json",
        "root_job_id": "0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7",
        "attempts": [{"attempt": 1, "fence": 1, "worker_id": "w", "started_at": moment(2),
                      "ended_at": moment(3), "outcome": "completed"}],
        "links": {"self": url, "timeline": format!("{url}/timeline")},
    });
    check_job(base, &job);
    for (name, lie) in [
        ("done", json!(false)),
        ("status", json!("pending")),
        ("status", json!("running")),
        ("status", json!("failed")),
        ("status", json!("finished")),
        (
            "error",
            json!({"type": "t", "message": "m", "attempt": 1, "retryable": true, "at": moment(3)}),
        ),
        (
            "last_error",
            json!({"type": "t", "message": "m", "attempt": 1, "retryable": true, "at": moment(3)}),
        ),
        ("pending_reason", json!("queued")),
        ("run_at", json!(moment(2))),
        ("cancelled_by", json!("client")),
        ("attempt", json!(6)),
        ("attempt", json!(0)),
        ("version", json!(0)),
        ("finished_at", json!("2026-08-24T10:00:03Z")),
        ("expires_at", json!(moment(3))),
        ("updated_at", json!(moment(0))),
        ("metadata", json!(null)),
        ("surprise", json!(1)),
        (
            "links",
            json!({"self": url, "cancel": format!("{url}/cancel"), "timeline": format!("{url}/timeline")}),
        ),
        ("status_url", json!("http://elsewhere/v1/jobs/x")),
        ("root_job_id", json!("1")),
    ] {
        let mut bad = job.clone();
        bad[name] = lie.clone();
        let noticed = std::panic::catch_unwind(|| check_job(base, &bad)).is_err();
        assert!(noticed, "{name}: {lie} passes");
    }
    for name in ["result_url", "finished_at", "expires_at", "started_at", "result_content_type"] {
        let mut bad = job.clone();
        bad.as_object_mut().expect("an object").remove(name);
        let noticed = std::panic::catch_unwind(|| check_job(base, &bad)).is_err();
        assert!(noticed, "a job without {name} passes");
    }
}
