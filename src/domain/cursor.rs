//! Places in a list, sealed: what a client is given leads on, and tells nothing.
//!
//! A place is a number of the whole store, so the bare number would say how many jobs all
//! namespaces have submitted. It is encrypted under a key made from the id secret, and
//! authenticated, so that a cursor of another store, or of nobody's, is refused. The same place
//! gives the same cursor: a page that is asked for twice says the same twice.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::id::IdSecret;

/// Seals and opens. Cheap to make.
#[derive(Clone)]
pub struct CursorKey([u8; 32]);

const TAG: usize = 8;

impl CursorKey {
    pub fn new(secret: &IdSecret) -> Self {
        Self(secret.subkey("list cursors"))
    }

    fn eight(&self, purpose: u8, data: [u8; 8]) -> [u8; TAG] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(&[purpose]);
        mac.update(&data);
        let full = mac.finalize().into_bytes();
        std::array::from_fn(|i| full[i])
    }

    /// The pad under which the place of this tag is hidden.
    fn hide(&self, tag: [u8; TAG], place: [u8; 8]) -> [u8; 8] {
        let pad = self.eight(2, tag);
        std::array::from_fn(|i| place[i] ^ pad[i])
    }

    pub fn seal(&self, place: i64) -> [u8; TAG + 8] {
        let place = place.to_be_bytes();
        let tag = self.eight(1, place);
        let hidden = self.hide(tag, place);
        std::array::from_fn(|i| if i < TAG { tag[i] } else { hidden[i - TAG] })
    }

    /// The place, if it was sealed with this key.
    pub fn open(&self, sealed: &[u8]) -> Option<i64> {
        let (tag, hidden) = sealed.split_first_chunk::<TAG>()?;
        let place = self.hide(*tag, hidden.try_into().ok()?);
        let own: bool = self.eight(1, place).ct_eq(tag).into();
        own.then(|| i64::from_be_bytes(place))
    }
}

impl std::fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CursorKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8) -> CursorKey {
        CursorKey::new(&IdSecret::new([byte; 32]))
    }

    #[test]
    fn neighbours_have_nothing_in_common() {
        let sealed: Vec<_> = (1_000..1_100).map(|n| key(7).seal(n)).collect();
        for pair in sealed.windows(2) {
            let same = pair[0].iter().zip(&pair[1]).filter(|(a, b)| a == b).count();
            assert!(same < 6, "{pair:?}");
        }
        assert_eq!(key(7).seal(5), key(7).seal(5));
        assert!(!sealed.is_sorted());
    }

    #[test]
    fn another_stores_cursor_is_none() {
        assert_eq!(key(8).open(&key(7).seal(5)), None);
        assert_eq!(key(7).open(&[0; 16]), None);
        assert_eq!(key(7).open(&[]), None);
    }

    proptest! {
        #[test]
        fn places_come_back_and_a_changed_bit_is_noticed(place: i64, bit in 0usize..128) {
            let mut sealed = key(7).seal(place);
            prop_assert_eq!(key(7).open(&sealed), Some(place));
            prop_assert_eq!(key(7).open(&sealed[..15]), None);
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(key(7).open(&sealed), None);
        }
    }
}
