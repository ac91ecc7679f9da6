//! A claim starts no more attempts than whoever paces it allows, and gives back what it did not
//! need.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use punctual::domain::job::PendingReason;
use punctual::domain::names::Name;
use punctual::store::{ClaimRequest, ListFilter, Pace, Pacing};

use super::stores::{START, at, for_each_store, name, worker};

/// Tokens by queue, and what was asked for, given and not used.
#[derive(Debug, Default)]
struct Purse {
    tokens: Mutex<HashMap<Name, u64>>,
    settled: Mutex<Vec<(String, u64, u64, u64)>>,
}

impl Purse {
    fn holding(tokens: &[(&str, u64)]) -> Arc<Self> {
        let tokens = tokens.iter().map(|(queue, n)| (name(queue), *n)).collect();
        Arc::new(Self { tokens: Mutex::new(tokens), settled: Mutex::default() })
    }

    fn left(&self, queue: &str) -> u64 {
        self.tokens.lock().unwrap()[&name(queue)]
    }

    fn settled(&self) -> Vec<(String, u64, u64, u64)> {
        std::mem::take(&mut self.settled.lock().unwrap())
    }
}

impl Pacing for Purse {
    fn take(&self, queue: &Name, wanted: u64) -> u64 {
        let mut tokens = self.tokens.lock().unwrap();
        let Some(left) = tokens.get_mut(queue) else { return wanted };
        let taken = wanted.min(*left);
        *left -= taken;
        taken
    }

    fn settle(&self, queue: &Name, wanted: u64, taken: u64, unused: u64) {
        if let Some(left) = self.tokens.lock().unwrap().get_mut(queue) {
            *left += unused;
        }
        let told = (queue.as_str().to_owned(), wanted, taken, unused);
        self.settled.lock().unwrap().push(told);
    }
}

fn paced(purse: &Arc<Purse>, ask: ClaimRequest) -> ClaimRequest {
    ClaimRequest { pace: Some(Pace::new(Arc::clone(purse) as Arc<dyn Pacing>)), ..ask }
}

#[tokio::test]
async fn no_more_attempts_start_than_there_are_tokens() {
    for_each_store(|w| async move {
        w.submit_many(5, START).await;
        for _ in 0..3 {
            w.submit(w.job_with(START, |n| n.spec.queue = name("other")), START).await;
        }
        let purse = Purse::holding(&[("q", 2)]);
        let claimed = w.claim(paced(&purse, w.ask(&["q", "other"], 4, at(1))), at(1)).await;
        let queues: Vec<&str> = claimed.jobs.iter().map(|l| l.spec.queue.as_str()).collect();
        assert_eq!(queues, ["q", "q", "other", "other"], "the rest of the claim goes on");
        assert_eq!(claimed.limited, [false, false]);
        assert_eq!(purse.settled(), [("q".to_owned(), 4, 2, 0), ("other".to_owned(), 2, 2, 0)]);

        let claimed = w.claim(paced(&purse, w.ask(&["q", "other"], 4, at(2))), at(2)).await;
        assert_eq!((claimed.jobs.len(), claimed.limited), (1, vec![true, false]));
        assert_eq!(purse.settled(), [("q".to_owned(), 4, 0, 0), ("other".to_owned(), 4, 4, 3)]);
        w.counters_are_exact().await;
    })
    .await;
}

#[tokio::test]
async fn what_is_not_used_goes_back() {
    for_each_store(|w| async move {
        let purse = Purse::holding(&[("q", 9), ("nowhere", 3)]);
        let claimed = w.claim(paced(&purse, w.ask(&["q", "nowhere"], 5, at(1))), at(1)).await;
        assert!(claimed.jobs.is_empty() && claimed.limited == [false, false]);
        w.submit_many(2, at(2)).await;
        // One that may no longer start has started nothing.
        let late = w.job_with(at(2), |n| n.job.start_by = Some(at(3)));
        w.submit(late, at(2)).await;
        let claimed = w.claim(paced(&purse, w.ask(&["q"], 5, at(4))), at(4)).await;
        assert_eq!((claimed.jobs.len(), claimed.missed.len()), (2, 1));
        assert_eq!((purse.left("q"), purse.left("nowhere")), (7, 3));
        // Nor has a claim of a paused queue, or of other kinds.
        w.submit_many(2, at(5)).await;
        let kinds = ClaimRequest { kinds: vec![name("x")], ..w.ask(&["q"], 5, at(5)) };
        assert!(w.claim(paced(&purse, kinds), at(5)).await.jobs.is_empty());
        w.store().pause(name("q"), None, None, at(6)).await.unwrap();
        assert!(w.claim(paced(&purse, w.ask(&["q"], 5, at(6))), at(6)).await.jobs.is_empty());
        assert_eq!(purse.left("q"), 7);
    })
    .await;
}

#[tokio::test]
async fn the_pace_holds_in_the_commit_of_a_submission_and_of_a_settlement_too() {
    for_each_store(|w| async move {
        let purse = Purse::holding(&[("q", 1)]);
        let ask = || paced(&purse, w.ask(&["q"], 5, at(1)));
        let jobs = (0..3).map(|_| w.job(at(1))).collect();
        let (_, claimed) =
            w.store().submit_and_claim(jobs, vec![ask(), ask()], at(1)).await.unwrap();
        assert_eq!((claimed[0].jobs.len(), claimed[1].jobs.len()), (1, 0));
        assert_eq!((&claimed[0].limited[..], &claimed[1].limited[..]), (&[false][..], &[true][..]));
        let (_, next) = w.store().settle(Vec::new(), Some(ask()), at(2)).await.unwrap();
        let next = next.unwrap();
        assert_eq!((next.jobs.len(), next.limited), (0, vec![true]));
    })
    .await;
}

#[tokio::test]
async fn claims_that_come_at_once_share_what_there_is() {
    for_each_store(|w| async move {
        w.submit_many(100, START).await;
        let purse = Purse::holding(&[("q", 10)]);
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..20 {
            let ask = ClaimRequest { worker: worker(&format!("w{n}")), ..w.ask(&["q"], 3, at(1)) };
            let (store, ask) = (w.share(), paced(&purse, ask));
            tasks.spawn(async move { store.claim(ask, at(1)).await.unwrap().jobs.len() });
        }
        let started: usize = tasks.join_all().await.into_iter().sum();
        assert_eq!((started, purse.left("q")), (10, 0));
    })
    .await;
}

#[tokio::test]
async fn lists_tell_whom_the_pace_holds_back() {
    for_each_store(|w| async move {
        let held = w.submit(w.job(START), START).await;
        let free = w.submit(w.job_with(START, |n| n.spec.queue = name("other")), START).await;
        w.store().pause(name("paused"), None, None, START).await.unwrap();
        let paused = w.submit(w.job_with(START, |n| n.spec.queue = name("paused")), START).await;
        let listed = async |reason: Option<PendingReason>| {
            let filter = ListFilter {
                pending_reason: reason,
                rate_limited: vec![name("q"), name("paused")],
                ..ListFilter::default()
            };
            let page = w.store().list(filter, None, 10).await.unwrap();
            let told = |r: &punctual::domain::job::Record| {
                (r.spec.id, PendingReason::of(&r.job, r.standing).unwrap())
            };
            page.jobs.iter().map(told).collect::<Vec<_>>()
        };
        let (limited, queued) = (PendingReason::RateLimited, PendingReason::Queued);
        let pause = PendingReason::QueuePaused;
        let all = [(paused, pause), (free, queued), (held, limited)];
        assert_eq!(listed(None).await, all);
        assert_eq!(listed(Some(limited)).await, [(held, limited)]);
        assert_eq!(listed(Some(queued)).await, [(free, queued)]);
        assert_eq!(listed(Some(pause)).await, [(paused, pause)]);
    })
    .await;
}
