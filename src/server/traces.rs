//! Whether there is tracing, and where to: the configuration, and OpenTelemetry's own variables.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::{Config, JobRelation};
use crate::engine::Entropy;
use crate::telemetry::events::Events;
use crate::telemetry::spans::{ExportError, Settings, Spans, Target, Tls};

use super::StartError;

/// As OpenTelemetry has it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Spans that may wait for the collector: a few MB.
const QUEUE: usize = 4_096;

pub(super) async fn start(
    config: &Config,
    entropy: &Entropy,
    events: Events,
) -> Result<Spans, StartError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let instance = entropy.uuid();
    let Some(target) = target(config.telemetry.otlp_endpoint.as_deref(), variable, instance)?
    else {
        return Ok(Spans::off());
    };
    let settings = Settings {
        sample_ratio: config.telemetry.sample_ratio,
        max_forced_per_second: config.telemetry.max_forced_samples_per_second,
        keep_slow: config.telemetry.keep_slow,
        keep_failed: config.telemetry.keep_failed,
        child: config.telemetry.job_relation == JobRelation::Child,
        seed: entropy.secret(),
    };
    tracing::info!(endpoint = %shown(&target.endpoint), ratio = settings.sample_ratio, "traces are exported");
    // The client is made, and dropped if it cannot be used, where blocking is allowed.
    let started = tokio::task::spawn_blocking(move || Spans::start(settings, &target, events));
    Ok(started.await.map_err(std::io::Error::other)??)
}

/// Sends what is left, in a thread that nothing waits for: the runtime would wait, at its end, for
/// one of its own, also when there is no more time.
pub(super) async fn flush(spans: Spans, patience: Duration) {
    if !spans.is_on() {
        return;
    }
    let (done, flushed) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("flush".to_owned()).spawn(move || {
        spans.shut_down(patience);
        // Whoever waited may have been told to hurry.
        let _ = done.send(());
    });
    match thread {
        Ok(_) => drop(flushed.await),
        Err(error) => tracing::error!(%error, "the last spans were not sent"),
    }
}

/// `None`: no tracing.
fn target(
    configured: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
    instance: String,
) -> Result<Option<Target>, ExportError> {
    let says = |name, word: &str| variable(name).is_some_and(|v| v.eq_ignore_ascii_case(word));
    if says("OTEL_SDK_DISABLED", "true") || says("OTEL_TRACES_EXPORTER", "none") {
        return Ok(None);
    }
    // A general endpoint is a base; the one for traces is used as it is.
    let endpoint = configured
        .map(with_path)
        .or_else(|| variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
        .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| below(&base)));
    let Some(endpoint) = endpoint else { return Ok(None) };
    // The configuration's has been looked at; its words fit the variables as well.
    crate::config::collector_url(&endpoint)
        .map_err(|why| ExportError::new(format!("OTEL_EXPORTER_OTLP_ENDPOINT: {why}")))?;
    let protocol = variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        .or_else(|| variable("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if let Some(other) = protocol.filter(|protocol| protocol != "http/protobuf") {
        return Err(ExportError::new(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL is {other:?}, and only \"http/protobuf\" is spoken"
        )));
    }
    let number = |name| variable(name).and_then(|text| text.trim().parse::<u64>().ok());
    let timeout = number("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
        .or_else(|| number("OTEL_EXPORTER_OTLP_TIMEOUT"))
        .filter(|ms| *ms > 0);
    let file = |name: &str| {
        variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
            .or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
            .map(PathBuf::from)
    };
    let identity = match (file("CLIENT_CERTIFICATE"), file("CLIENT_KEY")) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (Some(_), None) | (None, Some(_)) => {
            return Err(ExportError::new(
                "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY go \
                 together: set both or none"
                    .to_owned(),
            ));
        }
    };
    let queue = number("OTEL_BSP_MAX_QUEUE_SIZE").filter(|n| *n > 0);
    Ok(Some(Target {
        endpoint,
        timeout: timeout.map_or(TIMEOUT, Duration::from_millis),
        queue: queue.map_or(QUEUE, |n| usize::try_from(n).unwrap_or(QUEUE)),
        service_name: variable("OTEL_SERVICE_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        instance,
        tls: Tls { authorities: file("CERTIFICATE"), identity },
    }))
}

/// A token in the query is nobody else's business.
fn shown(endpoint: &str) -> &str {
    endpoint.split(['?', '#']).next().unwrap_or_default()
}

fn below(base: &str) -> String {
    format!("{}/v1/traces", base.trim_end_matches('/'))
}

/// A URL that has a path already is meant as it is.
fn with_path(url: &str) -> String {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let bare = url[authority..].trim_end_matches('/').find('/').is_none();
    if bare { below(url) } else { url.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(configured: Option<&str>, variables: &[(&str, &str)]) -> Option<String> {
        found(configured, variables).map(|target| target.endpoint)
    }

    fn found(configured: Option<&str>, variables: &[(&str, &str)]) -> Option<Target> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned())
        };
        target(configured, variable, "i".to_owned()).unwrap()
    }

    const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1/x");
    const GENERAL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://g:1/base/");

    #[test]
    fn the_nearest_endpoint_counts() {
        assert_eq!(endpoint(None, &[]), None);
        let general = Some("http://g:1/base/v1/traces");
        assert_eq!(endpoint(None, &[GENERAL]).as_deref(), general);
        assert_eq!(endpoint(None, &[GENERAL, TRACES]).as_deref(), Some("http://t:1/x"));
        for (written, meant) in [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("https://c/own/path", "https://c/own/path"),
        ] {
            assert_eq!(endpoint(Some(written), &[TRACES]).as_deref(), Some(meant));
        }
    }

    #[test]
    fn it_can_be_switched_off() {
        for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert_eq!(endpoint(Some("http://c:1"), &[off]), None, "{off:?}");
        }
        assert!(endpoint(None, &[GENERAL, ("OTEL_SDK_DISABLED", "false")]).is_some());
    }

    #[test]
    fn numbers_are_read_and_nonsense_is_not() {
        let of = |variables: &[(&str, &str)]| {
            let target = found(Some("http://c:1"), variables).unwrap();
            (target.timeout.as_millis(), target.queue)
        };
        assert_eq!(of(&[]), (10_000, QUEUE));
        assert_eq!(of(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "70")]).0, 70);
        let both = [
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "70"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "50"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "9"),
        ];
        assert_eq!(of(&both), (50, 9));
        let nonsense = [("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"), ("OTEL_BSP_MAX_QUEUE_SIZE", "0")];
        assert_eq!(of(&nonsense), (10_000, QUEUE));
    }

    #[test]
    fn files_for_tls_are_named() {
        let of = |variables: &[(&str, &str)]| found(Some("https://c:1"), variables).unwrap().tls;
        assert_eq!(of(&[]), Tls::default());
        let all = [
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca"),
            ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/ca2"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/crt"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key"),
        ];
        let identity = Some(("/crt".into(), "/key".into()));
        assert_eq!(of(&all), Tls { authorities: Some("/ca2".into()), identity });
        let half =
            |name: &str| (name == "OTEL_EXPORTER_OTLP_CLIENT_KEY").then(|| "/key".to_owned());
        let refused = target(Some("https://c:1"), half, String::new()).unwrap_err();
        assert!(refused.to_string().contains("set both"), "{refused}");
    }

    #[test]
    fn another_protocol_is_refused_and_not_ignored() {
        let variable =
            |name: &str| (name == "OTEL_EXPORTER_OTLP_PROTOCOL").then(|| "grpc".to_owned());
        let refused = target(Some("http://c:1"), variable, String::new()).unwrap_err();
        assert!(refused.to_string().contains("\"grpc\""), "{refused}");
    }
}
