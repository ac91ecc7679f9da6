//! What clients pay who follow `Retry-After`, against those who ask at moments of their own: the
//! table of `docs/PERFORMANCE.md`, by the estimator itself over simulated jobs, and what it costs the
//! server.
//!
//! `cargo bench --bench retry_after`

#[path = "../tests/support/polling.rs"]
mod polling;

use std::hint::black_box;
use std::time::{Duration, Instant};

use punctual::domain::estimate::{Experience, MEDIAN};
use punctual::domain::names::Name;
use punctual::domain::time::Timestamp;

use polling::{Client, Dice, DurationLaw, run};

const JOBS: usize = 20_000;

const CLIENTS: [(&str, Client); 6] = [
    ("fixed 5 s", Client::Fixed(5)),
    ("exponential 1 s to 60 s", Client::Exponential(1, 60)),
    ("quantile 0.25", Client::RetryAfter(0.25)),
    ("**quantile 0.5**", Client::RetryAfter(MEDIAN)),
    ("quantile 0.75", Client::RetryAfter(0.75)),
    ("quantile 0.9", Client::RetryAfter(0.9)),
];

fn main() {
    println!(
        "| duration | client | polls a job: mean (p99) | lateness ÷ duration: median | late by: mean |"
    );
    println!("|---|---|---|---|---|");
    for (name, law) in DurationLaw::ALL {
        for (at, (policy, client)) in CLIENTS.iter().enumerate() {
            let mut cost = run(law, *client, JOBS, 42);
            let name = if at == 0 { name } else { "" };
            let (mean, p99) = (cost.mean_polls(), cost.p99_polls());
            let (late, seconds) = (cost.median_lateness(), cost.mean_late_seconds());
            println!("| {name} | {policy} | {mean:.1} ({p99}) | {late:.2} | {seconds:.1} s |");
        }
    }
    println!();
    cost();
}

/// What one observation and one question cost, with a day of log-normal durations known.
#[expect(clippy::disallowed_methods, reason = "this is what it measures")]
fn cost() {
    const TIMES: u32 = 200_000;
    let (queue, kind) = (Name::trusted("q"), Name::trusted("k"));
    let (mut dice, mut known) = (Dice::new(7), Experience::default());
    let law = DurationLaw::LogNormal(5.0, 1.0);
    let spans: Vec<Duration> = (0..TIMES).map(|_| law.draw(&mut dice)).collect();
    let mut now = Timestamp::from_millis(1_800_000_000_000);
    let began = Instant::now();
    for span in &spans {
        // A day in all.
        now = now.plus(Duration::from_millis(u64::from(86_400_000 / TIMES)));
        known.observe_run(&queue, &kind, *span, now);
    }
    let observed = began.elapsed() / TIMES;
    let began = Instant::now();
    for span in &spans {
        let (run, _) = known.laws(&queue, &kind, None, now);
        black_box(run.left(*span, MEDIAN));
    }
    let asked = began.elapsed() / TIMES;
    println!("an observed run (for the pair, the kind and the queue): {observed:?}");
    println!("what is left of a run, asked: {asked:?}");
    println!("a key: {} buckets of 8 bytes", known.buckets() / 3);
}
