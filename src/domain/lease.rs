//! A lease: the right to run one attempt, until it is settled or taken back.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::names::WorkerId;
use super::time::Timestamp;
use super::trace::AttemptTrace;

/// The secret that a worker presents with every write: 128 random bits, base64url. Only its hash
/// is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct LeaseToken([u8; 16]);

impl LeaseToken {
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    pub fn reveal(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub fn hash(&self) -> TokenHash {
        let digest = Sha256::digest(self.0);
        let mut half = [0u8; 16];
        half.copy_from_slice(&digest[..16]);
        TokenHash(half)
    }
}

impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeaseToken(…)")
    }
}

/// The first 128 bits of the token's SHA-256: as hard to guess as the token itself.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 16]);

impl TokenHash {
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl PartialEq for TokenHash {
    /// Constant time, so that an answer's delay tells nothing about a stored hash.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// Who runs the current attempt, and until when.
///
/// Past `expires_at` or `timeout_at` the lease is *due* to be taken back, and still valid until
/// that has happened: a worker that is a moment late does not lose finished work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub worker: WorkerId,
    pub token: TokenHash,
    /// What one heartbeat extends the lease to.
    pub length: Duration,
    pub claimed_at: Timestamp,
    pub expires_at: Timestamp,
    /// The hard limit of the attempt, whatever the heartbeats say.
    pub timeout_at: Timestamp,
    /// `None`: nobody traces the attempt.
    pub trace: Option<Box<AttemptTrace>>,
}

/// Why the reaper took a lease back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TakeBackCause {
    WorkerSilent,
    HardTimeout,
}

impl TakeBackCause {
    pub const ALL: [Self; 2] = [Self::WorkerSilent, Self::HardTimeout];

    /// The metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WorkerSilent => "worker_silent",
            Self::HardTimeout => "hard_timeout",
        }
    }

    /// The `error.type` that the client sees.
    pub const fn error_type(self) -> &'static str {
        match self {
            Self::WorkerSilent => "lease-expired",
            Self::HardTimeout => "attempt-timeout",
        }
    }
}

impl Lease {
    /// Whether, and why, the reaper should take this lease back at `now`.
    pub fn due(&self, now: Timestamp) -> Option<TakeBackCause> {
        if now >= self.timeout_at {
            Some(TakeBackCause::HardTimeout)
        } else if now >= self.expires_at {
            Some(TakeBackCause::WorkerSilent)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_hide() {
        let t = LeaseToken::new([3; 16]);
        assert_eq!(LeaseToken::parse(&t.reveal()), Some(t.clone()));
        assert!(LeaseToken::parse("short").is_none() && LeaseToken::parse("").is_none());
        assert_eq!(format!("{t:?} {:?}", t.hash()), "LeaseToken(…) TokenHash(…)");
        assert!(t.hash() != LeaseToken::new([4; 16]).hash());
    }
}
