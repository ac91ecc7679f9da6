//! Reads the members of a request's objects, and collects everything that is wrong with them.
//!
//! The text has passed [`strict`](super::strict), so it parses. Each member is taken by name with
//! a reader from [`values`](super::values); what is left over at the end is unknown, and an error:
//! `"max_attemps": 3` silently ignored is an outage later.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::limits;
use super::problem::{Code, Problem};
use super::strict::Name;
use super::values::kind_of;
use crate::wire::ProblemItem;

/// Why a value will not do: a stable code and words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) code: &'static str,
    pub(super) detail: String,
}

pub(super) type Read<T> = Result<T, Wrong>;

impl Wrong {
    pub(super) fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }

    pub(super) fn kind(expected: &str, text: &str) -> Self {
        Self::new("type", format!("must be {expected}, not {}", kind_of(text)))
    }
}

/// Where a value is. Written as an RFC 6901 pointer only when it is needed.
#[derive(Debug, Clone, Copy)]
pub(super) enum At<'p> {
    Root,
    Member(&'p At<'p>, &'p str),
    Item(&'p At<'p>, usize),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Member(parent, name) => {
                write!(f, "{parent}/{}", name.replace('~', "~0").replace('/', "~1"))
            }
            Self::Item(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

/// Everything that is wrong with a request.
#[derive(Debug, Default)]
pub(super) struct Errors {
    items: Vec<ProblemItem>,
    /// Errors beyond those that are shown.
    more: usize,
    too_large: Option<(String, usize)>,
}

impl Errors {
    pub(super) fn add(&mut self, at: &At<'_>, wrong: Wrong) {
        if self.items.len() < limits::ERRORS_SHOWN {
            let pointer = at.to_string();
            self.items.push(ProblemItem {
                pointer,
                code: wrong.code.to_owned(),
                detail: wrong.detail,
            });
        } else {
            self.more += 1;
        }
    }

    /// Content over its limit is refused as such (413) before anything else is.
    pub(super) fn too_large(&mut self, at: &At<'_>, max: usize) {
        self.too_large.get_or_insert_with(|| (at.to_string(), max));
    }

    /// Takes over the errors of a part.
    pub(super) fn absorb(&mut self, part: Self) {
        let room = limits::ERRORS_SHOWN.saturating_sub(self.items.len());
        self.more += part.more + part.items.len().saturating_sub(room);
        self.items.extend(part.items.into_iter().take(room));
        if self.too_large.is_none() {
            self.too_large = part.too_large;
        }
    }

    /// Whether all that is wrong is that something is too long: an item like that is refused
    /// alone, for its sender is sound and the rest of its batch is too.
    pub(super) fn only_sizes(&self) -> bool {
        self.more == 0 && self.items.iter().all(|i| i.code == "length")
    }

    pub(super) fn problem(self) -> Option<Problem> {
        if let Some((pointer, max)) = self.too_large {
            return Some(Problem::too_large(&pointer, max));
        }
        let shown = self.items.len();
        if shown == 0 {
            return None;
        }
        let detail = match (shown + self.more, self.more) {
            (1, _) => "one member is wrong; see errors".to_owned(),
            (n, 0) => format!("{n} members are wrong; see errors"),
            (n, _) => format!("{n} members are wrong; errors shows the first {shown}"),
        };
        Some(Problem::new(Code::ValidationFailed, detail).with_errors(self.items))
    }

    pub(super) fn check(self) -> Result<(), Problem> {
        self.problem().map_or(Ok(()), Err)
    }
}

/// The members of one object, until each has been taken.
pub(super) struct Fields<'a, 'e> {
    members: Vec<(Cow<'a, str>, &'a str)>,
    /// The names that were asked for: all that there may be.
    known: Vec<&'static str>,
    at: At<'e>,
    errors: &'e mut Errors,
}

/// Reads the object `text` with `read`, then refuses members that `read` did not ask for.
pub(super) fn object<'a, R>(
    text: &'a str,
    at: At<'_>,
    errors: &mut Errors,
    read: impl FnOnce(&mut Fields<'a, '_>) -> R,
) -> Option<R> {
    let Ok(Members(members)) = serde_json::from_str::<Members<'a>>(text) else {
        errors.add(&at, Wrong::kind("an object", text));
        return None;
    };
    let mut fields = Fields { members, known: Vec::new(), at, errors };
    let out = read(&mut fields);
    fields.refuse_the_rest();
    Some(out)
}

impl<'a> Fields<'a, '_> {
    fn take(&mut self, name: &'static str) -> Option<&'a str> {
        self.known.push(name);
        let found = self.members.iter().position(|(n, _)| n == name)?;
        Some(self.members.swap_remove(found).1)
    }

    fn read<T>(
        &mut self,
        name: &str,
        text: &'a str,
        read: impl FnOnce(&'a str) -> Read<T>,
    ) -> Option<T> {
        match read(text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.errors.add(&At::Member(&self.at, name), wrong);
                None
            }
        }
    }

    /// The member, if it is there; `null` is there.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a str) -> Read<T>,
    ) -> Option<T> {
        let text = self.take(name)?;
        self.read(name, text, read)
    }

    /// The member; its absence is an error.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a str) -> Read<T>,
    ) -> Option<T> {
        self.demand(name);
        self.optional(name, read)
    }

    /// The object inside, if it is there and is one.
    pub(super) fn nested<R>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields<'a, '_>) -> R,
    ) -> Option<R> {
        let text = self.take(name)?;
        object(text, At::Member(&self.at, name), self.errors, read)
    }

    /// Whether the member is there and `null`; then it is read.
    pub(super) fn is_null(&mut self, name: &'static str) -> bool {
        let null = self.members.iter().any(|(n, text)| n == name && *text == "null");
        if null {
            self.take(name);
        }
        null
    }

    /// The items of the array inside. `read` gets each item's text and where it is, and decides
    /// which errors it adds. No more than `count` allows are read.
    pub(super) fn each<T>(
        &mut self,
        name: &'static str,
        count: RangeInclusive<usize>,
        mut read: impl FnMut(&'a str, At<'_>, &mut Errors) -> T,
    ) -> Option<Vec<T>> {
        let text = self.take(name)?;
        let at = At::Member(&self.at, name);
        let Ok(items) = serde_json::from_str::<Vec<&'a RawValue>>(text) else {
            self.errors.add(&at, Wrong::kind("an array", text));
            return None;
        };
        if !count.contains(&items.len()) {
            let (min, max, has) = (count.start(), count.end(), items.len());
            let detail = format!("must have {min} to {max} items, and has {has}");
            self.errors.add(&at, Wrong::new("length", detail));
            return None;
        }
        let items = items.into_iter().enumerate();
        Some(items.map(|(i, item)| read(item.get(), At::Item(&at, i), self.errors)).collect())
    }

    /// The same for single values. `None` also when one is wrong.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        count: RangeInclusive<usize>,
        read: impl Fn(&'a str) -> Read<T>,
    ) -> Option<Vec<T>> {
        let items = self.each(name, count, |text, at, errors| {
            read(text).map_err(|wrong| errors.add(&at, wrong)).ok()
        })?;
        items.into_iter().collect()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|(n, _)| n == name)
    }

    /// Says that `name` is missing unless it was there. For arrays and objects.
    pub(super) fn demand(&mut self, name: &'static str) {
        if !self.has(name) {
            self.wrong(name, "required", "is required");
        }
    }

    /// Refuses a member for what the others say.
    pub(super) fn wrong(&mut self, name: &str, code: &'static str, detail: impl Into<String>) {
        self.errors.add(&At::Member(&self.at, name), Wrong::new(code, detail));
    }

    pub(super) fn too_large(&mut self, name: &str, max: usize) {
        self.errors.too_large(&At::Member(&self.at, name), max);
    }

    /// Lets every member be that was not asked for: which there may be depends on one that is
    /// wrong.
    pub(super) fn pass_over(&mut self) {
        self.members.clear();
    }

    fn refuse_the_rest(&mut self) {
        for (name, _) in &self.members {
            let near = self
                .known
                .iter()
                .map(|known| (strsim::jaro_winkler(known, name), *known))
                .filter(|(likeness, _)| *likeness > 0.8)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            let detail = match near {
                Some((_, known)) => format!("is unknown; did you mean {known}?"),
                None if self.known.is_empty() => "is unknown; no members are known here".to_owned(),
                None => format!("is unknown; known are {}", self.known.join(", ")),
            };
            self.errors.add(&At::Member(&self.at, name), Wrong::new("unknown", detail));
        }
    }
}

/// An object's members, values unread.
struct Members<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some(name) = map.next_key_seed(Name)? {
                    members.push((name, map.next_value::<&'de RawValue>()?.get()));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::super::values;
    use super::*;

    fn errors(text: &str, read: impl FnOnce(&mut Fields<'_, '_>)) -> Vec<(String, String, String)> {
        let mut errors = Errors::default();
        object(text, At::Root, &mut errors, read);
        let problem = errors.problem().map(|p| p.wire(None).errors).unwrap_or_default();
        problem.into_iter().map(|e| (e.pointer, e.code, e.detail)).collect()
    }

    fn codes(text: &str, read: impl FnOnce(&mut Fields<'_, '_>)) -> Vec<String> {
        errors(text, read).into_iter().map(|(p, c, _)| format!("{p} {c}")).collect()
    }

    #[test]
    fn collects_everything_at_once() {
        let text = r#"{"kind":7,"priority":200,"backoff":{"jitter":"x","maxx":1},"tags":["a",2]}"#;
        let found = codes(text, |f| {
            f.required("kind", values::text);
            f.required("queue", values::text);
            f.optional("priority", values::integer(-100..=100));
            f.nested("backoff", |b| {
                b.optional("jitter", values::number(0.0..=1.0));
                b.optional("max_seconds", values::number(0.0..=1.0));
            });
            f.list("tags", 0..=16, values::text);
        });
        let expected = [
            "/kind type",
            "/queue required",
            "/priority range",
            "/backoff/jitter type",
            "/backoff/maxx unknown",
            "/tags/1 type",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_wrong_name_gets_the_nearest_known_one() {
        let found = errors(r#"{"max_attemps":3,"zzz":1}"#, |f| {
            f.optional("max_attempts", values::integer(1..=100));
            f.optional("kind", values::text);
        });
        assert_eq!(found[0].2, "is unknown; did you mean max_attempts?");
        assert_eq!(found[1].2, "is unknown; known are max_attempts, kind");
    }

    #[test]
    fn pointers_are_escaped() {
        assert_eq!(codes(r#"{"a/b~c":1}"#, |_| ()), ["/a~1b~0c unknown"]);
        let at = At::Root;
        let jobs = At::Member(&at, "jobs");
        let third = At::Item(&jobs, 3);
        assert_eq!(At::Member(&third, "kind").to_string(), "/jobs/3/kind");
    }

    #[test]
    fn null_is_a_value_and_not_an_absence() {
        let found = errors(r#"{"queue":null}"#, |f| drop(f.optional("queue", values::text)));
        assert_eq!(found[0].1, "type");
        assert_eq!(found[0].2, "must be a string, not null");
    }

    #[test]
    fn only_objects_have_members() {
        for (text, kind) in [("[]", "an array"), ("1", "a number"), ("\"a\"", "a string")] {
            let found = errors(text, |_| ());
            assert_eq!(
                found,
                [(String::new(), "type".to_owned(), format!("must be an object, not {kind}"))]
            );
        }
    }

    #[test]
    fn counts_are_checked_before_items() {
        let text = r#"{"a":[1,2,3]}"#;
        assert_eq!(codes(text, |f| drop(f.list("a", 1..=2, values::text))), ["/a length"]);
        assert_eq!(codes(r#"{"a":[]}"#, |f| drop(f.list("a", 1..=2, values::text))), ["/a length"]);
        assert_eq!(codes(r#"{"a":{}}"#, |f| drop(f.list("a", 1..=2, values::text))), ["/a type"]);
    }

    #[test]
    fn a_flood_of_errors_is_cut() {
        let members: Vec<String> = (0..1000).map(|i| format!("\"x{i}\":1")).collect();
        let mut errors = Errors::default();
        object(&format!("{{{}}}", members.join(",")), At::Root, &mut errors, |_| ());
        let problem = errors.problem().unwrap();
        assert_eq!(problem.detail(), "1000 members are wrong; errors shows the first 100");
        assert_eq!(problem.wire(None).errors.len(), 100);
    }

    #[test]
    fn too_large_comes_first() {
        let mut errors = Errors::default();
        object(r#"{"payload":1,"x":2}"#, At::Root, &mut errors, |f| f.too_large("payload", 9));
        let problem = errors.problem().unwrap().wire(None);
        assert_eq!((problem.status, problem.max_bytes), (413, Some(9)));
    }

    #[test]
    fn names_with_escapes_are_the_same_names() {
        assert!(
            codes(r#"{"\u006bind":"a"}"#, |f| drop(f.required("kind", values::text))).is_empty()
        );
    }
}
