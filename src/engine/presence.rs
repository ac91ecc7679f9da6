//! Who is there: workers seen by their claims, heartbeats and settlements.
//!
//! The roll is this process's memory. It begins with what the store remembers, and what is new in
//! it is written to the store at most once per worker in [`WRITE_EVERY`], so that presence survives
//! restarts at little cost.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::domain::id::JobId;
use crate::domain::names::{Name, WorkerId};
use crate::domain::time::Timestamp;
use crate::domain::watch::{Evidence, SILENT_AFTER};
use crate::store::{Claimed, Presence};
use crate::telemetry::labels::WorkerState;

use super::{ClaimOrder, Engine};

/// The least time between two writes of one worker.
const WRITE_EVERY: Duration = Duration::from_secs(15);

/// A worker that was not seen for this long is forgotten.
const KEPT: Duration = Duration::from_secs(86_400);

/// Workers remembered; a stranger can invent ids, so there is an end to it.
const LIMIT: usize = 10_000;

/// Different claims remembered of one worker: a process may ask for several queues in turn.
const CLAIMS_KEPT: usize = 16;

/// How a worker shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
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
    /// Cancels that a claim of this worker has already carried.
    told: HashSet<JobId>,
}

/// What a worker asks for.
#[derive(Debug)]
struct Asked {
    queues: Vec<Name>,
    /// Empty: every kind.
    kinds: Vec<Name>,
    at: Timestamp,
    /// When a look for it last found nothing in the queue, by position; a pause or a limit is
    /// something.
    empty: Vec<Option<Timestamp>>,
}

impl Asked {
    fn accepts(&self, queue: &Name, kind: &Name) -> Option<usize> {
        let kind = self.kinds.is_empty() || self.kinds.contains(kind);
        self.queues.iter().position(|q| q == queue).filter(|_| kind)
    }
}

impl Entry {
    fn new(presence: Presence, first_seen: Timestamp) -> Self {
        let asked = Asked {
            queues: presence.queues.clone(),
            kinds: presence.kinds.clone(),
            at: presence.last_claim.unwrap_or(presence.last_seen),
            empty: vec![None; presence.queues.len()],
        };
        let asked = if presence.queues.is_empty() { Vec::new() } else { vec![asked] };
        Self { presence, first_seen, asked, missed: false, written_at: None, told: HashSet::new() }
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
        let same = |a: &Asked| a.queues == order.queues && a.kinds == order.kinds;
        if let Some(known) = self.asked.iter_mut().find(|a| same(a)) {
            known.at = now;
        } else {
            self.asked.retain(|a| now.since(a.at) <= SILENT_AFTER);
            if self.asked.len() >= CLAIMS_KEPT {
                self.asked.remove(0);
            }
            self.asked.push(Asked {
                queues: order.queues.clone(),
                kinds: order.kinds.clone(),
                at: now,
                empty: vec![None; order.queues.len()],
            });
            self.written_at = None;
            let p = &mut self.presence;
            p.queues = union(self.asked.iter().map(|a| &a.queues));
            p.kinds = if self.asked.iter().any(|a| a.kinds.is_empty()) {
                Vec::new()
            } else {
                union(self.asked.iter().map(|a| &a.kinds))
            };
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

    /// Who let a lease run out is known to be silent before [`SILENT_AFTER`] has passed.
    fn is_silent(&self, now: Timestamp) -> bool {
        self.missed || now.since(self.presence.last_seen) > SILENT_AFTER
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
pub(super) type Leases = HashMap<WorkerId, u64>;

/// Workers of one queue and their slots, by [`WorkerState`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Crew {
    pub(super) workers: [u64; WorkerState::ALL.len()],
    pub(super) slots: [u64; WorkerState::ALL.len()],
}

impl Crew {
    /// Workers that are not silent.
    pub(super) fn present(&self) -> u64 {
        self.workers[WorkerState::Idle as usize] + self.workers[WorkerState::Busy as usize]
    }

    pub(super) fn slots_present(&self) -> u64 {
        self.slots[WorkerState::Idle as usize] + self.slots[WorkerState::Busy as usize]
    }
}

#[derive(Debug, Default)]
pub(super) struct Roll {
    entries: HashMap<WorkerId, Entry>,
    /// Whether the store's memory has been read.
    seeded: bool,
}

impl Roll {
    fn saw_claim(&mut self, order: &ClaimOrder, now: Timestamp) {
        if !self.entries.contains_key(&order.worker) {
            self.make_room();
        }
        let entry = self.entries.entry(order.worker.clone()).or_insert_with(|| {
            let presence = Presence {
                worker: order.worker.clone(),
                queues: Vec::new(),
                kinds: Vec::new(),
                capacity: 0,
                hostname: None,
                version: None,
                last_seen: now,
                last_claim: Some(now),
                last_heartbeat: None,
                last_settlement: None,
            };
            Entry::new(presence, now)
        });
        entry.saw(Sign::Claim, now);
        entry.asks(order, now);
    }

    /// Heartbeats and settlements show that a known worker is alive.
    fn saw(&mut self, worker: &WorkerId, sign: Sign, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(worker) {
            entry.saw(sign, now);
        }
    }

    /// A lease ran out because its holder was silent.
    fn missed(&mut self, worker: &WorkerId) {
        if let Some(entry) = self.entries.get_mut(worker) {
            entry.missed = true;
        }
    }

    /// A look for the claim found nothing.
    fn found_nothing(&mut self, order: &ClaimOrder, claimed: &Claimed, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&order.worker) else { return };
        let same = |a: &Asked| a.queues == order.queues && a.kinds == order.kinds;
        let Some(asked) = entry.asked.iter_mut().find(|a| same(a)) else { return };
        for (at, empty) in asked.empty.iter_mut().enumerate() {
            let held_up = |flags: &[bool]| flags.get(at).copied().unwrap_or(false);
            if !held_up(&claimed.paused) && !held_up(&claimed.limited) {
                *empty = Some(now);
            }
        }
    }

    /// What the store remembers of workers that this process has not seen itself.
    fn seed(&mut self, remembered: Vec<Presence>) {
        for presence in remembered {
            if self.entries.len() < LIMIT && !self.entries.contains_key(&presence.worker) {
                let first_seen = presence.last_settlement.unwrap_or(presence.last_seen);
                self.entries.insert(presence.worker.clone(), Entry::new(presence, first_seen));
            }
        }
        self.seeded = true;
    }

    /// By queue: workers that accept it, by what they are doing.
    pub(super) fn crews(&self, leases: &Leases, now: Timestamp) -> HashMap<Name, Crew> {
        let mut crews: HashMap<Name, Crew> = HashMap::new();
        for (worker, entry) in &self.entries {
            let held = leases.get(worker).copied().unwrap_or(0);
            let capacity = u64::from(entry.presence.capacity);
            let state = if entry.is_silent(now) {
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
    /// became eligible.
    pub(super) fn testify(
        &self,
        queue: &Name,
        kind: &Name,
        since: Option<Timestamp>,
        leases: &Leases,
        evidence: &mut Evidence,
    ) {
        let now = evidence.at;
        for (worker, entry) in &self.entries {
            let asked = entry.asked.iter().filter_map(|a| Some((a, a.accepts(queue, kind)?)));
            let empty: Vec<Option<Timestamp>> = asked.map(|(a, at)| a.empty[at]).collect();
            if empty.is_empty() {
                continue;
            }
            evidence.workers += 1;
            evidence.last_seen = evidence.last_seen.max(Some(entry.presence.last_seen));
            let gone = since.is_some_and(|since| entry.presence.last_seen < since);
            if entry.is_silent(now) || gone {
                continue;
            }
            evidence.workers_present += 1;
            evidence.slots += u64::from(entry.presence.capacity);
            evidence.leases += leases.get(worker).copied().unwrap_or(0);
            evidence.last_empty_claim =
                evidence.last_empty_claim.max(empty.into_iter().max().flatten());
            evidence.last_settlement = evidence.last_settlement.max(entry.presence.last_settlement);
            evidence.newest_worker = evidence.newest_worker.max(Some(entry.first_seen));
        }
    }

    /// As the store forgets them.
    fn forget_unseen(&mut self, now: Timestamp) {
        self.entries.retain(|_, e| now.since(e.presence.last_seen) < KEPT);
    }

    fn forget(&mut self, worker: &WorkerId) {
        self.entries.remove(worker);
    }

    /// Those of `cancels` that no claim of this worker has carried yet.
    fn untold(&mut self, worker: &WorkerId, cancels: &[JobId]) -> bool {
        let Some(entry) = self.entries.get_mut(worker) else { return !cancels.is_empty() };
        let news = cancels.iter().any(|id| !entry.told.contains(id));
        entry.told = cancels.iter().copied().collect();
        news
    }

    fn due(&mut self, now: Timestamp, all: bool) -> Vec<Presence> {
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

    pub(super) fn all(&self) -> impl Iterator<Item = &Presence> {
        self.entries.values().map(|e| &e.presence)
    }

    /// When the roll is full, the longest unseen make room.
    fn make_room(&mut self) {
        if self.entries.len() < LIMIT {
            return;
        }
        let mut seen: Vec<Timestamp> =
            self.entries.values().map(|e| e.presence.last_seen).collect();
        let (_, median, _) = seen.select_nth_unstable(LIMIT / 10);
        let limit = *median;
        self.entries.retain(|_, e| e.presence.last_seen > limit);
    }
}

impl Engine {
    pub(super) fn saw_claim(&self, order: &ClaimOrder) {
        let now = self.now();
        self.roll().saw_claim(order, now);
    }

    pub(super) fn saw_worker(&self, worker: &WorkerId, sign: Sign) {
        let now = self.now();
        self.roll().saw(worker, sign, now);
    }

    pub(super) fn missed_worker(&self, worker: &WorkerId) {
        self.roll().missed(worker);
    }

    pub(super) fn found_nothing(&self, order: &ClaimOrder, claimed: &Claimed) {
        let now = self.now();
        self.roll().found_nothing(order, claimed, now);
    }

    /// Reads what the store remembers, once.
    pub(super) async fn remember_workers(&self) -> Result<(), String> {
        if !self.roll().seeded {
            let workers = self.0.store.workers().await.map_err(|e| e.to_string())?;
            self.roll().seed(workers.into_iter().map(|(presence, _)| presence).collect());
        }
        Ok(())
    }

    pub(super) fn forget_worker(&self, worker: &WorkerId) {
        self.roll().forget(worker);
    }

    pub(super) fn has_untold(&self, worker: &WorkerId, cancels: &[JobId]) -> bool {
        self.roll().untold(worker, cancels)
    }

    /// Writes whoever was seen since their last write. Losing it costs nothing but memory.
    pub(super) async fn write_presence(&self, all: bool) -> Result<String, String> {
        self.remember_workers().await?;
        let now = self.now();
        self.roll().forget_unseen(now);
        let due = self.roll().due(now, all);
        let workers = due.len();
        if workers > 0 {
            self.0.store.record_presence(due, now).await.map_err(|e| e.to_string())?;
        }
        Ok(format!("{workers} workers written"))
    }

    pub(super) async fn flush_presence(&self) {
        if let Err(error) = self.write_presence(true).await {
            tracing::warn!(%error, "presence was not written; workers show again with their next claim");
        }
    }
}
