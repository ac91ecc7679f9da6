//! Which format of the metrics a reader wants: `Accept` (RFC 9110, section 12.5.1).

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

use super::headers::unquoted_split;
use crate::telemetry::exposition::Format;

/// The format that is liked best; at a tie `OpenMetrics`, if it was named. What cannot be served,
/// or is not understood, gets the text format: a scrape that fails tells nobody anything.
pub(super) fn metrics_format(headers: &HeaderMap) -> Format {
    let (mut open, mut text) = (0, 0);
    let values = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
    for range in values.flat_map(|v| unquoted_split(v, ',')) {
        let mut parts = unquoted_split(range, ';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut version) = (1_000, None);
        // Others are no reason to refuse: `charset`, and the `escaping` of names, of which none
        // here needs any.
        for (name, value) in parts.filter_map(|p| p.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = thousandths(value).unwrap_or(0),
                "version" => version = Some(value),
                _ => {}
            }
        }
        match media_type.as_str() {
            "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => {
                open = open.max(quality);
            }
            "text/plain" | "text/*" | "*/*" => text = text.max(quality),
            _ => {}
        }
    }
    if open > 0 && open >= text { Format::OpenMetrics } else { Format::Text }
}

/// A `qvalue`: 0 to 1 with at most three decimals.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let parts = format!("{decimals:0<3}").parse::<u32>().ok()?;
    match whole {
        "0" => Some(parts),
        "1" if parts == 0 => Some(1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn wanted(accept: &[&str]) -> Format {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, HeaderValue::from_str(value).unwrap());
        }
        metrics_format(&headers)
    }

    #[test]
    fn prometheus_gets_what_it_likes_best() {
        // As 2.42 and 3.5 send it.
        for accept in [
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
             q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
             escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        ] {
            assert_eq!(wanted(&[accept]), Format::OpenMetrics, "{accept}");
        }
    }

    #[test]
    fn text_is_for_everybody_else() {
        for accept in [
            &[][..],
            &[""],
            &["*/*"],
            &["text/html, application/xhtml+xml, */*;q=0.8"],
            &["application/json"],
            &["application/openmetrics-text;version=0.0.1"],
            &["application/openmetrics-text;q=0"],
            &["application/openmetrics-text;q=0.5, text/plain"],
            &["application/openmetrics-text;q=nonsense"],
            &["application/openmetrics-text;q=2"],
            &[";;,,=;q"],
        ] {
            assert_eq!(wanted(accept), Format::Text, "{accept:?}");
        }
    }

    #[test]
    fn open_metrics_is_for_who_names_it() {
        for accept in [
            &["application/openmetrics-text"][..],
            &["Application/OpenMetrics-Text ; Version=\"1.0.0\" ; Q=1.000, text/plain"],
            &["text/plain;q=0.3", "application/openmetrics-text;q=0.31"],
        ] {
            assert_eq!(wanted(accept), Format::OpenMetrics, "{accept:?}");
        }
    }
}
