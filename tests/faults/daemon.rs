//! A program that runs beside the test and ends with it, whatever happens.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything takes on a machine that others keep busy.
pub(crate) const BOUND: Duration = Duration::from_secs(150);

/// How often a condition is looked at: many faults wait at the same time, on few cores.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The last lines of a log are what matters.
const TAIL: usize = 60;

pub(crate) struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// `package` is what to install where the program is missing.
    pub(crate) fn start(mut command: Command, package: &str) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| {
            panic!("{}: {e}; apt-get install {package}", command.get_program().display())
        });
        let log = Arc::default();
        keep(child.stdout.take().expect("piped"), &log);
        keep(child.stderr.take().expect("piped"), &log);
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child").is_none()
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

fn keep(pipe: impl Read + Send + 'static, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut log = log.lock().expect("the log");
            log.push_str(&line);
            log.push('\n');
        }
    });
}

pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

/// What the program says of its version, on one line.
pub(crate) fn version(program: &str) -> String {
    let output = Command::new(program).arg("--version").output().expect("the program");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let first = said.lines().next().unwrap_or_default();
    first.split(" (").next().unwrap_or_default().to_owned()
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

#[expect(clippy::disallowed_methods, reason = "a test measures")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits until `check` answers something; panics with `what` when it takes too long.
pub(crate) async fn until<T, F, Fut>(what: &str, mut check: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = now() + BOUND;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(now() < deadline, "waited too long: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
