//! The API from outside: a server as a process, real sockets, and every promise of `docs/API.md`.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]
#![allow(clippy::similar_names, reason = "a reply and a replay, held and head: plain words")]

#[path = "support/answer.rs"]
mod answer;
#[path = "support/described.rs"]
mod described;
#[path = "support/server.rs"]
mod server;

#[path = "api/jobs.rs"]
mod jobs;
#[path = "api/kit.rs"]
mod kit;
#[path = "api/wire.rs"]
mod wire;

#[path = "api/advice.rs"]
mod advice;
#[path = "api/auth.rs"]
mod auth;
#[path = "api/canary.rs"]
mod canary;
#[path = "api/claims.rs"]
mod claims;
#[path = "api/connections.rs"]
mod connections;
#[path = "api/crossings.rs"]
mod crossings;
#[path = "api/crowding.rs"]
mod crowding;
#[path = "api/description.rs"]
mod description;
#[path = "api/endings.rs"]
mod endings;
#[path = "api/every_answer.rs"]
mod every_answer;
#[path = "api/flood.rs"]
mod flood;
#[path = "api/idempotency.rs"]
mod idempotency;
#[path = "api/kinds.rs"]
mod kinds;
#[path = "api/leases.rs"]
mod leases;
#[path = "api/lifecycle.rs"]
mod lifecycle;
#[path = "api/limits.rs"]
mod limits;
#[path = "api/listeners.rs"]
mod listeners;
#[path = "api/numbers.rs"]
mod numbers;
#[path = "api/operators.rs"]
mod operators;
#[path = "api/pages.rs"]
mod pages;
#[path = "api/retry.rs"]
mod retry;
#[path = "api/revoked.rs"]
mod revoked;
#[path = "api/settings.rs"]
mod settings;
#[path = "api/status.rs"]
mod status;
#[path = "api/submit.rs"]
mod submit;
#[path = "api/trouble.rs"]
mod trouble;
#[path = "api/watch.rs"]
mod watch;
#[path = "api/wrong.rs"]
mod wrong;
