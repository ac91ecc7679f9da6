//! Whether the advised moments were good: what `Retry-After` said, against when jobs ended and
//! when their clients came back.
//!
//! The latest advice of each unfinished job is remembered, up to [`LIMIT`] jobs; of more, those
//! whose clients were told longest ago are forgotten. It lives in memory only: after a restart
//! nothing was advised.

use std::collections::HashMap;
use std::mem;
use std::sync::Mutex;
use std::time::Duration;

use crate::domain::estimate::Missed;
use crate::domain::id::JobId;
use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::telemetry::labels::{Direction, Timing};

use super::waiters::JobTicket;
use super::{Engine, View, lock};

/// Jobs of which the advice is remembered.
const LIMIT: usize = 100_000;

/// Submissions and ends of different jobs seldom meet at the same lock.
const SHARDS: usize = 16;

/// Memory in two halves: when the younger one is full, the older one is forgotten whole.
const HALF: usize = LIMIT / SHARDS / 2;

#[derive(Debug, Default)]
pub(super) struct Advice {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    young: HashMap<JobId, Timestamp>,
    old: HashMap<JobId, Timestamp>,
}

impl Shard {
    fn take(&mut self, id: &JobId) -> Option<Timestamp> {
        self.young.remove(id).or_else(|| self.old.remove(id))
    }
}

impl Advice {
    fn shard(&self, id: &JobId) -> &Mutex<Shard> {
        // Its last bits are as good as random.
        &self.shards[usize::from(id.as_bytes()[15]) % SHARDS]
    }

    /// Remembers that the client was told to ask again at `moment`, and answers what it was told
    /// before.
    fn tell(&self, id: JobId, moment: Timestamp) -> Option<Timestamp> {
        let mut shard = lock(self.shard(&id));
        let before = shard.take(&id);
        if shard.young.len() >= HALF {
            shard.old = mem::take(&mut shard.young);
        }
        shard.young.insert(id, moment);
        before
    }

    fn take(&self, id: JobId) -> Option<Timestamp> {
        lock(self.shard(&id)).take(&id)
    }
}

impl Engine {
    /// A client is told of the job, and when to ask again; not by an answer to `GET` of its
    /// status, for which there is [`Engine::status_answered`].
    pub fn advised(&self, view: &View) {
        let spec = &view.record.spec;
        if let (Some(seconds), false) = (view.retry_after, spec.queue.is_reserved()) {
            self.0.advice.tell(spec.id, self.now().plus(Duration::from_secs(seconds)));
        }
    }

    /// The same for a job that may have ended before its client is told of it; `ticket` was there
    /// before the job.
    pub(super) fn advised_new(&self, view: &View, ticket: &JobTicket<'_>) {
        self.advised(view);
        // Whoever ends it notes that first and then looks for the advice: one of the two finds it.
        if let Some(at) = ticket.ended().filter(|_| ticket.id() == view.record.spec.id) {
            let spec = &view.record.spec;
            self.advice_ends(ticket.id(), (&spec.queue, &spec.kind), at);
        }
    }

    /// A client asked for the job's status, and gets this. Whoever lets itself be `held` until
    /// something happens asks in time, whenever that is.
    pub fn status_answered(&self, view: &View, held: bool) {
        let timing = match view.retry_after {
            None => Timing::Finished,
            Some(seconds) => {
                let now = self.now();
                let moment = now.plus(Duration::from_secs(seconds));
                let before = self.0.advice.tell(view.record.spec.id, moment);
                if !held && before.is_some_and(|moment| now < moment) {
                    Timing::Early
                } else {
                    Timing::Due
                }
            }
        };
        self.0.events.status_poll(timing);
    }

    /// The job ended: the advice is compared with that, once.
    pub(super) fn advice_ends(
        &self,
        id: JobId,
        (queue, kind): (&Name, &Name),
        ended_at: Timestamp,
    ) {
        if let Some(moment) = self.0.advice.take(id) {
            let (direction, missed, offset) = if ended_at < moment {
                (Direction::Early, Missed::Early, moment.since(ended_at))
            } else {
                (Direction::Late, Missed::Late, ended_at.since(moment))
            };
            self.experience().observe_offset(queue, kind, missed, offset, ended_at);
            self.0.events.retry_after_offset(direction, offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> JobId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        bytes[15] = n as u8;
        JobId::from_bytes(bytes)
    }

    const fn at(ms: i64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn the_latest_advice_counts_and_is_taken_once() {
        let advice = Advice::default();
        assert_eq!(advice.tell(id(1), at(5)), None);
        assert_eq!(advice.tell(id(1), at(9)), Some(at(5)));
        assert_eq!(advice.take(id(2)), None);
        assert_eq!(advice.take(id(1)), Some(at(9)));
        assert_eq!(advice.take(id(1)), None);
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_are_forgotten() {
        let advice = Advice::default();
        let last = 3 * LIMIT as u32;
        for n in 0..last {
            advice.tell(id(n), at(1));
        }
        let held = |shard: &Mutex<Shard>| {
            let shard = lock(shard);
            shard.young.len() + shard.old.len()
        };
        assert!(advice.shards.iter().map(held).sum::<usize>() <= LIMIT);
        assert_eq!(advice.take(id(0)), None);
        for n in last - LIMIT as u32 / 4..last {
            assert_eq!(advice.take(id(n)), Some(at(1)), "{n}");
        }
    }
}
