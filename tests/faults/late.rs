//! A worker does its work, but reports when the job is no longer its own.

use std::time::Duration;

use punctual::wire::{Claim, Complete};

use crate::case::{Case, QUEUE};
use crate::expect::warning;
use crate::workers::{Feed, Hands, QUICKLY, job, submit, until_done};

/// Enough to be more than a mishap.
const JOBS: usize = 5;

pub(crate) async fn reports(case: &mut Case) {
    case.start("").await;
    case.healthy().await;

    case.injected();
    let client = case.client();
    submit(&client, &job(QUEUE), JOBS).await;
    let slow = Claim {
        worker_id: "slow".to_owned(),
        queues: vec![QUEUE.to_owned()],
        max_jobs: Some(JOBS as u32),
        // Without a heartbeat.
        lease_seconds: Some(1.0),
        ..Claim::default()
    };
    let leased = client.claim(&slow).await.expect("a claim").jobs;
    assert_eq!(leased.len(), JOBS);
    // Others do it meanwhile, and much more.
    let hands = Hands::start(case, QUEUE, 4, QUICKLY);
    let feed = Feed::start(case.client(), job(QUEUE), Duration::from_millis(300));
    for lease in &leased {
        let taken = crate::daemon::until("somebody else to do it", || async {
            client.show(&lease.job_id).await.ok().filter(|job| job.done)
        })
        .await;
        assert_eq!(taken.attempt, 2, "{taken:?}");
        let outcome = Complete { lease_token: lease.lease_token.clone(), ..Complete::default() };
        let refused = client.complete(&lease.job_id, &outcome).await.expect_err("it is late");
        assert_eq!(refused.code(), Some("job-already-finished"), "{refused}");
    }
    case.raises(&[
        warning("PunctualLateReports")
            .with("queue", QUEUE)
            .with("reason", "job_already_finished")
            .of_event(),
        warning("PunctualLeasesTakenBack")
            .with("queue", QUEUE)
            .with("cause", "worker_silent")
            .of_event(),
    ])
    .await;

    case.cured().await;
    drop(feed);
    until_done(case, QUEUE).await;
    case.clears().await;
    drop(hands);
}
