//! Names that travel: queues, kinds, namespaces and workers, validated once at the edge.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A name matching `^[a-z0-9][a-z0-9._:-]{0,127}$`: a queue, a kind or a namespace.
///
/// The alphabet is safe in URLs, metric label values, SQL and shells without escaping.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// The rule, for programs.
pub const NAME_PATTERN: &str = "^[a-z0-9][a-z0-9._:-]{0,127}$";

/// The rule, for messages.
pub const NAME_RULE: &str = "1 to 128 characters of a-z 0-9 . _ : -, the first a letter or digit";

impl Name {
    pub fn parse(text: &str) -> Option<Self> {
        is_name(text).then(|| Self(Arc::from(text)))
    }

    /// For names read back from a store, which were validated when they came in.
    pub fn trusted(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The name of something of the server's own, such as a queue that clients neither see nor
    /// name: no text that comes in from outside is one.
    pub(crate) fn ours(text: &'static str) -> Self {
        debug_assert!(text.starts_with(OURS) || is_reserved_kind(text), "{text}");
        Self::trusted(text)
    }

    /// Whether it is a queue of the server's own.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with(OURS)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How the names of the server's own queues begin.
const OURS: char = '_';

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let head = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let tail = |b: &u8| head(b) || matches!(b, b'.' | b'_' | b':' | b'-');
    (1..=128).contains(&bytes.len()) && head(&bytes[0]) && bytes.iter().all(tail)
}

/// Kinds of the server's own jobs; clients may not use them.
pub fn is_reserved_kind(kind: &str) -> bool {
    kind == "system" || kind.starts_with("system.")
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// A worker process, by its own word: 1 to 512 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(Arc<str>);

impl WorkerId {
    pub const MAX_BYTES: usize = 512;

    pub fn parse(text: &str) -> Option<Self> {
        let ok = !text.is_empty()
            && text.len() <= Self::MAX_BYTES
            && !text.chars().any(char::is_control);
        ok.then(|| Self(Arc::from(text)))
    }

    pub fn trusted(text: &str) -> Self {
        Self(Arc::from(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for WorkerId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_rule_and_nothing_else() {
        for good in ["a", "0", "report.render", "a:b-c_d.e", &"x".repeat(128)] {
            assert!(Name::parse(good).is_some(), "{good}");
        }
        let long = "x".repeat(129);
        for bad in ["", "_q", ".a", "A", "a b", "a/b", "é", "a\n", "a\0", "-a", &long, "a\"}"] {
            assert!(Name::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn reserved_kinds() {
        assert!(is_reserved_kind("system.canary") && is_reserved_kind("system"));
        assert!(!is_reserved_kind("systemic"));
    }

    #[test]
    fn reserved_queues_cannot_come_from_outside() {
        assert!(Name::ours("_canary").is_reserved() && Name::parse("_canary").is_none());
        assert!(!Name::parse("a_").unwrap().is_reserved());
    }

    #[test]
    fn worker_ids() {
        assert!(WorkerId::parse("host-1/π").is_some());
        assert!(WorkerId::parse("").is_none() && WorkerId::parse("a\tb").is_none());
        assert!(WorkerId::parse(&"w".repeat(513)).is_none());
    }
}
