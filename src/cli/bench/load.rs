//! The load itself: many connections that send one request over and over.
//!
//! - [`closed`]: each connection sends when its last answer is in. This finds the most that the
//!   server can do; its latencies are those of a server at its limit.
//! - [`open`]: requests are due at a fixed rate, whatever the server does, and latency counts
//!   from the moment a request was *due*, so a stall is felt by all requests that it delayed (no
//!   coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connection::{Answer, Call, Connection, json};
use super::delivery::{self, Id};
use super::measure::{Latencies, now};
use crate::cli::Failure;

/// How often the pacer looks at the clock. The runtime's own timers tick once a millisecond,
/// which is more than many answers take.
const PACE: Duration = Duration::from_micros(50);

/// What to send and what to expect.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) call: Call,
    pub(crate) expect: StatusCode,
    /// Answers carry a job's id, to be kept for the delivery check.
    pub(crate) ids: bool,
    pub(crate) latencies: Latencies,
}

impl Load {
    pub(crate) fn new(call: Call, expect: StatusCode, ids: bool) -> Arc<Self> {
        Arc::new(Self { call, expect, ids, latencies: Latencies::new() })
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) connections: Vec<Connection>,
    pub(crate) ids: Vec<Id>,
    /// Answers as expected.
    pub(crate) answered: u64,
    /// Answers that said "not now" (429 or 503).
    pub(crate) refused: u64,
    pub(crate) last_refusal: Option<String>,
}

impl Loaded {
    /// Requests that the server answered.
    pub(crate) fn requests(&self) -> u64 {
        self.answered + self.refused
    }

    /// What to say of refusals, if there were any.
    pub(crate) fn remark(&self) -> Option<String> {
        let why = self.last_refusal.as_deref()?;
        Some(format!("{} refused: {why}", self.refused))
    }

    fn take(&mut self, load: &Load, answer: &Answer) -> Result<(), Failure> {
        if answer.status == load.expect {
            self.answered += 1;
            if load.ids {
                self.ids.push(job_id(&answer.body)?);
            }
            return Ok(());
        }
        if !answer.is_refusal() {
            return Err(answer.unexpected());
        }
        self.refused += 1;
        self.last_refusal = Some(answer.complaint());
        Ok(())
    }

    fn merge(&mut self, mut other: Self) {
        self.connections.append(&mut other.connections);
        self.ids.append(&mut other.ids);
        self.answered += other.answered;
        self.refused += other.refused;
        self.last_refusal = other.last_refusal.or(self.last_refusal.take());
    }
}

/// The id in a job's representation; the rest is skipped over, not kept.
fn job_id(body: &[u8]) -> Result<Id, Failure> {
    #[derive(serde::Deserialize)]
    struct Accepted<'a> {
        job_id: &'a str,
    }
    let accepted: Accepted<'_> = json(body)?;
    delivery::id(accepted.job_id)
        .ok_or_else(|| Failure::no(format!("{:?} is no job id", accepted.job_id)))
}

/// Sends until the moment `until`, or until `most` requests were sent.
pub(crate) async fn closed(
    connections: Vec<Connection>,
    load: &Arc<Load>,
    until: Instant,
    most: u64,
) -> Result<Loaded, Failure> {
    let tickets = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        let (load, tickets) = (Arc::clone(load), Arc::clone(&tickets));
        tasks.spawn(async move {
            let mut loaded = Loaded::default();
            let mut sent = now();
            while sent < until && tickets.fetch_add(1, Ordering::Relaxed) < most {
                let answer = connection.exchange(load.call.request()).await?;
                let answered = now();
                load.latencies.record(answered - sent);
                loaded.take(&load, &answer)?;
                sent = answered;
            }
            loaded.connections.push(connection);
            Ok(loaded)
        });
    }
    gather(tasks).await
}

/// Sends `rate` requests a second for as long as asked, each as soon after its due moment as a
/// connection is free. Requests that are still unsent after twice that time are given up, so
/// fewer answers than were due means that the server could not keep up.
pub(crate) async fn open(
    connections: Vec<Connection>,
    load: &Arc<Load>,
    rate: f64,
    during: Duration,
) -> Result<Loaded, Failure> {
    let schedule = Schedule { start: now(), rate, total: (rate * during.as_secs_f64()) as u64 };
    let give_up = schedule.start + during * 2;
    let due = Arc::new(Semaphore::new(0));
    let next = Arc::new(AtomicU64::new(0));
    let pacer = Pacer::start(schedule, Arc::clone(&due), connections.len());
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        let (load, due, next) = (Arc::clone(load), Arc::clone(&due), Arc::clone(&next));
        tasks.spawn(async move {
            let mut loaded = Loaded::default();
            while let Ok(permit) = due.acquire().await {
                permit.forget();
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= schedule.total || now() > give_up {
                    break;
                }
                let answer = connection.exchange(load.call.request()).await?;
                load.latencies.record(now().saturating_duration_since(schedule.due(number)));
                loaded.take(&load, &answer)?;
            }
            loaded.connections.push(connection);
            Ok(loaded)
        });
    }
    let loaded = gather(tasks).await;
    drop(pacer);
    loaded
}

async fn gather(mut tasks: JoinSet<Result<Loaded, Failure>>) -> Result<Loaded, Failure> {
    let mut all = Loaded::default();
    while let Some(task) = tasks.join_next().await {
        all.merge(task.map_err(|e| Failure::no(format!("a connection's task ended: {e}")))??);
    }
    Ok(all)
}

/// When each request is due.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    start: Instant,
    rate: f64,
    total: u64,
}

impl Schedule {
    fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / self.rate)
    }

    /// How many requests are due after so much time.
    fn due_after(&self, elapsed: Duration) -> u64 {
        (((elapsed.as_secs_f64() * self.rate) as u64).saturating_add(1)).min(self.total)
    }
}

/// A thread that lets requests go when they are due. Ends when dropped.
#[derive(Debug)]
struct Pacer {
    stop: Arc<AtomicBool>,
}

impl Pacer {
    fn start(schedule: Schedule, due: Arc<Semaphore>, connections: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut released = 0;
            while released < schedule.total && !stopped.load(Ordering::Relaxed) {
                let so_far = schedule.due_after(now().saturating_duration_since(schedule.start));
                due.add_permits(usize::try_from(so_far - released).unwrap_or(usize::MAX >> 3));
                released = so_far;
                pause();
            }
            // One more for each connection: it finds that nothing is left, and ends.
            due.add_permits(connections);
        });
        Self { stop }
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, finer than runtime timers")]
fn pause() {
    std::thread::sleep(PACE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_even_and_ends() {
        let start = now();
        let schedule = Schedule { start, rate: 1_000.0, total: 500 };
        assert_eq!(schedule.due(0), start);
        assert_eq!(schedule.due(250) - start, Duration::from_millis(250));
        assert_eq!(schedule.due_after(Duration::ZERO), 1);
        assert_eq!(schedule.due_after(Duration::from_millis(99)), 100);
        assert_eq!(schedule.due_after(Duration::from_secs(60)), 500);
    }

    #[test]
    fn no_request_is_released_before_it_is_due() {
        let schedule = Schedule { start: now(), rate: 7_777.0, total: 10_000 };
        for millis in 0..1_000 {
            let elapsed = Duration::from_millis(millis);
            let last = schedule.due_after(elapsed) - 1;
            let due = schedule.due(last) - schedule.start;
            assert!(due <= elapsed + Duration::from_nanos(1), "{last} at {elapsed:?}");
        }
    }

    #[test]
    fn ids_are_found_in_answers() {
        let body = br#"{"job_id":"00000000-0000-0000-0000-00000000000a","status":"pending"}"#;
        assert_eq!(job_id(body).unwrap(), 10);
        assert!(job_id(br#"{"job_id":"7"}"#).is_err());
        assert!(job_id(b"<html>").is_err());
    }

    #[tokio::test]
    async fn a_pacer_lets_every_request_go_and_every_connection_end() {
        let due = Arc::new(Semaphore::new(0));
        let schedule = Schedule { start: now(), rate: 100_000.0, total: 1_000 };
        let _pacer = Pacer::start(schedule, Arc::clone(&due), 4);
        for _ in 0..1_004 {
            due.acquire().await.unwrap().forget();
        }
        assert_eq!(due.available_permits(), 0);
    }
}
