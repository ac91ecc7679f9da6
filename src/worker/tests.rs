//! The runtime against a scripted server on a real socket.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;
use crate::domain::job::RawJson;
use crate::wire;

/// What the server should do, and what it saw.
#[derive(Debug, Default)]
struct Script {
    jobs: VecDeque<wire::LeasedJob>,
    /// Kept out of every claim's answer until set, then sent once.
    cancel: Vec<String>,
    /// Before the answer to a claim that grants something.
    slow_grants: Duration,
    claims_refused: Option<(StatusCode, &'static str)>,
    /// How many settlement requests are answered 503 first.
    failing_settlements: usize,
    /// The problem that a job's settlements meet, once.
    unfit: HashMap<String, u16>,
    heartbeats_fail: bool,
    /// Whether heartbeats are answered with the directive to leave.
    drain: bool,
    lost: Vec<String>,
    log: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Server {
    script: Arc<Mutex<Script>>,
    changed: Arc<Notify>,
}

impl Server {
    fn with<T>(&self, f: impl FnOnce(&mut Script) -> T) -> T {
        let out = f(&mut self.script.lock().unwrap());
        self.changed.notify_waiters();
        out
    }

    fn log(&self, line: impl Into<String>) {
        self.with(|s| s.log.push(line.into()));
    }

    fn count(&self, line: &str) -> usize {
        self.with(|s| s.log.iter().filter(|l| *l == line).count())
    }

    /// Waits until the log holds the line.
    async fn sees(&self, line: &str) {
        self.sees_so_often(line, 1).await;
    }

    async fn sees_so_often(&self, line: &str, times: usize) {
        let seen = async {
            loop {
                let changed = self.changed.notified();
                let log = self.script.lock().unwrap().log.clone();
                if log.iter().filter(|l| *l == line).count() >= times {
                    return;
                }
                changed.await;
            }
        };
        let log = || self.script.lock().unwrap().log.clone();
        assert!(timeout(PATIENCE, seen).await.is_ok(), "no {line:?} in {:?}", log());
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

fn problem(status: u16, code: &str) -> Response {
    let body = wire::Problem { status, code: code.into(), ..wire::Problem::default() };
    (StatusCode::from_u16(status).unwrap(), [("retry-after", "0")], Json(body)).into_response()
}

async fn grant(server: &Server, claim: &wire::Claim) -> (Vec<wire::LeasedJob>, Vec<String>) {
    assert!(claim.held.is_some() && claim.worker_id == "w1");
    let park = Duration::from_secs_f64(claim.wait_seconds.unwrap());
    let found = async {
        loop {
            let changed = server.changed.notified();
            let (jobs, cancel) = {
                let mut s = server.script.lock().unwrap();
                let n = s.jobs.len().min(claim.max_jobs.unwrap() as usize);
                (s.jobs.drain(..n).collect::<Vec<_>>(), std::mem::take(&mut s.cancel))
            };
            if !jobs.is_empty() || !cancel.is_empty() || park.is_zero() {
                return (jobs, cancel);
            }
            changed.await;
        }
    };
    let (jobs, cancel) = timeout(park.max(PATIENCE), found).await.unwrap_or_default();
    if !jobs.is_empty() {
        sleep(server.with(|s| s.slow_grants)).await;
    }
    (jobs, cancel)
}

async fn claims(State(server): State<Server>, Json(claim): Json<wire::Claim>) -> Response {
    server.log("claim");
    if let Some((status, code)) = server.with(|s| s.claims_refused) {
        return problem(status.as_u16(), code);
    }
    let (jobs, cancel) = grant(&server, &claim).await;
    Json(wire::Claimed { jobs, cancel, directive: "continue".into(), ..wire::Claimed::default() })
        .into_response()
}

async fn settle(State(server): State<Server>, Json(body): Json<wire::Settlements>) -> Response {
    let failing = server.with(|s| {
        let failing = s.failing_settlements > 0;
        s.failing_settlements = s.failing_settlements.saturating_sub(1);
        failing
    });
    if failing {
        server.log("settlement refused");
        return problem(503, "storage-unavailable");
    }
    let mut results = Vec::new();
    for s in &body.settlements {
        if let Some(status) = server.with(|script| script.unfit.remove(&s.job_id)) {
            let problem = wire::Problem { status, ..wire::Problem::default() };
            results.push(wire::SettlementResult {
                job_id: s.job_id.clone(),
                ok: false,
                status: None,
                problem: Some(problem),
            });
            continue;
        }
        let kind = s.error.as_ref().map(|e| format!(" {}", e.kind)).unwrap_or_default();
        server.log(format!("{} {}{kind}", s.job_id, s.outcome));
        results.push(wire::SettlementResult {
            job_id: s.job_id.clone(),
            ok: true,
            ..wire::SettlementResult::default()
        });
    }
    let (jobs, cancel) = match &body.claim {
        Some(claim) => {
            server.log("claim with outcomes");
            assert_eq!(claim.wait_seconds, Some(0.0), "outcomes must not wait");
            grant(&server, claim).await
        }
        None => Default::default(),
    };
    let directive = "continue".to_owned();
    Json(wire::SettlementsAnswer { results, jobs, cancel, directive, ..Default::default() })
        .into_response()
}

async fn heartbeats(State(server): State<Server>, Json(body): Json<wire::Heartbeats>) -> Response {
    server.log("heartbeat");
    if server.with(|s| s.heartbeats_fail) {
        return problem(503, "storage-unavailable");
    }
    let lost = server.with(|s| s.lost.clone());
    for item in &body.leases {
        if let Some(progress) = &item.progress {
            server.log(format!("{} {}%", item.job_id, progress.percent.unwrap()));
        }
    }
    let result = |item: wire::HeartbeatItem| {
        let ok = !lost.contains(&item.job_id);
        let gone = wire::Problem { status: 409, code: "lease-lost".into(), ..Default::default() };
        let problem = (!ok).then_some(gone);
        wire::HeartbeatResult { job_id: item.job_id, ok, problem, ..Default::default() }
    };
    let results = body.leases.into_iter().map(result).collect();
    let directive = if server.with(|s| s.drain) { "drain" } else { "continue" };
    Json(wire::HeartbeatsAnswer { results, directive: directive.into() }).into_response()
}

async fn goodbye(State(server): State<Server>) -> StatusCode {
    server.log("goodbye");
    StatusCode::NO_CONTENT
}

struct Rig {
    server: Server,
    phase: watch::Sender<Phase>,
    worker: JoinHandle<Result<Summary, WorkerError>>,
}

impl Rig {
    async fn new<H: Handler>(script: Script, handler: H, concurrency: u32) -> Self {
        let server = Server { script: Arc::new(Mutex::new(script)), ..Server::default() };
        let routes = Router::new()
            .route("/v1/claims", post(claims))
            .route("/v1/settlements", post(settle))
            .route("/v1/heartbeats", post(heartbeats))
            .route("/v1/workers/w1/goodbye", post(goodbye))
            .with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let client = Client::new(&address, None).unwrap();
        let config = WorkerConfig {
            concurrency,
            ..WorkerConfig::new(client, "w1".into(), vec!["default".into()])
        };
        let (phase, receiver) = watch::channel(Phase::Run);
        let worker = tokio::spawn(run(config, handler, receiver));
        Self { server, phase, worker }
    }

    async fn leaves(self, phase: Phase) -> Summary {
        self.phase.send_replace(phase);
        timeout(PATIENCE, self.worker).await.expect("left in time").unwrap().unwrap()
    }
}

fn job(id: &str, lease_seconds: f64) -> wire::LeasedJob {
    let (job_id, lease_token) = (id.to_owned(), format!("t-{id}"));
    wire::LeasedJob { job_id, lease_token, lease_seconds, ..wire::LeasedJob::default() }
}

fn jobs<const N: usize>(ids: [&str; N]) -> Script {
    Script { jobs: ids.map(|id| job(id, 30.0)).into(), ..Script::default() }
}

async fn done(_: wire::LeasedJob, _: Context) -> Outcome {
    Outcome::Completed(Some(RawJson::trusted("1")))
}

/// A handler that reports why it was stopped.
fn stubborn() -> (impl Handler, mpsc::UnboundedReceiver<Stop>) {
    let (tell, told) = mpsc::unbounded_channel();
    let handler = move |_: wire::LeasedJob, mut context: Context| {
        let tell = tell.clone();
        async move {
            context.report_progress(Some(40.0), None);
            let _ = tell.send(context.stopped().await);
            Outcome::Cancelled
        }
    };
    (handler, told)
}

async fn next(told: &mut mpsc::UnboundedReceiver<Stop>) -> Stop {
    timeout(PATIENCE, told.recv()).await.expect("stopped in time").unwrap()
}

#[tokio::test]
async fn outcomes_travel_with_the_next_claim() {
    let rig = Rig::new(jobs(["a", "b", "c"]), done, 1).await;
    for line in ["a completed", "b completed", "c completed", "claim with outcomes"] {
        rig.server.sees(line).await;
    }
    assert_eq!(rig.server.count("a completed"), 1);
    let server = rig.server.clone();
    let summary = rig.leaves(Phase::Drain).await;
    assert_eq!(summary, Summary { completed: 3, ..Summary::default() });
    assert_eq!(server.count("goodbye"), 1);
}

#[tokio::test]
async fn a_parked_claim_does_not_hold_up_leaving() {
    let rig = Rig::new(Script::default(), done, 1).await;
    rig.server.sees("claim").await;
    let server = rig.server.clone();
    rig.leaves(Phase::Drain).await;
    assert_eq!((server.count("claim"), server.count("goodbye")), (1, 1));
}

#[tokio::test]
async fn a_cancel_reaches_the_work() {
    let (handler, mut told) = stubborn();
    let rig = Rig::new(jobs(["a"]), handler, 2).await;
    rig.server.sees("a 40%").await;
    rig.server.with(|s| s.cancel.push("a".into()));
    assert_eq!(next(&mut told).await, Stop::Cancelled);
    rig.server.sees("a cancelled").await;
    assert_eq!(rig.leaves(Phase::Drain).await.cancelled, 1);
}

#[tokio::test]
async fn a_lost_leases_outcome_is_thrown_away() {
    let (handler, mut told) = stubborn();
    let script =
        Script { jobs: [job("a", 1.0)].into(), lost: vec!["a".into()], ..Script::default() };
    let rig = Rig::new(script, handler, 1).await;
    assert_eq!(next(&mut told).await, Stop::LeaseLost);
    let server = rig.server.clone();
    let summary = rig.leaves(Phase::Drain).await;
    assert_eq!(summary, Summary { lost: 1, ..Summary::default() });
    assert_eq!(server.count("a cancelled") + server.count("a released"), 0);
}

#[tokio::test]
async fn work_stops_before_a_lease_that_cannot_be_extended_ends() {
    let (handler, mut told) = stubborn();
    let script =
        Script { jobs: [job("a", 1.0)].into(), heartbeats_fail: true, ..Script::default() };
    let rig = Rig::new(script, handler, 1).await;
    let Stop::LeaseEnding(end) = next(&mut told).await else { panic!("another reason") };
    assert!(tokio::time::Instant::now() < end + Duration::from_secs(1));
    rig.server.sees("a released").await;
    rig.leaves(Phase::Stop).await;
}

/// A job whose lease can be extended as often as one likes and whose time cannot.
fn timed(id: &str) -> wire::LeasedJob {
    wire::LeasedJob {
        lease_expires_at: "2027-01-01T00:00:01Z".into(),
        timeout_at: "2027-01-01T00:00:02Z".into(),
        ..job(id, 1.0)
    }
}

#[tokio::test]
async fn work_stops_before_its_time_out_however_well_its_lease_is_kept() {
    let (handler, mut told) = stubborn();
    let rig = Rig::new(Script { jobs: [timed("a")].into(), ..Script::default() }, handler, 1).await;
    let Stop::TimedOut(end) = next(&mut told).await else { panic!("another reason") };
    assert!(tokio::time::Instant::now() < end + Duration::from_secs(1));
    rig.server.sees("a failed attempt-timeout").await;
    assert!(rig.server.count("heartbeat") > 1, "the lease was kept meanwhile");
    rig.leaves(Phase::Drain).await;
}

#[tokio::test]
async fn work_that_does_not_stop_is_dropped_at_its_time_out() {
    async fn deaf(_: wire::LeasedJob, _: Context) -> Outcome {
        std::future::pending().await
    }
    let rig = Rig::new(Script { jobs: [timed("a")].into(), ..Script::default() }, deaf, 1).await;
    rig.server.sees("a failed attempt-timeout").await;
    rig.leaves(Phase::Drain).await;
}

#[tokio::test]
async fn an_outcome_is_sent_until_there_is_a_verdict() {
    let script = Script { failing_settlements: 2, ..jobs(["a"]) };
    let rig = Rig::new(script, done, 1).await;
    rig.server.sees("a completed").await;
    assert_eq!(rig.server.count("settlement refused"), 2);
    assert_eq!(rig.leaves(Phase::Drain).await.completed, 1);
}

#[tokio::test]
async fn an_outcome_that_cannot_be_taken_fails_the_job() {
    let script = Script { unfit: [("a".to_owned(), 413)].into(), ..jobs(["a"]) };
    let rig = Rig::new(script, done, 1).await;
    rig.server.sees("a failed outcome-refused").await;
    assert_eq!(rig.leaves(Phase::Drain).await.failed, 1);
}

#[tokio::test]
async fn a_panic_fails_the_attempt() {
    async fn broken(_: wire::LeasedJob, _: Context) -> Outcome {
        panic!("boom")
    }
    let rig = Rig::new(jobs(["a"]), broken, 1).await;
    rig.server.sees("a failed panic").await;
    rig.leaves(Phase::Drain).await;
}

#[tokio::test]
async fn stopping_gives_the_jobs_back() {
    let (handler, mut told) = stubborn();
    let rig = Rig::new(jobs(["a"]), handler, 1).await;
    rig.server.sees("a 40%").await;
    let server = rig.server.clone();
    let summary = rig.leaves(Phase::Stop).await;
    assert_eq!(next(&mut told).await, Stop::Draining);
    assert_eq!((summary.released, server.count("a released")), (1, 1));
}

#[tokio::test]
async fn the_server_may_ask_it_to_leave() {
    let go = Arc::new(Notify::new());
    let opened = Arc::clone(&go);
    let handler = move |_: wire::LeasedJob, _: Context| {
        let go = Arc::clone(&opened);
        async move {
            go.notified().await;
            Outcome::completed(&1)
        }
    };
    let script =
        Script { jobs: [job("a", 1.0), job("b", 1.0)].into(), drain: true, ..Script::default() };
    let rig = Rig::new(script, handler, 1).await;
    // The second leaves only when the answer to the first has been read.
    rig.server.sees_so_often("heartbeat", 2).await;
    go.notify_one();
    rig.server.sees("goodbye").await;
    let log = (rig.server.count("a completed"), rig.server.count("b completed"));
    assert_eq!(log, (1, 0), "what ran may finish, and nothing more is claimed");
    let ended = timeout(PATIENCE, rig.worker).await.expect("left in time").unwrap().unwrap();
    assert_eq!(ended, Summary { completed: 1, ..Summary::default() });
}

#[tokio::test]
async fn a_late_grant_is_confirmed_before_its_work_starts() {
    let late = Duration::from_millis(700);
    let script = Script { jobs: [job("a", 1.0)].into(), slow_grants: late, ..Script::default() };
    let seen = Arc::new(Mutex::new(None));
    let (at_start, server) = (Arc::clone(&seen), Arc::new(Mutex::new(None::<Server>)));
    let peek = Arc::clone(&server);
    let handler = move |_: wire::LeasedJob, _: Context| {
        let beats = peek.lock().unwrap().as_ref().map(|s| s.count("heartbeat"));
        *at_start.lock().unwrap() = beats;
        async { Outcome::Completed(None) }
    };
    let rig = Rig::new(script, handler, 1).await;
    *server.lock().unwrap() = Some(rig.server.clone());
    rig.server.sees("a completed").await;
    assert!(seen.lock().unwrap().is_some_and(|beats| beats > 0));
    rig.leaves(Phase::Drain).await;
}

#[tokio::test]
async fn a_refused_worker_says_so_and_ends() {
    let refused = Some((StatusCode::FORBIDDEN, "insufficient-scope"));
    let rig = Rig::new(Script { claims_refused: refused, ..Script::default() }, done, 1).await;
    let WorkerError::Refused(error) =
        timeout(PATIENCE, rig.worker).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.code(), Some("insufficient-scope"));
}

#[tokio::test]
async fn an_outage_of_claims_is_sat_out() {
    let down = Some((StatusCode::SERVICE_UNAVAILABLE, "server-draining"));
    let rig = Rig::new(Script { claims_refused: down, ..jobs(["a"]) }, done, 1).await;
    rig.server.sees("claim").await;
    rig.server.with(|s| s.claims_refused = None);
    rig.server.sees("a completed").await;
    rig.leaves(Phase::Drain).await;
}
