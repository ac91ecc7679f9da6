//! A server as a process: started on a free port, killed without mercy or asked to leave.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::disallowed_methods,
    reason = "shared by several test binaries"
)]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything on a busy machine takes; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_punctual")
}

pub struct ServerProcess {
    child: Child,
    pub port: u16,
    log: Arc<Mutex<String>>,
}

#[derive(Clone)]
pub struct Launch {
    pub store: PathBuf,
    /// Another store than the file.
    pub url: Option<String>,
    pub port: u16,
    pub config: Option<PathBuf>,
    pub env: Vec<(String, String)>,
}

impl Launch {
    pub fn new(store: impl Into<PathBuf>) -> Self {
        Self { store: store.into(), url: None, port: 0, config: None, env: Vec::new() }
    }

    /// Sets a configuration key: `.set("JOBS__LEASE", "2s")`.
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.env.push((format!("PUNCTUAL_{key}"), value.to_owned()));
        self
    }

    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The configuration file.
    pub fn config(mut self, file: impl Into<PathBuf>) -> Self {
        self.config = Some(file.into());
        self
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command
            .arg("serve")
            .args(self.config.iter().flat_map(|file| [OsStr::new("--config"), file.as_os_str()]))
            .arg("--listen")
            .arg(format!("127.0.0.1:{}", self.port))
            .arg("--store")
            .arg(self.url.clone().unwrap_or_else(|| format!("sqlite://{}", self.store.display())))
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1")
            .envs(self.env.iter().cloned())
            .current_dir(self.store.parent().unwrap_or(Path::new(".")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Starts where it is expected to be refused: the exit code, and every line that it said.
    pub fn refused(&self) -> (Option<i32>, Vec<String>) {
        Self::outcome(&mut self.command())
    }

    /// The same for any command of the binary.
    pub fn outcome(command: &mut Command) -> (Option<i32>, Vec<String>) {
        let mut child = command.spawn().expect("the server's binary");
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().expect("the child") {
                break status;
            }
            if Instant::now() >= deadline {
                let _ = child.kill();
                panic!("it was not refused, and serves");
            }
            std::thread::park_timeout(Duration::from_millis(10));
        };
        let mut said = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        (status.code(), said.lines().map(str::to_owned).collect())
    }

    /// Starts and waits until it listens. Panics with the log if it ends instead.
    pub fn start(&self) -> ServerProcess {
        self.try_start().unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    /// Starts and waits until it listens, or answers its log when it ended instead.
    pub fn try_start(&self) -> Result<ServerProcess, String> {
        let mut child = self.command().spawn().expect("the server's binary");
        let stderr = child.stderr.take().expect("piped");
        let log = Arc::new(Mutex::new(String::new()));
        let (found, port) = std::sync::mpsc::channel();
        let sink = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { return };
                if let Some((_, tail)) = line.split_once("listening on http://127.0.0.1:") {
                    let digits: String = tail.chars().take_while(char::is_ascii_digit).collect();
                    let _ = found.send(digits.parse::<u16>().ok());
                }
                let mut log = sink.lock().expect("the log");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let heard = port.recv_timeout(PATIENCE).ok().flatten();
        let Some(port) = heard else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(log.lock().expect("the log").clone());
        };
        Ok(ServerProcess { child, port, log })
    }
}

impl ServerProcess {
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }

    /// SIGKILL: no goodbye, no flush.
    pub fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("reaped");
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .expect("kill");
        assert!(status.success(), "signal {name}");
    }

    /// SIGTERM, and its exit status.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child") {
                return status;
            }
            assert!(Instant::now() < deadline, "the server did not end:\n{}", self.log());
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One raw request on a connection of its own; the whole answer as text. For what a well-behaved
/// client would not send.
pub fn raw(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Waits until `check` answers something; panics with `what` when it takes too long.
pub async fn until<T, F, Fut>(what: &str, mut check: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
