//! SIGHUP: the configuration is read again, and what may change while the server runs changes.
//!
//! A configuration that is refused changes nothing: it is logged with everything that is wrong
//! with it, and a metric says so until one is accepted. What needs a restart is named and left as
//! it was. Everything that can change is put in force by [`Reloader::apply`], after nothing can
//! fail any more.
//!
//! No reload opens a server that asks for tokens, for a file without any may be half a file: that
//! takes a restart, or the operator's word in the file.

mod names;

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
    #[error(
        "the server asks for tokens, and this configuration has none: everybody on this machine \
         would be let in; restart it to mean that, or write auth.mode = \"off\""
    )]
    NoTokens,
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
    async fn apply(&self, config: &Config) -> Result<names::Changes, Refused> {
        let keys = keys(config);
        check(&keys, &self.addrs, self.gate.asks_for_tokens())?;
        self.engine.reconfigure(super::queue_defaults(config)).await?;
        let before = self.gate.permits();
        self.gate.replace(keys);
        Ok(names::Changes::between(&before, &self.gate.permits()))
    }

    async fn reread(&self, source: &Source) {
        let from = source.clone();
        let read = tokio::task::spawn_blocking(move || from.read()).await;
        let applied = match read {
            Ok(Ok(config)) => match self.apply(&config).await {
                Ok(changes) => Ok((config, changes)),
                Err(refused) => Err(refused.to_string()),
            },
            Ok(Err(errors)) => Err(errors.to_string()),
            Err(panic) => Err(format!("reading it failed: {panic}")),
        };
        match applied {
            Ok((config, changes)) => {
                self.events.config_reloaded(Some(&config.hash_in_force(&source.config)));
                tracing::info!(tokens = config.auth.tokens.len(), "configuration read again");
                if !changes.are_none() {
                    tracing::info!(
                        added = changes.added,
                        removed = changes.removed,
                        changed = changes.changed,
                        "tokens changed"
                    );
                }
                let keys = config.needs_restart(&source.config).join(", ");
                if !keys.is_empty() {
                    tracing::warn!(keys, "these are in force after a restart only");
                }
            }
            Err(errors) => {
                self.events.config_reloaded(None);
                for error in errors.lines() {
                    tracing::error!(error, "configuration refused; the old one stays in force");
                }
            }
        }
    }
}

/// The file's addresses may be others by now than those in use.
fn check(keys: &Keys, addrs: &[SocketAddr], asks_for_tokens: bool) -> Result<(), Refused> {
    if !matches!(keys, Keys::ThisMachine) {
        Ok(())
    } else if !addrs.iter().copied().all(is_loopback) {
        Err(Refused::Open)
    } else if asks_for_tokens {
        Err(Refused::NoTokens)
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
            check(&keys, &["127.0.0.1:1".parse().unwrap(), addr.parse().unwrap()], false)
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

    #[test]
    fn no_reload_opens_a_server_that_asks_for_tokens() {
        let addrs = ["127.0.0.1:1".parse().unwrap()];
        assert_eq!(check(&Keys::ThisMachine, &addrs, true), Err(Refused::NoTokens));
        assert_eq!(check(&Keys::ThisMachine, &addrs, false), Ok(()));
        assert_eq!(check(&Keys::Everybody, &addrs, true), Ok(()), "it is written there");
        assert_eq!(check(&Keys::Tokens(Vec::new()), &addrs, true), Ok(()));
    }
}
