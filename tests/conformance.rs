//! What every store must do, driven through `trait Store` alone; see `support/stores.rs` for how
//! to hold a further store against it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "support/oracle.rs"]
mod oracle;
#[path = "support/stores.rs"]
mod stores;

#[path = "conformance/claims.rs"]
mod claims;
#[path = "conformance/depth.rs"]
mod depth;
#[path = "conformance/estimates.rs"]
mod estimates;
#[path = "conformance/every_pair.rs"]
mod every_pair;
#[path = "conformance/lists.rs"]
mod lists;
#[path = "conformance/maintenance.rs"]
mod maintenance;
#[path = "conformance/names.rs"]
mod names;
#[path = "conformance/namespaces.rs"]
mod namespaces;
#[path = "conformance/ours.rs"]
mod ours;
#[path = "conformance/overrides.rs"]
mod overrides;
#[path = "conformance/pace.rs"]
mod pace;
#[path = "conformance/queues.rs"]
mod queues;
#[path = "conformance/restart.rs"]
mod restart;
#[path = "conformance/retention.rs"]
mod retention;
#[path = "conformance/retry.rs"]
mod retry;
#[path = "conformance/sequences.rs"]
mod sequences;
#[path = "conformance/settle.rs"]
mod settle;
#[path = "conformance/submit.rs"]
mod submit;
#[path = "conformance/traces.rs"]
mod traces;
#[path = "conformance/watch.rs"]
mod watch;
