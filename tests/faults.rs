//! Every alarm, rung: faults in real servers, seen by a real Prometheus, told by a real
//! Alertmanager to a receiver that the test holds.
//!
//! The faults of a round happen at the same time, each to a server of its own and told apart by the
//! label `job`. Each must raise exactly its alerts, with the right verdict, and they must end after
//! the cure. Beside them runs a healthy server with a busy life, of which nobody may hear anything.
//! [`choice`] says which faults run: `FULL=1` for all of them, `FAULTS` for some.
//!
//! The rules are the ones that are delivered, with every duration shortened in one place
//! ([`shorten`]); the servers' thresholds are shortened by their configuration. Nothing else
//! differs from a real installation.
//!
//! Nothing is slept for: every step awaits a condition, for as long as a slow machine may take.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "support/server.rs"]
mod server;

#[path = "traces/collector.rs"]
#[allow(dead_code, reason = "more than is needed here")]
mod collector;

#[path = "faults/alertmanager.rs"]
mod alertmanager;
#[path = "faults/budgets.rs"]
mod budgets;
#[path = "faults/capacity.rs"]
mod capacity;
#[path = "faults/case.rs"]
mod case;
#[path = "faults/choice.rs"]
mod choice;
#[path = "faults/clock.rs"]
mod clock;
#[path = "faults/daemon.rs"]
mod daemon;
#[path = "faults/down.rs"]
mod down;
#[path = "faults/drain.rs"]
mod drain;
#[path = "faults/expect.rs"]
mod expect;
#[path = "faults/failing.rs"]
mod failing;
#[path = "faults/flood.rs"]
mod flood;
#[path = "faults/host.rs"]
mod host;
#[path = "faults/lab.rs"]
mod lab;
#[path = "faults/late.rs"]
mod late;
#[path = "faults/limits.rs"]
mod limits;
#[path = "faults/names.rs"]
mod names;
#[path = "faults/poison.rs"]
mod poison;
#[path = "faults/prometheus.rs"]
mod prometheus;
#[path = "faults/reload.rs"]
mod reload;
#[path = "faults/shorten.rs"]
mod shorten;
#[path = "faults/soak.rs"]
mod soak;
#[path = "faults/starved.rs"]
mod starved;
#[path = "faults/storage.rs"]
mod storage;
#[path = "faults/table.rs"]
mod table;
#[path = "faults/tampered.rs"]
mod tampered;
#[path = "faults/tracing.rs"]
mod tracing;
#[path = "faults/watchers.rs"]
mod watchers;
#[path = "faults/webhook.rs"]
mod webhook;
#[path = "faults/workers.rs"]
mod workers;
#[path = "faults/workless.rs"]
mod workless;

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::case::{Fault, Outcome};
use crate::choice::Choice;
use crate::lab::Lab;

/// In the order of the table.
fn short() -> Vec<Fault> {
    vec![
        Fault::new("no worker", |case| Box::pin(workless::no_worker(case))),
        Fault::new("workers killed mid-job", |case| Box::pin(workless::killed(case))),
        Fault::new("workers hang, with heartbeats", |case| Box::pin(workless::hung(case))),
        Fault::new("too few workers", |case| Box::pin(capacity::too_few(case))),
        Fault::new("a limit of one job", |case| Box::pin(capacity::limited(case))),
        Fault::new("queue paused", |case| Box::pin(capacity::paused(case))),
        Fault::new("every job fails", |case| Box::pin(failing::every_job(case))),
        Fault::new("most attempts fail", |case| Box::pin(failing::most_attempts(case))),
        Fault::new("watchdog panics", |case| Box::pin(watchers::watchdog_panics(case))),
        Fault::new("watchdog hangs, no worker", |case| Box::pin(watchers::watchdog_hangs(case))),
        Fault::new("sampler hangs", |case| Box::pin(watchers::sampler_hangs(case))),
        Fault::new("scheduler hangs", |case| Box::pin(watchers::scheduler_hangs(case))),
        Fault::new("store locked", |case| Box::pin(storage::locked(case))),
        Fault::new("disk full", |case| Box::pin(storage::full(case))),
        Fault::new("hostile names", |case| Box::pin(names::hostile(case))),
        Fault::new("server killed", |case| Box::pin(down::killed(case))),
        Fault::new("healthy soak", |case| Box::pin(soak::healthy(case))),
    ]
}

/// Those of the long form, after them.
fn further() -> Vec<Fault> {
    vec![
        Fault::new("one poison job", |case| Box::pin(poison::job_that_kills(case))),
        Fault::new("retry storm", |case| Box::pin(failing::retry_storm(case))),
        Fault::new("priority starvation", |case| Box::pin(starved::by_priority(case))),
        Fault::new("a limit of one start a second", |case| Box::pin(limits::start_rate(case))),
        Fault::new("queue full", |case| Box::pin(limits::queue_full(case))),
        Fault::new("reports come late", |case| Box::pin(late::reports(case))),
        Fault::new("starts come late", |case| Box::pin(budgets::starts(case))),
        Fault::new("submissions unavailable", |case| Box::pin(budgets::submissions(case))),
        Fault::new("configuration refused", |case| Box::pin(reload::refused(case))),
        Fault::new("store slow", |case| Box::pin(storage::slow(case))),
        Fault::new("row deleted by hand", |case| Box::pin(tampered::row_deleted(case))),
        Fault::new("counter changed by hand", |case| Box::pin(tampered::counter_changed(case))),
        Fault::new("canary fails", |case| Box::pin(watchers::canary_fails(case))),
        Fault::new("sampler panics", |case| Box::pin(watchers::sampler_panics(case))),
        Fault::new("scheduler panics", |case| Box::pin(watchers::scheduler_panics(case))),
        Fault::new("reaper panics", |case| Box::pin(watchers::reaper_panics(case))),
        Fault::new("reaper hangs", |case| Box::pin(watchers::reaper_hangs(case))),
        Fault::new("crash loop", |case| Box::pin(down::again_and_again(case))),
        Fault::new("drain without end", |case| Box::pin(drain::without_end(case))),
        Fault::new("collector gone", |case| Box::pin(tracing::gone(case))),
        Fault::new("collector hangs", |case| Box::pin(tracing::hangs(case))),
        Fault::new("clock set by an hour", |case| Box::pin(clock::set_by_an_hour(case))),
        Fault::new("flood of status requests", |case| Box::pin(flood::of_status(case))),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn matrix() {
    let lab = Arc::new(Lab::start().await);
    let last = Fault::new("no target left", |case| Box::pin(down::nobody(case)));
    let Choice { rounds, last, extent } = Choice::made(short(), further(), last);
    let mut outcomes = Vec::new();
    for round in rounds {
        outcomes.extend(at_the_same_time(&lab, round).await);
    }
    // Without any target left everything else is silenced, so it comes when all is over.
    if let Some(last) = last {
        outcomes.push(last.run(&lab).await);
    }

    let mut failures: Vec<String> =
        outcomes.iter().filter_map(|outcome| outcome.failure.clone()).collect();
    failures.extend(lab.left_over());
    let table = table::render(&outcomes);
    println!("{table}");
    assert!(failures.is_empty(), "{} failures:\n\n{}", failures.len(), failures.join("\n\n"));
    table::keep(&table, extent);
}

/// What became of them, in their order.
async fn at_the_same_time(lab: &Arc<Lab>, faults: Vec<Fault>) -> Vec<Outcome> {
    let order: Vec<&str> = faults.iter().map(|f| f.name).collect();
    let mut running = JoinSet::new();
    for fault in faults {
        let lab = Arc::clone(lab);
        running.spawn(async move { fault.run(&lab).await });
    }
    let mut outcomes = running.join_all().await;
    outcomes.sort_by_key(|outcome| order.iter().position(|name| *name == outcome.fault));
    outcomes
}
