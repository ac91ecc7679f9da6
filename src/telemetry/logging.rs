//! Logs, to standard error: one line an event, as text for people or JSON for machines. Events are
//! counted as they are written.

mod counts;

use std::fmt;
use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use counts::{CountEvents, Counts, EMITTED, LogEvents};

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    #[default]
    Text,
    /// Flat objects: `timestamp`, `level`, `target`, `message` and the event's fields.
    Json,
}

impl LogFormat {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// `RUST_LOG` could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("RUST_LOG: {0}; write a level such as info, or a list such as warn,punctual=debug")]
pub struct FilterError(String);

/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info";

/// Sends logs to standard error, filtered by `RUST_LOG` (`info` when unset or empty).
///
/// The first call in a process decides; later ones change nothing.
pub fn init(format: LogFormat) -> Result<(), FilterError> {
    let text = match std::env::var("RUST_LOG") {
        Ok(text) => text,
        Err(std::env::VarError::NotPresent) => String::new(),
        Err(error @ std::env::VarError::NotUnicode(_)) => {
            return Err(FilterError(error.to_string()));
        }
    };
    let colour =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let subscriber = subscriber(format, filter(&text)?, colour, io::stderr, &EMITTED);
    // Fails only when there is one already, and then that one stays.
    let _ = subscriber.try_init();
    Ok(())
}

/// What this process has logged, for a registry.
pub(super) fn emitted() -> LogEvents {
    LogEvents::new(&EMITTED)
}

fn filter(text: &str) -> Result<EnvFilter, FilterError> {
    let text = if text.trim().is_empty() { DEFAULT_FILTER } else { text };
    EnvFilter::try_new(text).map_err(|error| FilterError(error.to_string()))
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    colour: bool,
    writer: W,
    counts: &'static Counts,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let count = CountEvents(counts);
    match format {
        LogFormat::Text => Box::new(builder.with_ansi(colour).finish().with(count)),
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true);
            Box::new(builder.with_current_span(false).with_span_list(false).finish().with(count))
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::telemetry::labels::LogLevel;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter_text: &str, log: impl FnOnce()) -> String {
        counted(format, filter_text, log, Box::leak(Box::default()))
    }

    fn counted(
        format: LogFormat,
        filter_text: &str,
        log: impl FnOnce(),
        counts: &'static Counts,
    ) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = filter(filter_text).unwrap();
        let subscriber = subscriber(format, filter, false, move || writer.clone(), counts);
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn json_lines_are_flat() {
        let text = logged(LogFormat::Json, "", || {
            tracing::info!(job_id = "j-1", attempt = 2, "job \"taken\" back\n");
            tracing::debug!("below the level");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "job \"taken\" back\n");
        assert_eq!((&line["job_id"], &line["attempt"]), (&"j-1".into(), &2.into()));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        assert!(line["target"].as_str().unwrap().starts_with("punctual"));
        assert!(line.get("fields").is_none() && line.get("span").is_none());
    }

    #[test]
    fn text_lines_have_the_fields_and_no_colour() {
        let text = logged(LogFormat::Text, "", || {
            tracing::warn!(job_id = "j-1", "late");
        });
        assert!(text.contains("WARN") && text.contains("late job_id=\"j-1\""), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn the_filter_is_obeyed_and_its_errors_say_what_to_write() {
        assert_eq!(logged(LogFormat::Text, "error", || tracing::warn!("quiet")), "");
        assert!(logged(LogFormat::Text, "debug", || tracing::debug!("loud")).contains("loud"));
        let error = filter("punctual=chatty").unwrap_err().to_string();
        assert!(error.starts_with("RUST_LOG: ") && error.contains("write a level"), "{error}");
    }

    #[test]
    fn what_is_written_is_counted_and_what_is_filtered_is_not() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let counts: &'static Counts = Box::leak(Box::default());
            let registry = prometheus::Registry::new();
            registry.register(Box::new(LogEvents::new(counts))).unwrap();
            let shown = || {
                registry.gather()[0]
                    .get_metric()
                    .iter()
                    .map(|m| {
                        (m.get_label()[0].value().to_owned(), m.get_counter().get_value() as u64)
                    })
                    .collect::<BTreeMap<_, _>>()
            };
            let expected = |error, warn, info, debug, trace| {
                let counts = [error, warn, info, debug, trace];
                LogLevel::VALUES.into_iter().map(str::to_owned).zip(counts).collect()
            };
            assert_eq!(shown(), expected(0, 0, 0, 0, 0));
            let log = || {
                tracing::error!("e");
                tracing::warn!("w");
                tracing::warn!("w");
                tracing::info!("i");
                tracing::debug!("d");
                tracing::trace!("t");
                drop(tracing::error_span!("no event").entered());
            };
            assert_eq!(counted(format, "debug", log, counts).lines().count(), 5);
            assert_eq!(shown(), expected(1, 2, 1, 1, 0));
            assert_eq!(counted(format, "off,punctual=error", log, counts).lines().count(), 1);
            assert_eq!(shown(), expected(2, 2, 1, 1, 0));
        }
    }

    #[test]
    fn formats_round_trip() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(LogFormat::parse(&format.to_string()), Some(format));
        }
        assert_eq!(LogFormat::parse("xml"), None);
    }
}
