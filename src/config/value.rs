//! What a key may hold: its type and range, how it is read, and how it is written back.

use std::fmt::{self, Write as _};
use std::time::Duration;

use toml::de::DeValue;

use crate::domain::overrides::{OFF, QueueKey, Range};

/// A check beyond the type. The error says what is wrong and the next step.
pub(super) type Check = fn(&str) -> Result<(), String>;

/// The type and range of a key. Bounds are inclusive.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// A humantime string, in whole milliseconds; with `off`, also that word.
    Duration { min: Duration, max: Duration, off: bool },
    /// A count.
    Integer { min: u64, max: u64 },
    /// Bytes: a number, or a string with a unit.
    Size { min: u64, max: u64 },
    /// A real number; integers are taken too.
    Float { min: f64, max: f64 },
    /// Yes or no.
    Switch,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A string that passes `check`; `rule` says which, for the documentation.
    Text { rule: &'static str, check: Check },
    /// Strings that each pass `check`.
    List { rule: &'static str, check: Check },
}

/// A value of a key, inside its range.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Duration(Duration),
    /// In place of a duration.
    Off,
    Integer(u64),
    Float(f64),
    Switch(bool),
    Text(String),
    List(Vec<String>),
}

/// A value as it was found, before its key's type is applied.
#[derive(Debug, Clone)]
pub(super) enum Raw {
    Text(String),
    /// `None`: beyond 128 bits.
    Integer(Option<i128>),
    Float(f64),
    Boolean(bool),
    List(Vec<Raw>),
    /// Anything that no key takes, by name.
    Other(&'static str),
}

impl Raw {
    pub(super) fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.clone().into_owned()),
            DeValue::Integer(n) => Self::Integer(i128::from_str_radix(n.as_str(), n.radix()).ok()),
            DeValue::Float(x) => Self::Float(x.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Array(items) => {
                Self::List(items.iter().map(|item| Self::from_toml(item.get_ref())).collect())
            }
            DeValue::Boolean(on) => Self::Boolean(*on),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    fn what(&self) -> String {
        match self {
            Self::Text(text) => show(text),
            Self::Integer(Some(n)) => format!("the number {n}"),
            Self::Integer(None) => "a very large number".into(),
            Self::Float(x) => format!("the number {x:?}"),
            Self::Boolean(_) => "a boolean".into(),
            Self::List(_) => "an array".into(),
            Self::Other(what) => (*what).into(),
        }
    }
}

impl Kind {
    /// Of a key that every queue may have of its own. Where a queue may have no limit, that is
    /// unset in the file; only `stuck_after` has a default to turn off.
    pub(super) const fn of(key: QueueKey) -> Self {
        match key.range() {
            Range::Span { min, max } => Self::Duration { min, max, off: key.may_be_off() },
            Range::Count { min, max } => Self::Integer { min, max },
            Range::Real { min, max } => Self::Float { min, max },
            Range::Switch => Self::Switch,
        }
    }

    /// Reads plain text (an environment variable, a flag, a default): numbers without quotes,
    /// lists separated by commas.
    pub(super) fn read_text(&self, text: &str) -> Result<Value, String> {
        let as_found = || Raw::Text(text.to_owned());
        self.read(&match self {
            Self::Integer { .. } | Self::Size { .. } => {
                text.trim().parse().map_or_else(|_| as_found(), |n| Raw::Integer(Some(n)))
            }
            Self::Float { .. } => text.trim().parse().map_or_else(|_| as_found(), Raw::Float),
            Self::Switch => text.trim().parse().map_or_else(|_| as_found(), Raw::Boolean),
            Self::List { .. } => Raw::List(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| Raw::Text(item.to_owned()))
                    .collect(),
            ),
            Self::Duration { .. } | Self::Choice(_) | Self::Text { .. } => as_found(),
        })
    }

    /// The value, or what is wrong and the next step.
    pub(super) fn read(&self, raw: &Raw) -> Result<Value, String> {
        match (self, raw) {
            (Self::Duration { off: true, .. }, Raw::Text(text)) if text == OFF => Ok(Value::Off),
            (Self::Duration { min, max, .. }, Raw::Text(text)) => {
                self.duration(text, *min, *max).map(Value::Duration)
            }
            (Self::Duration { .. }, Raw::Integer(Some(n))) => Err(format!(
                "{n} has no unit; write a duration in quotes, {}",
                self.range_or("such as \"30s\" or \"5m\"")
            )),
            (Self::Integer { min, max }, Raw::Integer(n)) => {
                let n = n.and_then(|n| u64::try_from(n).ok()).filter(|n| (min..=max).contains(&n));
                n.map(Value::Integer).ok_or_else(|| self.outside(raw))
            }
            (Self::Size { min, max }, Raw::Integer(_) | Raw::Text(_)) => {
                let n = match raw {
                    Raw::Text(text) => size(text)?,
                    Raw::Integer(n) => n.and_then(|n| u64::try_from(n).ok()),
                    Raw::Float(_) | Raw::Boolean(_) | Raw::List(_) | Raw::Other(_) => None,
                };
                let n = n.filter(|n| (min..=max).contains(&n));
                n.map(Value::Integer).ok_or_else(|| self.outside(raw))
            }
            (Self::Float { min, max }, Raw::Float(_) | Raw::Integer(Some(_))) => {
                let x = match raw {
                    Raw::Float(x) => *x,
                    Raw::Integer(Some(n)) => *n as f64,
                    Raw::Integer(None)
                    | Raw::Text(_)
                    | Raw::Boolean(_)
                    | Raw::List(_)
                    | Raw::Other(_) => f64::NAN,
                };
                // NaN is in no range.
                let fits = (*min..=*max).contains(&x);
                if fits { Ok(Value::Float(x)) } else { Err(self.outside(raw)) }
            }
            (Self::Switch, Raw::Boolean(on)) => Ok(Value::Switch(*on)),
            (Self::Choice(words), Raw::Text(text)) => {
                if words.contains(&text.as_str()) {
                    Ok(Value::Text(text.clone()))
                } else {
                    Err(format!("{} is not known; use {}", show(text), self.range()))
                }
            }
            (Self::Text { check, .. }, Raw::Text(text)) => {
                check(text).map(|()| Value::Text(text.clone()))
            }
            (Self::List { check, .. }, Raw::List(items)) => items
                .iter()
                .map(|item| match item {
                    Raw::Text(text) => check(text).map(|()| text.clone()),
                    Raw::Integer(_)
                    | Raw::Float(_)
                    | Raw::Boolean(_)
                    | Raw::List(_)
                    | Raw::Other(_) => {
                        Err(format!("{} is among its items; use strings only", item.what()))
                    }
                })
                .collect::<Result<_, _>>()
                .map(Value::List),
            (kind, raw) => Err(format!("found {}; write {}", raw.what(), kind.expected())),
        }
    }

    fn duration(&self, text: &str, min: Duration, max: Duration) -> Result<Duration, String> {
        let Ok(span) = humantime::parse_duration(text) else {
            return Err(format!(
                "{} is not a duration; write a number and a unit (ms, s, m, h, d), {}",
                show(text),
                self.range_or("such as \"30s\"")
            ));
        };
        if !(min..=max).contains(&span) {
            return Err(format!("{} is out of range; use {}", show(text), self.range()));
        }
        if !span.subsec_nanos().is_multiple_of(1_000_000) {
            return Err(format!("{} is finer than 1ms; use whole milliseconds", show(text)));
        }
        Ok(span)
    }

    fn outside(&self, raw: &Raw) -> String {
        format!("{} is out of range; use {}", raw.what(), self.range())
    }

    fn expected(&self) -> String {
        let plain = match self {
            Self::Duration { .. } => {
                return format!("a duration in quotes, {}", self.range_or("such as \"30s\""));
            }
            Self::Integer { .. } => "a whole number",
            Self::Size { .. } => "a number of bytes, or a size such as \"1MiB\"",
            Self::Float { .. } => "a number, such as 1.5",
            Self::Switch => "true or false",
            Self::Choice(_) | Self::Text { .. } => "a string in quotes",
            Self::List { .. } => "an array of strings, such as [\"a\", \"b\"]",
        };
        plain.to_owned()
    }

    /// An example is enough of a hint, but not where a word would do as well.
    fn range_or(&self, example: &str) -> String {
        if matches!(self, Self::Duration { off: true, .. }) {
            self.range()
        } else {
            example.to_owned()
        }
    }

    /// The range, in words.
    pub(super) fn range(&self) -> String {
        match self {
            Self::Duration { min, max, off } => {
                let or_off = if *off { format!(", or {}", quote(OFF)) } else { String::new() };
                format!("{} to {}{or_off}", format_duration(*min), format_duration(*max))
            }
            Self::Integer { min, max } => format!("{min} to {max}"),
            Self::Size { min, max } => format!("{} to {}", format_size(*min), format_size(*max)),
            Self::Float { min, max } => format!("{min} to {max}"),
            Self::Switch => "true or false".into(),
            Self::Choice(words) => {
                words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ")
            }
            Self::Text { rule, .. } | Self::List { rule, .. } => (*rule).into(),
        }
    }
}

/// As TOML.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duration(span) => f.write_str(&quote(&format_duration(*span))),
            Self::Off => f.write_str(&quote(OFF)),
            Self::Integer(n) => write!(f, "{n}"),
            Self::Float(x) => write!(f, "{x:?}"),
            Self::Switch(on) => write!(f, "{on}"),
            Self::Text(text) => f.write_str(&quote(text)),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(|item| quote(item)).collect();
                write!(f, "[{}]", items.join(", "))
            }
        }
    }
}

/// A TOML basic string, on one line.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Text of someone else's in an error: quoted, on one line, not too long.
pub(super) fn show(text: &str) -> String {
    const MOST: usize = 48;
    if text.chars().count() <= MOST {
        return format!("{text:?}");
    }
    let head: String = text.chars().take(MOST).collect();
    let quoted = format!("{head:?}");
    format!("{}…\"", quoted.trim_end_matches('"'))
}

/// Bytes from `1048576`, `64KiB` or `256MB`, the unit in any case; `None` when they do not fit in 64 bits.
fn size(text: &str) -> Result<Option<u64>, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(not_a_size(text)),
    };
    if number.is_empty() {
        return Err(not_a_size(text));
    }
    Ok(number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale)))
}

fn not_a_size(text: &str) -> String {
    format!(
        "{} is not a size; write bytes (65536), or a whole number and one of B, kB, MB, GB, TB, \
         KiB, MiB, GiB, TiB",
        show(text)
    )
}

/// The shortest exact form in one unit: `90m`, `24h`, `7d`, `100ms`.
pub(super) fn format_duration(span: Duration) -> String {
    const UNITS: [(u128, u128, &str); 4] = [
        // (milliseconds, from how many on, unit): one day reads better as 24h.
        (86_400_000, 2, "d"),
        (3_600_000, 1, "h"),
        (60_000, 1, "m"),
        (1_000, 1, "s"),
    ];
    let ms = span.as_millis();
    if ms == 0 {
        return "0s".into();
    }
    UNITS
        .iter()
        .find(|(unit, least, _)| ms.is_multiple_of(*unit) && ms / unit >= *least)
        .map_or_else(|| format!("{ms}ms"), |(unit, _, name)| format!("{}{name}", ms / unit))
}

fn format_size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    UNITS
        .iter()
        .find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit))
        .map_or_else(|| bytes.to_string(), |(unit, name)| format!("{} {name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Kind =
        Kind::Duration { min: Duration::from_secs(1), max: Duration::from_secs(3_600), off: false };
    const SPAN_OR_OFF: Kind =
        Kind::Duration { min: Duration::from_secs(1), max: Duration::from_secs(3_600), off: true };

    #[test]
    fn durations() {
        assert_eq!(SPAN.read_text("1m 30s").unwrap(), Value::Duration(Duration::from_secs(90)));
        for (text, says) in [
            ("2h", "use 1s to 1h"),
            ("0s", "use 1s to 1h"),
            ("1500us", "out of range"),
            ("1s 500us", "whole milliseconds"),
            ("5 parsecs", "not a duration"),
            ("", "not a duration"),
            ("-5s", "not a duration"),
            ("99999999999999999999999y", "not a duration"),
        ] {
            let error = SPAN.read_text(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(SPAN.read(&Raw::Integer(Some(30))).unwrap_err().contains("no unit"));
    }

    #[test]
    fn a_duration_may_be_off_where_that_is_said() {
        assert_eq!(SPAN_OR_OFF.read_text("off").unwrap(), Value::Off);
        assert_eq!(SPAN_OR_OFF.read_text("2m").unwrap(), Value::Duration(Duration::from_secs(120)));
        assert_eq!(Value::Off.to_string(), "\"off\"");
        for raw in [
            Raw::Text("2h".into()),
            Raw::Text("0s".into()),
            Raw::Text("never".into()),
            Raw::Text("OFF".into()),
            Raw::Text(String::new()),
            Raw::Integer(Some(0)),
            Raw::Boolean(true),
        ] {
            let error = SPAN_OR_OFF.read(&raw).unwrap_err();
            assert!(error.contains("1s to 1h, or \"off\""), "{raw:?}: {error}");
        }
        assert!(SPAN.read_text("off").unwrap_err().contains("not a duration"));
    }

    #[test]
    fn durations_are_written_in_one_unit() {
        for text in ["0s", "1ms", "1500ms", "1s", "90s", "5m", "90m", "24h", "36h", "7d"] {
            let span = humantime::parse_duration(text).unwrap();
            assert_eq!(format_duration(span), text);
        }
    }

    #[test]
    fn sizes() {
        let kind = Kind::Size { min: 1, max: 16 << 20 };
        for (text, bytes) in [
            ("65536", 65_536),
            ("65536 B", 65_536),
            ("64KiB", 65_536),
            ("1MiB", 1 << 20),
            ("1kB", 1_000),
            ("1KB", 1_000),
            ("2 MB", 2_000_000),
            (" 3mb ", 3_000_000),
        ] {
            assert_eq!(kind.read(&Raw::Text(text.into())).unwrap(), Value::Integer(bytes));
        }
        let disk = Kind::Size { min: 0, max: 1 << 50 };
        for (text, bytes) in [
            ("0", 0),
            ("256MB", 256_000_000),
            ("5GB", 5_000_000_000),
            ("2GiB", 2 << 30),
            ("3TB", 3_000_000_000_000),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(disk.read_text(text).unwrap(), Value::Integer(bytes), "{text}");
        }
        assert!(disk.read_text("1025TiB").unwrap_err().contains("use 0 to 1024 TiB"));
        for (text, says) in [
            ("17MiB", "use 1 to 16 MiB"),
            ("0", "out of range"),
            ("99999999999999999999", "out of range"),
            ("99999999999GiB", "out of range"),
            ("MB", "not a size"),
            ("1 furlong", "not a size"),
            ("1.5MB", "whole number"),
            ("", "not a size"),
            ("-1", "out of range"),
        ] {
            let error = kind.read_text(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(kind.read(&Raw::Boolean(false)).unwrap_err().starts_with("found a boolean"));
    }

    #[test]
    fn numbers_stay_in_range() {
        let whole = Kind::Integer { min: 1, max: 100 };
        assert_eq!(whole.read_text("100").unwrap(), Value::Integer(100));
        for bad in ["0", "101", "-1", "170141183460469231731687303715884105727"] {
            assert!(whole.read_text(bad).unwrap_err().contains("1 to 100"), "{bad}");
        }
        assert!(whole.read(&Raw::Integer(None)).unwrap_err().contains("very large"));
        assert!(whole.read_text("five").unwrap_err().contains("whole number"));
        let real = Kind::Float { min: 0.0, max: 1.0 };
        assert_eq!(real.read(&Raw::Integer(Some(1))).unwrap(), Value::Float(1.0));
        for bad in ["NaN", "inf", "-0.1", "1.1"] {
            assert!(real.read_text(bad).unwrap_err().contains("0 to 1"), "{bad}");
        }
    }

    #[test]
    fn switches_are_true_or_false() {
        assert_eq!(Kind::Switch.read(&Raw::Boolean(true)).unwrap(), Value::Switch(true));
        assert_eq!(Kind::Switch.read_text("false").unwrap(), Value::Switch(false));
        for bad in ["yes", "on", "TRUE", ""] {
            assert!(Kind::Switch.read_text(bad).unwrap_err().contains("true or false"), "{bad}");
        }
    }

    #[test]
    fn quoted_text_is_one_short_line() {
        let shown = show(&"line\n\"".repeat(1_000));
        assert!(shown.len() < 120 && !shown.contains('\n'), "{shown}");
        assert_eq!(quote("a\"b\\\n"), r#""a\"b\\\u000A""#);
    }
}
