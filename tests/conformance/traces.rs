//! An attempt's trace: kept with the lease, committed with it, and given back with its end.

use punctual::domain::access::Lists;
use punctual::domain::job::{Requester, Status};
use punctual::domain::time::Timestamp;
use punctual::domain::trace::{AttemptTrace, SpanId, TraceContext, TraceId};
use punctual::store::{Beat, ClaimRequest, Leased, Outcome, Stamp, Transition};

use crate::stores::{START, World, at, for_each_store, report, secs, worker};

const CREATION: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn trace(n: u8, eligible_since: Timestamp) -> AttemptTrace {
    AttemptTrace {
        trace: TraceId::new([n; 16]).unwrap(),
        attempt: SpanId::new([n; 8]).unwrap(),
        process: SpanId::new([n + 1; 8]).unwrap(),
        sampled: true,
        child: n % 2 == 1,
        creation: TraceContext::parse(CREATION),
        previous: None,
        claim: None,
        eligible_since,
        verdict: Some("no_workers".to_owned()),
    }
}

/// The next job of queue `q`, stamped with `n`.
async fn stamped(w: &World, n: u8, now: Timestamp) -> Leased {
    let stamp = Stamp::new(move |spec, job, since| {
        assert_eq!((spec.queue.as_str(), job.lease()), ("q", None), "as it is before the lease");
        Some(trace(n, since))
    });
    let request = ClaimRequest { stamp: Some(stamp), ..w.ask(&["q"], 1, now) };
    w.claim(request, now).await.jobs.pop().expect("a job")
}

fn kept(trace: Option<&AttemptTrace>, n: u8) -> AttemptTrace {
    let kept = trace.expect("a trace").clone();
    assert_eq!(kept.trace, TraceId::new([n; 16]).unwrap());
    kept
}

#[tokio::test]
async fn it_outlives_heartbeats_restarts_and_extensions() {
    for_each_store(|mut w| async move {
        w.submit_many(1, START).await;
        let leased = stamped(&w, 1, at(1)).await;
        let given = kept(leased.job.lease().and_then(|l| l.trace.as_deref()), 1);
        assert_eq!(given, trace(1, leased.eligible_since));
        let beat = Beat {
            id: leased.spec.id,
            token: leased.token.hash(),
            extend: Some(secs(60)),
            progress: None,
            checkpoint: None,
        };
        w.store().heartbeat(vec![beat], at(2)).await.unwrap().remove(0).unwrap();
        w.restart(at(3)).await;
        w.store().extend_leases(at(50)).await.unwrap();
        let read = w.record(leased.spec.id).await.job;
        assert_eq!(read.lease().and_then(|l| l.trace.as_deref()), Some(&given));

        let settled = w
            .store()
            .settle(vec![report(&leased, Outcome::Completed { result: None })], None, at(51))
            .await
            .unwrap()
            .0
            .remove(0)
            .unwrap();
        assert_eq!(settled.trace.as_deref(), Some(&given));
        let record = w.record(leased.spec.id).await;
        let attempt = record.job.history.last().unwrap();
        assert_eq!(attempt.trace_id, Some(given.trace.to_string()));
        assert_eq!(attempt.span_id, Some(given.attempt.to_string()));
    })
    .await;
}

#[tokio::test]
async fn whoever_ends_the_attempt_gets_it() {
    for_each_store(|w| async move {
        let ids = w.submit_many(1, START).await;
        let released = Outcome::Released { delay: None };
        let leased = stamped(&w, 1, at(1)).await;
        let t = w.store().settle(vec![report(&leased, released)], None, at(2)).await.unwrap();
        kept(t.0[0].as_ref().unwrap().trace.as_deref(), 1);

        let one = |mut all: Vec<Transition>| {
            assert_eq!(all.len(), 1);
            all.remove(0)
        };
        let leased = stamped(&w, 2, at(3)).await;
        let lease = vec![(leased.spec.id, leased.job.fence)];
        let t = one(w.store().withdraw(lease, at(4)).await.unwrap());
        kept(t.trace.as_deref(), 2);
        stamped(&w, 3, at(5)).await;
        let t = one(w.store().goodbye(worker("w1"), None, Lists::ALL, at(6)).await.unwrap());
        kept(t.trace.as_deref(), 3);
        stamped(&w, 4, at(7)).await;
        let t = one(w.store().take_back(10, vec![0.0], at(60)).await.unwrap());
        kept(t.trace.as_deref(), 4);
        stamped(&w, 5, at(61)).await;
        let held = ClaimRequest { held: Some(Vec::new()), ..w.ask(&["q"], 0, at(62)) };
        let t = one(w.claim(held, at(62)).await.withdrawn);
        kept(t.trace.as_deref(), 5);
        stamped(&w, 6, at(63)).await;
        let by = Requester::Operator;
        let t = w.store().cancel(ids[0], by, None, true, at(64)).await.unwrap().unwrap();
        assert_eq!(
            (kept(t.trace.as_deref(), 6), t.job.status()),
            (trace(6, at(62)), Status::Cancelled)
        );
        let spans: Vec<String> =
            w.record(ids[0]).await.job.history.into_iter().filter_map(|a| a.span_id).collect();
        let wanted: Vec<String> = (1..=6u8).map(|n| trace(n, START).attempt.to_string()).collect();
        assert_eq!(spans, wanted);
    })
    .await;
}

/// The trace of one attempt is not left to the next.
#[tokio::test]
async fn an_attempt_without_one_has_none() {
    for_each_store(|w| async move {
        let ids = w.submit_many(1, START).await;
        let leased = stamped(&w, 1, at(1)).await;
        w.settle(&leased, Outcome::Released { delay: None }, at(2)).await;
        let plain = w.take_one(at(3)).await;
        assert_eq!(plain.job.lease().unwrap().trace, None);
        assert_eq!(w.record(ids[0]).await.job.lease().unwrap().trace, None);
        let completed = Outcome::Completed { result: None };
        let t = w.store().settle(vec![report(&plain, completed)], None, at(4)).await.unwrap();
        assert_eq!(t.0[0].as_ref().unwrap().trace, None);
        let history = w.record(ids[0]).await.job.history;
        assert!(history[0].trace_id.is_some() && history[1].trace_id.is_none());
    })
    .await;
}
