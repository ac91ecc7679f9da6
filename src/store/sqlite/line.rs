//! Who stands where in line: how many jobs can be claimed before a given one, in memory.
//!
//! By queue and priority: the places of the jobs that can be claimed. The counts are exact, whoever
//! claims what: they change with each commit, before anyone is answered. What they do not tell is
//! who will claim those ahead: jobs of every kind and namespace are counted alike, also those that
//! no present worker takes.
//!
//! Nothing is written for it: opening a store reads the places once, from an index, and a commit
//! adds one short turn at a lock. A place costs two bytes, at most four with the slack of arrays
//! that grow, and about 60 more for each block of 65 536 places in which there is any. A count adds
//! up blocks and looks into one: a million jobs are 16 of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};
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
    /// It was claimed, or left otherwise.
    Out,
}

/// The places that share all but the low 16 bits, by these, in order.
type Block = VecDeque<u16>;

/// Jobs of one priority that can be claimed.
#[derive(Debug, Default)]
struct Level {
    jobs: u64,
    /// By the high bits; none is empty.
    blocks: BTreeMap<i64, Block>,
}

const fn split(sequence: i64) -> (i64, u16) {
    (sequence >> 16, (sequence & 0xffff) as u16)
}

impl Level {
    fn enter(&mut self, sequence: i64) {
        let (high, low) = split(sequence);
        let block = self.blocks.entry(high).or_default();
        // Nearly all come to the end.
        if let Err(at) = block.binary_search(&low) {
            block.insert(at, low);
            self.jobs += 1;
        }
    }

    fn leave(&mut self, sequence: i64) {
        let (high, low) = split(sequence);
        let Some(block) = self.blocks.get_mut(&high) else { return };
        if let Ok(at) = block.binary_search(&low) {
            block.remove(at);
            self.jobs -= 1;
        }
        if block.is_empty() {
            self.blocks.remove(&high);
        }
    }

    /// Of them, those before this place.
    fn before(&self, sequence: i64) -> u64 {
        let (high, low) = split(sequence);
        let whole: usize = self.blocks.range(..high).map(|(_, block)| block.len()).sum();
        let own = self.blocks.get(&high).map_or(0, |block| block.partition_point(|at| *at < low));
        (whole + own) as u64
    }
}

type Levels = BTreeMap<Reverse<i32>, Level>;

#[derive(Debug, Default)]
pub(super) struct Line(Mutex<HashMap<Name, Levels>>);

impl Line {
    pub(super) fn load(conn: &Connection) -> Result<Self> {
        let mut names = conn.prepare("SELECT queue_id, name FROM queues").map_err(fault)?;
        let names: HashMap<i64, Name> = names
            .query_map([], |r| Ok((r.get(0)?, Name::trusted(r.get_ref(1)?.as_str()?))))
            .and_then(Iterator::collect)
            .map_err(fault)?;
        let mut queues: HashMap<i64, Levels> = HashMap::new();
        let mut stmt = conn
            .prepare(
                "SELECT queue_id, priority, sequence FROM live_jobs INDEXED BY live_ready \
                 WHERE tally = 0",
            )
            .map_err(fault)?;
        let mut rows = stmt.query([]).map_err(fault)?;
        while let Some(row) = rows.next().map_err(fault)? {
            let of = |at| row.get::<_, i64>(at).map_err(fault);
            let priority = row.get(1).map_err(fault)?;
            let levels = queues.entry(of(0)?).or_default();
            levels.entry(Reverse(priority)).or_default().enter(of(2)?);
        }
        let of_queue = |(id, levels)| Some((names.get(&id)?.clone(), levels));
        Ok(Self(Mutex::new(queues.into_iter().filter_map(of_queue).collect())))
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
    match step.way {
        Way::In => levels.entry(key).or_default().enter(step.sequence),
        Way::Out => {
            let Some(level) = levels.get_mut(&key) else { return };
            level.leave(step.sequence);
            if level.jobs == 0 {
                levels.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

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
        go(&line, &(10..60).map(|n| (0, n, Way::Out)).collect::<Vec<_>>());
        assert_eq!((before(&line, 0, 60), before(&line, 0, 61), before(&line, 0, 109)), (0, 1, 49));
        assert_eq!(line.before(&Name::trusted("q"), 0, None), 50);
        assert_eq!(line.before(&Name::trusted("other"), 0, None), 0);
        go(&line, &(60..110).map(|n| (0, n, Way::Out)).collect::<Vec<_>>());
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
    fn a_queue_among_others_is_exact_too() {
        let every_third: Vec<_> = (0..100).map(|n| (0, n * 3, Way::In)).collect();
        let line = line(&every_third);
        for n in 0..100 {
            assert_eq!(before(&line, 0, n * 3), n as u64);
        }
        assert_eq!(before(&line, 0, 1_000), 100);
    }

    #[test]
    fn whoever_is_claimed_out_of_turn_takes_nobody_along() {
        // A worker of another kind takes the latest, and then all that came after sixty.
        let all: Vec<_> = (0..560).map(|n| (0, n, Way::In)).collect();
        let line = line(&all);
        go(&line, &[(0, 559, Way::Out)]);
        assert_eq!([before(&line, 0, 0), before(&line, 0, 40), before(&line, 0, 59)], [0, 40, 59]);
        go(&line, &(60..559).map(|n| (0, n, Way::Out)).collect::<Vec<_>>());
        assert_eq!(
            [before(&line, 0, 40), before(&line, 0, 59), before(&line, 0, 600)],
            [40, 59, 60]
        );
        go(&line, &[(0, 0, Way::Out), (0, 0, Way::Out), (7, 0, Way::Out)]);
        assert_eq!([before(&line, 0, 59), before(&line, 0, 600)], [58, 59], "once");
    }

    #[test]
    fn whoever_is_given_back_has_the_old_place() {
        let line = line(&[(0, 1, Way::In), (0, 2, Way::In), (0, 3, Way::In), (0, 2, Way::Out)]);
        assert_eq!([before(&line, 0, 1), before(&line, 0, 3)], [0, 1]);
        go(&line, &[(0, 1, Way::Out), (0, 1, Way::In)]);
        assert_eq!([before(&line, 0, 1), before(&line, 0, 3)], [0, 1], "given back");
    }

    proptest! {
        #[test]
        fn it_counts_as_a_sorted_list_does(
            steps in prop::collection::vec((-2..3i32, 0..200i64, any::<bool>()), 0..300),
            (priority, sequence) in (-2..3i32, 0..200i64),
        ) {
            // Across blocks.
            let place = |n: i64| n * 1_009 - 70_000;
            let line = Line::default();
            let mut list = BTreeSet::new();
            for (priority, n, comes) in steps {
                let changed = (Reverse(priority), place(n));
                let news = if comes { list.insert(changed) } else { list.remove(&changed) };
                let way = if comes { Way::In } else { Way::Out };
                if news {
                    go(&line, &[(priority, place(n), way)]);
                }
            }
            let ahead = list.range(..(Reverse(priority), place(sequence))).count() as u64;
            prop_assert_eq!(before(&line, priority, place(sequence)), ahead);
            prop_assert_eq!(line.lock().is_empty(), list.is_empty());
        }
    }
}
