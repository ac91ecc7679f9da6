//! Who did what: one line in the log for each action of an operator, however it ended. It begins
//! before anything is checked, so that what was refused is told, too.
//!
//! The target is `punctual::audit`, so that the lines can be kept when others are filtered out.

use super::Api;
use super::auth::Asker;
use super::problem::Problem;
use crate::domain::id::JobId;
use crate::domain::names::{Name, WorkerId};

/// The target of the lines.
const TARGET: &str = "punctual::audit";

/// What is acted on.
#[derive(Debug, Clone)]
#[cfg_attr(not(test), allow(dead_code, reason = "not every action has each subject"))]
pub(super) enum Subject {
    Queue(Name),
    /// With its namespace, if the id was issued here.
    Job(JobId, Option<Name>),
    Worker(WorkerId),
    /// As many jobs as fit a filter, as it was written.
    Jobs(String),
}

impl Subject {
    pub(super) fn job(api: &Api, id: JobId) -> Self {
        Self::Job(id, api.engine().namespace_of(id))
    }
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
    /// Begins an action: `caller.acts("pause", Subject::Queue(name)).over(async { … }).await`.
    pub(super) fn acts(&self, what: &'static str, subject: Subject) -> Action {
        Action { asker: self.clone(), what, subject, told: false }
    }
}

impl Action {
    /// What it turned out to be.
    pub(super) fn is(&mut self, what: &'static str) {
        self.what = what;
    }

    /// The action itself, with all that is checked for it.
    pub(super) async fn over<T>(
        self,
        work: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        let outcome = work.await;
        self.ended(outcome)
    }

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
        let (mut queue, mut namespace, mut job_id) = (None, None, None);
        let (mut worker_id, mut jobs) = (None, None);
        match &self.subject {
            Subject::Queue(name) => queue = Some(name.as_str()),
            Subject::Job(id, of) => {
                (job_id, namespace) =
                    (Some(tracing::field::display(id)), of.as_ref().map(Name::as_str));
            }
            Subject::Worker(id) => worker_id = Some(id.as_str()),
            Subject::Jobs(filter) => jobs = Some(filter.as_str()),
        }
        let (who, request_id) = (self.asker.name().as_str(), self.asker.request_id());
        let action = self.what;
        tracing::info!(
            target: TARGET,
            who, action, queue, namespace, job_id, worker_id, jobs, outcome, request_id,
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::http::problem::Code;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(act: impl FnOnce(&Asker)) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter("warn,punctual::audit=info")
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || act(&Asker::test("ops", "r-1")));
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_action_has_one_line_however_it_ends() {
        let queue = || Subject::Queue(Name::trusted("q"));
        let done = written(|ops| {
            ops.acts("pause", queue()).ended(Ok::<_, Problem>(())).unwrap();
        });
        let line =
            "audit who=\"ops\" action=\"pause\" queue=\"q\" outcome=\"done\" request_id=\"r-1\"";
        assert!(done.contains(line) && done.lines().count() == 1, "{done}");
        let refused = written(|ops| {
            let refusal = Problem::new(Code::NoSuchQueue, "");
            ops.acts("drain", Subject::Worker(WorkerId::trusted("w")))
                .ended::<(), _>(Err(refusal))
                .unwrap_err();
        });
        assert!(refused.contains("worker_id=\"w\" outcome=\"no-such-queue\""), "{refused}");
        let left = written(|ops| drop(ops.acts("delete", Subject::Jobs("status=failed".into()))));
        assert!(left.contains("jobs=\"status=failed\" outcome=\"unknown\""), "{left}");
    }
}
