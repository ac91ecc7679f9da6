//! The collector of traces is away, or takes nothing: spans are lost and counted, nothing else.

use std::time::Duration;

use tokio::runtime::Runtime;

use crate::case::{Case, QUEUE};
use crate::collector::{Collector, Mood};
use crate::daemon::until;
use crate::expect::warning;
use crate::workers::{Feed, Hands, QUICKLY, job, submit, until_done};

/// A collector that can be gone, with all its connections.
struct Elsewhere {
    collector: Collector,
    runtime: Option<Runtime>,
}

impl Elsewhere {
    async fn start(port: u16) -> Self {
        let threads =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = threads.expect("a runtime");
        let collector = runtime.spawn(Collector::on(port)).await.expect("a collector");
        Self { collector, runtime: Some(runtime) }
    }

    /// Where it listens.
    fn port(&self) -> u16 {
        self.collector.port
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Sends often, and does not wait for long.
async fn traced(case: &mut Case, collector: &Elsewhere) -> (Hands, Feed) {
    case.set("TELEMETRY__OTLP_ENDPOINT", &format!("http://127.0.0.1:{}", collector.port()));
    case.env("OTEL_BSP_SCHEDULE_DELAY", "1000");
    case.env("OTEL_EXPORTER_OTLP_TIMEOUT", "2000");
    case.start("").await;
    let hands = Hands::start(case, QUEUE, 2, QUICKLY);
    let feed = Feed::start(case.client(), job(QUEUE), Duration::from_millis(250));
    case.healthy().await;
    assert!(!collector.collector.spans().is_empty(), "no span has come");
    (hands, feed)
}

/// Whoever submits and works notices nothing.
async fn work_goes_on(case: &Case) {
    let ids = submit(&case.client(), &job(QUEUE), 20).await;
    for id in ids {
        until("a job to be done", || async {
            case.client().show(&id).await.ok().filter(|j| j.done)
        })
        .await;
    }
}

pub(crate) async fn gone(case: &mut Case) {
    let collector = Elsewhere::start(0).await;
    let port = collector.port();
    let (hands, feed) = traced(case, &collector).await;

    case.injected();
    drop(collector);
    work_goes_on(case).await;
    case.raises(&[warning("PunctualSpansDropped")]).await;
    work_goes_on(case).await;

    case.cured().await;
    let back = Elsewhere::start(port).await;
    case.clears().await;
    assert!(!back.collector.spans().is_empty(), "no span has come");
    drop(feed);
    until_done(case, QUEUE).await;
    drop((hands, back));
}

pub(crate) async fn hangs(case: &mut Case) {
    let collector = Elsewhere::start(0).await;
    let (hands, feed) = traced(case, &collector).await;

    case.injected();
    collector.collector.is(Mood::Hangs);
    work_goes_on(case).await;
    case.raises(&[warning("PunctualSpansDropped")]).await;
    work_goes_on(case).await;

    case.cured().await;
    collector.collector.is(Mood::Takes);
    case.clears().await;
    drop(feed);
    until_done(case, QUEUE).await;
    drop((hands, collector));
}
