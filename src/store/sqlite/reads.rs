//! Reads: each sees one committed moment, beside the writer.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params_from_iter};

use crate::domain::directive::Directive;
use crate::domain::id::JobId;
use crate::domain::job::{PendingReason, Phase, Record, Spec, Standing, Status, Wait};
use crate::domain::names::{Name, WorkerId};
use crate::store::{
    Absence, Found, ListFilter, Page, Presence, Recount, Result, ResultBody, Stuck,
};

use super::book::NOT_OURS;
use super::line::Line;
use super::rows::{
    AT_LIMIT, FINISHED_COLUMNS, FINISHED_WIDTH, LIVE_COLUMNS, LIVE_WIDTH, Live, NO_WORKERS, PAUSED,
    SPEC_COLUMNS, SPEC_JOINS, SPEC_WIDTH, STANDING_COLUMNS, STANDING_WIDTH, default_content_type,
    fault, finished, live, maybe_moment, moment, raw_json, record, spec, standing, to_json,
};

/// Rows that one page of a list looks at, whatever the filter.
const SCAN_LIMIT: i64 = 5_000;

static GET_LIVE: LazyLock<String> = LazyLock::new(|| {
    let standing = &*STANDING_COLUMNS;
    format!(
        "SELECT {LIVE_COLUMNS}, {SPEC_COLUMNS}, {standing}, iif(?2, s.payload, NULL) \
         FROM job_specs s JOIN live_jobs l ON l.job_row = s.job_row {SPEC_JOINS} \
         WHERE s.job_id = ?1"
    )
});

static GET_FINISHED: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {FINISHED_COLUMNS}, {SPEC_COLUMNS}, f.result, iif(?2, s.payload, NULL) \
         FROM job_specs s JOIN finished_jobs f ON f.job_row = s.job_row {SPEC_JOINS} \
         WHERE s.job_id = ?1"
    )
});

pub(super) fn get(
    conn: &Connection,
    line: &Line,
    id: JobId,
    payload: bool,
) -> Result<Found<Record>> {
    let found = conn
        .prepare_cached(&GET_LIVE)
        .and_then(|mut s| {
            s.query_row((id.as_bytes(), payload), |r| {
                let mut spec = spec(r, LIVE_WIDTH)?;
                let standing = standing(r, LIVE_WIDTH + SPEC_WIDTH)?;
                spec.payload = raw_json(r, LIVE_WIDTH + SPEC_WIDTH + STANDING_WIDTH)?;
                Ok(placed(line, spec, live(r)?, standing))
            })
            .optional()
        })
        .map_err(fault)?;
    if let Some(found) = found {
        return Ok(Found::Here(found));
    }
    let found = conn
        .prepare_cached(&GET_FINISHED)
        .and_then(|mut s| s.query_row((id.as_bytes(), payload), finished_record).optional())
        .map_err(fault)?;
    match found {
        Some(found) => Ok(Found::Here(found)),
        None => absence(conn, id).map(Found::Absent),
    }
}

/// The record of a live job, with its place in line.
fn placed(places: &Line, spec: Spec, live: Live, mut standing: Standing) -> Record {
    if live.job.phase == Phase::Pending(Wait::Queued) {
        let place = Some(live.sequence);
        standing.jobs_ahead = Some(places.before(&spec.queue, live.priority, place));
    }
    record(spec, live, standing)
}

fn finished_record(r: &rusqlite::Row<'_>) -> rusqlite::Result<Record> {
    let mut spec = spec(r, FINISHED_WIDTH)?;
    spec.payload = raw_json(r, FINISHED_WIDTH + SPEC_WIDTH + 1)?;
    let done = finished(r)?;
    let mut result = done.result;
    if let Some(result) = &mut result {
        result.inline = raw_json(r, FINISHED_WIDTH + SPEC_WIDTH)?;
    }
    Ok(Record {
        spec,
        job: done.job,
        result,
        retried_as: done.retried_as,
        standing: Standing::default(),
    })
}

pub(super) fn absence(conn: &Connection, id: JobId) -> Result<Absence> {
    let deleted: Option<bool> = conn
        .prepare_cached("SELECT deleted FROM tombstones WHERE job_id = ?1")
        .and_then(|mut s| s.query_row([id.as_bytes()], |r| r.get(0)).optional())
        .map_err(fault)?;
    Ok(match deleted {
        Some(true) => Absence::Deleted,
        Some(false) => Absence::Expired,
        None => Absence::Unknown,
    })
}

pub(super) fn result(conn: &Connection, line: &Line, id: JobId) -> Result<Found<ResultBody>> {
    // One moment for both reads: between them the job could be deleted.
    let _snapshot = conn.unchecked_transaction().map_err(fault)?;
    let record = match get(conn, line, id, false)? {
        Found::Absent(why) => return Ok(Found::Absent(why)),
        Found::Here(record) => record,
    };
    let Some(info) = record.result.filter(|_| record.job.status() == Status::Completed) else {
        let status = record.job.status();
        return Ok(Found::Here(ResultBody::NotCompleted(Box::new((status, record.job.error)))));
    };
    let expires_at = record.job.expires_at;
    if let Some(location) = info.location {
        return Ok(Found::Here(ResultBody::Elsewhere { location, expires_at }));
    }
    let body = match info.inline {
        Some(json) => json.as_str().as_bytes().to_vec(),
        None => conn
            .prepare_cached(
                "SELECT CAST(body AS BLOB) FROM results \
                 WHERE job_row = (SELECT job_row FROM job_specs WHERE job_id = ?1)",
            )
            .and_then(|mut s| s.query_row([id.as_bytes()], |r| r.get(0)).optional())
            .map_err(fault)?
            .unwrap_or_default(),
    };
    let content_type =
        info.content_type.filter(|t| !t.is_empty()).unwrap_or_else(default_content_type);
    Ok(Found::Here(ResultBody::Bytes { content_type, body, expires_at }))
}

pub(super) fn list(
    conn: &Connection,
    places: &Line,
    filter: &ListFilter,
    before: Option<i64>,
    limit: u32,
) -> Result<Page> {
    let before = before.unwrap_or(i64::MAX);
    // One moment for both reads: they must see the same window.
    let _snapshot = conn.unchecked_transaction().map_err(fault)?;
    // The table that holds only what the filter can want.
    let (source, clause) = match filter.status {
        None if filter.stuck.is_some() => ("live_jobs", ""),
        None => ("job_specs", ""),
        // Filtered outside, so that the window bounds what is looked at.
        Some(Status::Pending) => ("live_jobs", ""),
        // There are never more running jobs than leases that workers can hold.
        Some(Status::Running) => ("live_jobs INDEXED BY live_worker", "AND tally = 3"),
        Some(Status::Completed) => ("finished_jobs", ""),
        Some(Status::Failed) => {
            ("finished_jobs INDEXED BY finished_badly", "AND tally > 4 AND tally = 5")
        }
        Some(Status::Cancelled) => {
            ("finished_jobs INDEXED BY finished_badly", "AND tally > 4 AND tally = 6")
        }
    };
    let window = format!(
        "SELECT job_row FROM {source} WHERE job_row < ?1 {clause} \
         ORDER BY job_row DESC LIMIT {SCAN_LIMIT}"
    );
    let (lowest, scanned): (Option<i64>, i64) = conn
        .prepare_cached(&format!("SELECT min(job_row), count(*) FROM ({window})"))
        .and_then(|mut s| s.query_row([before], |r| Ok((r.get(0)?, r.get(1)?))))
        .map_err(fault)?;
    let rows = matching(conn, places, filter, &window, before, limit)?;
    let next = if rows.len() == limit as usize {
        rows.last().map(|(row, _)| *row)
    } else if scanned == SCAN_LIMIT {
        lowest
    } else {
        None
    };
    Ok(Page { jobs: rows.into_iter().map(|(_, record)| record).collect(), next })
}

/// Rows of the window that match, newest first.
fn matching(
    conn: &Connection,
    places: &Line,
    filter: &ListFilter,
    window: &str,
    before: i64,
    limit: u32,
) -> Result<Vec<(i64, Record)>> {
    let mut clauses: Vec<String> = Vec::new();
    let mut values: Vec<rusqlite::types::Value> = vec![before.into()];
    let mut add = |clause: &str, value: rusqlite::types::Value| {
        values.push(value);
        clauses.push(clause.replace('?', &format!("?{}", values.len())));
    };
    if let Some(namespace) = &filter.namespace {
        add("n.name = ?", namespace.as_str().to_owned().into());
    }
    if let Some(queue) = &filter.queue {
        add("q.name = ?", queue.as_str().to_owned().into());
    }
    if let Some(kind) = &filter.kind {
        add("k.name = ?", kind.as_str().to_owned().into());
    }
    if let Some(tag) = &filter.tag {
        add("EXISTS (SELECT 1 FROM json_each(s.tags) WHERE value = ?)", tag.clone().into());
    }
    if let Some(error_type) = &filter.error_type {
        add("coalesce(l.error, f.error) ->> '$.type' = ?", error_type.clone().into());
    }
    let times = [
        ("coalesce(l.created_at, f.created_at) > ?", filter.created_after),
        ("coalesce(l.created_at, f.created_at) < ?", filter.created_before),
        ("f.finished_at > ?", filter.finished_after),
    ];
    for (clause, at) in times {
        if let Some(at) = at {
            add(clause, at.as_millis().into());
        }
    }
    if let Some(reason @ (PendingReason::RateLimited | PendingReason::Queued)) =
        filter.pending_reason
    {
        let limited: Vec<&str> = filter.rate_limited.iter().map(Name::as_str).collect();
        let is = if reason == PendingReason::RateLimited { "IN" } else { "NOT IN" };
        let clause = format!("q.name {is} (SELECT value FROM json_each(?))");
        add(&clause, to_json(&limited)?.into());
    }
    if let Some(stuck) = &filter.stuck {
        add(STUCK, stuck_since(stuck)?.into());
    }
    match filter.pending_reason {
        None => {}
        Some(PendingReason::Scheduled) => clauses.push("l.tally = 1".to_owned()),
        Some(PendingReason::RetryBackoff) => clauses.push("l.tally = 2".to_owned()),
        Some(PendingReason::QueuePaused) => clauses.push(format!("l.tally = 0 AND {PAUSED}")),
        Some(PendingReason::NoWorkers) => {
            clauses.push(format!("l.tally = 0 AND NOT {PAUSED} AND {NO_WORKERS}"));
        }
        Some(PendingReason::ConcurrencyLimited) => {
            clauses
                .push(format!("l.tally = 0 AND NOT {PAUSED} AND NOT {NO_WORKERS} AND {AT_LIMIT}"));
        }
        Some(PendingReason::RateLimited | PendingReason::Queued) => clauses
            .push(format!("l.tally = 0 AND NOT {PAUSED} AND NOT {NO_WORKERS} AND NOT {AT_LIMIT}")),
    }
    match filter.status {
        Some(Status::Completed) => clauses.push("f.tally = 4".to_owned()),
        Some(Status::Pending) => clauses.push("l.tally < 3".to_owned()),
        Some(Status::Running | Status::Failed | Status::Cancelled) | None => {}
    }
    clauses.push("coalesce(l.job_row, f.job_row) IS NOT NULL".to_owned());
    clauses.push(NOT_OURS.to_owned());
    let sql = format!(
        "SELECT {LIVE_COLUMNS}, {FINISHED_COLUMNS}, {SPEC_COLUMNS}, {standing} \
         FROM ({window}) w JOIN job_specs s ON s.job_row = w.job_row \
         LEFT JOIN live_jobs l ON l.job_row = w.job_row \
         LEFT JOIN finished_jobs f ON f.job_row = w.job_row {SPEC_JOINS} \
         WHERE {} ORDER BY w.job_row DESC LIMIT {limit}",
        clauses.join(" AND "),
        standing = *STANDING_COLUMNS
    );
    let mut stmt = conn.prepare(&sql).map_err(fault)?;
    let mut rows = stmt.query(params_from_iter(values)).map_err(fault)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(fault)? {
        let (at, mut record) = listed(places, row).map_err(fault)?;
        record.standing.rate_limited = filter.rate_limited.contains(&record.spec.queue);
        found.push((at, record));
    }
    Ok(found)
}

/// Eligible since the moment that `?` names for its queue (or for `*`, every other queue) or
/// longer. Time before the queue's last resume does not count, as in the watchdog's scan.
const STUCK: &str = "l.tally < 3 AND q.paused_at IS NULL \
     AND max(l.eligible_at, coalesce(q.resumed_at, l.eligible_at)) <= coalesce(\
       (SELECT value FROM json_each(?) WHERE key = q.name), \
       (SELECT value FROM json_each(?) WHERE key = '*'))";

/// Before every moment: nobody is stuck.
const NEVER: i64 = -1;

/// For [`STUCK`]. No queue is called `*`.
fn stuck_since(stuck: &Stuck) -> Result<String> {
    let since =
        |after: Option<Duration>| after.map_or(NEVER, |after| stuck.now.minus(after).as_millis());
    let mut moments: HashMap<&str, i64> =
        stuck.after.queues.iter().map(|(queue, after)| (queue.as_str(), since(*after))).collect();
    moments.insert("*", since(stuck.after.default));
    to_json(&moments)
}

fn listed(places: &Line, row: &rusqlite::Row<'_>) -> rusqlite::Result<(i64, Record)> {
    let spec = spec(row, LIVE_WIDTH + FINISHED_WIDTH)?;
    if row.get::<_, Option<i64>>(0)?.is_some() {
        let standing = standing(row, LIVE_WIDTH + FINISHED_WIDTH + SPEC_WIDTH)?;
        let live = live(row)?;
        return Ok((live.row, placed(places, spec, live, standing)));
    }
    let done = super::rows::finished_at(row, LIVE_WIDTH)?;
    let job_row = done.row;
    let record = Record {
        spec,
        job: done.job,
        result: done.result,
        retried_as: done.retried_as,
        standing: Standing::default(),
    };
    Ok((job_row, record))
}

pub(super) fn recount(conn: &Connection) -> Result<Recount> {
    let snapshot = conn.unchecked_transaction().map_err(fault)?;
    let mut recount = Recount::default();
    let rows: Vec<(i64, i64, i64)> = conn
        .prepare_cached(
            "SELECT tally, sum(counted), sum(maintained) FROM (\
               SELECT tally, count(*) AS counted, 0 AS maintained FROM live_jobs GROUP BY tally \
               UNION ALL SELECT tally, count(*), 0 FROM finished_jobs GROUP BY tally \
               UNION ALL SELECT tally, 0, sum(jobs) FROM job_counts GROUP BY tally) GROUP BY tally",
        )
        .and_then(|mut s| s.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?.collect())
        .map_err(fault)?;
    for (tally, counted, maintained) in rows {
        if let Some(at) = usize::try_from(tally).ok().filter(|at| *at < 7) {
            recount.counted[at] = u64::try_from(counted).unwrap_or(0);
            recount.maintained[at] = u64::try_from(maintained).unwrap_or(0);
        }
    }
    let differing: i64 = conn
        .prepare_cached(
            "SELECT count(*) FROM (SELECT queue_id, kind_id, tally, sum(n) AS n FROM (\
               SELECT queue_id, kind_id, tally, count(*) AS n FROM live_jobs GROUP BY 1, 2, 3 \
               UNION ALL SELECT queue_id, kind_id, tally, count(*) FROM finished_jobs GROUP BY 1, 2, 3 \
               UNION ALL SELECT queue_id, kind_id, tally, -jobs FROM job_counts) \
             GROUP BY 1, 2, 3) WHERE n <> 0",
        )
        .and_then(|mut s| s.query_row([], |r| r.get(0)))
        .map_err(fault)?;
    let wrong_marks: i64 = conn
        .prepare_cached(
            "SELECT count(*) FROM stuck_marks m WHERE m.counting_to IS NULL AND m.jobs <> (\
               SELECT count(*) FROM live_jobs l INDEXED BY live_pending WHERE l.tally < 3 \
               AND l.queue_id = m.queue_id AND l.kind_id = m.kind_id \
               AND l.eligible_at <= m.watermark)",
        )
        .and_then(|mut s| s.query_row([], |r| r.get(0)))
        .map_err(fault)?;
    recount.differing = u64::try_from(differing + wrong_marks).unwrap_or(0);
    snapshot.finish().map_err(fault)?;
    Ok(recount)
}

pub(super) fn workers(conn: &Connection) -> Result<Vec<(Presence, u64)>> {
    let names = |r: &rusqlite::Row<'_>, at: usize| -> rusqlite::Result<Vec<Name>> {
        let text = r.get_ref(at)?.as_str()?;
        let names: Vec<String> = serde_json::from_str(text).unwrap_or_default();
        Ok(names.iter().map(|n| Name::trusted(n)).collect())
    };
    conn.prepare_cached(
        "SELECT p.worker, p.queues, p.kinds, p.capacity, p.hostname, p.version, p.last_seen, \
         p.last_claim, p.last_heartbeat, p.last_settlement, p.directive, \
         (SELECT count(*) FROM live_jobs l INDEXED BY live_worker \
          WHERE l.tally = 3 AND l.lease_worker = p.worker), p.namespace \
         FROM (SELECT * FROM presence \
           ORDER BY directive IS NULL, last_seen DESC LIMIT 10000) p ORDER BY p.worker",
    )
    .and_then(|mut s| {
        s.query_map([], |r| {
            let presence = Presence {
                worker: WorkerId::trusted(r.get_ref(0)?.as_str()?),
                namespace: r.get_ref(12)?.as_str_or_null()?.map(Name::trusted),
                queues: names(r, 1)?,
                kinds: names(r, 2)?,
                capacity: r.get(3)?,
                hostname: r.get(4)?,
                version: r.get(5)?,
                last_seen: moment(r, 6)?,
                last_claim: maybe_moment(r, 7)?,
                last_heartbeat: maybe_moment(r, 8)?,
                last_settlement: maybe_moment(r, 9)?,
                directive: match r.get_ref(10)?.as_str_or_null()? {
                    Some(text) if text == Directive::Drain.as_str() => Directive::Drain,
                    Some(_) | None => Directive::Continue,
                },
            };
            Ok((presence, r.get::<_, i64>(11)? as u64))
        })?
        .collect()
    })
    .map_err(fault)
}
