//! Workers that do nothing but claim and settle, as fast as the server lets them.
//!
//! Each worker has one connection. It settles what it holds and claims the next in one call; when
//! there was nothing to claim it parks a claim. It ends when as many jobs as there are were done,
//! or none comes any more, or time is over; what it holds then is settled first, so a scenario
//! leaves no lease behind.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use super::connection::{Answer, Call, Connection, Target, json};
use super::delivery::{self, Id};
use super::measure::{Latencies, now};
use crate::cli::Failure;
use crate::wire;

/// Long enough for any stall that a scenario outlives.
const LEASE_SECONDS: f64 = 300.0;
/// How long a claim stays parked before the worker looks at the clock again.
const PARK_SECONDS: f64 = 1.0;
/// Parked claims in a row that may bring nothing, once it is known how many jobs there are, before
/// the rest counts as not coming.
const EMPTY: u32 = 5;
/// Refusals in a row (429 or 503) that a worker waits out.
const PATIENCE: u32 = 100;
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// The goal while producers are still at it.
pub(crate) const NOT_YET: u64 = u64::MAX;

/// What the workers of one scenario share.
#[derive(Debug)]
pub(crate) struct Crew {
    pub(crate) name: String,
    pub(crate) queue: String,
    /// Jobs in one claim.
    pub(crate) batch: u32,
    /// How many jobs there are to do, or [`NOT_YET`].
    pub(crate) goal: AtomicU64,
    pub(crate) done: AtomicU64,
    pub(crate) until: Instant,
    /// Round trips that settled something.
    pub(crate) latencies: Latencies,
}

impl Crew {
    pub(crate) fn new(name: &str, queue: &str, batch: u32, goal: u64, until: Instant) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            queue: queue.to_owned(),
            batch,
            goal: AtomicU64::new(goal),
            done: AtomicU64::new(0),
            until,
            latencies: Latencies::new(),
        })
    }

    /// Whether there is nothing left for a worker whose last so many claims brought nothing.
    fn is_finished(&self, empty: u32) -> bool {
        let goal = self.goal.load(Ordering::Relaxed);
        self.done.load(Ordering::Relaxed) >= goal || (goal != NOT_YET && empty >= EMPTY)
    }
}

/// What the workers did.
#[derive(Debug, Default)]
pub(crate) struct Worked {
    pub(crate) ids: Vec<Id>,
    pub(crate) requests: u64,
    /// Settlements that the server did not take, and why the last was not.
    pub(crate) rejected: u64,
    pub(crate) last_rejection: Option<String>,
    /// Jobs that were not at their first attempt.
    pub(crate) repeated: u64,
    /// When the last settlement was confirmed.
    pub(crate) last_done: Option<Instant>,
}

impl Worked {
    pub(crate) fn merge(&mut self, mut other: Self) {
        self.ids.append(&mut other.ids);
        self.requests += other.requests;
        self.rejected += other.rejected;
        self.repeated += other.repeated;
        self.last_rejection = other.last_rejection.or(self.last_rejection.take());
        self.last_done = self.last_done.max(other.last_done);
    }

    /// What to say of oddities, if there were any.
    pub(crate) fn remark(&self) -> Option<String> {
        let mut all = Vec::new();
        if self.repeated > 0 {
            all.push(format!("{} attempts repeated", self.repeated));
        }
        if let Some(why) = &self.last_rejection {
            all.push(format!("{} settlements rejected: {why}", self.rejected));
        }
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// Runs one worker on each connection.
pub(crate) async fn run(
    crew: &Arc<Crew>,
    target: &Arc<Target>,
    connections: Vec<Connection>,
) -> Result<Worked, Failure> {
    let mut tasks = JoinSet::new();
    for (number, connection) in connections.into_iter().enumerate() {
        let worker = Worker::new(Arc::clone(crew), target, connection, number)?;
        tasks.spawn(worker.run());
    }
    let mut all = Worked::default();
    while let Some(task) = tasks.join_next().await {
        all.merge(task.map_err(|e| Failure::no(format!("a worker's task ended: {e}")))??);
    }
    Ok(all)
}

// The same shapes as in `wire`, borrowing: a worker that settles 100 jobs in a call must not spend
// its time on copies.

#[derive(Debug, Serialize)]
struct Settling<'a> {
    worker_id: &'a str,
    settlements: &'a [Settlement<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<&'a RawValue>,
}

#[derive(Debug, Serialize)]
struct Settlement<'a> {
    job_id: &'a str,
    lease_token: &'a str,
    outcome: &'static str,
}

#[derive(Debug, Deserialize)]
struct Answered<'a> {
    #[serde(borrow, default)]
    results: Vec<Taken<'a>>,
    #[serde(borrow, default)]
    jobs: Vec<Leased<'a>>,
}

#[derive(Debug, Deserialize)]
struct Taken<'a> {
    job_id: &'a str,
    ok: bool,
    #[serde(default)]
    problem: Option<wire::Problem>,
}

#[derive(Debug, Deserialize)]
struct Leased<'a> {
    job_id: &'a str,
    #[serde(borrow)]
    lease_token: Cow<'a, str>,
    attempt: u32,
}

#[derive(Debug)]
struct Worker {
    crew: Arc<Crew>,
    id: String,
    connection: Connection,
    claims: Call,
    settlements: Call,
    goodbye: Call,
    /// The claim that goes with settlements: never parked.
    next: Box<RawValue>,
    worked: Worked,
}

impl Worker {
    fn new(
        crew: Arc<Crew>,
        target: &Target,
        connection: Connection,
        number: usize,
    ) -> Result<Self, Failure> {
        let id = format!("{}-{number}", crew.name);
        let claim = |wait_seconds| wire::Claim {
            worker_id: id.clone(),
            queues: vec![crew.queue.clone()],
            max_jobs: Some(crew.batch),
            lease_seconds: Some(LEASE_SECONDS),
            wait_seconds: Some(wait_seconds),
            ..wire::Claim::default()
        };
        let parked = Bytes::from(bytes_of(&claim(PARK_SECONDS))?);
        let next = serde_json::value::to_raw_value(&claim(0.0)).map_err(|e| unwritable(&e))?;
        let goodbye = format!("/v1/workers/{id}/goodbye");
        Ok(Self {
            claims: Call::post(target, "/v1/claims", parked)?,
            settlements: Call::post(target, "/v1/settlements", Bytes::new())?,
            goodbye: Call::post(target, &goodbye, Bytes::from_static(b"{}"))?,
            id,
            connection,
            next,
            crew,
            worked: Worked::default(),
        })
    }

    async fn run(mut self) -> Result<Worked, Failure> {
        let mut answer = self.park().await?;
        let mut empty = 0;
        loop {
            let answered: Answered<'_> = json(&answer.body)?;
            self.take(&answered.results);
            let over = now() >= self.crew.until || self.crew.is_finished(empty);
            answer = if answered.jobs.is_empty() {
                if over {
                    break;
                }
                empty += 1;
                self.park().await?
            } else {
                empty = 0;
                self.settle(&answered.jobs, over).await?
            };
        }
        // A courtesy to a server that goes on; nothing depends on it.
        if self.connection.exchange(self.goodbye.request()).await.is_ok() {
            self.worked.requests += 1;
        }
        Ok(self.worked)
    }

    async fn park(&mut self) -> Result<Answer, Failure> {
        self.ask(None).await
    }

    async fn settle(&mut self, jobs: &[Leased<'_>], last: bool) -> Result<Answer, Failure> {
        self.worked.repeated += jobs.iter().filter(|job| job.attempt > 1).count() as u64;
        let settlements: Vec<Settlement<'_>> = jobs
            .iter()
            .map(|job| Settlement {
                job_id: job.job_id,
                lease_token: &job.lease_token,
                outcome: "completed",
            })
            .collect();
        let body = bytes_of(&Settling {
            worker_id: &self.id,
            settlements: &settlements,
            claim: (!last).then_some(&self.next),
        })?;
        let sent = now();
        let answer = self.ask(Some(Bytes::from(body))).await?;
        self.crew.latencies.record(now() - sent);
        Ok(answer)
    }

    /// Sends settlements, or else the parked claim, and waits out refusals: a settlement may be
    /// repeated word for word.
    async fn ask(&mut self, settlements: Option<Bytes>) -> Result<Answer, Failure> {
        let mut refused = 0;
        loop {
            let request = match &settlements {
                Some(body) => self.settlements.with_body(body.clone()),
                None => self.claims.request(),
            };
            let answer = self.connection.exchange(request).await?;
            self.worked.requests += 1;
            if answer.status == StatusCode::OK {
                return Ok(answer);
            }
            refused += 1;
            if !answer.is_refusal() || refused > PATIENCE {
                return Err(answer.unexpected());
            }
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
    }

    fn take(&mut self, results: &[Taken<'_>]) {
        let before = self.worked.ids.len();
        for result in results {
            if let Some(id) = delivery::id(result.job_id).filter(|_| result.ok) {
                self.worked.ids.push(id);
            } else {
                self.worked.rejected += 1;
                let code = result.problem.as_ref().map(|p| p.code.clone());
                self.worked.last_rejection = Some(code.unwrap_or_default());
            }
        }
        let done = (self.worked.ids.len() - before) as u64;
        if done > 0 {
            self.crew.done.fetch_add(done, Ordering::Relaxed);
            self.worked.last_done = Some(now());
        }
    }
}

fn bytes_of(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|e| unwritable(&e))
}

fn unwritable(error: &serde_json::Error) -> Failure {
    Failure::no(format!("a request cannot be written: {error}; report this"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_the_api_reads() {
        let claim = wire::Claim {
            worker_id: "w".into(),
            queues: vec!["q".into()],
            max_jobs: Some(7),
            ..wire::Claim::default()
        };
        let raw = serde_json::value::to_raw_value(&claim).unwrap();
        let settlements = [Settlement { job_id: "j", lease_token: "t\"", outcome: "completed" }];
        let sent = Settling { worker_id: "w", settlements: &settlements, claim: Some(&raw) };
        let read: wire::Settlements = serde_json::from_slice(&bytes_of(&sent).unwrap()).unwrap();
        assert_eq!(read.claim, Some(claim));
        assert_eq!(read.settlements[0].job_id, "j");
        assert_eq!(read.settlements[0].lease_token, "t\"");
        assert_eq!(read.settlements[0].outcome, "completed");
    }

    #[test]
    fn what_the_api_answers_is_read() {
        let answer = wire::SettlementsAnswer {
            results: vec![
                wire::SettlementResult { job_id: "a".into(), ok: true, ..Default::default() },
                wire::SettlementResult {
                    job_id: "b".into(),
                    problem: Some(wire::Problem {
                        code: "lease-lost".into(),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
            ],
            jobs: vec![wire::LeasedJob {
                job_id: "c".into(),
                lease_token: "quoted \"token\"".into(),
                attempt: 2,
                ..Default::default()
            }],
            ..Default::default()
        };
        let text = serde_json::to_vec(&answer).unwrap();
        let read: Answered<'_> = json(&text).unwrap();
        assert!(read.results[0].ok && !read.results[1].ok);
        assert_eq!(read.results[1].problem.as_ref().unwrap().code, "lease-lost");
        assert_eq!(read.jobs[0].lease_token, "quoted \"token\"");
        assert_eq!(read.jobs[0].attempt, 2);
    }

    #[test]
    fn a_crew_is_finished_only_when_its_goal_is_known() {
        let crew = Crew::new("w", "q", 1, NOT_YET, now());
        crew.done.store(5, Ordering::Relaxed);
        assert!(!crew.is_finished(0) && !crew.is_finished(EMPTY));
        crew.goal.store(5, Ordering::Relaxed);
        assert!(crew.is_finished(0));
        crew.goal.store(6, Ordering::Relaxed);
        assert!(!crew.is_finished(EMPTY - 1) && crew.is_finished(EMPTY));
    }
}
