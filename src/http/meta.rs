//! `GET /v1/meta`: every promise in numbers.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::serve::{HEAD_BYTES, HEAD_LINES};
use super::{Api, limits, respond};
use crate::domain::names::{NAME_PATTERN, WorkerId};
use crate::engine::{MAX_CLAIM, MAX_NAMES, MAX_WAIT, TIMELINE_EVENTS, WORKERS_SHOWN};
use crate::wire;

pub(super) async fn meta(State(api): State<Api>) -> Response {
    let settings = api.settings();
    // No queue is called so: what queues without keys of their own get.
    let defaults = api.engine().defaults("");
    let meta = wire::Meta {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store: api.engine().store_backend().to_owned(),
        durability: settings.durability.to_owned(),
        sync_window_seconds: defaults.sync_window.as_secs_f64(),
        idempotency: wire::MetaIdempotency {
            key_lifetime_seconds: settings.idempotency_ttl.as_secs_f64(),
        },
        retention_seconds: wire::MetaRetention {
            completed: defaults.retention.completed.as_secs_f64(),
            failed: defaults.retention.failed.as_secs_f64(),
            cancelled: defaults.retention.cancelled.as_secs_f64(),
        },
        limits: shown(&api),
    };
    respond::json(StatusCode::OK, &meta)
}

fn shown(api: &Api) -> wire::MetaLimits {
    let settings = api.settings();
    let defaults = api.engine().defaults("");
    let count = |n: usize| n as u64;
    wire::MetaLimits {
        request_head_bytes: count(HEAD_BYTES),
        request_head_lines: count(HEAD_LINES),
        request_head_seconds: settings.header_timeout.as_secs_f64(),
        request_body_bytes: count(limits::BODY_BYTES),
        request_body_seconds: settings.body_timeout.as_secs_f64(),
        large_bodies_bytes: count(limits::LARGE_BODIES_BYTES),
        small_body_bytes: count(limits::SMALL_BODY_BYTES),
        answer_seconds: settings.body_timeout.as_secs_f64(),
        request_id_bytes: count(limits::REQUEST_ID_BYTES),
        errors_shown: count(limits::ERRORS_SHOWN),
        payload_bytes: count(settings.max_payload_bytes),
        inline_result_bytes: count(settings.inline_result_bytes),
        result_bytes: count(settings.max_result_bytes),
        result_location_bytes: count(limits::URL_BYTES),
        result_content_type_bytes: count(limits::MEDIA_TYPE_BYTES),
        error_bytes: count(limits::ERROR_BYTES),
        error_type_bytes: count(limits::TAG_BYTES),
        checkpoint_bytes: count(limits::CHECKPOINT_BYTES),
        progress_message_bytes: count(limits::PROGRESS_MESSAGE_BYTES),
        metadata_bytes: count(limits::METADATA_BYTES),
        tags: count(limits::TAGS),
        tag_bytes: count(limits::TAG_BYTES),
        json_depth: count(limits::JSON_DEPTH),
        name_pattern: NAME_PATTERN.to_owned(),
        names: count(MAX_NAMES),
        priority_min: *limits::PRIORITY.start(),
        priority_max: *limits::PRIORITY.end(),
        max_attempts_default: u64::from(defaults.max_attempts),
        max_attempts: *limits::MAX_ATTEMPTS.end() as u64,
        timeout_seconds_default: defaults.timeout.as_secs_f64(),
        timeout_seconds: limits::WEEK.as_secs_f64(),
        backoff_seconds: limits::WEEK.as_secs_f64(),
        backoff_multiplier_min: *limits::MULTIPLIER.start(),
        backoff_multiplier_max: *limits::MULTIPLIER.end(),
        expected_duration_seconds: limits::WEEK.as_secs_f64(),
        run_at_ahead_seconds: limits::RUN_AT_AHEAD.as_secs_f64(),
        retention_seconds: limits::RETENTION.as_secs_f64(),
        batch_items: count(limits::BATCH_ITEMS),
        list_items: u64::from(*limits::LIST.end()),
        list_items_default: u64::from(limits::LIST_DEFAULT),
        timeline_events: count(TIMELINE_EVENTS),
        workers_shown: count(WORKERS_SHOWN),
        wait_seconds: MAX_WAIT.as_secs_f64(),
        claim_jobs: count(MAX_CLAIM),
        claim_bytes: count(limits::CLAIM_BYTES),
        claim_names: count(limits::CLAIM_NAMES),
        concurrency: u64::from(*limits::CONCURRENCY.end()),
        lease_seconds_min: limits::LEASE.start().as_secs_f64(),
        lease_seconds_default: defaults.lease.as_secs_f64(),
        lease_seconds: limits::LEASE.end().as_secs_f64(),
        worker_id_bytes: count(WorkerId::MAX_BYTES),
        reason_bytes: count(limits::TEXT_BYTES),
        idempotency_key_bytes: count(limits::IDEMPOTENCY_KEY_BYTES),
    }
}

#[cfg(test)]
mod tests {
    /// Every constant is shown, so that a new one is not forgotten.
    #[test]
    fn every_limit_is_shown() {
        let shown = include_str!("meta.rs");
        let names: Vec<&str> = include_str!("limits.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("pub(super) const ")?.split(':').next())
            .collect();
        assert!(names.len() > 20, "{names:?}");
        for name in names {
            let path = format!("limits::{name}");
            let mut after =
                shown.split(path.as_str()).skip(1).filter_map(|rest| rest.chars().next());
            let whole = after.any(|c| !(c.is_ascii_alphanumeric() || c == '_'));
            assert!(whole, "{name} is not in /v1/meta");
        }
    }
}
