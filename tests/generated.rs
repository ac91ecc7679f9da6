//! Files that are made from the code, committed, and compared here. `UPDATE=1` rewrites them.

use std::path::Path;

use punctual::config::Config;

/// Compares a file below the project's root with `text`; with `UPDATE=1` writes it instead.
fn check(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE").is_some_and(|update| update == "1") {
        let folder = path.parent().expect("a file is in a folder");
        std::fs::create_dir_all(folder).expect("the folder can be made");
        std::fs::write(&path, text).expect("the file can be written");
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    // The first difference, for a whole file twice is no help.
    let lines = committed.lines().zip(text.lines());
    let same = lines.clone().take_while(|(old, new)| old == new).count();
    assert!(
        committed == text,
        "{file} is not what the code makes, from line {}:\n  file: {:?}\n  code: {:?}\n\
         run: UPDATE=1 cargo test --test generated",
        same + 1,
        committed.lines().nth(same),
        text.lines().nth(same),
    );
}

#[test]
fn configuration() {
    check("docs/CONFIG.md", &Config::docs_markdown());
}

#[test]
fn sample_configuration() {
    check("punctual.example.toml", &Config::sample_toml());
}

#[test]
fn metrics() {
    check("docs/METRICS.md", &punctual::telemetry::catalogue::docs_markdown());
}

#[test]
fn metrics_for_programs() {
    check("docs/metrics.json", &punctual::telemetry::catalogue::docs_json());
}

#[test]
fn openapi() {
    check("docs/openapi.json", punctual::http::openapi_json());
}

#[test]
fn command_line() {
    check("docs/CLI.md", &punctual::cli::docs::markdown());
}
