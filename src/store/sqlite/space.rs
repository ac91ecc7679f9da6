//! Whether the disk has room for more jobs.
//!
//! Below `min_free` no more are taken, so that what ends the accepted ones still fits. That is
//! judged before anything is written; a disk that fills up all the same is told by `SQLite`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::store::{Result, StoreError};

/// Tells how many bytes are free, in place of the file system.
pub type FreeBytes = Arc<dyn Fn() -> u64 + Send + Sync>;

pub(super) struct Space {
    dir: PathBuf,
    min_free: u64,
    told: Option<FreeBytes>,
}

impl Space {
    /// Around the store at `path`, which is absolute.
    pub(super) fn new(path: &Path, min_free: u64, told: Option<FreeBytes>) -> Self {
        // The log lies beside the file.
        Self { dir: path.parent().unwrap_or(path).to_owned(), min_free, told }
    }

    /// Bytes that this user may still write.
    pub(super) fn free(&self) -> Result<u64> {
        if let Some(told) = &self.told {
            return Ok(told());
        }
        let disk = rustix::fs::statvfs(&self.dir).map_err(|e| {
            StoreError::Io(format!("the disk of {} does not say what is free: {e}", self.shown()))
        })?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    /// Why no more jobs can be taken, if so. A disk that does not say is left to refuse itself.
    pub(super) fn shortage(&self) -> Option<String> {
        if self.min_free == 0 {
            return None;
        }
        let free = self.free().ok().filter(|free| *free < self.min_free)?;
        Some(format!(
            "{free} bytes are free at {}, and store.min_free keeps back {}",
            self.shown(),
            self.min_free
        ))
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.dir.display()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_is_less_than_the_minimum() {
        let shortage = |free: u64, min_free: u64| {
            Space::new(Path::new("/d/jobs.db"), min_free, Some(Arc::new(move || free))).shortage()
        };
        assert_eq!(
            shortage(999, 1_000).as_deref(),
            Some("999 bytes are free at /d, and store.min_free keeps back 1000")
        );
        assert_eq!(shortage(1_000, 1_000), None);
        assert_eq!(shortage(0, 0), None);
    }

    #[test]
    fn the_disk_itself_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jobs.db");
        let space = Space::new(&path, u64::MAX, None);
        let free = space.free().unwrap();
        assert!(free > 0 && free < u64::MAX, "{free}");
        assert!(space.shortage().is_some());
        // One that cannot be asked is no reason to refuse, but no number either.
        drop(dir);
        assert_eq!(space.shortage(), None);
        assert!(matches!(space.free(), Err(StoreError::Io(_))));
    }
}
