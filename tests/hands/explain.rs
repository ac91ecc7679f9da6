//! `punctual explain` and `punctual episodes`.

use crate::place::{DONE, NO, Place, Said, UNREACHABLE, USAGE, nobody, run};
use crate::server::until;

/// Stuck after a second, and known within half of one.
const WATCHED: &[(&str, &str)] =
    &[("WATCHDOG__INTERVAL", "200ms"), ("WATCHDOG__STUCK_AFTER", "1s")];

/// Asks until the answer ends with this code and holds all of `parts`.
async fn explained(place: &Place, args: &[&str], code: i32, parts: &[&str]) -> Said {
    let line = [&["explain"], args].concat();
    until(&format!("{parts:?} of {line:?}"), || async {
        let said = place.run(&line).await;
        let fits = said.code == code && parts.iter().all(|part| said.out.contains(part));
        fits.then_some(said)
    })
    .await
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[tokio::test]
async fn what_is_not_stuck_is_explained_with_exit_code_0() {
    let place = Place::new();
    let none = place.run(&["explain"]).await.ended(DONE).out;
    assert_eq!(none, "all flows: no job waits for a worker in 0 queues\n");
    let id = place.submit(&["render", "--queue", "reports"]).await;
    let said = place.run(&["explain", "reports"]).await.ended(DONE);
    assert!(said.out.starts_with("queue reports: flowing\n\nkind render: flowing\n"), "{said:?}");
    has(
        &said.out,
        &["eligible     1, the oldest for ", "stuck after  5m", "punctual work --queue reports"],
    );
    has(&said.out, &[&format!("oldest jobs  {id}")]);
    assert_eq!(said.err, "");
    let job = place.run(&["explain", &id]).await.ended(DONE).out;
    assert!(job.starts_with(&format!("job {id}: queued\n")), "{job}");
    let all = place.run(&["explain"]).await.ended(DONE).out;
    has(&all, &["QUEUE    KIND    VERDICT", "reports  render  flowing", "\n\nreports, render: "]);
    place.run(&["queues", "pause", "reports"]).await.ended(DONE);
    let paused = place.run(&["explain", &id]).await.ended(DONE).out;
    has(&paused, &[": queue_paused\n", "punctual queues resume reports"]);
    let episodes = place.run(&["episodes"]).await.ended(DONE);
    has(&episodes.out, &["QUEUE  KIND  VERDICT"]);
    has(&episodes.err, &["nothing was stuck"]);

    let unknown = place.run(&["explain", "rapports"]).await.ended(NO);
    unknown.complains(&["no-such-queue", "punctual queues list"]);
    let stranger = "0199c8f2-7a31-7c44-9d2e-5b1c4f80a3e7";
    place.run(&["explain", stranger]).await.ended(NO).complains(&["no-such-job"]);
    for wrong in [
        &["explain", "a", "b"][..],
        &["explain", "--verbose"],
        &["episodes", "--limit", "0"],
        &["episodes", "--since", "soon"],
        &["episodes", "reports"],
    ] {
        assert_eq!(place.run(wrong).await.ended(USAGE).out, "");
    }
    for line in [&["explain"][..], &["explain", "reports"], &["explain", &id], &["episodes"]] {
        let mut command = place.punctual(line);
        command.env("PUNCTUAL_URL", nobody());
        run(command).await.ended(UNREACHABLE).complains(&["cannot reach"]);
    }
}

#[tokio::test]
async fn what_is_stuck_is_explained_with_exit_code_1_until_a_worker_comes() {
    let place = Place::with(WATCHED);
    let id = place.submit(&["render", "--queue", "reports"]).await;
    let said = explained(&place, &["reports"], NO, &["1 job stuck since "]).await;
    assert!(said.out.starts_with("queue reports: no_workers\n\nkind render: no_workers, "));
    has(&said.out, &["stuck after  1s", "workers      none", "next step    nobody takes"]);
    assert_eq!(said.err, "");
    let job = place.run(&["explain", &id]).await.ended(NO).out;
    assert!(job.starts_with(&format!("job {id}: no_workers, stuck since ")), "{job}");
    let all = place.run(&["explain"]).await.ended(DONE).out;
    has(&all, &["reports  render  no_workers      1", "reports, render: nobody takes"]);

    // The API's own JSON, for programs.
    let json = place.run(&["explain", "reports", "--json"]).await.ended(NO).json();
    assert_eq!((&json["queue"], &json["verdict"]), (&"reports".into(), &"no_workers".into()));
    assert_eq!(json["kinds"][0]["oldest_jobs"][0], *id, "{json}");
    let json = place.run(&["explain", &id, "--json"]).await.ended(NO).json();
    assert_eq!((&json["job_id"], &json["stuck"]), (&(*id).into(), &true.into()), "{json}");
    let json = place.run(&["explain", "--json"]).await.ended(DONE).json();
    assert_eq!(json["queues"][0]["kinds"][0]["verdict"], "no_workers", "{json}");

    let open = place.run(&["episodes", "--open"]).await.ended(DONE).out;
    let row = open.lines().nth(1).expect("a row");
    assert!(row.starts_with("reports  render  no_workers      1     1  "), "{open}");
    assert!(row.ends_with("  open"), "{open}");
    let json = place.run(&["episodes", "--json", "--kind", "render"]).await.ended(DONE).json();
    has(json["episodes"][0]["next_step"].as_str().expect("one"), &["--queue reports"]);
    let other = place.run(&["episodes", "--queue", "other"]).await.ended(DONE).out;
    assert_eq!(other.lines().count(), 1, "{other}");

    let list = place.run(&["queues", "list"]).await.ended(DONE).out;
    let row: Vec<&str> = list.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!((row[0], row[1], row[3]), ("reports", "1", "1"), "{list}");
    assert_eq!(row[7..], ["0", "0", "0/s", ">1d", "open"], "{list}");
    let show = place.run(&["queues", "show", "reports"]).await.ended(DONE).out;
    has(&show, &["stuck           1\n", "stuck after     1s\n", "estimated wait  >1d\n"]);

    let _worker = place.worker(&["--queue", "reports", "--concurrency", "2"], "cat\n");
    place.until_status(&id, "completed").await;
    let flows = explained(&place, &["reports"], DONE, &["queue reports: flowing"]).await;
    assert_eq!(flows.out, "queue reports: flowing; nothing waits or runs\n");
    let done = place.run(&["explain", &id]).await.ended(DONE).out;
    has(&done, &[": completed\n", "punctual jobs show"]);
    let ended = until("the end of the episode", || async {
        let said = place.run(&["episodes", "--since", "1h"]).await.ended(DONE);
        said.out.contains(" ago").then_some(said.out)
    })
    .await;
    has(&ended, &["reports  render  no_workers      0     1  ", "  ended "]);
    let none = place.run(&["episodes", "--open"]).await.ended(DONE);
    has(&none.err, &["nothing is stuck; `punctual explain`"]);
    let timeline = place.run(&["jobs", "timeline", &id]).await.ended(DONE).out;
    let at = |event| timeline.find(event).unwrap_or_else(|| panic!("{event}: {timeline}"));
    assert!(at(" stuck ") < at(" claimed ") && at(" claimed ") < at(" unstuck "), "{timeline}");
    has(&timeline, &["no_workers"]);
    let show = place.run(&["queues", "show", "reports"]).await.ended(DONE).out;
    has(&show, &["stuck           0\n", "workers         1\n", "slots           2\n"]);
}
