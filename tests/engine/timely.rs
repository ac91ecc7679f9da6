//! Moments that only a new job is held to, and answers that are held for whom it may help.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use punctual::engine::{Changes, IdempotencyKey, RUN_AT_AHEAD, Retry};

use super::*;

fn keyed(key: &str, submission: Submission) -> Submission {
    let key = IdempotencyKey { key: key.to_owned(), fingerprint: [1; 32] };
    Submission { key: Some(key), ..submission }
}

async fn submit(w: &World, submission: Submission) -> Result<bool, Vec<&'static str>> {
    match w.engine.submit(&w.everyone, submission, Hold::Never).await {
        Ok(accepted) => Ok(accepted.replayed),
        Err(failure) => Err(untimely(failure)),
    }
}

fn untimely(failure: Failure) -> Vec<&'static str> {
    let Failure::Untimely(wrong) = failure else { panic!("{failure:?}") };
    wrong.into_iter().map(|w| w.member).collect()
}

#[tokio::test]
async fn whoever_repeats_in_time_or_not_hears_of_the_job() {
    let w = world();
    let start_by = Some(w.clock.now().plus(10 * SECOND));
    let wish = || Submission { start_by, ..World::submission() };
    assert_eq!(submit(&w, keyed("a", wish())).await, Ok(false));
    let later = Submission { delay: Some(5 * SECOND), ..wish() };
    assert_eq!(submit(&w, keyed("later", later.clone())).await, Ok(false));
    w.clock.advance(6 * SECOND);
    assert_eq!(submit(&w, keyed("later", later.clone())).await, Ok(true));
    assert_eq!(submit(&w, keyed("other", later)).await, Err(vec!["start_by"]));
    w.clock.advance(5 * SECOND);
    assert_eq!(submit(&w, keyed("a", wish())).await, Ok(true));
    assert_eq!(submit(&w, keyed("b", wish())).await, Err(vec!["start_by"]), "a new one");
    assert_eq!(submit(&w, wish()).await, Err(vec!["start_by"]));
    // Nothing came of those that were refused.
    assert_eq!(submit(&w, keyed("b", World::submission())).await, Ok(false));

    let batch = vec![keyed("c", World::submission()), keyed("a", wish()), keyed("d", wish())];
    let (at, failure) = w.engine.submit_batch(&w.everyone, batch.clone()).await.expect_err("late");
    assert_eq!((at, untimely(failure)), (2, vec!["start_by"]));
    let accepted = w.engine.submit_batch(&w.everyone, batch[..2].to_vec()).await.expect("taken");
    assert_eq!(accepted.iter().map(|a| a.replayed).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn a_job_may_be_put_off_by_a_year() {
    let w = world();
    let last = w.clock.now().plus(RUN_AT_AHEAD);
    let put_off = |run_at| Submission { run_at: Some(run_at), ..World::submission() };
    assert_eq!(submit(&w, put_off(last)).await, Ok(false));
    let far = last.plus(SECOND);
    assert_eq!(submit(&w, put_off(far)).await, Err(vec!["run_at"]));

    let id = w.submit().await;
    let grant = w.claim().await;
    w.complete(&grant).await.expect("done");
    let retry = |run_at, force| Retry {
        changes: Changes { run_at: Some(run_at), ..Changes::default() },
        force,
        ..Retry::default()
    };
    let failure = w.engine.retry(&w.everyone, id, retry(far, false)).await.expect_err("too far");
    assert_eq!(untimely(failure), ["run_at"]);
    w.engine.retry(&w.everyone, id, retry(last, false)).await.expect("made");
    let again = w.engine.retry(&w.everyone, id, retry(far, false)).await.expect("told");
    assert!(again.replayed);
    let failure = w.engine.retry(&w.everyone, id, retry(far, true)).await.expect_err("another");
    assert_eq!(untimely(failure), ["run_at"]);
}

#[tokio::test]
async fn a_job_that_is_put_off_is_never_waited_for() {
    let w = world();
    let later = || keyed("k", Submission { delay: Some(60 * SECOND), ..World::submission() });
    for replayed in [false, true] {
        let wait = Hold::UpTo(50 * SECOND);
        let submitted = w.engine.submit(&w.everyone, later(), wait);
        let accepted = tokio::time::timeout(20 * SECOND, submitted).await.expect("at once");
        let accepted = accepted.expect("accepted");
        assert_eq!((accepted.replayed, accepted.could_wait), (replayed, false));
    }
    let wait = Hold::UpTo(Duration::from_millis(1));
    let accepted = w.engine.submit(&w.everyone, World::submission(), wait).await;
    assert!(accepted.expect("accepted").could_wait);
}

/// Nothing is known of the kind: one answer is held for each worker that waits, and no more.
#[tokio::test]
async fn of_a_burst_one_is_held_for_one_worker() {
    let w = world();
    let mut patient = queue_defaults(WatchSettings::default());
    let defaults = JobDefaults { sync_window: 3_600 * SECOND, ..(*patient.default_jobs).clone() };
    patient.default_jobs = Arc::new(defaults);
    w.engine.reconfigure(patient).await.expect("in force");
    let (engine, everyone) = (w.engine.clone(), w.everyone.clone());
    let order = World::order(50 * SECOND);
    let worker =
        tokio::spawn(async move { engine.claim(&everyone, order).await.expect("a claim") });
    w.until_counted("punctual_store_operation_duration_seconds_count{operation=\"claim\"} 1").await;
    let mut burst: FuturesUnordered<_> = (0..10)
        .map(|_| {
            let (engine, everyone) = (w.engine.clone(), w.everyone.clone());
            tokio::spawn(async move {
                engine.submit(&everyone, World::submission(), Hold::Adaptive).await
            })
        })
        .collect();
    for _ in 0..9 {
        let accepted = tokio::time::timeout(60 * SECOND, burst.next()).await.expect("not held");
        let accepted = accepted.expect("one").expect("no panic").expect("accepted");
        assert!(!accepted.view.status().is_done());
    }
    let grant = tokio::time::timeout(60 * SECOND, worker).await.expect("a job").expect("one");
    w.complete(&grant).await.expect("done");
    let held = burst.next().await.expect("the tenth").expect("no panic").expect("accepted");
    assert_eq!(held.view.record.spec.id, grant.jobs[0].spec.id);
    assert_eq!(held.view.status(), Status::Completed);
}
