//! Work is done and comes to nothing.

use std::time::Duration;

use punctual::wire::{Submit, SubmitBackoff};

use crate::case::{Case, QUEUE};
use crate::expect::{critical, warning};
use crate::workers::{Doing, Feed, Hands, QUICKLY, job};

const PACE: Duration = Duration::from_millis(250);

/// Fails for good soon.
fn impatient(max_attempts: u32) -> Submit {
    let backoff = SubmitBackoff {
        initial_seconds: Some(0.1),
        max_seconds: Some(0.1),
        ..SubmitBackoff::default()
    };
    Submit { max_attempts: Some(max_attempts), backoff: Some(backoff), ..job(QUEUE) }
}

pub(crate) async fn every_job(case: &mut Case) {
    case.start("").await;
    let hands = Hands::start(case, QUEUE, 4, QUICKLY);
    let feed = Feed::start(case.client(), impatient(2), PACE);
    case.healthy().await;

    case.injected();
    hands.now(Doing::Fail);
    case.raises(&[
        critical("PunctualJobFailureRateHigh").with("queue", QUEUE),
        warning("PunctualAttemptFailureRateHigh").with("queue", QUEUE).inhibited(),
    ])
    .await;

    case.cured().await;
    hands.now(QUICKLY);
    case.clears().await;
    drop(feed);
}

/// The retries make it good, at thrice the work.
pub(crate) async fn most_attempts(case: &mut Case) {
    case.start("").await;
    let hands = Hands::start(case, QUEUE, 4, QUICKLY);
    let feed = Feed::start(case.client(), impatient(5), PACE);
    case.healthy().await;

    case.injected();
    hands.now(Doing::FailAtFirst(2));
    case.raises(&[warning("PunctualAttemptFailureRateHigh").with("queue", QUEUE)]).await;

    case.cured().await;
    hands.now(QUICKLY);
    case.clears().await;
    drop(feed);
}

/// Tried again at once, and again: the workers do hardly anything else.
pub(crate) async fn retry_storm(case: &mut Case) {
    case.start("").await;
    let hands = Hands::start(case, QUEUE, 4, QUICKLY);
    let feed = Feed::start(case.client(), impatient(10), PACE);
    case.healthy().await;

    case.injected();
    hands.now(Doing::FailAtFirst(5));
    case.raises(&[
        warning("PunctualAttemptFailureRateHigh").with("queue", QUEUE),
        warning("PunctualRetryStorm").with("queue", QUEUE),
    ])
    .await;

    case.cured().await;
    hands.now(QUICKLY);
    case.clears().await;
    drop(feed);
}
