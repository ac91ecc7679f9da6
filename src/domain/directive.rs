//! What the server tells a worker to do next, on every answer that it gets.

/// A directive for a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Directive {
    #[default]
    Continue,
    /// Take no more work, finish what is held, and leave.
    Drain,
}

impl Directive {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Drain => "drain",
        }
    }
}
