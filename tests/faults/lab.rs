//! What all faults share: one Prometheus, one Alertmanager, one receiver.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;

use crate::alertmanager::{self, Alertmanager};
use crate::daemon::{Daemon, now, tail, until, version};
use crate::prometheus::{self, Prometheus};
use crate::webhook::Inbox;

pub(crate) struct Lab {
    pub(crate) prometheus: Prometheus,
    pub(crate) alertmanager: Alertmanager,
    pub(crate) inbox: Inbox,
    pub(crate) started: Instant,
    _dir: TempDir,
}

impl Lab {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let inbox = Inbox::open().await;
        let example = project("alerts/alertmanager.example.yml");
        let example = std::fs::read_to_string(example).expect("the example");
        let alertmanager = Alertmanager::start(dir.path(), &example, inbox.address());
        let rules = ["alerts/punctual.rules.yml", "alerts/punctual.alerts.yml"].map(project);
        let prometheus = Prometheus::start(dir.path(), &rules, alertmanager.port);
        let mut lab = Self { prometheus, alertmanager, inbox, started: now(), _dir: dir };
        let ready = until("Prometheus and the first heartbeat", || async {
            (lab.prometheus.is_ready().await && lab.inbox.heartbeats() > 0).then_some(())
        });
        ready.await;
        let both = [&mut lab.prometheus.daemon, &mut lab.alertmanager.daemon];
        let alive = both.into_iter().all(Daemon::is_running);
        assert!(alive, "one has ended:\n{}", lab.logs());
        lab
    }

    pub(crate) fn logs(&self) -> String {
        format!(
            "Prometheus:\n{}\nAlertmanager:\n{}",
            tail(&self.prometheus.daemon.log()),
            tail(&self.alertmanager.daemon.log())
        )
    }

    /// What is told as firing and was never told to be over, in the end.
    pub(crate) fn left_over(&self) -> Vec<String> {
        let all = self.inbox.all();
        let told = all.iter().filter(|d| d.receiver != "heartbeat" && d.fires()).filter(|d| {
            let last = all.iter().rfind(|l| l.alert.fingerprint == d.alert.fingerprint);
            last.is_some_and(|last| last.fires() && last.at == d.at)
        });
        told.map(|d| format!("never told to be over: {}", d.line(self.started))).collect()
    }

    pub(crate) fn versions() -> [String; 2] {
        [prometheus::PROGRAM, alertmanager::PROGRAM].map(version)
    }
}

/// A file of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
