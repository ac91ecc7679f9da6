//! Whether clients come when they were told to, and whether they were told well: as the metrics
//! see it.

use serde_json::json;

use crate::kit::{Metrics, Server};

fn polls(metrics: &Metrics) -> [u64; 3] {
    ["early", "due", "finished"].map(|timing| {
        let label = format!("timing=\"{timing}\"");
        metrics.sum("punctual_status_polls_total", &[&label]) as u64
    })
}

/// Jobs that ended before and after the advised moment, and the seconds between, in sum.
fn offsets(metrics: &Metrics) -> [(u64, f64); 2] {
    ["early", "late"].map(|direction| {
        let of = |suffix: &str| {
            let name = format!("punctual_retry_after_offset_seconds_{suffix}");
            metrics.sum(&name, &[&format!("direction=\"{direction}\"")])
        };
        (of("count") as u64, of("sum"))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_and_ends_are_held_against_the_advised_moment() {
    let server = Server::start();
    let job = json!({"kind": "a", "queue": "q"});
    let accepted = server.post_with("/v1/jobs", &job, &[("Prefer", "respond-async")]).await.is(202);
    let (id, told) = (accepted.id(), accepted.retry_after());
    assert_eq!(polls(&server.metrics().await), [0, 0, 0]);

    let again = server.get(&format!("/v1/jobs/{id}")).await.is(200).retry_after();
    assert_eq!(polls(&server.metrics().await), [1, 0, 0]);
    // Held until the moment that it was told, it is on time.
    let held = [("Prefer", format!("wait={}", told.max(again)))];
    let held = held.each_ref().map(|(name, value)| (*name, value.as_str()));
    let last = server.get_with(&format!("/v1/jobs/{id}"), &held).await.is(200).retry_after();
    assert_eq!(polls(&server.metrics().await), [1, 1, 0]);

    // Ended right after, before the moment that it was told last.
    let lease = server.lease("w", "q").await;
    server.complete(&lease, json!(1)).await;
    let [(early, by), late] = offsets(&server.metrics().await);
    assert_eq!((early, late), (1, (0, 0.0)));
    assert!(by > 0.0 && by <= last as f64, "{by} of {last}");
    server.get(&format!("/v1/jobs/{id}")).await.is(200);
    server.get(&format!("/v1/jobs/{id}/timeline")).await.is(200);
    assert_eq!(polls(&server.metrics().await), [1, 1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_ends_after_its_moment_is_late() {
    let server = Server::start();
    let batch = json!({"jobs": [{"kind": "a", "queue": "q"}]});
    server.post("/v1/jobs/batch", &batch).await.is(202);
    let job = json!({"kind": "b", "queue": "q"});
    let accepted = server.post_with("/v1/jobs", &job, &[("Prefer", "respond-async")]).await.is(202);
    let second = accepted.retry_after();
    let cancelled = server.submit(&json!({"kind": "c", "queue": "other"})).await;
    // As good as a clock: a job that nothing happens to, asked for longer than was advised.
    let (waiting, wait) = (server.submit(&json!({"kind": "d"})).await, second + 1);
    let held = format!("wait={wait}");
    server.get_with(&format!("/v1/jobs/{waiting}"), &[("Prefer", &held)]).await.is(200);
    for _ in 0..2 {
        let lease = server.lease("w", "q").await;
        server.complete(&lease, json!(1)).await;
    }
    let [early, (late, by)] = offsets(&server.metrics().await);
    assert_eq!((early, late), ((0, 0.0), 2));
    assert!(by > 0.0 && by < 60.0, "{by}");
    server.post_nothing(&format!("/v1/jobs/{cancelled}/cancel")).await.is(200);
    let [(early, _), (late, _)] = offsets(&server.metrics().await);
    assert_eq!(early + late, 3, "a cancelled job has ended too");
}

/// Whose answer is the result was never told to come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_at_once_needs_no_advice() {
    let server = Server::start();
    let claim = json!({"worker_id": "s", "queues": ["sync"], "wait_seconds": 50});
    let worker = server.parked(claim).await;
    let job = json!({"kind": "sync", "queue": "sync"});
    let held = server.posting("/v1/jobs", job, &[("Prefer", "wait=50")]);
    let lease = crate::kit::Lease::of(&worker.await.expect("one").is(200).json["jobs"][0]);
    server.complete(&lease, json!(1)).await;
    held.await.expect("one").is(200);
    assert_eq!(offsets(&server.metrics().await), [(0, 0.0); 2]);
}
