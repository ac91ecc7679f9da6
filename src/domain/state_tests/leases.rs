//! Rows that start in `running`: leases that are extended, end or are taken back.

use super::*;

#[test]
fn a_silent_workers_lease_is_taken_back_and_counts() {
    assert_eq!(refused(&running(), &take_back_now(), 30), Rejected::NotEligible);
    let done = apply_at(&running(), &take_back_now(), 31);
    assert_eq!(done.change, Change::TakenBack(TakeBackCause::WorkerSilent));
    assert_eq!((done.job.phase.clone(), done.order), (Phase::Pending(Wait::Queued), Order::Renew));
    assert_eq!((done.job.attempt, done.job.eligible_at), (1, at(31)), "at once, no back-off");
    assert_eq!(error_type(&done.job), Some("lease-expired"));
    assert_eq!(done.job.history[0].outcome, AttemptOutcome::LeaseExpired);
    assert_eq!(go(&done.job, &claim_by(2), 31).attempt, 2);
}

#[test]
fn a_crowd_taken_back_is_spread() {
    let spread = go(&running(), &Event::TakeBack { spread: secs(3) }, 31);
    assert_eq!((spread.phase, spread.eligible_at), (Phase::Pending(Wait::Backoff), at(34)));
}

#[test]
fn only_a_running_job_is_taken_back_or_extended() {
    for job in [fresh(), go(&running(), &complete(1), 2)] {
        assert_eq!(refused(&job, &take_back_now(), 10_000), Rejected::NotEligible);
        assert_eq!(refused(&job, &Event::Extend, 10_000), Rejected::NotEligible);
    }
}

#[test]
fn the_hard_limit_holds_whatever_heartbeats_say() {
    let mut job = running();
    for s in (10..=60).step_by(10) {
        job = go(&job, &beat(1), s);
        assert_eq!(job.lease().unwrap().timeout_at, at(61));
    }
    let forever = Event::Heartbeat { token: token(1), extend: Some(secs(3_600)), progress: None };
    job = go(&job, &forever, 60);
    assert_eq!(job.reap_at(), Some(at(61)));
    assert_eq!(refused(&job, &take_back_now(), 60), Rejected::NotEligible);
    let done = apply_at(&job, &take_back_now(), 61);
    assert_eq!(done.change, Change::TakenBack(TakeBackCause::HardTimeout));
    assert_eq!(error_type(&done.job), Some("attempt-timeout"));
    assert_eq!((done.job.status(), done.job.attempt), (Status::Pending, 1));
    assert_eq!(done.job.history[0].outcome, AttemptOutcome::TimedOut);
}

#[test]
fn a_poison_pill_ends_failed() {
    let mut job = fresh_with(4);
    for n in 1..=4u8 {
        assert_eq!(job.status(), Status::Pending);
        let s = i64::from(n) * 100;
        job = go(&go(&job, &claim_by(n), s), &take_back_now(), s + 30);
    }
    assert_eq!((job.status(), job.attempt), (Status::Failed, 4));
    assert_eq!(error_type(&job), Some("lease-expired"));
}

#[test]
fn a_heartbeat_never_shortens_the_lease() {
    let short = Event::Heartbeat { token: token(1), extend: Some(secs(1)), progress: None };
    assert_eq!(go(&running(), &short, 5).lease().unwrap().expires_at, at(31));
    let long = Event::Heartbeat { token: token(1), extend: Some(secs(50)), progress: None };
    let extended = go(&running(), &long, 5);
    assert_eq!(extended.lease().unwrap().expires_at, at(55));
    assert_eq!(go(&extended, &beat(1), 6).lease().unwrap().expires_at, at(55));
    assert_eq!(go(&extended, &beat(1), 40).lease().unwrap().expires_at, at(70));
}

#[test]
fn a_bare_heartbeat_keeps_the_version() {
    let done = apply_at(&running(), &beat(1), 5);
    assert_eq!(done.change, Change::Extended);
    assert_eq!((done.job.version, done.job.updated_at), (2, at(1)));
    let progress = Progress { percent: Some(1.0), message: None, updated_at: at(0) };
    let told = Event::Heartbeat { token: token(1), extend: None, progress: Some(progress) };
    let done = go(&running(), &told, 5);
    assert_eq!((done.version, done.updated_at), (3, at(5)));
}

#[test]
fn our_outage_extends_lease_and_limit_and_never_shortens() {
    let done = apply_at(&running(), &Event::Extend, 500);
    let lease = done.job.lease().unwrap();
    assert_eq!((lease.expires_at, lease.timeout_at), (at(530), at(530)));
    assert_eq!((done.change, done.job.version), (Change::Extended, 2));
    assert_eq!(refused(&done.job, &take_back_now(), 529), Rejected::NotEligible);

    let done = apply_at(&running(), &Event::Extend, 1);
    assert_eq!((done.change, &done.job), (Change::Unchanged, &running()));
    assert_eq!(go(&running(), &Event::Extend, 2).lease().unwrap().timeout_at, at(61));
}
