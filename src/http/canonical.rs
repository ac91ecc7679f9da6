//! What an idempotency key is bound to: a fingerprint of the body that does not change with the
//! order of members, white space or the spelling of strings, and does with every value.
//!
//! Numbers keep their spelling: whether `1.0` is `1` depends on who reads it.

use std::ops::Range;

use sha2::{Digest, Sha256};

/// SHA-256 of the canonical form of `text`, a strict JSON value. A member `skip` of the outermost
/// object is left out: a batch's item names its key inside, a single submission in a header.
pub(super) fn fingerprint(text: &str, skip: Option<&str>) -> [u8; 32] {
    Sha256::digest(canonical(text, skip)).into()
}

fn canonical(text: &str, skip: Option<&str>) -> Vec<u8> {
    let mut writer = Writer { text: text.as_bytes(), at: 0, out: Vec::with_capacity(text.len()) };
    writer.value(skip);
    writer.out
}

/// Copies the value at `at`, canonically, to the end of `out`. Depth is bounded by
/// [`strict`](super::strict), which has also checked the grammar.
struct Writer<'a> {
    text: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

/// Where a member lies in `out`: its name, and name and value together.
struct Member {
    name: Range<usize>,
    whole: Range<usize>,
}

impl Writer<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Passes `byte` if it is next, after space.
    fn eat(&mut self, byte: u8) -> bool {
        self.space();
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn value(&mut self, skip: Option<&str>) {
        self.space();
        match self.peek() {
            Some(b'{') => self.object(skip),
            Some(b'[') => self.array(),
            Some(b'"') => self.string(),
            Some(_) => self.lexeme(),
            None => {}
        }
        self.space();
    }

    fn lexeme(&mut self) {
        let rest = &self.text[self.at..];
        let end = rest
            .iter()
            .position(|b| matches!(b, b',' | b']' | b'}' | b' ' | b'\n' | b'\t' | b'\r'))
            .unwrap_or(rest.len());
        self.out.extend_from_slice(&rest[..end]);
        // Never zero, whatever the text, so that the walk ends.
        self.at += end.max(1);
    }

    fn string(&mut self) {
        let (start, mut escaped) = (self.at, false);
        self.at += 1;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        self.at = (self.at + 1).min(self.text.len());
        let raw = &self.text[start..self.at];
        if escaped
            && let Ok(decoded) = serde_json::from_slice::<String>(raw)
            && let Ok(plain) = serde_json::to_string(&decoded)
        {
            self.out.extend_from_slice(plain.as_bytes());
        } else {
            self.out.extend_from_slice(raw);
        }
    }

    fn array(&mut self) {
        self.at += 1;
        self.out.push(b'[');
        while !self.eat(b']') && self.peek().is_some() {
            self.value(None);
            self.eat(b',');
            self.out.push(b',');
        }
        self.out.push(b']');
    }

    fn object(&mut self, skip: Option<&str>) {
        self.at += 1;
        self.out.push(b'{');
        let start = self.out.len();
        let mut members: Vec<Member> = Vec::new();
        while !self.eat(b'}') && self.peek().is_some() {
            let from = self.out.len();
            self.string();
            let name = from..self.out.len();
            self.eat(b':');
            self.out.push(b':');
            self.value(None);
            self.eat(b',');
            self.out.push(b',');
            let skipped =
                skip.is_some_and(|s| self.out[name.clone()] == *format!("\"{s}\"").as_bytes());
            if skipped {
                self.out.truncate(from);
            } else {
                members.push(Member { name, whole: from..self.out.len() });
            }
        }
        let name = |m: &Member| &self.out[m.name.clone()];
        if !members.is_sorted_by(|a, b| name(a) <= name(b)) {
            members.sort_by(|a, b| name(a).cmp(name(b)));
            let mut sorted = Vec::with_capacity(self.out.len() - start);
            for member in &members {
                sorted.extend_from_slice(&self.out[member.whole.clone()]);
            }
            self.out.truncate(start);
            self.out.append(&mut sorted);
        }
        self.out.push(b'}');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};
    use std::fmt::Write as _;

    fn same(a: &str, b: &str) -> bool {
        fingerprint(a, None) == fingerprint(b, None)
    }

    #[test]
    fn spelling_does_not_matter() {
        assert!(same(r#"{"a":1,"b":[1,2]}"#, " {\n\"b\" : [ 1 ,\t2 ] , \"a\":1 }\r\n"));
        assert!(same(r#"{"\u0061":"\u00e9\/"}"#, r#"{"a":"é/"}"#));
        assert!(same(r#"{"x":{"b":{},"a":[]}}"#, r#"{"x":{"a":[ ],"b":{ }}}"#));
        assert!(same(r#""\ud83d\ude00""#, "\"😀\""));
        assert!(same(r#"{"a":"\u000a"}"#, r#"{"a":"\n"}"#));
    }

    #[test]
    fn values_do() {
        for (a, b) in [
            ("1", "1.0"),
            ("1e2", "100"),
            (r#"{"a":1}"#, r#"{"a":"1"}"#),
            ("[1,2]", "[2,1]"),
            ("[]", "{}"),
            ("[[1],2]", "[1,[2]]"),
            (r#"{"a":null}"#, "{}"),
            (r#"["a,b"]"#, r#"["a","b"]"#),
            (r#"{"a":{"b":1}}"#, r#"{"a":{},"b":1}"#),
        ] {
            assert!(!same(a, b), "{a} {b}");
        }
    }

    #[test]
    fn a_batch_item_is_its_single_submission() {
        let single = fingerprint(r#"{"kind":"a","payload":{"idempotency_key":"x"}}"#, None);
        let item = r#"{"idempotency_key":"k","kind":"a","payload":{"idempotency_key":"x"}}"#;
        assert_eq!(fingerprint(item, Some("idempotency_key")), single);
        assert_ne!(fingerprint(item, None), single);
    }

    #[test]
    fn the_form_itself() {
        let text = " { \"b\" : \"\\u0041\" , \"a\" : [ 1.0 , { } ] } ";
        assert_eq!(canonical(text, None), br#"{"a":[1.0,{},],"b":"A",}"#);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,4}", inner, 0..5)
                    .prop_map(|m| Value::from(m.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    /// The same value, written backwards, spaced out and escaped.
    fn odd(value: &Value, out: &mut String) {
        let text = |s: &str, out: &mut String| {
            out.push('"');
            for unit in s.encode_utf16() {
                write!(out, "\\u{unit:04x}").unwrap();
            }
            out.push('"');
        };
        out.push_str(" \n");
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
            Value::String(s) => text(s, out),
            Value::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i > 0 { "\t," } else { "" });
                    odd(item, out);
                }
                out.push(']');
            }
            Value::Object(members) => {
                out.push('{');
                for (i, (name, member)) in members.iter().rev().enumerate() {
                    out.push_str(if i > 0 { "\r," } else { "" });
                    text(name, out);
                    out.push(':');
                    odd(member, out);
                }
                out.push('}');
            }
        }
        out.push(' ');
    }

    proptest! {
        #[test]
        fn equal_if_and_only_if_the_value_is(a in any_json(), b in any_json()) {
            let mut spelled = String::new();
            odd(&a, &mut spelled);
            prop_assert!(same(&a.to_string(), &spelled));
            prop_assert_eq!(same(&a.to_string(), &b.to_string()), a == b);
            prop_assert!(!same(&json!([a]).to_string(), &a.to_string()));
        }

        #[test]
        fn any_text_ends(text in ".{0,50}") {
            canonical(&text, None);
        }
    }
}
