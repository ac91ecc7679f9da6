//! One fault and the server that it happens to: healthy before, seen while it lasts, forgotten
//! after the cure.

use std::ops::{Deref, DerefMut};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::process::Command;

use crate::daemon::{now, tail, until};
use crate::expect::Expect;
use crate::host::Host;
use crate::lab::Lab;
use crate::prometheus::Active;
use crate::server::binary;
use crate::webhook::Delivery;

/// The queue that everything happens in.
pub(crate) const QUEUE: &str = "reports";

/// Good scrapes before a fault: a rate needs a past.
const SCRAPES: u32 = 12;

const HEARTBEAT: &str = "PunctualHeartbeat";

type Play = for<'a> fn(&'a mut Case) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

pub(crate) struct Fault {
    pub(crate) name: &'static str,
    play: Play,
}

/// What became of a fault.
pub(crate) struct Outcome {
    pub(crate) fault: &'static str,
    pub(crate) verdict: Option<&'static str>,
    pub(crate) rows: Vec<Row>,
    pub(crate) failure: Option<String>,
}

/// An alert that was raised, in the seconds that it took.
pub(crate) struct Row {
    pub(crate) alert: String,
    pub(crate) detect: f64,
    /// `None` when it was over before the cure.
    pub(crate) clear: Option<f64>,
}

impl Fault {
    pub(crate) fn new(name: &'static str, play: Play) -> Self {
        Self { name, play }
    }

    pub(crate) async fn run(self, lab: &Arc<Lab>) -> Outcome {
        let mut case = Case::new(Arc::clone(lab), self.name);
        let played = AssertUnwindSafe((self.play)(&mut case)).catch_unwind().await;
        let failure = match played {
            Ok(()) => None,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                Some(case.report(&text.unwrap_or_default()).await)
            }
        };
        let Case { verdict, rows, .. } = &mut case;
        let (verdict, rows) = (verdict.take(), std::mem::take(rows));
        let left = AssertUnwindSafe(case.leave()).catch_unwind().await;
        let failure =
            failure.or_else(|| left.is_err().then(|| format!("{}: its target stays", self.name)));
        Outcome { fault: self.name, verdict, rows, failure }
    }
}

pub(crate) struct Case {
    pub(crate) lab: Arc<Lab>,
    name: &'static str,
    /// Its server's, in Prometheus.
    pub(crate) job: String,
    /// The label `job` of the alerts that are waited for.
    heard_as: String,
    /// What was told earlier is none of its business.
    since: Instant,
    host: Host,
    injected: Option<Instant>,
    cured: Option<Instant>,
    /// With the seconds until it was seen.
    raised: Vec<(Expect, f64)>,
    verdict: Option<&'static str>,
    rows: Vec<Row>,
}

impl Deref for Case {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl DerefMut for Case {
    fn deref_mut(&mut self) -> &mut Host {
        &mut self.host
    }
}

impl Case {
    fn new(lab: Arc<Lab>, name: &'static str) -> Self {
        let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
        let job = std::iter::once("punctual").chain(words).collect::<Vec<_>>().join("-");
        Self {
            lab,
            name,
            heard_as: job.clone(),
            since: now(),
            job,
            host: Host::new(),
            injected: None,
            cured: None,
            raised: Vec::new(),
            verdict: None,
            rows: Vec::new(),
        }
    }

    /// With these tables beside the usual ones, and the port of the server before.
    pub(crate) async fn start(&mut self, tables: &str) {
        let port = self.host.start(tables).await;
        self.lab.prometheus.watch(&self.job, port);
    }

    /// Waits until the server has been well for a while, and nobody heard of it.
    pub(crate) async fn healthy(&self) {
        let scrapes = format!("sum_over_time(up{{job=\"{}\"}}[5m])", self.job);
        until("a healthy while", || async {
            let good = self.lab.prometheus.query(&scrapes).await;
            good.first().is_some_and(|n| *n >= f64::from(SCRAPES)).then_some(())
        })
        .await;
        self.quiet().await;
    }

    /// Waits for so many more good scrapes.
    pub(crate) async fn scraped(&self, scrapes: u32) {
        let good = format!("sum_over_time(up{{job=\"{}\"}}[1h])", self.job);
        let before = self.lab.prometheus.query(&good).await.first().copied().unwrap_or_default();
        until("more scrapes", || async {
            let now = self.lab.prometheus.query(&good).await;
            now.first().is_some_and(|n| *n >= before + f64::from(scrapes)).then_some(())
        })
        .await;
    }

    /// The sum of a metric over its labels, as the server says it now.
    pub(crate) async fn total(&self, selector: &str) -> f64 {
        self.scraped(2).await;
        let (name, labels) = selector.split_once('{').unwrap_or((selector, "}"));
        let query = format!("sum({name}{{job=\"{}\",{labels})", self.job);
        let sum = self.lab.prometheus.query(&query).await;
        *sum.first().unwrap_or_else(|| panic!("no {selector}"))
    }

    pub(crate) async fn shows(&self, selector: &str, sum: f64) {
        let found = self.total(selector).await;
        assert!((found - sum).abs() < 0.5, "{selector} adds up to {found}, not {sum}");
    }

    /// Nobody has heard of it, nor is about to.
    pub(crate) async fn quiet(&self) {
        let firing: Vec<Active> =
            self.active().await.into_iter().filter(|a| a.state == "firing").collect();
        assert!(firing.is_empty(), "fires already: {firing:?}");
        assert!(self.heard().is_empty(), "somebody was told already");
    }

    /// From here on it is broken.
    pub(crate) fn injected(&mut self) {
        self.injected = Some(now());
    }

    /// Alerts without a `job` are meant.
    pub(crate) fn heard_without_job(&mut self) {
        self.heard_as = String::new();
    }

    /// Waits until every one of them has come.
    pub(crate) async fn raises(&mut self, expected: &[Expect]) {
        let injected = self.injected.expect("a fault");
        let seen = expected.iter().map(|expect| self.sees(expect, injected));
        let seen = join_all(seen).await;
        self.raised.extend(expected.iter().cloned().zip(seen));
    }

    async fn sees(&self, expect: &Expect, injected: Instant) -> f64 {
        let at = if expect.inhibited {
            until(&expect.shown(), || async {
                let active = self.active().await;
                let fires = |a: &Active| expect.is_active_as(a) && a.state == "firing";
                active.iter().any(fires).then(now)
            })
            .await
        } else {
            let first = |heard: &[Delivery]| {
                let told = |d: &&Delivery| d.at >= injected && d.fires() && expect.is_told_by(d);
                heard.iter().find(told).map(|d| d.at)
            };
            let told = self.lab.inbox.until(&self.heard_as, first).await;
            told.unwrap_or_else(|| panic!("nobody was told of {}", expect.shown()))
        };
        at.duration_since(injected).as_secs_f64()
    }

    /// The watchdog's finding, by the API and by the command line.
    pub(crate) async fn verdict(&mut self, verdict: &'static str) {
        let path = format!("/v1/episodes?open=true&queue={QUEUE}");
        let (status, body) = self.get(&path).await;
        assert_eq!(status, 200, "{body}");
        let json: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(json["episodes"][0]["verdict"], verdict, "{body}");
        let said = Command::new(binary())
            .args(["explain", QUEUE])
            .env("PUNCTUAL_URL", self.url())
            .env("NO_COLOR", "1")
            .kill_on_drop(true)
            .output()
            .await
            .expect("the command");
        let text = String::from_utf8_lossy(&said.stdout);
        assert!(text.contains(verdict), "{text}\n{}", String::from_utf8_lossy(&said.stderr));
        assert_eq!(said.status.code(), Some(1), "{text}");
        self.verdict = Some(verdict);
    }

    /// From here on it is mended. Until now nothing that goes on may have been called over.
    pub(crate) async fn cured(&mut self) {
        let goes_on = |d: &Delivery| {
            self.raised.iter().any(|(expect, _)| !expect.of_event && expect.is_told_by(d))
        };
        let over: Vec<String> = self
            .heard()
            .iter()
            .filter(|d| !d.fires() && goes_on(d))
            .map(|d| d.line(self.lab.started))
            .collect();
        if !over.is_empty() {
            // A scrape that a busy machine missed ends an alert for a moment.
            let missed = format!("min_over_time(up{{job=\"{}\"}}[5m])", self.job);
            let missed = self.lab.prometheus.query(&missed).await;
            assert_eq!(missed.first(), Some(&0.0), "called over too early: {over:?}");
        }
        self.cured = Some(now());
    }

    /// Waits until everything that was told has been called over; then it was told rightly.
    pub(crate) async fn clears(&mut self) {
        let cured = self.cured.expect("a cure");
        let raised = std::mem::take(&mut self.raised);
        let cleared = join_all(raised.iter().map(|(expect, _)| self.ends(expect))).await;
        until("silence", || async { self.is_over().await.then_some(()) }).await;
        for ((expect, detect), cleared) in raised.iter().zip(cleared) {
            self.rows.push(Row {
                alert: expect.shown(),
                detect: *detect,
                clear: cleared.checked_duration_since(cured).map(|d| d.as_secs_f64()),
            });
        }
        let expected: Vec<Expect> = raised.into_iter().map(|(expect, _)| expect).collect();
        self.judge(&expected);
    }

    async fn ends(&self, expect: &Expect) -> Instant {
        if expect.inhibited {
            return until(&format!("the end of {}", expect.shown()), || async {
                let active = self.active().await;
                (!active.iter().any(|a| expect.is_active_as(a))).then(now)
            })
            .await;
        }
        let end = |heard: &[Delivery]| {
            let last = heard.iter().rfind(|d| expect.is_told_by(d))?;
            (!last.fires()).then_some(last.at)
        };
        let told = self.lab.inbox.until(&self.heard_as, end).await;
        told.unwrap_or_else(|| panic!("never called over: {}", expect.shown()))
    }

    async fn is_over(&self) -> bool {
        let heard = self.heard();
        let over = heard.iter().all(|d| {
            let same = heard.iter().rfind(|l| l.alert.fingerprint == d.alert.fingerprint);
            same.is_some_and(|last| !last.fires())
        });
        over && self.active().await.iter().all(|a| a.state != "firing")
    }

    /// Nothing was told but what was expected, to whom it concerns, in whole sentences.
    fn judge(&self, expected: &[Expect]) {
        for delivery in self.heard() {
            let line = delivery.line(self.lab.started);
            let expect = expected.iter().find(|e| e.is_told_by(&delivery));
            let expect = expect.unwrap_or_else(|| panic!("not expected: {line}"));
            // What kept it quiet may be over a moment before it is.
            let quiet = expect.inhibited && self.cured.is_none_or(|cured| delivery.at < cured);
            assert!(!quiet, "should be kept quiet: {line}");
            assert_eq!(delivery.receiver, expect.receiver(), "{line}");
            for name in ["summary", "description", "runbook_url", "dashboard_url"] {
                let text = delivery.alert.annotations.get(name).map_or("", String::as_str);
                let broken = ["<no value>", "<error", "%!"].iter().any(|b| text.contains(b));
                assert!(!text.is_empty() && !broken, "{name} is {text:?}: {line}");
            }
        }
        let right = self.verdict.map(|verdict| format!("verdict=\"{verdict}\""));
        for line in self.log().lines().filter(|line| line.contains("jobs are stuck ")) {
            let first_said = !line.contains("for another reason");
            let right = right.as_ref().is_some_and(|right| first_said && line.contains(right));
            assert!(right, "a wrong verdict: {line}");
        }
    }

    /// What was told of it.
    pub(crate) fn heard(&self) -> Vec<Delivery> {
        let heard = self.lab.inbox.of(&self.heard_as);
        heard.into_iter().filter(|d| d.name() != HEARTBEAT && d.at >= self.since).collect()
    }

    async fn active(&self) -> Vec<Active> {
        let active = self.lab.prometheus.alerts(&self.heard_as).await;
        let is_heartbeat = |a: &Active| a.labels.get("alertname").is_some_and(|n| n == HEARTBEAT);
        active.into_iter().filter(|a| !is_heartbeat(a)).collect()
    }

    async fn report(&self, failure: &str) -> String {
        let since = |at: Option<Instant>| {
            at.map_or_else(
                || "never".to_owned(),
                |at| format!("{:.1} s", at.duration_since(self.lab.started).as_secs_f64()),
            )
        };
        let told: Vec<String> = self.heard().iter().map(|d| d.line(self.lab.started)).collect();
        let active = self.active().await;
        let active: Vec<String> =
            active.iter().map(|a| format!("{} {} {:?}", a.state, a.value, a.labels)).collect();
        format!(
            "=== {}: {failure}\ninjected at {}, cured at {}; told:\n{}\nactive in Prometheus:\n{}\n\
             the server's log:\n{}",
            self.name,
            since(self.injected),
            since(self.cured),
            told.join("\n"),
            active.join("\n"),
            tail(&self.log())
        )
    }

    /// Nothing was told, at any time.
    pub(crate) fn told_nothing(&self) {
        self.judge(&[]);
    }

    /// The target goes before its server does, or its end would be one more fault.
    async fn leave(self) {
        self.unwatched().await;
    }

    /// Prometheus looks for the server no more.
    pub(crate) async fn unwatched(&self) {
        self.lab.prometheus.forget(&self.job);
        let up = format!("up{{job=\"{}\"}}", self.job);
        until("the target to be forgotten", || async {
            self.lab.prometheus.query(&up).await.is_empty().then_some(())
        })
        .await;
    }
}
