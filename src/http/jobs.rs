//! What clients do with a job: submit, follow, cancel, forget.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LOCATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, LINK, LOCATION,
    RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use super::Api;
use super::audit::Subject;
use super::auth::Asker;
use super::fields::{At, Errors, object};
use super::headers::{self, IDEMPOTENT_REPLAYED, Known, PREFERENCE_APPLIED, Prefer, SUNSET};
use super::links::Base;
use super::observe::Traced;
use super::problem::{Code, Problem};
use super::query::Query;
use super::show::{self, With};
use super::submission::{self, KEY_MEMBER, Setting};
use super::{body, limits, respond, strict, values};
use crate::domain::access::Scope;
use crate::domain::id::JobId;
use crate::domain::job::Status;
use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::engine::{Hold, MAX_WAIT, ResultView, Submission, View};
use crate::telemetry::events::Submission as Outcome;
use crate::wire;

/// The id in the path. One in another form is no job's.
pub(super) struct Id(pub(super) JobId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await.ok();
        text.and_then(|Path(text)| JobId::parse(&text)).map(Self).ok_or_else(Problem::no_such_job)
    }
}

/// A refusal before the engine was asked, and the queue if it was known by then.
struct Refused {
    queue: Option<Name>,
    jobs: usize,
    problem: Problem,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { queue: None, jobs: 1, problem }
    }
}

impl Refused {
    /// Counts it: each submission has exactly one outcome, and the engine counts the others.
    fn counted(self, api: &Api) -> Problem {
        let too_large = self.problem.code() == Code::PayloadTooLarge;
        let outcome = if too_large { Outcome::TooLarge } else { Outcome::Invalid };
        for _ in 0..self.jobs.max(1) {
            api.engine().events().submission(self.queue.as_ref(), outcome);
        }
        self.problem
    }
}

fn setting(api: &Api, parts: &Parts) -> Setting {
    Setting {
        max_payload_bytes: api.settings().max_payload_bytes,
        trace: Traced::of(&parts.extensions),
        tracestate: headers::tracestate(&parts.headers),
    }
}

/// `POST /v1/jobs`.
pub(super) async fn submit(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    let prefer = Prefer::read(&parts.headers);
    let submission = read_one(&api, &parts, body).await.map_err(|r| r.counted(&api))?;
    listed(&api, &caller, std::slice::from_ref(&submission))?;
    let hold = match prefer {
        Prefer { wait: Some(wait), .. } => Hold::UpTo(wait),
        Prefer { respond_async: true, wait: None } => Hold::Never,
        Prefer { respond_async: false, wait: None } => Hold::Adaptive,
    };
    let accepted = api.engine().submit(&caller, submission, hold).await?;
    let base = Base::of(api.settings(), &parts);
    let mut response = answer(&accepted.view, &base);
    let headers = response.headers_mut();
    if accepted.replayed {
        headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    let honoured = if accepted.could_wait { prefer } else { Prefer { wait: None, ..prefer } };
    if let Some(applied) = honoured.applied() {
        headers.insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

/// Refuses them all when one is for a queue or kind that the token is not for.
fn listed(api: &Api, caller: &Asker, submissions: &[Submission]) -> Result<(), Problem> {
    for submission in submissions {
        caller.may_use(api, &submission.queue, &submission.kind).inspect_err(|_| {
            for each in submissions {
                api.engine().events().submission(Some(&each.queue), Outcome::Unauthorized);
            }
        })?;
    }
    Ok(())
}

/// Refuses a token that is confined to other queues or kinds than this job's.
pub(super) async fn within(api: &Api, caller: &Asker, id: JobId) -> Result<(), Problem> {
    if caller.is_confined() {
        let spec = api.engine().job(caller, id, false).await?.record.spec;
        caller.may_use(api, &spec.queue, &spec.kind)?;
    }
    Ok(())
}

async fn read_one(api: &Api, parts: &Parts, body: Body) -> Result<Submission, Refused> {
    Query::read(&parts.uri)?.finish()?;
    let key = headers::idempotency_key(&parts.headers).map_err(|why| {
        let detail = format!("Idempotency-Key {why}");
        Problem::new(Code::InvalidIdempotencyKey, detail)
    })?;
    let bytes = body::read(api, &parts.headers, body).await?;
    let text = strict::check(&bytes)?;
    let setting = setting(api, parts);
    let mut errors = Errors::default();
    let read = object(text, At::Root, &mut errors, |f| submission::read(f, &setting)).flatten();
    match (read, errors.problem()) {
        (Some(mut job), None) => {
            job.key = key.map(|key| submission::bind(key, text));
            if lacks_key(api, &job) {
                let problem = Problem::key_required(&job.queue, "the header Idempotency-Key");
                return Err(Refused { queue: Some(job.queue), jobs: 1, problem });
            }
            Ok(job)
        }
        (read, Some(problem)) => Err(Refused { queue: read.map(|s| s.queue), jobs: 1, problem }),
        // Without a kind there is an error that says so.
        (None, None) => Err(Problem::new(Code::ValidationFailed, "the job has no kind").into()),
    }
}

/// 200 if and only if the job is completed.
fn answer(view: &View, base: &Base) -> Response {
    let completed = view.status() == Status::Completed;
    located(if completed { StatusCode::OK } else { StatusCode::ACCEPTED }, view, base)
}

/// A job that the request has made, or made before, and where it is.
pub(super) fn located(status: StatusCode, view: &View, base: &Base) -> Response {
    let id = view.record.spec.id;
    let shown = show::job(view, base, With::Result);
    let mut response = respond::json(status, &shown);
    set_course(&mut response, view);
    if let Ok(url) = HeaderValue::try_from(shown.status_url.as_str()) {
        response.headers_mut().insert(LOCATION, url.clone());
        response.headers_mut().insert(CONTENT_LOCATION, url);
    }
    links(&mut response, id, view.status(), base);
    response
}

/// `ETag`, and `Retry-After` or `Sunset`: when to come again.
fn set_course(response: &mut Response, view: &View) {
    let job = &view.record.job;
    respond::set(response, ETAG, format!("W/\"{}\"", job.version));
    if let Some(seconds) = view.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    set_sunset(response, job.expires_at);
}

/// RFC 8594: when it goes.
pub(super) fn set_sunset(response: &mut Response, at: Option<Timestamp>) {
    if let Some(date) = at.and_then(http_date) {
        respond::set(response, SUNSET, date);
    }
}

fn links(response: &mut Response, id: JobId, status: Status, base: &Base) {
    let url = base.job(id);
    let monitor = format!("<{url}>; rel=\"monitor\"");
    let link = match status {
        Status::Completed => format!("{monitor}, <{url}/result>; rel=\"/rels/result\""),
        Status::Pending | Status::Running => {
            format!("{monitor}, <{url}/cancel>; rel=\"/rels/cancel\"")
        }
        Status::Failed | Status::Cancelled => monitor,
    };
    respond::set(response, LINK, link);
}

/// As RFC 9110 section 5.6.7 writes dates.
fn http_date(at: Timestamp) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(at.as_millis()).ok()?;
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok()
}

/// The answer to a batch, in the order sent.
#[derive(Serialize, JsonSchema)]
pub(super) struct BatchAnswer {
    jobs: Vec<BatchItem>,
}

#[derive(Serialize, JsonSchema)]
struct BatchItem {
    job_id: String,
    status: &'static str,
    status_url: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
}

/// `POST /v1/jobs/batch`: all or nothing.
pub(super) async fn submit_batch(
    State(api): State<Api>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    let submissions = read_batch(&api, &parts, body).await.map_err(|r| r.counted(&api))?;
    listed(&api, &caller, &submissions)?;
    let accepted = api.engine().submit_batch(&caller, submissions).await;
    let accepted = accepted.map_err(|(index, failure)| {
        let problem = Problem::from(failure);
        // A failure of the whole batch is nobody's in particular.
        let whole = problem.code().status() >= 500 && problem.code() != Code::QueueFull;
        if whole { problem } else { problem.at(&format!("/jobs/{index}")) }
    })?;
    let base = Base::of(api.settings(), &parts);
    let jobs = accepted
        .iter()
        .map(|a| BatchItem {
            job_id: a.view.record.spec.id.to_string(),
            status: a.view.status().as_str(),
            status_url: base.job(a.view.record.spec.id),
            replayed: a.replayed,
        })
        .collect::<Vec<_>>();
    let size = jobs.len() * 192;
    Ok(respond::json_sized(StatusCode::ACCEPTED, &BatchAnswer { jobs }, size))
}

async fn read_batch(api: &Api, parts: &Parts, body: Body) -> Result<Vec<Submission>, Refused> {
    Query::read(&parts.uri)?.finish()?;
    if parts.headers.contains_key(headers::IDEMPOTENCY_KEY) {
        let detail = "a batch has a key for each job: its member idempotency_key, not the header";
        return Err(Problem::new(Code::InvalidIdempotencyKey, detail).into());
    }
    let bytes = body::read(api, &parts.headers, body).await?;
    let text = strict::check(&bytes)?;
    let setting = setting(api, parts);
    let mut errors = Errors::default();
    let jobs = object(text, At::Root, &mut errors, |f| {
        f.demand("jobs");
        f.each("jobs", 1..=limits::BATCH_ITEMS, |item, at, errors| {
            object(item, at, errors, |f| {
                let key = f.optional(KEY_MEMBER, values::idempotency_key);
                let mut job = submission::read(f, &setting)?;
                job.key = key.map(|key| submission::bind(key, item));
                Some(job)
            })
            .flatten()
        })
    });
    let jobs = jobs.flatten().unwrap_or_default();
    match errors.problem() {
        None => {
            let jobs: Vec<Submission> = jobs.into_iter().flatten().collect();
            all_have_keys(api, &jobs)?;
            Ok(jobs)
        }
        Some(problem) => Err(Refused { queue: None, jobs: jobs.len(), problem }),
    }
}

fn lacks_key(api: &Api, job: &Submission) -> bool {
    job.key.is_none() && api.engine().requires_key(&job.queue)
}

fn all_have_keys(api: &Api, jobs: &[Submission]) -> Result<(), Refused> {
    let mut lacking = jobs.iter().enumerate().filter(|(_, job)| lacks_key(api, job)).peekable();
    let Some((_, first)) = lacking.peek() else { return Ok(()) };
    let problem = Problem::key_required(&first.queue, "the member idempotency_key of each item");
    let item = |(at, job): (usize, &Submission)| wire::ProblemItem {
        pointer: format!("/jobs/{at}/{KEY_MEMBER}"),
        code: "required".to_owned(),
        detail: format!("is required in queue {}", job.queue),
    };
    let problem = problem.with_errors(lacking.take(limits::ERRORS_SHOWN).map(item).collect());
    Err(Refused { queue: None, jobs: jobs.len(), problem })
}

/// How long a read may be held: `Prefer: wait`, else `?wait`.
fn wait(prefer: Prefer, query: &mut Query) -> Result<Duration, Problem> {
    let asked = query.value("wait", "a number of seconds", |text| {
        let seconds: f64 = text.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    })?;
    Ok(prefer.wait.or(asked).unwrap_or_default().min(MAX_WAIT))
}

struct Asked {
    wait: Duration,
    payload: bool,
    redirect: bool,
}

fn asked(uri: &Uri, prefer: Prefer) -> Result<Asked, Problem> {
    let mut query = Query::read(uri)?;
    let wait = wait(prefer, &mut query)?;
    let payload = query.value("include", "payload", |t| (t == "payload").then_some(()))?;
    let redirect = query.value("on_completed", "redirect", |t| (t == "redirect").then_some(()))?;
    query.finish()?;
    Ok(Asked { wait, payload: payload.is_some(), redirect: redirect.is_some() })
}

/// `GET /v1/jobs/{id}`.
pub(super) async fn show(
    State(api): State<Api>,
    Id(id): Id,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    let prefer = Prefer::read(&parts.headers);
    let known = Known::read(&parts.headers);
    let Asked { wait, payload, redirect } = asked(&parts.uri, prefer)?;
    if payload {
        caller.needs(&api, &[Scope::Submit, Scope::Operate], "the payload")?;
    }
    within(&api, &caller, id).await?;

    let engine = api.engine();
    let view = if wait.is_zero() {
        engine.job(&caller, id, payload).await?
    } else {
        let version = match known {
            Known::Nothing => None,
            Known::Version(version) => Some(version),
            Known::Anything => Some(engine.job(&caller, id, false).await?.record.job.version),
        };
        let waiting = engine.wait_for_job(&caller, id, version, wait, payload);
        caller.while_known(&api, waiting).await??
    };
    engine.status_answered(&view, !wait.is_zero());

    let base = Base::of(api.settings(), &parts);
    let mut response = if known.is(view.record.job.version) {
        respond::empty(StatusCode::NOT_MODIFIED)
    } else if redirect && view.status() == Status::Completed {
        let mut response = respond::empty(StatusCode::SEE_OTHER);
        respond::set(&mut response, LOCATION, format!("{}/result", base.job(id)));
        response
    } else {
        let with = if payload { With::ResultAndPayload } else { With::Result };
        let mut response = respond::json(StatusCode::OK, &show::job(&view, &base, with));
        links(&mut response, id, view.status(), &base);
        response
    };
    set_course(&mut response, &view);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(VARY, HeaderValue::from_static("Prefer, Accept, Authorization"));
    if let Some(applied) = prefer.applied_wait() {
        headers.insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

/// `GET /v1/jobs/{id}/result`: the bytes as the worker gave them.
pub(super) async fn result(
    State(api): State<Api>,
    Id(id): Id,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    let prefer = Prefer::read(&parts.headers);
    let mut query = Query::read(&parts.uri)?;
    let wait = wait(prefer, &mut query)?;
    query.finish()?;
    within(&api, &caller, id).await?;
    let result = caller.while_known(&api, api.engine().result(&caller, id, wait)).await??;
    let mut response = match result {
        ResultView::Bytes { content_type, body, version, expires_at } => {
            let tag = version.to_string();
            let unchanged = headers::none_match(&parts.headers, &tag);
            let mut response = if unchanged {
                respond::empty(StatusCode::NOT_MODIFIED)
            } else {
                let mut response = respond::empty(StatusCode::OK);
                *response.body_mut() = Body::from(body);
                respond::set(&mut response, CONTENT_TYPE, content_type);
                response
                    .headers_mut()
                    .entry(CONTENT_TYPE)
                    .or_insert(HeaderValue::from_static("application/octet-stream"));
                response
            };
            respond::set(&mut response, ETAG, format!("\"{tag}\""));
            set_sunset(&mut response, expires_at);
            let headers = response.headers_mut();
            // A result is what a user made: a browser must neither guess nor run it.
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
            response
        }
        ResultView::Elsewhere { location, expires_at } => {
            let mut response = respond::empty(StatusCode::SEE_OTHER);
            set_sunset(&mut response, expires_at);
            respond::set(&mut response, LOCATION, location);
            response
        }
        ResultView::NotReady(view) => {
            api.engine().advised(&view);
            return Err(Problem::not_ready(&view, &Base::of(api.settings(), &parts)));
        }
        ResultView::Failed(error) => return Err(Problem::failed(id, &error)),
        ResultView::Cancelled => return Err(Problem::cancelled(id)),
    };
    if let Some(applied) = prefer.applied_wait() {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

/// `POST /v1/jobs/{id}/cancel`.
pub(super) async fn cancel(
    State(api): State<Api>,
    Id(id): Id,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    // What clients do to their own jobs is no operator's action.
    let mut action = caller.operator.then(|| caller.acts("cancel", Subject::job(&api, id)));
    let cancelled = async {
        let mut wish = wire::CancelRequest::default();
        if let Some(bytes) = body::read_if_any(&api, &parts.headers, body).await? {
            let mut errors = Errors::default();
            object(strict::check(&bytes)?, At::Root, &mut errors, |f| {
                wish.reason = f.optional("reason", values::line_of(0..=limits::TEXT_BYTES));
                wish.force = f.optional("force", values::boolean).unwrap_or_default();
            });
            errors.check()?;
        }
        if wish.force {
            if let Some(action) = &mut action {
                action.is("force-cancel");
            }
            caller.needs(&api, &[Scope::Operate], "force")?;
        }
        within(&api, &caller, id).await?;
        Ok(api.engine().cancel(&caller, id, wish.reason, wish.force).await?)
    };
    let cancelled: Result<View, Problem> = cancelled.await;
    let view = match action {
        Some(action) => action.ended(cancelled)?,
        None => cancelled?,
    };
    api.engine().advised(&view);
    let status =
        if view.status() == Status::Cancelled { StatusCode::OK } else { StatusCode::ACCEPTED };
    let base = Base::of(api.settings(), &parts);
    let mut response = respond::json(status, &show::job(&view, &base, With::Result));
    set_course(&mut response, &view);
    response.headers_mut().insert(LINK, base.monitor(id));
    Ok(response)
}

/// `DELETE /v1/jobs/{id}`: forgets a finished job.
pub(super) async fn delete(
    State(api): State<Api>,
    Id(id): Id,
    request: Request,
) -> Result<Response, Problem> {
    let caller = api.caller(request.extensions())?;
    let delete = async {
        within(&api, &caller, id).await?;
        Ok(api.engine().delete(&caller, id).await?)
    };
    caller.acts("delete", Subject::job(&api, id)).over(delete).await?;
    Ok(respond::empty(StatusCode::NO_CONTENT))
}

/// `GET /v1/jobs/{id}/timeline`.
pub(super) async fn timeline(
    State(api): State<Api>,
    Id(id): Id,
    request: Request,
) -> Result<Response, Problem> {
    let caller = api.caller(request.extensions())?;
    within(&api, &caller, id).await?;
    let events = api.engine().timeline(&caller, id).await?;
    let events = events.into_iter().map(show::timeline).collect();
    Ok(respond::json(StatusCode::OK, &wire::Timeline { events }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_http_wants_them() {
        let at = Timestamp::parse_rfc3339("1994-11-06T08:49:37.999Z").unwrap();
        assert_eq!(http_date(at).as_deref(), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    }

    #[test]
    fn what_a_read_may_ask_for() {
        let ask = |query: &str, wait: Option<u64>| {
            let prefer = Prefer { respond_async: false, wait: wait.map(Duration::from_secs) };
            asked(&format!("/v1/jobs/x{query}").parse().unwrap(), prefer)
        };
        let plain = ask("", None).ok().unwrap();
        assert!(plain.wait.is_zero() && !plain.payload && !plain.redirect);
        let all = ask("?wait=1.5&include=payload&on_completed=redirect", None).ok().unwrap();
        assert_eq!(all.wait, Duration::from_millis(1_500));
        assert!(all.payload && all.redirect);
        assert_eq!(ask("?wait=9", Some(2)).ok().unwrap().wait, Duration::from_secs(2));
        assert_eq!(ask("?wait=900", None).ok().unwrap().wait, MAX_WAIT);
        for bad in
            ["?wait=-1", "?wait=x", "?include=all", "?on_completed=no", "?wat=1", "?wait=NaN"]
        {
            assert!(ask(bad, None).is_err(), "{bad}");
        }
    }
}
