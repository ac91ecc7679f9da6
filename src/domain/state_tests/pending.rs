//! Rows that start in `pending`.

use super::*;

#[test]
fn a_claim_starts_an_attempt() {
    let done = apply_at(&fresh(), &claim_by(1), 1);
    let lease = done.job.lease().unwrap();
    assert_eq!((done.change, done.order), (Change::Claimed, Order::Keep));
    assert_eq!((done.job.attempt, done.job.fence, done.job.version), (1, 1, 2));
    assert_eq!(done.job.started_at, Some(at(1)));
    assert_eq!((lease.claimed_at, lease.expires_at, lease.timeout_at), (at(1), at(31), at(61)));
    assert_eq!(done.job.reap_at(), Some(at(31)));
}

#[test]
fn only_a_queued_job_whose_moment_has_come_is_claimed() {
    let scheduled = Job::accepted(at(0), Some(at(10)), None, 5, policy());
    assert_eq!(scheduled.phase, Phase::Pending(Wait::Scheduled));
    assert_eq!(refused(&scheduled, &claim_by(1), 5), Rejected::NotEligible);
    assert_eq!(refused(&scheduled, &Event::Promote, 9), Rejected::NotEligible);
    let due = apply_at(&scheduled, &Event::Promote, 10);
    assert_eq!((due.change, due.order), (Change::Promoted, Order::Renew));
    assert_eq!(due.job.eligible_at, at(10));
    assert_eq!(go(&due.job, &claim_by(1), 10).status(), Status::Running);
    assert_eq!(refused(&due.job, &Event::Promote, 11), Rejected::NotEligible);

    assert_eq!(refused(&running(), &claim_by(2), 2), Rejected::NotEligible);
    assert_eq!(refused(&go(&running(), &complete(1), 2), &claim_by(2), 3), Rejected::NotEligible);
}

#[test]
fn run_at_in_the_past_means_now() {
    let job = Job::accepted(at(0), Some(at(-10)), None, 5, policy());
    assert_eq!((job.phase, job.eligible_at), (Phase::Pending(Wait::Queued), at(0)));
}

#[test]
fn a_pending_job_is_cancelled_at_once() {
    let scheduled = Job::accepted(at(0), Some(at(100)), None, 5, policy());
    let backing_off = go(&running(), &fail(1, true), 2);
    for job in [fresh(), scheduled, backing_off] {
        let done = apply_at(&job, &wish(false), 3);
        assert_eq!(done.change, Change::Cancelled);
        assert_eq!(done.job.status(), Status::Cancelled);
        assert_eq!((done.job.finished_at, done.job.version), (Some(at(3)), job.version + 1));
        let cancel = done.job.cancel.unwrap();
        assert_eq!((cancel.at, cancel.by), (at(3), Requester::Client));
        assert_eq!(cancel.reason.as_deref(), Some("changed my mind"));
    }
}

#[test]
fn start_by_fails_a_job_that_never_started() {
    let job = Job::accepted(at(0), None, Some(at(10)), 5, policy());
    assert_eq!(refused(&job, &Event::MissStart, 9), Rejected::NotEligible);
    assert_eq!(refused(&job, &claim_by(1), 10), Rejected::NotEligible);
    let done = apply_at(&job, &Event::MissStart, 10);
    assert_eq!((done.change, done.job.status()), (Change::Failed, Status::Failed));
    assert_eq!((error_type(&done.job), done.job.attempt), (Some("start-deadline-exceeded"), 0));

    let scheduled = Job::accepted(at(0), Some(at(20)), Some(at(10)), 5, policy());
    assert_eq!(go(&scheduled, &Event::MissStart, 10).status(), Status::Failed);
    assert_eq!(refused(&fresh(), &Event::MissStart, 1_000), Rejected::NotEligible);
}

#[test]
fn start_by_means_nothing_once_an_attempt_counts() {
    let job = Job::accepted(at(0), None, Some(at(10)), 5, policy());
    let running = go(&job, &claim_by(1), 9);
    assert_eq!(refused(&running, &Event::MissStart, 20), Rejected::NotEligible);
    let retrying = go(&running, &fail_after(1, Duration::ZERO), 20);
    assert_eq!(refused(&retrying, &Event::MissStart, 20), Rejected::NotEligible);
    assert_eq!(go(&retrying, &claim_by(2), 20).attempt, 2);
    // A release takes the attempt back, so the job has not started.
    let released = go(&running, &release(1), 20);
    assert_eq!(refused(&released, &claim_by(2), 20), Rejected::NotEligible);
    assert_eq!(go(&released, &Event::MissStart, 20).status(), Status::Failed);
}
