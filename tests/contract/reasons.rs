//! R56 and R125, where it takes more than a moment: which reason goes before which, and what is
//! said of jobs that are stuck.

use std::path::Path;

use serde_json::{Value, json};

use crate::book::Book;
use crate::kit::{At, Client, Stand, until};

const WATCHED: [(&str, &str); 2] =
    [("WATCHDOG__INTERVAL", "100ms"), ("WATCHDOG__STUCK_AFTER", "1s")];

fn set(client: &Client, queue: &str, patch: &Value) {
    let headers = [("Content-Type", "application/merge-patch+json")];
    let address = format!("/v1/queues/{queue}");
    client.ask("PATCH", &address, &headers, patch.to_string().as_bytes()).is(200);
}

/// The watchdog stays at what it saw last.
fn hold_watchdog(stand: &Stand, drill: &Path) {
    std::fs::write(drill, "watchdog hang\n").expect("the drill");
    until("the watchdog to stand still", || {
        let list = stand.get("/v1/tasks", &[]).is(200).json;
        let mut tasks = list["tasks"].as_array()?.iter();
        let task = tasks.find(|t| t["task"] == "watchdog")?;
        (task["running_for_seconds"].as_f64() > Some(0.3)).then_some(())
    });
}

fn reason(client: &Client, id: &str) -> Value {
    client.job(id)["pending_reason"].clone()
}

pub fn checks(book: &mut Book) {
    // The running job keeps the queue at its limit, and its start has used up the rate.
    book.rule("R56", |at: &At| {
        set(at, &at.queue, &json!({"max_running": 1, "start_rate_per_second": 0.001}));
        let running = at.taken(json!({}));
        let (now, later) = (at.put(json!({})), at.put(json!({"delay_seconds": 900})));
        let queue = format!("/v1/queues/{}", at.queue);
        let reasons = || (reason(at, &now), reason(at, &later));
        assert_eq!(reasons(), (json!("concurrency_limited"), json!("scheduled")));
        at.nothing(&format!("{queue}/pause")).is(200);
        assert_eq!(reasons(), (json!("queue_paused"), json!("scheduled")));
        at.nothing(&format!("{queue}/resume")).is(200);
        at.complete(&running, json!(1));
        assert_eq!(reasons(), (json!("rate_limited"), json!("scheduled")));
        at.nothing(&format!("{queue}/pause")).is(200);
        assert_eq!(reasons(), (json!("queue_paused"), json!("scheduled")));
        at.nothing(&format!("{queue}/resume")).is(200);
        set(at, &at.queue, &json!({"start_rate_per_second": "off"}));
        assert_eq!(reasons(), (json!("queued"), json!("scheduled")));
    });
    book.rule("R56", |_| {
        let dir = tempfile::tempdir().expect("a directory");
        let drill = dir.path().join("drill");
        let settings = [WATCHED[0], WATCHED[1], ("DRILL_FILE", drill.to_str().expect("a path"))];
        let stand = Stand::configured(&settings, "");
        set(&stand, "q", &json!({"start_rate_per_second": 0.001}));
        // Somebody works on the other kind, and has used up the rate.
        stand.submit(json!({"kind": "b", "queue": "q"}));
        let claim =
            json!({"worker_id": "w", "queues": ["q"], "kinds": ["b"], "lease_seconds": 600});
        stand.lease_by(claim);
        let id = stand.submit(json!({"kind": "a", "queue": "q"}));
        until("it to be stuck", || (reason(&stand, &id) == "no_workers").then_some(()));
        hold_watchdog(&stand, &drill);
        assert_eq!(reason(&stand, &id), "no_workers", "and not rate_limited");
        set(&stand, "q", &json!({"max_running": 1}));
        assert_eq!(reason(&stand, &id), "no_workers", "and not concurrency_limited");
        stand.nothing("/v1/queues/q/pause").is(200);
        assert_eq!(reason(&stand, &id), "queue_paused");
        stand.nothing("/v1/queues/q/resume").is(200);
        // A job that failed of the same kind, in the same queue, says what it waits for itself.
        assert_eq!(reason(&stand, &id), "no_workers");
        let late = stand.submit(json!({"kind": "a", "queue": "q", "delay_seconds": 900}));
        assert_eq!(reason(&stand, &late), "scheduled");
    });
    book.rule("R125", |_| {
        let stand = Stand::configured(&WATCHED, "");
        let id = stand.submit(json!({"kind": "render", "queue": "reports"}));
        let explain = |path: &str| stand.get(&format!("/v1/{path}/explain"), &[]).is(200).json;
        let kind = until("a verdict", || {
            let queue = explain("queues/reports");
            let kind = queue["kinds"][0].clone();
            (queue["verdict"] == "no_workers" && kind["since"].is_string()).then_some(kind)
        });
        assert_eq!((&kind["stuck"], &kind["oldest_jobs"]), (&json!(1), &json!([id])), "{kind}");
        assert!(kind["next_step"].as_str().is_some_and(|s| s.contains("reports")), "{kind}");
        assert_eq!(kind["evidence"]["workers"], 0, "{kind}");
        let job = explain(&format!("jobs/{id}"));
        assert_eq!((&job["verdict"], &job["stuck"]), (&json!("no_workers"), &json!(true)), "{job}");
        assert!(job["since"] == kind["since"] && job["next_step"].is_string(), "{job}");
        let episodes = |open: bool| {
            let list = stand.get(&format!("/v1/episodes?open={open}"), &[]).is(200).json;
            list["episodes"].as_array().expect("episodes").clone()
        };
        let open = episodes(true);
        assert_eq!((open.len(), &open[0]["since"]), (1, &kind["since"]), "{open:?}");
        let told = stand.get(&format!("/v1/jobs/{id}/timeline"), &[]).is(200).json;
        assert_eq!(told["events"][1]["type"], "stuck", "{told}");
        stand.lease("w", "reports");
        let ended = until("the end", || episodes(false).pop());
        assert!(ended["since"] == kind["since"] && ended["ended_at"].is_string(), "{ended}");
        assert_eq!(explain("queues/reports")["verdict"], "flowing");
        assert_eq!(explain(&format!("jobs/{id}"))["verdict"], "running");
    });
}
