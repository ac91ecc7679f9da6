//! The binary: parse, run, exit code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use punctual::cli::{Cli, run};

fn main() -> ExitCode {
    run(Cli::parse())
}
