//! `docs/CONFIG.md` and `punctual.example.toml`, made from the table of keys.

use std::fmt::Write as _;

use super::Config;
use super::hint::variable;
use super::keys::{AUTH, JOBS, Key, QUEUE_ONLY, QUEUES, SECTIONS, Section, Target, WATCHDOG};
use super::tokens;
use super::value::{Kind, quote};

/// Shown in the documentation with the errors that it really gives.
const BROKEN: &str = "\
[server]
listen = \"0.0.0.0:8080\"

[jobs]
leese = \"30s\"
max_attempts = 500
timeout = 60
";

/// After this section comes what a queue inherits from it and those before, and may override.
const INHERITED_LAST: &str = WATCHDOG;

pub(super) const QUEUE_EXAMPLE: &str = "\
[queues.reports]
lease = \"5m\"
backoff.max = \"1h\"        # the rest of backoff as in [jobs]
stuck_after = \"30m\"       # they may wait so long
max_running = 50          # at a time, over all workers
max_depth = 10000         # more are refused with 503
start_rate_per_second = 10.0
require_idempotency_key = true

[queues.\"eu.mail\"]       # a name with a dot needs quotes
max_attempts = 20
";

pub(super) fn markdown() -> String {
    // Writing to a String cannot fail.
    let mut out = String::new();
    out.push_str(
        "<!-- Made from src/config/keys.rs; to change it: UPDATE=1 cargo test --test generated -->\n\
         \n\
         # Configuration\n\
         \n\
         Punctual runs without any configuration: jobs are kept in `./punctual.db` and HTTP is \
         served on\n`127.0.0.1:8080`. To change that, write a `punctual.toml` \
         ([punctual.example.toml](../punctual.example.toml)\nhas every key with its default), \
         set environment variables, or both.\n\
         \n\
         - The file is the one named with `--config`, which must exist; else `punctual.toml` in \
         the working directory, if it exists.\n\
         - What is set nearer to the command wins: flags, then environment variables, then the \
         file, then the defaults below.\n\
         - Durations are strings: `\"250ms\"`, `\"30s\"`, `\"1h 30m\"`, `\"7d\"`; milliseconds \
         are the finest.\n\
         - Sizes are bytes, `65536`, or strings with a unit: `\"64KB\"`, `\"256MB\"`, \
         `\"2GB\"`, `\"1TB\"` (1000 each), `\"64KiB\"`,\n  `\"256MiB\"`, `\"2GiB\"`, \
         `\"1TiB\"` (1024 each), or `\"65536B\"`. That holds for every key with a size.\n\
         - `punctual check-config FILE` says everything that is wrong with a file, or prints \
         what would be in force.\n\
         \n\
         Sections: ",
    );
    let mut names: Vec<_> = SECTIONS.iter().map(|section| section.name).collect();
    let after = names.iter().position(|name| *name == INHERITED_LAST).map_or(0, |at| at + 1);
    names.insert(after, "queues.NAME");
    let links: Vec<_> = names
        .iter()
        .map(|name| format!("[{name}](#{})", name.replace('.', "").to_lowercase()))
        .collect();
    let _ = writeln!(out, "{}, [environment variables](#environment-variables),", links.join(", "));
    out.push_str("[errors](#errors).\n");
    for section in SECTIONS {
        section_table(&mut out, section);
        if section.name == AUTH {
            token_section(&mut out);
        }
        if section.name == INHERITED_LAST {
            queue_section(&mut out);
        }
    }
    environment_section(&mut out);
    errors_section(&mut out);
    out
}

fn section_table(out: &mut String, section: &Section) {
    let _ = writeln!(out, "\n## `[{}]`\n\n{}\n", section.name, section.doc);
    head(out);
    for key in section.keys {
        let mark = if key.per_queue { " *Per queue.*" } else { "" };
        row(out, key, &format!("`{}`", default(key)), mark);
    }
}

fn head(out: &mut String) {
    let _ = writeln!(out, "| key | default | range | what it does |\n|---|---|---|---|");
}

fn row(out: &mut String, key: &Key, default: &str, mark: &str) {
    let (range, doc) = (cell(&key.kind.range()), cell(key.doc));
    let _ = writeln!(out, "| `{}` | {default} | {range} | {doc}{mark} |", key.name);
}

fn queue_section(out: &mut String) {
    let own = |key: &&Key| QUEUE_ONLY.iter().any(|only| only.name == key.name);
    let inherited = Target::Queue("").keys().filter(|key| !own(key));
    let names: Vec<_> = inherited.map(|key| format!("`{}`", key.name)).collect();
    let _ = writeln!(
        out,
        "\n## `[{QUEUES}.NAME]`\n\n\
         Keys of one queue. What a section leaves out is taken from `[{JOBS}]` and `[{WATCHDOG}]`, \
         key by key, so a queue\nmay change one part of a group alone. A queue needs no section \
         to be used. Names are 1 to 128 characters of\n`a-z 0-9 . _ : -`, the first a letter or \
         digit.\n\n\
         Keys that it inherits: {}.\n\nKeys that only queues have:\n",
        names.join(", "),
    );
    head(out);
    for key in QUEUE_ONLY {
        row(out, key, "unset", "");
    }
    let _ = writeln!(out, "\n```toml\n{QUEUE_EXAMPLE}```");
}

fn token_section(out: &mut String) {
    let _ = writeln!(
        out,
        "\nTokens are tables in the file, one for each; environment variables cannot set them. \
         `punctual token` makes\none. SIGHUP rereads them: see \
         [OPERATIONS.md](OPERATIONS.md#tokens).\n\n```toml\n{}```\n\n\
         Keys of `[[auth.tokens]]`:\n",
        tokens::EXAMPLE
    );
    head(out);
    for key in tokens::KEYS {
        let default =
            if key.default.is_empty() { "unset".to_owned() } else { format!("`{}`", default(key)) };
        row(out, key, &default, "");
    }
}

fn environment_section(out: &mut String) {
    let names = ["server.listen", "jobs.backoff.initial", "queues.reports.lease"];
    let _ = writeln!(
        out,
        "\n## Environment variables\n\n\
         Every key has a variable: `PUNCTUAL_`, then the section and the key in upper case, with \
         two underscores for\neach dot. It wins over the file.\n\n\
         | key | variable |\n|---|---|"
    );
    for name in names {
        let _ = writeln!(out, "| `{name}` | `{}` |", variable(name));
    }
    out.push_str(
        "\n\
         - Only names that begin with `PUNCTUAL_` and hold a double underscore are configuration; \
         an unknown one is an error, like an unknown key.\n\
         - Values are written without quotes: `PUNCTUAL_JOBS__LEASE=1m`. Lists are separated by \
         commas.\n\
         - A group is set key by key: `PUNCTUAL_JOBS__RETENTION__FAILED=30d`.\n\
         - Names are taken in lower case. A queue's name with `.`, `:` or `-` in it can be set \
         where the system allows such variable names; shells mostly do not, so use the file.\n",
    );
}

fn errors_section(out: &mut String) {
    let errors = Config::from_toml(BROKEN).err().map(|e| e.to_string()).unwrap_or_default();
    let _ = writeln!(
        out,
        "\n## Errors\n\n\
         A configuration is refused whole, and everything that is wrong with it is said at once, \
         with the place, the\nkey and the next step. This file\n\n```toml\n{BROKEN}```\n\n\
         is answered with exit code 2 and\n\n```text\n{errors}\n```"
    );
}

pub(super) fn sample() -> String {
    let mut out = String::from(
        "# Every key of Punctual with its default. An empty file works the same: keep only the \
         lines that you change.\n\
         # Durations: \"250ms\", \"30s\", \"1h 30m\", \"7d\". Sizes: bytes, or \"64KiB\", \
         \"256MB\", \"2GB\". Details: docs/CONFIG.md\n\
         # Check a file with: punctual check-config FILE\n",
    );
    for section in SECTIONS {
        let _ = writeln!(out);
        comment(&mut out, section.doc);
        let _ = writeln!(out, "[{}]", section.name);
        for key in section.keys {
            let _ = writeln!(out);
            comment(&mut out, key.doc);
            let mark = if key.per_queue { " Per queue too." } else { "" };
            comment(&mut out, &format!("Allowed: {}.{mark}", key.kind.range()));
            let _ = writeln!(out, "{} = {}", key.name, default(key));
        }
        if section.name == AUTH {
            let _ = writeln!(out);
            comment(&mut out, "Each token is a table; `punctual token` makes one. Its keys:");
            for key in tokens::KEYS {
                comment(&mut out, &format!("{}: {}", key.name, key.doc));
            }
            for line in tokens::EXAMPLE.lines() {
                let _ = writeln!(out, "# {line}");
            }
        }
        if section.name == INHERITED_LAST {
            let _ = writeln!(out);
            comment(
                &mut out,
                "A queue may have its own value for each key marked \"per queue too\", and further:",
            );
            for key in QUEUE_ONLY {
                comment(&mut out, &format!("{}: {}", key.name, key.doc));
                comment(&mut out, &format!("Allowed: {}.", key.kind.range()));
            }
            for line in QUEUE_EXAMPLE.lines() {
                let _ = writeln!(out, "{}", format!("# {line}").trim_end());
            }
        }
    }
    out
}

/// As TOML.
fn default(key: &Key) -> String {
    if matches!(key.kind, Kind::Size { .. }) && key.default.parse::<u64>().is_err() {
        // With its unit, as it is said best.
        return quote(key.default);
    }
    key.kind.read_text(key.default).map_or_else(|_| key.default.to_owned(), |v| v.to_string())
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// Comment lines of at most 100 characters.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.replace(['`', '*'], "").split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > 100 {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}
