//! The conformance set itself: is it sound, and does it reach everything?

use std::collections::BTreeSet;

use punctual::domain::job::Tally;
use punctual::domain::state::{Change, Rejected, apply};
use punctual::domain::time::Timestamp;

#[path = "support/oracle.rs"]
mod oracle;

const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);

#[test]
fn every_path_applies_and_time_goes_forwards() {
    let mut names = BTreeSet::new();
    for situation in oracle::every_situation(START) {
        let _ = situation.job();
        let mut last = situation.fresh.created_at;
        for (_, at) in &situation.path {
            assert!(*at >= last, "{}", situation.name);
            last = *at;
        }
        assert!(situation.now >= last, "{}", situation.name);
        assert!(names.insert(situation.name), "{} occurs twice", situation.name);
    }
}

#[test]
fn every_state_change_and_refusal_is_reached() {
    let mut tallies = BTreeSet::new();
    let mut changes = BTreeSet::new();
    let mut refusals = BTreeSet::new();
    let mut names = BTreeSet::new();
    for situation in oracle::every_situation(START) {
        let job = situation.job();
        tallies.insert(Tally::of(&job.phase));
        let mut here = BTreeSet::new();
        for (name, event) in oracle::every_event(&job) {
            assert!(here.insert(name.clone()), "{name} occurs twice");
            match apply(&job, &event, situation.now) {
                Ok(applied) => changes.insert(label(applied.change)),
                Err(rejected) => refusals.insert(rejected.code()),
            };
        }
        names.extend(here);
    }
    assert_eq!(tallies.len(), Tally::ALL.len());
    assert_eq!(refusals, Rejected::ALL.iter().map(|r| r.code()).collect());
    let expected = [
        "unchanged",
        "claimed",
        "extended",
        "completed",
        "failed",
        "retrying",
        "released",
        "taken_back",
        "cancel_requested",
        "cancelled",
        "promoted",
        "deleted",
    ];
    assert_eq!(changes, expected.into_iter().collect());
    assert_eq!(names.len(), 41, "every event is fired somewhere");
}

/// No wildcard: a new change must be reached by the set.
fn label(change: Change) -> &'static str {
    match change {
        Change::Unchanged => "unchanged",
        Change::Claimed => "claimed",
        Change::Extended => "extended",
        Change::Completed => "completed",
        Change::Failed => "failed",
        Change::Retrying(_) => "retrying",
        Change::Released => "released",
        Change::TakenBack(_) => "taken_back",
        Change::CancelRequested => "cancel_requested",
        Change::Cancelled => "cancelled",
        Change::Promoted => "promoted",
        Change::Deleted => "deleted",
    }
}

#[test]
fn secrets_belong_to_their_hashes() {
    for n in [1, 2, oracle::FOREIGN] {
        let token = oracle::lease_token(n);
        assert_eq!(oracle::secret_of(token.hash()), token);
    }
}
