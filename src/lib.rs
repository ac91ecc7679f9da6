//! Punctual: an observability-first job server.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod domain;
pub mod engine;
pub mod store;
pub mod telemetry;
pub mod wire;
pub mod client;
pub mod worker;
pub mod cli;
