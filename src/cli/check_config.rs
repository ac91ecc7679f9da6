//! `punctual check-config`: what would be in force, or everything that is wrong.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::config::{self, Config, ConfigErrors};

/// Refused, as for wrong usage.
const REFUSED: u8 = 2;

/// Checks `path` (else `punctual.toml` if it exists, else the defaults) with the environment.
///
/// Prints `ok: …` and the effective configuration as TOML to stdout, or one line for each error
/// to stderr and exits 2. With `json`, one object on stdout in both cases:
/// `{ok, file, hash, errors: [{file, line, key, variable, message}]}`.
pub fn run(path: Option<&Path>, json: bool) -> ExitCode {
    let result = Config::load(path, config::environment());
    // A reader that has gone away is no error of the configuration.
    let code = report(&result, json, &mut io::stdout().lock(), &mut io::stderr().lock());
    ExitCode::from(code.unwrap_or(0))
}

fn report(
    result: &Result<Config, ConfigErrors>,
    json: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    let code = if result.is_ok() { 0 } else { REFUSED };
    // Output that cannot be written must not turn a refusal into a success.
    let written = match result {
        _ if json => writeln!(out, "{}", as_json(result)),
        Ok(config) => {
            let from = config.file.as_ref().map_or_else(
                || "the defaults and the environment (no file)".to_owned(),
                |file| file.display().to_string(),
            );
            writeln!(out, "ok: {from}, hash {}\n", config.hash())
                .and_then(|()| write!(out, "{}", config.describe()))
        }
        Err(errors) => writeln!(err, "{errors}"),
    };
    if code == 0 { written.map(|()| code) } else { Ok(code) }
}

fn as_json(result: &Result<Config, ConfigErrors>) -> Value {
    match result {
        Ok(config) => json!({
            "ok": true,
            "file": config.file.as_ref().map(|file| file.display().to_string()),
            "hash": config.hash(),
            "errors": [],
        }),
        Err(errors) => {
            let list: Vec<_> = errors
                .errors()
                .iter()
                .map(|error| {
                    json!({
                        "file": error.file().map(|file| file.display().to_string()),
                        "line": error.line(),
                        "key": error.key,
                        "variable": error.variable(),
                        "message": error.message,
                    })
                })
                .collect();
            json!({
                "ok": false,
                "file": errors.file().map(|file| file.display().to_string()),
                "hash": null,
                "errors": list,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str, json: bool) -> (u8, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = report(&Config::from_toml(text), json, &mut out, &mut err).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn good_configuration() {
        let (code, out, err) = printed("[jobs]\nlease = \"1m\"", false);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.starts_with("ok: ") && out.contains("\nlease = \"1m\"\n"), "{out}");
        let (_, out, _) = printed("", true);
        let value: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["ok"], true);
        assert_eq!(value["hash"].as_str().unwrap().len(), 16);
    }

    #[test]
    fn bad_configuration_is_a_line_for_each_error() {
        let bad = "[jobs]\nlease = \"2h\"\nleese = 1\n";
        let (code, out, err) = printed(bad, false);
        assert_eq!((code, out.as_str()), (2, ""));
        assert_eq!(err.lines().count(), 2, "{err}");
        let (code, out, err) = printed(bad, true);
        assert_eq!((code, err.as_str()), (2, ""));
        let value: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["ok"], false);
        assert_eq!(value["errors"][0]["line"], 2);
        assert_eq!(value["errors"][0]["key"], "jobs.lease");
        assert_eq!(value["errors"].as_array().unwrap().len(), 2);
    }
}
