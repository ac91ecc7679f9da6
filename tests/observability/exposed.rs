//! The catalogue against a scrape, in both directions.

use std::collections::{BTreeMap, BTreeSet};

use punctual::telemetry::catalogue::{self, Kind, Label, Metric, Values};
use punctual::telemetry::labels::{NONE, OTHER};

use crate::finding::Findings;
use crate::scrape::{Family, Sample};

/// The names from outside that a scrape shows, besides `_other`: all of them, and no others.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    pub queues: &'a [&'a str],
    pub kinds: &'a [&'a str],
    pub error_classes: &'a [&'a str],
}

impl<'a> Names<'a> {
    /// The values that a label must have; `None` when they cannot be counted up.
    fn of(&self, label: &Label) -> Option<Vec<&'a str>> {
        let and = |names: &[&'a str], more: &[&'a str]| Some([names, more].concat());
        match label.values {
            Values::Queue { none: true } => and(self.queues, &[OTHER, NONE]),
            Values::Queue { none: false } => and(self.queues, &[OTHER]),
            Values::Kind => and(self.kinds, &[OTHER]),
            Values::ErrorClass => and(self.error_classes, &[OTHER]),
            Values::Closed(values) => Some(values.to_vec()),
            Values::StatusCode | Values::Fixed(_) => None,
        }
    }
}

pub fn check(families: &[Family], names: &Names<'_>, found: &mut Findings) {
    let mut seen = BTreeSet::new();
    for family in families {
        found.at(format!("/metrics, {}", family.name));
        if !seen.insert(&*family.name) {
            found.say("it comes twice", "register it once");
        }
        match catalogue::ALL.iter().find(|m| m.name == family.name) {
            Some(metric) => check_family(metric, family, names, found),
            None => found.say("it is not in the catalogue", "declare it, or do not expose it"),
        }
    }
    for metric in catalogue::ALL.iter().filter(|m| !seen.contains(m.name)) {
        found
            .at(format!("/metrics, {}", metric.name))
            .say("it is in the catalogue and not exposed", "expose it from the start");
    }
}

fn check_family(metric: &Metric, family: &Family, names: &Names<'_>, found: &mut Findings) {
    if family.help != metric.help {
        found.say(format!("HELP is {:?}", family.help), format!("make it {:?}", metric.help));
    }
    if family.kind != metric.kind.as_str() {
        found.say(format!("TYPE is {}", family.kind), format!("make it {}", metric.kind.as_str()));
    }
    let fits = family.samples.iter().filter(|sample| check_labels(metric, sample, names, found));
    if fits.count() < family.samples.len() {
        // Which of them are missing cannot be told.
        return;
    }
    match metric.kind {
        Kind::Histogram(bounds) => {
            check_histogram(metric, bounds, family, found);
            let counts = family.samples.iter().filter(|s| s.name.ends_with("_count"));
            check_series(metric, counts.map(|s| values(metric, s)), names, found);
        }
        Kind::Counter | Kind::Gauge => {
            for sample in &family.samples {
                let counts = metric.kind == Kind::Counter;
                if !sample.value.is_finite() || (counts && sample.value < 0.0) {
                    found.say(format!("{} is no value for it", sample.value), "count from 0");
                }
                if sample.name != metric.name {
                    found.say(format!("{} is among its series", sample.name), "name it alike");
                }
            }
            check_series(metric, family.samples.iter().map(|s| values(metric, s)), names, found);
        }
    }
}

/// In the order of the declaration.
fn values<'f>(metric: &Metric, sample: &'f Sample) -> Vec<&'f str> {
    let value = |label: &Label| sample.label(label.name).unwrap_or_default();
    metric.labels.iter().map(value).collect()
}

/// Whether it has the declared labels, and no others. Says what is wrong with their values.
fn check_labels(metric: &Metric, sample: &Sample, names: &Names<'_>, found: &mut Findings) -> bool {
    let own = sample.labels.iter().map(|(name, _)| name.as_str()).filter(|n| *n != "le");
    let own: Vec<&str> = own.collect();
    let mut declared = metric.label_names();
    // As they are exposed.
    declared.sort_unstable();
    if own != declared {
        let (own, declared) = (own.join(", "), declared.join(", "));
        found.say(format!("a series has the labels {own}"), format!("declared are {declared}"));
        return false;
    }
    for label in metric.labels {
        let value = sample.label(label.name).unwrap_or_default();
        let allowed = match (names.of(label), label.values) {
            (Some(all), _) => all.contains(&value),
            (None, Values::StatusCode) => {
                value.len() == 3 && value.parse().is_ok_and(|code: u16| (100..600).contains(&code))
            }
            (None, _) => !value.is_empty(),
        };
        if !allowed {
            found.say(
                format!("{}=\"{value}\" is not one of its values", label.name),
                "declare the value, or do not emit it",
            );
        }
    }
    true
}

/// Every combination that is known beforehand is there, once; of the others there is one at least.
fn check_series<'f>(
    metric: &Metric,
    series: impl Iterator<Item = Vec<&'f str>>,
    names: &Names<'_>,
    found: &mut Findings,
) {
    let mut counted = BTreeMap::<Vec<&str>, usize>::new();
    for values in series {
        *counted.entry(values).or_default() += 1;
    }
    if let Some((values, _)) = counted.iter().find(|(_, times)| **times > 1) {
        found.say(format!("{values:?} comes twice"), "one series for each combination");
    }
    let mut expected: Vec<Vec<&str>> = vec![Vec::new()];
    for label in metric.labels {
        let Some(all) = names.of(label) else {
            let fixed = matches!(label.values, Values::Fixed(_));
            if counted.is_empty() || (fixed && counted.len() != 1) {
                let cure = if fixed { "expose exactly one" } else { "expose at least one" };
                found.say(format!("it has {} series", counted.len()), cure);
            }
            return;
        };
        expected = expected
            .iter()
            .flat_map(|known| all.iter().map(|value| [&known[..], &[value]].concat()))
            .collect();
    }
    for missing in expected.iter().filter(|values| !counted.contains_key(*values)) {
        let shown = metric.label_names().into_iter().zip(missing);
        let shown: Vec<String> = shown.map(|(label, value)| format!("{label}={value}")).collect();
        found.say(format!("there is no series {{{}}}", shown.join(", ")), "let it begin at 0");
    }
}

/// The buckets are the declared ones, each holds those below it, and the last holds all.
fn check_histogram(metric: &Metric, bounds: &[f64], family: &Family, found: &mut Findings) {
    #[derive(Default)]
    struct One {
        buckets: Vec<(f64, f64)>,
        sum: Option<f64>,
        count: Option<f64>,
    }
    let mut all = BTreeMap::<Vec<&str>, One>::new();
    for sample in &family.samples {
        let one = all.entry(values(metric, sample)).or_default();
        match (sample.name.strip_prefix(metric.name), sample.label("le")) {
            (Some("_bucket"), Some(le)) => {
                one.buckets.push((le.parse().unwrap_or(f64::NAN), sample.value));
            }
            (Some("_sum"), None) => one.sum = Some(sample.value),
            (Some("_count"), None) => one.count = Some(sample.value),
            _ => found.say(format!("{} is among its series", sample.name), "name it alike"),
        }
    }
    let declared: Vec<f64> = bounds.iter().copied().chain([f64::INFINITY]).collect();
    for (values, one) in &all {
        let exposed: Vec<f64> = one.buckets.iter().map(|(le, _)| *le).collect();
        if exposed != declared {
            found.say(format!("{values:?} has the buckets {exposed:?}"), format!("{declared:?}"));
        }
        if one.buckets.windows(2).any(|two| two[1].1 < two[0].1) {
            found.say(format!("{values:?}: a bucket holds less than one below"), "count upwards");
        }
        let last = one.buckets.last().map(|(_, value)| *value);
        if one.count.is_none() || one.count != last {
            found.say(
                format!("{values:?}: _count is {:?}, the last bucket {last:?}", one.count),
                "the same",
            );
        }
        if !one.sum.is_some_and(|sum| sum.is_finite() && sum >= 0.0) {
            found.say(format!("{values:?}: _sum is {:?}", one.sum), "no event takes less than 0");
        }
    }
}

/// What a queue's series show before anything happened in it: nothing.
pub fn check_zero(families: &[Family], queue: &str, but: &[&Metric], found: &mut Findings) {
    for family in families.iter().filter(|f| !but.iter().any(|m| m.name == f.name)) {
        found.at(format!("/metrics, {}", family.name));
        for sample in family.samples.iter().filter(|s| s.label("queue") == Some(queue)) {
            if sample.value != 0.0 {
                found.say(
                    format!("{}{:?} begins at {}", sample.name, sample.labels, sample.value),
                    "begin at 0",
                );
            }
        }
    }
}

#[cfg(test)]
#[path = "exposed_sins.rs"]
mod tests;
