//! The POSIX shell.

use std::fmt::Write;

/// A line that sets a variable to exactly these bytes, which hold no zero byte: in single quotes where they are
/// printable text. Others come out of printf, so that the script stays plain to read; a closing dot, removed
/// again, keeps line ends from being cut off.
pub fn assignment(name: &str, bytes: &[u8]) -> String {
    if let Some(text) = std::str::from_utf8(bytes).ok().filter(|text| crate::text::printable(text) == *text) {
        return format!("{name}={}", quoted(text));
    }
    let mut octal = String::new();
    for &byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                octal.push(char::from(byte))
            }
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(octal, "\\0{byte:03o}");
            }
        }
    }
    format!("{name}=$(printf '%b' '{octal}.'); {name}=${{{name}%.}}")
}

/// Printable text as one word in single quotes.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A word of a command line for people: as it is where a shell would take it so, else in quotes.
pub fn readable(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "%+,-./:=@_^".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { quoted(text) }
}
