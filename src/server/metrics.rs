//! The second listener: metrics and health where clients do not come.
//!
//! It lives as long as the first, so that a drain can be watched to its end, and never holds that
//! end up: a scrape that is not over by then is cut off with everybody else.

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{StartError, http_settings, wait_for};
use crate::config::Config;
use crate::engine::Engine;
use crate::http;

/// Scrapers and probes are few; more are a mistake that should not cost clients their descriptors.
const CONNECTIONS: usize = 64;

/// `None` when the first listener serves the metrics.
pub(super) async fn listen(config: &Config) -> Result<Option<TcpListener>, StartError> {
    let Some(addr) = config.server.metrics_listen else { return Ok(None) };
    let refused = |e: std::io::Error| StartError::ListenMetrics { addr, reason: e.to_string() };
    TcpListener::bind(addr).await.map(Some).map_err(refused)
}

pub(super) fn serve(
    listener: TcpListener,
    engine: &Engine,
    config: &Config,
    gate: http::auth::Gate,
    stopped: watch::Receiver<bool>,
) -> JoinHandle<()> {
    // By its own address: it may be open to other machines where the first is not.
    let settings = listener.local_addr().map(|addr| {
        tracing::info!("metrics on http://{addr}/metrics");
        http_settings(config, gate, addr)
    });
    let settings = settings.unwrap_or_default();
    tokio::spawn(http::serve::serve(
        listener,
        http::metrics_router(engine.clone(), settings),
        http::serve::Options {
            header_timeout: config.server.header_timeout,
            write_timeout: config.server.body_timeout,
            max_connections: CONNECTIONS,
        },
        // Counted apart: nobody waits for a scrape.
        http::serve::InFlight::default(),
        wait_for(stopped),
    ))
}

pub(super) async fn end(serving: JoinHandle<()>, hurried: bool) {
    if hurried {
        serving.abort();
    }
    drop(serving.await);
}
