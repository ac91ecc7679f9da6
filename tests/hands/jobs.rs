//! `punctual jobs`, and what every command that prints has in common.

use serde_json::{Value, json};

use crate::place::{DONE, NO, Place, UNREACHABLE, USAGE, run};

fn ids(page: &Value) -> Vec<String> {
    let jobs = page["jobs"].as_array().expect("jobs");
    jobs.iter().map(|job| job["job_id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn a_finished_job_from_list_to_delete() {
    let place = Place::new();
    let worker = place.worker(&["--queue", "default"], "cat\n");
    let id = place.submit(&["echo", "--payload", r#"{"n":1}"#, "--wait"]).await;
    let id = id.as_str();

    let list = place.run(&["jobs", "list"]).await.ended(DONE);
    let row = list.out.lines().nth(1).expect("a row");
    assert!(row.starts_with(id) && row.contains("completed"), "{}", list.out);
    let shown = place.run(&["jobs", "show", id, "--payload"]).await.ended(DONE).out;
    for fact in ["status    completed", "result    {\"n\":1}", "payload   {\"n\":1}", "ATTEMPT"] {
        assert!(shown.contains(fact), "{fact} is not in {shown}");
    }
    let json = place.run(&["jobs", "show", id, "--json"]).await.ended(DONE).json();
    assert_eq!((&json["job_id"], &json["done"]), (&id.into(), &true.into()));

    let timeline = place.run(&["jobs", "timeline", id]).await.ended(DONE).out;
    let at = |event| timeline.find(event).unwrap_or_else(|| panic!("{event}: {timeline}"));
    assert!(at("submitted") < at("claimed") && at("claimed") < at("completed"));
    let json = place.run(&["jobs", "timeline", id, "--json"]).await.ended(DONE).json();
    assert!(json["events"].as_array().is_some_and(|events| events.len() >= 3), "{json}");

    let result = place.run(&["jobs", "result", id]).await.ended(DONE);
    assert_eq!(result.json(), json!({"n": 1}));
    let done = place.run(&["jobs", "cancel", id]).await.ended(NO);
    done.complains(&["job-already-finished"]);
    let gone = place.run(&["jobs", "delete", id]).await.ended(DONE);
    assert_eq!(gone.out, format!("{id} deleted\n"));
    place.run(&["jobs", "show", id]).await.ended(NO).complains(&["job-deleted"]);
    drop(worker);
}

#[tokio::test]
async fn a_waiting_job_can_be_cancelled_and_not_deleted() {
    let place = Place::new();
    let id = place.submit(&["a", "--delay", "1h"]).await;
    let waiting = place.run(&["jobs", "list"]).await.ended(DONE).out;
    assert!(waiting.contains("scheduled, in 59m"), "{waiting}");
    let delete = place.run(&["jobs", "delete", &id]).await.ended(NO);
    delete.complains(&["`punctual jobs cancel` cancels it"]);
    let result = place.run(&["jobs", "result", &id]).await.ended(NO);
    result.complains(&["`punctual jobs show` shows how it goes"]);
    let cancel =
        place.run(&["jobs", "cancel", &id, "--reason", "not needed"]).await.ended(DONE).out;
    assert_eq!(cancel, format!("{id} cancelled\n"));
    let show = place.run(&["jobs", "show", &id]).await.ended(DONE).out;
    assert!(show.contains("cancel reason     not needed"), "{show}");
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let place = Place::new();
    let empty = place.run(&["jobs", "list"]).await.ended(DONE);
    assert!(empty.err.contains("punctual submit KIND"), "{}", empty.err);
    let a = place.submit(&["a", "--queue", "one"]).await;
    let b = place.submit(&["b", "--queue", "two", "--delay", "1h"]).await;
    let list = |filter: &'static [&'static str]| {
        let line = [&["jobs", "list", "--json"], filter].concat();
        let place = &place;
        async move { ids(&place.run(&line).await.ended(DONE).json()) }
    };
    assert_eq!(list(&[]).await, [&*b, &*a], "newest first");
    assert_eq!(list(&["--kind", "a"]).await, [&*a]);
    assert_eq!(list(&["--queue", "two"]).await, [&*b]);
    assert_eq!(list(&["--pending-reason", "scheduled"]).await, [&*b]);
    assert!(list(&["--status", "failed"]).await.is_empty());

    let page = place.run(&["jobs", "list", "--limit", "1"]).await.ended(DONE);
    let (_, cursor) = page.err.trim_end().split_once("add --cursor ").expect("how to go on");
    let rest = place.run(&["jobs", "list", "--limit", "1", "--cursor", cursor]).await.ended(DONE);
    assert!(page.out.contains(&b) && rest.out.contains(&a), "{} {}", page.out, rest.out);

    for (wrong, values) in [
        (["--status", "nope"], "pending, running, completed, failed, cancelled"),
        (["--pending-reason", "foo"], "scheduled, retry_backoff, queue_paused, no_workers"),
    ] {
        let said = place.run(&[&["jobs", "list"][..], &wrong].concat()).await.ended(USAGE).err;
        assert!(said.contains(values), "{said}");
    }
    let stranger = "0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7";
    let unknown = place.run(&["jobs", "show", stranger]).await.ended(NO);
    unknown.complains(&["no-such-job", "punctual jobs list"]);
    place.run(&["jobs"]).await.ended(USAGE);
    place.run(&["jobs", "list", "--limit", "0"]).await.ended(USAGE);
}

#[tokio::test]
async fn a_reader_that_leaves_early_ends_a_command_quietly() {
    let place = Place::new();
    let id = place.submit(&["a"]).await;
    for line in [
        &["jobs", "list"][..],
        &["jobs", "list", "--json"],
        &["jobs", "show", &id],
        &["jobs", "timeline", &id],
        &["queues", "list"],
        &["explain"],
        &["check-config"],
        &["--help"],
        &["submit", "--help"],
    ] {
        // As after `| head -1`, without the chance that it reads fast enough.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = place.punctual(line);
        command.stdout(writer).stderr(std::process::Stdio::piped());
        let output = command.output();
        let output = tokio::time::timeout(crate::server::PATIENCE, output)
            .await
            .expect("ends")
            .expect("runs");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(err, "", "{line:?}");
        assert_ne!(output.status.code(), Some(UNREACHABLE), "{line:?}");
        assert!(output.status.code().is_some_and(|code| code < 3), "{line:?} {output:?}");
    }
    let mut head = place.command("sh");
    let list = format!("{} jobs list | head -1", crate::server::binary());
    head.args(["-c", &list]);
    let said = run(head).await.ended(DONE);
    assert!(said.out.starts_with("JOB") && said.err.is_empty(), "{said:?}");
}
