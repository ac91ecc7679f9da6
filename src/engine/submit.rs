//! Accepting work: commit first, wake a worker, and perhaps wait a moment for the result.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::domain::estimate::room_after_seconds;
use crate::domain::job::{Job, Phase, Policy, RawJson, Record, Retention, Spec, Standing, Wait};
use crate::domain::names::Name;
use crate::domain::retry::Backoff;
use crate::domain::time::Timestamp;
use crate::domain::watch::Verdict;
use crate::store::{Absence, Depth, Found, NamesFull, NewJob, Submitted};
use crate::telemetry::events::Events;
use crate::telemetry::labels::Submission as Outcome;

use super::outlook::Promise;
use super::traces::Publishing;
use super::waiters::JobTicket;
use super::{Accepted, Caller, Engine, Failure, Gone, Hold, MAX_WAIT, Submission, lock};

impl Engine {
    /// Commits the job, then holds the answer back as `hold` says. A caller that goes away in the
    /// meantime changes nothing.
    pub async fn submit(
        &self,
        caller: &Caller,
        submission: Submission,
        hold: Hold,
    ) -> Result<Accepted, Failure> {
        let counted = Counted::new(self, [&submission.queue]);
        let outcome = self.submit_and_hold(caller, submission, hold, &counted).await;
        counted.all(match &outcome {
            Ok(Accepted { replayed: true, .. }) => Outcome::Replayed,
            Ok(accepted) if accepted.view.retry_after.is_none() => Outcome::CompletedSync,
            Ok(_) => Outcome::Accepted,
            Err(failure) => refusal(failure),
        });
        outcome
    }

    async fn submit_and_hold(
        &self,
        caller: &Caller,
        submission: Submission,
        hold: Hold,
        counted: &Arc<Counted>,
    ) -> Result<Accepted, Failure> {
        let now = self.now();
        let timely = self.timely(caller, std::slice::from_ref(&submission), now).await;
        timely.map_err(|(_, failure)| failure)?;
        let (new, publishing) = self.new_job(caller, submission, now);
        // Registered before the commit, so that a worker's quickest answer is not missed.
        let early = self.0.jobs.register(new.spec.id);
        let change = early.change();
        let mut fresh = record_of(&new);
        self.look_at_standing(&mut fresh, now);
        // Decided while the worker that may get the job is still seen to wait for it.
        let (window, reached_only) = self.window(&fresh, hold);
        let Committed { submitted, leased, reached } =
            self.commit_one(new, publishing, now, Arc::clone(counted)).await?;
        let (record, replayed) = match submitted {
            Some(Submitted::Created) => {
                if let Some(job) = leased {
                    fresh.job = job;
                }
                if window.is_zero() || (reached_only && !reached) {
                    return Ok(self.accepted(fresh, &early));
                }
                // The first look needs no store: nothing has changed until somebody says so.
                let mut draining = self.0.draining.subscribe();
                let changed = tokio::select! {
                    () = change => true,
                    () = tokio::time::sleep(window) => false,
                    _ = draining.wait_for(|draining| *draining) => false,
                };
                if !changed {
                    return Ok(self.accepted(fresh, &early));
                }
                (fresh, false)
            }
            Some(Submitted::Replayed(record)) => (*record, true),
            Some(Submitted::ReplayedGone(id)) => return Err(self.gone(id).await),
            Some(Submitted::KeyReused(id)) => return Err(Failure::KeyReused { id }),
            Some(Submitted::KeyTwice(first)) => return Err(Failure::KeyTwice { first }),
            Some(Submitted::TooManyNames(full)) => return Err(too_many_names(&fresh.spec, full)),
            Some(Submitted::QueueFull(depth)) => {
                return Err(self.queue_full(&fresh.spec.queue, depth, 1));
            }
            None => return Err(Failure::NoSuchJob),
        };
        let could_wait = !put_off(&record);
        let window = match hold {
            _ if !could_wait => Duration::ZERO,
            Hold::Never => Duration::ZERO,
            Hold::UpTo(wait) => wait.min(MAX_WAIT),
            Hold::Adaptive => self.defaults(record.spec.queue.as_str()).sync_window,
        };
        let rest = window.saturating_sub(self.now().since(now));
        let id = record.spec.id;
        let done = record.job.status().is_done();
        let view = if done || (replayed && (rest.is_zero() || hold == Hold::Adaptive)) {
            self.view(record)
        } else {
            match self.wait_until(id, rest, false, |job| job.status().is_done()).await {
                // It is accepted, whatever has become of the store since.
                Err(Failure::Store(_)) => self.view(record),
                waited => waited?,
            }
        };
        self.advised_new(&view, &early);
        Ok(Accepted { view, replayed, could_wait })
    }

    /// A new job, told without another look at it.
    pub(super) fn accepted(&self, fresh: Record, early: &JobTicket<'_>) -> Accepted {
        let could_wait = !put_off(&fresh);
        let view = self.view(fresh);
        self.advised_new(&view, early);
        Accepted { view, replayed: false, could_wait }
    }

    /// All or nothing. The index is the first item that stands in the way.
    pub async fn submit_batch(
        &self,
        caller: &Caller,
        submissions: Vec<Submission>,
    ) -> Result<Vec<Accepted>, (usize, Failure)> {
        let counted = Counted::new(self, submissions.iter().map(|s| &s.queue));
        let outcome = self.submit_all(caller, submissions, &counted).await;
        if let Err((_, failure)) = &outcome {
            counted.all(refusal(failure));
        }
        outcome
    }

    async fn submit_all(
        &self,
        caller: &Caller,
        submissions: Vec<Submission>,
        counted: &Arc<Counted>,
    ) -> Result<Vec<Accepted>, (usize, Failure)> {
        let now = self.now();
        self.timely(caller, &submissions, now).await?;
        let (new, publishing): (Vec<NewJob>, Vec<Option<Publishing>>) =
            submissions.into_iter().map(|s| self.new_job(caller, s, now)).unzip();
        let fresh: Vec<(Record, usize)> =
            new.iter().map(|job| (record_of(job), payload_size(job))).collect();
        let engine = self.clone();
        let (told, count) = (fresh.clone(), Arc::clone(counted));
        let commit = async move {
            let answers = engine.commit(new, now).await?;
            if !crate::store::accepts(&answers) {
                let refusal = answers.iter().find_map(|answer| match answer {
                    Submitted::QueueFull(_) | Submitted::TooManyNames(_) => {
                        Some(outcome_of(answer))
                    }
                    Submitted::Created
                    | Submitted::Replayed(_)
                    | Submitted::ReplayedGone(_)
                    | Submitted::KeyReused(_)
                    | Submitted::KeyTwice(_) => None,
                });
                count.all(refusal.unwrap_or(Outcome::Invalid));
                return Ok(answers);
            }
            for (at, (answer, (record, size))) in answers.iter().zip(&told).enumerate() {
                count.one(at, outcome_of(answer));
                if *answer == Submitted::Created {
                    engine.0.events.payload(*size);
                    engine.announce(record);
                    engine.published(publishing[at].as_ref());
                }
            }
            Ok(answers)
        };
        let answers = self.outlive(commit).await.map_err(|e| (0, e))?;
        for (at, answer) in answers.iter().enumerate() {
            match answer {
                Submitted::KeyReused(id) => return Err((at, Failure::KeyReused { id: *id })),
                Submitted::ReplayedGone(id) => return Err((at, self.gone(*id).await)),
                Submitted::QueueFull(depth) => {
                    let queue = &fresh[at].0.spec.queue;
                    let coming = fresh.iter().filter(|(new, _)| new.spec.queue == *queue).count();
                    let (jobs, max_depth) = (coming as u64, depth.max);
                    // To try that again would help nobody.
                    if jobs > max_depth {
                        let queue = queue.clone();
                        return Err((at, Failure::NeverFits { queue, max_depth, jobs }));
                    }
                    return Err((at, self.queue_full(queue, *depth, jobs)));
                }
                Submitted::KeyTwice(first) => {
                    return Err((at, Failure::KeyTwice { first: *first }));
                }
                Submitted::TooManyNames(full) => {
                    return Err((at, too_many_names(&fresh[at].0.spec, *full)));
                }
                Submitted::Created | Submitted::Replayed(_) => {}
            }
        }
        let mut behind = Behind::default();
        // From the last one on: each but itself is ahead of those after it.
        let mut accepted: Vec<Accepted> = answers
            .into_iter()
            .zip(fresh)
            .rev()
            .map(|(answer, (mut fresh, _))| match answer {
                Submitted::Replayed(record) => {
                    Accepted { view: self.view(*record), replayed: true, could_wait: false }
                }
                Submitted::Created
                | Submitted::ReplayedGone(_)
                | Submitted::KeyReused(_)
                | Submitted::KeyTwice(_)
                | Submitted::QueueFull(_)
                | Submitted::TooManyNames(_) => {
                    self.look_at_standing(&mut fresh, now);
                    behind.step_aside(&mut fresh);
                    Accepted { view: self.view(fresh), replayed: false, could_wait: false }
                }
            })
            .collect();
        accepted.reverse();
        for one in &accepted {
            self.advised(&one.view);
        }
        Ok(accepted)
    }

    /// Commits one job and, in the same commit, the claim of whoever waits for it; answers the job
    /// as it is then, if that claim got it. Should this client leave, the worker still gets what is
    /// leased, and the submission is still counted.
    async fn commit_one(
        &self,
        new: NewJob,
        publishing: Option<Publishing>,
        now: Timestamp,
        counted: Arc<Counted>,
    ) -> Result<Committed, Failure> {
        if self.is_draining() {
            return Err(Failure::Draining);
        }
        let (record, size) = (record_of(&new), payload_size(&new));
        let enlisted = match new.job.phase {
            Phase::Pending(Wait::Queued) if self.may_start(&new.spec.queue) => {
                self.0.claims.enlist(&new.spec.queue, (&new.spec).into())
            }
            Phase::Pending(_)
            | Phase::Running(_)
            | Phase::Completed
            | Phase::Failed
            | Phase::Cancelled => None,
        };
        let engine = self.clone();
        self.outlive(async move {
            let request =
                enlisted.as_ref().map(|e| engine.request(e.order(), None, e.received_at()));
            let claims = request.into_iter().collect();
            let (mut submitted, claimed) =
                engine.0.store.submit_and_claim(vec![new], claims, now).await?;
            let submitted = submitted.pop();
            let mut leased = None;
            if let (Some(enlisted), Some(claimed)) = (enlisted, claimed.into_iter().next()) {
                engine.after_claim(&claimed);
                let ours = claimed.jobs.iter().find(|l| l.spec.id == record.spec.id);
                leased = ours.map(|l| l.job.clone());
                if let Err(unwanted) = enlisted.deliver(Box::new(claimed)) {
                    engine.withdraw_unreceived(&unwanted.jobs);
                }
            }
            if let Some(answer) = &submitted {
                counted.all(outcome_of(answer));
            }
            let mut reached = leased.is_some();
            if submitted == Some(Submitted::Created) {
                if !record.spec.queue.is_reserved() {
                    engine.0.events.payload(size);
                }
                engine.published(publishing.as_ref());
                if leased.is_none() {
                    reached = engine.announce(&record);
                }
            }
            Ok(Committed { submitted, leased, reached })
        })
        .await
    }

    async fn commit(&self, new: Vec<NewJob>, now: Timestamp) -> Result<Vec<Submitted>, Failure> {
        if self.is_draining() {
            return Err(Failure::Draining);
        }
        Ok(self.0.store.submit(new, now).await?)
    }

    /// How long the answer is held, and whether only if the job has reached a worker that waits.
    fn window(&self, fresh: &Record, hold: Hold) -> (Duration, bool) {
        if put_off(fresh) {
            return (Duration::ZERO, false);
        }
        match hold {
            Hold::UpTo(wait) => (wait.min(MAX_WAIT), false),
            // Whoever waits there does so for the end of the pause.
            Hold::Adaptive if !fresh.standing.queue_paused => {
                let window = self.defaults(fresh.spec.queue.as_str()).sync_window;
                match self.promise(fresh) {
                    Promise::None => (Duration::ZERO, false),
                    Promise::Soon => (window, false),
                    Promise::IfItReaches => (window, true),
                }
            }
            Hold::Never | Hold::Adaptive => (Duration::ZERO, false),
        }
    }

    /// What stands in the way of a job that has not been read back, as far as memory tells.
    pub(super) fn look_at_standing(&self, fresh: &mut Record, now: Timestamp) {
        let (queue, kind) = (&fresh.spec.queue, &fresh.spec.kind);
        fresh.standing = Standing {
            queue_paused: self.0.pauses.standstill(queue, now).is_some(),
            no_workers: self.0.watchdog.verdict(queue, kind).is_some_and(Verdict::means_no_workers),
            at_limit: self.limited(queue)
                && self.latest().is_some_and(|latest| latest.is_at_limit(queue)),
            rate_limited: self.0.rates.is_spent(queue),
            jobs_ahead: (fresh.job.phase == Phase::Pending(Wait::Queued))
                .then(|| self.0.store.jobs_ahead(queue, fresh.spec.priority)),
        };
    }

    /// Answers whether somebody who waited for such a job looks for it now.
    pub(super) fn announce(&self, record: &Record) -> bool {
        let spec = &record.spec;
        tracing::debug!(job_id = %spec.id, queue = %spec.queue, kind = %spec.kind, "job accepted");
        record.job.phase == Phase::Pending(Wait::Queued)
            && self.may_start(&spec.queue)
            && self.0.claims.wake(&spec.queue, Some(spec.into()), 1) > 0
    }

    fn new_job(
        &self,
        caller: &Caller,
        s: Submission,
        now: Timestamp,
    ) -> (NewJob, Option<Publishing>) {
        let id = self.0.mint.mint(now, caller.namespace.as_str(), self.0.entropy.bits());
        let defaults = self.defaults(s.queue.as_str());
        let b = &defaults.backoff;
        let policy = Policy {
            timeout: s.timeout.unwrap_or(defaults.timeout),
            cancel_grace: defaults.cancel_grace,
            backoff: Backoff {
                initial: s.backoff.initial.unwrap_or(b.initial),
                max: s.backoff.max.unwrap_or(b.max).max(s.backoff.initial.unwrap_or_default()),
                multiplier: s.backoff.multiplier.unwrap_or(b.multiplier),
                jitter: s.backoff.jitter.unwrap_or(b.jitter),
            },
            retention: s.retention.map_or(defaults.retention, |keep| Retention {
                completed: keep,
                failed: keep,
                cancelled: keep,
            }),
        };
        let run_at = s.run_at.or_else(|| s.delay.map(|d| now.plus(d)));
        let attempts = s.max_attempts.unwrap_or(defaults.max_attempts);
        let job = Job::accepted(now, run_at, s.start_by, attempts, policy);
        let spec = Spec {
            id,
            namespace: caller.namespace.clone(),
            queue: s.queue,
            kind: s.kind,
            priority: s.priority,
            payload: s.payload,
            metadata: s.metadata,
            tags: s.tags,
            root: id,
            retry_of: None,
            expected_duration: s.expected_duration,
            traceparent: None,
            tracestate: s.tracestate,
        };
        let mut new = NewJob { spec, job, key: s.key };
        let publishing = self.publishing(s.trace, &mut new);
        (new, publishing)
    }

    pub(super) fn queue_full(&self, queue: &Name, depth: Depth, coming: u64) -> Failure {
        let rate = self.line_rate(queue);
        let unit = self.0.entropy.unit();
        let retry_after = room_after_seconds(depth.jobs, depth.max, coming, rate, unit);
        Failure::QueueFull { queue: queue.clone(), max_depth: depth.max, retry_after }
    }

    /// What to say of a job whose key is still known.
    async fn gone(&self, id: crate::domain::id::JobId) -> Failure {
        match self.0.store.get(id, false).await {
            Ok(Found::Absent(Absence::Deleted)) => Failure::Gone { id, why: Gone::Deleted },
            Ok(_) => Failure::Gone { id, why: Gone::Expired },
            Err(error) => error.into(),
        }
    }
}

/// Those of a batch that are committed and stand in line behind the others of it.
#[derive(Default)]
struct Behind(HashMap<(Name, i32), u64>);

impl Behind {
    /// They, and the job itself, are not ahead of it.
    fn step_aside(&mut self, fresh: &mut Record) {
        if let Some(ahead) = &mut fresh.standing.jobs_ahead {
            let place = (fresh.spec.queue.clone(), fresh.spec.priority);
            let behind = self.0.entry(place).or_default();
            *behind += 1;
            *ahead = ahead.saturating_sub(*behind);
        }
    }
}

/// Counts each submission exactly once, when the last of those who work on it is done: also one
/// whose client leaves in the middle is counted by what became of it.
pub(super) struct Counted {
    events: Events,
    outcomes: Mutex<Vec<(Name, Outcome)>>,
}

impl Counted {
    pub(super) fn new<'q>(
        engine: &Engine,
        queues: impl IntoIterator<Item = &'q Name>,
    ) -> Arc<Self> {
        let outcomes = queues.into_iter().map(|q| (q.clone(), Outcome::Unavailable)).collect();
        Arc::new(Self { events: engine.0.events.clone(), outcomes: Mutex::new(outcomes) })
    }

    pub(super) fn all(&self, outcome: Outcome) {
        lock(&self.outcomes).iter_mut().for_each(|(_, o)| *o = outcome);
    }

    fn one(&self, at: usize, outcome: Outcome) {
        if let Some((_, o)) = lock(&self.outcomes).get_mut(at) {
            *o = outcome;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        for (queue, outcome) in lock(&self.outcomes).iter() {
            self.events.submission(Some(queue), *outcome);
        }
    }
}

/// What came of the commit of one submission.
struct Committed {
    submitted: Option<Submitted>,
    /// The job as it is leased, if the same commit did that.
    leased: Option<Job>,
    /// Whether a worker that waited has it, or looks for it.
    reached: bool,
}

/// What the commit alone made of a submission, before its answer is held.
fn outcome_of(answer: &Submitted) -> Outcome {
    match answer {
        Submitted::Created => Outcome::Accepted,
        Submitted::Replayed(_) => Outcome::Replayed,
        Submitted::ReplayedGone(_) | Submitted::KeyReused(_) | Submitted::KeyTwice(_) => {
            Outcome::Invalid
        }
        Submitted::QueueFull(_) => Outcome::QueueFull,
        Submitted::TooManyNames(_) => Outcome::TooManyNames,
    }
}

/// A future `run_at` or `delay_seconds`, and nobody waits for that.
fn put_off(record: &Record) -> bool {
    record.job.phase == Phase::Pending(Wait::Scheduled)
}

pub(super) fn too_many_names(spec: &Spec, full: NamesFull) -> Failure {
    let Spec { namespace, queue, kind, .. } = spec;
    tracing::info!(%namespace, %queue, %kind, ?full, "a job was refused: one name too many");
    Failure::TooManyNames {
        namespace: namespace.clone(),
        queue: queue.clone(),
        kind: kind.clone(),
        full,
    }
}

/// What is wrong with the body itself is counted where that is found.
fn refusal(failure: &Failure) -> Outcome {
    match failure {
        Failure::KeyReused { .. }
        | Failure::KeyTwice { .. }
        | Failure::Untimely(_)
        | Failure::Gone { .. }
        | Failure::RetryGone { .. } => Outcome::Invalid,
        Failure::QueueFull { .. } | Failure::NeverFits { .. } => Outcome::QueueFull,
        Failure::TooManyNames { .. } => Outcome::TooManyNames,
        Failure::NoSuchJob
        | Failure::Lost
        | Failure::NoSuchQueue
        | Failure::NoRoomForQueue { .. }
        | Failure::NoSuchWorker
        | Failure::OtherRevision
        | Failure::BackoffFalls
        | Failure::Rejected { .. }
        | Failure::Draining
        | Failure::Store(_) => Outcome::Unavailable,
    }
}

pub(super) fn payload_size(new: &NewJob) -> usize {
    new.spec.payload.as_ref().map_or(0, RawJson::len)
}

/// The job as it will be once it is committed.
pub(super) fn record_of(new: &NewJob) -> Record {
    Record {
        spec: Spec { payload: None, ..new.spec.clone() },
        job: new.job.clone(),
        result: None,
        retried_as: None,
        standing: Standing::default(),
    }
}
