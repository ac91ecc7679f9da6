//! Whether a matched label value can occur at all.

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::token::T_EQL_REGEX;
use punctual::domain::names::Name;
use punctual::telemetry::catalogue::Values;
use punctual::telemetry::labels::{ERROR_CLASS_LENGTH, NONE, OTHER, attempt_error_class};

/// What a label can say.
#[derive(Debug, Clone)]
pub enum Allowed {
    /// It is the target's, or one for the life of the process.
    Anything,
    Set(Vec<String>),
    Queue {
        none: bool,
    },
    Kind,
    ErrorClass,
    Bounds(&'static [f64]),
}

impl Allowed {
    pub fn of(values: Values) -> Self {
        match values {
            Values::Queue { none } => Self::Queue { none },
            Values::Kind => Self::Kind,
            Values::ErrorClass => Self::ErrorClass,
            Values::Closed(values) => Self::Set(values.iter().map(ToString::to_string).collect()),
            Values::StatusCode => Self::Set((100..600).map(|code| code.to_string()).collect()),
            Values::Fixed(_) => Self::Anything,
        }
    }

    /// Whether the label can have this value.
    pub fn has(&self, value: &str) -> bool {
        match self {
            Self::Anything => true,
            Self::Set(values) => values.iter().any(|v| v == value),
            Self::Queue { none } => {
                Name::parse(value).is_some() || value == OTHER || (*none && value == NONE)
            }
            Self::Kind => Name::parse(value).is_some() || value == OTHER,
            Self::ErrorClass => {
                let own = attempt_error_class(value) == value && value.len() <= ERROR_CLASS_LENGTH;
                value == OTHER || (!value.is_empty() && own)
            }
            Self::Bounds(bounds) => forms(bounds).iter().any(|form| form == value),
        }
    }

    /// Every value, where they can be counted up.
    fn all(&self) -> Option<Vec<String>> {
        match self {
            Self::Set(values) => Some(values.clone()),
            Self::Bounds(bounds) => Some(forms(bounds)),
            Self::Anything | Self::Queue { .. } | Self::Kind | Self::ErrorClass => None,
        }
    }
}

/// How a bound is written: a whole one with or without `.0`, as Prometheus 3 and 2 have it.
fn forms(bounds: &[f64]) -> Vec<String> {
    let mut forms = vec!["+Inf".to_owned()];
    for bound in bounds {
        forms.push(bound.to_string());
        if bound.fract() == 0.0 {
            forms.push(format!("{bound:.1}"));
        }
    }
    forms
}

/// What is wrong with a matcher's value, and what to do about it.
pub fn judge(allowed: &Allowed, matcher: &Matcher) -> Option<(String, String)> {
    let known = || match allowed.all() {
        Some(all) if all.len() <= 40 => format!("it can be {}", all.join(", ")),
        Some(_) | None => "write one that the catalogue allows".to_owned(),
    };
    let shown = |value: &str| value.replace(crate::query::STANDS_FOR, "$");
    match &matcher.op {
        MatchOp::Equal | MatchOp::NotEqual => {
            if !allowed.has(&matcher.value) {
                let wrong = format!("{} is never \"{}\"", matcher.name, shown(&matcher.value));
                return Some((wrong, known()));
            }
            let whole = matches!(allowed, Allowed::Bounds(_)) && one_form(&matcher.value);
            whole.then(|| {
                let base = matcher.value.trim_end_matches(".0");
                (
                    format!("le=\"{}\" is written otherwise by some Prometheus", matcher.value),
                    format!("match both forms: le=~\"{base}(\\\\.0)?\""),
                )
            })
        }
        MatchOp::Re(_) | MatchOp::NotRe(_) => {
            let dead = alternatives(&matcher.value).into_iter().find(|a| !can_match(allowed, a));
            dead.map(|alternative| {
                let wrong = format!("{} is never \"{}\"", matcher.name, shown(alternative));
                (wrong, known())
            })
        }
    }
}

/// A whole bound in one of its two forms.
fn one_form(value: &str) -> bool {
    value != "+Inf" && value.parse::<f64>().is_ok_and(|bound| bound.fract() == 0.0)
}

/// The alternatives of a regular expression, as far as they can be told without parsing it.
fn alternatives(pattern: &str) -> Vec<&str> {
    if pattern.contains(['(', '[', '\\']) { vec![pattern] } else { pattern.split('|').collect() }
}

fn can_match(allowed: &Allowed, alternative: &str) -> bool {
    let plain = !alternative.contains(['.', '*', '+', '?', '(', '[', '{', '\\', '^', '$']);
    match allowed.all() {
        // Of what can be counted up, something must match.
        Some(all) if !plain => {
            let matcher = Matcher::new_matcher(T_EQL_REGEX, String::new(), alternative.to_owned());
            let matcher = matcher.expect("it was a part of one that was parsed");
            all.iter().any(|value| matcher.is_match(value))
        }
        Some(_) | None => !plain || allowed.has(alternative),
    }
}

#[cfg(test)]
mod tests {
    use crate::query::{Use, sin};

    #[test]
    fn a_value_that_never_occurs() {
        let of = |expr: &str| sin(Use::Alert, expr);
        let cure = "it can be pending, running, completed, failed, cancelled";
        of(r#"max without (instance, pod) (punctual_jobs{state="runing"})"#).only(
            "here",
            "state is never \"runing\"",
            cure,
        );
        of(r#"max without (instance, pod) (punctual_jobs{state!="stuck"})"#).only(
            "here",
            "state is never \"stuck\"",
            cure,
        );
        // One alternative among good ones.
        of(r#"max without (instance, pod) (punctual_jobs{state=~"pending|leased"})"#).only(
            "here",
            "state is never \"leased\"",
            cure,
        );
        of(r#"max without (instance, pod) (punctual_jobs{state!~"done.*"})"#).only(
            "here",
            "state is never \"done.*\"",
            cure,
        );
        of(r#"max without (instance, pod) (punctual_jobs{state=""})"#).only(
            "here",
            "state is never \"\"",
            cure,
        );
    }

    #[test]
    fn a_value_of_another_metric_s_label() {
        let retries = r#"sum without (instance, pod) (rate(punctual_job_submissions_total{queue="_none"}[5m]))"#;
        sin(Use::Alert, retries).none();
        let claims = r#"sum without (instance, pod) (rate(punctual_claim_requests_total{queue="_none"}[5m]))"#;
        sin(Use::Alert, claims).only("here", "queue is never \"_none\"", "the catalogue allows");
        let class = r#"sum without (instance, pod) (rate(punctual_attempt_errors_total{error_class="ValueError"}[5m]))"#;
        sin(Use::Alert, class).only("here", "never \"ValueError\"", "the catalogue allows");
        let status = r#"sum without (instance, pod) (rate(http_server_request_duration_seconds_count{http_response_status_code=~"6.."}[5m]))"#;
        sin(Use::Alert, status).only("here", "never \"6..\"", "the catalogue allows");
    }

    #[test]
    fn a_bound_that_is_none() {
        let of = |le: &str| {
            let expr = format!(
                "sum without (instance, pod) (rate(punctual_job_wait_seconds_bucket{{le{le}}}[5m]))"
            );
            sin(Use::Alert, &expr)
        };
        of("=\"0.25\"").none();
        of("=\"+Inf\"").none();
        of("=~\"60(\\\\.0)?\"").none();
        of("=\"0.3\"").only("here", "le is never \"0.3\"", "0.25, 0.5");
        of("=~\"45(\\\\.0)?\"").only("here", "le is never \"45(\\.0)?\"", "it can be");
        of("=\"60\"").only("here", "le=\"60\" is written otherwise", "le=~\"60(\\\\.0)?\"");
        of("=\"60.0\"").only("here", "le=\"60.0\" is written otherwise", "le=~\"60(\\\\.0)?\"");
    }

    #[test]
    fn an_alert_that_does_not_exist() {
        let of = |expr: &str| sin(Use::Annotation, expr);
        of(r#"ALERTS{alertname="PunctualOnFire",job=~"$job"}"#).only(
            "here",
            "alertname is never \"PunctualOnFire\"",
            "PunctualAlert",
        );
        of(r#"ALERTS{alertstate="burning",job=~"$job"}"#).only(
            "here",
            "alertstate is never \"burning\"",
            "firing, pending",
        );
        of(r#"ALERTS{alertname=~"Punctual.*",alertstate="firing",job=~"$job|"}"#).none();
    }
}
