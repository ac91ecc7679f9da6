//! Ending a job before its time, and forgetting it after.

use serde_json::{Value, json};

use crate::kit::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancels() {
    let server = Server::with(&[("TASKS__REAPER", "50ms"), ("QUEUES__HASTY__CANCEL_GRACE", "0s")]);
    let cancel = |id: &str, body: Value| {
        let (client, path) = (server.client.clone(), format!("/v1/jobs/{id}/cancel"));
        async move { client.post(&path, &body).await }
    };
    // Pending: at once; again: the same.
    let id = server.submit(&json!({"kind": "a"})).await;
    let reply = cancel(&id, json!({"reason": "changed my mind"})).await.is(200);
    assert_eq!(reply.json["status"], "cancelled");
    assert_eq!(reply.json["cancel_reason"], "changed my mind");
    assert_eq!(reply.json["cancelled_by"], "client");
    let again = cancel(&id, json!({"reason": "another"})).await.is(200);
    assert_eq!(again.json, reply.json);
    let none = json!({"worker_id": "w", "queues": ["default"]});
    assert_eq!(server.claims(&none).await["jobs"], json!([]));
    // Scheduled ones too, also without a body.
    let id = server.submit(&json!({"kind": "a", "delay_seconds": 60})).await;
    server.post_nothing(&format!("/v1/jobs/{id}/cancel")).await.is(200);

    // Running: a wish; the worker decides, by agreeing or by finishing.
    let id = server.submit(&json!({"kind": "a"})).await;
    let lease = server.lease("w", "default").await;
    server.with_lease("cancelled", &lease, &json!({})).await.problem(409, "cancel-not-requested");
    let reply = cancel(&id, json!({})).await.is(202);
    assert_eq!(reply.json["status"], "running");
    assert!(reply.json["cancel_requested_at"].is_string());
    let again = cancel(&id, json!({})).await.is(202);
    assert_eq!(again.json["version"], reply.json["version"]);
    let job = server.with_lease("cancelled", &lease, &json!({})).await.is(200).json;
    assert_eq!(job["status"], "cancelled");
    server.with_lease("cancelled", &lease, &json!({})).await.is(200);

    let id = server.submit(&json!({"kind": "a"})).await;
    let lease = server.lease("w", "default").await;
    cancel(&id, json!({})).await.is(202);
    let job = server.complete(&lease, json!("done all the same")).await;
    assert_eq!(job["status"], "completed");
    assert!(job["cancel_requested_at"].is_string(), "{job}");
    cancel(&id, json!({})).await.problem(409, "job-already-finished");

    // With a cancel wished nobody tries again: a retryable failure and a release end it.
    for (what, members) in
        [("fail", json!({"error": {"type": "t", "message": "m"}})), ("release", json!({}))]
    {
        let id = server.submit(&json!({"kind": "a"})).await;
        let lease = server.lease("w", "default").await;
        cancel(&id, json!({})).await.is(202);
        let job = server.with_lease(what, &lease, &members).await.is(200).json;
        assert_eq!(job["status"], "cancelled", "{what}");
    }

    // By force: at once, and the token is dead.
    let id = server.submit(&json!({"kind": "a"})).await;
    let lease = server.lease("w", "default").await;
    let job = cancel(&id, json!({"force": true, "reason": "it burns"})).await.is(200).json;
    assert_eq!((&job["status"], &job["cancelled_by"]), (&json!("cancelled"), &json!("operator")));
    let late = server.with_lease("complete", &lease, &json!({"result": 1})).await;
    late.problem(409, "job-already-finished");

    // A worker that does not answer a cancel in time is not waited for.
    let id = server.submit(&json!({"kind": "a", "queue": "hasty"})).await;
    server.lease("w", "hasty").await;
    cancel(&id, json!({})).await;
    let job = server.job_done(&id).await;
    assert_eq!((&job["status"], &job["cancelled_by"]), (&json!("cancelled"), &json!("client")));

    // Failed jobs stay failed.
    let id = server.submit(&json!({"kind": "a"})).await;
    let lease = server.lease("w", "default").await;
    server.fail(&lease, json!({"retryable": false})).await;
    cancel(&id, json!({"force": true})).await.problem(409, "job-already-finished");
    for (bad, error) in [
        (json!({"forse": true}), "/forse unknown"),
        (json!({"force": "yes"}), "/force type"),
        (json!({"reason": "a\nb"}), "/reason pattern"),
        (json!({"reason": "r".repeat(513)}), "/reason length"),
        (json!({"reason": null}), "/reason type"),
    ] {
        cancel(&id, bad).await.wrong(&[error]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_is_gone_for_good() {
    let server = Server::with(&[("TASKS__RETENTION", "50ms")]);
    let paths = |id: &str| {
        [
            format!("/v1/jobs/{id}"),
            format!("/v1/jobs/{id}/result"),
            format!("/v1/jobs/{id}/timeline"),
            format!("/v1/jobs/{id}/explain"),
        ]
    };
    let id = server.submit(&json!({"kind": "a"})).await;
    let path = format!("/v1/jobs/{id}");
    server.delete(&path).await.problem(409, "job-not-finished");
    let lease = server.lease("w", "default").await;
    server.delete(&path).await.problem(409, "job-not-finished");
    server.complete(&lease, json!(1)).await;
    server.delete(&path).await.is(204);

    let short = json!({"kind": "a", "queue": "short", "retention_seconds": 1});
    let reply = server.post_with("/v1/jobs", &short, &[("Idempotency-Key", "short")]).await;
    let expired = reply.is(202).id();
    let lease = server.lease("w", "short").await;
    server.complete(&lease, json!(1)).await;
    crate::server::until("its retention to pass", || async {
        let reply = server.get(&format!("/v1/jobs/{expired}")).await;
        (reply.status == 410).then_some(())
    })
    .await;

    let server = {
        for (id, code) in [(&id, "job-deleted"), (&expired, "job-expired")] {
            for path in paths(id) {
                let gone = server.get(&path).await.problem(410, code);
                assert_eq!(gone.json["job_id"], *id);
                assert!(crate::jobs::is_moment(gone.json["created_at"].as_str().expect("one")));
            }
            for verb in ["cancel", "retry", "retry?force=true"] {
                server.post_nothing(&format!("/v1/jobs/{id}/{verb}")).await.problem(410, code);
            }
            server.delete(&format!("/v1/jobs/{id}")).await.problem(410, code);
        }
        server.restart_after_kill()
    };
    for (id, code) in [(&id, "job-deleted"), (&expired, "job-expired")] {
        for path in paths(id) {
            server.get(&path).await.problem(410, code);
            let head = server.send(server.request(reqwest::Method::HEAD, &path)).await.is(410);
            assert!(head.bytes.is_empty() && head.header("sunset").is_none());
        }
        server.post_nothing(&format!("/v1/jobs/{id}/retry")).await.problem(410, code);
    }
    // Its key remembers it, for it lives longer.
    let gone = server.post_with("/v1/jobs", &short, &[("Idempotency-Key", "short")]).await;
    assert_eq!(gone.problem(410, "job-expired").json["job_id"], expired);
    let lost = server.metrics().await.sum("punctual_jobs_lost_total", &[]);
    assert!(lost.abs() < 0.5, "{lost} jobs are thought lost");
}
