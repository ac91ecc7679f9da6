//! Labels whose values come from outside are few, whatever comes.

use super::*;
use crate::telemetry::slots::KEPT_UNUSED;

#[test]
fn queues_beyond_the_cap_are_counted_together() {
    let rig = rig(2, &["declared"]);
    rig.events.submission(Some(&name("first")), Submission::Accepted);
    for i in 0..1_000 {
        rig.events.submission(Some(&name(&format!("q{i}"))), Submission::Accepted);
    }
    let mut a = queue("qa");
    a.tallies[0] = 5;
    a.oldest_pending_age = Some(Duration::from_secs(3));
    let mut b = queue("qb");
    b.tallies[0] = 6;
    b.oldest_pending_age = Some(Duration::from_secs(8));
    let mut declared = queue("declared");
    declared.tallies[0] = 1;
    rig.sample(vec![a, b, declared]);

    let scrape = rig.scrape();
    let expected = BTreeSet::from(["_none", "_other", "declared", "first"]);
    assert_eq!(scrape.values("queue"), expected);
    for (series, value) in [
        ("punctual_job_submissions_total{outcome=\"accepted\",queue=\"_other\"}", 1_000.0),
        ("punctual_label_overflow_total{label=\"queue\"}", 1_000.0),
        ("punctual_queue_depth{queue=\"_other\"}", 11.0),
        ("punctual_queue_oldest_pending_age_seconds{queue=\"_other\"}", 8.0),
        ("punctual_queue_depth{queue=\"declared\"}", 1.0),
    ] {
        assert!((scrape.get(series) - value).abs() < f64::EPSILON, "{series}");
    }
}

#[test]
fn an_unused_queue_gives_its_label_back() {
    let rig = rig(1, &[]);
    rig.events.submission(Some(&name("old")), Submission::Accepted);
    rig.sample(vec![]);
    rig.pass(KEPT_UNUSED.as_secs());
    rig.sample(vec![]);
    let text = rig.events.render(Format::Text);
    assert!(!text.contains("queue=\"old\""));
    rig.events.submission(Some(&name("new")), Submission::Accepted);
    let series = "punctual_job_submissions_total{outcome=\"accepted\",queue=\"new\"}";
    assert!((rig.scrape().get(series) - 1.0).abs() < f64::EPSILON);
}

#[test]
fn counts_from_many_threads_add_up() {
    let rig = rig(4, &[]);
    std::thread::scope(|scope| {
        for t in 0..4 {
            let events = rig.events.clone();
            scope.spawn(move || {
                for i in 0..500 {
                    events.submission(
                        Some(&name(&format!("q{}", (t + i) % 8))),
                        Submission::Accepted,
                    );
                }
            });
        }
    });
    let scrape = rig.scrape();
    let total: f64 = scrape
        .series
        .iter()
        .filter(|(s, _)| s.starts_with("punctual_job_submissions_total"))
        .map(|(_, v)| v)
        .sum();
    assert!((total - 2_000.0).abs() < f64::EPSILON, "{total}");
}

#[test]
fn a_queue_holds_its_label_as_long_as_there_is_something_to_it() {
    let idle = |n: &str| QueueSnapshot { stuck_after: Some(PERIOD), ..queue(n) };
    for change in [
        |q: &mut QueueSnapshot| q.tallies[Tally::Failed.code() as usize] = 1,
        |q: &mut QueueSnapshot| q.workers[0] = 1,
        |q: &mut QueueSnapshot| q.paused = true,
        |_: &mut QueueSnapshot| (),
    ] {
        let rig = rig(1, &[]);
        rig.events.submission(Some(&name("old")), Submission::Accepted);
        let mut old = idle("old");
        change(&mut old);
        let used = old.in_use();
        for hour in 0..24 {
            rig.sample(vec![old.clone(), idle("unheard-of")]);
            assert!(rig.scrape().values("queue").contains("old"), "{hour} h: {old:?}");
            rig.pass(3_600);
        }
        rig.sample(vec![old.clone(), idle("unheard-of")]);
        let left = rig.scrape();
        assert_eq!(left.values("queue").contains("old"), used, "{old:?}");
        assert!(!left.values("queue").contains("unheard-of"));
        left.shows(&[
            ("punctual_queue_stuck_threshold_seconds{queue=\"_other\"}", 0.0),
            ("punctual_label_overflow_total{label=\"queue\"}", 0.0),
        ]);
    }
}

#[test]
fn kinds_beyond_the_cap_are_counted_together() {
    let rig = Rig::new(Settings { kinds: 2, ..settings(10, &[]) });
    let q = name("q");
    for i in 0..100 {
        let kind = name(&format!("k{i}"));
        rig.events.attempt_started(&q, &kind, PERIOD, None);
        rig.events.attempt_finished(&q, &kind, AttemptOutcome::Completed, PERIOD, None);
    }
    let scrape = rig.scrape();
    assert_eq!(scrape.values("kind"), BTreeSet::from(["_other", "k0", "k1"]));
    scrape.shows(&[
        ("punctual_attempts_finished_by_kind_total{kind=\"k1\",outcome=\"completed\"}", 1.0),
        ("punctual_attempts_finished_by_kind_total{kind=\"_other\",outcome=\"completed\"}", 98.0),
        // Once for each attempt, though its start was seen too.
        ("punctual_label_overflow_total{label=\"kind\"}", 98.0),
        ("punctual_label_overflow_total{label=\"queue\"}", 0.0),
    ]);
}

#[test]
fn a_kind_is_there_before_its_first_attempt_ends() {
    let rig = rig(10, &[]);
    rig.events.attempt_started(&name("q"), &name("resize"), PERIOD, None);
    let scrape = rig.scrape();
    for outcome in labels::ATTEMPT_OUTCOMES {
        let series = "punctual_attempts_finished_by_kind_total{kind=\"resize\",outcome=";
        scrape.shows(&[(&format!("{series}\"{outcome}\"}}"), 0.0)]);
    }
}

#[test]
fn classes_of_errors_are_capped_however_hostile_their_types() {
    let rig = rig(10, &[]);
    for i in 0..1_000 {
        rig.events.attempt_error(&format!("Timeout of job \"{i}\"\n}} 1"));
    }
    for ours in ["lease-expired", "_other", "Lease-Expired"] {
        rig.events.attempt_error(ours);
    }
    let scrape = rig.scrape();
    let classes = scrape.values("error_class");
    // Those of attempts, `_other`, and those of the store, which are another metric's.
    assert_eq!(classes.len(), ERROR_CLASSES + 1 + ErrorClass::ALL.len(), "{classes:?}");
    let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    assert!(classes.iter().all(|c| (1..=64).contains(&c.len()) && c.bytes().all(plain)));
    let beyond = (1_000 + 1 - (ERROR_CLASSES - 2)) as f64;
    scrape.shows(&[
        ("punctual_attempt_errors_total{error_class=\"timeout-of-job--0----1\"}", 1.0),
        ("punctual_attempt_errors_total{error_class=\"lease-expired\"}", 2.0),
        ("punctual_attempt_errors_total{error_class=\"_other\"}", beyond),
        ("punctual_label_overflow_total{label=\"error_class\"}", beyond),
    ]);
}

#[test]
fn unused_kinds_and_classes_give_their_labels_back() {
    let rig = Rig::new(Settings { kinds: 1, ..settings(10, &[]) });
    let q = name("q");
    rig.events.attempt_started(&q, &name("old"), PERIOD, None);
    rig.events.attempt_error("oops");
    rig.sample(vec![]);
    rig.pass(KEPT_UNUSED.as_secs());
    rig.sample(vec![]);
    rig.events.attempt_started(&q, &name("new"), PERIOD, None);
    let scrape = rig.scrape();
    assert_eq!(scrape.values("kind"), BTreeSet::from(["_other", "new"]));
    assert!(!scrape.has("punctual_attempt_errors_total{error_class=\"oops\"}"));
    assert!(scrape.has("punctual_attempt_errors_total{error_class=\"lease-expired\"}"));
}
