//! A real Prometheus with the project's rules, and what it answers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::daemon::{Daemon, free_port};
use crate::shorten;

pub(crate) const PROGRAM: &str = "prometheus";

pub(crate) struct Prometheus {
    pub(crate) daemon: Daemon,
    targets: PathBuf,
    http: reqwest::Client,
    api: String,
}

/// An alert that is pending or fires, whoever hears of it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Active {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) state: String,
    pub(crate) value: String,
}

impl Prometheus {
    /// `rules` are files of the project.
    pub(crate) fn start(dir: &Path, rules: &[PathBuf], alertmanager: u16) -> Self {
        let targets = dir.join("targets");
        std::fs::create_dir(&targets).expect("a directory");
        let mut rule_files = Vec::new();
        for file in rules {
            let name = file.file_name().expect("a name").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(file).expect("the rules");
            std::fs::write(dir.join(&name), shorten::rules(&text)).expect("the rules");
            rule_files.push(name);
        }
        // JSON is YAML.
        let config = json!({
            "global": {
                "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s",
            },
            "rule_files": rule_files,
            "alerting": {"alertmanagers": [
                {"static_configs": [{"targets": [format!("127.0.0.1:{alertmanager}")]}]},
            ]},
            "scrape_configs": [{
                "job_name": "punctual",
                "file_sd_configs": [{"files": ["targets/*.json"], "refresh_interval": "1s"}],
            }],
        });
        let file = dir.join("prometheus.yml");
        std::fs::write(&file, config.to_string()).expect("the configuration");
        let port = free_port();
        let mut command = Command::new(PROGRAM);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--rules.alert.resend-delay=5s")
            .arg("--log.level=warn");
        Self {
            daemon: Daemon::start(command, PROGRAM),
            targets,
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
            api: format!("http://127.0.0.1:{port}"),
        }
    }

    /// From now on the server at this port is scraped, as its own `job`.
    pub(crate) fn watch(&self, job: &str, port: u16) {
        let target = json!([{"targets": [format!("127.0.0.1:{port}")], "labels": {"job": job}}]);
        // Whole, or not at all.
        let draft = self.targets.join(format!("{job}.draft"));
        std::fs::write(&draft, target.to_string()).expect("a target");
        std::fs::rename(draft, self.file(job)).expect("a target");
    }

    pub(crate) fn forget(&self, job: &str) {
        let _ = std::fs::remove_file(self.file(job));
    }

    fn file(&self, job: &str) -> PathBuf {
        self.targets.join(format!("{job}.json"))
    }

    pub(crate) async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/-/ready", self.api)).send().await;
        answer.is_ok_and(|a| a.status().is_success())
    }

    /// All that are active, with this label `job`; the empty text is for those that have none.
    pub(crate) async fn alerts(&self, job: &str) -> Vec<Active> {
        let mut answer = self.get("alerts", &[]).await;
        let alerts = answer["data"]["alerts"].take();
        let alerts: Vec<Active> = serde_json::from_value(alerts).unwrap_or_default();
        let of = |a: &Active| a.labels.get("job").map_or("", String::as_str) == job;
        alerts.into_iter().filter(of).collect()
    }

    /// The values of an instant query.
    pub(crate) async fn query(&self, query: &str) -> Vec<f64> {
        let answer = self.get("query", &[("query", query)]).await;
        let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let value = |s: &Value| s["value"][1].as_str()?.parse().ok();
        series.iter().filter_map(value).collect()
    }

    /// Without an answer, as from an empty Prometheus: whoever waits asks again.
    async fn get(&self, what: &str, query: &[(&str, &str)]) -> Value {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/{what}", self.api), query);
        let Ok(answer) = self.http.get(url.expect("an address")).send().await else {
            return Value::Null;
        };
        let text = answer.text().await.unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }
}
