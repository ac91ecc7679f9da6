//! A handler that runs a command for each job: payload in on stdin, result out on stdout.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, Command};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::handler::{Context, Handler, Outcome, Stop, cut_front};
use super::outcome::{MAX_RESULT, json_or_text, too_large};
use crate::domain::job::RawJson;
use crate::wire::{ErrorReport, LeasedJob};

/// The exit code that says "do not retry": `EX_DATAERR` of `sysexits.h`.
const DO_NOT_RETRY: i32 = 65;
/// How much of the end of stderr becomes the error's message.
const TAIL: usize = 4 * 1024;
/// From the request to stop until it is no longer a request.
const TERM_TO_KILL: Duration = Duration::from_secs(10);
/// How long output may still trickle in after the command has ended, which happens when it left
/// a process behind that holds its pipes.
const LINGER: Duration = Duration::from_secs(2);

/// Runs one command for each job.
///
/// - stdin: the payload as JSON (`null` when there is none);
/// - environment: `PUNCTUAL_JOB_ID`, `PUNCTUAL_ROOT_JOB_ID`, `PUNCTUAL_KIND`, `PUNCTUAL_QUEUE`,
///   `PUNCTUAL_ATTEMPT`, and `TRACEPARENT` and `TRACESTATE` when the job has a trace;
/// - stdout: the result, up to 16 MiB: JSON if it parses, else a JSON string without the
///   trailing line breaks, none when empty;
/// - stderr: passed through; its last 4 KiB are the message of a failure;
/// - exit 0 completes, 65 fails for good, anything else fails and may be retried. The error's
///   type is `exit-<code>` or `signal-<number>`.
///
/// The command gets a process group of its own. To stop it, the group gets SIGTERM, and SIGKILL
/// 10 s later or when the lease ends.
#[derive(Debug, Clone)]
pub struct Exec {
    program: String,
    args: Vec<String>,
    /// Variables of the worker's that the command must not see.
    hidden: Vec<String>,
}

impl Exec {
    /// A single word that holds white space is a line for `sh -c`; `None` when there is no word.
    pub fn new(words: &[String]) -> Option<Self> {
        let (first, rest) = words.split_first()?;
        if rest.is_empty() && first.contains(char::is_whitespace) {
            let args = vec!["-c".into(), first.clone()];
            return Some(Self { program: "sh".into(), args, hidden: Vec::new() });
        }
        Some(Self { program: first.clone(), args: rest.to_vec(), hidden: Vec::new() })
    }

    /// Keeps a variable of the worker's environment, such as its token, from the command.
    #[must_use]
    pub fn hiding(mut self, variable: impl Into<String>) -> Self {
        self.hidden.push(variable.into());
        self
    }

    /// What is run: a path, or a name to be found in `PATH`.
    pub fn program(&self) -> &str {
        &self.program
    }

    fn command(&self, job: &LeasedJob) -> Command {
        let mut command = Command::new(&self.program);
        for variable in &self.hidden {
            command.env_remove(variable);
        }
        command
            .args(&self.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .env("PUNCTUAL_JOB_ID", &job.job_id)
            .env("PUNCTUAL_ROOT_JOB_ID", &job.root_job_id)
            .env("PUNCTUAL_KIND", &job.kind)
            .env("PUNCTUAL_QUEUE", &job.queue)
            .env("PUNCTUAL_ATTEMPT", job.attempt.to_string())
            .env("PUNCTUAL_FENCE", job.fence.to_string());
        // The worker's own trace, if it was started within one, is not the job's.
        for (name, value) in [("TRACEPARENT", &job.traceparent), ("TRACESTATE", &job.tracestate)] {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }
}

#[async_trait]
impl Handler for Exec {
    async fn run(&self, job: LeasedJob, mut context: Context) -> Outcome {
        let mut child = match self.command(&job).spawn() {
            Ok(child) => child,
            Err(e) => {
                let message = format!("cannot run {:?}: {e}", self.program);
                return Outcome::failed("spawn-failed", message);
            }
        };
        let mut group = Group::of(child.id());
        let (output, tail) = (Arc::new(Captured::default()), Arc::new(Captured::default()));
        let mut pipes = JoinSet::new();
        if let Some(stdin) = child.stdin.take() {
            let payload = job.payload.unwrap_or_else(|| RawJson::trusted("null"));
            pipes.spawn(feed(stdin, payload));
        }
        if let Some(stdout) = child.stdout.take() {
            pipes.spawn(collect(stdout, Arc::clone(&output)));
        }
        if let Some(stderr) = child.stderr.take() {
            pipes.spawn(pass_through(stderr, Arc::clone(&tail)));
        }

        let mut stop = None;
        let mut kill_at: Option<Instant> = None;
        let status = loop {
            let killing = async {
                match kill_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                status = child.wait() => break status,
                told = context.stopped(), if stop.is_none() => {
                    group.signal(Signal::TERM);
                    stop = Some(told);
                    kill_at = Some(kill_time(Instant::now(), told));
                }
                () = output.overflowed.notified() => group.signal(Signal::KILL),
                () = killing => {
                    group.signal(Signal::KILL);
                    kill_at = None;
                }
            }
        };
        group.ended(stop.is_some() || output.is_full());
        let _ = timeout(LINGER, async { while pipes.join_next().await.is_some() {} }).await;
        match status {
            Ok(status) => outcome(&Ended {
                status,
                stop,
                overflow: output.is_full(),
                stdout: &output.take(),
                stderr: &tail.take(),
            }),
            Err(e) => Outcome::failed("wait-failed", format!("lost sight of the command: {e}")),
        }
    }
}

fn kill_time(now: Instant, told: Stop) -> Instant {
    let patient = now + TERM_TO_KILL;
    match told {
        Stop::LeaseEnding(end) | Stop::TimedOut(end) => patient.min(end),
        Stop::Cancelled | Stop::Draining | Stop::LeaseLost => patient,
    }
}

/// The command's process group. Dropping it before the command has ended kills it.
struct Group(Option<Pid>);

impl Group {
    fn of(id: Option<u32>) -> Self {
        Self(id.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            // It may have ended just now.
            let _ = kill_process_group(pid, signal);
        }
    }

    /// What a stopped command leaves running is killed; a finished one may leave what it likes.
    fn ended(&mut self, stopped: bool) {
        if stopped {
            self.signal(Signal::KILL);
        }
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[derive(Default)]
struct Captured {
    bytes: Mutex<Vec<u8>>,
    overflowed: Notify,
    full: std::sync::atomic::AtomicBool,
}

impl Captured {
    fn with<T>(&self, change: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        change(&mut self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self) -> Vec<u8> {
        self.with(std::mem::take)
    }

    fn is_full(&self) -> bool {
        self.full.load(std::sync::atomic::Ordering::Acquire)
    }

    fn overflow(&self) {
        self.full.store(true, std::sync::atomic::Ordering::Release);
        self.overflowed.notify_one();
    }
}

/// A command that does not read its input is no error.
async fn feed(mut stdin: ChildStdin, payload: RawJson) {
    let _ = stdin.write_all(payload.as_str().as_bytes()).await;
}

async fn collect(mut pipe: impl AsyncRead + Unpin, into: Arc<Captured>) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = pipe.read(&mut chunk).await {
        let fits = into.with(|bytes| {
            let fits = bytes.len() + n <= MAX_RESULT;
            if fits {
                bytes.extend_from_slice(&chunk[..n]);
            }
            fits
        });
        if !fits {
            into.overflow();
            return;
        }
    }
}

async fn pass_through(mut pipe: impl AsyncRead + Unpin, tail: Arc<Captured>) {
    let mut chunk = vec![0; 8 * 1024];
    let mut stderr = tokio::io::stderr();
    while let Ok(n @ 1..) = pipe.read(&mut chunk).await {
        tail.with(|bytes| {
            bytes.extend_from_slice(&chunk[..n]);
            bytes.drain(..bytes.len().saturating_sub(TAIL));
        });
        let _ = stderr.write_all(&chunk[..n]).await;
        let _ = stderr.flush().await;
    }
}

struct Ended<'a> {
    status: ExitStatus,
    stop: Option<Stop>,
    overflow: bool,
    stdout: &'a [u8],
    stderr: &'a [u8],
}

fn outcome(ended: &Ended<'_>) -> Outcome {
    if ended.overflow {
        return too_large("the command's output has");
    }
    match ended.stop {
        Some(Stop::Draining) => return Outcome::Released,
        Some(_) => return Outcome::Cancelled,
        None => {}
    }
    let (kind, how) = match (ended.status.code(), ended.status.signal()) {
        (Some(0), _) => return Outcome::Completed(json_or_text(ended.stdout)),
        (Some(code), _) => (format!("exit-{code}"), format!("the command exited with {code}")),
        (None, Some(n)) => (format!("signal-{n}"), format!("the command was killed by signal {n}")),
        (None, None) => ("exit-unknown".to_owned(), "the command ended".to_owned()),
    };
    let text = String::from_utf8_lossy(ended.stderr);
    let tail = cut_front(text.trim_end(), TAIL).trim_start_matches('\u{fffd}');
    let message = if tail.trim().is_empty() {
        format!("{how} and wrote nothing to stderr")
    } else {
        tail.to_owned()
    };
    let error = ErrorReport { kind, message, ..ErrorReport::default() };
    let retryable = ended.status.code() != Some(DO_NOT_RETRY);
    Outcome::Failed { error, retryable, retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::handler::Progress;
    use tokio::sync::watch;

    fn ended(raw: i32, stdout: &str, stderr: &str, stop: Option<Stop>) -> Outcome {
        outcome(&Ended {
            status: ExitStatus::from_raw(raw),
            stop,
            overflow: false,
            stdout: stdout.as_bytes(),
            stderr: stderr.as_bytes(),
        })
    }

    fn failure(outcome: Outcome) -> (String, String, bool) {
        match outcome {
            Outcome::Failed { error, retryable, .. } => (error.kind, error.message, retryable),
            Outcome::Completed(_) | Outcome::Released | Outcome::Cancelled => {
                panic!("not a failure: {outcome:?}")
            }
        }
    }

    #[test]
    fn exit_codes_and_signals() {
        assert_eq!(ended(0, "1", "noise", None), Outcome::Completed(Some(RawJson::trusted("1"))));
        let (kind, message, retryable) = failure(ended(3 << 8, "", "a\nb\n", None));
        assert_eq!((kind.as_str(), message.as_str(), retryable), ("exit-3", "a\nb", true));
        let (kind, message, retryable) = failure(ended(65 << 8, "", "", None));
        assert_eq!((kind.as_str(), retryable), ("exit-65", false));
        assert_eq!(message, "the command exited with 65 and wrote nothing to stderr");
        assert_eq!(failure(ended(9, "", "", None)).0, "signal-9");
        assert_eq!(ended(15, "", "", Some(Stop::Cancelled)), Outcome::Cancelled);
        assert_eq!(ended(0, "1", "", Some(Stop::Draining)), Outcome::Released);
    }

    #[tokio::test]
    async fn kills_no_later_than_the_lease_ends() {
        let now = Instant::now();
        let soon = now + Duration::from_secs(3);
        assert_eq!(kill_time(now, Stop::LeaseEnding(soon)), soon);
        assert_eq!(kill_time(now, Stop::Cancelled), now + TERM_TO_KILL);
    }

    async fn run(line: &str, payload: &str, told: Option<Stop>) -> Outcome {
        let (stop, receiver) = watch::channel(None);
        let context = Context { stop: receiver, progress: Progress::new(Arc::default()) };
        let job = LeasedJob {
            job_id: "j1".into(),
            kind: "k".into(),
            attempt: 2,
            fence: 7,
            payload: Some(RawJson::trusted(payload)),
            traceparent: Some("00-t".into()),
            ..LeasedJob::default()
        };
        stop.send_replace(told);
        Exec::new(&[line.to_owned()]).unwrap().run(job, context).await
    }

    #[tokio::test]
    async fn runs_a_line() {
        let line = "cat; echo $PUNCTUAL_JOB_ID$PUNCTUAL_ATTEMPT$PUNCTUAL_FENCE$TRACEPARENT";
        let text = RawJson::trusted("\"[1]j12700-t\"");
        assert_eq!(run(line, "[1]", None).await, Outcome::Completed(Some(text)));
        // Neither a payload that nobody reads nor a child that is left behind is in the way.
        let big = format!("\"{}\"", "x".repeat(1 << 20));
        assert_eq!(run("exec true ", &big, None).await, Outcome::Completed(None));
        let (kind, message, _) = failure(run("echo no >&2; exit 4", "1", None).await);
        assert_eq!((kind.as_str(), message.as_str()), ("exit-4", "no"));
    }

    #[tokio::test]
    async fn stops_a_command_and_its_children() {
        let told = Some(Stop::Cancelled);
        assert_eq!(run("sleep 1000 & sleep 1000", "1", told).await, Outcome::Cancelled);
        let at_once = Some(Stop::LeaseEnding(Instant::now()));
        assert_eq!(run("trap '' TERM; sleep 1000", "1", at_once).await, Outcome::Cancelled);
    }

    #[tokio::test]
    async fn bounds_its_output_and_explains_a_bad_command() {
        let (kind, _, retryable) = failure(run("yes | head -c 40000000", "1", None).await);
        assert_eq!((kind.as_str(), retryable), ("result-too-large", false));
        let exec = Exec::new(&["/no/such/command".to_owned()]).unwrap();
        let (_stop, receiver) = watch::channel(None);
        let context = Context { stop: receiver, progress: Progress::new(Arc::default()) };
        let (kind, message, _) = failure(exec.run(LeasedJob::default(), context).await);
        assert!(kind == "spawn-failed" && message.contains("/no/such/command"), "{message}");
    }

    #[test]
    fn the_workers_token_stays_with_the_worker() {
        let exec = Exec::new(&["true".to_owned()]).unwrap().hiding("SECRET_TOKEN");
        let command = exec.command(&LeasedJob::default());
        let hidden = command.as_std().get_envs().any(|(k, v)| k == "SECRET_TOKEN" && v.is_none());
        assert!(hidden);
    }

    #[test]
    fn words_and_lines() {
        assert!(Exec::new(&[]).is_none());
        assert_eq!(Exec::new(&["a b".into()]).unwrap().program, "sh");
        assert_eq!(Exec::new(&["a".into(), "b c".into()]).unwrap().args, ["b c"]);
    }
}
