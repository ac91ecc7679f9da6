//! What was learnt, written down, so that a restart does not begin with guesses.

use std::time::Duration;

use super::super::names::Name;
use super::super::time::Timestamp;
use super::experience::{Experience, Key, Known, Record};
use super::sketch::Sketch;
use super::window::Window;

/// Of the form that is written, which is read by no other version.
const VERSION: u8 = 2;

/// Older things are not worth remembering.
pub const REMEMBERED: Duration = Duration::from_secs(86_400);

/// One key as it is kept. A kind's is of no queue, and a queue's of no kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    pub queue: Option<Name>,
    pub kind: Option<Name>,
    pub at: Timestamp,
    /// Understood only here.
    pub body: Vec<u8>,
}

/// Which state of the key was written down.
#[derive(Debug)]
pub struct Mark(Key, u64);

impl Experience {
    /// These keys, to be kept; and their marks, for [`Self::were_kept`].
    pub fn to_keep(&mut self, keys: &[Key], now: Timestamp) -> (Vec<Saved>, Vec<Mark>) {
        let kept = keys.iter().filter_map(|key| {
            let (known, mark) = self.looked_up(key, now)?;
            let (queue, kind) = match key {
                Key::Pair(queue, kind) => (Some(queue.clone()), Some(kind.clone())),
                Key::Kind(kind) => (None, Some(kind.clone())),
                Key::Queue(queue) => (Some(queue.clone()), None),
            };
            let saved = Saved { queue, kind, at: now, body: encode(known, now) };
            Some((saved, Mark(key.clone(), mark)))
        });
        kept.unzip()
    }

    /// They are safe: from now on only what is newer is worth keeping.
    pub fn were_kept(&mut self, marks: &[Mark]) {
        for Mark(key, mark) in marks {
            self.has_written(key, *mark);
        }
    }

    /// Takes in what was kept, the first ones first when there is not room for all. Answers how
    /// many could not be read; those are as if they had never been.
    pub fn remember(&mut self, saved: Vec<Saved>, now: Timestamp) -> usize {
        let mut unreadable = 0;
        for Saved { queue, kind, at, body } in saved {
            let key = match (queue, kind) {
                (Some(queue), Some(kind)) => Key::Pair(queue, kind),
                (None, Some(kind)) => Key::Kind(kind),
                (Some(queue), None) => Key::Queue(queue),
                (None, None) => {
                    unreadable += 1;
                    continue;
                }
            };
            match decode(&body, at.min(now)) {
                Some(known) => drop(self.put_back(key, known)),
                None => unreadable += 1,
            }
        }
        unreadable
    }
}

fn encode(known: &Known, at: Timestamp) -> Vec<u8> {
    let mut out = vec![VERSION];
    window(&mut out, &known.run, at);
    window(&mut out, &known.wait, at);
    if let Some(record) = &known.record {
        record.windows().into_iter().for_each(|w| window(&mut out, w, at));
    }
    out.extend(check(&out));
    out
}

/// The slots, and then the quarters: each with its age, so that none is younger after a restart.
fn window(out: &mut Vec<u8>, window: &Window, at: Timestamp) {
    for parts in window.parts(at) {
        number(out, parts.len() as u64);
        for (ago, sketch) in parts {
            number(out, ago);
            number(out, sketch.buckets() as u64);
            for (step, count) in sketch.steps() {
                number(out, step);
                number(out, count);
            }
        }
    }
}

/// Seven bits a byte, the low ones first; the high bit says that more follow.
fn number(out: &mut Vec<u8>, mut n: u64) {
    while n > 0x7f {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// FNV-1a: enough against accidents.
fn check(bytes: &[u8]) -> [u8; 4] {
    let fold = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(0x811c_9dc5, fold).to_le_bytes()
}

fn decode(body: &[u8], at: Timestamp) -> Option<Known> {
    let (text, sum) = body.split_last_chunk::<4>()?;
    if check(text) != *sum {
        return None;
    }
    let (&VERSION, mut rest) = text.split_first()? else { return None };
    let run = read_window(&mut rest, at)?;
    let wait = read_window(&mut rest, at)?;
    let mut record = None;
    if !rest.is_empty() {
        let mut next = || read_window(&mut rest, at);
        let (completed, failed, early, late) = (next()?, next()?, next()?, next()?);
        record = Some(Box::new(Record { completed, failed, early, late }));
    }
    rest.is_empty().then(|| Known::new(run, wait, record))
}

fn read_window(rest: &mut &[u8], at: Timestamp) -> Option<Window> {
    let slots = read_parts(rest)?;
    Window::restored([slots, read_parts(rest)?], at)
}

fn read_parts(rest: &mut &[u8]) -> Option<Vec<(u64, Sketch)>> {
    let count = read_number(rest)?;
    let mut parts = Vec::new();
    for _ in 0..count {
        let ago = read_number(rest)?;
        parts.push((ago, read_sketch(rest)?));
    }
    Some(parts)
}

fn read_sketch(rest: &mut &[u8]) -> Option<Sketch> {
    let buckets = read_number(rest)?;
    // No allocation by a number that was only read: the pairs are read first.
    let mut whole = true;
    let pairs = (0..buckets).map_while(|_| {
        let pair = read_number(rest).zip(read_number(rest));
        whole &= pair.is_some();
        pair
    });
    let sketch = Sketch::from_steps(pairs)?;
    whole.then_some(sketch)
}

fn read_number(rest: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::experience::Missed;
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn learned(runs: &[u64]) -> Experience {
        let (queue, kind) = (Name::trusted("q"), Name::trusted("k"));
        let mut known = Experience::default();
        for (at, ms) in runs.iter().enumerate() {
            let then = NOW.minus(Duration::from_secs(60 * (runs.len() - at) as u64));
            known.observe_run(&queue, &kind, Duration::from_millis(*ms), then);
            known.observe_wait(&queue, &kind, Duration::from_millis(*ms / 2), then);
            known.observe_end(&queue, &kind, ms % 2 == 0, then);
            known.observe_offset(&queue, &kind, Missed::Early, Duration::from_millis(*ms), then);
        }
        known
    }

    fn kept(known: &mut Experience) -> (Vec<Saved>, Vec<Mark>) {
        let keys = known.unwritten();
        known.to_keep(&keys, NOW)
    }

    #[test]
    fn only_news_are_kept_again() {
        let (queue, kind) = (Name::trusted("q"), Name::trusted("k"));
        let mut known = learned(&[5; 30]);
        let (saved, marks) = kept(&mut known);
        assert_eq!(saved.len(), 3, "the pair, the kind, the queue");
        assert_eq!(known.unwritten().len(), 3, "as long as nobody says that they are safe");
        known.observe_run(&queue, &kind, Duration::from_millis(9), NOW);
        known.were_kept(&marks);
        assert_eq!(known.unwritten().len(), 3, "what came meanwhile is not");
        let (_, marks) = kept(&mut known);
        known.were_kept(&marks);
        assert!(known.unwritten().is_empty());
    }

    #[test]
    fn what_is_known_already_is_not_replaced() {
        let (queue, kind) = (Name::trusted("q"), Name::trusted("k"));
        let (saved, _) = kept(&mut learned(&[5_000; 30]));
        let mut known = learned(&[1_000; 30]);
        assert_eq!(known.remember(saved, NOW), 0);
        let run = known.run(&queue, &kind, None, NOW);
        assert_eq!(run.quantile(0.5).as_secs_f64().round() as u64, 1);
    }

    #[test]
    fn of_too_many_the_first_are_remembered() {
        let (mut saved, _) = kept(&mut learned(&[5_000; 30]));
        saved.sort_by_key(|one| one.kind.is_none());
        let mut small = Experience::with_limits(4, 1_000);
        assert_eq!(small.remember(saved, NOW), 0);
        assert_eq!(small.len(), 2);
    }

    #[test]
    fn damage_is_noticed() {
        let (saved, _) = kept(&mut learned(&[5_000; 30]));
        for at in 0..saved[0].body.len() {
            for flip in [1, 0x80] {
                let mut damaged = saved[0].clone();
                damaged.body[at] ^= flip;
                let mut fresh = Experience::default();
                assert_eq!(fresh.remember(vec![damaged], NOW), 1, "byte {at}");
                assert!(fresh.is_empty());
            }
        }
        let mut later = saved[0].clone();
        later.body.truncate(later.body.len() - 4);
        later.body[0] = VERSION + 1;
        later.body.extend(check(&later.body));
        assert_eq!(Experience::default().remember(vec![later], NOW), 1, "another version's");
        let nobodys = Saved { queue: None, kind: None, ..saved[0].clone() };
        assert_eq!(Experience::default().remember(vec![nobodys], NOW), 1);
    }

    proptest! {
        #[test]
        fn what_was_kept_is_what_is_remembered(
            runs in prop::collection::vec(0..10_000_000u64, 1..200),
        ) {
            let mut known = learned(&runs);
            let (saved, _) = kept(&mut known);
            let mut again = Experience::default();
            prop_assert_eq!(again.remember(saved.clone(), NOW), 0);
            prop_assert_eq!(again.kinds(NOW), known.kinds(NOW));
            prop_assert!(again.unwritten().is_empty());
            let all: Vec<Key> = known.unwritten();
            prop_assert_eq!(again.to_keep(&all, NOW).0, saved);
        }

        #[test]
        fn any_bytes_are_survived(mut body in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(first) = body.first_mut() {
                *first = VERSION;
            }
            body.extend(check(&body));
            let one = Saved { queue: None, kind: Some(Name::trusted("k")), at: NOW, body };
            let mut known = Experience::default();
            if known.remember(vec![one], NOW) == 0 {
                known.kinds(NOW);
            }
        }
    }
}
