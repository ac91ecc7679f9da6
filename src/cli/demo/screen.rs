//! The terminal: a frame that is drawn over the one before, and how it is left behind.
//!
//! Frames are drawn where the cursor is and not on a screen of their own, so that what was printed
//! before stays above, and the last frame stays when it is over.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};

/// What a line looks like, where colours are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Strong,
    Faint,
    Good,
    Warning,
    Bad,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\x1b[1m",
            Self::Faint => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Warning => "\x1b[33m",
            Self::Bad => "\x1b[31m",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) style: Style,
    pub(super) text: String,
}

impl Line {
    pub(super) fn new(style: Style, text: impl Into<String>) -> Self {
        Self { style, text: text.into() }
    }
}

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

impl Size {
    /// Of a terminal that does not tell.
    const USUAL: Self = Self { columns: 80, rows: 24 };

    fn of_stdout() -> Self {
        let told = rustix::termios::tcgetwinsize(io::stdout()).ok();
        told.filter(|size| size.ws_col > 0 && size.ws_row > 0).map_or(Self::USUAL, |size| Self {
            columns: usize::from(size.ws_col),
            rows: usize::from(size.ws_row),
        })
    }
}

/// Writes to stdout, at once.
pub(super) fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// A terminal that frames are drawn on; left as it was found when this is dropped.
#[derive(Debug)]
pub(super) struct Screen(Canvas);

impl Screen {
    /// `None` when stdout is no terminal that a frame could be drawn on.
    pub(super) fn of_stdout() -> Option<Self> {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        if dumb || !io::stdout().is_terminal() {
            return None;
        }
        let colour = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Some(Self(Canvas { colour, size: Size::of_stdout(), drawn: 0, torn: false }))
    }

    /// The size of now, for the frame that is drawn next.
    pub(super) fn resized(&mut self) -> Size {
        self.0.resize(Size::of_stdout());
        self.0.size
    }

    pub(super) fn draw(&mut self, lines: &[Line]) -> io::Result<()> {
        say(&self.0.next(lines))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = say("\x1b[?7h\x1b[?25h");
    }
}

#[derive(Debug)]
struct Canvas {
    colour: bool,
    size: Size,
    /// Lines of the frame that stands there.
    drawn: usize,
    /// It lies there in an unknown shape.
    torn: bool,
}

impl Canvas {
    fn resize(&mut self, size: Size) {
        self.torn |= self.drawn > 0 && size != self.size;
        self.size = size;
    }

    /// What to write for the frame to stand where the last one did.
    fn next(&mut self, lines: &[Line]) -> String {
        // One row is left for the cursor: a full screen would scroll.
        let lines = &lines[..lines.len().min(self.size.rows.saturating_sub(1))];
        // No cursor and no wrapping: a character may be wider than it is counted here.
        let mut out = String::from("\x1b[?25l\x1b[?7l\r");
        if self.torn {
            out.push_str("\x1b[2J\x1b[H");
        } else if self.drawn > 0 {
            // Writing to a String cannot fail.
            let _ = write!(out, "\x1b[{}A", self.drawn);
        }
        for line in lines {
            let text: String = line.text.chars().take(self.size.columns).collect();
            if self.colour && line.style != Style::Plain {
                let _ = write!(out, "{}{text}\x1b[0m\x1b[K\r\n", line.style.code());
            } else {
                let _ = write!(out, "{text}\x1b[K\r\n");
            }
        }
        out.push_str("\x1b[J\x1b[?7h");
        (self.drawn, self.torn) = (lines.len(), false);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { columns: 4, rows: 3 };

    fn canvas(colour: bool) -> Canvas {
        Canvas { colour, size: SIZE, drawn: 0, torn: false }
    }

    fn lines() -> [Line; 2] {
        [Line::new(Style::Bad, "abcdef"), Line::new(Style::Plain, "é2")]
    }

    #[test]
    fn lines_are_cut_to_the_width_and_coloured_only_where_wanted() {
        assert_eq!(
            canvas(true).next(&lines()),
            "\x1b[?25l\x1b[?7l\r\x1b[31mabcd\x1b[0m\x1b[K\r\né2\x1b[K\r\n\x1b[J\x1b[?7h"
        );
        let plain = canvas(false).next(&lines());
        assert!(plain.contains("\rabcd\x1b[K") && !plain.contains('m'), "{plain:?}");
    }

    #[test]
    fn a_frame_goes_over_the_last_one_or_after_a_resize_onto_an_empty_screen() {
        let mut canvas = canvas(true);
        canvas.resize(Size { columns: 9, ..SIZE });
        let first = canvas.next(&lines());
        assert!(!first.contains("\x1b[2J") && !first.contains('A'), "{first:?}");
        let over = canvas.next(&lines());
        assert!(over.contains("\r\x1b[2A"), "{over:?}");
        canvas.resize(SIZE);
        let torn = canvas.next(&lines());
        assert!(torn.contains("\r\x1b[2J\x1b[H") && !torn.contains("\x1b[2A"), "{torn:?}");
        let over = canvas.next(&lines());
        assert!(over.contains("\r\x1b[2A"), "{over:?}");
    }

    #[test]
    fn a_frame_never_fills_the_last_row() {
        let mut canvas = canvas(false);
        let tall: Vec<Line> = (0..9).map(|n| Line::new(Style::Plain, n.to_string())).collect();
        let text = canvas.next(&tall);
        assert!(text.contains("1\x1b[K") && !text.contains("2\x1b[K"), "{text:?}");
        assert_eq!(canvas.drawn, 2);
    }
}
