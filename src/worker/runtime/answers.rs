//! Reading: what claims and heartbeats came back with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::Instant;

use super::{MIN_LEASE, Runtime, STOP_GRACE, UNPARKED, outcomes};
use crate::client::ClientError;
use crate::wire;
use crate::worker::WorkerError;
use crate::worker::calls::Reply;
use crate::worker::handler::{Context, Handler, Outcome, Progress, Stop};
use crate::worker::held::{Held, Key, Stage, Work};
use crate::worker::lease::LeaseClock;
use crate::worker::limit::Limit;
use crate::worker::outcome::{self, Refusal};

/// Jobs, ids of jobs to cancel, and the directive of an answer that may grant leases.
type Granted = (Vec<wire::LeasedJob>, Vec<String>, String);

impl<H: Handler> Runtime<H> {
    pub(super) fn replied(&mut self, reply: Result<Reply, JoinError>) {
        match reply {
            Ok(Reply::Claim { sent, answer }) => {
                self.claims.clear();
                let empty = answer.as_ref().is_ok_and(|a| a.jobs.is_empty());
                self.claimed(sent, answer.map(|a| (a.jobs, a.cancel, a.directive)));
                if empty && sent.elapsed() < UNPARKED {
                    self.claims.pause(UNPARKED);
                }
            }
            Ok(Reply::Settle { sent, keys, with_claim, answer }) => {
                self.settlements.clear();
                if with_claim {
                    self.claims.clear();
                }
                match answer {
                    Ok(answer) => {
                        self.settled(&keys, answer.results);
                        let granted = (answer.jobs, answer.cancel, answer.directive);
                        self.granted(sent, granted, with_claim);
                    }
                    Err(error) => self.not_settled(&keys, with_claim, &error),
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
        if let Some(key) = self.leases.key_of_job(&job.job_id) {
            self.superseded(key);
        }
        let length = Duration::try_from_secs_f64(job.lease_seconds)
            .ok()
            .filter(|length| *length >= MIN_LEASE)
            .unwrap_or(MIN_LEASE);
        let limit = Limit::new(&job, length, sent);
        let clock = LeaseClock::new(length, sent, limit);
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
        let Some(held) = self.leases.get(key) else {
            return;
        };
        let Stage::Unconfirmed(job) = &mut held.stage else {
            return;
        };
        if Instant::now() >= held.clock.stop_at() {
            // No time is left for it; the next claim does not list it, so it is released.
            self.leases.remove(key);
            return;
        }
        let job = std::mem::take(&mut **job);
        tracing::debug!(job_id = %job.job_id, kind = %job.kind, attempt = job.attempt, "started");
        let context = Context { stop: held.stop.subscribe(), progress: held.progress.clone() };
        let handler = Arc::clone(&self.handler);
        let task = self.work.spawn(async move { handler.run(job, context).await });
        self.keys.insert(task.id(), key);
        held.stage = Stage::Running(Work::new(task));
    }

    fn cancel(&mut self, job_id: &str) {
        let key = self.leases.key_of_job(job_id);
        let Some(held) = key.and_then(|key| self.leases.get(key)) else {
            return;
        };
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
            let Some(held) = self.leases.get(key) else {
                continue;
            };
            let Some(result) = results.get(&held.job_id) else {
                later = Some(outcomes::no_verdict());
                continue;
            };
            if result.ok {
                held.clock.extend(sent);
                held.clock.learn(sent, result.lease_expires_at.as_deref().unwrap_or_default());
                let job_id = held.job_id.clone();
                if result.cancel_requested == Some(true) {
                    self.cancel(&job_id);
                }
                self.start_confirmed(key);
            } else {
                let problem = result.problem.clone().unwrap_or_default();
                match outcome::refusal(&problem) {
                    Refusal::Later => later = Some(problem),
                    Refusal::Gone | Refusal::Unfit => {
                        // Only paces the beats of an outcome that waits for its own verdict.
                        held.clock.extend(sent);
                        self.lose(key, &problem);
                    }
                }
            }
        }
        match later {
            Some(problem) => self.heartbeats.failed(&problem.title, None),
            None => self.heartbeats.went_well(),
        }
        self.obey(&answer.directive);
    }

    /// A new lease of the same job says that this one is over: settled, when its outcome is on
    /// the way, and lost otherwise.
    fn superseded(&mut self, key: Key) {
        let Some(held) = self.leases.get(key) else {
            return;
        };
        match &held.stage {
            Stage::Finished(f) if f.on_the_way => self.settled_one(key),
            Stage::Finished(_) => {
                self.leases.remove(key);
                self.summary.lost += 1;
            }
            Stage::Unconfirmed(_) | Stage::Running(_) | Stage::Lost(_) => {
                let problem =
                    wire::Problem { code: "lease-lost".into(), ..wire::Problem::default() };
                self.lose(key, &problem);
            }
        }
    }

    fn start_confirmed(&mut self, key: Key) {
        if let Some(Held { stage: Stage::Unconfirmed(_), .. }) = self.leases.get(key) {
            self.start(key);
        }
    }

    /// The lease is gone. An outcome that is being sent gets its own verdict.
    fn lose(&mut self, key: Key, problem: &wire::Problem) {
        let Some(held) = self.leases.get(key) else {
            return;
        };
        match &mut held.stage {
            Stage::Finished(_) | Stage::Lost(_) => return,
            Stage::Unconfirmed(_) => {
                self.leases.remove(key);
            }
            Stage::Running(work) => {
                tracing::warn!(job_id = %held.job_id, "lease lost ({}); stopping", problem.code);
                let task = work.task.clone();
                let drop_at = Some(Instant::now() + STOP_GRACE);
                held.stage = Stage::Lost(Work { drop_at, ..Work::new(task) });
                held.tell(Stop::LeaseLost);
            }
        }
        self.summary.lost += 1;
    }
}

/// A bug of the server's is its own outage: it may be gone with the next version.
fn is_internal(error: &ClientError) -> bool {
    error.as_problem().is_some_and(|p| p.status >= 500)
}
