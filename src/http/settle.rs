//! How workers settle: many outcomes and the next claim in one commit, or one job at its own
//! address, which is the same thing for one.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::Api;
use super::fields::{At, Errors, Fields, Wrong, object};
use super::jobs::{Id, set_sunset};
use super::links::Base;
use super::problem::Problem;
use super::show::{self, With};
use super::work::{Item, claim_order, confine, held, item, merge, unreadable};
use super::{Settings, body, headers, limits, respond, strict, values};
use crate::domain::id::JobId;
use crate::domain::job::{JobError, RawJson, Report};
use crate::domain::time::Timestamp;
use crate::engine::{ReportOrder, ResultValue, SettleOrder};
use crate::wire;

/// A report, or the limit in bytes that its result is over.
type Reported = Result<ReportOrder, usize>;

/// `result`, `result_location` and `result_content_type`.
fn completed(f: &mut Fields<'_, '_>, settings: &Settings) -> Reported {
    let result = f.optional("result", |text| Ok(values::json(text)));
    let location = f.optional("result_location", values::location(&settings.result_hosts));
    let content_type = f.optional("result_content_type", values::media_type);
    if result.as_ref().is_some_and(|r| r.len() > settings.max_result_bytes) {
        return Err(settings.max_result_bytes);
    }
    let result = match (result, location) {
        (Some(_), Some(_)) => {
            f.wrong("result_location", "exclusive", "must not be there beside result");
            None
        }
        (Some(json), None) => {
            only_json(f, content_type.as_deref());
            Some(ResultValue::Json(json))
        }
        (None, Some(location)) => Some(ResultValue::Elsewhere { location, content_type }),
        (None, None) => {
            only_json(f, content_type.as_deref());
            None
        }
    };
    Ok(ReportOrder::Completed { result })
}

/// What is stored here is JSON.
fn only_json(f: &mut Fields<'_, '_>, content_type: Option<&str>) {
    if content_type.is_some_and(|t| !t.eq_ignore_ascii_case("application/json")) {
        let detail = "belongs to result_location; result is always application/json";
        f.wrong("result_content_type", "exclusive", detail);
    }
}

/// `error`, `retryable` and `retry_after_seconds`. `None` only with an error beside it.
fn failed(f: &mut Fields<'_, '_>, now: Timestamp) -> Option<ReportOrder> {
    f.demand("error");
    let mut size = 0;
    let error = f
        .nested("error", |f| {
            let kind = f.required("type", values::line_of(1..=limits::TAG_BYTES));
            let message = f.required("message", values::text_of(0..=limits::ERROR_BYTES));
            let details = f.optional("details", |text| Ok(values::json(text)));
            let stack = f.optional("stack", values::text_of(0..=limits::ERROR_BYTES));
            let texts = [kind.as_deref(), message.as_deref(), stack.as_deref()];
            size = texts.into_iter().flatten().map(str::len).sum::<usize>()
                + details.as_ref().map_or(0, RawJson::len);
            Some(JobError {
                kind: kind?,
                message: message?,
                details,
                stack,
                attempt: 0,
                at: now,
                retryable: true,
            })
        })
        .flatten();
    if size > limits::ERROR_BYTES {
        let max = limits::ERROR_BYTES;
        f.wrong("error", "length", format!("may have at most {max} bytes, and has {size}"));
    }
    let retryable = f.optional("retryable", values::boolean).unwrap_or(true);
    let retry_after = f.optional("retry_after_seconds", values::seconds_to(limits::RUN_AT_AHEAD));
    Some(ReportOrder::Failed { error: JobError { retryable, ..error? }, retry_after })
}

fn released(f: &mut Fields<'_, '_>) -> ReportOrder {
    let delay = f.optional("delay_seconds", values::seconds_to(limits::RUN_AT_AHEAD));
    ReportOrder::Released { delay }
}

/// Settles one job, and shows it as it is then.
async fn one(
    api: Api,
    id: JobId,
    request: Request,
    read: impl FnOnce(&mut Fields<'_, '_>, &Settings, Timestamp) -> Option<Reported>,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    let bytes = body::read_work(&api, &parts.headers, body).await?;
    let now = api.engine().now();
    let mut errors = Errors::default();
    let order = object(strict::check(&bytes)?, At::Root, &mut errors, |f| {
        let token = f.required("lease_token", values::token);
        let report = match read(f, api.settings(), now)? {
            Ok(report) => report,
            Err(max) => {
                f.too_large("result", max);
                return None;
            }
        };
        Some(SettleOrder { id, token: token?, report })
    });
    errors.check()?;
    let order = order.flatten().ok_or_else(unreadable)?;
    let (mut settled, _) = api.engine().settle(&caller, vec![order], None).await?;
    settled.pop().ok_or_else(Problem::no_such_job)??;
    let view = api.engine().job(&caller, id, false).await?;
    let base = Base::of(api.settings(), &parts);
    let mut response = respond::json(StatusCode::OK, &show::job(&view, &base, With::Result));
    set_sunset(&mut response, view.record.job.expires_at);
    Ok(response)
}

/// `POST /v1/jobs/{id}/complete`.
pub(super) async fn complete(
    State(api): State<Api>,
    Id(id): Id,
    request: Request,
) -> Result<Response, Problem> {
    one(api, id, request, |f, settings, _| Some(completed(f, settings))).await
}

/// `POST /v1/jobs/{id}/fail`.
pub(super) async fn fail(
    State(api): State<Api>,
    Id(id): Id,
    request: Request,
) -> Result<Response, Problem> {
    one(api, id, request, |f, _, now| failed(f, now).map(Ok)).await
}

/// `POST /v1/jobs/{id}/release`. The reason is for whoever reads the request; it is not kept.
pub(super) async fn release(
    State(api): State<Api>,
    Id(id): Id,
    request: Request,
) -> Result<Response, Problem> {
    one(api, id, request, |f, _, _| {
        f.optional("reason", values::line_of(0..=limits::TEXT_BYTES));
        Some(Ok(released(f)))
    })
    .await
}

/// `POST /v1/jobs/{id}/cancelled`.
pub(super) async fn cancelled(
    State(api): State<Api>,
    Id(id): Id,
    request: Request,
) -> Result<Response, Problem> {
    one(api, id, request, |_, _, _| Some(Ok(ReportOrder::Cancelled))).await
}

/// One item of a batch: the outcome decides which other members there may be.
fn settlement(
    text: &str,
    at: At<'_>,
    errors: &mut Errors,
    settings: &Settings,
    now: Timestamp,
) -> Item<SettleOrder> {
    item(text, at, errors, |f, id| {
        let token = f.required("lease_token", values::token);
        let outcome = f.required("outcome", |raw| {
            let text = values::text(raw)?;
            Report::parse(&text).ok_or_else(|| {
                Wrong::new("pattern", "must be completed, failed, released or cancelled")
            })
        });
        let reported = match outcome {
            Some(Report::Completed) => Some(completed(f, settings)),
            Some(Report::Failed) => failed(f, now).map(Ok),
            Some(Report::Released) => Some(Ok(released(f))),
            Some(Report::Cancelled) => Some(Ok(ReportOrder::Cancelled)),
            None => {
                f.pass_over();
                None
            }
        };
        Some(match reported? {
            Ok(report) => Ok(SettleOrder { id, token: token?, report }),
            // Large results are rare and nobody's mistake in the rest of the batch.
            Err(max) => Err(Problem::too_large("result", max).about(id)),
        })
    })
}

/// `POST /v1/settlements`.
pub(super) async fn settlements(
    State(api): State<Api>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.caller(&parts.extensions)?;
    let bytes = body::read_work(&api, &parts.headers, body).await?;
    let (settings, now) = (api.settings(), api.engine().now());
    let mut errors = Errors::default();
    let read = object(strict::check(&bytes)?, At::Root, &mut errors, |f| {
        let worker = f.required("worker_id", values::worker);
        f.demand("settlements");
        let items = f.each("settlements", 0..=limits::BATCH_ITEMS, |text, at, errors| {
            settlement(text, at, errors, settings, now)
        });
        let mut claim = f.nested("claim", claim_order).flatten();
        if let Some(held) = held(f) {
            match &mut claim {
                Some(claim) => claim.held = claim.held.take().or(Some(held)),
                None => f.wrong("held", "exclusive", "needs a claim beside it; put it in there"),
            }
        }
        if let (Some(worker), Some(claim)) = (&worker, &claim)
            && claim.worker != *worker
        {
            f.wrong("claim", "exclusive", "must have the worker_id of the settlements");
        }
        Some((worker?, items?, claim))
    });
    errors.check()?;
    let (worker, items, mut claim) = read.flatten().ok_or_else(unreadable)?;
    if let Some(claim) = &mut claim {
        claim.trace = headers::traceparent(&parts.headers);
        confine(&api, &caller, claim)?;
    }
    let orders: Vec<SettleOrder> =
        items.iter().filter_map(|(_, order)| order.as_ref().ok().cloned()).collect();
    // What is settled by then stays settled: a repetition, with another token, gets the verdicts.
    let settling = api.engine().settle(&caller, orders, claim);
    let (settled, grant) = caller.while_known(&api, settling).await??;
    let results: Vec<wire::SettlementResult> = merge(items, settled)
        .map(|(job_id, outcome)| match outcome {
            Ok(status) => wire::SettlementResult {
                job_id,
                ok: true,
                status: Some(status.as_str().to_owned()),
                problem: None,
            },
            Err(problem) => wire::SettlementResult {
                job_id,
                ok: false,
                status: None,
                problem: Some(problem.wire(None)),
            },
        })
        .collect();
    let size = results.len() * 128 + grant.as_ref().map_or(256, show::size_of);
    let claimed = grant.as_ref().map(show::claimed).unwrap_or_default();
    let answer = wire::SettlementsAnswer {
        results,
        jobs: claimed.jobs,
        cancel: claimed.cancel,
        directive: api.engine().directive(&worker).as_str().to_owned(),
        server_time: grant.map_or_else(|| api.engine().now(), |g| g.now).to_rfc3339(),
    };
    Ok(respond::json_sized(StatusCode::OK, &answer, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::lease::LeaseToken;

    const ID: &str = "0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7";

    fn settle(members: &str) -> (Result<SettleOrder, Problem>, Vec<String>) {
        let token = LeaseToken::new([1; 16]).reveal();
        let text = format!(r#"{{"job_id":"{ID}","lease_token":"{token}",{members}}}"#);
        let settings = Settings { max_result_bytes: 32, ..Settings::default() };
        let mut errors = Errors::default();
        let (_, outcome) =
            settlement(&text, At::Root, &mut errors, &settings, Timestamp::from_millis(7));
        let found = errors.problem().map(|p| p.wire(None).errors).unwrap_or_default();
        (outcome, found.into_iter().map(|e| format!("{} {}", e.pointer, e.code)).collect())
    }

    #[test]
    fn every_outcome() {
        for (members, report) in [
            (r#""outcome":"completed""#, "Completed { result: None }"),
            (r#""outcome":"completed","result":null"#, r#"Json(RawJson("null"))"#),
            (
                r#""outcome":"completed","result":1,"result_content_type":"application/json""#,
                "Json",
            ),
            (
                r#""outcome":"completed","result_location":"https://a/b","result_content_type":"a/b""#,
                "Elsewhere",
            ),
            (r#""outcome":"failed","error":{"type":"t","message":""}"#, "retryable: true"),
            (
                r#""outcome":"failed","error":{"type":"t","message":"m","details":[1],"stack":"s"},
                   "retryable":false,"retry_after_seconds":1.5"#,
                "retry_after: Some(1.5s)",
            ),
            (r#""outcome":"released","delay_seconds":2"#, "Released { delay: Some(2s) }"),
            (r#""outcome":"cancelled""#, "Cancelled"),
        ] {
            let (outcome, errors) = settle(members);
            assert!(errors.is_empty(), "{members}: {errors:?}");
            let shown = format!("{:?}", outcome.unwrap().report);
            assert!(shown.contains(report), "{members}: {shown}");
        }
    }

    #[test]
    fn wrong_members_refuse_the_request() {
        for (members, expected) in [
            (r#""outcome":"done""#, "/outcome pattern"),
            (r#""outcome":"done","result":1"#, "/outcome pattern"),
            (r#""outcome":"failed""#, "/error required"),
            (r#""outcome":"failed","error":{"type":"t"}"#, "/error/message required"),
            (r#""outcome":"failed","error":"text""#, "/error type"),
            (r#""outcome":"cancelled","result":1"#, "/result unknown"),
            (
                r#""outcome":"completed","result":1,"result_location":"https://a/b""#,
                "/result_location exclusive",
            ),
            (r#""outcome":"completed","result_location":"http://a/b""#, "/result_location format"),
            (
                r#""outcome":"completed","result":1,"result_content_type":"text/csv""#,
                "/result_content_type exclusive",
            ),
        ] {
            assert_eq!(settle(members).1, [expected], "{members}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_alone() {
        let large = format!(r#""outcome":"completed","result":"{}""#, "x".repeat(31));
        let (outcome, errors) = settle(&large);
        let problem = outcome.unwrap_err().wire(None);
        assert!(errors.is_empty());
        assert_eq!((problem.status, problem.max_bytes), (413, Some(32)));
        assert_eq!(problem.job_id.as_deref(), Some(ID));

        let long = "m".repeat(10_000);
        let error = format!(
            r#""outcome":"failed","error":{{"type":"t","message":"{long}","stack":"{long}"}}"#
        );
        let (outcome, errors) = settle(&error);
        assert!(errors.is_empty());
        assert_eq!(outcome.unwrap_err().wire(None).errors[0].pointer, "/error");
    }
}
