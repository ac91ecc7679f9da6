//! Accepting jobs: keys first, then the room that there is, then everything in one commit.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension};

use crate::domain::id::JobId;
use crate::domain::job::Tally;
use crate::domain::names::Name;
use crate::domain::time::{Timestamp, millis};
use crate::store::{Depth, Found, IdempotencyKey, NewJob, Result, StoreError, Submitted};

use super::rows::{fault, job_id, policy_text, to_json};
use super::writer::Tx;
use super::{names, reads};

/// Keys of this route share one space, also a batch's.
const ROUTE_JOBS: i64 = 1;

enum KeyUse {
    Fresh,
    Same(JobId),
    Other(JobId),
    /// An earlier job of the batch has it, with another body.
    Twice(usize),
}

pub(super) fn submit(tx: &mut Tx<'_>, jobs: &[NewJob], now: Timestamp) -> Result<Vec<Submitted>> {
    tx.saw(now);
    let mut answers = Vec::with_capacity(jobs.len());
    let mut in_batch: HashMap<(&Name, &str), (&[u8; 32], JobId, usize)> = HashMap::new();
    let mut replay_later = Vec::new();
    let mut refused = false;
    for (at, new) in jobs.iter().enumerate() {
        let Some(key) = &new.key else {
            answers.push(Submitted::Created);
            continue;
        };
        let name = (&new.spec.namespace, key.key.as_str());
        let found = match in_batch.get(&name) {
            Some((fingerprint, id, _)) if **fingerprint == key.fingerprint => {
                replay_later.push((at, *id));
                answers.push(Submitted::Created);
                continue;
            }
            Some((.., first)) => KeyUse::Twice(*first),
            None => look_up(tx, &new.spec.namespace, key)?,
        };
        answers.push(match found {
            KeyUse::Fresh => {
                in_batch.insert(name, (&key.fingerprint, new.spec.id, at));
                Submitted::Created
            }
            KeyUse::Same(id) => match reads::get(tx.conn, tx.line, id, false)? {
                Found::Here(record) => Submitted::Replayed(Box::new(record)),
                Found::Absent(_) => {
                    refused = true;
                    Submitted::ReplayedGone(id)
                }
            },
            KeyUse::Other(id) => {
                refused = true;
                Submitted::KeyReused(id)
            }
            KeyUse::Twice(first) => {
                refused = true;
                Submitted::KeyTwice(first)
            }
        });
    }
    if refused {
        return Ok(answers);
    }
    // Before anything is written, and only if something would be: repetitions need no room.
    if let Some(why) = tx.low_space.as_ref().filter(|_| anything_created(&answers)) {
        return Err(StoreError::LowSpace(why.clone()));
    }
    let replayed: Vec<usize> = replay_later.iter().map(|(at, _)| *at).collect();
    if let Some((at, depth)) = too_deep(tx, jobs, &answers, &replayed) {
        answers[at] = Submitted::QueueFull(depth);
        return Ok(answers);
    }
    if let Some((at, full)) = names::too_many(tx, jobs, &answers, &replayed) {
        answers[at] = Submitted::TooManyNames(full);
        return Ok(answers);
    }
    for (at, new) in jobs.iter().enumerate() {
        if answers[at] == Submitted::Created && !replayed.contains(&at) {
            insert(tx, new, now)?;
        }
    }
    for (at, id) in replay_later {
        if let Found::Here(record) = reads::get(tx.conn, tx.line, id, false)? {
            answers[at] = Submitted::Replayed(Box::new(record));
        }
    }
    Ok(answers)
}

/// The first of the jobs to be created for which its queue has no room.
fn too_deep(
    tx: &Tx<'_>,
    jobs: &[NewJob],
    answers: &[Submitted],
    replayed: &[usize],
) -> Option<(usize, Depth)> {
    let mut coming: HashMap<&Name, u64> = HashMap::new();
    for (at, new) in jobs.iter().enumerate() {
        if answers[at] != Submitted::Created || replayed.contains(&at) {
            continue;
        }
        let Some(depth) = tx.book.depth(&new.spec.queue) else { continue };
        let before = coming.entry(&new.spec.queue).or_default();
        if depth.jobs + *before >= depth.max {
            return Some((at, depth));
        }
        *before += 1;
    }
    None
}

/// Whether the batch makes a job: it is not refused, and not all of it is a repetition.
pub(super) fn anything_created(answers: &[Submitted]) -> bool {
    crate::store::accepts(answers) && answers.contains(&Submitted::Created)
}

fn look_up(tx: &Tx<'_>, namespace: &Name, key: &IdempotencyKey) -> Result<KeyUse> {
    let Some(namespace) = tx.book.namespaces.id(namespace) else { return Ok(KeyUse::Fresh) };
    let found = tx
        .conn
        .prepare_cached(
            "SELECT fingerprint, job_id FROM idempotency_keys \
             WHERE namespace_id = ?1 AND route = ?2 AND key = ?3",
        )
        .and_then(|mut s| {
            s.query_row((namespace, ROUTE_JOBS, &key.key), |r| {
                Ok((r.get::<_, [u8; 32]>(0)?, job_id(r, 1)?))
            })
            .optional()
        })
        .map_err(fault)?;
    Ok(match found {
        None => KeyUse::Fresh,
        Some((fingerprint, id)) if fingerprint == key.fingerprint => KeyUse::Same(id),
        Some((_, id)) => KeyUse::Other(id),
    })
}

/// Whether a submission of the namespace has made the key known.
pub(super) fn knows_key(conn: &Connection, namespace: &Name, key: &str) -> Result<bool> {
    conn.prepare_cached(
        "SELECT 1 FROM idempotency_keys k JOIN namespaces n USING (namespace_id) \
         WHERE n.name = ?1 AND k.route = ?2 AND k.key = ?3",
    )
    .and_then(|mut s| s.exists((namespace.as_str(), ROUTE_JOBS, key)))
    .map_err(fault)
}

pub(super) fn insert(tx: &mut Tx<'_>, new: &NewJob, now: Timestamp) -> Result<()> {
    let (spec, job) = (&new.spec, &new.job);
    let namespace = tx.book.namespace_id(tx.conn, &spec.namespace)?;
    let queue = tx.book.queue_id(tx.conn, &spec.queue, Some(namespace), now)?;
    let kind = tx.book.kind_id(tx.conn, &spec.kind, Some(namespace))?;
    let tags = if spec.tags.is_empty() { None } else { Some(to_json(&spec.tags)?) };
    tx.conn
        .prepare_cached(
            "INSERT INTO job_specs (job_id, namespace_id, queue_id, kind_id, priority, \
             root_job_id, retry_of, expected_duration_ms, idempotency_key, traceparent, \
             tracestate, tags, metadata, payload) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )
        .and_then(|mut s| {
            s.execute((
                spec.id.as_bytes(),
                namespace,
                queue,
                kind,
                spec.priority,
                (spec.root != spec.id).then(|| *spec.root.as_bytes()),
                spec.retry_of.map(|id| *id.as_bytes()),
                spec.expected_duration.map(millis),
                new.key.as_ref().map(|k| &k.key),
                &spec.traceparent,
                &spec.tracestate,
                tags,
                spec.metadata.as_ref().map(crate::domain::job::RawJson::as_str),
                spec.payload.as_ref().map(crate::domain::job::RawJson::as_str),
            ))
        })
        .map_err(fault)?;
    let row = tx.conn.last_insert_rowid();
    let sequence = tx.book.take_sequence();
    let tally = Tally::of(&job.phase);
    let policy = policy_text(&job.policy)?;
    tx.conn
        .prepare_cached(
            "INSERT INTO live_jobs (job_row, queue_id, kind_id, tally, priority, sequence, \
             eligible_at, attempt, max_attempts, fence, version, created_at, updated_at, \
             start_by, policy, namespace_id) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        )
        .and_then(|mut s| {
            s.execute((
                row,
                queue,
                kind,
                tally.code(),
                spec.priority,
                sequence,
                job.eligible_at.as_millis(),
                job.attempt,
                job.max_attempts,
                job.fence as i64,
                job.version as i64,
                job.created_at.as_millis(),
                job.updated_at.as_millis(),
                job.start_by.map(Timestamp::as_millis),
                policy,
                namespace,
            ))
        })
        .map_err(fault)?;
    if let Some(key) = &new.key {
        tx.conn
            .prepare_cached(
                "INSERT INTO idempotency_keys (namespace_id, route, key, fingerprint, job_id, \
                 created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )
            .and_then(|mut s| {
                s.execute((
                    namespace,
                    ROUTE_JOBS,
                    &key.key,
                    key.fingerprint,
                    spec.id.as_bytes(),
                    now.as_millis(),
                ))
            })
            .map_err(fault)?;
    }
    tx.count(queue, kind, None, Some(tally));
    let place = (tally == Tally::Queued).then_some(sequence);
    tx.stands((queue, spec.priority), None, place);
    tx.waits((queue, kind), None, Some(job.eligible_at));
    Ok(())
}
