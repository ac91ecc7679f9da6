//! What clients do: submit, follow, cancel, forget.

use serde_json::{Value, json};

use super::super::jobs::BatchAnswer;
use super::super::limits;
use super::super::problem::Code;
use super::operation::{Answer, Operation, Tag};
use super::shared::{BODY, JOB, READS, WRITES, limit, moment, name, wait};
use crate::domain::job::{PendingReason, Status};
use crate::wire;

const TRACE: &[&str] = &["Traceparent", "Tracestate"];
const COMPLETED: &[&str] = &[
    "Location",
    "Content-Location",
    "ETag",
    "Sunset",
    "Link",
    "Preference-Applied",
    "Idempotent-Replayed",
];
/// `Sunset` in place of `Retry-After`, if the job failed while the answer was held.
const ACCEPTED: &[&str] = &[
    "Location",
    "Content-Location",
    "ETag",
    "Retry-After",
    "Sunset",
    "Link",
    "Preference-Applied",
    "Idempotent-Replayed",
];
const RETRIED: &[&str] = &["Location", "Content-Location", "ETag", "Retry-After", "Link"];
const RETRIED_BEFORE: &[&str] = &[
    "Location",
    "Content-Location",
    "ETag",
    "Retry-After",
    "Sunset",
    "Link",
    "Idempotent-Replayed",
];

fn operation(id: &'static str, summary: &'static str, text: &'static str) -> Operation {
    Operation::new(Tag::Clients, id, summary, text)
}

fn accepted() -> Value {
    json!({
        "job_id": "0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7", "status": "pending", "done": false,
        "status_url": "http://127.0.0.1:8080/v1/jobs/0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7",
        "kind": "report.render", "queue": "default", "priority": 0, "pending_reason": "queued",
        "attempt": 0, "max_attempts": 5, "version": 1,
        "created_at": "2030-01-31T08:00:00.000Z", "updated_at": "2030-01-31T08:00:00.000Z",
        "root_job_id": "0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7"
    })
}

pub(in crate::http) fn submit() -> Operation {
    operation(
        "submitJob",
        "Submit a job",
        "200 if and only if the job is completed: use its `result`. Everything else that is \
         accepted is 202, also a job that failed while the answer was held. A 202 means durably \
         stored. With an `Idempotency-Key` it is safe to repeat.",
    )
    .parameters(&["IdempotencyKey", "Prefer"])
    .parameters(TRACE)
    .body::<wire::Submit>(json!({"kind": "report.render", "payload": {"order": 7}}))
    .answer(
        Answer::json::<wire::Job>(200, "Completed, with the result.")
            .headers(COMPLETED)
            .leads_to_job(),
    )
    .answer(
        Answer::json::<wire::Job>(202, "Accepted, and not completed.")
            .headers(ACCEPTED)
            .leads_to_job()
            .example(accepted()),
    )
    .problems(BODY)
    .problems(WRITES)
    .problems(&[
        Code::InvalidIdempotencyKey,
        Code::IdempotencyKeyRequired,
        Code::IdempotencyKeyReused,
        Code::TooManyNames,
        Code::JobExpired,
        Code::JobDeleted,
        Code::QueueFull,
        Code::ServerDraining,
    ])
}

pub(in crate::http) fn submit_batch() -> Operation {
    operation(
        "submitJobs",
        "Submit many jobs",
        "All or nothing. Keys are members of the jobs, and those of single submissions.",
    )
    .parameters(TRACE)
    .body::<wire::Batch>(json!({"jobs": [{"kind": "report.render", "idempotency_key": "order-7"}]}))
    .answer(Answer::json::<BatchAnswer>(202, "All are accepted, in the order sent."))
    .problems(BODY)
    .problems(WRITES)
    .problems(&[
        Code::InvalidIdempotencyKey,
        Code::IdempotencyKeyRequired,
        Code::IdempotencyKeyReused,
        Code::TooManyNames,
        Code::JobExpired,
        Code::JobDeleted,
        Code::QueueFull,
        Code::ServerDraining,
    ])
}

pub(in crate::http) fn show() -> Operation {
    operation(
        "getJob",
        "Follow a job",
        "200 for every job that exists; a failed job is data. Loop on `done`, never on a list of \
         statuses. With `If-None-Match` and `Prefer: wait=N` the answer is held until the tag \
         changes; without a tag, until the job is done.",
    )
    .parameters(&["JobId", "PreferWait", "IfNoneMatch"])
    .query(
        "wait",
        wait(),
        "As `Prefer: wait`, for those who cannot set headers; more counts as 50.",
    )
    .query("include", json!({"enum": ["payload"]}), "Adds the payload.")
    .query("on_completed", json!({"enum": ["redirect"]}), "303 to the result of a completed job.")
    .answer(
        Answer::json::<wire::Job>(200, "The job.")
            .headers(&["ETag", "Retry-After", "Sunset", "Link", "Preference-Applied", "Vary"])
            .example(accepted()),
    )
    .answer(Answer::empty(303, "Completed, and a redirect was asked for.").headers(&[
        "Location",
        "ETag",
        "Sunset",
        "Preference-Applied",
        "Vary",
    ]))
    .answer(Answer::empty(304, "Not changed.").headers(&[
        "ETag",
        "Retry-After",
        "Sunset",
        "Preference-Applied",
        "Vary",
    ]))
    .problems(JOB)
    .problems(READS)
}

pub(in crate::http) fn result() -> Operation {
    operation(
        "getResult",
        "Fetch a result",
        "The bytes as the worker gave them. They are what a user made: do not run them.",
    )
    .parameters(&["JobId", "PreferWait", "IfNoneMatch"])
    .query(
        "wait",
        wait(),
        "As `Prefer: wait`, for those who cannot set headers; more counts as 50.",
    )
    .answer(Answer::bytes(200, "The result.").headers(&[
        "Sunset",
        "ETag",
        "X-Content-Type-Options",
        "Content-Security-Policy",
        "Preference-Applied",
    ]))
    .answer(Answer::empty(303, "The worker stored it elsewhere.").headers(&[
        "Location",
        "Sunset",
        "Preference-Applied",
    ]))
    .answer(Answer::empty(304, "Not changed.").headers(&[
        "ETag",
        "Sunset",
        "X-Content-Type-Options",
        "Content-Security-Policy",
        "Preference-Applied",
    ]))
    .problems(JOB)
    .problems(READS)
    .problems(&[Code::ResultNotReady, Code::JobFailed, Code::JobCancelled])
}

pub(in crate::http) fn timeline() -> Operation {
    operation("getTimeline", "What happened to a job", "At most 200 events, oldest first.")
        .parameters(&["JobId"])
        .answer(Answer::json::<wire::Timeline>(200, "Its events."))
        .problems(JOB)
        .problems(READS)
}

pub(in crate::http) fn cancel() -> Operation {
    operation(
        "cancelJob",
        "Cancel a job",
        "A job that runs goes on until its worker agrees, or the queue's `cancel_grace` is over. \
         `force` ends it at once, and is for operators. A worker that completes first wins.",
    )
    .parameters(&["JobId"])
    .optional_body::<wire::CancelRequest>()
    .answer(
        Answer::json::<wire::Job>(200, "Cancelled, or already so.")
            .headers(&["ETag", "Sunset", "Link"]),
    )
    .answer(Answer::json::<wire::Job>(202, "It runs, and its worker is asked.").headers(&[
        "ETag",
        "Retry-After",
        "Link",
    ]))
    .problems(BODY)
    .problems(JOB)
    .problems(WRITES)
    .problems(&[Code::JobAlreadyFinished])
}

pub(in crate::http) fn retry() -> Operation {
    operation(
        "retryJob",
        "Do a finished job's work again",
        "As a new job, `retry_of` the old one, with the same payload and settings but for what the \
         body changes. Repeated, it is answered with the job that came of it first, unless \
         `force` is set.",
    )
    .parameters(&["JobId"])
    .parameters(TRACE)
    .query("force", json!({"type": "boolean"}), "Another job, even if there is one already.")
    .optional_body::<wire::RetryRequest>()
    .answer(
        Answer::json::<wire::Job>(200, "It was retried before: that job, as it is now.")
            .headers(RETRIED_BEFORE)
            .leads_to_job(),
    )
    .answer(Answer::json::<wire::Job>(201, "The new job.").headers(RETRIED).leads_to_job())
    .problems(BODY)
    .problems(JOB)
    .problems(WRITES)
    .problems(&[
        Code::JobNotFinished,
        Code::TooManyNames,
        Code::QueueFull,
        Code::ServerDraining,
    ])
}

pub(in crate::http) fn delete() -> Operation {
    operation("deleteJob", "Forget a finished job", "410 when repeated.")
        .parameters(&["JobId"])
        .answer(Answer::empty(204, "Forgotten."))
        .problems(JOB)
        .problems(WRITES)
        .problems(&[Code::JobNotFinished])
}

pub(in crate::http) fn list() -> Operation {
    let statuses = Status::ALL.map(Status::as_str);
    let reasons = PendingReason::ALL.map(PendingReason::as_str);
    let some = || json!({"type": "string", "minLength": 1});
    operation(
        "listJobs",
        "List jobs",
        "Newest first, without results and payloads. All filters must hold. A page may be short, \
         even empty, and still have a `next_cursor`.",
    )
    .query("status", json!({"enum": statuses}), "In this status.")
    .query("kind", name(), "Of this kind.")
    .query("queue", name(), "In this queue.")
    .query("tag", some(), "With this tag.")
    .query("pending_reason", json!({"enum": reasons}), "Pending for this reason.")
    .query("error_type", some(), "Whose last error is of this type.")
    .query("stuck", json!({"enum": ["true"]}), "Eligible for longer than its queue allows.")
    .query("created_after", moment(), "Created later than this.")
    .query("created_before", moment(), "Created earlier than this.")
    .query("finished_after", moment(), "Finished later than this.")
    .query("limit", limit(&limits::LIST), "How many at most.")
    .query("cursor", json!({"type": "string"}), "The `next_cursor` of the page before.")
    .answer(Answer::json::<wire::JobList>(200, "A page of jobs.").headers(&["Link"]))
    .problems(READS)
}
