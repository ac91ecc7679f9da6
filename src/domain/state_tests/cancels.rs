//! Rows that start in `running`: a cancel is a wish, until it is agreed to, forced or overdue.

use super::*;

#[test]
fn a_cancel_of_a_running_job_is_a_wish() {
    let done = apply_at(&running(), &wish(false), 2);
    assert_eq!((done.change, done.job.status()), (Change::CancelRequested, Status::Running));
    assert_eq!(done.job.cancel.as_ref().map(|c| c.at), Some(at(2)));
    assert_eq!(done.job.version, 3);
    let again = apply_at(&done.job, &wish(false), 9);
    assert_eq!((again.change, &again.job), (Change::Unchanged, &done.job), "the first wish stands");
    assert_eq!(go(&done.job, &beat(1), 9).status(), Status::Running, "the worker may wind up");
}

#[test]
fn the_worker_agrees_only_to_a_wish() {
    assert_eq!(refused(&running(), &agree(1), 3), Rejected::CancelNotRequested);
    let done = apply_at(&unwanted(), &agree(1), 3);
    assert_eq!((done.change, done.job.status()), (Change::Cancelled, Status::Cancelled));
    assert_eq!(done.job.expires_at, Some(at(3).plus(policy().retention.cancelled)));
    assert_eq!(done.job.history[0].outcome, AttemptOutcome::Cancelled);
}

#[test]
fn a_forced_cancel_fences_the_worker_at_once() {
    for job in [running(), unwanted()] {
        let done = apply_at(&job, &wish(true), 3);
        assert_eq!((done.change, done.job.status()), (Change::Cancelled, Status::Cancelled));
        assert_eq!(done.job.cancel.as_ref().map(|c| c.by), Some(Requester::Operator));
        assert_eq!(refused(&done.job, &complete(1), 3), Rejected::JobAlreadyFinished);
    }
}

#[test]
fn a_cancel_is_carried_out_when_its_grace_ends() {
    let job = unwanted();
    assert_eq!(job.reap_at(), Some(at(22)));
    assert_eq!(refused(&job, &take_back_now(), 21), Rejected::NotEligible);
    let done = apply_at(&job, &take_back_now(), 22);
    assert_eq!((done.change, done.job.status()), (Change::Cancelled, Status::Cancelled));
    assert_eq!(done.job.error, None);
    assert_eq!(refused(&done.job, &complete(1), 23), Rejected::JobAlreadyFinished);
    // Heartbeats do not put it off.
    assert_eq!(go(&go(&job, &beat(1), 20), &take_back_now(), 22).status(), Status::Cancelled);
}

#[test]
fn an_unwanted_job_whose_worker_is_lost_is_cancelled() {
    for (s, cause) in [(31, TakeBackCause::WorkerSilent), (61, TakeBackCause::HardTimeout)] {
        let last_attempt = go(&go(&fresh_with(1), &claim_by(1), 1), &wish(false), 2);
        for job in [unwanted(), last_attempt] {
            let done = apply_at(&job, &take_back_now(), s);
            assert_eq!(done.change, Change::TakenBack(cause));
            assert_eq!(done.job.status(), Status::Cancelled);
        }
    }
}

#[test]
fn an_unwanted_job_that_would_be_tried_again_is_cancelled_instead() {
    let done = apply_at(&unwanted(), &fail(1, true), 3);
    assert_eq!((done.change, done.job.status()), (Change::Cancelled, Status::Cancelled));
    let done = apply_at(&unwanted(), &release(1), 3);
    assert_eq!((done.change, done.job.status()), (Change::Cancelled, Status::Cancelled));
    assert_eq!(done.job.attempt, 0);
    // What would have failed for good has failed.
    assert_eq!(go(&unwanted(), &fail(1, false), 3).status(), Status::Failed);
    let last_attempt = go(&go(&fresh_with(1), &claim_by(1), 1), &wish(false), 2);
    assert_eq!(go(&last_attempt, &fail(1, true), 3).status(), Status::Failed);
}
