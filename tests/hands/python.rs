//! `clients/python/punctual.py`: its client and its worker against a live server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::place::{DONE, Hand, NO, Place, project, run};

fn python(place: &Place, script: &str) -> Command {
    let mut command = place.command("python3");
    command
        .arg(project("tests/hands").join(script))
        .env("PYTHONPATH", project("clients/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn worker(place: &Place, options: &[&str]) -> Hand {
    let mut command = python(place, "python_worker.py");
    command.args(options);
    Hand::start(command)
}

fn client(place: &Place, kind: &str, payload: &str, key: &str) -> Command {
    let mut command = python(place, "python_client.py");
    command.args([kind, payload, key]);
    command
}

/// The lines of JSON that the client printed: first the job, last the outcome.
async fn outcome(command: Command) -> (Value, Value) {
    ends(Hand::start(command)).await
}

async fn ends(client: Hand) -> (Value, Value) {
    let out = client.ended().await.ended(DONE).out;
    let read = |line: Option<&str>| serde_json::from_str(line.expect("a line")).expect("JSON");
    (read(out.lines().next()), read(out.lines().last()))
}

#[tokio::test]
async fn a_job_is_done_once_for_each_key() {
    let place = Place::new();
    place.write("go", "");
    let worker = worker(&place, &[]);
    let (first, done) = outcome(client(&place, "gate", r#"{"é": [1, null]}"#, "k \"1\"")).await;
    assert_eq!(done, json!({"status": "completed", "result": {"é": [1, null]}}));
    assert_eq!(first["replayed"], false);
    let (again, done) = outcome(client(&place, "gate", r#"{"é": [1, null]}"#, "k \"1\"")).await;
    assert_eq!((&again["id"], &again["replayed"]), (&first["id"], &true.into()));
    assert_eq!(done["status"], "completed");
    assert_eq!(place.until_file("started").await.lines().count(), 1);
    worker.signal(Signal::TERM);
    assert!(worker.ended().await.ended(DONE).err.contains("goodbye"));
}

#[tokio::test]
async fn failures_are_retried_when_that_can_help() {
    let place = Place::with(&[("JOBS__BACKOFF__INITIAL", "50ms")]);
    let _worker = worker(&place, &[]);
    let (job, done) = outcome(client(&place, "later", "1", "a")).await;
    assert_eq!(done, json!({"status": "completed", "result": {"root": job["id"]}}));
    let shown = place.job(job["id"].as_str().expect("an id")).await;
    assert_eq!(
        (&shown["attempt"], &shown["attempts"][0]["outcome"]),
        (&2.into(), &"failed".into())
    );

    for (kind, error) in
        [("never", "bad-order"), ("unwritable", "TypeError"), ("huge", "outcome-refused")]
    {
        let (job, done) = outcome(client(&place, kind, "1", kind)).await;
        assert_eq!(done, json!({"status": "failed", "code": "job-failed", "gone": false}));
        let shown = place.job(job["id"].as_str().expect("an id")).await;
        assert_eq!(shown["error"]["type"], error, "{shown}");
    }
}

#[tokio::test]
async fn a_cancel_reaches_the_handler() {
    let place = Place::new();
    let _worker = worker(&place, &["lease=3"]);
    let client = Hand::start(client(&place, "gate", "1", "a"));
    let id = place.until_file("started").await.trim().to_owned();
    let told = |job: &Value| job["progress"]["message"] == "at the gate";
    place.until_job(&id, told).await;
    place.run(&["jobs", "cancel", &id]).await.ended(DONE);
    assert_eq!(place.until_file("stopped").await, "cancelled");
    place.until_status(&id, "cancelled").await;
    let (_, done) = ends(client).await;
    assert_eq!(done["code"], "job-cancelled", "{done}");
    assert_eq!(place.leases().await, 0);
}

#[tokio::test]
async fn a_server_that_dies_and_comes_back_costs_neither_job_nor_attempt() {
    let mut place = Place::new();
    let worker = worker(&place, &["lease=6"]);
    let client = Hand::start(client(&place, "gate", "\"kept\"", "a"));
    let id = place.until_file("started").await.trim().to_owned();
    place.kill_server();
    worker.until_says("heartbeat: no answer").await;
    // The outcome comes up while nobody is there to take it.
    place.write("go", "");
    worker.until_says("settlement: no answer").await;
    place.start_server();
    let (_, done) = ends(client).await;
    assert_eq!(done, json!({"status": "completed", "result": "kept"}));
    let job = place.job(&id).await;
    assert_eq!(job["attempt"], 1, "{job}");
    worker.signal(Signal::TERM);
    worker.ended().await.ended(DONE);
}

#[tokio::test]
async fn sigterm_lets_the_running_job_finish_and_takes_no_other() {
    let place = Place::new();
    let worker = worker(&place, &[]);
    let first = place.submit(&["gate", "--payload", "1"]).await;
    place.until_file("started").await;
    let second = place.submit(&["gate", "--payload", "2"]).await;
    worker.signal(Signal::TERM);
    place.write("go", "");
    assert!(worker.ended().await.ended(DONE).err.contains("goodbye"));
    assert_eq!(place.job(&first).await["result"], 1);
    let job = place.job(&second).await;
    assert_eq!((&job["status"], &job["attempt"]), (&"pending".into(), &0.into()), "{job}");
    assert_eq!(place.leases().await, 0);
}

#[tokio::test]
async fn the_end_of_the_grace_and_a_second_signal_give_the_job_back_uncounted() {
    let place = Place::new();
    for (option, twice) in [("grace=0", false), ("grace=600", true)] {
        let worker = worker(&place, &[option]);
        let id = place.submit(&["gate"]).await;
        place.until_status(&id, "running").await;
        worker.until_says(": gate, attempt").await;
        worker.signal(Signal::TERM);
        if twice {
            worker.until_says("leaving").await;
            worker.signal(Signal::TERM);
        }
        assert!(worker.ended().await.ended(DONE).err.contains("goodbye"));
        let job = place.job(&id).await;
        assert_eq!((&job["status"], &job["attempt"]), (&"pending".into(), &0.into()), "{job}");
        place.run(&["jobs", "cancel", &id]).await.ended(DONE);
    }
}

#[tokio::test]
async fn a_submission_whose_answer_is_lost_makes_one_job() {
    let place = Place::new();
    place.write("go", "");
    let _worker = worker(&place, &[]);
    let (address, connections) = proxy_that_loses_its_first_answer(&place).await;
    let mut command = client(&place, "gate", "7", "once");
    command.env("PUNCTUAL_URL", address);
    let (job, done) = outcome(command).await;
    assert_eq!(done, json!({"status": "completed", "result": 7}));
    assert_eq!(job["replayed"], true, "the first submission took effect");
    assert!(connections.load(Ordering::Relaxed) > 1);
    let jobs = place.run(&["jobs", "list", "--json"]).await.ended(DONE).json();
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(1), "{jobs}");
}

/// Hands everything on, but closes its first connection as soon as the server has answered there.
pub(crate) async fn proxy_that_loses_its_first_answer(place: &Place) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("its address"));
    let server = place.url().trim_start_matches("http://").to_owned();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let first = count.fetch_add(1, Ordering::Relaxed) == 0;
            let mut far = TcpStream::connect(&server).await.expect("the server");
            tokio::spawn(async move {
                if !first {
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                    return;
                }
                let (mut from, mut to) = near.split();
                let (mut back, mut forth) = far.split();
                let mut byte = [0];
                tokio::select! {
                    _ = tokio::io::copy(&mut from, &mut forth) => {}
                    _ = back.read(&mut byte) => {}
                }
                let _ = to.shutdown().await;
            });
        }
    });
    (address, connections)
}

#[tokio::test]
async fn work_stops_before_its_time_out_comes() {
    let place = Place::new();
    let _worker = worker(&place, &["lease=3"]);
    let id = place.post(&json!({"kind": "gate", "timeout_seconds": 2, "max_attempts": 1})).await;
    assert_eq!(place.until_file("stopped").await, "timed-out");
    let job = place.until_status(&id, "failed").await;
    assert_eq!(job["error"]["type"], "attempt-timeout", "{job}");
    let message = job["error"]["message"].as_str().expect("a message");
    assert!(message.starts_with("the worker stopped"), "it, and not the server: {message}");
}

/// Each case of the file, against servers that it scripts itself.
#[tokio::test]
async fn wrong_answers_and_wrong_words() {
    let place = Place::new();
    let mut command = python(&place, "python_cases.py");
    command.env_remove("PUNCTUAL_URL");
    let said = run(command).await;
    assert_eq!(said.code, DONE, "{}", said.err);
}

#[tokio::test]
async fn the_file_shows_itself_at_work() {
    let place = Place::new();
    let file = project("clients/python/punctual.py");
    let demo = |args: &[&str]| {
        let mut command = place.command("python3");
        command.arg(&file).args(args);
        command
    };
    let help = run(demo(&["--help"])).await.ended(DONE);
    assert!(help.out.contains("submit") && help.out.contains("work"), "{}", help.out);
    let _worker = Hand::start(demo(&["work", "--queue", "mail"]));
    let said = run(demo(&["submit", "send", "[1, 2]", "--queue", "mail"])).await.ended(DONE);
    assert_eq!(said.out, "[1, 2]\n");
    let no = run(demo(&["submit", "send", r#"{"fail": "no ink"}"#, "--queue", "mail"])).await;
    assert!(no.ended(NO).err.contains("no ink"));
    let bad = run(demo(&["submit", "Bad Kind"])).await.ended(NO);
    assert!(bad.err.contains("/kind") && !bad.err.contains("Traceback"), "{}", bad.err);
}
