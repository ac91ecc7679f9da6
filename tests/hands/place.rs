//! A place to work in: a directory, a server, and the commands that are started there.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use punctual::client::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::server::{Launch, PATIENCE, ServerProcess, binary, until};

/// Exit codes of the command line.
pub(crate) const DONE: i32 = 0;
pub(crate) const NO: i32 = 1;
pub(crate) const USAGE: i32 = 2;
pub(crate) const UNREACHABLE: i32 = 3;

/// Lasts until the file `go` is there, and not longer than the place itself.
pub(crate) const GATE: &str = "echo \"$PUNCTUAL_JOB_ID\" >>started\n\
                               while [ ! -e go ] && [ -e here ]; do sleep 0.05; done\n\
                               cat\n";

pub(crate) struct Place {
    pub(crate) dir: TempDir,
    launch: Launch,
    server: Option<ServerProcess>,
    port: u16,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Checks the exit code, and shows everything when it is another.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }

    /// A refusal is one line on stderr that holds all of `parts`, and nothing on stdout.
    #[track_caller]
    pub(crate) fn complains(&self, parts: &[&str]) {
        assert_eq!(self.out, "", "{}", self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        assert!(self.err.starts_with("punctual: "), "{}", self.err);
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in: {}", self.err);
        }
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// With configuration keys as the environment names them: `("JOBS__LEASE", "2s")`.
    pub(crate) fn with(keys: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("here"), "").expect("the mark");
        let launch = Launch::new(dir.path().join("jobs.db"));
        let launch = keys.iter().fold(launch, |launch, (key, value)| launch.set(key, value));
        let server = launch.start();
        let port = server.port;
        Self { dir, launch, server: Some(server), port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url(), None).expect("a client")
    }

    pub(crate) fn server(&self) -> &ServerProcess {
        self.server.as_ref().expect("a server")
    }

    pub(crate) fn kill_server(&mut self) {
        self.server.take().expect("a server").kill();
    }

    /// At the same address, on the same store.
    pub(crate) fn start_server(&mut self) {
        let launch = Launch::new(self.launch.store.clone()).port(self.port);
        self.server = Some(launch.start());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// A program in this directory, that knows this server.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.dir.path())
            .env("PUNCTUAL_URL", self.url())
            .env("NO_COLOR", "1")
            .env_remove("PUNCTUAL_TOKEN")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn punctual(&self, args: &[&str]) -> Command {
        let mut command = self.command(binary());
        command.args(args);
        command
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Said {
        run(self.punctual(args)).await
    }

    /// `run`, with something on stdin.
    pub(crate) async fn feed(&self, args: &[&str], input: &str) -> Said {
        let mut command = self.punctual(args);
        command.stdin(Stdio::piped());
        let mut hand = Hand::start(command);
        let mut stdin = hand.child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).await.expect("read");
        drop(stdin);
        hand.ended().await
    }

    /// `punctual work --queue QUEUE … --exec sh SCRIPT`, until it is told to stop.
    pub(crate) fn worker(&self, options: &[&str], script: &str) -> Hand {
        let name = format!("work-{}.sh", script.len());
        let script = self.write(&name, script);
        let mut command = self.punctual(&["work"]);
        command.args(options).args(["--exec", "sh"]).arg(script);
        Hand::start(command)
    }

    /// Submits with the command line and answers the job's id.
    pub(crate) async fn submit(&self, args: &[&str]) -> String {
        let line = [&["submit", "--json"], args].concat();
        let job = self.run(&line).await.ended(DONE).json();
        job["job_id"].as_str().expect("an id").to_owned()
    }

    /// Submits what the command line has no option for, and answers the job's id.
    pub(crate) async fn post(&self, job: &Value) -> String {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let sent = http.post(format!("{}/v1/jobs", self.url())).json(job).send().await;
        let job: Value = sent.expect("an answer").json().await.expect("a job");
        job["job_id"].as_str().expect("an id").to_owned()
    }

    /// The job as the server shows it.
    pub(crate) async fn job(&self, id: &str) -> Value {
        let job = self.client().show(id).await.expect("the job");
        serde_json::to_value(job).expect("JSON")
    }

    pub(crate) async fn until_job(&self, id: &str, what: impl Fn(&Value) -> bool) -> Value {
        let what = &what;
        until(&format!("job {id}"), || async move {
            let job = self.job(id).await;
            what(&job).then_some(job)
        })
        .await
    }

    pub(crate) async fn until_status(&self, id: &str, status: &str) -> Value {
        self.until_job(id, |job| job["status"] == status).await
    }

    pub(crate) async fn until_file(&self, name: &str) -> String {
        let path = self.path(name);
        until(name, || async { std::fs::read_to_string(&path).ok().filter(|t| !t.is_empty()) })
            .await
    }

    /// How many leases the server thinks are held.
    pub(crate) async fn leases(&self) -> u64 {
        let list = self.client().workers().await.expect("workers");
        list.workers.iter().map(|w| w.leases).sum()
    }
}

/// A command that runs beside the test.
pub(crate) struct Hand {
    child: Child,
    out: Heard,
    err: Heard,
}

struct Heard {
    text: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl Heard {
    fn from(mut pipe: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&text);
        let reading = tokio::spawn(async move {
            let mut chunk = vec![0; 16 * 1024];
            while let Ok(n @ 1..) = pipe.read(&mut chunk).await {
                sink.lock().expect("the text").extend_from_slice(&chunk[..n]);
            }
        });
        Self { text, reading }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("the text")).into_owned()
    }
}

impl Hand {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program");
        let out = Heard::from(child.stdout.take().expect("piped"));
        let err = Heard::from(child.stderr.take().expect("piped"));
        Self { child, out, err }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child").is_none()
    }

    /// Everything on stderr until now.
    pub(crate) fn log(&self) -> String {
        self.err.so_far()
    }

    /// Everything on stdout until now.
    pub(crate) fn answer(&self) -> String {
        self.out.so_far()
    }

    pub(crate) async fn until_answers(&self, what: &str) {
        until(what, || async { self.answer().contains(what).then_some(()) }).await;
    }

    pub(crate) async fn until_says(&self, what: &str) {
        until(what, || async { self.log().contains(what).then_some(()) }).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("still running");
        let pid = Pid::from_raw(i32::try_from(id).expect("a pid")).expect("a pid");
        kill_process(pid, signal).expect("the signal");
    }

    /// Waits for the end of what was killed; what it had started may go on.
    pub(crate) async fn killed(mut self) {
        timeout(PATIENCE, self.child.wait()).await.expect("an end").expect("a status");
    }

    /// Waits for its end and for the end of what it says.
    pub(crate) async fn ended(mut self) -> Said {
        let status = timeout(PATIENCE, self.child.wait()).await;
        let Ok(status) = status else {
            panic!("it did not end; stderr: {}", self.log());
        };
        for heard in [&mut self.out, &mut self.err] {
            timeout(PATIENCE, &mut heard.reading).await.expect("its pipes close").expect("read");
        }
        Said {
            code: status.expect("a status").code().unwrap_or(-1),
            out: self.out.so_far(),
            err: self.err.so_far(),
        }
    }
}

pub(crate) async fn run(command: Command) -> Said {
    Hand::start(command).ended().await
}

/// A file of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// An address where nobody listens.
pub(crate) fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("its address"))
}
