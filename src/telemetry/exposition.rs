//! The text that a scrape reads: Prometheus text format, version 0.0.4.

use prometheus::{Registry, TextEncoder};

/// The `Content-Type` of what [`Events::render`](super::events::Events::render) returns.
pub const TEXT_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every family of `registry`, sorted by name, label values escaped.
///
/// A family that cannot be written is left out and logged: a scrape with all the others is worth
/// more than none.
pub(super) fn text(registry: &Registry) -> String {
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
        let expected = "# HELP g Help.\n# TYPE g gauge\ng{l=\"a\\\"} 1\\nevil{x=\\\"\\\\\"} 7\n";
        assert_eq!(text(&registry), expected);
    }
}
