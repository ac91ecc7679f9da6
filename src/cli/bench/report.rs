//! What a bench prints: where it ran, a table, and the delivery check.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::delivery::Delivery;
use super::measure::{Quantiles, Usage, micros_each, per_second, ratio};
use crate::cli::output::{Now, Table, printable};
use crate::wire;

/// Where and what was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) version: String,
    pub(crate) store: String,
    pub(crate) durability: String,
    pub(crate) cores: usize,
    pub(crate) cpu: String,
    pub(crate) kernel: String,
    /// Of the temporary store; absent for a server that ran already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) filesystem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle_resident_bytes: Option<u64>,
}

impl Machine {
    pub(crate) fn look(meta: &wire::Meta, store_dir: Option<&Path>) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name"));
        let known = |text: &str| {
            if text.is_empty() { "unknown".to_owned() } else { printable(text) }
        };
        Self {
            date: Now::read().plus(Duration::ZERO).to_rfc3339(),
            version: known(&meta.version),
            store: known(&meta.store),
            durability: known(&meta.durability),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: known(cpu.unwrap_or_default().trim_start_matches([':', ' ', '\t'])),
            kernel: known(read("/proc/sys/kernel/osrelease").trim()),
            filesystem: store_dir.map(|dir| known(&filesystem(&read("/proc/mounts"), dir))),
            idle_resident_bytes: None,
        }
    }

    /// Nothing is durable here, whatever the server says.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.filesystem.as_deref(), Some("tmpfs" | "ramfs"))
    }

    fn line(&self) -> String {
        let mut line = format!(
            "punctual {} on {}, durability {}; {} cores, {}, kernel {}",
            self.version, self.store, self.durability, self.cores, self.cpu, self.kernel
        );
        if let Some(filesystem) = &self.filesystem {
            let _ = write!(line, ", {filesystem}");
        }
        if let Some(bytes) = self.idle_resident_bytes {
            let _ = write!(line, "; {} MB resident when idle", megabytes(bytes));
        }
        let _ = write!(line, "; {}", self.date);
        line
    }
}

/// The type of the file system that a directory is on, from the lines of `/proc/mounts`.
fn filesystem(mounts: &str, dir: &Path) -> String {
    let mut best = (0, "");
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        if let (Some(point), Some(kind)) = (fields.next(), fields.next())
            && dir.starts_with(point)
            && point.len() >= best.0
        {
            best = (point.len(), kind);
        }
    }
    best.1.to_owned()
}

/// One line of the table.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) connections: usize,
    /// What `rate` counts: `requests` or `jobs`.
    pub(crate) unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_microseconds: Option<Quantiles>,
    pub(crate) requests: u64,
    pub(crate) jobs: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_cpu_microseconds_per_request: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_cpu_microseconds_per_job: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_cpu_microseconds_per_request: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resident_bytes: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) note: String,
}

impl Row {
    pub(crate) fn new(scenario: impl Into<String>, connections: usize) -> Self {
        Self { scenario: scenario.into(), connections, unit: "requests", ..Self::default() }
    }

    /// A row whose rate counts requests.
    pub(crate) fn of_requests(mut self, requests: u64, usage: Usage) -> Self {
        self.requests = requests;
        self.rate_per_second = Some(per_second(requests, usage.wall));
        self.spent(usage)
    }

    /// A row whose rate counts jobs.
    pub(crate) fn of_jobs(mut self, jobs: u64, requests: u64, usage: Usage) -> Self {
        self.unit = "jobs";
        (self.jobs, self.requests) = (jobs, requests);
        self.rate_per_second = Some(per_second(jobs, usage.wall));
        self.server_cpu_microseconds_per_job = micros_each(usage.server, jobs);
        self.spent(usage)
    }

    fn spent(mut self, usage: Usage) -> Self {
        self.server_cpu_microseconds_per_request = micros_each(usage.server, self.requests);
        self.client_cpu_microseconds_per_request = micros_each(usage.client, self.requests);
        self
    }

    pub(crate) fn latency(mut self, quantiles: Option<Quantiles>) -> Self {
        self.latency_microseconds = quantiles;
        self
    }

    /// Adds a remark behind those that are there.
    pub(crate) fn note(mut self, remark: impl Into<String>) -> Self {
        let remark = remark.into();
        if !remark.is_empty() && !self.note.is_empty() {
            self.note.push_str("; ");
        }
        self.note.push_str(&remark);
        self
    }
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
    pub(crate) delivery: Vec<Delivery>,
    /// What makes the figures doubtful.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

impl Report {
    pub(crate) fn is_exact(&self) -> bool {
        self.delivery.iter().all(Delivery::is_exact)
    }

    /// The server's time for a request of this scenario at so many connections, if measured.
    pub(crate) fn cpu(&self, scenario: &str, connections: usize) -> Option<f64> {
        let mut rows = self.rows.iter();
        rows.find(|row| row.scenario == scenario && row.connections == connections)?
            .server_cpu_microseconds_per_request
    }

    pub(crate) fn text(&self) -> String {
        let mut table = Table::new(&[
            "SCENARIO",
            ">CONNS",
            ">RATE/s",
            ">p50 ms",
            ">p99 ms",
            ">p99.9 ms",
            ">SERVER us/req",
            ">us/job",
            ">CLIENT us/req",
            ">RSS MB",
            "NOTE",
        ]);
        for row in &self.rows {
            let q = row.latency_microseconds;
            table.row([
                row.scenario.clone(),
                row.connections.to_string(),
                row.rate_per_second.map_or_else(dash, rate),
                q.map_or_else(dash, |q| millis(q.p50)),
                q.map_or_else(dash, |q| millis(q.p99)),
                q.map_or_else(dash, |q| millis(q.p999)),
                row.server_cpu_microseconds_per_request.map_or_else(dash, one),
                row.server_cpu_microseconds_per_job.map_or_else(dash, one),
                row.client_cpu_microseconds_per_request.map_or_else(dash, one),
                row.resident_bytes.map_or_else(dash, megabytes),
                row.note.clone(),
            ]);
        }
        let mut text = format!("{}\n\n{}", self.machine.line(), table.render());
        if !self.delivery.is_empty() {
            text.push('\n');
        }
        for delivery in &self.delivery {
            let _ = writeln!(text, "{}", delivery.line());
        }
        if !self.delivery.is_empty() {
            let lost: u64 = self.delivery.iter().map(|d| d.lost).sum();
            let duplicated: u64 = self.delivery.iter().map(|d| d.duplicated).sum();
            let _ = writeln!(text, "lost {lost}, duplicated {duplicated}");
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        text
    }
}

/// `2.1x`, or nothing that can be said.
pub(crate) fn times(this: Option<f64>, that: Option<f64>) -> Option<String> {
    ratio(this, that).map(|ratio| format!("{ratio:.2}x"))
}

fn dash() -> String {
    "-".to_owned()
}

fn one(value: f64) -> String {
    format!("{value:.1}")
}

fn rate(value: f64) -> String {
    if value < 100.0 { one(value) } else { format!("{value:.0}") }
}

fn millis(micros: u64) -> String {
    let millis = micros as f64 / 1e3;
    if millis < 10.0 { format!("{millis:.2}") } else { one(millis) }
}

fn megabytes(bytes: u64) -> String {
    (bytes / 1_000_000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let usage = Usage {
            wall: Duration::from_secs(2),
            server: Some(Duration::from_millis(400)),
            client: None,
        };
        let q = Quantiles { p50: 800, p99: 12_340, p999: 50_000, max: 60_000 };
        Report {
            rows: vec![
                Row::new("baseline", 64).of_requests(40_000, usage).latency(Some(q)),
                Row::new("cycle", 256).of_jobs(20_000, 400, usage).note("a").note("b"),
            ],
            delivery: vec![Delivery::check("cycle", vec![1], vec![1], 0, 0)],
            ..Report::default()
        }
    }

    #[test]
    fn the_table_shows_rates_latencies_and_costs() {
        let text = report().text();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines[3],
            ["baseline", "64", "20000", "0.80", "12.3", "50.0", "10.0", "-", "-", "-"]
        );
        assert_eq!(
            lines[4],
            ["cycle", "256", "10000", "-", "-", "-", "1000.0", "20.0", "-", "-", "a;", "b"]
        );
        assert!(text.ends_with("lost 0, duplicated 0\n"), "{text}");
    }

    #[test]
    fn costs_are_found_and_compared() {
        let report = report();
        assert_eq!(report.cpu("baseline", 64), Some(10.0));
        assert_eq!(report.cpu("baseline", 256), None);
        assert_eq!(times(Some(21.0), report.cpu("baseline", 64)).as_deref(), Some("2.10x"));
        assert_eq!(times(None, Some(1.0)), None);
    }

    #[test]
    fn one_inexact_delivery_spoils_the_whole() {
        let mut report = report();
        assert!(report.is_exact());
        report.delivery.push(Delivery::check("accept", vec![1, 2], vec![1], 0, 0));
        assert!(!report.is_exact());
        assert!(report.text().contains("lost 1, duplicated 0"));
    }

    #[test]
    fn the_file_system_is_the_innermost() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n/dev/b /srv xfs rw 0 0\n";
        assert_eq!(filesystem(mounts, Path::new("/srv/x")), "xfs");
        assert_eq!(filesystem(mounts, Path::new("/dev/shm/x")), "tmpfs");
        assert_eq!(filesystem(mounts, Path::new("/srvx")), "ext4");
        assert_eq!(filesystem("", Path::new("/")), "");
    }
}
