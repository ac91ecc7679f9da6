//! `[[auth.tokens]]`: who may call. Only a file has them; each is a table with these keys.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::errors::Place;
use super::hint;
use super::keys::{Key, bare_or_quoted};
use super::read::{File, Reader};
use super::value::{Kind, Raw, Value, quote, show};
use crate::domain::access::{
    DEFAULT_NAMESPACE, Lists, Permit, Reach, Scope, Scopes, SecretHash, TOKEN_PREFIX,
};
use crate::domain::names::{NAME_RULE, Name};
use crate::domain::time::Timestamp;

/// The key of the list, in `[auth]`.
pub(super) const TOKENS: &str = "tokens";
const FULL: &str = "auth.tokens";

/// Every request looks at every token.
const MOST_TOKENS: usize = 1_000;
/// As many as a claim may name.
const MOST_NAMES: usize = 100;

/// The reach of a token for all namespaces.
const ALL: &str = "*";

pub(super) const EXAMPLE: &str = "\
[[auth.tokens]]
name = \"shop-api\"
sha256 = \"…\"                    # `punctual token` prints a new token and this
scopes = [\"submit\"]
namespace = \"shop\"
queues = [\"reports\", \"mail\"]
rate_limit_per_second = 200.0
expires_at = \"2027-01-01T00:00:00Z\"
";

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, per_queue: false, doc }
}

/// In the order of the documentation. A default without a value says that the key is required.
pub(super) const KEYS: &[Key] = &[
    key(
        "name",
        Kind::Text { rule: NAME_RULE, check: name },
        "",
        "What the token is called in the log and in errors. Each has a name of its own. Required.",
    ),
    key(
        "sha256",
        Kind::Text { rule: "64 hexadecimal digits", check: sha256 },
        "",
        "The SHA-256 of the token. The token itself is in no file of the server's. Required.",
    ),
    key(
        "scopes",
        Kind::List { rule: "submit, work, operate, metrics, read", check: scope },
        "",
        "What it is for: `submit` jobs, and follow and end them; `work` on them; `operate` queues, \
         workers and all jobs; `metrics`; `read` jobs, queues and workers. `submit` and `operate` \
         imply `read`, `operate` implies `metrics`. Required.",
    ),
    key(
        "namespace",
        Kind::Text { rule: "a name, or `*`", check: namespace },
        DEFAULT_NAMESPACE,
        "Whose jobs it submits, sees and works on. `*`: those of all, for tokens that do not \
         submit. `operate` sees those of all in any case.",
    ),
    key(
        "queues",
        Kind::List { rule: "names of queues", check: name },
        "",
        "The queues that it is for; of others it neither sees nor ends jobs. Unset: all.",
    ),
    key(
        "kinds",
        Kind::List { rule: "names of kinds", check: name },
        "",
        "The same for kinds of jobs. Unset: all.",
    ),
    key(
        "rate_limit_per_second",
        Kind::Float { min: 0.001, max: 1_000_000.0 },
        "",
        "Requests a second, with a burst of one second's worth (at least one); more get 429. \
         Unset: no limit.",
    ),
    key(
        "expires_at",
        Kind::Text { rule: "an RFC 3339 moment, in quotes", check: moment },
        "",
        "From then on it is refused. Unset: never.",
    ),
];

const REQUIRED: [&str; 3] = ["name", "sha256", "scopes"];

/// A token in the wrong place is not for the log either.
fn shown(text: &str) -> String {
    if text.starts_with(TOKEN_PREFIX) { "a token".to_owned() } else { show(text) }
}

fn name(text: &str) -> Result<(), String> {
    match Name::parse(text) {
        Some(_) => Ok(()),
        None => Err(format!("{} is not a name; use {NAME_RULE}", shown(text))),
    }
}

/// Never echoed: it may be the token itself, by mistake.
fn sha256(text: &str) -> Result<(), String> {
    match SecretHash::parse(text) {
        Some(_) => Ok(()),
        None => Err("not the 64 hexadecimal digits of a SHA-256; `punctual token` prints a new \
                     token and its hash"
            .to_owned()),
    }
}

fn scope(text: &str) -> Result<(), String> {
    let known = Scope::ALL.map(Scope::as_str);
    match (Scope::parse(text), hint::nearest(text, known)) {
        (Some(_), _) => Ok(()),
        (None, Some(near)) => Err(format!("{} is no scope; did you mean {near}?", shown(text))),
        (None, None) => Err(format!("{} is no scope; use {}", shown(text), known.join(", "))),
    }
}

fn namespace(text: &str) -> Result<(), String> {
    if text == ALL { Ok(()) } else { name(text) }
}

fn moment(text: &str) -> Result<(), String> {
    match Timestamp::parse_rfc3339(text) {
        Some(_) => Ok(()),
        None => Err(format!(
            "{} is not an RFC 3339 moment; write it like \"2027-01-01T00:00:00Z\"",
            shown(text)
        )),
    }
}

/// A token that was read.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) permit: Permit,
    pub(super) hash: SecretHash,
    place: Place,
}

/// What the file says of tokens.
#[derive(Debug, Clone, Default)]
pub(super) struct Tokens {
    pub(super) list: Vec<Entry>,
    /// Whether there are any, sound or not.
    pub(super) any: bool,
}

impl Reader {
    /// Reads the list.
    pub(super) fn tokens(&mut self, file: &File, place: Place, value: &DeValue<'_>) {
        let DeValue::Array(items) = value else {
            let message =
                "not a list of tables; write [[auth.tokens]] and the keys of one below it";
            return self.error(place, FULL.to_owned(), message.into());
        };
        if items.len() > MOST_TOKENS {
            let message = format!("{} tokens; {MOST_TOKENS} are the most", items.len());
            return self.error(place, FULL.to_owned(), message);
        }
        for item in items {
            self.values.tokens.any = true;
            if let DeValue::Table(table) = item.get_ref() {
                self.token(file, item, table);
            } else {
                let message = "not a table; write [[auth.tokens]] and its keys below it";
                self.error(file.at(item), FULL.to_owned(), message.into());
            }
        }
    }

    fn token(&mut self, file: &File, item: &Spanned<DeValue<'_>>, table: &DeTable<'_>) {
        let place = file.at(item);
        let before = self.errors.len();
        let mut values: BTreeMap<&'static str, (Value, Place)> = BTreeMap::new();
        for (name, value) in table {
            let at = file.at(name);
            let Some(key) = KEYS.iter().find(|key| key.name == name.get_ref().as_ref()) else {
                self.error(at, full(&bare_or_quoted(name.get_ref())), unknown(name.get_ref()));
                continue;
            };
            match key.kind.read(&Raw::from_toml(value.get_ref())) {
                Ok(value) => match too_few_or_many(&value) {
                    None => {
                        values.insert(key.name, (value, at));
                    }
                    Some(message) => self.error(at, full(key.name), message),
                },
                Err(message) => self.error(at, full(key.name), message),
            }
        }
        for name in REQUIRED {
            let given = table.iter().any(|(key, _)| key.get_ref().as_ref() == name);
            if !given {
                self.error(place.clone(), full(name), "required, and not there".into());
            }
        }
        if self.errors.len() > before {
            return;
        }
        let Some(entry) = entry(&values, place) else { return };
        if entry.permit.reach == Reach::All && entry.permit.scopes.has(Scope::Submit) {
            let at = values.get("namespace").map_or(entry.place.clone(), |(_, at)| at.clone());
            let message = "a token that submits needs one namespace for its jobs; name it, or take \
                           the scope submit away";
            return self.error(at, full("namespace"), message.into());
        }
        self.distinct(&values, &entry);
        self.values.tokens.list.push(entry);
    }

    fn distinct(&mut self, values: &BTreeMap<&'static str, (Value, Place)>, entry: &Entry) {
        let others = &self.values.tokens.list;
        let same_name = others.iter().find(|e| e.permit.name == entry.permit.name);
        let same_hash = others.iter().find(|e| bool::from(e.hash.matches(&entry.hash)));
        let found = [
            ("name", same_name.map(|e| format!("{} is the name of another token", e.permit.name))),
            ("sha256", same_hash.map(|e| format!("the hash of the token {}", e.permit.name))),
        ];
        for (key, message) in found {
            if let (Some(message), Some((_, at))) = (message, values.get(key)) {
                self.error(at.clone(), full(key), format!("{message}; give each its own"));
            }
        }
    }
}

fn full(key: &str) -> String {
    format!("{FULL}.{key}")
}

fn unknown(name: &str) -> String {
    let known = KEYS.iter().map(|key| key.name);
    if let Some(near) = hint::nearest(name, known.clone()) {
        return format!("unknown key; did you mean {}?", full(near));
    }
    let known: Vec<_> = known.collect();
    format!("unknown key; known in [[{FULL}]]: {}", known.join(", "))
}

fn too_few_or_many(value: &Value) -> Option<String> {
    let Value::List(items) = value else { return None };
    match items.len() {
        0 => Some("names nothing; name some, or leave the key out".into()),
        n if n > MOST_NAMES => Some(format!("names {n}; {MOST_NAMES} are the most")),
        _ => None,
    }
}

/// `None` only if a required key is missing.
fn entry(values: &BTreeMap<&'static str, (Value, Place)>, place: Place) -> Option<Entry> {
    let text = |key: &str| {
        let (Value::Text(text), _) = values.get(key)? else { return None };
        Some(text.as_str())
    };
    let list = |key: &str| {
        let (Value::List(items), _) = values.get(key)? else { return None };
        Some(items)
    };
    let number = |key: &str| {
        let (Value::Float(number), _) = values.get(key)? else { return None };
        Some(*number)
    };
    let names = |key: &str| -> Option<Vec<Name>> {
        list(key).map(|items| items.iter().filter_map(|name| Name::parse(name)).collect())
    };
    let reach = match text("namespace").unwrap_or(DEFAULT_NAMESPACE) {
        ALL => Reach::All,
        name => Reach::One(Name::parse(name)?),
    };
    let permit = Permit {
        name: Name::parse(text("name")?)?,
        scopes: list("scopes")?.iter().filter_map(|scope| Scope::parse(scope)).collect::<Scopes>(),
        reach,
        lists: Lists { queues: names("queues"), kinds: names("kinds") },
        rate_per_second: number("rate_limit_per_second"),
        expires_at: text("expires_at").and_then(Timestamp::parse_rfc3339),
    };
    Some(Entry { permit, hash: SecretHash::parse(text("sha256")?)?, place })
}

/// The token as TOML without its hash, in comments: to be read by people, and no file to load.
pub(super) fn describe(permit: &Permit) -> String {
    let list = |items: Vec<&str>| {
        let items: Vec<_> = items.into_iter().map(quote).collect();
        format!("[{}]", items.join(", "))
    };
    let names = |names: &Option<Vec<Name>>| {
        names.as_ref().map(|names| list(names.iter().map(Name::as_str).collect()))
    };
    let namespace = match &permit.reach {
        Reach::One(name) => name.as_str(),
        Reach::All => ALL,
    };
    let lines = [
        ("name", Some(quote(permit.name.as_str()))),
        ("scopes", Some(list(permit.scopes.iter().map(Scope::as_str).collect()))),
        ("namespace", Some(quote(namespace))),
        ("queues", names(&permit.lists.queues)),
        ("kinds", names(&permit.lists.kinds)),
        ("rate_limit_per_second", permit.rate_per_second.map(|rate| format!("{rate:?}"))),
        ("expires_at", permit.expires_at.map(|at| quote(&at.to_rfc3339()))),
    ];
    let mut out = format!("\n# [[{FULL}]], its hash not shown\n");
    for (name, value) in lines.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# {name} = {value}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const OTHER: &str = "cb7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn token(more: &str) -> String {
        format!(
            "[[auth.tokens]]\nname = \"a\"\nsha256 = \"{HASH}\"\nscopes = [\"submit\"]\n{more}\n"
        )
    }

    fn errors(text: &str) -> String {
        Config::from_toml(text).expect_err("refused").to_string()
    }

    #[test]
    fn a_token_in_full_and_one_in_short() {
        let example = EXAMPLE.replace('…', HASH);
        let config = Config::from_toml(&format!(
            "[server]\nlisten = \"0.0.0.0:80\"\n{example}\n[[auth.tokens]]\nname = \"b\"\n\
             sha256 = \"{OTHER}\"\nscopes = [\"work\", \"metrics\"]\nnamespace = \"*\"\n"
        ))
        .expect("tokens are for other machines");
        let [(hash, shop), (_, worker)] = &config.auth.tokens[..] else { panic!("two") };
        assert_eq!(hash.to_hex(), HASH);
        assert_eq!(shop.name.as_str(), "shop-api");
        assert_eq!(shop.scopes, Scopes::of(&[Scope::Submit]));
        assert_eq!(shop.reach, Reach::One(Name::parse("shop").unwrap()));
        assert_eq!(shop.lists.queues.as_ref().map(Vec::len), Some(2));
        assert_eq!((shop.lists.kinds.as_ref(), shop.rate_per_second), (None, Some(200.0)));
        assert_eq!(shop.expires_at, Timestamp::parse_rfc3339("2027-01-01T00:00:00Z"));
        assert_eq!(worker.reach, Reach::All);
        assert_eq!((worker.lists.queues.as_ref(), worker.expires_at), (None, None));
        let plain = Config::from_toml(&token("")).unwrap();
        assert_eq!(plain.auth.tokens[0].1.reach, Reach::One(Name::parse("default").unwrap()));
    }

    #[test]
    fn hashes_are_in_no_dump_and_change_no_hash() {
        let one = Config::from_toml(&token("")).unwrap();
        let none = Config::from_toml("").unwrap();
        assert_eq!(one.hash(), none.hash());
        for shown in [one.describe(), format!("{one:?}")] {
            assert!(!shown.contains(&HASH[..8]), "{shown}");
        }
        assert!(one.describe().contains("\n# name = \"a\"\n# scopes = [\"submit\"]\n"));
        assert!(Config::from_toml(&one.describe()).is_ok());
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let text = format!(
            "\
[auth]
mode = \"tokens\"

[[auth.tokens]]
name = \"Shop\"
sha256 = \"my-secret-token\"
scopes = [\"submitt\"]

[[auth.tokens]]
scopes = []
expire_at = \"soon\"
queues = \"a\"

[[auth.tokens]]
name = \"b\"
sha256 = \"{HASH}\"
scopes = [\"submit\"]
namespace = \"*\"
"
        );
        assert_eq!(
            errors(&text),
            "\
punctual.toml:5: auth.tokens.name: \"Shop\" is not a name; use 1 to 128 characters of a-z 0-9 . _ : -, the first a letter or digit
punctual.toml:6: auth.tokens.sha256: not the 64 hexadecimal digits of a SHA-256; `punctual token` prints a new token and its hash
punctual.toml:7: auth.tokens.scopes: \"submitt\" is no scope; did you mean submit?
punctual.toml:9: auth.tokens.name: required, and not there
punctual.toml:9: auth.tokens.sha256: required, and not there
punctual.toml:10: auth.tokens.scopes: names nothing; name some, or leave the key out
punctual.toml:11: auth.tokens.expire_at: unknown key; did you mean auth.tokens.expires_at?
punctual.toml:12: auth.tokens.queues: found \"a\"; write an array of strings, such as [\"a\", \"b\"]
punctual.toml:18: auth.tokens.namespace: a token that submits needs one namespace for its jobs; name it, or take the scope submit away"
        );
    }

    #[test]
    fn single_slips() {
        for (text, says) in [
            (token("kind = [\"a\"]"), "did you mean auth.tokens.kinds?"),
            (token("zebra = 1"), "known in [[auth.tokens]]: name, sha256"),
            (token("rate_limit_per_second = 0"), "use 0.001 to 1000000"),
            (token("expires_at = 2027-01-01"), "found a date; write a string in quotes"),
            (token("expires_at = \"tomorrow\""), "not an RFC 3339 moment"),
            (token("namespace = \"\""), "is not a name"),
            (token("namespace = \"pnct_Secret\""), "namespace: a token is not a name"),
            (token("queues = [\"_canary\"]"), "is not a name"),
            ("[auth.tokens]\nname = \"a\"".into(), "write [[auth.tokens]]"),
            ("[auth]\ntokens = [1]".into(), "auth.tokens: not a table"),
            ("[auth]\ntoken = 1".into(), "did you mean auth.tokens?"),
            (
                format!("{}{}", token(""), token("").replace("\"a\"", "\"b\"")),
                "punctual.toml:8: auth.tokens.sha256: the hash of the token a; give each its own",
            ),
            (
                format!("{}{}", token(""), token("").replace(HASH, OTHER)),
                "auth.tokens.name: a is the name of another token; give each its own",
            ),
        ] {
            let found = errors(&text);
            assert!(found.contains(says), "{text}: {found}");
            assert_eq!(found.lines().count(), 1, "{text}: {found}");
            assert!(!found.contains(&HASH[..8]) && !found.contains("pnct_"), "{found}");
        }
        // A list that is wrong is a list: that strangers are expected is no error besides.
        let open = "[server]\nlisten = \"0.0.0.0:80\"\n[[auth.tokens]]\nname = \"a\"\n";
        assert!(!errors(open).contains("server.listen"), "{}", errors(open));
    }
}
