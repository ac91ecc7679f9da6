//! `punctual work --exec`: what a command gets, and what becomes of what it says.

use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::{Value, json};

use crate::place::{DONE, GATE, Hand, NO, Place, USAGE};
use crate::server::until;

#[tokio::test]
async fn the_exit_code_decides() {
    let place = Place::with(&[("JOBS__BACKOFF__INITIAL", "50ms")]);
    let script = "echo 'some noise' >&2\n\
                  case $PUNCTUAL_KIND/$PUNCTUAL_ATTEMPT in\n\
                  never/*) echo 'no such order' >&2; exit 65;;\n\
                  later/1) echo 'printer is busy' >&2; exit 7;;\n\
                  killed/*) kill -9 $$;;\n\
                  silent/*) exec 2>&-; exit 3;;\n\
                  esac\necho plain text\n";
    let worker = place.worker(&["--queue", "default", "--concurrency", "4"], script);
    let never = place.submit(&["never"]).await;
    let later = place.submit(&["later"]).await;
    let killed = place.submit(&["killed", "--max-attempts", "2"]).await;

    let job = place.until_status(&never, "failed").await;
    assert_eq!((&job["attempt"], &job["error"]["type"]), (&1.into(), &"exit-65".into()));
    assert_eq!(job["error"]["message"], "some noise\nno such order");
    let job = place.until_status(&later, "completed").await;
    assert_eq!((&job["attempt"], &job["result"]), (&2.into(), &"plain text".into()));
    let job = place.until_status(&killed, "failed").await;
    assert_eq!((&job["attempt"], &job["error"]["type"]), (&2.into(), &"signal-9".into()));
    worker.until_says("the attempt failed: exit-7: printer is busy").await;
}

#[tokio::test]
async fn a_command_knows_its_job() {
    let place = Place::new();
    let script = "printf '{\"id\":\"%s\",\"root\":\"%s\",\"kind\":\"%s\",\"queue\":\"%s\",\"attempt\":%s,\
                  \"fence\":%s,\"trace\":\"%s\",\"payload\":%s}' \"$PUNCTUAL_JOB_ID\" \"$PUNCTUAL_ROOT_JOB_ID\" \
                  \"$PUNCTUAL_KIND\" \"$PUNCTUAL_QUEUE\" \"$PUNCTUAL_ATTEMPT\" \"$PUNCTUAL_FENCE\" \"${TRACEPARENT-none}\" \
                  \"$(cat)\"\n";
    let _worker = place.worker(&["--queue", "mail"], script);
    let line = ["send", "--queue", "mail", "--payload", "[1, 2]", "--wait"];
    let id = place.submit(&line).await;
    assert_eq!(
        place.job(&id).await["result"],
        json!({"id": id, "root": id, "kind": "send", "queue": "mail", "attempt": 1, "fence": 1,
               "trace": "none", "payload": [1, 2]})
    );

    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = http
        .post(format!("{}/v1/jobs", place.url()))
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .json(&json!({"kind": "send", "queue": "mail"}))
        .send()
        .await
        .expect("an answer");
    let job: Value = answer.json().await.expect("a job");
    let id = job["job_id"].as_str().expect("an id");
    let result = &place.until_status(id, "completed").await["result"];
    assert!(result["trace"].as_str().is_some_and(|t| t.contains(trace)), "{result}");
    assert_eq!(result["payload"], Value::Null);
}

#[tokio::test]
async fn a_command_is_stopped_before_its_time_out_comes() {
    let place = Place::new();
    let script = "trap 'echo told >told; exit 1' TERM\nwhile [ -e here ]; do sleep 0.05; done\n";
    let worker = place.worker(&["--queue", "default", "--lease", "3s"], script);
    let id = place.post(&json!({"kind": "a", "timeout_seconds": 2, "max_attempts": 1})).await;
    assert_eq!(place.until_file("told").await, "told\n");
    let job = place.until_status(&id, "failed").await;
    assert_eq!(job["error"]["type"], "attempt-timeout", "{job}");
    let message = job["error"]["message"].as_str().expect("a message");
    assert!(message.starts_with("the worker stopped"), "it, and not the server: {message}");
    worker.until_says("its timeout_seconds are over").await;
}

#[tokio::test]
async fn a_command_does_not_get_the_workers_token() {
    let place = Place::new();
    let script = "echo \"${PUNCTUAL_TOKEN-none} ${MINE-none} ${OTHER-none}\"\n";
    let script = place.write("tokens.sh", script);
    for (queue, option) in [("plain", &[][..]), ("named", &["--token-env", "MINE"])] {
        let mut command = place.punctual(&["work", "--queue", queue]);
        command.args(option).args(["--exec", "sh"]).arg(&script);
        command.env("PUNCTUAL_TOKEN", "a").env("MINE", "b").env("OTHER", "c");
        let _worker = Hand::start(command);
        let id = place.submit(&["a", "--queue", queue, "--wait"]).await;
        // Without --token-env, MINE is a variable like any other.
        let mine = if option.is_empty() { "b" } else { "none" };
        assert_eq!(place.job(&id).await["result"], format!("none {mine} c"));
    }
}

#[tokio::test]
async fn a_worker_that_cannot_work_does_not_start() {
    let place = Place::new();
    let queue = ["work", "--queue", "default"];
    for (exec, part) in [
        ("./nope", "check the path"),
        ("no-such-command", "write ./ before it"),
        ("./here", "chmod +x"),
    ] {
        let line = [&queue[..], &["--exec", exec]].concat();
        let said = place.run(&line).await.ended(USAGE);
        assert!(said.err.contains(part), "{}", said.err);
    }
    let said = place.run(&queue).await.ended(USAGE).err;
    assert!(said.contains("--exec") && said.contains("--forward"), "{said}");
    let both = ["--forward", "http://127.0.0.1:1/", "--exec", "cat"];
    place.run(&[&queue[..], &both[..]].concat()).await.ended(USAGE);
    let said = place.run(&["work", "--queue", "Bad Queue", "--exec", "cat"]).await.ended(NO);
    let last = said.err.lines().last().expect("a line");
    assert!(last.starts_with("punctual: ") && last.contains("/queues/0: must be"), "{last}");
}

#[tokio::test]
async fn sigterm_lets_the_running_job_finish() {
    let place = Place::new();
    let worker = place.worker(&["--queue", "default"], GATE);
    let running = place.submit(&["a", "--payload", "1"]).await;
    place.until_file("started").await;
    let waiting = place.submit(&["a", "--payload", "2"]).await;
    worker.signal(Signal::TERM);
    worker.until_says("leaving").await;
    place.write("go", "");
    let said = worker.ended().await.ended(DONE);
    assert!(said.err.contains("completed=1 failed=0"), "{}", said.err);
    assert_eq!(place.job(&running).await["result"], 1);
    let job = place.job(&waiting).await;
    assert_eq!((&job["status"], &job["attempt"]), (&"pending".into(), &0.into()), "{job}");
    assert_eq!(place.leases().await, 0);
}

#[tokio::test]
async fn a_second_sigterm_or_the_end_of_the_grace_gives_the_job_back_uncounted() {
    let place = Place::new();
    for (options, twice) in
        [(&["--queue", "default"][..], true), (&["--queue", "default", "--grace", "0s"], false)]
    {
        let worker = place.worker(options, GATE);
        let id = place.submit(&["a"]).await;
        place.until_status(&id, "running").await;
        worker.signal(Signal::TERM);
        if twice {
            worker.until_says("draining").await;
            worker.signal(Signal::TERM);
        }
        let said = worker.ended().await.ended(DONE);
        assert!(said.err.contains("released=1"), "{}", said.err);
        let job = place.job(&id).await;
        assert_eq!((&job["status"], &job["attempt"]), (&"pending".into(), &0.into()), "{job}");
        assert_eq!(place.leases().await, 0);
        place.run(&["jobs", "cancel", &id]).await.ended(DONE);
    }
}

#[tokio::test]
async fn cancelling_a_running_job_stops_its_command() {
    let place = Place::new();
    let script = format!("echo $$ >pid\n{GATE}");
    let worker = place.worker(&["--queue", "default", "--lease", "3s"], &script);
    let id = place.submit(&["a"]).await;
    let pid = place.until_file("pid").await;
    place.until_file("started").await;
    let said = place.run(&["jobs", "cancel", &id, "--reason", "changed my mind"]).await.ended(DONE);
    assert!(said.out.contains("cancel requested; its worker is told"), "{}", said.out);
    let job = place.until_status(&id, "cancelled").await;
    assert_eq!(job["cancel_reason"], "changed my mind");
    let pid = Pid::from_raw(pid.trim().parse().expect("a pid")).expect("a pid");
    until("the command's end", || async { test_kill_process(pid).is_err().then_some(()) }).await;
    // The worker goes on.
    place.write("go", "");
    let line = ["submit", "a", "--payload", "5", "--wait"];
    assert_eq!(place.run(&line).await.ended(DONE).out, "5\n");
    drop(worker);
}
