//! The contract from outside: every numbered rule of `docs/CONTRACT.md` has a check here, and every
//! check has a rule. A server as a process, bare sockets, workers of the test's own.
//!
//! `PUNCTUAL_TEST_STORE` names the store, with `{}` where each server of the suite puts a word of
//! its own; without it each has a new file. Some checks hold up a file or put it back: where the
//! store is none they are skipped, and the report says so.

#![allow(unreachable_pub, dead_code, reason = "a test binary exports nothing, and shares helpers")]
#![allow(clippy::needless_pass_by_value, reason = "bodies are made where they are sent")]

#[path = "support/answer.rs"]
mod answer;
#[path = "support/described.rs"]
mod described;
#[path = "support/server.rs"]
mod server;

#[path = "api/jobs.rs"]
mod jobs;

#[path = "contract/book.rs"]
mod book;
#[path = "contract/kit.rs"]
mod kit;

#[path = "contract/advice.rs"]
mod advice;
#[path = "contract/again.rs"]
mod again;
#[path = "contract/backpressure.rs"]
mod backpressure;
#[path = "contract/bounds.rs"]
mod bounds;
#[path = "contract/conventions.rs"]
mod conventions;
#[path = "contract/description.rs"]
mod description;
#[path = "contract/endings.rs"]
mod endings;
#[path = "contract/estimates.rs"]
mod estimates;
#[path = "contract/filters.rs"]
mod filters;
#[path = "contract/guarded.rs"]
mod guarded;
#[path = "contract/hidden.rs"]
mod hidden;
#[path = "contract/idempotency.rs"]
mod idempotency;
#[path = "contract/kept_out.rs"]
mod kept_out;
#[path = "contract/life.rs"]
mod life;
#[path = "contract/namespaces.rs"]
mod namespaces;
#[path = "contract/operations.rs"]
mod operations;
#[path = "contract/outages.rs"]
mod outages;
#[path = "contract/reasons.rs"]
mod reasons;
#[path = "contract/retries.rs"]
mod retries;
#[path = "contract/settings.rs"]
mod settings;
#[path = "contract/status.rs"]
mod status;
#[path = "contract/submission.rs"]
mod submission;
#[path = "contract/tokens.rs"]
mod tokens;
#[path = "contract/wire.rs"]
mod wire;
#[path = "contract/workers.rs"]
mod workers;

use book::Book;

#[test]
fn every_rule_is_kept() {
    let mut book = Book::default();
    // These wait the longest, so they begin first.
    outages::checks(&mut book);
    submission::checks(&mut book);
    idempotency::checks(&mut book);
    status::checks(&mut book);
    life::checks(&mut book);
    endings::checks(&mut book);
    backpressure::checks(&mut book);
    conventions::checks(&mut book);
    workers::checks(&mut book);
    operations::checks(&mut book);
    tokens::checks(&mut book);
    namespaces::checks(&mut book);
    retries::checks(&mut book);
    settings::checks(&mut book);
    estimates::checks(&mut book);
    description::checks(&mut book);
    kept_out::checks(&mut book);
    filters::checks(&mut book);
    reasons::checks(&mut book);
    hidden::checks(&mut book);
    wire::checks(&mut book);
    bounds::checks(&mut book);
    advice::checks(&mut book);
    again::checks(&mut book);
    book.run(include_str!("../docs/CONTRACT.md"));
}
