//! `examples/`: the scripts do what their README says.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;
use tokio::process::Command;

use crate::place::{DONE, Hand, NO, Place, Said, UNREACHABLE, nobody, project, run};

fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("the report");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn expected() -> Value {
    read_json(&project("examples/data/orders.expected.json"))
}

fn shell_worker(place: &Place) -> Hand {
    let mut command = place.punctual(&["work", "--queue", "reports", "--lease", "3s", "--exec"]);
    command.arg(project("examples/report_worker.sh"));
    Hand::start(command)
}

fn python_worker(place: &Place) -> Hand {
    let mut command = place.command("python3");
    command.arg(project("examples/worker.py")).args(["--queue", "reports", "--lease", "3"]);
    Hand::start(command)
}

fn client(place: &Place, args: &[&str]) -> Command {
    let mut command = place.command(project("examples/submit_report.sh"));
    command.args(args);
    command
}

async fn order(place: &Place, args: &[&str]) -> Said {
    run(client(place, args)).await
}

/// The id in the client's line `job ID`.
fn job_of(log: &str) -> String {
    let line = log.lines().find_map(|line| line.strip_prefix("job ")).expect("a job line");
    line.split(' ').next().expect("an id").to_owned()
}

#[tokio::test]
async fn the_shell_worker_makes_the_report_once_for_each_key() {
    let place = Place::new();
    let _worker = shell_worker(&place);
    let first = order(&place, &["-k", "year", "-o", "year.json"]).await.ended(DONE);
    assert_eq!(read_json(&place.path("year.json")), expected());
    let again = order(&place, &["-k", "year", "-o", "again.json"]).await.ended(DONE);
    assert!(again.err.contains("(known already)"), "{}", again.err);
    assert_eq!(job_of(&again.err), job_of(&first.err));
    assert_eq!(read_json(&place.path("again.json")), expected());
}

#[tokio::test]
async fn the_python_worker_makes_the_report() {
    let place = Place::new();
    let worker = python_worker(&place);
    order(&place, &["-o", "year.json"]).await.ended(DONE);
    assert_eq!(read_json(&place.path("year.json")), expected());
    worker.signal(Signal::TERM);
    assert!(worker.ended().await.ended(DONE).err.contains("goodbye"));
}

#[tokio::test]
async fn the_data_are_what_their_maker_makes_and_both_programs_agree_on_a_part() {
    let place = Place::new();
    let mut check = place.command("python3");
    check.arg(project("examples/data/make_orders.py")).arg("--check");
    run(check).await.ended(DONE);

    let part = r#"{"file": "orders.csv", "from": "2026-01", "to": "2026-03", "top": 3}"#;
    place.write("part.json", part);
    let mut reports = Vec::new();
    for program in ["report_worker.sh", "report.py"] {
        let mut command = place.command(project("examples").join(program));
        command.stdin(std::fs::File::open(place.path("part.json")).expect("the payload"));
        reports.push(run(command).await.ended(DONE).json());
    }
    assert_eq!(reports[0], reports[1]);
    assert_eq!(reports[0]["top_products"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn nonsense_fails_at_the_first_attempt() {
    let place = Place::new();
    let nope = r#"{"file": "nope.csv"}"#;
    let shell = shell_worker(&place);
    let said = order(&place, &[nope]).await.ended(NO);
    assert!(said.err.contains("failed at attempt 1: exit-65"), "{}", said.err);
    assert!(said.err.contains("no file nope.csv"), "{}", said.err);
    shell.signal(Signal::TERM);
    shell.ended().await.ended(DONE);

    let _python = python_worker(&place);
    let said = order(&place, &[nope]).await.ended(NO);
    assert!(said.err.contains("failed at attempt 1: bad-input"), "{}", said.err);
    let said = order(&place, &["-K", "report.print"]).await.ended(NO);
    assert!(said.err.contains("knows only report.render, not report.print"), "{}", said.err);
}

async fn cancels_a_slow_report(worker: fn(&Place) -> Hand) {
    let place = Place::new();
    let _worker = worker(&place);
    let client = Hand::start(client(&place, &[r#"{"file": "orders.csv", "slow_seconds": 600}"#]));
    client.until_says("\njob ").await;
    client.until_says("next look in").await;
    let id = job_of(&client.log());
    place.until_status(&id, "running").await;
    place.run(&["jobs", "cancel", &id, "--reason", "not needed"]).await.ended(DONE);
    let said = client.ended().await.ended(NO);
    assert!(said.err.contains("cancelled not needed"), "{}", said.err);
    assert_eq!(place.leases().await, 0);
}

#[tokio::test]
async fn a_slow_report_can_be_cancelled_in_the_shell_worker() {
    cancels_a_slow_report(shell_worker).await;
}

#[tokio::test]
async fn a_slow_report_can_be_cancelled_in_the_python_worker() {
    cancels_a_slow_report(python_worker).await;
}

#[tokio::test]
async fn a_stopped_python_worker_gives_its_job_back_uncounted() {
    let place = Place::new();
    let worker = python_worker(&place);
    let slow = r#"{"file": "orders.csv", "slow_seconds": 600}"#;
    let id = place.submit(&["report.render", "--queue", "reports", "--payload", slow]).await;
    place.until_status(&id, "running").await;
    worker.signal(Signal::TERM);
    let said = worker.ended().await.ended(DONE);
    assert!(said.err.contains("goodbye"), "{}", said.err);
    let job = place.job(&id).await;
    assert_eq!((&job["status"], &job["attempt"]), (&"pending".into(), &0.into()), "{job}");
}

#[tokio::test]
async fn the_client_says_when_nobody_listens() {
    let place = Place::new();
    let mut command = client(&place, &["-k", "k1"]);
    command.env("PUNCTUAL_URL", nobody()).env("PUNCTUAL_PATIENCE", "1");
    let said = run(command).await.ended(UNREACHABLE);
    assert!(said.err.contains("is it running? Then repeat with -k k1"), "{}", said.err);
}
