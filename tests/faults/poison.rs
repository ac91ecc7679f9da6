//! One job kills whoever takes it; the others are not to suffer.

use std::time::Duration;

use punctual::client::Prefer;
use punctual::wire::Submit;

use crate::case::{Case, QUEUE};
use crate::daemon::until;
use crate::expect::warning;
use crate::workers::{Feed, Kept, job, until_done};

const POISON: &str = "poison";

const ATTEMPTS: u32 = 5;

/// What a shell runs for each job: most do nothing, one takes its worker along.
const SCRIPT: &str = "[ \"$PUNCTUAL_KIND\" != poison ] || kill -KILL $PPID";

pub(crate) async fn job_that_kills(case: &mut Case) {
    // Its holder is silent for a lease, each time.
    case.set("JOBS__LEASE", "3s");
    case.start("").await;
    let workers: Vec<Kept> = (0..3).map(|_| Kept::start(case, QUEUE, 1, SCRIPT)).collect();
    let feed = Feed::start(case.client(), job(QUEUE), Duration::from_millis(300));
    case.healthy().await;

    case.injected();
    let poison = Submit { kind: POISON.to_owned(), max_attempts: Some(ATTEMPTS), ..job(QUEUE) };
    let poison = case.client().submit(&poison, None, Prefer::ASYNC).await.expect("accepted");
    case.raises(&[warning("PunctualLeasesTakenBack")
        .with("queue", QUEUE)
        .with("cause", "worker_silent")
        .of_event()])
        .await;
    // It ends by itself: nobody is killed more often than it has attempts.
    let client = case.client();
    let ended = until("the end of its attempts", || async {
        client.show(&poison.job.job_id).await.ok().filter(|job| job.done)
    })
    .await;
    assert_eq!((ended.status.as_str(), ended.attempt), ("failed", ATTEMPTS), "{ended:?}");

    case.cured().await;
    drop(feed);
    until_done(case, QUEUE).await;
    case.clears().await;
    let failed = format!("sum(punctual_jobs{{job=\"{}\",state=\"failed\"}})", case.job);
    assert_eq!(case.lab.prometheus.query(&failed).await, [1.0]);
    drop(workers);
}
