//! What a reload did to the tokens, by their names, which are no secrets.

use crate::domain::access::{Permit, SecretHash};

/// Names, separated by commas.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) added: String,
    pub(super) removed: String,
    /// Another secret or other rights under the same name.
    pub(super) changed: String,
}

impl Changes {
    pub(super) fn between(before: &[(SecretHash, Permit)], after: &[(SecretHash, Permit)]) -> Self {
        let in_list = |list: &[(SecretHash, Permit)], of: &Permit| {
            list.iter().any(|(_, permit)| permit.name == of.name)
        };
        let same = |(hash, permit): &&(SecretHash, Permit)| {
            before.iter().any(|(h, p)| bool::from(h.matches(hash)) && p == permit)
        };
        Self {
            added: names(after.iter().filter(|(_, permit)| !in_list(before, permit))),
            removed: names(before.iter().filter(|(_, permit)| !in_list(after, permit))),
            changed: names(
                after.iter().filter(|new| in_list(before, &new.1)).filter(|new| !same(new)),
            ),
        }
    }

    pub(super) fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

fn names<'a>(tokens: impl Iterator<Item = &'a (SecretHash, Permit)>) -> String {
    tokens.map(|(_, permit)| permit.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::names::Name;

    #[test]
    fn what_changed_is_told_by_name() {
        let token = |secret: &str, name: &str| {
            let permit = Permit { name: Name::trusted(name), ..Permit::everything() };
            (SecretHash::of(secret.as_bytes()), permit)
        };
        let before = [token("1", "stays"), token("2", "rotates"), token("3", "goes")];
        let mut less = token("4", "narrows");
        let before = [&before[..], &[less.clone()]].concat();
        less.1.lists.queues = Some(Vec::new());
        let after = [token("1", "stays"), token("9", "rotates"), less, token("5", "comes")];
        let changes = Changes::between(&before, &after);
        assert_eq!(changes.added, "comes");
        assert_eq!(changes.removed, "goes");
        assert_eq!(changes.changed, "rotates, narrows");
        assert!(Changes::between(&after, &after).are_none());
    }
}
