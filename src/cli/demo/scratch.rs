//! A directory that goes away with the demo.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::cli::Failure;

#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Below the system's place for such things (`TMPDIR`), for this user only.
    pub(super) fn new() -> Result<Self, Failure> {
        let parent = std::env::temp_dir();
        let parent = fs::canonicalize(&parent).map_err(|e| refused(&parent, &e))?;
        let pid = std::process::id();
        for number in 0..1_000 {
            let path = parent.join(format!("punctual-demo-{pid}-{number}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(refused(&path, &e)),
            }
        }
        Err(Failure::no(format!(
            "{} is full of old punctual-demo-* directories; remove them",
            parent.display()
        )))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("server.log")
    }

    pub(super) fn store_url(&self) -> Result<String, Failure> {
        let store = self.0.join("jobs.db");
        let path = store.to_str().ok_or_else(|| {
            Failure::no(format!(
                "{} is not UTF-8 text; name another place: TMPDIR=/var/tmp punctual demo",
                store.display()
            ))
        })?;
        Ok(format!("sqlite://{path}"))
    }

    /// Removes it now, and says so if that cannot be done.
    pub(super) fn remove(self) -> Result<(), Failure> {
        fs::remove_dir_all(&self.0).map_err(|e| {
            Failure::no(format!("cannot remove {}: {e}; remove it yourself", self.0.display()))
        })
    }
}

fn refused(path: &Path, error: &std::io::Error) -> Failure {
    Failure::no(format!(
        "cannot make {}: {error}; name a writable place: TMPDIR=/var/tmp punctual demo",
        path.display()
    ))
}

/// For ends in disorder; after [`Scratch::remove`] there is nothing left to do.
impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_private_and_goes_away_either_way() {
        use std::os::unix::fs::PermissionsExt as _;
        let (one, two) = (Scratch::new().unwrap(), Scratch::new().unwrap());
        let paths = [one.path().to_owned(), two.path().to_owned()];
        assert_ne!(paths[0], paths[1]);
        assert_eq!(fs::metadata(&paths[0]).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(one.log(), "x").unwrap();
        one.remove().unwrap();
        drop(two);
        assert!(paths.iter().all(|path| !path.exists()));
    }
}
