//! Before the disk is full: no more jobs are taken, and those that were come to their end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use punctual::domain::job::Requester;
use punctual::domain::rerun::{Changes, rerun};
use punctual::domain::time::Timestamp;
use punctual::store::sqlite::{Options, SqliteStore};
use punctual::store::{Beat, Leased, NewJob, Retried, Store, StoreError, Submitted};

use crate::stores::{
    Home, START, Settings, World, at, completed, ids, json, key, report, secs, sqlite_options,
};
use crate::{Dir, Mount};

const MIN_FREE: u64 = 1_000;

/// A store on a disk that has as much room as the test says.
#[derive(Clone)]
struct Disk {
    dir: Arc<Dir>,
    free: Arc<AtomicU64>,
    min_free: u64,
    commits: Arc<Commits>,
}

/// The writer's commits. It can be held after one of them, so that what comes meanwhile has to be
/// one group.
#[derive(Default)]
struct Commits {
    seen: AtomicU64,
    hold: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

impl Commits {
    fn note(&self) {
        self.seen.fetch_add(1, Ordering::SeqCst);
        let hold = self.hold.lock().unwrap().take();
        if let Some((held, release)) = hold {
            held.send(()).unwrap();
            release.recv().unwrap();
        }
    }

    /// Holds the writer after its next commit; told when that has come.
    fn hold_next(&self) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (held, is_held) = mpsc::channel();
        let (release, released) = mpsc::channel();
        *self.hold.lock().unwrap() = Some((held, released));
        (is_held, release)
    }

    fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }
}

impl Disk {
    fn new(min_free: u64) -> Self {
        let free = Arc::new(AtomicU64::new(MIN_FREE));
        Self { dir: Arc::new(Dir::new()), free, min_free, commits: Arc::default() }
    }

    fn leave(&self, bytes: u64) {
        self.free.store(bytes, Ordering::SeqCst);
    }

    fn world(&self) -> World {
        World::new(Box::new(self.clone()))
    }
}

impl Home for Disk {
    fn open(&self, now: Timestamp) -> Arc<dyn Store> {
        let (free, commits) = (Arc::clone(&self.free), Arc::clone(&self.commits));
        let options = Options {
            min_free: self.min_free,
            free_bytes: Some(Arc::new(move || free.load(Ordering::SeqCst))),
            observer: Arc::new(move |_| commits.note()),
            ..sqlite_options(self.dir.file(), Settings::default(), now)
        };
        Arc::new(SqliteStore::open(options).unwrap())
    }
}

fn is_low_space<T: std::fmt::Debug>(outcome: &Result<T, StoreError>) -> bool {
    let class = outcome.as_ref().err().map(StoreError::class);
    matches!(outcome, Err(StoreError::LowSpace(_))) && class == Some("full")
}

fn beat(leased: &Leased) -> Beat {
    let (id, token) = (leased.spec.id, leased.token.hash());
    Beat { id, token, extend: Some(secs(60)), progress: None, checkpoint: None }
}

fn replayed(answers: &[Submitted]) -> bool {
    answers.iter().all(|answer| matches!(answer, Submitted::Replayed(_)))
}

#[tokio::test]
async fn little_room_stops_retries_too_and_not_their_repetitions() {
    let disk = Disk::new(MIN_FREE);
    let w = disk.world();
    w.submit_many(2, START).await;
    let mut sources = Vec::new();
    for leased in w.take(2, at(1)).await {
        w.settle(&leased, completed("1"), at(1)).await;
        let record = w.record(leased.spec.id).await;
        let (spec, job) = rerun(&record, w.id(at(2)), &Changes::default(), at(2)).unwrap();
        sources.push((leased.spec.id, NewJob { spec, job, key: None }));
    }
    let [(first, made), (second, other)] = sources.try_into().unwrap();
    let retry = |source, new: &NewJob| w.store().retry(source, new.clone(), false, at(2));
    assert_eq!(retry(first, &made).await, Ok(Retried::Created));
    disk.leave(MIN_FREE - 1);
    let refused = retry(second, &other).await;
    assert!(is_low_space(&refused), "{refused:?}");
    assert_eq!(w.record(second).await.retried_as, None);
    let again = retry(first, &other).await.unwrap();
    assert!(matches!(&again, Retried::Replayed(r) if r.spec.id == made.spec.id), "{again:?}");
    disk.leave(MIN_FREE);
    assert_eq!(retry(second, &other).await, Ok(Retried::Created));
}

#[tokio::test]
async fn little_room_stops_submissions_alone() {
    let disk = Disk::new(MIN_FREE);
    let w = disk.world();
    let keyed = |text: &str, body| w.job_with(START, |n| n.key = key(text, body));
    let first = keyed("k1", 1);
    let first_id = first.spec.id;
    w.submit(first, START).await;
    w.submit_many(4, START).await;
    let held = w.take(2, at(1)).await;
    assert_eq!(w.store().sample(at(1)).await.unwrap().free_bytes, Some(MIN_FREE));

    disk.leave(MIN_FREE - 1);
    assert_eq!(w.store().sample(at(1)).await.unwrap().free_bytes, Some(MIN_FREE - 1));
    let error = w.store().submit(vec![w.job(at(2))], at(2)).await.unwrap_err();
    let StoreError::LowSpace(why) = &error else { panic!("{error:?}") };
    assert!(why.contains("999 bytes") && why.contains("keeps back 1000"), "{why}");
    // Not in part either, and nothing is claimed on the way.
    let mixed = vec![keyed("k1", 1), keyed("k2", 2)];
    let outcome =
        w.store().submit_and_claim(mixed, vec![w.ask(&["q"], 5, at(2))], at(2)).await.map(|_| ());
    assert!(is_low_space(&outcome), "{outcome:?}");
    assert_eq!(w.total(at(2)).await, 5);
    // What was said before is said again, and what would be refused anyway is told as such.
    let again = w.store().submit(vec![keyed("k1", 1), keyed("k1", 1)], at(2)).await.unwrap();
    assert!(replayed(&again), "{again:?}");
    let reused = w.store().submit(vec![keyed("k1", 9), keyed("k3", 3)], at(2)).await.unwrap();
    assert_eq!(reused[0], Submitted::KeyReused(first_id));

    // The rest goes on.
    let rulings = w.store().heartbeat(vec![beat(&held[0])], at(3)).await.unwrap();
    assert!(rulings[0].is_ok(), "{rulings:?}");
    w.settle(&held[0], completed(format!("\"{}\"", "r".repeat(50_000))), at(3)).await;
    let next = w.ask(&["q"], 1, at(3));
    let (rulings, claimed) =
        w.store().settle(vec![report(&held[1], completed("1"))], Some(next), at(3)).await.unwrap();
    assert!(rulings[0].is_ok(), "{rulings:?}");
    let third = claimed.unwrap().jobs.pop().unwrap();
    let fourth = w.take_one(at(4)).await;
    w.store().withdraw(vec![(fourth.spec.id, fourth.job.fence)], at(4)).await.unwrap();
    let cancelled = w.store().cancel(fourth.spec.id, Requester::Client, None, false, at(4)).await;
    assert!(cancelled.unwrap().is_ok());
    assert!(w.store().delete(fourth.spec.id, secs(60), at(4)).await.unwrap().is_ok());
    w.store().pause(third.spec.queue.clone(), None, None, at(4)).await.unwrap();
    w.store().resume(third.spec.queue.clone(), at(4)).await.unwrap();
    assert_eq!(w.store().extend_leases(at(5)).await.unwrap(), 1);
    w.counters_are_exact().await;

    // Exactly enough is enough, and a refusal has used no key.
    disk.leave(MIN_FREE);
    let answers = w.store().submit(vec![keyed("k1", 1), keyed("k2", 2)], at(6)).await.unwrap();
    assert!(replayed(&answers[..1]) && answers[1] == Submitted::Created, "{answers:?}");
    w.counters_are_exact().await;
}

#[tokio::test]
async fn without_a_minimum_nothing_is_kept_back() {
    let disk = Disk::new(0);
    disk.leave(0);
    disk.world().submit_many(3, START).await;
}

#[tokio::test]
async fn a_refusal_takes_nobody_with_it() {
    let disk = Disk::new(MIN_FREE);
    let w = disk.world();
    let keyed = || w.job_with(START, |n| n.key = key("k", 1));
    w.submit(keyed(), START).await;
    w.submit_many(3, START).await;
    let held = w.take(2, START).await;
    let waiting = w.take_one(START).await;
    w.store().withdraw(vec![(waiting.spec.id, waiting.job.fence)], START).await.unwrap();

    // The writer is held after this commit, which still had room.
    let (is_held, release) = disk.commits.hold_next();
    let store = w.share();
    let last = w.job(at(1));
    let last = tokio::spawn(async move { store.submit(vec![last], at(1)).await });
    let is_held = move || is_held.recv_timeout(secs(60));
    tokio::task::spawn_blocking(is_held).await.unwrap().expect("a commit");
    disk.leave(MIN_FREE - 1);
    let before = disk.commits.seen();
    let s = w.share();
    // Each of them is handed over when it is first polled; then the writer may go on.
    let (none, settled, replay, cancelled, neither, beaten, claimed, ()) = tokio::join!(
        biased;
        s.submit(vec![w.job(at(2))], at(2)),
        s.settle(vec![report(&held[0], completed("1"))], None, at(2)),
        s.submit(vec![keyed()], at(2)),
        s.cancel(waiting.spec.id, Requester::Client, None, false, at(2)),
        s.submit_and_claim(vec![w.job(at(2))], vec![w.ask(&["q"], 5, at(2))], at(2)),
        s.heartbeat(vec![beat(&held[1])], at(2)),
        s.claim(w.ask(&["q"], 5, at(2)), at(2)),
        async { release.send(()).unwrap() },
    );
    assert_eq!(last.await.unwrap().unwrap(), [Submitted::Created]);
    assert_eq!(disk.commits.seen(), before + 1, "they were one group, committed at once");
    assert!(is_low_space(&none.map(|_| ())) && is_low_space(&neither.map(|_| ())));
    assert!(replayed(&replay.unwrap()));
    assert!(settled.unwrap().0[0].is_ok());
    assert!(cancelled.unwrap().is_ok());
    assert!(beaten.unwrap()[0].is_ok());
    // One was cancelled before; the other was made by the commit that had room.
    assert_eq!(claimed.unwrap().jobs.len(), 2);
    assert_eq!(w.total(at(3)).await, 5);
    w.counters_are_exact().await;
}

#[tokio::test]
async fn a_real_disk_keeps_its_reserve_for_what_was_accepted() {
    let Some(mount) = Mount::tmpfs("size=16m") else {
        eprintln!("skipped: mounting needs root");
        return;
    };
    let reserve = 8 << 20;
    let options = sqlite_options(mount.0.path().join("jobs.db"), Settings::default(), START);
    let store = SqliteStore::open(Options { min_free: reserve, ..options }).unwrap();
    let free = async || store.sample(START).await.unwrap().free_bytes.expect("the disk tells");
    assert!(free().await > reserve && free().await <= 16 << 20);
    let w = Disk::new(0).world();
    let big = || {
        w.job_with(START, |n| n.spec.payload = Some(json(format!("\"{}\"", "x".repeat(50_000)))))
    };
    let mut accepted = Vec::new();
    let refused = loop {
        let new = big();
        let id = new.spec.id;
        match store.submit(vec![new], START).await {
            Ok(_) => accepted.push(id),
            refused @ Err(_) => break refused,
        }
        assert!(accepted.len() < 400, "16 MiB hold less");
    };
    assert!(is_low_space(&refused), "{refused:?}");
    assert!(accepted.len() > 20, "{}", accepted.len());
    let left = free().await;
    assert!(left < reserve && left > reserve / 2, "{left}");
    // All of it can be worked off in what was kept back.
    let mut done = Vec::new();
    while done.len() < accepted.len() {
        let leased = store.claim(w.ask(&["q"], 10, at(1)), at(1)).await.unwrap().jobs;
        assert!(!leased.is_empty(), "{} of {}", done.len(), accepted.len());
        let reports = leased.iter().map(|l| report(l, completed("\"done\""))).collect();
        let (rulings, _) = store.settle(reports, None, at(1)).await.unwrap();
        assert!(rulings.iter().all(Result::is_ok), "{rulings:?}");
        done.extend(ids(&leased));
    }
    assert_eq!(done, accepted);
    assert!(is_low_space(&store.submit(vec![big()], at(2)).await));
    mount.remount("size=64m");
    store.submit(vec![big()], at(2)).await.unwrap();
    assert_eq!(store.recount().await.unwrap().differing, 0);
}
