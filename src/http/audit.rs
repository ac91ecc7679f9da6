//! Who did what: one line in the log for each action of an operator, however it ended.
//!
//! The target is `punctual::audit`, so that the lines can be kept when others are filtered out.

use super::auth::Asker;
use super::problem::Problem;
use crate::domain::id::JobId;
use crate::domain::names::{Name, WorkerId};

/// The target of the lines.
const TARGET: &str = "punctual::audit";

/// What is acted on.
#[derive(Debug, Clone)]
#[expect(dead_code, reason = "some actions have other subjects")]
pub(super) enum Subject {
    Queue(Name),
    Job(JobId),
    Worker(WorkerId),
    /// As many jobs as fit a filter, as it was written.
    Jobs(String),
}

/// An action that is under way. When it is dropped before it ended, as when the caller leaves,
/// the line says that its end is not known.
#[derive(Debug)]
#[must_use = "say how it ended"]
pub(super) struct Action {
    asker: Asker,
    what: &'static str,
    subject: Subject,
    told: bool,
}

impl Asker {
    /// Begins an action: `caller.acts("pause", Subject::Queue(name)).ended(…await)`.
    pub(super) fn acts(&self, what: &'static str, subject: Subject) -> Action {
        Action { asker: self.clone(), what, subject, told: false }
    }
}

impl Action {
    /// Writes the line.
    pub(super) fn ended<T, E: Into<Problem>>(
        mut self,
        outcome: Result<T, E>,
    ) -> Result<T, Problem> {
        let outcome = outcome.map_err(Into::into);
        self.told = true;
        self.tell(match &outcome {
            Ok(_) => "done",
            Err(problem) => problem.code().slug(),
        });
        outcome
    }

    fn tell(&self, outcome: &str) {
        let (mut queue, mut job_id, mut worker_id, mut jobs) = (None, None, None, None);
        match &self.subject {
            Subject::Queue(name) => queue = Some(name.as_str()),
            Subject::Job(id) => job_id = Some(tracing::field::display(id)),
            Subject::Worker(id) => worker_id = Some(id.as_str()),
            Subject::Jobs(filter) => jobs = Some(filter.as_str()),
        }
        let (who, request_id) = (self.asker.name().as_str(), self.asker.request_id());
        let action = self.what;
        tracing::info!(
            target: TARGET,
            who, action, queue, job_id, worker_id, jobs, outcome, request_id,
            "audit"
        );
    }
}

impl Drop for Action {
    fn drop(&mut self) {
        if !self.told {
            self.tell("unknown");
        }
    }
}
