//! What is believed of how long something takes.

use std::time::Duration;

use super::sketch::Sketch;

/// What an attempt that has outlived its peers is given: this share of its age, again.
const OVERTIME: f64 = 0.25;

/// What a law was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Basis {
    /// Jobs of this queue and kind.
    Pair,
    /// Jobs of this kind, in any queue.
    Kind,
    /// Jobs of this queue, of any kind.
    Queue,
    /// The client's `expected_duration`.
    Hint,
    /// Nothing is known.
    Guess,
}

#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Seen(&'a Sketch),
    Told(Duration),
}

/// How long a run or a wait takes, as far as anything is known.
#[derive(Debug, Clone, Copy)]
pub struct Law<'a> {
    source: Source<'a>,
    basis: Basis,
}

impl<'a> Law<'a> {
    pub const fn seen(sketch: &'a Sketch, basis: Basis) -> Self {
        Self { source: Source::Seen(sketch), basis }
    }

    /// One duration, and no distribution.
    pub const fn told(span: Duration, basis: Basis) -> Self {
        Self { source: Source::Told(span), basis }
    }

    pub const fn basis(&self) -> Basis {
        self.basis
    }

    /// Durations behind it; 0 for a hint and a guess.
    pub const fn samples(&self) -> u64 {
        match self.source {
            Source::Seen(sketch) => sketch.count(),
            Source::Told(_) => 0,
        }
    }

    pub fn quantile(&self, q: f64) -> Duration {
        match self.source {
            Source::Seen(sketch) => sketch.quantile(q).unwrap_or_default(),
            Source::Told(span) => span,
        }
    }

    pub fn mean(&self) -> Duration {
        match self.source {
            Source::Seen(sketch) => sketch.mean().unwrap_or_default(),
            Source::Told(span) => span,
        }
    }

    /// What is left of what has gone on for `elapsed`: by the quantile `q` of those that lasted
    /// longer, and where hardly any did, a quarter of its age.
    pub fn left(&self, elapsed: Duration, q: f64) -> Duration {
        let whole = match self.source {
            Source::Seen(sketch) => sketch.quantile_beyond(elapsed, q),
            Source::Told(span) => Some(span).filter(|span| elapsed < *span),
        };
        whole.map_or_else(|| elapsed.mul_f64(OVERTIME), |whole| whole.saturating_sub(elapsed))
    }
}
