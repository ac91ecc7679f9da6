//! The machine's clock is set, forwards and back: under libfaketime, for the server alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use punctual::wire::Submit;

use crate::case::{Case, QUEUE};
use crate::daemon::until;
use crate::expect::warning;
use crate::workers::{Doing, Feed, Hands, QUICKLY, job, submit, until_done};

/// Where Debian puts what is for each kind of machine.
const LIBRARIES: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

fn library() -> PathBuf {
    let dirs = std::fs::read_dir(LIBRARIES).expect("the libraries").flatten();
    let mut found = dirs.map(|dir| dir.path().join(LIBRARY)).filter(|file| file.exists());
    found.next().unwrap_or_else(|| panic!("no {LIBRARY}: apt-get install faketime"))
}

fn set(clock: &Path, ahead: &str) {
    // Whole, or not at all.
    let draft = clock.with_extension("draft");
    std::fs::write(&draft, ahead).expect("the clock");
    std::fs::rename(draft, clock).expect("the clock");
}

pub(crate) async fn set_by_an_hour(case: &mut Case) {
    const LONG: &str = "long";
    let clock = case.dir.path().join("clock");
    set(&clock, "+0");
    case.env("LD_PRELOAD", library().to_str().expect("a path"));
    case.env("FAKETIME_TIMESTAMP_FILE", clock.to_str().expect("a path"));
    case.env("FAKETIME_NO_CACHE", "1");
    case.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    case.env("NO_FAKE_STAT", "1");
    case.start("").await;
    // One job runs all the time, by its heartbeats; others come and go.
    let long = Hands::start(case, LONG, 1, Doing::Hang);
    // It may run for longer than the clock is set by: of a time-out no more is left after a step
    // than a lease's length.
    let allowed = Submit {
        kind: LONG.to_owned(),
        max_attempts: Some(1),
        timeout_seconds: Some(4.0 * 3_600.0),
        ..job(LONG)
    };
    let runs = submit(&case.client(), &allowed, 1).await;
    let hands = Hands::start(case, QUEUE, 4, QUICKLY);
    let feed = Feed::start(case.client(), job(QUEUE), Duration::from_millis(250));
    let client = case.client();
    until("the long job to run", || async {
        client.queue(LONG).await.ok().filter(|q| q.jobs.running == 1)
    })
    .await;
    case.healthy().await;

    // Forwards the store follows, and nobody is to blame for an hour that has not been.
    set(&clock, "+3600");
    until("the step to be seen", || async { case.log().contains("stepped=true").then_some(()) })
        .await;
    case.scraped(20).await;
    case.quiet().await;
    assert!(skew(case).await.abs() < 1.0);

    // Back it does not: it goes on by itself.
    case.injected();
    set(&clock, "+0");
    case.raises(&[warning("PunctualClockSkew")]).await;
    assert!((skew(case).await - 3_600.0).abs() < 5.0);

    case.cured().await;
    set(&clock, "+3600");
    case.clears().await;
    drop(feed);
    long.now(QUICKLY);
    until_done(case, QUEUE).await;
    until_done(case, LONG).await;
    let job = case.client().show(&runs[0]).await.expect("the job");
    assert_eq!((job.status.as_str(), job.attempt), ("completed", 1), "{job:?}");
    case.shows("punctual_leases_taken_back_total", 0.0).await;
    case.shows("punctual_jobs_finished_total{status=~\"failed|cancelled\"}", 0.0).await;
    drop((hands, long));
}

async fn skew(case: &Case) -> f64 {
    case.total("punctual_store_clock_skew_seconds").await
}
