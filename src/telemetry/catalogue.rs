//! Every metric, declared once: what it is called, what it means, and how to read it.
//!
//! To add one: declare it in [`events`], [`state`] or [`server`], resolve it in `instruments` (or `sample`, for facts about the
//! store), emit it from one method of `events`, and regenerate `docs/METRICS.md` and
//! `docs/metrics.json`. The tests hold the declaration and the rendered text to each other in both
//! directions.

use super::labels;

const QUEUE: Label = Label { name: "queue", values: Values::Queue { none: false } };
const QUEUE_OR_NONE: Label = Label { name: "queue", values: Values::Queue { none: true } };

const KIND: Label = Label { name: "kind", values: Values::Kind };
const ERROR_CLASS: Label = Label { name: "error_class", values: Values::ErrorClass };

const fn closed(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values: Values::Closed(values) }
}

const TASK: Label = closed("task", &labels::Task::VALUES);
const OPERATION: Label = closed("operation", &labels::Operation::VALUES);
const METHOD: Label = closed("http_request_method", &labels::Method::VALUES);

const TASK_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0];

macro_rules! catalogue {
    ($($id:ident = $metric:expr;)+) => {
        $(pub static $id: Metric = $metric;)+

        pub(super) static ALL: &[&Metric] = &[$(&$id),+];
    };
}

mod docs;
mod events;
mod json;
mod model;
mod server;
mod state;

pub use docs::docs_markdown;
pub use events::*;
pub use json::{Described, docs_json};
pub use model::{Group, Kind, Label, Metric, Scope, Unit, Values};
pub use server::*;
pub use state::*;

/// Every metric, in the order of the documentation.
pub static ALL: &[&Metric] = &joined();

/// Those whose series have exemplars.
pub static WITH_EXEMPLARS: &[&Metric] = &[&WAIT, &RUN, &END_TO_END, &ATTEMPTS];

const COUNT: usize = events::ALL.len() + state::ALL.len() + server::ALL.len();

const fn joined() -> [&'static Metric; COUNT] {
    let parts = [events::ALL, state::ALL, server::ALL];
    let mut all = [events::ALL[0]; COUNT];
    let (mut part, mut at, mut to) = (0, 0, 0);
    while to < COUNT {
        if at == parts[part].len() {
            (part, at) = (part + 1, 0);
        }
        all[to] = parts[part][at];
        (at, to) = (at + 1, to + 1);
    }
    all
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
