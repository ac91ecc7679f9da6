//! What a name in a query may stand for.

use std::collections::{BTreeMap, BTreeSet};

use punctual::telemetry::catalogue::{self, Kind, Metric, Values};

use crate::shape::{Grain, Labels};
use crate::values::Allowed;

/// Labels that a target has by being scraped. `instance` and `pod` tell replicas apart.
pub const TARGET: [&str; 3] = ["job", "instance", "pod"];
pub const REPLICA: [&str; 2] = ["instance", "pod"];

/// Which series of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A counter or a gauge.
    Whole,
    Bucket,
    /// `_sum` or `_count`.
    Total,
}

/// What a rule of ours records.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub labels: Labels,
    /// It says what `punctual_jobs` says.
    pub retained: bool,
}

#[derive(Debug, Clone)]
pub enum Source<'a> {
    Metric(&'static Metric, Part),
    Recorded(&'a Recorded),
    /// `up`.
    Up,
    /// `ALERTS` or `ALERTS_FOR_STATE`.
    Alerts,
}

/// What there is beside the catalogue.
#[derive(Debug, Default)]
pub struct World {
    pub recorded: BTreeMap<String, Recorded>,
    pub alerts: BTreeSet<String>,
    pub severities: BTreeSet<String>,
    /// The labels that our alerts can have.
    pub alert_labels: BTreeSet<String>,
}

/// The series of that name in the catalogue.
pub fn metric(name: &str) -> Option<(&'static Metric, Part)> {
    let parts = [("_bucket", Part::Bucket), ("_sum", Part::Total), ("_count", Part::Total)];
    catalogue::ALL.iter().find_map(|m| match m.kind {
        Kind::Counter | Kind::Gauge => (m.name == name).then_some((*m, Part::Whole)),
        Kind::Histogram(_) => {
            let end = name.strip_prefix(m.name)?;
            parts.iter().find(|(text, _)| *text == end).map(|(_, part)| (*m, *part))
        }
    })
}

impl World {
    pub fn source(&self, name: &str) -> Option<Source<'_>> {
        match name {
            "up" => Some(Source::Up),
            "ALERTS" | "ALERTS_FOR_STATE" => Some(Source::Alerts),
            _ => match metric(name) {
                Some((metric, part)) => Some(Source::Metric(metric, part)),
                None => self.recorded.get(name).map(Source::Recorded),
            },
        }
    }

    /// The known name that is most like this one, for a message.
    pub fn nearest(&self, name: &str) -> String {
        let catalogued = catalogue::ALL.iter().flat_map(|m| match m.kind {
            Kind::Counter | Kind::Gauge => vec![m.name.to_owned()],
            Kind::Histogram(_) => {
                ["_bucket", "_sum", "_count"].map(|end| format!("{}{end}", m.name)).to_vec()
            }
        });
        let all = catalogued.chain(self.recorded.keys().cloned());
        let nearest = all.min_by_key(|known| strsim::damerau_levenshtein(known, name));
        nearest.expect("the catalogue is not empty")
    }

    /// What `label` can be on the series, if they have it.
    pub fn label(&self, source: &Source<'_>, label: &str) -> Option<Allowed> {
        let target = TARGET.contains(&label).then_some(Allowed::Anything);
        let set = |texts: &BTreeSet<String>| Some(Allowed::Set(texts.iter().cloned().collect()));
        match source {
            Source::Metric(metric, part) => match (part, metric.kind) {
                (Part::Bucket, Kind::Histogram(bounds)) if label == "le" => {
                    Some(Allowed::Bounds(bounds))
                }
                _ => {
                    let declared = metric.labels.iter().find(|l| l.name == label);
                    declared.map(|l| Allowed::of(l.values)).or(target)
                }
            },
            Source::Recorded(recorded) => {
                recorded.labels.contains_key(label).then_some(Allowed::Anything)
            }
            Source::Up => target,
            Source::Alerts => match label {
                "alertname" => set(&self.alerts),
                "severity" => set(&self.severities),
                "alertstate" => Some(Allowed::Set(vec!["firing".into(), "pending".into()])),
                _ => self.alert_labels.contains(label).then_some(Allowed::Anything).or(target),
            },
        }
    }

    /// The labels of its series.
    pub fn labels(&self, source: &Source<'_>) -> Labels {
        let target = TARGET.map(|label| {
            let grain = if label == "pod" { Grain::ByInstance } else { Grain::Free };
            (label.to_owned(), grain)
        });
        let mut labels = Labels::from(target);
        match source {
            Source::Metric(metric, part) => {
                for label in metric.labels {
                    let one = matches!(label.values, Values::Fixed(_));
                    let grain = if one { Grain::ByInstance } else { Grain::Free };
                    labels.insert(label.name.to_owned(), grain);
                }
                if *part == Part::Bucket {
                    labels.insert("le".to_owned(), Grain::Free);
                }
            }
            Source::Recorded(recorded) => labels.clone_from(&recorded.labels),
            Source::Up => {}
            Source::Alerts => {
                let own = ["alertname", "alertstate", "severity"].map(str::to_owned);
                let all = own.into_iter().chain(self.alert_labels.iter().cloned());
                labels.extend(all.map(|label| (label, Grain::Free)));
            }
        }
        labels
    }
}
