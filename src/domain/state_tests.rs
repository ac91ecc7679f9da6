//! Every row of the transition table and every note on it, by where the row starts; and random
//! sequences of events. Here are the fixtures.

use crate::domain::job::{Policy, Status};

use super::*;

#[path = "state_tests/cancels.rs"]
mod cancels;
#[path = "state_tests/leases.rs"]
mod leases;
#[path = "state_tests/pending.rs"]
mod pending;
#[path = "state_tests/refusals.rs"]
mod refusals;
#[path = "state_tests/reports.rs"]
mod reports;
#[path = "state_tests/sequences.rs"]
mod sequences;
#[path = "state_tests/terminal.rs"]
mod terminal;

const LEASE: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(20);

/// `s` seconds after the job was accepted.
fn at(s: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + s * 1_000)
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn token(n: u8) -> TokenHash {
    TokenHash::from_bytes([n; 16])
}

fn policy() -> Policy {
    Policy { timeout: TIMEOUT, cancel_grace: GRACE, ..Policy::default() }
}

fn fresh_with(max_attempts: u32) -> Job {
    Job::accepted(at(0), None, None, max_attempts, policy())
}

fn fresh() -> Job {
    fresh_with(5)
}

fn claim_by(n: u8) -> Event {
    Event::Claim { worker: WorkerId::trusted("w"), token: token(n), lease: LEASE, trace: None }
}

fn beat(n: u8) -> Event {
    Event::Heartbeat { token: token(n), extend: None, progress: None }
}

fn complete(n: u8) -> Event {
    Event::Complete { token: token(n) }
}

fn error(retryable: bool) -> JobError {
    JobError {
        kind: "upstream-timeout".to_owned(),
        message: "no answer".to_owned(),
        details: None,
        stack: None,
        attempt: 0,
        at: Timestamp::EPOCH,
        retryable,
    }
}

fn fail(n: u8, retryable: bool) -> Event {
    Event::Fail { token: token(n), error: error(retryable), retry_after: None, unit: 0.5 }
}

fn fail_after(n: u8, delay: Duration) -> Event {
    Event::Fail { token: token(n), error: error(true), retry_after: Some(delay), unit: 0.5 }
}

fn release(n: u8) -> Event {
    Event::Release { token: token(n), delay: None }
}

fn agree(n: u8) -> Event {
    Event::AgreeToCancel { token: token(n) }
}

fn take_back_now() -> Event {
    Event::TakeBack { spread: Duration::ZERO }
}

fn wish(force: bool) -> Event {
    let by = if force { Requester::Operator } else { Requester::Client };
    Event::Cancel { by, reason: Some("changed my mind".to_owned()), force }
}

#[track_caller]
fn apply_at(job: &Job, event: &Event, s: i64) -> Applied {
    apply(job, event, at(s)).unwrap_or_else(|r| panic!("{event:?} was refused: {r:?}"))
}

#[track_caller]
fn go(job: &Job, event: &Event, s: i64) -> Job {
    apply_at(job, event, s).job
}

#[track_caller]
fn refused(job: &Job, event: &Event, s: i64) -> Rejected {
    apply(job, event, at(s)).expect_err("should be refused")
}

/// Leased to token 1 at second 1: the lease ends at 31, the hard limit is at 61.
fn running() -> Job {
    go(&fresh(), &claim_by(1), 1)
}

/// The same, with a cancel wished at second 2: the grace ends at 22.
fn unwanted() -> Job {
    go(&running(), &wish(false), 2)
}

fn error_type(job: &Job) -> Option<&str> {
    job.error.as_ref().map(|e| e.kind.as_str())
}
