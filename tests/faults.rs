//! Every alarm, rung: faults in real servers, seen by a real Prometheus, told by a real
//! Alertmanager to a receiver that the test holds.
//!
//! All faults happen at the same time, each to a server of its own and told apart by the label
//! `job`. Each must raise exactly its alerts, with the right verdict, and they must end after the
//! cure. Beside them runs a healthy server with a busy life, of which nobody may hear anything.
//!
//! The rules are the ones that are delivered, with every duration shortened in one place
//! ([`shorten`]); the servers' thresholds are shortened by their configuration. Nothing else
//! differs from a real installation.
//!
//! Nothing is slept for: every step awaits a condition, for as long as a slow machine may take.

#![allow(unreachable_pub, reason = "a test binary exports nothing")]

#[path = "support/server.rs"]
mod server;

#[path = "faults/alertmanager.rs"]
mod alertmanager;
#[path = "faults/capacity.rs"]
mod capacity;
#[path = "faults/case.rs"]
mod case;
#[path = "faults/daemon.rs"]
mod daemon;
#[path = "faults/down.rs"]
mod down;
#[path = "faults/expect.rs"]
mod expect;
#[path = "faults/failing.rs"]
mod failing;
#[path = "faults/host.rs"]
mod host;
#[path = "faults/lab.rs"]
mod lab;
#[path = "faults/names.rs"]
mod names;
#[path = "faults/prometheus.rs"]
mod prometheus;
#[path = "faults/shorten.rs"]
mod shorten;
#[path = "faults/soak.rs"]
mod soak;
#[path = "faults/storage.rs"]
mod storage;
#[path = "faults/table.rs"]
mod table;
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

use crate::case::Fault;
use crate::lab::Lab;

/// In the order of the table.
fn faults() -> Vec<Fault> {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn matrix() {
    let lab = Arc::new(Lab::start().await);
    let last = Fault::new("no target left", |case| Box::pin(down::nobody(case)));
    let faults = faults();
    let order: Vec<&str> = faults.iter().map(|f| f.name).collect();
    let mut running = JoinSet::new();
    for fault in faults {
        let lab = Arc::clone(&lab);
        running.spawn(async move { fault.run(&lab).await });
    }
    let mut outcomes = running.join_all().await;
    outcomes.sort_by_key(|outcome| order.iter().position(|name| *name == outcome.fault));
    // Without any target left everything else is silenced, so it comes when all is over.
    outcomes.push(last.run(&lab).await);

    let mut failures: Vec<String> =
        outcomes.iter().filter_map(|outcome| outcome.failure.clone()).collect();
    failures.extend(lab.left_over());
    let table = table::render(&outcomes);
    println!("{table}");
    assert!(failures.is_empty(), "{} failures:\n\n{}", failures.len(), failures.join("\n\n"));
    table::keep(&table);
}
