//! `punctual jobs cancel`, `retry` and `delete` over many jobs at once, and `punctual jobs watch`.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use punctual::client::{ListQuery, Prefer};
use punctual::wire;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::place::{DONE, Hand, NO, Place, UNREACHABLE, USAGE, nobody, run};
use crate::server::binary;

/// Jobs of a kind that have failed.
async fn failed(place: &Place, kind: &str, count: usize) {
    waiting(place, kind, count).await;
    let client = place.client();
    let mut left = count;
    let claim = wire::Claim {
        worker_id: "w".into(),
        queues: vec![kind.into()],
        max_jobs: Some(100),
        ..wire::Claim::default()
    };
    while left > 0 {
        let jobs = client.claim(&claim).await.expect("jobs").jobs;
        assert!(!jobs.is_empty(), "{left} are left");
        left -= jobs.len();
        let settle = |job: wire::LeasedJob| wire::Settlement {
            job_id: job.job_id,
            lease_token: job.lease_token,
            outcome: "failed".into(),
            error: Some(wire::ErrorReport {
                kind: "boom".into(),
                message: "it broke".into(),
                ..wire::ErrorReport::default()
            }),
            retryable: Some(false),
            ..wire::Settlement::default()
        };
        let settlements = wire::Settlements {
            worker_id: "w".into(),
            settlements: jobs.into_iter().map(settle).collect(),
            ..wire::Settlements::default()
        };
        let answer = client.settle(&settlements).await.expect("an answer");
        assert!(answer.results.iter().all(|r| r.ok), "{answer:?}");
    }
}

/// Jobs of a kind that wait, in a queue of that name.
async fn waiting(place: &Place, kind: &str, count: usize) {
    let client = &place.client();
    let job = &wire::Submit {
        kind: kind.to_owned(),
        queue: Some(kind.to_owned()),
        ..wire::Submit::default()
    };
    stream::iter(0..count)
        .for_each_concurrent(20, async |_| {
            client.submit_once(job, None, Prefer::ASYNC).await.expect("accepted");
        })
        .await;
}

/// All jobs of a kind in a state.
async fn listed(place: &Place, kind: &str, status: &str) -> Vec<wire::Job> {
    let query = ListQuery {
        kind: Some(kind.to_owned()),
        status: Some(status.to_owned()),
        limit: Some(1_000),
        ..ListQuery::default()
    };
    place.client().list(&query).await.expect("a list").jobs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_failed_is_retried_once() {
    let place = Place::new();
    failed(&place, "bad", 300).await;
    failed(&place, "other", 2).await;
    let filter = ["--status", "failed", "--kind", "bad", "--since", "1h"];
    let line = |more: &[&'static str]| [&["jobs", "retry"][..], &filter, more].concat();

    let dry = place.run(&line(&["--dry-run"])).await.ended(DONE);
    assert!(dry.out.starts_with("JOB") && dry.out.contains("boom"), "{}", dry.out);
    assert!(
        dry.out.ends_with("… and 290 more\n300 matched, 300 would be retried\n"),
        "{}",
        dry.out
    );
    let dry = place.run(&line(&["--dry-run", "--json"])).await.ended(DONE).json();
    assert_eq!(
        (&dry["matched"], &dry["changed"], &dry["dry_run"]),
        (&json!(300), &json!(0), &json!(true))
    );
    let asked = place.run(&line(&[])).await.ended(USAGE);
    asked.complains(&["--yes", "--dry-run"]);
    assert!(listed(&place, "bad", "pending").await.is_empty());

    let some = place.run(&line(&["--yes", "--limit", "100"])).await.ended(DONE);
    assert_eq!((some.out.as_str(), some.err.as_str()), ("100 matched, 100 retried\n", ""));
    // Asked again, it goes on from there.
    let more = place.run(&line(&["--yes", "--limit", "50"])).await.ended(DONE).out;
    assert_eq!(more, "150 matched, 50 retried, 100 were so before\n");
    let dry = place.run(&line(&["--dry-run"])).await.ended(DONE).out;
    assert!(dry.ends_with("300 matched, 150 would be retried, 150 were so before\n"), "{dry}");
    let rest = place.run(&line(&["--yes"])).await.ended(DONE).out;
    assert_eq!(rest, "300 matched, 150 retried, 150 were so before\n");
    let again = place.run(&line(&["--yes", "--json"])).await.ended(DONE).json();
    assert_eq!(
        again,
        json!({
            "action": "retry", "dry_run": false, "matched": 300, "changed": 0, "unchanged": 300,
            "not_possible": 0, "reasons": {}, "interrupted": false,
        })
    );
    let sources: BTreeSet<String> =
        listed(&place, "bad", "failed").await.into_iter().map(|job| job.job_id).collect();
    let made = listed(&place, "bad", "pending").await;
    let of: BTreeSet<String> = made.iter().filter_map(|job| job.retry_of.clone()).collect();
    assert_eq!((made.len(), of), (300, sources), "one for each");
    assert!(listed(&place, "other", "pending").await.is_empty());

    // What came of it is cancelled, and what failed is forgotten.
    let cancel = ["jobs", "cancel", "--queue", "bad", "--reason", "enough", "--yes"];
    let cancelled = place.run(&cancel).await.ended(DONE).out;
    assert_eq!(cancelled, "300 matched, 300 cancelled or asked to stop\n");
    let one = listed(&place, "bad", "cancelled").await.remove(0);
    assert_eq!(one.cancel_reason.as_deref(), Some("enough"));
    let delete = ["jobs", "delete", "--status", "failed", "--kind", "bad", "--yes"];
    let deleted = place.run(&delete).await.ended(DONE).out;
    assert_eq!(deleted, "300 matched, 300 deleted\n");
    let none = place.run(&delete).await.ended(DONE).out;
    assert_eq!(none, "0 matched, 0 deleted\n");
    assert_eq!(listed(&place, "other", "failed").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_possible_is_counted_and_the_rest_goes_on() {
    let place = Place::with(&[("QUEUES__BAD__MAX_DEPTH", "12")]);
    failed(&place, "bad", 10).await;
    waiting(&place, "bad", 6).await;
    let said = place.run(&["jobs", "retry", "--kind", "bad", "--yes"]).await.ended(NO);
    assert_eq!(said.out, "10 matched, 6 retried, 4 not possible (queue-full 4)\n");
    assert!(
        said.err.starts_with("for example ") && said.err.contains("queue-full"),
        "{}",
        said.err
    );
    // They may go elsewhere.
    let line =
        ["jobs", "retry", "--kind", "bad", "--to-queue", "spare", "--priority", "-3", "--yes"];
    let said = place.run(&line).await.ended(DONE);
    assert_eq!(said.out, "10 matched, 4 retried, 6 were so before\n");
    let spare = listed(&place, "bad", "pending").await;
    let spare: Vec<_> = spare.iter().filter(|job| job.queue == "spare").collect();
    assert!(spare.len() == 4 && spare.iter().all(|job| job.priority == -3), "{spare:?}");
}

#[tokio::test]
async fn nothing_is_done_to_everything_by_accident() {
    let place = Place::new();
    waiting(&place, "a", 2).await;
    for verb in ["cancel", "retry", "delete"] {
        for more in [&[][..], &["--yes"], &["--limit", "5", "--yes"]] {
            let line = [&["jobs", verb][..], more].concat();
            place.run(&line).await.ended(USAGE).complains(&["say which", "--status"]);
        }
        // One job or many, and not both.
        place.run(&["jobs", verb, "x", "--kind", "a"]).await.ended(USAGE);
        place.run(&["jobs", verb, "--kind", "a", "--yes", "--dry-run"]).await.ended(USAGE);
        place.run(&["jobs", verb, "--kind", "a", "--status", "lost"]).await.ended(USAGE);
    }
    let said = place.run(&["jobs", "retry", "--status", "pending", "--yes"]).await.ended(USAGE);
    said.complains(&["pending cannot be retried", "--status takes failed, cancelled, completed"]);
    // A filter that the server refuses is no empty list.
    let said = place.run(&["jobs", "cancel", "--kind", "Big Kind", "--yes"]).await.ended(NO);
    said.complains(&["invalid-query"]);
    assert_eq!(listed(&place, "a", "pending").await.len(), 2);
}

#[tokio::test]
async fn one_job_is_retried_and_watched() {
    let place = Place::new();
    let script = "[ -e good ] && cat || { echo 'no paper' >&2; exit 65; }\n";
    let worker = place.worker(&["--queue", "default"], script);
    let id = place.submit(&["print", "--payload", r#"{"n":1}"#]).await;
    let failed = place.run(&["jobs", "watch", &id]).await.ended(NO);
    let last = failed.out.lines().last().expect("a line");
    assert!(last.ends_with("  failed: exit-65"), "{}", failed.out);
    assert!(failed.err.contains("no paper"), "{}", failed.err);
    place.write("good", "");

    let made = place.run(&["jobs", "retry", &id, "--json"]).await.ended(DONE).json();
    assert_eq!(made["retry_of"], id);
    let again = made["job_id"].as_str().expect("an id");
    let watched = place.run(&["jobs", "watch", again]).await.ended(DONE);
    let last = watched.out.lines().last().expect("a line");
    assert!(last.ends_with("  completed"), "{}", watched.out);
    let job = place.run(&["jobs", "watch", again, "--json"]).await.ended(DONE).json();
    assert_eq!((&job["status"], &job["result"]), (&json!("completed"), &json!({"n": 1})));
    drop(worker);

    let same = place.run(&["jobs", "retry", &id]).await.ended(DONE);
    assert!(same.out.contains(again) && same.err.contains("--force"), "{same:?}");
    let forced = place.run(&["jobs", "retry", &id, "--force", "--delay", "1h", "--json"]).await;
    let forced = forced.ended(DONE).json();
    assert_ne!(forced["job_id"], again);
    assert_eq!(forced["pending_reason"], "scheduled");
    let told = place.run(&["jobs", "timeline", &id]).await.ended(DONE).out;
    let as_ = format!("as {}", forced["job_id"].as_str().expect("an id"));
    assert!(told.contains("retried") && told.contains(&as_), "{told}");
    let told = place.run(&["jobs", "timeline", again]).await.ended(DONE).out;
    assert!(told.contains(&format!("retry of {id}")), "{told}");
    let waits = forced["job_id"].as_str().expect("an id");
    let late = place.run(&["jobs", "watch", waits, "--timeout", "200ms"]).await.ended(NO);
    assert!(
        late.out.contains("pending (scheduled)") && late.err.contains("still pending"),
        "{late:?}"
    );
    place.run(&["jobs", "retry", waits]).await.ended(NO).complains(&["job-not-finished"]);
    place.run(&["jobs", "watch", "x"]).await.ended(NO).complains(&["no-such-job"]);
    let mut away = place.punctual(&["jobs", "watch", &id]);
    away.env("PUNCTUAL_URL", nobody());
    run(away).await.ended(UNREACHABLE).complains(&["cannot reach"]);
}

/// Reads a request; its first line.
async fn request(stream: &mut TcpStream) -> String {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await.expect("a request") == 0 {
            return String::new();
        }
        text.push(byte[0]);
    }
    let text = String::from_utf8(text).expect("ASCII").to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |n| n.parse().expect("a length"))];
    stream.read_exact(&mut body).await.expect("a body");
    text.lines().next().unwrap_or_default().to_owned()
}

async fn answer(mut stream: TcpStream, status: &str, headers: &str, body: &serde_json::Value) {
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.expect("written");
}

/// A server with two failed jobs: the retry of the first is put off once and then done, that of the
/// second is never answered. Says when both are so far.
async fn slow_server() -> (String, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let so_far = Arc::new(Notify::new());
    let told = Arc::clone(&so_far);
    tokio::spawn(async move {
        let (mut asked, mut done, mut held) = (0, false, Vec::new());
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let line = request(&mut stream).await;
            if line.starts_with("get /v1/jobs?") {
                let job = |id: &str| json!({"job_id": id, "status": "failed", "done": true});
                let page = json!({"jobs": [job("first"), job("second")]});
                answer(stream, "200 OK", "", &page).await;
            } else if line.starts_with("post /v1/jobs/first/retry ") {
                asked += 1;
                if asked == 1 {
                    let full = json!({"code": "queue-full", "title": "full", "status": 503});
                    answer(stream, "503 Service Unavailable", "Retry-After: 1\r\n", &full).await;
                } else {
                    answer(stream, "201 Created", "", &json!({"job_id": "third"})).await;
                    done = true;
                }
            } else if line.starts_with("post /v1/jobs/second/retry ") {
                held.push(stream);
            }
            if done && !held.is_empty() {
                told.notify_one();
            }
        }
    });
    (url, so_far)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_ends_it_and_says_what_was_done() {
    let place = Place::new();
    let (url, so_far) = slow_server().await;
    let mut command = place.punctual(&["jobs", "retry", "--status", "failed", "--yes"]);
    command.env("PUNCTUAL_URL", url);
    let sweep = Hand::start(command);
    so_far.notified().await;
    sweep.signal(Signal::INT);
    sweep.until_says("interrupt again").await;
    sweep.signal(Signal::INT);
    let said = sweep.ended().await.ended(NO);
    assert_eq!(
        said.out, "1 matched, 1 retried; stopped before the end, the rest is as it was\n",
        "{}",
        said.err
    );
}

/// Runs a command on a terminal, gives the answer when it is asked, and prints all that it wrote.
const TERMINAL: &str = r"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
said, answered = b'', False
while True:
    try:
        chunk = os.read(terminal, 65536)
    except OSError:
        break
    if not chunk:
        break
    said += chunk
    if not answered and b'[y/N]' in said:
        os.write(terminal, sys.argv[1].encode() + b'\n')
        answered = True
sys.stdout.buffer.write(said)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

#[tokio::test]
async fn on_a_terminal_it_asks_first() {
    let place = Place::new();
    waiting(&place, "a", 3).await;
    let program = place.write("terminal.py", TERMINAL);
    for (reply, code, part, left) in [
        ("", NO, "nothing was changed", 3),
        ("n", NO, "nothing was changed", 3),
        ("y", DONE, "3 matched, 3 cancelled", 0),
    ] {
        let mut python = place.command("python3");
        python.arg(&program).arg(reply).args([binary(), "jobs", "cancel", "--kind", "a"]);
        let said = run(python).await.ended(code).out;
        assert!(said.contains("cancel 3 jobs? [y/N]") && said.contains(part), "{said}");
        assert_eq!(listed(&place, "a", "pending").await.len(), left);
    }
}
