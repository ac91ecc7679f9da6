//! The store alone: submit, claim, settle, without HTTP. `cargo bench --bench store_cycle`.
//!
//! Prints jobs per second for several batch sizes on a real file with full durability. The whole
//! cycle over HTTP is judged against these figures (`docs/PERFORMANCE.md`).
#![allow(clippy::disallowed_methods, missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use punctual::domain::access::Lists;
use punctual::domain::id::{IdMint, JobId};
use punctual::domain::job::{Job, Policy, RawJson, Spec};
use punctual::domain::lease::LeaseToken;
use punctual::domain::names::{Name, WorkerId};
use punctual::domain::time::Timestamp;
use punctual::store::sqlite::{Durability, Options, SqliteStore};
use punctual::store::{ClaimRequest, NewJob, Outcome, Settle, Store};

fn new_job(mint: &IdMint, n: u32, now: Timestamp) -> NewJob {
    let id: JobId = mint.mint(now, "default", n);
    NewJob {
        spec: Spec {
            id,
            namespace: Name::trusted("default"),
            queue: Name::trusted("default"),
            kind: Name::trusted("bench"),
            priority: 0,
            payload: Some(RawJson::trusted(
                r#"{"to":"someone@example.com","template":"welcome","n":12345}"#,
            )),
            metadata: None,
            tags: Vec::new(),
            root: id,
            retry_of: None,
            expected_duration: None,
            traceparent: None,
            tracestate: None,
        },
        job: Job::accepted(now, None, None, 5, Policy::default()),
        key: None,
    }
}

fn token(n: u64) -> LeaseToken {
    let mut bytes = [0u8; 16];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    LeaseToken::new(bytes)
}

async fn cycle(store: &SqliteStore, mint: &IdMint, batch: usize, jobs: usize) -> [Duration; 3] {
    let now = Timestamp::from_millis(1_800_000_000_000);
    let mut spent = [Duration::ZERO; 3];

    for n in 1..=(jobs / batch) as u64 {
        let new: Vec<NewJob> = (0..batch).map(|i| new_job(mint, i as u32, now)).collect();
        let began = Instant::now();
        store.submit(new, now).await.expect("submit");
        spent[0] += began.elapsed();

        let request = ClaimRequest {
            worker: WorkerId::trusted("bench"),
            namespace: None,
            lists: Lists::ALL,
            queues: vec![Name::trusted("default")],
            kinds: Vec::new(),
            tokens: (0..batch as u64).map(|i| token(n << 20 | i)).collect(),
            lease: None,
            default_leases: vec![Duration::from_secs(30)],
            max_bytes: 16 << 20,
            held: None,
            received_at: now,
            stamp: None,
            pace: None,
        };
        let began = Instant::now();
        let claimed = store.claim(request, now).await.expect("claim");
        spent[1] += began.elapsed();
        assert_eq!(claimed.jobs.len(), batch);
        let settlements = claimed
            .jobs
            .iter()
            .map(|l| Settle {
                id: l.spec.id,
                token: l.token.hash(),
                outcome: Outcome::Completed { result: None },
            })
            .collect();
        let began = Instant::now();
        let (rulings, _) = store.settle(settlements, None, now).await.expect("settle");
        spent[2] += began.elapsed();
        assert!(rulings.iter().all(Result::is_ok));
    }
    spent
}

fn main() {
    let dir =
        std::env::args().nth(1).filter(|a| !a.starts_with('-')).unwrap_or_else(|| ".".to_owned());
    let dir = tempfile::tempdir_in(dir).expect("a directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let store = SqliteStore::open(Options {
        path: dir.path().join("bench.db"),
        durability: Durability::Full,
        inline_result_bytes: 65_536,
        key_ttl: Duration::from_secs(86_400),
        fresh_secret: [7; 32],
        now: Timestamp::from_millis(1_800_000_000_000),
        observer: Arc::new(|_| {}),
        min_free: 0,
        free_bytes: None,
    })
    .expect("a store");
    let mint = IdMint::new(store.identity().id_secret.clone());
    runtime.block_on(async {
        println!(
            "{:>6} {:>10} {:>10} {:>10} {:>12}",
            "batch", "submit us", "claim us", "settle us", "cycles/s"
        );
        for (batch, jobs) in [(1, 2_000), (16, 16_000), (128, 64_000), (1000, 100_000)] {
            let spent = cycle(&store, &mint, batch, jobs).await;
            let us = |d: Duration| d.as_secs_f64() * 1e6 / jobs as f64;
            let total: f64 = spent.iter().map(Duration::as_secs_f64).sum();
            println!(
                "{batch:>6} {:>10.1} {:>10.1} {:>10.1} {:>12.0}",
                us(spent[0]),
                us(spent[1]),
                us(spent[2]),
                jobs as f64 / total
            );
        }
        let recount = store.recount().await.expect("recount");
        assert_eq!(recount.differing, 0);
        store.close().await;
    });
}
