//! A real Prometheus with the project's rules, asked as Grafana asks it.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::daemon::{Daemon, free_port, tail, until};

/// The job that the server is scraped as; the alerts look for its name in it.
pub const JOB: &str = "punctual";

pub struct Prometheus {
    daemon: Daemon,
    http: reqwest::Client,
    api: String,
    _dir: TempDir,
}

/// What an expression is computed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Now,
    /// From the moment until now, each second.
    Since(u64),
}

impl Prometheus {
    /// Scrapes `port` and evaluates the rules each second, just as they are written. `PROMETHEUS`
    /// names another program than the one on the path.
    pub async fn start(port: u16, rules: &[String]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let rules: Vec<_> = rules.iter().map(|file| root.join(file)).collect();
        // JSON is YAML.
        let config = json!({
            "global": {
                "scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s",
            },
            "rule_files": rules,
            "scrape_configs": [{
                "job_name": JOB,
                "static_configs": [{"targets": [format!("127.0.0.1:{port}")]}],
            }],
        });
        let file = dir.path().join("prometheus.yml");
        std::fs::write(&file, config.to_string()).expect("the configuration");
        let port = free_port();
        let program = std::env::var("PROMETHEUS").unwrap_or_else(|_| "prometheus".to_owned());
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=warn");
        let mut started = Self {
            daemon: Daemon::start(command, "prometheus"),
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
            api: format!("http://127.0.0.1:{port}/api/v1"),
            _dir: dir,
        };
        let up = until("Prometheus", || async {
            let up = format!("up{{job=\"{JOB}\"}} == 1");
            (started.has(&up, Over::Now).await == Ok(true)).then_some(())
        });
        up.await;
        assert!(started.daemon.is_running(), "it has ended:\n{}", tail(&started.daemon.log()));
        started
    }

    /// Its own clock, in seconds.
    pub async fn now(&self) -> u64 {
        let answer = self.get("query", &[("query", "time()")]).await.expect("the time");
        let text = answer["result"][1].as_str().expect("a scalar");
        text.parse::<f64>().expect("a number") as u64
    }

    /// Whether the answer has a number: a graph shows neither NaN nor infinity. An error is what
    /// Prometheus says of the expression.
    pub async fn has(&self, expr: &str, over: Over) -> Result<bool, String> {
        let answer = match over {
            Over::Now => self.get("query", &[("query", expr)]).await?,
            Over::Since(start) => {
                let (start, end) = (start.to_string(), self.now().await.to_string());
                let range = [("query", expr), ("start", &start), ("end", &end), ("step", "1")];
                self.get("query_range", &range).await?
            }
        };
        Ok(numbers(&answer["result"]).any(f64::is_finite))
    }

    /// `label_values(selector, label)`.
    pub async fn values(&self, selector: &str, label: &str) -> Result<Vec<String>, String> {
        let answer = self.get(&format!("label/{label}/values"), &[("match[]", selector)]).await?;
        let values = answer.as_array().into_iter().flatten();
        Ok(values.filter_map(|v| v.as_str().map(str::to_owned)).collect())
    }

    /// Every rule that was loaded: its name, and what is wrong with its last evaluation, if it had
    /// one by now.
    pub async fn rules(&self) -> Vec<(String, Option<String>)> {
        let answer = self.get("rules", &[]).await.expect("the rules");
        let groups = answer["groups"].as_array().into_iter().flatten();
        let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        let read = |rule: &Value| {
            let name = rule["name"].as_str().expect("a name").to_owned();
            let wrong = match rule["health"].as_str() {
                Some("ok") => None,
                _ => Some(format!("{}: {}", rule["health"], rule["lastError"])),
            };
            (name, wrong)
        };
        rules.map(read).collect()
    }

    async fn get(&self, what: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let url = format!("{}/{what}", self.api);
        let url = reqwest::Url::parse_with_params(&url, query).expect("an address");
        let answer = self.http.get(url).send().await.map_err(|e| e.to_string())?;
        let text = answer.text().await.map_err(|e| e.to_string())?;
        let mut json: Value = serde_json::from_str(&text).map_err(|_| text)?;
        if json["status"] == "success" {
            Ok(json["data"].take())
        } else {
            Err(json["error"].as_str().unwrap_or("an error without words").to_owned())
        }
    }
}

/// The values of a vector or of a matrix.
fn numbers(result: &Value) -> impl Iterator<Item = f64> {
    let series = result.as_array().into_iter().flatten();
    let samples = series.flat_map(|series| {
        let many = series["values"].as_array().into_iter().flatten();
        many.chain(series.get("value"))
    });
    samples.filter_map(|sample| sample[1].as_str()?.parse().ok())
}
