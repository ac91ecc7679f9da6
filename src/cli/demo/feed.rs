//! What happens: the server's own log, of which the screen shows the lines that tell of jobs,
//! workers and trouble. All of it goes to a file; nothing goes to the terminal by itself.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use crate::cli::{Failure, output};

/// Events remembered.
const KEPT: usize = 200;

/// How an event should strike the eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    Plain,
    Warning,
    Bad,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Since the start.
    pub(super) at: Duration,
    pub(super) mood: Mood,
    pub(super) text: String,
}

/// Cheap to clone; clones are the same feed.
#[derive(Debug, Clone)]
pub(super) struct Feed {
    started: Instant,
    events: Arc<Mutex<Events>>,
}

#[derive(Debug, Default)]
struct Events {
    kept: VecDeque<Event>,
    /// How many there ever were.
    total: usize,
}

impl Feed {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), events: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Events> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn tell(&self, mood: Mood, text: &str) {
        let event = Event { at: self.elapsed(), mood, text: output::printable(text) };
        let mut events = self.lock();
        events.total += 1;
        if events.kept.len() == KEPT {
            events.kept.pop_front();
        }
        events.kept.push_back(event);
    }

    /// The last ones, oldest first.
    pub(super) fn latest(&self, most: usize) -> Vec<Event> {
        let events = self.lock();
        events.kept.iter().skip(events.kept.len().saturating_sub(most)).cloned().collect()
    }

    /// Those that came after the first `seen`, and how many there are now.
    pub(super) fn since(&self, seen: usize) -> (Vec<Event>, usize) {
        let events = self.lock();
        let forgotten = events.total - events.kept.len();
        let new = events.kept.iter().skip(seen.saturating_sub(forgotten)).cloned().collect();
        (new, events.total)
    }

    /// From now on this process logs to the file (`RUST_LOG` filters, `info` by default), and what
    /// matters to a spectator comes here as well.
    pub(super) fn log_to(&self, path: &Path) -> Result<(), Failure> {
        let file = File::create(path)
            .map_err(|e| Failure::no(format!("cannot write {}: {e}", path.display())))?;
        let level = std::env::var("RUST_LOG").unwrap_or_default();
        let level = if level.trim().is_empty() { "info" } else { &level };
        let filter = EnvFilter::try_new(level).map_err(|e| {
            Failure::usage(format!("RUST_LOG: {e}; write a level such as info, or leave it unset"))
        })?;
        let whole = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Mutex::new(file));
        tracing_subscriber::registry()
            .with(whole.with_filter(filter))
            .with(Tap(self.clone()).with_filter(filter_fn(is_worth_a_look)))
            .try_init()
            .map_err(|e| Failure::no(format!("cannot set up the log: {e}")))
    }
}

/// Everything that the engine tells by default, and trouble from elsewhere. Failed attempts are
/// the workers' daily bread here, and episodes come from the engine itself ([`super::look`]).
fn is_worth_a_look(about: &Metadata<'_>) -> bool {
    let from = |module: &str| about.target().starts_with(module);
    if from("punctual::worker") || from("punctual::engine::watchdog") {
        return false;
    }
    *about.level() <= Level::WARN || (from("punctual::engine") && *about.level() == Level::INFO)
}

struct Tap(Feed);

impl<S: Subscriber> Layer<S> for Tap {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut told = Told::default();
        event.record(&mut told);
        let mood = match *event.metadata().level() {
            Level::ERROR => Mood::Bad,
            Level::WARN => Mood::Warning,
            _ => Mood::Plain,
        };
        self.0.tell(mood, &told.text());
    }
}

/// One log line's fields.
#[derive(Debug, Default)]
struct Told {
    message: String,
    queue: Option<String>,
    kind: Option<String>,
    job: Option<String>,
    others: String,
}

impl Told {
    fn put(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            "queue" => self.queue = Some(value),
            "kind" => self.kind = Some(value),
            "job_id" => self.job = Some(value),
            name => {
                // Writing to a String cannot fail.
                let _ = write!(self.others, " {name}={value}");
            }
        }
    }

    /// Where first, the long id last: it is what a narrow screen cuts off.
    fn text(&self) -> String {
        let mut text = self.message.clone();
        let place: Vec<&str> =
            [&self.queue, &self.kind].into_iter().flatten().map(|s| &**s).collect();
        if !place.is_empty() {
            text = format!("{text}: {}", place.join(" "));
        }
        text.push_str(&self.others);
        if let Some(job) = &self.job {
            let _ = write!(text, " job={job}");
        }
        text
    }
}

impl Visit for Told {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(events: &[Event]) -> Vec<&str> {
        events.iter().map(|e| &*e.text).collect()
    }

    #[test]
    fn the_log_becomes_events_and_daily_bread_does_not() {
        let feed = Feed::new();
        let tap = Tap(feed.clone()).with_filter(filter_fn(is_worth_a_look));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(tap), || {
            let queue = "mail";
            tracing::warn!(
                target: "punctual::engine::aftermath",
                job_id = "j-1", %queue, kind = "send", cause = "lease_expired", attempt = 2,
                "lease taken\nback"
            );
            tracing::info!(target: "punctual::engine::work", "worker said goodbye");
            tracing::debug!(target: "punctual::engine::work", "too much");
            tracing::info!(target: "punctual::server", "listening");
            tracing::warn!(target: "punctual::worker::runtime", "the attempt failed");
            tracing::warn!(target: "punctual::engine::watchdog", "told elsewhere");
            tracing::error!(target: "elsewhere", "broken");
        });
        let events = feed.latest(10);
        assert_eq!(
            texts(&events),
            [
                "lease taken back: mail send cause=lease_expired attempt=2 job=j-1",
                "worker said goodbye",
                "broken"
            ]
        );
        let moods: Vec<Mood> = events.iter().map(|e| e.mood).collect();
        assert_eq!(moods, [Mood::Warning, Mood::Plain, Mood::Bad]);
    }

    #[test]
    fn what_is_new_is_told_once_and_memory_is_bounded() {
        let feed = Feed::new();
        feed.tell(Mood::Good, "a");
        let (first, seen) = feed.since(0);
        assert_eq!(texts(&first), ["a"]);
        feed.tell(Mood::Good, "b");
        let (second, seen) = feed.since(seen);
        assert_eq!(texts(&second), ["b"]);
        for n in 0..KEPT + 5 {
            feed.tell(Mood::Plain, &n.to_string());
        }
        let (third, seen) = feed.since(seen);
        assert_eq!((third.len(), seen), (KEPT, KEPT + 7));
        assert_eq!(texts(&feed.latest(2)), ["203", "204"]);
        assert_eq!(feed.since(seen).0, []);
    }
}
