//! Rows that start in `running`: what the worker reports of its attempt.

use super::*;

#[test]
fn complete_ends_the_job() {
    let retried = go(&running(), &fail_after(1, Duration::ZERO), 2);
    assert!(retried.error.is_some());
    let done = apply_at(&go(&retried, &claim_by(2), 3), &complete(2), 4);
    assert_eq!((done.change, done.job.status()), (Change::Completed, Status::Completed));
    assert_eq!(done.job.error, None);
    assert_eq!(done.job.finished_at, Some(at(4)));
    assert_eq!(done.job.expires_at, Some(at(4).plus(policy().retention.completed)));
    let outcomes: Vec<_> =
        done.job.history.iter().map(|a| (a.attempt, a.fence, a.outcome)).collect();
    assert_eq!(outcomes, [(1, 1, AttemptOutcome::Failed), (2, 2, AttemptOutcome::Completed)]);
}

#[test]
fn a_wished_cancel_does_not_undo_finished_work() {
    let done = go(&unwanted(), &complete(1), 3);
    assert_eq!(done.status(), Status::Completed);
    assert_eq!(done.cancel.map(|c| c.at), Some(at(2)));
}

#[test]
fn a_worker_that_is_late_but_not_taken_back_keeps_its_work() {
    // 32: past the lease. 62: past both. 10 000: nobody has looked for hours.
    for late in [32, 62, 10_000] {
        assert_eq!(go(&running(), &complete(1), late).status(), Status::Completed);
        assert_eq!(go(&running(), &beat(1), late).status(), Status::Running);
        assert_eq!(go(&running(), &fail(1, false), late).status(), Status::Failed);
        assert_eq!(go(&running(), &release(1), late).attempt, 0);
    }
    let taken = go(&running(), &take_back_now(), 32);
    for event in [complete(1), beat(1), fail(1, true), release(1), agree(1)] {
        assert_eq!(refused(&taken, &event, 33), Rejected::LeaseExpired);
        assert_eq!(refused(&go(&taken, &claim_by(2), 33), &event, 34), Rejected::LeaseLost);
    }
}

#[test]
fn a_retryable_failure_waits_and_is_no_error_of_the_job() {
    let done = apply_at(&running(), &fail(1, true), 2);
    assert_eq!((done.change, done.order), (Change::Retrying(secs(5)), Order::Renew));
    assert_eq!(done.job.phase, Phase::Pending(Wait::Backoff));
    assert_eq!((done.job.eligible_at, done.job.attempt), (at(7), 1));
    assert_eq!((done.job.finished_at, done.job.expires_at), (None, None));
    let last = done.job.error.as_ref().unwrap();
    assert_eq!((last.attempt, last.at), (1, at(2)), "stamped by us, not by the worker");

    assert_eq!(refused(&done.job, &claim_by(2), 7), Rejected::NotEligible);
    let again = go(&go(&done.job, &Event::Promote, 7), &claim_by(2), 8);
    assert_eq!((again.attempt, again.fence, again.started_at), (2, 2, Some(at(8))));
}

#[test]
fn the_workers_delay_beats_the_back_off() {
    let later = go(&running(), &fail_after(1, secs(90)), 2);
    assert_eq!((later.phase, later.eligible_at), (Phase::Pending(Wait::Backoff), at(92)));
    let at_once = go(&running(), &fail_after(1, Duration::ZERO), 2);
    assert_eq!((at_once.phase, at_once.eligible_at), (Phase::Pending(Wait::Queued), at(2)));
}

#[test]
fn a_final_failure_fails_the_job_whatever_attempts_are_left() {
    let done = apply_at(&running(), &fail(1, false), 2);
    assert_eq!((done.change, done.job.status()), (Change::Failed, Status::Failed));
    assert_eq!(error_type(&done.job), Some("upstream-timeout"));
    assert_eq!(done.job.expires_at, Some(at(2).plus(policy().retention.failed)));
}

#[test]
fn exhausted_attempts_fail_the_job() {
    let mut job = fresh_with(3);
    for n in 1..=3u8 {
        assert_eq!(job.status(), Status::Pending);
        let claimed = go(&job, &claim_by(n), i64::from(n));
        job = go(&claimed, &fail_after(n, Duration::ZERO), i64::from(n));
    }
    assert_eq!((job.status(), job.attempt), (Status::Failed, 3));
    // The last attempt's error is still the worker's, with its own word on retrying.
    assert!(job.error.unwrap().retryable);
}

#[test]
fn a_release_does_not_count() {
    let mut job = fresh_with(1);
    for n in 1..=20u8 {
        let claimed = go(&job, &claim_by(n), i64::from(n));
        assert_eq!((claimed.attempt, claimed.fence), (1, u64::from(n)));
        let back = apply_at(&claimed, &release(n), i64::from(n));
        assert_eq!((back.change, back.order), (Change::Released, Order::Keep));
        assert_eq!(back.job.phase, Phase::Pending(Wait::Queued));
        assert_eq!((back.job.attempt, back.job.eligible_at), (0, at(i64::from(n))));
        job = back.job;
    }
    assert_eq!(job.error, None);

    let later = Event::Release { token: token(1), delay: Some(secs(10)) };
    let job = go(&running(), &later, 2);
    assert_eq!((job.phase, job.eligible_at), (Phase::Pending(Wait::Scheduled), at(12)));
}

#[test]
fn a_lease_that_nobody_received_is_withdrawn_uncounted() {
    let back = apply_at(&running(), &Event::Withdraw { fence: 1 }, 2);
    assert_eq!((back.change, back.order, back.job.attempt), (Change::Released, Order::Keep, 0));
    assert_eq!(refused(&back.job, &complete(1), 3), Rejected::LeaseExpired);
    assert_eq!(refused(&back.job, &Event::Withdraw { fence: 1 }, 3), Rejected::LeaseExpired);
    let moved_on = go(&back.job, &claim_by(2), 3);
    assert_eq!(refused(&moved_on, &Event::Withdraw { fence: 1 }, 4), Rejected::LeaseLost);
    assert_eq!(go(&unwanted(), &Event::Withdraw { fence: 1 }, 3).status(), Status::Cancelled);
}

#[test]
fn a_new_attempt_starts_without_the_old_ones_progress() {
    let progress = Progress { percent: Some(40.0), message: None, updated_at: at(0) };
    let told = Event::Heartbeat { token: token(1), extend: None, progress: Some(progress) };
    let job = go(&running(), &told, 2);
    assert_eq!(job.progress.as_ref().map(|p| p.updated_at), Some(at(2)));
    for event in [fail_after(1, Duration::ZERO), release(1)] {
        assert_eq!(go(&job, &event, 3).progress, None);
    }
    assert!(go(&job, &complete(1), 3).progress.is_some());
}

#[test]
fn history_keeps_the_newest() {
    let mut job = fresh();
    for _ in 0..100 {
        job = go(&go(&job, &claim_by(1), 1), &Event::Withdraw { fence: job.fence + 1 }, 1);
    }
    assert_eq!(job.history.len(), HISTORY_LIMIT);
    let fences: Vec<_> = job.history.iter().map(|a| a.fence).collect();
    assert_eq!(fences, (35..=100).collect::<Vec<u64>>());
}
