//! Where a fault happens: a server with its store, its configuration and its directory.

use punctual::client::Client;
use tempfile::TempDir;

use crate::server::{Launch, ServerProcess};

/// Every threshold a small part of its default, in about the same proportions.
const CONFIG: &str = r#"
[jobs]
sync_window = "0s"
lease = "5s"
backoff.initial = "1s"

[watchdog]
interval = "1s"
stuck_after = "5s"

[tasks]
reaper = "1s"
sampler = "1s"
retention = "5s"
"#;

pub(crate) struct Host {
    launch: Launch,
    server: Option<ServerProcess>,
    /// Of servers that are gone.
    past_log: String,
    /// Where its store lies, if not in its directory. Both go after the server.
    disk: Option<TempDir>,
    pub(crate) dir: TempDir,
}

impl Host {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self {
            launch: Launch::new(dir.path().join("jobs.db")),
            server: None,
            past_log: String::new(),
            disk: None,
            dir,
        }
    }

    /// Changes what the next server gets: a configuration key, as the environment names it.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.launch = self.launch.clone().set(key, value);
    }

    pub(crate) fn env(&mut self, name: &str, value: &str) {
        self.launch.env.push((name.to_owned(), value.to_owned()));
    }

    /// Instead of the directory of the case.
    pub(crate) fn keep_store_on(&mut self, disk: TempDir) {
        self.launch.store = disk.path().join("jobs.db");
        self.disk = Some(disk);
    }

    /// With these tables beside the usual ones, and the port of the server before; the port.
    pub(crate) async fn start(&mut self, tables: &str) -> u16 {
        let file = self.dir.path().join("punctual.toml");
        std::fs::write(&file, format!("{CONFIG}{tables}")).expect("the configuration");
        let launch = self.launch.clone().config(file);
        let started = tokio::task::spawn_blocking(move || launch.start()).await;
        let server = started.unwrap_or_else(|e| panic!("{e}"));
        self.launch.port = server.port;
        self.server = Some(server);
        self.launch.port
    }

    /// Writes the configuration anew, and tells the server to read it.
    pub(crate) fn reconfigure(&self, tables: &str) {
        let file = self.dir.path().join("punctual.toml");
        std::fs::write(&file, format!("{CONFIG}{tables}")).expect("the configuration");
        self.server.as_ref().expect("a server").signal("HUP");
    }

    /// SIGTERM, whose end is not waited for.
    pub(crate) fn drain(&self) {
        self.server.as_ref().expect("a server").signal("TERM");
    }

    /// SIGTERM.
    pub(crate) async fn stop(&mut self) {
        self.drain();
        self.ends().await;
    }

    /// Waits for the end of a server that has been told to.
    pub(crate) async fn ends(&mut self) {
        let mut server = self.server.take().expect("a server");
        let ended = tokio::task::spawn_blocking(move || (server.wait(), server.log())).await;
        let (status, log) = ended.expect("an end");
        assert!(status.success(), "{status}");
        self.past_log.push_str(&log);
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let server = self.server.take().expect("a server");
        self.past_log.push_str(&server.log());
        server.kill();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.launch.port)
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.url(), None).expect("a client")
    }

    /// The status and the body of a `GET`.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let answer = http.get(format!("{}{path}", self.url())).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    pub(crate) fn log(&self) -> String {
        let now = self.server.as_ref().map(ServerProcess::log);
        format!("{}{}", self.past_log, now.unwrap_or_default())
    }
}
