//! The work of a finished job once more: as a new job, for the old one stays as it ended.

use super::id::JobId;
use super::job::{Job, Record, Spec};
use super::names::Name;
use super::state::Rejected;
use super::time::Timestamp;

/// In what the new job differs from its source; what is absent is the source's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Absent: now, whenever the source was to run.
    pub run_at: Option<Timestamp>,
    pub priority: Option<i32>,
    pub queue: Option<Name>,
}

/// Only what has ended can be done again: two jobs must not be at the same work.
pub fn allowed(source: &Job) -> Result<(), Rejected> {
    if source.status().is_done() { Ok(()) } else { Err(Rejected::JobNotFinished) }
}

/// The job `id` that does the work of `source`, which was read with its payload. It has all of its
/// attempts anew and runs under its source's policy, whatever the configuration says by now. A
/// `start_by` is not taken over: it was about the first job's start. The traces are the caller's
/// to fill in, for they are those of another request.
pub fn rerun(
    source: &Record,
    id: JobId,
    changes: &Changes,
    now: Timestamp,
) -> Result<(Spec, Job), Rejected> {
    allowed(&source.job)?;
    let Record { spec, job, .. } = source;
    let fresh = Job::accepted(now, changes.run_at, None, job.max_attempts, job.policy);
    let again = Spec {
        id,
        queue: changes.queue.clone().unwrap_or_else(|| spec.queue.clone()),
        priority: changes.priority.unwrap_or(spec.priority),
        retry_of: Some(spec.id),
        traceparent: None,
        tracestate: None,
        ..spec.clone()
    };
    Ok((again, fresh))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::{Phase, Policy, RawJson, Standing, Status, Wait};
    use std::time::Duration;

    fn id(n: u8) -> JobId {
        JobId::from_bytes([n; 16])
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn source(phase: Phase) -> Record {
        let policy = Policy { timeout: Duration::from_secs(7), ..Policy::default() };
        let mut job = Job::accepted(at(1), None, Some(at(2)), 3, policy);
        (job.phase, job.attempt, job.fence, job.version) = (phase, 3, 4, 9);
        let spec = Spec {
            id: id(2),
            namespace: Name::trusted("shop"),
            queue: Name::trusted("q"),
            kind: Name::trusted("k"),
            priority: 5,
            payload: Some(RawJson::trusted("[1.0]")),
            metadata: Some(RawJson::trusted("{}")),
            tags: vec!["red".to_owned()],
            root: id(1),
            retry_of: Some(id(1)),
            expected_duration: Some(Duration::from_secs(1)),
            traceparent: Some("00-…".to_owned()),
            tracestate: Some("a=b".to_owned()),
        };
        Record { spec, job, result: None, retried_as: None, standing: Standing::default() }
    }

    #[test]
    fn only_what_has_ended() {
        for wait in [Wait::Queued, Wait::Scheduled, Wait::Backoff] {
            let pending = source(Phase::Pending(wait));
            let refused = rerun(&pending, id(3), &Changes::default(), at(9));
            assert_eq!(refused, Err(Rejected::JobNotFinished));
        }
        for phase in [Phase::Completed, Phase::Failed, Phase::Cancelled] {
            assert!(rerun(&source(phase), id(3), &Changes::default(), at(9)).is_ok());
        }
    }

    #[test]
    fn the_same_work_from_the_start() {
        let source = source(Phase::Failed);
        let (spec, job) = rerun(&source, id(3), &Changes::default(), at(9)).unwrap();
        let same = Spec {
            id: id(3),
            retry_of: Some(id(2)),
            traceparent: None,
            tracestate: None,
            ..source.spec.clone()
        };
        assert_eq!(spec, same);
        assert_eq!(spec.root, id(1), "the first of them all");
        assert_eq!((job.status(), job.attempt, job.max_attempts), (Status::Pending, 0, 3));
        assert_eq!((job.version, job.fence, job.created_at), (1, 0, at(9)));
        assert_eq!((job.start_by, job.policy), (None, source.job.policy));
        assert!(job.error.is_none() && job.history.is_empty());
    }

    #[test]
    fn what_may_differ() {
        let changes = Changes {
            run_at: Some(at(60)),
            priority: Some(-1),
            queue: Some(Name::trusted("slow")),
        };
        let (spec, job) = rerun(&source(Phase::Completed), id(3), &changes, at(9)).unwrap();
        assert_eq!((spec.queue.as_str(), spec.priority), ("slow", -1));
        assert_eq!((job.phase, job.eligible_at), (Phase::Pending(Wait::Scheduled), at(60)));
    }
}
