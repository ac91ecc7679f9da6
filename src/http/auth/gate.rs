//! The tokens that are in force, and whose a token is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use subtle::ConditionallySelectable as _;
use tokio::sync::watch;

use super::quota::Rate;
use crate::domain::access::{Permit, Reach, Scope, SecretHash};
use crate::domain::names::Name;
use crate::domain::time::Timestamp;
use crate::engine::{Caller, Engine};

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
pub struct Gate(Arc<watch::Sender<Arc<Doors>>>);

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

impl Doors {
    /// What `holder`, who was let in once, is to these.
    fn standing(&self, holder: &Holder, now: Timestamp) -> Standing {
        let Some(hash) = &holder.hash else {
            let gone = Standing::Gone(Stranger::NoToken);
            return if self.everyone.is_some() { Standing::Same } else { gone };
        };
        if self.everyone.is_some() {
            return Standing::Changed;
        }
        match self.tokens.iter().find(|(known, _)| bool::from(known.matches(hash))) {
            None => Standing::Gone(Stranger::Unknown),
            Some((_, now_is)) if now_is.permit.is_expired(now) => Standing::Gone(Stranger::Expired),
            Some((_, now_is)) if now_is.may_the_same(holder) => Standing::Same,
            Some(_) => Standing::Changed,
        }
    }

    fn end_of(&self, holder: &Holder) -> Option<Timestamp> {
        let hash = holder.hash.as_ref()?;
        let (_, holder) = self.tokens.iter().find(|(known, _)| bool::from(known.matches(hash)))?;
        holder.permit.expires_at
    }
}

/// What has become of a token since it was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Same,
    /// It is for other things now.
    Changed,
    Gone(Stranger),
}

/// A token that is in force.
#[derive(Debug)]
pub(super) struct Holder {
    /// `None`: whoever needs none.
    hash: Option<SecretHash>,
    pub(super) permit: Permit,
    pub(super) rate: Option<Rate>,
    /// Whose jobs it sees.
    pub(super) caller: Arc<Caller>,
    /// Whose jobs it works on: an operator that works does so for one namespace, unless said.
    pub(super) worker: Arc<Caller>,
}

impl Holder {
    fn new(hash: Option<SecretHash>, permit: Permit, rate: Option<Rate>) -> Self {
        let operator = permit.scopes.has(Scope::Operate);
        let (namespace, all) = match &permit.reach {
            Reach::One(namespace) => (namespace.clone(), false),
            Reach::All => (Caller::everyone().namespace, true),
        };
        let lists = permit.lists.clone();
        let worker = Caller { namespace, all_namespaces: all, operator, lists };
        let caller = Caller { all_namespaces: all || operator, ..worker.clone() };
        Self { hash, permit, rate, caller: Arc::new(caller), worker: Arc::new(worker) }
    }

    /// Whatever it is called, and however fast.
    fn may_the_same(&self, other: &Self) -> bool {
        let right = |permit: &Permit| Permit {
            name: other.permit.name.clone(),
            rate_per_second: None,
            ..permit.clone()
        };
        right(&self.permit) == right(&other.permit)
    }

    #[cfg(test)]
    pub(super) fn test(name: &str) -> Arc<Self> {
        let permit = Permit { name: Name::trusted(name), ..Permit::everything() };
        Arc::new(Self::new(None, permit, None))
    }

    fn everyone() -> Self {
        let caller = Arc::new(Caller::everyone());
        let permit = Permit::everything();
        Self { hash: None, permit, rate: None, worker: Arc::clone(&caller), caller }
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
        Self(Arc::new(watch::Sender::new(Arc::new(doors(keys, &[], Duration::ZERO)))))
    }

    /// From now on these are let in and nobody else; of the requests that are in, those that wait
    /// are told (see [`Gate::until`]). A token that stays has no more requests left for it. `at` is
    /// on the clock of the requests.
    pub(super) fn replace_at(&self, keys: Keys, at: Duration) {
        self.0.send_modify(|current| *current = Arc::new(doors(keys, &current.tokens, at)));
    }

    /// The same, now.
    pub fn replace(&self, keys: Keys) {
        self.replace_at(keys, super::uptime());
    }

    fn doors(&self) -> Arc<Doors> {
        Arc::clone(&self.0.borrow())
    }

    /// Waits until something `is_so` of the token of somebody who was let in: a reload has changed
    /// it, or it has come to its end.
    pub(super) async fn until(
        &self,
        holder: &Holder,
        engine: &Engine,
        is_so: impl Fn(Standing) -> bool,
    ) -> Standing {
        let mut doors = self.0.subscribe();
        loop {
            let current = Arc::clone(&doors.borrow_and_update());
            let now = engine.now();
            let standing = current.standing(holder, now);
            if is_so(standing) {
                return standing;
            }
            let end = current.end_of(holder).map(|at| at.since(now));
            drop(current);
            tokio::select! {
                // The sender lives as long as the gate.
                changed = doors.changed() => drop(changed),
                () = tokio::time::sleep(end.unwrap_or_default()), if end.is_some() => {}
            }
        }
    }

    /// Whether everybody who can connect is let in, because the operator said so.
    pub fn is_open(&self) -> bool {
        let doors = self.doors();
        doors.everyone.is_some() && !doors.this_machine
    }

    /// Whether whoever comes must bring a token.
    pub fn asks_for_tokens(&self) -> bool {
        self.doors().everyone.is_none()
    }

    /// The tokens in force.
    pub fn permits(&self) -> Vec<(SecretHash, Permit)> {
        self.doors().tokens.iter().map(|(hash, of)| (*hash, of.permit.clone())).collect()
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
        (hash, Arc::new(Holder::new(Some(hash), permit, rate)))
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
    use crate::domain::access::{Lists, Scopes};

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
    fn what_becomes_of_a_token_is_known() {
        let gate = gate(&[("t", permit("a"))]);
        let holder = gate.holder(&send(&["Bearer t"]), NOW).unwrap();
        let after = |tokens: &[(&str, Permit)]| {
            gate.replace_at(keys(tokens), Duration::ZERO);
            gate.doors().standing(&holder, NOW)
        };
        let quicker = Permit { rate_per_second: Some(9.0), ..permit("renamed") };
        assert_eq!(after(&[("u", permit("b")), ("t", quicker)]), Standing::Same);
        let lists = Lists { queues: Some(vec![Name::trusted("q")]), kinds: None };
        let fewer = Permit { lists, ..permit("a") };
        assert_eq!(after(&[("t", fewer)]), Standing::Changed);
        let ended = Permit { expires_at: Some(NOW), ..permit("a") };
        assert_eq!(after(&[("t", ended)]), Standing::Gone(Stranger::Expired));
        // Another token of the same name is another.
        assert_eq!(after(&[("u", permit("a"))]), Standing::Gone(Stranger::Unknown));
        gate.replace_at(Keys::Everybody, Duration::ZERO);
        assert_eq!(gate.doors().standing(&holder, NOW), Standing::Changed);
        let nobody = gate.holder(&send(&[]), NOW).unwrap();
        assert_eq!(gate.doors().standing(&nobody, NOW), Standing::Same);
        gate.replace_at(keys(&[("t", permit("a"))]), Duration::ZERO);
        assert_eq!(gate.doors().standing(&nobody, NOW), Standing::Gone(Stranger::NoToken));
        assert_eq!(gate.doors().standing(&holder, NOW), Standing::Same);
    }

    #[test]
    fn operators_see_all_and_work_for_one() {
        let scopes = Scopes::of(&[Scope::Operate, Scope::Work]);
        let holder = Holder::new(None, Permit { scopes, ..permit("a") }, None);
        assert!(holder.caller.all_namespaces && holder.caller.operator);
        assert!(!holder.worker.all_namespaces);
        let all = Permit { reach: Reach::All, ..permit("a") };
        assert!(Holder::new(None, all, None).worker.all_namespaces);
        let one = Holder::new(None, permit("a"), None);
        assert!(!one.caller.all_namespaces && !one.caller.operator);
        assert!(!format!("{:?}", gate(&[("t", permit("a"))])).contains("Secret"));
    }
}
