//! Doing a finished job's work again: for whom, and whoever leaves.

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use punctual::domain::access::Lists;
use punctual::domain::id::{IdMint, IdSecret, JobId};
use punctual::domain::names::Name;
use punctual::domain::time::Clock;
use punctual::engine::{Caller, Failure, Hold, Retry};

use super::{SECOND, World, world};

/// A job that was cancelled.
async fn ended(w: &World, caller: &Caller) -> JobId {
    let accepted = w.engine.submit(caller, World::submission(), Hold::Never).await;
    let id = accepted.expect("accepted").view.record.spec.id;
    w.engine.cancel(caller, id, None, false).await.expect("cancelled");
    id
}

fn accepted(jobs: u32) -> String {
    format!("punctual_job_submissions_total{{outcome=\"accepted\",queue=\"default\"}} {jobs}")
}

#[tokio::test]
async fn it_stays_in_its_sources_namespace() {
    let w = world();
    let of = |namespace| Caller {
        namespace: Name::trusted(namespace),
        all_namespaces: false,
        operator: true,
        lists: Lists::ALL,
    };
    let (shop, stranger) = (of("shop"), of("stranger"));
    let id = ended(&w, &shop).await;
    let refused = w.engine.retry(&stranger, id, Retry::default()).await;
    assert_eq!(refused, Err(Failure::NoSuchJob));
    let made = w.engine.retry(&shop, id, Retry::default()).await.expect("a new job");
    let spec = made.view.record.spec;
    assert_eq!((spec.namespace.as_str(), spec.retry_of), ("shop", Some(id)));
    assert!(w.engine.job(&shop, spec.id, false).await.is_ok());
    let hidden = w.engine.job(&stranger, spec.id, false).await;
    assert_eq!(hidden, Err(Failure::NoSuchJob));
}

/// What was begun is done, counted, and told to the worker that waits.
#[tokio::test]
async fn whoever_leaves_in_the_middle_leaves_a_whole_retry() {
    let w = world();
    let id = ended(&w, &w.everyone).await;
    w.until_counted(&accepted(1)).await;
    let (engine, everyone) = (w.engine.clone(), w.everyone.clone());
    let parked = tokio::spawn(async move {
        let order = World::order(Duration::from_secs(50));
        engine.claim(&everyone, order).await.expect("a claim")
    });
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    {
        let mut asking = pin!(w.engine.retry(&w.everyone, id, Retry::default()));
        // Until the store has it; as a rule before its caller hears of that.
        let mut context = Context::from_waker(Waker::noop());
        while w.engine.job(&w.everyone, id, false).await.expect("it").record.retried_as.is_none() {
            if asking.as_mut().poll(&mut context).is_ready() {
                break;
            }
            assert!(tokio::time::Instant::now() < patience, "no commit");
        }
    }
    let grant = parked.await.expect("the claim");
    assert_eq!(grant.jobs[0].spec.retry_of, Some(id));
    w.until_counted(&accepted(2)).await;
}

#[tokio::test]
async fn a_lost_one_is_not_taken_for_one_that_expired() {
    let w = world();
    let id = ended(&w, &w.everyone).await;
    let made = w.engine.retry(&w.everyone, id, Retry::default()).await.expect("a new job");
    w.engine.cancel(&w.everyone, made.view.record.spec.id, None, false).await.expect("cancelled");
    w.engine.delete(&w.everyone, made.view.record.spec.id).await.expect("deleted");
    w.clock.advance(SECOND);
    let again = w.engine.retry(&w.everyone, id, Retry::default()).await;
    let gone = made.view.record.spec.id;
    assert!(
        matches!(&again, Err(Failure::RetryGone { source_id, id: made, .. })
            if *source_id == id && *made == gone),
        "{again:?}"
    );
    let lost = IdMint::new(IdSecret::new([7; 32]));
    let lost = lost.mint(w.clock.now(), w.everyone.namespace.as_str(), 3);
    let refused = w.engine.retry(&w.everyone, lost, Retry::default()).await;
    assert_eq!(refused, Err(Failure::Lost));
    w.until_counted("punctual_jobs_lost_total 1").await;
}
