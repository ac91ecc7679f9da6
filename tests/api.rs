//! The API from outside: a server as a process, real sockets, and every promise of `docs/API.md`.

#[path = "support/server.rs"]
mod server;

#[path = "api/kit.rs"]
mod kit;
#[path = "api/jobs.rs"]
mod jobs;
#[path = "api/wire.rs"]
mod wire;

#[path = "api/idempotency.rs"]
mod idempotency;
#[path = "api/submit.rs"]
mod submit;
