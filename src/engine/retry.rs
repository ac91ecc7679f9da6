//! Doing a finished job's work again. What was told of the first job stays true, so a retry is a
//! new job beside it; and since whoever asks may not hear the answer, asking again makes no third.

use std::sync::Arc;

use crate::domain::id::JobId;
use crate::domain::rerun::{Changes, rerun};
use crate::domain::trace::TraceContext;
use crate::store::{NewJob, Retried};
use crate::telemetry::labels::Submission as Outcome;

use super::submit::{Counted, payload_size, record_of, too_many_names};
use super::timely::too_far;
use super::{Accepted, Caller, Engine, Failure};

/// A validated wish for a retry.
#[derive(Debug, Clone, Default)]
pub struct Retry {
    pub changes: Changes,
    /// Another job, also of a source that was retried before.
    pub force: bool,
    /// Of the request.
    pub trace: Option<TraceContext>,
    pub tracestate: Option<String>,
}

impl Engine {
    /// Makes a new job of the finished job `id`. Of one that was retried before it answers with the
    /// job that came of it, as it is now, unless `force` asks for another.
    pub async fn retry(
        &self,
        caller: &Caller,
        id: JobId,
        retry: Retry,
    ) -> Result<Accepted, Failure> {
        self.verify(caller, id)?;
        // What a finished job says never changes, so it may be read before the commit. Whether it
        // is still there, and was retried, is found out in it.
        let source = self.record(id, true).await?;
        if source.spec.queue.is_reserved() {
            return Err(Failure::NoSuchJob);
        }
        let now = self.now();
        // A condition of creating: whoever repeats a retry hears of the job that came of it.
        let repeated = source.retried_as.is_some() && !retry.force;
        if let Some(wrong) = too_far(retry.changes.run_at, now).filter(|_| !repeated) {
            return Err(Failure::Untimely(vec![wrong]));
        }
        let status = source.job.status();
        let refused = |rejected| Failure::Rejected { id, rejected, status: Some(status) };
        let new_id = self.0.mint.mint(now, source.spec.namespace.as_str(), self.0.entropy.bits());
        let (spec, job) = rerun(&source, new_id, &retry.changes, now).map_err(refused)?;
        let mut new = NewJob { spec, job, key: None };
        new.spec.tracestate = retry.tracestate;
        let counted = Counted::new(self, [&new.spec.queue]);
        if self.is_draining() {
            return Err(Failure::Draining);
        }
        let publishing = self.publishing(retry.trace, &mut new);
        let publishing = publishing.map(|p| p.retrying(source.spec.traceparent.as_deref()));
        // Registered before the commit, so that a worker's quickest answer is not missed.
        let early = self.0.jobs.register(new_id);
        let (mut fresh, size) = (record_of(&new), payload_size(&new));
        self.look_at_standing(&mut fresh, now);
        let (engine, told, force) = (self.clone(), fresh.clone(), retry.force);
        let count = Arc::clone(&counted);
        let retried = self
            .outlive(async move {
                let retried = engine.0.store.retry(id, new, force, now).await?;
                match &retried {
                    Retried::Created => {
                        count.all(Outcome::Accepted);
                        engine.0.events.payload(size);
                        engine.published(publishing.as_ref());
                        engine.announce(&told);
                        tracing::info!(job_id = %told.spec.id, retry_of = %id, "job retried");
                    }
                    Retried::Replayed(_) => count.all(Outcome::Replayed),
                    Retried::ReplayedGone(..) | Retried::Refused(_) | Retried::Gone(_) => {
                        count.all(Outcome::Invalid);
                    }
                    Retried::QueueFull(_) => count.all(Outcome::QueueFull),
                    Retried::TooManyNames(_) => count.all(Outcome::TooManyNames),
                }
                Ok(retried)
            })
            .await?;
        match retried {
            Retried::Created => Ok(self.accepted(fresh, &early)),
            Retried::Replayed(record) => {
                let view = self.view(*record);
                self.advised(&view);
                Ok(Accepted { view, replayed: true, could_wait: false })
            }
            Retried::ReplayedGone(made, absence) => {
                let failure = self.absent(made, absence);
                Err(if let Failure::Gone { id: made, why } = failure {
                    Failure::RetryGone { source_id: id, id: made, why }
                } else {
                    failure
                })
            }
            Retried::Refused(rejected) => Err(refused(rejected)),
            Retried::Gone(absence) => Err(self.absent(id, absence)),
            Retried::QueueFull(depth) => Err(self.queue_full(&fresh.spec.queue, depth, 1)),
            Retried::TooManyNames(full) => Err(too_many_names(&fresh.spec, full)),
        }
    }
}
