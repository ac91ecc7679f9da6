//! Who is remembered, of what, and who makes room.

use super::*;
use crate::domain::job::Policy;
use crate::domain::state::Change;

fn testimony(roll: &Roll, queue: &str, kind: &str, now: Timestamp) -> Evidence {
    let mut evidence = Evidence { at: now, ..Evidence::default() };
    let (queue, kind) = (Name::trusted(queue), Name::trusted(kind));
    roll.testify(&queue, &kind, None, None, &Leases::default(), &mut evidence);
    evidence
}

#[test]
fn whoever_works_on_a_job_takes_such_jobs() {
    let (mut roll, now) = (Roll::default(), Timestamp::from_millis(5));
    let worker = WorkerId::trusted("w");
    let beat = beat(now);
    roll.saw(&worker, Sign::Heartbeat, now);
    assert_eq!(testimony(&roll, "q", "k", now).workers, 0, "who is that?");
    roll.saw_holder(&worker, None, Sign::Heartbeat, &beat, now);
    assert_eq!(testimony(&roll, "q", "k", now).workers_present, 1);
    assert_eq!(testimony(&roll, "q", "other", now).workers, 0);
    assert_eq!(testimony(&roll, "other", "k", now).workers, 0);
}

fn beat(now: Timestamp) -> Transition {
    Transition {
        id: JobId::from_bytes([1; 16]),
        namespace: Name::trusted("a"),
        queue: Name::trusted("q"),
        kind: Name::trusted("k"),
        change: Change::Extended,
        job: Job::accepted(now, None, None, 1, Policy::default()),
        attempt_ended: false,
        trace: None,
    }
}

#[test]
fn one_id_in_two_namespaces_is_two_callers() {
    let (mut roll, now) = (Roll::default(), Timestamp::from_millis(5));
    let (a, b) = (Name::trusted("a"), Name::trusted("b"));
    let order = |namespace: &Name| claim("w", namespace.as_str());
    let present = |roll: &Roll, namespace: &Name| {
        let mut evidence = Evidence { at: now, ..Evidence::default() };
        let (queue, kind) = (Name::trusted("q"), Name::trusted("k"));
        let leases = Leases::default();
        roll.testify(&queue, &kind, Some(namespace), None, &leases, &mut evidence);
        evidence.workers_present
    };
    roll.saw_claim(&order(&a), now);
    assert_eq!((present(&roll, &a), present(&roll, &b)), (1, 0), "it may not have b's jobs");
    assert_eq!(roll.entries[&order(&a).worker].presence.namespace, Some(a.clone()));
    roll.saw_claim(&order(&b), now);
    assert_eq!((present(&roll, &a), present(&roll, &b)), (1, 1));
    assert_eq!(roll.entries[&order(&a).worker].presence.namespace, None);
    // Each is told of its own cancels, once.
    let cancel = |n| vec![JobId::from_bytes([n; 16])];
    for first in [true, false] {
        assert_eq!(roll.untold(&order(&a), &cancel(1)), first);
        assert_eq!(roll.untold(&order(&b), &cancel(2)), first);
    }
    let worker = WorkerId::trusted("w");
    roll.forget(&worker, Some(&a), &Lists::ALL);
    assert_eq!((present(&roll, &a), present(&roll, &b)), (0, 1), "only a's has gone");
    assert!(!roll.untold(&order(&b), &cancel(2)));
    roll.forget(&worker, Some(&b), &Lists::ALL);
    assert!(roll.entries.is_empty());
}

#[test]
fn whoever_leaves_takes_no_jobs() {
    let (mut roll, now) = (Roll::default(), Timestamp::from_millis(5));
    let (worker, queue) = (WorkerId::trusted("w"), Name::trusted("q"));
    assert!(roll.drain(&worker).is_none(), "who is that?");
    roll.saw_holder(&worker, None, Sign::Claim, &beat(now), now);
    assert_eq!(testimony(&roll, "q", "k", now).workers, 1);
    assert_eq!(roll.crews(&Leases::default(), now)[&queue].present(), 1);
    assert!(roll.drain(&worker).is_some());
    assert_eq!((roll.directive(&worker), roll.due(now, true).len()), (Directive::Drain, 1));
    assert_eq!(testimony(&roll, "q", "k", now).workers, 0);
    assert!(roll.crews(&Leases::default(), now).is_empty());
    let busy = Leases::from([(worker.clone(), 2)]);
    let crew = roll.crews(&busy, now)[&queue];
    assert_eq!((crew.present(), crew.slots_present()), (1, 2), "it finishes what it has");
    roll.forget(&worker, None, &Lists::ALL);
    assert_eq!(roll.directive(&worker), Directive::Continue);
}

#[test]
fn what_one_worker_makes_us_remember_is_bounded() {
    let (mut roll, now) = (Roll::default(), Timestamp::from_millis(5));
    for n in 0..100 {
        let names = |what: &str| -> Vec<Name> {
            (0..90).map(|i| Name::trusted(&format!("{what}{n}.{i}"))).collect()
        };
        let order = ClaimOrder {
            worker: WorkerId::trusted("w"),
            namespace: None,
            lists: Lists::ALL,
            queues: names("q"),
            kinds: names("k"),
            max_jobs: 1,
            lease: None,
            wait: Duration::ZERO,
            hostname: None,
            version: None,
            concurrency: None,
            held: None,
            trace: None,
        };
        roll.saw_claim(&order, now);
    }
    let entry = &roll.entries[&WorkerId::trusted("w")];
    assert!(entry.asked.iter().map(Asked::names).sum::<usize>() <= NAMES_KEPT);
    assert!(entry.presence.queues.contains(&Name::trusted("q99.0")), "the latest is known");
}

fn claim(worker: &str, namespace: &str) -> ClaimOrder {
    ClaimOrder {
        worker: WorkerId::trusted(worker),
        namespace: Some(Name::trusted(namespace)),
        lists: Lists::ALL,
        queues: vec![Name::trusted("q")],
        kinds: Vec::new(),
        max_jobs: 1,
        lease: None,
        wait: Duration::ZERO,
        hostname: None,
        version: None,
        concurrency: None,
        held: None,
        trace: None,
    }
}

fn is_there(roll: &Roll, worker: &str) -> bool {
    roll.entries.contains_key(&WorkerId::trusted(worker))
}

#[test]
fn who_invents_workers_crowds_out_his_own() {
    let (mut roll, mut now) = (Roll::default(), Timestamp::from_millis(5));
    for (worker, namespace) in [("quiet", "shop"), ("leaves", "crowd"), ("holds", "crowd")] {
        roll.saw_claim(&claim(worker, namespace), now);
    }
    roll.drain(&WorkerId::trusted("leaves")).expect("it is known");
    let holder = roll.entries.get_mut(&WorkerId::trusted("holds")).unwrap();
    holder.holds_until = now.plus(Duration::from_secs(60));
    for n in 0..3 * LIMIT {
        now = now.plus(Duration::from_millis(1));
        roll.saw_claim(&claim(&format!("w{n}"), "crowd"), now);
        assert!(roll.entries.len() <= LIMIT);
    }
    for worker in ["quiet", "leaves", "holds"] {
        assert!(is_there(&roll, worker), "{worker}");
    }
    assert_eq!(roll.directive(&WorkerId::trusted("leaves")), Directive::Drain);
    assert!(!is_there(&roll, "w0") && is_there(&roll, &format!("w{}", 3 * LIMIT - 1)));
    // Its lease is over, and with it its privilege.
    now = now.plus(Duration::from_secs(60));
    for n in 0..LIMIT {
        roll.saw_claim(&claim(&format!("x{n}"), "crowd"), now);
    }
    assert!(!is_there(&roll, "holds") && is_there(&roll, "leaves"));
}

#[test]
fn if_all_hold_leases_some_of_the_largest_crowd_go() {
    let (mut roll, now) = (Roll::default(), Timestamp::from_millis(5));
    roll.saw_claim(&claim("quiet", "shop"), now);
    for n in 0..LIMIT - 1 {
        roll.saw_claim(&claim(&format!("w{n}"), "crowd"), now);
    }
    for entry in roll.entries.values_mut() {
        entry.holds_until = now.plus(Duration::from_secs(60));
    }
    roll.saw_claim(&claim("newcomer", "shop"), now);
    assert!(is_there(&roll, "newcomer") && is_there(&roll, "quiet"));
    assert!(roll.entries.len() < LIMIT);
}

#[test]
fn the_wish_that_it_leave_is_remembered_however_late_and_however_many_there_are() {
    let (mut roll, now) = (Roll::default(), Timestamp::from_millis(5));
    roll.saw_claim(&claim("early", "shop"), now);
    let mut remembered: Vec<Presence> = roll.entries.values().map(|e| e.presence.clone()).collect();
    remembered[0].directive = Directive::Drain;
    let another = Presence { worker: WorkerId::trusted("other"), ..remembered[0].clone() };
    remembered.push(another);
    for n in 1..LIMIT {
        roll.saw_claim(&claim(&format!("w{n}"), "shop"), now);
    }
    roll.seed(remembered);
    for worker in ["early", "other"] {
        assert_eq!(roll.directive(&WorkerId::trusted(worker)), Directive::Drain, "{worker}");
    }
}
