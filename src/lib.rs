//! Punctual: an observability-first job server.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod domain;
pub mod store;
pub mod telemetry;
pub mod wire;
