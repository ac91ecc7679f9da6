//! `punctual submit`.

use serde_json::json;

use crate::place::{DONE, NO, Place, UNREACHABLE, USAGE, nobody, run};

#[tokio::test]
async fn waiting_prints_the_result_or_says_why_there_is_none() {
    let place = Place::new();
    let wait = ["submit", "greet", "--wait", "100ms"];
    let late = place.run(&wait).await.ended(NO);
    late.complains(&["still pending", "punctual jobs show", "punctual work --queue default"]);
    place.run(&["queues", "pause", "default"]).await.ended(DONE);
    place.run(&wait).await.ended(NO).complains(&["punctual queues resume default"]);
    place.run(&["queues", "resume", "default"]).await.ended(DONE);

    let script = "case $PUNCTUAL_KIND in\n\
                  bad) echo first >&2; echo 'no paper' >&2; exit 65;;\n\
                  *) cat;; esac\n";
    let _worker = place.worker(&["--queue", "default"], script);
    let said =
        place.run(&["submit", "greet", "--payload", r#"{"a": 1.0}"#, "--wait"]).await.ended(DONE);
    assert_eq!(said.out, "{\"a\": 1.0}\n");
    let line = ["submit", "greet", "--payload", "[1]", "--wait", "--json"];
    let job = place.run(&line).await.ended(DONE).json();
    assert_eq!((&job["status"], &job["result"]), (&"completed".into(), &json!([1])));

    let failed = place.run(&["submit", "bad", "--wait"]).await.ended(NO);
    failed.complains(&["failed after 1 attempts", "exit-65: no paper", "punctual jobs timeline"]);
    let job = place.run(&["submit", "bad", "--wait", "--json"]).await.ended(NO).json();
    assert_eq!(job["error"]["type"], "exit-65");
}

#[tokio::test]
async fn payloads_come_from_the_line_a_file_or_stdin() {
    let place = Place::new();
    let _worker = place.worker(&["--queue", "default"], "cat\n");
    let file = place.write("in.json", "{\"from\": \"a file\"}\n");
    let at = format!("@{}", file.display());
    let said = place.run(&["submit", "echo", "--payload", &at, "--wait"]).await.ended(DONE);
    assert_eq!(said.json(), json!({"from": "a file"}));
    let line = ["submit", "echo", "--payload", "-", "--wait"];
    assert_eq!(place.feed(&line, "\"stdin\"").await.ended(DONE).json(), json!("stdin"));
    let none = place.run(&["submit", "echo", "--wait"]).await.ended(DONE);
    assert_eq!(none.out, "null\n");
}

#[tokio::test]
async fn what_is_not_json_is_told_before_it_is_sent() {
    let place = Place::new();
    let bad = |text| ["submit", "a", "--payload", text];
    let said = place.run(&bad("hello")).await.ended(USAGE);
    said.complains(&["--payload is not JSON", "a text needs quotes"]);
    place.run(&bad("@nope.json")).await.ended(USAGE).complains(&["nope.json", "check the path"]);
    place.feed(&bad("-"), "{\"a\":").await.ended(USAGE).complains(&["from stdin is not JSON"]);
    assert_eq!(place.run(&["jobs", "list", "--json"]).await.json()["jobs"], json!([]));
}

#[tokio::test]
async fn every_wrong_member_is_told_at_once() {
    let place = Place::new();
    let line = ["submit", "Big Kind", "--queue", "a b", "--priority", "101", "--max-attempts", "0"];
    let said = place.run(&line).await.ended(NO);
    said.complains(&["/kind: must be", "/queue: must be", "/priority: must be", "/max_attempts"]);
}

#[tokio::test]
async fn one_key_makes_one_job() {
    let place = Place::new();
    let line = ["submit", "a", "--key", "order-7", "--payload", "1"];
    let first = place.run(&line).await.ended(DONE);
    assert_eq!(first.err, "");
    let again = place.run(&line).await.ended(DONE);
    assert!(again.err.contains("this key was used before"), "{}", again.err);
    assert_eq!(again.out.lines().next(), first.out.lines().next());
    let other = place.run(&["submit", "a", "--key", "order-7", "--payload", "2"]).await.ended(NO);
    other.complains(&["idempotency-key-reused", "take a new key"]);
    let jobs = place.run(&["jobs", "list", "--json"]).await.ended(DONE).json();
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_exit_code_3_with_the_next_step() {
    let place = Place::new();
    for line in [
        &["jobs", "list"][..],
        &["jobs", "show", "x"],
        &["queues", "list"],
        &["workers", "list"],
        &["submit", "a", "--retry-for", "0s"],
    ] {
        let mut command = place.punctual(line);
        command.env("PUNCTUAL_URL", nobody());
        run(command).await.ended(UNREACHABLE).complains(&["cannot reach", "punctual serve"]);
    }
    let mut patient = place.punctual(&["submit", "a", "--retry-for", "900ms"]);
    patient.env("PUNCTUAL_URL", nobody());
    let said = run(patient).await.ended(UNREACHABLE);
    assert!(said.err.contains("trying for 900ms before giving up"), "{}", said.err);

    let odd = place.run(&["jobs", "list", "--server", "localhost:8080"]).await.ended(USAGE);
    odd.complains(&["http://127.0.0.1:8080"]);
    let token = place.run(&["jobs", "list", "--token-env", "NO_SUCH_VARIABLE"]).await;
    token.ended(USAGE).complains(&["export NO_SUCH_VARIABLE="]);
}
