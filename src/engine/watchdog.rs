//! The watchdog: looks for jobs that are stuck, finds out why, and says so once.
//!
//! It reads, judges and reports; it never changes a job. Each scan asks the store what is stuck,
//! gathers the evidence for each queue and kind, and lets the domain judge. Two scans must agree
//! before an episode opens or its verdict changes; an episode ends with the first scan that finds
//! nothing stuck. Opening, change and end are one line in the log and one row in the store each;
//! every other scan only brings the row's numbers up to date.
//!
//! What it knows lies in memory too, so that an answer can be given while the store is away.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::domain::names::Name;
use crate::domain::time::{STEP_TOLERANCE, Timestamp, millis};
use crate::domain::watch::{Evidence, Rate, Turn, Verdict, Watching, next_step};
use crate::store::{Episode, EpisodeFilter, Found, KindState, QueueLimits, StuckAfter};

use super::presence::Leases;
use super::tasks::StepResult;
use super::{Engine, lock};

/// Episodes in one commit.
const STEP: usize = 200;

/// The numbers of an episode that goes on are written this often at most: its metrics come from the
/// counts, and nothing else need be fresher.
const REWRITE_EVERY: Duration = Duration::from_secs(60);

/// Scans after an interruption of ours (a start, a stopped machine, a step of the clock) in which
/// nothing new is opened: the jobs waited for us, and their workers come back now.
const GRACE: u32 = 3;

/// What a run limit is at least where the queue's threshold is off.
const RUN_FLOOR: Duration = Duration::from_secs(300);

/// Kinds that are judged before others get their turn.
const BREATH: usize = 100;

/// Lines in the log for what opened, changed or ended in one scan; the rest is one line together.
const LINES: usize = 50;

/// Nothing has ended later than this: a filter that leaves only what goes on.
pub(super) const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// How many times its usual longest run a job may take before its worker counts as stalled.
const RUN_FACTOR: u32 = 3;

/// What the watchdog and the claims must know of the queues.
#[derive(Debug, Clone, Default)]
pub struct WatchSettings {
    pub stuck_after: StuckAfter,
    /// All declared queues.
    pub limits: Vec<QueueLimits>,
    /// Attempts that may start a second, of the queues that have such a limit.
    pub start_rates: HashMap<Name, f64>,
    /// Queues whose submissions must have an idempotency key.
    pub keyed: HashSet<Name>,
    /// New names of queues, and of kinds, that one namespace may bring in; `None`: any number.
    pub names_per_namespace: Option<usize>,
}

/// A queue and a kind.
type Key = (Name, Name);

/// What the watchdog remembers between scans.
#[derive(Debug, Default)]
pub(super) struct Watchdog(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    /// Whether the episodes of an earlier process have been read.
    loaded: bool,
    last_scan: Option<Timestamp>,
    /// Scans of the grace that are left.
    grace: u32,
    kinds: HashMap<Key, Watched>,
}

#[derive(Debug, Clone)]
struct Watched {
    watching: Watching,
    episode: Episode,
    written_at: Option<Timestamp>,
}

impl Watchdog {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        lock(&self.0)
    }

    pub(super) fn last_scan(&self) -> Option<Timestamp> {
        self.lock().last_scan
    }

    /// A scan begins: when the one before it was, and whether it comes after an interruption of ours.
    fn begin(&self, period: Duration, now: Timestamp) -> (Option<Timestamp>, bool) {
        let mut memory = self.lock();
        let previous = memory.last_scan.replace(now);
        if previous.is_none_or(|at| now.since(at) > period + STEP_TOLERANCE) {
            memory.grace = GRACE;
        }
        let lenient = memory.grace > 0;
        memory.grace = memory.grace.saturating_sub(1);
        (previous, lenient)
    }

    /// The verdict of the episode that goes on for this queue and kind, if one does.
    pub(super) fn verdict(&self, queue: &Name, kind: &Name) -> Option<Verdict> {
        let memory = self.lock();
        // Nothing is stuck most of the time.
        if memory.kinds.is_empty() {
            return None;
        }
        memory.kinds.get(&(queue.clone(), kind.clone()))?.watching.verdict()
    }

    /// Since when nobody works on this queue and kind, by the episode that goes on.
    pub(super) fn without_workers_since(&self, queue: &Name, kind: &Name) -> Option<Timestamp> {
        let memory = self.lock();
        let watched = memory.kinds.get(&(queue.clone(), kind.clone()))?;
        let nobody = watched.watching.verdict().is_some_and(Verdict::means_no_workers);
        nobody.then_some(watched.episode.since)
    }

    /// The episodes that go on in this queue, by kind, as last seen.
    /// Those that go on, as the last scan saw them.
    pub(super) fn refresh(&self, episodes: &mut [Episode]) {
        let memory = self.lock();
        for episode in episodes.iter_mut().filter(|e| e.ended_at.is_none()) {
            let key = (episode.queue.clone(), episode.kind.clone());
            let seen = memory.kinds.get(&key).filter(|w| w.watching.verdict().is_some());
            if let Some(latest) = seen.filter(|w| w.episode.since == episode.since) {
                *episode = latest.episode.clone();
            }
        }
    }

    pub(super) fn open_in(&self, queue: &Name) -> HashMap<Name, Episode> {
        let memory = self.lock();
        let of_queue = memory.kinds.values().filter(|w| w.episode.queue == *queue);
        let open = of_queue.filter(|w| w.watching.verdict().is_some());
        open.map(|w| (w.episode.kind.clone(), w.episode.clone())).collect()
    }
}

/// What a scan does with one queue and kind.
struct Step {
    key: Key,
    turn: Turn,
    /// `None` when it is over and forgotten.
    watched: Option<Watched>,
    /// To be written, also when it is over.
    episode: Option<Episode>,
    counted: u64,
    /// As it was before this scan: where it goes on from if this scan cannot be written down.
    before: Watched,
}

impl Step {
    /// Whether its oldest job is one that nobody has looked at.
    fn has_another_oldest(&self) -> bool {
        let Some(episode) = &self.episode else { return false };
        matches!(self.turn, Turn::Open(_))
            || episode.oldest_jobs.first() != self.before.episode.oldest_jobs.first()
    }
}

impl Engine {
    /// One scan, of those that come every `period`.
    pub async fn watch(&self, period: Duration) -> StepResult {
        let began = self.0.spans.begin();
        let mut told = Vec::new();
        let looked = self.look(period, &mut told).await;
        let stuck = *looked.as_ref().map_or(&0, |(jobs, _)| jobs);
        self.trace_scan(began, &told, stuck, looked.as_ref().err()).await;
        looked.map(|(jobs, kinds)| format!("{jobs} jobs of {kinds} kinds are stuck"))
    }

    /// How many jobs of how many kinds are stuck; `told` gets what has opened, changed or ended.
    async fn look(
        &self,
        period: Duration,
        told: &mut Vec<(Turn, Episode)>,
    ) -> Result<(u64, usize), String> {
        self.remember_workers().await?;
        self.remember_episodes().await?;
        let now = self.now();
        let rules = self.all_stuck_after();
        let stuck = self.0.store.scan(rules, now).await.map_err(|e| e.to_string())?;
        let (previous, lenient) = self.0.watchdog.begin(period, now);
        let leases = self.leases();
        let mut known = self.0.watchdog.lock().kinds.clone();
        let mut steps = Vec::new();
        let (mut jobs, kinds) = (0, stuck.len());
        let mut run_limits = HashMap::new();
        for (at, state) in stuck.iter().enumerate() {
            jobs += state.stuck;
            let key = (state.queue.name.clone(), state.kind.clone());
            let watched = known.remove(&key);
            if lenient && watched.as_ref().is_none_or(|w| w.watching.verdict().is_none()) {
                continue;
            }
            let queue_limit =
                *run_limits.entry(&state.queue.name).or_insert_with(|| self.queue_run_limit(state));
            let evidence = self.evidence(state, queue_limit, &leases, previous, now);
            steps.push(see(key, watched, state, evidence, now));
            if at % BREATH == BREATH - 1 {
                tokio::task::yield_now().await;
            }
        }
        for (key, watched) in known {
            steps.extend(calm(key, watched, now));
        }
        let written = self.write_episodes(&mut steps).await;
        self.report(&steps, written.is_ok());
        if written.is_ok() && self.0.spans.is_on() {
            let news = steps.iter().filter(|step| tells(step.turn));
            told.extend(news.filter_map(|s| s.episode.clone().map(|episode| (s.turn, episode))));
        }
        {
            let mut memory = self.0.watchdog.lock();
            let after = steps.into_iter().filter_map(|step| {
                let watched = if written.is_ok() { step.watched } else { Some(step.before) };
                Some((step.key, watched?))
            });
            memory.kinds = after.collect();
        }
        written?;
        Ok((jobs, kinds))
    }

    /// The episodes that an earlier process left open.
    async fn remember_episodes(&self) -> Result<(), String> {
        if self.0.watchdog.lock().loaded {
            return Ok(());
        }
        let filter = EpisodeFilter { ended_after: Some(NEVER), ..EpisodeFilter::default() };
        let open =
            self.0.store.episodes(filter, u32::MAX).await.map_err(|error| error.to_string())?;
        let mut memory = self.0.watchdog.lock();
        for episode in open {
            let key = (episode.queue.clone(), episode.kind.clone());
            let watching = Watching::opened(episode.verdict);
            memory.kinds.insert(key, Watched { watching, episode, written_at: None });
        }
        memory.loaded = true;
        Ok(())
    }

    /// What there is to know of one queue and kind.
    pub(super) fn evidence(
        &self,
        state: &KindState,
        queue_limit: Duration,
        leases: &Leases,
        previous_scan: Option<Timestamp>,
        now: Timestamp,
    ) -> Evidence {
        let queue = &state.queue.name;
        let stuck_after = self.stuck_after(queue);
        let run_limit = queue_limit.max(self.run_limit(queue, &state.kind));
        let waiting = state.tallies[..3].iter().sum::<u64>();
        // Whoever may not have the oldest job is no help to it.
        let namespace = state.oldest_namespace.as_ref();
        let parked_claims = self.0.claims.free(queue, &state.kind, namespace);
        let (start_rate_limit, last_rate_limited) = self.start_limit(queue, parked_claims, now);
        let mut evidence = Evidence {
            at: now,
            // Of those that are scheduled or back off, the due ones are not worth a count.
            eligible: state.tallies[0].max(state.stuck.min(waiting)),
            running: state.tallies[3],
            oldest_since: state.oldest_since,
            stuck_after_ms: stuck_after.map(|d| millis(d) as u64),
            paused_at: state.queue.paused_at,
            queue_running: state.queue_running.iter().map(|(_, jobs)| jobs).sum(),
            max_running: state.queue.max_running,
            start_rate_limit,
            last_rate_limited,
            oldest_priority: state.oldest_priority,
            store_degraded: self.0.health.is_degraded(),
            parked_claims,
            last_start: self.0.flow.last_start(queue, &state.kind),
            queue_last_start: self.0.flow.queue_last_start(queue),
            start_rate: Some(Rate::per_second(self.0.flow.rate(queue))),
            run_limit_ms: millis(run_limit) as u64,
            previous_scan,
            ..Evidence::default()
        };
        let since = state.oldest_since;
        self.roll().testify(queue, &state.kind, namespace, since, leases, &mut evidence);
        evidence
    }

    /// The longest run limit of the kinds that run in the queue.
    pub(super) fn queue_run_limit(&self, state: &KindState) -> Duration {
        let kinds = state.queue_running.iter().map(|(kind, _)| kind);
        let limits = kinds.map(|kind| self.run_limit(&state.queue.name, kind));
        limits.max().unwrap_or_default()
    }

    /// How long a job of this queue and kind may run, with nothing being settled, before its
    /// worker is suspected to hang. What is not known from experience is what the jobs themselves
    /// were allowed.
    pub(super) fn run_limit(&self, queue: &Name, kind: &Name) -> Duration {
        let usual = self.experience().p99_run(queue, kind, self.now()).map(|p99| p99 * RUN_FACTOR);
        let stuck_after = self.stuck_after(queue);
        let allowed = || {
            let default = self.defaults(queue.as_str()).timeout;
            self.0.flow.longest_timeout(queue, kind).map_or(default, |longest| longest.max(default))
        };
        usual.unwrap_or_else(allowed).max(stuck_after.unwrap_or(RUN_FLOOR))
    }

    /// What is told of the oldest job: the error that it last met, and its trace.
    async fn look_at_oldest(&self, episode: &mut Episode) {
        let Some(id) = episode.oldest_jobs.first() else { return };
        if let Ok(Found::Here(record)) = self.0.store.get(*id, false).await {
            let (error, trace) = super::explain::told_of(&record);
            episode.evidence.last_error = error;
            episode.evidence.trace_id = trace;
        }
    }

    async fn write_episodes(&self, steps: &mut [Step]) -> Result<(), String> {
        for step in steps.iter_mut().filter(|s| s.has_another_oldest()).take(LINES) {
            let Some(episode) = &mut step.episode else { continue };
            self.look_at_oldest(episode).await;
            if let Some(watched) = &mut step.watched {
                watched.episode.evidence.clone_from(&episode.evidence);
            }
        }
        let all: Vec<Episode> = steps.iter().filter_map(|s| s.episode.clone()).collect();
        for step in all.chunks(STEP) {
            self.0.store.record_episodes(step.to_vec()).await.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// What could not be written is told when it can be.
    fn report(&self, steps: &[Step], written: bool) {
        if !written {
            return;
        }
        let mut lines = 0;
        for step in steps {
            if let (Some(watched), true) = (&step.watched, step.counted > 0) {
                self.0.events.stuck_detected(&step.key.0, watched.episode.verdict, step.counted);
            }
            let Some(episode) = &step.episode else { continue };
            lines += usize::from(tells(step.turn));
            if lines <= LINES {
                tell(step.turn, episode);
            }
        }
        if lines > LINES {
            tracing::warn!(
                more = lines - LINES,
                "more queues and kinds have become stuck or unstuck; see `punctual episodes`"
            );
        }
    }

    /// Leases by worker, as the sample last saw them.
    pub(super) fn leases(&self) -> Arc<Leases> {
        self.latest().map(|latest| Arc::clone(&latest.leases)).unwrap_or_default()
    }
}

/// What was learned of the oldest job is true for as long as it is the oldest.
pub(super) fn keep_oldest(known: &Episode, state: &KindState, evidence: &mut Evidence) {
    if known.oldest_jobs.first() == state.oldest_jobs.first() {
        evidence.last_error.clone_from(&known.evidence.last_error);
        evidence.trace_id.clone_from(&known.evidence.trace_id);
    }
}

fn see(
    key: Key,
    watched: Option<Watched>,
    state: &KindState,
    mut evidence: Evidence,
    now: Timestamp,
) -> Step {
    let found = evidence.judge();
    let mut watched = watched.unwrap_or_else(|| Watched {
        watching: Watching::default(),
        episode: Episode {
            queue: key.0.clone(),
            kind: key.1.clone(),
            verdict: found,
            since: now,
            jobs: 0,
            peak_jobs: 0,
            oldest_jobs: Vec::new(),
            evidence: Evidence::default(),
            ended_at: None,
        },
        written_at: None,
    });
    let before = watched.clone();
    let turn = watched.watching.see(Some(found));
    let episode = &mut watched.episode;
    keep_oldest(episode, state, &mut evidence);
    episode.jobs = state.stuck;
    episode.peak_jobs = episode.peak_jobs.max(state.stuck);
    episode.oldest_jobs.clone_from(&state.oldest_jobs);
    episode.evidence = evidence;
    let counted = match turn {
        Turn::Open(verdict) => {
            episode.verdict = verdict;
            state.stuck
        }
        Turn::Change { to, .. } => {
            episode.verdict = to;
            state.newly
        }
        Turn::Stay(_) => state.newly,
        Turn::Calm | Turn::Suspect | Turn::End(_) => 0,
    };
    let due = before.written_at.is_none_or(|at| now.since(at) >= REWRITE_EVERY);
    let open = watched.watching.verdict().is_some();
    let episode = (open && (tells(turn) || due)).then(|| {
        watched.written_at = Some(now);
        watched.episode.clone()
    });
    Step { key, turn, watched: Some(watched), episode, counted, before }
}

/// Nothing is stuck there any more.
fn calm(key: Key, watched: Watched, now: Timestamp) -> Option<Step> {
    let Watched { mut watching, episode, .. } = watched.clone();
    let turn = watching.see(None);
    match turn {
        Turn::End(verdict) => {
            let episode = Episode { verdict, jobs: 0, ended_at: Some(now), ..episode };
            Some(Step {
                key,
                turn,
                watched: None,
                episode: Some(episode),
                counted: 0,
                before: watched,
            })
        }
        Turn::Calm | Turn::Suspect | Turn::Open(_) | Turn::Stay(_) | Turn::Change { .. } => None,
    }
}

const fn tells(turn: Turn) -> bool {
    match turn {
        Turn::Open(_) | Turn::Change { .. } | Turn::End(_) => true,
        Turn::Calm | Turn::Suspect | Turn::Stay(_) => false,
    }
}

fn tell(turn: Turn, episode: &Episode) {
    let Episode { queue, kind, evidence, .. } = episode;
    let oldest = evidence.oldest_age().unwrap_or_default().as_secs();
    match turn {
        Turn::Open(verdict) => tracing::warn!(
            %queue, %kind, verdict = verdict.as_str(), jobs = episode.jobs,
            oldest_age_seconds = oldest,
            oldest_job = episode.oldest_jobs.first().map(tracing::field::display),
            next_step = next_step(verdict, queue.as_str(), kind.as_str(), evidence),
            "jobs are stuck in pending"
        ),
        Turn::Change { from, to } => tracing::warn!(
            %queue, %kind, verdict = to.as_str(), before = from.as_str(), jobs = episode.jobs,
            oldest_age_seconds = oldest,
            next_step = next_step(to, queue.as_str(), kind.as_str(), evidence),
            "jobs are stuck for another reason"
        ),
        Turn::End(verdict) => tracing::info!(
            %queue, %kind, verdict = verdict.as_str(), peak_jobs = episode.peak_jobs,
            lasted_seconds = episode.ended_at.map(|t| t.since(episode.since).as_secs()),
            "jobs are stuck no more"
        ),
        Turn::Calm | Turn::Suspect | Turn::Stay(_) => {}
    }
}
