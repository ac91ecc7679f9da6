//! Is this text JSON as everyone understands it? One streaming pass that builds nothing.
//!
//! Beyond the grammar (RFC 8259) it refuses what two readers may understand differently or what
//! exhausts a reader: a name twice in one object, nesting deeper than [`limits::JSON_DEPTH`],
//! numbers beyond a double's range and half surrogate pairs (RFC 7493, I-JSON).

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::limits;
use super::problem::{Code, Problem};

/// The body as text, if it is one strict JSON value.
pub(super) fn check(body: &[u8]) -> Result<&str, Problem> {
    if body.is_empty() {
        let detail = "the body is empty; send a JSON object";
        return Err(Problem::new(Code::MalformedJson, detail));
    }
    let text = std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        let detail = format!("the body is not UTF-8 at byte {at}; encode it as UTF-8");
        Problem::new(Code::MalformedJson, detail)
    })?;
    is_strict(text).map_err(|error| {
        Problem::new(Code::MalformedJson, format!("the body is not valid JSON: {error}"))
    })?;
    Ok(text)
}

fn is_strict(text: &str) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    Value { level: 0 }.deserialize(&mut reader)?;
    reader.end()
}

/// A value inside `level` arrays and objects.
#[derive(Clone, Copy)]
struct Value {
    level: usize,
}

impl Value {
    fn inside<E: de::Error>(self) -> Result<Self, E> {
        let level = self.level + 1;
        if level > limits::JSON_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {}", limits::JSON_DEPTH)));
        }
        Ok(Self { level })
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let item = self.inside()?;
        while items.next_element_seed(item)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let value = self.inside()?;
        let mut seen = Seen::default();
        while let Some(name) = members.next_key_seed(Name)? {
            if let Some(twice) = seen.again(name) {
                return Err(de::Error::custom(format_args!("duplicate member {twice:?}")));
            }
            members.next_value_seed(value)?;
        }
        Ok(())
    }
}

/// The names in one object: a list while there are few, for most objects are small.
#[derive(Default)]
struct Seen<'de> {
    few: Vec<Cow<'de, str>>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Seen<'de> {
    const FEW: usize = 16;

    /// The name, if it was there before.
    fn again(&mut self, name: Cow<'de, str>) -> Option<Cow<'de, str>> {
        if self.many.is_empty() {
            if self.few.contains(&name) {
                return Some(name);
            }
            if self.few.len() < Self::FEW {
                self.few.push(name);
                return None;
            }
            self.many.extend(self.few.drain(..));
        }
        if self.many.contains(&name) {
            return Some(name);
        }
        self.many.insert(name);
        None
    }
}

/// A member's name, borrowed where it has no escapes.
pub(super) struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn why(text: &str) -> String {
        is_strict(text).unwrap_err().to_string()
    }

    #[test]
    fn accepts_every_kind_of_value() {
        let text = r#" {"a":[1,-2.5e3,true,false,null,"x\n\u00e9\ud83d\ude00",{}],"b":{"a":[]}} "#;
        assert!(is_strict(text).is_ok());
        for text in ["1", "null", "\"\"", "[]", "18446744073709551616"] {
            assert!(is_strict(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn refuses_with_a_position() {
        assert_eq!(why("{\"a\":1,\n}"), "trailing comma at line 2 column 1");
        for bad in ["", "{", "{'a':1}", "[1 2]", "{} x", "01", "nul", "\"\\ud800\"", "1e999"] {
            assert!(why(bad).contains("line 1 column"), "{bad}: {}", why(bad));
        }
    }

    #[test]
    fn refuses_a_name_twice_wherever_it_is() {
        assert!(why(r#"{"a":1,"a":1}"#).starts_with(r#"duplicate member "a" at line 1"#));
        assert!(why(r#"[{"x":{"b":1,"\u0062":2}}]"#).starts_with(r#"duplicate member "b""#));
        let many: Vec<String> = (0..100).map(|i| format!("\"k{i}\":{i}")).collect();
        let fine = format!("{{{}}}", many.join(","));
        assert!(is_strict(&fine).is_ok());
        for twice in [0, 15, 16, 17, 99] {
            let bad = format!("{{{},\"k{twice}\":0}}", many.join(","));
            assert!(why(&bad).contains("duplicate member"), "{twice}");
        }
    }

    #[test]
    fn refuses_too_deep_and_accepts_just_deep_enough() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(is_strict(&nested(64)).is_ok());
        assert!(why(&nested(65)).starts_with("nested deeper than 64"));
        assert!(why(&"[".repeat(1_000_000)).starts_with("nested deeper than 64"));
        let objects = format!("{}1{}", "{\"a\":".repeat(65), "}".repeat(65));
        assert!(why(&objects).starts_with("nested deeper than 64"));
    }

    #[test]
    fn a_body_must_be_text() {
        let problem = check(b"{\"a\":\"\xff\"}").unwrap_err();
        assert!(problem.detail().contains("not UTF-8 at byte 6"), "{}", problem.detail());
        assert!(check(b"").unwrap_err().detail().contains("empty"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\[\\]{}:,\"\\\\0-9a-u. -]{0,60}") {
            let ours = is_strict(&text).is_ok();
            let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            prop_assert!(!ours || theirs, "accepted what is not JSON: {}", text);
        }
    }
}
