//! SIGHUP: the configuration is read again, and what queues get is replaced by what it says now.
//!
//! A file with anything wrong in it is refused whole, and what was in force stays. Keys that hold
//! only from the start are named, and keep their values until a restart.

use std::path::PathBuf;

use crate::cli::ServeArgs;
use crate::config::{Config, ConfigErrors, Override};
use crate::engine::Engine;

/// Where the configuration comes from, the first time and every time after.
#[derive(Debug, Clone)]
pub(super) struct Source {
    file: Option<PathBuf>,
    flags: Vec<(&'static str, &'static str, String)>,
}

impl Source {
    pub(super) fn of(args: &ServeArgs) -> Self {
        let flags = [
            args.listen.clone().map(|value| ("--listen", "server.listen", value)),
            args.store.clone().map(|value| ("--store", "store.url", value)),
        ];
        Self { file: args.config.clone(), flags: flags.into_iter().flatten().collect() }
    }

    pub(super) fn read(&self) -> Result<Config, ConfigErrors> {
        let flags: Vec<Override<'_>> = self
            .flags
            .iter()
            .map(|(flag, key, value)| Override { flag, key, value: value.clone() })
            .collect();
        Config::load_with(self.file.as_deref(), crate::config::environment(), &flags)
    }
}

/// Takes over what can be taken over. `started` is the configuration that the server began with: it
/// is what the keys still have that need a restart.
pub(super) async fn reload(source: &Source, started: &Config, engine: &Engine) {
    let from = source.clone();
    let read = match tokio::task::spawn_blocking(move || from.read()).await {
        Ok(read) => read,
        Err(error) => {
            tracing::error!(%error, "the configuration was not read; what was in force stays");
            return;
        }
    };
    let config = match read {
        Ok(config) => config,
        Err(errors) => {
            for line in errors.to_string().lines() {
                tracing::error!("{line}");
            }
            tracing::error!("the configuration is refused; what was in force stays");
            return;
        }
    };
    if let Err(error) = engine.reconfigure(super::queue_defaults(&config)).await {
        tracing::error!(
            %error, "the configuration was not taken over; what was in force stays; send SIGHUP again"
        );
        return;
    }
    let keys = config.needs_restart(started);
    if !keys.is_empty() {
        tracing::warn!(
            keys = keys.join(", "),
            "changed keys that need a restart keep their values"
        );
    }
    tracing::info!(config = %config.hash(), "the configuration was reloaded");
}
