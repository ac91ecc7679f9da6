//! What a job *is*, with no I/O, no async and no clock of its own.
//!
//! This module owns the vocabulary (job, queue, kind, lease, attempt, fence, settle, eligible)
//! and the one table of truth: [`state::apply`], a pure and total function from
//! (job, event, now) to the next job or a typed refusal. Every store is checked against it, and
//! every status code that a refusal becomes is chosen from it.
//!
//! Invariants kept here and nowhere else:
//! - a terminal job never changes again;
//! - `version` strictly increases with every change, `fence` with every lease;
//! - a write on leased work succeeds only with the token of the lease that is held now;
//! - time and randomness are arguments.
//!
//! It must not know: stores, HTTP, metrics, configuration files.

pub mod access;
pub mod bucket;
pub mod cursor;
pub mod defaults;
pub mod directive;
pub mod estimate;
pub mod id;
pub mod job;
pub mod lease;
pub mod names;
pub mod overrides;
pub mod rerun;
pub mod retry;
pub mod state;
pub mod time;
pub mod trace;
pub mod watch;
