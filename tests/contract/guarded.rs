//! A server with tokens.

use std::ops::Deref;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::kit::{Lease, Reply, Stand};

/// By name: the other keys of its table.
const TOKENS: &str = r#"
submit: scopes = ["submit"]
other: scopes = ["submit"]; namespace = "other"
work: scopes = ["work"]
work.other: scopes = ["work"]; namespace = "other"
work.all: scopes = ["work"]; namespace = "*"
read: scopes = ["read"]
metrics: scopes = ["metrics"]
operate: scopes = ["operate"]
confined: scopes = ["submit", "work"]; queues = ["mine"]
confined.ops: scopes = ["operate"]; queues = ["mine"]
hasty: scopes = ["read"]; rate_limit_per_second = 0.01
hasty.submit: scopes = ["submit"]; rate_limit_per_second = 0.01
kinds: scopes = ["submit", "work"]; kinds = ["mine"]
expired: scopes = ["operate"]; expires_at = "2020-01-01T00:00:00Z"
"#;

pub struct Guarded(pub Stand);

impl Deref for Guarded {
    type Target = Stand;

    fn deref(&self) -> &Stand {
        &self.0
    }
}

/// The token of this name.
pub fn token(name: &str) -> String {
    format!("contract-{}-token-0123456789abcdef", name.replace('.', "-"))
}

/// The tables of these tokens, `name: key = value; key = value`.
pub fn tables(tokens: &str) -> String {
    let lines = tokens.lines().filter_map(|line| line.split_once(": "));
    let tables = lines.map(|(name, keys)| {
        let hash = Sha256::digest(token(name).as_bytes());
        let hash: Vec<String> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let hash = hash.concat();
        let keys = keys.replace("; ", "\n");
        format!("[[auth.tokens]]\nname = \"{name}\"\nsha256 = \"{hash}\"\n{keys}\n")
    });
    tables.collect()
}

impl Guarded {
    pub fn start() -> Self {
        Self(Stand::configured(&[], &tables(TOKENS)))
    }

    #[track_caller]
    pub fn by(&self, who: &str, method: &str, path: &str, body: Option<Value>) -> Reply {
        self.by_with(who, method, path, body, &[])
    }

    #[track_caller]
    pub fn by_with(
        &self,
        who: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Reply {
        let bearer = format!("Bearer {}", token(who));
        let mut all = vec![("Authorization", bearer.as_str())];
        if body.is_some() {
            all.push(("Content-Type", "application/json"));
        }
        all.extend_from_slice(headers);
        let body = body.map(|b| b.to_string()).unwrap_or_default();
        self.ask(method, path, &all, body.as_bytes())
    }

    #[track_caller]
    pub fn put_by(&self, who: &str, body: Value) -> String {
        self.by(who, "POST", "/v1/jobs", Some(body)).is(202).id()
    }

    #[track_caller]
    pub fn lease_of(&self, who: &str, body: Value) -> Option<Lease> {
        let answer = self.by(who, "POST", "/v1/claims", Some(body)).is(200).json;
        answer["jobs"].get(0).map(Lease::of)
    }
}
