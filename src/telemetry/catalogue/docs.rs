//! The catalogue as a page for people.

use std::fmt::Write as _;

use super::{ALL, Group, Kind, Metric, Unit, Values};

/// `docs/METRICS.md`.
pub fn docs_markdown() -> String {
    let mut out = String::from(INTRODUCTION);
    for group in Group::ALL {
        let _ = writeln!(out, "\n## {}", group.title());
        for metric in ALL.iter().filter(|m| m.group == group) {
            describe(&mut out, metric);
        }
    }
    out
}

fn describe(out: &mut String, metric: &Metric) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "\n### `{}`\n\n{}\n", metric.name, markdown(metric.help));
    let _ = write!(out, "- **Type:** {}", metric.kind.as_str());
    if metric.unit != Unit::None {
        let _ = write!(out, ", in {}", metric.unit.as_str());
    }
    let _ = writeln!(out, "\n- **Scope:** {}", metric.scope.as_str());
    for label in metric.labels {
        let _ = writeln!(out, "- **Label `{}`:** {}", label.name, label.values.describe());
    }
    if let Kind::Histogram(buckets) = metric.kind {
        let bounds: Vec<_> = buckets.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "- **Buckets:** {}", bounds.join(", "));
    }
    if metric.has_exemplars() {
        let _ = writeln!(out, "- **Exemplars:** the trace of the attempt, if it is recorded");
    }
    let _ = writeln!(out, "- **Read it:** {}", metric.read);
    if let Some(reason) = metric.debug {
        let _ = writeln!(out, "- **For a closer look only:** {reason}");
    }
}

impl Values {
    /// What a label can say, in Markdown.
    pub fn describe(self) -> String {
        match self {
            Self::Queue { none: false } => "the queue, or `_other` beyond the cap".to_owned(),
            Self::Queue { none: true } => "the queue, or `_other` beyond the cap, or `_none` when \
                the request was refused before its queue was known"
                .to_owned(),
            Self::Kind => "the kind, or `_other` beyond the cap".to_owned(),
            Self::ErrorClass => {
                "the class of the error, `unknown` without a type, or `_other` beyond the cap"
                    .to_owned()
            }
            Self::Closed(values) => {
                values.iter().map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", ")
            }
            Self::StatusCode => "the status code, `100` to `599`".to_owned(),
            Self::Fixed(what) => what.to_owned(),
        }
    }
}

/// HELP is plain text; an underscore at the start of a word would begin emphasis.
fn markdown(help: &str) -> String {
    help.replace('_', "\\_")
}

const INTRODUCTION: &str = "\
# Metrics

<!-- Generated from src/telemetry/catalogue.rs; change it there and run `UPDATE=1 cargo test --test generated`. -->

`GET /metrics` serves every metric below, in the format that `Accept` asks for: OpenMetrics 1.0 (`application/openmetrics-text`), with
units and exemplars, or else the Prometheus text format 0.0.4. Prometheus asks for OpenMetrics by itself, and keeps exemplars when it
is started with `--enable-feature=exemplar-storage`. A bound that is `le=\"1\"` in text is `le=\"1.0\"` in OpenMetrics: match it with
`le=~\"1(\\\\.0)?\"`.

**Scope** says how the series of several replicas combine:

- **process**: events of that process. Add replicas with `sum`.
- **store**: facts about the shared store, the same on every replica. Combine with `max`, never `sum`.
- **liveness**: moments and periods of that process's own work. Compare with `time()`.

A scrape never touches the store. Metrics of scope *store* come from a sample that is taken every few seconds; ages grow between
samples. After three missed samples they are withheld until the next sample, and `punctual_state_sample_timestamp_seconds` tells since when.

Series exist at 0 before they count: for every closed label value, and for every queue from the moment that it is declared in the
configuration or first seen. The `queue` label is capped (100 by default): declared queues always have their label, further ones as
long as there is room, and the rest are counted together as `_other`. `kind` (100 by default) and the `error_class` of attempts (100)
are capped in the same way. What nobody declared gives its label back after a day without use; a queue is in use while it has jobs or
workers or is paused. Under `_other` counts add up, and ages, thresholds and estimates are the largest. A job id, a worker or an error
text is never a label.

[metrics.json](metrics.json) says the same for programs, `punctual metrics` on the command line.

In the expressions below `…` stands for the metric's name.
";
