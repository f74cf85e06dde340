//! GitHub Flavored Markdown.

use std::fmt::Write;

use crate::text::printable;

/// Text that reads as exactly this text wherever inline Markdown is read, also in a table's cell: control characters
/// are escaped as on a terminal, and what could mean something is written as a reference to its number.
pub fn text(text: &str) -> String {
    let printable = printable(text);
    let mut out = String::with_capacity(printable.len());
    // "1. " and "1) " begin a list.
    let counts = printable.starts_with(|c: char| c.is_ascii_digit());
    let mut before = ' ';
    for (at, c) in printable.char_indices() {
        let after = printable[at + c.len_utf8()..].chars().next().unwrap_or(' ');
        // An underscore within a word means nothing: CAP_NET_RAW.
        let in_word = c == '_' && before.is_ascii_alphanumeric() && after.is_ascii_alphanumeric();
        before = c;
        let inside = at > 0 && at + c.len_utf8() < printable.len();
        if counts && matches!(c, '.' | ')') {
            let _ = write!(out, "&#{};", u32::from(c));
        } else if c.is_alphanumeric()
            || in_word
            || matches!(c, '/' | ',' | ';' | '(' | ')' | '%')
            || (inside && matches!(c, ' ' | '.' | ':' | '-' | '\''))
        {
            out.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "&#{};", u32::from(c));
        }
    }
    out
}

/// A span of code where that can hold the text as it is, else [`text`].
pub fn code(raw: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@+,% ()[]*;'$".contains(c);
    let blank = |c: Option<char>| c == Some(' ');
    let edges = blank(raw.chars().next()) || blank(raw.chars().last());
    if !raw.is_empty() && !edges && raw.chars().all(is_plain) { format!("`{raw}`") } else { text(raw) }
}

/// A fenced block of printable lines.
pub fn block(language: &str, lines: &str) -> String {
    let longest = lines.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let end = if lines.ends_with('\n') { "" } else { "\n" };
    format!("{fence}{language}\n{lines}{end}{fence}\n")
}
