//! Printing: tables, facts, ages, and a stdout whose reader may have gone.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::{Done, Failure};
use crate::domain::time::Timestamp;

/// Writes to stdout. A reader that has gone away (`| head`) has seen what it wanted.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::no(format!("cannot write to stdout: {e}; check where it is redirected")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// One line on stderr; one that cannot be written is nobody's loss.
pub(super) fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "punctual: {message}");
}

/// A remark that is no part of the answer.
pub(super) fn note(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Failure::no(format!("cannot print the answer as JSON: {e}; report this")))?;
    print(&format!("{text}\n"))
}

/// JSON when asked for, else the text.
pub(super) fn show(as_json: bool, value: &impl Serialize, text: impl FnOnce() -> String) -> Done {
    if as_json {
        json(value)?;
    } else {
        print(&text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line on stderr that is rewritten in place, on terminals only.
#[derive(Debug)]
pub(super) struct Ticker {
    shown: bool,
    on: bool,
}

impl Ticker {
    pub(super) fn new() -> Self {
        Self { shown: false, on: io::stderr().is_terminal() }
    }

    pub(super) fn show(&mut self, line: &str) {
        if self.on {
            let line: String = line.chars().take(100).collect();
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[2K{line}");
            let _ = stderr.flush();
            self.shown = true;
        }
    }

    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "\r\x1b[2K");
            let _ = stderr.flush();
        }
    }
}

/// Which side of its column a cell keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Columns that are as wide as their widest cell, two spaces apart, without trailing blanks.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A heading that begins with `>` makes its column keep to the right.
    pub(super) fn new(headings: &[&'static str]) -> Self {
        let column = |h: &&'static str| match h.strip_prefix('>') {
            Some(name) => (name, Align::Right),
            None => (*h, Align::Left),
        };
        Self { columns: headings.iter().map(column).collect(), rows: Vec::new() }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.map(|cell| printable(&cell)).to_vec());
    }

    pub(super) fn render(&self) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|(h, _)| h.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let headings: Vec<String> = self.columns.iter().map(|(h, _)| (*h).to_owned()).collect();
        let mut out = String::new();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(&self.columns) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                match align {
                    Align::Left => {
                        let _ = write!(line, "{cell:<width$}");
                    }
                    Align::Right => {
                        let _ = write!(line, "{cell:>width$}");
                    }
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Names and values, one a line, values aligned. What is absent is left out.
#[derive(Debug, Default)]
pub(super) struct Facts(Vec<(&'static str, String)>);

impl Facts {
    pub(super) fn add(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, printable(&value.into())));
    }

    pub(super) fn maybe(&mut self, name: &'static str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    pub(super) fn extend(&mut self, facts: Self) {
        self.0.extend(facts.0);
    }

    pub(super) fn render(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut out = String::new();
        for (name, value) in &self.0 {
            let _ = writeln!(out, "{name:<width$}  {value}");
        }
        out
    }
}

/// What clients wrote must neither break the layout nor steer the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The time by which ages are counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now(Timestamp);

impl Now {
    #[expect(clippy::disallowed_methods, reason = "ages are for a person in front of this clock")]
    pub(super) fn read() -> Self {
        Self(Timestamp::from_millis(jiff::Timestamp::now().as_millisecond()))
    }

    /// The moment that is so far ahead.
    pub(super) fn plus(self, span: std::time::Duration) -> Timestamp {
        self.0.plus(span)
    }

    /// The moment that is so far back.
    pub(super) fn minus(self, span: std::time::Duration) -> Timestamp {
        self.0.minus(span)
    }

    /// How long ago a moment was, or how far ahead it is: `5m`, `in 20s`. What cannot be read is
    /// shown as it is.
    pub(super) fn age(self, moment: &str) -> String {
        let Some(then) = Timestamp::parse_rfc3339(moment) else {
            return moment.to_owned();
        };
        if then > self.0 {
            format!("in {}", span(then.since(self.0).as_secs_f64()))
        } else {
            span(self.0.since(then).as_secs_f64())
        }
    }

    /// The moment itself and how long ago it was.
    pub(super) fn moment(self, moment: &str) -> String {
        match self.age(moment) {
            age if age == moment => age,
            age if age.starts_with("in ") => format!("{moment} ({age})"),
            age => format!("{moment} ({age} ago)"),
        }
    }
}

/// A span in its two leading units at most: `3s`, `2m5s`, `4h`, `12d`.
pub(super) fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    if seconds < 1.0 {
        return format!("{}ms", (seconds * 1_000.0) as u64);
    }
    let s = seconds as u64;
    let two = |big: u64, unit: char, small: u64, small_unit: char| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    match s {
        0..60 => format!("{s}s"),
        60..600 => two(s / 60, 'm', s % 60, 's'),
        600..3_600 => format!("{}m", s / 60),
        3_600..36_000 => two(s / 3_600, 'h', s / 60 % 60, 'm'),
        36_000..172_800 => format!("{}h", s / 3_600),
        _ => format!("{}d", s / 86_400),
    }
}

/// Events a second, short: `0.25/s`, `12/s`.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        r if r >= 10.0 => format!("{r:.0}/s"),
        r if r >= 0.1 => format!("{r:.2}/s"),
        r if r > 0.0 => format!("{r:.3}/s"),
        _ => "0/s".to_owned(),
    }
}

/// A cell for what may be absent.
pub(super) fn dash(value: Option<&str>) -> String {
    value.filter(|v| !v.is_empty()).unwrap_or("-").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let mut table = Table::new(&["NAME", ">N", "NOTE"]);
        table.row(["é".into(), "5".into(), "-".into()]);
        table.row(["longer".into(), "1000".into(), "a\nb\x1b[31m".into()]);
        assert_eq!(
            table.render(),
            "NAME       N  NOTE\n\
             é          5  -\n\
             longer  1000  a b [31m\n"
        );
    }

    #[test]
    fn facts_are_aligned_and_leave_out_what_is_absent() {
        let mut facts = Facts::default();
        facts.add("job", "1");
        facts.maybe("nothing", None::<String>);
        facts.maybe("progress", Some("40%"));
        assert_eq!(facts.render(), "job       1\nprogress  40%\n");
    }

    #[test]
    fn spans() {
        let all = [0.02, 1.9, 59.0, 65.0, 120.0, 3_599.0, 3_660.0, 90_000.0, 200_000.0, f64::NAN];
        let shown = all.map(span);
        assert_eq!(
            shown,
            ["20ms", "1s", "59s", "1m5s", "2m", "59m", "1h1m", "25h", "2d", "-"].map(String::from)
        );
    }

    #[test]
    fn rates() {
        assert_eq!(
            [0.0, 0.004, 0.25, 3.0, 1234.5].map(rate),
            ["0/s", "0.004/s", "0.25/s", "3.00/s", "1234/s"]
        );
    }

    #[test]
    fn ages() {
        let now = Now(Timestamp::parse_rfc3339("2026-08-24T10:00:00Z").unwrap());
        assert_eq!(now.age("2026-08-24T09:55:00.000Z"), "5m");
        assert_eq!(now.age("2026-08-24T10:00:20.000Z"), "in 20s");
        assert_eq!(now.age("?"), "?");
        assert_eq!(now.moment("2026-08-24T09:59:58.000Z"), "2026-08-24T09:59:58.000Z (2s ago)");
    }
}
