//! The embedded store: one `SQLite` file in WAL mode.
//!
//! One writer thread owns the writing connection and commits in groups ([`writer`]); a few
//! reading connections work beside it on committed snapshots; a third party copies the log into
//! the file ([`checkpoint`]). The file is locked for one server. With `durability = "full"` a
//! commit has been synced to disk before anyone is answered.
//!
//! It knows SQL and the domain; it knows no HTTP, no metrics and no clock.

mod book;
mod change;
mod checkpoint;
mod episodes;
mod estimates;
mod forget;
mod lease;
mod line;
mod marks;
mod names;
mod open;
mod overrides;
mod reads;
mod retry;
mod rows;
mod sample;
mod scan;
mod space;
mod spaces;
mod submit;
mod upkeep;
mod writer;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::domain::access::Lists;
use crate::domain::directive::Directive;
use crate::domain::estimate::Saved;
use crate::domain::id::{IdSecret, JobId};
use crate::domain::job::{Record, Requester};
use crate::domain::names::{Name, WorkerId};
use crate::domain::state::Event;
use crate::domain::time::Timestamp;

use super::{
    Beat, Changed, ClaimRequest, Claimed, Episode, EpisodeFilter, Found, Identity, KindState,
    ListFilter, NewJob, Overriding, Page, Presence, QueueLimits, Recount, Result, ResultBody,
    Retired, Retried, Ruling, Sample, Settle, Store, StoreError, StuckAfter, Submitted, Transition,
};

pub use open::{Durability, OpenError};
pub use space::FreeBytes;
pub use writer::CommitObserver;

use line::Line;
use rows::{fault, to_json};
use space::Space;
use writer::Writer;

/// Reading connections.
const READERS: usize = 4;

/// How many of them may be busy with reads that take long.
const LONG_READERS: usize = 2;

/// Leases extended in one commit.
const EXTEND_STEP: usize = 500;

#[derive(Clone)]
pub struct Options {
    pub path: PathBuf,
    pub durability: Durability,
    /// Results up to this size lie in the job's row and are shown in the job.
    pub inline_result_bytes: usize,
    /// How long an idempotency key outlives its job, from the key's creation.
    pub key_ttl: Duration,
    /// Becomes the id secret of a new store; an existing one keeps its own.
    pub fresh_secret: [u8; 32],
    pub now: Timestamp,
    /// Told the number of jobs touched by each commit.
    pub observer: CommitObserver,
    /// With fewer bytes free on the disk, submissions are refused; 0: never.
    pub min_free: u64,
    /// `None`: the file system is asked.
    pub free_bytes: Option<FreeBytes>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("path", &self.path).finish_non_exhaustive()
    }
}

pub struct SqliteStore {
    identity: Identity,
    writer: Writer,
    namespaces: spaces::Known,
    readers: Arc<Readers>,
    space: Arc<Space>,
    share: names::Share,
    line: Arc<Line>,
    inline_limit: usize,
    key_ttl: Duration,
    // In this order: the writer's end ends the checkpointer, and then the file is unlocked.
    _writing: writer::Joined,
    _checkpointing: writer::Joined,
    _lock: open::Lock,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

struct Readers {
    idle: Mutex<Vec<Connection>>,
    free: Arc<Semaphore>,
    /// Of those, how many may be long reads: lists must not keep a status waiting.
    long: Arc<Semaphore>,
    gate: checkpoint::Gate,
    path: PathBuf,
}

impl SqliteStore {
    /// Opens (or creates), checks, locks and migrates the file. Blocking.
    pub fn open(options: Options) -> std::result::Result<Self, OpenError> {
        let options = Options { path: open::resolved(&options.path), ..options };
        let path = &options.path;
        let lock = open::lock(path)?;
        let conn = open::writer(path, options.durability, options.fresh_secret, options.now)?;
        let unusable =
            |reason: String| OpenError::Unusable { path: path.display().to_string(), reason };
        let identity = identity(&conn).map_err(|e| unusable(e.to_string()))?;
        let readers = (0..READERS)
            .map(|_| open::reader(path))
            .collect::<rusqlite::Result<Vec<_>>>()
            .map_err(|e| unusable(e.to_string()))?;
        let checkpointer = open::checkpointer(path).map_err(|e| unusable(e.to_string()))?;
        let gate = checkpoint::Gate::default();
        let (commits, watch) = checkpoint::pair();
        let space = Arc::new(Space::new(path, options.min_free, options.free_bytes));
        let line = Arc::new(Line::load(&conn).map_err(|e| unusable(e.to_string()))?);
        // Dropped in the opposite order if what follows fails.
        let namespaces = spaces::Known::default();
        let share = names::Share::default();
        let limits = writer::Limits { space: Arc::clone(&space), share: share.clone() };
        let told = writer::Told { observer: options.observer, namespaces: namespaces.clone() };
        let (writing, writer) = writer::start(conn, told, commits, limits, Arc::clone(&line))
            .map_err(|e| unusable(e.to_string()))?;
        let checkpointing =
            checkpoint::start(checkpointer, watch, writer.downgrade(), Arc::clone(&gate))
                .map_err(|e| unusable(e.to_string()))?;
        Ok(Self {
            identity,
            writer,
            namespaces,
            readers: Arc::new(Readers {
                idle: Mutex::new(readers),
                free: Arc::new(Semaphore::new(READERS)),
                long: Arc::new(Semaphore::new(LONG_READERS)),
                gate,
                path: options.path,
            }),
            space,
            share,
            line,
            inline_limit: options.inline_result_bytes,
            key_ttl: options.key_ttl,
            _writing: writing,
            _checkpointing: checkpointing,
            _lock: lock,
        })
    }

    /// A read that may take long: few at a time.
    async fn read_long<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let long = Arc::clone(&self.readers.long);
        let permit = long.acquire_owned().await.map_err(|_| StoreError::Closed)?;
        self.read(move |conn| {
            let _permit = permit;
            work(conn)
        })
        .await
    }

    async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let gate = Arc::clone(&self.readers.gate);
        self.read_past_the_gate(move |conn| {
            let _open = gate.read().unwrap_or_else(PoisonError::into_inner);
            work(conn)
        })
        .await
    }

    /// For the recount alone, which takes so long that nobody may wait for its end.
    async fn read_past_the_gate<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let pool = Arc::clone(&self.readers);
        let permit =
            Arc::clone(&pool.free).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        tokio::task::spawn_blocking(move || {
            // Held until the read is over, also when nobody waits for it any more.
            let _permit = permit;
            let idle = pool.lock().pop();
            // One was lost if a read panicked.
            let conn = match idle {
                Some(conn) => conn,
                None => open::reader(&pool.path).map_err(fault)?,
            };
            let result = work(&conn);
            if conn.is_autocommit() {
                pool.lock().push(conn);
            }
            result
        })
        .await
        .map_err(|_| StoreError::Other("a read panicked".to_owned()))?
    }
}

impl Readers {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn identity(conn: &Connection) -> Result<Identity> {
    let meta = |key: &str| {
        conn.prepare("SELECT value FROM meta WHERE key = ?1").map(|s| (s, key.to_owned()))
    };
    let (mut stmt, key) = meta("id_secret").map_err(fault)?;
    let secret: [u8; 32] = stmt.query_row([key], |r| r.get(0)).map_err(fault)?;
    let (mut stmt, key) = meta("created_at").map_err(fault)?;
    let created_at: i64 = stmt.query_row([key], |r| r.get(0)).map_err(fault)?;
    let last_seen: i64 =
        conn.query_row("SELECT last_seen FROM progress", [], |r| r.get(0)).map_err(fault)?;
    Ok(Identity {
        backend: "sqlite",
        id_secret: IdSecret::new(secret),
        created_at: Timestamp::from_millis(created_at),
        last_seen: Timestamp::from_millis(last_seen),
    })
}

#[async_trait]
impl Store for SqliteStore {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn namespaces(&self) -> Arc<[Name]> {
        self.namespaces.all()
    }

    async fn submit_and_claim(
        &self,
        jobs: Vec<NewJob>,
        claims: Vec<ClaimRequest>,
        now: Timestamp,
    ) -> Result<(Vec<Submitted>, Vec<Claimed>)> {
        self.writer
            .write_growing(move |tx| {
                let submitted = submit::submit(tx, &jobs, now)?;
                let created = submit::anything_created(&submitted);
                let claimed = claims
                    .iter()
                    .filter(|_| created)
                    .map(|request| lease::claim(tx, request, now))
                    .collect::<Result<_>>()?;
                Ok((submitted, claimed))
            })
            .await
    }

    async fn knows_key(&self, namespace: Name, key: String) -> Result<bool> {
        self.read(move |conn| submit::knows_key(conn, &namespace, &key)).await
    }

    async fn get(&self, id: JobId, payload: bool) -> Result<Found<Record>> {
        let line = Arc::clone(&self.line);
        self.read(move |conn| reads::get(conn, &line, id, payload)).await
    }

    async fn result(&self, id: JobId) -> Result<Found<ResultBody>> {
        let line = Arc::clone(&self.line);
        self.read(move |conn| reads::result(conn, &line, id)).await
    }

    fn jobs_ahead(&self, queue: &Name, priority: i32) -> u64 {
        self.line.before(queue, priority, None)
    }

    async fn list(&self, filter: ListFilter, before: Option<i64>, limit: u32) -> Result<Page> {
        let line = Arc::clone(&self.line);
        self.read_long(move |conn| reads::list(conn, &line, &filter, before, limit)).await
    }

    async fn cancel(
        &self,
        id: JobId,
        by: Requester,
        reason: Option<String>,
        force: bool,
        now: Timestamp,
    ) -> Result<Ruling> {
        let event = Event::Cancel { by, reason, force };
        self.writer
            .write(move |tx| {
                tx.saw(now);
                change::fire(tx, id, &event, None, 0, now)
            })
            .await
    }

    async fn retry(
        &self,
        source: JobId,
        new: NewJob,
        again: bool,
        now: Timestamp,
    ) -> Result<Retried> {
        self.writer.write_growing(move |tx| retry::retry(tx, source, &new, again, now)).await
    }

    async fn delete(&self, id: JobId, tombstone: Duration, now: Timestamp) -> Result<Ruling> {
        let ttl = self.key_ttl;
        self.writer.write(move |tx| upkeep::delete(tx, id, tombstone, ttl, now)).await
    }

    async fn claim(&self, request: ClaimRequest, now: Timestamp) -> Result<Claimed> {
        self.writer.write(move |tx| lease::claim(tx, &request, now)).await
    }

    async fn heartbeat(&self, beats: Vec<Beat>, now: Timestamp) -> Result<Vec<Ruling>> {
        self.writer.write(move |tx| lease::heartbeat(tx, &beats, now)).await
    }

    async fn settle(
        &self,
        settlements: Vec<Settle>,
        claim: Option<ClaimRequest>,
        now: Timestamp,
    ) -> Result<(Vec<Ruling>, Option<Claimed>)> {
        let inline = self.inline_limit;
        self.writer
            .write(move |tx| {
                let rulings = lease::settle(tx, &settlements, inline, now)?;
                let claimed = match &claim {
                    Some(request) => Some(lease::claim(tx, request, now)?),
                    None => None,
                };
                Ok((rulings, claimed))
            })
            .await
    }

    async fn withdraw(&self, leases: Vec<(JobId, u64)>, now: Timestamp) -> Result<Vec<Transition>> {
        self.writer.write(move |tx| lease::withdraw(tx, &leases, now)).await
    }

    async fn goodbye(
        &self,
        worker: WorkerId,
        namespace: Option<Name>,
        lists: Lists,
        now: Timestamp,
    ) -> Result<Vec<Transition>> {
        self.writer
            .write(move |tx| lease::goodbye(tx, &worker, namespace.as_ref(), &lists, now))
            .await
    }

    async fn take_back(
        &self,
        limit: u32,
        spread: Vec<f64>,
        now: Timestamp,
    ) -> Result<Vec<Transition>> {
        self.writer.write(move |tx| upkeep::take_back(tx, limit, &spread, now)).await
    }

    async fn promote(&self, limit: u32, now: Timestamp) -> Result<Vec<(Name, u64)>> {
        self.writer.write(move |tx| upkeep::promote(tx, limit, now)).await
    }

    async fn extend_leases(&self, now: Timestamp) -> Result<u64> {
        let rows = self.read_long(upkeep::running).await?;
        let mut extended = 0;
        let mut steps: Vec<Vec<i64>> = rows.chunks(EXTEND_STEP).map(<[i64]>::to_vec).collect();
        if steps.is_empty() {
            steps.push(Vec::new());
        }
        for step in steps {
            extended += self.writer.write(move |tx| upkeep::extend(tx, &step, now)).await?;
        }
        Ok(extended)
    }

    async fn expire(&self, limit: u32, tombstone: Duration, now: Timestamp) -> Result<Retired> {
        let key_ttl = self.key_ttl;
        // Looking through all names is no work for the writer.
        let unused = self.read_long(move |conn| forget::unused(conn, limit)).await?;
        self.writer
            .write(move |tx| upkeep::expire(tx, limit, tombstone, key_ttl, &unused, now))
            .await
    }

    async fn sample(&self, now: Timestamp) -> Result<Sample> {
        let space = Arc::clone(&self.space);
        self.read_long(move |conn| {
            Ok(Sample { free_bytes: space.free().ok(), ..sample::sample(conn, now)? })
        })
        .await
    }

    async fn recount(&self) -> Result<Recount> {
        self.read_past_the_gate(reads::recount).await
    }

    async fn pause(
        &self,
        queue: Name,
        reason: Option<String>,
        until: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Changed> {
        self.writer.write(move |tx| upkeep::pause(tx, &queue, reason.as_ref(), until, now)).await
    }

    async fn resume(&self, queue: Name, now: Timestamp) -> Result<Changed> {
        self.writer.write(move |tx| upkeep::resume(tx, &queue, now)).await
    }

    fn limit_names(&self, per_namespace: Option<usize>) {
        self.share.set(per_namespace);
    }

    async fn override_settings(&self, change: Overriding, now: Timestamp) -> Result<Changed> {
        self.writer.write(move |tx| overrides::change(tx, &change, now)).await
    }

    async fn set_limits(&self, limits: Vec<QueueLimits>, now: Timestamp) -> Result<()> {
        self.writer.write(move |tx| upkeep::set_limits(tx, &limits, now)).await
    }

    async fn scan(&self, stuck_after: StuckAfter, now: Timestamp) -> Result<Vec<KindState>> {
        let plan = self.read_long(move |conn| scan::plan(conn, &stuck_after, now)).await?;
        for step in plan.reset.chunks(scan::STEP).map(<[_]>::to_vec) {
            self.writer
                .write(move |tx| step.iter().try_for_each(|key| marks::reset(tx, *key)))
                .await?;
        }
        let mut newly = HashMap::new();
        for armed in plan.count.chunks(scan::STEP).map(<[_]>::to_vec) {
            let step = armed.clone();
            self.writer
                .write(move |tx| step.iter().try_for_each(|(key, to)| marks::arm(tx, *key, *to)))
                .await?;
            let counted = self.read_long(move |conn| scan::count(conn, &armed)).await?;
            let keys: Vec<_> = counted.iter().map(|c| c.key).collect();
            let found = self
                .writer
                .write(move |tx| {
                    counted.iter().map(|c| marks::advance(tx, c)).collect::<Result<Vec<i64>>>()
                })
                .await?;
            newly.extend(keys.into_iter().zip(found));
        }
        self.read_long(move |conn| scan::stuck(conn, &newly, now)).await
    }

    async fn inspect(
        &self,
        queue: Name,
        kind: Option<Name>,
        now: Timestamp,
    ) -> Result<Vec<KindState>> {
        self.read_long(move |conn| scan::inspect(conn, &queue, kind.as_ref(), now)).await
    }

    async fn record_episodes(&self, episodes: Vec<Episode>) -> Result<()> {
        self.writer.write(move |tx| episodes.iter().try_for_each(|e| episodes::record(tx, e))).await
    }

    async fn episodes(&self, filter: EpisodeFilter, limit: u32) -> Result<Vec<Episode>> {
        self.read_long(move |conn| episodes::list(conn, &filter, limit)).await
    }

    async fn record_presence(&self, seen: Vec<Presence>, now: Timestamp) -> Result<()> {
        self.writer
            .write(move |tx| {
                tx.saw(now);
                for p in &seen {
                    record_presence(tx, p)?;
                }
                Ok(())
            })
            .await
    }

    async fn workers(&self) -> Result<Vec<(Presence, u64)>> {
        self.read_long(reads::workers).await
    }

    async fn save_estimates(&self, estimates: Vec<Saved>, oldest: Timestamp) -> Result<()> {
        self.writer.write_growing(move |tx| estimates::save(tx, &estimates, oldest)).await
    }

    async fn estimates(&self) -> Result<Vec<Saved>> {
        self.read_long(estimates::load).await
    }

    async fn close(&self) {
        self.readers.free.close();
        self.readers.lock().clear();
        self.writer.close().await;
    }
}

fn record_presence(tx: &writer::Tx<'_>, p: &Presence) -> Result<()> {
    let names = |names: &[Name]| to_json(&names.iter().map(Name::as_str).collect::<Vec<_>>());
    tx.conn
        .prepare_cached(
            "INSERT INTO presence (worker, queues, kinds, capacity, hostname, version, last_seen, \
             last_claim, last_heartbeat, last_settlement, namespace, directive) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
             ON CONFLICT DO UPDATE SET queues = excluded.queues, \
             kinds = excluded.kinds, capacity = excluded.capacity, hostname = excluded.hostname, \
             version = excluded.version, last_seen = max(last_seen, excluded.last_seen), \
             last_claim = excluded.last_claim, last_heartbeat = excluded.last_heartbeat, \
             last_settlement = excluded.last_settlement, namespace = excluded.namespace, \
             directive = coalesce(excluded.directive, directive)",
        )
        .map_err(fault)?
        .execute((
            p.worker.as_str(),
            names(&p.queues)?,
            names(&p.kinds)?,
            p.capacity,
            &p.hostname,
            &p.version,
            p.last_seen.as_millis(),
            p.last_claim.map(Timestamp::as_millis),
            p.last_heartbeat.map(Timestamp::as_millis),
            p.last_settlement.map(Timestamp::as_millis),
            p.namespace.as_ref().map(Name::as_str),
            (p.directive == Directive::Drain).then_some(p.directive.as_str()),
        ))
        .map_err(fault)?;
    Ok(())
}
