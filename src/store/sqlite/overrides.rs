//! The overrides of a queue: one JSON object in its row, `{"max_depth": {"value": 9, "by": "ann",
//! "at": 1790000000000}}`. Durations are milliseconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::names::Name;
use crate::domain::overrides::{OFF, Override, Overrides, QueueKey, Range, Setting};
use crate::domain::time::{Timestamp, millis};
use crate::store::{Changed, Overriding, QueueState, Result};

use super::names;
use super::rows::{fault, to_json};
use super::writer::Tx;

#[derive(Serialize, Deserialize)]
struct Row {
    value: Value,
    by: String,
    at: i64,
}

fn encoded(value: Setting) -> Value {
    match value {
        Setting::Off => OFF.into(),
        Setting::Span(span) => millis(span).into(),
        Setting::Count(n) => n.into(),
        Setting::Real(x) => x.into(),
        Setting::Switch(on) => on.into(),
    }
}

fn decoded(key: QueueKey, value: &Value) -> Option<Setting> {
    if value.as_str() == Some(OFF) {
        return Some(Setting::Off);
    }
    match key.range() {
        Range::Span { .. } => value.as_u64().map(Duration::from_millis).map(Setting::Span),
        Range::Count { .. } => value.as_u64().map(Setting::Count),
        Range::Real { .. } => value.as_f64().map(Setting::Real),
        Range::Switch => value.as_bool().map(Setting::Switch),
    }
}

/// What cannot be read is left out: the configuration holds there.
pub(super) fn read(queue: &Name, text: Option<&str>) -> Arc<Overrides> {
    let Some(text) = text else { return Arc::default() };
    let rows: BTreeMap<String, Row> = serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::warn!(%queue, %error, "the overrides of a queue cannot be read and do not count");
        BTreeMap::new()
    });
    let all = rows.into_iter().filter_map(|(name, row)| {
        let key = QueueKey::parse(&name)?;
        let value = decoded(key, &row.value)?;
        Some((key, Override { value, by: row.by, at: Timestamp::from_millis(row.at) }))
    });
    Arc::new(Overrides::restored(all))
}

fn written(overrides: &Overrides) -> Result<Option<String>> {
    if overrides.is_empty() {
        return Ok(None);
    }
    let row = |set: &Override| Row {
        value: encoded(set.value),
        by: set.by.clone(),
        at: set.at.as_millis(),
    };
    let rows: BTreeMap<&str, Row> =
        overrides.iter().map(|(key, set)| (key.name(), row(set))).collect();
    to_json(&rows).map(Some)
}

pub(super) fn change(tx: &mut Tx<'_>, change: &Overriding, now: Timestamp) -> Result<Changed> {
    tx.saw(now);
    let name = &change.configured.name;
    let known = tx.book.queues.id(name).and_then(|id| tx.book.state(id)).map(|q| q.revision);
    if !change.if_match.admits(known) {
        return Ok(Changed::OtherRevision);
    }
    if !names::has_room_for_queue(tx, name) {
        return Ok(Changed::TooManyNames);
    }
    let id = tx.book.queue_id(tx.conn, name, None, now)?;
    let before = tx.book.state(id).cloned().unwrap_or_else(|| QueueState::new(name.clone()));
    let overrides = before.overrides.changed(&change.changes, &change.by, now);
    let state = QueueState {
        max_running: overrides.max_running(change.configured.max_running),
        max_depth: overrides.max_depth(change.configured.max_depth),
        ..before.clone()
    };
    if overrides == *before.overrides {
        return Ok(Changed::Done(state));
    }
    let state =
        QueueState { revision: before.revision + 1, overrides: Arc::new(overrides), ..state };
    // What does not fit there is no limit.
    let depth = state.max_depth.map(|n| i64::try_from(n).unwrap_or(i64::MAX));
    tx.conn
        .prepare_cached(
            "UPDATE queues SET settings = ?2, settings_version = ?7, \
             settings_by = ?3, settings_at = ?4, max_running = ?5, max_depth = ?6 \
             WHERE queue_id = ?1",
        )
        .map_err(fault)?
        .execute((
            id,
            written(&state.overrides)?,
            &change.by,
            now.as_millis(),
            state.max_running,
            depth,
            i64::try_from(state.revision).unwrap_or(i64::MAX),
        ))
        .map_err(fault)?;
    tx.book.set_state(id, state.clone());
    Ok(Changed::Done(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_read_back() {
        let at = Timestamp::from_millis(7);
        let set = |value| Override { value, by: "ann".to_owned(), at };
        let all = Overrides::restored([
            (QueueKey::MaxDepth, set(Setting::Count(1_000_000_000_000))),
            (QueueKey::MaxRunning, set(Setting::Off)),
            (QueueKey::StartRate, set(Setting::Real(0.5))),
            (QueueKey::Lease, set(Setting::Span(Duration::from_millis(1_500)))),
            (QueueKey::RequireKey, set(Setting::Switch(true))),
        ]);
        let text = written(&all).unwrap().unwrap();
        assert_eq!(*read(&Name::trusted("q"), Some(&text)), all, "{text}");
        assert_eq!(written(&Overrides::default()).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_read_does_not_count() {
        let queue = Name::trusted("q");
        for text in [
            "nonsense",
            r#"{"unknown":{"value":1,"by":"a","at":1}}"#,
            r#"{"max_depth":{"value":"many","by":"a","at":1}}"#,
            r#"{"max_depth":{"value":0,"by":"a","at":1}}"#,
        ] {
            assert!(read(&queue, Some(text)).is_empty(), "{text}");
        }
    }
}
