//! The product as its users hold it: every command and every example against a live server.
//!
//! Commands run as processes, in a directory of their own, and are judged by what a person or a
//! script sees of them: exit code, stdout, stderr, and what the server says afterwards.

#[path = "support/server.rs"]
mod server;

#[path = "hands/bench.rs"]
mod bench;
#[path = "hands/bulk.rs"]
mod bulk;
#[path = "hands/config.rs"]
mod config;
#[path = "hands/demo.rs"]
mod demo;
#[path = "hands/examples.rs"]
mod examples;
#[path = "hands/explain.rs"]
mod explain;
#[path = "hands/help.rs"]
mod help;
#[path = "hands/jobs.rs"]
mod jobs;
#[path = "hands/library.rs"]
mod library;
#[path = "hands/metrics.rs"]
mod metrics;
#[path = "hands/place.rs"]
mod place;
#[path = "hands/python.rs"]
mod python;
#[path = "hands/queues.rs"]
mod queues;
#[path = "hands/submit.rs"]
mod submit;
#[path = "hands/token.rs"]
mod token;
#[path = "hands/work.rs"]
mod work;
#[path = "hands/work_forward.rs"]
mod work_forward;
#[path = "hands/work_outages.rs"]
mod work_outages;
