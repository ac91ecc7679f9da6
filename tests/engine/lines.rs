//! What those are told who stand in line, and what is remembered of it.

use std::time::Duration;

use punctual::engine::{Hold, Submission};

use super::{SECOND, World, world};

/// Twenty jobs of ten seconds, so that their length is known; by one worker who runs one at a time.
async fn learn(w: &World) {
    for _ in 0..20 {
        w.submit().await;
        let grant = w.claim().await;
        w.clock.advance(SECOND * 10);
        w.complete(&grant).await.expect("completed");
    }
    w.engine.sample().await.expect("a sample");
}

async fn told(w: &World) -> u64 {
    let accepted = w.engine.submit(&w.everyone, World::submission(), Hold::Never).await;
    accepted.expect("accepted").view.retry_after.expect("not done")
}

/// Later by up to a tenth, and in whole seconds.
fn about(told: u64, seconds: f64) -> bool {
    (seconds * 0.98..=seconds * 1.1 * 1.02 + 1.0).contains(&(told as f64))
}

#[tokio::test]
async fn before_there_was_a_line_it_is_told_by_what_its_workers_can() {
    let w = world();
    learn(&w).await;
    for ahead in 0..=10u32 {
        let now = told(&w).await;
        // The first waits for the one start, as the second does.
        let expected = f64::from(ahead.max(1)) * 10.0 + 10.0;
        assert!(about(now, expected), "{ahead} ahead: {now} s for {expected}");
    }
    let batch: Vec<Submission> = (0..5).map(|_| World::submission()).collect();
    let batch = w.engine.submit_batch(&w.everyone, batch).await.expect("accepted");
    for (at, one) in batch.iter().enumerate() {
        let now = one.view.retry_after.expect("not done");
        let expected = (11 + at) as f64 * 10.0 + 10.0;
        assert!(about(now, expected), "{at} of the batch: {now} s for {expected}");
    }
}

#[tokio::test]
async fn a_line_is_told_by_how_fast_it_moves() {
    let w = world();
    learn(&w).await;
    for _ in 0..60 {
        w.submit().await;
    }
    w.clock.advance(SECOND * 5);
    w.engine.sample().await.expect("a sample");
    for _ in 0..20 {
        w.claim().await;
    }
    w.clock.advance(SECOND * 5);
    w.engine.sample().await.expect("a sample");
    // Four a second, and forty ahead.
    let now = told(&w).await;
    assert!(about(now, 40.0 / 4.0 + 10.0), "{now}");
    // A minute without a look: what its workers can, again.
    w.clock.advance(SECOND * 61);
    let now = told(&w).await;
    assert!(about(now, 300.0 / 1.1) || now == 300, "{now}");
}

#[tokio::test]
async fn what_runs_is_judged_by_those_that_ran_as_long() {
    let w = world();
    for seconds in 1..=20 {
        w.submit().await;
        let grant = w.claim().await;
        w.clock.advance(SECOND * seconds);
        w.complete(&grant).await.expect("completed");
    }
    let id = w.submit().await;
    w.claim().await;
    let mut said = Vec::new();
    for _ in 0..4 {
        let view = w.engine.job(&w.everyone, id, false).await.expect("the job");
        said.push(view.retry_after.expect("not done"));
        w.clock.advance(SECOND * 9);
    }
    // Of those from 1 to 20 s; from 10 to 20; from 19 to 20; and a quarter of 27 s.
    assert!(about(said[0], 10.0) && about(said[1], 6.0), "{said:?}");
    assert!(about(said[2], 1.0) && about(said[3], 6.75), "{said:?}");
}

#[tokio::test]
async fn a_new_server_remembers() {
    let w = world();
    learn(&w).await;
    let kinds = w.engine.kinds();
    assert_eq!((kinds.len(), kinds[0].run.samples), (1, 20));
    let p50 = kinds[0].run.quantiles.expect("samples")[0];
    assert!((p50.as_secs_f64() - 10.0).abs() < 0.11, "{p50:?}");
    w.clock.advance(Duration::from_secs(86_400 * 2));
    assert!(w.engine.kinds().is_empty(), "what is too old is not");
}
