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
