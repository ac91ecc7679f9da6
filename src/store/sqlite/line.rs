//! Who stands where in line: how many jobs can be claimed before a given one, in memory.
//!
//! By queue and priority: how many jobs can be claimed, and from which place in line to which. The
//! counts are exact: they change with each commit, before anyone is answered. A place between the
//! first and the last is taken to be as full as the rest of the line, which is exact while the
//! queue is the only one that jobs are sent to. Nothing is written for it: opening a store counts
//! once, on an index, and a commit adds one short turn at a lock. It costs about 100 bytes for each
//! queue and priority of which jobs wait.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use crate::domain::names::Name;
use crate::store::Result;

use super::rows::fault;

/// A job came to a place in line, or left it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) queue: i64,
    pub(super) priority: i32,
    pub(super) sequence: i64,
    pub(super) way: Way,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It can be claimed from now on.
    In,
    /// It was claimed, so it was about the first.
    Claimed,
    /// It left from wherever it stood.
    Out,
}

/// Jobs of one priority that can be claimed.
#[derive(Debug, Clone, Copy)]
struct Level {
    jobs: u64,
    first: i64,
    last: i64,
}

impl Level {
    /// Of them, those before this place.
    fn before(&self, sequence: i64) -> u64 {
        if sequence <= self.first || self.jobs == 0 {
            return 0;
        }
        if sequence > self.last {
            return self.jobs;
        }
        // In 128 bits nothing overflows; the quotient is at most `jobs`.
        let passed = i128::from(sequence) - i128::from(self.first);
        let length = i128::from(self.last) - i128::from(self.first) + 1;
        let before = i128::from(self.jobs) * passed / length;
        u64::try_from(before).unwrap_or(0).min(self.jobs - 1)
    }
}

type Levels = BTreeMap<Reverse<i32>, Level>;

#[derive(Debug, Default)]
pub(super) struct Line(Mutex<HashMap<Name, Levels>>);

impl Line {
    pub(super) fn load(conn: &Connection) -> Result<Self> {
        let mut queues: HashMap<Name, Levels> = HashMap::new();
        let mut stmt = conn
            .prepare(
                "SELECT q.name, l.priority, l.jobs, l.first, l.last FROM \
                 (SELECT queue_id, priority, count(*) AS jobs, min(sequence) AS first, \
                  max(sequence) AS last FROM live_jobs INDEXED BY live_ready WHERE tally = 0 \
                  GROUP BY queue_id, priority) l JOIN queues q USING (queue_id)",
            )
            .map_err(fault)?;
        let rows = stmt
            .query_map([], |r| {
                let jobs = u64::try_from(r.get::<_, i64>(2)?).unwrap_or(0);
                let level = Level { jobs, first: r.get(3)?, last: r.get(4)? };
                Ok((Name::trusted(r.get_ref(0)?.as_str()?), r.get(1)?, level))
            })
            .map_err(fault)?;
        for row in rows {
            let (queue, priority, level) = row.map_err(fault)?;
            queues.entry(queue).or_default().insert(Reverse(priority), level);
        }
        Ok(Self(Mutex::new(queues)))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Levels>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a commit has changed.
    pub(super) fn moved(&self, steps: &[Step], name: impl Fn(i64) -> Name) {
        if steps.is_empty() {
            return;
        }
        let mut queues = self.lock();
        for step in steps {
            let name = name(step.queue);
            let levels = queues.entry(name.clone()).or_default();
            take(levels, step);
            if levels.is_empty() {
                queues.remove(&name);
            }
        }
    }

    /// Jobs of the queue that would be claimed before one of this priority, at this place; `None`:
    /// behind all that there are.
    pub(super) fn before(&self, queue: &Name, priority: i32, sequence: Option<i64>) -> u64 {
        let queues = self.lock();
        let Some(levels) = queues.get(queue) else { return 0 };
        let up_to = levels.range(..=Reverse(priority));
        up_to
            .map(|(Reverse(other), level)| match sequence {
                Some(sequence) if *other == priority => level.before(sequence),
                Some(_) | None => level.jobs,
            })
            .sum()
    }
}

fn take(levels: &mut Levels, step: &Step) {
    let key = Reverse(step.priority);
    let fresh = Level { jobs: 0, first: step.sequence, last: step.sequence };
    let level = levels.entry(key).or_insert(fresh);
    match step.way {
        Way::In => {
            level.jobs += 1;
            level.first = level.first.min(step.sequence);
            level.last = level.last.max(step.sequence);
        }
        Way::Claimed | Way::Out => {
            level.jobs = level.jobs.saturating_sub(1);
            if step.way == Way::Claimed {
                level.first = step.sequence + 1;
            }
            if level.jobs == 0 {
                levels.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(steps: &[(i32, i64, Way)]) -> Line {
        let line = Line::default();
        go(&line, steps);
        line
    }

    fn go(line: &Line, steps: &[(i32, i64, Way)]) {
        let step = |&(priority, sequence, way)| Step { queue: 1, priority, sequence, way };
        let steps: Vec<Step> = steps.iter().map(step).collect();
        line.moved(&steps, |_| Name::trusted("q"));
    }

    fn before(line: &Line, priority: i32, sequence: i64) -> u64 {
        line.before(&Name::trusted("q"), priority, Some(sequence))
    }

    #[test]
    fn one_queue_of_one_priority_is_exact() {
        let all: Vec<_> = (10..110).map(|n| (0, n, Way::In)).collect();
        let line = line(&all);
        assert_eq!((before(&line, 0, 10), before(&line, 0, 11), before(&line, 0, 109)), (0, 1, 99));
        go(&line, &(10..60).map(|n| (0, n, Way::Claimed)).collect::<Vec<_>>());
        assert_eq!((before(&line, 0, 60), before(&line, 0, 61), before(&line, 0, 109)), (0, 1, 49));
        assert_eq!(line.before(&Name::trusted("q"), 0, None), 50);
        assert_eq!(line.before(&Name::trusted("other"), 0, None), 0);
        go(&line, &(60..110).map(|n| (0, n, Way::Claimed)).collect::<Vec<_>>());
        assert!(line.lock().is_empty(), "an empty queue costs nothing");
    }

    #[test]
    fn higher_priorities_go_first_and_lower_ones_do_not_count() {
        let line = line(&[(5, 1, Way::In), (5, 2, Way::In), (0, 3, Way::In), (-5, 4, Way::In)]);
        assert_eq!([before(&line, 5, 2), before(&line, 0, 3), before(&line, -5, 4)], [1, 2, 3]);
        assert_eq!(line.before(&Name::trusted("q"), 7, None), 0);
        assert_eq!(line.before(&Name::trusted("q"), 5, None), 2);
    }

    #[test]
    fn a_queue_among_others_is_told_in_proportion() {
        let every_third: Vec<_> = (0..100).map(|n| (0, n * 3, Way::In)).collect();
        let line = line(&every_third);
        for n in 0..100 {
            assert!(before(&line, 0, n * 3).abs_diff(n as u64) <= 1, "{n}");
        }
    }

    #[test]
    fn whoever_leaves_from_the_middle_moves_no_end() {
        let line = line(&[(0, 1, Way::In), (0, 2, Way::In), (0, 3, Way::In), (0, 2, Way::Out)]);
        assert_eq!([before(&line, 0, 1), before(&line, 0, 3)], [0, 1]);
        go(&line, &[(0, 1, Way::Claimed), (0, 1, Way::In)]);
        assert_eq!([before(&line, 0, 1), before(&line, 0, 3)], [0, 1], "given back");
    }
}
