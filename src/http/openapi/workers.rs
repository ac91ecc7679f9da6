//! What workers do: claim, show signs of life, settle.

use serde_json::json;

use super::super::problem::Code;
use super::operation::{Answer, Operation, Tag};
use super::shared::{BODY, JOB, LEASE, WRITES};
use crate::wire;

const ID: &str = "0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7";
const TOKEN: &str = "3q2-7wAAAAAAAAAAAAAAAA";

fn operation(id: &'static str, summary: &'static str, text: &'static str) -> Operation {
    Operation::new(Tag::Workers, id, summary, text).problems(WRITES)
}

/// Of one job, whose lease is presented.
fn leased(id: &'static str, summary: &'static str, text: &'static str) -> Operation {
    operation(id, summary, text).parameters(&["JobId"]).problems(BODY).problems(LEASE).problems(JOB)
}

/// The same, to end it.
fn settling(id: &'static str, summary: &'static str, text: &'static str) -> Operation {
    leased(id, summary, text).problems(&[Code::AlreadyReported]).answer(settled())
}

/// There is no `Retry-After`: who settles a job does not wait for it.
fn settled() -> Answer {
    Answer::json::<wire::Job>(200, "The job as it is now.").headers(&["Sunset"])
}

pub(in crate::http) fn claim() -> Operation {
    operation(
        "claimJobs",
        "Claim jobs",
        "Leases of jobs that may run now: the right to one attempt each. `jobs` is empty when \
         `wait_seconds` are over. A parked claim whose connection closes gets no jobs.",
    )
    .parameters(&["Traceparent"])
    .body::<wire::Claim>(json!({"worker_id": "w1", "queues": ["default"], "wait_seconds": 20}))
    .answer(Answer::json::<wire::Claimed>(200, "What was claimed."))
    .problems(BODY)
    .problems(&[Code::ServerDraining])
}

pub(in crate::http) fn heartbeat() -> Operation {
    leased(
        "heartbeat",
        "A sign of life for one lease",
        "Every third of `lease_seconds`. Nothing extends `timeout_at`.",
    )
    .body::<wire::Heartbeat>(json!({"lease_token": TOKEN, "progress": {"percent": 40}}))
    .answer(Answer::json::<wire::HeartbeatAnswer>(200, "The lease is extended."))
}

pub(in crate::http) fn heartbeats() -> Operation {
    operation(
        "heartbeats",
        "Signs of life for many leases",
        "An item whose lease is gone is refused alone, by its `problem`.",
    )
    .body::<wire::Heartbeats>(
        json!({"worker_id": "w1", "leases": [{"job_id": ID, "lease_token": TOKEN}]}),
    )
    .answer(Answer::json::<wire::HeartbeatsAnswer>(200, "Each by itself, in the order sent."))
    .problems(BODY)
}

pub(in crate::http) fn complete() -> Operation {
    settling("completeJob", "Settle: completed", "`result` or `result_location`, or neither.")
        .body::<wire::Complete>(json!({"lease_token": TOKEN, "result": {"pages": 10}}))
}

pub(in crate::http) fn fail() -> Operation {
    settling(
        "failJob",
        "Settle: failed",
        "The job is pending again if it may be retried, and has attempts left.",
    )
    .body::<wire::Fail>(
        json!({"lease_token": TOKEN, "error": {"type": "upstream-timeout", "message": "no answer in 10 s"}}),
    )
}

pub(in crate::http) fn release() -> Operation {
    settling("releaseJob", "Settle: give it back", "The attempt does not count.")
        .body::<wire::Release>(json!({"lease_token": TOKEN, "delay_seconds": 5}))
}

pub(in crate::http) fn cancelled() -> Operation {
    settling("agreeToCancel", "Settle: cancelled", "Agrees to a cancel that somebody asked for.")
        .body::<wire::AgreeToCancel>(json!({"lease_token": TOKEN}))
        .problems(&[Code::CancelNotRequested])
}

pub(in crate::http) fn settlements() -> Operation {
    operation(
        "settleJobs",
        "Settle many jobs and claim the next",
        "Many outcomes and the next claim in one commit and one round trip. An item that is wrong \
         in kind refuses the request; one whose lease is gone is refused alone, by its `problem`.",
    )
    .parameters(&["Traceparent"])
    .body::<wire::Settlements>(json!({"worker_id": "w1", "settlements": [
        {"job_id": ID, "lease_token": TOKEN, "outcome": "completed", "result": {"pages": 10}}]}))
    .answer(Answer::json::<wire::SettlementsAnswer>(200, "Each by itself, in the order sent."))
    .problems(BODY)
}

pub(in crate::http) fn goodbye() -> Operation {
    operation("goodbye", "A worker ends", "What it still holds goes back at once, uncounted.")
        .parameters(&["WorkerId"])
        .optional_body::<wire::Nothing>()
        .answer(Answer::empty(204, "Goodbye."))
        .problems(BODY)
}
