//! Group commit: one thread owns the writing connection and commits together whatever has
//! gathered while the last commit was syncing.
//!
//! An operation is a function of the transaction that may be run more than once: when one of a
//! group fails for its own reasons, the group is rolled back and each is committed alone, so that
//! a bad operation harms no other. Nobody is answered before the commit has returned.
//!
//! One failure is an answer like any other: [`StoreError::LowSpace`], which an operation may give
//! as long as it has written nothing. The disk is asked once for each group in which anything
//! grows.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::domain::job::{Status, Tally};
use crate::domain::time::Timestamp;
use crate::store::{Result, StoreError};

use super::book::Book;
use super::checkpoint::Commits;
use super::line::{Line, Step, Way};
use super::marks::{self, Key};
use super::names::Share;
use super::rows::fault;
use super::space::Space;
use super::spaces::Known;

/// The most operations in one commit.
const GROUP_LIMIT: usize = 1024;

/// Operations waiting beyond this hold up their callers.
const BACKLOG_LIMIT: usize = 8192;

/// What the store tells about a commit.
pub type CommitObserver = Arc<dyn Fn(usize) + Send + Sync>;

/// A transaction under way.
pub(super) struct Tx<'a> {
    pub(super) conn: &'a Connection,
    pub(super) book: &'a mut Book,
    /// Why nothing may grow, if so. Only operations that said that they grow need to look.
    pub(super) low_space: Option<String>,
    pub(super) share: &'a Share,
    counts: HashMap<(i64, i64, Tally), i64>,
    /// Stuck marks that have changed.
    pub(super) marks: HashSet<Key>,
    /// Told once it is committed.
    steps: Vec<Step>,
    /// As of the last commit.
    pub(super) line: &'a Line,
    jobs: usize,
    commit_anyway: bool,
}

impl Tx<'_> {
    /// A job moved between tallies (or appeared, or went).
    pub(super) fn count(&mut self, queue: i64, kind: i64, from: Option<Tally>, to: Option<Tally>) {
        self.jobs += 1;
        if from == to {
            return;
        }
        let running = |tally| i64::from(tally == Some(Tally::Running));
        match running(to) - running(from) {
            0 => {}
            by => self.book.runs(queue, by),
        }
        let waiting = |tally: Option<Tally>| {
            i64::from(tally.is_some_and(|tally| tally.status() == Status::Pending))
        };
        match waiting(to) - waiting(from) {
            0 => {}
            by => self.book.waits(queue, by),
        }
        if let Some(tally) = from {
            *self.counts.entry((queue, kind, tally)).or_default() -= 1;
        }
        if let Some(tally) = to {
            *self.counts.entry((queue, kind, tally)).or_default() += 1;
        }
    }

    /// Whether a job of this queue and kind moves in this commit: its counter is still to come.
    pub(super) fn counts_change(&self, key: Key) -> bool {
        self.counts_change_in(|changed| changed == key)
    }

    pub(super) fn counts_change_in(&self, is: impl Fn(Key) -> bool) -> bool {
        self.counts.keys().any(|(queue, kind, _)| is((*queue, *kind)))
    }

    /// A job of this queue and priority moved from one place in line to another, or to or from
    /// none.
    pub(super) fn stands(
        &mut self,
        (queue, priority): (i64, i32),
        from: Option<i64>,
        to: Option<i64>,
    ) {
        if from == to {
            return;
        }
        let mut step = |sequence, way| self.steps.push(Step { queue, priority, sequence, way });
        if let Some(sequence) = from {
            step(sequence, Way::Out);
        }
        if let Some(sequence) = to {
            step(sequence, Way::In);
        }
    }

    /// Commits also when nothing changes, to learn whether that is possible.
    pub(super) fn commit_anyway(&mut self) {
        self.commit_anyway = true;
    }

    pub(super) fn saw(&mut self, now: Timestamp) {
        self.book.saw(now);
    }

    /// Writes what is kept once for each commit: counters, the clock, the sequence.
    fn finish(&mut self) -> Result<()> {
        let mut upsert = self
            .conn
            .prepare_cached(
                "INSERT INTO job_counts (queue_id, kind_id, tally, jobs) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT DO UPDATE SET jobs = jobs + excluded.jobs",
            )
            .map_err(fault)?;
        for ((queue, kind, tally), delta) in self.counts.drain() {
            if delta != 0 {
                upsert.execute((queue, kind, tally.code(), delta)).map_err(fault)?;
            }
        }
        drop(upsert);
        for key in std::mem::take(&mut self.marks) {
            marks::write(self, key)?;
        }
        let seen = self.book.saw(Timestamp::EPOCH).as_millis();
        self.conn
            .prepare_cached("UPDATE progress SET last_seen = ?1, next_sequence = ?2")
            .and_then(|mut s| s.execute((seen, self.book.next_sequence())))
            .map_err(fault)?;
        Ok(())
    }
}

/// A piece of work for the writer, and the one who waits for it.
trait Operation: Send {
    /// Whether it makes the store grow, and so is the first to go when it is full.
    fn grows(&self) -> bool;
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()>;
    fn committed(self: Box<Self>);
    fn failed(self: Box<Self>, error: StoreError);
}

struct Call<T, F> {
    grows: bool,
    work: F,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Operation for Call<T, F>
where
    T: Send,
    F: Fn(&mut Tx<'_>) -> Result<T> + Send,
{
    fn grows(&self) -> bool {
        self.grows
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        let before = tx.conn.total_changes();
        self.result = Some(match (self.work)(tx) {
            // For the one who asked alone: the others are committed.
            Err(StoreError::LowSpace(why)) => {
                debug_assert_eq!(tx.conn.total_changes(), before, "refused after it had written");
                Err(StoreError::LowSpace(why))
            }
            outcome => Ok(outcome?),
        });
        Ok(())
    }

    fn committed(self: Box<Self>) {
        // A caller that has gone does not undo a commit; whoever must know runs in a task that
        // outlives its client (see the engine's claims).
        drop(self.reply.send(self.result.unwrap_or(Err(StoreError::Closed))));
    }

    fn failed(self: Box<Self>, error: StoreError) {
        drop(self.reply.send(Err(error)));
    }
}

enum Message {
    Run(Box<dyn Operation>),
    /// Finish a checkpoint and start the log anew, while nothing else can grow it.
    Checkpoint(SyncSender<()>),
    Close(oneshot::Sender<()>),
}

/// Hands work to the writer thread.
#[derive(Clone)]
pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
}

impl Writer {
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.call(false, work).await
    }

    /// The same for work that makes the store grow: in a full store it is refused first, and it
    /// must heed [`Tx::low_space`].
    pub(super) async fn write_growing<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        self.call(true, work).await
    }

    async fn call<T, F>(&self, grows: bool, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(Call { grows, work, result: None, reply });
        self.queue.send(Message::Run(call)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// For the checkpointer, which must not keep the writer alive.
    pub(super) fn downgrade(&self) -> WeakWriter {
        WeakWriter { queue: self.queue.downgrade() }
    }

    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Message::Close(done)).await.is_ok() {
            drop(closed.await);
        }
    }
}

/// Reaches the writer while somebody else still does.
pub(super) struct WeakWriter {
    queue: mpsc::WeakSender<Message>,
}

impl WeakWriter {
    /// Returns when it is done, or `patience` has passed.
    pub(super) fn finish_checkpoint(&self, patience: Duration) {
        let (done, finished) = sync_channel(1);
        let asked = self
            .queue
            .upgrade()
            .is_some_and(|queue| queue.try_send(Message::Checkpoint(done)).is_ok());
        // A full inbox has better to do; the log is asked about again soon.
        if asked {
            let _ = finished.recv_timeout(patience);
        }
    }
}

/// A thread of the store, joined when dropped: nothing may still use the file after it is
/// unlocked. To be dropped after whatever keeps the thread going.
#[derive(Debug)]
pub(super) struct Joined(Option<JoinHandle<()>>);

impl From<JoinHandle<()>> for Joined {
    fn from(thread: JoinHandle<()>) -> Self {
        Self(Some(thread))
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take().filter(|t| t.thread().id() != thread::current().id()) {
            // A panic there has been told to whoever waited for an answer.
            drop(thread.join());
        }
    }
}

/// Who hears of each commit, before those who waited for it.
pub(super) struct Told {
    pub(super) observer: CommitObserver,
    pub(super) namespaces: Known,
}

/// What stands in the way of growth.
pub(super) struct Limits {
    pub(super) space: Arc<Space>,
    pub(super) share: Share,
}

/// Starts the writer thread.
pub(super) fn start(
    conn: Connection,
    told: Told,
    commits: Commits,
    limits: Limits,
    line: Arc<Line>,
) -> Result<(Joined, Writer)> {
    let book = Book::load(&conn)?;
    told.namespaces.publish(&book.namespaces);
    let (queue, inbox) = mpsc::channel(BACKLOG_LIMIT);
    let thread = Thread { conn, book: Some(book), told, commits, limits, line };
    let handle = thread::Builder::new()
        .name("store-writer".to_owned())
        .spawn(move || thread.run(inbox))
        .map_err(|e| StoreError::Other(e.to_string()))?;
    Ok((handle.into(), Writer { queue }))
}

struct Thread {
    conn: Connection,
    /// `None` after a failure, until it could be read anew.
    book: Option<Book>,
    told: Told,
    commits: Commits,
    limits: Limits,
    line: Arc<Line>,
}

impl Thread {
    fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut group: Vec<Box<dyn Operation>> = Vec::new();
        while let Some(first) = inbox.blocking_recv() {
            let mut next = Some(first);
            let mut checkpoint = None;
            let mut closing = None;
            while let Some(message) = next {
                match message {
                    Message::Run(operation) => group.push(operation),
                    Message::Checkpoint(done) => checkpoint = Some(done),
                    Message::Close(done) => {
                        inbox.close();
                        closing = Some(done);
                    }
                }
                next = if group.len() < GROUP_LIMIT { inbox.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.commit_group(&mut group);
            }
            if let Some(done) = checkpoint {
                super::checkpoint::restart(&self.conn);
                let _ = done.try_send(());
            }
            if let Some(done) = closing {
                super::checkpoint::truncate(&self.conn);
                drop(self);
                let _ = done.send(());
                return;
            }
        }
    }

    fn commit_group(&mut self, group: &mut Vec<Box<dyn Operation>>) {
        let error = match self.transact(group) {
            Ok(()) => {
                group.drain(..).for_each(Operation::committed);
                return;
            }
            Err(error) => error,
        };
        // A full store takes no more jobs, but what ends jobs may still fit.
        let rest = group.iter().any(|op| op.grows()) && !group.iter().all(|op| op.grows());
        if matches!(error, StoreError::Full(_)) && rest {
            let (growing, mut rest): (Vec<_>, Vec<_>) = group.drain(..).partition(|op| op.grows());
            for operation in growing {
                operation.failed(error.clone());
            }
            self.commit_group(&mut rest);
            return;
        }
        // A fault of the whole store hits everyone alike; one of an operation's own making must
        // not take the others with it.
        let shared = !matches!(error, StoreError::Other(_));
        if shared || group.len() == 1 {
            group.drain(..).for_each(|op| op.failed(error.clone()));
            return;
        }
        for operation in group.drain(..) {
            let mut alone = vec![operation];
            let outcome = self.transact(&mut alone);
            for operation in alone {
                match &outcome {
                    Ok(()) => operation.committed(),
                    Err(error) => operation.failed(error.clone()),
                }
            }
        }
    }

    /// Runs and commits; on any failure everything is undone, the book too.
    fn transact(&mut self, group: &mut [Box<dyn Operation>]) -> Result<()> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.attempt(group)))
            .unwrap_or_else(|_| Err(StoreError::Other("an operation panicked".to_owned())));
        match outcome {
            Ok(jobs) => {
                self.commits.note();
                // A panic there is no reason to stop committing.
                drop(catch_unwind(AssertUnwindSafe(|| (self.told.observer)(jobs))));
                if let Some(book) = &self.book {
                    self.told.namespaces.publish(&book.namespaces);
                }
                Ok(())
            }
            Err(error) => {
                if !self.conn.is_autocommit() {
                    drop(self.conn.execute_batch("ROLLBACK"));
                }
                self.book = None;
                Err(error)
            }
        }
    }

    fn attempt(&mut self, group: &mut [Box<dyn Operation>]) -> Result<usize> {
        let book = match &mut self.book {
            Some(book) => book,
            none => none.insert(Book::load(&self.conn)?),
        };
        let grows = group.iter().any(|op| op.grows());
        let low_space = if grows { self.limits.space.shortage() } else { None };
        let begin = |sql| self.conn.prepare_cached(sql).and_then(|mut s| s.execute([]));
        begin("BEGIN IMMEDIATE").map_err(fault)?;
        let before = self.conn.total_changes();
        let mut tx = Tx {
            conn: &self.conn,
            book,
            counts: HashMap::new(),
            marks: HashSet::new(),
            low_space,
            share: &self.limits.share,
            steps: Vec::new(),
            line: &self.line,
            jobs: 0,
            commit_anyway: false,
        };
        for operation in group {
            operation.run(&mut tx)?;
        }
        if self.conn.total_changes() == before && !tx.commit_anyway {
            // Nobody wrote anything (a claim that found nothing, maintenance with nothing to do):
            // there is nothing to sync either.
            begin("ROLLBACK").map_err(fault)?;
            return Ok(0);
        }
        tx.finish()?;
        let (jobs, steps) = (tx.jobs, std::mem::take(&mut tx.steps));
        begin("COMMIT").map_err(fault)?;
        self.line.moved(&steps, |queue| book.queues.name(queue));
        Ok(jobs)
    }
}
