//! The composition root and the life of a server: open, start, serve, drain, close.
//!
//! Everything is wired here and nowhere else. Order matters: the store is opened (and locked)
//! before anything listens; maintenance starts before the first request, so that leases are
//! extended before one can be taken back; on the way out the listener stays open while what is in
//! flight is answered, and the store is closed last.

mod metrics;
mod reload;
mod traces;

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::ServeArgs;
use crate::config::{Config, ConfigErrors, Override, StoreUrl};
use crate::domain::names::Name;
use crate::engine::{self, Engine, Entropy, Health, Observed, Periods, WallClock};
use crate::http;
use crate::store::sqlite::{Durability, OpenError, Options, SqliteStore};
use crate::store::{QueueLimits, StuckAfter};
use crate::telemetry::events::{Events, Settings as TelemetrySettings};
use crate::telemetry::logging::{self, LogFormat};
use crate::telemetry::spans::ExportError;

/// Payload bytes in one claim's answer.
const CLAIM_BYTES: usize = 16 << 20;

/// How long the last spans may take on their way out, if the grace leaves it: a collector that is
/// away must not hold up a restart.
const FLUSH: Duration = Duration::from_secs(5);

/// Parked requests look for themselves this often, should a wake-up ever be lost.
const POLL_FALLBACK: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error(
        "cannot listen on {addr} ({reason}); stop what uses it, or choose another with --listen"
    )]
    Listen { addr: SocketAddr, reason: String },
    #[error(
        "cannot serve metrics on {addr} ({reason}); stop what uses it, or correct server.metrics_listen"
    )]
    ListenMetrics { addr: SocketAddr, reason: String },
    #[error("cannot export traces: {0}; correct it, or leave telemetry.otlp_endpoint empty")]
    Traces(#[from] ExportError),
    #[error("cannot start: {0}")]
    Runtime(#[from] std::io::Error),
}

impl StartError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Traces(_) => ExitCode::from(2),
            Self::Store(_)
            | Self::Listen { .. }
            | Self::ListenMetrics { .. }
            | Self::Runtime(_) => ExitCode::from(1),
        }
    }
}

/// `punctual serve`: until SIGTERM or SIGINT.
pub fn serve(args: &ServeArgs) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                eprintln!("punctual: {line}");
            }
            error.exit_code()
        }
    }
}

fn run(args: &ServeArgs) -> Result<(), StartError> {
    let flags: Vec<Override<'static>> = [
        args.listen.clone().map(|value| ("--listen", "server.listen", value)),
        args.store.clone().map(|value| ("--store", "store.url", value)),
    ]
    .into_iter()
    .flatten()
    .map(|(flag, key, value)| Override { flag, key, value })
    .collect();
    let config = Config::load_with(args.config.as_deref(), crate::config::environment(), &flags)?;
    let format = match config.telemetry.log_format {
        crate::config::LogFormat::Text => LogFormat::Text,
        crate::config::LogFormat::Json => LogFormat::Json,
    };
    logging::init(format).map_err(|e| std::io::Error::other(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // First, so that no signal finds a server that listens and cannot drain.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        let server = Server::start(&config).await?;
        let source = reload::Source::new(config, flags);
        let rereading = tokio::spawn(reload::on_hangup(hangup, source, server.reloader.clone()));
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let again = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        server.shut_down(again).await;
        rereading.abort();
        Ok(())
    })
}

/// A running server. Tests start as many as they like in one process.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    engine: Engine,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
    /// The second listener.
    metrics: Option<tokio::task::JoinHandle<()>>,
    in_flight: http::serve::InFlight,
    grace: Duration,
    reloader: reload::Reloader,
}

impl Server {
    /// Opens the store, starts maintenance and listens.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let (engine, path) = open_engine(config).await?;
        let limits = engine.set_limits().await;
        limits.map_err(|error| std::io::Error::other(error.to_string()))?;
        // Who was asked to leave before is told so from the first answer on.
        engine.remember_workers().await.map_err(std::io::Error::other)?;
        engine.recall().await;
        let addr = config.server.listen;
        let listener = TcpListener::bind(addr)
            .await
            .map_err(|e| StartError::Listen { addr, reason: e.to_string() })?;
        let addr = listener.local_addr()?;
        let metrics_listener = metrics::listen(config).await?;
        engine.start_tasks(Periods {
            reaper: config.tasks.reaper,
            scheduler: config.tasks.scheduler,
            sampler: config.tasks.sampler,
            retention: config.tasks.retention,
            reconcile: config.tasks.reconcile,
            watchdog: config.watchdog.interval,
            estimates: config.tasks.estimates,
            canary: config.tasks.canary,
        });
        let gate = http::auth::Gate::new(reload::keys(config));
        let second = metrics_listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let addrs = [addr].into_iter().chain(second).collect();
        let reloader = reload::Reloader::new(engine.clone(), gate.clone(), addrs);
        let settings = http_settings(config, gate.clone(), addr);
        if gate.is_open() && !http::pages_are_kept_out(&settings) {
            tracing::warn!(
                "auth.mode is \"off\": everybody who can connect may do everything, and so may every \
                 web page in a browser that can; keep both away, or give the server tokens"
            );
        }
        let router = http::router(engine.clone(), settings);
        let (stop, stopped) = watch::channel(false);
        let in_flight = http::serve::InFlight::default();
        let serving = tokio::spawn(http::serve::serve(
            listener,
            router,
            http::serve::Options {
                header_timeout: config.server.header_timeout,
                write_timeout: config.server.body_timeout,
                max_connections: config.server.max_connections,
            },
            in_flight.clone(),
            wait_for(stopped),
        ));
        let metrics = metrics_listener
            .map(|listener| metrics::serve(listener, &engine, config, gate, stop.subscribe()));
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"), store = %path, config = %config.hash(),
            "listening on http://{addr}"
        );
        let grace = config.server.shutdown_grace;
        Ok(Self { addr, engine, stop, serving, metrics, in_flight, grace, reloader })
    }

    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Refuses new work at once, answers what is in flight for up to the grace (`hurry` ends it
    /// early), then closes the store. Nothing that was accepted is lost by any of it.
    pub async fn shut_down(self, hurry: impl Future<Output = ()>) {
        tracing::info!(grace = ?self.grace, "draining: no new work; again to end at once");
        self.engine.drain();
        let began = tokio::time::Instant::now();
        tokio::pin!(hurry);
        let (all_answered, hurried) = tokio::select! {
            () = self.in_flight.wait_for_zero() => (true, false),
            () = tokio::time::sleep(self.grace) => (false, false),
            () = &mut hurry => (false, true),
        };
        if !all_answered {
            tracing::warn!("ending with requests in flight");
        }
        self.stop.send_replace(true);
        if hurried {
            // Not even answers on their way are waited for.
            self.serving.abort();
        }
        drop(self.serving.await);
        if let Some(metrics) = self.metrics {
            metrics::end(metrics, hurried).await;
        }
        self.engine.tasks().stop().await;
        self.engine.close().await;
        let left = self.grace.saturating_sub(began.elapsed());
        let patience = if hurried { Duration::ZERO } else { left.min(FLUSH) };
        let flushed = traces::flush(self.engine.spans().clone(), patience);
        tokio::select! {
            () = flushed => {}
            () = &mut hurry, if !hurried => tracing::warn!("ending before the last spans are sent"),
        }
        tracing::info!("stopped");
    }
}

async fn wait_for(mut flag: watch::Receiver<bool>) {
    // An error means that the server is gone, which is the same.
    drop(flag.wait_for(|stop| *stop).await);
}

async fn open_engine(config: &Config) -> Result<(Engine, String), StartError> {
    let StoreUrl::Sqlite(path) = &config.store.url;
    let declared: Vec<Name> = config.queues().map(|(name, _)| name.clone()).collect();
    let events = Events::new(TelemetrySettings {
        queues: config.limits.queues,
        kinds: config.limits.kinds,
        declared_queues: declared,
        version: env!("CARGO_PKG_VERSION"),
        revision: env!("BUILT_REVISION"),
        store: "sqlite",
        config_hash: config.hash(),
        sampler_period: config.tasks.sampler,
        min_free_bytes: config.store.min_free,
        muted: unobserved(),
    });
    let entropy = Entropy::from_system();
    let options = Options {
        path: path.clone(),
        durability: match config.store.durability {
            crate::config::Durability::Full => Durability::Full,
            crate::config::Durability::Normal => Durability::Normal,
        },
        inline_result_bytes: config.jobs.inline_result_bytes,
        key_ttl: config.jobs.idempotency_ttl,
        fresh_secret: entropy.secret(),
        now: WallClock::wall(),
        observer: {
            let events = events.clone();
            Arc::new(move |jobs| events.commit_batch(jobs))
        },
        min_free: config.store.min_free,
        free_bytes: None,
    };
    let store = tokio::task::spawn_blocking(move || SqliteStore::open(options))
        .await
        .map_err(std::io::Error::other)??;
    let clock = Arc::new(WallClock::new(crate::store::Store::identity(&store).last_seen));
    let health = Arc::new(Health::default());
    let observed = Observed::new(store, events.clone(), Arc::clone(&health));
    let settings = engine::Settings {
        queues: queue_defaults(config),
        retry_after_max: config.jobs.retry_after.max,
        claim_bytes: CLAIM_BYTES,
        drill: drill(),
        poll_fallback: POLL_FALLBACK,
    };
    let spans = traces::start(config, &entropy, events.clone()).await?;
    let engine = Engine::new(Arc::new(observed), health, clock, entropy, events, spans, settings);
    Ok((engine, shown(path)))
}

/// For `punctual bench tax`, which measures what counting costs.
fn unobserved() -> bool {
    let set = std::env::var_os("PUNCTUAL_UNOBSERVED").is_some_and(|value| value == "1");
    if set {
        tracing::warn!(
            "PUNCTUAL_UNOBSERVED=1: the metrics of requests, jobs and the store stand still"
        );
    }
    set
}

/// See `engine/drill.rs`.
fn drill() -> Option<engine::Drill> {
    let file = std::env::var_os("PUNCTUAL_DRILL_FILE")?;
    tracing::warn!(?file, "fire drills are possible: tasks fail when this file says so");
    Some(engine::Drill::new(file.into()))
}

/// What a reload replaces.
fn queue_defaults(config: &Config) -> engine::QueueDefaults {
    engine::QueueDefaults {
        default_jobs: Arc::clone(&config.jobs.defaults),
        queue_jobs: config
            .queues()
            .map(|(name, defaults)| (name.to_string(), Arc::clone(defaults)))
            .collect::<HashMap<_, _>>(),
        watch: watch_settings(config),
    }
}

fn watch_settings(config: &Config) -> engine::WatchSettings {
    let queues = config.queue_watches();
    engine::WatchSettings {
        stuck_after: StuckAfter {
            default: config.watchdog.stuck_after,
            queues: queues.map(|(name, watch)| (name.clone(), watch.stuck_after)).collect(),
        },
        limits: config
            .queue_watches()
            .map(|(name, watch)| QueueLimits {
                name: name.clone(),
                max_running: watch.max_running,
                max_depth: watch.max_depth,
            })
            .collect(),
        start_rates: config
            .queue_watches()
            .filter_map(|(name, watch)| Some((name.clone(), watch.start_rate?)))
            .collect(),
        keyed: config
            .queue_watches()
            .filter(|(_, watch)| watch.require_key)
            .map(|(name, _)| name.clone())
            .collect(),
        names_per_namespace: config.names_per_namespace(),
    }
}

/// In full: whoever wonders which file was opened reads it in the log.
fn shown(path: &Path) -> String {
    let full = path.canonicalize();
    format!("sqlite://{}", full.as_deref().unwrap_or(path).display())
}

fn http_settings(config: &Config, gate: http::auth::Gate, addr: SocketAddr) -> http::Settings {
    http::Settings {
        public_url: config.server.public_url.clone(),
        gate,
        trusted_proxies: config.server.trusted_proxies.clone(),
        cors_origins: config.server.cors_origins.clone(),
        metrics_elsewhere: config.server.metrics_listen.is_some(),
        loopback_only: reload::is_loopback(addr),
        durability: match config.store.durability {
            crate::config::Durability::Full => "full",
            crate::config::Durability::Normal => "normal",
        },
        header_timeout: config.server.header_timeout,
        body_timeout: config.server.body_timeout,
        max_payload_bytes: config.jobs.max_payload_bytes,
        inline_result_bytes: config.jobs.inline_result_bytes,
        max_result_bytes: config.jobs.max_result_bytes,
        result_hosts: config.jobs.result_hosts.clone(),
        idempotency_ttl: config.jobs.idempotency_ttl,
    }
}
