//! Punctual: an observability-first job server.
//!
//! An API that queues work and answers 200 tells its client nothing. Punctual answers **202** with
//! a pointer and an honest estimate, keeps a status that cannot be misread, leases the work to
//! workers in any language over HTTP, and counts everything that happens where an operator can see
//! it.
//!
//! # Glossary
//!
//! One word for one thing, in the API, the code, the SQL, the metrics and the docs.
//!
//! | word | means |
//! |---|---|
//! | job | a piece of work that was accepted: a kind, a payload, and what became of it |
//! | queue | where jobs of any kind wait; workers claim from queues |
//! | kind | what sort of work it is; the worker's dispatch key |
//! | eligible | pending, and its moment has come: it may be claimed now |
//! | claim | a worker's request for jobs; may stay parked until there are some |
//! | lease | the right to run one attempt, until it is settled or taken back |
//! | lease token | the secret that proves a lease; presented with every write on leased work |
//! | token | what a caller shows: it has a name, scopes and a namespace, and only its hash is kept |
//! | fence | the lease's number: strictly increasing for each job |
//! | attempt | one run of a job under one lease |
//! | heartbeat | the holder's sign of life; extends the lease |
//! | settle | to end an attempt: complete, fail, release, or agree to a cancel |
//! | release | to give a job back; the attempt does not count |
//! | take back | what the reaper does with the lease of a silent or overdue worker |
//! | presence | that a worker exists and what it accepts, by its own calls |
//!
//! # Modules, and who may import whom
//!
//! ```text
//! main ─ cli ─┬─ server (composition root) ─┬─ http ─── engine ─┬─ store ── domain
//!             │                             ├─ config           └─ telemetry ─ domain
//!             └─ client, worker ── wire     └─ …
//! ```
//!
//! [`domain`] is pure and imports nothing of ours. [`store`] knows the domain. [`engine`] knows the
//! `Store` trait, the domain and `telemetry`'s events. [`http`] knows the engine and the [`wire`]
//! types. [`client`] and [`worker`] know the wire types only: they live on the other side of the
//! network. [`server`] wires everything together. `tests/layering.rs` keeps it so.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cli;
pub mod client;
pub mod config;
pub mod domain;
pub mod engine;
pub mod http;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod wire;
pub mod worker;
