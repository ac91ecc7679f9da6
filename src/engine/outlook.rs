//! The honest moment to ask again: what the engine knows, put to the pure estimator.

use std::time::Duration;

use crate::domain::estimate::{Basis, Estimate, Experience, MEDIAN, Outlook, Standstill};
use crate::domain::job::{Phase, Record, Spec};
use crate::domain::names::Name;
use crate::domain::time::Timestamp;

use super::{Engine, View};

/// Whether a fresh submission's result may be there in a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    None,
    /// By what is known of such jobs.
    Soon,
    /// Nothing is known of its kind, and a worker waits: of a burst, only one job is its.
    IfItReaches,
}

impl Engine {
    pub(super) fn view(&self, mut record: Record) -> View {
        record.standing.rate_limited = self.0.rates.is_spent(&record.spec.queue);
        self.view_as_it_stands(record)
    }

    pub(super) fn view_as_it_stands(&self, record: Record) -> View {
        let q = self.defaults(record.spec.queue.as_str()).retry_after_quantile;
        let retry_after = self
            .estimate(&record, q)
            .map(|e| e.retry_after_seconds(record.spec.id.unit(), &self.0.limits));
        View { record, retry_after }
    }

    /// `q`: the quantile of the run.
    fn estimate(&self, record: &Record, q: f64) -> Option<Estimate> {
        if record.job.status().is_done() {
            return None;
        }
        let spec = &record.spec;
        let now = self.now();
        let mut outlook = match record.job.phase {
            Phase::Pending(_) => self.outlook(record, now),
            Phase::Running(_) | Phase::Completed | Phase::Failed | Phase::Cancelled => {
                Outlook::default()
            }
        };
        let mut experience = self.experience();
        if outlook.jobs_ahead.is_some() && !outlook.idle_worker {
            outlook.start_rate = self.start_rate(&mut experience, &spec.queue, Some(spec), now);
        }
        let (run, wait) = experience.laws(&spec.queue, &spec.kind, spec.expected_duration, now);
        Estimate::of(&record.job, &outlook, &run, &wait, q, now)
    }

    /// All but the start rate.
    fn outlook(&self, record: &Record, now: Timestamp) -> Outlook {
        let (spec, standing) = (&record.spec, record.standing);
        let standstill = if standing.queue_paused {
            let known = self.0.pauses.standstill(&spec.queue, now);
            Some(known.unwrap_or(Standstill::Since(record.job.eligible_at.min(now))))
        } else if standing.no_workers {
            let known = self.0.watchdog.without_workers_since(&spec.queue, &spec.kind);
            Some(Standstill::Since(known.unwrap_or(record.job.eligible_at).min(now)))
        } else {
            None
        };
        Outlook {
            standstill,
            jobs_ahead: standing.jobs_ahead,
            start_rate: None,
            idle_worker: self.is_waited_for(record),
        }
    }

    /// How many jobs of the queue start a second when they wait for nothing but a worker: as
    /// measured while there was a line, or else as its workers can. Of a queue of which no run is
    /// known yet, `like` tells how long one takes.
    fn start_rate(
        &self,
        experience: &mut Experience,
        queue: &Name,
        like: Option<&Spec>,
        now: Timestamp,
    ) -> Option<f64> {
        let sampled = self.latest().map_or(0, |latest| latest.slots(queue));
        // Those who came after the sample.
        let slots = if sampled > 0 { sampled } else { self.0.claims.capacity(queue) };
        let run = mean_run(experience, queue, like, now);
        let measured = self.0.flow.pull(queue, run.unwrap_or_default(), now);
        let sure = measured.filter(|pull| pull.is_sure);
        let possible = run
            .filter(|_| slots > 0)
            .map(|run| slots as f64 / run.max(Duration::from_millis(1)).as_secs_f64());
        let rate = sure.map(|pull| pull.rate).or(possible).or(measured.map(|pull| pull.rate))?;
        Some(self.0.rates.limit(queue).map_or(rate, |limit| rate.min(limit)))
    }

    /// The same for whoever looks at the queue: at its depth, or at it being full. Without a line
    /// of its own to go by, what has started lately.
    pub(super) fn line_rate(&self, queue: &Name) -> f64 {
        let rate = self.start_rate(&mut self.experience(), queue, None, self.now());
        rate.unwrap_or_else(|| self.0.flow.rate(queue))
    }

    /// Whether somebody waits for such a job who would get this one. A claim that has waited while
    /// others stood in line takes none of those: they are ahead of this job in vain.
    fn is_waited_for(&self, record: &Record) -> bool {
        let (spec, standing) = (&record.spec, record.standing);
        let claims = &self.0.claims;
        if standing.rate_limited {
            false
        } else if standing.jobs_ahead.is_none_or(|jobs| jobs == 0) {
            claims.is_waited_for(&spec.queue, spec.into())
        } else {
            !standing.at_limit && claims.is_free_for(&spec.queue, spec.into())
        }
    }

    /// What holding back the answer to a fresh submission promises of its result.
    pub(super) fn promise(&self, record: &Record) -> Promise {
        let spec = &record.spec;
        let window = self.defaults(spec.queue.as_str()).sync_window;
        let samples = self.experience().run_samples(&spec.queue, &spec.kind, self.now());
        let idle = self.is_waited_for(record);
        let Some(estimate) = self.estimate(record, MEDIAN) else { return Promise::None };
        if estimate.worth_holding(window, samples, false) {
            Promise::Soon
        } else if estimate.worth_holding(window, samples, idle) {
            Promise::IfItReaches
        } else {
            Promise::None
        }
    }
}

/// What is known of the queue's runs, or else of runs like this one.
fn mean_run(
    experience: &mut Experience,
    queue: &Name,
    like: Option<&Spec>,
    now: Timestamp,
) -> Option<Duration> {
    if let Some(mean) = experience.mean_run(queue, now) {
        return Some(mean);
    }
    let like = like?;
    let law = experience.run(queue, &like.kind, like.expected_duration, now);
    (law.basis() != Basis::Guess).then(|| law.mean())
}
