//! The namespaces that have had jobs, for whoever must not ask the disk.
//!
//! They are few, since only the operator's tokens make them, and none is ever forgotten: the ids of
//! jobs that are long gone are still theirs.

use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::names::Name;

use super::book::Names;

/// Clones are the same list.
#[derive(Debug, Clone)]
pub(super) struct Known(Arc<RwLock<Arc<[Name]>>>);

impl Default for Known {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Arc::from([]))))
    }
}

impl Known {
    pub(super) fn all(&self) -> Arc<[Name]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// To be told what is committed, and nothing else. The list only grows, so that its length
    /// tells whether there is news.
    pub(super) fn publish(&self, committed: &Names) {
        if self.all().len() != committed.len() {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = committed.in_order().into();
        }
    }
}
