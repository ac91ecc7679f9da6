//! What to do about it, in one sentence for people.

use std::time::Duration;

use super::{Evidence, Verdict};

/// The next step for somebody who has just learned the verdict.
pub fn next_step(verdict: Verdict, queue: &str, kind: &str, evidence: &Evidence) -> String {
    match verdict {
        Verdict::StoreDegraded => {
            "the server cannot write or read its store as it should: look at the disk and at \
             `/readyz?verbose`, then at the server's log"
                .to_owned()
        }
        Verdict::RateLimited => format!(
            "no more than {} attempt(s) of queue {queue} may start a second: raise \
             `start_rate_per_second` in [queues.{queue}] if what it protects can bear it, or let \
             the backlog drain",
            evidence.start_rate_limit.unwrap_or_default().as_per_second(),
        ),
        Verdict::ConcurrencyLimited => format!(
            "{} of at most {} jobs of queue {queue} run: raise `max_running` in \
             [queues.{queue}], or look at why they take long with `punctual jobs list --queue \
             {queue} --status running`",
            evidence.queue_running,
            evidence.max_running.unwrap_or_default(),
        ),
        Verdict::NoWorkers => format!(
            "nobody takes kind {kind} from queue {queue}: start a worker, such as `punctual work \
             --queue {queue} --kind {kind} --exec CMD`, or correct the queue and kind names that \
             your workers ask for (`punctual workers list`)"
        ),
        Verdict::WorkersSilent => format!(
            "the {} known worker(s) of queue {queue} no longer show themselves: see whether their \
             processes live and reach this server (`punctual workers list`), and restart them",
            evidence.workers
        ),
        Verdict::Starved => format!(
            "workers of queue {queue} start jobs of a higher priority, and none of priority {}: \
             give kind {kind} workers of its own (`punctual work --queue {queue} --kind {kind} \
             --exec CMD`) or a queue of its own, send less above it, or send it with a higher \
             `priority`",
            evidence.oldest_priority.unwrap_or_default(),
        ),
        Verdict::DispatchStalled => "workers ask for this work and get none: this is the server's \
             own fault; see `/v1/tasks` for a stalled scheduler, restart the server, and report \
             it with the output of `punctual explain`"
            .to_owned(),
        Verdict::WorkersStalled => format!(
            "workers hold {} lease(s) and settle nothing: they hang, or what they call hangs; see \
             `punctual jobs list --queue {queue} --status running`, then restart them (their jobs \
             are taken back when the lease ends)",
            evidence.leases
        ),
        Verdict::WorkersSaturated => match silence(evidence) {
            None => format!(
                "workers are at it, but too few: {} lease(s) on {} slot(s); add workers or raise \
                 their concurrency, or make the jobs faster",
                evidence.leases, evidence.slots
            ),
            Some(seconds) => format!(
                "workers hold {} lease(s) on {} slot(s), and no job has ended for {seconds} s: if \
                 such jobs take that long, add workers; if not, they hang (nobody knows yet how \
                 long they take): see `punctual jobs list --queue {queue} --status running`",
                evidence.leases, evidence.slots
            ),
        },
        Verdict::Unknown => format!(
            "none of the known causes applies: look at `punctual workers list` and `punctual \
             queues show {queue}`, and report this as a bug with the output of `punctual explain \
             {queue}`"
        ),
    }
}

/// How long nothing has ended, if that is longer than the oldest has waited or may wait.
fn silence(evidence: &Evidence) -> Option<u64> {
    let last = evidence.last_settlement.max(evidence.newest_worker)?;
    let quiet = evidence.at.since(last);
    let most = evidence.oldest_age()?;
    let stuck_after = evidence.stuck_after_ms.map(Duration::from_millis);
    (quiet >= stuck_after.map_or(most, |limit| limit.min(most))).then_some(quiet.as_secs())
}

/// What is seen for shorter than this is no sign of a dispatch that stalls, nor of starvation.
const MOMENT_SECONDS: u64 = 60;

/// What to expect where nothing is stuck (yet).
pub fn outlook(queue: &str, kind: &str, evidence: &Evidence) -> String {
    if evidence.paused_at.is_some() {
        return format!("the queue is paused: `punctual queues resume {queue}` goes on");
    }
    let Some(age) = evidence.oldest_age() else {
        return "nothing waits for a worker".to_owned();
    };
    let verdict = evidence.judge();
    let age = age.as_secs();
    match verdict {
        // Between two jobs, and until a due one is promoted, it looks like that for a moment.
        Verdict::DispatchStalled | Verdict::Starved if age < MOMENT_SECONDS => flows(age),
        Verdict::StoreDegraded
        | Verdict::RateLimited
        | Verdict::ConcurrencyLimited
        | Verdict::NoWorkers
        | Verdict::WorkersSilent
        | Verdict::Starved
        | Verdict::DispatchStalled
        | Verdict::WorkersStalled => {
            let when = evidence.stuck_after_ms.map_or_else(
                || "the watchdog is off for this queue".to_owned(),
                |ms| format!("it counts as stuck after {} s", ms.div_ceil(1_000)),
            );
            let step = next_step(verdict, queue, kind, evidence);
            format!("the oldest has waited for {age} s ({when}); {step}")
        }
        // Who asks in between two jobs leaves no sign: no cause is no reason to worry yet.
        Verdict::WorkersSaturated | Verdict::Unknown => flows(age),
    }
}

fn flows(age: u64) -> String {
    format!("work flows: the oldest has waited for {age} s for its turn")
}
