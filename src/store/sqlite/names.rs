//! How many names there may be: of queues, and as many of kinds.
//!
//! Clients make names by using them, so a stranger can make any number. Beyond [`MAX_NAMES`] no new
//! ones come; and where several namespaces share a server, none may bring in more than its share,
//! lest one that makes names of what belongs into payloads stops the work of all. Names that are
//! known are everybody's, whoever brought them in.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::domain::job::Spec;
use crate::domain::names::Name;
use crate::store::{MAX_NAMES, NamesFull, NewJob, Submitted};

use super::book::Names;
use super::writer::Tx;

/// What one namespace may bring in. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Share(Arc<AtomicUsize>);

impl Default for Share {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(usize::MAX)))
    }
}

impl Share {
    pub(super) fn set(&self, names: Option<usize>) {
        self.0.store(names.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The names of one sort that are known, and those that a batch would add.
struct Coming<'a> {
    known: &'a Names,
    new: HashSet<&'a Name>,
    /// By namespace.
    by: HashMap<&'a Name, usize>,
    share: usize,
}

impl<'a> Coming<'a> {
    fn new(known: &'a Names, share: usize) -> Self {
        Self { known, new: HashSet::new(), by: HashMap::new(), share }
    }

    /// Why there is no room for `name`, which `namespace` brings; `id` is its number if it has one.
    fn full(&mut self, name: &'a Name, namespace: &'a Name, id: Option<i64>) -> Option<NamesFull> {
        if self.known.id(name).is_some() || !self.new.insert(name) {
            return None;
        }
        if self.known.len() + self.new.len() > MAX_NAMES {
            return Some(NamesFull::Store);
        }
        let coming = self.by.entry(namespace).or_default();
        *coming += 1;
        let brought = id.map_or(0, |id| self.known.brought(id));
        (brought + *coming > self.share).then_some(NamesFull::Namespace { max: self.share })
    }
}

/// The first of these jobs for whose queue or kind there is no room, and why.
fn first_without_room<'a>(
    tx: &'a Tx<'_>,
    specs: impl Iterator<Item = (usize, &'a Spec)>,
) -> Option<(usize, NamesFull)> {
    let share = tx.share.get();
    let mut queues = Coming::new(&tx.book.queues, share);
    let mut kinds = Coming::new(&tx.book.kinds, share);
    for (at, spec) in specs.filter(|(_, spec)| !spec.queue.is_reserved()) {
        let id = tx.book.namespaces.id(&spec.namespace);
        let full = queues
            .full(&spec.queue, &spec.namespace, id)
            .or_else(|| kinds.full(&spec.kind, &spec.namespace, id));
        if let Some(full) = full {
            return Some((at, full));
        }
    }
    None
}

/// The first of the jobs to be created whose queue or kind would be one name too many.
pub(super) fn too_many(
    tx: &Tx<'_>,
    jobs: &[NewJob],
    answers: &[Submitted],
    replayed: &[usize],
) -> Option<(usize, NamesFull)> {
    let created = |at: &usize| answers[*at] == Submitted::Created && !replayed.contains(at);
    let jobs = jobs.iter().enumerate().filter(|(at, _)| created(at));
    first_without_room(tx, jobs.map(|(at, new)| (at, &new.spec)))
}

/// The same for one job.
pub(super) fn no_room_for(tx: &Tx<'_>, spec: &Spec) -> Option<NamesFull> {
    first_without_room(tx, std::iter::once((0, spec))).map(|(_, full)| full)
}

/// Whether an operator may speak of this queue: it is known, or there is room for its name.
pub(super) fn has_room_for_queue(tx: &Tx<'_>, queue: &Name) -> bool {
    let known = &tx.book.queues;
    known.id(queue).is_some() || queue.is_reserved() || known.len() < MAX_NAMES
}
