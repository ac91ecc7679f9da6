//! The alerts as code: accepted by the tools that will read them, proven both ways, explained.
//!
//! What an alert does is tested where Prometheus evaluates it, in `alerts/tests/`; here those tests
//! are run, and nothing is left without one. The files are read as text: their form is ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use punctual::telemetry::catalogue::{self, Kind, Scope};

/// Fires always, so no test can show it silent.
const HEARTBEAT: &str = "PunctualHeartbeat";

/// Shows every alert silent at once, which proves little of any one of them.
const HEALTHY: &str = "healthy.yml";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file} can be read: {e}"))
}

fn test_files() -> Vec<PathBuf> {
    let dir = root().join("alerts/tests");
    let entries = fs::read_dir(dir).expect("alerts/tests can be read");
    let mut files: Vec<PathBuf> = entries
        .map(|e| e.expect("an entry of alerts/tests").path())
        .filter(|p| p.extension().is_some_and(|e| e == "yml"))
        .collect();
    files.sort();
    assert!(files.len() > 5, "alerts/tests has its themes: {files:?}");
    files
}

/// Starts the first of `programs` that is installed.
fn start(programs: &[&str], package: &str, prepare: impl Fn(&mut Command)) -> Child {
    for program in programs {
        let mut command = Command::new(program);
        command.current_dir(root()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        prepare(&mut command);
        match command.spawn() {
            Ok(child) => return child,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => panic!("{program} can be started: {e}"),
        }
    }
    panic!(
        "{} is not installed; it comes with {package}: sudo apt-get install {package}",
        programs.join(" or ")
    );
}

/// Runs a tool to its end. What it prints, and whether it was content.
fn run(program: &str, args: &[&str]) -> (bool, String) {
    let package = if program == "promtool" { "prometheus" } else { "prometheus-alertmanager" };
    let child = start(&[program], package, |c| {
        c.args(args);
    });
    let output = child.wait_with_output().expect("the tool ends");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn must(program: &str, args: &[&str]) -> String {
    let (ok, said) = run(program, args);
    assert!(ok, "{program} {}\n{said}", args.join(" "));
    said
}

#[test]
fn prometheus_accepts_the_rules() {
    let files = ["alerts/punctual.rules.yml", "alerts/punctual.alerts.yml"];
    must("promtool", &["check", "rules", "--lint=all", "--lint-fatal", files[0], files[1]]);
}

#[test]
fn prometheus_accepts_the_example() {
    must("promtool", &["check", "config", "alerts/prometheus.example.yml"]);
}

#[test]
fn alerts_and_rules_do_what_their_tests_say() {
    let files = test_files();
    let mut args = vec!["test", "rules"];
    args.extend(files.iter().map(|f| f.to_str().expect("a plain path")));
    must("promtool", &args);
}

const ALERTMANAGER: &str = "alerts/alertmanager.example.yml";

#[test]
fn alertmanager_accepts_the_example_and_routes_by_severity() {
    must("amtool", &["check-config", ALERTMANAGER]);
    let config = format!("--config.file={ALERTMANAGER}");
    for alert in alerts() {
        let severity = alert.field("severity");
        let receiver = match severity {
            "critical" => "pager",
            "warning" | "info" => "chat",
            "none" => "heartbeat",
            other => panic!("{}: a severity called {other}", alert.name),
        };
        let labels =
            [format!("alertname={}", alert.name), format!("severity={severity}"), "queue=q".into()];
        let verify = format!("--verify.receivers={receiver}");
        let mut args = vec!["config", "routes", "test", &*config, &*verify];
        args.extend(labels.iter().map(String::as_str));
        must("amtool", &args);
    }
}

/// An Alertmanager of our own; it ends with the test.
struct Alertmanager {
    process: Child,
    url: String,
    _data: tempfile::TempDir,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Alertmanager {
    fn start() -> Self {
        let data = tempfile::tempdir().expect("a directory for its data");
        let storage = format!("--storage.path={}", data.path().display());
        let config = format!("--config.file={ALERTMANAGER}");
        let programs = ["prometheus-alertmanager", "alertmanager"];
        let mut process = start(&programs, "prometheus-alertmanager", |c| {
            c.args([&*config, &*storage, "--web.listen-address=127.0.0.1:0"]);
            c.arg("--cluster.listen-address=").stdout(Stdio::null());
        });
        let mut lines = BufReader::new(process.stderr.take().expect("its log")).lines();
        let mut said = String::new();
        let url = loop {
            let Some(Ok(line)) = lines.next() else { panic!("it does not listen:\n{said}") };
            let listening = line.contains("Listening on");
            if let (true, Some((_, address))) = (listening, line.rsplit_once("address=")) {
                break format!("--alertmanager.url=http://{}", address.trim_matches('"'));
            }
            said.push_str(&line);
            said.push('\n');
        };
        // Whoever writes to a closed pipe ends.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Self { process, url, _data: data }
    }

    fn fire(&self, labels: &[&str]) {
        must("amtool", &[&["alert", "add", &*self.url], labels].concat());
    }

    /// The names of the alerts of `job` that are inhibited, or those that are not.
    fn names(&self, job: &str, inhibited: bool) -> BTreeSet<String> {
        let flag = if inhibited { "--inhibited" } else { "--active" };
        let matcher = format!("job={job}");
        let said = must("amtool", &["alert", "query", &self.url, flag, &matcher, "-o", "simple"]);
        let words = said.lines().skip(1).filter_map(|l| l.split_whitespace().next());
        words.map(str::to_owned).collect()
    }

    /// Waits until exactly `silent` of the alerts of `job` are inhibited.
    fn expect(&self, job: &str, silent: &[&str], heard: &[&str]) {
        let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
        let mut seen = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..200 {
            seen = (self.names(job, true), self.names(job, false));
            if seen == (set(silent), set(heard)) {
                return;
            }
        }
        panic!("{job}: silent {:?}, heard {:?}", seen.0, seen.1);
    }
}

#[test]
fn alertmanager_keeps_quiet_what_follows_from_something_else() {
    let alertmanager = Alertmanager::start();
    let fire = |labels: &[&str]| alertmanager.fire(labels);

    let q = "queue=reports";
    fire(&["PunctualJobsStuckPending", "job=queues", q, "verdict=workers_saturated"]);
    fire(&["PunctualBacklogDrainSlow", "job=queues", q]);
    fire(&["PunctualOldestPendingTooOld", "job=queues", q]);
    alertmanager.expect(
        "queues",
        &["PunctualBacklogDrainSlow"],
        &["PunctualJobsStuckPending", "PunctualOldestPendingTooOld"],
    );
    fire(&["PunctualBacklogDrainSlow", "job=other-queues", "queue=mail"]);
    fire(&["PunctualJobsStuckPending", "job=other-queues", q, "verdict=no_workers"]);
    alertmanager.expect(
        "other-queues",
        &[],
        &["PunctualBacklogDrainSlow", "PunctualJobsStuckPending"],
    );

    fire(&["PunctualJobFailureRateHigh", "job=failures", q]);
    fire(&["PunctualAttemptFailureRateHigh", "job=failures", q]);
    alertmanager.expect(
        "failures",
        &["PunctualAttemptFailureRateHigh"],
        &["PunctualJobFailureRateHigh"],
    );

    fire(&["PunctualRetryStorm", "job=retries", q]);
    fire(&["PunctualAttemptFailureRateHigh", "job=retries", q]);
    fire(&["PunctualRetryStorm", "job=retries", "queue=mail"]);
    fire(&["PunctualJobFailureRateHigh", "job=retries", "queue=mail"]);
    alertmanager.expect(
        "retries",
        &["PunctualAttemptFailureRateHigh", "PunctualRetryStorm"],
        &["PunctualRetryStorm", "PunctualJobFailureRateHigh"],
    );
    // What burns fast burns slowly too; one objective says nothing about the other.
    fire(&["PunctualSubmitErrorBudgetBurn", "job=budgets", "severity=critical"]);
    fire(&["PunctualSubmitErrorBudgetBurn", "job=budgets", "severity=warning"]);
    fire(&["PunctualStartLatencyBudgetBurn", "job=budgets", "severity=warning"]);
    alertmanager.expect(
        "budgets",
        &["PunctualSubmitErrorBudgetBurn"],
        &["PunctualSubmitErrorBudgetBurn", "PunctualStartLatencyBudgetBurn"],
    );
    fire(&["PunctualLeaderMissing", "job=leader"]);
    fire(&["PunctualTaskStalled", "job=leader", "task=reaper"]);
    fire(&["PunctualWatchdogStalled", "job=leader", "task=watchdog"]);
    fire(&["PunctualCanaryFailing", "job=leader", "instance=a:8080"]);
    alertmanager.expect(
        "leader",
        &["PunctualTaskStalled", "PunctualWatchdogStalled"],
        &["PunctualLeaderMissing", "PunctualCanaryFailing"],
    );

    fire(&["PunctualStoreErrors", "job=store"]);
    fire(&["PunctualCanaryFailing", "job=store", "instance=a:8080"]);
    fire(&["PunctualSubmitErrorBudgetBurn", "job=store", "severity=critical"]);
    fire(&["PunctualStartLatencyBudgetBurn", "job=store", "severity=critical"]);
    fire(&["PunctualLeaderMissing", "job=store"]);
    fire(&["PunctualStoreSlow", "job=store", "operation=submit"]);
    fire(&["PunctualClockSkew", "job=store", "instance=a:8080"]);
    fire(&["PunctualStateSampleStale", "job=store", "instance=a:8080"]);
    fire(&["PunctualTaskStalled", "job=store", "task=reaper"]);
    fire(&["PunctualJobFailureRateHigh", "job=store", q]);
    alertmanager.expect(
        "store",
        &[
            "PunctualTaskStalled",
            "PunctualCanaryFailing",
            "PunctualSubmitErrorBudgetBurn",
            "PunctualStartLatencyBudgetBurn",
            "PunctualLeaderMissing",
            "PunctualStoreSlow",
        ],
        &[
            "PunctualStoreErrors",
            "PunctualStateSampleStale",
            "PunctualJobFailureRateHigh",
            "PunctualClockSkew",
        ],
    );
    fire(&["PunctualStoreErrors", "job=verdicts"]);
    fire(&["PunctualJobsStuckPending", "job=verdicts", q, "verdict=no_workers"]);
    alertmanager.expect("verdicts", &[], &["PunctualStoreErrors", "PunctualJobsStuckPending"]);
    fire(&["PunctualStoreErrors", "job=verdict"]);
    fire(&["PunctualJobsStuckPending", "job=verdict", q, "verdict=store_degraded"]);
    alertmanager.expect("verdict", &["PunctualJobsStuckPending"], &["PunctualStoreErrors"]);
    fire(&["PunctualStoreFull", "job=full"]);
    fire(&["PunctualStoreErrors", "job=full"]);
    alertmanager.expect("full", &["PunctualStoreErrors"], &["PunctualStoreFull"]);

    fire(&["PunctualStateSampleStale", "job=samples", "instance=a:8080"]);
    fire(&["PunctualJobsStuckPending", "job=samples", q, "verdict=no_workers"]);
    fire(&["PunctualLeasesTakenBack", "job=samples", q, "cause=worker_silent"]);
    alertmanager.expect(
        "samples",
        &["PunctualJobsStuckPending"],
        &["PunctualStateSampleStale", "PunctualLeasesTakenBack"],
    );

    fire(&["PunctualDown", "job=down"]);
    fire(&["PunctualInstanceDown", "job=down", "instance=a:8080"]);
    fire(&["PunctualHeartbeat", "job=down"]);
    fire(&["NodeDown", "job=down"]);
    alertmanager.expect(
        "down",
        &["PunctualInstanceDown"],
        &["PunctualDown", "PunctualHeartbeat", "NodeDown"],
    );
    // The same name in another cluster is another fleet.
    fire(&["PunctualDown", "job=twins", "cluster=eu"]);
    fire(&["PunctualInstanceDown", "job=twins", "cluster=us", "instance=a:8080"]);
    alertmanager.expect("twins", &[], &["PunctualDown", "PunctualInstanceDown"]);
    // Nothing is left of anything: no labels to go by.
    fire(&["PunctualDown"]);
    alertmanager.expect("twins", &["PunctualInstanceDown"], &["PunctualDown"]);
}

/// A rule of the files, as far as a line tells.
#[derive(Debug)]
struct Rule {
    name: String,
    lines: Vec<String>,
}

impl Rule {
    /// The text behind `key:` on its line; empty when it goes on below.
    fn field(&self, key: &str) -> &str {
        let value = self.lines.iter().find_map(|l| l.trim().strip_prefix(key)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("{} has no {key}", self.name)).trim()
    }

    /// The text that begins behind `key:`, folded to one line.
    fn text(&self, key: &str) -> String {
        let first = self.field(key);
        if !matches!(first, "|" | ">-") {
            return first.to_owned();
        }
        let indent = |l: &str| l.len() - l.trim_start().len();
        let at = |l: &&String| !l.trim().starts_with(&format!("{key}:"));
        let mut lines = self.lines.iter().skip_while(at);
        let own = indent(lines.next().expect("the line was found before"));
        let below = lines.take_while(|l| indent(l) > own).map(|l| l.trim());
        below.collect::<Vec<_>>().join(" ")
    }
}

fn rules(file: &str, key: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for line in read(file).lines().filter(|l| !l.trim_start().starts_with('#')) {
        let head = line.trim().strip_prefix("- ").unwrap_or_default();
        if let Some(name) = head.strip_prefix(key).and_then(|h| h.strip_prefix(": ")) {
            rules.push(Rule { name: name.to_owned(), lines: Vec::new() });
        } else if line.trim().starts_with("- name:") {
            // A group; its rules follow.
        } else if let Some(rule) = rules.last_mut().filter(|_| !line.trim().is_empty()) {
            rule.lines.push(line.to_owned());
        }
    }
    let expressions = rules.iter().filter(|r| !r.text("expr").is_empty()).count();
    assert!(rules.len() > 15 && expressions == rules.len(), "{file} is read as it is meant");
    rules
}

fn alerts() -> Vec<Rule> {
    rules("alerts/punctual.alerts.yml", "alert")
}

fn recordings() -> Vec<Rule> {
    rules("alerts/punctual.rules.yml", "record")
}

fn names() -> BTreeSet<String> {
    alerts().into_iter().map(|a| a.name).collect()
}

#[test]
fn every_alert_is_complete() {
    for alert in alerts() {
        let name = &alert.name;
        assert!(name.starts_with("Punctual"), "{name} says whose it is");
        let summary = alert.text("summary");
        assert!(
            !summary.is_empty() && !summary.contains("{{"),
            "{name}: the summary is a fixed text: {summary}"
        );
        let description = alert.text("description");
        assert!(
            description.contains("First"),
            "{name}: the description names the command to run first: {description}"
        );
        let runbook = format!("https://punctual.example/docs/RUNBOOKS.md#{}", name.to_lowercase());
        assert_eq!(alert.text("runbook_url"), runbook, "{name}");
        // An alert by queue opens the queue's dashboard, with the queue chosen.
        let by_queue = description.contains("$labels.queue");
        let dashboards: &[&str] = if by_queue {
            &["https://grafana.example/d/punctual-queue?var-queue={{ $labels.queue }}"]
        } else {
            &[
                "https://grafana.example/d/punctual-overview",
                "https://grafana.example/d/punctual-internals",
            ]
        };
        let dashboard = alert.text("dashboard_url");
        assert!(dashboards.contains(&&*dashboard), "{name}: {dashboard}");
    }
}

/// One of another group is an evaluation old.
#[test]
fn no_alert_reads_a_recording_rule() {
    for alert in alerts() {
        let expr = alert.text("expr");
        assert!(!expr.contains("punctual:"), "{}: {expr}", alert.name);
    }
}

/// What `tests` say of an alert: whether one shows it firing, and one silent.
fn proofs(tests: &str) -> BTreeMap<String, BTreeSet<bool>> {
    let mut proofs: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    let mut name = None;
    for line in tests.lines().map(str::trim) {
        if let Some(alert) = line.strip_prefix("alertname: ") {
            name = Some(alert.to_owned());
        } else if let Some(expected) = line.strip_prefix("exp_alerts:") {
            let name = name.take().expect("`alertname` stands before `exp_alerts`");
            proofs.entry(name).or_default().insert(expected.trim() != "[]");
        }
    }
    proofs
}

#[test]
fn every_alert_is_proven_both_ways() {
    let mut proven: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    for file in test_files().iter().filter(|f| !f.ends_with(HEALTHY)) {
        let text = fs::read_to_string(file).expect("a test file");
        for (name, cases) in proofs(&text) {
            proven.entry(name).or_default().extend(cases);
        }
    }
    let tested: BTreeSet<String> = proven.keys().cloned().collect();
    assert_eq!(tested, names(), "the tests name the alerts that exist");
    for (name, cases) in proven {
        assert!(cases.contains(&true), "no test in alerts/tests shows {name} firing");
        assert!(
            cases.contains(&false) || name == HEARTBEAT,
            "no test in alerts/tests shows {name} silent near its threshold"
        );
    }
    let healthy: BTreeSet<String> =
        proofs(&read(&format!("alerts/tests/{HEALTHY}"))).into_keys().collect();
    assert_eq!(healthy, names(), "{HEALTHY} looks at every alert");
}

#[test]
fn every_recording_rule_is_tested() {
    let tests = read("alerts/tests/rules.yml");
    for rule in recordings() {
        let name = &rule.name;
        let forms = [format!("expr: {name}\n"), format!("expr: round({name}, 0.001)\n")];
        assert!(forms.iter().any(|form| tests.contains(form)), "{name} is not tested");
    }
}

/// What each section has to say, in this order.
const PARTS: [&str; 6] = ["**Means", "**Impact", "**Check", "**Cause", "**Cure", "**Over when"];

#[test]
fn every_alert_has_its_runbook() {
    let text = read("docs/RUNBOOKS.md");
    let mut sections = BTreeMap::new();
    for section in text.split("\n## ").skip(1) {
        let (heading, body) = section.split_once('\n').expect("a heading and its text");
        assert!(sections.insert(heading.trim().to_owned(), body).is_none(), "{heading} twice");
    }
    let headings: BTreeSet<String> = sections.keys().cloned().collect();
    assert_eq!(headings, names(), "the runbooks are those of the alerts");
    for (name, body) in &sections {
        let mut from = 0;
        for part in PARTS {
            // Where cures go with their causes, in a table, one heading is enough.
            let together = part == "**Cure" && body.contains("**Causes and cures");
            let Some(at) = body[from..].find(part) else {
                assert!(together, "{name}: `{part}` is missing, or out of order");
                continue;
            };
            from += at;
        }
        for number in 1..=3 {
            let step = format!("\n{number}. ");
            assert!(body.contains(&step), "{name}: three checks, and number {number} is missing");
        }
        assert!(body.matches('`').count() >= 4, "{name}: commands to run");
    }
    // Links within the file lead somewhere.
    for link in text.split("](#").skip(1) {
        let anchor = link.split(')').next().unwrap_or_default();
        assert!(sections.keys().any(|s| s.to_lowercase() == anchor), "nothing is at #{anchor}");
    }
}

#[test]
fn every_verdict_is_in_the_runbook() {
    let text = read("docs/RUNBOOKS.md");
    let tables = text.split("\n## PunctualJobsStuckPending").nth(1).unwrap_or_default();
    let section = tables.split("\n## ").next().unwrap_or_default();
    for verdict in
        punctual::domain::watch::Verdict::ALL.map(punctual::domain::watch::Verdict::as_str)
    {
        assert!(section.contains(&format!("| `{verdict}` |")), "{verdict}: what does it mean?");
    }
    assert!(section.contains("$ punctual explain "), "a worked example with real output");
}

#[test]
fn every_fact_about_the_store_has_its_recording_rule() {
    let recorded: BTreeMap<String, String> =
        recordings().iter().map(|r| (r.name.clone(), r.text("expr"))).collect();
    let gauges = catalogue::ALL.iter().filter(|m| m.scope == Scope::Store && m.kind == Kind::Gauge);
    for metric in gauges {
        let short = metric.name.strip_prefix("punctual_").expect("our own metric");
        let name = format!("punctual:{short}:max");
        let expr = recorded.get(&name).unwrap_or_else(|| panic!("there is no rule {name}"));
        assert!(expr.starts_with("max without (instance, pod) ("), "{name}: {expr}");
        assert!(expr.contains(metric.name), "{name}: {expr}");
    }
}

/// Facts that each replica tells are never added, and events of each are never halved.
#[test]
fn replicas_are_combined_as_the_scope_says() {
    let facts: BTreeSet<String> = recordings()
        .iter()
        .filter_map(|r| r.name.strip_prefix("punctual:")?.strip_suffix(":max"))
        .map(|short| format!("punctual_{short}"))
        .collect();
    let mut seen = 0;
    for rule in alerts().iter().chain(&recordings()) {
        let expr = rule.text("expr");
        for (at, _) in expr.match_indices("punctual_") {
            let after = |c: char| !c.is_ascii_alphanumeric() && c != '_';
            let metric = expr[at..].split(after).next().unwrap_or_default();
            let wanted = match metric {
                _ if facts.contains(metric) => "max",
                _ if metric.ends_with("_total") => "sum",
                _ => continue,
            };
            seen += 1;
            // The nearest aggregation over replicas before it is the one that it is in.
            let nearest = ["sum", "max", "min"]
                .into_iter()
                .filter_map(|a| {
                    Some((expr[..at].rfind(&format!("{a} without (instance, pod"))?, a))
                })
                .max();
            assert_eq!(nearest.map(|(_, a)| a), Some(wanted), "{}: {metric}", rule.name);
        }
    }
    assert!(seen > 40, "the expressions were read: {seen}");
}
