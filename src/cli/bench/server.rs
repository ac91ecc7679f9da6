//! The server under load: one that runs already, or one of our own on a temporary store.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::connection::{Call, Connection, Target, gone};
use crate::cli::Failure;

/// How long a server may take to be ready, and to end.
const START: Duration = Duration::from_secs(30);
const END: Duration = Duration::from_secs(15);
/// How long after a lost connection a dying server may take to be seen as dead.
const LAST_WORDS: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(20);

/// Reads `http://host:port` and makes sure that it is where load may go.
pub(crate) async fn find(
    url: &str,
    token: Option<&str>,
    even_if_remote: bool,
) -> Result<Arc<Target>, Failure> {
    let authority = authority(url)?;
    let resolved = tokio::net::lookup_host(authority.as_str())
        .await
        .map_err(|e| gone(format!("cannot resolve {authority}: {e}; check --server")))?;
    let addresses: Vec<SocketAddr> = resolved.collect();
    let Some(addr) = addresses.first().copied() else {
        return Err(gone(format!("{authority} has no address; check --server")));
    };
    if !even_if_remote && !addresses.iter().all(|a| a.ip().is_loopback()) {
        return Err(Failure::usage(format!(
            "{authority} is not on this machine, and a bench fills a server with load and jobs; \
             add --yes-really if that is what you want"
        )));
    }
    let header = |text: String| {
        HeaderValue::try_from(text)
            .map_err(|_| Failure::usage("the token or address has characters that HTTP forbids"))
    };
    let mut token = token.map(|t| header(format!("Bearer {}", t.trim()))).transpose()?;
    if let Some(token) = &mut token {
        token.set_sensitive(true);
    }
    Ok(Arc::new(Target { addr, host: header(authority)?, token }))
}

/// Host and port, the port always written.
fn authority(url: &str) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::usage(format!("--server {url}: {why}"));
    let uri: hyper::Uri =
        url.parse().map_err(|_| wrong("not a URL; write http://127.0.0.1:8080"))?;
    if uri.scheme_str() != Some("http") {
        return Err(wrong("only http:// is spoken here; bench the server itself, not its proxy"));
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Err(wrong("leave the path out; write http://127.0.0.1:8080"));
    }
    let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
    Ok(format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)))
}

/// A directory that goes away with the bench.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> Result<Self, Failure> {
        let parent = fs::canonicalize(parent).map_err(|e| {
            Failure::usage(format!("--dir {}: {e}; name a directory that exists", parent.display()))
        })?;
        let pid = std::process::id();
        for number in 0..1_000 {
            let path = parent.join(format!("punctual-bench-{pid}-{number}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => {
                    return Err(Failure::usage(format!(
                        "cannot create {}: {e}; name a writable place with --dir",
                        path.display()
                    )));
                }
            }
        }
        Err(Failure::usage(format!(
            "{} is full of old punctual-bench-* directories; remove them",
            parent.display()
        )))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that we started. Killed when dropped, and its store removed.
#[derive(Debug)]
pub(crate) struct Spawned {
    child: Child,
    pub(crate) target: Arc<Target>,
    pub(crate) pid: u32,
    log: PathBuf,
    _scratch: Scratch,
}

impl Spawned {
    /// This very program, `serve`, on a free loopback port and an empty store below `dir`. The
    /// environment is passed on, so `PUNCTUAL_*` settings apply, with `settings` over them; a
    /// `punctual.toml` does not.
    pub(crate) async fn start(
        dir: &Path,
        settings: Vec<(String, String)>,
    ) -> Result<Self, Failure> {
        let scratch = Scratch::new(dir)?;
        let log = scratch.0.join("server.log");
        let cannot = |what: &str, e: std::io::Error| {
            Failure::no(format!("cannot {what}: {e}; start one yourself and name it with --server"))
        };
        let file = File::create(&log).map_err(|e| cannot("write the server's log", e))?;
        let err = file.try_clone().map_err(|e| cannot("write the server's log", e))?;
        let exe = std::env::current_exe().map_err(|e| cannot("find this program", e))?;
        let store = format!("sqlite://{}", scratch.0.join("bench.db").display());
        let mut child = Command::new(exe)
            .args(["serve", "--listen", "127.0.0.1:0", "--store", &store])
            .current_dir(&scratch.0)
            .env_remove("RUST_LOG")
            .envs(settings)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(err)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| cannot("start a server", e))?;
        let pid = child.id().unwrap_or_default();
        let ready = timeout(START, ready(&mut child, &log)).await.unwrap_or_else(|_| {
            Err(gone(format!("our server was not ready within 30 s{}", tail(&log))))
        });
        let target = ready?;
        Ok(Self { child, target, pid, log, _scratch: scratch })
    }

    /// What there is to say when the server stopped answering: how it ended and its last words.
    pub(crate) async fn last_words(&mut self) -> String {
        let ended = match timeout(LAST_WORDS, self.child.wait()).await {
            Ok(Ok(status)) => format!("; our server ended with {status}"),
            Ok(Err(_)) | Err(_) => String::new(),
        };
        ended + &tail(&self.log)
    }

    /// Ends it politely, then not.
    pub(crate) async fn stop(mut self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| self.child.id().is_some()) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(END, self.child.wait()).await.is_err() {
            let _ = self.child.start_kill();
            let _ = timeout(END, self.child.wait()).await;
        }
    }
}

/// Waits until the server says where it listens and then until it says that it is ready.
async fn ready(child: &mut Child, log: &Path) -> Result<Arc<Target>, Failure> {
    let mut target = None;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(gone(format!("our server ended at once with {status}{}", tail(log))));
        }
        if target.is_none()
            && let Some(port) = port_in(&fs::read_to_string(log).unwrap_or_default())
        {
            target = Some(find(&format!("http://127.0.0.1:{port}"), None, false).await?);
        }
        if let Some(found) = &target
            && is_ready(found).await
        {
            return Ok(Arc::clone(found));
        }
        sleep(POLL).await;
    }
}

async fn is_ready(target: &Arc<Target>) -> bool {
    let (Ok(mut connection), Ok(call)) =
        (Connection::open(target).await, Call::get(target, "/readyz"))
    else {
        return false;
    };
    connection.exchange(call.request()).await.is_ok_and(|a| a.status == StatusCode::OK)
}

/// What a server says once it listens, before the port.
const LISTENING: &str = "listening on http://127.0.0.1:";

/// The port that the log tells.
fn port_in(log: &str) -> Option<u16> {
    log.split(LISTENING).skip(1).find_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        rest[..end].parse().ok().filter(|port| *port != 0)
    })
}

/// The last lines of a log, to be put behind a message.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(5)..];
    if last.is_empty() {
        return String::new();
    }
    format!("; its log ends with: {}", last.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_a_plain_url() {
        assert_eq!(authority("http://127.0.0.1:8080").unwrap(), "127.0.0.1:8080");
        assert_eq!(authority("http://localhost/").unwrap(), "localhost:80");
        assert_eq!(authority("http://[::1]:9").unwrap(), "[::1]:9");
        for wrong in ["https://a", "127.0.0.1:8080", "http://a/v1", "http://a?x=1", "::"] {
            assert_eq!(authority(wrong).unwrap_err().code, crate::cli::USAGE, "{wrong}");
        }
    }

    #[tokio::test]
    async fn load_stays_on_this_machine_unless_told_otherwise() {
        let refused = find("http://192.0.2.1:80", None, false).await.unwrap_err();
        assert!(refused.message.contains("--yes-really"), "{}", refused.message);
        assert!(find("http://192.0.2.1:80", None, true).await.is_ok());
        assert!(find("http://127.0.0.1:80", Some("secret"), false).await.is_ok());
        assert!(find("http://127.0.0.1:80", Some("new\nline"), false).await.is_err());
    }

    #[test]
    fn the_port_is_found_once_it_is_written_whole() {
        assert_eq!(port_in("INFO listening on http://127.0.0.1:4173\n"), Some(4_173));
        assert_eq!(port_in("listening on http://127.0.0.1:41"), None);
        assert_eq!(port_in("{\"message\":\"listening on http://127.0.0.1:80\"}"), Some(80));
        let exports = "traces are exported endpoint=http://127.0.0.1:43/v1/traces\n";
        assert_eq!(port_in(exports), None);
        assert_eq!(port_in(&format!("{exports}listening on http://127.0.0.1:81 ")), Some(81));
        assert_eq!(port_in(""), None);
    }
}
