//! The binary: parse, run, exit code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use punctual::cli::{Cli, run};

/// Requests allocate on one thread and free on another: glibc's allocator spends a tenth of the
/// server's time on that, this one hardly any.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    run(Cli::parse())
}
