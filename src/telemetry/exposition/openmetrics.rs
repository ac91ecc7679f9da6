//! `OpenMetrics` 1.0 (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
//!
//! The registry's families are the catalogue's, whose counters end in `_total`; here a counter's
//! family is named without it, and its sample with it.

use std::fmt::Write as _;

use prometheus::Registry;
use prometheus::proto::{MetricFamily, MetricType};

use super::labels_of;
use crate::telemetry::catalogue::{self, Unit};
use crate::telemetry::exemplars::{Exemplar, Exemplars};

pub(super) fn render(registry: &Registry, exemplars: &Exemplars) -> String {
    let mut out = String::new();
    for family in registry.gather() {
        write_family(&mut out, &family, exemplars);
    }
    out.push_str("# EOF\n");
    out
}

// Writing to a String cannot fail, here and below.
fn write_family(out: &mut String, family: &MetricFamily, exemplars: &Exemplars) {
    let full = family.name();
    let (name, kind) = match family.get_field_type() {
        MetricType::COUNTER => (full.strip_suffix("_total").unwrap_or(full), "counter"),
        MetricType::GAUGE => (full, "gauge"),
        MetricType::HISTOGRAM => (full, "histogram"),
        MetricType::SUMMARY | MetricType::UNTYPED => (full, "unknown"),
    };
    let _ = writeln!(out, "# TYPE {name} {kind}");
    if let Some(unit) = unit(full).filter(|unit| ends_in(name, unit)) {
        let _ = writeln!(out, "# UNIT {name} {unit}");
    }
    let help = family.help().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let _ = writeln!(out, "# HELP {name} {help}");
    for metric in family.get_metric() {
        let labels = labels_of(metric.get_label());
        let set = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let kept = exemplars.find(full, &labels);
        let exemplar = |bucket| kept.as_ref().and_then(|slots| slots.get(bucket));
        match family.get_field_type() {
            MetricType::COUNTER => {
                let value = metric.get_counter().get_value();
                sample(out, &format!("{name}_total{set}"), &number(value), exemplar(0));
            }
            MetricType::HISTOGRAM => {
                let histogram = metric.get_histogram();
                let (count, sum) = (histogram.get_sample_count(), histogram.get_sample_sum());
                let comma = if labels.is_empty() { "" } else { "," };
                let mut bucket = |at, bound: &str, below: u64| {
                    let series = format!("{name}_bucket{{{labels}{comma}le=\"{bound}\"}}");
                    sample(out, &series, &below.to_string(), exemplar(at));
                };
                let bounds = histogram.get_bucket();
                for (at, below) in bounds.iter().enumerate() {
                    bucket(at, &number(below.upper_bound()), below.cumulative_count());
                }
                bucket(bounds.len(), "+Inf", count);
                sample(out, &format!("{name}_count{set}"), &count.to_string(), None);
                sample(out, &format!("{name}_sum{set}"), &number(sum), None);
            }
            MetricType::GAUGE | MetricType::SUMMARY | MetricType::UNTYPED => {
                sample(out, &format!("{name}{set}"), &number(metric.get_gauge().get_value()), None);
            }
        }
    }
}

fn sample(out: &mut String, series: &str, value: &str, exemplar: Option<Exemplar>) {
    let _ = write!(out, "{series} {value}");
    if let Some(Exemplar { of, value, at }) = exemplar {
        let (trace, span, value) = (of.trace, of.span, number(value));
        let _ = write!(out, " # {{trace_id=\"{trace}\",span_id=\"{span}\"}} {value} {at:.3}");
    }
    out.push('\n');
}

fn unit(family: &str) -> Option<&'static str> {
    let metric = catalogue::ALL.iter().find(|metric| metric.name == family)?;
    match metric.unit {
        Unit::None => None,
        Unit::Seconds | Unit::Bytes | Unit::Jobs => Some(metric.unit.as_str()),
    }
}

/// A unit may be told only where the name tells it too.
fn ends_in(name: &str, unit: &str) -> bool {
    name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'))
}

/// Canonical: a bound of 1 is `1.0`, so that readers agree on a bucket's name.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    format!("{value:?}")
}

#[cfg(test)]
mod tests {
    use prometheus::{Counter, HistogramOpts, HistogramVec};

    use super::*;
    use crate::domain::trace::{SpanId, TraceId};
    use crate::telemetry::catalogue::WAIT;
    use crate::telemetry::exemplars::{Example, TracedHistogram};

    #[test]
    fn numbers_are_canonical() {
        for (value, text) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (0.005, "0.005"),
            (0.0001, "0.0001"),
            (43_200.0, "43200.0"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_counter_s_family_has_no_total() {
        let registry = Registry::new();
        let counter = Counter::new("process_cpu_seconds_total", "A \"quoted\"\\ help.").unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        counter.inc_by(1.5);
        let expected = "# TYPE process_cpu_seconds counter\n\
                        # UNIT process_cpu_seconds seconds\n\
                        # HELP process_cpu_seconds A \\\"quoted\\\"\\\\ help.\n\
                        process_cpu_seconds_total 1.5\n# EOF\n";
        assert_eq!(render(&registry, &Exemplars::default()), expected);
    }

    #[test]
    fn buckets_are_cumulative_and_have_exemplars() {
        let registry = Registry::new();
        let opts = HistogramOpts::new(WAIT.name, "Help.").buckets(vec![0.005, 1.0]);
        let family = HistogramVec::new(opts, &["queue"]).unwrap();
        registry.register(Box::new(family.clone())).unwrap();
        let store = Exemplars::default();
        let traced = TracedHistogram {
            histogram: family.with_label_values(&["q"]),
            exemplars: store.of(&WAIT, &["q"]),
        };
        let of = Example {
            trace: TraceId::new([0xab; 16]).unwrap(),
            span: SpanId::new([0xcd; 8]).unwrap(),
        };
        traced.observe(0.001, Some(of));
        traced.observe(0.5, None);
        traced.observe(7.5, None);
        let text = render(&registry, &store);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "# UNIT punctual_job_wait_seconds seconds");
        let (series, exemplar) = lines[3].split_once(" # ").expect("an exemplar");
        assert_eq!(series, "punctual_job_wait_seconds_bucket{queue=\"q\",le=\"0.005\"} 1");
        let (pairs, rest) = exemplar.split_once("} ").expect("a label set");
        let (trace, span) = ("ab".repeat(16), "cd".repeat(8));
        assert_eq!(pairs, format!("{{trace_id=\"{trace}\",span_id=\"{span}\""));
        let (value, at) = rest.split_once(' ').expect("a time");
        assert_eq!(value, "0.001");
        assert!(at.parse::<f64>().unwrap() > 1.6e9, "{at}");
        let rest = [
            "punctual_job_wait_seconds_bucket{queue=\"q\",le=\"1.0\"} 2",
            "punctual_job_wait_seconds_bucket{queue=\"q\",le=\"+Inf\"} 3",
            "punctual_job_wait_seconds_count{queue=\"q\"} 3",
            "punctual_job_wait_seconds_sum{queue=\"q\"} 8.001",
            "# EOF",
        ];
        assert_eq!(lines[4..], rest);
    }
}
