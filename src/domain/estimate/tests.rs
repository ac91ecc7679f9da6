use proptest::prelude::*;

use super::*;
use crate::domain::job::{Policy, Requester, Status};
use crate::domain::lease::TokenHash;
use crate::domain::names::WorkerId;
use crate::domain::state::{Event, apply};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `s` seconds after the job was accepted.
fn at(s: i64) -> Timestamp {
    Timestamp::from_millis(1_000_000 + s * 1_000)
}

fn measured(span: Duration) -> Law<'static> {
    Law::told(span, Basis::Pair)
}

fn fresh(run_at: Option<i64>) -> Job {
    Job::accepted(at(0), run_at.map(at), None, 5, Policy::default())
}

/// Claimed at second 0 with a lease of 30 s.
fn running(percent: Option<f64>) -> Job {
    let token = TokenHash::from_bytes([1; 16]);
    let claim =
        Event::Claim { worker: WorkerId::trusted("w"), token, lease: secs(30), trace: None };
    let mut job = apply(&fresh(None), &claim, at(0)).unwrap().job;
    if percent.is_some() {
        let progress = crate::domain::job::Progress { percent, message: None, updated_at: at(0) };
        let beat = Event::Heartbeat { token, extend: None, progress: Some(progress) };
        job = apply(&job, &beat, at(0)).unwrap().job;
    }
    job
}

fn wished(job: &Job) -> Job {
    let wish = Event::Cancel { by: Requester::Client, reason: None, force: false };
    apply(job, &wish, at(1)).unwrap().job
}

fn told(job: &Job, outlook: &Outlook, run: u64, wait: u64, s: i64) -> u64 {
    Estimate::of(job, outlook, &measured(secs(run)), &measured(secs(wait)), MEDIAN, at(s))
        .unwrap()
        .retry_after_seconds(0.0, &Limits::default())
}

#[test]
fn a_pending_job_waits_then_runs() {
    let nothing = Outlook::default();
    assert_eq!(told(&fresh(None), &nothing, 10, 5, 0), 15);
    assert_eq!(told(&fresh(None), &nothing, 0, 0, 0), 1);
    let idle = Outlook { idle_worker: true, ..nothing };
    assert_eq!(told(&fresh(None), &idle, 10, 5, 0), 10);
    assert_eq!(told(&fresh(None), &Outlook { jobs_ahead: Some(0), ..idle }, 10, 5, 0), 10);
    let crowd = Outlook { jobs_ahead: Some(40), start_rate: Some(2.0), ..nothing };
    assert_eq!(told(&fresh(None), &crowd, 10, 5, 0), 30);
    let not_for_him = Outlook { idle_worker: true, ..crowd };
    assert_eq!(told(&fresh(None), &not_for_him, 10, 5, 0), 10);
    let no_rate = Outlook { jobs_ahead: Some(40), start_rate: Some(0.0), ..nothing };
    assert_eq!(told(&fresh(None), &no_rate, 10, 5, 0), 15);
}

#[test]
fn known_moments_are_exact() {
    let nothing = Outlook::default();
    assert_eq!(told(&fresh(Some(600)), &nothing, 0, 0, 0), 600);
    assert_eq!(told(&fresh(Some(600)), &nothing, 10, 5, 100), 515);
    assert_eq!(told(&fresh(Some(600)), &nothing, 10, 5, 700), 15);
    let paused = Outlook { standstill: Some(Standstill::Until(at(900))), ..nothing };
    assert_eq!(told(&fresh(Some(600)), &paused, 10, 0, 0), 910, "the later moment, not the sum");
    assert_eq!(told(&fresh(None), &paused, 10, 0, 950), 10);
}

#[test]
fn a_standstill_is_given_as_long_again() {
    let since = |s| Outlook { standstill: Some(Standstill::Since(at(s))), ..Outlook::default() };
    assert_eq!(told(&fresh(None), &since(0), 10, 0, 0), 15);
    assert_eq!(told(&fresh(None), &since(-100), 10, 0, 0), 60);
    assert_eq!(told(&fresh(None), &since(-100_000), 10, 0, 0), 300);
}

#[test]
fn the_limit_is_wide_only_for_known_moments() {
    let nothing = Outlook::default();
    assert_eq!(told(&fresh(None), &nothing, 100_000, 0, 0), 300);
    assert_eq!(told(&fresh(Some(90_000)), &nothing, 1, 1, 0), 3_600);
    assert_eq!(told(&fresh(Some(10)), &nothing, 100_000, 0, 0), 300);
}

#[test]
fn a_running_job_gets_what_is_left_of_the_median() {
    let nothing = Outlook::default();
    assert_eq!(told(&running(None), &nothing, 60, 99, 0), 60);
    assert_eq!(told(&running(None), &nothing, 60, 99, 20), 40);
    assert_eq!(told(&running(None), &nothing, 60, 99, 59), 1);
    assert_eq!(told(&running(None), &nothing, 60, 99, 60), 15);
    assert_eq!(told(&running(None), &nothing, 60, 99, 200), 50);
}

#[test]
fn progress_is_averaged_with_the_median() {
    let nothing = Outlook::default();
    // A quarter done in 20 s: 60 s more by progress, 40 s more by the median.
    assert_eq!(told(&running(Some(25.0)), &nothing, 60, 0, 20), 50);
    assert_eq!(told(&running(Some(4.9)), &nothing, 60, 0, 20), 40);
    assert_eq!(told(&running(Some(100.0)), &nothing, 60, 0, 20), 20);
    assert_eq!(told(&running(Some(f64::NAN)), &nothing, 60, 0, 20), 40);
}

#[test]
fn a_wished_cancel_is_looked_at_after_a_heartbeat() {
    let nothing = Outlook::default();
    assert_eq!(told(&wished(&running(None)), &nothing, 250, 0, 2), 10);
    assert_eq!(told(&wished(&running(None)), &nothing, 5, 0, 2), 3);
}

#[test]
fn a_finished_job_has_no_estimate() {
    let wish = Event::Cancel { by: Requester::Client, reason: None, force: false };
    let job = apply(&fresh(None), &wish, at(1)).unwrap().job;
    assert_eq!(job.status(), Status::Cancelled);
    let some = measured(secs(1));
    assert_eq!(Estimate::of(&job, &Outlook::default(), &some, &some, MEDIAN, at(2)), None);
}

#[test]
fn answers_are_held_back_only_for_a_reason() {
    let window = ms(100);
    let of = |job: &Job, outlook: &Outlook, run: Law<'_>, wait: Law<'_>| {
        Estimate::of(job, outlook, &run, &wait, MEDIAN, at(0)).unwrap()
    };
    let guess = Law::told(GUESS, Basis::Guess);
    let nothing = Outlook::default();
    let idle = Outlook { idle_worker: true, ..nothing };

    let quick = of(&fresh(None), &nothing, measured(ms(60)), measured(ms(40)));
    assert!(quick.predicts_within(window) && quick.worth_holding(window, 64, false));
    assert!(!quick.worth_holding(Duration::ZERO, 64, true), "no window");
    let slow = of(&fresh(None), &nothing, measured(ms(60)), measured(ms(41)));
    assert!(!slow.worth_holding(window, 64, true));
    let no_wait = of(&fresh(None), &idle, measured(ms(60)), measured(ms(41)));
    assert!(no_wait.worth_holding(window, 64, true));

    let new = of(&fresh(None), &idle, guess, guess);
    assert!(!new.predicts_within(secs(60)), "a guess predicts nothing");
    assert!(new.worth_holding(window, 19, true));
    assert!(!new.worth_holding(window, 20, true) && !new.worth_holding(window, 0, false));

    let later = of(&fresh(Some(1)), &idle, measured(ms(1)), measured(ms(1)));
    assert!(!later.worth_holding(secs(60), 0, true), "a future run_at is never held");
}

#[test]
fn a_running_job_is_judged_by_those_that_lasted_as_long() {
    let mut sketch = Sketch::default();
    for n in 1..=100 {
        sketch.add(secs(n));
    }
    let run = Law::seen(&sketch, Basis::Pair);
    let told = |s, q| {
        Estimate::of(&running(None), &Outlook::default(), &run, &run, q, at(s))
            .unwrap()
            .retry_after_seconds(0.0, &Limits::default())
    };
    assert_eq!([told(0, 0.5), told(0, 0.25)], [50, 26]);
    assert!((24..=26).contains(&told(50, 0.5)), "of those from 51 to 100, {}", told(50, 0.5));
    assert!((4..=6).contains(&told(90, 0.5)), "{}", told(90, 0.5));
    assert_eq!(told(120, 0.5), 30, "a quarter of its age, beyond all that is known");
}

fn outlook() -> impl Strategy<Value = Outlook> {
    let standstill = prop_oneof![
        Just(None),
        (-1_000..10_000i64).prop_map(|s| Some(Standstill::Until(at(s)))),
        (-10_000..1_000i64).prop_map(|s| Some(Standstill::Since(at(s)))),
    ];
    let rate = prop::option::of(prop_oneof![Just(0.0), 0.001..100.0, Just(f64::NAN)]);
    (standstill, prop::option::of(0..1_000_000u64), rate, any::<bool>()).prop_map(
        |(standstill, jobs_ahead, start_rate, idle_worker)| Outlook {
            standstill,
            jobs_ahead,
            start_rate,
            idle_worker,
        },
    )
}

fn any_job() -> impl Strategy<Value = Job> {
    prop_oneof![
        prop::option::of(-10..10_000i64).prop_map(fresh),
        prop::option::of(0.0..100.0).prop_map(running),
        prop::option::of(0.0..100.0).prop_map(|p| wished(&running(p))),
    ]
}

fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![0..2_000u64, 0..10_000_000u64, Just(u64::MAX)].prop_map(ms)
}

proptest! {
    #[test]
    fn the_number_is_bounded_stable_and_only_ever_later(
        job in any_job(), outlook in outlook(), run in span(), wait in span(), s in 0..20_000i64,
        unit in 0.0..1.0f64,
    ) {
        let limits = Limits::default();
        let of = || Estimate::of(&job, &outlook, &measured(run), &measured(wait), MEDIAN, at(s)).unwrap();
        let told = of().retry_after_seconds(unit, &limits);
        prop_assert_eq!(told, of().retry_after_seconds(unit, &limits));
        prop_assert!((1..=3_600).contains(&told));
        let exact = of().remaining().as_secs_f64();
        // Later than the estimate unless a limit cuts it, and by no more than a tenth.
        prop_assert!(told as f64 >= exact.min(300.0) || job.cancel.is_some());
        prop_assert!(told as f64 <= exact * 1.1 + 1.0);
        prop_assert!(told >= of().retry_after_seconds(0.0, &limits));
        prop_assert!(told <= of().retry_after_seconds(1.0, &limits));
        prop_assert!(job.cancel.is_none() || told <= 10);
    }

    #[test]
    fn a_later_gate_is_never_told_earlier(
        outlook in outlook(), run in span(), wait in span(), gate in 0..5_000i64,
        more in 0..5_000i64, unit in 0.0..1.0f64,
    ) {
        let told = |run_at| {
            Estimate::of(
                &fresh(Some(run_at)), &outlook, &measured(run), &measured(wait), MEDIAN, at(0),
            )
                .unwrap()
                .retry_after_seconds(unit, &Limits::default())
        };
        prop_assert!(told(gate) <= told(gate + more));
    }

    #[test]
    fn any_limits_and_numbers_are_survived(
        job in any_job(), known in span(), statistical in span(), run in span(),
        unit in prop_oneof![Just(f64::NAN), Just(-1.0), Just(f64::INFINITY), 0.0..1.0],
        now in prop_oneof![Just(i64::MIN), Just(0), Just(i64::MAX)],
    ) {
        let limits = Limits { statistical, known };
        let now = Timestamp::from_millis(now);
        let some = Estimate::of(
            &job, &Outlook::default(), &measured(run), &measured(run), MEDIAN, now,
        );
        prop_assert!(some.unwrap().retry_after_seconds(unit, &limits) >= 1);
    }
}
