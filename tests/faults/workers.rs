//! Workers: as processes, and in the test, where they do as they are told.

use std::process::Stdio;
use std::time::Duration;

use punctual::client::{Client, Prefer};
use punctual::wire::{LeasedJob, Submit};
use punctual::worker::{Context, Outcome, Phase, Summary, WorkerConfig, WorkerError, run};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::case::{Case, QUEUE};
use crate::server::binary;

/// `punctual work`, killed with the test.
pub(crate) struct Program(Child);

impl Program {
    /// `script` is for `sh`, and runs in the directory of `case`.
    pub(crate) fn start(case: &Case, queue: &str, concurrency: u32, script: &str) -> Self {
        Self(work(case, queue, concurrency, script).spawn().expect("the command"))
    }

    pub(crate) fn pid(&self) -> String {
        self.0.id().expect("it runs").to_string()
    }

    /// SIGKILL. What it had started goes on.
    pub(crate) async fn kill(mut self) {
        self.0.kill().await.expect("SIGKILL");
    }

    /// SIGTERM: it finishes or gives back what it has, says goodbye and ends well.
    pub(crate) async fn leave(mut self) {
        let sent = Command::new("kill").args(["-TERM", &self.pid()]).status().await;
        assert!(sent.expect("kill").success());
        assert!(self.0.wait().await.expect("its end").success());
    }
}

fn work(case: &Case, queue: &str, concurrency: u32, script: &str) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["work", "--queue", queue, "--concurrency", &concurrency.to_string()])
        .args(["--grace", "1s", "--exec", "sh", "-c", script])
        .current_dir(case.dir.path())
        .env("PUNCTUAL_URL", case.url())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    command
}

/// `punctual work`, started again whenever it ends.
pub(crate) struct Kept(JoinHandle<()>);

impl Kept {
    pub(crate) fn start(case: &Case, queue: &str, concurrency: u32, script: &str) -> Self {
        let mut command = work(case, queue, concurrency, script);
        Self(tokio::spawn(async move {
            loop {
                let mut child = command.spawn().expect("the command");
                child.wait().await.expect("its end");
            }
        }))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a worker in the test does with its jobs, those that it has and those that come.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Doing {
    Work(Duration),
    /// Until it is told to do something else. Its heartbeats go on.
    Hang,
    Fail,
    /// The first attempts of a job fail, this many.
    FailAtFirst(u32),
    /// The first attempt of three jobs in ten fails.
    FailSome,
}

pub(crate) const QUICKLY: Doing = Doing::Work(Duration::from_millis(20));

/// A worker in the test; gone without a goodbye when dropped.
pub(crate) struct Hands {
    doing: watch::Sender<Doing>,
    _phase: watch::Sender<Phase>,
    task: JoinHandle<Result<Summary, WorkerError>>,
}

impl Hands {
    pub(crate) fn start(case: &Case, queue: &str, concurrency: u32, doing: Doing) -> Self {
        let id = format!("hands-{}", uuid::Uuid::now_v7());
        let config = WorkerConfig {
            concurrency,
            ..WorkerConfig::new(case.client(), id, vec![queue.to_owned()])
        };
        let (doing, told) = watch::channel(doing);
        let (sender, phase) = watch::channel(Phase::Run);
        let handler = move |job, context| act(job, context, told.clone());
        let task = tokio::spawn(run(config, handler, phase));
        Self { doing, _phase: sender, task }
    }

    pub(crate) fn now(&self, doing: Doing) {
        self.doing.send_replace(doing);
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn act(job: LeasedJob, mut context: Context, mut told: watch::Receiver<Doing>) -> Outcome {
    loop {
        let doing = *told.borrow_and_update();
        match doing {
            Doing::Work(time) => {
                tokio::time::sleep(time).await;
                return Outcome::Completed(None);
            }
            Doing::FailAtFirst(attempts) if job.attempt > attempts => {
                return Outcome::Completed(None);
            }
            Doing::FailSome if job.attempt > 1 || of_ten(&job.job_id) >= 3 => {
                return Outcome::Completed(None);
            }
            Doing::Fail | Doing::FailAtFirst(_) | Doing::FailSome => {
                return Outcome::failed("upstream-down", "the machine behind it is away");
            }
            Doing::Hang => tokio::select! {
                told = told.changed() => if told.is_err() { return Outcome::Released },
                _ = context.stopped() => return Outcome::Released,
            },
        }
    }
}

/// By the job's id: the same each time, and evenly spread.
fn of_ten(id: &str) -> u32 {
    id.bytes().map(u32::from).sum::<u32>() % 10
}

pub(crate) fn job(queue: &str) -> Submit {
    Submit { kind: "render".into(), queue: Some(queue.into()), ..Submit::default() }
}

/// Accepted for sure; their ids.
pub(crate) async fn submit(client: &Client, job: &Submit, jobs: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..jobs {
        let accepted = client.submit(job, None, Prefer::ASYNC).await.expect("accepted");
        ids.push(accepted.job.job_id);
    }
    ids
}

/// Submits `job` at a steady pace until it is dropped.
pub(crate) struct Feed(JoinHandle<()>);

impl Feed {
    pub(crate) fn start(client: Client, job: Submit, every: Duration) -> Self {
        Self(tokio::spawn(async move {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // Tries for long, also while the server restarts.
                drop(client.submit(&job, None, Prefer::ASYNC).await);
            }
        }))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits until nothing of `queue` waits or runs.
pub(crate) async fn until_done(case: &Case, queue: &str) {
    let client = case.client();
    crate::daemon::until("all jobs to be done", || async {
        let jobs = client.queue(queue).await.ok()?.jobs;
        let left = jobs.eligible + jobs.scheduled + jobs.retry_backoff + jobs.running;
        (left == 0).then_some(())
    })
    .await;
}

/// Waits until so many jobs of the usual queue run.
pub(crate) async fn until_running(case: &Case, jobs: u64) {
    let client = case.client();
    crate::daemon::until("the jobs to run", || async {
        let running = client.queue(QUEUE).await.ok()?.jobs.running;
        (running >= jobs).then_some(())
    })
    .await;
}
