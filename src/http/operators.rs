//! What operators see and do: queues, workers, maintenance.

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;

use super::Api;
use super::audit::Subject;
use super::fields::{At, Errors, object};
use super::problem::Problem;
use super::work::Worker;
use super::{body, limits, respond, settings, show, strict, values};
use crate::domain::names::Name;
use crate::wire;

/// The queue in the path. One that cannot be called so does not exist.
pub(super) struct Queue(pub(super) Name);

impl<S: Send + Sync> FromRequestParts<S> for Queue {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await.ok();
        text.and_then(|Path(text)| Name::parse(&text)).map(Self).ok_or_else(Problem::not_a_queue)
    }
}

/// `GET /v1/queues`.
pub(super) async fn queues(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let caller = api.caller(request.extensions())?;
    let queues = api.engine().queues().await?;
    let queues = queues.into_iter().filter(|queue| caller.sees_queue(&queue.state.name));
    let queues = queues.map(show::queue).collect();
    Ok(respond::json(StatusCode::OK, &wire::QueueList { queues }))
}

/// `GET /v1/queues/{q}`.
pub(super) async fn queue(
    State(api): State<Api>,
    Queue(name): Queue,
    request: Request,
) -> Result<Response, Problem> {
    api.caller(request.extensions())?.may_use_queue(&api, &name)?;
    let queue = api.engine().queue(&name).await?;
    Ok(settings::tagged(queue))
}

/// Reads a body that may be there and has no members.
async fn nothing(api: &Api, parts: &Parts, body: Body) -> Result<(), Problem> {
    let Some(bytes) = body::read_if_any(api, &parts.headers, body).await? else { return Ok(()) };
    let mut errors = Errors::default();
    object(strict::check(&bytes)?, At::Root, &mut errors, |_| ());
    errors.check()
}

/// `POST /v1/queues/{q}/pause`.
pub(super) async fn pause(
    State(api): State<Api>,
    Queue(name): Queue,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    let pause = async {
        caller.may_use_queue(&api, &name)?;
        let (mut reason, mut until) = (None, None);
        if let Some(bytes) = body::read_if_any(&api, &parts.headers, body).await? {
            let now = api.engine().now();
            let mut errors = Errors::default();
            object(strict::check(&bytes)?, At::Root, &mut errors, |f| {
                reason = f.optional("reason", values::line_of(0..=limits::TEXT_BYTES));
                until = f.optional("until", values::moment);
                if until.is_some_and(|t| t <= now) {
                    f.wrong("until", "range", "must be in the future");
                }
            });
            errors.check()?;
        }
        Ok(api.engine().pause(&name, reason, until).await?)
    };
    let queue = caller.acts("pause", Subject::Queue(name.clone())).over(pause).await?;
    Ok(settings::tagged(queue))
}

/// `POST /v1/queues/{q}/resume`.
pub(super) async fn resume(
    State(api): State<Api>,
    Queue(name): Queue,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    let resume = async {
        caller.may_use_queue(&api, &name)?;
        nothing(&api, &parts, body).await?;
        Ok(api.engine().resume(&name).await?)
    };
    let queue = caller.acts("resume", Subject::Queue(name.clone())).over(resume).await?;
    Ok(settings::tagged(queue))
}

/// `GET /v1/workers`.
pub(super) async fn workers(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let caller = api.caller(request.extensions())?;
    let mut workers = api.engine().workers().await?;
    let lists = caller.lists();
    workers.retain(|w| lists.allow_one_of(&w.presence.queues, &w.presence.kinds));
    for worker in &mut workers {
        worker.presence.queues.retain(|queue| lists.allows_queue(queue));
        worker.presence.kinds.retain(|kind| lists.allows_kind(kind));
    }
    let workers = workers.into_iter().map(show::worker).collect();
    Ok(respond::json(StatusCode::OK, &wire::WorkerList { workers }))
}

/// `POST /v1/workers/{id}/drain`.
pub(super) async fn drain(
    State(api): State<Api>,
    Worker(worker): Worker,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    let drain = async {
        nothing(&api, &parts, body).await?;
        if caller.is_confined() {
            let known = api.engine().worker(&worker).await?;
            caller.may_send_away(&api, &known.presence)?;
        }
        Ok(api.engine().drain_worker(&worker).await?)
    };
    let worker = caller.acts("drain", Subject::Worker(worker.clone())).over(drain).await?;
    Ok(respond::json(StatusCode::OK, &show::worker(worker)))
}

/// `GET /v1/tasks`.
pub(super) async fn tasks(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    api.caller(request.extensions())?;
    let tasks = api.engine().tasks().statuses().into_iter().map(show::task).collect();
    Ok(respond::json(StatusCode::OK, &wire::TaskList { tasks }))
}
