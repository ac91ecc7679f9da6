//! What a scrape shows, against the catalogue and against what was emitted. Here are the fixtures;
//! beside them, samples of the store, and caps on labels.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::catalogue::{self, Kind, Scope, Values};
use super::*;
use crate::domain::job::Tally;

#[path = "events_tests/caps.rs"]
mod caps;
#[path = "events_tests/samples.rs"]
mod samples;

const PERIOD: Duration = Duration::from_secs(5);

struct Rig {
    events: Events,
    /// Monotonic seconds.
    now: Arc<AtomicU64>,
}

fn settings(queues: usize, declared: &[&str]) -> Settings {
    Settings {
        queues,
        kinds: 100,
        declared_queues: declared.iter().map(|n| name(n)).collect(),
        version: "1.2.3",
        revision: "cafe42",
        store: "sqlite",
        config_hash: "abc".to_owned(),
        sampler_period: PERIOD,
        min_free_bytes: 256,
        muted: false,
    }
}

fn rig(queues: usize, declared: &[&str]) -> Rig {
    Rig::new(settings(queues, declared))
}

impl Rig {
    fn new(settings: Settings) -> Self {
        let now = Arc::new(AtomicU64::new(1_000));
        let reading = Arc::clone(&now);
        let monotonic: Monotonic =
            Arc::new(move || Duration::from_secs(reading.load(Ordering::Relaxed)));
        Self { events: Events::with_monotonic(settings, monotonic), now }
    }

    fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds, Ordering::Relaxed);
    }

    fn sample(&self, queues: Vec<QueueSnapshot>) {
        let snapshot =
            Snapshot { queues, names: [3, 7], size_bytes: 4_096, free_bytes: Some(65_536) };
        self.events.sampled(snapshot, Duration::from_millis(2), Timestamp::from_millis(1_500));
    }

    fn start(&self) {
        for task in Task::VALUES {
            self.events.task_registered(task, PERIOD);
        }
        self.events.canary_registered();
        self.sample(vec![]);
    }

    fn scrape(&self) -> Scrape {
        Scrape::read(&self.events.render(Format::Text))
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn queue(text: &str) -> QueueSnapshot {
    QueueSnapshot {
        queue: name(text),
        tallies: [0; Tally::ALL.len()],
        due: 0,
        paused: false,
        oldest_pending_age: None,
        oldest_running_age: None,
        stuck: [0; Verdict::ALL.len()],
        no_workers: 0,
        at_limit: false,
        rate_limited: false,
        stuck_after: None,
        run_threshold: Duration::ZERO,
        drain_estimate: Duration::ZERO,
        max_running: None,
        max_depth: None,
        workers: [0; labels::WorkerState::ALL.len()],
        slots: [0; labels::WorkerState::ALL.len()],
    }
}

/// A scrape, taken apart.
struct Scrape {
    /// Name to (help, type).
    families: BTreeMap<String, (String, String)>,
    /// Series as written to value.
    series: BTreeMap<String, f64>,
}

impl Scrape {
    fn read(text: &str) -> Self {
        let mut scrape = Self { families: BTreeMap::new(), series: BTreeMap::new() };
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                scrape.families.insert(name.to_owned(), (help.to_owned(), String::new()));
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                kind.clone_into(&mut scrape.families.get_mut(name).unwrap().1);
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let fresh = scrape.series.insert(series.to_owned(), value.parse().unwrap());
                assert!(fresh.is_none(), "twice: {series}");
            }
        }
        scrape
    }

    fn get(&self, series: &str) -> f64 {
        *self.series.get(series).unwrap_or_else(|| panic!("no {series}"))
    }

    fn has(&self, series: &str) -> bool {
        self.series.contains_key(series)
    }

    #[track_caller]
    fn shows(&self, expected: &[(&str, f64)]) {
        for (series, value) in expected {
            let shown = self.get(series);
            assert!((shown - value).abs() < 1e-9, "{series}: {shown}, not {value}");
        }
    }

    /// The values of `label` that any series has.
    fn values(&self, label: &str) -> BTreeSet<&str> {
        let quoted = format!("{label}=\"");
        let value = |s: &'_ str| -> Option<(usize, usize)> {
            let from = s.find(&format!("{{{quoted}")).or_else(|| s.find(&format!(",{quoted}")))?;
            let from = from + 1 + quoted.len();
            Some((from, from + s[from..].find('"')?))
        };
        self.series.keys().filter_map(|s| value(s).map(|(from, to)| &s[from..to])).collect()
    }
}

#[test]
fn the_catalogue_is_what_a_scrape_shows_and_nothing_else() {
    let rig = rig(10, &["default"]);
    rig.start();
    let scrape = rig.scrape();
    let declared: BTreeMap<_, _> = catalogue::ALL
        .iter()
        .filter(|m| cfg!(target_os = "linux") || !m.name.starts_with("process_"))
        .map(|m| (m.name.to_owned(), (m.help.to_owned(), m.kind.as_str().to_owned())))
        .collect();
    assert_eq!(scrape.families, declared);
}

#[test]
fn every_known_combination_starts_at_zero() {
    let rig = rig(10, &["default"]);
    rig.start();
    let scrape = rig.scrape();
    for m in catalogue::ALL.iter().filter(|m| !m.name.starts_with("process_")) {
        // Of kinds nothing is known beforehand, of classes of errors those that are our own.
        let names = match m.labels.first().map(|l| l.values) {
            Some(Values::Kind) => &[labels::OTHER][..],
            Some(Values::ErrorClass) => &[labels::OTHER, "lease-expired", "attempt-timeout"],
            Some(Values::Queue { .. }) => &["default", labels::OTHER],
            Some(Values::Closed(_) | Values::StatusCode | Values::Fixed(_)) | None => &[""],
        };
        for name in names {
            for values in m.combinations(name) {
                let mut pairs: Vec<_> = m.label_names().into_iter().zip(values).collect();
                pairs.sort_unstable();
                let pairs: Vec<_> = pairs.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
                let suffix = if matches!(m.kind, Kind::Histogram(_)) { "_count" } else { "" };
                let series = if pairs.is_empty() {
                    format!("{}{suffix}", m.name)
                } else {
                    format!("{}{suffix}{{{}}}", m.name, pairs.join(","))
                };
                let value = scrape.get(&series);
                if m.kind == Kind::Counter {
                    assert!(value.abs() < f64::EPSILON, "{series} = {value}");
                }
            }
        }
    }
    for status in [200, 202, 500, 503] {
        assert!(scrape.has(&format!(
            "http_server_request_duration_seconds_count{{http_request_method=\"POST\",\
             http_response_status_code=\"{status}\",http_route=\"/v1/jobs\"}}"
        )));
    }
    assert!(
        scrape.has("punctual_build_info{revision=\"cafe42\",store=\"sqlite\",version=\"1.2.3\"}")
    );
    assert!(scrape.has("punctual_config_info{hash=\"abc\"}"));
    assert!(scrape.has("punctual_job_submissions_total{outcome=\"invalid\",queue=\"_none\"}"));
}

#[test]
fn rendered_labels_are_the_declared_ones() {
    let rig = rig(10, &["default"]);
    rig.start();
    rig.events.http_request("BREW", "/pot", 418, PERIOD);
    rig.events.attempt_started(&name("default"), &name("resize"), PERIOD, None);
    for family in rig.events.0.registry.gather() {
        let metric = catalogue::ALL.iter().find(|m| m.name == family.name()).unwrap();
        let declared: BTreeSet<_> = metric.label_names().into_iter().collect();
        for series in family.get_metric() {
            let shown: BTreeSet<_> =
                series.get_label().iter().map(prometheus::proto::LabelPair::name).collect();
            assert_eq!(shown, declared, "{}", metric.name);
            for pair in series.get_label() {
                let label = metric.labels.iter().find(|l| l.name == pair.name()).unwrap();
                let value = pair.value();
                assert!(
                    match label.values {
                        Values::Queue { none } => {
                            ["default", labels::OTHER].contains(&value)
                                || (none && value == labels::NONE)
                        }
                        Values::Kind => ["resize", labels::OTHER].contains(&value),
                        Values::ErrorClass => {
                            ["lease-expired", "attempt-timeout", labels::OTHER].contains(&value)
                        }
                        Values::Closed(values) => values.contains(&value),
                        Values::StatusCode => value.len() == 3,
                        Values::Fixed(_) => true,
                    },
                    "{}: {pair:?}",
                    metric.name
                );
            }
        }
    }
}

#[test]
fn both_formats_say_the_same() {
    let rig = rig(10, &["default"]);
    rig.start();
    rig.events.attempt_started(&name("default"), &name("resize"), PERIOD, None);
    let samples = |format| -> BTreeMap<String, f64> {
        let text = rig.events.render(format);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let series = series.strip_suffix(".0\"}").map(|s| format!("{s}\"}}"));
                let series = series.unwrap_or_else(|| line.rsplit_once(' ').unwrap().0.to_owned());
                (series, value.parse().unwrap())
            })
            // The process has gone on in between.
            .filter(|(series, _)| !series.starts_with("process_"))
            .collect()
    };
    assert_eq!(samples(Format::OpenMetrics), samples(Format::Text));
}

#[test]
fn events_count_where_they_should() {
    let Rig { events, .. } = &rig(10, &[]);
    let (q, kind) = (name("mail"), name("send"));
    let second = Duration::from_secs(1);
    events.submission(Some(&q), Submission::Accepted);
    events.submission(None, Submission::Invalid);
    events.payload(100);
    events.claim_request(&q, ClaimOutcome::Leased);
    events.attempt_started(&q, &kind, second, None);
    events.heartbeat(&q, HeartbeatOutcome::Lost);
    events.attempt_finished(&q, &kind, AttemptOutcome::Failed, 2 * second, None);
    events.attempt_error("SMTP Error");
    events.attempt_finished(&q, &name("bulk"), AttemptOutcome::LeaseExpired, 9 * second, None);
    events.attempt_error("lease-expired");
    events.stuck_detected(&q, Verdict::WorkersSilent, 5);
    events.stuck_detected(&q, Verdict::WorkersSilent, 2);
    events.store_degraded(true);
    events.retry_scheduled(&q);
    events.lease_taken_back(&q, TakeBackCause::HardTimeout);
    events.late_report(Some(&q), Rejected::LeaseLost);
    events.late_report(None, Rejected::AlreadyReported);
    events.late_report(Some(&q), Rejected::NotEligible);
    events.job_finished(&q, Status::Cancelled, 3 * second, None);
    events.job_finished(&q, Status::Running, 3 * second, None);
    events.job_lost();
    events.jobs_expired(7);
    events.store_operation(Operation::TakeBack, second, Some("full"));
    events.store_operation(Operation::Submit, second, Some("strange"));
    events.commit_batch(16);
    events.http_started("GET");
    events.http_started("POST");
    events.http_ended("POST");
    events.http_request("GET", "/v1/jobs/{id}", 200, second);
    events.http_request("BREW", "/pot", 999, second);
    events.task_registered("reaper", PERIOD);
    events.task_run("reaper", TaskOutcome::Ok, second, Timestamp::from_millis(12_345_678));
    events.task_run("reaper", TaskOutcome::Panic, second, Timestamp::from_millis(99_999_999));
    events.task_restarted("reaper");
    events.canary_registered();
    events.canary_succeeded(second, Timestamp::from_millis(12_345_678));
    events.canary_failed();
    events.retry_after_offset(Direction::Early, 2 * second);
    events.status_poll(Timing::Due);
    events.leads(true);
    events.clock_skew(9 * second);
    events.scheduling_delay(second);
    events.sample_failed();

    let scrape = Scrape::read(&events.render(Format::Text));
    scrape.shows(&[
        ("punctual_job_submissions_total{outcome=\"accepted\",queue=\"mail\"}", 1.0),
        ("punctual_job_submissions_total{outcome=\"invalid\",queue=\"_none\"}", 1.0),
        ("punctual_job_submissions_total{outcome=\"invalid\",queue=\"mail\"}", 0.0),
        ("punctual_job_payload_bytes_bucket{le=\"256\"}", 1.0),
        ("punctual_claim_requests_total{outcome=\"leased\",queue=\"mail\"}", 1.0),
        ("punctual_attempts_started_total{queue=\"mail\"}", 1.0),
        ("punctual_job_wait_seconds_bucket{queue=\"mail\",le=\"0.5\"}", 0.0),
        ("punctual_job_wait_seconds_bucket{queue=\"mail\",le=\"1\"}", 1.0),
        ("punctual_heartbeats_total{outcome=\"lost\",queue=\"mail\"}", 1.0),
        ("punctual_attempts_finished_total{outcome=\"failed\",queue=\"mail\"}", 1.0),
        ("punctual_attempts_finished_total{outcome=\"lease_expired\",queue=\"mail\"}", 1.0),
        ("punctual_attempts_finished_by_kind_total{kind=\"send\",outcome=\"failed\"}", 1.0),
        ("punctual_attempts_finished_by_kind_total{kind=\"send\",outcome=\"completed\"}", 0.0),
        ("punctual_attempts_finished_by_kind_total{kind=\"bulk\",outcome=\"lease_expired\"}", 1.0),
        ("punctual_attempts_finished_by_kind_total{kind=\"_other\",outcome=\"failed\"}", 0.0),
        ("punctual_attempt_errors_total{error_class=\"smtp-error\"}", 1.0),
        ("punctual_attempt_errors_total{error_class=\"lease-expired\"}", 1.0),
        ("punctual_attempt_errors_total{error_class=\"attempt-timeout\"}", 0.0),
        (
            "punctual_watchdog_stuck_jobs_detected_total{queue=\"mail\",\
             verdict=\"workers_silent\"}",
            7.0,
        ),
        ("punctual_watchdog_stuck_jobs_detected_total{queue=\"mail\",verdict=\"unknown\"}", 0.0),
        ("punctual_store_degraded", 1.0),
        ("punctual_canary_last_success_timestamp_seconds", 12_345.678),
        ("punctual_canary_duration_seconds_sum", 1.0),
        ("punctual_canary_failures_total", 1.0),
        ("punctual_retry_after_offset_seconds_sum{direction=\"early\"}", 2.0),
        ("punctual_retry_after_offset_seconds_count{direction=\"late\"}", 0.0),
        ("punctual_status_polls_total{timing=\"due\"}", 1.0),
        ("punctual_leader", 1.0),
        ("punctual_store_clock_skew_seconds", 9.0),
        ("punctual_runtime_scheduling_delay_seconds_bucket{le=\"1\"}", 1.0),
        ("punctual_job_run_seconds_sum{outcome=\"failed\",queue=\"mail\"}", 2.0),
        ("punctual_job_run_seconds_count{outcome=\"completed\",queue=\"mail\"}", 0.0),
        ("punctual_retries_scheduled_total{queue=\"mail\"}", 1.0),
        ("punctual_leases_taken_back_total{cause=\"hard_timeout\",queue=\"mail\"}", 1.0),
        ("punctual_late_reports_rejected_total{queue=\"mail\",reason=\"lease_lost\"}", 1.0),
        ("punctual_late_reports_rejected_total{queue=\"_none\",reason=\"already_reported\"}", 1.0),
        ("punctual_jobs_finished_total{queue=\"mail\",status=\"cancelled\"}", 1.0),
        ("punctual_job_end_to_end_seconds_sum{queue=\"mail\",status=\"cancelled\"}", 3.0),
        ("punctual_jobs_lost_total", 1.0),
        ("punctual_jobs_expired_total", 7.0),
        ("punctual_store_operation_duration_seconds_count{operation=\"take_back\"}", 1.0),
        (
            "punctual_store_operation_errors_total{error_class=\"full\",operation=\"take_back\"}",
            1.0,
        ),
        ("punctual_store_operation_errors_total{error_class=\"other\",operation=\"submit\"}", 1.0),
        ("punctual_store_commit_batch_jobs_bucket{le=\"8\"}", 0.0),
        ("punctual_store_commit_batch_jobs_bucket{le=\"16\"}", 1.0),
        ("http_server_active_requests{http_request_method=\"GET\"}", 1.0),
        ("http_server_active_requests{http_request_method=\"POST\"}", 0.0),
        (
            "http_server_request_duration_seconds_count{http_request_method=\"GET\",\
             http_response_status_code=\"200\",http_route=\"/v1/jobs/{id}\"}",
            1.0,
        ),
        (
            "http_server_request_duration_seconds_count{http_request_method=\"_OTHER\",\
             http_response_status_code=\"599\",http_route=\"_unmatched\"}",
            1.0,
        ),
        ("punctual_task_last_success_timestamp_seconds{task=\"reaper\"}", 12_345.678),
        ("punctual_task_interval_seconds{task=\"reaper\"}", 5.0),
        ("punctual_task_runs_total{outcome=\"ok\",task=\"reaper\"}", 1.0),
        ("punctual_task_runs_total{outcome=\"panic\",task=\"reaper\"}", 1.0),
        ("punctual_task_duration_seconds_count{task=\"reaper\"}", 2.0),
        ("punctual_task_restarts_total{task=\"reaper\"}", 1.0),
        ("punctual_state_sample_errors_total", 1.0),
        ("punctual_label_overflow_total{label=\"queue\"}", 0.0),
        ("punctual_label_overflow_total{label=\"kind\"}", 0.0),
        ("punctual_label_overflow_total{label=\"error_class\"}", 0.0),
    ]);
    events.store_degraded(false);
    Scrape::read(&events.render(Format::Text)).shows(&[("punctual_store_degraded", 0.0)]);
    let text = events.render(Format::Text);
    assert!(!text.lines().any(|l| !l.starts_with('#') && l.contains(" -")), "negative");
}

#[test]
fn a_task_that_never_ran_counts_from_the_start_and_an_absent_one_not_at_all() {
    let rig = rig(1, &[]);
    rig.events.task_registered("sampler", PERIOD);
    let scrape = rig.scrape();
    let started = scrape.get("punctual_state_sample_timestamp_seconds");
    let success = scrape.get("punctual_task_last_success_timestamp_seconds{task=\"sampler\"}");
    assert!((started - success).abs() < f64::EPSILON && started > 1e9);
    assert!(!scrape.has("punctual_task_last_success_timestamp_seconds{task=\"reaper\"}"));
    assert!(scrape.has("punctual_task_runs_total{outcome=\"ok\",task=\"reaper\"}"));
}

#[test]
fn registering_a_task_again_keeps_its_success() {
    let rig = rig(1, &[]);
    rig.events.task_registered("reaper", PERIOD);
    let at = Timestamp::from_millis(5_000);
    rig.events.task_run("reaper", TaskOutcome::Ok, PERIOD, at);
    rig.events.task_registered("reaper", PERIOD);
    let success = "punctual_task_last_success_timestamp_seconds{task=\"reaper\"}";
    assert!((rig.scrape().get(success) - 5.0).abs() < f64::EPSILON);
}

#[test]
fn instances_share_nothing() {
    let (a, b) = (rig(1, &[]), rig(1, &[]));
    a.events.job_lost();
    assert!((a.scrape().get("punctual_jobs_lost_total") - 1.0).abs() < f64::EPSILON);
    assert!(b.scrape().get("punctual_jobs_lost_total").abs() < f64::EPSILON);
}

/// As a scrape has them, not as the declarations add up.
#[test]
fn a_queue_costs_at_most_250_series() {
    let rig = rig(10, &["default"]);
    rig.sample(vec![queue("default")]);
    let text = rig.events.render(Format::Text);
    let series = text.lines().filter(|l| l.contains("queue=\"default\"")).count();
    assert!((150..=250).contains(&series), "{series}");
}

#[test]
fn the_servers_own_jobs_count_nowhere() {
    let rig = rig(10, &[]);
    rig.start();
    let before = rig.scrape().series;
    let (q, kind) = (Name::ours("_canary"), Name::ours("system.canary"));
    let Rig { events, .. } = &rig;
    events.submission(Some(&q), Submission::Accepted);
    events.claim_request(&q, ClaimOutcome::Leased);
    events.attempt_started(&q, &kind, PERIOD, None);
    events.heartbeat(&q, HeartbeatOutcome::Lost);
    events.attempt_finished(&q, &kind, AttemptOutcome::Failed, PERIOD, None);
    events.job_finished(&q, Status::Failed, PERIOD, None);
    events.retry_scheduled(&q);
    events.lease_taken_back(&q, TakeBackCause::WorkerSilent);
    events.late_report(Some(&q), Rejected::LeaseLost);
    events.stuck_detected(&q, Verdict::NoWorkers, 1);
    let mut after = rig.scrape().series;
    // These go on by themselves.
    after.retain(|series, _| !series.starts_with("process_") && !series.contains("log_events"));
    let changed: Vec<_> = after.iter().filter(|(s, v)| before.get(*s) != Some(*v)).collect();
    assert!(changed.is_empty(), "{changed:?}");
}
