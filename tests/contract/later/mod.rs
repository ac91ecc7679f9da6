//! Rules of what comes next.

pub mod described;
pub mod estimates;
pub mod guarded;
pub mod namespaces;
pub mod retries;
pub mod settings;
pub mod tokens;
