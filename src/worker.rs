//! The worker runtime: claims jobs over HTTP, runs a [`Handler`] for each, keeps their leases
//! alive and settles them.
//!
//! One task, the [`runtime`], owns all the state and makes all the decisions; handlers and
//! requests run beside it and report to it. There is at most one claim, one settlement and one
//! heartbeat request on the way at a time. Two claims at once would be wrong, not just wasteful:
//! every claim lists the jobs that are `held`, and the server releases what it granted earlier and
//! does not find in the list. The other two gather what comes up meanwhile into the next batch.
//!
//! Invariants:
//! - work never outlives its lease: it is told to stop before the lease would end, measured from
//!   *before* the request that granted or extended it was sent, and dropped at the end;
//! - work never outlives its attempt's time-out either, which no heartbeat extends; work that was
//!   stopped for it has failed with `attempt-timeout`;
//! - a lost lease's work is stopped and its outcome thrown away;
//! - an outcome is sent until the server has answered yes or no, and its lease is kept alive
//!   meanwhile. The server, not a local clock, says that a lease is gone, because it extends
//!   leases after its own outages;
//! - a worker stops by itself only for an answer that trying again cannot change.
//!
//! A worker is a [`WorkerConfig`], a [`Handler`] and a [`Phase`]. A handler that honours
//! [`Context::stopped`] is all that a cancel needs:
//!
//! ```no_run
//! use punctual::client::Client;
//! use punctual::wire::LeasedJob;
//! use punctual::worker::{self, Context, Outcome, WorkerConfig};
//!
//! #[derive(serde::Deserialize)]
//! struct Order {
//!     pages: u32,
//! }
//!
//! async fn render(job: LeasedJob, mut context: Context) -> Outcome {
//!     let order = match job.payload.as_ref().map(|p| p.read::<Order>()) {
//!         Some(Ok(order)) => order,
//!         // It will not be better the next time.
//!         Some(Err(e)) => return Outcome::hopeless("bad-payload", e.to_string()),
//!         None => return Outcome::hopeless("bad-payload", "there is none"),
//!     };
//!     for page in 1..=order.pages {
//!         tokio::select! {
//!             () = render_page(&job.root_job_id, job.fence, page) => {}
//!             // Cancelled, draining, or the lease is going: stop. The runtime says the right thing.
//!             _ = context.stopped() => return Outcome::Cancelled,
//!         }
//!         context.report_progress(Some(100.0 * f64::from(page) / f64::from(order.pages)), None);
//!     }
//!     Outcome::completed(&serde_json::json!({ "pages": order.pages }))
//! }
//! # async fn render_page(_: &str, _: u64, _: u32) {}
//!
//! # async fn work() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("http://127.0.0.1:8080").build()?;
//! // Unique for each process.
//! let id = format!("renderer-{}", uuid::Uuid::now_v7());
//! let config = WorkerConfig { concurrency: 4, ..WorkerConfig::new(client, id, vec!["reports".into()]) };
//! // SIGTERM: claim nothing more, finish what runs, say goodbye.
//! let summary = worker::run(config, render, worker::on_signals()?).await?;
//! println!("{} completed", summary.completed);
//! # Ok(())
//! # }
//! ```
//!
//! Time is tokio's monotonic clock. Must not know: the engine, stores, the command line.

mod calls;
mod exec;
mod forward;
mod handler;
mod held;
mod lease;
mod limit;
mod outcome;
mod runtime;
mod signals;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::sync::watch;

pub use exec::Exec;
pub use forward::Forward;
pub use handler::{Context, Handler, Outcome, Stop};
pub use signals::on_signals;

use crate::client::{Client, ClientError};

/// The most jobs that one worker process may run at once: what one batch of heartbeats holds.
pub const MAX_CONCURRENCY: u32 = 1000;

/// What a worker is and what it wants.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    pub client: Client,
    /// Unique for each process: 1 to 512 bytes without control characters.
    pub worker_id: String,
    /// In strict order of preference; at least one.
    pub queues: Vec<String>,
    /// Empty: all.
    pub kinds: Vec<String>,
    /// How many jobs run at once, 1 to [`MAX_CONCURRENCY`].
    pub concurrency: u32,
    /// 1 s to 1 h; the queue's default when absent.
    pub lease: Option<Duration>,
    pub hostname: Option<String>,
    pub version: Option<String>,
    /// How long running jobs may go on after a drain has begun; 30 s by default. What is left
    /// then is stopped and released.
    pub grace: Duration,
}

impl WorkerConfig {
    pub const GRACE: Duration = Duration::from_secs(30);

    pub fn new(client: Client, worker_id: String, queues: Vec<String>) -> Self {
        Self {
            client,
            worker_id,
            queues,
            kinds: Vec::new(),
            concurrency: 1,
            lease: None,
            hostname: None,
            version: None,
            grace: Self::GRACE,
        }
    }
}

/// What the owner of a worker wants of it; it only ever grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    #[default]
    Run,
    /// Claim nothing more, finish what runs within the grace, then leave.
    Drain,
    /// Stop what runs now, release it, then leave.
    Stop,
}

/// What a worker did until it left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    pub completed: u64,
    pub failed: u64,
    pub released: u64,
    pub cancelled: u64,
    /// Leases that were lost, and outcomes that the server did not accept.
    pub lost: u64,
}

/// Why a worker stopped by itself.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WorkerError {
    /// The server refused its claims, and would again.
    #[error("the server refuses this worker's claims: {0}")]
    Refused(ClientError),
}

/// Runs a worker until `phase` asks it to leave, the server drains it, or the server refuses it.
///
/// A dropped sender of `phase` counts as [`Phase::Drain`].
pub async fn run<H: Handler>(
    config: WorkerConfig,
    handler: H,
    phase: watch::Receiver<Phase>,
) -> Result<Summary, WorkerError> {
    runtime::Runtime::new(config, handler, phase).run().await
}
