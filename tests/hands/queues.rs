//! `punctual queues` and `punctual workers`.

use rustix::process::Signal;

use crate::place::{DONE, Hand, NO, Place, USAGE};
use crate::server::until;

#[tokio::test]
async fn a_paused_queue_keeps_its_jobs_until_it_is_resumed() {
    let place = Place::new();
    let none = place.run(&["queues", "list"]).await.ended(DONE);
    assert!(none.err.contains("no queues yet"), "{}", none.err);
    let _worker = place.worker(&["--queue", "mail"], "cat\n");
    let pause = ["queues", "pause", "mail", "--reason", "out of stamps", "--for", "1h"];
    let paused = place.run(&pause).await.ended(DONE).out;
    assert!(paused.contains("paused because  out of stamps"), "{paused}");
    assert!(paused.contains("(in 59m)") || paused.contains("(in 1h)"), "{paused}");

    let id = place.submit(&["send", "--queue", "mail", "--payload", "7"]).await;
    assert_eq!(place.job(&id).await["pending_reason"], "queue_paused");
    let list = place.run(&["queues", "list"]).await.ended(DONE).out;
    let row = list.lines().find(|l| l.starts_with("mail")).expect("the queue");
    assert!(row.ends_with("paused"), "{row}");
    let shown = place.run(&["queues", "show", "mail", "--json"]).await.ended(DONE).json();
    assert_eq!((&shown["name"], &shown["paused"]), (&"mail".into(), &true.into()));

    let resumed = place.run(&["queues", "resume", "mail"]).await.ended(DONE).out;
    assert!(resumed.contains("state           open"), "{resumed}");
    assert_eq!(place.until_status(&id, "completed").await["result"], 7);
    let json = place.run(&["queues", "list", "--json"]).await.ended(DONE).json();
    assert_eq!(json["queues"][0]["name"], "mail");

    let unknown = place.run(&["queues", "show", "male"]).await.ended(NO);
    unknown.complains(&["no-such-queue", "punctual queues list"]);
    place.run(&["queues", "pause", "mail", "--until", "soon"]).await.ended(USAGE);
    for words in
        [&["show", "BAD"][..], &["pause", "BAD"], &["resume", "_x"], &["set", "BAD", "max_depth=1"]]
    {
        let said = place.run(&[&["queues"], words].concat()).await.ended(USAGE).err;
        assert!(said.contains("1 to 128 characters of a-z"), "{said}");
    }
}

#[tokio::test]
async fn workers_are_listed_while_they_are_there() {
    let place = Place::new();
    let none = place.run(&["workers", "list"]).await.ended(DONE);
    assert!(none.err.contains("punctual work --queue default"), "{}", none.err);
    let options = ["--queue", "a", "--queue", "b", "--kind", "k", "--concurrency", "3"];
    let worker: Hand = place.worker(&options, "cat\n");
    let list = ["workers", "list", "--json"];
    let seen = until("the worker", || async {
        let json = place.run(&list).await.ended(DONE).json();
        json["workers"].get(0).cloned()
    })
    .await;
    assert_eq!(seen["queues"], serde_json::json!(["a", "b"]));
    assert_eq!((&seen["kinds"][0], &seen["capacity"]), (&"k".into(), &3.into()), "{seen}");
    let table = place.run(&["workers", "list"]).await.ended(DONE).out;
    assert!(table.contains("a,b") && table.contains("0/3"), "{table}");
    worker.signal(Signal::TERM);
    worker.ended().await.ended(DONE);
    let left = place.run(&list).await.ended(DONE).json();
    assert_eq!(left["workers"], serde_json::json!([]));
}

#[tokio::test]
async fn a_queue_is_set_from_the_command_line() {
    let place = Place::new();
    let set = ["queues", "set", "mail", "max_running=2", "stuck_after=30m", "backoff.max=1h"];
    let shown = place.run(&set).await.ended(DONE).out;
    assert!(shown.contains("running         0 of at most 2"), "{shown}");
    assert!(shown.contains("stuck after     30m"), "{shown}");
    assert!(shown.contains("max_running = 2, set by "), "{shown}");
    let json = place.run(&["queues", "set", "mail", "max_depth=off", "--json"]).await;
    let json = json.ended(DONE).json();
    assert_eq!(
        (&json["revision"], &json["overrides"]["max_depth"]["value"]),
        (&2.into(), &"off".into())
    );

    let stale = ["queues", "set", "mail", "--unset", "max_running", "--if-match", "1"];
    place.run(&stale).await.ended(NO).complains(&["precondition-failed", "punctual queues show"]);
    let unset = ["queues", "set", "mail", "--unset", "max_running", "--if-match", "2"];
    let shown = place.run(&unset).await.ended(DONE).out;
    assert!(!shown.contains("max_running") && shown.contains("backoff.max_seconds"), "{shown}");

    for (wrong, says) in [
        (vec!["max_deph=1"], "did you mean max_depth?"),
        (vec!["max_depth=many"], "a whole number"),
        (vec![], "nothing to set"),
    ] {
        let refused =
            place.run(&[vec!["queues", "set", "mail"], wrong].concat()).await.ended(USAGE);
        assert!(refused.err.contains(says), "{}", refused.err);
    }
}

#[tokio::test]
async fn a_worker_that_is_drained_finishes_and_ends() {
    let place = Place::new();
    let gate = place.path("gate");
    let script = format!("while ! test -e {}; do sleep 0.05; done; cat\n", gate.display());
    let worker: Hand = place.worker(&["--queue", "mail", "--concurrency", "2"], &script);
    let id = place.submit(&["send", "--queue", "mail", "--payload", "7"]).await;
    place.until_status(&id, "running").await;
    let list = ["workers", "list", "--json"];
    let json = place.run(&list).await.ended(DONE).json();
    let name = json["workers"][0]["worker_id"].as_str().expect("an id").to_owned();
    let drained = place.run(&["workers", "drain", &name]).await.ended(DONE).out;
    assert!(drained.contains("drain"), "{drained}");
    let other = place.submit(&["send", "--queue", "mail", "--payload", "8"]).await;
    std::fs::write(&gate, "").expect("the gate");
    worker.ended().await.ended(DONE);
    assert_eq!(place.job(&id).await["result"], 7, "it finished what it had");
    assert_eq!(place.job(&other).await["status"], "pending", "and took nothing more");
    let gone = place.run(&["workers", "drain", &name]).await.ended(NO);
    gone.complains(&["no-such-worker", "punctual workers list"]);
}
