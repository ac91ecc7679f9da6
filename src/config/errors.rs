//! Everything that is wrong with a configuration, at once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a value was set. The order is that of a report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nowhere: the default.
    Default,
    /// In the file; the line counts from 1, absent when it cannot be told.
    File {
        /// As it was given.
        path: Arc<Path>,
        /// Counts from 1.
        line: Option<usize>,
    },
    /// In this environment variable.
    Variable(String),
    /// By this flag of the command line.
    Flag(String),
}

/// One thing that is wrong, and the next step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// Where it was found.
    pub place: Place,
    /// The key in full, such as `jobs.lease`; absent when the file as a whole is wrong.
    pub key: Option<String>,
    /// What is wrong and the next step, on one line.
    pub message: String,
}

impl ConfigError {
    /// The file, when the error is in one.
    pub fn file(&self) -> Option<&Path> {
        match &self.place {
            Place::File { path, .. } => Some(path),
            Place::Default | Place::Variable(_) | Place::Flag(_) => None,
        }
    }

    /// The line of the file, from 1.
    pub fn line(&self) -> Option<usize> {
        match &self.place {
            Place::File { line, .. } => *line,
            Place::Default | Place::Variable(_) | Place::Flag(_) => None,
        }
    }

    /// The environment variable, when the error is in one.
    pub fn variable(&self) -> Option<&str> {
        match &self.place {
            Place::Variable(name) => Some(name),
            Place::Default | Place::File { .. } | Place::Flag(_) => None,
        }
    }
}

/// `file:line: key: what is wrong; the next step`.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Default => {}
            Place::File { path, line: Some(line) } => write!(f, "{}:{line}: ", path.display())?,
            Place::File { path, line: None } => write!(f, "{}: ", path.display())?,
            Place::Variable(name) | Place::Flag(name) => write!(f, "{name}: ")?,
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Why a configuration was refused: never empty, in the order of the file, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    more: usize,
    file: Option<PathBuf>,
}

impl ConfigErrors {
    /// More than this many help nobody.
    const MOST: usize = 100;

    pub(super) fn new(mut errors: Vec<ConfigError>, file: Option<&Path>) -> Self {
        errors.sort();
        errors.dedup();
        let more = errors.len().saturating_sub(Self::MOST);
        errors.truncate(Self::MOST);
        Self { errors, more, file: file.map(Path::to_owned) }
    }

    /// The errors, at most 100 of them.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// How many were left out.
    pub fn more(&self) -> usize {
        self.more
    }

    /// The file that was read, if any.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more; correct these first", self.more)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
