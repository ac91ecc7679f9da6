//! Which faults run, and in which company.
//!
//! - As it is: those of the short form, all at the same time.
//! - `FULL=1`: then those that are rarer too, in a round of their own: cores are few.
//! - `FAULTS="queue full,poison job"`: those alone, by their names in the table, whichever form they
//!   belong to. Nothing is compared with the document then.

use crate::case::Fault;

pub(crate) struct Choice {
    /// Those of one round run at the same time.
    pub(crate) rounds: Vec<Vec<Fault>>,
    /// Comes when all is over.
    pub(crate) last: Option<Fault>,
    pub(crate) extent: Extent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    Short,
    Full,
    Selected,
}

impl Choice {
    pub(crate) fn made(short: Vec<Fault>, further: Vec<Fault>, last: Fault) -> Self {
        if let Ok(wanted) = std::env::var("FAULTS") {
            return Self::of(&wanted, short, further, last);
        }
        if std::env::var_os("FULL").is_some() {
            let rounds = vec![short, further];
            return Self { rounds, last: Some(last), extent: Extent::Full };
        }
        Self { rounds: vec![short], last: Some(last), extent: Extent::Short }
    }

    fn of(wanted: &str, short: Vec<Fault>, further: Vec<Fault>, last: Fault) -> Self {
        // Names have commas in them: each is taken out where it stands.
        let mut rest = wanted.to_owned();
        let mut all: Vec<Fault> = short.into_iter().chain(further).collect();
        let names: Vec<&str> = all.iter().map(|f| f.name).chain([last.name]).collect();
        let mut longest_first = names.clone();
        longest_first.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let mut chosen = Vec::new();
        for name in longest_first {
            if rest.contains(name) {
                rest = rest.replace(name, "");
                chosen.push(name);
            }
        }
        let clean = rest.chars().all(|c| c == ',' || c.is_whitespace());
        assert!(clean && !chosen.is_empty(), "FAULTS={wanted:?} names none of {names:#?}");
        all.retain(|fault| chosen.contains(&fault.name));
        let last = chosen.contains(&last.name).then_some(last);
        Self { rounds: vec![all], last, extent: Extent::Selected }
    }
}
