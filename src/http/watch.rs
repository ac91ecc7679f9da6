//! Why is it not moving? The watchdog's verdicts with their evidence, and its episodes.

use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;

use super::Api;
use super::jobs::{Id, within};
use super::operators::Queue;
use super::problem::Problem;
use super::query::{KIND_RULE, MOMENT, Query, client_kind};
use super::{limits, respond};
use crate::domain::id::JobId;
use crate::domain::names::{NAME_RULE, Name};
use crate::domain::time::Timestamp;
use crate::domain::watch::{self, Rate, Verdict};
use crate::engine::{
    Caller, EPISODES_SHOWN, Episode, EpisodeFilter, JobExplanation, KindExplanation,
    QueueExplanation,
};
use crate::wire;

/// `GET /v1/queues/{q}/explain`.
pub(super) async fn explain_queue(
    State(api): State<Api>,
    Queue(name): Queue,
    request: Request,
) -> Result<Response, Problem> {
    let caller = api.caller(request.extensions())?;
    caller.may_use_queue(&api, &name)?;
    let mut explanation = api.engine().explain_queue(&name).await?;
    if caller.kinds().is_some() {
        explanation.kinds.retain(|of| caller.sees(&name, &of.kind));
        explanation.verdict = explanation.kinds.iter().filter_map(|of| of.verdict).min();
    }
    for of in &mut explanation.kinds {
        leave_out_others(&api, &caller, &mut of.oldest_jobs, &mut of.evidence);
    }
    let size = 256 + explanation.kinds.len() * 1_536;
    Ok(respond::json_sized(StatusCode::OK, &queue(explanation), size))
}

/// `GET /v1/jobs/{id}/explain`.
pub(super) async fn explain_job(
    State(api): State<Api>,
    Id(id): Id,
    request: Request,
) -> Result<Response, Problem> {
    let caller = api.caller(request.extensions())?;
    within(&api, &caller, id).await?;
    let explanation = api.engine().explain_job(&caller, id).await?;
    Ok(respond::json(StatusCode::OK, &job(explanation)))
}

#[derive(Debug)]
struct Asked {
    filter: EpisodeFilter,
    open: Option<bool>,
    limit: u32,
}

fn asked(uri: &Uri) -> Result<Asked, Problem> {
    let mut query = Query::read(uri)?;
    let filter = EpisodeFilter {
        queue: query.value("queue", NAME_RULE, Name::parse)?,
        kind: query.value("kind", KIND_RULE, client_kind)?,
        ended_after: query.value("since", MOMENT, Timestamp::parse_rfc3339)?,
    };
    let open = query.value("open", "true or false", |text| text.parse().ok())?;
    let limit = query.value("limit", &format!("1 to {EPISODES_SHOWN}"), |text| {
        text.parse().ok().filter(|n| (1..=EPISODES_SHOWN).contains(n))
    })?;
    query.finish()?;
    Ok(Asked { filter, open, limit: limit.unwrap_or(limits::LIST_DEFAULT) })
}

/// `GET /v1/episodes`.
pub(super) async fn episodes(
    State(api): State<Api>,
    request: Request,
) -> Result<Response, Problem> {
    let caller = api.caller(request.extensions())?;
    let Asked { filter, open, limit } = asked(request.uri())?;
    let episodes = api.engine().episodes(filter, open, limit).await?;
    let episodes = episodes.into_iter().filter(|e| caller.sees(&e.queue, &e.kind));
    let episodes = episodes.map(|mut of| {
        leave_out_others(&api, &caller, &mut of.oldest_jobs, &mut of.evidence);
        episode(of)
    });
    let episodes: Vec<wire::Episode> = episodes.collect();
    let size = 64 + episodes.len() * 1_536;
    Ok(respond::json_sized(StatusCode::OK, &wire::EpisodeList { episodes }, size))
}

/// Queues are common to all namespaces; what is told of single jobs is for those who may see them.
/// The error and the trace are the oldest job's.
fn leave_out_others(
    api: &Api,
    caller: &Caller,
    oldest: &mut Vec<JobId>,
    evidence: &mut watch::Evidence,
) {
    let own = oldest.first().is_some_and(|id| api.engine().may_hold(caller, *id));
    if !caller.all_namespaces && !own {
        (evidence.last_error, evidence.trace_id) = (None, None);
    }
    oldest.retain(|id| api.engine().may_hold(caller, *id));
}

fn queue(explanation: QueueExplanation) -> wire::QueueExplanation {
    wire::QueueExplanation {
        queue: explanation.queue.as_str().to_owned(),
        verdict: verdict(explanation.verdict),
        sampled_at: explanation.sampled_at.to_rfc3339(),
        age_seconds: explanation.age.as_secs_f64(),
        kinds: explanation.kinds.into_iter().map(kind).collect(),
    }
}

fn kind(explanation: KindExplanation) -> wire::KindExplanation {
    wire::KindExplanation {
        kind: explanation.kind.as_str().to_owned(),
        verdict: verdict(explanation.verdict),
        since: explanation.since.map(Timestamp::to_rfc3339),
        stuck: explanation.stuck,
        oldest_jobs: ids(&explanation.oldest_jobs),
        evidence: evidence(explanation.evidence),
        next_step: explanation.next_step,
    }
}

fn job(explanation: JobExplanation) -> wire::JobExplanation {
    wire::JobExplanation {
        job_id: explanation.id.to_string(),
        queue: explanation.queue.as_str().to_owned(),
        kind: explanation.kind.as_str().to_owned(),
        status: explanation.status.as_str().to_owned(),
        stuck: explanation.stuck,
        verdict: explanation.verdict.to_owned(),
        since: explanation.since.map(Timestamp::to_rfc3339),
        evidence: explanation.evidence.map(evidence),
        next_step: explanation.next_step,
    }
}

fn episode(episode: Episode) -> wire::Episode {
    let Episode { queue, kind, verdict, .. } = &episode;
    let next_step = episode
        .ended_at
        .is_none()
        .then(|| watch::next_step(*verdict, queue.as_str(), kind.as_str(), &episode.evidence));
    wire::Episode {
        queue: queue.as_str().to_owned(),
        kind: kind.as_str().to_owned(),
        verdict: verdict.as_str().to_owned(),
        since: episode.since.to_rfc3339(),
        ended_at: episode.ended_at.map(Timestamp::to_rfc3339),
        stuck: episode.jobs,
        peak_stuck: episode.peak_jobs,
        oldest_jobs: ids(&episode.oldest_jobs),
        evidence: evidence(episode.evidence),
        next_step,
    }
}

fn verdict(verdict: Option<Verdict>) -> String {
    verdict.map_or(wire::FLOWING, Verdict::as_str).to_owned()
}

fn ids(ids: &[JobId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn evidence(evidence: watch::Evidence) -> wire::Evidence {
    let seconds = |ms: u64| ms as f64 / 1_000.0;
    let moment = |at: Option<Timestamp>| at.map(Timestamp::to_rfc3339);
    wire::Evidence {
        at: evidence.at.to_rfc3339(),
        eligible: evidence.eligible,
        running: evidence.running,
        oldest_age_seconds: evidence.oldest_age().map(|age| age.as_secs_f64()),
        stuck_after_seconds: evidence.stuck_after_ms.map(seconds),
        paused_at: moment(evidence.paused_at),
        queue_running: evidence.queue_running,
        max_running: evidence.max_running,
        start_rate_limit_per_second: evidence.start_rate_limit.map(Rate::as_per_second),
        last_rate_limited: moment(evidence.last_rate_limited),
        workers: evidence.workers,
        workers_present: evidence.workers_present,
        slots: evidence.slots,
        leases: evidence.leases,
        parked_claims: evidence.parked_claims,
        last_seen: moment(evidence.last_seen),
        last_empty_claim: moment(evidence.last_empty_claim),
        last_start: moment(evidence.last_start),
        oldest_priority: evidence.oldest_priority,
        last_higher_start: moment(evidence.last_higher_start),
        last_level_start: moment(evidence.last_level_start),
        last_settlement: moment(evidence.last_settlement),
        start_rate_per_second: evidence.start_rate.map(Rate::as_per_second),
        run_limit_seconds: seconds(evidence.run_limit_ms),
        store_degraded: evidence.store_degraded,
        last_error: evidence.last_error,
        trace_id: evidence.trace_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(query: &str) -> Result<Asked, Problem> {
        asked(&format!("/v1/episodes?{query}").parse().unwrap())
    }

    #[test]
    fn what_may_be_asked_of_episodes() {
        let all = ask("queue=q&kind=a.b&open=false&since=2030-01-01T00:00:00Z&limit=1000").unwrap();
        assert_eq!(all.filter.queue.as_ref().map(Name::as_str), Some("q"));
        assert_eq!(all.filter.kind.as_ref().map(Name::as_str), Some("a.b"));
        assert_eq!(all.filter.ended_after, Timestamp::parse_rfc3339("2030-01-01T00:00:00Z"));
        assert_eq!((all.open, all.limit), (Some(false), 1_000));
        let none = ask("").unwrap();
        assert!(none.open.is_none() && none.filter.queue.is_none() && none.limit == 100);
        for bad in
            ["open=yes", "open=", "limit=0", "limit=1001", "since=1h", "queue=Q", "verdict=x"]
        {
            let problem = ask(bad).unwrap_err();
            assert_eq!(problem.code().slug(), "invalid-query");
            let name = bad.split('=').next().unwrap();
            assert!(problem.detail().contains(name), "{}", problem.detail());
        }
    }

    #[test]
    fn evidence_is_told_in_seconds_and_moments() {
        let at = |s: i64| Timestamp::from_millis(1_790_000_000_000 + s * 1_000);
        let shown = evidence(watch::Evidence {
            at: at(90),
            oldest_since: Some(at(0)),
            stuck_after_ms: Some(1_500),
            last_start: Some(at(60)),
            start_rate: Some(Rate::per_second(0.25)),
            run_limit_ms: 2_500,
            ..watch::Evidence::default()
        });
        assert_eq!(shown.oldest_age_seconds, Some(90.0));
        assert_eq!((shown.stuck_after_seconds, shown.run_limit_seconds), (Some(1.5), 2.5));
        assert_eq!(shown.last_start, Some(at(60).to_rfc3339()));
        assert_eq!((shown.last_seen, shown.start_rate_per_second), (None, Some(0.25)));
    }
}
