//! The store's facts: what a sample becomes, how it ages, and what is said of several queues at once.

use super::*;
use crate::domain::job::PendingReason;

const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[test]
fn a_sample_shows_depth_reasons_and_growing_ages() {
    let rig = rig(10, &["idle"]);
    let mut busy = queue("busy");
    for (i, tally) in Tally::ALL.into_iter().enumerate() {
        busy.tallies[tally.code() as usize] = 10 * (i as u64 + 1);
    }
    busy.due = 3;
    busy.oldest_pending_age = Some(Duration::from_secs(40));
    let mut halted = queue("halted");
    halted.tallies[Tally::Queued.code() as usize] = 4;
    halted.paused = true;
    halted.oldest_pending_age = Some(Duration::from_secs(90));
    rig.sample(vec![busy, halted]);
    rig.events.drift(Status::Failed, -2);
    rig.pass(7);

    let scrape = rig.scrape();
    scrape.shows(&[
        ("punctual_jobs{queue=\"busy\",state=\"pending\"}", 60.0),
        ("punctual_jobs{queue=\"busy\",state=\"running\"}", 40.0),
        ("punctual_jobs{queue=\"busy\",state=\"completed\"}", 50.0),
        ("punctual_jobs{queue=\"busy\",state=\"cancelled\"}", 70.0),
        ("punctual_queue_depth{queue=\"busy\"}", 13.0),
        ("punctual_queue_pending_jobs{queue=\"busy\",reason=\"queued\"}", 10.0),
        ("punctual_queue_pending_jobs{queue=\"busy\",reason=\"scheduled\"}", 20.0),
        ("punctual_queue_pending_jobs{queue=\"busy\",reason=\"retry_backoff\"}", 30.0),
        ("punctual_queue_pending_jobs{queue=\"busy\",reason=\"queue_paused\"}", 0.0),
        ("punctual_queue_oldest_pending_age_seconds{queue=\"busy\"}", 47.0),
        ("punctual_queue_paused{queue=\"busy\"}", 0.0),
        ("punctual_queue_depth{queue=\"halted\"}", 4.0),
        ("punctual_queue_pending_jobs{queue=\"halted\",reason=\"queue_paused\"}", 4.0),
        ("punctual_queue_oldest_pending_age_seconds{queue=\"halted\"}", 0.0),
        ("punctual_queue_paused{queue=\"halted\"}", 1.0),
        ("punctual_jobs{queue=\"idle\",state=\"pending\"}", 0.0),
        ("punctual_queue_oldest_pending_age_seconds{queue=\"idle\"}", 0.0),
        ("punctual_queue_depth{queue=\"_other\"}", 0.0),
        ("punctual_count_drift_jobs{state=\"failed\"}", -2.0),
        ("punctual_count_drift_jobs{state=\"pending\"}", 0.0),
        (r#"punctual_store_names{dictionary="queues"}"#, 3.0),
        (r#"punctual_store_names{dictionary="kinds"}"#, 7.0),
        ("punctual_store_size_bytes", 4_096.0),
        ("punctual_store_free_bytes", 65_536.0),
        ("punctual_store_min_free_bytes", 256.0),
        ("punctual_state_sample_timestamp_seconds", 1.5),
        ("punctual_state_sample_duration_seconds_count", 1.0),
        // Seen in a sample, so its counters exist too.
        ("punctual_attempts_started_total{queue=\"halted\"}", 0.0),
    ]);
}

#[test]
fn a_stale_sample_is_withheld_and_a_fresh_one_returns() {
    let rig = rig(10, &["default"]);
    let store: BTreeSet<_> =
        catalogue::ALL.iter().filter(|m| m.scope == Scope::Store).map(|m| m.name).collect();
    let shown = || {
        let families = rig.scrape().families;
        store.iter().filter(|name| families.contains_key(**name)).count()
    };
    assert_eq!(shown(), 0, "nothing before the first sample");
    rig.sample(vec![]);
    rig.pass(15);
    assert_eq!(shown(), store.len(), "three samples missed, none overdue yet");
    rig.pass(1);
    assert_eq!(shown(), 0);
    assert!(rig.scrape().has("punctual_state_sample_timestamp_seconds"), "says since when");
    rig.sample(vec![]);
    assert_eq!(shown(), store.len());
}

#[test]
fn reasons_and_states_index_as_they_are_listed() {
    assert!(PendingReason::ALL.into_iter().enumerate().all(|(i, r)| r as usize == i));
    assert!(Tally::ALL.into_iter().enumerate().all(|(i, t)| t.code() == i as i64));
}

/// A queue with something of everything.
fn troubled(text: &str) -> QueueSnapshot {
    let mut q = queue(text);
    q.tallies[Tally::Queued.code() as usize] = 20;
    q.tallies[Tally::Scheduled.code() as usize] = 4;
    q.tallies[Tally::Running.code() as usize] = 2;
    q.due = 1;
    q.oldest_pending_age = Some(secs(400));
    q.oldest_running_age = Some(secs(70));
    q.stuck = std::array::from_fn(|i| i as u64);
    q.no_workers = 15;
    q.at_limit = true;
    q.stuck_after = Some(secs(300));
    q.run_threshold = secs(900);
    q.drain_estimate = secs(42);
    q.max_running = Some(2);
    q.max_depth = Some(100);
    q.workers = [1, 2, 3];
    q.slots = [4, 5, 6];
    q
}

#[test]
fn a_sample_shows_who_works_what_is_stuck_and_against_which_thresholds() {
    let rig = rig(10, &[]);
    rig.sample(vec![troubled("q")]);
    rig.pass(5);
    let scrape = rig.scrape();
    scrape.shows(&[
        ("punctual_queue_oldest_pending_age_seconds{queue=\"q\"}", 405.0),
        ("punctual_queue_oldest_running_age_seconds{queue=\"q\"}", 75.0),
        ("punctual_queue_stuck_threshold_seconds{queue=\"q\"}", 300.0),
        ("punctual_queue_run_threshold_seconds{queue=\"q\"}", 900.0),
        ("punctual_queue_drain_estimate_seconds{queue=\"q\"}", 42.0),
        ("punctual_queue_max_running{queue=\"q\"}", 2.0),
        ("punctual_queue_max_depth{queue=\"q\"}", 100.0),
        ("punctual_workers{queue=\"q\",state=\"idle\"}", 1.0),
        ("punctual_workers{queue=\"q\",state=\"busy\"}", 2.0),
        ("punctual_workers{queue=\"q\",state=\"silent\"}", 3.0),
        ("punctual_worker_slots{queue=\"q\",state=\"idle\"}", 4.0),
        ("punctual_worker_slots{queue=\"q\",state=\"silent\"}", 6.0),
    ]);
    for (i, verdict) in Verdict::ALL.into_iter().enumerate() {
        let verdict = verdict.as_str();
        let series = format!("punctual_queue_stuck_jobs{{queue=\"q\",verdict=\"{verdict}\"}}");
        scrape.shows(&[(&series, i as f64)]);
    }
}

#[test]
fn queued_jobs_have_the_first_reason_that_applies() {
    let shown = |change: fn(&mut QueueSnapshot)| {
        let mut q = troubled("q");
        change(&mut q);
        let rig = rig(10, &[]);
        rig.sample(vec![q]);
        let scrape = rig.scrape();
        PendingReason::ALL.map(|reason| {
            let reason = reason.as_str();
            let series = "punctual_queue_pending_jobs{queue=\"q\",reason=";
            scrape.get(&format!("{series}\"{reason}\"}}")) as u64
        })
    };
    // scheduled, retry_backoff, queue_paused, no_workers, concurrency_limited, rate_limited, queued
    assert_eq!(shown(|_| ()), [4, 0, 0, 15, 5, 0, 0]);
    assert_eq!(shown(|q| q.at_limit = false), [4, 0, 0, 15, 0, 0, 5]);
    assert_eq!(shown(|q| (q.at_limit, q.rate_limited) = (false, true)), [4, 0, 0, 15, 0, 5, 0]);
    assert_eq!(shown(|q| q.rate_limited = true), [4, 0, 0, 15, 5, 0, 0]);
    assert_eq!(shown(|q| q.no_workers = 0), [4, 0, 0, 0, 20, 0, 0]);
    assert_eq!(shown(|q| q.no_workers = 21), [4, 0, 0, 20, 0, 0, 0], "one of them is a due one");
    assert_eq!(shown(|q| q.paused = true), [4, 0, 20, 0, 0, 0, 0]);
}

#[test]
fn a_paused_queue_is_nobody_s_fault() {
    let rig = rig(10, &[]);
    rig.sample(vec![QueueSnapshot { paused: true, ..troubled("q") }]);
    let scrape = rig.scrape();
    scrape.shows(&[
        ("punctual_queue_paused{queue=\"q\"}", 1.0),
        ("punctual_queue_depth{queue=\"q\"}", 21.0),
        ("punctual_queue_oldest_pending_age_seconds{queue=\"q\"}", 0.0),
        ("punctual_queue_drain_estimate_seconds{queue=\"q\"}", 0.0),
        // What runs goes on.
        ("punctual_queue_oldest_running_age_seconds{queue=\"q\"}", 70.0),
        ("punctual_queue_stuck_threshold_seconds{queue=\"q\"}", 300.0),
    ]);
    for verdict in labels::VERDICTS {
        let series = format!("punctual_queue_stuck_jobs{{queue=\"q\",verdict=\"{verdict}\"}}");
        scrape.shows(&[(&series, 0.0)]);
    }
}

#[test]
fn estimates_end_at_a_day_and_an_empty_queue_needs_none() {
    let rig = rig(10, &["empty"]);
    let mut empty = queue("empty");
    empty.drain_estimate = Duration::MAX;
    rig.sample(vec![QueueSnapshot { drain_estimate: Duration::MAX, ..troubled("q") }, empty]);
    rig.scrape().shows(&[
        ("punctual_queue_drain_estimate_seconds{queue=\"q\"}", 86_400.0),
        ("punctual_queue_drain_estimate_seconds{queue=\"empty\"}", 0.0),
    ]);
}

#[test]
fn a_declared_queue_without_jobs_is_all_there() {
    let rig = rig(10, &["quiet", "unmentioned"]);
    let quiet = QueueSnapshot {
        stuck_after: Some(secs(60)),
        run_threshold: secs(3_600),
        max_running: Some(7),
        max_depth: Some(70),
        ..queue("quiet")
    };
    rig.sample(vec![quiet]);
    let scrape = rig.scrape();
    for m in catalogue::ALL.iter().filter(|m| m.scope == Scope::Store && m.by_queue()) {
        for queue in ["quiet", "unmentioned"] {
            let is = match (queue, m.name) {
                ("quiet", "punctual_queue_stuck_threshold_seconds") => 60.0,
                ("quiet", "punctual_queue_run_threshold_seconds") => 3_600.0,
                ("quiet", "punctual_queue_max_running") => 7.0,
                ("quiet", "punctual_queue_max_depth") => 70.0,
                _ => 0.0,
            };
            for values in m.combinations(queue) {
                let pairs: Vec<_> = m
                    .label_names()
                    .iter()
                    .zip(&values)
                    .map(|(n, v)| format!("{n}=\"{v}\""))
                    .collect();
                scrape.shows(&[(&format!("{}{{{}}}", m.name, pairs.join(",")), is)]);
            }
        }
    }
}

#[test]
fn several_queues_under_one_label_add_up_and_the_largest_age_threshold_and_estimate_count() {
    let rig = rig(0, &[]);
    let patient = QueueSnapshot {
        oldest_pending_age: Some(secs(10)),
        oldest_running_age: Some(secs(800)),
        stuck_after: Some(secs(7_200)),
        run_threshold: secs(50),
        drain_estimate: secs(41),
        max_running: Some(3),
        ..troubled("a")
    };
    let off = QueueSnapshot { stuck_after: None, ..troubled("b") };
    let paused = QueueSnapshot {
        paused: true,
        oldest_pending_age: Some(secs(9_999)),
        drain_estimate: secs(9_999),
        ..troubled("c")
    };
    rig.sample(vec![patient.clone(), off.clone(), paused]);
    let scrape = rig.scrape();
    assert_eq!(scrape.values("queue"), BTreeSet::from(["_none", "_other"]));
    scrape.shows(&[
        ("punctual_queue_depth{queue=\"_other\"}", 63.0),
        ("punctual_queue_pending_jobs{queue=\"_other\",reason=\"queue_paused\"}", 20.0),
        ("punctual_queue_pending_jobs{queue=\"_other\",reason=\"no_workers\"}", 30.0),
        ("punctual_queue_oldest_pending_age_seconds{queue=\"_other\"}", 400.0),
        ("punctual_queue_oldest_running_age_seconds{queue=\"_other\"}", 800.0),
        ("punctual_queue_stuck_jobs{queue=\"_other\",verdict=\"no_workers\"}", 6.0),
        ("punctual_queue_stuck_threshold_seconds{queue=\"_other\"}", 7_200.0),
        ("punctual_queue_run_threshold_seconds{queue=\"_other\"}", 900.0),
        ("punctual_queue_drain_estimate_seconds{queue=\"_other\"}", 42.0),
        ("punctual_queue_max_running{queue=\"_other\"}", 7.0),
        ("punctual_queue_max_depth{queue=\"_other\"}", 300.0),
        ("punctual_queue_paused{queue=\"_other\"}", 1.0),
        ("punctual_workers{queue=\"_other\",state=\"busy\"}", 6.0),
        ("punctual_worker_slots{queue=\"_other\",state=\"silent\"}", 18.0),
        ("punctual_label_overflow_total{label=\"queue\"}", 0.0),
    ]);
    // One without a limit, and all of them together have none.
    rig.sample(vec![patient, QueueSnapshot { max_running: None, max_depth: None, ..off }]);
    rig.scrape().shows(&[
        ("punctual_queue_max_running{queue=\"_other\"}", 0.0),
        ("punctual_queue_max_depth{queue=\"_other\"}", 0.0),
    ]);
}
