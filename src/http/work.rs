//! What workers do while they work: claim, heartbeat, say goodbye.

use std::time::Duration;

use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;

use super::Api;
use super::auth::{Asker, Ended};
use super::fields::{At, Errors, Fields, Wrong, object};
use super::jobs::Id;
use super::problem::{Code, Problem};
use super::show;
use super::{body, headers, limits, respond, strict, values};
use crate::domain::access::Lists;
use crate::domain::directive::Directive;
use crate::domain::id::JobId;
use crate::domain::job::Progress;
use crate::domain::names::{Name, WorkerId};
use crate::domain::time::Timestamp;
use crate::engine::{BeatOrder, Beaten, ClaimOrder, Failure, Grant, MAX_CLAIM, MAX_WAIT};
use crate::wire::{self, ProblemItem};

/// `POST /v1/claims`.
pub(super) async fn claim(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    let bytes = body::read_work(&api, &parts.headers, body).await?;
    let mut errors = Errors::default();
    let order = object(strict::check(&bytes)?, At::Root, &mut errors, claim_order);
    errors.check()?;
    let mut order = order.flatten().ok_or_else(unreadable)?;
    order.trace = headers::traceparent(&parts.headers);
    confine(&api, &caller, &mut order)?;
    let grant = match caller.while_unchanged(&api, api.engine().claim(&caller, order)).await {
        Ok(grant) => grant?,
        Err(Ended::Refused(problem)) => return Err(problem),
        // The next claim is of what the token is for now.
        Err(Ended::Changed) => Grant {
            jobs: Vec::new(),
            cancel: Vec::new(),
            directive: Directive::default(),
            now: api.engine().now(),
        },
    };
    Ok(respond::json_sized(StatusCode::OK, &show::claimed(&grant), show::size_of(&grant)))
}

/// Refuses a claim of queues or kinds that the token is not for. A claim of every kind is one of
/// every kind that it is for.
pub(super) fn confine(api: &Api, caller: &Asker, order: &mut ClaimOrder) -> Result<(), Problem> {
    for queue in &order.queues {
        caller.may_use_queue(api, queue)?;
    }
    for kind in &order.kinds {
        caller.may_use_kind(api, kind)?;
    }
    if let Some(kinds) = caller.kinds()
        && order.kinds.is_empty()
    {
        order.kinds = kinds.to_vec();
    }
    Ok(())
}

/// For what cannot be: a body without errors that is not understood.
pub(super) fn unreadable() -> Problem {
    Problem::new(Code::ValidationFailed, "the body lacks something that is required")
}

/// The members of a claim. `None` only with an error beside it.
pub(super) fn claim_order(f: &mut Fields<'_, '_>) -> Option<ClaimOrder> {
    let short = values::line_of(0..=limits::TEXT_BYTES);
    let worker = f.required("worker_id", values::worker);
    f.demand("queues");
    let queues = f.list("queues", 1..=limits::CLAIM_NAMES, values::name);
    let kinds = f.list("kinds", 1..=limits::CLAIM_NAMES, values::kind);
    let max_jobs = f.optional("max_jobs", values::count(1..=MAX_CLAIM as u32));
    let lease = f.optional("lease_seconds", values::seconds(limits::LEASE));
    let wait = f.optional("wait_seconds", values::seconds_to(MAX_WAIT));
    let hostname = f.optional("hostname", &short);
    let version = f.optional("version", &short);
    let concurrency = f.optional("concurrency", values::count(limits::CONCURRENCY));
    let held = held(f);
    Some(ClaimOrder {
        worker: worker?,
        namespace: None,
        lists: Lists::ALL,
        queues: distinct(queues?),
        kinds: distinct(kinds.unwrap_or_default()),
        max_jobs: max_jobs.unwrap_or(1) as usize,
        lease,
        wait: wait.unwrap_or(Duration::ZERO),
        hostname,
        version,
        concurrency,
        held,
        trace: None,
    })
}

/// Ids that are none cannot be leases of anybody: they are passed over.
pub(super) fn held(f: &mut Fields<'_, '_>) -> Option<Vec<JobId>> {
    let ids = f.list("held", 0..=limits::BATCH_ITEMS, values::text)?;
    Some(ids.iter().filter_map(|id| JobId::parse(id)).collect())
}

/// Each name once, where it was first.
fn distinct(names: Vec<Name>) -> Vec<Name> {
    let mut seen: Vec<Name> = Vec::with_capacity(names.len());
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

fn progress(f: &mut Fields<'_, '_>, now: Timestamp) -> Option<Progress> {
    f.nested("progress", |f| Progress {
        percent: f.optional("percent", values::number(0.0..=100.0)),
        message: f.optional("message", values::text_of(0..=limits::PROGRESS_MESSAGE_BYTES)),
        updated_at: now,
    })
}

/// `POST /v1/jobs/{id}/heartbeat`.
pub(super) async fn heartbeat(
    State(api): State<Api>,
    Id(id): Id,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    let bytes = body::read_work(&api, &parts.headers, body).await?;
    let now = api.engine().now();
    let mut errors = Errors::default();
    let beat = object(strict::check(&bytes)?, At::Root, &mut errors, |f| {
        let token = f.required("lease_token", values::token);
        let progress = progress(f, now);
        let checkpoint = f.optional("checkpoint", values::json_of(limits::CHECKPOINT_BYTES));
        let extend = f.optional("extend_seconds", values::seconds(limits::LEASE));
        Some(BeatOrder { id, token: token?, extend, progress, checkpoint })
    });
    errors.check()?;
    let beat = beat.flatten().ok_or_else(unreadable)?;
    let mut answers = api.engine().heartbeat(&caller, None, vec![beat]).await?;
    let beaten = answers.pop().ok_or_else(Problem::no_such_job)??;
    Ok(respond::json(StatusCode::OK, &show::beaten(beaten)))
}

/// One item of a batch: what to ask the engine, or why it is refused alone.
pub(super) type Item<T> = (String, Result<T, Problem>);

/// Reads an item of a batch that names a job. What is wrong in kind is an error of the request,
/// for a program that sends it is broken. What is merely too long, or names no job, is refused
/// alone: the rest of the batch is sound and must not wait for it.
pub(super) fn item<'a, T>(
    text: &'a str,
    at: At<'_>,
    errors: &mut Errors,
    read: impl FnOnce(&mut Fields<'a, '_>, JobId) -> Option<Result<T, Problem>>,
) -> Item<T> {
    /// Stands in for an id that cannot be read, while the item's other members are.
    const NOBODY: JobId = JobId::from_bytes([0; 16]);

    let mut own = Errors::default();
    let mut name = String::new();
    let mut known = false;
    let read = object(text, at, &mut own, |f| {
        let id = f.required("job_id", |raw| values::text(raw).map(std::borrow::Cow::into_owned));
        let id = id.and_then(|text| {
            name = text;
            JobId::parse(&name)
        });
        known = id.is_some();
        read(f, id.unwrap_or(NOBODY))
    });
    if !own.only_sizes() {
        errors.absorb(own);
        // Not reached: the errors refuse the request.
        return (name, Err(unreadable()));
    }
    let outcome = match (own.problem(), read.flatten()) {
        (Some(problem), _) => Err(problem),
        (None, _) if !known => Err(Problem::no_such_job()),
        (None, Some(outcome)) => outcome,
        (None, None) => Err(unreadable()),
    };
    (name, outcome)
}

/// Puts the engine's answers to the items that it was asked about back among the others.
pub(super) fn merge<T, R>(
    items: Vec<Item<T>>,
    answers: Vec<Result<R, Failure>>,
) -> impl Iterator<Item = (String, Result<R, Problem>)> {
    let mut answers = answers.into_iter();
    items.into_iter().map(move |(id, asked)| {
        let outcome = match asked {
            // As many answers as questions, in their order.
            Ok(_) => answers.next().unwrap_or(Err(Failure::NoSuchJob)).map_err(Problem::from),
            Err(problem) => Err(problem),
        };
        (id, outcome)
    })
}

/// `POST /v1/heartbeats`.
pub(super) async fn heartbeats(
    State(api): State<Api>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    let bytes = body::read_work(&api, &parts.headers, body).await?;
    let now = api.engine().now();
    let mut errors = Errors::default();
    let read = object(strict::check(&bytes)?, At::Root, &mut errors, |f| {
        let worker = f.required("worker_id", values::worker);
        f.demand("leases");
        let leases = f.each("leases", 0..=limits::BATCH_ITEMS, |text, at, errors| {
            item(text, at, errors, |f, id| {
                let token = f.required("lease_token", values::token);
                let progress = progress(f, now);
                let (extend, checkpoint) = (None, None);
                Some(Ok(BeatOrder { id, token: token?, extend, progress, checkpoint }))
            })
        });
        Some((worker?, leases?))
    });
    errors.check()?;
    let (worker, leases) = read.flatten().ok_or_else(unreadable)?;
    let beats: Vec<BeatOrder> =
        leases.iter().filter_map(|(_, beat)| beat.as_ref().ok().cloned()).collect();
    let answers = api.engine().heartbeat(&caller, Some(worker.clone()), beats).await?;
    let directive = api.engine().directive(&worker);
    let results: Vec<wire::HeartbeatResult> =
        merge(leases, answers).map(|(id, outcome)| beat_result(id, outcome)).collect();
    let size = results.len() * 192;
    let directive = directive.as_str().to_owned();
    let answer = wire::HeartbeatsAnswer { results, directive };
    Ok(respond::json_sized(StatusCode::OK, &answer, size))
}

fn beat_result(job_id: String, outcome: Result<Beaten, Problem>) -> wire::HeartbeatResult {
    match outcome {
        Ok(beaten) => wire::HeartbeatResult {
            job_id,
            ok: true,
            lease_expires_at: Some(beaten.expires_at.to_rfc3339()),
            cancel_requested: Some(beaten.cancel_requested),
            problem: None,
        },
        Err(problem) => wire::HeartbeatResult {
            job_id,
            ok: false,
            problem: Some(problem.wire(None)),
            ..wire::HeartbeatResult::default()
        },
    }
}

/// The worker in the path.
pub(super) struct Worker(pub(super) WorkerId);

impl<S: Send + Sync> FromRequestParts<S> for Worker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await.ok();
        text.and_then(|Path(text)| WorkerId::parse(&text)).map(Self).ok_or_else(|| {
            let wrong = Wrong::new("length", "must have 1 to 512 bytes and no control characters");
            let item = ProblemItem {
                pointer: "/worker_id".to_owned(),
                code: wrong.code.to_owned(),
                detail: wrong.detail,
            };
            Problem::new(Code::ValidationFailed, "the worker's id in the address is wrong")
                .with_errors(vec![item])
        })
    }
}

/// `POST /v1/workers/{id}/goodbye`.
pub(super) async fn goodbye(
    State(api): State<Api>,
    Worker(worker): Worker,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    if let Some(bytes) = body::read_if_any(&api, &parts.headers, body).await? {
        let mut errors = Errors::default();
        object(strict::check(&bytes)?, At::Root, &mut errors, |_| ());
        errors.check()?;
    }
    api.engine().goodbye(&caller, worker).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7";

    fn order(text: &str) -> Result<ClaimOrder, Vec<String>> {
        let mut errors = Errors::default();
        let read = object(text, At::Root, &mut errors, claim_order).flatten();
        match errors.problem() {
            None => Ok(read.unwrap()),
            Some(problem) => {
                let items = problem.wire(None).errors;
                Err(items.into_iter().map(|e| format!("{} {}", e.pointer, e.code)).collect())
            }
        }
    }

    #[test]
    fn claims() {
        let least = order(r#"{"worker_id":"w","queues":["a","b","a"]}"#).unwrap();
        let names: Vec<&str> = least.queues.iter().map(Name::as_str).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!((least.max_jobs, least.wait, least.held), (1, Duration::ZERO, None));
        let most = order(&format!(
            r#"{{"worker_id":"w","queues":["a"],"kinds":["k"],"max_jobs":100,"lease_seconds":0.1e1,
                "wait_seconds":50,"hostname":"h","version":"v","concurrency":4,
                "held":["{ID}","nonsense"]}}"#
        ))
        .unwrap();
        assert_eq!(most.held.unwrap().len(), 1);
        assert_eq!(most.lease, Some(Duration::from_secs(1)));
    }

    #[test]
    fn wrong_claims() {
        assert_eq!(order("{}").unwrap_err(), ["/worker_id required", "/queues required"]);
        for (members, expected) in [
            (r#""queues":[]"#, "/queues length"),
            (r#""queues":["_x"]"#, "/queues/0 pattern"),
            (r#""queues":["a"],"kinds":[]"#, "/kinds length"),
            (r#""queues":["a"],"concurrency":0"#, "/concurrency range"),
            (r#""queues":["a"],"max_jobs":101"#, "/max_jobs range"),
            (r#""queues":["a"],"wait_seconds":51"#, "/wait_seconds range"),
            (r#""queues":["a"],"lease_seconds":0"#, "/lease_seconds range"),
            (r#""queues":["a"],"max_job":1"#, "/max_job unknown"),
        ] {
            assert_eq!(
                order(&format!(r#"{{"worker_id":"w",{members}}}"#)).unwrap_err(),
                [expected]
            );
        }
    }

    fn read_item(text: &str) -> (Item<u8>, Errors) {
        let mut errors = Errors::default();
        let at = At::Root;
        let leases = At::Member(&at, "leases");
        let read = item(text, At::Item(&leases, 4), &mut errors, |f, _| {
            f.optional("message", values::text_of(0..=3));
            Some(Ok(1))
        });
        (read, errors)
    }

    #[test]
    fn a_wrong_item_refuses_the_request_and_a_long_one_itself() {
        let ((name, outcome), errors) = read_item(&format!(r#"{{"job_id":"{ID}"}}"#));
        assert!(errors.problem().is_none() && outcome.is_ok() && name == ID);

        let ((name, outcome), errors) = read_item(r#"{"job_id":"nonsense"}"#);
        assert!(errors.problem().is_none() && name == "nonsense");
        assert_eq!(outcome.unwrap_err().code(), Code::NoSuchJob);

        let ((_, outcome), errors) = read_item(&format!(r#"{{"job_id":"{ID}","message":"long"}}"#));
        assert!(errors.problem().is_none());
        let problem = outcome.unwrap_err().wire(None);
        assert_eq!(
            (problem.status, problem.errors[0].pointer.as_str()),
            (422, "/leases/4/message")
        );

        let (_, errors) = read_item(r#"{"job_id":7,"message":"long","x":1}"#);
        let pointers: Vec<String> =
            errors.problem().unwrap().wire(None).errors.into_iter().map(|e| e.pointer).collect();
        assert_eq!(pointers, ["/leases/4/job_id", "/leases/4/message", "/leases/4/x"]);
    }

    #[test]
    fn answers_find_their_items() {
        let items = vec![
            ("a".to_owned(), Ok(())),
            ("b".to_owned(), Err(Problem::no_such_job())),
            ("c".to_owned(), Ok(())),
        ];
        let merged: Vec<_> = merge(items, vec![Ok(1), Err(Failure::NoSuchJob)])
            .map(|(id, r)| (id, r.map_err(|p| p.code())))
            .collect();
        let none = Err(Code::NoSuchJob);
        assert_eq!(merged, [("a".into(), Ok(1)), ("b".into(), none), ("c".into(), none)]);
    }
}
