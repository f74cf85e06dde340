//! Markdown, as CommonMark and GitHub read it.

/// Printable text on one line that is nothing but text: no markup, link, mention, HTML or end of a table's cell.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            // Mentions and references are found after backslashes are gone; an entity ends them.
            '@' | '#' | '<' | '>' | '&' | '|' => out.push_str(&format!("&#{};", u32::from(c))),
            c if c.is_ascii_punctuation()
                && !matches!(c, '/' | ',' | ';' | '.' | '-' | ':' | '(' | ')' | '=') =>
            {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
