//! Families that are rendered from numbers kept elsewhere, instead of by instruments.

use prometheus::core::Desc;
use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};

use super::catalogue::{Kind, Metric};

/// A series' label values, in the order of the declaration, and its value.
pub(super) type Series<'a> = (Vec<&'a str>, f64);

pub(super) fn desc(metric: &Metric) -> Desc {
    let labels = metric.label_names().into_iter().map(str::to_owned).collect();
    Desc::new(metric.name.to_owned(), metric.help.to_owned(), labels, [].into())
        .expect("the catalogue's declarations are valid")
}

/// `metric` with these series. It must be a counter or a gauge.
pub(super) fn family<'a>(
    metric: &'static Metric,
    series: impl Iterator<Item = Series<'a>>,
) -> MetricFamily {
    let field_type = match metric.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram(_) => panic!("{}: histograms have instruments", metric.name),
    };
    let series = series.map(|(values, value)| {
        debug_assert_eq!(values.len(), metric.labels.len(), "{}", metric.name);
        let labels = metric.labels.iter().zip(values).map(|(label, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(label.name.to_owned());
            pair.set_value(value.to_owned());
            pair
        });
        let mut one = proto::Metric::from_label(labels.collect());
        if field_type == MetricType::COUNTER {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            one.set_counter(counter);
        } else {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            one.set_gauge(gauge);
        }
        one
    });
    let mut family = MetricFamily::default();
    family.set_name(metric.name.to_owned());
    family.set_help(metric.help.to_owned());
    family.set_field_type(field_type);
    family.set_metric(series.collect());
    family
}
