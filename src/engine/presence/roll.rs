//! The roll itself: one process's memory of who is there. It knows no store and no clock; times are
//! given to it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::domain::access::Lists;
use crate::domain::directive::Directive;
use crate::domain::id::JobId;
use crate::domain::job::{Job, Spec};
use crate::domain::names::{Name, WorkerId};
use crate::domain::time::Timestamp;
use crate::domain::watch::{Evidence, Levels, SILENT_AFTER};
use crate::store::{Claimed, Presence, Transition};
use crate::telemetry::labels::WorkerState;

use super::super::ClaimOrder;

/// The least time between two writes of one worker.
const WRITE_EVERY: Duration = Duration::from_secs(15);

/// A worker that was not seen for this long is forgotten.
const KEPT: Duration = Duration::from_secs(86_400);

/// Workers remembered; a stranger can invent ids, so there is an end to it.
const LIMIT: usize = 10_000;

/// Different claims remembered of one worker: a process may ask for several queues in turn.
const CLAIMS_KEPT: usize = 16;

/// Names in all of them; a stranger can invent names too.
const NAMES_KEPT: usize = 400;

/// What was not asked for in this time, and of which no job is held, is not asked for any more.
const ASKED_FOR: Duration = Duration::from_secs(600);

/// How a worker shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Sign {
    /// It asks for work, or stays parked.
    Claim,
    Heartbeat,
    Settlement,
}

#[derive(Debug)]
struct Entry {
    presence: Presence,
    first_seen: Timestamp,
    asked: Vec<Asked>,
    /// A lease of its ran out, and it has not shown itself since.
    missed: bool,
    written_at: Option<Timestamp>,
    /// Cancels that a claim of this worker has already carried, by the namespace that it was for.
    told: HashMap<Option<Name>, HashSet<JobId>>,
    /// Whether a claim of its was answered with the wish that it leave.
    told_to_leave: bool,
    /// Until when it may hold a lease, as far as was seen.
    holds_until: Timestamp,
}

/// What a worker asks for.
#[derive(Debug)]
struct Asked {
    /// `None`: jobs of every namespace.
    namespace: Option<Name>,
    queues: Vec<Name>,
    /// Empty: every kind.
    kinds: Vec<Name>,
    at: Timestamp,
    /// When a look for it last found nothing in the queue, by position; a pause or a limit is
    /// something.
    empty: Vec<Option<Timestamp>>,
    /// When it last got a job of the queue, likewise.
    starts: Vec<Levels>,
    /// Heard of, not heard: what the store remembers, or what a heartbeat lets one conclude.
    presumed: bool,
}

impl Asked {
    fn new(
        namespace: Option<Name>,
        queues: Vec<Name>,
        kinds: Vec<Name>,
        at: Timestamp,
        presumed: bool,
    ) -> Self {
        let empty = vec![None; queues.len()];
        let starts = vec![Levels::default(); queues.len()];
        Self { namespace, queues, kinds, at, empty, starts, presumed }
    }

    fn names(&self) -> usize {
        self.queues.len() + self.kinds.len()
    }

    fn is_for(&self, order: &ClaimOrder) -> bool {
        self.namespace == order.namespace
            && self.queues == order.queues
            && self.kinds == order.kinds
    }

    /// The queue's position, if such jobs of it are taken; of any namespace when that is `None`.
    fn accepts(&self, queue: &Name, kind: &Name, namespace: Option<&Name>) -> Option<usize> {
        let sees = match (&self.namespace, namespace) {
            (Some(own), Some(namespace)) => own == namespace,
            (Some(_) | None, _) => true,
        };
        let kind = self.kinds.is_empty() || self.kinds.contains(kind);
        self.queues.iter().position(|q| q == queue).filter(|_| sees && kind)
    }
}

impl Entry {
    fn new(presence: Presence, first_seen: Timestamp) -> Self {
        let asked = if presence.queues.is_empty() {
            Vec::new()
        } else {
            let at = presence.last_claim.unwrap_or(presence.last_seen);
            let (queues, kinds) = (presence.queues.clone(), presence.kinds.clone());
            vec![Asked::new(presence.namespace.clone(), queues, kinds, at, true)]
        };
        Self {
            presence,
            first_seen,
            asked,
            missed: false,
            written_at: None,
            told: HashMap::new(),
            told_to_leave: false,
            holds_until: Timestamp::EPOCH,
        }
    }

    fn holds(&mut self, job: &Job) {
        if let Some(lease) = job.lease() {
            self.holds_until = self.holds_until.max(lease.expires_at);
        }
    }

    fn saw(&mut self, sign: Sign, now: Timestamp) {
        self.missed = false;
        let p = &mut self.presence;
        p.last_seen = now;
        *match sign {
            Sign::Claim => &mut p.last_claim,
            Sign::Heartbeat => &mut p.last_heartbeat,
            Sign::Settlement => &mut p.last_settlement,
        } = Some(now);
    }

    fn asks(&mut self, order: &ClaimOrder, now: Timestamp) {
        let same = |a: &Asked| a.is_for(order);
        let before = self.asked.len();
        self.asked.retain(|a| same(a) || !a.presumed && now.since(a.at) <= ASKED_FOR);
        if let Some(known) = self.asked.iter_mut().find(|a| same(a)) {
            known.at = now;
            known.presumed = false;
        } else {
            let (queues, kinds) = (order.queues.clone(), order.kinds.clone());
            let fresh = Asked::new(order.namespace.clone(), queues, kinds, now, false);
            let names = |asked: &[Asked]| asked.iter().map(Asked::names).sum::<usize>();
            while !self.asked.is_empty()
                && (self.asked.len() >= CLAIMS_KEPT
                    || names(&self.asked) + fresh.names() > NAMES_KEPT)
            {
                self.asked.remove(0);
            }
            self.asked.push(fresh);
            self.changed();
        }
        if self.asked.len() != before {
            self.changed();
        }
        let asked = u32::try_from(order.max_jobs).unwrap_or(u32::MAX);
        let p = &mut self.presence;
        p.capacity = order.concurrency.unwrap_or(p.capacity.max(asked));
        if order.hostname.is_some() {
            p.hostname.clone_from(&order.hostname);
        }
        if order.version.is_some() {
            p.version.clone_from(&order.version);
        }
    }

    /// What it asks for is not what was written of it.
    fn changed(&mut self) {
        let p = &mut self.presence;
        p.queues = union(self.asked.iter().map(|a| &a.queues));
        p.kinds = if self.asked.iter().any(|a| a.kinds.is_empty()) {
            Vec::new()
        } else {
            union(self.asked.iter().map(|a| &a.kinds))
        };
        let mut scopes = self.asked.iter().map(|a| &a.namespace);
        let first = scopes.next().cloned().flatten();
        p.namespace = first.filter(|first| scopes.all(|s| s.as_ref() == Some(first)));
        self.written_at = None;
    }

    /// It works on such a job, so it takes such jobs.
    fn works_on(&mut self, t: &Transition, scope: Option<&Name>, now: Timestamp) {
        let Transition { queue, kind, namespace, .. } = t;
        let accepts = |a: &&mut Asked| a.accepts(queue, kind, Some(namespace)).is_some();
        let mut accepting = self.asked.iter_mut().filter(accepts);
        if let Some(known) = accepting.next() {
            known.at = known.at.max(now);
        } else if self.asked.len() < CLAIMS_KEPT {
            let (queues, kinds) = (vec![queue.clone()], vec![kind.clone()]);
            self.asked.push(Asked::new(scope.cloned(), queues, kinds, now, true));
            self.changed();
        }
    }

    /// It was asked to leave: it takes nothing more.
    fn leaves(&self) -> bool {
        self.presence.directive == Directive::Drain
    }

    /// Who let a lease run out is known to be silent before [`SILENT_AFTER`] has passed. Who holds
    /// one that goes on is not: a long lease asks for few heartbeats, and the reaper ends it.
    fn is_silent(&self, held: u64, now: Timestamp) -> bool {
        self.missed || (held == 0 && now.since(self.presence.last_seen) > SILENT_AFTER)
    }
}

fn union<'a>(sets: impl Iterator<Item = &'a Vec<Name>>) -> Vec<Name> {
    let mut all = Vec::new();
    for name in sets.flatten() {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}

/// Leases held, by worker.
pub(in crate::engine) type Leases = HashMap<WorkerId, u64>;

/// Workers of one queue and their slots, by [`WorkerState`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::engine) struct Crew {
    pub(in crate::engine) workers: [u64; WorkerState::ALL.len()],
    pub(in crate::engine) slots: [u64; WorkerState::ALL.len()],
}

impl Crew {
    /// Workers that are not silent.
    pub(in crate::engine) fn present(&self) -> u64 {
        self.workers[WorkerState::Idle as usize] + self.workers[WorkerState::Busy as usize]
    }

    pub(in crate::engine) fn slots_present(&self) -> u64 {
        self.slots[WorkerState::Idle as usize] + self.slots[WorkerState::Busy as usize]
    }
}

#[derive(Debug, Default)]
pub(in crate::engine) struct Roll {
    entries: HashMap<WorkerId, Entry>,
    /// Whether the store's memory has been read.
    pub(super) seeded: bool,
    /// Since when claims, and what they start, are seen.
    since: Option<Timestamp>,
}

impl Roll {
    pub(super) fn saw_claim(&mut self, order: &ClaimOrder, now: Timestamp) {
        self.since.get_or_insert(now);
        let entry = self.entry(&order.worker, now);
        entry.saw(Sign::Claim, now);
        entry.asks(order, now);
    }

    fn entry(&mut self, worker: &WorkerId, now: Timestamp) -> &mut Entry {
        if !self.entries.contains_key(worker) {
            self.make_room(now);
        }
        self.entries.entry(worker.clone()).or_insert_with(|| {
            let presence = Presence {
                worker: worker.clone(),
                namespace: None,
                queues: Vec::new(),
                kinds: Vec::new(),
                capacity: 0,
                hostname: None,
                version: None,
                directive: Directive::Continue,
                last_seen: now,
                last_claim: None,
                last_heartbeat: None,
                last_settlement: None,
            };
            Entry::new(presence, now)
        })
    }

    /// The holder of a lease is there, also when this process has never seen it claim.
    pub(super) fn saw_holder(
        &mut self,
        worker: &WorkerId,
        scope: Option<&Name>,
        sign: Sign,
        t: &Transition,
        now: Timestamp,
    ) {
        let entry = match self.entries.get_mut(worker) {
            Some(known) => known,
            None => self.entry(worker, now),
        };
        entry.saw(sign, now);
        entry.works_on(t, scope, now);
        entry.holds(&t.job);
    }

    /// Who says who it is, and is known, is alive.
    pub(super) fn saw(&mut self, worker: &WorkerId, sign: Sign, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(worker) {
            entry.saw(sign, now);
        }
    }

    /// A lease ran out because its holder was silent.
    pub(super) fn missed(&mut self, worker: &WorkerId) {
        if let Some(entry) = self.entries.get_mut(worker) {
            entry.missed = true;
        }
    }

    /// A look for the claim found nothing.
    pub(super) fn found_nothing(&mut self, order: &ClaimOrder, claimed: &Claimed, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&order.worker) else { return };
        let Some(asked) = entry.asked.iter_mut().find(|a| a.is_for(order)) else { return };
        for (at, empty) in asked.empty.iter_mut().enumerate() {
            let held_up = |flags: &[bool]| flags.get(at).copied().unwrap_or(false);
            if !held_up(&claimed.paused) && !held_up(&claimed.limited) {
                *empty = Some(now);
            }
        }
    }

    /// It got a job: of what it asks for, that which was asked for last and fits.
    pub(super) fn started(&mut self, worker: &WorkerId, spec: &Spec, job: &Job, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(worker) else { return };
        entry.holds(job);
        let fits = |a: &Asked| a.accepts(&spec.queue, &spec.kind, Some(&spec.namespace));
        if let Some(asked) =
            entry.asked.iter_mut().filter(|a| fits(a).is_some()).max_by_key(|a| a.at)
            && let Some(at) = fits(asked)
        {
            asked.starts[at].started(spec.priority, now);
        }
    }

    /// What the store remembers of workers that this process has not seen itself.
    pub(super) fn seed(&mut self, remembered: Vec<Presence>) {
        for presence in remembered {
            let leaves = presence.directive == Directive::Drain;
            if let Some(known) = self.entries.get_mut(&presence.worker) {
                if leaves {
                    known.presence.directive = Directive::Drain;
                }
            } else if leaves || self.entries.len() < LIMIT {
                let first_seen = presence.last_settlement.unwrap_or(presence.last_seen);
                self.entries.insert(presence.worker.clone(), Entry::new(presence, first_seen));
            }
        }
        self.seeded = true;
    }

    /// By queue: workers that accept it, by what they are doing.
    pub(in crate::engine) fn crews(&self, leases: &Leases, now: Timestamp) -> HashMap<Name, Crew> {
        let mut crews: HashMap<Name, Crew> = HashMap::new();
        for (worker, entry) in &self.entries {
            let held = leases.get(worker).copied().unwrap_or(0);
            if entry.leaves() && held == 0 {
                continue;
            }
            // Who leaves has no other slots than those that are taken.
            let capacity = if entry.leaves() { held } else { u64::from(entry.presence.capacity) };
            let state = if entry.is_silent(held, now) {
                WorkerState::Silent
            } else if held > 0 {
                WorkerState::Busy
            } else {
                WorkerState::Idle
            };
            for queue in &entry.presence.queues {
                let crew = crews.entry(queue.clone()).or_default();
                crew.workers[state as usize] += 1;
                match state {
                    WorkerState::Silent => crew.slots[WorkerState::Silent as usize] += capacity,
                    WorkerState::Idle | WorkerState::Busy => {
                        crew.slots[WorkerState::Busy as usize] += held.min(capacity);
                        crew.slots[WorkerState::Idle as usize] += capacity.saturating_sub(held);
                    }
                }
            }
        }
        crews
    }

    /// What the workers of this queue and kind add to the evidence; `since` is when the oldest job
    /// became eligible, `namespace` is that job's: whoever may not have it is no worker of its.
    pub(in crate::engine) fn testify(
        &self,
        queue: &Name,
        kind: &Name,
        namespace: Option<&Name>,
        since: Option<Timestamp>,
        leases: &Leases,
        evidence: &mut Evidence,
    ) {
        let now = evidence.at;
        for (worker, entry) in &self.entries {
            let accepts = |a| Asked::accepts(a, queue, kind, namespace).map(|at| (a, at));
            let asked: Vec<(&Asked, usize)> = entry.asked.iter().filter_map(accepts).collect();
            if asked.is_empty() {
                continue;
            }
            // Who leaves accepts such jobs no more.
            if !entry.leaves() {
                evidence.workers += 1;
                evidence.last_seen = evidence.last_seen.max(Some(entry.presence.last_seen));
            }
            // Also of those that are gone: what they started was started.
            if let Some(priority) = evidence.oldest_priority {
                evidence.levels_since = self.since;
                for (asked, at) in &asked {
                    let starts = &asked.starts[*at];
                    let (above, level) = (starts.above(priority), starts.up_to(priority));
                    evidence.last_higher_start = evidence.last_higher_start.max(above);
                    evidence.last_level_start = evidence.last_level_start.max(level);
                }
            }
            let held = leases.get(worker).copied().unwrap_or(0);
            let gone = since.is_some_and(|since| entry.presence.last_seen < since);
            if entry.leaves() || entry.is_silent(held, now) || (gone && held == 0) {
                continue;
            }
            evidence.workers_present += 1;
            evidence.slots += u64::from(entry.presence.capacity);
            evidence.leases += held;
            for (asked, at) in asked {
                evidence.last_empty_claim = evidence.last_empty_claim.max(asked.empty[at]);
            }
            evidence.last_settlement = evidence.last_settlement.max(entry.presence.last_settlement);
            if held > 0 {
                evidence.newest_worker = evidence.newest_worker.max(Some(entry.first_seen));
            }
        }
    }

    /// As the store forgets them.
    pub(super) fn forget_unseen(&mut self, now: Timestamp) {
        self.entries.retain(|_, e| now.since(e.presence.last_seen) < KEPT);
    }

    /// What the worker is told; strangers go on.
    pub(super) fn directive(&self, worker: &WorkerId) -> Directive {
        self.entries.get(worker).map(|e| e.presence.directive).unwrap_or_default()
    }

    /// Its claim is answered: whether it is to leave, and was told so on an earlier one.
    pub(super) fn stays_on(&mut self, worker: &WorkerId) -> bool {
        let Some(entry) = self.entries.get_mut(worker) else { return false };
        entry.leaves() && std::mem::replace(&mut entry.told_to_leave, true)
    }

    /// From now on it is told to leave; its presence, to be written. `None`: who is that?
    pub(super) fn drain(&mut self, worker: &WorkerId) -> Option<Presence> {
        let entry = self.entries.get_mut(worker)?;
        entry.presence.directive = Directive::Drain;
        Some(entry.presence.clone())
    }

    /// What it asked of this namespace (`None`: of any) and these lists; and itself, if that was
    /// all.
    pub(super) fn forget(&mut self, worker: &WorkerId, scope: Option<&Name>, lists: &Lists) {
        let Some(entry) = self.entries.get_mut(worker) else { return };
        entry.asked.retain(|a| {
            let other = scope.is_some() && a.namespace.as_ref() != scope;
            other || !lists.allow_all_of(&a.queues, &a.kinds)
        });
        if entry.asked.is_empty() {
            self.entries.remove(worker);
        } else {
            entry.told.remove(&scope.cloned());
            entry.changed();
        }
    }

    /// Those of `cancels` that no claim of this worker has carried yet.
    pub(super) fn untold(&mut self, order: &ClaimOrder, cancels: &[JobId]) -> bool {
        let Some(entry) = self.entries.get_mut(&order.worker) else { return !cancels.is_empty() };
        let told = entry.told.get(&order.namespace);
        let news = cancels.iter().any(|id| told.is_none_or(|told| !told.contains(id)));
        if cancels.is_empty() {
            entry.told.remove(&order.namespace);
        } else {
            let carried = cancels.iter().copied().collect();
            entry.told.insert(order.namespace.clone(), carried);
        }
        news
    }

    pub(super) fn due(&mut self, now: Timestamp, all: bool) -> Vec<Presence> {
        self.entries
            .values_mut()
            .filter(|e| {
                let written = e.written_at.unwrap_or(Timestamp::EPOCH);
                e.presence.last_seen > written && (all || now.since(written) >= WRITE_EVERY)
            })
            .map(|e| {
                e.written_at = Some(now);
                e.presence.clone()
            })
            .collect()
    }

    pub(in crate::engine) fn all(&self) -> impl Iterator<Item = &Presence> {
        self.entries.values().map(|e| &e.presence)
    }

    /// When the roll is full, of the namespace that has most in it the longest unseen make room: who
    /// invents workers does so at his own cost. Whoever is to leave stays, for he must hear of it
    /// again, and whoever holds a lease as long as there are others.
    fn make_room(&mut self, now: Timestamp) {
        if self.entries.len() < LIMIT {
            return;
        }
        let idle = self.crowd(|e| !e.leaves() && e.holds_until <= now);
        let crowd = if idle.is_empty() { self.crowd(|e| !e.leaves()) } else { idle };
        for worker in crowd {
            self.entries.remove(&worker);
        }
    }

    /// A part of those of the largest namespace, by whom `may_go` leaves; longest unseen first.
    fn crowd(&self, may_go: impl Fn(&Entry) -> bool) -> Vec<WorkerId> {
        let mut by_namespace: HashMap<Option<&Name>, Vec<(Timestamp, &WorkerId)>> = HashMap::new();
        for (worker, entry) in self.entries.iter().filter(|(_, e)| may_go(e)) {
            let of = by_namespace.entry(entry.presence.namespace.as_ref()).or_default();
            of.push((entry.presence.last_seen, worker));
        }
        let Some(mut largest) = by_namespace.into_values().max_by_key(Vec::len) else {
            return Vec::new();
        };
        // So many at once that it is not done for each newcomer.
        let leaving = largest.len().div_ceil(10);
        largest.sort_unstable();
        largest.into_iter().take(leaving).map(|(_, worker)| worker.clone()).collect()
    }
}

#[cfg(test)]
#[path = "roll_tests.rs"]
mod tests;
