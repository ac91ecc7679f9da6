//! Two namespaces on one engine: nothing that a caller of the one does reaches the other's jobs.

use punctual::domain::access::Lists;
use punctual::domain::id::JobId;
use punctual::engine::ListFilter;

use super::*;

fn of(namespace: &str) -> Caller {
    let namespace = Name::parse(namespace).expect("a name");
    Caller { namespace, all_namespaces: false, operator: false, lists: Lists::ALL }
}

async fn submit(w: &World, caller: &Caller) -> JobId {
    let accepted = w.engine.submit(caller, World::submission(), Hold::Never).await;
    accepted.expect("accepted").view.record.spec.id
}

async fn claim(w: &World, caller: &Caller, order: ClaimOrder) -> Grant {
    w.engine.claim(caller, order).await.expect("a claim")
}

fn beat(id: JobId, token: &LeaseToken) -> BeatOrder {
    BeatOrder { id, token: token.clone(), extend: None, progress: None, checkpoint: None }
}

fn settle(id: JobId, token: &LeaseToken, report: ReportOrder) -> SettleOrder {
    SettleOrder { id, token: token.clone(), report }
}

fn completed() -> ReportOrder {
    ReportOrder::Completed { result: None }
}

fn every_report() -> [ReportOrder; 4] {
    let error = punctual::domain::job::JobError {
        kind: "oops".to_owned(),
        message: "no".to_owned(),
        details: None,
        stack: None,
        attempt: 0,
        at: Timestamp::EPOCH,
        retryable: false,
    };
    [
        completed(),
        ReportOrder::Failed { error, retry_after: None },
        ReportOrder::Released { delay: None },
        ReportOrder::Cancelled,
    ]
}

fn none<T: std::fmt::Debug>(answer: &Result<T, Failure>, verb: &str) {
    assert!(matches!(answer, Err(Failure::NoSuchJob)), "{verb}: {answer:?}");
}

/// Everything that can be asked of a job by its id.
async fn all_verbs_fail(w: &World, stranger: &Caller, id: JobId, token: &LeaseToken) {
    let e = &w.engine;
    none(&e.job(stranger, id, true).await, "show");
    none(&e.wait_for_job(stranger, id, None, SECOND, true).await, "wait");
    none(&e.wait_for_job(stranger, id, Some(0), SECOND, true).await, "wait for a change");
    none(&e.result(stranger, id, Duration::ZERO).await, "result");
    none(&e.timeline(stranger, id).await, "timeline");
    none(&e.explain_job(stranger, id).await, "explain");
    none(&e.cancel(stranger, id, None, false).await, "cancel");
    none(&e.cancel(stranger, id, None, true).await, "cancel by force");
    none(&e.delete(stranger, id).await, "delete");
    // With the right token, even.
    for worker in [None, Some(WorkerId::trusted("w"))] {
        let beats = e.heartbeat(stranger, worker, vec![beat(id, token)]).await.expect("an answer");
        for answer in &beats {
            none(answer, "heartbeat");
        }
    }
    for report in every_report() {
        let orders = vec![settle(id, token, report)];
        let (settled, _) = e.settle(stranger, orders, None).await.expect("an answer");
        for answer in &settled {
            none(answer, "settle");
        }
    }
    let listed = e.list(stranger, ListFilter::default(), false, None, 100).await.expect("a list");
    assert!(listed.jobs.iter().all(|view| view.record.spec.id != id), "list");
    // By its own name and with a wish for more; nor by holding nothing, nor by leaving.
    let theirs = World::order(Duration::ZERO).namespace;
    for held in [None, Some(Vec::new())] {
        let order = ClaimOrder {
            namespace: theirs.clone(),
            held,
            max_jobs: 100,
            ..World::order(Duration::ZERO)
        };
        let grant = claim(w, stranger, order).await;
        assert!(grant.jobs.is_empty() && grant.cancel.is_empty(), "{grant:?}");
    }
    e.goodbye(stranger, WorkerId::trusted("w")).await.expect("goodbye");
}

#[tokio::test]
async fn a_foreign_job_is_no_job_whatever_is_asked_and_whatever_its_state() {
    let w = world();
    let (owner, stranger) = (of("shop"), of("default"));
    let lease = |max_jobs| ClaimOrder { max_jobs, ..World::order(Duration::ZERO) };
    let no_token = LeaseToken::new([9; 16]);

    let pending = submit(&w, &owner).await;
    all_verbs_fail(&w, &stranger, pending, &no_token).await;
    let before = w.engine.job(&owner, pending, true).await.expect("its owner's");

    let running = claim(&w, &owner, lease(1)).await.jobs.remove(0);
    assert_eq!(running.spec.id, pending);
    w.engine.cancel(&owner, pending, None, false).await.expect("a wish");
    let before = (before.record.job.version + 2, running.job.fence);
    all_verbs_fail(&w, &stranger, pending, &running.token).await;
    let now = w.engine.job(&owner, pending, true).await.expect("its owner's").record.job;
    assert_eq!((now.version, now.fence, now.status()), (before.0, before.1, Status::Running));

    let order = settle(pending, &running.token, completed());
    let (settled, _) = w.engine.settle(&owner, vec![order], None).await.expect("an answer");
    assert_eq!(settled, [Ok(Status::Completed)]);
    all_verbs_fail(&w, &stranger, pending, &running.token).await;
    assert!(w.engine.job(&owner, pending, true).await.is_ok(), "not deleted either");

    // Gone: its owner learns that it was there, a stranger nothing.
    w.engine.delete(&owner, pending).await.expect("deleted");
    let gone = w.engine.job(&owner, pending, false).await.expect_err("gone");
    assert!(matches!(gone, Failure::Gone { .. }), "{gone:?}");
    all_verbs_fail(&w, &stranger, pending, &running.token).await;
    // Whoever sees all namespaces learns it too, though no job of that namespace is left.
    let gone = w.engine.job(&w.everyone, pending, false).await.expect_err("gone");
    assert!(matches!(gone, Failure::Gone { .. }), "{gone:?}");
}

#[tokio::test]
async fn in_a_batch_each_item_is_answered_for_itself() {
    let w = world();
    let (a, b) = (of("a"), of("b"));
    let (mine, theirs) = (submit(&w, &a).await, submit(&w, &b).await);
    let order = || World::order(Duration::ZERO);
    let my_lease = claim(&w, &a, order()).await.jobs.remove(0);
    let their_lease = claim(&w, &b, order()).await.jobs.remove(0);
    assert_eq!((my_lease.spec.id, their_lease.spec.id), (mine, theirs));

    let beats = vec![
        beat(theirs, &their_lease.token),
        beat(mine, &my_lease.token),
        beat(theirs, &their_lease.token),
    ];
    let worker = Some(WorkerId::trusted("w"));
    let answers = w.engine.heartbeat(&a, worker, beats).await.expect("answers");
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false]);

    let orders = vec![
        settle(theirs, &their_lease.token, completed()),
        settle(mine, &my_lease.token, completed()),
    ];
    let claim = Some(ClaimOrder { held: Some(vec![theirs]), ..World::order(SECOND) });
    let (settled, grant) = w.engine.settle(&a, orders, claim).await.expect("answers");
    assert_eq!(settled, [Err(Failure::NoSuchJob), Ok(Status::Completed)]);
    assert!(grant.expect("asked for").jobs.is_empty());
    let view = w.engine.job(&b, theirs, false).await.expect("b's");
    assert_eq!(view.status(), Status::Running);
    assert_eq!(view.record.job.version, their_lease.job.version);
}

#[tokio::test]
async fn a_parked_claim_is_served_from_its_own_namespace() {
    let w = world();
    let (a, b) = (of("a"), of("b"));
    let long = Duration::from_secs(50);
    let mut parked = pin!(w.engine.claim(&a, World::order(long)));
    assert!(parked.as_mut().now_or_never().is_none());
    // It must have looked for itself, and wait now.
    let waits = tokio::time::timeout(Duration::from_millis(200), parked.as_mut()).await;
    assert!(waits.is_err(), "{waits:?}");
    // A job of b's is nothing to it: neither leased to it nor held for it.
    let foreign = submit(&w, &b).await;
    let view = w.engine.job(&b, foreign, false).await.expect("b's");
    assert_eq!(view.status(), Status::Pending);
    assert!(parked.as_mut().now_or_never().is_none());
    let own = submit(&w, &a).await;
    let grant = parked.await.expect("a grant");
    assert_eq!(grant.jobs.iter().map(|l| l.spec.id).collect::<Vec<_>>(), [own]);
    // One for all namespaces gets what is there, and submits into its own.
    let grant = claim(&w, &w.everyone, World::order(long)).await;
    assert_eq!(grant.jobs[0].spec.id, foreign);
    assert_eq!(grant.jobs[0].spec.namespace.as_str(), "b");
    let own = submit(&w, &w.everyone).await;
    let view = w.engine.job(&of("default"), own, false).await.expect("in `default`");
    assert_eq!(view.record.spec.namespace.as_str(), "default");
}

#[tokio::test]
async fn one_key_in_two_namespaces_is_two_jobs() {
    let w = world();
    let keyed = || Submission {
        key: Some(punctual::engine::IdempotencyKey { key: "k".to_owned(), fingerprint: [1; 32] }),
        ..World::submission()
    };
    let mut ids = Vec::new();
    for caller in [of("a"), of("b"), w.everyone.clone()] {
        for again in [false, true] {
            let accepted = w.engine.submit(&caller, keyed(), Hold::Never).await.expect("accepted");
            assert_eq!(accepted.replayed, again);
            ids.push(accepted.view.record.spec.id);
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

/// A worker that may not have the job is not there for it.
#[tokio::test]
async fn a_worker_of_another_namespace_is_no_worker_for_the_job() {
    let w = world_with(WatchSettings {
        stuck_after: punctual::store::StuckAfter {
            default: Some(Duration::from_secs(60)),
            ..punctual::store::StuckAfter::default()
        },
        ..WatchSettings::default()
    });
    let (a, b) = (of("a"), of("b"));
    let id = submit(&w, &a).await;
    claim(&w, &b, World::order(Duration::ZERO)).await;
    let explained = w.engine.explain_job(&a, id).await.expect("explained");
    let evidence = explained.evidence.expect("evidence");
    assert_eq!((evidence.workers, evidence.workers_present), (0, 0));
    // It does not get the job either, and once it is one of the job's own, it does.
    let order = ClaimOrder { max_jobs: 1, ..World::order(Duration::ZERO) };
    assert_eq!(claim(&w, &a, order).await.jobs.len(), 1);
    let second = submit(&w, &a).await;
    let explained = w.engine.explain_job(&a, second).await.expect("explained");
    assert_eq!(explained.evidence.expect("evidence").workers_present, 1);
}
