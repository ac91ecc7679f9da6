use super::*;

const fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_790_000_000_000 + seconds * 1_000)
}

/// Ten jobs that have waited for 400 s, while a healthy pool works on others.
fn saturated() -> Evidence {
    Evidence {
        at: at(400),
        eligible: 10,
        running: 2,
        oldest_since: Some(at(0)),
        stuck_after_ms: Some(300_000),
        queue_running: 2,
        workers: 2,
        workers_present: 2,
        slots: 2,
        leases: 2,
        last_seen: Some(at(399)),
        last_start: Some(at(398)),
        last_settlement: Some(at(398)),
        newest_worker: Some(at(-900)),
        run_limit_ms: 300_000,
        previous_scan: Some(at(385)),
        ..Evidence::default()
    }
}

#[test]
fn each_verdict_has_its_evidence() {
    let judged = |change: fn(&mut Evidence)| {
        let mut evidence = saturated();
        change(&mut evidence);
        evidence.judge()
    };
    assert_eq!(judged(|_| ()), Verdict::WorkersSaturated);
    assert_eq!(judged(|e| e.store_degraded = true), Verdict::StoreDegraded);
    assert_eq!(judged(|e| e.max_running = Some(2)), Verdict::ConcurrencyLimited);
    assert_eq!(judged(|e| e.max_running = Some(3)), Verdict::WorkersSaturated);
    assert_eq!(
        judged(|e| {
            e.start_rate_limit = Some(Rate::per_second(0.1));
            e.last_rate_limited = Some(at(390));
            e.parked_claims = 1;
        }),
        Verdict::RateLimited
    );
    assert_eq!(
        judged(|e| (e.last_higher_start, e.last_level_start) = (Some(at(398)), Some(at(90)))),
        Verdict::Starved
    );
    assert_eq!(
        judged(|e| (e.workers, e.workers_present, e.leases) = (0, 0, 0)),
        Verdict::NoWorkers
    );
    assert_eq!(judged(|e| (e.workers_present, e.leases) = (0, 0)), Verdict::WorkersSilent);
    assert_eq!(
        judged(|e| {
            e.last_start = Some(at(100));
            e.last_settlement = Some(at(90));
        }),
        Verdict::WorkersStalled
    );
    assert_eq!(
        judged(|e| {
            e.last_settlement = Some(at(-3_000));
            e.queue_running = 0;
        }),
        Verdict::WorkersSaturated,
        "they are busy with long work of another queue"
    );
    assert_eq!(
        judged(|e| {
            e.last_settlement = None;
            e.newest_worker = Some(at(350));
        }),
        Verdict::WorkersSaturated,
        "a new worker has had no time to settle anything"
    );
    assert_eq!(
        judged(|e| {
            e.leases = 0;
            e.last_settlement = Some(at(200));
        }),
        Verdict::Unknown
    );
    assert_eq!(judged(|e| e.leases = 0), Verdict::WorkersSaturated, "they settle between claims");
}

#[test]
fn who_asks_in_vain_is_our_own_fault() {
    let mut parked = saturated();
    parked.parked_claims = 1;
    assert_eq!(parked.judge(), Verdict::WorkersSaturated, "something started since the last scan");
    parked.last_start = Some(at(100));
    assert_eq!(parked.judge(), Verdict::DispatchStalled);
    parked.previous_scan = None;
    assert_eq!(parked.judge(), Verdict::WorkersSaturated, "one look is not enough");

    let mut polling = saturated();
    polling.last_start = None;
    polling.last_empty_claim = Some(at(380));
    assert_eq!(polling.judge(), Verdict::WorkersSaturated, "that was before the last scan");
    polling.last_empty_claim = Some(at(390));
    assert_eq!(polling.judge(), Verdict::DispatchStalled);
    polling.oldest_since = Some(at(395));
    assert_eq!(polling.judge(), Verdict::WorkersSaturated, "that was before the job was there");
}

#[test]
fn a_claim_that_a_limit_holds_back_does_not_ask_in_vain() {
    let mut limited = saturated();
    limited.max_running = Some(5);
    limited.parked_claims = 1;
    limited.last_start = None;
    limited.queue_last_start = Some(at(399));
    assert_eq!(limited.judge(), Verdict::WorkersSaturated, "others of the queue have their turn");
    limited.queue_last_start = Some(at(300));
    assert_eq!(limited.judge(), Verdict::DispatchStalled);
}

#[test]
fn a_limit_on_starts_is_the_cause_only_while_somebody_waits_for_it() {
    let mut paced = saturated();
    paced.start_rate_limit = Some(Rate::per_second(0.1));
    paced.last_rate_limited = Some(at(390));
    assert_eq!(paced.judge(), Verdict::WorkersSaturated, "all are busy");
    paced.slots = 3;
    assert_eq!(paced.judge(), Verdict::RateLimited, "one has time, and polls");
    paced.last_rate_limited = Some(at(380));
    assert_eq!(paced.judge(), Verdict::WorkersSaturated, "that was before the last scan");
    paced.previous_scan = None;
    assert_eq!(paced.judge(), Verdict::RateLimited);
    paced.start_rate_limit = None;
    assert_eq!(paced.judge(), Verdict::WorkersSaturated);

    // Whoever is parked waits for a token, not in vain.
    let mut parked = saturated();
    parked.start_rate_limit = Some(Rate::per_second(0.1));
    (parked.parked_claims, parked.last_start) = (1, None);
    parked.queue_last_start = Some(at(399));
    assert_eq!(parked.judge(), Verdict::WorkersSaturated, "others of the queue have their turn");
    parked.queue_last_start = Some(at(300));
    assert_eq!(parked.judge(), Verdict::DispatchStalled);
    parked.last_rate_limited = Some(parked.at);
    assert_eq!(parked.judge(), Verdict::RateLimited);
    (parked.workers, parked.workers_present, parked.leases) = (0, 0, 0);
    (parked.slots, parked.parked_claims) = (0, 0);
    assert_eq!(parked.judge(), Verdict::NoWorkers, "nobody is there to be held back");
}

#[test]
fn starved_is_who_is_overtaken_for_long() {
    let mut starved = saturated();
    (starved.oldest_priority, starved.last_higher_start) = (Some(0), Some(at(398)));
    starved.levels_since = Some(at(101));
    assert_eq!(starved.judge(), Verdict::WorkersSaturated, "who knows what started before");
    starved.levels_since = Some(at(100));
    assert_eq!(starved.judge(), Verdict::Starved, "nothing of its own ever started");
    starved.last_level_start = Some(at(100));
    assert_eq!(starved.judge(), Verdict::Starved, "not for as long as it takes to be stuck");
    starved.last_level_start = Some(at(101));
    assert_eq!(starved.judge(), Verdict::WorkersSaturated, "its turn comes");
    starved.last_level_start = Some(at(100));
    starved.last_higher_start = Some(at(385));
    assert_eq!(
        starved.judge(),
        Verdict::WorkersSaturated,
        "nothing overtook it since the last scan"
    );
    starved.last_higher_start = None;
    assert_eq!(starved.judge(), Verdict::WorkersSaturated, "equal among equals");

    let mut quick = Evidence { stuck_after_ms: Some(1_000), ..saturated() };
    (quick.last_higher_start, quick.last_level_start) = (Some(at(399)), Some(at(390)));
    assert_eq!(quick.judge(), Verdict::WorkersSaturated, "one of its own since the last scan");
    quick.last_level_start = Some(at(385));
    assert_eq!(quick.judge(), Verdict::Starved);
    quick.previous_scan = None;
    assert_eq!(quick.judge(), Verdict::WorkersSaturated, "one look is not enough");
}

#[test]
fn the_first_that_applies_is_the_verdict() {
    let all = Evidence {
        store_degraded: true,
        max_running: Some(1),
        queue_running: 1,
        start_rate_limit: Some(Rate::per_second(1.0)),
        last_rate_limited: Some(at(1)),
        parked_claims: 1,
        ..Evidence::default()
    };
    assert_eq!(all.judge(), Verdict::StoreDegraded);
    assert_eq!(Evidence { store_degraded: false, ..all.clone() }.judge(), Verdict::RateLimited);
    assert_eq!(
        Evidence { store_degraded: false, parked_claims: 0, ..all.clone() }.judge(),
        Verdict::ConcurrencyLimited
    );
    assert_eq!(Evidence::default().judge(), Verdict::NoWorkers);
    let starved = Evidence {
        last_higher_start: Some(at(399)),
        levels_since: Some(at(0)),
        last_start: None,
        parked_claims: 1,
        ..saturated()
    };
    assert_eq!(starved.judge(), Verdict::Starved, "before a dispatch that stalls");
    let silent = Evidence { workers_present: 0, ..starved };
    assert_eq!(silent.judge(), Verdict::WorkersSilent);
    assert!(Verdict::ALL.is_sorted());
}

#[test]
fn saturated_workers_that_end_nothing_may_hang() {
    let step =
        |evidence: &Evidence| next_step(Verdict::WorkersSaturated, "reports", "render", evidence);
    let mut evidence = saturated();
    evidence.stuck_after_ms = Some(60_000);
    evidence.oldest_since = Some(at(100));
    evidence.last_settlement = Some(at(399));
    evidence.newest_worker = None;
    assert!(step(&evidence).contains("too few"), "{}", step(&evidence));
    evidence.last_settlement = Some(at(300));
    let quiet = evidence.at.since(at(300)).as_secs();
    let said = format!("no job has ended for {quiet} s");
    assert!(step(&evidence).contains(&said), "{}", step(&evidence));
    // Who has come a moment ago cannot have ended one.
    evidence.newest_worker = Some(at(395));
    assert!(step(&evidence).contains("too few"), "{}", step(&evidence));
}

#[test]
fn what_waits_for_longer_than_it_may_is_overdue() {
    let mut evidence = saturated();
    evidence.stuck_after_ms = Some(60_000);
    evidence.oldest_since = None;
    assert!(!evidence.is_overdue());
    evidence.oldest_since = Some(evidence.at.minus(Duration::from_secs(60)));
    assert!(!evidence.is_overdue());
    evidence.oldest_since = Some(evidence.at.minus(Duration::from_secs(61)));
    assert!(evidence.is_overdue());
    evidence.stuck_after_ms = None;
    assert!(!evidence.is_overdue());
}

#[test]
fn evidence_survives_being_written_down() {
    let evidence = Evidence {
        start_rate: Some(Rate::per_second(1.25)),
        max_running: Some(7),
        start_rate_limit: Some(Rate::per_second(0.5)),
        last_rate_limited: Some(at(3)),
        oldest_priority: Some(-3),
        last_higher_start: Some(at(4)),
        last_level_start: Some(at(5)),
        last_error: Some("upstream-timeout".to_owned()),
        ..saturated()
    };
    let text = serde_json::to_string(&evidence).unwrap();
    assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
    assert_eq!(serde_json::from_str::<Evidence>("{}").unwrap(), Evidence::default());
}

#[test]
fn every_verdict_has_a_name_and_a_next_step() {
    for verdict in Verdict::ALL {
        assert_eq!(Verdict::parse(verdict.as_str()), Some(verdict));
        let step = next_step(verdict, "reports", "render", &saturated());
        assert!(step.len() > 40 && !step.contains("  "), "{step}");
    }
    assert_eq!(Verdict::parse("tired"), None);
}
