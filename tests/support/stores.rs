//! The stores that the suite is held against, each in a place where it can be closed (or dropped)
//! and opened again.
//!
//! A further store is one line in [`STORES`]: its name and how to make a [`Home`] for it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use punctual::domain::access::Lists;
use punctual::domain::id::{IdMint, IdSecret, JobId};
use punctual::domain::job::{Job, Policy, RawJson, Record, Spec, Tally};
use punctual::domain::lease::LeaseToken;
use punctual::domain::names::{Name, WorkerId};
use punctual::domain::time::Timestamp;
use punctual::store::sqlite::{Durability, Options, SqliteStore};
use punctual::store::{
    Absence, Changed, ClaimRequest, Claimed, Found, IdempotencyKey, Leased, NewJob, Outcome,
    QueueState, ResultValue, Settle, Store, Submitted,
};

/// Every store, by name.
pub(crate) const STORES: &[(&str, MakeHome)] = &[("sqlite", sqlite)];

pub(crate) type MakeHome = fn(Settings) -> Box<dyn Home>;

/// When the tests begin.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// The moment `seconds` after [`START`].
pub(crate) fn at(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Whether every commit is synced to disk; slower.
    pub(crate) synced: bool,
    pub(crate) inline_result_bytes: usize,
    pub(crate) key_ttl: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { synced: false, inline_result_bytes: 1_024, key_ttl: 7 * DAY }
    }
}

/// Where a store lives. Opening it again finds what was there; one at a time may be open.
pub(crate) trait Home: Send + Sync {
    fn open(&self, now: Timestamp) -> Arc<dyn Store>;
}

struct SqliteHome {
    dir: tempfile::TempDir,
    settings: Settings,
}

fn sqlite(settings: Settings) -> Box<dyn Home> {
    Box::new(SqliteHome { dir: tempfile::tempdir().expect("a directory for the test"), settings })
}

impl Home for SqliteHome {
    fn open(&self, now: Timestamp) -> Arc<dyn Store> {
        let options = sqlite_options(self.dir.path().join("jobs.db"), self.settings, now);
        Arc::new(SqliteStore::open(options).expect("the store opens"))
    }
}

pub(crate) fn sqlite_options(path: PathBuf, settings: Settings, now: Timestamp) -> Options {
    Options {
        path,
        durability: if settings.synced { Durability::Full } else { Durability::Normal },
        inline_result_bytes: settings.inline_result_bytes,
        key_ttl: settings.key_ttl,
        fresh_secret: now.as_millis().to_be_bytes().repeat(4).try_into().expect("32 bytes"),
        now,
        observer: Arc::new(|_| {}),
        min_free: 0,
        free_bytes: None,
    }
}

/// Runs `check` on a fresh store of each kind; a failure names the store.
pub(crate) async fn for_each_store<F>(check: impl Fn(World) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    for_each_store_with(Settings::default(), check).await;
}

pub(crate) async fn for_each_store_with<F>(settings: Settings, check: impl Fn(World) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    for (name, home) in STORES {
        let outcome = tokio::spawn(check(World::new(home(settings)))).await;
        assert!(outcome.is_ok(), "the store {name} does not conform; its panic is above");
    }
}

/// An open store, and what the tests need to talk to it.
pub(crate) struct World {
    store: Option<Arc<dyn Store>>,
    home: Box<dyn Home>,
    mint: IdMint,
    drawn: AtomicU64,
}

impl World {
    pub(crate) fn new(home: Box<dyn Home>) -> Self {
        let store = home.open(START);
        Self {
            mint: IdMint::new(IdSecret::new([1; 32])),
            store: Some(store),
            home,
            drawn: AtomicU64::new(0),
        }
    }

    /// The namespaces that the store knows.
    pub(crate) fn namespaces(&self) -> Vec<Name> {
        self.store().namespaces().to_vec()
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_deref().expect("the store is open")
    }

    pub(crate) fn share(&self) -> Arc<dyn Store> {
        Arc::clone(self.store.as_ref().expect("the store is open"))
    }

    /// Drops the store without closing it, as a crash would, and opens it again.
    pub(crate) fn crash(&mut self, now: Timestamp) {
        let store = self.store.take().expect("the store is open");
        assert_eq!(Arc::strong_count(&store), 1, "somebody else still uses the store");
        drop(store);
        self.store = Some(self.home.open(now));
    }

    /// Closes the store in good order and opens it again.
    pub(crate) async fn restart(&mut self, now: Timestamp) {
        self.store().close().await;
        self.crash(now);
    }

    fn draw(&self) -> u64 {
        self.drawn.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn id(&self, now: Timestamp) -> JobId {
        self.mint.mint(now, "default", u32::try_from(self.draw()).expect("few draws"))
    }

    /// A secret that occurs once.
    pub(crate) fn token(&self) -> LeaseToken {
        LeaseToken::new(u128::from(self.draw()).to_be_bytes())
    }

    /// A job of kind `k` for queue `q`, eligible at once.
    pub(crate) fn job(&self, now: Timestamp) -> NewJob {
        let id = self.id(now);
        NewJob {
            spec: Spec {
                id,
                namespace: name("default"),
                queue: name("q"),
                kind: name("k"),
                priority: 0,
                payload: Some(RawJson::trusted(r#"{"n":1}"#)),
                metadata: None,
                tags: Vec::new(),
                root: id,
                retry_of: None,
                expected_duration: None,
                traceparent: None,
                tracestate: None,
            },
            job: Job::accepted(now, None, None, 3, Policy::default()),
            key: None,
        }
    }

    pub(crate) fn job_with(&self, now: Timestamp, change: impl FnOnce(&mut NewJob)) -> NewJob {
        let mut new = self.job(now);
        change(&mut new);
        new
    }

    /// Submits one job that must be created.
    pub(crate) async fn submit(&self, new: NewJob, now: Timestamp) -> JobId {
        let id = new.spec.id;
        let answers = self.store().submit(vec![new], now).await.expect("submit");
        assert_eq!(answers, [Submitted::Created]);
        id
    }

    /// Submits `count` like jobs in one step; their ids in order.
    pub(crate) async fn submit_many(&self, count: usize, now: Timestamp) -> Vec<JobId> {
        let jobs: Vec<NewJob> = (0..count).map(|_| self.job(now)).collect();
        let ids = jobs.iter().map(|n| n.spec.id).collect();
        let answers = self.store().submit(jobs, now).await.expect("submit");
        assert!(answers.iter().all(|a| *a == Submitted::Created));
        ids
    }

    /// A request of worker `w1` for up to `count` jobs of every kind.
    pub(crate) fn ask(&self, queues: &[&str], count: usize, now: Timestamp) -> ClaimRequest {
        ClaimRequest {
            worker: worker("w1"),
            namespace: None,
            lists: Lists::ALL,
            queues: queues.iter().copied().map(name).collect(),
            kinds: Vec::new(),
            tokens: (0..count).map(|_| self.token()).collect(),
            lease: Some(secs(30)),
            default_leases: vec![secs(30); queues.len()],
            max_bytes: 8 << 20,
            held: None,
            received_at: now,
            stamp: None,
            pace: None,
        }
    }

    pub(crate) async fn claim(&self, request: ClaimRequest, now: Timestamp) -> Claimed {
        self.store().claim(request, now).await.expect("claim")
    }

    /// Up to `count` jobs of queue `q`.
    pub(crate) async fn take(&self, count: usize, now: Timestamp) -> Vec<Leased> {
        self.claim(self.ask(&["q"], count, now), now).await.jobs
    }

    /// The next job of queue `q`, which must be there.
    pub(crate) async fn take_one(&self, now: Timestamp) -> Leased {
        self.take(1, now).await.pop().expect("a job to claim")
    }

    /// Settles one lease, which must hold.
    pub(crate) async fn settle(&self, leased: &Leased, outcome: Outcome, now: Timestamp) {
        let (rulings, _) =
            self.store().settle(vec![report(leased, outcome)], None, now).await.expect("settle");
        assert!(rulings[0].is_ok(), "{rulings:?}");
    }

    pub(crate) async fn complete(&self, leased: &Leased, now: Timestamp) {
        self.settle(leased, Outcome::Completed { result: None }, now).await;
    }

    pub(crate) async fn pause(
        &self,
        queue: &str,
        reason: Option<&str>,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> QueueState {
        let reason = reason.map(str::to_owned);
        done(self.store().pause(name(queue), reason, until, now).await.expect("pause"))
    }

    pub(crate) async fn resume(&self, queue: &str, now: Timestamp) -> QueueState {
        done(self.store().resume(name(queue), now).await.expect("resume"))
    }

    pub(crate) async fn found(&self, id: JobId) -> Found<Record> {
        self.store().get(id, true).await.expect("get")
    }

    /// The record, which must be there, with its payload.
    pub(crate) async fn record(&self, id: JobId) -> Record {
        match self.found(id).await {
            Found::Here(record) => record,
            Found::Absent(why) => panic!("{id} is not there: {why:?}"),
        }
    }

    pub(crate) async fn absence(&self, id: JobId) -> Absence {
        match self.found(id).await {
            Found::Here(record) => panic!("{id} is there: {record:?}"),
            Found::Absent(why) => why,
        }
    }

    /// Jobs of the queue by tally.
    pub(crate) async fn tallies(&self, queue: &str, now: Timestamp) -> [u64; 7] {
        let sample = self.store().sample(now).await.expect("sample");
        let found = sample.queues.iter().find(|q| q.state.name.as_str() == queue);
        found.map_or([0; 7], |q| q.tallies)
    }

    pub(crate) async fn total(&self, now: Timestamp) -> u64 {
        let sample = self.store().sample(now).await.expect("sample");
        sample.queues.iter().flat_map(|q| q.tallies).sum()
    }

    /// Counters must equal a recount.
    pub(crate) async fn counters_are_exact(&self) {
        let recount = self.store().recount().await.expect("recount");
        assert_eq!(recount.differing, 0, "{recount:?}");
        assert_eq!(recount.counted, recount.maintained);
    }
}

pub(crate) fn done(changed: Changed) -> QueueState {
    match changed {
        Changed::Done(state) => state,
        Changed::OtherRevision | Changed::TooManyNames => panic!("{changed:?}"),
    }
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

pub(crate) fn worker(text: &str) -> WorkerId {
    WorkerId::parse(text).expect("a valid worker id")
}

/// A key for a body known by one number.
#[expect(clippy::unnecessary_wraps, reason = "as the field wants it")]
pub(crate) fn key(text: &str, body: u8) -> Option<IdempotencyKey> {
    Some(IdempotencyKey { key: text.to_owned(), fingerprint: [body; 32] })
}

pub(crate) fn json(text: impl Into<String>) -> RawJson {
    RawJson::trusted(text.into())
}

pub(crate) fn completed(text: impl Into<String>) -> Outcome {
    Outcome::Completed { result: Some(ResultValue::Json(json(text))) }
}

pub(crate) fn report(leased: &Leased, outcome: Outcome) -> Settle {
    Settle { id: leased.spec.id, token: leased.token.hash(), outcome }
}

pub(crate) fn ids(leased: &[Leased]) -> Vec<JobId> {
    leased.iter().map(|l| l.spec.id).collect()
}

/// Tallies that are all zero but those named.
pub(crate) fn counts(some: &[(Tally, u64)]) -> [u64; 7] {
    let mut all = [0; 7];
    for (tally, n) in some {
        all[usize::try_from(tally.code()).expect("a small code")] += n;
    }
    all
}
