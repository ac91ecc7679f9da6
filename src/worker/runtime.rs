//! The one task that owns a worker's state. See the module's root for what it promises.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{self, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::calls::{Lane, Reply};
use super::handler::{Handler, Outcome, Stop};
use super::held::{Key, Leases, Stage};
use super::{MAX_CONCURRENCY, Phase, Summary, WorkerConfig, WorkerError};

mod answers;
mod outcomes;
mod requests;

/// How long told work has to stop by itself before it is dropped: what a command has between
/// SIGTERM and SIGKILL, and a little.
const STOP_GRACE: Duration = Duration::from_secs(12);
/// How long outcomes are still tried after everything has stopped.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Progress is sent at most this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_secs(15);
/// Heartbeats are retried faster: they have a lease to save.
const MAX_BEAT_DELAY: Duration = Duration::from_secs(2);
/// The shortest lease that a server grants.
const MIN_LEASE: Duration = Duration::from_secs(1);
/// Before the next claim when one that should have been parked came back at once and empty: the
/// server shuts down, or repeats a cancel whose work is still stopping.
const UNPARKED: Duration = Duration::from_millis(500);
/// Far enough in the future for "nothing to wait for".
const IDLE: Duration = Duration::from_secs(3600);

pub(super) struct Runtime<H> {
    config: Arc<WorkerConfig>,
    handler: Arc<H>,
    phase: watch::Receiver<Phase>,
    owner_gone: bool,
    leases: Leases,
    work: JoinSet<Outcome>,
    keys: HashMap<task::Id, Key>,
    requests: JoinSet<Reply>,
    claims: Lane,
    settlements: Lane,
    heartbeats: Lane,
    news: Arc<Notify>,
    has_news: bool,
    last_beat: Instant,
    shortest_lease: Option<Duration>,
    leaving: Option<Leaving>,
    summary: Summary,
}

struct Leaving {
    /// Work is told to stop here.
    stop_at: Instant,
    /// The worker goes here, whatever is left.
    gone_at: Instant,
    error: Option<WorkerError>,
}

impl<H: Handler> Runtime<H> {
    pub(super) fn new(mut config: WorkerConfig, handler: H, phase: watch::Receiver<Phase>) -> Self {
        config.concurrency = config.concurrency.clamp(1, MAX_CONCURRENCY);
        Self {
            config: Arc::new(config),
            handler: Arc::new(handler),
            phase,
            owner_gone: false,
            leases: Leases::default(),
            work: JoinSet::new(),
            keys: HashMap::new(),
            requests: JoinSet::new(),
            claims: Lane::new("claims", MAX_DELAY),
            settlements: Lane::new("settlements", MAX_DELAY),
            heartbeats: Lane::new("heartbeats", MAX_BEAT_DELAY),
            news: Arc::new(Notify::new()),
            has_news: false,
            last_beat: Instant::now(),
            shortest_lease: None,
            leaving: None,
            summary: Summary::default(),
        }
    }

    pub(super) async fn run(mut self) -> Result<Summary, WorkerError> {
        let news = Arc::clone(&self.news);
        loop {
            self.follow_phase();
            let now = Instant::now();
            self.keep_deadlines(now);
            if self.is_over(now) {
                break;
            }
            self.send_what_is_due(now);
            let wake = self.next_wake(now);
            tokio::select! {
                changed = self.phase.changed(), if !self.owner_gone => {
                    self.owner_gone = changed.is_err();
                }
                Some(ended) = self.work.join_next_with_id() => {
                    self.ended(ended);
                    // Whatever else has ended by now goes into the same settlement.
                    while let Some(ended) = self.work.try_join_next_with_id() {
                        self.ended(ended);
                    }
                }
                Some(reply) = self.requests.join_next() => self.replied(reply),
                () = news.notified() => self.has_news = true,
                () = sleep_until(wake) => {}
            }
        }
        self.say_goodbye().await
    }

    fn follow_phase(&mut self) {
        let phase = *self.phase.borrow_and_update();
        let now = Instant::now();
        match phase {
            Phase::Run if self.owner_gone => self.leave(now + self.config.grace, None),
            Phase::Run => {}
            Phase::Drain => self.leave(now + self.config.grace, None),
            Phase::Stop => self.leave(now, None),
        }
    }

    /// Begins to leave, or hastens it.
    fn leave(&mut self, stop_at: Instant, error: Option<WorkerError>) {
        let gone_at = stop_at + STOP_GRACE + LAST_WORDS;
        if let Some(leaving) = &mut self.leaving {
            leaving.stop_at = leaving.stop_at.min(stop_at);
            leaving.gone_at = leaving.gone_at.min(gone_at);
            leaving.error = leaving.error.take().or(error);
            return;
        }
        let running = self.leases.iter().count();
        tracing::info!(running, "leaving: no new claims, running jobs may finish");
        self.leaving = Some(Leaving { stop_at, gone_at, error });
        // A claim that travels with outcomes is not parked and ends by itself.
        if !self.claims.shares_with(&self.settlements) {
            self.claims.abort();
        }
    }

    fn keep_deadlines(&mut self, now: Instant) {
        let told_to_leave = self.leaving.as_ref().is_some_and(|l| now >= l.stop_at);
        for key in self.leases.keys() {
            let Some(held) = self.leases.get(key) else {
                continue;
            };
            match &mut held.stage {
                Stage::Unconfirmed(_) if self.leaving.is_some() => {
                    self.finish(key, Outcome::Released);
                }
                Stage::Unconfirmed(_) if now >= held.clock.confirm_by() => {
                    // Never started; the next claim does not list it, so it is released.
                    self.leases.remove(key);
                }
                Stage::Unconfirmed(_) | Stage::Finished(_) => {}
                Stage::Lost(work) => work.drop_when_due(now),
                Stage::Running(work) => {
                    work.drop_when_due(now);
                    let told = *held.stop.borrow();
                    let ending = matches!(told, Some(Stop::LeaseEnding(_) | Stop::TimedOut(_)));
                    let (why, drop_at) = if now >= held.clock.stop_at() && !ending {
                        (held.clock.why(), held.clock.end_at())
                    } else if told_to_leave && work.drop_at.is_none() {
                        (Stop::Draining, now + STOP_GRACE)
                    } else {
                        continue;
                    };
                    work.drop_at = Some(work.drop_at.map_or(drop_at, |at| at.min(drop_at)));
                    tracing::warn!(job_id = %held.job_id, "stopping work: {}", words(why));
                    held.tell(why);
                }
            }
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| {
            let quiet = self.leases.is_empty() && !self.settlements.is_busy();
            quiet || now >= leaving.gone_at
        })
    }

    fn next_wake(&self, now: Instant) -> Instant {
        let mut wake = now + IDLE;
        let mut sooner = |at: Option<Instant>| wake = at.map_or(wake, |at| wake.min(at));
        for (_, held) in self.leases.iter() {
            sooner(held.next_deadline());
        }
        if let Some(leaving) = &self.leaving {
            sooner((now < leaving.stop_at).then_some(leaving.stop_at));
            sooner(Some(leaving.gone_at));
        }
        if let Some(due) = self.beat_due() {
            sooner(self.heartbeats.opens_at().map(|opens| opens.max(due)));
        }
        if self.has_outcomes() {
            sooner(self.settlements.opens_at());
        }
        if self.free_places() > 0 {
            sooner(self.claims.opens_at());
        }
        wake
    }

    /// When the next heartbeat is due: a third into the lease that is next, or as soon as there
    /// is progress to tell or a lease to confirm.
    fn beat_due(&self) -> Option<Instant> {
        let news = self.has_news.then(|| self.last_beat + PROGRESS_EVERY);
        let leases = self.leases.iter().filter(|(_, held)| held.is_ours()).map(|(_, held)| {
            match held.stage {
                Stage::Unconfirmed(_) => self.last_beat,
                Stage::Running(_) | Stage::Finished(_) | Stage::Lost(_) => held.clock.beat_at(),
            }
        });
        let due = leases.min()?;
        Some(news.map_or(due, |news| due.min(news)))
    }

    fn has_outcomes(&self) -> bool {
        self.leases
            .iter()
            .any(|(_, held)| matches!(&held.stage, Stage::Finished(f) if !f.on_the_way))
    }

    fn free_places(&self) -> usize {
        if self.leaving.is_some() {
            return 0;
        }
        (self.config.concurrency as usize).saturating_sub(self.leases.places_taken())
    }

    async fn say_goodbye(mut self) -> Result<Summary, WorkerError> {
        self.requests.shutdown().await;
        self.work.shutdown().await;
        if let Err(error) = self.config.client.goodbye(&self.config.worker_id).await {
            tracing::warn!("could not say goodbye; leases that are left will expire: {error}");
        }
        match self.leaving.and_then(|leaving| leaving.error) {
            Some(error) => Err(error),
            None => Ok(self.summary),
        }
    }
}

fn words(stop: Stop) -> &'static str {
    match stop {
        Stop::Cancelled => "its cancel was requested",
        Stop::Draining => "this worker leaves",
        Stop::LeaseEnding(_) => "its lease could not be extended and ends",
        Stop::TimedOut(_) => "its timeout_seconds are over",
        Stop::LeaseLost => "its lease is lost",
    }
}
