//! tmpfiles.d(5) and sysusers.d(5): fields in double quotes with C escapes, `%` doubled against specifiers, and
//! glob(7) characters where the line's type takes a pattern.

use std::fmt::Write;

/// A field that names exactly these bytes.
pub fn field(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 8);
    for &byte in bytes {
        match byte {
            b'%' => out.push_str("%%"),
            b'\\' => out.push_str("\\\\"),
            b'"' => out.push_str("\\\""),
            0x20..=0x7e => out.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    let bare = !out.is_empty() && !out.contains([' ', '"', '\'', '\\', '#']);
    if bare { out } else { format!("\"{out}\"") }
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
