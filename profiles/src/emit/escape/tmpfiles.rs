//! tmpfiles.d(5): fields in double quotes with C escapes, `%` doubled against specifiers, and glob(7) characters
//! where the line's type takes a pattern.
//!
//! The manual page promises C escapes, but before systemd 254 a backslash in the path merely makes the next
//! character literal (systemd issue 26955). `\\` and `\"` mean the same in both; other escapes are written
//! only for names that [`is_portable`] says no to.

use std::fmt::Write;

use crate::text::printable;

/// Whether every version of systemd reads what [`field`] writes for these bytes as these bytes: they are
/// printable text.
pub fn is_portable(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| printable(text) == text)
}

/// A field that names exactly these bytes; for systemd before 254 only if they are [portable](is_portable).
pub fn field(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let text: &str = c.encode_utf8(&mut buffer);
            match c {
                '%' => out.push_str("%%"),
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                _ if printable(text) == text => out.push(c),
                _ => hex(&mut out, text.as_bytes()),
            }
        }
        hex(&mut out, chunk.invalid());
    }
    let bare = !out.is_empty() && !out.contains([' ', '"', '\'', '\\', '#', ';', '$']);
    if bare { out } else { format!("\"{out}\"") }
}

fn hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

/// A field that matches exactly these bytes, for the types of line that take a glob pattern (`z`, `Z`, `a+`).
/// systemd expands braces too, and a backslash protects each of them.
pub fn glob_field(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len() + 8);
    for &byte in bytes {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'{' | b'}' | b'\\' | b'~') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    field(&out)
}
