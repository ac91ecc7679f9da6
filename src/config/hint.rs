//! What somebody who wrote an unknown name probably meant.

use super::keys::{QUEUE_ONLY, QUEUES, SECTIONS, Target, jobs};
use super::tokens::TOKENS;

/// The nearest of `known` to `word`, if it is near enough to be a slip.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let most = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(word, name), name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

/// The message for a key that `target` does not have. `spell` writes a full key the way that the
/// reader wrote his: dotted, or as an environment variable.
pub(super) fn unknown_key(target: Target<'_>, name: &str, spell: fn(&str) -> String) -> String {
    if matches!(target, Target::Queue(_)) && Target::Section(jobs()).key(name).is_some() {
        let full = Target::Section(jobs()).full(name);
        return format!("the same for all queues; set {} instead", spell(&full));
    }
    let names = target.keys().flat_map(|key| {
        let group = key.name.split_once('.').map(|(group, _)| group);
        [Some(key.name), group].into_iter().flatten()
    });
    let tokens = target.has_tokens().then_some(TOKENS);
    if let Some(near) = nearest(name, names.chain(tokens)) {
        return format!("unknown key; did you mean {}?", spell(&target.full(near)));
    }
    // The right key in the wrong section, or a leaf without its group.
    for section in SECTIONS {
        for key in section.keys {
            let leaf = key.name.rsplit('.').next().unwrap_or(key.name);
            if key.name == name || leaf == name {
                let full = Target::Section(section).full(key.name);
                return format!("unknown key; did you mean {}?", spell(&full));
            }
        }
    }
    if QUEUE_ONLY.iter().any(|key| key.name == name) {
        let full = spell(&Target::Queue("NAME").full(name));
        return format!("each queue has its own; set {full} instead");
    }
    let known: Vec<_> = target.keys().map(|key| key.name).chain(tokens).collect();
    format!("unknown key; known in [{}]: {}", target.table(), known.join(", "))
}

/// The message for a section, or a key above all sections, that does not exist.
pub(super) fn unknown_section(name: &str, spell: fn(&str) -> String) -> String {
    let names = SECTIONS.iter().map(|section| section.name).chain([QUEUES]);
    if let Some(near) = nearest(name, names.clone()) {
        return format!("unknown section; did you mean {}?", spell(&format!("{near}.")));
    }
    let keys = SECTIONS.iter().flat_map(|section| section.keys.iter().map(move |k| (section, k)));
    if let Some((section, key)) = keys.into_iter().find(|(_, key)| key.name == name) {
        let full = Target::Section(section).full(key.name);
        return format!("in no section; did you mean {}?", spell(&full));
    }
    let known: Vec<_> = names.collect();
    format!("unknown section; known: {}", known.join(", "))
}

/// `jobs.backoff.initial`, as is; a section (`jobs.`) loses its dot.
pub(super) fn dotted(full: &str) -> String {
    full.trim_end_matches('.').to_owned()
}

/// `PUNCTUAL_JOBS__BACKOFF__INITIAL`; a section (`jobs.`) is `PUNCTUAL_JOBS__`.
pub(super) fn variable(full: &str) -> String {
    format!("{}{}", super::read::PREFIX, full.replace('.', "__").to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_and_far() {
        assert_eq!(nearest("leese", ["lease", "timeout"]), Some("lease"));
        assert_eq!(nearest("laese", ["lease", "timeout"]), Some("lease"));
        assert_eq!(nearest("zebra", ["lease", "timeout"]), None);
        assert_eq!(nearest("", ["lease"]), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), ["lease"]), None);
    }

    #[test]
    fn sections_and_strays() {
        assert_eq!(unknown_section("job", dotted), "unknown section; did you mean jobs?");
        assert_eq!(unknown_section("listen", dotted), "in no section; did you mean server.listen?");
        assert_eq!(
            unknown_key(Target::Section(&SECTIONS[0]), "initial", variable),
            "unknown key; did you mean PUNCTUAL_JOBS__BACKOFF__INITIAL?"
        );
        let all = unknown_key(Target::Queue("a"), "max_payload_bytes", dotted);
        assert_eq!(all, "the same for all queues; set jobs.max_payload_bytes instead");
    }
}
