//! What is kept of a queue beside its jobs, and how its overrides change.

use std::sync::Arc;

use crate::domain::names::Name;
use crate::domain::overrides::{Changes, IfMatch, Overrides};
use crate::domain::time::Timestamp;

use super::QueueLimits;

#[derive(Debug, Clone, PartialEq)]
pub struct QueueState {
    pub name: Name,
    pub paused_at: Option<Timestamp>,
    pub paused_reason: Option<String>,
    pub paused_until: Option<Timestamp>,
    pub resumed_at: Option<Timestamp>,
    /// Jobs of the queue that may be leased at once.
    pub max_running: Option<u32>,
    /// Jobs of the queue that may be pending at once.
    pub max_depth: Option<u64>,
    /// Rises with every change of the overrides and of the pause, and with nothing else.
    pub revision: u64,
    pub overrides: Arc<Overrides>,
}

impl QueueState {
    /// As a queue begins: open, and without limits.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            paused_at: None,
            paused_reason: None,
            paused_until: None,
            resumed_at: None,
            max_running: None,
            max_depth: None,
            revision: 0,
            overrides: Arc::default(),
        }
    }
}

/// A change of a queue's overrides.
#[derive(Debug, Clone)]
pub struct Overriding {
    pub changes: Changes,
    pub by: String,
    pub if_match: IfMatch,
    /// The queue, and the limits that it has where nothing lies over them.
    pub configured: QueueLimits,
}

/// What became of a change of a queue.
#[derive(Debug, Clone, PartialEq)]
pub enum Changed {
    Done(QueueState),
    /// The queue is of a revision that the change is not meant for.
    OtherRevision,
    /// The queue is a new name, and [`MAX_NAMES`](super::MAX_NAMES) are known.
    TooManyNames,
}
