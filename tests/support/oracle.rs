//! Every state that a job can be in, and everything that can happen to it there: for driving a
//! real store through each pair and comparing its answers with `domain::state::apply`'s.
//!
//! [`every_situation`] gives the way from a fresh job into each state; [`every_event`] gives what
//! to fire there. The set is complete in this sense (and `tests/oracle.rs` checks it): every way
//! of waiting, every reason to take a lease back, every way to end; and of tokens the one that
//! holds, the one that settled last (repeating itself, and contradicting itself), the one whose
//! lease was lost, and one that was never given out.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::time::Duration;

use punctual::domain::job::{Job, JobError, Policy, Progress, Requester};
use punctual::domain::lease::{LeaseToken, TokenHash};
use punctual::domain::names::WorkerId;
use punctual::domain::state::{Event, apply};
use punctual::domain::time::Timestamp;

/// A lease ends this long after its claim: before its grace, and that before the hard limit.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const CANCEL_GRACE: Duration = Duration::from_secs(20);
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// A state, and how to get there.
#[derive(Debug, Clone)]
pub(crate) struct Situation {
    pub(crate) name: &'static str,
    /// As it is submitted, at its `created_at`.
    pub(crate) fresh: Job,
    /// Each step applies; the moments never go back.
    pub(crate) path: Vec<(Event, Timestamp)>,
    /// When the events under test happen: at or after the last step.
    pub(crate) now: Timestamp,
}

impl Situation {
    /// The job at the end of the path, by the oracle.
    pub(crate) fn job(&self) -> Job {
        self.path.iter().fold(self.fresh.clone(), |job, (event, at)| {
            apply(&job, event, *at)
                .unwrap_or_else(|r| panic!("{}: {event:?} is refused: {r:?}", self.name))
                .job
        })
    }
}

/// The secret of the `n`-th lease of a path, from 1. Number 200 is never given out.
pub(crate) fn lease_token(n: u8) -> LeaseToken {
    LeaseToken::new([n; 16])
}

pub(crate) const FOREIGN: u8 = 200;

/// The secret of a token that occurs here, for verbs that take the secret.
pub(crate) fn secret_of(token: TokenHash) -> LeaseToken {
    (0..=FOREIGN)
        .map(lease_token)
        .find(|t| t.hash() == token)
        .expect("every token here comes from lease_token")
}

pub(crate) fn worker() -> WorkerId {
    WorkerId::trusted("worker-1")
}

fn claim(n: u8) -> Event {
    Event::Claim { worker: worker(), token: lease_token(n).hash(), lease: LEASE, trace: None }
}

fn fail(n: u8, retryable: bool, retry_after: Option<Duration>) -> Event {
    let error = JobError {
        kind: "upstream-timeout".to_owned(),
        message: "no answer".to_owned(),
        details: None,
        stack: None,
        attempt: 0,
        at: Timestamp::EPOCH,
        retryable,
    };
    Event::Fail { token: lease_token(n).hash(), error, retry_after, unit: 0.25 }
}

fn complete(n: u8) -> Event {
    Event::Complete { token: lease_token(n).hash() }
}

fn release(n: u8, delay: Option<Duration>) -> Event {
    Event::Release { token: lease_token(n).hash(), delay }
}

fn agree(n: u8) -> Event {
    Event::AgreeToCancel { token: lease_token(n).hash() }
}

fn beat(n: u8, extend: Option<Duration>, percent: Option<f64>) -> Event {
    let progress = percent.map(|percent| Progress {
        percent: Some(percent),
        message: Some("half way".to_owned()),
        updated_at: Timestamp::EPOCH,
    });
    Event::Heartbeat { token: lease_token(n).hash(), extend, progress }
}

fn cancel(force: bool) -> Event {
    let by = if force { Requester::Operator } else { Requester::Client };
    Event::Cancel { by, reason: Some("not needed".to_owned()), force }
}

/// `spread` is zero: a store spreads only large crowds.
pub(crate) const TAKE_BACK: Event = Event::TakeBack { spread: Duration::ZERO };

/// Every state, for jobs submitted at `start`.
pub(crate) fn every_situation(start: Timestamp) -> Vec<Situation> {
    let policy = Policy { timeout: TIMEOUT, cancel_grace: CANCEL_GRACE, ..Policy::default() };
    let at = |s: u64| start.plus(Duration::from_secs(s));
    let fresh = |max_attempts| Job::accepted(start, None, None, max_attempts, policy);
    let scheduled = || Job::accepted(start, Some(at(10)), None, 3, policy);
    let start_by = |s| Job::accepted(start, None, Some(at(s)), 3, policy);
    let now_again = Some(Duration::ZERO);
    let days = Duration::from_secs(8 * 86_400);

    let situation = |name, fresh: Job, path: Vec<(Event, u64)>, now| Situation {
        name,
        fresh,
        path: path.into_iter().map(|(event, s)| (event, at(s))).collect(),
        now: at(now),
    };
    // Attempt 1 failed by token 1, attempt 2 held by token 2.
    let second = || vec![(claim(1), 1), (fail(1, true, now_again), 2), (claim(2), 3)];
    let with = |mut path: Vec<(Event, u64)>, event, s| {
        path.push((event, s));
        path
    };
    let unwanted = || vec![(claim(1), 1), (cancel(false), 2)];
    let mut all = vec![
        // Waiting.
        situation("queued", fresh(3), vec![], 1),
        situation("scheduled", scheduled(), vec![], 5),
        situation("scheduled and due", scheduled(), vec![], 10),
        situation("promoted from scheduled", scheduled(), vec![(Event::Promote, 10)], 11),
        situation("queued before start_by", start_by(10), vec![], 9),
        situation("queued past start_by", start_by(10), vec![], 10),
        situation(
            "scheduled past start_by",
            Job::accepted(start, Some(at(20)), Some(at(10)), 3, policy),
            vec![],
            15,
        ),
        situation(
            "tried once and past start_by",
            start_by(10),
            vec![(claim(1), 1), (fail(1, true, now_again), 2)],
            15,
        ),
        situation(
            "released and past start_by",
            start_by(10),
            vec![(claim(1), 1), (release(1, None), 2)],
            15,
        ),
        situation(
            "backing off",
            fresh(3),
            vec![(claim(1), 1), (fail(1, true, Some(Duration::from_secs(10))), 2)],
            5,
        ),
        situation(
            "backing off and due",
            fresh(3),
            vec![(claim(1), 1), (fail(1, true, Some(Duration::from_secs(10))), 2)],
            12,
        ),
        situation(
            "promoted from back-off",
            fresh(3),
            vec![(claim(1), 1), (fail(1, true, None), 2), (Event::Promote, 20)],
            21,
        ),
        situation(
            "to be tried again at once",
            fresh(3),
            vec![(claim(1), 1), (fail(1, true, now_again), 2)],
            3,
        ),
        situation("released", fresh(3), vec![(claim(1), 1), (release(1, None), 2)], 3),
        situation(
            "released with a delay",
            fresh(3),
            vec![(claim(1), 1), (release(1, Some(Duration::from_secs(10))), 2)],
            3,
        ),
        situation("withdrawn", fresh(3), vec![(claim(1), 1), (Event::Withdraw { fence: 1 }, 2)], 3),
        situation("taken back", fresh(3), vec![(claim(1), 1), (TAKE_BACK, 31)], 32),
        situation("taken back after its limit", fresh(3), vec![(claim(1), 1), (TAKE_BACK, 61)], 62),
        // Running.
        situation("running", fresh(3), vec![(claim(1), 1)], 2),
        situation(
            "running, with progress",
            fresh(3),
            vec![(claim(1), 1), (beat(1, None, Some(50.0)), 2)],
            3,
        ),
        situation(
            "running, lease extended",
            fresh(3),
            vec![(claim(1), 1), (beat(1, Some(TIMEOUT), None), 2)],
            3,
        ),
        situation("running, lease due", fresh(3), vec![(claim(1), 1)], 31),
        situation(
            "running, limit due",
            fresh(3),
            vec![(claim(1), 1), (beat(1, None, None), 30)],
            61,
        ),
        situation("running, both due", fresh(3), vec![(claim(1), 1)], 61),
        situation(
            "running, spared after an outage",
            fresh(3),
            vec![(claim(1), 1), (Event::Extend, 100)],
            101,
        ),
        situation("running, last attempt", fresh(1), vec![(claim(1), 1)], 2),
        situation("running, last attempt, lease due", fresh(1), vec![(claim(1), 1)], 31),
        situation("running, cancel wished", fresh(3), unwanted(), 3),
        situation("running, cancel wished, grace over", fresh(3), unwanted(), 22),
        situation("running, cancel wished, lease due", fresh(3), unwanted(), 31),
        situation("running, cancel wished, limit due", fresh(3), unwanted(), 61),
        situation("running, last attempt, cancel wished", fresh(1), unwanted(), 3),
        situation("running again after a failure", fresh(3), second(), 4),
        situation(
            "running again after a release",
            fresh(3),
            vec![(claim(1), 1), (release(1, None), 2), (claim(2), 3)],
            4,
        ),
        situation(
            "running again after a lost lease",
            fresh(3),
            vec![(claim(1), 1), (TAKE_BACK, 31), (claim(2), 32)],
            33,
        ),
        situation("running again, lease due", fresh(3), second(), 33),
        situation(
            "running again, the earlier report remembered, cancel wished",
            fresh(3),
            with(second(), cancel(false), 4),
            5,
        ),
        // Lost since, with an older report remembered.
        situation(
            "taken back after an earlier report",
            fresh(3),
            with(second(), TAKE_BACK, 33),
            34,
        ),
        // Ended.
        situation("completed", fresh(3), vec![(claim(1), 1), (complete(1), 2)], 3),
        situation("completed late", fresh(3), vec![(claim(1), 1), (complete(1), 62)], 63),
        situation("completed by the second attempt", fresh(3), with(second(), complete(2), 4), 5),
        situation("completed although unwanted", fresh(3), with(unwanted(), complete(1), 3), 4),
        situation("failed for good", fresh(3), vec![(claim(1), 1), (fail(1, false, None), 2)], 3),
        situation(
            "failed, attempts exhausted",
            fresh(2),
            with(second(), fail(2, true, None), 4),
            5,
        ),
        situation("failed, lease lost", fresh(1), vec![(claim(1), 1), (TAKE_BACK, 31)], 32),
        situation("failed, limit passed", fresh(1), vec![(claim(1), 1), (TAKE_BACK, 61)], 62),
        situation("failed, never started", start_by(10), vec![(Event::MissStart, 10)], 11),
        situation("cancelled while queued", fresh(3), vec![(cancel(false), 1)], 2),
        situation("cancelled while scheduled", scheduled(), vec![(cancel(false), 1)], 2),
        situation(
            "cancelled while backing off",
            fresh(3),
            vec![(claim(1), 1), (fail(1, true, None), 2), (cancel(false), 3)],
            4,
        ),
        situation("cancelled, the worker agreed", fresh(3), with(unwanted(), agree(1), 3), 4),
        situation("cancelled, forced", fresh(3), vec![(claim(1), 1), (cancel(true), 2)], 3),
        situation("cancelled, grace over", fresh(3), with(unwanted(), TAKE_BACK, 22), 23),
        situation("cancelled, lease lost", fresh(3), with(unwanted(), TAKE_BACK, 31), 32),
        situation(
            "cancelled instead of retried",
            fresh(3),
            with(unwanted(), fail(1, true, None), 3),
            4,
        ),
        situation(
            "cancelled instead of released",
            fresh(3),
            with(unwanted(), release(1, None), 3),
            4,
        ),
    ];
    for (name, path) in [
        ("completed, retention over", vec![(claim(1), 1), (complete(1), 2)]),
        ("failed, retention over", vec![(claim(1), 1), (fail(1, false, None), 2)]),
        ("cancelled, retention over", vec![(cancel(false), 2)]),
    ] {
        let done = situation(name, fresh(3), path, 3);
        all.push(Situation { now: done.now.plus(days), ..done });
    }
    all
}

/// Every event, from everyone who might cause it, for `job`.
///
/// Tokens are numbered by lease; the newest lease's is `job.fence`, whether or not it still holds.
pub(crate) fn every_event(job: &Job) -> Vec<(String, Event)> {
    let newest = u8::try_from(job.fence).expect("paths are short");
    let mut all: Vec<(String, Event)> = [
        ("claim", claim(newest + 1)),
        ("cancel", cancel(false)),
        ("cancel, forced", cancel(true)),
        ("take back", TAKE_BACK),
        ("extend", Event::Extend),
        ("promote", Event::Promote),
        ("miss the start", Event::MissStart),
        ("delete", Event::Delete),
        ("expire", Event::Expire),
        ("withdraw the newest lease", Event::Withdraw { fence: job.fence }),
        ("withdraw an older lease", Event::Withdraw { fence: job.fence.saturating_sub(1) }),
    ]
    .map(|(name, event)| (name.to_owned(), event))
    .into();
    // A report by a token that has settled repeats or contradicts itself, by its kind.
    for (whose, n, exists) in [
        ("newest", newest, newest > 0),
        ("previous", newest.saturating_sub(1), newest > 1),
        ("foreign", FOREIGN, true),
    ] {
        if exists {
            let named = |(what, event)| (format!("{what}, {whose} token"), event);
            all.extend(every_write(n).map(named));
        }
    }
    all
}

/// Everything that a worker can say with the `n`-th token.
fn every_write(n: u8) -> [(&'static str, Event); 10] {
    [
        ("heartbeat", beat(n, None, None)),
        ("heartbeat with a length", beat(n, Some(TIMEOUT), None)),
        ("heartbeat with progress", beat(n, None, Some(75.0))),
        ("complete", complete(n)),
        ("fail", fail(n, true, None)),
        ("fail and retry at once", fail(n, true, Some(Duration::ZERO))),
        ("fail for good", fail(n, false, None)),
        ("release", release(n, None)),
        ("release with a delay", release(n, Some(Duration::from_secs(7)))),
        ("agree to cancel", agree(n)),
    ]
}
