//! How many requests a token may make: a bucket, and how it is told.
//!
//! The fields are those of draft-ietf-httpapi-ratelimit-headers: `RateLimit-Policy` is the rule,
//! `RateLimit` what is left of it and for how long.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::bucket::TokenBucket;

pub(super) const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub(super) const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The name of the only policy that there is.
pub(crate) const POLICY: &str = "requests";

/// A token's rate. Clones share what is left.
#[derive(Debug, Clone)]
pub(super) struct Rate {
    per_second: f64,
    bucket: Arc<Mutex<TokenBucket>>,
    policy: HeaderValue,
}

/// What is left after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) requests: u64,
    /// Whole seconds until there is as much as there can be, at least 1.
    pub(super) seconds: u64,
}

impl Rate {
    pub(super) fn new(per_second: f64, at: Duration) -> Self {
        // Never more than is so: the burst is one second of the rate, and at least one request.
        let requests = per_second.max(1.0).floor();
        let seconds = (requests / per_second).ceil().max(1.0);
        let policy = format!("\"{POLICY}\";q={};w={}", requests as u64, seconds as u64);
        Self {
            per_second,
            bucket: Arc::new(Mutex::new(TokenBucket::new(per_second, at))),
            policy: HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("")),
        }
    }

    /// Whether it is the same rule.
    #[expect(
        clippy::float_cmp,
        reason = "read from a file twice: the same text is the same number"
    )]
    pub(super) fn is(&self, per_second: f64) -> bool {
        self.per_second == per_second
    }

    /// Takes one request, if there is one; and what is left then.
    pub(super) fn take(&self, at: Duration) -> (bool, Left) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = bucket.take(1, at) == 1;
        let wait = bucket.wait(at);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        (taken, Left { requests: bucket.tokens(at), seconds: seconds.max(1) })
    }

    pub(super) fn tell(&self, left: Left, headers: &mut HeaderMap) {
        let text = format!("\"{POLICY}\";r={};t={}", left.requests, left.seconds);
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(RATELIMIT, value);
            headers.insert(RATELIMIT_POLICY, self.policy.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(rate: &Rate, left: Left) -> (String, String) {
        let mut headers = HeaderMap::new();
        rate.tell(left, &mut headers);
        let text = |name| headers[name].to_str().unwrap().to_owned();
        (text(RATELIMIT_POLICY), text(RATELIMIT))
    }

    #[test]
    fn a_second_s_worth_and_then_a_wait() {
        let rate = Rate::new(2.5, Duration::ZERO);
        let (first, left) = rate.take(Duration::ZERO);
        assert!(first);
        let policy = "\"requests\";q=2;w=1".to_owned();
        assert_eq!(told(&rate, left), (policy, "\"requests\";r=1;t=1".to_owned()));
        assert!(rate.take(Duration::ZERO).0);
        assert_eq!(rate.take(Duration::ZERO), (false, Left { requests: 0, seconds: 1 }));
        assert!(rate.clone().take(Duration::from_secs(1)).0, "clones share");
    }

    #[test]
    fn a_slow_rate_says_how_long() {
        let rate = Rate::new(0.3, Duration::ZERO);
        let (first, left) = rate.take(Duration::ZERO);
        assert!(first && left == Left { requests: 0, seconds: 4 }, "{left:?}");
        assert_eq!(told(&rate, left).0, "\"requests\";q=1;w=4");
        assert_eq!(rate.take(Duration::from_secs(1)), (false, Left { requests: 0, seconds: 3 }));
        assert!(rate.take(Duration::from_secs(4)).0);
        assert!(rate.is(0.3) && !rate.is(0.30001));
    }
}
