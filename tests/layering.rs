//! Who may import whom. The layers are the architecture; this keeps them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The first path segments after `crate::` that a layer's files may name, itself included.
fn rules() -> BTreeMap<&'static str, Vec<&'static str>> {
    BTreeMap::from([
        ("domain", vec!["domain"]),
        ("wire", vec!["wire", "domain"]),
        ("store", vec!["store", "domain"]),
        ("telemetry", vec!["telemetry", "domain"]),
        ("engine", vec!["engine", "store", "domain", "telemetry"]),
        ("http", vec!["http", "engine", "domain", "telemetry", "wire"]),
        ("config", vec!["config", "domain"]),
        ("client", vec!["client", "wire", "domain"]),
        ("worker", vec!["worker", "client", "wire", "domain"]),
    ])
}

/// Words that a layer's code must not contain at all.
const BANNED: &[(&str, &[&str])] = &[
    ("domain", &["rusqlite", "axum", "tokio", "hyper", "prometheus", "opentelemetry", "async fn"]),
    (
        "engine",
        &["opentelemetry", "rusqlite", "axum", "hyper", "SELECT ", "store::sqlite", "reqwest"],
    ),
    ("http", &["opentelemetry", "rusqlite", "crate::store"]),
    ("store", &["opentelemetry", "axum", "hyper", "prometheus"]),
    ("telemetry", &["rusqlite", "axum"]),
    ("client", &["axum", "rusqlite"]),
    ("worker", &["axum", "rusqlite"]),
];

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src can be read") {
        let path = entry.expect("an entry of src").path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name == "tests" || name.ends_with("_tests") {
            continue;
        }
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The code without its comments and, roughly, its tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn layer(src: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(src).expect("below src");
    let first = inside.components().next().expect("a name").as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn named(code: &str) -> Vec<String> {
    let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    code.split("crate::").skip(1).map(word).filter(|w: &String| !w.is_empty()).collect()
}

#[test]
fn layers_import_only_what_they_may() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 20, "the walk found the sources");
    let rules = rules();
    let mut broken = Vec::new();
    for path in files {
        let layer = layer(&src, &path);
        let code = code(&path);
        let shown = path.strip_prefix(&src).expect("below src").display().to_string();
        if let Some(allowed) = rules.get(layer.as_str()) {
            for name in named(&code) {
                if !allowed.contains(&name.as_str()) {
                    broken.push(format!("{shown}: `crate::{name}` is not for {layer}"));
                }
            }
        }
        for word in BANNED.iter().filter(|(l, _)| *l == layer).flat_map(|(_, words)| *words) {
            if code.contains(word) {
                broken.push(format!("{shown}: `{word}` is not for {layer}"));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn the_engine_emits_only_through_events_and_spans() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for path in files {
        for line in code(&path).lines().filter(|l| l.contains("crate::telemetry::")) {
            assert!(
                ["events", "exemplars", "exposition", "labels", "spans"]
                    .iter()
                    .any(|known| line.contains(&format!("telemetry::{known}"))),
                "{}: {line}",
                path.display()
            );
        }
    }
}
