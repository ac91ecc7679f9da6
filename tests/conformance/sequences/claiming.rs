//! The model's side of a claim: the line of each queue, and what else the answer must say.

use punctual::domain::id::JobId;
use punctual::domain::job::{Phase, Wait};
use punctual::domain::lease::Lease;
use punctual::domain::names::Name;
use punctual::domain::state::Event;
use punctual::store::{ClaimRequest, Claimed};

use super::steps::Asking;
use super::{Run, kind, queue, space};
use crate::stores::worker;

impl Run {
    pub(super) fn leases_of(&self, n: u8, space: Option<&Name>) -> Vec<(JobId, u64)> {
        let who = worker(&format!("w{n}"));
        self.jobs
            .iter()
            .filter(|(_, k)| k.gone.is_none() && k.is_seen(space))
            .filter(|(_, k)| k.job.lease().is_some_and(|l| l.worker == who))
            .map(|(id, k)| (*id, k.job.fence))
            .collect()
    }

    pub(super) fn request(&self, asking: &Asking) -> ClaimRequest {
        let namespace = asking.space.map(space);
        let own = || self.leases_of(asking.worker, namespace.as_ref());
        let held = || own().into_iter().step_by(2).map(|(id, _)| id);
        ClaimRequest {
            worker: worker(&format!("w{}", asking.worker)),
            queues: asking.queues.iter().copied().map(queue).collect(),
            kinds: asking.kinds.iter().copied().map(kind).collect(),
            held: asking.held.then(|| held().collect()),
            namespace: namespace.clone(),
            ..self.w.ask(&[], asking.count, self.now)
        }
    }

    /// Claims in the model and compares.
    pub(super) fn claimed(&mut self, request: &ClaimRequest, got: &Claimed) {
        let (now, mut withdrawn) = (self.now, Vec::new());
        if let Some(held) = &request.held {
            let theirs: Vec<(JobId, u64)> = self
                .jobs
                .iter()
                .filter(|(id, k)| {
                    let old = |l: &Lease| l.worker == request.worker && l.claimed_at < now;
                    let seen = k.gone.is_none() && k.is_seen(request.namespace.as_ref());
                    seen && k.job.lease().is_some_and(old) && !held.contains(id)
                })
                .map(|(id, k)| (*id, k.job.fence))
                .collect();
            for (id, fence) in theirs {
                withdrawn.push(self.fire(id, &Event::Withdraw { fence }).expect("it is held"));
            }
        }
        let mut said: Vec<_> = got.withdrawn.clone();
        said.sort_by_key(|t| t.id);
        withdrawn.sort_by_key(|t| t.id);
        assert_eq!(said, withdrawn);

        let (mut leased, mut missed) = (Vec::new(), Vec::new());
        for queue in &request.queues {
            if self.paused.contains_key(queue) {
                continue;
            }
            let mut line: Vec<(i32, u64, JobId)> = self
                .jobs
                .iter()
                .filter(|(_, k)| {
                    k.gone.is_none()
                        && k.is_seen(request.namespace.as_ref())
                        && k.new.spec.queue == *queue
                        && (request.kinds.is_empty() || request.kinds.contains(&k.new.spec.kind))
                        && k.job.phase == Phase::Pending(Wait::Queued)
                })
                .map(|(id, k)| (-k.new.spec.priority, k.sequence, *id))
                .collect();
            line.sort_unstable();
            for (_, _, id) in line {
                let Some(token) = request.tokens.get(leased.len()) else { break };
                let length = request.lease.expect("a length is given");
                let event = Event::Claim {
                    worker: request.worker.clone(),
                    token: token.hash(),
                    lease: length,
                    trace: None,
                };
                if let Ok(t) = self.fire(id, &event) {
                    self.leases.push((id, token.clone(), t.job.fence));
                    leased.push((id, t.job, token.clone()));
                } else {
                    missed.push(self.fire(id, &Event::MissStart).expect("too late to start"));
                }
            }
        }
        let given: Vec<_> =
            got.jobs.iter().map(|l| (l.spec.id, l.job.clone(), l.token.clone())).collect();
        assert_eq!(given, leased);
        assert_eq!(got.missed, missed);
        let paused: Vec<bool> =
            request.queues.iter().map(|q| self.paused.contains_key(q)).collect();
        assert_eq!(got.paused, paused);
        let mut unwanted: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, k)| {
                let theirs = k.job.lease().is_some_and(|l| l.worker == request.worker);
                let seen = k.gone.is_none() && k.is_seen(request.namespace.as_ref());
                seen && theirs && k.job.cancel.is_some()
            })
            .map(|(id, _)| *id)
            .collect();
        let mut said = got.cancel.clone();
        said.sort_unstable();
        unwanted.sort_unstable();
        assert_eq!(said, unwanted);
    }
}
