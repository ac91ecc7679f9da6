//! How workers get work: who gets which job when, and what else a claim's answer tells.

use std::time::Duration;

use serde_json::{Value, json};

use crate::answer::in_millis;
use crate::kit::{Lease, Server};
use crate::server::until;
use crate::wire::{Wire, post};

/// Less than a parked claim's whole wait.
const AT_ONCE: Duration = Duration::from_secs(20);

fn ids(answer: &Value) -> Vec<String> {
    let jobs = answer["jobs"].as_array().expect("jobs");
    jobs.iter().map(|j| j["job_id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_queue_then_priority_then_arrival() {
    let server = Server::start();
    let mut put = Vec::new();
    for (queue, kind, priority) in [
        ("low", "a", 100),
        ("high", "a", 0),
        ("high", "b", 0),
        ("high", "a", -5),
        ("high", "c", 7),
        ("low", "b", 100),
        ("high", "a", 7),
    ] {
        let body = json!({"kind": kind, "queue": queue, "priority": priority});
        put.push(server.submit(&body).await);
    }
    let claim = |members: Value| {
        let mut body = json!({"worker_id": "w", "queues": ["high", "low"]});
        body.as_object_mut().expect("one").extend(members.as_object().expect("one").clone());
        body
    };
    // One by default; the queues in strict order, whatever the priorities in the second.
    let first = server.claims(&claim(json!({}))).await;
    assert_eq!(ids(&first), [put[4].clone()]);
    assert_eq!((&first["cancel"], &first["directive"]), (&json!([]), &json!("continue")));
    assert!(crate::jobs::is_moment(first["server_time"].as_str().expect("a moment")));
    // Only some kinds.
    let some = server.claims(&claim(json!({"kinds": ["b", "x"], "max_jobs": 9}))).await;
    assert_eq!(ids(&some), [put[2].clone(), put[5].clone()]);
    let none = server.claims(&claim(json!({"kinds": ["x"], "max_jobs": 9}))).await;
    assert_eq!(none["jobs"], json!([]));
    let rest = server.claims(&claim(json!({"max_jobs": 100}))).await;
    assert_eq!(ids(&rest), [put[6].clone(), put[1].clone(), put[3].clone(), put[0].clone()]);
    // Nothing left is an empty list, never 204; also after a wait.
    assert_eq!(server.claims(&claim(json!({"wait_seconds": 0.2}))).await["jobs"], json!([]));
    assert_eq!(server.claims(&claim(json!({"queues": ["never.used"]}))).await["jobs"], json!([]));

    // A queue named twice counts once.
    let id = server.submit(&json!({"kind": "a", "queue": "high"})).await;
    let twice = server.claims(&claim(json!({"queues": ["high", "high"], "max_jobs": 5}))).await;
    assert_eq!(ids(&twice), [id]);

    // First in, first out, over many.
    let jobs: Vec<Value> =
        (0..150).map(|n| json!({"kind": "n", "queue": "fifo", "payload": n})).collect();
    server.post("/v1/jobs/batch", &json!({"jobs": jobs})).await.is(202);
    let mut order = Vec::new();
    for size in [1, 49, 100, 100] {
        let claim = json!({"worker_id": "w", "queues": ["fifo"], "max_jobs": size});
        let answer = server.claims(&claim).await;
        order.extend(answer["jobs"].as_array().expect("jobs").iter().map(|j| j["payload"].clone()));
    }
    assert_eq!(order, (0..150).map(|n| json!(n)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_are_kept() {
    let server = Server::with(&[("TASKS__SCHEDULER", "50ms"), ("TASKS__REAPER", "50ms")]);
    let claim = json!({"worker_id": "w", "queues": ["default"]});
    let far =
        server.post("/v1/jobs", &json!({"kind": "a", "run_at": "2027-11-01T00:00:00Z"})).await;
    let far = far.is(202);
    assert_eq!(far.json["pending_reason"], "scheduled");
    assert_eq!(far.json["run_at"], "2027-11-01T00:00:00.000Z");
    assert!(far.retry_after() > 300, "a known moment is told, up to an hour");
    assert_eq!(server.claims(&claim).await["jobs"], json!([]));
    // The past means now.
    let past = server.submit(&json!({"kind": "a", "run_at": "1999-01-01T00:00:00Z"})).await;
    assert_eq!(server.job(&past).await["pending_reason"], "queued");
    assert_eq!(server.lease("w", "default").await.id, past);

    // A parked claim gets the job as soon as it is due, and never before.
    let parked = json!({"worker_id": "p", "queues": ["default"], "wait_seconds": 50});
    let parked = server.parked(parked).await;
    let due = server.post("/v1/jobs", &json!({"kind": "a", "delay_seconds": 0.5})).await.is(202);
    assert_eq!(due.json["pending_reason"], "scheduled");
    let run_at = due.json["run_at"].as_str().expect("a moment").to_owned();
    let got = tokio::time::timeout(AT_ONCE, parked).await.expect("when due").expect("one").is(200);
    assert_eq!(ids(&got.json), [due.id()]);
    let job = server.job(&due.id()).await;
    assert!(job["started_at"].as_str() >= Some(run_at.as_str()), "{job}");

    // Nobody starts it in time: failed, without an attempt. Started in time it is not touched.
    let late =
        server.submit(&json!({"kind": "a", "queue": "late", "start_by": in_millis(1_000)})).await;
    let in_time =
        server.submit(&json!({"kind": "a", "queue": "t", "start_by": in_millis(2_000)})).await;
    let lease = server.lease("w", "t").await;
    let job = server.job_done(&late).await;
    assert_eq!((&job["status"], &job["attempt"]), (&json!("failed"), &json!(0)));
    assert_eq!(job["error"]["type"], "start-deadline-exceeded");
    assert!(job["finished_at"].as_str() >= job["start_by"].as_str(), "{job}");
    // Back from its first attempt, the deadline is past and of no matter.
    until("the other deadline", || async {
        let now = server.claims(&json!({"worker_id": "w", "queues": ["none"]})).await;
        let job = server.job(&in_time).await;
        (now["server_time"].as_str() > job["start_by"].as_str()).then_some(())
    })
    .await;
    server.fail(&lease, json!({"retry_after_seconds": 0})).await;
    assert_eq!(server.lease("w", "t").await.id, in_time);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_claims_are_served_in_their_order() {
    let server = Server::start();
    let claim = |worker: &str, members: Value| {
        let mut body = json!({"worker_id": worker, "queues": ["q", "r"], "wait_seconds": 50});
        body.as_object_mut().expect("one").extend(members.as_object().expect("one").clone());
        body
    };
    let picky = server.parked(claim("picky", json!({"kinds": ["rare"]}))).await;
    let first = server.parked(claim("first", json!({}))).await;
    let second = server.parked(claim("second", json!({}))).await;
    let a = server.submit(&json!({"kind": "a", "queue": "r"})).await;
    let first = tokio::time::timeout(AT_ONCE, first).await.expect("at once").expect("one");
    assert_eq!(ids(&first.is(200).json), [a]);
    assert!(!second.is_finished() && !picky.is_finished());
    let rare = server.submit(&json!({"kind": "rare", "queue": "q"})).await;
    let picky = tokio::time::timeout(AT_ONCE, picky).await.expect("at once").expect("one");
    assert_eq!(ids(&picky.is(200).json), [rare]);

    // A batch of three wakes as many as it takes.
    let third = server.parked(claim("third", json!({}))).await;
    let fourth = server.parked(claim("fourth", json!({}))).await;
    let three = json!({"jobs": vec![json!({"kind": "a", "queue": "q"}); 3]});
    server.post("/v1/jobs/batch", &three).await.is(202);
    for parked in [second, third, fourth] {
        let got = tokio::time::timeout(AT_ONCE, parked).await.expect("at once").expect("one");
        assert_eq!(ids(&got.is(200).json).len(), 1);
    }

    // Whoever leaves while parked takes nothing along: the next one gets the job, uncounted.
    let mut gone = Wire::connect(server.port());
    let body = claim("gone", json!({})).to_string();
    gone.send(post("/v1/claims", "", &body));
    until("the claim", || async {
        let workers = server.get("/v1/workers").await.is(200).json;
        workers.to_string().contains("\"gone\"").then_some(())
    })
    .await;
    drop(gone);
    server.in_flight("POST", 0).await;
    let id = server.submit(&json!({"kind": "a", "queue": "q"})).await;
    let lease = server.lease("after", "q").await;
    assert_eq!((lease.id.as_str(), &lease.json["attempt"]), (id.as_str(), &json!(1)));

    // A job that comes back, and a queue that goes on, wake whoever waits.
    let parked = server.parked(claim("fifth", json!({}))).await;
    server.with_lease("release", &lease, &json!({})).await.is(200);
    let got = tokio::time::timeout(AT_ONCE, parked).await.expect("at once").expect("one");
    let lease = Lease::of(&got.is(200).json["jobs"][0]);
    let parked = server.parked(claim("sixth", json!({}))).await;
    server.fail(&lease, json!({"retry_after_seconds": 0})).await;
    let got = tokio::time::timeout(AT_ONCE, parked).await.expect("at once").expect("one");
    assert_eq!(got.is(200).json["jobs"][0]["attempt"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_repairs_answers_that_got_lost() {
    let server = Server::start();
    for n in 0..3 {
        server.submit(&json!({"kind": "a", "payload": n})).await;
    }
    let claim = json!({"worker_id": "w", "queues": ["default"], "max_jobs": 2});
    let kept = server.claims(&claim).await;
    let (one, two) = (Lease::of(&kept["jobs"][0]), Lease::of(&kept["jobs"][1]));
    // The worker heard of the first only. It says so, and gets the second again, uncounted.
    let mut again = claim.clone();
    again["held"] = json!([one.id, "nonsense"]);
    again["max_jobs"] = json!(1);
    let answer = server.claims(&again).await;
    let lease = Lease::of(&answer["jobs"][0]);
    assert_eq!((&lease.id, &lease.json["attempt"]), (&two.id, &json!(1)));
    assert!(lease.fence > two.fence);
    let late = server.with_lease("complete", &two, &json!({})).await;
    late.problem(409, "lease-lost");
    server.with_lease("heartbeat", &one, &json!({})).await.is(200);
    // Other workers' leases are none of its business.
    let other = server.lease("other", "default").await;
    let nothing = json!({"worker_id": "w", "queues": ["none"], "held": []});
    server.claims(&nothing).await;
    server.with_lease("heartbeat", &other, &json!({})).await.is(200);
    server.with_lease("heartbeat", &one, &json!({})).await.problem(409, "lease-expired");
    server.with_lease("heartbeat", &lease, &json!({})).await.problem(409, "lease-expired");
    // On a settlement with its claim too, beside it or in it.
    for inside in [true, false] {
        let lease = server.lease("w", "default").await;
        let lost = server.lease("w", "default").await;
        let mut body = json!({"worker_id": "w", "settlements": [
            {"job_id": lease.id, "lease_token": lease.token, "outcome": "released", "delay_seconds": 0}],
            "claim": {"worker_id": "w", "queues": ["none"]}});
        if inside {
            body["claim"]["held"] = json!([]);
        } else {
            body["held"] = json!([]);
        }
        server.post("/v1/settlements", &body).await.is(200);
        assert_eq!(server.job(&lost.id).await["status"], "pending");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_the_worker_on_every_way() {
    let server = Server::start();
    let mut leases = Vec::new();
    for _ in 0..2 {
        server.submit(&json!({"kind": "a"})).await;
        leases.push(server.lease("w", "default").await);
    }
    let cancel = |id: &str| {
        server.posting(&format!("/v1/jobs/{id}/cancel"), json!({"reason": "enough"}), &[])
    };
    let beat = server.with_lease("heartbeat", &leases[0], &json!({})).await.is(200).json;
    assert_eq!(beat["cancel_requested"], false);
    assert!(beat.get("cancel_reason").is_none(), "{beat}");
    assert_eq!(beat["directive"], "continue");

    // The parked claim comes back for it at once; the next one only for news.
    let claim = json!({"worker_id": "w", "queues": ["empty"], "wait_seconds": 50});
    let parked = server.posting("/v1/claims", claim.clone(), &[]);
    server.in_flight("POST", 1).await;
    cancel(&leases[0].id).await.expect("one").is(202);
    let told = tokio::time::timeout(AT_ONCE, parked).await.expect("at once").expect("one").is(200);
    assert_eq!((&told.json["cancel"], &told.json["jobs"]), (&json!([leases[0].id]), &json!([])));
    let parked = server.posting("/v1/claims", claim.clone(), &[]);
    server.in_flight("POST", 1).await;
    cancel(&leases[1].id).await.expect("one").is(202);
    let told = tokio::time::timeout(AT_ONCE, parked).await.expect("at once").expect("one").is(200);
    let mut both: Vec<&str> =
        told.json["cancel"].as_array().expect("ids").iter().filter_map(Value::as_str).collect();
    both.sort_unstable();
    let mut expected = [leases[0].id.as_str(), leases[1].id.as_str()];
    expected.sort_unstable();
    assert_eq!(both, expected);

    // By heartbeat, alone and in a batch, by a claim that does not wait, and by a settlement.
    let beat = server.with_lease("heartbeat", &leases[0], &json!({})).await.is(200).json;
    assert_eq!(
        (&beat["cancel_requested"], &beat["cancel_reason"]),
        (&json!(true), &json!("enough"))
    );
    let items: Vec<Value> =
        leases.iter().map(|l| json!({"job_id": l.id, "lease_token": l.token})).collect();
    let beats = server.post("/v1/heartbeats", &json!({"worker_id": "w", "leases": items})).await;
    for result in beats.is(200).json["results"].as_array().expect("results") {
        assert_eq!(result["cancel_requested"], true);
    }
    let now = json!({"worker_id": "w", "queues": ["empty"]});
    assert_eq!(server.claims(&now).await["cancel"].as_array().expect("ids").len(), 2);
    let body = json!({"worker_id": "w", "claim": now, "settlements": [
        {"job_id": leases[0].id, "lease_token": leases[0].token, "outcome": "cancelled"}]});
    let answer = server.post("/v1/settlements", &body).await.is(200).json;
    assert_eq!(answer["results"][0]["status"], "cancelled");
    assert_eq!(answer["cancel"], json!([leases[1].id]));
    // Nobody else hears of it.
    let other = json!({"worker_id": "other", "queues": ["empty"]});
    assert_eq!(server.claims(&other).await["cancel"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_answer_stays_within_its_bytes() {
    let server = Server::start();
    let payload = "x".repeat((1 << 20) - 2);
    for n in 0..20 {
        server
            .submit(&json!({"kind": "large", "payload": payload, "tags": [format!("{n}")]}))
            .await;
    }
    let claim = json!({"worker_id": "w", "queues": ["default"], "max_jobs": 100});
    let first = ids(&server.claims(&claim).await);
    assert_eq!(first.len(), 16, "16 MiB and no more");
    let second = ids(&server.claims(&claim).await);
    assert_eq!(second.len(), 4);
    assert!(second.iter().all(|id| !first.contains(id)));
}

/// Workers that leave at any moment: before, while and after their answer is made. What was leased
/// to nobody is found again, and no attempt is counted for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_heard_cost_no_attempt() {
    let server = Server::start();
    let claim = json!({"worker_id": "leaver", "queues": ["default"], "lease_seconds": 3_600,
                       "wait_seconds": 50, "max_jobs": 2});
    let claim = post("/v1/claims", "", &claim.to_string());
    let mut expected = Vec::new();
    for n in 0..60_u64 {
        let mut leaver = Wire::connect(server.port());
        leaver.send(&claim);
        let job = server.posting(
            "/v1/jobs",
            json!({"kind": "a", "payload": n}),
            &[("Prefer", "respond-async")],
        );
        if n % 3 > 0 {
            tokio::time::sleep(Duration::from_micros(n * 100)).await;
        }
        drop(leaver);
        expected.push(job.await.expect("one").is(202).id());
    }
    // It is back, and says that it holds nothing.
    let mut done = Vec::new();
    while done.len() < expected.len() {
        let claim =
            json!({"worker_id": "leaver", "queues": ["default"], "wait_seconds": 50, "held": []});
        let claimed =
            tokio::time::timeout(AT_ONCE, server.claims(&claim)).await.expect("given back");
        let lease = Lease::of(&claimed["jobs"][0]);
        let job = server.complete(&lease, json!(1)).await;
        assert_eq!(job["attempt"], 1, "{job}");
        done.push(lease.id);
    }
    done.sort_unstable();
    expected.sort_unstable();
    assert_eq!(done, expected);
}
