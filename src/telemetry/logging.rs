//! Logs, to standard error: one line an event, as text for people or JSON for machines.

use std::fmt;
use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

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
    let subscriber = subscriber(format, filter(&text)?, colour, io::stderr);
    // Fails only when there is one already, and then that one stays.
    let _ = subscriber.try_init();
    Ok(())
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
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        LogFormat::Text => Box::new(builder.with_ansi(colour).finish()),
        LogFormat::Json => Box::new(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .finish(),
        ),
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
    use std::sync::{Arc, Mutex};

    use super::*;

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
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            subscriber(format, filter(filter_text).unwrap(), false, move || writer.clone());
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
    fn formats_round_trip() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(LogFormat::parse(&format.to_string()), Some(format));
        }
        assert_eq!(LogFormat::parse("xml"), None);
    }
}
