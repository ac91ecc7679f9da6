//! What those are told who stand in line, and what is remembered of it.

use std::time::Duration;

use punctual::domain::names::Name;
use punctual::engine::{ClaimOrder, Hold, Submission};

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
    told_of(w, "k").await
}

async fn told_of(w: &World, kind: &str) -> u64 {
    let accepted = w.engine.submit(&w.everyone, of_kind(kind), Hold::Never).await;
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

/// Twenty claims in five seconds, whose jobs are over at once.
async fn move_on(w: &World) {
    for _ in 0..20 {
        let grant = w.claim().await;
        w.complete(&grant).await.expect("completed");
    }
    w.clock.advance(SECOND * 5);
    w.engine.sample().await.expect("a sample");
}

async fn drain_estimate(w: &World) -> f64 {
    let queue = w.engine.queue(&Name::trusted("default")).await.expect("the queue");
    queue.drain_estimate.as_secs_f64()
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
    assert!((drain_estimate(&w).await - 600.0).abs() < 7.0, "one of ten seconds at a time");
    move_on(&w).await;
    move_on(&w).await;
    // Four a second, and twenty ahead; the mean run is a third of what it was.
    assert!((drain_estimate(&w).await - 5.0).abs() < 0.01, "{}", drain_estimate(&w).await);
    let now = told(&w).await;
    assert!((5..=17).contains(&now), "{now}");
    // A minute without a look: what its workers can, again.
    w.clock.advance(SECOND * 61);
    let now = told(&w).await;
    assert!((70..=90).contains(&now), "{now}");
}

/// Starts of all slots at once say little of how fast the line moves.
#[tokio::test]
async fn a_round_is_no_rate() {
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
    // Twenty run at once, for ten seconds each: two a second.
    let now = told(&w).await;
    assert!(about(now, 40.0 / 2.0 + 10.0), "{now}");
    assert!((drain_estimate(&w).await - 20.5).abs() < 0.3, "{}", drain_estimate(&w).await);
}

#[tokio::test]
async fn before_any_run_is_known_a_line_is_told_by_the_hint() {
    let w = world();
    let hinted = || {
        let expected_duration = Some(SECOND * 20);
        Submission { expected_duration, ..World::submission() }
    };
    let batch = w.engine.submit_batch(&w.everyone, (0..12).map(|_| hinted()).collect()).await;
    batch.expect("accepted");
    for _ in 0..4 {
        w.claim().await;
    }
    w.engine.sample().await.expect("a sample");
    let last = w.engine.submit(&w.everyone, hinted(), Hold::Never).await.expect("accepted");
    let now = last.view.retry_after.expect("not done");
    // Eight ahead, four at a time.
    assert!(about(now, 8.0 / 4.0 * 20.0 + 20.0), "{now}");
}

fn of_kind(kind: &str) -> Submission {
    Submission { kind: Name::trusted(kind), ..World::submission() }
}

fn order_of(kind: &str, wait: Duration) -> ClaimOrder {
    ClaimOrder { kinds: vec![Name::trusted(kind)], ..World::order(wait) }
}

#[tokio::test]
async fn who_is_waited_for_does_not_stand_behind_those_who_are_not() {
    let w = world();
    for _ in 0..20 {
        w.engine.submit(&w.everyone, of_kind("warm"), Hold::Never).await.expect("accepted");
        let grant = w.engine.claim(&w.everyone, order_of("warm", Duration::ZERO)).await;
        w.clock.advance(Duration::from_millis(30));
        w.complete(&grant.expect("a claim")).await.expect("completed");
    }
    let nobodys = (0..500).map(|_| of_kind("nobodys")).collect();
    w.engine.submit_batch(&w.everyone, nobodys).await.expect("accepted");
    w.engine.sample().await.expect("a sample");
    let ahead = told_of(&w, "warm").await;
    assert!(ahead > 5, "without a worker it stands in line: {ahead}");
    let grant = w.engine.claim(&w.everyone, order_of("warm", Duration::ZERO)).await;
    w.complete(&grant.expect("a claim")).await.expect("completed");

    let works = async {
        loop {
            let grant = w.engine.claim(&w.everyone, order_of("warm", SECOND * 30)).await;
            w.complete(&grant.expect("a claim")).await.expect("completed");
        }
    };
    // Once its claim is parked, an answer is held back for the result.
    let asks = async {
        for _ in 0..100 {
            let accepted = w.engine.submit(&w.everyone, of_kind("warm"), Hold::Adaptive).await;
            let view = accepted.expect("accepted").view;
            if view.status().is_done() {
                return;
            }
            let id = view.record.spec.id;
            while !w.status(id).await.0.is_done() {
                tokio::task::yield_now().await;
            }
        }
        panic!("no answer was held back");
    };
    tokio::select! {
        () = works => {}
        () = asks => {}
    }
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
    let kinds = w.engine.kinds(None).await;
    assert_eq!((kinds.len(), kinds[0].run.samples), (1, 20));
    let p50 = kinds[0].run.quantiles.expect("samples")[0];
    assert!((p50.as_secs_f64() - 10.0).abs() < 0.11, "{p50:?}");
    w.clock.advance(Duration::from_secs(86_400 * 2));
    assert!(w.engine.kinds(None).await.is_empty(), "what is too old is not");
}
