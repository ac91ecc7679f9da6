//! Random lives: any events, from any caller, at any pace, keep what clients were promised.

use proptest::prelude::*;

use super::*;

/// Whose token a worker's write carries.
#[derive(Debug, Clone, Copy)]
enum Who {
    /// The newest lease's, whether or not it still holds.
    Newest,
    /// The lease before.
    Previous,
    /// The one that last settled.
    Settled,
    Foreign,
}

#[derive(Debug, Clone)]
enum Act {
    Claim,
    Heartbeat(Who, Option<u64>, Option<f64>),
    Complete(Who),
    Fail(Who, bool, Option<u64>, f64),
    Release(Who, Option<u64>),
    Agree(Who),
    Withdraw(u64),
    TakeBack(u64),
    Extend,
    Cancel(bool),
    Promote,
    MissStart,
    Delete,
    Expire,
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        6 => Just(Who::Newest),
        1 => Just(Who::Previous),
        1 => Just(Who::Settled),
        1 => Just(Who::Foreign),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let delay = || prop::option::of(0..40u64);
    prop_oneof![
        8 => Just(Act::Claim),
        4 => (who(), prop::option::of(0..100u64), prop::option::of(0.0..100.0))
            .prop_map(|(w, e, p)| Act::Heartbeat(w, e, p)),
        1 => who().prop_map(Act::Complete),
        4 => (who(), prop::bool::weighted(0.8), delay(), 0.0..1.0)
            .prop_map(|(w, r, d, u)| Act::Fail(w, r, d, u)),
        3 => (who(), delay()).prop_map(|(w, d)| Act::Release(w, d)),
        1 => who().prop_map(Act::Agree),
        1 => (0..3u64).prop_map(Act::Withdraw),
        4 => (0..5u64).prop_map(Act::TakeBack),
        1 => Just(Act::Extend),
        1 => prop::bool::weighted(0.2).prop_map(Act::Cancel),
        5 => Just(Act::Promote),
        1 => Just(Act::MissStart),
        1 => Just(Act::Delete),
        1 => Just(Act::Expire),
    ]
}

/// Milliseconds between two events: none, a moment, about a lease, hours.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 6 => 1..8_000u64, 2 => 15_000..70_000u64, 1 => 1..200_000_000u64]
}

fn accepted() -> impl Strategy<Value = Job> {
    (prop::option::of(-5..60i64), prop::option::of(1..90i64), 1..5u32).prop_map(
        |(run_at, start_by, max_attempts)| {
            Job::accepted(at(0), run_at.map(at), start_by.map(at), max_attempts, policy())
        },
    )
}

/// One of each, for the totality check.
fn every_act() -> Vec<Act> {
    let mut all = vec![
        Act::Claim,
        Act::TakeBack(0),
        Act::TakeBack(3),
        Act::Extend,
        Act::Cancel(false),
        Act::Cancel(true),
        Act::Promote,
        Act::MissStart,
        Act::Delete,
        Act::Expire,
    ];
    for w in [Who::Newest, Who::Previous, Who::Settled, Who::Foreign] {
        all.extend([
            Act::Heartbeat(w, None, None),
            Act::Heartbeat(w, Some(90), Some(50.0)),
            Act::Complete(w),
            Act::Fail(w, true, None, 0.9),
            Act::Fail(w, true, Some(0), 0.0),
            Act::Fail(w, false, None, 0.0),
            Act::Release(w, None),
            Act::Release(w, Some(9)),
            Act::Agree(w),
        ]);
    }
    all.extend((0..3).map(Act::Withdraw));
    all
}

/// The number of a lease is its token; 200 and above were never given out.
#[derive(Debug)]
struct Life {
    job: Job,
    now: Timestamp,
    leases: u8,
}

impl Life {
    fn token(&self, who: Who) -> TokenHash {
        match who {
            Who::Newest => token(self.leases),
            Who::Previous => token(self.leases.saturating_sub(1)),
            Who::Settled => self.job.settled.map_or(token(201), |s| s.token),
            Who::Foreign => token(200),
        }
    }

    fn event(&self, act: &Act) -> Event {
        match *act {
            Act::Claim => claim_by(self.leases + 1),
            Act::Heartbeat(who, extend, percent) => Event::Heartbeat {
                token: self.token(who),
                extend: extend.map(secs),
                progress: percent.map(|p| Progress {
                    percent: Some(p),
                    message: None,
                    updated_at: Timestamp::EPOCH,
                }),
            },
            Act::Complete(who) => Event::Complete { token: self.token(who) },
            Act::Fail(who, retryable, retry_after, unit) => Event::Fail {
                token: self.token(who),
                error: error(retryable),
                retry_after: retry_after.map(secs),
                unit,
            },
            Act::Release(who, delay) => {
                Event::Release { token: self.token(who), delay: delay.map(secs) }
            }
            Act::Agree(who) => Event::AgreeToCancel { token: self.token(who) },
            Act::Withdraw(back) => Event::Withdraw { fence: self.job.fence.saturating_sub(back) },
            Act::TakeBack(spread) => Event::TakeBack { spread: secs(spread) },
            Act::Extend => Event::Extend,
            Act::Cancel(force) => wish(force),
            Act::Promote => Event::Promote,
            Act::MissStart => Event::MissStart,
            Act::Delete => Event::Delete,
            Act::Expire => Event::Expire,
        }
    }
}

/// Who writes with which token, and what it reports; `None` for the server's and clients' events.
fn write(event: &Event) -> Option<(TokenHash, Option<Report>)> {
    match event {
        Event::Heartbeat { token, .. } => Some((*token, None)),
        Event::Complete { token } => Some((*token, Some(Report::Completed))),
        Event::Fail { token, .. } => Some((*token, Some(Report::Failed))),
        Event::Release { token, .. } => Some((*token, Some(Report::Released))),
        Event::AgreeToCancel { token } => Some((*token, Some(Report::Cancelled))),
        Event::Claim { .. }
        | Event::Withdraw { .. }
        | Event::TakeBack { .. }
        | Event::Extend
        | Event::Cancel { .. }
        | Event::Promote
        | Event::MissStart
        | Event::Delete
        | Event::Expire => None,
    }
}

/// What a client can see of a job, without its version and the moment of the last change.
fn visible(job: &Job) -> Job {
    let mut seen = Job { version: 0, updated_at: Timestamp::EPOCH, settled: None, ..job.clone() };
    if let Phase::Running(lease) = &mut seen.phase {
        lease.expires_at = Timestamp::EPOCH;
        lease.timeout_at = Timestamp::EPOCH;
    }
    seen
}

/// What holds of a job at any moment.
fn check_job(job: &Job, leases: u8) -> Result<(), TestCaseError> {
    let status = job.status();
    prop_assert!(job.attempt <= job.max_attempts);
    prop_assert_eq!(job.finished_at.is_some(), status.is_done());
    prop_assert_eq!(job.expires_at.is_some(), status.is_done());
    prop_assert!(status != Status::Failed || job.error.is_some());
    prop_assert!(status != Status::Completed || job.error.is_none());
    prop_assert!(status != Status::Cancelled || job.cancel.is_some());
    prop_assert!(status != Status::Pending || job.cancel.is_none());
    prop_assert_eq!(job.fence, u64::from(leases));
    prop_assert!(job.updated_at >= job.created_at && job.version >= 1);
    // One lease at most, the newest.
    prop_assert!(job.lease().is_none_or(|l| l.token == token(leases)));
    prop_assert_eq!(job.lease().is_some(), status == Status::Running);
    prop_assert_eq!(job.reap_at().is_some(), status == Status::Running);
    // Every lease that ended is in the history, and all but the released ones counted.
    let running = u32::from(status == Status::Running);
    let released = AttemptOutcome::Released;
    let counted = job.history.iter().filter(|a| a.outcome != released).count() as u32;
    prop_assert_eq!(job.attempt, counted + running);
    prop_assert_eq!(job.history.len() as u32 + running, u32::from(leases));
    Ok(())
}

fn check_answer(
    before: &Job,
    event: &Event,
    now: Timestamp,
    answer: &Result<Applied, Rejected>,
) -> Result<(), TestCaseError> {
    let same = answer.as_ref().is_ok_and(|a| a.job == *before);
    if let Some((token, report)) = write(event) {
        let expected = if before.lease().is_some_and(|l| l.token == token) {
            let agreed = report == Some(Report::Cancelled);
            (agreed && before.cancel.is_none()).then_some(Rejected::CancelNotRequested)
        } else if before.settled.is_some_and(|s| s.token == token) {
            let repeated = report == before.settled.map(|s| s.report);
            prop_assert!(!repeated || same);
            (!repeated).then_some(Rejected::AlreadyReported)
        } else if before.status().is_done() {
            Some(Rejected::JobAlreadyFinished)
        } else if before.lease().is_some() {
            Some(Rejected::LeaseLost)
        } else {
            Some(Rejected::LeaseExpired)
        };
        prop_assert_eq!(answer.as_ref().err().copied(), expected);
    }
    if let (Event::TakeBack { .. }, Some(due)) = (event, before.reap_at()) {
        prop_assert_eq!(answer.is_ok(), due <= now, "the reaper looks exactly when it should");
    }
    let Ok(Applied { job: after, change, .. }) = answer else {
        return Ok(());
    };
    if before.status().is_done() {
        prop_assert!(same && matches!(change, Change::Unchanged | Change::Deleted));
    }
    if matches!(change, Change::Unchanged | Change::Deleted) {
        prop_assert!(same);
    }
    let told = matches!(event, Event::Heartbeat { progress: Some(_), .. });
    let seen = told || visible(before) != visible(after);
    prop_assert_eq!(after.version, before.version + u64::from(seen));
    prop_assert_eq!(after.updated_at, if seen { now } else { before.updated_at });
    prop_assert_eq!(after.fence, before.fence + u64::from(*change == Change::Claimed));
    if let (Some(old), Some(new)) = (before.lease(), after.lease()) {
        prop_assert!(new.expires_at >= old.expires_at && new.timeout_at >= old.timeout_at);
        let moved = new.timeout_at != old.timeout_at;
        prop_assert!(!moved || *event == Event::Extend, "nobody but us moves the hard limit");
    }
    if after.status() == Status::Pending && before.status() == Status::Running {
        prop_assert!(after.eligible_at >= now);
    }
    Ok(())
}

/// From wherever a job is, time and the server's own tasks lead it on: it is never stuck.
fn check_not_stuck(job: &Job, now: Timestamp) -> Result<(), TestCaseError> {
    match job.phase {
        Phase::Running(_) => {
            let due = job.reap_at().map_or(now, |t| t.max(now));
            prop_assert!(apply(job, &take_back_now(), due).is_ok());
        }
        Phase::Pending(wait) => {
            let due = job.eligible_at.max(now);
            let mut job = job.clone();
            if wait != Wait::Queued {
                job = apply(&job, &Event::Promote, due)
                    .map_err(|r| {
                        TestCaseError::fail(format!("a due job cannot be promoted: {r:?}"))
                    })?
                    .job;
            }
            let claimed = apply(&job, &claim_by(250), due).is_ok();
            prop_assert_ne!(claimed, apply(&job, &Event::MissStart, due).is_ok());
        }
        Phase::Completed | Phase::Failed | Phase::Cancelled => {
            let end = job.expires_at.map_or(now, |t| t.max(now));
            prop_assert!(apply(job, &Event::Expire, end).is_ok());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_life_keeps_the_promises(
        job in accepted(),
        steps in prop::collection::vec((pause(), act()), 1..60),
    ) {
        let mut life = Life { job, now: at(0), leases: 0 };
        check_job(&life.job, 0)?;
        for (pause, act) in steps {
            life.now = life.now.plus(Duration::from_millis(pause));
            let event = life.event(&act);
            let answer = apply(&life.job, &event, life.now);
            check_answer(&life.job, &event, life.now, &answer)?;
            if let Ok(applied) = answer {
                life.leases += u8::from(applied.change == Change::Claimed);
                life.job = applied.job;
            }
            check_job(&life.job, life.leases)?;
            check_not_stuck(&life.job, life.now)?;
        }
        for act in every_act() {
            let event = life.event(&act);
            let answer = apply(&life.job, &event, life.now);
            check_answer(&life.job, &event, life.now, &answer)?;
        }
    }

    #[test]
    fn extremes_are_answered_too(
        acts in prop::collection::vec(act(), 1..20),
        now in prop_oneof![Just(i64::MIN), Just(0), Just(i64::MAX)],
        huge in prop_oneof![Just(Duration::ZERO), Just(Duration::MAX)],
    ) {
        let policy = Policy { timeout: huge, cancel_grace: huge, ..policy() };
        let job = Job::accepted(Timestamp::from_millis(now), None, None, u32::MAX, policy);
        let mut life = Life { job, now: Timestamp::from_millis(now), leases: 0 };
        for act in acts {
            let mut event = life.event(&act);
            match &mut event {
                Event::Claim { lease, .. } => *lease = huge,
                Event::TakeBack { spread } => *spread = huge,
                Event::Heartbeat { extend, .. } => *extend = Some(huge),
                Event::Fail { retry_after, .. } => *retry_after = Some(huge),
                Event::Release { delay, .. } => *delay = Some(huge),
                Event::Complete { .. }
                | Event::AgreeToCancel { .. }
                | Event::Withdraw { .. }
                | Event::Extend
                | Event::Cancel { .. }
                | Event::Promote
                | Event::MissStart
                | Event::Delete
                | Event::Expire => {}
            }
            if let Ok(applied) = apply(&life.job, &event, life.now) {
                life.leases += u8::from(applied.change == Change::Claimed);
                life.job = applied.job;
            }
        }
    }
}
