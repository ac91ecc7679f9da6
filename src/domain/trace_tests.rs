use proptest::prelude::*;

use super::*;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn written(text: &str) -> Option<String> {
    TraceContext::parse(text).map(|c| c.to_string())
}

#[test]
fn the_standard_s_example() {
    let context = TraceContext::parse(PARENT).unwrap();
    assert!(context.sampled());
    assert_eq!(context.to_string(), PARENT);
    assert_eq!(context.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(written(&format!(" {PARENT}\t")).as_deref(), Some(PARENT));
}

#[test]
fn later_versions_are_read_by_what_they_start_with() {
    for later in [format!("01{}", &PARENT[2..]), format!("cc{}-what-ever", &PARENT[2..])] {
        assert_eq!(written(&later).as_deref(), Some(PARENT), "{later}");
    }
    assert_eq!(written(&format!("01{}x", &PARENT[2..])), None);
}

#[test]
fn unknown_flags_are_not_handed_on() {
    let flagged = |flags: &str| written(&PARENT.replace("-01", flags));
    assert!(flagged("-ff").unwrap().ends_with("-03"));
    assert!(flagged("-08").unwrap().ends_with("-00"));
}

#[test]
fn what_is_not_valid_is_no_context() {
    for bad in [
        "",
        "00",
        &PARENT[..54],
        &format!("{PARENT}-extra"),
        &format!("{PARENT}-"),
        &PARENT.to_uppercase(),
        &format!("ff{}", &PARENT[2..]),
        &PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
        &PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
        &PARENT.replace("-01", "-zz"),
        &PARENT.replace("-01", "-1"),
        &PARENT.replace('-', "_"),
        &PARENT.replace("4b", "é"),
    ] {
        assert_eq!(written(bad), None, "{bad}");
    }
}

#[test]
fn states_are_kept_whole_or_not_at_all() {
    assert_eq!(tracestate("a=1, b=2 ,,\tc@d/e=x y").as_deref(), Some("a=1,b=2,c@d/e=x y"));
    for bad in ["", " , ", "a", "=1", "A=1", "a=1,a=2", "a=\u{7f}", "a=b=c", "é=1", "a="] {
        assert_eq!(tracestate(bad), None, "{bad}");
    }
    let many = |n: usize| (0..n).map(|i| format!("k{i}=1")).collect::<Vec<_>>().join(",");
    assert!(tracestate(&many(32)).is_some() && tracestate(&many(33)).is_none());
    assert!(tracestate(&format!("a={},b={}", "x".repeat(255), "y".repeat(255))).is_none());
}

fn contexts() -> impl Strategy<Value = TraceContext> {
    let ids = ("[0-9a-f]{31}[1-9a-f]", "[0-9a-f]{15}[1-9a-f]", any::<bool>());
    ids.prop_map(|(trace, span, sampled)| {
        let ids = (TraceId::parse(&trace).unwrap(), SpanId::parse(&span).unwrap());
        TraceContext::new(ids.0, ids.1, sampled)
    })
}

fn attempts() -> impl Strategy<Value = AttemptTrace> {
    let links = (
        proptest::option::of(contexts()),
        proptest::option::of(contexts()),
        proptest::option::of(contexts()),
    );
    let rest = (any::<i64>(), proptest::option::of("[a-z_]{1,30}"), any::<bool>());
    (contexts(), contexts(), links, rest).prop_map(|(a, b, links, rest)| AttemptTrace {
        trace: a.trace,
        attempt: a.span,
        process: b.span,
        sampled: a.sampled(),
        child: rest.2,
        creation: links.0,
        previous: links.1,
        claim: links.2,
        eligible_since: Timestamp::from_millis(rest.0),
        verdict: rest.1,
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(context in contexts()) {
        let text = context.to_string();
        prop_assert_eq!(text.len(), 55);
        prop_assert_eq!(TraceContext::parse(&text), Some(context));
    }

    #[test]
    fn any_text_is_read_without_harm(text in ".{0,80}") {
        if let Some(context) = TraceContext::parse(&text) {
            prop_assert_eq!(TraceContext::parse(&context.to_string()), Some(context));
        }
        if let Some(state) = tracestate(&text) {
            prop_assert_eq!(tracestate(&state), Some(state));
        }
    }

    /// One character off, and it is read only if it still is a context.
    #[test]
    fn one_changed_character(at in 0usize..55, to in any::<char>()) {
        let changed: String =
            PARENT.chars().enumerate().map(|(i, c)| if i == at { to } else { c }).collect();
        let dashes = [2, 35, 52];
        let digit = to.is_ascii_digit() || ('a'..='f').contains(&to);
        let fits = if dashes.contains(&at) { to == '-' } else { digit };
        let ff = changed.starts_with("ff");
        prop_assert_eq!(TraceContext::parse(&changed).is_some(), fits && !ff, "{}", changed);
    }

    #[test]
    fn attempts_survive_a_store(attempt in attempts(), cut in 1usize..42) {
        let bytes = attempt.encode();
        prop_assert_eq!(AttemptTrace::decode(&bytes), Some(attempt));
        prop_assert_eq!(AttemptTrace::decode(&bytes[..cut]), None);
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = AttemptTrace::decode(&bytes);
    }
}
