//! Lists: newest first, across live and finished jobs, with every filter; pages that neither lose
//! nor repeat whatever is written meanwhile.

use std::collections::BTreeSet;

use punctual::domain::id::JobId;
use punctual::domain::job::{Job, JobError, PendingReason, Policy, Record, Requester, Status};
use punctual::domain::time::Timestamp;
use punctual::store::{ListFilter, Outcome, Stuck, StuckAfter};

use crate::stores::{START, World, at, completed, for_each_store, ids, name, secs};

fn failed(kind: &str, retry: bool) -> Outcome {
    let error = JobError {
        kind: kind.to_owned(),
        message: "no".to_owned(),
        details: None,
        stack: None,
        attempt: 0,
        at: Timestamp::EPOCH,
        retryable: retry,
    };
    Outcome::Failed { error, retry_after: Some(secs(600)), unit: 0.0 }
}

/// All pages, and that none is longer than asked for.
async fn pages(w: &World, filter: &ListFilter, limit: u32) -> Vec<Record> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = w.store().list(filter.clone(), before, limit).await.unwrap();
        assert!(page.jobs.len() <= limit as usize);
        all.extend(page.jobs);
        let Some(next) = page.next else { return all };
        assert!(before.is_none_or(|b| next < b), "pages go on");
        before = Some(next);
    }
}

async fn named(w: &World, filter: ListFilter) -> Vec<JobId> {
    let found: Vec<JobId> = pages(w, &filter, 100).await.into_iter().map(|r| r.spec.id).collect();
    for limit in [1, 2, 3] {
        let paged: Vec<JobId> =
            pages(w, &filter, limit).await.into_iter().map(|r| r.spec.id).collect();
        assert_eq!(paged, found, "{filter:?} by {limit}");
    }
    found
}

#[tokio::test]
async fn every_filter_across_live_and_finished() {
    for_each_store(|w| async move {
        // One job in each state, in this order of submission.
        let make = |n: u64, change: &dyn Fn(&mut punctual::store::NewJob)| {
            let now = at(n);
            w.job_with(now, |new| {
                new.spec.queue = name("a");
                change(new);
            })
        };
        let completed_job =
            w.submit(make(0, &|n| n.spec.tags = vec!["red".into(), "blue".into()]), at(0)).await;
        let failed_job = w.submit(make(1, &|n| n.spec.kind = name("z")), at(1)).await;
        let backoff = w.submit(make(2, &|n| n.spec.tags = vec!["red".into()]), at(2)).await;
        let running = w.submit(make(3, &|n| n.spec.namespace = name("shop")), at(3)).await;
        let leased = w.claim(w.ask(&["a"], 9, at(5)), at(5)).await.jobs;
        assert_eq!(leased.len(), 4);
        let cancelled = w.submit(make(6, &|_| {}), at(6)).await;
        let queued =
            w.submit(make(7, &|n| n.spec.tags = vec!["re".into(), "d\"'%_".into()]), at(7)).await;
        let paused = w.submit(make(8, &|n| n.spec.queue = name("b")), at(8)).await;
        let scheduled = w
            .submit(
                make(9, &|n| {
                    n.job = Job::accepted(at(9), Some(at(900)), None, 3, Policy::default());
                }),
                at(9),
            )
            .await;
        w.settle(&leased[0], completed("1"), at(20)).await;
        w.settle(&leased[1], failed("smtp.refused", false), at(21)).await;
        w.settle(&leased[2], failed("smtp.slow", true), at(22)).await;
        w.store().cancel(cancelled, Requester::Client, None, false, at(23)).await.unwrap().unwrap();
        w.store().pause(name("b"), None, None, at(24)).await.unwrap();

        let all =
            [scheduled, paused, queued, cancelled, running, backoff, failed_job, completed_job];
        let none = ListFilter::default;
        assert_eq!(named(&w, none()).await, all);
        let status = |s| ListFilter { status: Some(s), ..none() };
        assert_eq!(named(&w, status(Status::Pending)).await, [scheduled, paused, queued, backoff]);
        assert_eq!(named(&w, status(Status::Running)).await, [running]);
        assert_eq!(named(&w, status(Status::Completed)).await, [completed_job]);
        assert_eq!(named(&w, status(Status::Failed)).await, [failed_job]);
        assert_eq!(named(&w, status(Status::Cancelled)).await, [cancelled]);
        let reason = |r| ListFilter { pending_reason: Some(r), ..none() };
        assert_eq!(named(&w, reason(PendingReason::Scheduled)).await, [scheduled]);
        assert_eq!(named(&w, reason(PendingReason::RetryBackoff)).await, [backoff]);
        assert_eq!(named(&w, reason(PendingReason::QueuePaused)).await, [paused]);
        assert_eq!(named(&w, reason(PendingReason::Queued)).await, [queued]);
        let tag = |t: &str| ListFilter { tag: Some(t.to_owned()), ..none() };
        assert_eq!(named(&w, tag("red")).await, [backoff, completed_job]);
        assert_eq!(named(&w, tag("blue")).await, [completed_job]);
        assert_eq!(named(&w, tag("d\"'%_")).await, [queued]);
        assert_eq!(named(&w, tag("r")).await, []);
        let error = |t: &str| ListFilter { error_type: Some(t.to_owned()), ..none() };
        assert_eq!(named(&w, error("smtp.refused")).await, [failed_job]);
        assert_eq!(named(&w, error("smtp.slow")).await, [backoff], "live jobs have errors too");
        assert_eq!(named(&w, error("smtp")).await, []);
        let queue = ListFilter { queue: Some(name("b")), ..none() };
        assert_eq!(named(&w, queue).await, [paused]);
        let kind = ListFilter { kind: Some(name("z")), ..none() };
        assert_eq!(named(&w, kind).await, [failed_job]);
        let kind = ListFilter { kind: Some(name("unheard-of")), ..none() };
        assert_eq!(named(&w, kind).await, []);
        let namespace = ListFilter { namespace: Some(name("shop")), ..none() };
        assert_eq!(named(&w, namespace).await, [running]);
        // The ends are not included.
        let between =
            ListFilter { created_after: Some(at(1)), created_before: Some(at(7)), ..none() };
        assert_eq!(named(&w, between).await, [cancelled, running, backoff]);
        let finished = ListFilter { finished_after: Some(at(20)), ..none() };
        assert_eq!(named(&w, finished).await, [cancelled, failed_job]);
        let both = ListFilter {
            status: Some(Status::Pending),
            queue: Some(name("a")),
            tag: Some("red".to_owned()),
            namespace: Some(name("default")),
            ..none()
        };
        assert_eq!(named(&w, both).await, [backoff]);
        let contradiction = ListFilter {
            status: Some(Status::Completed),
            pending_reason: Some(PendingReason::Queued),
            ..none()
        };
        assert_eq!(named(&w, contradiction).await, []);

        // What a list shows of a job is what a read of it shows, but for payload and result bytes.
        for listed in pages(&w, &none(), 3).await {
            let mut read = w.record(listed.spec.id).await;
            read.spec.payload = None;
            if let Some(result) = &mut read.result {
                result.inline = None;
            }
            assert_eq!(listed, read);
        }
    })
    .await;
}

#[tokio::test]
async fn the_last_page_has_no_successor_that_holds_anything() {
    for_each_store(|w| async move {
        let page = w.store().list(ListFilter::default(), None, 10).await.unwrap();
        assert_eq!((page.jobs.len(), page.next), (0, None));
        w.submit_many(4, START).await;
        let page = w.store().list(ListFilter::default(), None, 10).await.unwrap();
        assert_eq!((page.jobs.len(), page.next), (4, None));
        let page = w.store().list(ListFilter::default(), None, 4).await.unwrap();
        if let Some(next) = page.next {
            let page = w.store().list(ListFilter::default(), Some(next), 4).await.unwrap();
            assert_eq!((page.jobs.len(), page.next), (0, None));
        }
        let page = w.store().list(ListFilter::default(), Some(i64::MIN), 4).await.unwrap();
        assert_eq!((page.jobs.len(), page.next), (0, None));
    })
    .await;
}

#[tokio::test]
async fn one_pages_work_is_bounded_not_its_yield() {
    for_each_store(|w| async move {
        let wanted =
            w.submit(w.job_with(START, |n| n.spec.tags = vec!["rare".into()]), START).await;
        w.submit_many(11_000, START).await;
        let filter = ListFilter { tag: Some("rare".to_owned()), ..ListFilter::default() };
        let (mut empty, mut before) = (0, None);
        let found = loop {
            let page = w.store().list(filter.clone(), before, 10).await.unwrap();
            if let Some(found) = page.jobs.first() {
                break found.spec.id;
            }
            empty += 1;
            before = Some(page.next.expect("there is more to look at"));
        };
        assert_eq!(found, wanted);
        assert!(empty >= 1, "more than 5000 rows were looked at for one page");
        assert!(empty < 20, "a page looks at thousands");
        let pending = ListFilter { status: Some(Status::Pending), ..filter };
        let all = pages(&w, &pending, 10).await;
        assert_eq!(all.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pages_under_concurrent_writes_neither_lose_nor_repeat() {
    for_each_store(|w| async move {
        let w = std::sync::Arc::new(w);
        let there: BTreeSet<JobId> = w.submit_many(400, START).await.into_iter().collect();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let writing = tokio::spawn({
            let (w, stop) = (std::sync::Arc::clone(&w), std::sync::Arc::clone(&stop));
            let there = there.clone();
            async move {
                let mut written = 0u64;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) || written < 30 {
                    w.submit_many(3, at(written)).await;
                    for leased in w.take(5, at(written)).await {
                        w.complete(&leased, at(written)).await;
                        if !there.contains(&leased.spec.id) {
                            let id = leased.spec.id;
                            w.store().delete(id, secs(60), at(written)).await.unwrap().unwrap();
                        }
                    }
                    written += 1;
                }
            }
        });
        for limit in [1, 7, 50, 7] {
            let listed = pages(&w, &ListFilter::default(), limit).await;
            let mut seen = BTreeSet::new();
            for record in listed {
                assert!(seen.insert(record.spec.id), "{} is listed twice", record.spec.id);
            }
            assert!(seen.is_superset(&there), "a job that was there all the time is missing");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        writing.await.unwrap();
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn a_job_that_finishes_between_pages_keeps_its_place() {
    for_each_store(|w| async move {
        let jobs = w.submit_many(6, START).await;
        let first = w.store().list(ListFilter::default(), None, 3).await.unwrap();
        let leased = w.take(6, at(1)).await;
        assert_eq!(ids(&leased), jobs);
        for l in &leased {
            w.complete(l, at(2)).await;
        }
        w.submit_many(3, at(3)).await;
        let second = w.store().list(ListFilter::default(), first.next, 3).await.unwrap();
        let mut listed: Vec<JobId> =
            first.jobs.iter().chain(&second.jobs).map(|r| r.spec.id).collect();
        listed.reverse();
        assert_eq!(listed, jobs);
    })
    .await;
}

#[tokio::test]
async fn what_is_stuck_is_what_the_watchdog_counts() {
    for_each_store(|w| async move {
        let submit = async |queue: &str, seconds: u64| {
            let now = at(seconds);
            w.submit(w.job_with(now, |n| n.spec.queue = name(queue)), now).await
        };
        let old = submit("a", 0).await;
        let elsewhere = submit("b", 1).await;
        let resumed = submit("resumed", 2).await;
        let slow = submit("slow", 3).await;
        submit("off", 4).await;
        submit("paused", 5).await;
        let scheduled = w.job_with(at(6), |n| {
            let policy = n.job.policy;
            n.job = Job::accepted(at(6), Some(at(30)), None, 3, policy);
        });
        let due = w.submit(scheduled, at(6)).await;
        let just = submit("a", 40).await;
        submit("a", 41).await;
        // Of one queue, the running and the finished do not wait.
        for seconds in [7, 8] {
            submit("busy", seconds).await;
        }
        let leased = w.claim(w.ask(&["busy"], 2, at(9)), at(9)).await.jobs;
        w.complete(&leased[0], at(9)).await;
        w.store().pause(name("paused"), None, None, at(10)).await.unwrap();
        w.store().pause(name("resumed"), None, None, at(10)).await.unwrap();
        w.store().resume(name("resumed"), at(80)).await.unwrap();

        let after = StuckAfter {
            default: Some(secs(60)),
            queues: [(name("slow"), Some(secs(97))), (name("off"), None)].into(),
        };
        let stuck = |seconds| {
            let stuck = Stuck { after: after.clone(), now: at(seconds) };
            ListFilter { stuck: Some(stuck), ..ListFilter::default() }
        };
        for (now, expected) in
            [(99, vec![due, elsewhere, old]), (100, vec![just, due, slow, elsewhere, old])]
        {
            assert_eq!(named(&w, stuck(now)).await, expected, "{now} s");
            let counted = w.store().scan(after.clone(), at(now)).await.unwrap();
            let counted: u64 = counted.iter().map(|kind| kind.stuck).sum();
            assert_eq!(counted, expected.len() as u64);
        }
        assert!(named(&w, stuck(140)).await.contains(&resumed));
        let of_queue = ListFilter { queue: Some(name("a")), ..stuck(100) };
        assert_eq!(named(&w, of_queue).await, [just, old]);
        let ended = ListFilter { status: Some(Status::Completed), ..stuck(100) };
        assert_eq!(named(&w, ended).await, []);
        let nobody = Stuck { after: StuckAfter::default(), now: at(10_000) };
        let nobody = ListFilter { stuck: Some(nobody), ..ListFilter::default() };
        assert_eq!(named(&w, nobody).await, []);
    })
    .await;
}
