//! A slip in the configuration of a server that is told to read it again.

use std::time::Duration;

use crate::case::{Case, QUEUE};
use crate::expect::warning;
use crate::workers::{Feed, Hands, QUICKLY, job, until_done};

pub(crate) async fn refused(case: &mut Case) {
    case.start("").await;
    let hands = Hands::start(case, QUEUE, 2, QUICKLY);
    let feed = Feed::start(case.client(), job(QUEUE), Duration::from_millis(250));
    case.healthy().await;

    case.injected();
    case.reconfigure("[queues.reports]\nmax_deph = 5\n");
    case.raises(&[warning("PunctualConfigReloadFailed")]).await;
    assert!(case.log().contains("unknown key; did you mean"), "{}", case.log());

    case.cured().await;
    case.reconfigure("[queues.reports]\nmax_depth = 5000\n");
    case.clears().await;
    case.shows("punctual_queue_max_depth", 5_000.0).await;
    drop(feed);
    until_done(case, QUEUE).await;
    drop(hands);
}
