//! Traces, as a collector gets them: a real server that sends OTLP to a receiver of the test's own.
//!
//! Spans are read from the wire, so that names, kinds, parents, links, attributes and the resource
//! are what any collector would see; and whatever the collector does, every span is accounted for
//! and nobody who submits or works notices.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "support/answer.rs"]
#[allow(dead_code, reason = "more than is needed here")]
mod answer;
#[path = "support/described.rs"]
mod described;
#[path = "api/jobs.rs"]
#[allow(dead_code, reason = "more than is needed here")]
mod jobs;
#[path = "api/kit.rs"]
#[allow(dead_code, reason = "more than is needed here")]
mod kit;
#[path = "support/server.rs"]
mod server;

#[path = "faults/daemon.rs"]
#[allow(dead_code, reason = "more than is needed here")]
mod daemon;

#[path = "traces/chain.rs"]
mod chain;
#[path = "traces/collector.rs"]
mod collector;
#[path = "traces/endings.rs"]
mod endings;
#[path = "traces/exemplars.rs"]
mod exemplars;
#[path = "traces/outages.rs"]
mod outages;
#[path = "traces/sampling.rs"]
mod sampling;
#[path = "traces/scene.rs"]
mod scene;
#[path = "traces/secured.rs"]
mod secured;
#[path = "traces/surface.rs"]
mod surface;
#[path = "traces/whole.rs"]
mod whole;
