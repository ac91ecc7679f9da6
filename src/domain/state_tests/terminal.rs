//! Nothing leads out of a terminal state.

use super::*;

fn terminals() -> [Job; 4] {
    [
        go(&running(), &complete(1), 2),
        go(&running(), &fail(1, false), 2),
        go(&fresh_with(1), &claim_by(1), 1),
        go(&fresh(), &wish(false), 2),
    ]
    .map(|j| if j.status().is_done() { j } else { go(&j, &take_back_now(), 31) })
}

#[test]
fn nothing_leads_out_of_a_terminal_state() {
    for job in terminals() {
        assert!(job.status().is_done());
        for event in [claim_by(7), take_back_now(), Event::Extend, Event::Promote] {
            assert_eq!(refused(&job, &event, 10_000), Rejected::NotEligible);
        }
        for event in [
            beat(7),
            complete(7),
            fail(7, true),
            release(7),
            agree(7),
            Event::Withdraw { fence: job.fence },
            Event::MissStart,
        ] {
            assert_eq!(refused(&job, &event, 10_000), Rejected::JobAlreadyFinished);
        }
        for force in [false, true] {
            match job.status() {
                Status::Cancelled => {
                    let done = apply_at(&job, &wish(force), 9);
                    assert_eq!((done.change, &done.job), (Change::Unchanged, &job));
                }
                Status::Pending | Status::Running | Status::Completed | Status::Failed => {
                    assert_eq!(refused(&job, &wish(force), 9), Rejected::JobAlreadyFinished);
                }
            }
        }
    }
}

#[test]
fn only_finished_jobs_are_forgotten() {
    for job in [fresh(), running(), unwanted()] {
        for event in [Event::Delete, Event::Expire] {
            assert_eq!(refused(&job, &event, 10_000_000), Rejected::JobNotFinished);
        }
    }
    for job in terminals() {
        let end = job.expires_at.unwrap();
        let early = Timestamp::from_millis(end.as_millis() - 1);
        assert_eq!(apply(&job, &Event::Expire, early), Err(Rejected::NotEligible));
        for (event, now) in [(Event::Expire, end), (Event::Delete, at(40))] {
            let done = apply(&job, &event, now).unwrap();
            assert_eq!((done.change, &done.job), (Change::Deleted, &job));
        }
    }
}

#[test]
fn codes_are_distinct() {
    let codes: std::collections::BTreeSet<_> = Rejected::ALL.iter().map(|r| r.code()).collect();
    assert_eq!(codes.len(), Rejected::ALL.len());
}
