//! The one task that owns a worker's state. See the module's root for what it promises.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::calls::{self, BATCH_BYTES, BATCH_ITEMS, Lane, Reply};
use super::handler::{Context, Handler, Outcome, Progress, Stop};
use super::held::{Finished, Held, Key, Leases, Stage, Work};
use super::lease::LeaseClock;
use super::outcome::{self, Refusal};
use super::{MAX_CONCURRENCY, Phase, Summary, WorkerConfig, WorkerError};
use crate::client::ClientError;
use crate::wire;

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
    pub(super) fn new(
        mut config: WorkerConfig,
        handler: H,
        phase: watch::Receiver<Phase>,
    ) -> Self {
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

    // ---- time -------------------------------------------------------------------------------

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
        match &mut self.leaving {
            Some(leaving) => {
                leaving.stop_at = leaving.stop_at.min(stop_at);
                leaving.gone_at = leaving.gone_at.min(gone_at);
                if leaving.error.is_none() {
                    leaving.error = error;
                }
            }
            None => {
                let running = self.leases.iter().count();
                tracing::info!(running, "leaving: no new claims, running jobs may finish");
                self.leaving = Some(Leaving { stop_at, gone_at, error });
                // A claim that travels with outcomes is not parked and ends by itself.
                if !self.settlements.is_busy() {
                    self.claims.abort();
                }
            }
        }
    }

    fn keep_deadlines(&mut self, now: Instant) {
        let told_to_leave = self.leaving.as_ref().is_some_and(|l| now >= l.stop_at);
        for key in self.leases.keys() {
            let Some(held) = self.leases.get(key) else { continue };
            match &mut held.stage {
                Stage::Unconfirmed(_) if self.leaving.is_some() => self.finish(key, Outcome::Released),
                Stage::Unconfirmed(_) if now >= held.clock.stop_at() => {
                    // Never started; the next claim does not list it, so it is released.
                    self.leases.remove(key);
                }
                Stage::Unconfirmed(_) | Stage::Finished(_) => {}
                Stage::Running(work) if work.drop_at.is_some_and(|at| now >= at) => {
                    work.task.abort();
                    work.drop_at = Some(now + IDLE);
                }
                Stage::Running(work) => {
                    let end = held.clock.end_at();
                    let why = if now >= held.clock.stop_at() {
                        Some((Stop::LeaseEnding(end), end))
                    } else if told_to_leave {
                        Some((Stop::Draining, now + STOP_GRACE))
                    } else {
                        None
                    };
                    if let (Some((why, drop_at)), None) = (why, work.drop_at) {
                        work.drop_at = Some(drop_at);
                        tracing::warn!(job_id = %held.job_id, "stopping work: {}", words(why));
                        held.tell(why);
                    }
                }
                Stage::Lost(work) => {
                    if work.drop_at.is_some_and(|at| now >= at) {
                        work.task.abort();
                        work.drop_at = None;
                    }
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

    // ---- requests ---------------------------------------------------------------------------

    fn send_what_is_due(&mut self, now: Instant) {
        if self.heartbeats.is_free(now) && self.beat_due().is_some_and(|due| now >= due) {
            self.send_heartbeats();
        }
        if self.settlements.is_free(now) && self.has_outcomes() {
            self.send_settlements(now);
        }
        let free = self.free_places();
        if free > 0 && self.claims.is_free(now) {
            self.send_claim(free);
        }
    }

    fn send_claim(&mut self, free: usize) {
        let held = self.leases.job_ids();
        let claim = calls::claim(&self.config, free, self.shortest_lease, true, held);
        let config = Arc::clone(&self.config);
        let task = self.requests.spawn(async move {
            let sent = Instant::now();
            Reply::Claim { sent, answer: config.client.claim(&claim).await }
        });
        self.claims.occupy(task);
    }

    /// Sends the outcomes that wait, and with them the claim for the places that they leave. A
    /// claim that is parked already stays so.
    fn send_settlements(&mut self, now: Instant) {
        let held = self.leases.job_ids();
        let (mut keys, mut settlements, mut bytes) = (Vec::new(), Vec::new(), 0);
        for key in self.leases.keys() {
            let Some(Held { stage: Stage::Finished(f), .. }) = self.leases.get(key) else {
                continue;
            };
            bytes += outcome::weight(&f.settlement);
            if !keys.is_empty() && (bytes > BATCH_BYTES || keys.len() == BATCH_ITEMS) {
                break;
            }
            // One that was refused along with others is tried alone.
            if f.tries > 0 && !keys.is_empty() {
                bytes -= outcome::weight(&f.settlement);
                continue;
            }
            f.on_the_way = true;
            f.tries += 1;
            keys.push(key);
            settlements.push(f.settlement.clone());
            if f.tries > 1 {
                break;
            }
        }
        let free = self.free_places();
        let claim = (free > 0 && self.claims.is_free(now)).then(|| {
            calls::claim(&self.config, free, self.shortest_lease, false, held.clone())
        });
        let with_claim = claim.is_some();
        let body = wire::Settlements {
            worker_id: self.config.worker_id.clone(),
            settlements,
            claim,
            // With a claim on the way this list could be older than what that claim is granted.
            held: (with_claim || !self.claims.is_busy()).then_some(held),
        };
        let config = Arc::clone(&self.config);
        let task = self.requests.spawn(async move {
            let sent = Instant::now();
            Reply::Settle { sent, keys, with_claim, answer: config.client.settle(&body).await }
        });
        if with_claim {
            self.claims.occupy(task.clone());
        }
        self.settlements.occupy(task);
    }

    fn send_heartbeats(&mut self) {
        let (mut leases, mut sent_progress) = (Vec::new(), Vec::new());
        let mut patience = Duration::from_secs(10);
        for (key, held) in self.leases.iter().filter(|(_, h)| h.is_ours()).take(BATCH_ITEMS) {
            let progress = held.progress.take();
            patience = patience.min(held.clock.length() / 3);
            leases.push(wire::HeartbeatItem {
                job_id: held.job_id.clone(),
                lease_token: held.token.clone(),
                progress: progress.clone(),
            });
            sent_progress.push((key, progress));
        }
        self.has_news = false;
        self.last_beat = Instant::now();
        let beats = wire::Heartbeats { worker_id: self.config.worker_id.clone(), leases };
        let config = Arc::clone(&self.config);
        let task = self.requests.spawn(async move {
            let sent = Instant::now();
            let answer = config.client.heartbeats(&beats, patience).await;
            Reply::Beat { sent, sent_progress, answer }
        });
        self.heartbeats.occupy(task);
    }

    // ---- answers ----------------------------------------------------------------------------

    fn replied(&mut self, reply: Result<Reply, JoinError>) {
        match reply {
            Ok(Reply::Claim { sent, answer }) => {
                self.claims.clear();
                self.claimed(sent, answer.map(|a| (a.jobs, a.cancel, a.directive)));
            }
            Ok(Reply::Settle { sent, keys, with_claim, answer }) => {
                self.settlements.clear();
                if with_claim {
                    self.claims.clear();
                }
                match answer {
                    Ok(answer) => {
                        self.settlements.went_well();
                        self.settled(&keys, answer.results);
                        let granted = (answer.jobs, answer.cancel, answer.directive);
                        self.granted(sent, granted, with_claim);
                    }
                    Err(error) => self.not_settled(&keys, &error),
                }
            }
            Ok(Reply::Beat { sent, sent_progress, answer }) => {
                self.heartbeats.clear();
                self.beaten(sent, sent_progress, answer);
            }
            // Only a parked claim is ever aborted, and its lane was cleared then.
            Err(_) => {}
        }
    }

    fn claimed(&mut self, sent: Instant, answer: Result<Granted, ClientError>) {
        match answer {
            Ok(granted) => self.granted(sent, granted, true),
            Err(error) if error.is_transient() || is_internal(&error) => {
                self.claims.failed(&error.to_string(), error.retry_after());
            }
            Err(error) => {
                tracing::error!("the server refuses claims: {error}");
                let grace = Instant::now() + self.config.grace;
                self.leave(grace, Some(WorkerError::Refused(error)));
            }
        }
    }

    fn granted(&mut self, sent: Instant, (jobs, cancel, directive): Granted, claimed: bool) {
        if claimed {
            self.claims.went_well();
        }
        for job in jobs {
            self.take_on(job, sent);
        }
        for job_id in cancel {
            self.cancel(&job_id);
        }
        self.obey(&directive);
    }

    fn obey(&mut self, directive: &str) {
        if directive == "drain" && self.leaving.is_none() {
            tracing::info!("the server asks this worker to leave");
            self.leave(Instant::now() + self.config.grace, None);
        }
    }

    fn take_on(&mut self, job: wire::LeasedJob, sent: Instant) {
        let length = Duration::try_from_secs_f64(job.lease_seconds).unwrap_or_default();
        let clock = LeaseClock::new(length, sent);
        self.shortest_lease = Some(self.shortest_lease.map_or(length, |l| l.min(length)));
        let key = self.leases.add(Held {
            job_id: job.job_id.clone(),
            token: job.lease_token.clone(),
            clock,
            stage: Stage::Unconfirmed(Box::new(job)),
            stop: watch::Sender::new(None),
            progress: Progress::new(Arc::clone(&self.news)),
        });
        if !clock.must_confirm(Instant::now()) {
            self.start(key);
        }
    }

    fn start(&mut self, key: Key) {
        if self.leaving.is_some() {
            return self.finish(key, Outcome::Released);
        }
        let Some(held) = self.leases.get(key) else { return };
        let Stage::Unconfirmed(job) = &mut held.stage else { return };
        let job = std::mem::take(&mut **job);
        tracing::debug!(job_id = %job.job_id, kind = %job.kind, attempt = job.attempt, "started");
        let context = Context { stop: held.stop.subscribe(), progress: held.progress.clone() };
        let handler = Arc::clone(&self.handler);
        let task = self.work.spawn(async move { handler.run(job, context).await });
        self.keys.insert(task.id(), key);
        held.stage = Stage::Running(Work { task, drop_at: None });
    }

    fn cancel(&mut self, job_id: &str) {
        let Some(held) = self.leases.of_job(job_id) else { return };
        match held.stage {
            Stage::Running(_) | Stage::Unconfirmed(_) => {
                if held.told().is_none() {
                    tracing::info!(%job_id, "cancel requested");
                }
                held.tell(Stop::Cancelled);
            }
            Stage::Finished(_) | Stage::Lost(_) => {}
        }
    }

    fn beaten(
        &mut self,
        sent: Instant,
        sent_progress: Vec<(Key, Option<wire::ProgressReport>)>,
        answer: Result<wire::HeartbeatsAnswer, ClientError>,
    ) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                for (key, report) in sent_progress {
                    if let (Some(held), Some(report)) = (self.leases.get(key), report) {
                        held.progress.give_back(report);
                        self.has_news = true;
                    }
                }
                return self.heartbeats.failed(&error.to_string(), error.retry_after());
            }
        };
        let results: HashMap<_, _> =
            answer.results.into_iter().map(|r| (r.job_id.clone(), r)).collect();
        let mut later = None;
        for (key, _) in sent_progress {
            let Some(held) = self.leases.get(key) else { continue };
            let Some(result) = results.get(&held.job_id) else { continue };
            if result.ok {
                held.clock.extend(sent);
                let job_id = held.job_id.clone();
                if result.cancel_requested == Some(true) {
                    self.cancel(&job_id);
                }
                self.start_confirmed(key);
            } else {
                let problem = result.problem.clone().unwrap_or_default();
                match outcome::refusal(&problem) {
                    Refusal::Later => later = Some(problem),
                    Refusal::Gone | Refusal::Unfit => self.lose(key, &problem),
                }
            }
        }
        match later {
            Some(problem) => self.heartbeats.failed(&problem.title, None),
            None => self.heartbeats.went_well(),
        }
        self.obey(&answer.directive);
    }

    fn start_confirmed(&mut self, key: Key) {
        if let Some(Held { stage: Stage::Unconfirmed(_), .. }) = self.leases.get(key) {
            self.start(key);
        }
    }

    /// The lease is gone. An outcome that is being sent gets its own verdict.
    fn lose(&mut self, key: Key, problem: &wire::Problem) {
        let Some(held) = self.leases.get(key) else { return };
        match &mut held.stage {
            Stage::Finished(_) | Stage::Lost(_) => return,
            Stage::Unconfirmed(_) => {
                self.leases.remove(key);
            }
            Stage::Running(work) => {
                tracing::warn!(job_id = %held.job_id, "lease lost ({}); stopping", problem.code);
                let task = work.task.clone();
                held.stage = Stage::Lost(Work { task, drop_at: Some(Instant::now() + STOP_GRACE) });
                held.tell(Stop::LeaseLost);
            }
        }
        self.summary.lost += 1;
    }

    // ---- outcomes ---------------------------------------------------------------------------

    fn ended(&mut self, ended: Result<(task::Id, Outcome), JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(e) if e.is_cancelled() => (e.id(), Outcome::Released),
            Err(e) => (e.id(), Outcome::failed("panic", panic_message(e))),
        };
        let Some(key) = self.keys.remove(&id) else { return };
        match self.leases.get(key).map(|held| &held.stage) {
            Some(Stage::Lost(_)) => {
                self.leases.remove(key);
            }
            Some(Stage::Running(_)) => self.finish(key, outcome),
            Some(Stage::Unconfirmed(_) | Stage::Finished(_)) | None => {}
        }
    }

    fn finish(&mut self, key: Key, outcome: Outcome) {
        let Some(held) = self.leases.get(key) else { return };
        let settlement = outcome::settlement(&held.job_id, &held.token, outcome, held.told());
        held.stage = Stage::Finished(Finished {
            settlement,
            on_the_way: false,
            tries: 0,
            replaced: false,
        });
    }

    fn settled(&mut self, keys: &[Key], results: Vec<wire::SettlementResult>) {
        let mut results: HashMap<_, _> =
            results.into_iter().map(|r| (r.job_id.clone(), r)).collect();
        let mut later = None;
        for &key in keys {
            let Some(held) = self.leases.get(key) else { continue };
            let result = results.remove(&held.job_id).unwrap_or_default();
            if result.ok {
                self.settled_one(key);
            } else if let Some(problem) = result.problem {
                if self.refused(key, &problem) == Refusal::Later {
                    later = Some(problem);
                }
            } else {
                self.put_back(key);
                later = Some(wire::Problem { title: "no verdict".into(), ..Default::default() });
            }
        }
        if let Some(problem) = later {
            self.settlements.failed(&problem.title, None);
        }
    }

    fn settled_one(&mut self, key: Key) {
        let Some(Held { stage: Stage::Finished(f), .. }) = self.leases.remove(key) else { return };
        let count = match f.settlement.outcome.as_str() {
            "completed" => &mut self.summary.completed,
            "failed" => &mut self.summary.failed,
            "cancelled" => &mut self.summary.cancelled,
            _ => &mut self.summary.released,
        };
        *count += 1;
        tracing::debug!(job_id = %f.settlement.job_id, outcome = %f.settlement.outcome, "settled");
    }

    fn refused(&mut self, key: Key, problem: &wire::Problem) -> Refusal {
        let verdict = outcome::refusal(problem);
        let Some(held) = self.leases.get(key) else { return verdict };
        let Stage::Finished(f) = &mut held.stage else { return verdict };
        f.on_the_way = false;
        match verdict {
            Refusal::Later => {}
            Refusal::Unfit if !f.replaced => {
                f.settlement = outcome::unfit(&f.settlement, problem);
                f.replaced = true;
            }
            Refusal::Unfit | Refusal::Gone => {
                let (was, code) = (&f.settlement.outcome, &problem.code);
                tracing::warn!(job_id = %held.job_id, "the outcome \"{was}\" came to nothing ({code})");
                self.leases.remove(key);
                self.summary.lost += 1;
            }
        }
        verdict
    }

    fn put_back(&mut self, key: Key) {
        if let Some(Held { stage: Stage::Finished(f), .. }) = self.leases.get(key) {
            f.on_the_way = false;
        }
    }

    /// No verdict on any of them, or one on the whole request.
    fn not_settled(&mut self, keys: &[Key], error: &ClientError) {
        match (error.as_problem(), keys) {
            // What is wrong with the one outcome that was sent is wrong with it.
            (Some(problem), [key]) if is_about_content(problem) => {
                self.refused(*key, problem);
            }
            // What is wrong with one of many shows when each goes alone.
            (Some(problem), _) if is_about_content(problem) => {
                keys.iter().for_each(|key| self.put_back(*key));
            }
            (None | Some(_), _) => {
                keys.iter().for_each(|key| self.put_back(*key));
                self.settlements.failed(&error.to_string(), error.retry_after());
            }
        }
    }

    // ---- the end ----------------------------------------------------------------------------

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

/// Jobs, ids of jobs to cancel, and the directive of an answer that may grant leases.
type Granted = (Vec<wire::LeasedJob>, Vec<String>, String);

/// 4xx that name the body, and not the caller, its rate or the address.
fn is_about_content(problem: &wire::Problem) -> bool {
    matches!(problem.status, 400 | 409 | 413 | 422)
}

/// A bug of the server's is its own outage: it may be gone with the next version.
fn is_internal(error: &ClientError) -> bool {
    error.as_problem().is_some_and(|p| p.status >= 500)
}

fn words(stop: Stop) -> &'static str {
    match stop {
        Stop::Cancelled => "its cancel was requested",
        Stop::Draining => "this worker leaves",
        Stop::LeaseEnding(_) => "its lease could not be extended and ends",
        Stop::LeaseLost => "its lease is lost",
    }
}

fn panic_message(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else { return "the handler panicked".to_owned() };
    let text = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "the handler panicked".to_owned())
}
