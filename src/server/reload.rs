//! SIGHUP: the configuration is read again, and what may change while the server runs changes.
//!
//! A configuration that is refused changes nothing: it is logged with everything that is wrong
//! with it, and a metric says so until one is accepted. What needs a restart is named and left as
//! it was. Everything that can change is put in force by [`Reloader::apply`], after nothing can
//! fail any more.

use std::net::SocketAddr;

use tokio::signal::unix::Signal;

use crate::config::{AuthMode, Config, ConfigErrors, Override};
use crate::engine::{Engine, Failure};
use crate::http::auth::{Gate, Keys};
use crate::telemetry::events::Events;

/// Where the configuration came from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// As the server began with it: what it still has of the keys that need a restart.
    config: Config,
    flags: Vec<Override<'static>>,
}

impl Source {
    pub(super) fn new(config: Config, flags: Vec<Override<'static>>) -> Self {
        Self { config, flags }
    }

    /// A file that was read must be there again: without it, a server would open to all of its
    /// machine because somebody moved a file.
    fn read(&self) -> Result<Config, ConfigErrors> {
        Config::load_with(self.config.file.as_deref(), crate::config::environment(), &self.flags)
    }
}

/// What of a running server can change.
#[derive(Debug, Clone)]
pub(super) struct Reloader {
    engine: Engine,
    gate: Gate,
    events: Events,
    /// Of every listener.
    addrs: Vec<SocketAddr>,
}

/// Why a configuration that is sound in itself cannot be put in force now.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum Refused {
    #[error(
        "the server listens for other machines, and there would be no tokens; add some, or write \
         auth.mode = \"off\""
    )]
    Open,
    #[error("the queues' settings could not be stored: {0}; send SIGHUP again")]
    Engine(#[from] Failure),
}

impl Reloader {
    pub(super) fn new(engine: Engine, gate: Gate, addrs: Vec<SocketAddr>) -> Self {
        let events = engine.events().clone();
        Self { engine, gate, events, addrs }
    }

    /// Puts what can change in force, or nothing of it. Checks come first, for there is no way
    /// back from the first change.
    async fn apply(&self, config: &Config) -> Result<(), Refused> {
        let keys = keys(config);
        check(&keys, &self.addrs)?;
        self.engine.reconfigure(super::queue_defaults(config)).await?;
        self.gate.replace(keys);
        Ok(())
    }

    async fn reread(&self, source: &Source) {
        let from = source.clone();
        let read = tokio::task::spawn_blocking(move || from.read()).await;
        let applied = match read {
            Ok(Ok(config)) => match self.apply(&config).await {
                Ok(()) => Ok(config),
                Err(refused) => Err(refused.to_string()),
            },
            Ok(Err(errors)) => Err(errors.to_string()),
            Err(panic) => Err(format!("reading it failed: {panic}")),
        };
        match applied {
            Ok(config) => {
                self.events.config_reloaded(true);
                tracing::info!(tokens = config.auth.tokens.len(), "configuration read again");
                let keys = config.needs_restart(&source.config).join(", ");
                if !keys.is_empty() {
                    tracing::warn!(keys, "these are in force after a restart only");
                }
            }
            Err(errors) => {
                self.events.config_reloaded(false);
                for error in errors.lines() {
                    tracing::error!(error, "configuration refused; the old one stays in force");
                }
            }
        }
    }
}

/// The file's addresses may be others by now than those in use.
fn check(keys: &Keys, addrs: &[SocketAddr]) -> Result<(), Refused> {
    if matches!(keys, Keys::ThisMachine) && !addrs.iter().copied().all(is_loopback) {
        Err(Refused::Open)
    } else {
        Ok(())
    }
}

/// Reads the configuration again with each signal, for as long as the process lives.
pub(super) async fn on_hangup(mut signal: Signal, source: Source, reloader: Reloader) {
    while signal.recv().await.is_some() {
        reloader.reread(&source).await;
    }
}

/// Who is let in.
pub(super) fn keys(config: &Config) -> Keys {
    match config.auth.mode {
        AuthMode::Off => Keys::Everybody,
        AuthMode::Tokens if config.auth.tokens.is_empty() => Keys::ThisMachine,
        AuthMode::Tokens => Keys::Tokens(config.auth.tokens.clone()),
    }
}

pub(super) fn is_loopback(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn no_reload_opens_a_server_to_other_machines() {
        let token =
            format!("[[auth.tokens]]\nname = \"a\"\nsha256 = \"{HASH}\"\nscopes = [\"read\"]");
        let checked = |text: &str, addr: &str| {
            let keys = keys(&Config::from_toml(text).unwrap());
            // Another listener that is for this machine changes nothing.
            check(&keys, &["127.0.0.1:1".parse().unwrap(), addr.parse().unwrap()])
        };
        for addr in ["0.0.0.0:80", "10.0.0.1:80", "[::]:80"] {
            // The file says loopback, which is not what is in use.
            assert_eq!(checked("", addr), Err(Refused::Open), "{addr}");
            assert_eq!(checked(&token, addr), Ok(()), "{addr}");
            assert_eq!(checked("[auth]\nmode = \"off\"", addr), Ok(()), "{addr}");
        }
        for addr in ["127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(checked("", addr), Ok(()), "{addr}");
        }
    }
}
