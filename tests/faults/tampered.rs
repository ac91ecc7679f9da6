//! Somebody writes into the store by hand, while the server runs.

use std::path::PathBuf;

use tokio::process::Command;

use crate::case::{Case, QUEUE};
use crate::expect::{critical, warning};
use crate::workers::{Hands, QUICKLY, job, submit, until_done};

/// Runs statements in one transaction, and says how many rows they changed.
const WRITE: &str = "import sqlite3, sys
c = sqlite3.connect(sys.argv[1], timeout=60)
changed = sum(c.execute(statement).rowcount for statement in sys.argv[2:])
c.commit()
print(changed)
";

async fn write(case: &Case, statements: &[&str], rows: u32) {
    let store: PathBuf = case.dir.path().join("jobs.db");
    let said = Command::new("python3")
        .args(["-c", WRITE])
        .arg(store)
        .args(statements)
        .kill_on_drop(true)
        .output()
        .await
        .expect("python3");
    let (out, error) =
        (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert_eq!(out.trim(), rows.to_string(), "{error}");
}

/// Told when somebody asks for the job, and to them.
pub(crate) async fn row_deleted(case: &mut Case) {
    case.start("").await;
    let hands = Hands::start(case, QUEUE, 2, QUICKLY);
    let ids = submit(&case.client(), &job(QUEUE), 5).await;
    until_done(case, QUEUE).await;
    case.healthy().await;

    case.injected();
    let blob = format!("x'{}'", ids[2].replace('-', ""));
    let row = format!("(SELECT job_row FROM job_specs WHERE job_id = {blob})");
    write(
        case,
        &[
            &format!("DELETE FROM finished_jobs WHERE job_row = {row}"),
            &format!("DELETE FROM job_specs WHERE job_id = {blob}"),
        ],
        2,
    )
    .await;
    let (status, body) = case.get(&format!("/v1/jobs/{}", ids[2])).await;
    assert!(status == 404 && body.contains("it was lost"), "{status} {body}");
    case.raises(&[critical("PunctualJobsLost").of_event()]).await;
    // Asked for once more, it is not one more.
    case.get(&format!("/v1/jobs/{}", ids[2])).await;
    case.shows("punctual_jobs_lost_total", 1.0).await;

    case.cured().await;
    case.clears().await;
    drop(hands);
}

/// A recount finds it, and only whoever changed it can put it right.
pub(crate) async fn counter_changed(case: &mut Case) {
    case.set("TASKS__RECONCILE", "1s");
    case.start("").await;
    let hands = Hands::start(case, QUEUE, 2, QUICKLY);
    submit(&case.client(), &job(QUEUE), 5).await;
    until_done(case, QUEUE).await;
    case.healthy().await;

    case.injected();
    write(case, &["UPDATE job_counts SET jobs = jobs + 2 WHERE tally = 4 AND jobs > 0"], 1).await;
    case.raises(&[warning("PunctualCountDrift").with("state", "completed")]).await;

    case.cured().await;
    write(case, &["UPDATE job_counts SET jobs = jobs - 2 WHERE tally = 4 AND jobs > 0"], 1).await;
    case.clears().await;
    drop(hands);
}
