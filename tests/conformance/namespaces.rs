//! Namespaces: neither sees the other's keys, jobs or leases, whatever their workers are called.

use punctual::domain::access::Lists;
use punctual::domain::id::JobId;
use punctual::domain::job::{Requester, Status};
use punctual::domain::names::Name;
use punctual::store::{
    ClaimRequest, Claimed, KindState, ListFilter, Presence, StuckAfter, Submitted,
};

use crate::stores::{START, World, at, for_each_store, ids, json, key, name, secs, worker};

async fn submit(w: &World, space: &str, kind: &str, priority: i32) -> JobId {
    let new = w.job_with(START, |n| {
        n.spec.namespace = name(space);
        n.spec.kind = name(kind);
        n.spec.priority = priority;
    });
    w.submit(new, START).await
}

fn within(space: &str, ask: ClaimRequest) -> ClaimRequest {
    ClaimRequest { namespace: Some(name(space)), ..ask }
}

/// Up to `count` jobs of queue `q`, for one namespace, by worker `w1`.
async fn take(w: &World, space: &str, count: usize, now: u64) -> Claimed {
    w.claim(within(space, w.ask(&["q"], count, at(now))), at(now)).await
}

#[tokio::test]
async fn a_key_is_its_namespaces_own() {
    for_each_store(|mut w| async move {
        let keyed = |w: &World, space: &str, body| {
            w.job_with(START, |n| {
                n.spec.namespace = name(space);
                n.key = key("same", body);
            })
        };
        let first = w.submit(keyed(&w, "a", 1), START).await;
        let second = w.submit(keyed(&w, "b", 2), START).await;
        assert_ne!(first, second);
        // Also within one batch.
        let batch = vec![keyed(&w, "c", 3), keyed(&w, "d", 4)];
        let answers = w.store().submit(batch, START).await.unwrap();
        assert_eq!(answers, [Submitted::Created, Submitted::Created]);
        w.restart(at(1)).await;
        for (space, body, id) in [("a", 1, first), ("b", 2, second)] {
            let answers = w.store().submit(vec![keyed(&w, space, body)], at(1)).await.unwrap();
            let Submitted::Replayed(record) = &answers[0] else { panic!("{answers:?}") };
            assert_eq!((record.spec.id, &record.spec.namespace), (id, &name(space)));
        }
        let answers = w.store().submit(vec![keyed(&w, "a", 2)], at(1)).await.unwrap();
        assert_eq!(answers, [Submitted::KeyReused(first)], "of its own, not of b's job");
    })
    .await;
}

#[tokio::test]
async fn a_namespace_is_known_from_its_first_job_on() {
    for_each_store(|mut w| async move {
        let known = |w: &World| -> Vec<String> {
            w.namespaces().iter().map(|n| n.as_str().to_owned()).collect()
        };
        assert_eq!(known(&w), ["default"]);
        submit(&w, "shop", "k", 0).await;
        assert_eq!(known(&w), ["default", "shop"], "before the submission is answered");
        submit(&w, "shop", "k", 0).await;
        submit(&w, "attic", "k", 0).await;
        assert_eq!(known(&w), ["default", "shop", "attic"]);
        // Whoever only asks makes none, nor does what is refused.
        assert!(take(&w, "nowhere", 5, 1).await.jobs.is_empty());
        let reused = |space, body| {
            w.job_with(START, |n| {
                n.spec.namespace = name(space);
                n.key = key("k", body);
            })
        };
        w.submit(reused("shop", 1), START).await;
        let batch = vec![reused("cellar", 1), reused("shop", 2)];
        let answers = w.store().submit(batch, START).await.unwrap();
        assert!(matches!(answers[1], Submitted::KeyReused(_)), "{answers:?}");
        assert_eq!(known(&w), ["default", "shop", "attic"]);
        w.crash(at(2));
        assert_eq!(known(&w), ["default", "shop", "attic"]);
    })
    .await;
}

#[tokio::test]
async fn a_claim_takes_its_namespaces_jobs_only() {
    for_each_store(|w| async move {
        let low = submit(&w, "a", "x", -1).await;
        for _ in 0..30 {
            submit(&w, "b", "x", 5).await;
        }
        let other = submit(&w, "a", "y", 0).await;
        let high = submit(&w, "a", "x", 1).await;
        let kinds = ClaimRequest { kinds: vec![name("x")], ..w.ask(&["q"], 1, at(1)) };
        assert_eq!(ids(&w.claim(within("a", kinds), at(1)).await.jobs), [high]);
        let rest = take(&w, "a", 50, 1).await;
        assert_eq!(ids(&rest.jobs), [other, low]);
        assert!(rest.jobs.iter().all(|l| l.spec.namespace == name("a")));
        assert!(take(&w, "a", 50, 1).await.jobs.is_empty());
        assert_eq!(take(&w, "b", 50, 1).await.jobs.len(), 30);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_claim_for_all_takes_them_in_the_queues_order() {
    for_each_store(|w| async move {
        let mut line = Vec::new();
        for n in 0..40 {
            let (space, kind) = (["a", "b", "c"][n % 3], ["x", "y"][n % 2]);
            let priority = i32::try_from(n % 5).unwrap();
            line.push((-priority, n, submit(&w, space, kind, priority).await));
        }
        line.sort_unstable();
        let line: Vec<JobId> = line.into_iter().map(|(_, _, id)| id).collect();
        let mut got = Vec::new();
        for (step, kinds) in [vec![], vec![name("x"), name("y")], vec![]].into_iter().enumerate() {
            let ask = w.ask(&["q"], [7, 9, 100][step], at(1));
            got.extend(ids(&w.claim(ClaimRequest { kinds, ..ask }, at(1)).await.jobs));
        }
        assert_eq!(got, line);
    })
    .await;
}

/// What does not fit ends the answer, and never lets a later job of another line overtake.
#[tokio::test]
async fn payloads_end_a_claim_for_all_in_order_too() {
    for_each_store(|w| async move {
        let mut line = Vec::new();
        for n in 0..24 {
            let new = w.job_with(START, |new| {
                new.spec.namespace = name(["a", "b", "c"][n % 3]);
                let bytes = [10, 900, 100][(n / 2) % 3];
                new.spec.payload = Some(json(format!("\"{}\"", "x".repeat(bytes))));
            });
            line.push(w.submit(new, START).await);
        }
        let mut got = Vec::new();
        while got.len() < line.len() {
            let ask = ClaimRequest { max_bytes: 1_000, ..w.ask(&["q"], 10, at(1)) };
            let part = ids(&w.claim(ask, at(1)).await.jobs);
            assert!(!part.is_empty());
            got.extend(part);
        }
        assert_eq!(got, line);
    })
    .await;
}

#[tokio::test]
async fn one_workers_name_in_two_namespaces_is_two_workers() {
    for_each_store(|w| async move {
        for space in ["a", "b"] {
            submit(&w, space, "k", 0).await;
            submit(&w, space, "k", 0).await;
        }
        let a = take(&w, "a", 2, 1).await.jobs;
        let b = take(&w, "b", 2, 1).await.jobs;
        for leased in [&a[0], &b[0]] {
            let by = Requester::Client;
            w.store().cancel(leased.spec.id, by, None, false, at(2)).await.unwrap().unwrap();
        }
        // Holding nothing, by its own word: that speaks of a's leases alone.
        let ask = ClaimRequest { held: Some(Vec::new()), ..w.ask(&["q"], 0, at(3)) };
        let answer = w.claim(within("a", ask), at(3)).await;
        let mut withdrawn: Vec<JobId> = answer.withdrawn.iter().map(|t| t.id).collect();
        withdrawn.sort_unstable();
        assert_eq!(withdrawn, ids(&a));
        assert!(answer.withdrawn.iter().all(|t| t.namespace == name("a")));
        assert!(answer.cancel.is_empty(), "b's is nothing to a: {:?}", answer.cancel);
        assert_eq!(take(&w, "b", 0, 3).await.cancel, [b[0].spec.id]);
        // A goodbye likewise.
        assert_eq!(take(&w, "a", 2, 4).await.jobs.len(), 1);
        let gone =
            w.store().goodbye(worker("w1"), Some(name("a")), Lists::ALL, at(5)).await.unwrap();
        assert_eq!(gone.iter().map(|t| t.namespace.clone()).collect::<Vec<_>>(), [name("a")]);
        for space in ["a", "nowhere"] {
            let gone = w
                .store()
                .goodbye(worker("w1"), Some(name(space)), Lists::ALL, at(5))
                .await
                .unwrap();
            assert!(gone.is_empty());
        }
        for leased in &b {
            assert_eq!(w.record(leased.spec.id).await.job.status(), Status::Running);
        }
        assert_eq!(
            w.store().goodbye(worker("w1"), None, Lists::ALL, at(6)).await.unwrap().len(),
            2
        );
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_goodbye_leaves_another_namespaces_presence() {
    for_each_store(|w| async move {
        let presence = |namespace: Option<Name>| Presence {
            directive: punctual::domain::directive::Directive::Continue,
            worker: worker("w1"),
            namespace,
            queues: vec![name("q")],
            kinds: Vec::new(),
            capacity: 1,
            hostname: None,
            version: None,
            last_seen: at(1),
            last_claim: Some(at(1)),
            last_heartbeat: None,
            last_settlement: None,
        };
        // Whose it is, and who says goodbye: whether it is still there.
        let (a, b) = (Some(name("a")), Some(name("b")));
        let cases = [(&a, &a, 0), (&a, &b, 1), (&None, &a, 1), (&a, &None, 0), (&None, &None, 0)];
        for (owner, leaver, left) in cases {
            w.store().record_presence(vec![presence(owner.clone())], at(1)).await.unwrap();
            let known = w.store().workers().await.unwrap();
            assert_eq!(known, [(presence(owner.clone()), 0)]);
            w.store().goodbye(worker("w1"), leaver.clone(), Lists::ALL, at(2)).await.unwrap();
            assert_eq!(w.store().workers().await.unwrap().len(), left, "{owner:?} {leaver:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_list_shows_one_namespace_or_all() {
    for_each_store(|w| async move {
        let a = submit(&w, "a", "k", 0).await;
        let b = submit(&w, "b", "k", 0).await;
        let done = take(&w, "b", 1, 1).await.jobs;
        w.complete(&done[0], at(2)).await;
        let listed = async |space: Option<&str>, status| {
            let filter = ListFilter { namespace: space.map(name), status, ..ListFilter::default() };
            let page = w.store().list(filter, None, 10).await.unwrap();
            page.jobs.iter().map(|r| r.spec.id).collect::<Vec<_>>()
        };
        assert_eq!(listed(None, None).await, [b, a]);
        assert_eq!(listed(Some("a"), None).await, [a]);
        assert_eq!(listed(Some("b"), Some(Status::Completed)).await, [b]);
        assert!(listed(Some("a"), Some(Status::Completed)).await.is_empty());
        assert!(listed(Some("nowhere"), None).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn the_oldest_job_tells_whose_it_is() {
    for_each_store(|w| async move {
        let rules = StuckAfter { default: Some(secs(10)), ..StuckAfter::default() };
        let oldest = |states: Vec<KindState>| states[0].oldest_namespace.clone();
        submit(&w, "a", "k", 0).await;
        submit(&w, "b", "k", 9).await;
        let scan = async |now| w.store().scan(rules.clone(), at(now)).await.unwrap();
        assert_eq!(oldest(scan(20).await), Some(name("a")));
        take(&w, "a", 1, 21).await;
        assert_eq!(oldest(scan(22).await), Some(name("b")));
        let inspected = w.store().inspect(name("q"), None, at(22)).await.unwrap();
        assert_eq!(oldest(inspected), Some(name("b")));
        take(&w, "b", 1, 23).await;
        let inspected = w.store().inspect(name("q"), None, at(24)).await.unwrap();
        assert_eq!(oldest(inspected), None, "nobody waits");
    })
    .await;
}

/// What is said of leases by whoever is for some queues and kinds is said of those.
#[tokio::test]
async fn lists_bound_what_is_given_back() {
    for_each_store(|w| async move {
        let mut ids = Vec::new();
        for (queue, kind) in [("mine", "k"), ("mine", "other"), ("q", "k")] {
            let job = w.job_with(at(0), |job| {
                (job.spec.queue, job.spec.kind) = (name(queue), name(kind));
            });
            ids.push(w.submit(job, at(0)).await);
        }
        assert_eq!(w.claim(w.ask(&["mine", "q"], 9, at(1)), at(1)).await.jobs.len(), 3);
        let mine = Lists { queues: Some(vec![name("mine")]), kinds: Some(vec![name("k")]) };
        let unused = Lists { queues: Some(vec![name("new")]), kinds: None };
        for lists in [unused.clone(), mine.clone(), mine.clone()] {
            let held = Some(Vec::new());
            let ask = ClaimRequest { held, lists, ..w.ask(&["mine"], 0, at(3)) };
            let back: Vec<JobId> =
                w.claim(ask, at(3)).await.withdrawn.iter().map(|t| t.id).collect();
            assert!(back.is_empty() || back == [ids[0]], "{back:?}");
        }
        assert_eq!(w.record(ids[0]).await.job.status(), Status::Pending);
        assert_eq!(w.claim(w.ask(&["mine"], 1, at(4)), at(4)).await.jobs.len(), 1);
        let gone = w.store().goodbye(worker("w1"), None, unused, at(5)).await.unwrap();
        assert!(gone.is_empty());
        let gone = w.store().goodbye(worker("w1"), None, mine, at(5)).await.unwrap();
        assert_eq!(gone.iter().map(|t| t.id).collect::<Vec<_>>(), [ids[0]]);
        for id in &ids[1..] {
            assert_eq!(w.record(*id).await.job.status(), Status::Running);
        }
        w.counters_are_exact().await;
    })
    .await;
}
