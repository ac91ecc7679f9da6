//! The catalogue for programs: checks of dashboards and alerts, and `punctual metrics --json`.

use serde::Serialize;

use super::{ALL, Kind, Label, Metric, Unit, Values};
use crate::telemetry::labels;

/// A metric as `docs/metrics.json` has it.
#[derive(Debug, Serialize)]
pub struct Described {
    pub name: &'static str,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub unit: Option<&'static str>,
    pub help: &'static str,
    pub scope: &'static str,
    pub labels: Vec<DescribedLabel>,
    /// The finite upper bounds; absent unless it is a histogram.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buckets: Option<&'static [f64]>,
    /// Whether its series lead to traces.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub exemplars: bool,
    pub read: &'static str,
    /// Why no panel and no alert has it, if that is so.
    pub debug: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub struct DescribedLabel {
    pub name: &'static str,
    pub values: DescribedValues,
    /// Beside the open ones, values with a meaning of their own.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub reserved: &'static [&'static str],
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum DescribedValues {
    Closed(&'static [&'static str]),
    Open(&'static str),
}

#[derive(Serialize)]
struct Document {
    metrics: Vec<Described>,
}

/// `docs/metrics.json`.
pub fn docs_json() -> String {
    let document = Document { metrics: ALL.iter().map(|m| m.described()).collect() };
    let text = serde_json::to_string_pretty(&document).expect("strings and finite numbers");
    text + "\n"
}

impl Metric {
    pub fn described(&self) -> Described {
        Described {
            name: self.name,
            kind: self.kind.as_str(),
            unit: (self.unit != Unit::None).then(|| self.unit.as_str()),
            help: self.help,
            scope: self.scope.as_str(),
            labels: self.labels.iter().map(label).collect(),
            buckets: match self.kind {
                Kind::Histogram(bounds) => Some(bounds),
                Kind::Counter | Kind::Gauge => None,
            },
            exemplars: self.has_exemplars(),
            read: self.read,
            debug: self.debug,
        }
    }
}

fn label(label: &Label) -> DescribedLabel {
    let (values, reserved): (_, &[&str]) = match label.values {
        Values::Closed(values) => (DescribedValues::Closed(values), &[]),
        Values::Queue { none: true } => (CAPPED, &[labels::OTHER, labels::NONE]),
        Values::Queue { none: false } | Values::Kind | Values::ErrorClass => {
            (CAPPED, &[labels::OTHER])
        }
        Values::StatusCode => (DescribedValues::Open("a status code, 100 to 599"), &[]),
        Values::Fixed(_) => (DescribedValues::Open("one for the life of the process"), &[]),
    };
    DescribedLabel { name: label.name, values, reserved }
}

const CAPPED: DescribedValues = DescribedValues::Open("open, capped");
