//! What a caller may do: scopes, and the namespace, queues and kinds that they hold for.
//!
//! A token is a secret that its holder sends; only the hash is kept ([`SecretHash`]), beside what
//! the token permits ([`Permit`]). Nothing here knows how a token travels.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::names::Name;
use super::time::Timestamp;

/// Where jobs go when nobody says.
pub const DEFAULT_NAMESPACE: &str = "default";

/// How the tokens of ours begin, so that whoever looks for secrets knows one when he sees it.
pub const TOKEN_PREFIX: &str = "pnct_";

/// What a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Create, follow, cancel and delete jobs of its namespace.
    Submit,
    /// Claim and settle jobs.
    Work,
    /// Everything on queues and workers, and on jobs of any namespace.
    Operate,
    /// Metrics, and the numbers of queues.
    Metrics,
    /// Look at jobs, queues and workers.
    Read,
}

impl Scope {
    pub const ALL: [Self; 5] = [Self::Submit, Self::Work, Self::Operate, Self::Metrics, Self::Read];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Work => "work",
            Self::Operate => "operate",
            Self::Metrics => "metrics",
            Self::Read => "read",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }

    /// What comes with it, itself included.
    const fn implied(self) -> &'static [Self] {
        match self {
            Self::Submit => &[Self::Submit, Self::Read],
            Self::Operate => &[Self::Operate, Self::Read, Self::Metrics],
            Self::Work => &[Self::Work],
            Self::Metrics => &[Self::Metrics],
            Self::Read => &[Self::Read],
        }
    }
}

/// A set of scopes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    pub const NONE: Self = Self(0);

    pub const fn of(scopes: &[Scope]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < scopes.len() {
            bits |= 1 << scopes[at] as u8;
            at += 1;
        }
        Self(bits)
    }

    pub const fn all() -> Self {
        Self::of(&Scope::ALL)
    }

    pub const fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    /// Whether one of `others` is among them.
    pub const fn meets(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// With those that come with them.
    #[must_use]
    pub fn with_implied(self) -> Self {
        self.iter().map(|scope| Self::of(scope.implied())).fold(Self::NONE, Self::and)
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        scopes.into_iter().map(|scope| Self::of(&[scope])).fold(Self::NONE, Self::and)
    }
}

/// `submit read`, as RFC 6749 writes scopes.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scope) in self.iter().enumerate() {
            let gap = if i == 0 { "" } else { " " };
            write!(f, "{gap}{}", scope.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

/// Whose jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    One(Name),
    /// Of all namespaces; then none in particular to submit to.
    All,
}

/// The queues and kinds that a token is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lists {
    /// `None`: every queue.
    pub queues: Option<Vec<Name>>,
    /// `None`: every kind.
    pub kinds: Option<Vec<Name>>,
}

impl Lists {
    /// Every queue, every kind.
    pub const ALL: Self = Self { queues: None, kinds: None };

    pub fn allows_queue(&self, queue: &Name) -> bool {
        self.queues.as_ref().is_none_or(|allowed| allowed.contains(queue))
    }

    pub fn allows_kind(&self, kind: &Name) -> bool {
        self.kinds.as_ref().is_none_or(|allowed| allowed.contains(kind))
    }

    pub fn allow(&self, queue: &Name, kind: &Name) -> bool {
        self.allows_queue(queue) && self.allows_kind(kind)
    }

    /// Whether a worker is among those that it is for: it takes jobs of a queue and a kind that
    /// are allowed. `kinds`, if empty: every kind.
    pub fn allow_one_of(&self, queues: &[Name], kinds: &[Name]) -> bool {
        queues.iter().any(|queue| self.allows_queue(queue))
            && (kinds.is_empty() || kinds.iter().any(|kind| self.allows_kind(kind)))
    }

    /// Whether it takes no others.
    pub fn allow_all_of(&self, queues: &[Name], kinds: &[Name]) -> bool {
        queues.iter().all(|queue| self.allows_queue(queue))
            && kinds.iter().all(|kind| self.allows_kind(kind))
            && (self.kinds.is_none() || !kinds.is_empty())
    }
}

/// What a token permits.
#[derive(Debug, Clone, PartialEq)]
pub struct Permit {
    /// For logs and errors; no secret.
    pub name: Name,
    /// As they were given, without those implied.
    pub scopes: Scopes,
    pub reach: Reach,
    pub lists: Lists,
    /// Requests; `None`: as many as come.
    pub rate_per_second: Option<f64>,
    pub expires_at: Option<Timestamp>,
}

impl Permit {
    /// Of whoever can connect to a server without tokens.
    pub fn everything() -> Self {
        Self {
            name: Name::trusted("_everyone"),
            scopes: Scopes::all(),
            reach: Reach::One(Name::trusted(DEFAULT_NAMESPACE)),
            lists: Lists::ALL,
            rate_per_second: None,
            expires_at: None,
        }
    }

    /// Whether it has one of these scopes, also by another that implies it.
    pub fn has_one_of(&self, scopes: Scopes) -> bool {
        self.scopes.with_implied().meets(scopes)
    }

    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// The SHA-256 of a token: what is configured in its place.
#[derive(Clone, Copy)]
pub struct SecretHash([u64; 4]);

impl SecretHash {
    pub fn of(secret: &[u8]) -> Self {
        Self::from_bytes(&Sha256::digest(secret).into())
    }

    fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, eight) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_be_bytes(*eight);
        }
        Self(words)
    }

    /// From 64 hexadecimal digits.
    pub fn parse(hex: &str) -> Option<Self> {
        let digits: Vec<u8> =
            hex.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
        let mut bytes = [0u8; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Some(Self::from_bytes(&bytes))
    }

    pub fn to_hex(self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut hex, word| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{word:016x}");
            hex
        })
    }

    /// In a time that does not depend on where they differ.
    pub fn matches(&self, other: &Self) -> Choice {
        let differ = self.0.iter().zip(&other.0).fold(0, |bits, (a, b)| bits | (a ^ b));
        differ.ct_eq(&0)
    }
}

/// Whoever knows the hash does not know the token, but need not be told either.
impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(text: &str) -> Scopes {
        text.split(' ').filter_map(Scope::parse).collect()
    }

    #[test]
    fn scopes_are_read_as_they_are_written() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(scope));
        }
        assert_eq!(Scope::parse("Submit"), None);
        assert_eq!(scopes("read submit").to_string(), "submit read");
        assert_eq!(format!("{:?}", Scopes::NONE), "Scopes()");
        assert_eq!(Scopes::all().iter().count(), Scope::ALL.len());
    }

    #[test]
    fn what_implies_what() {
        for (given, with) in [
            ("submit", "submit read"),
            ("operate", "operate metrics read"),
            ("work", "work"),
            ("metrics", "metrics"),
            ("read", "read"),
            ("work submit", "submit work read"),
        ] {
            assert_eq!(scopes(given).with_implied(), scopes(with), "{given}");
        }
        assert!(!scopes("submit").meets(scopes("work read")));
    }

    #[test]
    fn lists_bound_and_their_absence_does_not() {
        let name = |text| Name::parse(text).unwrap();
        let mut permit = Permit::everything();
        assert!(permit.lists.allow(&name("a"), &name("a")));
        let lists =
            Lists { queues: Some(vec![name("a"), name("b")]), kinds: Some(vec![name("k")]) };
        assert!(lists.allows_queue(&name("b")) && !lists.allows_queue(&name("k")));
        assert!(lists.allows_kind(&name("k")) && !lists.allows_kind(&name("b")));
        let (mixed, own) = ([name("a"), name("x")], [name("a")]);
        let (k, x) = ([name("k")], [name("x")]);
        assert!(lists.allow_one_of(&mixed, &k) && !lists.allow_all_of(&mixed, &k));
        assert!(lists.allow_one_of(&own, &[]) && !lists.allow_all_of(&own, &[]), "every kind");
        assert!(lists.allow_all_of(&own, &k) && !lists.allow_one_of(&own, &x));
        assert!(Lists::ALL.allow_all_of(&mixed, &[]));
        permit.scopes = scopes("submit");
        assert!(permit.has_one_of(scopes("read")) && !permit.has_one_of(scopes("operate")));
    }

    #[test]
    fn a_token_ends_at_its_moment() {
        let at = Timestamp::from_millis;
        let permit = Permit { expires_at: Some(at(1_000)), ..Permit::everything() };
        assert!(!permit.is_expired(at(999)) && permit.is_expired(at(1_000)));
        assert!(!Permit::everything().is_expired(at(i64::MAX)));
    }

    #[test]
    fn hashes_are_read_compared_and_not_shown() {
        const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hash = SecretHash::of(b"abc");
        assert_eq!(hash.to_hex(), ABC);
        let upper = SecretHash::parse(&ABC.to_uppercase()).unwrap();
        assert!(bool::from(hash.matches(&upper)));
        assert!(!bool::from(hash.matches(&SecretHash::of(b"abd"))));
        for bad in
            ["", "abc", &ABC[1..], &format!("{ABC}0"), &ABC.replace('b', "g"), &"é".repeat(32)]
        {
            assert!(SecretHash::parse(bad).is_none(), "{bad}");
        }
        assert!(!format!("{hash:?}").contains("ba78"));
    }
}
