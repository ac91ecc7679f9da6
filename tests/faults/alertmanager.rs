//! A real Alertmanager with the example's routes.

use std::path::Path;
use std::process::Command;

use crate::daemon::{Daemon, free_port};
use crate::shorten;

pub(crate) const PROGRAM: &str = "prometheus-alertmanager";

pub(crate) struct Alertmanager {
    pub(crate) daemon: Daemon,
    pub(crate) port: u16,
}

impl Alertmanager {
    /// `example` is the project's example configuration.
    pub(crate) fn start(dir: &Path, example: &str, receivers: &str) -> Self {
        let config = dir.join("alertmanager.yml");
        std::fs::write(&config, shorten::routes(example, receivers)).expect("the configuration");
        let port = free_port();
        let mut command = Command::new(PROGRAM);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.join("alertmanager").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            // One of its kind.
            .arg("--cluster.listen-address=")
            .arg("--log.level=warn");
        Self { daemon: Daemon::start(command, PROGRAM), port }
    }
}
