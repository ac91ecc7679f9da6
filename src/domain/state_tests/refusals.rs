//! Whose write on leased work counts, and what the others are told.

use super::*;

/// The refusals of a worker's write, first match: the token has settled the job (differently);
/// the job is finished; another lease holds it; nobody does.
#[test]
fn refusals_of_a_workers_write_have_one_order() {
    let settled = go(&running(), &fail_after(1, Duration::ZERO), 2);
    let held_by_2 = go(&settled, &claim_by(2), 3);
    let done_by_2 = go(&held_by_2, &complete(2), 4);
    let taken_back = go(&running(), &take_back_now(), 31);
    let forced = go(&running(), &wish(true), 2);
    for (job, n, expected) in [
        (&settled, 1, Rejected::AlreadyReported),
        (&held_by_2, 1, Rejected::AlreadyReported),
        (&done_by_2, 2, Rejected::AlreadyReported),
        // Only the last report is remembered, and a finished job answers for it.
        (&done_by_2, 1, Rejected::JobAlreadyFinished),
        (&forced, 1, Rejected::JobAlreadyFinished),
        (&done_by_2, 9, Rejected::JobAlreadyFinished),
        (&held_by_2, 9, Rejected::LeaseLost),
        (&taken_back, 1, Rejected::LeaseExpired),
        (&fresh(), 9, Rejected::LeaseExpired),
    ] {
        // None of these repeats the settlement of its token (1 failed, 2 completed).
        for event in [beat(n), release(n), agree(n)] {
            assert_eq!(refused(job, &event, 40), expected, "{event:?} on {job:?}");
        }
    }
    assert_eq!(refused(&settled, &complete(1), 5), Rejected::AlreadyReported);
    assert_eq!(refused(&done_by_2, &fail(2, true), 5), Rejected::AlreadyReported);
}

#[test]
fn a_repeated_report_is_answered_like_the_first() {
    let reports = [complete(1), fail(1, true), fail(1, false), release(1), agree(1)];
    for first in &reports {
        let job = go(&unwanted(), first, 3);
        for second in &reports {
            let same = std::mem::discriminant(first) == std::mem::discriminant(second);
            if same {
                let done = apply_at(&job, second, 4);
                assert_eq!((done.change, &done.job), (Change::Unchanged, &job));
            } else {
                assert_eq!(refused(&job, second, 4), Rejected::AlreadyReported);
            }
        }
    }
}

#[test]
fn a_settled_token_cannot_touch_a_later_lease() {
    for report in [fail_after(1, Duration::ZERO), release(1)] {
        let held = go(&go(&running(), &report, 2), &claim_by(2), 3);
        let repeated = apply_at(&held, &report, 4);
        assert_eq!((repeated.change, &repeated.job), (Change::Unchanged, &held));
        assert_eq!(refused(&held, &complete(1), 4), Rejected::AlreadyReported);
        assert_eq!(refused(&held, &beat(1), 4), Rejected::AlreadyReported);
        assert_eq!(go(&held, &complete(2), 5).status(), Status::Completed);
    }
}

#[test]
fn a_report_outlives_the_loss_of_the_next_lease() {
    let held = go(&go(&running(), &fail_after(1, Duration::ZERO), 2), &claim_by(2), 3);
    let lost = go(&held, &take_back_now(), 33);
    assert_eq!(apply_at(&lost, &fail(1, true), 34).change, Change::Unchanged);
    assert_eq!(refused(&lost, &fail(2, true), 34), Rejected::LeaseExpired);
}
