//! What a scrape reads: the registry, in the format that the reader asked for.

mod openmetrics;

use std::fmt::Write as _;

use prometheus::proto::LabelPair;
use prometheus::{Registry, TextEncoder};

use super::exemplars::Exemplars;

/// The two formats of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format, version 0.0.4.
    Text,
    /// `OpenMetrics` 1.0: with units and exemplars.
    OpenMetrics,
}

impl Format {
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

pub(super) fn render(registry: &Registry, exemplars: &Exemplars, format: Format) -> String {
    match format {
        Format::Text => text(registry),
        Format::OpenMetrics => openmetrics::render(registry, exemplars),
    }
}

/// Every family of `registry`, sorted by name, label values escaped.
///
/// A family that cannot be written is left out and logged: a scrape with all the others is worth
/// more than none.
fn text(registry: &Registry) -> String {
    let encoder = TextEncoder::new();
    let mut out = String::new();
    for family in registry.gather() {
        let written = out.len();
        let name = family.name().to_owned();
        if let Err(error) = encoder.encode_utf8(&[family], &mut out) {
            out.truncate(written);
            tracing::error!(metric = name, %error, "metric family left out of the scrape");
        }
    }
    out
}

/// `a="1",b="2"`, escaped as both formats have it.
pub(super) fn labels<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        let comma = if out.is_empty() { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(out, "{comma}{name}=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    out
}

fn labels_of(pairs: &[LabelPair]) -> String {
    labels(pairs.iter().map(|pair| (pair.name(), pair.value())))
}

#[cfg(test)]
mod tests {
    use prometheus::{IntGaugeVec, Opts};

    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let registry = Registry::new();
        let gauges = IntGaugeVec::new(Opts::new("g", "Help."), &["l"]).unwrap();
        registry.register(Box::new(gauges.clone())).unwrap();
        gauges.with_label_values(&["a\"} 1\nevil{x=\"\\"]).set(7);
        let escaped = "g{l=\"a\\\"} 1\\nevil{x=\\\"\\\\\"} 7";
        let text = render(&registry, &Exemplars::default(), Format::Text);
        assert_eq!(text, format!("# HELP g Help.\n# TYPE g gauge\n{escaped}\n"));
        let open = render(&registry, &Exemplars::default(), Format::OpenMetrics);
        assert_eq!(open, format!("# TYPE g gauge\n# HELP g Help.\n{escaped}.0\n# EOF\n"));
    }
}
