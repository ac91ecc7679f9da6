//! Real servers, scraped: fresh, after a scenario, and in trouble.

use punctual::telemetry::catalogue::{self, Scope};
use serde_json::json;

use crate::exposed::{self, Names};
use crate::finding::Findings;
use crate::kit::{Client, Server};
use crate::scenario;
use crate::scrape::{self, Family};
use crate::server::{Launch, until};

/// Where nothing ran yet: a declared queue, and the server's own classes of errors.
const MAIL: Names<'static> =
    Names { queues: &["mail"], kinds: &[], error_classes: &["attempt-timeout", "lease-expired"] };

/// A server with a configuration file and settings on top.
pub fn start(file: &str, settings: &[(&str, &str)]) -> Server {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("punctual.toml"), file).expect("the configuration");
    let launch = Launch::new(dir.path().join("jobs.db"))
        .set("WATCHDOG__INTERVAL", "200ms")
        .set("WATCHDOG__STUCK_AFTER", "1s")
        .set("TASKS__SAMPLER", "200ms");
    let launch = settings.iter().fold(launch, |launch, (key, value)| launch.set(key, value));
    let process = launch.start();
    let launch = launch.port(process.port);
    Server { client: Client::new(process.port), process, launch, dir }
}

pub async fn scraped(client: &Client) -> Vec<Family> {
    let reply = client.get("/metrics").await.is(200);
    let text = String::from_utf8(reply.bytes).expect("text");
    scrape::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// Scrapes until all of `what` is there.
pub async fn when(client: &Client, what: &str, enough: impl Fn(&[Family]) -> bool) -> Vec<Family> {
    let enough = &enough;
    until(what, || async move {
        let families = scraped(client).await;
        enough(&families).then_some(families)
    })
    .await
}

/// The sum over the series of `name` with these labels, `None` when there is none.
pub fn sum(families: &[Family], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let samples = families.iter().flat_map(|family| &family.samples);
    let fits = samples.filter(|sample| {
        let has = |(label, value): &(&str, &str)| sample.label(label) == Some(*value);
        sample.name == name && labels.iter().all(has)
    });
    fits.map(|sample| sample.value).reduce(|a, b| a + b)
}

/// A scrape shows what the sampler saw last, so a server's first has no facts about the store.
fn sampled(families: &[Family]) -> bool {
    let mut facts = catalogue::ALL.iter().filter(|m| m.scope == Scope::Store);
    facts.any(|fact| families.iter().any(|f| f.name == fact.name))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_series_is_there_before_it_counts() {
    let file =
        "[queues.mail]\nmax_running = 3\nmax_depth = 9\nstuck_after = \"7m\"\ntimeout = \"11m\"\n";
    let server = start(file, &[]);
    let families = when(&server, "a sample", sampled).await;
    let mut found = Findings::default();
    exposed::check(&families, &MAIL, &mut found);
    // What is configured is said at once; all the rest begins at 0.
    let configured = [
        &catalogue::MAX_RUNNING,
        &catalogue::MAX_DEPTH,
        &catalogue::STUCK_THRESHOLD,
        &catalogue::RUN_THRESHOLD,
    ];
    exposed::check_zero(&families, "mail", &configured, &mut found);
    found.none();
    let mail = [("queue", "mail")];
    let shown = configured.map(|metric| sum(&families, metric.name, &mail));
    assert_eq!(shown, [Some(3.0), Some(9.0), Some(420.0), Some(660.0)]);
    assert_eq!(sum(&families, "punctual_queue_max_running", &[("queue", "_other")]), Some(0.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_else_comes_with_the_work() {
    let server = scenario::server();
    scenario::play(&server).await;
    let families = when(&server, "all of it to be counted", |families| {
        scenario::MOVED
            .iter()
            .all(|(name, labels)| sum(families, name, labels).is_some_and(|value| value > 0.0))
    })
    .await;
    let mut found = Findings::default();
    exposed::check(&families, &scenario::NAMES, &mut found);
    found.none();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_else_comes_with_trouble() {
    // Anybody's disk is smaller.
    let server = start(
        "[queues.mail]\n",
        &[
            ("STORE__MIN_FREE", "1024TiB"),
            ("TASKS__SCHEDULER", "50ms"),
            ("TASKS__RETENTION", "50ms"),
        ],
    );
    let job = json!({"kind": "a", "queue": "mail"});
    server.post("/v1/jobs", &job).await.problem(503, "storage-full");
    let families = when(&server, "the refusal to be counted", |families| {
        let refused = [("queue", "mail"), ("outcome", "unavailable")];
        let full = [("operation", "submit"), ("error_class", "full")];
        sampled(families)
            && sum(families, "punctual_job_submissions_total", &refused) == Some(1.0)
            && sum(families, "punctual_store_operation_errors_total", &full) > Some(0.0)
    })
    .await;
    let mut found = Findings::default();
    exposed::check(&families, &MAIL, &mut found);
    found.none();
}

/// Tasks that fail and die are counted, under the names that they are declared with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_else_comes_with_failing_tasks() {
    let place = tempfile::tempdir().expect("a directory");
    let drill = place.path().join("drill");
    std::fs::write(&drill, "scheduler error\nretention panic\n").expect("the drill");
    let server = start(
        "[queues.mail]\n",
        &[
            ("DRILL_FILE", &drill.display().to_string()),
            ("TASKS__SCHEDULER", "50ms"),
            ("TASKS__RETENTION", "50ms"),
        ],
    );
    let families = when(&server, "tasks that fail", |families| {
        let of = |task: &str, outcome: &str| {
            let labels = [("task", task), ("outcome", outcome)];
            sum(families, "punctual_task_runs_total", &labels) > Some(0.0)
        };
        sampled(families)
            && of("scheduler", "error")
            && of("retention", "panic")
            && sum(families, "punctual_log_events_total", &[("level", "error")]) > Some(0.0)
    })
    .await;
    let mut found = Findings::default();
    exposed::check(&families, &MAIL, &mut found);
    found.none();
}
