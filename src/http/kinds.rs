//! What was learnt of each kind of job: it answers from memory, so also while the store is down.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::problem::Problem;
use super::{Api, respond};
use crate::domain::estimate::{KindRecord, Spread};
use crate::wire;

/// `GET /v1/kinds`.
pub(super) async fn kinds(State(api): State<Api>, request: Request) -> Result<Response, Problem> {
    let caller = api.caller(request.extensions())?;
    let lists = caller.lists();
    let mut kinds = api.engine().kinds(lists.queues.as_deref()).await;
    kinds.retain(|of| lists.allows_kind(&of.kind));
    let kinds = kinds.iter().map(kind).collect();
    Ok(respond::json(StatusCode::OK, &wire::KindList { kinds }))
}

fn kind(record: &KindRecord) -> wire::Kind {
    wire::Kind {
        kind: record.kind.to_string(),
        samples: record.run.samples,
        run_seconds: spread(record.run),
        wait_seconds: spread(record.wait),
        completed: record.completed,
        failed: record.failed,
        failure_ratio: record.failure_ratio(),
        retry_after: wire::Calibration {
            ended_early: record.early.samples,
            early_seconds: spread(record.early),
            ended_late: record.late.samples,
            late_seconds: spread(record.late),
        },
    }
}

fn spread(spread: Spread) -> Option<wire::Spread> {
    let [p50, p90, p99] = spread.quantiles?.map(|d| d.as_secs_f64());
    Some(wire::Spread { p50, p90, p99 })
}
