//! From a file, the environment and flags to one set of values, each with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Override;
use super::errors::{ConfigError, Place};
use super::hint;
use super::keys::{Key, QUEUES, SECTIONS, Target, bare_or_quoted, inherited_from, section};
use super::tokens::{TOKENS, Tokens};
use super::value::{Raw, Value, show};
use crate::domain::names::{NAME_RULE, Name};

/// Environment variables with this prefix and a double underscore are configuration.
pub(super) const PREFIX: &str = "PUNCTUAL_";

/// A value and where it was set last.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// Every key of every section, and the keys that queues override.
#[derive(Debug, Clone)]
pub(super) struct Values {
    base: BTreeMap<(&'static str, &'static str), Entry>,
    queues: BTreeMap<String, BTreeMap<&'static str, Entry>>,
    pub(super) tokens: Tokens,
}

impl Values {
    /// The defaults of the table.
    fn defaults() -> Self {
        let entries = SECTIONS.iter().flat_map(|section| {
            section.keys.iter().map(|key| {
                let value = key.kind.read_text(key.default).expect("a test reads every default");
                ((section.name, key.name), Entry { value, place: Place::Default })
            })
        });
        Self { base: entries.collect(), queues: BTreeMap::new(), tokens: Tokens::default() }
    }

    /// A key that the table declares.
    pub(super) fn base(&self, section: &'static str, key: &'static str) -> &Entry {
        self.base.get(&(section, key)).expect("declared in the table of keys")
    }

    /// A queue's own value, else the one that it inherits; `None` for a key that only queues
    /// have, and this one leaves unset.
    pub(super) fn queue(&self, queue: &str, key: &'static str) -> Option<&Entry> {
        let own = self.queues.get(queue).and_then(|own| own.get(key));
        own.or_else(|| inherited_from(key).map(|section| self.base(section.name, key)))
    }

    /// The queues that were named.
    pub(super) fn queue_names(&self) -> impl Iterator<Item = &str> {
        self.queues.keys().map(String::as_str)
    }

    /// All that is in force as (table, key, value), in the order of the documentation; queues
    /// last, with what they inherit.
    pub(super) fn effective(&self) -> impl Iterator<Item = (Target<'_>, &'static Key, &Value)> {
        let base = SECTIONS.iter().flat_map(|section| {
            section.keys.iter().map(|key| {
                (Target::Section(section), key, &self.base(section.name, key.name).value)
            })
        });
        let queues = self.queue_names().flat_map(move |name| {
            let target = Target::Queue(name);
            target.keys().filter_map(move |key| {
                self.queue(name, key.name).map(|entry| (target, key, &entry.value))
            })
        });
        base.chain(queues)
    }

    fn set(&mut self, target: Target<'_>, key: &'static Key, entry: Entry) {
        match target {
            Target::Section(section) => {
                self.base.insert((section.name, key.name), entry);
            }
            Target::Queue(name) => {
                self.queues.entry(name.to_owned()).or_default().insert(key.name, entry);
            }
        }
    }
}

/// Collects values and everything that is wrong with them.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) values: Values,
    pub(super) errors: Vec<ConfigError>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { values: Values::defaults(), errors: Vec::new() }
    }

    pub(super) fn error(&mut self, place: Place, key: impl Into<Option<String>>, message: String) {
        self.errors.push(ConfigError { place, key: key.into(), message });
    }

    fn read(&mut self, target: Target<'_>, key: &'static Key, raw: &Raw, place: Place) {
        match key.kind.read(raw) {
            Ok(value) => self.values.set(target, key, Entry { value, place }),
            Err(message) => self.error(place, target.full(key.name), message),
        }
    }

    fn read_text(&mut self, target: Target<'_>, key: &'static Key, text: &str, place: Place) {
        match key.kind.read_text(text) {
            Ok(value) => self.values.set(target, key, Entry { value, place }),
            Err(message) => self.error(place, target.full(key.name), message),
        }
    }

    /// Reads the text of a file. Text that is no TOML is reported too, and the rest still read.
    pub(super) fn file(&mut self, path: &Path, text: &str) {
        let file = File { path: Arc::from(path), lines: line_starts(text) };
        let (table, syntax) = DeTable::parse_recoverable(text);
        let first = self.errors.len();
        for (name, value) in table.get_ref() {
            let place = file.at(name);
            match (name.get_ref().as_ref(), value.get_ref()) {
                (QUEUES, DeValue::Table(queues)) => self.queue_tables(&file, queues),
                (QUEUES, _) => {
                    let message = "not a table; write [queues.NAME] and its keys below it";
                    self.error(place, QUEUES.to_owned(), message.into());
                }
                (name, value) => match (section(name), value) {
                    (Some(section), DeValue::Table(table)) => {
                        self.table(&file, Target::Section(section), "", table);
                    }
                    (Some(section), _) => {
                        let message = format!("not a table; write [{name}] and its keys below it");
                        self.error(place, section.name.to_owned(), message);
                    }
                    (None, _) => {
                        let message = hint::unknown_section(name, hint::dotted);
                        self.error(place, bare_or_quoted(name), message);
                    }
                },
            }
        }
        // What the parser recovered from a broken line says nothing about what was meant.
        let broken: BTreeSet<_> =
            syntax.iter().map(|e| e.span().map(|span| file.line(span.start))).collect();
        let mut kept = self.errors.split_off(first);
        kept.retain(|error| !broken.contains(&error.line()));
        self.errors.append(&mut kept);
        let mut seen = BTreeSet::new();
        for error in syntax {
            let line = error.span().map(|span| file.line(span.start));
            // One complaint for each line: the others follow from the first.
            if seen.insert(line) {
                let message = format!("not valid TOML: {}", one_line(error.message()));
                self.error(Place::File { path: file.path.clone(), line }, None, message);
            }
        }
    }

    fn queue_tables(&mut self, file: &File, queues: &DeTable<'_>) {
        for (name, value) in queues {
            let target = Target::Queue(name.get_ref());
            if Name::parse(name.get_ref()).is_none() {
                let message = format!("not the name of a queue; use {NAME_RULE}");
                self.error(file.at(name), target.table(), message);
            } else if let DeValue::Table(table) = value.get_ref() {
                self.values.queues.entry(name.get_ref().clone().into_owned()).or_default();
                self.table(file, target, "", table);
            } else {
                let message = format!("not a table; write [{}]", target.table());
                self.error(file.at(name), target.table(), message);
            }
        }
    }

    fn table(&mut self, file: &File, target: Target<'_>, group: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let place = file.at(name);
            // A quoted key with a dot is not the nested one.
            let quoted_dot = name.get_ref().contains('.');
            let full = format!("{group}{}", name.get_ref());
            let is_group = !quoted_dot && target.is_group(&full);
            if target.has_tokens() && group.is_empty() && full == TOKENS {
                self.tokens(file, place, value.get_ref());
                continue;
            }
            match (target.key(&full).filter(|_| !quoted_dot), value.get_ref()) {
                (Some(key), value) => self.read(target, key, &Raw::from_toml(value), place),
                (None, DeValue::Table(inner)) if is_group => {
                    self.table(file, target, &format!("{full}."), inner);
                }
                (None, _) if is_group => {
                    self.error(place, target.full(&full), not_a_value(target, &full, hint::dotted));
                }
                (None, value) => {
                    let mut message = hint::unknown_key(target, &full, hint::dotted);
                    if let (Target::Queue(queue), DeValue::Table(_)) = (target, value) {
                        let whole = show(&format!("{queue}.{full}"));
                        message = format!(
                            "{message} A queue's name with a dot needs quotes: [queues.{whole}]"
                        );
                    }
                    let shown = format!("{group}{}", bare_or_quoted(name.get_ref()));
                    self.error(place, target.full(&shown), message);
                }
            }
        }
    }

    /// Reads `PUNCTUAL_SECTION__KEY` variables; others are not ours.
    pub(super) fn environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        let ours = variables.filter_map(|(name, value)| {
            let rest = name.strip_prefix(PREFIX)?;
            rest.contains("__").then(|| (rest.to_lowercase(), (name.clone(), value)))
        });
        // Sorted, so that reports do not depend on the order of the environment.
        let mut sorted: Vec<_> = ours.collect();
        sorted.sort();
        let mut last: Option<(String, String)> = None;
        for (path, (name, value)) in sorted {
            let place = Place::Variable(name.clone());
            if let Some((_, other)) = last.as_ref().filter(|(known, _)| *known == path) {
                let message = format!("sets the same key as {other}; keep one of them");
                self.error(place, None, message);
                continue;
            }
            if value.contains(char::REPLACEMENT_CHARACTER) {
                self.error(place, None, "not Unicode text; set it again in UTF-8".into());
            } else {
                self.variable(&path, &value, place);
            }
            last = Some((path, name));
        }
    }

    fn variable(&mut self, path: &str, value: &str, place: Place) {
        let parts: Vec<&str> = path.split("__").collect();
        let (first, rest) = (parts[0], &parts[1..]);
        if first == QUEUES {
            // A name may hold double underscores itself: the key is the longest known ending.
            let key_at = (1..rest.len())
                .find(|at| Target::Queue("").key(&rest[*at..].join(".")).is_some())
                .or_else(|| {
                    (1..rest.len()).find(|at| Target::Queue("").is_group(&rest[*at..].join(".")))
                })
                .unwrap_or(rest.len() - 1);
            let (queue, key) = (rest[..key_at].join("__"), rest[key_at..].join("."));
            let target = Target::Queue(&queue);
            if queue.is_empty() {
                let message = format!("names no queue; write {PREFIX}QUEUES__NAME__KEY");
                self.error(place, None, message);
            } else if Name::parse(&queue).is_none() {
                let message = format!("not the name of a queue; use {NAME_RULE}");
                self.error(place, target.table(), message);
            } else {
                self.variable_key(target, &key, value, place);
            }
        } else if let Some(section) = section(first) {
            self.variable_key(Target::Section(section), &rest.join("."), value, place);
        } else {
            self.error(place, None, hint::unknown_section(first, hint::variable));
        }
    }

    fn variable_key(&mut self, target: Target<'_>, key: &str, value: &str, place: Place) {
        if let Some(key) = target.key(key) {
            self.read_text(target, key, value, place);
        } else if target.has_tokens() && key.split('.').next() == Some(TOKENS) {
            let message = "no variable; write [[auth.tokens]] in the configuration file";
            self.error(place, None, message.into());
        } else if target.is_group(key) {
            let message = not_a_value(target, key, hint::variable);
            self.error(place, target.full(key), message);
        } else {
            self.error(place, None, hint::unknown_key(target, key, hint::variable));
        }
    }

    /// Reads a flag of the command line, which is stronger than all else.
    pub(super) fn flag(&mut self, flag: &Override<'_>) {
        let place = Place::Flag(flag.flag.to_owned());
        let found = flag.key.split_once('.').and_then(|(name, key)| {
            let target = Target::Section(section(name)?);
            Some((target, target.key(key)?))
        });
        match found {
            Some((target, key)) => self.read_text(target, key, &flag.value, place),
            None => self.error(place, flag.key.to_owned(), "unknown key".into()),
        }
    }
}

fn not_a_value(target: Target<'_>, group: &str, spell: fn(&str) -> String) -> String {
    let mut inside = target
        .keys()
        .filter(|key| key.name.strip_prefix(group).is_some_and(|rest| rest.starts_with('.')));
    let example = inside.next().map_or(group, |key| key.name);
    format!("a group of keys; set each, such as {}", spell(&target.full(example)))
}

/// Turns byte offsets into lines.
pub(super) struct File {
    path: Arc<Path>,
    lines: Vec<usize>,
}

impl File {
    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    pub(super) fn at<T>(&self, found: &Spanned<T>) -> Place {
        Place::File { path: self.path.clone(), line: Some(self.line(found.span().start)) }
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    let after_newlines =
        text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(after_newlines).collect()
}

fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split(char::is_control).filter(|part| !part.is_empty()).collect();
    words.join(" ")
}
