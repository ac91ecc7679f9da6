//! The tokens that are in force, and whose a token is.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use subtle::ConditionallySelectable as _;

use super::quota::Rate;
use crate::domain::access::{Permit, Reach, Scope, SecretHash};
use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::engine::Caller;

/// A longer one is nobody's, and not worth a hash.
const LONGEST_TOKEN: usize = 512;

/// Who is let in.
#[derive(Debug, Clone)]
pub enum Keys {
    /// Everybody who can connect.
    Everybody,
    /// Everybody on this machine: there are no tokens.
    ThisMachine,
    /// The holders of these tokens.
    Tokens(Vec<(SecretHash, Permit)>),
}

/// Lets callers in. Clones are the same gate; what is in force is replaced as a whole.
#[derive(Clone)]
pub struct Gate(Arc<RwLock<Arc<Doors>>>);

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("tokens", &self.doors().tokens.len()).finish_non_exhaustive()
    }
}

struct Doors {
    this_machine: bool,
    /// Of whom no token is asked.
    everyone: Option<Arc<Holder>>,
    tokens: Vec<(SecretHash, Arc<Holder>)>,
}

/// A token that is in force.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) permit: Permit,
    pub(super) rate: Option<Rate>,
    /// Whose jobs it sees.
    pub(super) caller: Arc<Caller>,
    /// Whose jobs it works on: an operator that works does so for one namespace, unless said.
    pub(super) worker: Arc<Caller>,
}

impl Holder {
    fn new(permit: Permit, rate: Option<Rate>) -> Self {
        let operator = permit.scopes.has(Scope::Operate);
        let (namespace, all) = match &permit.reach {
            Reach::One(namespace) => (namespace.clone(), false),
            Reach::All => (Caller::everyone().namespace, true),
        };
        let lists = permit.lists.clone();
        let worker = Caller { namespace, all_namespaces: all, operator, lists };
        let caller = Caller { all_namespaces: all || operator, ..worker.clone() };
        Self { permit, rate, caller: Arc::new(caller), worker: Arc::new(worker) }
    }

    #[cfg(test)]
    pub(super) fn test(name: &str) -> Arc<Self> {
        let permit = Permit { name: Name::trusted(name), ..Permit::everything() };
        Arc::new(Self::new(permit, None))
    }

    fn everyone() -> Self {
        let caller = Arc::new(Caller::everyone());
        Self { permit: Permit::everything(), rate: None, worker: Arc::clone(&caller), caller }
    }
}

/// Why a caller is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stranger {
    NoToken,
    /// What is wrong with the header, and whether there may be a token in it.
    Malformed {
        why: &'static str,
        token: bool,
    },
    Unknown,
    Expired,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(Keys::ThisMachine)
    }
}

impl Gate {
    pub fn new(keys: Keys) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(doors(keys, &[], Duration::ZERO)))))
    }

    /// From now on these are let in and nobody else; requests that are in go on. A token that
    /// stays has no more requests left for it. `at` is on the clock of the requests.
    pub(super) fn replace_at(&self, keys: Keys, at: Duration) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(doors(keys, &current.tokens, at));
    }

    /// The same, now.
    pub fn replace(&self, keys: Keys) {
        self.replace_at(keys, super::uptime());
    }

    fn doors(&self) -> Arc<Doors> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether whoever is on this machine is let in without a token.
    pub(in crate::http) fn trusts_this_machine(&self) -> bool {
        self.doors().this_machine
    }

    /// Whose the request is.
    pub(super) fn holder(
        &self,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Arc<Holder>, Stranger> {
        let doors = self.doors();
        if let Some(everyone) = &doors.everyone {
            return Ok(Arc::clone(everyone));
        }
        let hash = SecretHash::of(bearer(headers)?);
        // All are looked at, whichever it is.
        let mut found = u32::MAX;
        for (at, (token, _)) in (0u32..).zip(&doors.tokens) {
            found.conditional_assign(&at, token.matches(&hash));
        }
        let (_, holder) = doors.tokens.get(found as usize).ok_or(Stranger::Unknown)?;
        if holder.permit.is_expired(now) {
            return Err(Stranger::Expired);
        }
        Ok(Arc::clone(holder))
    }
}

fn doors(keys: Keys, before: &[(SecretHash, Arc<Holder>)], at: Duration) -> Doors {
    let this_machine = matches!(keys, Keys::ThisMachine);
    let tokens = match keys {
        Keys::Everybody | Keys::ThisMachine => {
            let everyone = Some(Arc::new(Holder::everyone()));
            return Doors { this_machine, everyone, tokens: Vec::new() };
        }
        Keys::Tokens(tokens) => tokens,
    };
    let known = |name: &Name| before.iter().find(|(_, holder)| holder.permit.name == *name);
    let tokens = tokens.into_iter().map(|(hash, permit)| {
        let rate = permit.rate_per_second.map(|per_second| {
            let rate = known(&permit.name).and_then(|(_, holder)| holder.rate.clone());
            rate.filter(|rate| rate.is(per_second)).unwrap_or_else(|| Rate::new(per_second, at))
        });
        (hash, Arc::new(Holder::new(permit, rate)))
    });
    Doors { this_machine, everyone: None, tokens: tokens.collect() }
}

/// The token of `Authorization: Bearer` (RFC 6750, section 2.1).
fn bearer(headers: &HeaderMap) -> Result<&[u8], Stranger> {
    let malformed = |why, token| Stranger::Malformed { why, token };
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Stranger::NoToken)?;
    if values.next().is_some() {
        return Err(malformed("is there twice; send it once", true));
    }
    let text = value.to_str().map_err(|_| malformed("holds characters that no token has", true))?;
    let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(malformed(
            "is not of the scheme Bearer; write Bearer, a blank, the token",
            false,
        ));
    }
    let token = rest.trim();
    if token.is_empty() {
        return Err(malformed("has no token after Bearer", false));
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    if token.len() > LONGEST_TOKEN || !token.bytes().all(fits) {
        return Err(malformed("holds what is no token: too long, or with other characters", true));
    }
    Ok(token.as_bytes())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::domain::access::Scopes;

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    fn permit(name: &str) -> Permit {
        let scopes = Scopes::of(&[Scope::Submit]);
        Permit { name: Name::parse(name).unwrap(), scopes, ..Permit::everything() }
    }

    fn gate(tokens: &[(&str, Permit)]) -> Gate {
        Gate::new(keys(tokens))
    }

    fn keys(tokens: &[(&str, Permit)]) -> Keys {
        let hashed =
            |(secret, permit): &(&str, Permit)| (SecretHash::of(secret.as_bytes()), permit.clone());
        Keys::Tokens(tokens.iter().map(hashed).collect())
    }

    fn send(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn who(gate: &Gate, values: &[&str]) -> Result<String, Stranger> {
        gate.holder(&send(values), NOW).map(|holder| holder.permit.name.to_string())
    }

    #[test]
    fn each_token_is_its_holder_s() {
        let gate = gate(&[("old", permit("a")), ("new", permit("b")), ("x~1+/=", permit("c"))]);
        for (token, name) in [("Bearer old", "a"), ("bearer  new ", "b"), ("BEARER x~1+/=", "c")] {
            assert_eq!(who(&gate, &[token]).as_deref(), Ok(name), "{token}");
        }
        assert_eq!(who(&gate, &["Bearer ol"]), Err(Stranger::Unknown));
        assert_eq!(who(&gate, &[]), Err(Stranger::NoToken));
    }

    #[test]
    fn headers_that_are_not_understood_are_refused() {
        let gate = gate(&[("t", permit("a"))]);
        let long = format!("Bearer {}", "t".repeat(513));
        for (values, has_token) in [
            (&["Bearer t", "Bearer t"][..], true),
            (&["Basic dDp0"], false),
            (&["t"], false),
            (&[""], false),
            (&["Bearer"], false),
            (&["Bearer  "], false),
            (&["Bearer t t"], true),
            (&["Bearer t,"], true),
            (&["Bearer é"], true),
            (&[&long], true),
        ] {
            match who(&gate, values) {
                Err(Stranger::Malformed { token, .. }) => {
                    assert_eq!(token, has_token, "{values:?}");
                }
                other => panic!("{values:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn expired_tokens_are_told_from_unknown_ones() {
        let ends =
            |millis| Permit { expires_at: Some(Timestamp::from_millis(millis)), ..permit("a") };
        assert_eq!(who(&gate(&[("t", ends(1_000))]), &["Bearer t"]), Err(Stranger::Expired));
        assert!(who(&gate(&[("t", ends(1_001))]), &["Bearer t"]).is_ok());
    }

    #[test]
    fn without_tokens_everyone_is_let_in() {
        for (keys, this_machine) in [(Keys::Everybody, false), (Keys::ThisMachine, true)] {
            let gate = Gate::new(keys);
            assert!(who(&gate, &["Basic x", "y"]).is_ok() && who(&gate, &[]).is_ok());
            assert_eq!(gate.trusts_this_machine(), this_machine);
        }
    }

    #[test]
    fn what_is_replaced_keeps_its_rate() {
        let limited = |rate| Permit { rate_per_second: Some(rate), ..permit("a") };
        let gate = gate(&[("old", limited(1.0))]);
        let take = |token: &str| {
            let holder = gate.holder(&send(&[token]), NOW).unwrap();
            holder.rate.as_ref().unwrap().take(Duration::ZERO).0
        };
        assert!(take("Bearer old") && !take("Bearer old"));
        gate.replace_at(keys(&[("new", limited(1.0))]), Duration::ZERO);
        assert!(!take("Bearer new"), "nothing is won by a reload");
        assert_eq!(who(&gate, &["Bearer old"]), Err(Stranger::Unknown));
        gate.replace_at(keys(&[("new", limited(2.0))]), Duration::ZERO);
        assert!(take("Bearer new"), "another rate begins anew");
        gate.replace_at(Keys::Tokens(Vec::new()), Duration::ZERO);
        assert_eq!(who(&gate, &["Bearer new"]), Err(Stranger::Unknown), "no tokens let nobody in");
    }

    #[test]
    fn operators_see_all_and_work_for_one() {
        let scopes = Scopes::of(&[Scope::Operate, Scope::Work]);
        let holder = Holder::new(Permit { scopes, ..permit("a") }, None);
        assert!(holder.caller.all_namespaces && holder.caller.operator);
        assert!(!holder.worker.all_namespaces);
        let all = Permit { reach: Reach::All, ..permit("a") };
        assert!(Holder::new(all, None).worker.all_namespaces);
        let one = Holder::new(permit("a"), None);
        assert!(!one.caller.all_namespaces && !one.caller.operator);
        assert!(!format!("{:?}", gate(&[("t", permit("a"))])).contains("Secret"));
    }
}
