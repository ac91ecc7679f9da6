//! `punctual::client` and `punctual::worker`, as a program that uses them, against a live server.

use std::sync::Arc;
use std::time::Duration;

use punctual::client::{JobResult, Prefer, Snapshot};
use punctual::domain::job::RawJson;
use punctual::wire::{CancelRequest, LeasedJob, Submit};
use punctual::worker::{self, Context, Outcome, Phase, Stop, Summary, WorkerConfig, WorkerError};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::place::Place;
use crate::python::proxy_that_loses_its_first_answer;
use crate::server::{PATIENCE, until};

fn job(kind: &str) -> Submit {
    let payload = RawJson::write(&[1, 2]).expect("JSON");
    Submit { kind: kind.into(), payload: Some(payload), ..Submit::default() }
}

struct Crew {
    phase: watch::Sender<Phase>,
    worker: JoinHandle<Result<Summary, WorkerError>>,
    /// What the handlers were told, in words.
    told: mpsc::UnboundedReceiver<String>,
    go: Arc<Notify>,
}

impl Crew {
    /// `gate` waits for `go`, or to be stopped; other kinds add up their payload.
    fn start(place: &Place, lease: u64) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let go = Arc::new(Notify::new());
        let opened = Arc::clone(&go);
        let handler = move |job: LeasedJob, mut context: Context| {
            let (tell, go) = (tell.clone(), Arc::clone(&opened));
            async move {
                let numbers = job.payload.as_ref().map(RawJson::read::<Vec<u32>>);
                let Some(Ok(numbers)) = numbers else {
                    return Outcome::hopeless("bad-payload", "not a list of numbers");
                };
                if job.kind == "gate" {
                    let _ = tell.send("started".into());
                    tokio::select! {
                        () = go.notified() => {}
                        stop = context.stopped() => {
                            let _ = tell.send(format!("{stop:?}"));
                            return Outcome::Cancelled;
                        }
                    }
                }
                Outcome::completed(&numbers.iter().sum::<u32>())
            }
        };
        let config = WorkerConfig {
            lease: Some(Duration::from_secs(lease)),
            ..WorkerConfig::new(place.client(), "crew-1".into(), vec!["default".into()])
        };
        let (phase, receiver) = watch::channel(Phase::Run);
        let worker = tokio::spawn(worker::run(config, handler, receiver));
        Self { phase, worker, told, go }
    }

    async fn hears(&mut self) -> String {
        timeout(PATIENCE, self.told.recv()).await.expect("in time").expect("a word")
    }

    async fn leaves(self) -> Summary {
        self.phase.send_replace(Phase::Drain);
        timeout(PATIENCE, self.worker).await.expect("in time").expect("no panic").expect("no error")
    }
}

async fn submit(place: &Place, kind: &str, key: Option<&str>) -> Snapshot {
    place.client().submit(&job(kind), key, Prefer::ASYNC).await.expect("accepted")
}

#[tokio::test]
async fn a_job_is_done_and_its_outcome_can_be_lost_but_not_repeated() {
    let place = Place::new();
    let crew = Crew::start(&place, 30);
    let client = place.client();
    let accepted = submit(&place, "sum", Some("once")).await;
    let id = accepted.job.job_id.clone();
    let seen = client.wait_done(accepted, Some(PATIENCE)).await.expect("an answer");
    assert_eq!(seen.job.status, "completed");
    let JobResult::Here { bytes, .. } = client.result(&id).await.expect("a result") else {
        panic!("it is elsewhere");
    };
    assert_eq!(&bytes[..], b"3");
    assert!(submit(&place, "sum", Some("once")).await.replayed);

    client.delete(&id).await.expect("forgotten");
    let again = client.submit(&job("sum"), Some("once"), Prefer::ASYNC).await;
    let gone = again.expect_err("the outcome is lost");
    assert!(gone.is_gone() && gone.code() == Some("job-deleted"), "{gone}");
    assert!(client.wait_done(seen, None).await.is_ok(), "what was seen done needs no look");
    let lost = client.look(&id).await.expect_err("nothing to see");
    assert!(lost.is_gone(), "{lost}");
    assert_eq!(crew.leaves().await, Summary { completed: 1, ..Summary::default() });
}

#[tokio::test]
async fn a_submission_whose_answer_is_lost_makes_one_job_here_too() {
    let place = Place::new();
    let (address, _) = proxy_that_loses_its_first_answer(&place).await;
    let client = punctual::client::Client::builder(address).build().expect("a client");
    let accepted = client.submit(&job("sum"), None, Prefer::ASYNC).await.expect("accepted");
    assert!(accepted.replayed, "the first submission took effect");
    let jobs = client.list(&punctual::client::ListQuery::default()).await.expect("a list").jobs;
    assert_eq!(jobs.len(), 1);
}

#[tokio::test]
async fn a_wait_ends_at_its_limit_with_what_was_seen() {
    let place = Place::new();
    let accepted = submit(&place, "sum", None).await;
    let limit = Some(Duration::from_millis(300));
    let seen = place.client().wait_done(accepted, limit).await.expect("an answer");
    assert!(!seen.job.done && seen.job.status == "pending");
}

#[tokio::test]
async fn a_cancel_reaches_the_handler_and_a_drain_lets_it_finish() {
    let place = Place::new();
    let mut crew = Crew::start(&place, 3);
    let first = submit(&place, "gate", None).await.job.job_id;
    assert_eq!(crew.hears().await, "started");
    place.client().cancel(&first, &CancelRequest::default()).await.expect("asked");
    assert_eq!(crew.hears().await, format!("{:?}", Stop::Cancelled));
    place.until_status(&first, "cancelled").await;

    let second = submit(&place, "gate", None).await.job.job_id;
    assert_eq!(crew.hears().await, "started");
    crew.phase.send_replace(Phase::Drain);
    crew.go.notify_one();
    let summary = crew.leaves().await;
    assert_eq!((summary.cancelled, summary.completed), (1, 1));
    assert_eq!(place.job(&second).await["result"], 3);
    assert_eq!(place.leases().await, 0);
}

#[tokio::test]
async fn an_outcome_waits_for_a_server_that_is_away() {
    let mut place = Place::new();
    let mut crew = Crew::start(&place, 6);
    let accepted = submit(&place, "gate", None).await;
    let id = accepted.job.job_id.clone();
    assert_eq!(crew.hears().await, "started");
    place.kill_server();
    crew.go.notify_one();
    let client = place.client();
    let waiting = tokio::spawn(async move { client.wait_done(accepted, Some(PATIENCE)).await });
    place.start_server();
    let seen = waiting.await.expect("no panic").expect("an answer");
    assert_eq!((seen.job.status.as_str(), seen.job.attempt), ("completed", 1));
    assert_eq!(crew.leaves().await.completed, 1);
    until("no lease", || async { (place.leases().await == 0).then_some(()) }).await;
    assert_eq!(place.job(&id).await["attempt"], 1);
}
