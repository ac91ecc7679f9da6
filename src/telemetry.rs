//! What the server says about itself: metrics, traces and logs.
//!
//! Owns the metric catalogue ([`catalogue`]), the only place where events become numbers
//! ([`events`]), the closed sets of label values ([`labels`]), what a scrape reads
//! ([`exposition`]) with the traces that it leads to ([`exemplars`]), the set-up of logs
//! ([`logging`]), and the only place where events become spans ([`spans`]).
//!
//! Invariants:
//! - a metric is declared once, in the catalogue; instruments, documentation and tests follow
//!   from the declaration, and no metric is created outside this module;
//! - every app instance has a registry of its own, never the process-wide one;
//! - a scrape reads memory and never the store: facts about the store come from the sampler's
//!   latest snapshot, and are withheld, not repeated, once that is stale;
//! - every label value comes from a closed set, or from one with a cap; series exist at zero
//!   before they count;
//! - counters take only unsigned amounts.
//!
//! It must not know: stores, the engine, HTTP, configuration files. It may use the domain's words.

pub mod catalogue;
pub mod events;
pub mod exemplars;
pub mod exposition;
mod families;
mod instruments;
pub mod labels;
pub mod logging;
#[cfg(target_os = "linux")]
mod process;
mod sample;
mod slots;
pub mod spans;
