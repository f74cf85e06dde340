//! XML 1.0.

use crate::text::printable;

/// Text of an element, or the value of an attribute in double quotes. Characters that XML cannot hold are written as
/// escapes of ours; line ends stay.
pub fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        for c in printable(line).chars() {
            match c {
                '&' => out.push_str("&amp;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '"' => out.push_str("&quot;"),
                // Not characters at all, for XML.
                '\u{fffe}' | '\u{ffff}' => out.push_str("\\u{fffe}"),
                c => out.push(c),
            }
        }
    }
    out
}
