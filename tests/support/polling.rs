//! What clients pay who follow `Retry-After`: one job at a time, whose length follows a law, looked
//! at by the estimator that the server uses, which learns from each job as it ends.

use std::time::Duration;

use punctual::domain::estimate::{Estimate, Experience, Limits, Outlook};
use punctual::domain::id::JobId;
use punctual::domain::job::{Job, Policy};
use punctual::domain::lease::TokenHash;
use punctual::domain::names::{Name, WorkerId};
use punctual::domain::state::{Event, apply};
use punctual::domain::time::Timestamp;

/// `SplitMix64`: the same numbers on every machine.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In (0, 1).
    fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Box and Muller's.
    fn normal(&mut self) -> f64 {
        let (a, b) = (self.unit(), self.unit());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }
}

/// How long jobs run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DurationLaw {
    /// The logarithm is normal: median in seconds, and sigma.
    LogNormal(f64, f64),
    /// Half of them about this long, half about that, give or take a tenth.
    TwoSorts(f64, f64),
    /// The shortest in seconds, and alpha: few are very long.
    Pareto(f64, f64),
}

impl DurationLaw {
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("log-normal, median 5 s, σ = 1", Self::LogNormal(5.0, 1.0)),
        ("log-normal, median 60 s, σ = 1", Self::LogNormal(60.0, 1.0)),
        ("two sorts, 2 s and 60 s", Self::TwoSorts(2.0, 60.0)),
        ("steady, 5 s, σ = 0.3", Self::LogNormal(5.0, 0.3)),
        ("Pareto, from 5 s, α = 1.3", Self::Pareto(5.0, 1.3)),
    ];

    /// Whole milliseconds, as the server counts.
    pub(crate) fn draw(self, dice: &mut Dice) -> Duration {
        let seconds = match self {
            Self::LogNormal(median, sigma) => median * (sigma * dice.normal()).exp(),
            Self::TwoSorts(short, long) => {
                let about = if dice.unit() < 0.5 { short } else { long };
                about * (0.1 * dice.normal()).exp()
            }
            Self::Pareto(shortest, alpha) => shortest * dice.unit().powf(-1.0 / alpha),
        };
        // No attempt outlives its hard limit.
        Duration::from_millis((seconds * 1_000.0).clamp(1.0, 604_800_000.0) as u64)
    }
}

/// When a client comes back.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Client {
    Fixed(u64),
    /// Twice as long each time, from the first to the second.
    Exponential(u64, u64),
    /// As the server says, by this quantile.
    RetryAfter(f64),
}

/// What it cost.
#[derive(Debug)]
pub(crate) struct Cost {
    polls: Vec<u32>,
    /// From the end of a job to the poll that finds it, by the job's duration.
    lateness: Vec<f64>,
    late_seconds: f64,
}

impl Cost {
    pub(crate) fn mean_polls(&self) -> f64 {
        self.polls.iter().map(|n| f64::from(*n)).sum::<f64>() / self.polls.len() as f64
    }

    pub(crate) fn p99_polls(&mut self) -> u32 {
        self.polls.sort_unstable();
        self.polls[self.polls.len() * 99 / 100]
    }

    pub(crate) fn median_lateness(&mut self) -> f64 {
        self.lateness.sort_unstable_by(f64::total_cmp);
        self.lateness[self.lateness.len() / 2]
    }

    pub(crate) fn mean_late_seconds(&self) -> f64 {
        self.late_seconds / self.polls.len() as f64
    }
}

/// Jobs of one kind, one after the other, from a server that knows nothing at first.
pub(crate) fn run(law: DurationLaw, policy: Client, jobs: usize, seed: u64) -> Cost {
    let mut dice = Dice::new(seed);
    let mut experience = Experience::default();
    let (queue, kind) = (Name::trusted("q"), Name::trusted("k"));
    let mut start = Timestamp::from_millis(1_800_000_000_000);
    let mut cost = Cost { polls: Vec::new(), lateness: Vec::new(), late_seconds: 0.0 };
    for _ in 0..jobs {
        let took = law.draw(&mut dice);
        let job = claimed(start);
        let unit = JobId::from_bytes(dice.id()).unit();
        let (mut elapsed, mut polls) = (Duration::ZERO, 0);
        while elapsed < took {
            let wait = match policy {
                Client::Fixed(seconds) => seconds,
                Client::Exponential(first, most) => (first << polls.min(32)).min(most),
                Client::RetryAfter(q) => {
                    let now = start.plus(elapsed);
                    let (run, wait) = experience.laws(&queue, &kind, None, now);
                    Estimate::of(&job, &Outlook::default(), &run, &wait, q, now)
                        .map_or(1, |e| e.retry_after_seconds(unit, &Limits::default()))
                }
            };
            elapsed += Duration::from_secs(wait);
            polls += 1;
        }
        let late = elapsed.saturating_sub(took).as_secs_f64();
        cost.polls.push(polls);
        cost.lateness.push(late / took.as_secs_f64());
        cost.late_seconds += late;
        let end = start.plus(took);
        experience.observe_run(&queue, &kind, took, end);
        start = end;
    }
    cost
}

impl Dice {
    fn id(&mut self) -> [u8; 16] {
        let (a, b) = (self.bits().to_le_bytes(), self.bits().to_le_bytes());
        std::array::from_fn(|at| if at < 8 { a[at] } else { b[at - 8] })
    }
}

/// A job that a worker has just taken.
fn claimed(at: Timestamp) -> Job {
    let fresh = Job::accepted(at, None, None, 1, Policy::default());
    let claim = Event::Claim {
        worker: WorkerId::trusted("w"),
        token: TokenHash::from_bytes([1; 16]),
        lease: Duration::from_secs(30),
        trace: None,
    };
    apply(&fresh, &claim, at).expect("a fresh job can be claimed").job
}
