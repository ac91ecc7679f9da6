//! The honest moment to ask again: what the engine knows, put to the pure estimator.

use crate::domain::estimate::{Estimate, Outlook, Standstill};
use crate::domain::job::Record;

use super::{Engine, View};

impl Engine {
    pub(super) fn view(&self, mut record: Record) -> View {
        record.standing.rate_limited = self.0.rates.is_spent(&record.spec.queue);
        self.view_as_it_stands(record)
    }

    pub(super) fn view_as_it_stands(&self, record: Record) -> View {
        let retry_after = self
            .estimate(&record)
            .map(|e| e.retry_after_seconds(record.spec.id.unit(), &self.0.limits));
        View { record, retry_after }
    }

    fn estimate(&self, record: &Record) -> Option<Estimate> {
        let spec = &record.spec;
        let now = self.now();
        let (run, wait) = {
            let medians = self.medians();
            (
                medians.run(&spec.queue, &spec.kind, spec.expected_duration),
                medians.wait(&spec.queue, &spec.kind),
            )
        };
        let outlook = Outlook {
            standstill: record.standing.queue_paused.then(|| {
                let known = self.0.pauses.standstill(&spec.queue, now);
                known.unwrap_or(Standstill::Since(record.job.eligible_at.min(now)))
            }),
            idle_worker: self.is_waited_for(record),
            ..Outlook::default()
        };
        Estimate::of(&record.job, &outlook, run, wait, now)
    }

    /// Whether somebody waits for such a job who would get it.
    fn is_waited_for(&self, record: &Record) -> bool {
        let spec = &record.spec;
        !record.standing.rate_limited && self.0.claims.is_waited_for(&spec.queue, spec.into())
    }

    /// Whether holding back the answer to a fresh submission promises its result.
    pub(super) fn worth_holding(&self, record: &Record) -> bool {
        let spec = &record.spec;
        let window = self.defaults(spec.queue.as_str()).sync_window;
        let samples = self.medians().run_samples(&spec.queue, &spec.kind);
        let idle = self.is_waited_for(record);
        self.estimate(record).is_some_and(|e| e.worth_holding(window, samples, idle))
    }
}
