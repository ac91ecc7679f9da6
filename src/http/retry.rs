//! `POST /v1/jobs/{id}/retry`: a finished job's work again, as a new job.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::Response;

use super::Api;
use super::audit::Subject;
use super::body;
use super::fields::{At, Errors, Fields, object};
use super::headers::{self, IDEMPOTENT_REPLAYED};
use super::jobs::{Id, located, within};
use super::links::Base;
use super::observe::Traced;
use super::problem::Problem;
use super::query::Query;
use super::{limits, strict, values};
use crate::engine::{Changes, Retry};

/// 201 with the new job; 200 with the one that came of an earlier retry, as it is now.
pub(super) async fn retry(
    State(api): State<Api>,
    Id(id): Id,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    let retry = async {
        within(&api, &caller, id).await?;
        let force = force(&parts.uri)?;
        let mut changes = Changes::default();
        if let Some(bytes) = body::read_if_any(&api, &parts.headers, body).await? {
            let mut errors = Errors::default();
            let read = object(strict::check(&bytes)?, At::Root, &mut errors, read);
            errors.check()?;
            changes = read.unwrap_or_default();
        }
        let wish = Retry {
            changes,
            force,
            trace: Traced::of(&parts.extensions),
            tracestate: headers::tracestate(&parts.headers),
        };
        if let Some(queue) = &wish.changes.queue {
            caller.may_use_queue(&api, queue)?;
        }
        Ok(api.engine().retry(&caller, id, wish).await?)
    };
    let accepted = caller.acts("retry", Subject::job(&api, id)).over(retry).await?;
    let status = if accepted.replayed { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = located(status, &accepted.view, &Base::of(api.settings(), &parts));
    if accepted.replayed {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn force(uri: &Uri) -> Result<bool, Problem> {
    let mut query = Query::read(uri)?;
    let force = query.value("force", "true or false", |text| text.parse().ok())?;
    query.finish()?;
    Ok(force.unwrap_or_default())
}

fn read(f: &mut Fields<'_, '_>) -> Changes {
    let run_at = f.optional("run_at", values::moment);
    let priority = f.optional("priority", values::integer(limits::PRIORITY));
    Changes {
        run_at,
        priority: priority.and_then(|n| i32::try_from(n).ok()),
        queue: f.optional("queue", values::name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(text: &str) -> Result<Changes, Vec<String>> {
        let mut errors = Errors::default();
        let found = object(text, At::Root, &mut errors, read);
        match errors.problem() {
            None => Ok(found.unwrap()),
            Some(problem) => {
                let items = problem.wire(None).errors;
                Err(items.into_iter().map(|e| format!("{} {}", e.pointer, e.code)).collect())
            }
        }
    }

    #[test]
    fn what_may_differ_from_the_source() {
        assert_eq!(changes("{}"), Ok(Changes::default()));
        let all = changes(r#"{"run_at":"2031-01-01T00:00:00Z","priority":-100,"queue":"slow"}"#);
        let all = all.unwrap();
        assert_eq!((all.priority, all.queue.unwrap().as_str()), (Some(-100), "slow"));
        assert!(all.run_at.is_some());
        for (text, wrong) in [
            (r#"{"run_at":"soon"}"#, "/run_at format"),
            (r#"{"priority":101}"#, "/priority range"),
            (r#"{"queue":"_ours"}"#, "/queue pattern"),
            (r#"{"kind":"other"}"#, "/kind unknown"),
            (r#"{"queue":null}"#, "/queue type"),
        ] {
            assert_eq!(changes(text), Err(vec![wrong.to_owned()]));
        }
    }

    #[test]
    fn force_is_said_in_full() {
        let ask = |query: &str| force(&format!("/v1/jobs/x/retry{query}").parse().unwrap());
        assert_eq!(ask("").ok(), Some(false));
        assert_eq!(ask("?force=true").ok(), Some(true));
        assert_eq!(ask("?force=false").ok(), Some(false));
        for bad in ["?force", "?force=1", "?forse=true", "?force=true&force=true"] {
            assert!(ask(bad).is_err(), "{bad}");
        }
    }
}
