use super::*;

fn name(text: &str) -> Name {
    Name::trusted(text)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// The median to the nearest 1 %, what it is of, and of how many.
fn said(law: Law<'_>) -> (u64, Basis, u64) {
    let millis = law.quantile(0.5).as_secs_f64() * 1_000.0;
    ((millis / 0.99).floor() as u64, law.basis(), law.samples())
}

#[test]
fn laws_fall_back_from_the_pair_to_the_guess() {
    let mut m = Experience::default();
    let (q, other, k, other_kind) = (name("q"), name("other"), name("k"), name("other-kind"));
    assert_eq!(m.run(&q, &k, None, NOW).basis(), Basis::Guess);
    assert_eq!(m.run(&q, &k, None, NOW).quantile(0.5), GUESS);
    assert_eq!(m.run(&q, &k, Some(ms(7_000)), NOW).basis(), Basis::Hint);
    assert_eq!(m.wait(&q, &k, NOW).basis(), Basis::Guess);

    for _ in 0..19 {
        m.observe_run(&q, &other_kind, ms(1), NOW);
        m.observe_wait(&q, &other_kind, ms(1), NOW);
    }
    assert_eq!(m.run(&q, &k, Some(ms(7_000)), NOW).basis(), Basis::Hint, "too few of other kinds");
    assert_eq!(said(m.wait(&q, &k, NOW)), (1, Basis::Queue, 19));
    m.observe_run(&q, &other_kind, ms(1), NOW);
    assert_eq!(said(m.run(&q, &k, None, NOW)), (1, Basis::Queue, 20));

    m.observe_run(&other, &k, ms(1), NOW);
    assert_eq!(said(m.run(&q, &k, None, NOW)), (1, Basis::Kind, 1));
    m.observe_wait(&other, &k, ms(5_000), NOW);
    assert_eq!(said(m.wait(&q, &k, NOW)), (1, Basis::Queue, 19), "another queue's says nothing");

    for _ in 0..20 {
        m.observe_run(&q, &k, ms(0), NOW);
        m.observe_wait(&q, &k, ms(0), NOW);
    }
    assert_eq!(said(m.run(&q, &k, None, NOW)), (0, Basis::Pair, 20));
    assert_eq!(said(m.wait(&q, &k, NOW)), (0, Basis::Pair, 20));
    assert_eq!((m.run_samples(&q, &k, NOW), m.run_samples(&other, &k, NOW)), (20, 1));
}

#[test]
fn the_latest_hour_counts_and_outliers_do_not() {
    let mut m = Experience::default();
    let (q, k) = (name("q"), name("k"));
    for _ in 0..63 {
        m.observe_run(&q, &k, ms(1_000), NOW);
    }
    m.observe_run(&q, &k, Duration::MAX, NOW);
    let seconds = |law: Law<'_>| law.quantile(0.5).as_secs_f64().round() as u64;
    assert_eq!(seconds(m.run(&q, &k, None, NOW)), 1);
    assert!(m.p99_run(&q, &k, NOW).unwrap() > ms(86_400_000));
    let later = NOW.plus(ms(2 * 3_600_000));
    for _ in 0..20 {
        m.observe_run(&q, &k, ms(5_000), later);
    }
    assert_eq!(seconds(m.run(&q, &k, None, later)), 5);
    assert_eq!(m.mean_run(&q, later).unwrap().as_secs_f64().round() as u64, 5);
}

#[test]
fn the_number_of_keys_is_bounded_and_the_busy_ones_stay() {
    let mut m = Experience::with_limits(100, 1_000_000);
    let (q, busy) = (name("q"), name("busy"));
    for n in 0..10_000 {
        m.observe_run(&q, &busy, ms(3), NOW);
        m.observe_run(&q, &name(&format!("rare-{n}")), ms(1), NOW);
        assert!(m.len() <= 100);
    }
    assert_eq!(m.run_samples(&q, &busy, NOW), 10_000);
    assert_eq!(m.run_samples(&q, &name("rare-1"), NOW), 0);
    assert_eq!(m.run_samples(&q, &name("rare-9999"), NOW), 1);
    assert!(!m.is_empty() && Experience::default().is_empty());
}

#[test]
fn the_number_of_buckets_is_bounded_and_counted() {
    let mut m = Experience::with_limits(1_000, 10_000);
    let q = name("q");
    for n in 0..20_000u64 {
        let kind = name(&format!("k{}", n % 50));
        let then = NOW.plus(ms(n * 1_000));
        m.observe_run(&q, &kind, ms(1 << (n % 30)), then);
        m.observe_wait(&q, &kind, ms(n), then);
        let counted: usize = m.all().map(|(_, known)| known.buckets()).sum();
        assert_eq!(m.buckets(), counted, "after {n}");
        assert!(counted < 10_000 + 2 * 19 * 1_111, "{counted}");
    }
    m.turn_all(NOW.plus(ms(1_000 * 86_400_000)));
    assert_eq!(m.buckets(), 0);
}

/// A day of durations of every size.
#[test]
fn the_widest_spread_costs_no_more_than_is_said() {
    let mut window = Window::default();
    for n in 0..400_000u64 {
        let then = NOW.plus(ms(n * 216));
        window.observe(ms(n.wrapping_mul(0x9e37_79b9) & 0xffff_ffff), then);
    }
    assert!(window.buckets() <= 19 * 1_111, "{}", window.buckets());
}
