//! What is played: the configuration of the server, and the clients that submit.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::client::{Client, Prefer};
use crate::domain::job::RawJson;
use crate::wire;

pub(super) const MAIL: &str = "mail";
pub(super) const THUMBNAILS: &str = "thumbnails";
pub(super) const REPORTS: &str = "reports";
/// Nobody takes its jobs.
pub(super) const ARCHIVE: &str = "archive";

/// Always fails.
pub(super) const CORRUPT: &str = "thumb.corrupt";
pub(super) const RENDER: &str = "thumb.render";

/// Some reports wait for their turn, which is how it should be.
const REPORTS_STUCK_AFTER: Duration = Duration::from_secs(120);

/// As a file would be. The stated retention keeps a demo that is forgotten from growing.
pub(super) fn config(listen: SocketAddr, store: &str, stuck_after: Duration) -> String {
    let store = toml::Value::String(store.to_owned());
    let span = humantime::format_duration;
    format!(
        r#"
[server]
listen = "{listen}"
shutdown_grace = "3s"

[store]
url = {store}
min_free = "16MB"

[jobs]
lease = "10s"
max_attempts = 3
backoff = {{ initial = "1s", max = "5s" }}
retention = {{ completed = "15m", failed = "1h", cancelled = "15m" }}

[watchdog]
interval = "1s"
stuck_after = "{stuck_after}"

[tasks]
sampler = "1s"

[queues.{MAIL}]
[queues.{THUMBNAILS}]
[queues.{REPORTS}]
stuck_after = "{reports}"
[queues.{ARCHIVE}]
"#,
        stuck_after = span(stuck_after),
        reports = span(stuck_after.max(REPORTS_STUCK_AFTER)),
    )
}

/// Jobs of one kind that come again and again.
struct Stream {
    queue: &'static str,
    kind: &'static str,
    every: Duration,
    /// How many at once.
    burst: u64,
    max_attempts: Option<u32>,
    payload: fn(u64) -> String,
}

const fn streams() -> [Stream; 5] {
    [
        Stream {
            queue: MAIL,
            kind: "mail.send",
            every: Duration::from_millis(160),
            burst: 1,
            max_attempts: None,
            payload: |n| format!(r#"{{"to":"customer-{n}@example.com","template":"welcome"}}"#),
        },
        Stream {
            queue: THUMBNAILS,
            kind: RENDER,
            every: Duration::from_millis(500),
            burst: 1,
            max_attempts: None,
            payload: |n| format!(r#"{{"image":"photo-{n}.jpg","width":320}}"#),
        },
        Stream {
            queue: THUMBNAILS,
            kind: CORRUPT,
            every: Duration::from_secs(12),
            burst: 1,
            max_attempts: Some(2),
            payload: |n| format!(r#"{{"image":"broken-{n}.jpg","width":320}}"#),
        },
        // Two run at a time for 5 to 10 s each: a burst is done before the next one comes.
        Stream {
            queue: REPORTS,
            kind: "report.build",
            every: Duration::from_secs(22),
            burst: 4,
            max_attempts: None,
            payload: |n| format!(r#"{{"customer":{n},"format":"pdf"}}"#),
        },
        Stream {
            queue: ARCHIVE,
            kind: "archive.pack",
            every: Duration::from_secs(3),
            burst: 1,
            max_attempts: None,
            payload: |n| format!(r#"{{"folder":"2026/{n}"}}"#),
        },
    ]
}

impl Stream {
    async fn flow(self, client: Client) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0;
        loop {
            ticks.tick().await;
            for _ in 0..self.burst {
                number += 1;
                self.submit(&client, number).await;
            }
        }
    }

    async fn submit(&self, client: &Client, number: u64) {
        let job = wire::Submit {
            kind: self.kind.to_owned(),
            queue: Some(self.queue.to_owned()),
            payload: Some(RawJson::trusted((self.payload)(number))),
            max_attempts: self.max_attempts,
            ..wire::Submit::default()
        };
        let key = format!("demo-{}-{number}", self.kind);
        if let Err(error) = client.submit(&job, Some(&key), Prefer::ASYNC).await {
            tracing::warn!(queue = self.queue, kind = self.kind, "not submitted: {error}");
        }
    }
}

/// All the clients.
#[derive(Debug)]
pub(super) struct Traffic(JoinSet<()>);

impl Traffic {
    pub(super) fn start(client: &Client) -> Self {
        let mut flows = JoinSet::new();
        for stream in streams() {
            flows.spawn(stream.flow(client.clone()));
        }
        Self(flows)
    }

    pub(super) async fn stop(mut self) {
        self.0.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_configuration_is_a_good_one_whatever_the_path() {
        let text = config(
            "[::1]:0".parse().unwrap(),
            "sqlite:///a \"b\"\\c/jobs.db",
            Duration::from_millis(300_500),
        );
        let config = Config::from_toml(&text).unwrap();
        assert_eq!(config.store.url.to_string(), "sqlite:///a \"b\"\\c/jobs.db");
        assert_eq!(config.watchdog.stuck_after, Some(Duration::from_millis(300_500)));
        assert_eq!(config.queue_watch(REPORTS).stuck_after, config.watchdog.stuck_after);
        assert_eq!(config.queues().count(), 4);
    }

    #[test]
    fn payloads_are_json() {
        for stream in streams() {
            let text = (stream.payload)(7);
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        }
    }
}
