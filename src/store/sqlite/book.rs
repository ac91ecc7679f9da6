//! The writer's small memory: names by number, the queues' pauses and limits, what runs and
//! waits in each, the stuck marks, the next sequence.
//!
//! It mirrors committed rows plus those of the transaction under way; when that one is rolled
//! back the book is read anew.

use std::collections::HashMap;

use rusqlite::Connection;

use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::store::{Depth, QueueState, Result};

use super::marks::{self, Key, Mark};
use super::overrides;
use super::rows::{fault, moment};

#[derive(Debug, Default)]
pub(super) struct Names {
    by_name: HashMap<Name, i64>,
    by_id: HashMap<i64, Name>,
    /// The namespace that brought it in, of those of which that is known.
    brought_by: HashMap<i64, i64>,
    /// How many each namespace has brought in.
    brought: HashMap<i64, usize>,
}

impl Names {
    fn add(&mut self, id: i64, name: Name, namespace: Option<i64>) {
        self.by_name.insert(name.clone(), id);
        self.by_id.insert(id, name);
        if let Some(namespace) = namespace {
            self.brought_by.insert(id, namespace);
            *self.brought.entry(namespace).or_default() += 1;
        }
    }

    /// How many of them this namespace has brought in.
    pub(super) fn brought(&self, namespace: i64) -> usize {
        self.brought.get(&namespace).copied().unwrap_or(0)
    }

    pub(super) fn id(&self, name: &Name) -> Option<i64> {
        self.by_name.get(name).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn remove(&mut self, id: i64) {
        if let Some(name) = self.by_id.remove(&id) {
            self.by_name.remove(&name);
        }
        if let Some(namespace) = self.brought_by.remove(&id)
            && let Some(brought) = self.brought.get_mut(&namespace)
        {
            *brought -= 1;
        }
    }

    pub(super) fn name(&self, id: i64) -> Name {
        self.by_id.get(&id).cloned().unwrap_or_else(|| Name::trusted("unknown"))
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = i64> {
        self.by_id.keys().copied()
    }

    /// By number, which is by age.
    pub(super) fn in_order(&self) -> Vec<Name> {
        let mut all: Vec<_> = self.by_id.iter().collect();
        all.sort_unstable_by_key(|(id, _)| **id);
        all.into_iter().map(|(_, name)| name.clone()).collect()
    }

    fn load(conn: &Connection, sql: &str) -> Result<Self> {
        let mut names = Self::default();
        let mut stmt = conn.prepare(sql).map_err(fault)?;
        let rows = stmt
            .query_map([], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?, r.get(2)?)))
            .map_err(fault)?;
        for row in rows {
            let (id, name, namespace) = row.map_err(fault)?;
            names.add(id, Name::trusted(&name), namespace);
        }
        Ok(names)
    }
}

/// Stands for a namespace that never had a job; numbers begin with 1.
const NO_JOBS: i64 = 0;

#[derive(Debug)]
pub(super) struct Book {
    pub(super) namespaces: Names,
    pub(super) kinds: Names,
    pub(super) queues: Names,
    states: HashMap<i64, QueueState>,
    /// Jobs leased now, by queue.
    running: HashMap<i64, i64>,
    /// Pending jobs, by queue.
    waiting: HashMap<i64, i64>,
    pub(super) marks: HashMap<Key, Mark>,
    /// The counter at which the last sweep ended.
    pub(super) swept: (i64, i64, i64),
    next_sequence: i64,
    last_seen: Timestamp,
}

impl Book {
    pub(super) fn load(conn: &Connection) -> Result<Self> {
        let (next_sequence, last_seen) = conn
            .query_row("SELECT next_sequence, last_seen FROM progress", [], |r| {
                Ok((r.get(0)?, moment(r, 1)?))
            })
            .map_err(fault)?;
        let mut stmt = conn
            .prepare(&format!("SELECT queue_id, {QUEUE_COLUMNS} FROM queues q"))
            .map_err(fault)?;
        let states = stmt
            .query_map([], |r| Ok((r.get::<_, i64>(0)?, queue_state(r, 1)?)))
            .and_then(Iterator::collect)
            .map_err(fault)?;
        let sums = |tallies: &str| {
            conn.prepare(&format!(
                "SELECT queue_id, sum(jobs) FROM job_counts WHERE {tallies} GROUP BY queue_id"
            ))
            .and_then(|mut s| s.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect())
            .map_err(fault)
        };
        Ok(Self {
            namespaces: Names::load(conn, "SELECT namespace_id, name, NULL FROM namespaces")?,
            kinds: Names::load(conn, "SELECT kind_id, name, namespace_id FROM kinds")?,
            queues: Names::load(conn, "SELECT queue_id, name, namespace_id FROM queues")?,
            states,
            running: sums("tally = 3")?,
            waiting: sums("tally < 3")?,
            marks: marks::load(conn)?,
            swept: (0, 0, -1),
            next_sequence,
            last_seen,
        })
    }

    pub(super) fn take_sequence(&mut self) -> i64 {
        self.next_sequence += 1;
        self.next_sequence - 1
    }

    pub(super) const fn next_sequence(&self) -> i64 {
        self.next_sequence
    }

    pub(super) fn saw(&mut self, now: Timestamp) -> Timestamp {
        self.last_seen = self.last_seen.max(now);
        self.last_seen
    }

    pub(super) fn state(&self, queue: i64) -> Option<&QueueState> {
        self.states.get(&queue)
    }

    pub(super) fn states(&self) -> impl Iterator<Item = (i64, &QueueState)> {
        self.states.iter().map(|(id, state)| (*id, state))
    }

    pub(super) fn set_state(&mut self, queue: i64, state: QueueState) {
        self.states.insert(queue, state);
    }

    pub(super) fn forget_queue(&mut self, id: i64) {
        self.queues.remove(id);
        self.states.remove(&id);
        self.running.remove(&id);
        self.waiting.remove(&id);
        self.marks.retain(|(queue, _), _| *queue != id);
    }

    pub(super) fn runs(&mut self, queue: i64, by: i64) {
        *self.running.entry(queue).or_default() += by;
    }

    pub(super) fn waits(&mut self, queue: i64, by: i64) {
        *self.waiting.entry(queue).or_default() += by;
    }

    /// Pending jobs of the queue, and how many there may be; `None`: any number.
    pub(super) fn depth(&self, queue: &Name) -> Option<Depth> {
        let id = self.queues.id(queue)?;
        let max = self.state(id)?.max_depth?;
        let jobs = self.waiting.get(&id).copied().unwrap_or(0);
        Some(Depth { jobs: u64::try_from(jobs).unwrap_or(0), max })
    }

    /// Jobs of the queue that may be leased on top of those that are.
    pub(super) fn room(&self, queue: i64) -> usize {
        let Some(max) = self.state(queue).and_then(|q| q.max_running) else { return usize::MAX };
        let running = self.running.get(&queue).copied().unwrap_or(0);
        usize::try_from(i64::from(max) - running).unwrap_or(0)
    }

    /// A namespace's number, to compare with those of jobs; `None` for all namespaces.
    pub(super) fn scope(&self, namespace: Option<&Name>) -> Option<i64> {
        namespace.map(|name| self.namespaces.id(name).unwrap_or(NO_JOBS))
    }

    pub(super) fn namespace_id(&mut self, conn: &Connection, name: &Name) -> Result<i64> {
        if let Some(id) = self.namespaces.id(name) {
            return Ok(id);
        }
        conn.execute("INSERT INTO namespaces (name) VALUES (?1)", [name.as_str()])
            .map_err(fault)?;
        self.namespaces.add(conn.last_insert_rowid(), name.clone(), None);
        Ok(conn.last_insert_rowid())
    }

    /// `namespace` brings it in, should it be new.
    pub(super) fn kind_id(
        &mut self,
        conn: &Connection,
        name: &Name,
        namespace: Option<i64>,
    ) -> Result<i64> {
        if let Some(id) = self.kinds.id(name) {
            return Ok(id);
        }
        let namespace = namespace.filter(|_| !name.is_reserved());
        conn.execute(
            "INSERT INTO kinds (name, namespace_id) VALUES (?1, ?2)",
            (name.as_str(), namespace),
        )
        .map_err(fault)?;
        self.kinds.add(conn.last_insert_rowid(), name.clone(), namespace);
        Ok(conn.last_insert_rowid())
    }

    /// The same.
    pub(super) fn queue_id(
        &mut self,
        conn: &Connection,
        name: &Name,
        namespace: Option<i64>,
        now: Timestamp,
    ) -> Result<i64> {
        if let Some(id) = self.queues.id(name) {
            return Ok(id);
        }
        let namespace = namespace.filter(|_| !name.is_reserved());
        conn.execute(
            "INSERT INTO queues (name, created_at, namespace_id) VALUES (?1, ?2, ?3)",
            (name.as_str(), now.as_millis(), namespace),
        )
        .map_err(fault)?;
        let id = conn.last_insert_rowid();
        self.queues.add(id, name.clone(), namespace);
        self.states.insert(id, QueueState::new(name.clone()));
        Ok(id)
    }
}

/// In the order that [`queue_state`] reads, of a table called `q`.
pub(super) const QUEUE_COLUMNS: &str = "q.name, q.paused_at, q.paused_reason, q.paused_until, q.resumed_at, q.max_running, \
     q.max_depth, q.settings_version, q.settings";

/// Keeps the server's own queues out of what is told of a table called `q`; see
/// [`Name::is_reserved`].
pub(super) const NOT_OURS: &str = "substr(q.name, 1, 1) <> '_'";

pub(super) fn queue_state(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<QueueState> {
    let millis = |i: usize| -> rusqlite::Result<Option<Timestamp>> {
        Ok(row.get::<_, Option<i64>>(i)?.map(Timestamp::from_millis))
    };
    let name = Name::trusted(row.get_ref(at)?.as_str()?);
    Ok(QueueState {
        overrides: overrides::read(&name, row.get_ref(at + 8)?.as_str_or_null()?),
        name,
        paused_at: millis(at + 1)?,
        paused_reason: row.get(at + 2)?,
        paused_until: millis(at + 3)?,
        resumed_at: millis(at + 4)?,
        max_running: row.get(at + 5)?,
        max_depth: row.get::<_, Option<i64>>(at + 6)?.and_then(|n| u64::try_from(n).ok()),
        revision: row.get::<_, i64>(at + 7).map(|n| u64::try_from(n).unwrap_or(0))?,
    })
}
