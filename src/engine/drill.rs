//! Fire drills: making a maintenance task fail on purpose, to see the alarm go off.
//!
//! An alarm that has never rung is a hope. With `PUNCTUAL_DRILL_FILE` set when the server starts,
//! each run of a task first reads that file; a line `watchdog hang` (or `panic`, or `error`) befalls
//! that task for as long as the line is there. Without the variable nothing is ever read.

use std::path::PathBuf;
use std::time::Duration;

/// How often a hanging task looks whether the drill is over.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    Hang,
    Panic,
    Error,
}

/// What is to go wrong, as the file says at each moment.
#[derive(Debug, Clone)]
pub struct Drill {
    file: PathBuf,
}

impl Drill {
    pub const fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Does to `task` what the file says; returns when there is (no longer) anything.
    ///
    /// # Panics
    /// When the file says so.
    pub(super) async fn befall(&self, task: &str) -> Result<(), String> {
        while let Some(mishap) = self.mishap(task).await {
            match mishap {
                Mishap::Hang => tokio::time::sleep(LOOK_AGAIN).await,
                Mishap::Panic => panic!("fire drill: the task {task} is to panic"),
                Mishap::Error => return Err(format!("fire drill: the task {task} is to fail")),
            }
        }
        Ok(())
    }

    async fn mishap(&self, task: &str) -> Option<Mishap> {
        // No file, no drill.
        let text = tokio::fs::read_to_string(&self.file).await.ok()?;
        parse(&text, task)
    }
}

fn parse(text: &str, task: &str) -> Option<Mishap> {
    text.lines().find_map(|line| {
        let (name, mishap) = line.split_once(' ')?;
        match mishap.trim() {
            "hang" if name == task => Some(Mishap::Hang),
            "panic" if name == task => Some(Mishap::Panic),
            "error" if name == task => Some(Mishap::Error),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_task_and_its_mishap() {
        let text = "watchdog hang\nreaper panic\nscheduler error\nsampler sulk\n\n";
        let of = |task| parse(text, task);
        assert_eq!(of("watchdog"), Some(Mishap::Hang));
        assert_eq!(of("reaper"), Some(Mishap::Panic));
        assert_eq!(of("scheduler"), Some(Mishap::Error));
        assert_eq!((of("sampler"), of("retention")), (None, None));
    }
}
