//! The server itself is gone.

use crate::case::Case;
use crate::daemon::until;
use crate::expect::{critical, warning};

pub(crate) async fn killed(case: &mut Case) {
    case.start("").await;
    case.healthy().await;

    case.injected();
    case.kill();
    let before = case.lab.inbox.heartbeats();
    let job = case.job.clone();
    case.raises(&[
        critical("PunctualDown").with("job", &job),
        warning("PunctualInstanceDown").with("job", &job).inhibited(),
    ])
    .await;
    heart_beats(case, before).await;

    case.cured().await;
    case.start("").await;
    case.clears().await;
}

/// It comes back each time, and falls over again.
pub(crate) async fn again_and_again(case: &mut Case) {
    case.start("").await;
    case.healthy().await;

    case.injected();
    for _ in 0..4 {
        case.kill();
        case.start("").await;
        // Each life has to be seen.
        case.scraped(2).await;
    }
    case.raises(&[warning("PunctualRestarting").of_event()]).await;

    case.cured().await;
    case.clears().await;
}

/// Not even an address is left of which Prometheus could say that it does not answer.
pub(crate) async fn nobody(case: &mut Case) {
    case.start("").await;
    case.heard_without_job();
    case.healthy().await;

    case.injected();
    case.unwatched().await;
    case.kill();
    let before = case.lab.inbox.heartbeats();
    case.raises(&[critical("PunctualDown")]).await;
    heart_beats(case, before).await;

    case.cured().await;
    case.start("").await;
    case.clears().await;
}

/// Whatever is down, the heartbeat goes on.
async fn heart_beats(case: &Case, before: usize) {
    until("the heart to beat", || async {
        (case.lab.inbox.heartbeats() >= before + 3).then_some(())
    })
    .await;
}
