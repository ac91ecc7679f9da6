//! What a check found: where, what is wrong, and what to do.

use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub place: String,
    pub wrong: String,
    pub cure: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.wrong, self.cure)
    }
}

/// Findings at one place after another.
#[derive(Debug, Default)]
pub struct Findings {
    place: String,
    all: Vec<Finding>,
}

impl Findings {
    pub fn at(&mut self, place: impl Into<String>) -> &mut Self {
        self.place = place.into();
        self
    }

    pub fn say(&mut self, wrong: impl Into<String>, cure: impl Into<String>) {
        let (wrong, cure) = (wrong.into(), cure.into());
        let finding = Finding { place: self.place.clone(), wrong, cure };
        // What is wrong once with a query is often met twice on the way through it.
        if !self.all.contains(&finding) {
            self.all.push(finding);
        }
    }

    #[track_caller]
    pub fn none(&self) {
        let lines: Vec<String> = self.all.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "\n{}", lines.join("\n"));
    }

    /// For sins: there is this one finding, and no other.
    #[track_caller]
    pub fn only(&self, place: &str, wrong: &str, cure: &str) {
        let [found] = &self.all[..] else {
            panic!("one finding was expected, about `{wrong}`: {:#?}", self.all);
        };
        assert!(found.place.contains(place), "`{place}` is not where: {found}");
        assert!(found.wrong.contains(wrong), "`{wrong}` is not what is wrong: {found}");
        assert!(found.cure.contains(cure), "`{cure}` is not what to do: {found}");
    }
}
