//! What stands on the screen, and what is told where there is none.

use std::fmt::Write as _;
use std::time::Duration;

use super::feed::{Event, Mood};
use super::look::{Look, REPORTS_SHOWN, Report, Row};
use super::screen::{Line, Size, Style};
use super::words::Words;
use crate::cli::output::{self, Table};

/// Events on the largest screen.
pub(super) const MOST_EVENTS: usize = 12;

/// Cells of a bar.
const BAR: usize = 20;

/// From the queues at the top to what to try next at the bottom; what does not fit is the oldest
/// of the events.
pub(super) fn frame(
    look: &Look,
    events: &[Event],
    elapsed: Duration,
    words: &Words,
    size: Size,
) -> Vec<Line> {
    let blank = || Line::new(Style::Plain, "");
    let title = format!("punctual demo  {}  {}  (Ctrl-C ends it)", words.url(), clock(elapsed));
    let mut top = vec![Line::new(Style::Strong, title), blank()];
    top.extend(queues(look, size.columns));
    top.push(blank());
    top.extend(reports(&look.reports));
    top.push(blank());
    let mut bottom = vec![blank()];
    let (heading, commands) = words.next(look.archive);
    bottom.push(Line::new(Style::Strong, heading));
    for command in commands {
        bottom
            .extend(folded(&command, size.columns).into_iter().map(|l| Line::new(Style::Plain, l)));
    }
    // The row of the cursor is not for us.
    let room = size.rows.saturating_sub(1 + top.len() + bottom.len()).min(MOST_EVENTS);
    let shown = &events[events.len().saturating_sub(room)..];
    top.extend(shown.iter().map(|e| Line::new(style(e.mood), event(e))));
    top.extend(bottom);
    top
}

fn queues(look: &Look, columns: usize) -> Vec<Line> {
    let table = table(look, columns);
    let mut lines = table.lines();
    let heading = lines.next().unwrap_or_default();
    let style = |row: &Row| if row.stuck > 0 { Style::Bad } else { Style::Plain };
    let rows = lines.zip(&look.rows).map(|(line, row)| Line::new(style(row), line));
    std::iter::once(Line::new(Style::Faint, heading)).chain(rows).collect()
}

/// Always as many lines, so that what is below does not jump.
fn reports(running: &[Report]) -> Vec<Line> {
    let line = |n: u32| {
        let Some(report) = running.get(n as usize) else { return Line::new(Style::Plain, "") };
        let full = (report.percent / 100.0 * BAR as f64).round() as usize;
        let bar = "█".repeat(full.min(BAR)) + &"░".repeat(BAR.saturating_sub(full));
        let text = format!("report {bar} {:>3.0}%  {}", report.percent, report.message);
        Line::new(Style::Plain, text)
    };
    (0..REPORTS_SHOWN).map(line).collect()
}

const fn style(mood: Mood) -> Style {
    match mood {
        Mood::Good => Style::Good,
        Mood::Plain => Style::Plain,
        Mood::Warning => Style::Warning,
        Mood::Bad => Style::Bad,
    }
}

fn event(event: &Event) -> String {
    format!("{}  {}", clock(event.at), event.text)
}

/// A shell command within the width, continued with backslashes. Its words have no blanks in
/// quotes.
fn folded(command: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::from(" ");
    for word in command.split(' ') {
        let full = line.chars().count() + 1 + word.chars().count() + 2 > width;
        if full && !line.trim().is_empty() {
            lines.push(format!("{line} \\"));
            line = String::from("   ");
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// From here on up headings are written out.
const WIDE: usize = 90;

/// The queues, for so many columns.
pub(super) fn table(look: &Look, columns: usize) -> String {
    let [waiting, running, retrying, failed, workers] = if columns < WIDE {
        [">WAIT", ">RUN", ">RETRY", ">FAIL", ">WORK"]
    } else {
        [">WAITING", ">RUNNING", ">RETRYING", ">FAILED", ">WORKERS"]
    };
    let mut table = Table::new(&[
        "QUEUE", waiting, running, retrying, ">DONE/S", failed, ">OLDEST", workers, "STUCK",
    ]);
    for row in &look.rows {
        table.row([
            row.queue.clone(),
            row.waiting.to_string(),
            row.running.to_string(),
            row.retrying.to_string(),
            format!("{:.1}", row.done_per_second),
            row.failed.to_string(),
            row.oldest.map_or("-".to_owned(), |age| output::span(age.as_secs_f64())),
            row.workers.to_string(),
            stuck(row),
        ]);
    }
    table.render()
}

fn stuck(row: &Row) -> String {
    match row.verdict {
        _ if row.stuck == 0 => "-".to_owned(),
        Some(verdict) => format!("{} {}", row.stuck, verdict.as_str()),
        None => row.stuck.to_string(),
    }
}

/// The queues in one line; what is nought is left out.
pub(super) fn status(look: &Look, elapsed: Duration) -> String {
    let row = |row: &Row| {
        let mut parts = Vec::new();
        for (count, what) in
            [(row.waiting, "waiting"), (row.running, "running"), (row.retrying, "retrying")]
        {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        if row.done_per_second >= 0.05 {
            parts.push(format!("{:.1}/s done", row.done_per_second));
        }
        if row.failed > 0 {
            parts.push(format!("{} failed", row.failed));
        }
        if row.stuck > 0 {
            parts.push(format!("STUCK {}", stuck(row)));
        }
        if parts.is_empty() {
            parts.push("idle".to_owned());
        }
        format!("{}: {}", row.queue, parts.join(", "))
    };
    let rows: Vec<String> = look.rows.iter().map(row).collect();
    format!("{}  {}\n", clock(elapsed), rows.join(" | "))
}

/// One a line.
pub(super) fn event_lines(events: &[Event]) -> String {
    events.iter().fold(String::new(), |mut out, e| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}", event(e));
        out
    })
}

/// `01:23`, and with hours `2:01:23`.
fn clock(span: Duration) -> String {
    let s = span.as_secs();
    match s / 3_600 {
        0 => format!("{:02}:{:02}", s / 60, s % 60),
        hours => format!("{hours}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::super::look::Archive;
    use super::*;
    use crate::domain::watch::Verdict;

    fn look() -> Look {
        let archive = Row {
            queue: "archive".into(),
            waiting: 12,
            oldest: Some(Duration::from_secs(36)),
            stuck: 5,
            verdict: Some(Verdict::NoWorkers),
            ..Row::default()
        };
        let mail = Row {
            queue: "mail".into(),
            running: 2,
            retrying: 1,
            done_per_second: 6.24,
            failed: 3,
            workers: 3,
            ..Row::default()
        };
        let report = Report { percent: 51.0, message: "page 21 of 40".into() };
        Look { rows: vec![archive, mail], reports: vec![report], archive: Archive::Stuck }
    }

    fn events(n: u64) -> Vec<Event> {
        let event =
            |n| Event { at: Duration::from_secs(n), mood: Mood::Bad, text: format!("e{n}") };
        (0..n).map(event).collect()
    }

    fn shown(events: &[Event], size: Size) -> Vec<Line> {
        let words = Words::new(
            "127.0.0.1:8080".parse().unwrap(),
            None,
            &super::super::Scratch::new().unwrap(),
            Duration::from_secs(20),
        );
        frame(&look(), events, Duration::from_secs(83), &words, size)
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|l| &*l.text).collect()
    }

    #[test]
    fn the_frame_goes_from_the_queues_to_what_to_try_next() {
        let lines = shown(&events(3), Size { columns: 100, rows: 40 });
        let shown = texts(&lines);
        assert_eq!(shown[0], "punctual demo  http://127.0.0.1:8080  01:23  (Ctrl-C ends it)");
        assert_eq!(
            shown[2..8],
            [
                "QUEUE    WAITING  RUNNING  RETRYING  DONE/S  FAILED  OLDEST  WORKERS  STUCK",
                "archive       12        0         0     0.0       0     36s        0  5 no_workers",
                "mail           0        2         1     6.2       3       -        3  -",
                "",
                "report ██████████░░░░░░░░░░  51%  page 21 of 40",
                "",
            ]
        );
        assert_eq!((lines[3].style, lines[4].style), (Style::Bad, Style::Plain));
        assert_eq!(shown[9..13], ["00:00  e0", "00:01  e1", "00:02  e2", ""]);
        assert!(shown[13].contains("archive is stuck"), "{}", shown[13]);
        assert!(shown[14..].iter().any(|l| l.ends_with("explain archive")), "{shown:?}");
    }

    #[test]
    fn the_longest_verdict_fits_the_usual_terminal() {
        let mut look = look();
        look.rows[0].verdict = Some(Verdict::ConcurrencyLimited);
        look.rows[0].queue = "thumbnails".into();
        let table = table(&look, 80);
        assert!(table.starts_with("QUEUE       WAIT  RUN  RETRY  DONE/S  FAIL"), "{table}");
        assert!(table.lines().all(|l| l.len() <= 80), "{table}");
    }

    #[test]
    fn a_low_screen_costs_the_oldest_events_and_a_high_one_has_no_end_of_them() {
        let high = shown(&events(40), Size { columns: 100, rows: 200 });
        let shown_of = |lines: &[Line]| lines.iter().filter(|l| l.text.contains("  e")).count();
        assert_eq!(shown_of(&high), MOST_EVENTS);
        let rest = high.len() - MOST_EVENTS;
        let low = shown(&events(40), Size { columns: 100, rows: rest + 3 });
        assert_eq!((shown_of(&low), low.len()), (2, rest + 2));
        assert!(texts(&low).contains(&"00:39  e39"));
        assert_eq!(shown_of(&shown(&events(40), Size { columns: 100, rows: 5 })), 0);
    }

    #[test]
    fn commands_are_folded_so_that_they_can_be_copied() {
        assert_eq!(folded("a bb ccc", 20), ["  a bb ccc"]);
        assert_eq!(folded("a bb ccc", 9), ["  a bb \\", "    ccc"]);
        assert_eq!(folded("aaaaaaaa b", 4), ["  aaaaaaaa \\", "    b"]);
    }

    #[test]
    fn one_line_tells_it_all() {
        assert_eq!(
            status(&look(), Duration::from_secs(3_700)),
            "1:01:40  archive: 12 waiting, STUCK 5 no_workers | \
             mail: 2 running, 1 retrying, 6.2/s done, 3 failed\n"
        );
        let idle = Look { rows: vec![Row { queue: "q".into(), ..Row::default() }], ..look() };
        assert_eq!(status(&idle, Duration::ZERO), "00:00  q: idle\n");
    }
}
