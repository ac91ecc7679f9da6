//! Random sequences of verbs against a pure model: jobs in a map, each moved by `apply` alone.
//!
//! After every step the answers must agree; at the end of a sequence, and after each crash in it,
//! so must every record, the line, the counters and the list.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::prop;
use proptest::test_runner::{Config, TestRunner};
use punctual::domain::access::Lists;
use punctual::domain::id::JobId;
use punctual::domain::job::{Job, JobError, Phase, Policy, Requester, Tally};
use punctual::domain::lease::{LeaseToken, TokenHash};
use punctual::domain::names::Name;
use punctual::domain::state::{Change, Event, Order, apply};
use punctual::domain::time::Timestamp;
use punctual::store::{
    Absence, Beat, Found, ListFilter, NewJob, Outcome, Refusal, Ruling, Settle, Stuck, StuckAfter,
    Submitted, Transition,
};

use crate::stores::{DAY, START, STORES, Settings, World, key, name, secs, worker};

#[path = "sequences/claiming.rs"]
mod claiming;
#[path = "sequences/retrying.rs"]
mod retrying;
#[path = "sequences/steps.rs"]
mod steps;

use steps::{Asking, Saying, Step, Submission, step};

/// Four times as many with `FULL` set.
const CASES: u32 = 250;
const TOMBSTONE: Duration = Duration::from_secs(4_000);
const KEY_TTL: Duration = Duration::from_secs(2_000);

#[test]
fn random_sequences_agree_with_the_model() {
    for (store, home) in STORES {
        let cases = if std::env::var_os("FULL").is_some() { 4 * CASES } else { CASES };
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let settings = Settings { key_ttl: KEY_TTL, ..Settings::default() };
        let steps = prop::collection::vec(step(), 1..60);
        let reached = RefCell::new(BTreeSet::new());
        TestRunner::new(config)
            .run(&steps, |steps| {
                let run = Run::new(World::new(home(settings))).all(steps);
                reached.borrow_mut().extend(runtime.block_on(run));
                Ok(())
            })
            .unwrap_or_else(|e| panic!("the store {store} does not conform: {e}"));
        // The sequences are worth something: all of these happened in some.
        for change in CHANGES {
            assert!(reached.borrow().contains(change), "no sequence reached {change}");
        }
    }
}

const CHANGES: [&str; 14] = [
    "Unchanged",
    "Claimed",
    "Extended",
    "Completed",
    "Failed",
    "Retrying",
    "Released",
    "TakenBack",
    "CancelRequested",
    "Cancelled",
    "Promoted",
    "Deleted",
    "Retried",
    "RetryReplayed",
];

struct Known {
    new: NewJob,
    job: Job,
    sequence: u64,
    gone: Option<Absence>,
    retried_as: Option<JobId>,
}

impl Known {
    /// By somebody of that namespace, or of all.
    fn is_seen(&self, by: Option<&Name>) -> bool {
        by.is_none_or(|space| self.new.spec.namespace == *space)
    }
}

struct KnownKey {
    body: u8,
    id: JobId,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
}

/// The store under test, and what it should hold.
struct Run {
    w: World,
    now: Timestamp,
    /// Makes each delay end at a millisecond of its own, so that the order of promotion is known.
    tick: u64,
    sequence: u64,
    jobs: BTreeMap<JobId, Known>,
    order: Vec<JobId>,
    /// By namespace and key.
    keys: BTreeMap<(u8, u8), KnownKey>,
    leases: Vec<(JobId, LeaseToken, u64)>,
    /// By queue: since when, and until when.
    paused: BTreeMap<Name, Option<Timestamp>>,
    resumed: BTreeMap<Name, Timestamp>,
    reached: BTreeSet<String>,
}

fn queue(n: u8) -> Name {
    name(["q0", "q1"][usize::from(n)])
}

fn space(n: u8) -> Name {
    name(["default", "shop"][usize::from(n)])
}

fn kind(n: u8) -> Name {
    name(["k0", "k1"][usize::from(n)])
}

impl Run {
    fn new(w: World) -> Self {
        Self {
            w,
            now: START,
            tick: 0,
            sequence: 0,
            jobs: BTreeMap::new(),
            order: Vec::new(),
            keys: BTreeMap::new(),
            leases: Vec::new(),
            paused: BTreeMap::new(),
            resumed: BTreeMap::new(),
            reached: BTreeSet::new(),
        }
    }

    /// The kinds of change that happened.
    async fn all(mut self, steps: Vec<Step>) -> BTreeSet<String> {
        for step in steps {
            self.step(step).await;
        }
        self.compare().await;
        // The whole line, to the last place.
        for n in [0, 1] {
            self.step(Step::Resume(n)).await;
        }
        let all = Asking {
            worker: 0,
            space: None,
            queues: vec![0, 1],
            kinds: vec![],
            count: 1_000,
            held: false,
        };
        self.step(Step::Claim(all)).await;
        self.reached
    }

    fn distinct(&mut self, seconds: u64) -> Duration {
        if seconds == 0 {
            return Duration::ZERO;
        }
        self.tick += 1;
        Duration::from_millis(seconds * 1_000 + self.tick)
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn pick(&self, n: usize) -> Option<JobId> {
        (!self.order.is_empty()).then(|| self.order[n % self.order.len()])
    }

    /// The live or finished job, unless it is gone.
    fn known(&mut self, id: JobId) -> Option<&mut Known> {
        self.jobs.get_mut(&id).filter(|k| k.gone.is_none())
    }

    /// Applies the event in the model.
    fn fire(&mut self, id: JobId, event: &Event) -> Ruling {
        let now = self.now;
        let absence = self.jobs.get(&id).and_then(|k| k.gone).unwrap_or(Absence::Unknown);
        let known = self.known(id).ok_or(Refusal::Absent(absence))?;
        let applied = apply(&known.job, event, now)?;
        let attempt_ended = known.job.lease().is_some() && applied.job.lease().is_none();
        known.job = applied.job.clone();
        let (queue, kind) = (known.new.spec.queue.clone(), known.new.spec.kind.clone());
        let namespace = known.new.spec.namespace.clone();
        if applied.order == Order::Renew {
            let sequence = self.next_sequence();
            self.known(id).expect("it was there").sequence = sequence;
        }
        let change = format!("{:?}", applied.change);
        self.reached.extend(change.split('(').next().map(str::to_owned));
        Ok(Transition {
            id,
            namespace,
            queue,
            kind,
            change: applied.change,
            job: applied.job,
            attempt_ended,
            trace: None,
        })
    }

    async fn step(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Submit(batch) => self.submit(batch).await,
            Step::Claim(asking) => {
                let request = self.request(&asking);
                let got = self.w.claim(request.clone(), now).await;
                self.claimed(&request, &got);
            }
            Step::Heartbeat { lease, extend } => self.heartbeat(lease, extend).await,
            Step::Settle { reports, claim } => self.settle(reports, claim).await,
            Step::Withdraw(n) => {
                let Some((id, _, fence)) = self.lease(n) else { return };
                let got = self.w.store().withdraw(vec![(id, fence)], now).await.unwrap();
                let wanted: Vec<_> =
                    self.fire(id, &Event::Withdraw { fence }).ok().into_iter().collect();
                assert_eq!(got, wanted);
            }
            Step::Goodbye { worker: n, space: of } => {
                let of = of.map(space);
                let who = worker(&format!("w{n}"));
                let mut got =
                    self.w.store().goodbye(who, of.clone(), Lists::ALL, now).await.unwrap();
                let mut wanted = Vec::new();
                for (id, fence) in self.leases_of(n, of.as_ref()) {
                    wanted.push(self.fire(id, &Event::Withdraw { fence }).expect("it is held"));
                }
                got.sort_by_key(|t| t.id);
                wanted.sort_by_key(|t| t.id);
                assert_eq!(got, wanted);
            }
            Step::Cancel { job, force } => {
                let Some(id) = self.pick(job) else { return };
                let by = if force { Requester::Operator } else { Requester::Client };
                let got = self.w.store().cancel(id, by, None, force, now).await.unwrap();
                assert_eq!(got, self.fire(id, &Event::Cancel { by, reason: None, force }));
            }
            Step::Delete(job) => {
                let Some(id) = self.pick(job) else { return };
                let got = self.w.store().delete(id, TOMBSTONE, now).await.unwrap();
                assert_eq!(got, self.fire(id, &Event::Delete));
                if got.is_ok() {
                    self.forget(id, Absence::Deleted);
                }
            }
            Step::Retry { job, again, to } => self.retry(job, again, to).await,
            Step::TakeBack { limit } => self.take_back(limit).await,
            Step::Promote => self.promote().await,
            Step::ExtendLeases => {
                let got = self.w.store().extend_leases(now).await.unwrap();
                let all: Vec<JobId> = self.jobs.keys().copied().collect();
                let extended = all.into_iter().filter(|id| {
                    self.fire(*id, &Event::Extend).is_ok_and(|t| t.change == Change::Extended)
                });
                assert_eq!(got, u64::try_from(extended.count()).unwrap());
            }
            Step::Expire => self.expire().await,
            Step::Pause { queue: n, until } => {
                let until = until.map(|s| now.plus(secs(s)));
                self.w.store().pause(queue(n), None, until, now).await.unwrap();
                self.paused.insert(queue(n), until);
            }
            Step::Resume(n) => {
                self.w.store().resume(queue(n), now).await.unwrap();
                if self.paused.remove(&queue(n)).is_some() {
                    self.resumed.insert(queue(n), now);
                }
            }
            Step::Scan(threshold) => self.scan(threshold).await,
            Step::Advance(seconds) => self.now = now.plus(secs(seconds)),
            Step::Crash => {
                self.w.crash(now);
                self.compare().await;
            }
        }
    }

    /// Every pending job counts that has been eligible, in a queue that is not paused, for the
    /// threshold or longer.
    async fn scan(&mut self, threshold: u64) {
        let now = self.now;
        let default = (threshold > 0).then(|| secs(threshold));
        let rules = StuckAfter { default, ..StuckAfter::default() };
        let mut wanted: BTreeMap<(Name, Name), u64> = BTreeMap::new();
        let mut listed = BTreeSet::new();
        for known in self.jobs.values().filter(|k| k.gone.is_none()) {
            let spec = &known.new.spec;
            let resumed = self.resumed.get(&spec.queue).copied().unwrap_or(Timestamp::EPOCH);
            let since = known.job.eligible_at.max(resumed);
            let long = default.is_some_and(|d| since <= now.minus(d));
            let waits = matches!(known.job.phase, Phase::Pending(_));
            if waits && long && !self.paused.contains_key(&spec.queue) {
                listed.insert(spec.id);
                *wanted.entry((spec.queue.clone(), spec.kind.clone())).or_default() += 1;
            }
        }
        let filter = ListFilter {
            stuck: Some(Stuck { after: rules.clone(), now }),
            ..ListFilter::default()
        };
        let page = self.w.store().list(filter, None, 10_000).await.unwrap();
        assert_eq!(page.jobs.iter().map(|r| r.spec.id).collect::<BTreeSet<_>>(), listed);
        let found = self.w.store().scan(rules, now).await.unwrap();
        let found: BTreeMap<(Name, Name), u64> =
            found.into_iter().map(|k| ((k.queue.name, k.kind), k.stuck)).collect();
        assert_eq!(found, wanted);
    }

    async fn submit(&mut self, batch: Vec<Submission>) {
        let now = self.now;
        let mut jobs = Vec::new();
        for s in batch {
            let policy = Policy { timeout: secs(120), cancel_grace: secs(20), ..Policy::default() };
            let run_at = s.delay.map(|d| now.plus(self.distinct(d)));
            let start_by = s.start_by.map(|d| now.plus(secs(d)));
            let new = self.w.job_with(now, |n| {
                n.spec.namespace = space(s.space);
                n.spec.queue = queue(s.queue);
                n.spec.kind = kind(s.kind);
                n.spec.priority = s.priority;
                n.job = Job::accepted(now, run_at, start_by, s.max_attempts, policy);
                n.key = s.key.and_then(|(k, body)| key(&format!("key{k}"), body));
            });
            jobs.push((new, s.key.map(|(key, body)| ((s.space, key), body))));
        }
        let got = self
            .w
            .store()
            .submit(jobs.iter().map(|(n, _)| n.clone()).collect(), now)
            .await
            .unwrap();
        // What the keys say: `None` creates, else the id that was found and whether it refuses.
        let mut fresh: BTreeMap<(u8, u8), (u8, JobId)> = BTreeMap::new();
        let mut said = Vec::new();
        for (new, key) in &jobs {
            let Some((key, body)) = *key else {
                said.push(None);
                continue;
            };
            let found = self.keys.get(&key).map(|k| (k.body, k.id)).or(fresh.get(&key).copied());
            said.push(found.map(|(known_body, id)| (known_body == body, id)));
            if found.is_none() {
                fresh.insert(key, (body, new.spec.id));
            }
        }
        let gone = |run: &Self, id: &JobId| run.jobs.get(id).is_some_and(|k| k.gone.is_some());
        let refused = said.iter().flatten().any(|(same_body, id)| !same_body || gone(self, id));
        if !refused {
            for (at, (new, key)) in jobs.iter().enumerate() {
                if said[at].is_some() {
                    continue;
                }
                let sequence = self.next_sequence();
                let id = new.spec.id;
                let (job, new) = (new.job.clone(), new.clone());
                self.jobs.insert(id, Known { new, job, sequence, gone: None, retried_as: None });
                self.order.push(id);
                if let Some((key, body)) = *key {
                    let known = KnownKey { body, id, created_at: now, expires_at: None };
                    self.keys.insert(key, known);
                }
            }
        }
        for (got, said) in got.iter().zip(&said) {
            match (got, said) {
                (Submitted::Created, None) => {}
                (Submitted::KeyReused(got), Some((false, id))) => assert_eq!(got, id),
                (Submitted::KeyTwice(first), Some((false, id))) => {
                    assert_eq!(jobs[*first].0.spec.id, *id);
                }
                (Submitted::ReplayedGone(got), Some((true, id))) => {
                    assert!(gone(self, id) && got == id);
                }
                (Submitted::Replayed(record), Some((true, id))) => {
                    assert_eq!((record.spec.id, &record.job), (*id, &self.jobs[id].job));
                }
                // Of a batch that is refused anyway, a key of its own first job.
                (Submitted::Created, Some((true, _))) if refused => {}
                (got, said) => panic!("{got:?} for {said:?}"),
            }
        }
    }

    fn lease(&self, n: usize) -> Option<(JobId, TokenHash, u64)> {
        if self.leases.is_empty() {
            return None;
        }
        // Later leases are likelier to be alive.
        let n = n % self.leases.len().min(12);
        let (id, token, fence) = &self.leases[self.leases.len() - 1 - n];
        Some((*id, token.hash(), *fence))
    }

    async fn heartbeat(&mut self, lease: usize, extend: Option<u64>) {
        let Some((id, token, _)) = self.lease(lease) else { return };
        let extend = extend.map(secs);
        let beat = Beat { id, token, extend, progress: None, checkpoint: None };
        let got = self.w.store().heartbeat(vec![beat], self.now).await.unwrap();
        assert_eq!(got, [self.fire(id, &Event::Heartbeat { token, extend, progress: None })]);
    }

    async fn settle(&mut self, reports: Vec<(usize, Saying)>, claim: Option<Asking>) {
        let now = self.now;
        let mut settlements = Vec::new();
        let mut events = Vec::new();
        for (lease, saying) in reports {
            let Some((id, token, _)) = self.lease(lease) else { continue };
            let (outcome, event) = self.saying(saying, token);
            settlements.push(Settle { id, token, outcome });
            events.push((id, event));
        }
        // What the worker holds, it says before it settles.
        let request = claim.map(|asking| self.request(&asking));
        let (got, claimed) =
            self.w.store().settle(settlements, request.clone(), now).await.unwrap();
        let wanted: Vec<Ruling> = events.iter().map(|(id, event)| self.fire(*id, event)).collect();
        assert_eq!(got, wanted);
        match (request, claimed) {
            (Some(request), Some(claimed)) => self.claimed(&request, &claimed),
            (None, None) => {}
            (asked, got) => panic!("asked {asked:?}, got {got:?}"),
        }
    }

    fn saying(&mut self, saying: Saying, token: TokenHash) -> (Outcome, Event) {
        match saying {
            Saying::Complete => (Outcome::Completed { result: None }, Event::Complete { token }),
            Saying::Fail { retryable, after } => {
                let error = JobError {
                    kind: "oops".to_owned(),
                    message: "no".to_owned(),
                    details: None,
                    stack: None,
                    attempt: 0,
                    at: START,
                    retryable,
                };
                let (retry_after, unit) = (Some(self.distinct(after)), 0.5);
                let event = Event::Fail { token, error: error.clone(), retry_after, unit };
                (Outcome::Failed { error, retry_after, unit }, event)
            }
            Saying::Release { delay } => {
                let delay = Some(self.distinct(delay));
                (Outcome::Released { delay }, Event::Release { token, delay })
            }
            Saying::Agree => (Outcome::Cancelled, Event::AgreeToCancel { token }),
        }
    }

    /// Which of the due ones a limited look takes is the store's choice; the rest is not.
    async fn take_back(&mut self, limit: u32) {
        let got = self.w.store().take_back(limit, vec![0.5], self.now).await.unwrap();
        assert!(got.len() <= limit as usize, "{} of at most {limit}", got.len());
        for t in &got {
            let wanted = self.look(t.id);
            assert_eq!(Some(t), wanted.as_ref());
        }
        if got.len() < limit as usize {
            let all: Vec<JobId> = self.jobs.keys().copied().collect();
            for id in all {
                assert_eq!(self.look(id), None, "this one was due too");
            }
        }
    }

    fn look(&mut self, id: JobId) -> Option<Transition> {
        let taken = self.fire(id, &Event::TakeBack { spread: Duration::ZERO });
        taken.or_else(|_| self.fire(id, &Event::MissStart)).ok()
    }

    async fn promote(&mut self) {
        let now = self.now;
        let got = self.w.store().promote(1_000, now).await.unwrap();
        let mut due: Vec<(Timestamp, JobId)> = self
            .jobs
            .iter()
            .filter(|(_, k)| k.gone.is_none())
            .map(|(id, k)| (k.job.eligible_at, *id))
            .collect();
        due.sort_unstable();
        let mut wanted: BTreeMap<Name, u64> = BTreeMap::new();
        for (_, id) in due {
            if let Ok(t) = self.fire(id, &Event::Promote) {
                *wanted.entry(t.queue).or_default() += 1;
            }
        }
        let over: Vec<Name> = self
            .paused
            .iter()
            .filter(|(_, until)| until.is_some_and(|t| t <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &over {
            self.paused.remove(name);
            self.resumed.insert(name.clone(), now);
        }
        // A queue that is resumed is named too; how many that makes claimable is not counted.
        let mut named: BTreeMap<Name, u64> = got.into_iter().collect();
        for name in &over {
            assert!(named.remove(name).is_some(), "{name} is resumed");
            wanted.remove(name);
        }
        assert_eq!(named, wanted);
    }

    async fn expire(&mut self) {
        // Far enough ahead that what is finished may go.
        let now = self.now.plus(DAY);
        let retired = self.w.store().expire(1_000, TOMBSTONE, now).await.unwrap();
        let due: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, k)| k.gone.is_none() && apply(&k.job, &Event::Expire, now).is_ok())
            .map(|(id, _)| *id)
            .collect();
        assert_eq!(retired.jobs, u64::try_from(due.len()).unwrap());
        assert!(!retired.more);
        self.now = now;
        for id in due {
            self.forget(id, Absence::Expired);
        }
        self.keys.retain(|_, k| k.expires_at.is_none_or(|t| t > now));
        for known in self.jobs.values_mut().filter(|k| k.gone.is_some()) {
            if known.job.created_at.plus(TOMBSTONE) <= now {
                known.gone = Some(Absence::Unknown);
            }
        }
    }

    fn forget(&mut self, id: JobId, why: Absence) {
        let now = self.now;
        let known = self.jobs.get_mut(&id).expect("it was there");
        let remembered = known.job.created_at.plus(TOMBSTONE) > now;
        known.gone = Some(if remembered { why } else { Absence::Unknown });
        for key in self.keys.values_mut().filter(|k| k.id == id) {
            key.expires_at = Some(key.created_at.plus(KEY_TTL).max(now));
        }
    }

    async fn compare(&self) {
        let (w, now) = (&self.w, self.now);
        w.counters_are_exact().await;
        let mut tallies: BTreeMap<&str, [u64; 7]> = BTreeMap::new();
        for (id, known) in &self.jobs {
            match (w.found(*id).await, known.gone) {
                (Found::Here(record), None) => {
                    assert_eq!(record.job, known.job);
                    assert_eq!(record.spec, known.new.spec);
                    assert_eq!(record.retried_as, known.retried_as);
                    let code = Tally::of(&known.job.phase).code();
                    tallies.entry(known.new.spec.queue.as_str()).or_default()
                        [usize::try_from(code).unwrap()] += 1;
                    let waits = matches!(known.job.phase, Phase::Pending(_) | Phase::Running(_));
                    let paused = waits && self.paused.contains_key(&known.new.spec.queue);
                    assert_eq!(record.standing.queue_paused, paused);
                }
                (Found::Absent(why), Some(wanted)) => assert_eq!(why, wanted, "{id}"),
                (found, wanted) => panic!("{id}: {found:?}, wanted {wanted:?}"),
            }
        }
        for queue in ["q0", "q1"] {
            let wanted = tallies.get(queue).copied().unwrap_or_default();
            assert_eq!(w.tallies(queue, now).await, wanted, "{queue}");
        }
        let page = w.store().list(ListFilter::default(), None, 10_000).await.unwrap();
        let listed: Vec<JobId> = page.jobs.iter().map(|r| r.spec.id).collect();
        let there = self.order.iter().rev().filter(|id| self.jobs[id].gone.is_none());
        assert_eq!(listed, there.copied().collect::<Vec<_>>());
    }
}
