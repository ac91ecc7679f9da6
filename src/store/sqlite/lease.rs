//! Leases: claims, heartbeats, settlements, and giving back what nobody received.

use std::collections::{BTreeSet, HashSet};
use std::sync::LazyLock;

use crate::domain::access::Lists;
use crate::domain::id::JobId;
use crate::domain::job::Spec;
use crate::domain::names::{Name, WorkerId};
use crate::domain::state::Event;
use crate::domain::time::Timestamp;
use crate::store::{
    Beat, ClaimRequest, Claimed, Leased, Outcome, Result, ResultValue, Ruling, Settle, Stamp,
    Transition,
};

use super::change::{fire, fire_live, load_live};
use super::rows::{
    LIVE_COLUMNS, LIVE_WIDTH, Live, SPEC_COLUMNS, SPEC_JOINS, SPEC_WIDTH, fault, job_id, live,
    raw_json, readable, spec,
};
use super::writer::Tx;

/// Missed starts that one claim fails on its way; the reaper does the rest.
const MISSED_LIMIT: usize = 500;

pub(super) fn claim(tx: &mut Tx<'_>, request: &ClaimRequest, now: Timestamp) -> Result<Claimed> {
    tx.saw(now);
    let mut claimed = Claimed::default();
    if let Some(held) = &request.held {
        claimed.withdrawn = repair(tx, request, held, now)?;
    }
    let mut bytes = 0;
    let mut tokens = request.tokens.iter();
    'queues: for (at, queue_name) in request.queues.iter().enumerate() {
        let Some(queue) = tx.book.queues.id(queue_name) else {
            claimed.paused.push(false);
            claimed.limited.push(false);
            continue;
        };
        let state = tx.book.state(queue);
        let paused = state.is_some_and(|s| s.paused_at.is_some());
        let resumed_at = state.and_then(|s| s.resumed_at);
        claimed.paused.push(paused);
        let mut room = if paused { 0 } else { tx.book.room(queue) };
        let wanted = room.min(tokens.len());
        let pace = request.pace.as_ref().filter(|_| wanted > 0);
        let mut starts = pace.map(|pace| pace.starts(queue_name, wanted));
        room = starts.as_ref().map_or(room, |starts| room.min(starts.left()));
        claimed.limited.push(!paused && room == 0);
        if room == 0 {
            continue;
        }
        let length = request.lease.or_else(|| request.default_leases.get(at).copied());
        let length = length.unwrap_or(std::time::Duration::from_secs(30));
        let lanes = lanes(tx, queue, request);
        while tokens.len() > 0
            && room > 0
            && claimed.missed.len() < MISSED_LIMIT
            && (claimed.jobs.is_empty() || bytes < request.max_bytes)
        {
            let bytes_left = request.max_bytes.saturating_sub(bytes);
            let found = candidates(tx, &lanes, tokens.len().min(room), bytes_left)?;
            if found.is_empty() {
                break;
            }
            for Candidate { before, spec, checkpoint } in found {
                let Some(token) = tokens.as_slice().first().filter(|_| room > 0) else { break };
                let size = spec.payload.as_ref().map_or(0, crate::domain::job::RawJson::len);
                if !claimed.jobs.is_empty() && bytes + size > request.max_bytes {
                    return finish_claim(tx, request, claimed);
                }
                let eligible_at = before.job.eligible_at;
                let eligible_since = resumed_at.map_or(eligible_at, |r| r.max(eligible_at));
                let stamped = |stamp: &Stamp| stamp.of(&spec, &before.job, eligible_since);
                let event = Event::Claim {
                    worker: request.worker.clone(),
                    token: token.hash(),
                    lease: length,
                    trace: request.stamp.as_ref().and_then(stamped).map(Box::new),
                };
                // A job that was accepted after this claim's `now` was read is eligible all the same.
                let now = now.max(eligible_at);
                match fire_live(tx, &before, &event, now)? {
                    Ok(t) => {
                        bytes += size;
                        claimed.jobs.push(Leased {
                            spec,
                            job: t.job,
                            token: token.clone(),
                            checkpoint,
                            eligible_since,
                        });
                        tokens.next();
                        room -= 1;
                        if let Some(starts) = &mut starts {
                            starts.spend();
                        }
                    }
                    // Too late for its first start: it fails here, and does not block the rest.
                    Err(_) => match fire_live(tx, &before, &Event::MissStart, now)? {
                        Ok(missed) => claimed.missed.push(missed),
                        Err(_) => continue 'queues,
                    },
                }
            }
        }
    }
    finish_claim(tx, request, claimed)
}

fn finish_claim(tx: &Tx<'_>, request: &ClaimRequest, mut claimed: Claimed) -> Result<Claimed> {
    claimed.paused.resize(request.queues.len(), false);
    claimed.limited.resize(request.queues.len(), false);
    claimed.cancel = tx
        .conn
        .prepare_cached(CANCELS)
        .and_then(|mut s| {
            let scope = tx.book.scope(request.namespace.as_ref());
            s.query_map((request.worker.as_str(), scope), |r| job_id(r, 0))?.collect()
        })
        .map_err(fault)?;
    Ok(claimed)
}

/// What the worker's claims carry, by an index that holds no other leases.
const CANCELS: &str = "SELECT s.job_id FROM live_jobs l INDEXED BY live_cancel \
     CROSS JOIN job_specs s ON s.job_row = l.job_row \
     WHERE l.tally = 3 AND l.cancel IS NOT NULL AND l.lease_worker = ?1 \
     AND (?2 IS NULL OR l.namespace_id = ?2)";

struct Candidate {
    before: Live,
    spec: Spec,
    checkpoint: Option<crate::domain::job::RawJson>,
}

impl Candidate {
    const fn place(&self) -> Place {
        place(&self.before)
    }
}

const fn place(job: &Live) -> Place {
    (std::cmp::Reverse(job.priority), job.sequence)
}

static ANY_KIND: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {LIVE_COLUMNS}, {SPEC_COLUMNS}, s.payload, l.checkpoint \
         FROM live_jobs l INDEXED BY live_ready CROSS JOIN job_specs s USING (job_row) \
         {SPEC_JOINS} WHERE l.tally = 0 AND l.queue_id = ?1 AND l.namespace_id = ?2 \
         ORDER BY l.priority DESC, l.sequence"
    )
});

static ONE_KIND: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {LIVE_COLUMNS}, {SPEC_COLUMNS}, s.payload, l.checkpoint \
         FROM live_jobs l INDEXED BY live_ready_kind CROSS JOIN job_specs s USING (job_row) \
         {SPEC_JOINS} WHERE l.tally = 0 AND l.queue_id = ?1 AND l.namespace_id = ?2 \
         AND l.kind_id = ?3 \
         ORDER BY l.priority DESC, l.sequence"
    )
});

/// Where a claim looks in one queue: the jobs of one namespace and kind (`None`: any kind) in the
/// order in which they are to be claimed, as an index has them.
#[derive(Debug, Clone, Copy)]
struct Lane {
    queue: i64,
    namespace: i64,
    kind: Option<i64>,
}

/// A place in line.
type Place = (std::cmp::Reverse<i32>, i64);

/// The lines from which the claim may take. Namespaces and kinds are each as many as there are
/// names for them, and of each line no more is read than can be leased: what other namespaces have
/// waiting costs a claim nothing.
fn lanes(tx: &Tx<'_>, queue: i64, request: &ClaimRequest) -> Vec<Lane> {
    let namespaces: Vec<i64> = match tx.book.scope(request.namespace.as_ref()) {
        Some(one) => vec![one],
        None => tx.book.namespaces.ids().collect(),
    };
    let kinds: Vec<Option<i64>> = if request.kinds.is_empty() {
        vec![None]
    } else {
        let known: BTreeSet<i64> =
            request.kinds.iter().filter_map(|k| tx.book.kinds.id(k)).collect();
        known.into_iter().map(Some).collect()
    };
    let of = |namespace| kinds.iter().map(move |&kind| Lane { queue, namespace, kind });
    namespaces.into_iter().flat_map(of).collect()
}

/// The next jobs of the lanes, in order, until `limit` jobs or about `room` payload bytes. More
/// may follow, unless there are none.
fn candidates(tx: &Tx<'_>, lanes: &[Lane], limit: usize, room: usize) -> Result<Vec<Candidate>> {
    let mut best: Vec<Candidate> = Vec::new();
    // Behind the end of a lane that was cut short, others of that lane may come first.
    let mut known_until: Option<Place> = None;
    for lane in lanes {
        // Whoever comes behind the last of enough need not be read.
        let last = limit.checked_sub(1).and_then(|at| best.get(at)).map(Candidate::place);
        let horizon = last.into_iter().chain(known_until).min();
        let (found, cut) = collect(tx, *lane, limit, room, horizon)?;
        if let Some(last) = found.last().filter(|_| cut).map(Candidate::place) {
            known_until = Some(known_until.map_or(last, |k| last.min(k)));
        }
        if best.is_empty() {
            best = found;
        } else if !found.is_empty() {
            best.extend(found);
            best.sort_by_key(Candidate::place);
            best.truncate(limit);
        }
    }
    best.retain(|c| known_until.is_none_or(|end| c.place() <= end));
    Ok(best)
}

/// The next jobs of one lane, up to `horizon`; also whether it stopped for want of `room`.
fn collect(
    tx: &Tx<'_>,
    lane: Lane,
    limit: usize,
    room: usize,
    horizon: Option<Place>,
) -> Result<(Vec<Candidate>, bool)> {
    let sql = if lane.kind.is_some() { &*ONE_KIND } else { &*ANY_KIND };
    let mut stmt = tx.conn.prepare_cached(sql).map_err(fault)?;
    let mut rows = match lane.kind {
        Some(kind) => stmt.query([lane.queue, lane.namespace, kind]),
        None => stmt.query([lane.queue, lane.namespace]),
    }
    .map_err(fault)?;
    let mut found = Vec::new();
    let mut bytes = 0;
    // The end is here and not in the SQL, so that a damaged row takes nobody's place.
    while found.len() < limit {
        let Some(row) = rows.next().map_err(fault)? else { break };
        let read = || -> rusqlite::Result<Option<Candidate>> {
            let before = live(row)?;
            if horizon.is_some_and(|horizon| place(&before) > horizon) {
                return Ok(None);
            }
            let mut spec = spec(row, LIVE_WIDTH)?;
            spec.payload = raw_json(row, LIVE_WIDTH + SPEC_WIDTH)?;
            let checkpoint = raw_json(row, LIVE_WIDTH + SPEC_WIDTH + 1)?;
            Ok(Some(Candidate { before, spec, checkpoint }))
        };
        let Some(candidate) = readable(read(), "claim")? else { continue };
        let Some(candidate) = candidate else { break };
        bytes += candidate.spec.payload.as_ref().map_or(0, crate::domain::job::RawJson::len);
        found.push(candidate);
        if bytes > room {
            return Ok((found, true));
        }
    }
    Ok((found, false))
}

/// Withdraws the worker's leases that it does not know of: their answers were lost.
fn repair(
    tx: &mut Tx<'_>,
    request: &ClaimRequest,
    held: &[JobId],
    now: Timestamp,
) -> Result<Vec<Transition>> {
    let held: HashSet<&JobId> = held.iter().collect();
    let mut withdrawn = Vec::new();
    for before in leases_of(tx, &request.worker, request.namespace.as_ref(), &request.lists)? {
        let known = held.contains(&before.id);
        let newer = before.job.lease().is_some_and(|l| l.claimed_at >= request.received_at);
        if !known && !newer {
            let event = Event::Withdraw { fence: before.job.fence };
            withdrawn.extend(fire_live(tx, &before, &event, now)?.ok());
        }
    }
    Ok(withdrawn)
}

/// On jobs of the namespace, or of all, and of these lists. A worker has few, so that others' are
/// read and passed over.
fn leases_of(
    tx: &Tx<'_>,
    worker: &WorkerId,
    namespace: Option<&Name>,
    lists: &Lists,
) -> Result<Vec<Live>> {
    let mut leases: Vec<Live> = tx
        .conn
        .prepare_cached(&format!(
            "SELECT {LIVE_COLUMNS} FROM live_jobs l INDEXED BY live_worker \
             JOIN job_specs s ON s.job_row = l.job_row WHERE l.tally = 3 AND l.lease_worker = ?1 \
             AND (?2 IS NULL OR s.namespace_id = ?2)"
        ))
        .map_err(fault)?
        .query_map((worker.as_str(), tx.book.scope(namespace)), live)
        .map_err(fault)?
        .filter_map(|row| readable(row, "a worker's leases").transpose())
        .collect::<Result<_>>()?;
    if *lists != Lists::ALL {
        let named = |l: &Live| (tx.book.queues.name(l.queue), tx.book.kinds.name(l.kind));
        leases.retain(|live| {
            let (queue, kind) = named(live);
            lists.allow(&queue, &kind)
        });
    }
    Ok(leases)
}

pub(super) fn heartbeat(tx: &mut Tx<'_>, beats: &[Beat], now: Timestamp) -> Result<Vec<Ruling>> {
    tx.saw(now);
    beats
        .iter()
        .map(|beat| {
            let event = Event::Heartbeat {
                token: beat.token,
                extend: beat.extend,
                progress: beat.progress.clone(),
            };
            let ruling = fire(tx, beat.id, &event, None, 0, now)?;
            if let (Ok(_), Some(checkpoint)) = (&ruling, &beat.checkpoint) {
                tx.conn
                    .prepare_cached(
                        "UPDATE live_jobs SET checkpoint = ?2 \
                         WHERE job_row = (SELECT job_row FROM job_specs WHERE job_id = ?1)",
                    )
                    .and_then(|mut s| s.execute((beat.id.as_bytes(), checkpoint.as_str())))
                    .map_err(fault)?;
            }
            Ok(ruling)
        })
        .collect()
}

pub(super) fn settle(
    tx: &mut Tx<'_>,
    settlements: &[Settle],
    inline_limit: usize,
    now: Timestamp,
) -> Result<Vec<Ruling>> {
    tx.saw(now);
    settlements
        .iter()
        .map(|settle| {
            let token = settle.token;
            let mut result: Option<&ResultValue> = None;
            let event = match &settle.outcome {
                Outcome::Completed { result: value } => {
                    result = value.as_ref();
                    Event::Complete { token }
                }
                Outcome::Failed { error, retry_after, unit } => Event::Fail {
                    token,
                    error: error.clone(),
                    retry_after: *retry_after,
                    unit: *unit,
                },
                Outcome::Released { delay } => Event::Release { token, delay: *delay },
                Outcome::Cancelled => Event::AgreeToCancel { token },
            };
            fire(tx, settle.id, &event, result, inline_limit, now)
        })
        .collect()
}

pub(super) fn withdraw(
    tx: &mut Tx<'_>,
    leases: &[(JobId, u64)],
    now: Timestamp,
) -> Result<Vec<Transition>> {
    tx.saw(now);
    let mut withdrawn = Vec::new();
    for (id, fence) in leases {
        if let Some(before) = load_live(tx, *id)? {
            let event = Event::Withdraw { fence: *fence };
            withdrawn.extend(fire_live(tx, &before, &event, now)?.ok());
        }
    }
    Ok(withdrawn)
}

pub(super) fn goodbye(
    tx: &mut Tx<'_>,
    worker: &WorkerId,
    namespace: Option<&Name>,
    lists: &Lists,
    now: Timestamp,
) -> Result<Vec<Transition>> {
    tx.saw(now);
    let mut withdrawn = Vec::new();
    for before in leases_of(tx, worker, namespace, lists)? {
        let event = Event::Withdraw { fence: before.job.fence };
        withdrawn.extend(fire_live(tx, &before, &event, now)?.ok());
    }
    tx.conn
        .prepare_cached(
            "DELETE FROM presence WHERE worker = ?1 AND (?2 IS NULL OR namespace IS ?2)",
        )
        .and_then(|mut s| s.execute((worker.as_str(), namespace.map(Name::as_str))))
        .map_err(fault)?;
    Ok(withdrawn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    /// Both walk one index from the head of one line, in order: nothing is sorted, and what waits
    /// in other lines is never seen. Nor do leases that nobody wishes to cancel.
    #[test]
    fn a_lane_and_the_cancels_are_read_from_their_indexes_alone() {
        let conn = Connection::open_in_memory().unwrap();
        for sql in super::super::open::MIGRATIONS {
            conn.execute_batch(sql).unwrap();
        }
        let plan = |sql: &str, params: &[i64]| -> Vec<String> {
            conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .and_then(|mut s| {
                    s.query_map(rusqlite::params_from_iter(params), |r| r.get(3))?.collect()
                })
                .unwrap()
        };
        for (sql, params, index) in [
            (&*ANY_KIND, &[1, 1][..], "live_ready (queue_id=? AND namespace_id=?)"),
            (
                &*ONE_KIND,
                &[1, 1, 1][..],
                "live_ready_kind (queue_id=? AND namespace_id=? AND kind_id=?)",
            ),
        ] {
            let plan = plan(sql, params);
            assert_eq!(plan[0], format!("SEARCH l USING INDEX {index}"), "{plan:?}");
            assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE")), "{plan:?}");
        }
        let plan = plan(CANCELS, &[1, 1]);
        assert_eq!(plan[0], "SEARCH l USING INDEX live_cancel (lease_worker=?)", "{plan:?}");
    }
}
