//! Job ids: RFC 9562 `UUIDv7` whose last 32 bits are a keyed MAC over the rest and the namespace.
//!
//! Layout, most significant first: 48 bits of Unix milliseconds, version 7, a 12-bit counter of
//! this process, variant 10, 30 random bits, 32 bits of truncated HMAC-SHA256.
//!
//! The MAC lets the server tell "this id was never issued" (404) from "this job is gone" (410)
//! with nothing stored, and hides other namespaces' jobs. It is no secret and no credential.

use std::fmt;
use std::sync::Mutex;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::time::Timestamp;

/// A job's identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId([u8; 16]);

impl JobId {
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Only the plain form: lower case, hyphenated, version 7, RFC variant.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let id = uuid::Uuid::try_parse(text).ok()?;
        let ok = id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122;
        ok.then(|| Self(id.into_bytes()))
    }

    /// The millisecond in which the id was made.
    pub fn created_at(&self) -> Timestamp {
        let mut ms = [0u8; 8];
        ms[2..].copy_from_slice(&self.0[..6]);
        Timestamp::from_millis(i64::from_be_bytes(ms))
    }

    /// A stable number in [0, 1) for spreading herds.
    pub fn unit(&self) -> f64 {
        let tail = u32::from_be_bytes([self.0[12], self.0[13], self.0[14], self.0[15]]);
        f64::from(tail) / 4_294_967_296.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buf = [0u8; uuid::fmt::Hyphenated::LENGTH];
        f.write_str(uuid::Uuid::from_bytes(self.0).hyphenated().encode_lower(&mut buf))
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key of the MAC, kept in the store and carried by backups. Never printed.
#[derive(Clone)]
pub struct IdSecret([u8; 32]);

impl IdSecret {
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn mac(&self, head: &[u8; 12], namespace: &str) -> [u8; 4] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(head);
        mac.update(namespace.as_bytes());
        let full = mac.finalize().into_bytes();
        [full[0], full[1], full[2], full[3]]
    }

    /// A key for another purpose, from which this one cannot be found.
    pub(super) fn subkey(&self, purpose: &str) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        // No id begins so: the byte of its version has another first half.
        mac.update(b"subkey \0\0");
        mac.update(purpose.as_bytes());
        mac.finalize().into_bytes().into()
    }

    /// Whether this store issued `id` in `namespace`.
    pub fn verify(&self, id: &JobId, namespace: &str) -> bool {
        let mut head = [0u8; 12];
        head.copy_from_slice(&id.0[..12]);
        self.mac(&head, namespace).ct_eq(&id.0[12..]).into()
    }
}

impl fmt::Debug for IdSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdSecret(…)")
    }
}

/// Makes ids that sort in the order they were made, within one process.
#[derive(Debug)]
pub struct IdMint {
    secret: IdSecret,
    last: Mutex<(i64, u16)>,
}

impl IdMint {
    pub fn new(secret: IdSecret) -> Self {
        Self { secret, last: Mutex::new((0, 0)) }
    }

    pub fn secret(&self) -> &IdSecret {
        &self.secret
    }

    /// `random` gives the 30 random bits; the rest of it is ignored.
    pub fn mint(&self, now: Timestamp, namespace: &str, random: u32) -> JobId {
        let (ms, counter) = self.next_tick(now.as_millis());
        let mut bytes = [0u8; 16];
        bytes[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
        bytes[6] = 0x70 | (counter >> 8) as u8;
        bytes[7] = counter as u8;
        bytes[8..12].copy_from_slice(&(random & 0x3fff_ffff | 0x8000_0000).to_be_bytes());
        let mut head = [0u8; 12];
        head.copy_from_slice(&bytes[..12]);
        bytes[12..].copy_from_slice(&self.secret.mac(&head, namespace));
        JobId(bytes)
    }

    /// The counter starts at zero each millisecond; when it is spent, time is borrowed from the
    /// next one (RFC 9562 section 6.2), so order and uniqueness hold at any rate.
    fn next_tick(&self, now: i64) -> (i64, u16) {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *last = match *last {
            (ms, _) if now > ms => (now, 0),
            (ms, 0x0fff) => (ms + 1, 0),
            (ms, counter) => (ms, counter + 1),
        };
        *last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mint() -> IdMint {
        IdMint::new(IdSecret::new([7; 32]))
    }

    #[test]
    fn round_trips_in_the_plain_form_only() {
        let id = mint().mint(Timestamp::from_millis(1_700_000_000_123), "default", 5);
        let text = id.to_string();
        assert_eq!(JobId::parse(&text), Some(id));
        assert_eq!(id.created_at().as_millis(), 1_700_000_000_123);
        assert!(JobId::parse(&text.to_uppercase()).is_none());
        assert!(JobId::parse(&text.replace('-', "")).is_none());
        assert!(JobId::parse(&format!("{{{text}}}")).is_none());
        assert!(JobId::parse("00000000-0000-4000-8000-000000000000").is_none());
    }

    #[test]
    fn belongs_to_its_store_and_namespace() {
        let m = mint();
        let id = m.mint(Timestamp::from_millis(1), "shop", 9);
        assert!(m.secret().verify(&id, "shop"));
        assert!(!m.secret().verify(&id, "default"));
        assert!(!IdSecret::new([8; 32]).verify(&id, "shop"));
    }

    proptest! {
        /// One id, one spelling: what is read is written the same, whatever was sent.
        #[test]
        fn only_the_plain_form_is_read(text in "[0-9a-fA-F{}:-]{0,40}|.{0,40}", at in 0usize..36) {
            let id = mint().mint(Timestamp::from_millis(1_700_000_000_123), "default", 5);
            let mut changed: Vec<char> = id.to_string().chars().collect();
            changed.splice(at..=at, text.chars().take(2));
            for text in [text, changed.into_iter().collect()] {
                if let Some(read) = JobId::parse(&text) {
                    prop_assert_eq!(read.to_string(), text);
                }
            }
        }

        #[test]
        fn a_changed_bit_is_noticed(bit in 0usize..128, random: u32) {
            let m = mint();
            let mut bytes = *m.mint(Timestamp::from_millis(1_000), "default", random).as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!m.secret().verify(&JobId::from_bytes(bytes), "default"));
        }

        #[test]
        fn ids_sort_as_they_were_made(steps in prop::collection::vec(0i64..3, 1..6000)) {
            let m = mint();
            let (mut now, mut last) = (1_000, JobId::from_bytes([0; 16]));
            for step in steps {
                now += step / 2;
                let id = m.mint(Timestamp::from_millis(now), "default", 0x3fff_ffff);
                prop_assert!(id > last);
                last = id;
            }
        }
    }
}
