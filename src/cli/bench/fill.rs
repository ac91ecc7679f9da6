//! Fills a queue before something else is measured: in batches, from a few connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::connection::{Call, Connection, Target, json};
use super::delivery::{self, Id};
use super::load::{self, Load};
use crate::cli::Failure;
use crate::domain::job::RawJson;
use crate::wire;

/// The most that the API takes in one batch.
const BATCH: u64 = 1_000;
const CONNECTIONS: usize = 4;
/// Connections when jobs can only be submitted one by one.
const SINGLE_CONNECTIONS: usize = 128;

/// What to submit.
#[derive(Debug, Clone)]
pub(crate) struct Fill {
    pub(crate) queue: String,
    pub(crate) count: u64,
    pub(crate) payload_bytes: usize,
    /// When to give up.
    pub(crate) until: Instant,
}

/// The submission that every scenario sends: a payload of about so many bytes.
pub(crate) fn submission(queue: &str, payload_bytes: usize) -> wire::Submit {
    let empty = r#"{"data":""}"#.len();
    let data = "x".repeat(payload_bytes.saturating_sub(empty));
    wire::Submit {
        kind: "bench".to_owned(),
        queue: Some(queue.to_owned()),
        payload: Some(RawJson::trusted(format!(r#"{{"data":"{data}"}}"#))),
        ..wire::Submit::default()
    }
}

/// A call that submits one job and does not wait for it.
pub(crate) fn submit(target: &Target, queue: &str, payload_bytes: usize) -> Result<Call, Failure> {
    let body = written(&submission(queue, payload_bytes))?;
    Ok(Call::post(target, "/v1/jobs", body)?.respond_async())
}

fn written(value: &impl Serialize) -> Result<Bytes, Failure> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|e| Failure::no(format!("a request cannot be written: {e}; report this")))
}

#[derive(Serialize)]
struct Batch<'a> {
    jobs: Vec<&'a wire::Submit>,
}

#[derive(Deserialize)]
struct Accepted<'a> {
    #[serde(borrow)]
    jobs: Vec<AcceptedJob<'a>>,
}

#[derive(Deserialize)]
struct AcceptedJob<'a> {
    job_id: &'a str,
}

/// Submits them all and says what was accepted. `progress` counts as it goes on.
pub(crate) async fn run(
    target: &Arc<Target>,
    fill: &Fill,
    progress: &Arc<AtomicU64>,
) -> Result<Vec<Id>, Failure> {
    if !takes_batches(target).await? {
        return one_by_one(target, fill).await;
    }
    let left = Arc::new(AtomicU64::new(fill.count));
    let job = submission(&fill.queue, fill.payload_bytes);
    let mut tasks = JoinSet::new();
    for mut connection in Connection::open_many(target, CONNECTIONS).await? {
        let (left, progress, target) =
            (Arc::clone(&left), Arc::clone(progress), Arc::clone(target));
        let (job, until) = (job.clone(), fill.until);
        tasks.spawn(async move {
            let mut ids = Vec::new();
            let mut call: Option<(u64, Call)> = None;
            while super::measure::now() < until {
                let size = take(&left);
                if size == 0 {
                    break;
                }
                let ready = match call.take() {
                    Some((of, call)) if of == size => call,
                    Some(_) | None => {
                        let batch = Batch { jobs: vec![&job; size as usize] };
                        Call::post(&target, "/v1/jobs/batch", written(&batch)?)?
                    }
                };
                let answer = connection.exchange(ready.request()).await?;
                if answer.status != StatusCode::ACCEPTED {
                    return Err(answer.unexpected());
                }
                let accepted: Accepted<'_> = json(&answer.body)?;
                let before = ids.len();
                ids.extend(accepted.jobs.iter().filter_map(|job| delivery::id(job.job_id)));
                progress.fetch_add((ids.len() - before) as u64, Ordering::Relaxed);
                call = Some((size, ready));
            }
            Ok(ids)
        });
    }
    let mut all = Vec::new();
    while let Some(task) = tasks.join_next().await {
        let ids: Result<Vec<Id>, Failure> =
            task.map_err(|e| Failure::no(format!("a connection's task ended: {e}")))?;
        all.append(&mut ids?);
    }
    complete(all, fill)
}

/// Takes the next batch's size out of what is left.
fn take(left: &AtomicU64) -> u64 {
    let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        (left > 0).then(|| left.saturating_sub(BATCH))
    });
    taken.map_or(0, |before| before.min(BATCH))
}

/// An empty batch is wrong where batches are known, and nothing at all where they are not.
async fn takes_batches(target: &Arc<Target>) -> Result<bool, Failure> {
    let probe = Call::post(target, "/v1/jobs/batch", Bytes::from_static(b"{}"))?;
    let answer = Connection::open(target).await?.exchange(probe.request()).await?;
    Ok(!matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED))
}

async fn one_by_one(target: &Arc<Target>, fill: &Fill) -> Result<Vec<Id>, Failure> {
    let connections = Connection::open_many(target, SINGLE_CONNECTIONS).await?;
    let call = submit(target, &fill.queue, fill.payload_bytes)?;
    let load = Load::new(call, StatusCode::ACCEPTED, true);
    let loaded = load::closed(connections, &load, fill.until, fill.count).await?;
    complete(loaded.ids, fill)
}

fn complete(ids: Vec<Id>, fill: &Fill) -> Result<Vec<Id>, Failure> {
    if ids.len() as u64 == fill.count {
        return Ok(ids);
    }
    Err(Failure::no(format!(
        "only {} of {} jobs could be submitted in time; ask for fewer",
        ids.len(),
        fill.count
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_the_size_asked_for() {
        for (asked, got) in [(0, 11), (11, 11), (100, 100)] {
            let payload = submission("q", asked).payload.unwrap();
            assert_eq!(payload.len(), got);
            serde_json::from_str::<serde_json::Value>(payload.as_str()).unwrap();
        }
    }

    #[test]
    fn batches_add_up() {
        let left = AtomicU64::new(2_500);
        let sizes: Vec<u64> = std::iter::from_fn(|| Some(take(&left)).filter(|n| *n > 0)).collect();
        assert_eq!(sizes, [1_000, 1_000, 500]);
    }
}
