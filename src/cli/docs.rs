//! The help of every command as one document.

use std::fmt::Write as _;

use clap::{Command, CommandFactory as _};

use super::Cli;

/// `docs/CLI.md`.
pub fn markdown() -> String {
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut out = String::from(
        "# Command line\n\n\
         Made from the code by `UPDATE=1 cargo test --test generated`; `punctual … --help` says the \
         same. Settings of the server, which are not flags, are in [CONFIG.md](CONFIG.md).\n",
    );
    add(&root, &mut out);
    out
}

fn add(command: &Command, out: &mut String) {
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let help = command.clone().term_width(100).render_long_help().to_string();
    // Help is wrapped with blanks at the ends of some lines.
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    // Writing to a String cannot fail.
    let _ = write!(out, "\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    for sub in command.get_subcommands() {
        add(sub, out);
    }
}
