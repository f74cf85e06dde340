//! Lines for a terminal. Text is broken at blanks alone, so that what is to be pasted stays whole: a path, a directive with
//! its value, a command.

use tabled::grid::util::string::get_line_width;

use crate::text::printable;

/// Whether the table may use terminal colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    Plain,
    /// Titles and warnings in bold and colour (ECMA-48).
    Colour,
}

/// How a result is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Colours.
    pub style: Style,
    /// Columns of the terminal; `None` for what is no terminal, where no line is broken.
    pub width: Option<usize>,
    /// Each need with its evidence.
    pub all: bool,
}

impl View {
    /// What goes to a file or a pipe.
    pub const PLAIN: Self = Self { style: Style::Plain, width: None, all: false };
}

pub(super) const BOLD: &str = "\x1b[1m";
pub(super) const RED: &str = "\x1b[1;31m";
pub(super) const YELLOW: &str = "\x1b[1;33m";
pub(super) const GREEN: &str = "\x1b[1;32m";
const RESET: &str = "\x1b[0m";

/// What is written, line by line.
pub(super) struct Paper {
    pub(super) out: String,
    style: Style,
    width: Option<usize>,
}

impl Paper {
    pub(super) fn new(view: &View) -> Self {
        Self { out: String::new(), style: view.style, width: view.width }
    }

    /// Columns that are left in a line beside `used` ones.
    pub(super) fn room(&self, used: usize) -> usize {
        self.width.unwrap_or(usize::MAX).saturating_sub(used)
    }

    /// Whether the reason of a row stands beside it.
    pub(super) fn is_wide(&self) -> bool {
        const WIDE: usize = 120;
        self.width.is_none_or(|width| width >= WIDE)
    }

    pub(super) fn blank(&mut self) {
        self.out.push('\n');
    }

    /// A line as it is, which has been made printable.
    pub(super) fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    pub(super) fn title(&mut self, colour: &str, text: &str) {
        for line in fold(&printable(text), self.room(0)) {
            match self.style {
                Style::Plain => self.line(&line),
                Style::Colour => self.line(&format!("{colour}{line}{RESET}")),
            }
        }
    }

    /// Text behind `mark`, in lines that are indented as far.
    pub(super) fn item(&mut self, mark: &str, text: &str) {
        let indent = mark.len();
        for (n, line) in fold(&printable(text), self.room(indent)).iter().enumerate() {
            let start = if n == 0 { mark } else { "" };
            self.line(&format!("{start:indent$}{line}"));
        }
    }

    pub(super) fn list(&mut self, colour: &str, title: &str, items: impl IntoIterator<Item = String>) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_some() {
            self.blank();
            self.title(colour, title);
        }
        for item in items {
            self.item("  ", &item);
        }
    }
}

/// Columns that text takes.
pub(super) fn columns(text: &str) -> usize {
    get_line_width(text)
}

/// Text filled up to some columns.
pub(super) fn padded(text: &str, width: usize) -> String {
    format!("{text}{:fill$}", "", fill = width.saturating_sub(columns(text)))
}

/// Printable text in lines of at most `width` columns, where its words are no longer.
fn fold(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<(String, usize)> = Vec::new();
    for word in words(text) {
        // Of a long one no more is measured than a line could take.
        let wide = if word.len() / 4 > width { word.len() } else { columns(word) };
        match lines.last_mut().filter(|(_, used)| used.saturating_add(wide) < width) {
            Some((line, used)) => {
                line.push(' ');
                line.push_str(word);
                *used += wide + 1;
            }
            None => lines.push((word.to_owned(), wide)),
        }
    }
    lines.into_iter().map(|(line, _)| line).collect()
}

/// The words of a text: what stands between blanks, but a directive with a list as its value, `NAME=A B C`, or what stands
/// in backquotes, is one.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut end = rest.find(' ').unwrap_or(rest.len());
        if rest.starts_with('`')
            && let Some(at) = rest.get(1..).and_then(|inner| inner.find('`'))
        {
            end = end.max(at + 2 + rest.get(at + 2..)?.find(' ').unwrap_or(rest.len() - at - 2));
        }
        while is_directive(rest.get(..end)?) {
            let next = rest.get(end..)?.strip_prefix(' ').unwrap_or_default();
            let length = next.find(' ').unwrap_or(next.len());
            if !next.get(..length).is_some_and(is_value) {
                break;
            }
            end += 1 + length;
        }
        let word = rest.get(..end).filter(|_| !rest.is_empty())?;
        rest = rest.get(end..).map(|rest| rest.strip_prefix(' ').unwrap_or(rest))?;
        Some(word)
    })
}

/// `CapabilityBoundingSet=CAP_CHOWN`
fn is_directive(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphanumeric())
    })
}

/// `CAP_CHOWN`, `@system-service`: what goes on with a directive's list.
fn is_value(word: &str) -> bool {
    word.starts_with("CAP_") || word.starts_with("AF_") || word.starts_with(['@', '~'])
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn what_is_to_be_pasted_stays_whole() {
        let text = "drop-in: SystemCallFilter=~chown:ENOSYS or /a/very/long/path/of/a/file";
        let lines = ["drop-in:", "SystemCallFilter=~chown:ENOSYS", "or", "/a/very/long/path/of/a/file"];
        assert_eq!(fold(text, 20), lines);
        let list = "take CapabilityBoundingSet=CAP_CHOWN CAP_KILL or none";
        assert_eq!(fold(list, 20), ["take", "CapabilityBoundingSet=CAP_CHOWN CAP_KILL", "or none"]);
        assert_eq!(fold("put `listen 8080;`, and x", 12), ["put", "`listen 8080;`,", "and x"]);
        assert_eq!(fold("a  b", 80), ["a  b"]);
        assert_eq!(fold("", 80), [""; 0]);
    }
}
