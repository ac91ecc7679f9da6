//! What the server has learnt of each kind, shown and kept.

use serde_json::{Value, json};

use crate::kit::Server;

async fn kinds(server: &Server) -> Vec<Value> {
    let answer = server.get("/v1/kinds").await.is(200).json;
    answer["kinds"].as_array().expect("kinds").clone()
}

/// Completes a job of the kind, or fails it for good.
async fn one(server: &Server, kind: &str, well: bool) {
    let job = json!({"kind": kind, "queue": "q", "max_attempts": 1});
    server.post_with("/v1/jobs", &job, &[("Prefer", "respond-async")]).await.is(202);
    let lease = server.lease("w", "q").await;
    if well {
        server.complete(&lease, json!(1)).await;
    } else {
        server.fail(&lease, json!({"error": {"type": "e", "message": "m"}})).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_show_what_was_learnt_of_them() {
    let server = Server::start();
    assert!(kinds(&server).await.is_empty());
    for n in 0..4 {
        one(&server, "b", n > 0).await;
    }
    one(&server, "a", false).await;
    let all = kinds(&server).await;
    assert_eq!(all.iter().map(|k| k["kind"].clone()).collect::<Vec<_>>(), ["a", "b"]);
    let (a, b) = (&all[0], &all[1]);
    assert_eq!((&b["samples"], &b["completed"], &b["failed"]), (&json!(3), &json!(3), &json!(1)));
    assert_eq!(b["failure_ratio"], json!(0.25));
    for spread in [&b["run_seconds"], &b["wait_seconds"], &b["retry_after"]["early_seconds"]] {
        let [p50, p90, p99] = ["p50", "p90", "p99"].map(|q| spread[q].as_f64().expect(q));
        assert!(0.0 <= p50 && p50 <= p90 && p90 <= p99 && p99 < 600.0, "{spread}");
    }
    assert_eq!(b["retry_after"]["ended_early"], json!(4), "each was told a second or more");
    assert_eq!(
        (&b["retry_after"]["ended_late"], b["retry_after"].get("late_seconds")),
        (&json!(0), None)
    );
    // Failures say nothing of how long success takes.
    assert_eq!(
        (&a["samples"], a.get("run_seconds"), &a["failure_ratio"]),
        (&json!(0), None, &json!(1.0))
    );
    assert_eq!(a["wait_seconds"].as_object().expect("one").len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_learnt_survives_a_kill() {
    let server = Server::with(&[("TASKS__ESTIMATES", "20ms")]);
    for _ in 0..3 {
        one(&server, "k", true).await;
    }
    let learnt = kinds(&server).await;
    // Not before all of it is written.
    crate::server::until("it to be written after the last job", || async {
        let tasks = server.get("/v1/tasks").await.is(200).json;
        let tasks = tasks["tasks"].as_array().expect("tasks").clone();
        let task = tasks.into_iter().find(|t| t["task"] == "estimates")?;
        (task["detail"] == "0 estimates kept").then_some(())
    })
    .await;
    let server = server.restart_after_kill();
    assert_eq!(kinds(&server).await, learnt);
    // Damage costs what was learnt, and nothing else.
    rusqlite::Connection::open(server.store())
        .and_then(|db| db.execute("UPDATE estimates SET body = x'00ff'", []))
        .expect("damaged");
    let server = server.restart_after_kill();
    assert!(kinds(&server).await.is_empty());
    one(&server, "k", true).await;
    assert_eq!(kinds(&server).await[0]["samples"], json!(1));
}
